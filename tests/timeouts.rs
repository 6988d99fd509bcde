//! Time-outs of clients, statements, transactions and waits, and what is run on server connections, against a real server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use support::clusters::{APP, APP_PASSWORD, OTHER, OTHER_PASSWORD};
use support::frames::{Batch, tags};
use support::raw::RawClient;
use support::world::{Plan, World};

fn batch() -> Batch {
    Batch::new()
}

fn other(world: &World) -> RawClient {
    RawClient::connect(world.proxy.port(), OTHER, OTHER_PASSWORD, &world.db.name)
}

/// The client gets this FATAL within a second and a half, not before `least`, and its connection ends.
fn ends(client: &mut RawClient, sqlstate: &str, least: Duration) {
    let began = Instant::now();
    let mut frame = client.recv();
    while matches!(frame.tag, b'T' | b'D') {
        frame = client.recv();
    }
    assert_eq!(frame.sqlstate(), sqlstate, "{frame:?}");
    let took = began.elapsed();
    assert!(took >= least && took < least + Duration::from_millis(1500), "{took:?}");
    assert!(client.is_closed());
}

#[test]
fn query_timeout_of_a_database_and_of_a_user() {
    let world =
        Plan { pool: "query_timeout = \"400ms\"", user: "pool = { query_timeout = \"0\" }", ..Plan::default() }.start();
    let mut limited = other(&world);
    let began = Instant::now();
    assert_eq!(limited.failure("SELECT pg_sleep(5)"), "57014");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(limited.value("SELECT 1"), "1", "the session goes on");
    assert_eq!(world.client().value("SELECT pg_sleep(1) IS NOT NULL"), "t", "off for this user (trap 82)");
}

#[test]
fn transaction_timeout() {
    let world = Plan {
        sql: "CREATE TABLE t (n int)",
        pool: "size = 1\ntransaction_timeout = \"600ms\"",
        user: "pool = { transaction_timeout = \"0\" }",
        primary_only: true,
        ..Plan::default()
    }
    .start();
    world.db.run("GRANT ALL ON t TO other");
    let limit = Duration::from_millis(550);
    // Between its statements, and each of them short.
    let mut client = other(&world);
    let began = Instant::now();
    client.exchange(&batch().query("BEGIN; INSERT INTO t VALUES (1)"));
    let mut statements = 0;
    loop {
        if client.try_send(batch().query("SELECT 1").bytes()).is_err() {
            break;
        }
        match client.try_recv() {
            Ok(frame) if frame.tag == b'E' => {
                assert_eq!(frame.sqlstate(), "25P04");
                break;
            }
            Ok(_) => drop(client.recv_ready(1)),
            Err(error) => panic!("{error}"),
        }
        statements += 1;
        thread::sleep(Duration::from_millis(50));
    }
    assert!(statements > 3 && began.elapsed() >= limit && began.elapsed() < Duration::from_secs(2));
    // Within one: it is stopped on the server, too.
    let mut client = other(&world);
    client.send(&batch().query("INSERT INTO t SELECT 2 FROM pg_sleep(30)"));
    ends(&mut client, "25P04", limit);
    world.wait_for(
        &format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND query LIKE '%pg_sleep(30)%' AND state = 'active' AND pid <> pg_backend_pid()", world.db.name),
        "0",
    );
    // Another transaction begins anew; for this user there is no limit.
    let mut free = world.client();
    free.exchange(&batch().query("BEGIN; SELECT pg_sleep(1)"));
    assert_eq!(free.value("SELECT 5"), "5");
    free.exchange(&batch().query("COMMIT"));
    let mut client = other(&world);
    for _ in 0..10 {
        client.exchange(&batch().query("BEGIN; SELECT pg_sleep(0.1); COMMIT"));
    }
    assert_eq!(world.db.run("SELECT count(*) FROM t"), "0");
}

#[test]
fn idle_clients_inside_and_outside_a_transaction() {
    let world = Plan {
        sql: "CREATE TABLE t (n int)",
        general: "[client]\nidle_timeout = \"500ms\"\nidle_transaction_timeout = \"300ms\"",
        user: "client_idle_timeout = \"0\"\nidle_transaction_timeout = \"0\"",
        pool: "size = 2",
        primary_only: true,
        ..Plan::default()
    }
    .start();
    world.db.run("GRANT ALL ON t TO other");
    let mut idle = other(&world);
    let mut busy = other(&world);
    for _ in 0..8 {
        assert_eq!(busy.value("SELECT 1"), "1");
        thread::sleep(Duration::from_millis(100));
    }
    ends(&mut idle, "57P05", Duration::ZERO);
    busy.exchange(&batch().query("BEGIN; INSERT INTO t VALUES (1)"));
    ends(&mut busy, "25P03", Duration::from_millis(250));
    assert_eq!(world.db.run("SELECT count(*) FROM t"), "0", "rolled back");
    // Nothing of that for a user for whom it is off (trap 82).
    let mut free = world.client();
    thread::sleep(Duration::from_millis(800));
    free.exchange(&batch().query("BEGIN; INSERT INTO t VALUES (2)"));
    thread::sleep(Duration::from_millis(800));
    free.exchange(&batch().query("COMMIT"));
    assert_eq!(world.db.run("SELECT count(*) FROM t"), "1");
}

