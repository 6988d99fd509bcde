//! Settings of sessions in transaction pooling: each client's own, on whatever server connection. Compared with a direct
//! connection, frame by frame, and among clients that take turns on one connection.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use support::clusters::{APP, APP_PASSWORD};
use support::frames::{Batch, summary, tags};
use support::raw::RawClient;
use support::world::{Plan, World, ready};

/// The role is the whole cluster's, which other tests use at the same time.
const SQL: &str = "RESET ROLE; DO $$ BEGIN CREATE ROLE settings_guest; \
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; GRANT settings_guest TO app; SET ROLE app; \
    CREATE TABLE t (id int PRIMARY KEY); CREATE SCHEMA \"B c\"; GRANT ALL ON t TO settings_guest";

fn world(pool: &str) -> World {
    Plan { sql: SQL, pool, primary_only: true, ..Plan::default() }.start()
}

fn batch() -> Batch {
    Batch::new()
}

/// Runs the script as [`World::compare`] does, while another client with other settings uses the same connection between all its
/// statements outside transactions.
fn compare_while_another_interferes(world: &World, what: &str, sql: &[&str]) {
    let mut direct = world.direct();
    let expected: Vec<_> = sql.iter().map(|sql| summary(&direct.exchange(&batch().query(sql)))).collect();
    let mut client = world.client();
    let mut other =
        world.client_with(&[("application_name", "other"), ("options", "-c work_mem=1MB -c search_path=pg_catalog")]);
    for (sql, expected) in sql.iter().zip(expected) {
        eprintln!("{what}: {sql}: {expected}");
        let frames = client.exchange(&batch().query(sql));
        assert_eq!(summary(&frames), expected, "{what}: {sql}");
        if frames.last().is_some_and(|ready| ready.body == b"I") {
            assert_eq!(other.value("SELECT current_setting('work_mem') || current_setting('search_path') || current_user || current_setting('application_name')"), "1MBpg_catalogappother");
            other.exchange(&batch().query("BEGIN; SET work_mem = '2MB'; SET TIME ZONE 'Asia/Tokyo'; ROLLBACK"));
        }
    }
}

#[test]
fn settings_are_transactional_trap_26() {
    let world = world("size = 1");
    compare_while_another_interferes(
        &world,
        "rollbacks",
        &[
            "SET work_mem = '5MB'",
            "SHOW work_mem",
            "BEGIN",
            "SET work_mem = '6MB'",
            "SAVEPOINT a",
            "SET work_mem = '7MB'",
            "SET TIME ZONE 'Europe/Rome'",
            "SAVEPOINT b",
            "SET work_mem = '8MB'",
            "ROLLBACK TO a",
            "SHOW work_mem",
            "SHOW timezone",
            "COMMIT",
            "SHOW work_mem",
            "BEGIN",
            "SET work_mem = '9MB'",
            "SELECT 1/0",
            "SET work_mem = '10MB'",
            "COMMIT",
            "SHOW work_mem",
            "SET work_mem = '11MB'; SELECT 1/0",
            "SHOW work_mem",
            "BEGIN; SET work_mem = '12MB'; COMMIT; SET work_mem = '13MB'; SELECT 1/0",
            "SHOW work_mem",
            "BEGIN; SET work_mem = '14MB'; SAVEPOINT x; SET work_mem = '15MB'; ROLLBACK TO x; RELEASE x; COMMIT",
            "SHOW work_mem",
            "BEGIN; SET work_mem = '16MB'; ROLLBACK AND CHAIN",
            "SET work_mem = '17MB'",
            "COMMIT AND CHAIN",
            "SHOW work_mem",
            "ROLLBACK",
            "SHOW work_mem",
            "BEGIN; SET LOCAL work_mem = '20MB'; SHOW work_mem; SET work_mem = '21MB'; SET LOCAL work_mem = '22MB'; COMMIT",
            "SHOW work_mem",
            "BEGIN; CREATE TABLE gone (n int DEFAULT 1, CHECK (n > 0) NOT VALID); SET work_mem = '30MB'; DROP TABLE gone; ROLLBACK",
            "SHOW work_mem",
            "RESET work_mem",
            "SHOW work_mem",
        ],
    );
}

