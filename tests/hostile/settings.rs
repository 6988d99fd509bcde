//! What is put into settings, names and hints, in the hope that somebody takes it for something else.

use crate::support::clusters::{APP, APP_PASSWORD};
use crate::support::frames::Batch;
use crate::support::raw::RawClient;
use crate::support::world::{Plan, World};
use crate::unharmed;

const EVIL: [&str; 8] = [
    "x'; DROP TABLE t; --",
    "x\\'; DROP TABLE t; --",
    "x\"; DROP TABLE t; --",
    "'', false); DROP TABLE t; SELECT set_config('a.b', '",
    "$$; DROP TABLE t; $$",
    "*/ DROP TABLE t /*",
    "x\n; DROP TABLE t",
    "\u{fc}\\",
];

fn world() -> World {
    Plan { sql: "CREATE TABLE t (n int)", pool: "size = 1", primary_only: true, ..Plan::default() }.start()
}

/// Logs in with one more startup parameter: the value that the session then has, or the SQLSTATE.
fn outcome(port: u16, world: &World, name: &str, value: &str, show: &str) -> String {
    let mut client = RawClient::tcp(port);
    match client.login(APP_PASSWORD, &[("user", APP), ("database", &world.db.name), (name, value)]) {
        Ok(()) => client.value(&format!("SELECT current_setting('{show}') /* for update */")),
        Err(error) => error.sqlstate(),
    }
}

#[test]
fn trap_55_settings_are_values_and_nothing_else() {
    let world = world();
    let mut bystander = world.client();
    let (proxy, server) = (world.proxy.port(), world.db.cluster().primary_port());
    for evil in EVIL {
        for name in ["application_name", "app.x", "search_path", "work_mem", "role", "DateStyle", "TimeZone"] {
            let (through, direct) =
                (outcome(proxy, &world, name, evil, name), outcome(server, &world, name, evil, name));
            assert_eq!(through, direct, "{name} = {evil}");
        }
        // As a name, too.
        let through = outcome(proxy, &world, &format!("app.{evil}"), "x", "application_name");
        let direct = outcome(server, &world, &format!("app.{evil}"), "x", "application_name");
        assert_eq!(through, direct, "a setting named app.{evil}");
        // Said by statements, and put back on another connection's turn.
        let mut client = world.client();
        let quoted = evil.replace('\\', "\\\\").replace('\'', "''");
        client.rows(&format!("SET application_name TO E'{quoted}'"));
        client.rows(&format!("SELECT set_config('app.x', E'{quoted}', false)"));
        bystander.rows("SELECT 1 FOR UPDATE");
        assert_eq!(client.value("SELECT current_setting('app.x')"), evil);
        assert_eq!(
            client.value("SELECT count(*) FROM t FOR UPDATE OF t".replace(" FOR UPDATE OF t", "").as_str()),
            "0"
        );
    }
    assert_eq!(world.db.run("SELECT count(*) FROM pg_class WHERE relname = 't'"), "1");
    unharmed(&world, &mut bystander);
}

#[test]
fn hints_are_read_where_they_are_meant_and_give_nobody_more_rights() {
    let world = Plan { sql: "CREATE TABLE t (n int)", ..Plan::default() }.start();
    let mut bystander = world.client();
    let mut client = world.client();
    for sql in [
        "/* trunkline: replica */ INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (1) -- trunkline: replica",
        "/* trunkline: replica */ WITH w AS (INSERT INTO t VALUES (1) RETURNING n) SELECT n FROM w",
        "/* trunkline: replica */ SELECT 1; INSERT INTO t VALUES (1)",
        "INSERT INTO t SELECT 1 WHERE '/* trunkline: replica */' <> $$-- trunkline: replica$$",
    ] {
        let frames = client.exchange(&Batch::new().query(sql));
        assert!(frames.iter().all(|frame| frame.tag != b'E'), "{sql}: {frames:?}");
        let frames = client.exchange(&Batch::new().run(sql.split("; INSERT").next().unwrap(), &[]).sync());
        assert!(frames.iter().all(|frame| frame.tag != b'E'), "{sql}: {frames:?}");
    }
    assert_eq!(world.db.run("SELECT count(*) FROM t"), "9");
    for hint in [
        "trunkline: node=primary2",
        "trunkline: consistency=none",
        "trunkline: primary replica",
        "trunkline:",
        "trunkline: \u{0}",
    ] {
        let hint = hint.replace('\0', "");
        assert_eq!(client.value(&format!("/* {hint} */ SELECT 1")), "1", "{hint}");
    }
    // A setting of ours with nonsense in it is refused, and the session goes on.
    for sql in [
        "SET trunkline.route TO 'x''; DROP TABLE t'",
        "SET trunkline.nothing TO 1",
        "SET trunkline.consistency TO DEFAULT",
    ] {
        let _ = client.exchange(&Batch::new().query(sql));
        assert_eq!(client.value("SELECT 1"), "1", "{sql}");
    }
    unharmed(&world, &mut bystander);
}

#[test]
fn nobody_writes_lines_into_the_log() {
    let world = Plan { tables: "[log]\nlevel = \"debug\"", ..Plan::default() }.start();
    let mut bystander = world.client();
    let forged = "x\n2026-01-01T00:00:00Z  INFO trunkline: forged\r\n\u{1b}[31mred\u{1b}[0m";
    for parameters in [
        vec![("user", forged), ("database", world.db.name.as_str())],
        vec![("user", APP), ("database", forged)],
        vec![("user", APP), ("database", world.db.name.as_str()), ("application_name", forged)],
        vec![("user", APP), ("database", world.db.name.as_str()), ("replication", forged)],
        vec![("user", APP), ("database", world.db.name.as_str()), ("options", forged)],
    ] {
        let _ = RawClient::tcp(world.proxy.port()).login(APP_PASSWORD, &parameters);
    }
    let mut client = world.client();
    let _ = client.exchange(&Batch::new().query(&format!("SELECT \"{forged}\" FROM nowhere")));
    let _ = client.exchange(&Batch::new().query(&format!("SET search_path TO \"{forged}\"; LISTEN \"{}\"", "a\nb")));
    unharmed(&world, &mut bystander);
    let log = world.proxy.log();
    for line in log.lines() {
        assert!(!line.starts_with("2026-01-01") && !line.contains('\u{1b}'), "{line:?}");
    }
}

/// Citus takes whoever has such a name for one of its own nodes: shards are tables for it, and distributed tables are not.
#[test]
fn nobody_poses_as_a_node_of_citus() {
    let pools = [("", "22023"), ("mode = \"session\"", "let in")];
    for (pool, expected) in pools {
        let world = Plan { pool, ..Plan::default() }.start();
        let log_in = |more: (&str, &str)| {
            let parameters = [("user", APP), ("database", world.db.name.as_str()), more];
            match RawClient::tcp(world.proxy.port()).login(APP_PASSWORD, &parameters) {
                Ok(()) => "let in".to_owned(),
                Err(error) => error.sqlstate(),
            }
        };
        for name in ["citus_internal gpid=10000000001", "citus_rebalancer gpid=1", "citus_run_command gpid=0"] {
            assert_eq!(log_in(("application_name", name)), expected, "{name}");
            assert_eq!(
                log_in(("options", &format!("-c application_name={}", name.replace(' ', "\\ ")))),
                expected,
                "{name}"
            );
        }
        assert_eq!(log_in(("application_name", "citus_exporter")), "let in");
        unharmed(&world, &mut world.client());
    }
}
