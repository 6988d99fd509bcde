//! The extended protocol, message by message, against the same script on a plain server. Tests name the traps that they show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use support::frames::{Batch, summary, tags};
use support::world::{Plan, Step, World, ready};

const SQL: &str = "CREATE TABLE t (id int PRIMARY KEY, v text);
    INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 100) AS n;
    CREATE TABLE empty_row ();
    INSERT INTO empty_row DEFAULT VALUES;
    CREATE TABLE log (n int);
    CREATE TABLE d (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)";

fn world() -> World {
    Plan { sql: SQL, pool: "size = 3", ..Plan::default() }.start()
}

fn batch() -> Batch {
    Batch::new()
}

const READ: &str = "SELECT v FROM t WHERE id = $1";
const WRITE: &str = "INSERT INTO log VALUES ($1) RETURNING n";

#[test]
fn pipelines_trap_30_32_43() {
    let world = world();
    let one = |id: &str| batch().parse("", READ, &[]).bind("", "", &[Some(id)]).execute("", 0);
    let write = |id: &str| batch().parse("", WRITE, &[23]).bind("", "", &[Some(id)]).execute("", 0);
    let join = |parts: &[Batch]| {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.bytes().to_vec()).collect();
        Batch::new().bytes_of(&bytes)
    };
    world.compare(
        "several Syncs, reads and writes, outstanding at once",
        &[
            Step::Ready(join(&[one("1").sync(), one("2").sync(), one("3").sync()]), 3),
            Step::Ready(join(&[one("1").sync(), write("2").sync(), one("3").sync(), write("4").sync()]), 4),
            Step::Ready(join(&[write("2").sync(), one("3").sync(), one("4").sync()]), 3),
            ready(join(&[one("1"), write("2"), one("3").sync()])),
        ],
    );
    world.compare(
        "simple and extended in one write",
        &[
            Step::Ready(join(&[batch().query("SELECT 1"), write("1").sync(), batch().query("SELECT 2")]), 3),
            Step::Ready(join(&[batch().query("SELECT 1"), batch().query("UPDATE t SET v = v WHERE id = 1")]), 2),
            Step::Ready(join(&[one("5").sync(), batch().query("SELECT 2"), one("5").sync()]), 3),
        ],
    );
    let say = |sql: &str| batch().parse("", sql, &[]).bind("", "", &[]).execute("", 0);
    world.compare(
        "BEGIN READ ONLY, and what ends it together with a write",
        &[
            ready(batch().query("BEGIN READ ONLY")),
            ready(batch().query("COMMIT; UPDATE t SET v = v WHERE id = 1")),
            ready(say("BEGIN READ ONLY").sync()),
            ready(join(&[say("COMMIT"), write("1").sync()])),
            ready(batch().query("BEGIN READ ONLY")),
            ready(batch().query("COMMIT; BEGIN; UPDATE t SET v = v WHERE id = 1; COMMIT")),
        ],
    );
    world.compare(
        "BEGIN READ ONLY and what follows it, in one write",
        &[
            Step::Ready(
                join(&[
                    batch().query("BEGIN READ ONLY"),
                    one("1").sync(),
                    batch().query("COMMIT"),
                    write("1").sync(),
                    one("2").sync(),
                ]),
                5,
            ),
            Step::Ready(
                join(&[
                    batch().run("BEGIN READ ONLY", &[]).sync(),
                    one("1").sync(),
                    batch().run("COMMIT", &[]).sync(),
                    write("1").sync(),
                ]),
                4,
            ),
            ready(join(&[batch().run("BEGIN READ ONLY", &[]), batch().run("COMMIT", &[]), write("1").sync()])),
            ready(join(&[batch().run("BEGIN", &[]), write("1"), batch().run("COMMIT", &[]).sync()])),
        ],
    );
    world.compare(
        "an implicit transaction of many",
        &[
            ready(join(&[write("1"), batch().run("SELECT 1/0", &[]), write("2").sync()])),
            ready(batch().query("SELECT 'goes on'")),
        ],
    );
}