#[test]
fn login_timeout() {
    let world = Plan { general: "[client]\nlogin_timeout = \"400ms\"", ..Plan::default() }.start();
    for started in [false, true] {
        let mut client = RawClient::tcp(world.proxy.port());
        if started {
            client.startup(&[("user", APP), ("database", &world.db.name)]);
            assert_eq!(client.recv().tag, b'R');
        }
        let began = Instant::now();
        assert!(client.is_closed());
        assert!(began.elapsed() < Duration::from_secs(2));
    }
    let mut client = world.client();
    thread::sleep(Duration::from_millis(700));
    assert_eq!(client.value("SELECT 1"), "1", "who has logged in has");
}

/// Who has proved who it is learns why it could not be served.
#[test]
fn a_login_that_waits_for_a_server_for_too_long_is_told() {
    let tables = format!("[admin]\nadmin_users = [\"{APP}\"]");
    let world = Plan { general: "[client]\nlogin_timeout = \"400ms\"", tables: &tables, ..Plan::default() }.start();
    let mut console = world.console();
    console.exchange(&batch().query(&format!("PAUSE {}", world.db.name)));
    let began = Instant::now();
    let mut client = RawClient::tcp(world.proxy.port());
    let error = client.login(APP_PASSWORD, &[("user", APP), ("database", &world.db.name)]).unwrap_err();
    assert_eq!((error.sqlstate().as_str(), error.field(b'S').as_deref()), ("57P03", Some("FATAL")));
    assert!(error.field(b'M').unwrap().contains("login_timeout"), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(client.is_closed());
    console.exchange(&batch().query(&format!("RESUME {}", world.db.name)));
    assert_eq!(world.client().value("SELECT 1"), "1");
}

#[test]
fn who_waits_for_long_is_told_once() {
    let world = Plan {
        pool: "size = 1\nwait_notify = \"300ms\"\nwait_timeout = \"20s\"",
        primary_only: true,
        ..Plan::default()
    }
    .start();
    let (mut holder, mut waiting, mut extended) = (world.client(), world.client(), world.client());
    holder.exchange(&batch().query("BEGIN; SELECT 1"));
    waiting.send(&batch().query("SELECT 'first'"));
    extended.send(&batch().run("SELECT 'second'", &[]).sync());
    let began = Instant::now();
    let notice = waiting.recv();
    assert!(began.elapsed() >= Duration::from_millis(280));
    assert_eq!((notice.tag, notice.sqlstate().as_str()), (b'N', "00000"), "{notice:?}");
    assert_eq!(notice.field(b'S').unwrap(), "NOTICE");
    assert_eq!(extended.recv().tag, b'N');
    thread::sleep(Duration::from_millis(700));
    holder.exchange(&batch().query("COMMIT"));
    assert_eq!(tags(&waiting.recv_ready(1)), "TDCZ", "one NOTICE only");
    assert_eq!(tags(&extended.recv_ready(1)), "12TDCZ");
    // Off without the key.
    let world = Plan { pool: "size = 1", primary_only: true, ..Plan::default() }.start();
    let (mut holder, mut waiting) = (world.client(), world.client());
    holder.exchange(&batch().query("BEGIN; SELECT 1"));
    waiting.send(&batch().query("SELECT 1"));
    thread::sleep(Duration::from_millis(600));
    holder.exchange(&batch().query("COMMIT"));
    assert_eq!(tags(&waiting.recv_ready(1)), "TDCZ");
}

#[test]
fn connect_query_runs_on_each_connection_and_again_after_a_reset() {
    let world = Plan {
        pool: "size = 2\nconnect_query = \"SET lc_monetary = 'POSIX'; SET work_mem = '7MB'\"",
        primary_only: true,
        ..Plan::default()
    }
    .start();
    for reset in ["SELECT 1", "RESET ALL", "DISCARD ALL"] {
        let mut clients: Vec<_> = (0..2).map(|_| world.client()).collect();
        for client in &mut clients {
            client.exchange(&batch().query("BEGIN"));
            assert_eq!(client.value("SHOW work_mem"), "7MB", "after {reset}");
        }
        for client in &mut clients {
            client.exchange(&batch().query("COMMIT"));
            client.exchange(&batch().query(reset));
        }
        // A session with state of its own: its connection is reset when it leaves.
        clients[0].exchange(&batch().query("CREATE TEMP TABLE own (n int)"));
        drop(clients);
        thread::sleep(Duration::from_millis(300));
    }
    // What it sets is as if the server's configuration said so: for others, and for RESET.
    let mut client = world.client_with(&[("application_name", "own")]);
    for (statement, value) in
        [("SET work_mem = '9MB'", "9MB"), ("RESET work_mem", "7MB"), ("SET work_mem = '9MB'", "9MB")]
    {
        client.exchange(&batch().query(statement));
        assert_eq!(client.value("SHOW work_mem"), value, "{statement}");
        let mut both: Vec<_> = (0..2).map(|_| world.client()).collect();
        for other in &mut both {
            other.exchange(&batch().query("BEGIN"));
            assert_eq!(other.value("SHOW work_mem"), "7MB", "{statement}");
        }
    }
    assert_eq!(world.client_with(&[("work_mem", "5MB")]).value("SHOW work_mem"), "5MB");
}

#[test]
fn a_connect_query_that_fails_is_told_in_the_servers_words() {
    for (query, sqlstate) in [("SELECT 1/0", "22012"), ("BEGIN", "57P03")] {
        let pool = format!("connect_query = \"{query}\"\nwait_timeout = \"1s\"");
        let world = Plan { pool: &pool, primary_only: true, ..Plan::default() }.start();
        let mut client = RawClient::tcp(world.proxy.port());
        let parameters = [("user", APP), ("database", world.db.name.as_str())];
        let error = client.login(support::clusters::APP_PASSWORD, &parameters).unwrap_err();
        assert_eq!(error.sqlstate(), sqlstate, "{error:?}");
    }
}

/// How often the server has run a query of the proxy's own.
fn runs(world: &World, text: &str) -> String {
    world.db.run(&format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = '{APP}' AND query = '{text}'",
        world.db.name
    ))
}

