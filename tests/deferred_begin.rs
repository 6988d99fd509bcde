//! `BEGIN` is answered at once and reaches a server with the block's first statement: nobody can tell, and no server connection
//! is held meanwhile. Tests name the traps that they show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "deferred_begin/ends.rs"]
mod ends;
mod support;

use std::time::Duration;

use support::frames::{Batch, summary, tags};
use support::world::{Plan, Step, World, ready};

const SQL: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT n, 0 FROM generate_series(1, 5) AS n";

fn world(pool: &str, primary_only: bool) -> World {
    Plan { sql: SQL, pool, primary_only, routing: "consistency = \"eventual\"", ..Plan::default() }.start()
}

fn batch() -> Batch {
    Batch::new()
}

/// Each statement as a message of its own.
fn script(sql: &[&str]) -> Vec<Step> {
    sql.iter().map(|sql| ready(batch().query(sql))).collect()
}

#[test]
fn a_failed_block_on_a_replica_refuses_in_the_servers_words() {
    let world = world("size = 2", false);
    world.compare(
        "what could not be done there",
        &script(&[
            "BEGIN READ ONLY",
            "SELECT 1/0",
            "LISTEN x",
            "SELECT pg_advisory_lock(1)",
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "ROLLBACK",
            "SELECT count(*) FROM pg_cursors",
        ]),
    );
}

#[test]
fn blocks_say_the_same_trap_28() {
    let world = world("size = 2", true);
    for (what, sql) in [
        ("a block", &["BEGIN", "UPDATE t SET v = 1 WHERE id = 1", "COMMIT", "SELECT v FROM t WHERE id = 1"][..]),
        (
            "nothing in it",
            &["BEGIN", "COMMIT", "start transaction read only", "", "-- ping", "ROLLBACK", "BEGIN", "END"],
        ),
        ("errors", &["BEGIN", "SELECT 1/0", "SELECT 1", "COMMIT", "BEGIN", "SELEC", "ROLLBACK", "SELECT 1"]),
        ("begun twice", &["BEGIN", "BEGIN", "SELECT 1", "COMMIT", "COMMIT"]),
        ("savepoints", &["BEGIN", "SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a", "SELECT 1", "RELEASE a", "COMMIT"]),
        (
            "chains",
            &["BEGIN ISOLATION LEVEL REPEATABLE READ", "COMMIT AND CHAIN", "SHOW transaction_isolation", "ROLLBACK"],
        ),
        ("what the server refuses", &["BEGIN ISOLATION LEVEL CHAOS", "BEGIN READ", "BEGIN ,READ ONLY", "SELECT 1"]),
        (
            "modes",
            &[
                "BEGIN ISOLATION LEVEL SERIALIZABLE",
                "SHOW transaction_isolation",
                "ROLLBACK",
                "BEGIN",
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                "SET TRANSACTION READ ONLY",
                "SET LOCAL statement_timeout = '7s'",
                "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('statement_timeout')",
                "UPDATE t SET v = 1 WHERE id = 1",
                "ROLLBACK",
                "SHOW statement_timeout",
                "BEGIN READ WRITE",
                "SET LOCAL work_mem = '1 parsec'",
                "SELECT 1",
                "ROLLBACK",
                "BEGIN",
                "SET LOCAL lock_timeout = 'soon'",
                "COMMIT",
                "BEGIN",
                "SET CONSTRAINTS ALL DEFERRED",
                "LOCK TABLE t",
                "COMMIT",
            ],
        ),
        (
            "cursors",
            &[
                "BEGIN",
                "DECLARE c CURSOR FOR SELECT id FROM t ORDER BY id",
                "FETCH 2 FROM c",
                "MOVE c",
                "CLOSE c",
                "COMMIT",
            ],
        ),
        ("two-phase", &["BEGIN", "PREPARE TRANSACTION 'deferred'", "ROLLBACK PREPARED 'deferred'"]),
    ] {
        world.compare(what, &script(sql));
    }
    world.compare(
        "the extended protocol",
        &[
            ready(batch().query("BEGIN")),
            ready(batch().parse("s", "SELECT v FROM t WHERE id = $1", &[23]).describe(b'S', "s").sync()),
            ready(batch().bind("p", "s", &[Some("1")]).describe(b'P', "p").execute("p", 0).sync()),
            ready(batch().query("COMMIT")),
            ready(batch().query("BEGIN")),
            ready(batch().sync()),
            ready(batch().run("SELECT 1/0", &[]).run("SELECT 2", &[]).sync()),
            ready(batch().run("SELECT 3", &[]).sync()),
            ready(batch().run("COMMIT", &[]).sync()),
            ready(batch().run("BEGIN", &[]).sync()),
            ready(batch().run("UPDATE t SET v = 2 WHERE id = 2", &[]).run("COMMIT", &[]).sync()),
            Step::Ready(batch().query("BEGIN").query("SELECT 1").query("COMMIT").query("BEGIN").query("ROLLBACK"), 5),
            Step::Ready(batch().query("BEGIN").run("SELECT 1", &[]).sync().query("COMMIT"), 3),
            ready(batch().query("BEGIN")),
            ready(batch().bind("", "unknown", &[]).execute("", 0).sync()),
            ready(batch().query("ROLLBACK")),
        ],
    );
}