#[test]
fn flush_without_sync_trap_38() {
    let world = world();
    for (sql, name) in [(READ, ""), (READ, "s1"), (WRITE, ""), (WRITE, "s2")] {
        world.compare(
            &format!("as asyncpg does it: {sql} as {name:?}"),
            &[
                Step::Frames(batch().parse(name, sql, &[23]).describe(b'S', name).flush(), 3),
                ready(batch().bind("", name, &[Some("7")]).execute("", 0).sync()),
                ready(batch().bind("", name, &[Some("8")]).execute("", 0).sync()),
            ],
        );
        world.compare(
            &format!("every message flushed: {sql} as {name:?}"),
            &[
                Step::Frames(batch().parse(name, sql, &[23]).flush(), 1),
                Step::Frames(batch().describe(b'S', name).flush(), 2),
                Step::Frames(batch().bind("", name, &[Some("7")]).flush(), 1),
                Step::Frames(batch().describe(b'P', "").flush(), 1),
                Step::Frames(batch().execute("", 0).flush(), 2),
                Step::Frames(batch().bind("", name, &[Some("9")]).execute("", 0).flush(), 3),
                ready(batch().sync()),
            ],
        );
    }
    world.compare(
        "a read first, then a write in the same sequence",
        &[
            Step::Frames(batch().parse("r", READ, &[23]).describe(b'S', "r").flush(), 3),
            Step::Frames(batch().parse("w", WRITE, &[23]).describe(b'S', "w").flush(), 3),
            ready(batch().bind("", "r", &[Some("1")]).execute("", 0).bind("", "w", &[Some("1")]).execute("", 0).sync()),
            // Known by now: their ParseComplete is made by the proxy, and must come after the ReadyForQuery.
            Step::Frames(batch().bind("", "r", &[Some("2")]).execute("", 0).sync().parse("r2", READ, &[23]).flush(), 5),
            ready(batch().sync()),
        ],
    );
    world.compare(
        "an error, with a Flush and no Sync yet",
        &[
            Step::Frames(batch().parse("", "SELECT nonsense", &[]).describe(b'S', "").flush(), 1),
            ready(batch().bind("", "", &[]).execute("", 0).sync()),
            Step::Frames(batch().flush().parse("", "SELECT 1", &[]).flush(), 1),
            ready(batch().bind("", "", &[]).execute("", 0).sync()),
        ],
    );
}

#[test]
fn unnamed_statement_lives_over_round_trips_trap_37() {
    let world = world();
    world.compare(
        "Parse, Describe, Sync; then Bind, Execute, Sync",
        &[
            ready(batch().parse("", READ, &[23]).describe(b'S', "").sync()),
            ready(batch().bind("", "", &[Some("1")]).execute("", 0).sync()),
            ready(batch().bind("", "", &[Some("2")]).describe(b'P', "").execute("", 0).sync()),
            ready(batch().query("SELECT 'ends it'")),
            ready(batch().bind("", "", &[Some("3")]).execute("", 0).sync()),
            ready(batch().parse("", "SELECT $1::int + 1", &[]).describe(b'S', "").sync()),
            ready(batch().parse("", "SELECT nonsense", &[]).sync()),
            ready(batch().parse("", WRITE, &[23]).describe(b'S', "").sync()),
            ready(batch().bind("", "", &[Some("1")]).execute("", 0).sync()),
            ready(batch().close(b'S', "").sync()),
            ready(batch().bind("", "", &[Some("1")]).execute("", 0).sync()),
        ],
    );
    // Others use the same server connection in between, with other settings and other statements.
    let world = Plan { sql: SQL, pool: "size = 1", primary_only: true, ..Plan::default() }.start();
    let mut a = world.client_with(&[("application_name", "a")]);
    let mut b = world.client_with(&[("application_name", "b")]);
    for round in 0..3 {
        let id = round.to_string();
        a.exchange(&batch().parse("", "SELECT $1 || current_setting('application_name')", &[25]).sync());
        b.exchange(&batch().parse("", "SELECT $1 || current_setting('application_name')", &[25]).sync());
        for name in ["a", "b", "b"] {
            let client = if name == "a" { &mut a } else { &mut b };
            let frames = client.exchange(&batch().bind("", "", &[Some(&id)]).execute("", 0).sync());
            assert_eq!(tags(&frames), "2DCZ", "{frames:?}");
            assert_eq!(frames[1].columns(), [Some(format!("{id}{name}"))]);
        }
    }
}