#[test]
fn halves_of_a_date_style_are_joined() {
    let world = world("size = 1");
    compare_while_another_interferes(
        &world,
        "date style",
        &[
            "SET datestyle TO german",
            "SET datestyle TO mdy",
            "SHOW datestyle",
            "SELECT date '1999-01-08'",
            "BEGIN; SET datestyle TO sql; SAVEPOINT a; SET datestyle TO ymd; ROLLBACK TO a; COMMIT",
            "SHOW datestyle",
            "BEGIN; SET LOCAL datestyle TO iso; SELECT date '1999-01-08'; COMMIT",
            "BEGIN; SET datestyle TO dmy; SAVEPOINT a",
            "ROLLBACK TO a",
            "COMMIT",
            "SHOW datestyle",
            "SELECT set_config('datestyle', 'ymd', false)",
            "SELECT date '1999-01-08'",
            "SET datestyle TO DEFAULT",
            "SELECT date '1999-01-08'",
        ],
    );
    let mut whole = world.client_with(&[("options", "-c datestyle=german,ymd")]);
    let mut half = world.client_with(&[("options", "-c datestyle=sql")]);
    for reset in ["RESET datestyle", "RESET ALL", "SET datestyle TO DEFAULT", "DISCARD ALL"] {
        assert_eq!(whole.value("SHOW datestyle"), "German, YMD");
        assert_eq!(half.value("SHOW datestyle"), "SQL, MDY");
        whole.exchange(&batch().query("SET datestyle TO dmy"));
        half.exchange(&batch().query("SET datestyle TO dmy"));
        assert_eq!(whole.value("SHOW datestyle"), "German, DMY");
        assert_eq!(half.value("SHOW datestyle"), "SQL, DMY");
        whole.exchange(&batch().query(reset));
        half.exchange(&batch().query(reset));
    }
}

#[test]
fn every_spelling_lasts_traps_24_25_53_55() {
    let world = world("size = 1");
    compare_while_another_interferes(
        &world,
        "spellings",
        &[
            "SET search_path = public, \"B c\"",
            "SHOW search_path",
            "SELECT current_schemas(false)",
            "SET search_path TO 'public, \"B c\"'",
            "SHOW search_path",
            "SELECT set_config('search_path', 'public, \"B c\"', false)",
            "SHOW search_path",
            "SET SCHEMA 'B c'",
            "SELECT current_schemas(false)",
            "SET search_path = ''",
            "SHOW search_path",
            "RESET search_path",
            "SET DateStyle = SQL, DMY",
            "SELECT '2024-03-01'::date",
            "SET NAMES 'LATIN1'",
            "SHOW client_encoding",
            "SET NAMES DEFAULT",
            "SET TIME ZONE -3",
            "SHOW timezone",
            "SET TIME ZONE LOCAL",
            "SHOW timezone",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, DEFERRABLE",
            "SHOW transaction_isolation",
            "SHOW default_transaction_deferrable",
            "SET app.\"Odd Name\" = 1",
            "SET app.text = 'it''s {\"json\": \"\\u00e4\"}'",
            "SHOW app.text",
            "SET app.text = E'tab\\t\\\\ \\'quote'",
            "SHOW app.text",
            "SET app.text = 'Größe — 漢字'",
            "SHOW app.text",
            "SET extra_float_digits = -1",
            "SHOW extra_float_digits",
            "SET statement_timeout = 5000",
            "SHOW statement_timeout",
            "SELECT pg_catalog.set_config('app.a', 'one', false), set_config('app.b', 'two', true) AS local",
            "SELECT current_setting('app.a'), current_setting('app.b')",
            "SET ROLE settings_guest",
            "SELECT current_user, session_user",
            "BEGIN; RESET ROLE; ROLLBACK",
            "SELECT current_user",
            "SET ROLE NONE",
            "SELECT current_user",
            "SET SESSION AUTHORIZATION app",
            "SET SESSION AUTHORIZATION DEFAULT",
            "SET standard_conforming_strings = off",
            "SET app.text = 'back\\\\slash'",
            "SHOW app.text",
            "RESET ALL",
            "SHOW extra_float_digits",
            "SHOW statement_timeout",
        ],
    );
}

#[test]
fn what_the_server_refuses_changes_nothing() {
    let world = world("size = 1");
    compare_while_another_interferes(
        &world,
        "errors",
        &[
            "SET no_such_setting = 1",
            "SET work_mem = 'much'",
            "SET work_mem = '5MB'",
            "SET work_mem = '6MB', '7MB'",
            "SET work_mem = '1 parsec'",
            "SHOW work_mem",
            "SET ROLE nobody_at_all",
            "SET shared_buffers = '1GB'",
            "SET log_min_messages = debug5",
            "SELECT set_config('work_mem', NULL, false)",
            "SHOW work_mem",
            "RESET nothing",
            "SET",
            "SHOW work_mem",
        ],
    );
}

