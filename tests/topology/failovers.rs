//! A primary is killed and a replica promoted: how long clients wait, and that nothing is lost where bytes are encrypted and pipelines long.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use trunkline::app::demo::{Cluster, ClusterInfo, StopMode};

use crate::fixture::*;
use crate::support::clusters::{APP, APP_PASSWORD};
use crate::support::frames::{Batch, Frame};
use crate::support::process::{Setup, Trunkline};
use crate::support::raw::RawClient;

/// Connects, as soon as that is possible.
fn patient(proxy: &Trunkline) -> RawClient {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut client = RawClient::tcp(proxy.port());
        client.set_timeout(PATIENCE);
        match client.login(APP_PASSWORD, &[("user", APP), ("database", "app")]) {
            Ok(()) => return client,
            Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
        }
    }
}

/// What is answered up to a ReadyForQuery; `None` = the connection has ended before.
fn answer(client: &mut RawClient) -> Option<Vec<Frame>> {
    let mut frames = Vec::new();
    loop {
        match client.try_recv() {
            Ok(frame) if frame.tag == b'Z' => return Some(frames),
            Ok(frame) => frames.push(frame),
            Err(error) => {
                let ended = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                assert!(ended.contains(&error.kind()), "{error}: {frames:?}");
                return None;
            }
        }
    }
}

/// Kills the primary while clients write, promotes the replica a moment later, and tells how long after it took writes the last of the
/// clients had written again.
fn stall(writers: usize) -> Duration {
    let fixture = Fixture::new(1);
    fixture.wait_node("replica1", "role", "replica");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let write = |_| {
            scope.spawn(|| {
                let mut client = patient(&fixture.proxy);
                let mut first = None;
                while !stop.load(Ordering::Relaxed) {
                    client.send(&Batch::new().query(WRITE));
                    let Some(frames) = answer(&mut client) else {
                        client = patient(&fixture.proxy);
                        continue;
                    };
                    let row =
                        frames.iter().find(|frame| frame.tag == b'D').map(|row| row.columns()[0].clone().unwrap());
                    if first.is_none() && row == Some(fixture.port(1)) {
                        first = Some(Instant::now());
                    }
                }
                first.expect("it wrote on the new primary")
            })
        };
        let threads: Vec<_> = (0..writers).map(write).collect();
        thread::sleep(Duration::from_millis(500));
        fixture.cluster.primary().stop(StopMode::Immediate).unwrap();
        thread::sleep(Duration::from_millis(fastrand::u64(300..1300)));
        let promoted = scope.spawn(|| {
            let mut direct = RawClient::connect(fixture.cluster.info().port(1), APP, APP_PASSWORD, "app");
            while direct.value("SELECT pg_is_in_recovery()") == "t" {
                thread::sleep(Duration::from_millis(1));
            }
            Instant::now()
        });
        fixture.cluster.replicas()[0].promote().unwrap();
        let promoted = promoted.join().unwrap();
        thread::sleep(Duration::from_millis(2500));
        stop.store(true, Ordering::Relaxed);
        let ends = threads.into_iter().map(|thread| thread.join().unwrap());
        ends.map(|first| first.saturating_duration_since(promoted)).max().unwrap()
    })
}

/// `TRUNKLINE_FAILOVERS` says how often.
#[test]
fn writes_go_on_within_a_second_of_the_promotion() {
    let count = std::env::var("TRUNKLINE_FAILOVERS").ok().and_then(|count| count.parse().ok()).unwrap_or(2);
    let mut stalls: Vec<_> = (0..count).map(|_| stall(8)).collect();
    stalls.sort_unstable();
    println!("stalls behind {count} promotions: {stalls:?}");
    assert!(stalls[stalls.len() - 1] < Duration::from_secs(1), "{stalls:?}");
}

/// Has every node of a cluster ask for TLS, with a certificate for this machine; returns the CA's.
fn encrypt(cluster: &Cluster) -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    for node in cluster.nodes() {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        node.write_file("server.crt", &certificate.pem()).unwrap();
        node.write_file("server.key", &key.serialize_pem()).unwrap();
        node.configure(&[("ssl", "on")]).unwrap();
        node.reload();
    }
    for node in 0..cluster.nodes().len() {
        until("it speaks TLS", || cluster.info().query(node, "app", "SHOW ssl").unwrap() == "on");
    }
    ca.pem()
}

fn count(info: &ClusterInfo, node: usize, condition: &str) -> usize {
    info.query(node, "app", &format!("SELECT count(*) FROM t WHERE {condition}")).unwrap().parse().unwrap()
}

/// Statements of one pipeline.
const LONG: usize = 300;

#[test]
fn long_pipelines_over_tls_are_acknowledged_as_a_whole_or_not_at_all() {
    let cluster = cluster(1);
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, encrypt(&cluster)).unwrap();
    let info = cluster.info();
    info.query(0, "app", "ALTER TABLE t ADD batch text").unwrap();
    // What is acknowledged is on the replica, too.
    cluster.primary().configure(&[("synchronous_standby_names", "*")]).unwrap();
    cluster.primary().reload();
    let tls = format!("tls = {{ mode = \"verify-full\", ca = \"{}\" }}\n", ca.display());
    let proxy = Setup::config(config("", &tls, &nodes(&cluster))).start();
    until("the replica is known", || column_of(&proxy, "role")["replica1"] == "replica");
    let stop = AtomicBool::new(false);
    let work = |name: String| {
        let (mut client, mut number, mut told) = (patient(&proxy), 0, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let id = format!("{name}.{number}");
            let batch = (0..LONG).fold(Batch::new(), |batch, n| {
                batch.run("INSERT INTO t VALUES ($1::text::int, $2)", &[Some(&n.to_string()), Some(&id)])
            });
            // It may be closed while it is written to.
            let _ = client.try_send(batch.sync().bytes());
            let done = answer(&mut client).map(|frames| frames.iter().filter(|frame| frame.tag == b'C').count());
            match done {
                Some(done) => assert!([0, LONG].contains(&done) || done < LONG, "{done}"),
                None => client = patient(&proxy),
            }
            told.push((id, done));
        }
        told
    };
    let told: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|n| scope.spawn(move || work(format!("c{n}")))).collect();
        thread::sleep(Duration::from_secs(1));
        cluster.primary().stop(StopMode::Immediate).unwrap();
        thread::sleep(Duration::from_millis(300));
        cluster.replicas()[0].promote().unwrap();
        thread::sleep(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut acknowledged = 0;
    for (id, done) in &told {
        let there = count(info, 1, &format!("batch = '{id}'"));
        let expected = match done {
            Some(done) if *done == LONG => [LONG, LONG],
            Some(_) => [0, 0],
            None => [0, LONG],
        };
        acknowledged += usize::from(*done == Some(LONG));
        assert!(expected.contains(&there), "{id}: told {done:?}, and there are {there}");
    }
    println!("{acknowledged} of {} acknowledged", told.len());
    assert!(acknowledged > 20, "{acknowledged} of {}", told.len());
    let encrypted = console(&proxy).rows("SELECT tls FROM servers");
    assert!(
        !encrypted.is_empty()
            && encrypted.iter().all(|row| row[0].as_deref().is_some_and(|tls| tls.starts_with("TLS")))
    );
}
