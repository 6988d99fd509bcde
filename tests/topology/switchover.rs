//! A planned switchover: nobody hears of it but by a short wait.

use std::time::Duration;

use trunkline::app::demo::StopMode;

use crate::fixture::*;
use crate::membership::Traffic;
use crate::support::clusters::APP;
use crate::support::frames::Batch;
use crate::support::process::{Setup, Trunkline};
use crate::support::raw::RawClient;

fn start(client: &mut RawClient, sql: &str) {
    client.send(&Batch::new().query(sql));
}

/// The tag of a command that was sent before, or its SQLSTATE.
fn outcome(console: &mut RawClient) -> String {
    let frame = console.recv_ready(1).into_iter().next().unwrap();
    if frame.tag == b'E' { frame.sqlstate() } else { String::from_utf8_lossy(&frame.body).replace('\0', "") }
}

#[test]
fn clients_only_wait_and_no_write_is_lost() {
    let fixture = Fixture::new(2);
    let (mut console, mut open, mut late) = (console(&fixture.proxy), fixture.client(), fixture.client());
    let traffic = Traffic::start(&fixture, 4);
    traffic.goes_on();
    let replica1 = |sql: &str| fixture.cluster.info().query(1, "app", sql).unwrap();
    replica1("SELECT pg_wal_replay_pause()");
    open.rows("BEGIN");
    open.rows("INSERT INTO t VALUES (7)");
    start(&mut console, "SWITCHOVER app.replica1");
    fixture.wait_node("primary", "reason", "stands down for a switchover");
    start(&mut late, WRITE);
    // A transaction is waited for, and goes on to its end.
    assert!(console.is_silent_for(Duration::from_millis(300)) && late.is_silent_for(Duration::from_millis(10)));
    open.rows("INSERT INTO t VALUES (7)");
    open.rows("COMMIT");
    // Then the replica is waited for.
    assert!(console.is_silent_for(Duration::from_millis(300)));
    let mut reader = fixture.client();
    assert_ne!(reader.value(READ), fixture.port(0), "reads go on");
    replica1("SELECT pg_wal_replay_resume()");
    assert_eq!(outcome(&mut console), "SWITCHOVER");
    assert_eq!(replica1("SELECT count(*) FROM t WHERE n = 7"), "2");
    assert!(late.is_silent_for(Duration::from_millis(200)), "nothing was promoted yet");
    let before = fixture.cluster.info().query(0, "app", "SELECT count(*) FROM t").unwrap();

    fixture.cluster.replicas()[0].promote().unwrap();
    let port = |frames: Vec<crate::support::frames::Frame>| {
        frames.iter().find(|frame| frame.tag == b'D').map(|row| row.columns()[0].clone().unwrap())
    };
    assert_eq!(port(late.recv_ready(1)), Some(fixture.port(1)));
    traffic.goes_on();
    traffic.end();
    assert_eq!(fixture.cluster.info().query(0, "app", "SELECT count(*) FROM t").unwrap(), before);
    // The former primary is in service again: as what it is, which is an outdated one until it follows.
    fixture.wait_node("primary", "state", "refused");
    let old = fixture.cluster.primary();
    old.stop(StopMode::Fast).unwrap();
    fixture.cluster.follow(0, 1).unwrap();
    old.start().unwrap();
    fixture.wait_node("primary", "state", "up");
    fixture.wait_node("primary", "role", "replica");
}

#[test]
fn it_can_be_given_up() {
    let fixture = Fixture::new(1);
    let (mut first, mut open) = (console(&fixture.proxy), fixture.client());
    let mut writer = fixture.client();
    open.rows("BEGIN");
    open.rows("INSERT INTO t VALUES (7)");
    // By who has begun it.
    start(&mut first, "SWITCHOVER app");
    fixture.wait_node("primary", "reason", "stands down for a switchover");
    start(&mut writer, WRITE);
    assert!(writer.is_silent_for(Duration::from_millis(200)));
    first.cancel(fixture.proxy.port());
    assert_eq!(outcome(&mut first), "57014");
    assert!(writer.recv_ready(1).iter().any(|frame| frame.tag == b'D'));
    // By somebody else.
    start(&mut first, "SWITCHOVER app");
    fixture.wait_node("primary", "reason", "stands down for a switchover");
    fixture.command("ENABLE NODE app.primary");
    assert_eq!(outcome(&mut first), "57014");
    assert_eq!(writer.value(WRITE), fixture.port(0));
    open.rows("COMMIT");
    // By an administrator who has gone: nobody is left who would promote anything.
    open.rows("BEGIN");
    open.rows("INSERT INTO t VALUES (7)");
    let mut gone = console(&fixture.proxy);
    start(&mut gone, "SWITCHOVER app");
    fixture.wait_node("primary", "reason", "stands down for a switchover");
    start(&mut writer, WRITE);
    assert!(writer.is_silent_for(Duration::from_millis(200)));
    gone.vanish();
    assert!(writer.recv_ready(1).iter().any(|frame| frame.tag == b'D'));
    open.rows("COMMIT");
    // After it has ended, instead of a promotion.
    assert_eq!(first.exchange(&Batch::new().query("SWITCHOVER app")).len(), 2);
    start(&mut writer, WRITE);
    assert!(writer.is_silent_for(Duration::from_millis(200)));
    fixture.command("ENABLE NODE app.primary");
    assert!(writer.recv_ready(1).iter().any(|frame| frame.tag == b'D'));
    assert_eq!(fixture.column("reason")["primary"], "");
}