/// The next segment may have prepared the unnamed statement by the time that the error of the one before comes.
#[test]
fn an_error_leaves_the_unnamed_statement_of_the_next_segment_alone_trap_33_37() {
    let world = world();
    let wrong = || batch().parse("", "SELECT nothing", &[]).bind("", "", &[]).execute("", 0).sync();
    let bind = || batch().bind("", "", &[Some("7")]).execute("", 0).sync();
    let then = |first: Batch, second: Batch| batch().bytes_of(first.bytes()).bytes_of(second.bytes());
    let prepared = || batch().parse("", READ, &[]).flush();
    world.compare(
        "an error and a Parse behind it",
        &[
            Step::Frames(then(wrong(), prepared()), 3),
            ready(bind()),
            ready(bind()),
            // What the Parse that fails has ended stays so.
            Step::Ready(then(wrong(), batch().parse("", "SELECT nothing", &[]).sync()), 2),
            ready(bind()),
            ready(prepared().sync()),
            // One that was skipped has ended nothing, and a Query always does.
            ready(batch().describe(b'S', "nobody").parse("", "SELECT 1", &[]).sync()),
            ready(bind()),
            Step::Ready(
                then(batch().describe(b'S', "nobody").parse("", "SELECT 1", &[]).sync(), batch().query("SELECT 2")),
                2,
            ),
            ready(bind()),
            ready(prepared().sync()),
            Step::Ready(
                then(
                    batch().describe(b'S', "nobody").parse("", "SELECT 1", &[]).sync(),
                    batch().describe(b'S', "nobody").parse("", "SELECT 2", &[]).sync(),
                ),
                2,
            ),
            ready(bind()),
            // A Query that was skipped has ended nothing either.
            ready(prepared().sync()),
            ready(batch().describe(b'S', "nobody").query("SELECT 2").sync()),
            ready(bind()),
            ready(batch().describe(b'S', "nobody").parse("", "SELECT 1", &[]).query("SELECT 2").query("").sync()),
            ready(bind()),
            ready(batch().describe(b'P', "nobody").query("SELECT 2").parse("", "SELECT 1", &[]).sync()),
            ready(bind()),
        ],
    );
}

#[test]
fn errors_in_a_pipeline_trap_33_40() {
    let world = world();
    world.compare(
        "a Parse after the error is not prepared, and a Close after it does not close",
        &[
            ready(batch().parse("keep", READ, &[23]).sync()),
            ready(batch().run("SELECT 1/0", &[]).parse("skipped", READ, &[23]).close(b'S', "keep").sync()),
            ready(batch().bind("", "skipped", &[Some("1")]).execute("", 0).sync()),
            ready(batch().bind("", "keep", &[Some("1")]).execute("", 0).sync()),
            ready(batch().parse("skipped", READ, &[23]).bind("", "skipped", &[Some("1")]).execute("", 0).sync()),
            ready(batch().parse("bad", "SELECT nonsense", &[]).bind("", "bad", &[]).execute("", 0).sync()),
            ready(batch().describe(b'S', "bad").sync()),
            ready(batch().parse("bad", "SELECT 1", &[]).bind("", "bad", &[]).execute("", 0).sync()),
        ],
    );
    world.compare(
        "Close",
        &[
            ready(batch().close(b'S', "unknown").close(b'P', "unknown").sync()),
            Step::Frames(batch().close(b'S', "unknown").flush(), 1),
            ready(batch().sync()),
            ready(
                batch()
                    .parse("p", READ, &[23])
                    .close(b'P', "p")
                    .bind("p", "p", &[Some("1")])
                    .close(b'S', "p")
                    .execute("p", 0)
                    .sync(),
            ),
            ready(batch().bind("", "p", &[Some("1")]).sync()),
            ready(batch().parse("p", WRITE, &[23]).describe(b'S', "p").sync()),
        ],
    );
    world.compare(
        "unknown statements and portals",
        &[
            ready(batch().bind("", "never", &[]).execute("", 0).sync()),
            ready(batch().describe(b'S', "never").sync()),
            ready(batch().describe(b'P', "never").sync()),
            ready(batch().execute("never", 0).sync()),
            ready(batch().bind("", "", &[]).sync()),
            ready(batch().query("SELECT 'goes on'")),
        ],
    );
    world.compare(
        "errors when the transaction commits at Sync",
        &[
            ready(batch().run("INSERT INTO d VALUES (1), (1)", &[]).sync()),
            Step::Ready(batch().run("INSERT INTO d VALUES (1), (1)", &[]).sync().run("SELECT 1", &[]).sync(), 2),
        ],
    );
}

