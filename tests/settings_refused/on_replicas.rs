//! A replica refuses what a session has set, and another server would not have.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use trunkline::app::demo::StopMode;

use super::*;
use crate::support::clusters::{self, SUPERUSER_PASSWORD};
use crate::support::frames::summary;

const EVENTUAL: &str = "consistency = \"eventual\"";

/// How many statements have run once more for a cause.
fn reruns(world: &World, cause: &str) -> f64 {
    world.counter("trunkline_reruns_total", &[&format!("cause=\"{cause}\"")])
}

/// A role that a replica has not heard of.
#[test]
fn what_a_replica_refuses_the_primary_may_know() {
    let cluster = clusters::own();
    let plan = Plan { sql: "CREATE TABLE t (n int)", routing: EVENTUAL, ..Plan::default() };
    let world = plan.start_on(cluster.info());
    world.db.wait_replayed();
    for node in [1, 2] {
        world.db.run_on(node, "SELECT pg_wal_replay_pause()");
    }
    world.db.run(&format!("CREATE ROLE unheard_of; GRANT unheard_of TO {APP}; GRANT SELECT ON t TO unheard_of"));
    let mut client = world.client();
    client.exchange(&batch().query("SET ROLE unheard_of"));
    assert_eq!(client.value("SELECT current_user || count(*) FROM t"), "unheard_of0");
    let frames = client.exchange(&batch().run("SELECT current_user || count(*) FROM t", &[]).sync());
    assert_eq!(tags(&frames), "12TDCZ", "{frames:?}");
    for node in [1, 2] {
        world.db.run_on(node, "SELECT pg_wal_replay_resume()");
    }
}

/// Replay is in the way of the Query that sets an encoding: that looks for conversions, so it has a snapshot, and waits for a lock on
/// their table. While it stands still, what the snapshot shows is vacuumed away.
fn strike_settings(world: &World, client: &mut RawClient, sent: &Batch) -> Vec<Frame> {
    let primary = world.db.cluster().primary_port();
    let mut locker = RawClient::connect(primary, "postgres", SUPERUSER_PASSWORD, &world.db.name);
    locker.rows("BEGIN");
    locker.rows("LOCK TABLE pg_catalog.pg_conversion IN ACCESS EXCLUSIVE MODE");
    world.db.run("INSERT INTO t VALUES (1)");
    world.db.wait_replayed();
    client.send(sent);
    let waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%client_encoding%'";
    let deadline = Instant::now() + Duration::from_secs(20);
    let (node, pid) = loop {
        let found = [1, 2].into_iter().find_map(|node| Some((node, world.db.run_on(node, waiting).parse().ok()?)));
        match found {
            Some((node, pid)) => break (node, Pid::from_raw(pid).unwrap()),
            None => assert!(Instant::now() < deadline, "no replica waits for the lock"),
        }
    };
    kill_process(pid, Signal::STOP).unwrap();
    locker.rows("ROLLBACK");
    world.db.run("DELETE FROM t");
    world.db.run("VACUUM t");
    // What is committed later is flushed with all of that.
    world.db.run("INSERT INTO t VALUES (1)");
    let written = world.db.run("SELECT pg_current_wal_flush_lsn()");
    while world.db.run_on(node, &format!("SELECT pg_last_wal_receive_lsn() >= '{written}'")) != "t" {
        assert!(Instant::now() < deadline, "the replica receives nothing");
    }
    // Replay stands before the snapshot now, and says so over and over.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(world.db.run_on(node, &format!("SELECT pg_last_wal_replay_lsn() < '{written}'")), "t");
    kill_process(pid, Signal::CONT).unwrap();
    client.recv_ready(1)
}

