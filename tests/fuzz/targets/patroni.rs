//! What a Patroni, or whoever answers in its place, may say.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use trunkline::config::HostPort;
use trunkline::net::{HttpError, get_over};
use trunkline::topology::{PatroniView, place_members};

/// Most bytes of a body that are taken.
const MOST_BYTES: usize = 1024;
/// Most characters of an error: it stands in the log and on the console.
const MOST_OF_AN_ERROR: usize = 400;

/// The first byte says where what is said halts for a moment; the others are all that is said.
pub fn patroni(data: &[u8]) {
    let [halt, said @ ..] = data else { return };
    // Without HTTP around it, which hides much.
    read(said);
    let whole = super::server_login::run(asked(said, said.len()));
    let halt = usize::from(*halt) * said.len() / 256;
    match (whole, super::server_login::run(asked(said, halt))) {
        (Ok(whole), Ok(halted)) => {
            assert!(whole == halted, "it matters where the network cuts it");
            assert!(whole.len() <= MOST_BYTES);
            read(&whole);
        }
        (Err(error), Err(_)) => assert!(error.to_string().chars().count() <= MOST_OF_AN_ERROR, "{error}"),
        (whole, halted) => panic!("whole {whole:?}, halted at {halt} {halted:?}"),
    }
}

/// The body that a client takes of it.
async fn asked(said: &[u8], halt: usize) -> Result<Vec<u8>, HttpError> {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let address = HostPort { host: "patroni".to_owned(), port: 8008 };
    let asking = tokio::time::timeout(Duration::from_secs(5), get_over(ours, &address, "/cluster", MOST_BYTES));
    let (answer, ()) = futures::join!(asking, say(theirs, said, halt));
    match answer {
        Ok(answer) => answer.map(|body| body.to_vec()),
        Err(_) => panic!("the server has closed, and the client waits"),
    }
}

/// Hears the question, answers, and closes.
async fn say(mut client: DuplexStream, said: &[u8], halt: usize) {
    let mut heard = [0; 1024];
    assert!(client.read(&mut heard).await.is_ok_and(|n| heard[..n].ends_with(b"\r\n\r\n")), "one question");
    let (first, second) = said.split_at(halt);
    if client.write_all(first).await.is_ok() {
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        let _ = client.write_all(second).await;
    }
    let _ = client.shutdown().await;
}

fn read(body: &[u8]) {
    let view = match PatroniView::read(body) {
        Ok(view) => view,
        Err(error) => {
            assert!((1..=MOST_OF_AN_ERROR).contains(&error.chars().count()), "{error}");
            return;
        }
    };
    assert!(view.members.len() <= 64);
    for member in &view.members {
        assert!(member.name.len() <= 4 * 128 && member.role.len() <= 4 * 128);
        assert!(member.place.as_ref().is_none_or(|place| place.port > 0 && (1..256).contains(&place.host.len())));
    }
    let leading = view.members.iter().filter(|member| member.leads()).count();
    assert_eq!(view.leader().is_some(), leading == 1);
    assert!(view.leader().is_none_or(|leader| leader.leads()));
    places(&view);
}

/// No member is two nodes.
fn places(view: &PatroniView) {
    let hosts = [["a", "10.0.0.1"], ["b", "/run/postgresql"]].map(|hosts| hosts.map(|host| at(host, 5432)));
    // They go by what the members themselves are called and where they are, too.
    let told = view.members.iter().map(|member| (member.name.as_str(), member.place.as_slice()));
    let nodes: Vec<(&str, &[HostPort])> =
        ["a", "b"].into_iter().zip(hosts.iter().map(|hosts| &hosts[..])).chain(told.clone()).chain(told).collect();
    let addresses = |name: &str| -> Vec<IpAddr> {
        match name {
            "a" => vec![IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])],
            _ => name.parse().into_iter().collect(),
        }
    };
    let found = place_members(&view.members, &nodes, addresses);
    assert_eq!(found.len(), nodes.len());
    let mut taken = HashSet::new();
    for member in found.into_iter().flatten() {
        assert!(member < view.members.len() && taken.insert(member), "member {member}");
    }
    let told: HashSet<usize> = (0..view.members.len()).collect();
    assert_eq!(taken, told, "each is at its own place, or has its own name");
}

fn at(host: &str, port: u16) -> HostPort {
    HostPort { host: host.to_owned(), port }
}