#[test]
fn what_cannot_be_done_is_told() {
    let fixture = Fixture::new(2);
    fixture.wait_node("replica2", "role", "replica");
    fixture.wait_node("replica1", "role", "replica");
    let mut console = console(&fixture.proxy);
    for (command, code) in [
        ("SWITCHOVER nowhere", "3D000"),
        ("SWITCHOVER app.nowhere", "42704"),
        ("SWITCHOVER app", "42601"),
        ("SWITCHOVER app.primary", "55000"),
    ] {
        assert_eq!(console.failure(command), code, "{command}");
    }
    fixture.command("DISABLE NODE app.replica1");
    assert_eq!(console.failure("SWITCHOVER app.replica1"), "55000");
    fixture.command("DISABLE NODE app.primary");
    assert_eq!(console.failure("SWITCHOVER app.replica2"), "55000");
    fixture.command("ENABLE NODE app.primary");
    let mut client = fixture.client();
    assert_eq!(client.value(WRITE), fixture.port(0), "nothing stands down for what was not begun");
}

/// A cluster with one replica, and the makings of processes before it that take over from each other.
struct Relay {
    cluster: trunkline::app::demo::Cluster,
    dir: tempfile::TempDir,
}

impl Relay {
    fn new() -> Self {
        Self { cluster: cluster(1), dir: tempfile::tempdir().unwrap() }
    }

    fn setup(&self) -> Setup {
        self.setup_with(&nodes(&self.cluster))
    }

    fn setup_with(&self, nodes: &str) -> Setup {
        let general = format!("takeover_socket = \"{}\"", self.dir.path().join("takeover.sock").display());
        Setup::config(config(&general, "", nodes))
    }

    /// The first process, when it can be taken over from and the replica can be promoted.
    fn first(&self) -> Trunkline {
        let proxy = self.setup().start();
        until("the takeover socket is there", || self.dir.path().join("takeover.sock").exists());
        until("the replica is up", || column_of(&proxy, "role").get("replica1").is_some_and(|role| role == "replica"));
        assert_eq!(client(&proxy).value(WRITE), self.port(0));
        proxy
    }

    fn port(&self, node: usize) -> String {
        self.cluster.info().port(node).to_string()
    }
}

/// A successor that did not know of it would go on writing to the primary that stands down.
#[test]
fn who_takes_over_before_the_promotion_keeps_writes_waiting_for_it() {
    let relay = Relay::new();
    let proxy = relay.first();
    let (mut admin, mut writer, mut open) = (console(&proxy), client(&proxy), client(&proxy));
    // As long as it is under way nobody takes over: who waits for it would be sent away.
    open.rows("BEGIN");
    open.rows("INSERT INTO t VALUES (7)");
    start(&mut admin, "SWITCHOVER app.replica1");
    until("it is under way", || column_of(&proxy, "reason")["primary"] == "stands down for a switchover");
    let mut refused = relay.setup().beside(&proxy).launch();
    refused.wait_for_log(&["a switchover of database app is under way"]);
    assert!(!refused.wait_for(PATIENCE).expect("it ends").success());
    open.rows("COMMIT");
    assert_eq!(outcome(&mut admin), "SWITCHOVER");
    // Nor does one that does not know the node.
    let other = node("another", relay.cluster.info().port(0), "");
    let mut refused = relay.setup_with(&other).beside(&proxy).launch();
    refused.wait_for_log(&["primary of database app stands down for a switchover, and is no node of it"]);
    assert!(!refused.wait_for(PATIENCE).expect("it ends").success());
    start(&mut writer, WRITE);
    assert!(writer.is_silent_for(Duration::from_millis(200)), "nothing was promoted yet");

    let mut successor = relay.setup().beside(&proxy).launch();
    successor.wait_for_log(&["taken over"]);
    let mut late = client(&successor);
    start(&mut late, WRITE);
    assert!(late.is_silent_for(Duration::from_millis(1500)), "it waits for the promotion");
    assert_eq!(column_of(&successor, "reason")["primary"], "stands down for a switchover");
    assert_eq!(admin.failure("ENABLE NODE app.primary"), "55000", "it is for the successor to say");
    assert!(late.is_silent_for(Duration::from_millis(100)) && writer.is_silent_for(Duration::from_millis(100)));
    relay.cluster.replicas()[0].promote().unwrap();
    for waiting in [&mut late, &mut writer] {
        let frames = waiting.recv_ready(1);
        let row = frames.iter().find(|frame| frame.tag == b'D').map(|row| row.columns()[0].clone().unwrap());
        assert_eq!(row, Some(relay.port(1)), "{frames:?}");
    }
}

