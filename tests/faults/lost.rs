//! Statements whose answer does not come: what their clients are told, and what runs elsewhere.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::clusters::{self, APP, APP_PASSWORD, TestDb};
use crate::support::frames::Batch;
use crate::support::injector::{Fault, Injector};
use crate::support::process::Setup;
use crate::support::raw::RawClient;
use crate::{before, client};

/// Longest time until a node that hangs is known to be down (two checks), and who waits for it has been told.
const KNOWN_AFTER: Duration = Duration::from_secs(6);

#[test]
fn a_commit_without_an_answer_is_told_to_be_unknown_and_nothing_else_is() {
    let db = TestDb::with(clusters::shared(), "CREATE TABLE t (n int)");
    let link = Injector::before(db.cluster().primary_port());
    let name = &db.name;
    let proxy = Setup::config(format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n[users.{APP}]\npassword = \"{APP_PASSWORD}\"\n[databases.{name}]\n\
         [[databases.{name}.nodes]]\nname = \"primary\"\nrole = \"primary\"\nhost = \"127.0.0.1\"\nport = {}\n",
        link.port()
    ))
    .start();
    let query = |sql: &str| Batch::new().query(sql);
    let write = "INSERT INTO t VALUES (1)";
    let cases: [(&[&str], Batch, &str); 8] = [
        (&["BEGIN", write], query("COMMIT"), "08007"),
        (&["BEGIN", write], Batch::new().run("COMMIT", &[]).sync(), "08007"),
        (&[], query(write), "08007"),
        (&[], Batch::new().run(write, &[]).sync(), "08007"),
        (&[], query(&format!("BEGIN; {write}; COMMIT")), "08007"),
        (&["BEGIN", write], query(write), "08006"),
        (&["BEGIN", "SELECT n FROM t"], query("COMMIT"), "08006"),
        (&[], query("SELECT n FROM t"), "08006"),
    ];
    for (number, (prelude, batch, code)) in cases.into_iter().enumerate() {
        let mut client = RawClient::connect(proxy.port(), APP, APP_PASSWORD, name);
        // There is a connection to be had when it is needed.
        client.rows("SELECT 1");
        for sql in prelude {
            client.rows(sql);
        }
        link.strike(Fault::Hold, 100);
        client.send(&batch);
        thread::sleep(Duration::from_millis(100));
        link.strike(Fault::Cut, 100);
        let frame = client.recv();
        assert_eq!(
            (frame.sqlstate().as_str(), frame.field(b'S').as_deref()),
            (code, Some("FATAL")),
            "{number}: {frame:?}"
        );
        assert!(client.is_closed());
        link.calm();
    }
    assert_eq!(db.run("SELECT count(*) FROM t"), "0", "nothing that was held has arrived, nor was it sent again");
}

#[test]
fn a_read_that_waits_for_a_replica_that_hangs_is_answered_by_another_node() {
    let cluster = clusters::own();
    let proxy = before(&cluster, "consistency = \"eventual\"");
    let read = "/* trunkline: replica */ SELECT inet_server_port()";
    let mut clients: Vec<_> = (0..12).map(|_| client(&proxy)).collect();
    // Connections to both are there.
    for _ in 0..10 {
        clients.iter_mut().for_each(|client| client.send(&Batch::new().query(read)));
        clients.iter_mut().for_each(|client| drop(client.recv_ready(1)));
    }
    let hung = &cluster.replicas()[0];
    hung.pause();
    let began = Instant::now();
    clients.iter_mut().for_each(|client| client.send(&Batch::new().query(read)));
    for client in &mut clients {
        client.set_timeout(KNOWN_AFTER);
        let frames = client.recv_ready(1);
        assert!(frames.iter().any(|frame| frame.tag == b'D'), "{frames:?}");
    }
    eprintln!("all were answered within {:?}", began.elapsed());
    hung.resume();
}

#[test]
fn who_waits_for_a_primary_that_hangs_and_was_replaced_is_told() {
    let cluster = clusters::own();
    cluster.info().query(0, "app", "CREATE TABLE t (n int); GRANT ALL ON t TO PUBLIC").unwrap();
    cluster.info().wait_replayed().unwrap();
    let proxy = before(&cluster, "");
    let (mut single, mut block, mut reader) = (client(&proxy), client(&proxy), client(&proxy));
    let write = "INSERT INTO t VALUES (1)";
    block.rows("BEGIN");
    block.rows(write);
    reader.rows("BEGIN");
    reader.rows("SELECT n FROM t FOR UPDATE");
    // It finds a connection that is open already.
    single.rows(write);
    let hung = cluster.primary();
    hung.pause();
    single.send(&Batch::new().query(write));
    block.send(&Batch::new().query(write));
    reader.send(&Batch::new().query("SELECT 1"));
    assert!(single.is_silent_for(Duration::from_millis(500)), "it may come back");
    cluster.replicas()[0].promote().unwrap();
    let promoted = Instant::now();
    for (client, code) in [(&mut single, "08007"), (&mut block, "08006"), (&mut reader, "08006")] {
        client.set_timeout(KNOWN_AFTER);
        assert_eq!(client.recv().sqlstate(), code);
        assert!(client.is_closed());
    }
    eprintln!("they were told within {:?}", promoted.elapsed());
    assert!(client(&proxy).rows(write).is_empty(), "writes go on");
    hung.kill().unwrap();
}
