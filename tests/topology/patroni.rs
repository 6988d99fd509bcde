//! Patroni is watched: what it says of the leader holds, and what it does not say does no harm.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::fixture::{Fixture, READ, WRITE, cluster, config, console, node, nodes, readers, until, until_written_on};
use super::rest::{Manner, Member, Rest, answer, led_by, members};
use crate::support::clusters::{APP, APP_PASSWORD};
use crate::support::process::Setup;

/// The line of the configuration for these endpoints.
fn patroni(endpoints: &[&Rest]) -> String {
    let urls: Vec<String> = endpoints.iter().map(|rest| format!("\"{}\"", rest.url())).collect();
    format!("patroni = [{}]\npatroni_interval = \"300ms\"", urls.join(", "))
}

/// One column of SHOW PATRONI, by endpoint.
fn shown(fixture: &Fixture, column: &str) -> Vec<String> {
    let rows = console(&fixture.proxy).rows(&format!("SELECT {column} FROM patroni"));
    rows.into_iter().map(|row| row[0].clone().unwrap_or_default()).collect()
}

#[test]
fn its_leader_is_the_only_one_that_is_written_to() {
    let cluster = cluster(2);
    let rest = Rest::start(Manner::Says(led_by(&cluster, 0, 1)));
    // One node has another name for its host.
    let all = nodes(&cluster).replacen("127.0.0.1", "localhost", 1);
    let proxy = Setup::config(config("", &patroni(&[&rest]), &all)).start();
    let fixture = Fixture { proxy, cluster };
    let mut client = fixture.client();
    assert_eq!(client.value(WRITE), fixture.port(0));
    assert_eq!(shown(&fixture, "standing"), ["binding"]);
    assert_eq!(shown(&fixture, "leader"), ["pg-0"]);
    assert_eq!(fixture.column("patroni")["primary"], "leader");

    // Somebody promotes a replica past Patroni: a newer timeline, and still no leader.
    fixture.cluster.nodes()[1].promote().unwrap();
    fixture.wait_node("replica1", "state", "refused");
    assert!(fixture.column("reason")["replica1"].contains("Patroni names pg-0 as the leader"));
    for _ in 0..20 {
        assert_eq!(client.value(WRITE), fixture.port(0));
    }

    // Patroni has another leader.
    let moved = Instant::now();
    rest.says(led_by(&fixture.cluster, 1, 2));
    until_written_on(&fixture.proxy, &mut client, &fixture.port(1));
    println!("followed within {:?}", moved.elapsed());
    fixture.wait_node("primary", "state", "refused");

    // One that is still in recovery is not written to, and nobody else is.
    rest.says(led_by(&fixture.cluster, 2, 3));
    until("nobody takes writes", || fixture.column("role").values().all(|role| role != "primary"));
    let reason = client.failure("SET statement_timeout = 0; INSERT INTO t VALUES (2)");
    assert_eq!(reason, "57P03");
    assert!(fixture.proxy.log().contains("Patroni names pg-2 as the leader, which is still in recovery"));

    // Maintenance: servers are believed, and of those the one on the newer timeline.
    rest.says(answer(&members(&fixture.cluster, Some(0), 3), r#", "pause": true"#));
    until("servers are believed", || fixture.column("role")["replica1"] == "primary");
    assert_eq!(shown(&fixture, "standing"), ["paused"]);
    assert_eq!(client.value(WRITE), fixture.port(1));
    rest.says(answer(&members(&fixture.cluster, None, 3), ""));
    until("there is no leader", || shown(&fixture, "standing") == ["no leader"]);
    assert_eq!(client.value(WRITE), fixture.port(1));

    // A reload without it.
    fixture.proxy.rewrite_config(&config("", "", &all));
    fixture.proxy.signal(Signal::HUP);
    until("it is not watched", || shown(&fixture, "standing").is_empty());
    assert_eq!(client.value(WRITE), fixture.port(1));
}

#[test]
fn without_a_control_user_roles_are_those_that_it_tells() {
    let cluster = cluster(2);
    let spared = |mut all: Vec<Member>| {
        all[1].tags = r#"{"noloadbalance": true}"#;
        answer(&all, "")
    };
    let rest = Rest::start(Manner::Says(spared(members(&cluster, Some(0), 1))));
    let text = config("", &patroni(&[&rest]), &nodes(&cluster))
        .replace(&format!("control_user = \"{APP}\"\ncontrol_password = \"{APP_PASSWORD}\"\n"), "")
        .replace("consistency = \"eventual\"", "consistency = \"eventual\"\nmax_lag = \"0\"");
    let fixture = Fixture { proxy: Setup::config(text).start(), cluster };
    let mut client = fixture.client();
    assert_eq!(client.value(WRITE), fixture.port(0));
    until("reads", || client.value(READ) != fixture.port(0));
    assert_eq!(readers(&mut client, 30).into_keys().collect::<Vec<_>>(), [fixture.port(2)], "the other one is spared");
    assert_eq!(fixture.column("role")["replica1"], "replica");

    fixture.cluster.primary().kill().unwrap();
    fixture.cluster.nodes()[1].promote().unwrap();
    client.send(&crate::support::frames::Batch::new().query(WRITE));
    thread::sleep(Duration::from_millis(300));
    let moved = Instant::now();
    rest.says(spared(members(&fixture.cluster, Some(1), 2)));
    let frames = client.recv_ready(1);
    let row = frames.iter().find(|frame| frame.tag == b'D').unwrap_or_else(|| panic!("{frames:?}"));
    assert_eq!(row.columns()[0].clone().unwrap(), fixture.port(1));
    println!("a write that waited was answered within {:?}", moved.elapsed());
    assert_eq!(fixture.column("role")["replica1"], "primary");
}

#[test]
fn endpoints_that_fail_do_no_harm() {
    let cluster = cluster(1);
    let (first, second) = (Rest::start(Manner::Hangs), Rest::start(Manner::Says(led_by(&cluster, 0, 1))));
    let general = config("", &patroni(&[&first, &second]), &nodes(&cluster));
    let fixture = Fixture { proxy: Setup::config(general).start(), cluster };
    let mut client = fixture.client();
    assert_eq!(client.value(WRITE), fixture.port(0), "who hangs is not waited for");
    assert_eq!(shown(&fixture, "standing"), ["binding", "binding"]);

    let says = |head: &str, body: Vec<u8>| Manner::Sends([head.as_bytes(), &body].concat());
    let manners = [
        Manner::Closes,
        says("HTTP/1.0 503 Service Unavailable\r\n\r\n", b"{}".to_vec()),
        says("HTTP/1.0 200 OK\r\n\r\n", b"<html>".to_vec()),
        says("HTTP/1.0 200 OK\r\n\r\n{\"members\": [", vec![b' '; 8 << 20]),
        says("SSH-2.0-OpenSSH_9.2\r\n", Vec::new()),
        says("HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", Vec::new()),
    ];
    for manner in manners {
        first.behaves(manner.clone());
        second.behaves(manner);
        second.is_asked(2);
        assert_eq!(client.value(WRITE), fixture.port(0));
    }
    // Nobody has answered for long: what was heard holds no longer, and a promotion is followed as without Patroni.
    first.behaves(Manner::Hangs);
    second.behaves(Manner::Hangs);
    until("it counts as silent", || shown(&fixture, "standing") == ["silent", "silent"]);
    assert!(shown(&fixture, "error").iter().all(|error| !error.is_empty()));
    fixture.cluster.primary().kill().unwrap();
    fixture.cluster.nodes()[1].promote().unwrap();
    until_written_on(&fixture.proxy, &mut client, &fixture.port(1));
    let log = fixture.proxy.log();
    assert_eq!(log.matches("no Patroni answers").count(), 1, "it is told once");

    // An answer of the past counts for nothing.
    second.says(led_by(&fixture.cluster, 1, 2));
    until("it answers again", || shown(&fixture, "standing") == ["binding", "binding"]);
    first.says(led_by(&fixture.cluster, 0, 1));
    second.behaves(Manner::Closes);
    until("the first one is asked", || shown(&fixture, "error")[0].contains("older timeline"));
    assert_eq!(client.value(WRITE), fixture.port(1));
    let metrics = fixture.proxy.http("/metrics").1;
    for outcome in ["ok", "failed"] {
        let start = format!("trunkline_patroni_looks_total{{database=\"app\",outcome=\"{outcome}\"}} ");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_else(|| panic!("{metrics}"));
        assert!(count.parse::<f64>().unwrap() >= 2.0, "{outcome}: {count}");
    }
}

#[test]
fn members_that_are_no_nodes_become_some() {
    let cluster = cluster(2);
    let rest = Rest::start(Manner::Says(led_by(&cluster, 0, 1)));
    // Only one replica is known: neither the leader nor the other one.
    let known = node("replica1", cluster.nodes()[1].port(), "");
    let database = format!("{}\ndiscover_replicas = true", patroni(&[&rest]));
    let fixture = Fixture { proxy: Setup::config(config("", &database, &known)).start(), cluster };
    let mut client = fixture.client();
    assert_eq!(client.value(WRITE), fixture.port(0));
    let roles = fixture.column("role");
    assert_eq!(roles.keys().collect::<Vec<_>>(), ["pg-0", "pg-2", "replica1"]);
    assert_eq!(roles["pg-0"], "primary");
    until("both read", || readers(&mut client, 20).len() == 2);
}
