//! What calls functions without a call in the text: casts, operators, domains, stars; and what cannot be known.

use super::*;
use crate::support::frames::{Batch, tags};

const PAIRS: &str = "
    CREATE SCHEMA other; CREATE TYPE other.pair AS (a int, b int); CREATE TABLE t (n int);
    CREATE FUNCTION to_pair(int) RETURNS other.pair LANGUAGE sql AS 'SELECT ROW($1, $1)::other.pair';
    CREATE FUNCTION other.same(other.pair, other.pair) RETURNS bool LANGUAGE sql AS 'SELECT true';
";

#[test]
fn trap_3_an_implicit_cast_that_is_volatile_keeps_everything_on_the_primary() {
    let sql = format!("{PAIRS} CREATE CAST (int AS other.pair) WITH FUNCTION to_pair(int) AS IMPLICIT;");
    let world = world(&sql);
    is_for_primary(&world, "SELECT n FROM t", "volatile_function", "cast to pair: function public.to_pair(integer)");
    assert!(world.proxy.log().contains("a cast that is not written calls a volatile function"));
    for sql in ["SET search_path = other", "RESET ALL", "SHOW work_mem", "BEGIN", "COMMIT", "LISTEN a", "SAVEPOINT a"] {
        assert_eq!(touched(&world, sql).1, "", "{sql}: there is nothing to cast");
    }
    let harmless = "read_only_functions = [\"public.to_pair\"]";
    let world = world_with(Plan { sql: &sql, routing: harmless, ..Plan::default() });
    is_read(&world, "SELECT n FROM t");
}

#[test]
fn trap_3_operators_of_other_schemas() {
    let world = world(&format!(
        "{PAIRS} CREATE OPERATOR other.@= (LEFTARG = other.pair, RIGHTARG = other.pair, FUNCTION = other.same);
         CREATE OPERATOR public.@# (RIGHTARG = int, FUNCTION = to_pair);"
    ));
    is_for_primary(&world, "SELECT a.x @= a.y FROM a", "volatile_function", "operator @=");
    is_for_primary(&world, "SELECT a.x OPERATOR(other.@=) a.y FROM a", "volatile_function", "operator @=");
    is_for_primary(&world, "SELECT @# 1", "volatile_function", "operator @#");
    is_for_primary(&world, "SELECT @#1", "volatile_function", "operator @#");
    is_read(&world, "SELECT n = 1, n @> 2 FROM t");
    // One that sorting and IN use needs no sign in the text.
    world.client().rows("CREATE OPERATOR other.= (LEFTARG = other.pair, RIGHTARG = other.pair, FUNCTION = other.same)");
    world.settle();
    is_for_primary(&world, "SELECT n FROM t", "volatile_function", "operator =");
}

#[test]
fn traps_3_and_11_stars_stand_for_what_the_relation_has() {
    let world = world(
        "CREATE TABLE t (n int); CREATE FUNCTION bump(int) RETURNS int LANGUAGE sql AS 'INSERT INTO t VALUES ($1) RETURNING n';
         CREATE VIEW seen AS SELECT n, bump(n) AS b FROM t; CREATE VIEW settings AS SELECT * FROM pg_settings;
         CREATE FUNCTION rows() RETURNS SETOF t LANGUAGE sql AS 'SELECT * FROM t';",
    );
    for sql in [
        "SELECT * FROM seen",
        "SELECT s.* FROM t, seen AS s",
        "TABLE seen",
        "SELECT count(*) FROM seen",
        "COPY seen TO STDOUT",
    ] {
        is_for_primary(&world, sql, "volatile_function", "view public.seen: function public.bump(integer)");
    }
    for sql in ["SELECT * FROM rows()", "SELECT (r).* FROM (SELECT rows() AS r) AS q", "SELECT (rows()).*"] {
        is_for_primary(&world, sql, "volatile_function", "function public.rows()");
    }
    for sql in
        ["SELECT * FROM pg_settings", "SELECT * FROM pg_catalog.pg_stat_activity", "SELECT x.* FROM pg_locks AS x"]
    {
        is_for_primary(&world, sql, "node_state", "relation pg_");
    }
    is_for_primary(&world, "SELECT * FROM settings", "node_state", "view public.settings: relation pg_settings");
    for sql in [
        "SELECT * FROM pg_class",
        "SELECT * FROM information_schema.columns",
        "SELECT t.* FROM t",
        "SELECT * FROM pg_views",
    ] {
        is_read(&world, sql);
    }
}

