//! A planned switchover: nobody hears of it but by a short wait.

use std::time::Duration;

use trunkline::app::demo::StopMode;

use crate::fixture::*;
use crate::membership::Traffic;
use crate::support::clusters::APP;
use crate::support::frames::Batch;
use crate::support::process::Setup;
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

/// Whoever is asked knows of it: a successor would go on writing to the primary that stands down.
#[test]
fn nobody_takes_over_meanwhile_and_none_begins_while_a_process_that_was_taken_over_lives() {
    let cluster = cluster(1);
    let dir = tempfile::tempdir().unwrap();
    let general = format!("takeover_socket = \"{}\"", dir.path().join("takeover.sock").display());
    let setup = || Setup::config(config(&general, "", &nodes(&cluster)));
    let proxy = setup().start();
    until("the takeover socket is there", || dir.path().join("takeover.sock").exists());
    let (mut admin, mut writer) = (console(&proxy), client(&proxy));
    until("the replica is up", || column_of(&proxy, "state").get("replica1").is_some_and(|state| state == "up"));
    assert_eq!(writer.value(WRITE), cluster.info().port(0).to_string());
    start(&mut admin, "SWITCHOVER app.replica1");
    assert_eq!(outcome(&mut admin), "SWITCHOVER");

    let mut refused = setup().beside(&proxy).launch();
    refused.wait_for_log(&["stands down for a switchover"]);
    assert!(!refused.wait_for(PATIENCE).expect("it ends").success());
    start(&mut writer, WRITE);
    assert!(writer.is_silent_for(Duration::from_millis(200)), "nothing was promoted yet");

    start(&mut admin, "ENABLE NODE app.primary");
    assert_eq!(outcome(&mut admin), "ENABLE NODE");
    writer.recv_ready(1);
    let mut successor = setup().beside(&proxy).launch();
    successor.wait_for_log(&["taken over"]);
    start(&mut admin, "SWITCHOVER app.replica1");
    assert_eq!(outcome(&mut admin), "55000");
    assert_eq!(writer.value(WRITE), cluster.info().port(0).to_string(), "it is in service here as there");
    // Nor does one begin in the successor while clients of its predecessor would go on writing.
    until("the replica is up", || column_of(&successor, "role").get("replica1").is_some_and(|role| role == "replica"));
    let mut later = console(&successor);
    assert_eq!(later.failure("SWITCHOVER app.replica1"), "55000");
    // What waits until nothing runs any more cannot be had here either.
    assert_eq!((later.failure("PAUSE"), later.failure("PAUSE app")), ("55000".to_owned(), "55000".to_owned()));
    let mut next = client(&successor);
    assert_eq!(next.value(WRITE), cluster.info().port(0).to_string(), "nothing stands down for what was not begun");
    drop((admin, writer));
    let mut proxy = proxy;
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
