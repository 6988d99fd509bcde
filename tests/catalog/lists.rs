//! What the configuration lists: functions and statements, by where they really run.

use super::*;
use crate::support::frames::{Batch, tags};

#[test]
fn lists_come_before_the_catalog() {
    let world = world_with(Plan {
        sql: "CREATE TABLE t (n int); CREATE FUNCTION seen() RETURNS int LANGUAGE sql AS 'SELECT 1';
              CREATE FUNCTION kept() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
              CREATE VIEW v AS SELECT seen(); CREATE VIEW w AS SELECT kept();",
        routing: "read_only_functions = [\"public.seen\"]\nprimary_functions = [\"kept\"]\nprimary_statements = [\"select * from t where *\"]",
        ..Plan::default()
    });
    is_read(&world, "SELECT public.seen()");
    is_read(&world, "SELECT * FROM v");
    is_for_primary(&world, "SELECT kept()", "listed_function", "kept");
    is_for_primary(&world, "SELECT * FROM w", "listed_function", "view public.w: function public.kept");
    is_for_primary(&world, "Select * from t where n = 5", "listed_statement", "select * from t where *");
    is_read(&world, "SELECT * FROM t");
}

const SCHEMA: &str = "
    CREATE TABLE t (n int); CREATE UNLOGGED TABLE quick (n int); CREATE SEQUENCE s; INSERT INTO t VALUES (1);
    CREATE FUNCTION on_replica() RETURNS bool LANGUAGE sql AS 'SELECT pg_is_in_recovery()';
    CREATE FUNCTION kept() RETURNS bool LANGUAGE sql AS 'SELECT pg_is_in_recovery()';
    CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'INSERT INTO t VALUES (2) RETURNING n';
";

const LISTS: &str = "
    consistency = \"eventual\"
    max_lag = \"0\"
    primary_functions = [\"kept\"]
    read_only_statements = [\"select  on_replica()*\", \"SELECT writes()\", \"with x as (*\", \"*kept()*\", \"* audited where n=?\"]
    primary_statements = [\"select on_replica() as forced\"]
";

#[test]
fn a_listed_statement_reads_whatever_it_calls() {
    let world = world_with(Plan { sql: SCHEMA, routing: LISTS, ..Plan::default() });
    let mut client = world.client();
    let listed = "select   On_Replica( ), 5 -- and so on";
    assert_eq!(route(&world, listed).1, "listed_read");
    assert!(route(&world, listed).2.contains("`select on_replica()*`"), "{:?}", route(&world, listed));
    assert_eq!(client.value(listed), "t");
    assert_eq!(client.value("SELECT on_replica() FROM t"), "t");
    // Neither a part of it, nor another statement.
    assert_eq!(client.value("SELECT 1, on_replica()").as_str(), "1");
    is_for_primary(&world, "SELECT 1, on_replica()", "volatile_function", "on_replica");
    // Prepared, by the protocol and by SQL.
    let frames = client.exchange(&Batch::new().run("SELECT on_replica() WHERE 1 = $1", &[Some("1")]).sync());
    assert_eq!(tags(&frames), "12TDCZ");
    assert_eq!(frames[3].columns()[0].as_deref(), Some("t"));
    // Some patterns are no spelling of a statement's own, and are taken for it all the same.
    is_read(&world, "WITH x AS (SELECT on_replica()) SELECT * FROM x");
    assert_eq!(route(&world, "SELECT writes() FROM audited WHERE n=5").1, "listed_read");
    // What the primary's lists name stays there, whatever else is listed.
    is_for_primary(&world, "SELECT on_replica() AS forced", "listed_statement", "as forced");
    assert_eq!(client.value("SELECT on_replica() AS forced"), "f");
    is_for_primary(&world, "SELECT kept()", "listed_function", "kept");
    assert_eq!(client.value("SELECT kept()"), "f");
}

#[test]
fn no_list_lets_a_certain_write_go_to_a_replica() {
    let world = world_with(Plan { sql: SCHEMA, routing: LISTS, ..Plan::default() });
    let mut client = world.client();
    // Traps 1, 4, 5, 6 and 7: what is certain is certain.
    for (sql, reason) in [
        ("WITH x AS (INSERT INTO t VALUES (3) RETURNING n) SELECT n, on_replica() FROM x", "write"),
        ("WITH x AS (DELETE FROM t WHERE n = 3 RETURNING n) SELECT n FROM x", "write"),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", "write"),
        ("SELECT on_replica() FROM t FOR UPDATE", "locking_clause"),
        ("SELECT on_replica(), nextval('s')", "sequence"),
        ("SELECT on_replica(), pg_advisory_xact_lock(1)", "advisory_lock"),
        ("SELECT on_replica() INTO made", "select_into"),
        ("SELECT on_replica(), set_config('a.b', 'c', false)", "volatile_function"),
        ("SELECT on_replica() FROM quick", "relation"),
        ("SELECT on_replica() FROM (SELECT * FROM quick) AS q", "relation"),
        ("SELECT on_replica() FROM pg_temp.own", "volatile_function"),
    ] {
        is_for_primary(&world, sql, reason, "");
    }
    assert_eq!(client.value("WITH x AS (INSERT INTO t VALUES (3) RETURNING n) SELECT n FROM x"), "3");
    let frames = client.exchange(&Batch::new().query("SELECT on_replica(); INSERT INTO t VALUES (4)"));
    assert_eq!(frames[1].columns()[0].as_deref(), Some("f"), "{frames:?}");
    assert_eq!(world.db.run("SELECT count(*) FROM t WHERE n = 4"), "1");
    // A pattern that was wrong is found out by the replica, which has changed nothing.
    assert_eq!(route(&world, "SELECT writes()").1, "listed_read");
    assert_eq!(client.value("SELECT writes()"), "2");
    is_for_primary(&world, "SELECT writes()", "learned", "");
    assert_eq!(client.value("SELECT writes()"), "2");
    assert_eq!(world.db.run("SELECT count(*) FROM t WHERE n = 2"), "2");
}