/// What is behind a foreign table may change at any time, and reading it may do anything there: only the primary reads it.
#[test]
fn traps_16_and_91_foreign_tables_are_the_primarys() {
    let world = world("CREATE TABLE t (n int); CREATE TABLE parts (version text) PARTITION BY LIST (version)");
    world.db.run(
        "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
         CREATE FOREIGN TABLE far (version text) SERVER files OPTIONS (filename 'PG_VERSION');
         CREATE FOREIGN TABLE far_part PARTITION OF parts FOR VALUES IN ('x') SERVER files OPTIONS (filename 'PG_VERSION');
         CREATE VIEW near AS SELECT * FROM far; GRANT SELECT ON far, near TO app",
    );
    // A change of the schema through Trunkline has it read at once.
    world.client().rows("CREATE TABLE another (n int)");
    world.settle();
    is_for_primary(&world, "SELECT * FROM far", "relation", "foreign table public.far");
    is_for_primary(&world, "SELECT * FROM t, near", "relation", "view public.near: foreign table public.far");
    is_for_primary(&world, "SELECT * FROM parts", "relation", "foreign table public.far_part");
    assert_eq!(touched(&world, "SELECT * FROM near").0, "all", "its contents change without our knowing");
    assert_eq!(touched(&world, "INSERT INTO far VALUES (1)").1, "all");
    assert!(!world.client().value("SELECT version FROM near").is_empty());
    is_read(&world, "SELECT * FROM t");
}

const DOMAINS: &str = "
    CREATE FUNCTION on_primary(int) RETURNS bool LANGUAGE sql AS 'SELECT NOT pg_is_in_recovery()';
    CREATE DOMAIN fussy AS int CHECK (on_primary(VALUE)); CREATE DOMAIN fussier AS fussy;
    CREATE DOMAIN easy AS int CHECK (VALUE > 0);
    CREATE TYPE holder AS (n fussy); CREATE TABLE rows_of (n fussy); CREATE TYPE easy_holder AS (n easy);
    CREATE FUNCTION takes(fussy) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION takes_all(text, VARIADIC holder[]) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION takes_easy(easy) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION equal(int, fussy) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT true';
    CREATE OPERATOR @@@ (LEFTARG = int, RIGHTARG = fussy, FUNCTION = equal);
    CREATE TABLE t (n int);
";

const EVENTUAL: &str = "consistency = \"eventual\"\nmax_lag = \"0\"";

#[test]
fn trap_3_a_domains_check_is_run_wherever_a_value_becomes_one() {
    let world = world_with(Plan { sql: DOMAINS, routing: EVENTUAL, ..Plan::default() });
    let mut client = world.client();
    for sql in [
        "SELECT 1::fussy",
        "SELECT 1::fussier",
        "SELECT '{1}'::fussy[]",
        "SELECT '{1}'::_fussy",
        "SELECT '(1)'::holder",
        "SELECT CAST('(1)' AS rows_of)",
        "SELECT '(1)'::public.rows_of",
        "SELECT rows_of '(1)'",
        "SELECT json_populate_record(NULL::rows_of, '{\"n\":1}')",
        "SELECT count(json_populate_record(r, '{\"n\":1}')) FROM rows_of AS r",
        "SELECT takes(1)",
        "SELECT takes('1')",
        "SELECT takes_all('x', '(1)', '(2)')",
        "SELECT 1 @@@ '1'",
        "SELECT * FROM json_to_record('{\"n\":1}') AS x (n fussy)",
        "SELECT * FROM json_to_record('{\"r\":{\"n\":1}}') AS x (n int, r rows_of)",
        "SELECT * FROM json_to_record('{\"r\":{\"n\":1}}') AS x (r public.rows_of, n int)",
    ] {
        is_for_primary(&world, sql, "volatile_function", "domain");
        client.rows(sql);
    }
    for sql in [
        "SELECT 1::easy",
        "SELECT '(1)'::easy_holder",
        "SELECT takes_easy(1)",
        "SELECT * FROM rows_of",
        "SELECT n FROM rows_of",
        "SELECT count(*) FROM (SELECT * FROM rows_of) AS a, (TABLE rows_of) AS b WHERE EXISTS (SELECT FROM ONLY rows_of)",
    ] {
        is_read(&world, sql);
    }
}

