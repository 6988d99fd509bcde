//! Errors in pipelines: what they void stays void, what they leave is what later segments are judged by, and nothing waits for ever
//! behind them. Tests name the traps that they show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use support::frames::Batch;
use support::world::{Plan, Step, World, ready};

const SQL: &str = "CREATE TABLE t (id int PRIMARY KEY, v text);
    INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 100) AS n;
    CREATE TABLE log (n int)";

const READ: &str = "SELECT v FROM t WHERE id = $1";

fn world() -> World {
    Plan { sql: SQL, pool: "size = 3", ..Plan::default() }.start()
}

fn batch() -> Batch {
    Batch::new()
}

/// A statement that clients know the columns of is prepared anew before an error is known that voids it: what has to be closed for
/// that is not waited for in vain, whatever comes next.
#[test]
fn a_close_of_ours_is_answered_whatever_waits_for_it_trap_33() {
    let what_waits: [(&str, Batch, usize, bool); 6] = [
        ("a write by Query", batch().query("INSERT INTO log VALUES (1)"), 1, false),
        ("a write", batch().run("INSERT INTO log VALUES (1)", &[]).sync(), 1, false),
        ("a block", batch().query("BEGIN").query("INSERT INTO log VALUES (1)").query("ROLLBACK"), 3, false),
        ("a lock", batch().query("SELECT * FROM t WHERE id = 1 FOR UPDATE"), 1, false),
        ("a setting of the proxy's", batch().query("SET trunkline.route = 'auto'"), 1, true),
        ("the proxy's EXPLAIN", batch().query("EXPLAIN (ROUTE) SELECT 1"), 1, true),
    ];
    let pools = ["size = 1", "size = 1\nmax_prepared = 1"];
    for (pool, primary_only) in pools.iter().flat_map(|pool| [(pool, false), (pool, true)]) {
        let world = Plan { sql: SQL, pool, primary_only, ..Plan::default() }.start();
        let failing = batch().run("SELECT id / (id - 3) FROM t", &[]);
        for (what, messages, readies, on_primary) in &what_waits {
            for close in [true, false] {
                let mut other = world.client();
                other.exchange(&batch().parse("x", READ, &[23]).describe(b'S', "x").sync());
                other.exchange(&batch().bind("", "x", &[Some("1")]).execute("", 0).sync());
                other.vanish();
                let mut client = world.client();
                client.set_timeout(Duration::from_secs(5));
                if *on_primary && primary_only {
                    client.exchange(&batch().query("CREATE TEMP TABLE pins (n int)"));
                }
                let second = failing
                    .bytes()
                    .iter()
                    .chain(batch().parse("n2", READ, &[23]).bind("", "n2", &[Some("1")]).execute("", 0).sync().bytes())
                    .copied()
                    .collect::<Vec<u8>>();
                let batch = if close { batch().close(b'S', "n2") } else { batch() };
                client.send(&batch.bytes_of(&second).bytes_of(messages.bytes()));
                let frames = client.recv_ready(1 + readies);
                assert_eq!(frames.iter().filter(|frame| frame.tag == b'E').count(), 1, "{what}: {frames:?}");
                client.vanish();
            }
        }
        assert_eq!(world.client().value("SELECT 'served' FROM t WHERE id = 1 FOR UPDATE"), "served");
    }
}