#[test]
fn a_name_taken_twice_is_refused_by_the_server_trap_44() {
    let world = world();
    world.compare(
        "42P05, and the implicit transaction is rolled back",
        &[
            ready(batch().query("DELETE FROM t WHERE id = 1000")),
            ready(batch().parse("dup", "SELECT 1", &[]).sync()),
            ready(batch().run("INSERT INTO t VALUES (1000, 'x')", &[]).parse("dup", "SELECT 2", &[]).sync()),
            ready(batch().query("SELECT count(*) FROM t WHERE id = 1000")),
            ready(batch().bind("", "dup", &[]).execute("", 0).sync()),
            ready(batch().close(b'S', "dup").sync()),
            ready(batch().parse("dup", "SELECT 3", &[]).bind("", "dup", &[]).execute("", 0).sync()),
            ready(batch().query("BEGIN; SAVEPOINT a")),
            ready(batch().parse("dup", "SELECT 4", &[]).sync()),
            ready(batch().query("ROLLBACK TO a")),
            ready(batch().parse("dup2", "SELECT 4", &[]).sync()),
            ready(batch().parse("dup2", "SELECT 5", &[]).sync()),
            ready(batch().query("ROLLBACK TO a")),
            ready(batch().bind("", "dup", &[]).execute("", 0).bind("", "dup2", &[]).execute("", 0).sync()),
            ready(batch().query("COMMIT")),
            ready(batch().bind("", "dup", &[]).execute("", 0).bind("", "dup2", &[]).execute("", 0).sync()),
        ],
    );
    // What was put on the server for the server to complain is gone for everybody else, also for who brings other settings.
    let world = Plan { sql: SQL, pool: "size = 1", primary_only: true, ..Plan::default() }.start();
    let mut a = world.client();
    a.exchange(&batch().parse("mine", "SELECT 1", &[]).sync());
    let frames = a.exchange(&batch().parse("mine", "SELECT 2", &[]).sync());
    assert_eq!(
        summary(&frames),
        "ErrorResponse(ERROR 42P05: prepared statement \"mine\" already exists) ReadyForQuery(I)"
    );
    let mut b = world.client_with(&[("application_name", "b")]);
    a.exchange(&batch().parse("mine", "SELECT 2", &[]).sync());
    let frames = b.exchange(&batch().query("SELECT count(*) FROM pg_prepared_statements WHERE name = 'mine'"));
    assert_eq!(summary(&frames), "RowDescription DataRow(0) CommandComplete(SELECT 1) ReadyForQuery(I)");
    let frames = b.exchange(&batch().bind("", "mine", &[]).sync());
    assert_eq!(frames[0].sqlstate(), "26000");
}

