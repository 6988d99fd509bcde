//! Messages of which only the beginning is here when they are looked at: what is decided about it holds for the rest.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::clusters::APP;
use support::frames::{Batch, summary, tags};
use support::raw::RawClient;
use support::world::{Plan, Step, World, ready};

const SQL: &str = "CREATE TABLE t (n int, v text); CREATE SCHEMA aside; CREATE TABLE aside.t (n int, v text);
    INSERT INTO t VALUES (1, 'public'); INSERT INTO aside.t VALUES (1, 'aside');
    CREATE FUNCTION says(n int) RETURNS int STABLE LANGUAGE plpgsql AS
        'BEGIN RAISE EXCEPTION ''%'', repeat(''x'', n) USING ERRCODE = ''25006''; END'";

const CONSOLE: &str = "[admin]\nadmin_users = [\"app\"]\n";
const EVENTUAL: &str = "consistency = \"eventual\"\nmax_lag = \"0\"";

fn batch() -> Batch {
    Batch::new()
}

fn world() -> World {
    Plan { sql: SQL, pool: "size = 3", primary_only: true, ..Plan::default() }.start()
}

/// A client that keeps a connection of the primary to itself until it is dropped.
fn holder(world: &World) -> RawClient {
    let mut client = world.client();
    assert_eq!(tags(&client.exchange(&batch().query("BEGIN; DELETE FROM t WHERE false"))), "CCZ");
    client
}

/// A comment longer than a read.
fn padding() -> String {
    format!("/* {} */", "x".repeat(200_000))
}

/// What a connection has of a statement is described for ourselves before a client uses it there who was told its columns.
#[test]
fn a_description_for_ourselves_is_told_to_nobody() {
    let world = world();
    let numbers: Vec<_> = (1..=30_000).map(|number| format!("${number}")).collect();
    let sql = format!("SELECT array_length(ARRAY[{}]::int[], 1)", numbers.join(","));
    let columns: Vec<_> = (0..1_500).map(|n| format!("1 AS {}_{n}", "c".repeat(50))).collect();
    let wide = format!("SELECT {}", columns.join(","));
    let mut client = world.client();
    for (name, sql) in [("many", &sql), ("wide", &wide)] {
        client.exchange(&batch().parse(name, sql, &[]).describe(b'S', name).sync());
    }
    let _holder = holder(&world);
    let values = vec![Some("1"); 30_000];
    let frames = client.exchange(&batch().bind("", "many", &values).execute("", 0).sync());
    assert_eq!(summary(&frames), "BindComplete DataRow(30000) CommandComplete(SELECT 1) ReadyForQuery(I)");
    assert_eq!(tags(&client.exchange(&batch().bind("", "wide", &[]).execute("", 0).sync())), "2DCZ");
    assert_eq!(client.value("SELECT 'whole'"), "whole");
}

/// The error of an attempt of which nothing is told.
#[test]
fn an_error_that_is_not_told_is_not_told_in_parts() {
    let world = Plan { sql: SQL, tables: CONSOLE, routing: EVENTUAL, ..Plan::default() }.start();
    world.settle();
    for length in [10, 100_000] {
        let query = format!("SELECT says({length})");
        world.compare("an error", &[ready(batch().query(&query)), ready(batch().run(&query, &[]).sync())]);
    }
    assert!(world.counter("trunkline_reruns_total", &[]) > 0.0, "it ran on the primary at once");
}

/// The values of a Bind that is refused are no messages, whatever they look like.
#[test]
fn of_a_refused_bind_nothing_reaches_the_server() {
    let world = Plan { sql: SQL, tables: CONSOLE, routing: EVENTUAL, ..Plan::default() }.start();
    world.settle();
    let mut client = world.client();
    client.exchange(&batch().parse("lock", "SELECT pg_advisory_lock(length($1))", &[25]).sync());
    client.exchange(&batch().query("BEGIN READ ONLY"));
    client.exchange(&batch().query("SELECT count(*) FROM t"));
    // Without a NUL, which no text can have: whatever is taken for a message is none.
    let value = "S".repeat(300_000);
    let frames = client.exchange(&batch().bind("", "lock", &[Some(&value)]).execute("", 0).sync());
    assert_eq!((tags(&frames).as_str(), frames[0].sqlstate().as_str()), ("EZ", "0A000"));
    assert_eq!(tags(&client.exchange(&batch().query("ROLLBACK"))), "CZ");
    assert_eq!(client.value("SELECT 'whole'"), "whole");
}