/// What a name stands for is known when it is known whether the segment before has failed: until then nothing is judged by it.
#[test]
fn a_segment_is_judged_by_what_names_stand_for_after_an_error_trap_33() {
    let world = Plan { sql: SQL, pool: "size = 2", ..Plan::default() }.start();
    let wrong: [(&str, Batch); 3] = [
        ("in execution", batch().run("SELECT 1 / 0", &[])),
        ("no such statement", batch().bind("", "nobody", &[])),
        ("no such portal", batch().describe(b'P', "nobody")),
    ];
    let then = |first: &Batch, second: Batch| batch().bytes_of(first.bytes()).bytes_of(second.bytes());
    for (what, wrong) in &wrong {
        let renamed = || then(wrong, batch().close(b'S', "n2").parse("n2", "SELECT 6", &[]).sync());
        let prepared = |sql: &str| ready(batch().close(b'S', "n2").parse("n2", sql, &[]).sync());
        world.compare(
            &format!("{what}: a name that is given another text in vain"),
            &[
                prepared("INSERT INTO log VALUES (7) RETURNING n"),
                Step::Ready(then(&renamed(), batch().bind("", "n2", &[]).execute("", 0).sync()), 2),
                Step::Ready(
                    then(&renamed(), batch().run("SELECT 1", &[]).bind("", "n2", &[]).execute("", 0).sync()),
                    2,
                ),
                Step::Ready(
                    then(&renamed(), batch().describe(b'S', "n2").bind("p", "n2", &[]).execute("p", 0).sync()),
                    2,
                ),
                Step::Ready(then(&renamed(), batch().query("EXECUTE n2")), 2),
                Step::Ready(then(&renamed(), batch().run("EXECUTE n2", &[]).sync()), 2),
                Step::Ready(
                    then(
                        &batch().query("DEALLOCATE n2; PREPARE n2 AS INSERT INTO log VALUES (8) RETURNING n"),
                        batch().bind("", "n2", &[]).execute("", 0).sync(),
                    ),
                    2,
                ),
                ready(batch().query("DEALLOCATE n2; PREPARE n2 AS SELECT 'read'")),
                Step::Ready(
                    then(
                        &batch().query("DEALLOCATE n2; PREPARE n2 AS INSERT INTO log VALUES (8) RETURNING n"),
                        batch().bind("", "n2", &[]).execute("", 0).sync(),
                    ),
                    2,
                ),
                ready(batch().query("SELECT count(*) > 0 FROM log FOR UPDATE")),
            ],
        );
        let again = || batch().bind("", "", &[]).execute("", 0).sync();
        let other = || then(wrong, batch().parse("", "SELECT 'new'", &[]).sync());
        world.compare(
            &format!("{what}: the unnamed statement"),
            &[
                ready(batch().parse("", "SELECT 'old'", &[]).sync()),
                Step::Ready(then(&batch().bind("", "nobody", &[]).parse("", "SELECT 'new'", &[]).sync(), again()), 2),
                ready(again()),
                // An error before it that uses another portal leaves it, one by the unnamed statement does not.
                Step::Ready(then(&other(), again()), 2),
                ready(again()),
                ready(batch().parse("", "INSERT INTO log VALUES (9) RETURNING n", &[]).sync()),
                Step::Ready(then(&batch().describe(b'P', "nobody").parse("", "SELECT 'new'", &[]).sync(), again()), 2),
                Step::Ready(then(&batch().describe(b'P', "nobody").query("SELECT 2").sync(), again()), 2),
                Step::Ready(then(&batch().describe(b'P', "nobody").close(b'S', "").sync(), again()), 2),
                // Two errors, of which the first decides what the second would have ended.
                Step::Ready(
                    then(
                        &batch().parse("", "SELECT nothing", &[]).sync(),
                        batch().bind("", "nobody", &[]).query("SELECT 2").sync(),
                    ),
                    2,
                ),
                ready(batch().describe(b'S', "").sync()),
                ready(again()),
                ready(batch().parse("", "SELECT 'old'", &[]).sync()),
                Step::Ready(then(&other(), batch().bind("", "nobody", &[]).query("SELECT 2").sync()), 2),
                ready(again()),
                Step::Ready(then(&other(), batch().bind("", "nobody", &[]).close(b'S', "").sync()), 2),
                ready(again()),
            ],
        );
    }
    // What another client has left as the unnamed statement is never met.
    let world = Plan { sql: SQL, pool: "size = 1", primary_only: true, ..Plan::default() }.start();
    let mut client = world.client();
    client.exchange(&batch().parse("", "SELECT 'mine'", &[]).sync());
    let mut other = world.client();
    other.exchange(&batch().parse("", "SELECT 'not yours'", &[]).sync());
    let bind = || batch().bind("", "", &[]).execute("", 0).sync();
    client.send(&then(&then(&batch().describe(b'P', "nobody"), bind()), bind()));
    assert_eq!(client.recv_ready(2)[3].columns(), [Some("mine".to_owned())]);
}

#[test]
fn names_in_a_block_that_has_failed_and_after_deallocate_all_trap_33_37_45() {
    let world = world();
    let bind = |name: &str| batch().bind("", name, &[]).execute("", 0).sync();
    for begin in ["BEGIN", "BEGIN READ ONLY", "BEGIN; INSERT INTO log VALUES (1)"] {
        world.compare(
            begin,
            &[
                ready(batch().parse("n2", "SELECT 5", &[]).sync()),
                ready(bind("n2")),
                ready(batch().query(begin)),
                ready(batch().query("SELECT 1 / 0")),
                ready(batch().close(b'S', "n2").parse("n2", "SELECT 5", &[]).sync()),
                ready(batch().query("ROLLBACK")),
                ready(bind("n2")),
                ready(batch().parse("n2", "SELECT 5", &[]).sync()),
                ready(batch().query(begin)),
                ready(
                    batch()
                        .close(b'S', "n2")
                        .parse("n2", "SELECT 1 / 0", &[])
                        .bind("", "n2", &[])
                        .execute("", 0)
                        .sync(),
                ),
                ready(batch().close(b'S', "n2").parse("n2", "SELECT 5", &[]).sync()),
                ready(batch().query("ROLLBACK")),
                ready(bind("n2")),
            ],
        );
    }
    for all in ["DEALLOCATE ALL", "DISCARD ALL"] {
        world.compare(
            all,
            &[
                ready(batch().parse("all", all, &[]).parse("", "SELECT 5", &[]).sync()),
                ready(batch().bind("p", "all", &[]).execute("p", 0).sync()),
                ready(bind("")),
                ready(batch().parse("all", all, &[]).parse("", "SELECT 5", &[]).sync()),
                Step::Ready(batch().bind("p", "all", &[]).execute("p", 0).sync().bytes_of(bind("").bytes()), 2),
                ready(batch().run(all, &[]).sync()),
                ready(bind("")),
                ready(batch().query(all)),
                ready(bind("")),
            ],
        );
    }
}