#[test]
fn portals_and_row_limits_trap_39_41() {
    let world = world();
    let all = "SELECT id FROM t ORDER BY id LIMIT 5";
    world.compare(
        "PortalSuspended in a transaction",
        &[
            ready(batch().query("BEGIN")),
            ready(batch().parse("", all, &[]).bind("c", "", &[]).describe(b'P', "c").execute("c", 2).sync()),
            ready(batch().execute("c", 2).sync()),
            Step::Frames(batch().execute("c", 1).flush(), 2),
            ready(batch().execute("c", 0).sync()),
            ready(batch().close(b'P', "c").execute("c", 0).sync()),
            ready(batch().query("ROLLBACK")),
            ready(batch().execute("c", 0).sync()),
        ],
    );
    world.compare(
        "a portal outside a transaction ends at Sync",
        &[
            ready(batch().parse("", all, &[]).bind("c", "", &[]).execute("c", 2).execute("c", 1).sync()),
            ready(batch().execute("c", 2).sync()),
            Step::Frames(batch().parse("", all, &[]).bind("", "", &[]).execute("", 2).flush(), 5),
            Step::Frames(batch().execute("", 2).flush(), 3),
            ready(batch().execute("", 2).sync()),
        ],
    );
    world.compare(
        "several Executes, NoData, empty queries, rows without columns",
        &[
            ready(
                batch()
                    .parse("a", all, &[])
                    .bind("p1", "a", &[])
                    .bind("p2", "a", &[])
                    .execute("p1", 1)
                    .execute("p2", 2)
                    .execute("p1", 0)
                    .sync(),
            ),
            ready(batch().parse("", "UPDATE t SET v = v WHERE id = 1", &[]).describe(b'S', "").sync()),
            ready(batch().bind("", "", &[]).describe(b'P', "").execute("", 0).sync()),
            ready(batch().run("", &[]).sync()),
            ready(batch().run("-- only a comment", &[]).sync()),
            ready(batch().query("")),
            ready(batch().query(" ; ;")),
            ready(batch().run("SELECT FROM empty_row", &[]).sync()),
            ready(batch().query("SELECT FROM empty_row")),
            ready(batch().sync()),
            ready(batch().flush().sync()),
            ready(batch().query("SELECT 1; SELECT 2; UPDATE t SET v = v WHERE id = 1; SELECT 3")),
            ready(batch().query("SELECT 1; SELECT 1/0; SELECT 3")),
        ],
    );
}

#[test]
fn a_query_in_the_middle_of_a_sequence_trap_42() {
    let world = world();
    let part = || batch().parse("", READ, &[23]).bind("", "", &[Some("1")]).execute("", 0);
    world.compare(
        "no Sync before the Query, and perhaps none at all",
        &[
            ready(part().query("SELECT 'q'")),
            ready(part().query("UPDATE t SET v = v WHERE id = 1")),
            Step::Ready(part().query("SELECT 'q'").sync(), 2),
            Step::Frames(batch().parse("s", READ, &[23]).describe(b'S', "s").flush(), 3),
            ready(batch().query("UPDATE t SET v = v WHERE id = 1")),
            ready(batch().bind("", "s", &[Some("2")]).execute("", 0).query("SELECT 1/0")),
            ready(batch().query("SELECT 'goes on'")),
            ready(batch().query("TRUNCATE log")),
            // What the sequence has done is done with the Query, or not at all.
            ready(batch().run("INSERT INTO log VALUES (7)", &[]).query("EXECUTE missing")),
            ready(batch().run("INSERT INTO log VALUES (7)", &[]).query("DEALLOCATE missing")),
            ready(batch().query("SELECT count(*) FROM log")),
            // After an error the Query is skipped as well.
            ready(batch().run("SELECT 1/0", &[]).query("SELECT 'skipped'").sync()),
            // Also one before which the proxy has to end the sequence itself.
            ready(batch().describe(b'S', "missing").query("PREPARE skipped AS SELECT 1").query("SELECT 2").sync()),
            ready(batch().describe(b'S', "missing").query("EXECUTE skipped").flush().query("SELECT 2").sync()),
            // And those behind it, whatever the proxy has to send ahead of them.
            ready(batch().query("PREPARE here AS INSERT INTO log VALUES (7)")),
            ready(batch().describe(b'S', "missing").query("SELECT 2 FOR UPDATE").query("EXECUTE here").sync()),
            Step::Ready(batch().run("SELECT 1", &[]).query("SELECT 2 FOR UPDATE").query("EXECUTE here"), 2),
            ready(batch().query("SELECT count(*) FROM log")),
            ready(batch().query("EXECUTE skipped")),
            ready(batch().query("EXECUTE skipped")),
            ready(batch().query("LISTEN here")),
            ready(batch().execute("missing", 0).query("UPDATE t SET v = v WHERE id = 1; SELECT 1").sync()),
            ready(batch().query("SELECT 'goes on'")),
        ],
    );
    let mut client = world.client();
    let frames = client.exchange(&part().query("SHOW trunkline.route"));
    assert_eq!(tags(&frames), "12DCTDCZ");
    // However the answers before the error come.
    for _ in 0..100 {
        let first = batch().query("INSERT INTO t VALUES (9000 + (random() * 1e9)::int, '')");
        client.send(&first.describe(b'S', "missing").query("PREPARE skipped AS SELECT 1").query("SELECT 2").sync());
        assert_eq!(tags(&client.recv_ready(2)), "CZEZ");
    }
    // Nothing is left open: the connection returned.
    let mut others: Vec<_> = (0..6).map(|_| world.client()).collect();
    for other in &mut others {
        assert_eq!(other.value("UPDATE t SET v = v WHERE id = 1 RETURNING 1"), "1");
    }
}