/// What a RESET takes away of what the client brought along is put back before anything else runs (trap 52).
#[test]
fn what_is_long_waits_like_everything_else() {
    let world = world();
    let long = format!("{} SELECT v FROM t", padding());
    for mut client in [
        RawClient::connect_with(
            world.db.cluster().primary_port(),
            support::clusters::APP_PASSWORD,
            &[("user", APP), ("database", &world.db.name), ("search_path", "aside")],
        ),
        world.client_with(&[("search_path", "aside")]),
    ] {
        client.exchange(&batch().parse("s", "SELECT v FROM t WHERE v <> $1", &[25]).sync());
        let value = "x".repeat(200_000);
        let bind = batch().query("RESET search_path").bind("", "s", &[Some(&value)]).execute("", 0).sync();
        for (what, messages) in [("Query", batch().query("RESET search_path").query(&long)), ("Bind", bind)] {
            client.exchange(&batch().query("SET search_path TO public"));
            let frames = Step::Ready(messages, 2).run(&mut client);
            assert!(summary(&frames).contains("DataRow(aside)"), "{what}: {}", summary(&frames));
        }
    }
}

/// Of a statement that is not looked into nobody knows what it does to its session, but for what the server says.
#[test]
fn what_a_statement_sets_that_is_not_looked_into_reaches_nobody_else() {
    let world = Plan {
        sql: SQL,
        pool: "size = 2",
        primary_only: true,
        tables: "[client]\nmax_inspect = \"64KiB\"\n[admin]\nadmin_users = [\"app\"]\n",
        ..Plan::default()
    }
    .start();
    let padding = padding();
    let pins = || world.console().rows("SHOW PINS").len();
    let mut client = world.client();
    let mut other = world.client();
    // What most of them are: nothing to be followed.
    let plain = [
        "INSERT INTO t VALUES (2)",
        "BEGIN; UPDATE t SET n = n; COMMIT",
        "SELECT v FROM t; DELETE FROM t",
        "BEGIN; SAVEPOINT a; UPDATE t SET n = n; ROLLBACK TO a; RELEASE a; COMMIT",
        "EXPLAIN SELECT v FROM t",
    ];
    for plain in plain {
        let frames = client.exchange(&batch().query(&format!("{padding} {plain}")));
        assert!(!tags(&frames).contains('E'), "{plain}: {}", summary(&frames));
        assert_eq!(pins(), 0, "{plain}");
    }
    // Undone with its transaction.
    client.exchange(&batch().query(&format!("{padding} SET search_path TO undone; SELECT 1/0")));
    assert_eq!(pins(), 0);
    let does = [
        "SET search_path TO elsewhere",
        "SELECT set_config('search_path', 'elsewhere', false)",
        "BEGIN; INSERT INTO t VALUES (2); COMMIT; SET search_path TO elsewhere",
        "DO 'BEGIN SET search_path TO elsewhere; END'",
        "SELECT 1; SELECT 2; RESET work_mem; SELECT 3; SET search_path TO elsewhere",
    ];
    for text in does {
        let mut client = world.client();
        let frames = client.exchange(&batch().query(&format!("{padding} {text}")));
        assert!(!tags(&frames).contains('E'), "{text}: {}", summary(&frames));
        other.exchange(&batch().query("BEGIN"));
        assert_ne!(other.value("SHOW search_path"), "elsewhere", "{text}");
        other.exchange(&batch().query("ROLLBACK"));
        assert_eq!(client.value("SELECT current_setting('search_path')"), "elsewhere", "{text}");
        drop(client);
    }
}

/// Statements of the client are there for it, and nobody else's; what comes behind waits for what it does to them.
#[test]
fn what_is_not_looked_into_executes_what_its_client_has_prepared() {
    let world = Plan {
        sql: SQL,
        pool: "size = 1",
        primary_only: true,
        tables: "[client]\nmax_inspect = \"64KiB\"\n",
        ..Plan::default()
    }
    .start();
    let padding = padding();
    let execute = format!("{padding} EXECUTE p");
    let mut client = world.client();
    let mut other = world.client();
    client.exchange(&batch().query("PREPARE p AS SELECT v FROM t"));
    assert_eq!(other.failure(&execute), "26000");
    assert_eq!(client.value(&execute), "public");
    other.exchange(&batch().parse("p", "SELECT 'other'", &[]).sync());
    assert_eq!(other.value(&execute), "other");
    assert_eq!(client.value(&execute), "public");
    let frames = Step::Ready(
        batch()
            .query(&format!("{padding} DEALLOCATE ALL"))
            .parse("q", "SELECT 'behind'", &[])
            .sync()
            .bind("", "q", &[])
            .execute("", 0)
            .sync(),
        3,
    )
    .run(&mut client);
    assert_eq!(tags(&frames), "CZ1Z2DCZ");
    assert_eq!(tags(&client.exchange(&batch().bind("", "q", &[]).execute("", 0).sync())), "2DCZ");
}