#[test]
fn connections_idle_for_long_are_checked_before_their_use() {
    let check = "SELECT 1 AS checked";
    let pool = format!("size = 1\ncheck_query = \"{check}\"\ncheck_delay = \"400ms\"");
    let world = Plan { pool: &pool, primary_only: true, ..Plan::default() }.start();
    let mut client = world.client();
    let pid = client.value("SELECT pg_backend_pid()");
    // Used again at once: not checked. The check leaves the statement that asked for it untouched.
    client.exchange(&batch().parse("", "SELECT 'kept'", &[]).sync());
    thread::sleep(Duration::from_millis(600));
    assert_eq!(tags(&client.exchange(&batch().bind("", "", &[]).execute("", 0).sync())), "2DCZ");
    assert_eq!(client.value("SELECT pg_backend_pid()"), pid);
    assert_eq!(runs(&world, check), "0");
    // A server that does not answer: the client gets another connection after the check's time-out.
    let stopped = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    rustix::process::kill_process(stopped, rustix::process::Signal::STOP).unwrap();
    thread::sleep(Duration::from_millis(600));
    let began = Instant::now();
    let again = client.value("SELECT pg_backend_pid()");
    rustix::process::kill_process(stopped, rustix::process::Signal::CONT).unwrap();
    assert_ne!(again, pid);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    world.proxy.log().lines().find(|line| line.contains("failed its check")).expect("a line in the log");
    // Whoever gives up during a check takes nothing along (trap 81).
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(450));
        let mut hasty = world.client();
        hasty.send(&batch().query("SELECT 1"));
        hasty.vanish();
    }
    assert_eq!(client.value("SELECT 'whole'"), "whole");
    // A check that fails closes the connection; without a check there is none.
    for (settings, same) in [
        ("check_query = \"SELECT 1/0\"\ncheck_delay = \"100ms\"", false),
        ("check_query = \"\"", true),
        ("check_query = \"SELECT 1/0\"\ncheck_delay = \"0\"", true),
    ] {
        let world = Plan { pool: settings, primary_only: true, ..Plan::default() }.start();
        let mut client = world.client();
        let pid = client.value("SELECT pg_backend_pid()");
        thread::sleep(Duration::from_millis(300));
        assert_eq!(client.value("SELECT pg_backend_pid()") == pid, same, "{settings}");
    }
}

#[test]
fn pool_modes_of_databases_and_users() {
    let world = Plan {
        pool: "size = 2\nmode = \"statement\"",
        user: "pool = { mode = \"session\" }",
        primary_only: true,
        ..Plan::default()
    }
    .start();
    assert_eq!(other(&world).failure("BEGIN"), "0A000", "the database's");
    let (mut a, mut b) = (world.client(), world.client());
    let pids = [a.value("SELECT pg_backend_pid()"), b.value("SELECT pg_backend_pid()")];
    for _ in 0..3 {
        assert_eq!([a.value("SELECT pg_backend_pid()"), b.value("SELECT pg_backend_pid()")], pids, "the user's");
    }
    a.exchange(&batch().query("BEGIN"));
    a.exchange(&batch().query("COMMIT"));
}