/// The server skips the Query with what comes before it, and goes on skipping: whoever got the connection would be skipped as well.
#[test]
fn a_query_that_an_error_before_it_voids_ends_nothing_trap_42() {
    let sql = "CREATE TABLE log (n int)";
    let world = Plan { sql, pool: "size = 1\nwait_timeout = \"20s\"", primary_only: true, ..Plan::default() }.start();
    let long = format!("SELECT length('{}')", "x".repeat(1_200_000));
    let fails = [batch().run("SELECT 1/0", &[]), batch().bind("", "missing", &[]), batch().describe(b'P', "missing")];
    let voided = [
        batch().query("SELECT 2"),
        batch().query(&long),
        // Of a function that makes a large object, and pins nothing.
        batch().raw(b'F', b"\0\0\x03\xbd\0\0\0\x01\0\0\0\x010\0\0"),
        batch().query("SELECT 2").query("SELECT 3").run("SELECT 4", &[]),
    ];
    let mut written = 0;
    for (fails, voided) in fails.iter().flat_map(|fails| voided.iter().map(move |voided| (fails, voided))) {
        let mut client = world.client();
        client.send(&batch().bytes_of(fails.bytes()).bytes_of(voided.bytes()));
        while client.recv().tag != b'E' {}
        let mut other = world.client();
        other.send(&batch().run("INSERT INTO log VALUES (1)", &[]).sync());
        assert!(client.is_silent_for(Duration::from_millis(20)), "nothing is answered before the Sync");
        // More of it is void, too.
        client.send(&batch().query("SELECT 5").sync().query("SELECT 6"));
        assert_eq!(tags(&client.recv_ready(2)), "ZTDCZ");
        assert_eq!(tags(&other.recv_ready(1)), "12nCZ");
        written += 1;
        assert_eq!(other.value("SELECT count(*) FROM log"), written.to_string());
    }
    // Who goes away instead leaves nothing behind, either.
    let mut client = world.client();
    client.send(&batch().run("SELECT 1/0", &[]).query("SELECT 2"));
    while client.recv().tag != b'E' {}
    client.vanish();
    assert_eq!(world.client().value("SELECT 'served'"), "served");
}