#[test]
fn the_extended_protocol_sets_too_trap_30() {
    let world = world("size = 1");
    let mut other = world.client_with(&[("options", "-c work_mem=1MB")]);
    let set = |sql: &str| ready(batch().run(sql, &[]).sync());
    let show = || ready(batch().query("SELECT current_setting('work_mem'), current_setting('app.x', true)"));
    world.compare(
        "one by one",
        &[
            set("SET work_mem = '5MB'"),
            show(),
            ready(batch().run("SELECT set_config($1, $2, $3)", &[Some("app.x"), Some("value"), Some("false")]).sync()),
            show(),
            ready(
                batch().run("SET work_mem = '6MB'", &[]).run("SELECT 1/0", &[]).run("SET work_mem = '7MB'", &[]).sync(),
            ),
            show(),
            ready(batch().run("SET work_mem = '8MB'", &[]).run("SHOW work_mem", &[]).sync()),
            show(),
            set("BEGIN"),
            set("SET work_mem = '9MB'"),
            set("SAVEPOINT s"),
            set("SET work_mem = '10MB'"),
            set("ROLLBACK TO SAVEPOINT s"),
            set("COMMIT"),
            show(),
            // Bound, and never executed.
            ready(batch().parse("", "SET work_mem = '11MB'", &[]).bind("", "", &[]).sync()),
            show(),
            ready(
                batch()
                    .parse("named", "SET work_mem = '12MB'", &[])
                    .bind("p", "named", &[])
                    .describe(b'P', "p")
                    .execute("p", 0)
                    .execute("p", 0)
                    .sync(),
            ),
            show(),
        ],
    );
    assert_eq!(other.value("SHOW work_mem"), "1MB");
    assert_eq!(other.value("SELECT coalesce(current_setting('app.x', true), '')"), "");
}

#[test]
fn nobody_waits_for_anybodys_settings() {
    let world = world("size = 1\nwait_timeout = \"3s\"");
    let mut clients: Vec<RawClient> = (0..8).map(|_| world.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.exchange(&batch().query(&format!("SET work_mem = '{}MB'; SET app.number = {number}", number + 1)));
        client.exchange(&batch().query("SET ROLE settings_guest"));
    }
    for _ in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            let wanted = format!("{}MB {number} settings_guest", number + 1);
            assert_eq!(
                client.value(
                    "SELECT current_setting('work_mem') || ' ' || current_setting('app.number') || ' ' || current_user"
                ),
                wanted
            );
        }
    }
    drop(clients);
    let mut fresh = world.client();
    assert_eq!(fresh.value("SELECT current_setting('work_mem') || current_user"), "4MBapp");
    assert!(fresh.is_silent_for(Duration::from_millis(20)));
}

#[test]
fn trap_62_servers_that_are_clients_set_what_they_need_for_themselves() {
    let world = world("size = 2\nwait_timeout = \"5s\"");
    let (port, database) = (world.proxy.port(), &world.db.name);
    world.db.run(&format!(
        "CREATE EXTENSION postgres_fdw; \
         CREATE SERVER through FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{port}', dbname '{database}'); \
         CREATE USER MAPPING FOR PUBLIC SERVER through OPTIONS (user '{APP}', password '{APP_PASSWORD}'); \
         CREATE FOREIGN TABLE far (id int) SERVER through OPTIONS (schema_name 'public', table_name 't'); \
         GRANT ALL ON far TO PUBLIC"
    ));
    // The server that asks is a client of the proxy: search_path pg_catalog, ISO dates, blocks with savepoints and cursors.
    let mut asking = world.direct();
    let mut plain = world.client();
    for round in 0..3 {
        asking.exchange(&batch().query(&format!("BEGIN; INSERT INTO far VALUES ({round}); SAVEPOINT a")));
        assert_eq!(asking.value("SELECT count(*) FROM far"), (round + 1).to_string());
        asking.exchange(&batch().query("INSERT INTO far VALUES (100); ROLLBACK TO a; COMMIT"));
        for _ in 0..4 {
            assert_eq!(
                plain.value("SELECT current_setting('search_path') || (SELECT count(*) FROM t)"),
                format!("\"$user\", public{}", round + 1)
            );
            assert_eq!(plain.value("SHOW timezone"), plain.parameter("TimeZone").unwrap_or_default());
        }
    }
    // And behind it as in front of it: a client of the proxy uses the foreign table, which leads through the proxy again.
    assert_eq!(plain.value("SELECT count(*) FROM far"), "3");
    assert_eq!(plain.value("SHOW search_path"), "\"$user\", public");
}

#[test]
fn what_ends_listening_tells_nothing_of_settings_trap_57() {
    let world = Plan { pool: "size = 1", primary_only: true, ..Plan::default() }.start();
    let mut client = world.client_with(&[("application_name", "start")]);
    // On one connection, which listens, and has lost its settings when it is told to listen no more.
    for sql in ["CREATE TEMP TABLE keeps_it (v int)", "LISTEN somebody", "DISCARD ALL"] {
        assert_eq!(tags(&client.exchange(&Batch::new().query(sql))), "CZ", "{sql}");
    }
    assert_eq!(summary(&client.exchange(&Batch::new().query(""))), "EmptyQueryResponse ReadyForQuery(I)");
    assert_eq!(client.value("SHOW application_name"), "start");
    assert_eq!(tags(&client.exchange(&Batch::new().query("SELECT 1"))), "TDCZ");
}

