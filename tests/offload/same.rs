//! Blocks that are read on replicas say, message for message, what they say on one server.

use super::support::world::{Step, ready};
use super::{batch, compare, script, until_write};

#[test]
fn blocks_say_the_same_trap_21_22_24_26_27() {
    let world = until_write();
    for (what, sql) in [
        ("only reads", &["BEGIN", "SELECT id FROM t ORDER BY 1", "SELECT 2", "COMMIT", "SELECT 3"][..]),
        ("rolled back", &["BEGIN", "SELECT 1", "ROLLBACK", "START TRANSACTION", "SELECT 1", "END", "COMMIT"]),
        (
            "until a write",
            &["BEGIN", "SELECT v FROM t", "UPDATE t SET v = 7 WHERE id = 1", "SELECT v FROM t ORDER BY id", "ROLLBACK"],
        ),
        (
            "errors",
            &["BEGIN", "SELECT 1", "SELECT 1/0", "SELECT 1", "", "COMMIT", "BEGIN", "SELECT nothing", "ROLLBACK"],
        ),
        ("an error before COMMIT", &["BEGIN", "SELECT 1/0", "COMMIT", "SELECT 1"]),
        (
            "an error, and other statements",
            &["BEGIN", "SELECT 1/0", "INSERT INTO w VALUES (1)", "SAVEPOINT a", "BEGIN", "ROLLBACK"],
        ),
        ("begun twice", &["BEGIN", "SELECT 1", "BEGIN", "SELECT 1", "COMMIT", "COMMIT"]),
        (
            "chains",
            &["BEGIN", "SELECT 1", "COMMIT AND CHAIN", "SELECT 1", "ROLLBACK AND CHAIN", "SELECT 1", "ROLLBACK"],
        ),
        (
            "savepoints",
            &[
                "BEGIN",
                "SAVEPOINT a",
                "SELECT 1",
                "SAVEPOINT b",
                "SELECT 1/0",
                "SELECT 1",
                "ROLLBACK TO b",
                "SELECT 2",
                "RELEASE b",
                "ROLLBACK TO SAVEPOINT b",
                "ROLLBACK TO a",
                "SELECT 3",
                "INSERT INTO w VALUES (1)",
                "SELECT 1/0",
                "ROLLBACK TO a",
                "SELECT count(*) FROM w",
                "RELEASE a",
                "RELEASE a",
                "ROLLBACK",
            ],
        ),
        (
            "savepoints, settings",
            &[
                "BEGIN",
                "SELECT 1",
                "SAVEPOINT a",
                "SET work_mem = '7MB'",
                "SHOW work_mem",
                "ROLLBACK TO a",
                "SHOW work_mem",
                "COMMIT",
                "SHOW work_mem",
            ],
        ),
        (
            "modes after a read",
            &[
                "BEGIN",
                "SELECT 1",
                "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
                "SELECT 1",
                "ROLLBACK",
                "BEGIN",
                "SELECT 1",
                "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
                "SET TRANSACTION READ ONLY",
                "SELECT 1",
                "INSERT INTO w VALUES (1)",
                "ROLLBACK",
                "BEGIN",
                "SELECT 1",
                "SET TRANSACTION DEFERRABLE",
                "ROLLBACK",
                "BEGIN",
                "SAVEPOINT a",
                "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
                "ROLLBACK",
                "BEGIN",
                "SAVEPOINT a",
                "SELECT 1",
                "ROLLBACK TO a",
                "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
                "ROLLBACK",
            ],
        ),
        (
            "modes of the block",
            &[
                "BEGIN READ WRITE",
                "SELECT 1",
                "SHOW transaction_read_only",
                "SHOW transaction_isolation",
                "ROLLBACK",
                "BEGIN ISOLATION LEVEL READ COMMITTED",
                "SELECT 1",
                "SHOW TRANSACTION ISOLATION LEVEL",
                "COMMIT",
                "BEGIN ISOLATION LEVEL READ UNCOMMITTED",
                "SELECT 1",
                "SHOW transaction_isolation",
                "COMMIT",
                "BEGIN ISOLATION LEVEL REPEATABLE READ",
                "SELECT 1",
                "SHOW transaction_isolation",
                "COMMIT",
                "BEGIN READ ONLY",
                "SELECT 1",
                "INSERT INTO w VALUES (1)",
                "ROLLBACK",
            ],
        ),
        (
            "time-outs",
            &[
                "BEGIN",
                "SET LOCAL statement_timeout = '60ms'",
                "SELECT 1",
                "SELECT pg_sleep(2)",
                "SELECT 1",
                "ROLLBACK",
                "SHOW statement_timeout",
                "SELECT pg_sleep(0.1)",
                "BEGIN",
                "SET LOCAL statement_timeout = '9s'",
                "SAVEPOINT a",
                "SET LOCAL statement_timeout = '60ms'",
                "ROLLBACK TO a",
                "SELECT pg_sleep(0.1)",
                "SHOW statement_timeout",
                "COMMIT",
                "SHOW statement_timeout",
            ],
        ),
        (
            "what keeps to its server",
            &[
                "BEGIN",
                "SELECT 1",
                "DECLARE c CURSOR FOR SELECT id FROM t ORDER BY 1",
                "FETCH 2 FROM c",
                "SELECT 1",
                "MOVE c",
                "CLOSE c",
                "FETCH c",
                "ROLLBACK",
                "BEGIN",
                "SELECT 1",
                "FETCH c",
                "COMMIT",
                "BEGIN",
                "SELECT 1",
                "CREATE TEMP TABLE x (n int)",
                "SELECT count(*) FROM x",
                "ROLLBACK",
                "BEGIN",
                "SELECT 1",
                "LOCK TABLE t",
                "SELECT 1",
                "COMMIT",
                "BEGIN",
                "SELECT 1",
                "SELECT id FROM t WHERE id = 1 FOR UPDATE",
                "SELECT 1",
                "COMMIT",
                "BEGIN",
                "SELECT 1",
                "SET LOCAL search_path = pg_catalog",
                "SHOW search_path",
                "SELECT 1",
                "COMMIT",
                "SHOW search_path",
                "BEGIN",
                "SELECT 1",
                "SELECT set_config('app.x', 'y', true)",
                "SELECT current_setting('app.x')",
                "ROLLBACK",
                "BEGIN",
                "SELECT 1",
                "PREPARE p AS SELECT 5",
                "EXECUTE p",
                "COMMIT",
                "EXECUTE p",
                "DEALLOCATE p",
                "BEGIN",
                "SELECT 1",
                "LISTEN c",
                "SELECT 1",
                "COMMIT",
                "UNLISTEN c",
                "BEGIN",
                "SELECT 1",
                "PREPARE TRANSACTION 'offloaded'",
                "ROLLBACK PREPARED 'offloaded'",
            ],
        ),
        (
            "several in a string",
            &[
                "BEGIN",
                "SELECT 1; SELECT 2",
                "SELECT 3; SELECT 1/0; SELECT 4",
                "SELECT 5",
                "ROLLBACK",
                "BEGIN",
                "SELECT 1",
                "SELECT 2; COMMIT; SELECT 3",
                "SELECT 4",
                "BEGIN; SELECT 1",
                "SELECT 2",
                "COMMIT",
                "BEGIN",
                "SELECT 1",
                "SELECT 2; INSERT INTO w VALUES (1)",
                "ROLLBACK",
            ],
        ),
        (
            "COPY",
            &[
                "BEGIN",
                "COPY (SELECT id FROM t ORDER BY 1) TO STDOUT",
                "COPY t TO STDOUT (FORMAT csv)",
                "COPY nothing TO STDOUT",
                "COMMIT",
            ],
        ),
        (
            "EXPLAIN",
            &[
                "BEGIN",
                "EXPLAIN (COSTS off) SELECT 1",
                "EXPLAIN (COSTS off) DELETE FROM w",
                "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) INSERT INTO w VALUES (1)",
                "SELECT count(*) FROM w",
                "ROLLBACK",
            ],
        ),
        (
            "a time that stays",
            &[
                "BEGIN",
                "SELECT 1",
                "SELECT 'a'",
                "CREATE TEMP TABLE x AS SELECT now() AS n",
                "SELECT now() = n FROM x",
                "ROLLBACK",
            ],
        ),
    ] {
        compare(&world, what, &script(sql));
    }
}

