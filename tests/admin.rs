//! The admin console: tables and their types, both query protocols, rights, errors, RELOAD.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "admin/exporter.rs"]
mod exporter;
#[path = "admin/operate.rs"]
mod operate;
#[path = "admin/rights.rs"]
mod rights;
#[path = "admin/select.rs"]
mod select;
#[path = "admin/sessions.rs"]
mod sessions;
#[path = "admin/settings.rs"]
mod settings;
mod support;
#[path = "admin/tables.rs"]
mod tables;

use support::clusters::{self, APP, APP_PASSWORD, OTHER, OTHER_PASSWORD, TestDb};
use support::frames::{Batch, Frame, summary, tags};
use support::process::{Setup, Trunkline};
use support::raw::RawClient;
use support::sql;

/// A user that is known and has nothing to do with the console.
const NOBODY: &str = "nobody";

fn config(db: &TestDb, extra: &str) -> String {
    let replicas: Vec<_> = db.cluster().replica_ports().map(|port| format!("\"{}\"", db.url(port))).collect();
    format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n\
         [admin]\nadmin_users = [\"{APP}\"]\nstats_users = [\"{OTHER}\"]\n\
         [users.{APP}]\npassword = \"{APP_PASSWORD}\"\n\
         [users.{OTHER}]\npassword = \"{OTHER_PASSWORD}\"\nmax_clients = 7\n\
         [users.{NOBODY}]\npassword = \"x\"\n\
         [databases.{name}]\nurl = \"{url}\"\nreplica_urls = [{replicas}]\n{extra}\n\
         [databases.{name}.pool]\nsize = 3\n",
        name = db.name,
        url = db.url(db.cluster().primary_port()),
        replicas = replicas.join(", "),
    )
}

struct Fixture {
    proxy: Trunkline,
    db: TestDb,
}

impl Fixture {
    fn new() -> Self {
        Self::with("")
    }

    /// With more tables in the configuration.
    fn with(extra: &str) -> Self {
        let db = TestDb::with(clusters::shared(), "CREATE TABLE t (n int)");
        let proxy = Setup::config(config(&db, extra)).start();
        Self { proxy, db }
    }

    fn console(&self) -> RawClient {
        self.console_as(APP, APP_PASSWORD)
    }

    fn console_as(&self, user: &str, password: &str) -> RawClient {
        RawClient::connect(self.proxy.port(), user, password, "trunkline")
    }

    fn client(&self) -> RawClient {
        RawClient::connect(self.proxy.port(), APP, APP_PASSWORD, &self.db.name)
    }
}

/// Name, type OID and size of each column of a RowDescription.
fn columns(frame: &Frame) -> Vec<(String, u32, i16)> {
    assert_eq!(frame.tag, b'T', "{frame:?}");
    let mut rest = &frame.body[2..];
    let mut columns = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == 0).unwrap();
        let name = String::from_utf8(rest[..end].to_vec()).unwrap();
        let facts = &rest[end + 1..end + 19];
        assert_eq!(facts[..6], [0; 6], "table and column of {name}");
        let oid = u32::from_be_bytes(facts[6..10].try_into().unwrap());
        assert_eq!(facts[12..18], [255, 255, 255, 255, 0, 0], "modifier and format of {name}");
        columns.push((name, oid, i16::from_be_bytes(facts[10..12].try_into().unwrap())));
        rest = &rest[end + 19..];
    }
    columns
}

/// The rows of a table, by column name.
fn table(client: &mut RawClient, sql: &str) -> Vec<std::collections::BTreeMap<String, Option<String>>> {
    let frames = client.exchange(&Batch::new().query(sql));
    let names: Vec<_> = columns(&frames[0]).into_iter().map(|column| column.0).collect();
    let rows = frames.iter().filter(|frame| frame.tag == b'D').map(Frame::columns);
    rows.map(|row| names.iter().cloned().zip(row).collect()).collect()
}

#[test]
fn the_greeting_is_pgbouncers() {
    let fixture = Fixture::new();
    for name in ["trunkline", "pgbouncer"] {
        let client = RawClient::connect(fixture.proxy.port(), APP, APP_PASSWORD, name);
        let mut parameters = client.parameters.clone();
        parameters.retain(|(name, _)| name != "server_version");
        insta::assert_debug_snapshot!("greeting", parameters);
        let version = client.parameter("server_version").unwrap();
        assert!(version.ends_with("/bouncer") && version.starts_with(|c: char| c.is_ascii_digit()), "{version}");
        assert_eq!(client.key.len(), 8);
    }
}

