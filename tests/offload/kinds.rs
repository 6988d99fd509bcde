//! Cursors, COPY and EXPLAIN on replicas.

use super::support::frames::tags;
use super::{batch, compare, on_replicas, script, world};

#[test]
fn cursors_of_read_only_blocks_live_on_replicas_trap_41() {
    let world = world("");
    let sql = [
        "BEGIN READ ONLY",
        "DECLARE c SCROLL CURSOR FOR SELECT id FROM t ORDER BY 1",
        "FETCH 2 FROM c",
        "MOVE 1 IN c",
        "FETCH PRIOR FROM c",
        "FETCH ALL FROM c",
        "FETCH c",
        "CLOSE c",
        "FETCH c",
        "ROLLBACK",
        "FETCH c",
    ];
    compare(&world, "a cursor", &script(&sql));
    let before = on_replicas(&world);
    let mut client = world.client();
    for statement in &sql[..5] {
        client.exchange(&batch().query(statement));
    }
    assert_eq!(client.value("SELECT pg_is_in_recovery()"), "t");
    assert!(on_replicas(&world) > before);
}

#[test]
fn held_cursors_are_on_the_primary_trap_58() {
    let world = world("");
    compare(
        &world,
        "WITH HOLD",
        &script(&[
            "BEGIN READ ONLY",
            "DECLARE c CURSOR WITH HOLD FOR SELECT id FROM t ORDER BY 1",
            "FETCH c",
            "COMMIT",
            "FETCH c",
            "SELECT 1",
            "FETCH c",
            "CLOSE c",
            "DECLARE d CURSOR WITH HOLD FOR SELECT id FROM t ORDER BY 1",
            "FETCH d",
            "CLOSE ALL",
            "DECLARE e CURSOR FOR SELECT 1",
        ]),
    );
    let mut client = world.client();
    client.exchange(&batch().query("BEGIN READ ONLY"));
    client.exchange(&batch().query("DECLARE c CURSOR WITH HOLD FOR SELECT 1"));
    assert_eq!(client.value("SELECT pg_is_in_recovery()"), "f");
}

#[test]
fn copy_out_runs_on_replicas_trap_9_16() {
    let world = world("");
    world.db.run("INSERT INTO u VALUES (7); INSERT INTO w VALUES (3)");
    world.db.run(
        "CREATE FUNCTION bump() RETURNS int LANGUAGE plpgsql AS \
         $$ BEGIN INSERT INTO w VALUES (9); RETURN 1; END $$",
    );
    compare(
        &world,
        "COPY TO",
        &script(&[
            "COPY t TO STDOUT",
            "COPY public.t (id) TO STDOUT WITH (FORMAT csv, HEADER)",
            "COPY (SELECT id, v FROM t WHERE id < 4 ORDER BY 1) TO STDOUT (FORMAT binary)",
            "COPY (SELECT 1/0) TO STDOUT",
            "COPY nowhere TO STDOUT",
            "COPY (SELECT bump()) TO STDOUT",
            "COPY (INSERT INTO w VALUES (4) RETURNING n) TO STDOUT",
            "COPY (SELECT id FROM t FOR UPDATE) TO STDOUT",
            "DELETE FROM w WHERE n IN (4, 9)",
        ]),
    );
    world.settle();
    let mut client = world.client();
    for (sql, places) in [
        ("COPY t TO STDOUT", 1),
        ("COPY (SELECT count(*) FROM t) TO STDOUT", 1),
        ("COPY (SELECT bump()) TO STDOUT", 0),
        ("COPY (SELECT nextval('none')) TO STDOUT", 0),
        ("COPY (DELETE FROM w RETURNING n) TO STDOUT", 0),
        ("COPY t TO PROGRAM 'cat'", 0),
    ] {
        let mut fresh = world.client();
        let before = on_replicas(&world);
        fresh.exchange(&batch().query(sql));
        assert_eq!(on_replicas(&world) - before, places, "{sql}");
    }
    // By the extended protocol, too.
    let before = on_replicas(&world);
    assert_eq!(tags(&client.exchange(&batch().run("COPY (SELECT 1) TO STDOUT", &[]).sync())), "12nHdcCZ");
    assert_eq!(on_replicas(&world) - before, 1);
}

#[test]
fn explain_runs_where_what_it_explains_would_trap_8() {
    let world = world("");
    for (sql, places) in [
        ("EXPLAIN SELECT * FROM t", 1),
        ("EXPLAIN (COSTS off, VERBOSE) SELECT * FROM t", 1),
        ("EXPLAIN ANALYZE SELECT count(*) FROM t", 1),
        ("EXPLAIN (ANALYZE, BUFFERS) WITH a AS (SELECT 1) SELECT * FROM a", 1),
        ("EXPLAIN INSERT INTO w VALUES (1)", 0),
        ("EXPLAIN ANALYZE DELETE FROM w", 0),
        ("EXPLAIN ANALYZE WITH a AS (DELETE FROM w RETURNING n) SELECT * FROM a", 0),
        ("EXPLAIN SELECT * FROM t FOR UPDATE", 0),
        ("EXPLAIN ANALYZE SELECT nextval('none')", 0),
        ("EXPLAIN (ANALYZE) CREATE TABLE x AS SELECT 1", 0),
    ] {
        let mut client = world.client();
        let before = on_replicas(&world);
        client.exchange(&batch().query(sql));
        assert_eq!(on_replicas(&world) - before, places, "{sql}");
    }
}