#[test]
fn segments_say_the_same_trap_30_33_41_43() {
    let world = until_write();
    let prepare = || batch().parse("s", "SELECT v FROM t WHERE id = $1", &[23]).describe(b'S', "s").sync();
    let all = "SELECT id FROM t ORDER BY 1";
    for (what, steps) in [
        (
            "prepared before and within",
            vec![
                ready(prepare()),
                ready(batch().query("BEGIN")),
                ready(batch().bind("", "s", &[Some("1")]).describe(b'P', "").execute("", 0).sync()),
                ready(batch().parse("u", "SELECT $1::int + 1", &[]).describe(b'S', "u").sync()),
                ready(
                    batch()
                        .bind("", "u", &[Some("1")])
                        .execute("", 0)
                        .bind("", "s", &[Some("2")])
                        .execute("", 0)
                        .sync(),
                ),
                ready(batch().close(b'S', "u").sync()),
                ready(batch().bind("", "u", &[Some("1")]).execute("", 0).sync()),
                ready(batch().bind("", "s", &[Some("1")]).execute("", 0).sync()),
                ready(batch().run("COMMIT", &[]).sync()),
                ready(batch().bind("", "s", &[Some("1")]).execute("", 0).sync()),
            ],
        ),
        (
            "begun and ended by the extended protocol",
            vec![
                ready(batch().run("BEGIN", &[]).sync()),
                ready(batch().run("SELECT 1", &[]).sync()),
                ready(batch().run("SAVEPOINT a", &[]).sync()),
                ready(batch().run("SELECT 1/0", &[]).sync()),
                ready(batch().run("SELECT 1", &[]).sync()),
                ready(batch().parse("x", "SELECT 1", &[]).sync()),
                ready(batch().run("ROLLBACK TO a", &[]).sync()),
                ready(batch().run("SELECT 1", &[]).sync()),
                ready(batch().run("COMMIT", &[]).sync()),
                ready(batch().run("BEGIN", &[]).run("SELECT 1", &[]).sync()),
                ready(batch().run("SELECT 1", &[]).sync()),
                ready(batch().run("COMMIT", &[]).sync()),
                ready(batch().run("BEGIN", &[]).run("SELECT 1/0", &[]).sync()),
                ready(batch().run("ROLLBACK", &[]).sync()),
            ],
        ),
        (
            "BEGIN ahead of a statement",
            vec![
                ready(batch().run("BEGIN", &[]).run("SELECT 1", &[]).run("SELECT 2", &[]).sync()),
                ready(batch().run("SELECT 3", &[]).run("COMMIT", &[]).sync()),
                ready(batch().run("BEGIN", &[]).run("SELECT 1", &[]).run("COMMIT", &[]).run("SELECT 2", &[]).sync()),
                ready(batch().run("BEGIN", &[]).run("BEGIN", &[]).run("SELECT 2", &[]).sync()),
                ready(batch().run("COMMIT", &[]).run("BEGIN", &[]).run("SELECT 2", &[]).sync()),
                ready(batch().run("ROLLBACK", &[]).sync()),
                ready(batch().run("SELECT 1", &[]).run("BEGIN", &[]).run("SELECT 2", &[]).sync()),
                ready(batch().run("ROLLBACK", &[]).sync()),
                ready(batch().run("BEGIN", &[]).run("SELECT nothing", &[]).run("SELECT 2", &[]).sync()),
                ready(batch().run("ROLLBACK", &[]).sync()),
                ready(batch().run("BEGIN READ ONLY", &[]).run("INSERT INTO w VALUES (1)", &[]).sync()),
                ready(batch().run("ROLLBACK", &[]).sync()),
                Step::Frames(batch().run("BEGIN", &[]).flush(), 4),
                ready(batch().run("SELECT 1", &[]).sync()),
                ready(batch().run("ROLLBACK", &[]).sync()),
                ready(
                    batch()
                        .run("BEGIN", &[])
                        .parse("", "SELECT id FROM t ORDER BY 1", &[])
                        .bind("", "", &[])
                        .execute("", 2)
                        .sync(),
                ),
                ready(batch().execute("", 2).sync()),
                ready(batch().query("COMMIT")),
            ],
        ),
        (
            "portals that stay",
            vec![
                ready(batch().query("BEGIN")),
                ready(batch().parse("", all, &[]).bind("p", "", &[]).execute("p", 2).sync()),
                ready(batch().execute("p", 2).sync()),
                ready(batch().query("COMMIT")),
                ready(batch().query("BEGIN")),
                ready(batch().run("SELECT 1", &[]).sync()),
                ready(batch().parse("", all, &[]).bind("", "", &[]).execute("", 2).sync()),
                ready(batch().execute("", 2).sync()),
                ready(batch().describe(b'P', "").execute("", 0).sync()),
                ready(batch().query("COMMIT")),
            ],
        ),
        (
            "pipelines",
            vec![
                Step::Ready(batch().query("BEGIN").query("SELECT 1").query("SELECT 2").query("COMMIT"), 4),
                Step::Ready(
                    batch().query("BEGIN").query("SELECT 1/0").query("SELECT 2").query("COMMIT").query("SELECT 3"),
                    5,
                ),
                Step::Ready(
                    batch()
                        .query("BEGIN")
                        .query("SELECT 1")
                        .query("INSERT INTO w VALUES (1)")
                        .query("SELECT count(*) FROM w")
                        .query("ROLLBACK"),
                    5,
                ),
                Step::Ready(
                    batch()
                        .query("BEGIN")
                        .run("SELECT 1", &[])
                        .sync()
                        .run("SELECT 1/0", &[])
                        .sync()
                        .run("SELECT 2", &[])
                        .sync()
                        .query("ROLLBACK"),
                    5,
                ),
                Step::Ready(
                    batch()
                        .run("BEGIN", &[])
                        .sync()
                        .run("SELECT 1", &[])
                        .run("SELECT 2", &[])
                        .sync()
                        .run("COMMIT", &[])
                        .sync(),
                    3,
                ),
                Step::Ready(batch().query("BEGIN").run("SELECT 1", &[]).sync().sync().query("").query("COMMIT"), 5),
            ],
        ),
        (
            "a Flush",
            vec![
                ready(batch().query("BEGIN")),
                Step::Frames(batch().parse("f", "SELECT $1::int", &[]).describe(b'S', "f").flush(), 3),
                ready(batch().bind("", "f", &[Some("4")]).execute("", 0).sync()),
                Step::Frames(batch().parse("g", "SELECT nothing", &[]).describe(b'S', "g").flush(), 1),
                ready(batch().sync()),
                ready(batch().query("SELECT 1")),
                ready(batch().query("ROLLBACK")),
                ready(batch().query("BEGIN")),
                Step::Frames(batch().run("SELECT 1", &[]).flush(), 4),
                ready(batch().sync()),
                ready(batch().query("COMMIT")),
            ],
        ),
        (
            "texts that mean a time",
            vec![
                ready(batch().query("BEGIN")),
                ready(batch().query("SELECT 1")),
                ready(
                    batch()
                        .parse("", "SELECT $1::timestamptz = now()", &[])
                        .bind("", "", &[Some("now")])
                        .execute("", 0)
                        .sync(),
                ),
                ready(batch().query("SELECT 'now'::timestamptz = now()")),
                ready(batch().query("COMMIT")),
            ],
        ),
    ] {
        compare(&world, what, &steps);
    }
}
