//! Changes of the schema that leave alone what the catalog tells: temporary objects, indexes, names of nothing.

use super::*;
use crate::support::frames::Batch;

const ROUTING: &str = "catalog_interval = \"0\"\nconsistency = \"eventual\"\nmax_lag = \"0\"";

const SCHEMA: &str = "
    CREATE TABLE t (n int); CREATE VIEW v AS SELECT n FROM t; CREATE SEQUENCE s;
    CREATE FUNCTION f() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION bump() RETURNS int LANGUAGE sql AS 'INSERT INTO t VALUES (1) RETURNING n';
";

#[test]
fn what_is_temporary_puts_nothing_in_doubt() {
    let world = world_with(Plan { sql: SCHEMA, routing: ROUTING, ..Plan::default() });
    let mut console = console(&world);
    let mut client = world.client();
    for _ in 0..5 {
        for sql in [
            "CREATE TEMP TABLE own (n int)",
            "INSERT INTO own VALUES (1)",
            "CREATE INDEX own_n ON own (n)",
            "ALTER TABLE pg_temp.own ADD m int",
            "DROP INDEX own_n",
            "DROP TABLE own",
            "BEGIN",
            "CREATE TABLE pg_temp.other (n int) ON COMMIT DROP",
            "COMMIT",
            "DROP TABLE IF EXISTS other, \"not there\" CASCADE",
            "CREATE TEMP TABLE one AS SELECT f()",
            "CREATE TEMP VIEW two AS SELECT * FROM one",
            "DROP VIEW IF EXISTS pg_temp.two",
            "DROP TABLE public.one_more, one RESTRICT",
            "DROP TABLE one RESTRICT",
            "CREATE UNIQUE INDEX t_n ON t (n)",
            "DROP INDEX t_n",
        ] {
            let frames = client.exchange(&Batch::new().query(sql));
            // At once: a catalog in doubt is not read again before some milliseconds.
            assert_eq!(console.value("SELECT relied_on FROM catalog"), "yes", "{sql}: {frames:?}");
        }
    }
    is_read(&world, "SELECT f(), n FROM t, v");
}

#[test]
fn what_may_be_permanent_does() {
    let world = world_with(Plan { sql: SCHEMA, routing: ROUTING, ..Plan::default() });
    let mut client = world.client();
    let mut console = console(&world);
    let mut doubts = |sql: &str| {
        world.settle();
        client.rows(sql);
        let doubted = console.value("SELECT relied_on FROM catalog");
        assert_eq!(doubted, "no", "{sql}");
    };
    // A temporary table before another one: which of both is dropped the text does not tell.
    doubts("CREATE TEMP TABLE t (n int); DROP TABLE t");
    doubts("DROP VIEW v");
    doubts("DROP TABLE IF EXISTS own, t CASCADE");
    doubts("DROP SEQUENCE public.s");
    doubts("CREATE TABLE again (n int)");
    doubts("ALTER TABLE IF EXISTS nothing SET UNLOGGED");
    doubts("DROP FUNCTION f()");
    doubts("DROP TABLE again");
    world.settle();
    is_for_primary(&world, "SELECT f()", "unknown_function", "f");
}

#[test]
fn trap_91_what_is_temporary_changes_no_other_table() {
    let world = world_with(Plan { sql: SCHEMA, routing: ROUTING, ..Plan::default() });
    let writes = |sql: &str| touched(&world, sql).1;
    for sql in
        ["CREATE TEMP TABLE own (n int, at timestamptz DEFAULT now())", "DROP TABLE own", "CREATE INDEX ON t (n)"]
    {
        assert_eq!(writes(sql), "0", "{sql}: the catalogs only");
    }
    for sql in [
        "CREATE TEMP TABLE own AS SELECT bump()",
        "CREATE TEMP TABLE own AS EXECUTE p",
        "DROP TABLE t",
        "CREATE TABLE x (n int)",
    ] {
        assert_eq!(writes(sql), "all", "{sql}");
    }
    world.db.run(
        "CREATE FUNCTION audit() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO t VALUES (1); END';
         CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION audit()",
    );
    // Any change through Trunkline has the catalog read.
    world.client().rows("ALTER TABLE t ADD m int");
    world.settle();
    assert_eq!(writes("CREATE TEMP TABLE own (n int)"), "all", "who knows what the event trigger writes");
}