#[test]
fn large_messages_trap_46_47() {
    let world = world();
    let sizes = [40_000, 70_000, 300_000, 3_000_000];
    for size in sizes {
        let text = "x".repeat(size);
        for name in ["", "big"] {
            world.compare(
                &format!("a parameter of {size} bytes, {name:?}"),
                &[
                    ready(batch().parse(name, "SELECT length($1::text)", &[25]).sync()),
                    ready(batch().bind("", name, &[Some(&text)]).execute("", 0).sync()),
                    ready(
                        batch()
                            .bind("", name, &[Some(&text)])
                            .execute("", 0)
                            .bind("", name, &[Some("a")])
                            .execute("", 0)
                            .sync(),
                    ),
                    // An error before it: skipped whole.
                    ready(batch().run("SELECT 1/0", &[]).bind("", name, &[Some(&text)]).execute("", 0).sync()),
                    Step::Frames(batch().run("SELECT 1/0", &[]).flush(), 2),
                    ready(batch().bind("", name, &[Some(&text)]).execute("", 0).sync()),
                    ready(batch().query(&format!("SELECT length('{text}')"))),
                    ready(
                        batch()
                            .parse("l", &format!("SELECT length('{text}')"), &[])
                            .bind("", "l", &[])
                            .execute("", 0)
                            .sync(),
                    ),
                    ready(batch().bind("", "l", &[]).execute("", 0).sync()),
                    ready(batch().parse("", &format!("SELECT length('{text}')"), &[]).describe(b'S', "").sync()),
                    ready(batch().bind("", "", &[]).execute("", 0).sync()),
                    ready(batch().query(&format!("SELECT length(v), 'a' FROM (SELECT '{text}'::text AS v) AS q"))),
                    ready(batch().query(&format!("SELECT '{text}' AS v"))),
                ],
            );
        }
    }
    let columns: Vec<String> = (0..1600).map(|n| format!("{n} AS a_rather_long_name_of_a_column_{n}")).collect();
    let wide = format!("SELECT {}", columns.join(", "));
    world.compare("1600 columns", &[ready(batch().query(&wide)), ready(batch().run(&wide, &[]).sync())]);
    let numbers: Vec<String> = (1..=40_000).map(|n| format!("${n}::int")).collect();
    let sum = format!("SELECT array_length(ARRAY[{}], 1)", numbers.join(","));
    world.compare("40000 parameters", &[ready(batch().run(&sum, &vec![Some("1"); 40_000]).sync())]);
}

#[test]
fn function_calls_and_notices_trap_60() {
    let world = world();
    // abs(int4) is 1397 in every version: one argument in text, the result in text.
    let call = |oid: u32, argument: &str| {
        let mut body = oid.to_be_bytes().to_vec();
        body.extend(0_u16.to_be_bytes());
        body.extend(1_u16.to_be_bytes());
        body.extend(u32::try_from(argument.len()).unwrap().to_be_bytes());
        body.extend(argument.as_bytes());
        body.extend(0_u16.to_be_bytes());
        batch().raw(b'F', &body)
    };
    world.compare(
        "FunctionCall",
        &[
            ready(call(1397, "-5")),
            ready(call(1397, "no number")),
            ready(call(4_000_000_000, "1")),
            ready(batch().query("BEGIN")),
            ready(call(1397, "-5")),
            ready(call(1397, "no number")),
            ready(call(1397, "-5")),
            ready(batch().query("ROLLBACK")),
        ],
    );
    world.compare(
        "notices in both protocols",
        &[
            ready(batch().query("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")),
            ready(batch().run("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$", &[]).sync()),
            ready(batch().query("DO $$ BEGIN RAISE NOTICE '%', repeat('x', 100000); END $$")),
            ready(batch().query("DO $$ BEGIN RAISE EXCEPTION '%', repeat('x', 100000); END $$")),
            ready(batch().run("DO $$ BEGIN RAISE EXCEPTION '%', repeat('x', 100000); END $$", &[]).sync()),
            ready(batch().query("SELECT 'goes on'")),
        ],
    );
}

#[test]
fn what_was_asked_before_goodbye_is_answered() {
    let world = world();
    let mut client = world.client();
    client.send(&batch().query("SELECT pg_sleep(0.2)").query("SELECT 'last words'").terminate());
    let frames = client.recv_ready(2);
    assert_eq!(tags(&frames), "TDCZTDCZ");
    assert!(client.is_closed());
}
