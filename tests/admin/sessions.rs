//! What the console knows of sessions: pins, prepared statements, their last requests.

use std::thread;
use std::time::{Duration, Instant};

use super::*;

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn pins_have_reasons_a_statement_a_gauge_and_a_log_line() {
    let db = TestDb::with(clusters::shared(), "CREATE TABLE t (n int)");
    let text = config(&db, "[metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n");
    let mut fixture = Fixture { proxy: Setup::config(text).start(), db };
    let mut console = fixture.console();
    let (mut client, mut free) = (fixture.client(), fixture.client());
    free.rows("SELECT 1");
    client.rows("CREATE TEMP TABLE secret_plans AS SELECT 'hush'::text AS word");
    let pins = table(&mut console, "SHOW PINS");
    assert_eq!(pins.len(), 1);
    let cell = |column: &str| pins[0][column].clone().unwrap();
    assert_eq!((cell("user"), cell("database")), (APP.to_owned(), fixture.db.name.clone()));
    assert_eq!(cell("reasons"), "temp_object");
    assert_eq!(cell("statement"), "create temp table secret_plans as select ?::text as word");
    assert_eq!(cell("remote_pid"), client.value("SELECT pg_backend_pid()"));
    let clients = table(&mut console, "SHOW CLIENTS");
    let row = clients.iter().find(|row| row["id"] == pins[0]["client_id"]).unwrap();
    assert_eq!((row["link"].clone(), row["state"].as_deref()), (pins[0]["link"].clone(), Some("active")));
    client.rows("SELECT pg_advisory_lock(7)");
    let now = table(&mut console, "SHOW PINS");
    let reasons = now[0]["reasons"].clone().unwrap();
    assert!(reasons.contains("temp_object") && reasons.contains("advisory_lock"), "{reasons}");
    assert_eq!(now[0]["since"], pins[0]["since"]);
    let gauge = |fixture: &Fixture, reason: &str| {
        let start = format!("trunkline_pinned_sessions{{database=\"{}\",reason=\"{reason}\"}} ", fixture.db.name);
        let (_, body) = fixture.proxy.http("/metrics");
        body.lines().find_map(|line| line.strip_prefix(&start).map(str::to_owned))
    };
    assert_eq!(gauge(&fixture, "temp_object").as_deref(), Some("1"));
    let line = fixture.proxy.wait_for_log(&["server connection pinned", "temp_object", "create temp table"]);
    assert!(line.contains("INFO") && line.contains(&fixture.db.name) && !line.contains("hush"), "{line}");
    client.exchange(&Batch::new().query("DISCARD ALL"));
    until("released", || table(&mut console, "SHOW PINS").is_empty());
    assert_eq!(gauge(&fixture, "temp_object").as_deref(), Some("0"));
    client.rows("CREATE TEMP TABLE again (n int)");
    drop(client);
    until("gone with the session", || gauge(&fixture, "temp_object").as_deref() == Some("0"));
    assert!(table(&mut console, "SHOW PINS").is_empty());
}

#[test]
fn an_idle_session_stays_pinned_for_so_long_only() {
    let fixture = Fixture::with("[client]\npinned_idle_timeout = \"300ms\"\n");
    let (mut pinned, mut free, mut busy) = (fixture.client(), fixture.client(), fixture.client());
    pinned.rows("CREATE TEMP TABLE mine (n int)");
    busy.exchange(&Batch::new().query("BEGIN; CREATE TEMP TABLE mine (n int)"));
    let frame = pinned.recv();
    assert_eq!((frame.sqlstate().as_str(), frame.field(b'S').as_deref()), ("57P05", Some("FATAL")));
    assert!(frame.field(b'M').unwrap().contains("temp_object"), "{frame:?}");
    assert!(pinned.is_closed());
    // Neither who is not pinned nor who is in a transaction.
    assert!(free.is_silent_for(Duration::from_millis(200)));
    assert_eq!(busy.value("SELECT count(*) FROM mine"), "0");
    let mut console = fixture.console();
    until("the connection went back clean", || {
        table(&mut console, "SHOW SERVERS").iter().filter(|row| row["state"].as_deref() == Some("active")).count() == 1
    });
}