#[test]
fn what_is_put_back_in_a_block_takes_no_snapshot_trap_52() {
    let world = world("size = 1");
    let parameters =
        [("options", "-c work_mem=7MB -c app.name=x -c datestyle=SQL,DMY"), ("search_path", "\"$user\", public")];
    let mut client = world.client_with(&parameters);
    let mut other = world.client();
    let run = |client: &mut RawClient, sql: &str| summary(&client.exchange(&Batch::new().query(sql)));
    for reset in ["RESET ALL", "RESET work_mem", "SET search_path TO DEFAULT", "RESET DateStyle"] {
        run(&mut client, "BEGIN");
        run(&mut client, "SET LOCAL lock_timeout = 7");
        run(&mut client, "RESET lock_timeout");
        assert!(run(&mut client, reset).ends_with("ReadyForQuery(T)"));
        let level = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ";
        assert_eq!(run(&mut client, level), "CommandComplete(SET) ReadyForQuery(T)", "{reset}");
        let shown = "SELECT current_setting('work_mem') || current_setting('search_path') || current_setting('app.name') \
                     || current_setting('datestyle') || current_setting('transaction_isolation')";
        assert_eq!(client.value(shown), "7MB\"$user\", publicxSQL, DMYrepeatable read");
        run(&mut client, "COMMIT");
        assert_eq!(other.value("SHOW work_mem"), "4MB");
    }
}

/// PostgreSQL reports the path from version 18 on, and with Citus: run on such a server, this compares what is told; before, what is in force.
#[test]
fn paths_are_told_as_by_one_server_trap_57() {
    let world = world("size = 1");
    let script = [
        (0, "SET search_path = a, public"),
        (1, "SHOW search_path"),
        (1, "SET search_path = b"),
        (0, "SELECT current_setting('search_path')"),
        (0, "RESET search_path"),
        (1, "BEGIN; SET LOCAL search_path = c"),
        (1, "COMMIT"),
        (1, "BEGIN; SET search_path = d"),
        (1, "ROLLBACK"),
        (0, "SELECT set_config('search_path', 'e', false)"),
        (1, "SELECT current_setting('search_path')"),
        (0, "BEGIN; SAVEPOINT x; SET search_path = f"),
        (0, "ROLLBACK TO x"),
        (0, "COMMIT"),
        (2, "RESET ALL"),
        (2, "SET search_path TO DEFAULT"),
        (2, "SHOW search_path"),
        (1, "DISCARD ALL"),
        (1, "SHOW search_path"),
        (0, "SHOW search_path"),
    ];
    let clients = |port| {
        let own = [("user", APP), ("database", world.db.name.as_str()), ("options", "-c search_path=own")];
        let connect = |parameters: &[(&str, &str)]| RawClient::connect_with(port, APP_PASSWORD, parameters);
        [connect(&own[..2]), connect(&own[..2]), connect(&own)]
    };
    let mut direct = clients(world.db.cluster().primary_port());
    let mut behind = clients(world.proxy.port());
    for (one, other) in direct.iter().zip(&behind) {
        assert_eq!(one.parameter("search_path"), other.parameter("search_path"));
    }
    for (who, sql) in script {
        let said = [&mut direct, &mut behind].map(|clients| summary(&clients[who].exchange(&Batch::new().query(sql))));
        assert_eq!(said[1], said[0], "client {who}: {sql}");
    }
}

/// The same bytes are other characters in UTF-8.
#[test]
fn what_is_set_in_another_encoding_is_what_was_meant_trap_55() {
    let world = world("size = 2");
    let query = |sql: &str| {
        let text: Vec<u8> = sql.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).chain([0]).collect();
        batch().raw(b'Q', &text)
    };
    let asked = "SELECT octet_length(convert_to(current_setting('app.x'), 'UTF8')), current_setting('app.x') = U&'\\00C3\\00A9'";
    for set in ["SET app.x = '\u{c3}\u{a9}'", "SELECT set_config('app.x', '\u{c3}\u{a9}', false)"] {
        let mut client = world.client_with(&[("client_encoding", "LATIN1")]);
        assert!(!tags(&client.exchange(&query(set))).contains('E'));
        let mut others = [world.client(), world.client()];
        // Whichever connection it was, another client has it now.
        others[0].exchange(&batch().query("BEGIN; INSERT INTO t VALUES (1)"));
        let row = client.rows(asked).remove(0);
        assert_eq!(row, [Some("4".to_owned()), Some("t".to_owned())], "{set}");
        others[0].exchange(&batch().query("ROLLBACK"));
    }
}
