//! `SET key = value`: applied for real, refused with reasons, gone with RELOAD.

use std::time::{Duration, Instant};

use super::*;

fn setting(console: &mut RawClient, key: &str) -> (String, String) {
    let rows = table(console, "SHOW CONFIG");
    let row = rows.iter().find(|row| row["key"].as_deref() == Some(key)).unwrap_or_else(|| panic!("{key}"));
    (row["value"].clone().unwrap(), row["changeable"].clone().unwrap())
}

fn set(console: &mut RawClient, sql: &str) -> String {
    summary(&console.exchange(&Batch::new().query(sql)))
}

#[test]
fn time_outs_and_limits_hold_at_once() {
    let fixture = Fixture::new();
    let mut console = fixture.console();
    let (mut first, mut second) = (fixture.client(), fixture.client());
    let process = first.value("INSERT INTO t VALUES (1) RETURNING pg_backend_pid()");
    assert_eq!(
        set(&mut console, "SET query_timeout = 0.3;"),
        "CommandComplete(SET query_timeout=0.3) ReadyForQuery(I)"
    );
    let began = Instant::now();
    assert_eq!(first.failure("SELECT pg_sleep(20)"), "57014");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(setting(&mut console, "query_timeout"), ("0.3".to_owned(), "yes".to_owned()));
    // PgBouncer's name, or the file's with its units.
    assert_eq!(
        set(&mut console, "SET pool.query_timeout = '1h'"),
        "CommandComplete(SET pool.query_timeout=1h) ReadyForQuery(I)"
    );
    set(&mut console, "SET default_pool_size TO 1");
    set(&mut console, "SET query_wait_timeout = 200ms");
    // Who has a size of its own keeps it, as the pool of this database does.
    assert_eq!(table(&mut console, "SHOW DATABASES")[0]["pool_size"].as_deref(), Some("3"));
    for client in [&mut first, &mut second] {
        client.exchange(&Batch::new().query("BEGIN; INSERT INTO t VALUES (1)"));
    }
    let mut third = fixture.client();
    third.exchange(&Batch::new().query("BEGIN; INSERT INTO t VALUES (1)"));
    assert_eq!(fixture.client().failure("INSERT INTO t VALUES (2)"), "57014");
    for client in [&mut first, &mut second, &mut third] {
        client.exchange(&Batch::new().query("ROLLBACK"));
    }
    // No connection was opened anew for all that.
    let servers = table(&mut console, "SHOW SERVERS");
    assert!(servers.iter().any(|row| row["remote_pid"].as_deref() == Some(&process)), "{servers:?}");
    set(&mut console, "SET client_idle_timeout = 0.2");
    assert_eq!(first.recv().sqlstate(), "57P05");
    // The file is in force again.
    set(&mut console, "RELOAD");
    assert_eq!(setting(&mut console, "client_idle_timeout").0, "0");
    assert_eq!(setting(&mut console, "query_timeout").0, "0");
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let fixture = Fixture::new();
    let mut console = fixture.console();
    let mut texts = String::new();
    for sql in [
        "SET max_client_con = 5",
        "SET nonsense = 5",
        "SET listen_port = 7000",
        "SET max_client_conn = many",
        "SET max_client_conn = 0",
        "SET pool_mode = 'sometimes'",
        "SET query_timeout = '5 parsecs'",
        "SET min_pool_size = 1000",
        "SET log_level = 'loud,,='",
        "SET client_tls_sslmode = require",
        "SET pool_mode",
        "SET pool_mode =",
    ] {
        let frames = console.exchange(&Batch::new().query(sql));
        assert_eq!(tags(&frames), "EZ", "{sql}");
        let field = |key| frames[0].field(key).unwrap_or_default();
        texts += &format!("{sql}\n  {} {}\n  {}\n  {}\n", frames[0].sqlstate(), field(b'M'), field(b'D'), field(b'H'));
    }
    insta::assert_snapshot!(texts);
    assert_eq!(setting(&mut console, "pool_mode").0, "transaction");
    assert_eq!(setting(&mut console, "max_client_conn").0, "1000");
    assert_eq!(setting(&mut console, "listen_port").1, "no");
}

#[test]
fn what_show_config_calls_changeable_is() {
    let fixture = Fixture::new();
    let mut console = fixture.console();
    let rows = table(&mut console, "SHOW CONFIG");
    let mut changeable = 0;
    for row in &rows {
        let (key, value) = (row["key"].as_deref().unwrap(), row["value"].as_deref().unwrap());
        let answer = console.exchange(&Batch::new().query(&format!("SET {key} = '{}'", value.replace('\'', "''"))));
        let failed = answer[0].tag == b'E';
        if row["changeable"].as_deref() == Some("yes") {
            // Some have no value at all that could be set.
            assert!(!failed || value.is_empty() || value.starts_with('('), "{key} = {value}: {answer:?}");
            changeable += 1;
        } else {
            assert_eq!(answer[0].sqlstate(), "55P02", "{key}");
        }
    }
    assert!(changeable > 20 && changeable < rows.len());
}

#[test]
fn a_configuration_of_urls_can_be_changed_too() {
    let db = TestDb::new(clusters::shared());
    let proxy = Setup::before(&db).args(["--pool-size", "7"]).start();
    let mut console = RawClient::connect(proxy.port(), APP, APP_PASSWORD, "trunkline");
    let mut client = RawClient::connect(proxy.port(), APP, APP_PASSWORD, &db.name);
    set(&mut console, "SET query_timeout = 0.3");
    assert_eq!(client.failure("SELECT pg_sleep(20)"), "57014");
    assert_eq!(setting(&mut console, "default_pool_size").0, "7");
    set(&mut console, "SET default_pool_size = 2");
    assert_eq!(
        (setting(&mut console, "default_pool_size").0, setting(&mut console, "query_timeout").0),
        ("2".into(), "0.3".into())
    );
    assert_eq!(setting(&mut console, "admin_users").0, APP);
}