#[test]
fn simple_queries() {
    let fixture = Fixture::new();
    let mut client = fixture.console();
    let answer = |client: &mut RawClient, sql: &str| summary(&client.exchange(&Batch::new().query(sql)));
    assert!(client.value("show version;").starts_with("Trunkline "));
    assert_eq!(answer(&mut client, "SHOW STATE"), answer(&mut client, "select state"));
    assert_eq!(answer(&mut client, ""), "EmptyQueryResponse ReadyForQuery(I)");
    assert_eq!(answer(&mut client, "-- ping"), "EmptyQueryResponse ReadyForQuery(I)");
    assert!(answer(&mut client, "SHOW VERSION").ends_with("CommandComplete(SHOW) ReadyForQuery(I)"));
    assert_eq!(client.value("SHOW client_encoding"), "UTF8");
    assert_eq!(client.value("SHOW standard_conforming_strings"), "on");
    // Two statements; the second fails, the first is answered.
    let frames = client.exchange(&Batch::new().query("SHOW STATE; nonsense; SHOW STATE"));
    assert_eq!(tags(&frames), "TDDDCEZ");
    // Drivers that are not in autocommit mode.
    assert_eq!(answer(&mut client, "BEGIN"), "CommandComplete(BEGIN) ReadyForQuery(T)");
    assert_eq!(tags(&client.exchange(&Batch::new().query("SHOW STATE"))), "TDDDCZ");
    assert_eq!(answer(&mut client, "ROLLBACK"), "CommandComplete(ROLLBACK) ReadyForQuery(I)");
    assert_eq!(answer(&mut client, "SET extra_float_digits = 3"), "CommandComplete(SET) ReadyForQuery(I)");
}

#[test]
fn help_is_a_notice_that_ends_as_it_must() {
    let fixture = Fixture::new();
    let mut client = fixture.console();
    let frames = client.exchange(&Batch::new().query("SHOW HELP"));
    assert_eq!(summary(&frames), "NoticeResponse(NOTICE 00000: Console usage) CommandComplete(SHOW) ReadyForQuery(I)");
    assert!(frames[0].body.ends_with(b"\0\0"));
    insta::assert_snapshot!(frames[0].field(b'D').unwrap());
    let frames = client.exchange(&Batch::new().run("SHOW HELP", &[]).sync());
    assert_eq!(tags(&frames), "12nNCZ");
}

#[test]
fn extended_queries() {
    let fixture = Fixture::new();
    let mut client = fixture.console();
    let frames = client.exchange(&Batch::new().run("SHOW STATE", &[]).sync());
    assert_eq!(tags(&frames), "12TDDDCZ");
    // Prepared, described, run twice, fetched row by row, closed.
    let batch = Batch::new().parse("s", "SHOW STATE", &[]).describe(b'S', "s");
    let batch = batch.bind("p", "s", &[]).execute("p", 2).execute("p", 0).bind("", "s", &[]).execute("", 0);
    let frames = client.exchange(&batch.close(b'P', "p").close(b'S', "s").sync());
    assert_eq!(tags(&frames), "1tT2DDsDC2DDDC33Z");
    let complete = frames.iter().filter(|frame| frame.tag == b'C').map(|frame| frame.strings()[0].clone());
    assert_eq!(complete.collect::<Vec<_>>(), ["SHOW", "SHOW"]);
    // Statements forgotten by SQL, as psycopg and pools do it.
    let prepare = Batch::new().parse("s", "SHOW STATE", &[]).parse("t", "SHOW STATE", &[]);
    assert_eq!(tags(&client.exchange(&prepare.query("DEALLOCATE s"))), "11CZ");
    assert_eq!(client.failure("DEALLOCATE PREPARE s"), "26000");
    assert_eq!(tags(&client.exchange(&Batch::new().bind("", "t", &[]).query("DEALLOCATE ALL"))), "2CZ");
    assert_eq!(tags(&client.exchange(&Batch::new().bind("", "t", &[]).sync())), "EZ");
    // The statement to explain as a parameter.
    let frames = client.exchange(&Batch::new().run("SHOW ROUTE $1", &[Some("SELECT now()")]).sync());
    assert_eq!(tags(&frames), "12TDCZ");
    assert_eq!(frames[3].columns()[1].as_deref(), Some("replica"));
    let frames = client.exchange(&Batch::new().run("", &[]).sync());
    assert_eq!(tags(&frames), "12nIZ");
    // An error passes over everything up to Sync, and the session goes on.
    for (batch, code) in [
        (Batch::new().run("SELECT 1", &[]), "0A000"),
        (Batch::new().run("SHOW STATE; SHOW STATE", &[]), "42601"),
        (Batch::new().run("SHOW STATE", &[Some("x")]), "08P01"),
        (Batch::new().run("SHOW ROUTE $1", &[]), "08P01"),
        (Batch::new().bind("", "missing", &[]), "26000"),
        (Batch::new().execute("missing", 0), "34000"),
        // Two result formats for one column.
        (Batch::new().parse("", "SHOW VERSION", &[]).raw(b'B', b"\0\0\0\0\0\0\0\x02\0\0\0\0").execute("", 0), "08P01"),
    ] {
        let frames = client.exchange(&batch.query("SHOW STATE").sync());
        let errors: Vec<_> = frames.iter().filter(|frame| frame.tag == b'E').map(Frame::sqlstate).collect();
        assert_eq!(errors, [code], "{frames:?}");
        assert!(tags(&frames).ends_with("EZ"), "{frames:?}");
    }
    assert_eq!(tags(&client.exchange(&Batch::new().query("SHOW VERSION"))), "TDCZ");
}

