#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

fn of(sql: &str) -> Vec<(u32, Change)> {
    changes(sql.as_bytes(), LexOptions::default(), &|_| None).into_iter().map(|c| (c.statement, c.change)).collect()
}

fn one(sql: &str) -> Change {
    let mut all = of(sql);
    assert_eq!(all.len(), 1, "{sql}: {all:?}");
    all.remove(0).1
}

fn set(name: &str, values: &[&str]) -> Change {
    let value = SettingValue::List(values.iter().map(ToString::to_string).collect());
    Change::Set { name: name.to_owned(), value }
}

fn flat(name: &str, value: &str) -> Change {
    Change::Set { name: name.to_owned(), value: SettingValue::Flat(value.to_owned()) }
}

fn default(name: &str) -> Change {
    Change::Set { name: name.to_owned(), value: SettingValue::Default }
}

#[test]
fn settings_of_the_session() {
    for (sql, wanted) in [
        ("SET work_mem = '7MB'", set("work_mem", &["7MB"])),
        ("set session Search_Path to a, \"B c\"", set("search_path", &["a", "B c"])),
        ("SET TIME ZONE 'UTC'", set("timezone", &["UTC"])),
        ("SET ROLE none", set("role", &["none"])),
        ("SET SESSION AUTHORIZATION bob", set("session_authorization", &["bob"])),
        ("SET SESSION AUTHORIZATION DEFAULT", default("session_authorization")),
        ("SET NAMES 'LATIN1'", set("client_encoding", &["LATIN1"])),
        ("SET extra_float_digits = -3", set("extra_float_digits", &["-3"])),
        ("RESET app.x", default("app.x")),
        ("RESET ALL", Change::ResetAll),
        ("DISCARD ALL", Change::DiscardAll),
        ("SELECT set_config('App.x', 'it''s', false)", flat("app.x", "it's")),
        ("select pg_catalog.set_config('search_path', '', false) as x", flat("search_path", "")),
        // asyncpg, before it asks for types.
        ("SELECT current_setting('jit') AS cur, set_config('jit', 'off', false) AS new", flat("jit", "off")),
        ("SELECT current_setting('jit', true), set_config('jit', 'off', 'f') x", flat("jit", "off")),
        ("SELECT current_setting(n), set_config('jit', 'off', false) FROM t", Change::UnknownSetting),
        ("SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", Change::UnknownSetting),
        ("SELECT set_config('a.b', x, false) FROM t", Change::UnknownSetting),
        ("INSERT INTO t SELECT set_config('a.b', 'c', false)", Change::UnknownSetting),
        ("SET x FROM CURRENT", Change::UnknownSetting),
    ] {
        assert_eq!(one(sql), wanted, "{sql}");
    }
    for none in [
        "SET LOCAL work_mem = '7MB'",
        "SET TRANSACTION READ ONLY",
        "SET SESSION TRANSACTION READ ONLY",
        "SET transaction_read_only = on",
        "SET CONSTRAINTS ALL DEFERRED",
        "SELECT set_config('a.b', 'c', true)",
        "SET trunkline.route = 'primary'",
        "SELECT 'SET x = 1'",
    ] {
        assert_eq!(of(none), [], "{none}");
    }
}

#[test]
fn trap_25_characteristics_are_settings() {
    let sql = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY NOT DEFERRABLE";
    assert_eq!(
        of(sql),
        [
            (0, set("default_transaction_isolation", &["repeatable read"])),
            (0, set("default_transaction_read_only", &["on"])),
            (0, set("default_transaction_deferrable", &["off"])),
        ]
    );
}

#[test]
fn parameters_of_set_config() {
    let parameter = |n: usize| Some([b"x.y".to_vec(), b"value".to_vec(), b"f".to_vec()][n - 1].clone());
    let sql = b"SELECT set_config($1, $2::text, $3)";
    let found = changes(sql, LexOptions::default(), &parameter);
    assert_eq!(found[0].change, flat("x.y", "value"));
    assert_eq!(changes(sql, LexOptions::default(), &|_| None)[0].change, Change::UnknownSetting);
}

#[test]
fn statements_are_counted_as_the_server_answers_them() {
    let name = |name: &str| name.as_bytes().into();
    assert_eq!(
        of("BEGIN;; SAVEPOINT a; SET x.y = 1; ROLLBACK WORK TO SAVEPOINT \"A\"; RELEASE a; COMMIT"),
        [
            (1, Change::Savepoint(name("a"))),
            (2, set("x.y", &["1"])),
            (3, Change::RollbackTo(name("A"))),
            (4, Change::Release(name("a"))),
        ]
    );
    assert_eq!(of("ROLLBACK; ROLLBACK AND CHAIN; ABORT"), []);
}

#[test]
fn channels_and_statements() {
    let name = |name: &str| name.as_bytes().into();
    // Names that are too long are cut, between two characters.
    assert_eq!(one(&format!("LISTEN {}", "X".repeat(70))), Change::Listen(name(&"x".repeat(63))));
    let long = format!("{}äö", "y".repeat(62));
    assert_eq!(one(&format!("DEALLOCATE \"{long}\"")), Change::Deallocate(name(&"y".repeat(62))));
    assert_eq!(one(&format!("SAVEPOINT U&\"{long}\"")), Change::Savepoint(name(&"y".repeat(62))));
    assert_eq!(one("LISTEN \"News\""), Change::Listen(name("News")));
    assert_eq!(one("LISTEN U&\"n\\0065ws\""), Change::Listen(name("news")));
    assert_eq!(one("LISTEN u&\"n!0065ws\" UESCAPE '!'"), Change::Listen(name("news")));
    assert_eq!(one("UNLISTEN news"), Change::Unlisten(name("news")));
    assert_eq!(one("UNLISTEN *"), Change::UnlistenAll);
    assert_eq!(one("DEALLOCATE PREPARE p"), Change::Deallocate(name("p")));
    assert_eq!(one("DEALLOCATE prepare"), Change::Deallocate(name("prepare")));
    assert_eq!(one("deallocate all"), Change::DeallocateAll);
    assert_eq!(
        one("/* x */ PREPARE p (int) AS SELECT $1 -- end"),
        Change::Prepare { name: name("p"), text: name("/* x */ PREPARE p (int) AS SELECT $1 -- end") }
    );
    let prepare = Change::Prepare { name: name("p"), text: name("PREPARE p AS SELECT 1") };
    assert_eq!(of("/* x */ PREPARE p AS SELECT 1 ; SELECT 2"), [(0, prepare)]);
    assert_eq!(of("PREPARE TRANSACTION 'x'"), []);
}
