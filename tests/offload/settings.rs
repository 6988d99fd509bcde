//! `SHOW` and `current_setting()` answered without a server.

use std::time::{Duration, Instant};

use super::support::raw::RawClient;
use super::support::world::{Plan, Step, World, ready};
use super::{SQL, batch, compare, script, told, world};

/// How many statements were answered without a server so far.
fn here(world: &World) -> u64 {
    let (_, body) = world.proxy.http("/metrics");
    let is = |line: &&str| {
        line.starts_with("trunkline_routing_decisions_total{")
            && line.contains("target=\"anywhere\"")
            && line.contains("setting_read")
    };
    body.lines().filter(is).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

/// The primary was asked how it begins transactions.
fn learned(world: &World) {
    let mut client = world.client();
    client.exchange(&batch().query("SHOW transaction_isolation"));
}

const SETTINGS: [&str; 7] = [
    "SET TimeZone = 'Asia/Tokyo'",
    "SET datestyle TO german",
    "SET NAMES 'latin1'",
    "SET application_name = 'it''s me'",
    "SET IntervalStyle = iso_8601",
    "SET standard_conforming_strings = off",
    "SET default_transaction_read_only = on",
];

const SHOWN: [&str; 20] = [
    "SHOW TimeZone",
    "SHOW TIME ZONE",
    "show timezone",
    "SHOW DateStyle",
    "SHOW client_encoding",
    "SHOW application_name",
    "SHOW IntervalStyle",
    "SHOW standard_conforming_strings",
    "SHOW server_version",
    "SHOW server_encoding",
    "SHOW integer_datetimes",
    "SHOW in_hot_standby",
    "SHOW TRANSACTION ISOLATION LEVEL",
    "SHOW transaction_isolation",
    "SHOW default_transaction_isolation",
    "SHOW transaction_read_only",
    "SHOW default_transaction_read_only",
    "SELECT current_setting('TimeZone')",
    "SELECT pg_catalog.current_setting('transaction_isolation')",
    "SELECT current_setting('DATESTYLE')",
];

#[test]
fn answers_are_the_servers_own_trap_11() {
    let world = world("");
    learned(&world);
    let mut sql: Vec<&str> = SETTINGS.to_vec();
    sql.extend(SHOWN);
    let before = here(&world);
    compare(&world, "as they were set", &script(&sql));
    assert_eq!(here(&world) - before, SHOWN.len() as u64);
    let changes = [
        "SHOW nonsense",
        "SHOW no.such",
        "SHOW ALL x",
        "SHOW work_mem",
        "SHOW search_path",
        "SELECT current_setting('nonsense')",
        "SELECT current_setting('nonsense', true)",
        "SHOW is_superuser",
        "SHOW SESSION AUTHORIZATION",
        "SET TimeZone = 'UTC'",
        "SHOW TimeZone",
        "BEGIN",
        "SET TimeZone = 'Asia/Tokyo'",
        "SHOW TimeZone",
        "ROLLBACK",
        "SHOW TimeZone",
        "BEGIN",
        "SET LOCAL TimeZone = 'Europe/Rome'",
        "SHOW TimeZone",
        "COMMIT",
        "SHOW TimeZone",
        "RESET TimeZone",
        "SHOW TimeZone",
        "BEGIN",
        "SHOW TimeZone",
        "SET TimeZone = 'Asia/Tokyo'",
        "SAVEPOINT a",
        "SET TimeZone = 'UTC'",
        "ROLLBACK TO a",
        "SHOW TimeZone",
        "COMMIT",
        "SHOW TimeZone",
        "SET TimeZone = 'nonsense'",
        "SHOW TimeZone",
        "DISCARD ALL",
        "SHOW TimeZone",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY",
        "SHOW transaction_isolation",
        "SHOW transaction_read_only",
        "BEGIN",
        "SHOW transaction_isolation",
        "SHOW transaction_read_only",
        "COMMIT",
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE",
        "SHOW transaction_isolation",
        "SHOW transaction_read_only",
        "SHOW default_transaction_isolation",
        "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
        "SHOW transaction_isolation",
        "SET TRANSACTION READ ONLY",
        "SHOW transaction_read_only",
        "SELECT current_setting('transaction_isolation')",
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SELECT 1",
        "ROLLBACK",
        "BEGIN",
        "SELECT 1/0",
        "SHOW transaction_isolation",
        "SHOW server_version",
        "ROLLBACK",
        "SHOW transaction_isolation",
        "RESET ALL",
        "SHOW transaction_isolation",
        "SHOW transaction_read_only",
        "SET default_transaction_isolation = 'read uncommitted'",
        "SHOW transaction_isolation",
        "SET ROLE none",
        "SHOW server_version; SHOW server_encoding",
        "/* trunkline: primary */ SHOW server_version",
        "SET search_path = public, pg_catalog",
        "SELECT current_setting('server_version')",
    ];
    compare(&world, "through changes", &script(&changes));
}

#[test]
fn the_extended_protocol_says_the_same_trap_39() {
    let world = world("");
    learned(&world);
    let level = "SHOW TRANSACTION ISOLATION LEVEL";
    let binary = |batch: super::Batch| batch.raw(b'B', b"\0\0\0\0\0\0\0\x01\0\x01");
    let steps = [
        ready(batch().query("SET TimeZone = 'UTC'")),
        ready(batch().run(level, &[]).sync()),
        ready(batch().parse("s", level, &[]).describe(b'S', "s").sync()),
        ready(batch().bind("", "s", &[]).describe(b'P', "").execute("", 0).sync()),
        ready(batch().bind("", "s", &[]).execute("", 0).close(b'S', "s").sync()),
        ready(batch().bind("", "s", &[]).execute("", 0).sync()),
        ready(binary(batch().parse("", "SHOW TimeZone", &[])).describe(b'P', "").execute("", 0).sync()),
        ready(batch().parse("", "SHOW TimeZone", &[]).bind("", "", &[]).execute("", 1).sync()),
        ready(batch().parse("", "SHOW TimeZone", &[]).raw(b'B', b"\0\0\0\0\0\0\0\x02\0\0\0\0").execute("", 0).sync()),
        ready(batch().parse("", "SHOW TimeZone", &[]).bind("", "", &[Some("1")]).execute("", 0).sync()),
        ready(batch().parse("", "SHOW TimeZone", &[]).bind("", "", &[]).execute("", 0).execute("", 0).sync()),
        ready(batch().run("SHOW TimeZone", &[]).run("SELECT 1", &[]).sync()),
        ready(batch().run("SELECT 1/0", &[]).run("SHOW TimeZone", &[]).sync()),
        Step::Ready(
            batch()
                .run("SHOW TimeZone", &[])
                .sync()
                .query("SELECT 2")
                .run("SHOW TimeZone", &[])
                .sync()
                .query("SHOW TimeZone"),
            4,
        ),
        Step::Frames(batch().parse("", "SHOW TimeZone", &[]).describe(b'S', "").flush(), 3),
        ready(batch().bind("", "", &[]).execute("", 0).sync()),
        ready(batch().run("BEGIN", &[]).sync()),
        ready(batch().run(level, &[]).sync()),
        ready(batch().run("SELECT current_setting('TimeZone')", &[]).sync()),
        ready(batch().run("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", &[]).sync()),
        ready(batch().run(level, &[]).sync()),
        ready(batch().run("ROLLBACK", &[]).sync()),
    ];
    let before = here(&world);
    compare(&world, "segments", &steps);
    assert!(here(&world) - before >= 8, "{}", here(&world) - before);
}

fn shows(client: &mut RawClient, sql: &str) -> String {
    told(&client.exchange(&batch().query(sql)))
}

#[test]
fn what_a_client_brings_along_is_known_and_no_server_is_asked() {
    let world = Plan { sql: SQL, pool: "size = 1\nwait_timeout = \"300ms\"", ..Plan::default() }.start();
    learned(&world);
    let parameters =
        [("TimeZone", "asia/tokyo"), ("client_encoding", "utf-8"), ("options", "-c intervalstyle=iso_8601")];
    let all = [&[("user", "app"), ("database", world.db.name.as_str())], &parameters[..]].concat();
    let mut direct =
        RawClient::connect_with(world.db.cluster().primary_port(), super::support::clusters::APP_PASSWORD, &all);
    let mut client = world.client_with(&parameters);
    let mut holder = world.client();
    holder.exchange(&batch().query("BEGIN; SELECT txid_current()"));
    for sql in [
        "SHOW timezone",
        "SHOW client_encoding",
        "SHOW IntervalStyle",
        "SHOW transaction_isolation",
        "SHOW in_hot_standby",
    ] {
        assert_eq!(shows(&mut client, sql), shows(&mut direct, sql), "{sql}");
    }
    assert_eq!(client.failure("SHOW work_mem"), "57014", "the only connection is taken");
}

#[test]
fn the_servers_own_defaults_are_asked_for_trap_25() {
    let world = Plan { sql: SQL, ..Plan::default() }.start();
    let alter = |what: &str| world.db.run(&format!("ALTER DATABASE {} SET {what}", world.db.name));
    alter("default_transaction_isolation = 'serializable'");
    alter("default_transaction_read_only = on");
    let mut client = world.client();
    let deadline = Instant::now() + Duration::from_secs(10);
    let before = here(&world);
    while here(&world) == before {
        assert_eq!(client.value("SHOW transaction_isolation"), "serializable");
        assert!(Instant::now() < deadline, "never answered here");
    }
    assert_eq!(client.value("SHOW transaction_read_only"), "on");
    assert_eq!(client.value("SHOW default_transaction_read_only"), "on");
    client.exchange(&batch().query("SET default_transaction_read_only = off"));
    assert_eq!(client.value("SHOW transaction_read_only"), "off");
    client.exchange(&batch().query("SET default_transaction_isolation = 'repeatable read'"));
    assert_eq!(client.value("SHOW transaction_isolation"), "repeatable read");
}