#[test]
fn a_driver_in_its_default_settings() {
    let fixture = Fixture::new();
    sql::block_on(async {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(fixture.proxy.port()).user(APP).password(APP_PASSWORD).dbname("pgbouncer");
        let client = sql::connect_with(&config).await.unwrap();
        // Binary results: text, int4 and numeric.
        let rows = client.query("SHOW POOLS", &[]).await.unwrap();
        let console = rows.iter().find(|row| row.get::<_, &str>("database") == "trunkline").unwrap();
        assert_eq!(console.get::<_, i32>("cl_active"), 1);
        assert_eq!(console.get::<_, Option<&str>>("load_balance_hosts"), None);
        let rows = client.query("SHOW TOTALS", &[]).await.unwrap();
        assert_eq!(rows.len(), 24);
        assert_eq!(rows[0].columns()[1].type_(), &tokio_postgres::types::Type::NUMERIC);
        let row = client.query_one("SHOW ROUTE $1", &[&"UPDATE t SET n = 1"]).await.unwrap();
        assert_eq!((row.get::<_, i32>("statement"), row.get::<_, &str>("target")), (1, "primary"));
        let error = client.query("SELECT * FROM pg_class", &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "0A000");
        let sql = "SELECT name, paused FROM databases WHERE name = $1 AND pool_size = $2 LIMIT $3";
        let row = client.query_one(sql, &[&fixture.db.name, &3i32, &1i64]).await.unwrap();
        assert_eq!((row.get::<_, &str>(0), row.get::<_, i32>(1)), (&*fixture.db.name, 0));
        let row = client.query_one("SELECT count(*), avg(items) FROM lists WHERE items < $1", &[&1i32]).await.unwrap();
        assert!(row.get::<_, i64>(0) > 0 && row.get::<_, f64>(1) == 0.0);
        client.execute(&format!("RECONNECT {}", fixture.db.name), &[]).await.unwrap();
        client.simple_query("RELOAD").await.unwrap();
        client.batch_execute("BEGIN; SHOW STATE; COMMIT").await.unwrap();
    });
}

#[test]
fn psql_and_what_it_asks() {
    let fixture = Fixture::new();
    let script = "SHOW VERSION;\n\\d\n\\l\n\\dt\nSHOW HELP;\n";
    let port = fixture.proxy.port();
    let output = sql::psql_as(port, "trunkline", APP, APP_PASSWORD, script, &["-v", "ON_ERROR_STOP=0"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.starts_with("Trunkline "), "{output:?}");
    assert_eq!(output.stderr.matches("it understands its own commands, not SQL").count(), 3, "{output:?}");
    assert!(output.stderr.contains("SHOW POOLS"), "{output:?}");
}

#[test]
fn malformed_frames_end_the_connection_and_nothing_else() {
    let fixture = Fixture::new();
    let mut standing = fixture.console();
    for (tag, body) in
        [(b'Q', &b"no end"[..]), (b'P', b"\0\0\xff\xff"), (b'B', b"\0\0"), (b'D', b""), (b'E', b"\0"), (b'?', b"")]
    {
        let mut client = fixture.console();
        client.send(&Batch::new().raw(tag, body));
        let frame = client.recv();
        assert_eq!((frame.tag, frame.sqlstate()), (b'E', "08P01".to_owned()), "{}", char::from(tag));
        assert!(client.is_closed());
    }
    let mut client = fixture.console();
    client.send_bytes(b"Q\x7f\xff\xff\xff");
    assert_eq!(client.recv().sqlstate(), "08P01");
    // In pieces, and several at once.
    let bytes = Batch::new().query("SHOW VERSION");
    for byte in bytes.bytes() {
        standing.send_bytes(&[*byte]);
    }
    assert_eq!(tags(&standing.recv_ready(1)), "TDCZ");
    standing.send(&Batch::new().query("SHOW VERSION").query("SHOW STATE").raw(b'd', b"x").raw(b'F', b"junk"));
    assert_eq!(tags(&standing.recv_ready(3)), "TDCZTDDDCZEZ");
}

#[test]
fn sigterm_ends_console_sessions_too() {
    let mut fixture = Fixture::new();
    let mut client = fixture.console();
    fixture.proxy.signal(rustix::process::Signal::TERM);
    assert_eq!(client.recv().sqlstate(), "57P01");
    assert!(client.is_closed());
    assert!(fixture.proxy.wait().success());
}