#[test]
fn prepared_statements_are_counted_and_shown_without_literals() {
    let fixture = Fixture::new();
    let mut console = fixture.console();
    // A text that is decided under another catalog is another statement.
    until("the catalog is relied on", || console.value("SELECT relied_on FROM catalog") == "yes");
    let mut clients = [fixture.client(), fixture.client()];
    let sql = "INSERT INTO t SELECT $1::int WHERE 'swordfish' <> 'x'";
    for client in &mut clients {
        client.exchange(&Batch::new().query("BEGIN"));
        let batch = Batch::new().parse("p", sql, &[]).bind("", "p", &[Some("1")]).execute("", 0).sync();
        assert!(!tags(&client.exchange(&batch)).contains('E'));
    }
    let find = |console: &mut RawClient| {
        let rows = table(console, "SHOW PREPARED");
        let wanted = "insert into t select $1::int where ? <> ?";
        rows.into_iter().find(|row| row["statement"].as_deref() == Some(wanted))
    };
    let row = find(&mut console).unwrap();
    assert_eq!(row["servers"].as_deref(), Some("2"));
    let uses: u64 = row["uses"].as_deref().unwrap().parse().unwrap();
    assert!(uses >= 2, "{row:?}");
    for client in &mut clients {
        client.exchange(&Batch::new().bind("", "p", &[Some("2")]).execute("", 0).sync());
        client.exchange(&Batch::new().query("COMMIT"));
    }
    let after: u64 = find(&mut console).unwrap()["uses"].as_deref().unwrap().parse().unwrap();
    assert_eq!(after, uses + 2);
    // With the server connections goes the count.
    console.exchange(&Batch::new().query("RECONNECT"));
    until("no server has it", || find(&mut console).unwrap()["servers"].as_deref() == Some("0"));
    drop(clients);
    until("nobody has it", || find(&mut console).is_none());
}

/// What a literal is, the session says that prepared it.
#[test]
fn prepared_statements_are_shown_as_they_were_read() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    client.exchange(&Batch::new().query("SET standard_conforming_strings TO off"));
    let answer = tags(&client.exchange(&Batch::new().parse("p", "SELECT 'a\\' swordfish ', 1", &[]).sync()));
    // With a warning of the server's.
    assert_eq!(answer.trim_start_matches('N'), "1Z");
    let shown = format!("{:?}", table(&mut fixture.console(), "SHOW PREPARED"));
    assert!(shown.contains("select ?, ?") && !shown.contains("swordfish"), "{shown}");
}

/// The time of the last request is true for sessions that have no server connection now.
#[test]
fn the_last_request_is_remembered() {
    let fixture = Fixture::new();
    let mut console = fixture.console();
    let mut client = fixture.client();
    let times = |console: &mut RawClient| {
        let rows = table(console, "SHOW CLIENTS");
        let row = rows.into_iter().find(|row| row["database"].as_deref() == Some(&fixture.db.name)).unwrap();
        (row["connect_time"].clone().unwrap(), row["request_time"].clone().unwrap(), row["link"].clone().unwrap())
    };
    let (connected, requested, _) = times(&mut console);
    assert_eq!(connected, requested);
    thread::sleep(Duration::from_millis(1100));
    client.rows("SELECT 1");
    let (connected, requested, _) = times(&mut console);
    assert!(requested > connected, "{requested} {connected}");
    // The answer is with the client a moment before the connection is with the pool.
    until("the connection is back", || times(&mut console).2.is_empty());
    thread::sleep(Duration::from_millis(1100));
    assert_eq!(times(&mut console).1, requested, "it does not move by itself");
}

/// Nobody keeps statements or portals without end, nor large ones.
#[test]
fn a_client_of_the_console_keeps_so_many_statements() {
    let fixture = Fixture::new();
    let mut client = fixture.console();
    let refused = |frames: &[Frame]| frames.iter().find(|frame| frame.tag == b'E').map(Frame::sqlstate);
    let prepare = |name: &str, sql: &str| Batch::new().parse(name, sql, &[]).sync();
    for number in 0..100 {
        assert_eq!(tags(&client.exchange(&prepare(&format!("s{number}"), "SHOW VERSION"))), "1Z", "{number}");
    }
    assert_eq!(refused(&client.exchange(&prepare("more", "SHOW VERSION"))).as_deref(), Some("54000"));
    assert_eq!(tags(&client.exchange(&prepare("", "SHOW VERSION"))), "1Z", "without a name");
    assert_eq!(tags(&client.exchange(&prepare("s7", "SHOW STATE"))), "1Z", "under a name that is there");
    assert_eq!(
        tags(&client.exchange(&Batch::new().close(b'S', "s8").parse("more", "SHOW VERSION", &[]).sync())),
        "31Z"
    );
    assert_eq!(client.value("DEALLOCATE s9; SELECT count(*) FROM version"), "1");
    let long = format!("SHOW ROUTE 'SELECT {}1'", "1 + ".repeat(10_000));
    assert_eq!(refused(&client.exchange(&prepare("long", &long))).as_deref(), Some("54000"));
    assert_eq!(tags(&client.exchange(&prepare("", &long))), "1Z");
    // Portals go with their transaction, which ends at each Sync here.
    let bind = |count: usize| {
        (0..count).fold(Batch::new(), |batch, number| batch.bind(&format!("p{number}"), "more", &[])).sync()
    };
    for _ in 0..2 {
        assert_eq!(refused(&client.exchange(&bind(100))), None);
    }
    assert_eq!(refused(&client.exchange(&bind(101))).as_deref(), Some("54000"));
    let executed = client.exchange(&Batch::new().bind("p", "more", &[]).execute("p", 0).sync());
    assert_eq!(tags(&executed), "2DCZ");
}
