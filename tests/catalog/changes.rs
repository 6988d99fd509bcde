//! Changes of the schema, through Trunkline and past it.

use super::*;
use crate::support::frames::{Batch, tags};

/// Waits until a statement is judged so.
fn until(world: &World, sql: &str, target: &str) {
    let began = Instant::now();
    loop {
        let (found, reason, told) = route(world, sql);
        if found == target && reason != "catalog_pending" {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{sql}: {found} {reason}: {told}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_passes_through_is_noticed_before_it_is_answered() {
    let world = world_with(Plan {
        sql: "CREATE TABLE t (n int); CREATE FUNCTION f() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1'",
        routing: "catalog_interval = \"0\"\nconsistency = \"eventual\"",
        ..Plan::default()
    });
    let mut client = world.client();
    is_read(&world, "SELECT f()");
    for turn in 0..5 {
        assert_eq!(client.value("SELECT f()"), "1");
        client.rows("CREATE OR REPLACE FUNCTION f() RETURNS int VOLATILE LANGUAGE sql AS 'INSERT INTO t VALUES (1) RETURNING 2'");
        // At once, on this session and on others.
        assert_ne!(route(&world, "SELECT f()").0, "replica");
        assert_eq!(client.value("SELECT f()"), "2");
        assert_eq!(world.client().value("SELECT f()"), "2");
        until(&world, "SELECT f()", "primary");
        // In a block: at its end.
        client.rows("BEGIN");
        client.rows("CREATE OR REPLACE FUNCTION f() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1'");
        client.rows(if turn % 2 == 0 { "COMMIT" } else { "END" });
        until(&world, "SELECT f()", "replica");
        world.db.wait_replayed();
    }
    // Unlogged from one statement to the next.
    client.rows("ALTER TABLE t SET UNLOGGED");
    assert!(client.value("SELECT count(*) FROM t").parse::<u32>().unwrap() >= 10);
    // Other schemas' worth of nothing: what is known stays as it is.
    until(&world, "SELECT * FROM t", "primary");
    let version = standing(&world, "version");
    client.rows("CREATE TEMP TABLE own (n int)");
    client.rows("DROP TABLE own");
    client.rows("BEGIN");
    client.rows("CREATE TABLE never (n int)");
    client.rows("ROLLBACK");
    until(&world, "SELECT f()", "replica");
    assert_eq!(standing(&world, "version"), version);
    assert_eq!(standing(&world, "error"), "NULL");
}

#[test]
fn what_goes_past_is_noticed_by_the_next_look() {
    let world = world_with(Plan {
        sql: "CREATE TABLE t (n int); CREATE FUNCTION f() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1'",
        routing: "catalog_interval = \"100ms\"",
        ..Plan::default()
    });
    is_read(&world, "SELECT f()");
    world.db.run("ALTER FUNCTION f() VOLATILE");
    until(&world, "SELECT f()", "primary");
    world.db.run("ALTER FUNCTION f() STABLE");
    until(&world, "SELECT f()", "replica");
    is_read(&world, "SELECT * FROM t");
    world.db.run("ALTER TABLE t SET UNLOGGED");
    until(&world, "SELECT * FROM t", "primary");
    world.db.run("CREATE OR REPLACE VIEW v AS SELECT n FROM t");
    until(&world, "SELECT * FROM v", "primary");
}

#[test]
fn trap_31_what_is_prepared_is_decided_anew() {
    let world = world_with(Plan {
        sql: "CREATE TABLE t (n int); CREATE FUNCTION f() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1'",
        routing: "consistency = \"eventual\"",
        ..Plan::default()
    });
    let mut client = world.client();
    client.rows("PREPARE by_sql AS SELECT f()");
    assert_eq!(tags(&client.exchange(&Batch::new().parse("s", "SELECT f()", &[]).sync())), "1Z");
    let run = |client: &mut RawClient| {
        let frames = client.exchange(&Batch::new().bind("", "s", &[]).execute("", 0).sync());
        assert_eq!(tags(&frames), "2DCZ", "{frames:?}");
        frames[1].columns()[0].clone().unwrap()
    };
    assert_eq!(run(&mut client), "1");
    assert_eq!(client.value("EXECUTE by_sql"), "1");
    world.client().rows(
        "CREATE OR REPLACE FUNCTION f() RETURNS int VOLATILE LANGUAGE sql AS 'INSERT INTO t VALUES (1) RETURNING 2'",
    );
    // A replica would refuse it.
    assert_eq!(run(&mut client), "2");
    assert_eq!(client.value("EXECUTE by_sql"), "2");
    until(&world, "SELECT f()", "primary");
    assert_eq!(run(&mut client), "2");
    assert_eq!(client.value("EXECUTE by_sql"), "2");
}