#[test]
fn settings_that_replay_is_in_the_way_of_are_set_elsewhere() {
    let mut options = clusters::options();
    options.settings = vec![
        ("max_standby_streaming_delay".to_owned(), "0".to_owned()),
        ("hot_standby_feedback".to_owned(), "off".to_owned()),
        ("autovacuum".to_owned(), "off".to_owned()),
    ];
    let cluster = clusters::start(options);
    let sql = "CREATE TABLE t (n int); INSERT INTO t VALUES (1)";
    let world = Plan { sql, routing: EVENTUAL, ..Plan::default() }.start_on(cluster.info());
    let read = "/* trunkline: replica */ SELECT n, current_setting('client_encoding') FROM t";
    let of_query = "RowDescription DataRow(1, ENC) CommandComplete(SELECT 1) ReadyForQuery(I)";
    let cases = [
        ("LATIN1", "", "", batch().query(read), of_query.to_owned()),
        ("LATIN2", "", "", batch().run(read, &[]).sync(), format!("ParseComplete BindComplete {of_query}")),
        (
            "LATIN3",
            "",
            "",
            batch().parse("s", read, &[]).bind("", "s", &[]).execute("", 0).sync(),
            "ParseComplete BindComplete DataRow(1, ENC) CommandComplete(SELECT 1) ReadyForQuery(I)".to_owned(),
        ),
        // A block begins with it.
        ("LATIN4", "", "BEGIN READ ONLY", batch().query(read), of_query.replace("(I)", "(T)")),
        // It ends a block that there is not.
        ("LATIN5", "", "", batch().query("ROLLBACK"), "CommandComplete(ROLLBACK) ReadyForQuery(I)".to_owned()),
        // With something that may be refused, nothing is sent before it is taken.
        ("LATIN6", "; SET enable_material = off", "", batch().query(read), of_query.to_owned()),
    ];
    for (number, (encoding, more, before, sent, expected)) in cases.into_iter().enumerate() {
        let mut client = world.client();
        client.exchange(&batch().query(&format!("SET client_encoding TO '{encoding}'{more}")));
        if !before.is_empty() {
            client.rows(before);
        }
        let mut frames = strike_settings(&world, &mut client, &sent);
        frames.retain(|frame| frame.tag != b'N');
        assert_eq!(summary(&frames), expected.replace("ENC", encoding), "{encoding}");
        assert_eq!(reruns(&world, "conflict"), (number + 1) as f64, "{encoding}");
        if !before.is_empty() {
            client.rows("COMMIT");
        }
        assert_eq!(client.value("SELECT current_setting('client_encoding') FROM t"), encoding);
    }
}

/// Lets servers of these nodes load something by which they know a setting, and who may set it, that others take for anybody's.
fn teach(world: &World, nodes: &[usize]) {
    for node in nodes {
        world.db.run_on(*node, "ALTER SYSTEM SET session_preload_libraries = 'plpgsql'");
        world.db.run_on(*node, "SELECT pg_reload_conf()");
        let deadline = Instant::now() + Duration::from_secs(10);
        while world.db.run_on(*node, "SHOW session_preload_libraries") != "plpgsql" {
            assert!(Instant::now() < deadline, "it is not reloaded");
        }
        // Those that have begun before know nothing of it.
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{APP}'");
        world.db.run_on(*node, &end);
    }
}

#[test]
fn what_replicas_alone_refuse_is_set_on_the_primary_and_what_all_refuse_is_told() {
    let cluster = clusters::own();
    let sql = "CREATE TABLE t (n int); INSERT INTO t VALUES (1)";
    let plan = Plan { sql, routing: EVENTUAL, pool: "wait_timeout = \"2s\"", ..Plan::default() };
    let world = plan.start_on(cluster.info());
    teach(&world, &[1, 2]);
    let mut client = world.client();
    client.exchange(&batch().query("SET plpgsql.variable_conflict = 'use_column'"));
    let read = "/* trunkline: replica */ SELECT n, current_setting('plpgsql.variable_conflict') FROM t";
    for number in 0..5 {
        assert_eq!(client.rows(read), [[Some("1".to_owned()), Some("use_column".to_owned())]]);
        assert_eq!(reruns(&world, "lag"), f64::from(number + 1));
    }
    // A statement that would go on without it is cancelled: its connection is the pool's until it has ended.
    let sleep = "/* trunkline: replica */ SELECT pg_sleep(5), current_setting('plpgsql.variable_conflict') FROM t";
    client.send(&batch().query(sleep));
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '% SELECT pg_sleep%' AND pid <> pg_backend_pid()";
    world.wait_for(sleeping, "1");
    let deadline = Instant::now() + Duration::from_secs(2);
    while [1, 2].iter().any(|node| world.db.run_on(*node, sleeping) != "0") {
        assert!(Instant::now() < deadline, "it goes on on a replica");
    }
    assert_eq!(tags(&client.recv_ready(1)), "TDCZ");
    // With no primary to ask, the client is told what the replica says, and goes on.
    cluster.primary().stop(StopMode::Immediate).unwrap();
    for _ in 0..2 {
        assert_eq!(client.failure(read), "42501");
    }
    cluster.primary().start().unwrap();
    assert_eq!(client.value(read), "1");
    // By every server.
    teach(&world, &[0]);
    client.send(&batch().query(read));
    let frame = client.recv();
    assert_eq!((frame.sqlstate().as_str(), frame.field(b'S').as_deref()), ("08006", Some("FATAL")), "{frame:?}");
    let detail = frame.field(b'D').unwrap();
    assert!(detail.contains("permission denied to set parameter \"plpgsql.variable_conflict\" (42501)"), "{detail}");
    assert!(client.is_closed());
    assert_eq!(world.client().value("SELECT n FROM t"), "1");
}