#[test]
fn trap_3_a_parameter_may_be_of_such_a_domain() {
    let world = world_with(Plan { sql: DOMAINS, routing: EVENTUAL, ..Plan::default() });
    let oid = |name: &str| world.db.run(&format!("SELECT '{name}'::regtype::oid")).parse::<u32>().unwrap();
    let mut client = world.client();
    let run = |client: &mut RawClient, oid: u32, value: &str| {
        let batch = Batch::new().parse("", "SELECT $1", &[oid]).bind("", "", &[Some(value)]).execute("", 0).sync();
        let frames = client.exchange(&batch);
        assert_eq!(tags(&frames), "12DCZ", "{frames:?}");
    };
    let [fussy, array, row] = ["fussy", "fussy[]", "rows_of"].map(oid);
    let kept = client.exchange(&Batch::new().parse("kept", "SELECT $1", &[fussy]).sync());
    assert_eq!(tags(&kept), "1Z");
    client.rows("PREPARE by_sql (fussier) AS SELECT $1");
    for turn in 0..4 {
        // On a replica the check fails.
        run(&mut client, fussy, "7");
        run(&mut client, array, "{7,8}");
        run(&mut client, row, "(7)");
        run(&mut world.client(), fussy, "7");
        let frames = client.exchange(&Batch::new().bind("", "kept", &[Some("7")]).execute("", 0).sync());
        assert_eq!(tags(&frames), "2DCZ", "{frames:?}");
        assert_eq!(client.value("EXECUTE by_sql (7)"), "7");
        assert_eq!(client.value("SELECT 7::fussy"), "7");
        // While the catalog is being read again, what was known holds.
        client.rows(&format!("CREATE TABLE another{turn} (n int)"));
    }
    world.settle();
    is_read(&world, "SELECT $1");
    assert_eq!(world.counter("trunkline_reruns_total", &[]), 0.0, "{}", world.proxy.log());
}

#[test]
fn a_catalog_that_may_not_be_read_is_not_relied_on() {
    let sql = "CREATE FUNCTION f() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1'";
    let world = world_with(Plan { sql, routing: "catalog_interval = \"50ms\"", ..Plan::default() });
    is_read(&world, "SELECT f()");
    let until = |sql: &str, reason: &str| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while route(&world, sql).1 != reason {
            assert!(Instant::now() < deadline, "{sql}: {:?}: {}", route(&world, sql), world.proxy.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    world.db.run("REVOKE SELECT ON pg_catalog.pg_proc FROM PUBLIC");
    until("SELECT f()", "unknown_function");
    assert!(standing(&world, "error").contains("permission denied"), "{}", standing(&world, "error"));
    assert_eq!(standing(&world, "relied_on"), "no");
    let told = || world.proxy.log().matches("the catalog cannot be read").count();
    assert_eq!(told(), 1, "once, not at each attempt: {}", world.proxy.log());
    assert!(world.proxy.log().contains("functions that are not PostgreSQL's own go to the primary"));
    world.db.run("GRANT SELECT ON pg_catalog.pg_proc TO PUBLIC");
    until("SELECT f()", "read");
    assert_eq!(told(), 1);
}
