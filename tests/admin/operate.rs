//! Commands that change something, while clients are at work in transaction mode.

use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// Runs on the primary and tells which server process did it.
const WRITE: &str = "INSERT INTO t VALUES (1) RETURNING pg_backend_pid()";

/// Sends a statement without waiting for its answer.
fn start(client: &mut RawClient, sql: &str) {
    client.send(&Batch::new().query(sql));
}

/// Reads the answer of a statement that was sent before; its value, or its SQLSTATE.
fn finish(client: &mut RawClient) -> String {
    let frames = client.recv_ready(1);
    match frames.iter().find(|frame| frame.tag == b'E') {
        Some(error) => error.sqlstate(),
        None => frames
            .iter()
            .find(|frame| frame.tag == b'D')
            .map_or_else(String::new, |row| row.columns()[0].clone().unwrap_or_default()),
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Server connections of the pools, on all nodes: those of the control plane are not counted.
fn servers(console: &mut RawClient) -> usize {
    table(console, "SHOW SERVERS").len()
}

fn one(console: &mut RawClient, sql: &str, key: &str, name: &str, column: &str) -> String {
    let rows = table(console, sql);
    let row = rows.iter().find(|row| row[key].as_deref() == Some(name)).unwrap_or_else(|| panic!("{name}: {rows:?}"));
    row[column].clone().unwrap_or_else(|| "NULL".to_owned())
}

fn message(client: &mut RawClient, sql: &str) -> (String, String) {
    let frames = client.exchange(&Batch::new().query(sql));
    let error = frames.iter().find(|frame| frame.tag == b'E').unwrap_or_else(|| panic!("{sql}: {frames:?}"));
    (error.sqlstate(), error.field(b'M').unwrap())
}

#[test]
fn pause_waits_for_transactions_and_resume_lets_clients_go_on() {
    let fixture = Fixture::with("[pool]\nwait_timeout = \"500ms\"\n");
    let name = fixture.db.name.clone();
    let (mut console, mut pausing) = (fixture.console(), fixture.console());
    let (mut busy, mut late) = (fixture.client(), fixture.client());
    busy.exchange(&Batch::new().query("BEGIN; INSERT INTO t VALUES (1)"));
    late.rows("SELECT count(*) FROM t");
    start(&mut pausing, &format!("PAUSE {name}"));
    until("paused", || one(&mut console, "SHOW DATABASES", "name", &name, "paused") == "1");
    start(&mut late, WRITE);
    // The transaction goes on; the command waits for it, the other client longer than wait_timeout.
    assert!(pausing.is_silent_for(Duration::from_millis(700)));
    assert!(late.is_silent_for(Duration::from_millis(10)));
    assert_eq!(one(&mut console, "SHOW POOLS", "database", &name, "cl_waiting"), "1");
    busy.rows("INSERT INTO t VALUES (2)");
    busy.exchange(&Batch::new().query("COMMIT"));
    assert_eq!(summary(&pausing.recv_ready(1)), "CommandComplete(PAUSE) ReadyForQuery(I)");
    assert_eq!(servers(&mut console), 0);
    // Not even the control plane's own connections are left: the database could be dropped now.
    let open =
        format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND backend_type = 'client backend'");
    for node in 0..fixture.db.cluster().nodes.len() {
        until("closed at the server", || fixture.db.cluster().query(node, "postgres", &open).unwrap() == "0");
    }
    // New clients of a user that is known wait with their first statement.
    let mut new = fixture.client();
    start(&mut new, WRITE);
    assert!(new.is_silent_for(Duration::from_millis(700)) && late.is_silent_for(Duration::from_millis(10)));
    assert_eq!(message(&mut console, "RESUME nowhere"), ("3D000".into(), "no such database: nowhere".into()));
    console.exchange(&Batch::new().query(&format!("RESUME {name}")));
    assert!(finish(&mut late).parse::<u32>().is_ok() && finish(&mut new).parse::<u32>().is_ok());
    assert_eq!(
        message(&mut console, &format!("RESUME \"{name}\"")),
        ("55000".into(), format!("database {name} is not paused"))
    );
    assert_eq!(message(&mut console, "RESUME"), ("55000".into(), "pooler is not paused/suspended".into()));
    assert_eq!(busy.value("SELECT count(*) FROM t WHERE n = 2"), "1");
}

#[test]
fn nobody_notices_many_short_pauses() {
    let fixture = Fixture::new();
    let mut console = fixture.console();
    let workers: Vec<_> = (0..8)
        .map(|task| {
            let mut client = fixture.client();
            thread::spawn(move || {
                for n in 0..60 {
                    match (task + n) % 3 {
                        0 => drop(client.value(WRITE)),
                        1 => drop(client.value("SELECT count(*) FROM t")),
                        _ => {
                            for sql in ["BEGIN", "SELECT 1 FROM t", "INSERT INTO t VALUES (3)", "COMMIT"] {
                                client.rows(sql);
                            }
                        }
                    }
                }
            })
        })
        .collect();
    for round in 0..20 {
        let (pause, resume) = if round % 2 == 0 {
            ("PAUSE".to_owned(), "RESUME".to_owned())
        } else {
            (format!("PAUSE {}", fixture.db.name), format!("resume {};", fixture.db.name))
        };
        for command in [pause.as_str(), resume.as_str(), "RECONNECT", "RELOAD", "WAIT_CLOSE"] {
            let frames = console.exchange(&Batch::new().query(command));
            assert_eq!(tags(&frames), "CZ", "{command}: {frames:?}");
        }
        thread::sleep(Duration::from_millis(10));
    }
    for worker in workers {
        worker.join().unwrap();
    }
}

#[test]
fn a_pause_of_everything_and_its_end_by_cancel() {
    let fixture = Fixture::new();
    let (mut console, mut pausing) = (fixture.console(), fixture.console());
    let mut busy = fixture.client();
    busy.exchange(&Batch::new().query("BEGIN; INSERT INTO t VALUES (1)"));
    start(&mut pausing, "PAUSE");
    until("paused", || one(&mut console, "SHOW STATE", "key", "paused", "value") == "yes");
    assert_eq!(one(&mut console, "SHOW STATE", "key", "active", "value"), "no");
    for sql in ["PAUSE", "SUSPEND", "KILL"] {
        assert_eq!(message(&mut console, sql), ("55000".into(), "already suspended/paused".into()), "{sql}");
    }
    // Ctrl-C.
    pausing.cancel(fixture.proxy.port());
    assert_eq!(finish(&mut pausing), "57014");
    assert_eq!(one(&mut console, "SHOW STATE", "key", "active", "value"), "yes");
    assert_eq!(one(&mut console, "SHOW DATABASES", "name", &fixture.db.name, "paused"), "0");
    // Another administrator's RESUME ends the waiting, too.
    start(&mut pausing, "PAUSE");
    until("paused", || one(&mut console, "SHOW STATE", "key", "paused", "value") == "yes");
    console.exchange(&Batch::new().query("RESUME"));
    assert_eq!(finish(&mut pausing), "57014");
    // Who goes away leaves the pause behind.
    start(&mut pausing, "PAUSE");
    until("paused", || one(&mut console, "SHOW STATE", "key", "paused", "value") == "yes");
    pausing.vanish();
    until("gone", || table(&mut console, "SHOW CLIENTS").len() == 2);
    assert_eq!(one(&mut console, "SHOW STATE", "key", "paused", "value"), "yes");
    console.exchange(&Batch::new().query("RESUME"));
    busy.exchange(&Batch::new().query("COMMIT"));
    busy.rows("SELECT 1 FROM t");
}

/// Trap 72: neither RECONNECT nor RELOAD disturbs a transaction.
#[test]
fn trap_72_reconnect_and_reload_while_transactions_run() {
    let fixture = Fixture::new();
    let (mut console, mut waiting) = (fixture.console(), fixture.console());
    let (mut busy, mut idle) = (fixture.client(), fixture.client());
    busy.exchange(&Batch::new().query("BEGIN"));
    let before = busy.value(WRITE);
    let idle_before = idle.value(WRITE);
    assert_ne!(before, idle_before);
    console.exchange(&Batch::new().query("RECONNECT"));
    // The idle connection is closed at once (or when it has come back, a moment after its last answer), the busy one with its
    // transaction.
    let close_needed = |console: &mut RawClient| {
        let rows = table(console, "SHOW SERVERS");
        rows.iter().filter(|row| row["close_needed"].as_deref() == Some("1")).count()
    };
    until("the idle connection is closed", || close_needed(&mut console) == 1);
    assert_ne!(idle.value(WRITE), idle_before);
    start(&mut waiting, &format!("WAIT_CLOSE {}", fixture.db.name));
    assert!(waiting.is_silent_for(Duration::from_millis(200)));
    assert_eq!(busy.value(WRITE), before);
    busy.exchange(&Batch::new().query("COMMIT"));
    assert_eq!(summary(&waiting.recv_ready(1)), "CommandComplete(WAIT_CLOSE) ReadyForQuery(I)");
    assert_eq!(close_needed(&mut console), 0);
    assert_ne!(busy.value(WRITE), before);
    // A reload that changes nothing about the servers keeps every connection, and who is in a transaction notices nothing.
    busy.exchange(&Batch::new().query("BEGIN"));
    let (before, idle_before) = (busy.value(WRITE), idle.value(WRITE));
    let text = config(&fixture.db, "");
    fixture.proxy.rewrite_config(&text.replace("size = 3", "size = 4"));
    assert_eq!(tags(&console.exchange(&Batch::new().query("RELOAD"))), "CZ");
    assert_eq!(one(&mut console, "SHOW DATABASES", "name", &fixture.db.name, "pool_size"), "4");
    assert_eq!((busy.value(WRITE), idle.value(WRITE)), (before.clone(), idle_before.clone()));
    // One that changes how servers are logged in to replaces them as they come free.
    fixture
        .proxy
        .rewrite_config(&format!("{}\n[server_tls]\nmode = \"disable\"\n", text.replace("size = 3", "size = 4")));
    assert_eq!(tags(&console.exchange(&Batch::new().query("RELOAD"))), "CZ");
    assert_eq!(busy.value(WRITE), before);
    busy.exchange(&Batch::new().query("COMMIT"));
    console.exchange(&Batch::new().query("WAIT_CLOSE"));
    assert_ne!(busy.value(WRITE), before);
    assert_ne!(idle.value(WRITE), idle_before);
}

#[test]
fn kill_drops_clients_and_servers_and_pauses() {
    let fixture = Fixture::new();
    let name = fixture.db.name.clone();
    let mut console = fixture.console();
    let (mut busy, mut idle, mut waiting) = (fixture.client(), fixture.client(), fixture.client());
    let mut more: Vec<_> = (0..2).map(|_| fixture.client()).collect();
    for client in more.iter_mut().chain([&mut busy]) {
        client.exchange(&Batch::new().query("BEGIN; INSERT INTO t VALUES (7)"));
    }
    start(&mut waiting, WRITE);
    until("waits", || one(&mut console, "SHOW POOLS", "database", &name, "cl_waiting") == "1");
    assert_eq!(
        summary(&console.exchange(&Batch::new().query(&format!("KILL {name}")))),
        "CommandComplete(KILL) ReadyForQuery(I)"
    );
    for client in more.iter_mut().chain([&mut busy, &mut idle, &mut waiting]) {
        assert_eq!(client.recv().sqlstate(), "57P01");
        assert!(client.is_closed());
    }
    assert_eq!((servers(&mut console), table(&mut console, "SHOW CLIENTS").len()), (0, 1));
    let mut new = fixture.client();
    start(&mut new, "SELECT count(*) FROM t");
    assert!(new.is_silent_for(Duration::from_millis(200)));
    console.exchange(&Batch::new().query("RESUME"));
    assert_eq!(finish(&mut new), "0", "what was killed was rolled back");
    assert_eq!(message(&mut console, "KILL trunkline"), ("55000".into(), "cannot kill admin db: trunkline".into()));
}

#[test]
fn kill_client_drops_one() {
    let fixture = Fixture::new();
    let mut console = fixture.console();
    let (mut busy, mut other) = (fixture.client(), fixture.client());
    busy.exchange(&Batch::new().query("BEGIN; INSERT INTO t VALUES (7)"));
    let rows = table(&mut console, "SHOW CLIENTS");
    let row = rows.iter().find(|row| row["state"].as_deref() == Some("active") && row["link"].as_deref() != Some(""));
    let id = row.unwrap()["id"].clone().unwrap();
    assert_eq!(
        summary(&console.exchange(&Batch::new().query(&format!("KILL_CLIENT {id}")))),
        "CommandComplete(KILL_CLIENT) ReadyForQuery(I)"
    );
    assert_eq!(busy.recv().sqlstate(), "57P01");
    assert!(busy.is_closed());
    assert_eq!(other.value("SELECT count(*) FROM t"), "0");
    assert_eq!(message(&mut console, &format!("KILL_CLIENT {id}")), ("42704".into(), "client not found".into()));
    assert_eq!(message(&mut console, "KILL_CLIENT him").0, "22023");
}

#[test]
fn a_disabled_database_takes_no_new_clients() {
    let fixture = Fixture::new();
    let name = fixture.db.name.clone();
    let mut console = fixture.console();
    let mut known = fixture.client();
    console.exchange(&Batch::new().query(&format!("DISABLE {name}")));
    assert_eq!(one(&mut console, "SHOW DATABASES", "name", &name, "disabled"), "1");
    let login = || RawClient::tcp(fixture.proxy.port()).login(APP_PASSWORD, &[("user", APP), ("database", &name)]);
    let error = login().unwrap_err();
    assert_eq!(error.field(b'M').unwrap(), format!("database does not allow connections: {name}"));
    assert_eq!(error.field(b'S').as_deref(), Some("FATAL"));
    known.rows(WRITE);
    console.exchange(&Batch::new().query(&format!("enable {name};")));
    login().unwrap();
    for sql in ["DISABLE", "ENABLE"] {
        assert_eq!(message(&mut console, sql).1, "a database is required");
    }
    assert_eq!(message(&mut console, "DISABLE nowhere").0, "3D000");
}

#[test]
fn suspend_stops_everything_where_it_is() {
    let fixture = Fixture::new();
    let mut console = fixture.console();
    let (mut busy, mut idle) = (fixture.client(), fixture.client());
    busy.exchange(&Batch::new().query("BEGIN; INSERT INTO t VALUES (9)"));
    assert_eq!(summary(&console.exchange(&Batch::new().query("SUSPEND"))), "CommandComplete(SUSPEND) ReadyForQuery(I)");
    assert_eq!(one(&mut console, "SHOW STATE", "key", "suspended", "value"), "yes");
    start(&mut busy, "COMMIT");
    start(&mut idle, "SELECT count(*) FROM t");
    let port = fixture.proxy.port();
    let name = fixture.db.name.clone();
    let new = thread::spawn(move || RawClient::connect(port, APP, APP_PASSWORD, &name).value("SELECT 5"));
    assert!(busy.is_silent_for(Duration::from_millis(300)) && idle.is_silent_for(Duration::from_millis(10)));
    assert!(!new.is_finished());
    // The servers stay connected.
    assert_ne!(servers(&mut console), 0);
    console.exchange(&Batch::new().query("RESUME"));
    assert_eq!(summary(&busy.recv_ready(1)), "CommandComplete(COMMIT) ReadyForQuery(I)");
    idle.recv_ready(1);
    assert_eq!(new.join().unwrap(), "5");
    assert_eq!(busy.value("SELECT count(*) FROM t WHERE n = 9"), "1");
    // Whose login is under way stands still once it is over.
    let mut late = RawClient::tcp(port);
    late.startup(&[("user", APP), ("database", &fixture.db.name)]);
    thread::sleep(Duration::from_millis(200));
    console.exchange(&Batch::new().query("SUSPEND"));
    late.authenticate(APP, APP_PASSWORD).unwrap();
    late.recv_ready(1);
    start(&mut late, "SELECT 6");
    assert!(late.is_silent_for(Duration::from_millis(300)));
    console.exchange(&Batch::new().query("RESUME"));
    late.recv_ready(1);
    // The last administrator's end is the end of it.
    console.exchange(&Batch::new().query("SUSPEND"));
    start(&mut idle, "SELECT 1");
    console.vanish();
    idle.recv_ready(1);
}

#[test]
fn shutdown_now() {
    let mut fixture = Fixture::new();
    let (mut console, mut busy) = (fixture.console(), fixture.client());
    busy.exchange(&Batch::new().query("BEGIN; INSERT INTO t VALUES (1)"));
    start(&mut console, "SHUTDOWN");
    assert_eq!(busy.recv().sqlstate(), "57P01");
    assert!(console.is_closed());
    assert!(fixture.proxy.wait().success());
}

#[test]
fn shutdown_when_servers_are_free() {
    let mut fixture = Fixture::new();
    let (mut console, mut busy, mut idle) = (fixture.console(), fixture.client(), fixture.client());
    let mut more = [fixture.client(), fixture.client()];
    let mut waiting = fixture.client();
    for client in more.iter_mut().chain([&mut busy]) {
        client.exchange(&Batch::new().query("BEGIN; INSERT INTO t VALUES (1)"));
    }
    start(&mut waiting, WRITE);
    until("waits", || one(&mut console, "SHOW POOLS", "database", &fixture.db.name, "cl_waiting") == "1");
    console.send(&Batch::new().query("SHUTDOWN WAIT_FOR_SERVERS"));
    assert_eq!(console.recv().tag, b'C');
    assert_eq!(idle.recv().sqlstate(), "57P01");
    assert_eq!(waiting.recv().sqlstate(), "57P01");
    busy.rows("INSERT INTO t VALUES (2)");
    assert!(fixture.proxy.wait_for(Duration::from_millis(300)).is_none());
    busy.exchange(&Batch::new().query("COMMIT"));
    for client in &mut more {
        client.exchange(&Batch::new().query("COMMIT"));
    }
    assert!(fixture.proxy.wait().success());
    assert_eq!(fixture.db.run("SELECT count(*) FROM t"), "4");
}

#[test]
fn shutdown_when_clients_have_left() {
    let mut fixture = Fixture::new();
    let (mut console, mut first, mut second) = (fixture.console(), fixture.client(), fixture.client());
    let frames = console.exchange(&Batch::new().query("SHUTDOWN WAIT_FOR_CLIENTS"));
    assert_eq!(summary(&frames), "CommandComplete(SHUTDOWN) ReadyForQuery(I)");
    until("nobody listens", || std::net::TcpStream::connect(("127.0.0.1", fixture.proxy.port())).is_err());
    first.rows(WRITE);
    first.vanish();
    second.rows(WRITE);
    assert_eq!(one(&mut console, "SHOW STATE", "key", "active", "value"), "no");
    assert!(fixture.proxy.wait_for(Duration::from_millis(300)).is_none());
    second.send(&Batch::new().raw(b'X', b""));
    assert!(fixture.proxy.wait().success());
    // Only one word more is known.
    let fixture = Fixture::new();
    assert_eq!(fixture.console().failure("SHUTDOWN soon"), "42601");
}

#[test]
fn console_clients_count_towards_no_limit_of_clients() {
    let fixture = Fixture::new();
    let mut console = fixture.console();
    console.exchange(&Batch::new().query("SET max_client_conn = 2"));
    let consoles: Vec<_> = (0..3).map(|_| fixture.console()).collect();
    let clients = [fixture.client(), fixture.client()];
    let login =
        RawClient::tcp(fixture.proxy.port()).login(APP_PASSWORD, &[("user", APP), ("database", &fixture.db.name)]);
    assert_eq!(login.unwrap_err().sqlstate(), "53300");
    drop((consoles, clients));
}

/// A monitor that leaves its connections behind takes neither memory without end nor the console away from administrators.
#[test]
fn the_console_takes_so_many_sessions_of_one_user() {
    let fixture = Fixture::new();
    let mut admin = fixture.console();
    admin.exchange(&Batch::new().query("SET max_client_conn = 1"));
    let client = fixture.client();
    let try_in = || {
        let mut client = RawClient::tcp(fixture.proxy.port());
        let login = client.login(OTHER_PASSWORD, &[("user", OTHER), ("database", "pgbouncer")]);
        login.map(|()| client).map_err(|error| error.sqlstate())
    };
    let mut watchers: Vec<_> = (0..32).map(|_| try_in().unwrap()).collect();
    assert_eq!(try_in().unwrap_err(), "53300");
    let mut second = fixture.console();
    assert_eq!(second.value("SELECT count(*) FROM version"), "1", "administrators get in");
    // Who has left makes room.
    assert_eq!(watchers.pop().unwrap().value("SELECT count(*) FROM version"), "1");
    until("there is room", || try_in().is_ok());
    drop((client, watchers));
}

#[test]
fn a_text_of_very_many_commands_is_refused() {
    let fixture = Fixture::new();
    let mut console = fixture.console();
    let many = |count: usize| "SHOW CONFIG;".repeat(count);
    assert_eq!(console.exchange(&Batch::new().query(&many(16))).iter().filter(|frame| frame.tag == b'C').count(), 16);
    assert_eq!(console.failure(&many(17)), "54000");
    assert_eq!(console.value("SELECT count(*) FROM version"), "1");
}