#[test]
fn what_was_passed_on_to_a_successor_can_be_given_up_there() {
    let relay = Relay::new();
    let proxy = relay.first();
    let mut admin = console(&proxy);
    start(&mut admin, "SWITCHOVER app.replica1");
    assert_eq!(outcome(&mut admin), "SWITCHOVER");
    let mut successor = relay.setup().beside(&proxy).launch();
    successor.wait_for_log(&["taken over"]);
    let mut writer = client(&successor);
    start(&mut writer, WRITE);
    assert!(writer.is_silent_for(Duration::from_millis(200)));
    console(&successor).rows("ENABLE NODE app.primary");
    assert!(writer.recv_ready(1).iter().any(|frame| frame.tag == b'D'));
}

#[test]
fn what_concerns_all_clients_is_not_said_to_one_of_two_processes() {
    let relay = Relay::new();
    let mut proxy = relay.first();
    let (mut admin, mut writer) = (console(&proxy), client(&proxy));
    let mut successor = relay.setup().beside(&proxy).launch();
    successor.wait_for_log(&["taken over"]);
    until("the replica is up", || column_of(&successor, "role").get("replica1").is_some_and(|role| role == "replica"));
    let mut later = console(&successor);
    let commands = [
        "SWITCHOVER app.replica1",
        "PAUSE",
        "PAUSE app",
        "KILL",
        "KILL app",
        "SUSPEND",
        "WAIT_CLOSE",
        "WAIT_CLOSE app",
    ];
    for command in commands {
        assert_eq!(admin.failure(command), "55000", "{command}");
        assert_eq!(later.failure(command), "55000", "{command}");
    }
    for (client, what) in [(&mut writer, "here"), (&mut client(&successor), "there")] {
        assert_eq!(client.value(WRITE), relay.port(0), "in service {what}");
    }
    drop((admin, writer));
    assert!(proxy.wait_for(PATIENCE).expect("it ends").success());
    until("it may begin now", || {
        start(&mut later, "SWITCHOVER app.replica1");
        outcome(&mut later) == "SWITCHOVER"
    });
}

/// A client of logical replication can write, and never leaves by itself: it is sent away, and what it has under way has ended before the
/// replica is compared.
#[test]
fn who_replicates_logically_writes_nothing_that_is_lost() {
    let fixture = Fixture::new(1);
    fixture.cluster.info().query(0, "postgres", &format!("ALTER ROLE {APP} REPLICATION")).unwrap();
    let mut writer = fixture.client();
    assert_eq!(writer.value(WRITE), fixture.port(0));
    fixture.wait_node("replica1", "role", "replica");
    let (mut busy, mut open) = (replication(&fixture.proxy), replication(&fixture.proxy));
    busy.send(&Batch::new().query("INSERT INTO t SELECT 7 FROM pg_sleep(3)"));
    open.rows("BEGIN");
    open.rows("INSERT INTO t VALUES (8)");
    std::thread::sleep(Duration::from_millis(200));
    let mut console = console(&fixture.proxy);
    start(&mut console, "SWITCHOVER app");
    assert_eq!(outcome(&mut console), "SWITCHOVER");
    let written = |node| fixture.cluster.info().query(node, "app", "SELECT count(*) FROM t").unwrap();
    assert_eq!(written(1), "1");
    std::thread::sleep(Duration::from_millis(3500));
    assert_eq!(written(0), "1", "nothing is written behind the replica's back");
    assert!(open.is_closed());
}

#[test]
fn a_reload_that_reaches_servers_in_another_way_undoes_nothing_that_was_said_on_the_console() {
    let fixture = Fixture::new(2);
    let mut client = fixture.client();
    assert_eq!(client.value(WRITE), fixture.port(0));
    let mut reloads = 0;
    let mut reload = |mode: &str| {
        let tls = format!("tls = {{ mode = \"{mode}\" }}");
        fixture.proxy.rewrite_config(&config("", &tls, &nodes(&fixture.cluster)));
        fixture.proxy.signal(rustix::process::Signal::HUP);
        reloads += 1;
        until("it is reloaded", || fixture.proxy.log().matches("configuration reloaded").count() == reloads);
    };
    fixture.command("DISABLE NODE app.replica2");
    reload("disable");
    until("nodes were asked", || fixture.column("state")["primary"] == "up" && client.value(WRITE) == fixture.port(0));
    assert_eq!(fixture.column("state")["replica2"], "disabled");
    fixture.command("SWITCHOVER app.replica1");
    reload("prefer");
    assert_eq!(fixture.column("state")["primary"], "disabled");
    client.send(&Batch::new().query(WRITE));
    assert!(client.is_silent_for(std::time::Duration::from_millis(1500)), "it waits for the promotion");
    fixture.cluster.replicas()[0].promote().unwrap();
    let frames = client.recv_ready(1);
    let row = frames.iter().find(|frame| frame.tag == b'D').map(|frame| frame.columns()[0].clone().unwrap());
    assert_eq!(row, Some(fixture.port(1)), "{frames:?}");
}