#[test]
fn an_application_that_thinks_holds_no_connection() {
    let world = world("size = 1\nwait_timeout = \"300ms\"", true);
    let mut thinker = world.client();
    let mut other = world.client();
    thinker.exchange(&batch().query("BEGIN"));
    thinker.exchange(&batch().query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"));
    assert_eq!(other.value("SELECT count(*) FROM t"), "5");
    assert_eq!(thinker.value("SHOW transaction_isolation"), "serializable", "no server is asked");
    assert_eq!(thinker.value("SELECT current_setting('transaction_isolation') AS level"), "serializable");
    // Now it has one.
    assert_eq!(other.failure("SELECT 1"), "57014");
    // Nor does one get one that began while there was none; its block has failed, as it would have on a server.
    other.exchange(&batch().query("BEGIN"));
    let frames = other.exchange(&batch().query("SELECT 1"));
    assert_eq!(tags(&frames), "EZ");
    assert_eq!(frames[1].body, b"E");
    assert_eq!(summary(&other.exchange(&batch().query("ROLLBACK"))), "CommandComplete(ROLLBACK) ReadyForQuery(I)");
    other.exchange(&batch().query("BEGIN"));
    other.exchange(&batch().run("SELECT 1", &[]).sync());
    assert_eq!(summary(&other.exchange(&batch().query("COMMIT"))), "CommandComplete(ROLLBACK) ReadyForQuery(I)");
    other.exchange(&batch().query("BEGIN"));
    other.exchange(&batch().query("SELECT 1"));
    thinker.exchange(&batch().query("COMMIT"));
    // A connection came free: the failed block is a server's now.
    assert_eq!(other.failure("SELECT 1"), "25P02");
    assert_eq!(other.failure("SAVEPOINT a"), "25P02");
    assert_eq!(summary(&other.exchange(&batch().query("COMMIT"))), "CommandComplete(ROLLBACK) ReadyForQuery(I)");
    assert_eq!(other.value("SELECT 1"), "1");
    // Gone while it thought: nothing is left of it.
    other.exchange(&batch().query("BEGIN"));
    other.vanish();
    assert_eq!(thinker.value("SELECT 1"), "1");
}

#[test]
fn no_portal_is_left_by_a_block_begun_with_a_query_trap_28() {
    let world = world("size = 2", true);
    let begin = || ready(batch().query("BEGIN"));
    let failed_bind = || ready(batch().bind("", "nope", &[]).sync());
    let rollback = || ready(batch().query("ROLLBACK"));
    for (what, batch) in [
        ("executed", batch().execute("", 0).sync()),
        // The Query is skipped: the error holds up to the Sync.
        ("described", batch().describe(b'P', "").query("COMMIT; SELECT 2").sync()),
        ("closed", batch().close(b'P', "").sync()),
        ("bound", batch().parse("", "SELECT 1", &[]).bind("", "", &[]).execute("", 1).sync()),
    ] {
        let again = || ready(batch.clone());
        world.compare(what, &[begin(), again(), rollback()]);
        world.compare(what, &[begin(), failed_bind(), again(), rollback()]);
    }
    // Whatever stands last in it decides.
    let savepoint = || ready(batch().query("SAVEPOINT a"));
    world.compare("savepoint", &[alone("BEGIN"), savepoint(), ready(batch().execute("", 0).sync()), rollback()]);
    world.compare("by parts", &[alone("BEGIN"), ready(batch().execute("", 0).sync()), rollback()]);
}

/// Blocks that only read, on a replica, and what comes with their end.
#[test]
fn the_end_of_a_block_on_a_replica_says_the_same_trap_22() {
    let world = world("size = 2", false);
    let chains: [(&str, &[&str]); 8] = [
        ("chained", &["BEGIN READ ONLY", "SELECT 1", "COMMIT AND CHAIN", "SELECT 2", "ROLLBACK AND CHAIN", "COMMIT"]),
        (
            "modes",
            &[
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
                "SELECT count(*) FROM t",
                "COMMIT AND CHAIN",
                "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')",
                "ROLLBACK AND CHAIN",
                "SHOW transaction_isolation",
                "SHOW transaction_read_only",
                "UPDATE t SET v = 1",
                "ROLLBACK",
                "BEGIN READ ONLY DEFERRABLE",
                "SELECT 1",
                "COMMIT AND CHAIN",
                "SHOW transaction_deferrable",
                "SELECT 1/0",
                "ROLLBACK AND CHAIN",
                "SHOW transaction_deferrable",
                "SHOW transaction_read_only",
                "ROLLBACK",
                "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY, DEFERRABLE",
                "SELECT 1",
                "SELECT 1/0",
                "COMMIT AND CHAIN; SELECT 1/0",
                "COMMIT AND CHAIN; SELECT 1/0",
                "ROLLBACK AND CHAIN",
                "SHOW transaction_isolation",
                "SHOW transaction_deferrable",
                "ROLLBACK",
                "BEGIN ISOLATION LEVEL REPEATABLE READ",
                "COMMIT AND CHAIN",
                "SELECT 1/0",
                "ROLLBACK AND CHAIN",
                "SHOW transaction_isolation",
                "COMMIT",
            ],
        ),
        (
            "failed",
            &[
                "BEGIN READ ONLY",
                "SELECT 1/0",
                "SELECT 1",
                "COMMIT AND CHAIN",
                "SELECT 2",
                "SELECT 1/0",
                "ROLLBACK AND CHAIN",
                "END",
            ],
        ),
        (
            "settings",
            &[
                "BEGIN READ ONLY",
                "SELECT 1",
                "SET application_name = 'kept'",
                "SET LOCAL work_mem = '5MB'",
                "COMMIT AND CHAIN",
                "SELECT current_setting('application_name'), current_setting('work_mem')",
                "SET app.name = 'lost'",
                "SAVEPOINT a",
                "ROLLBACK AND CHAIN",
                "RELEASE a",
                "ROLLBACK",
                "SELECT nullif(current_setting('app.name', true), '')",
                "SHOW application_name",
                "RESET application_name",
            ],
        ),
        (
            "one string",
            &[
                "BEGIN READ ONLY",
                "SELECT 1",
                "COMMIT AND CHAIN; SELECT 2; COMMIT; SELECT 3",
                "BEGIN READ ONLY",
                "SELECT 1",
                "COMMIT; BEGIN; SELECT 2",
                "ROLLBACK; SELECT 1/0",
                "BEGIN READ ONLY",
                "SELECT 1/0",
                "COMMIT; SELECT 1; BEGIN",
                "COMMIT; COMMIT",
            ],
        ),
        ("a write behind it", &["BEGIN READ ONLY", "SELECT 1", "COMMIT; UPDATE t SET v = 0 WHERE id = 1", "SELECT 1"]),
        (
            "what is refused",
            &["BEGIN READ ONLY", "SELECT 1", "COMMIT; SELEC", "SELECT 1", "COMMIT AND CHAINS", "COMMIT"],
        ),
        (
            "nothing begun",
            &["COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "BEGIN", "ROLLBACK AND CHAIN", "COMMIT AND CHAIN", "END"],
        ),
    ];
    for (what, sql) in chains {
        world.compare(what, &script(sql));
        world.compare(what, &sql.iter().map(|sql| alone(sql)).collect::<Vec<_>>());
    }
    let (begin, read) = (|| ready(batch().query("BEGIN READ ONLY")), || ready(batch().query("SELECT 1")));
    let run = |sql: &[&str]| sql.iter().fold(batch(), |batch, sql| batch.run(sql, &[]));
    for (what, one) in [
        ("then a write", run(&["COMMIT", "UPDATE t SET v = 0 WHERE id = 1"]).sync()),
        ("between reads", run(&["SELECT 1", "COMMIT AND CHAIN", "SELECT 2", "ROLLBACK", "SELECT 3"]).sync()),
        ("behind an error", run(&["SELECT 1/0", "COMMIT AND CHAIN", "SELECT 2"]).sync()),
        ("an error behind it", run(&["COMMIT", "SELECT 1/0", "SELECT 2"]).sync()),
        ("flushed", run(&["COMMIT AND CHAIN"]).flush().run("SELECT 2", &[]).sync()),
    ] {
        world.compare(
            what,
            &[begin(), read(), ready(one), ready(run(&["SELECT 1"]).sync()), ready(batch().query("ROLLBACK"))],
        );
    }
    let piped = batch().query("SELECT 1").query("COMMIT AND CHAIN").query("SELECT 2").query("COMMIT; SELECT 3");
    world.compare("pipelined", &[begin(), Step::Ready(piped, 4), read()]);
}

/// What drivers send that know no other protocol: each statement prepared, bound, executed, synced.
fn alone(sql: &str) -> Step {
    ready(batch().parse("", sql, &[]).bind("", "", &[]).describe(b'P', "").execute("", 0).sync())
}

#[test]
fn blocks_of_the_extended_protocol_say_the_same_trap_22_28() {
    let world = world("size = 2", true);
    for (what, sql) in [
        ("a block", &["BEGIN", "UPDATE t SET v = 1 WHERE id = 1", "COMMIT", "SELECT v FROM t WHERE id = 1"][..]),
        (
            "nothing in it",
            &["BEGIN", "COMMIT", "start transaction read only", "", "-- ping", "ROLLBACK", "BEGIN", "END"],
        ),
        ("errors", &["BEGIN", "SELECT 1/0", "SELECT 1", "COMMIT", "BEGIN", "SELEC", "ROLLBACK", "SELECT 1"]),
        ("begun twice", &["BEGIN", "BEGIN", "SELECT 1", "COMMIT", "COMMIT", "ROLLBACK"]),
        (
            "modes",
            &[
                "BEGIN ISOLATION LEVEL CHAOS",
                "BEGIN",
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                "SET LOCAL lock_timeout = '7s'",
                "SELECT current_setting('transaction_isolation'), current_setting('lock_timeout')",
                "COMMIT AND CHAIN",
                "SHOW transaction_isolation",
                "ROLLBACK",
                "SHOW lock_timeout",
            ],
        ),
    ] {
        world.compare(what, &sql.iter().map(|sql| alone(sql)).collect::<Vec<_>>());
    }
    world.compare(
        "prepared by name",
        &[
            ready(batch().parse("b", "BEGIN", &[]).describe(b'S', "b").sync()),
            ready(batch().parse("c", "COMMIT", &[]).sync()),
            ready(batch().parse("r", "ROLLBACK", &[]).flush().sync()),
            ready(batch().bind("", "b", &[]).execute("", 1).sync()),
            ready(batch().query("UPDATE t SET v = 3 WHERE id = 3")),
            ready(batch().bind("", "c", &[]).execute("", 0).sync()),
            ready(batch().bind("", "b", &[]).describe(b'P', "").execute("", 0).sync()),
            ready(batch().bind("", "r", &[]).describe(b'S', "r").execute("", 0).sync()),
            ready(batch().parse("b", "BEGIN", &[]).bind("", "b", &[]).execute("", 0).sync()),
            ready(batch().query("SELECT name, statement FROM pg_prepared_statements ORDER BY name")),
            ready(batch().query("EXECUTE b")),
            ready(batch().query("COMMIT")),
            ready(batch().close(b'S', "b").sync()),
            ready(batch().bind("", "b", &[]).execute("", 0).sync()),
        ],
    );
    world.compare(
        "what belongs together",
        &[
            // With its statement in one segment; in one write; behind a Flush.
            ready(batch().run("BEGIN", &[]).run("SELECT 1", &[]).sync()),
            alone("COMMIT"),
            Step::Ready(batch().run("BEGIN", &[]).sync().run("SELECT 2", &[]).sync().run("COMMIT", &[]).sync(), 3),
            Step::Ready(batch().run("BEGIN", &[]).sync().run("SELECT 1/0", &[]).sync().run("COMMIT", &[]).sync(), 3),
            ready(batch().run("BEGIN", &[]).flush().run("SELECT 3", &[]).sync()),
            ready(batch().run("COMMIT", &[]).flush().sync()),
            ready(
                batch()
                    .parse("", "BEGIN", &[])
                    .flush()
                    .describe(b'S', "")
                    .flush()
                    .bind("", "", &[])
                    .execute("", 0)
                    .sync(),
            ),
            ready(batch().run("BEGIN", &[]).run("COMMIT", &[]).sync()),
            ready(batch().run("BEGIN", &[]).run("COMMIT", &[]).run("BEGIN", &[]).sync()),
            ready(batch().run("ROLLBACK", &[]).run("SELECT 4", &[]).sync()),
            Step::Ready(batch().run("BEGIN", &[]).query("SELECT 5").query("COMMIT"), 2),
            Step::Ready(batch().run("BEGIN", &[]).sync().terminate(), 1),
        ],
    );
    world.compare(
        "portals and statements without a name",
        &[
            ready(batch().parse("", "BEGIN", &[]).bind("", "", &[]).sync()),
            ready(batch().execute("", 0).sync()),
            ready(batch().bind("", "", &[]).close(b'P', "").execute("", 0).sync()),
            ready(batch().query("SELECT 1")),
            ready(batch().bind("", "", &[]).execute("", 0).sync()),
            alone("BEGIN"),
            ready(batch().execute("", 0).sync()),
            alone("ROLLBACK"),
            alone("BEGIN"),
            ready(batch().parse("", "COMMIT", &[]).bind("", "", &[]).sync()),
            ready(batch().execute("", 0).sync()),
            ready(batch().parse("", "BEGIN", &[]).bind("p", "", &[]).execute("p", 0).sync()),
            ready(batch().bind("p", "", &[]).sync()),
            alone("ROLLBACK"),
            ready(batch().parse("", "BEGIN", &[23]).bind("", "", &[Some("1")]).execute("", 0).sync()),
            ready(batch().parse("", "ROLLBACK", &[]).bind("", "", &[Some("1")]).execute("", 0).sync()),
            ready(batch().query("ROLLBACK")),
            // A simple Query ends the unnamed statement, whoever answers it.
            ready(batch().parse("", "SELECT 7", &[]).sync()),
            ready(batch().query("BEGIN")),
            ready(batch().bind("", "", &[]).execute("", 0).sync()),
            ready(batch().query("ROLLBACK")),
            ready(batch().parse("", "SELECT 7", &[]).sync()),
            ready(batch().query("")),
            ready(batch().bind("", "", &[]).execute("", 0).sync()),
        ],
    );
}

#[test]
fn an_application_that_thinks_in_the_extended_protocol_holds_none_either() {
    let world = world("size = 1\nwait_timeout = \"300ms\"", true);
    let mut thinker = world.client();
    let mut other = world.client();
    let say =
        |client: &mut support::raw::RawClient, sql: &str| summary(&client.exchange(&batch().run(sql, &[]).sync()));
    let begun = "ParseComplete BindComplete NoData CommandComplete(BEGIN) ReadyForQuery(T)";
    assert_eq!(say(&mut thinker, "BEGIN"), begun);
    assert_eq!(other.value("SELECT count(*) FROM t"), "5");
    thinker.exchange(&batch().parse("begin", "BEGIN", &[]).sync());
    assert_eq!(thinker.value("SELECT 1"), "1");
    say(&mut thinker, "COMMIT");
    thinker.exchange(&batch().bind("", "begin", &[]).execute("", 0).sync());
    assert_eq!(other.value("SELECT count(*) FROM t"), "5");
    say(&mut thinker, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE");
    assert_eq!(other.value("SELECT count(*) FROM t"), "5");
    assert_eq!(thinker.value("SHOW transaction_isolation"), "serializable", "no server is asked");
    assert_eq!(thinker.value("SELECT current_setting('transaction_isolation') AS level"), "serializable");
    // Now it has one: the other's block fails for want of it, as it would have on a server.
    assert_eq!(say(&mut other, "BEGIN"), begun);
    assert_eq!(tags(&other.exchange(&batch().run("SELECT 1", &[]).sync())), "EZ");
    assert_eq!(other.exchange(&batch().parse("x", "BEGIN", &[]).sync())[0].sqlstate(), "57014", "the wait goes on");
    assert_eq!(
        say(&mut other, "ROLLBACK"),
        "ParseComplete BindComplete NoData CommandComplete(ROLLBACK) ReadyForQuery(I)"
    );
    assert_eq!(say(&mut other, "BEGIN"), begun);
    other.exchange(&batch().run("SELECT 1", &[]).sync());
    say(&mut thinker, "COMMIT");
    assert_eq!(other.exchange(&batch().parse("x", "BEGIN", &[]).sync())[0].sqlstate(), "25P02");
    assert_eq!(
        say(&mut other, "COMMIT"),
        "ParseComplete BindComplete NoData CommandComplete(ROLLBACK) ReadyForQuery(I)"
    );
    assert_eq!(other.value("SELECT 1"), "1");
}

#[test]
fn read_only_blocks_run_on_a_replica_however_they_say_so_trap_23() {
    let world = world("size = 2", false);
    let mut client = world.client();
    for (begin, on_replica) in [
        (&["BEGIN READ ONLY"][..], "t"),
        (&["BEGIN", "SET TRANSACTION READ ONLY"], "t"),
        (&["BEGIN", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"], "t"),
        (&["BEGIN", "SET TRANSACTION READ ONLY", "SET TRANSACTION READ WRITE"], "f"),
        (&["BEGIN READ ONLY", "SET TRANSACTION READ WRITE"], "f"),
        (&["BEGIN READ ONLY", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"], "f"),
        (&["/* trunkline: primary */ BEGIN", "SET TRANSACTION READ ONLY"], "f"),
        (&["BEGIN"], "f"),
        (&["BEGIN READ ONLY", "SELECT pg_try_advisory_lock(17)"], "f"),
    ] {
        for sql in begin {
            assert!(tags(&client.exchange(&batch().query(sql))).ends_with("CZ"), "{sql}");
        }
        assert_eq!(client.value("SELECT pg_is_in_recovery()"), on_replica, "{begin:?}");
        client.exchange(&batch().query("COMMIT"));
    }
    client.exchange(&batch().query("SELECT pg_advisory_unlock_all()"));
    client.exchange(&batch().query("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"));
    client.exchange(&batch().query("BEGIN"));
    assert_eq!(client.value("SELECT pg_is_in_recovery()"), "t", "trap 25");
    client.exchange(&batch().query("COMMIT"));
}

/// The first statement decides: what a standby can't do is not asked of it, though it only reads.
#[test]
fn read_only_blocks_that_need_the_primary_begin_there_trap_12() {
    let sql = "CREATE UNLOGGED TABLE u AS SELECT 7 AS n";
    let world = Plan { sql, tables: "[admin]\nadmin_users = [\"app\"]", ..Plan::default() }.start();
    world.settle();
    let (mut exporter, mut client) = (world.client(), world.client());
    exporter.exchange(&batch().query("BEGIN ISOLATION LEVEL REPEATABLE READ"));
    let snapshot = exporter.value("SELECT pg_export_snapshot()");
    client.exchange(&batch().query("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"));
    assert_eq!(tags(&client.exchange(&batch().query(&format!("SET TRANSACTION SNAPSHOT '{snapshot}'")))), "CZ");
    client.exchange(&batch().query("COMMIT"));
    client.exchange(&batch().query("BEGIN READ ONLY"));
    assert_eq!(client.value("SELECT n FROM u"), "7");
    client.exchange(&batch().query("COMMIT"));
    // Prepared by SQL, too.
    client.exchange(&batch().query("PREPARE p AS SELECT n FROM u"));
    client.exchange(&batch().query("BEGIN READ ONLY"));
    assert_eq!(client.value("EXECUTE p"), "7");
    client.exchange(&batch().query("COMMIT"));
    exporter.exchange(&batch().query("COMMIT"));
    exporter.exchange(&batch().query("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"));
    let snapshot = exporter.value("SELECT pg_export_snapshot()");
    client.exchange(&batch().query("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"));
    assert_eq!(tags(&client.exchange(&batch().query(&format!("SET TRANSACTION SNAPSHOT '{snapshot}'")))), "CZ");
}

/// A standby gives locks that keep nobody out, and shows of a sequence what it may come to.
#[test]
fn what_a_standby_does_otherwise_is_not_asked_of_it_trap_13() {
    let tables = "[admin]\nadmin_users = [\"app\"]";
    let routing = "consistency = \"eventual\"\nmax_lag = \"0\"";
    let world = Plan { sql: "CREATE SEQUENCE s", tables, routing, ..Plan::default() }.start();
    world.settle();
    let (mut holder, mut client) = (world.client(), world.client());
    assert_eq!(holder.value("SELECT nextval('s')"), "1");
    world.db.wait_replayed();
    for lock in ["SELECT pg_try_advisory_xact_lock(19)", "EXECUTE l"] {
        client.exchange(&batch().query("PREPARE l AS SELECT pg_try_advisory_xact_lock(19)"));
        holder.exchange(&batch().query("BEGIN"));
        assert_eq!(holder.value(lock.replace("EXECUTE l", "SELECT pg_try_advisory_xact_lock(19)").as_str()), "t");
        client.exchange(&batch().query("BEGIN READ ONLY"));
        assert_eq!(client.value(lock), "f", "{lock}: somebody has it");
        client.exchange(&batch().query("COMMIT"));
        // Where it comes later, the block has begun on a replica.
        client.exchange(&batch().query("BEGIN READ ONLY"));
        assert_eq!(client.value("SELECT pg_is_in_recovery()"), "t");
        assert_eq!(client.exchange(&batch().query(lock))[0].sqlstate(), "0A000", "{lock}");
        client.exchange(&batch().query("ROLLBACK"));
        holder.exchange(&batch().query("COMMIT"));
        client.exchange(&batch().query("DEALLOCATE l"));
    }
    client.exchange(&batch().query("BEGIN READ ONLY"));
    assert_eq!(client.value("SELECT last_value FROM s"), "1");
    client.exchange(&batch().query("COMMIT"));
    for late in ["SELECT last_value FROM s", "SELECT pg_export_snapshot()", "TABLE s"] {
        client.exchange(&batch().query("BEGIN READ ONLY"));
        assert_eq!(client.value("SELECT pg_is_in_recovery()"), "t");
        assert_eq!(client.exchange(&batch().query(late))[0].sqlstate(), "0A000", "{late}");
        client.exchange(&batch().query("ROLLBACK"));
    }
}

#[test]
fn idle_in_a_block_that_no_server_knows_of_is_limited_too() {
    let general = "[client]\nidle_transaction_timeout = \"100ms\"";
    let world = Plan { sql: SQL, general, pool: "size = 1", primary_only: true, ..Plan::default() }.start();
    let mut client = world.client();
    assert!(client.is_silent_for(Duration::from_millis(200)), "idle outside of one");
    client.exchange(&batch().query("BEGIN"));
    assert_eq!(client.recv().sqlstate(), "25P03");
    assert!(client.is_closed());
}
