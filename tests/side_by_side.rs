//! Clients that each use another feature of a session, all at once over two server connections: each gets, message for message, what
//! a connection of its own would have said. Tests name the traps that they show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use support::clusters::{APP, APP_PASSWORD};
use support::frames::{Batch, summary};
use support::raw::RawClient;
use support::world::{Plan, Step, World, ready};

/// How often each script runs while the others do.
const ROUNDS: usize = 3;

fn batch() -> Batch {
    Batch::new()
}

/// Each statement as a Query of its own.
fn queries(sql: &[&str]) -> Vec<Step> {
    sql.iter().map(|sql| ready(batch().query(sql))).collect()
}

/// Each statement as a segment of its own of the extended protocol.
fn segments(sql: &[&str]) -> Vec<Step> {
    sql.iter().map(|sql| ready(batch().run(sql, &[]).sync())).collect()
}

/// All statements as one segment.
fn pipeline(sql: &[&str]) -> Step {
    ready(sql.iter().fold(batch(), |batch, sql| batch.run(sql, &[])).sync())
}

fn text(sql: &str) -> Step {
    ready(batch().query(sql))
}

fn savepoints() -> Vec<Step> {
    let show = "SELECT current_setting('work_mem'), current_setting('app.name'), current_user";
    let mut script = vec![
        pipeline(&["BEGIN", "SAVEPOINT a", "SET work_mem = '3MB'", "SAVEPOINT b", "SET work_mem = '4MB'", show]),
        pipeline(&["SELECT 1/0", "SET work_mem = '5MB'"]),
        pipeline(&["ROLLBACK TO b", show, "SET app.name = 'in b'", "RELEASE b", show]),
        pipeline(&["ROLLBACK TO a", show, "COMMIT"]),
        text(show),
        text("BEGIN; SET app.name = 'one'; SAVEPOINT a; SET app.name = 'two'; ROLLBACK TO a; SELECT 1/0"),
        text("ROLLBACK TO a; SHOW app.name; RELEASE a; COMMIT; SHOW app.name"),
        pipeline(&["SET app.name = 'implicit'", "SHOW app.name", "SELECT 1/0"]),
        text("SHOW app.name"),
        pipeline(&["BEGIN", "SET app.name = 'x'", "COMMIT AND CHAIN", "SET app.name = 'y'", "SELECT 1/0"]),
        pipeline(&["SHOW app.name", "ROLLBACK"]),
        text("SHOW app.name"),
        pipeline(&[
            "BEGIN",
            "SET LOCAL app.name = 'local'",
            "SAVEPOINT a",
            "SET app.name = 'session'",
            "ROLLBACK TO a",
            show,
        ]),
        text("COMMIT"),
        text(show),
        text("BEGIN; SAVEPOINT \"A b\"; SAVEPOINT a; SET work_mem = '6MB'; RELEASE SAVEPOINT \"A b\"; ROLLBACK TO a"),
        text("COMMIT"),
        text(show),
        text("SAVEPOINT a"),
        text("SET work_mem = '9MB'; SAVEPOINT a"),
        text(show),
        text("SET work_mem = '9MB'; ROLLBACK"),
        text(show),
        text("SET work_mem = '8MB'; BEGIN; SET work_mem = '9MB'; ROLLBACK"),
        text(show),
    ];
    script.extend(segments(&[
        "BEGIN",
        "SAVEPOINT s",
        "SET ROLE none",
        "SET work_mem = 'x'",
        "ROLLBACK TO s",
        show,
        "END",
    ]));
    script
}

fn prepared() -> Vec<Step> {
    let long = "p".repeat(70);
    let mut script = queries(&[
        "PREPARE p(int, text) AS SELECT $1 + 1, $2",
        "EXECUTE p",
        "EXECUTE p(1)",
        "EXECUTE p(1, 'a', 3)",
        "EXECUTE p('x', 'y')",
        "EXECUTE p(1, 'y')",
        "EXECUTE p((SELECT 1), 'y')",
        "EXECUTE P(2, 'y')",
        "EXECUTE \"P\"(2, 'y')",
        "EXECUTE nobody",
        "DEALLOCATE nobody",
        "PREPARE p AS SELECT 1",
        "PREPARE q AS SELEC 1",
        "EXECUTE q",
        "PREPARE q AS SELECT nothing",
        "EXECUTE q",
        "PREPARE q(nonsense) AS SELECT 1",
        "BEGIN",
        "PREPARE q AS SELECT 7",
        "EXECUTE q(1)",
        "EXECUTE q",
        "ROLLBACK",
        "EXECUTE q",
        "DEALLOCATE PREPARE q",
        "EXPLAIN (COSTS off) EXECUTE p(1, 'x')",
        "CREATE TEMP TABLE made AS EXECUTE p(5, 'z')",
        "TABLE made",
        "DROP TABLE made",
        "PREPARE e AS",
        "EXECUTE e",
        "PREPARE i AS INSERT INTO t0 VALUES ($1) RETURNING v",
        "EXECUTE i(4)",
        "DELETE FROM t0",
        "DEALLOCATE ALL",
        "EXECUTE i(4)",
    ]);
    script.extend([
        text(&format!("PREPARE {long} AS SELECT 9")),
        text(&format!("EXECUTE {long}")),
        text(&format!("EXECUTE {}", &long[..63])),
        ready(batch().bind("", &long[..63], &[]).execute("", 0).sync()),
        ready(batch().bind("", &long, &[]).execute("", 0).sync()),
        text(&format!("DEALLOCATE {long}")),
        ready(batch().parse(&long, "SELECT 10", &[]).bind("", &long, &[]).execute("", 0).sync()),
        text(&format!("EXECUTE {long}")),
        ready(batch().close(b'S', &long).sync()),
        ready(batch().parse("w", "SELECT $1::int / $2::int", &[]).sync()),
        ready(batch().bind("", "w", &[Some("1")]).execute("", 0).sync()),
        ready(batch().bind("", "w", &[Some("1"), Some("x")]).execute("", 0).sync()),
        ready(batch().bind("", "w", &[Some("1"), Some("0")]).execute("", 0).sync()),
        ready(batch().bind("", "w", &[Some("1"), None]).describe(b'P', "").execute("", 0).sync()),
        text("EXECUTE w(8, 2)"),
        ready(batch().parse("w", "SELECT 2", &[]).sync()),
        ready(batch().parse("x", "SELECT 1; SELECT 2", &[]).sync()),
        ready(batch().bind("", "x", &[]).sync()),
        text("SELECT 3; DEALLOCATE w; SELECT 4"),
        ready(batch().bind("", "w", &[Some("1"), Some("1")]).execute("", 0).sync()),
    ]);
    script
}

fn discards() -> Vec<Step> {
    let mut script = queries(&[
        "DISCARD PLANS",
        "DISCARD SEQUENCES",
        "DISCARD TEMP",
        "DISCARD TEMPORARY",
        "DISCARD nonsense",
        "SET app.name = 'mine'",
        "CREATE TEMP TABLE d (v int)",
        "BEGIN",
        "DISCARD PLANS",
        "DISCARD TEMP",
        "SELECT to_regclass('pg_temp.d')",
        "ROLLBACK",
        "SELECT to_regclass('pg_temp.d')",
        "BEGIN",
        "DISCARD ALL",
        "COMMIT",
        "SHOW app.name",
        "SELECT 1; DISCARD ALL",
        "SHOW app.name",
        "DISCARD TEMP",
        "SELECT to_regclass('pg_temp.d')",
        "PREPARE p AS SELECT 1",
        "LISTEN gone",
        "DISCARD ALL",
        "EXECUTE p",
        "SHOW app.name",
        "SELECT count(*) FROM pg_listening_channels()",
        "SET SESSION AUTHORIZATION app",
        "SET ROLE guest_of_all",
        "SELECT current_user, session_user",
        "DISCARD ALL",
        "SELECT current_user, session_user",
        "SET SESSION AUTHORIZATION postgres",
        "SET SESSION AUTHORIZATION nobody_at_all",
        "SET ROLE nobody_at_all",
        "RESET SESSION AUTHORIZATION",
        "SET ROLE guest_of_all",
        "RESET ALL",
        "SELECT current_user",
        "RESET ROLE",
    ]);
    script.extend([
        pipeline(&["DISCARD ALL", "SELECT 1"]),
        pipeline(&["SELECT 1", "DISCARD ALL"]),
        pipeline(&["SET app.name = 'again'", "DISCARD PLANS", "SHOW app.name"]),
        text("RESET nothing_of_that_name"),
        text("RESET app.nothing"),
        text("SHOW app.unknown"),
        text("SET app.name TO DEFAULT"),
        text("SET work_mem TO DEFAULT; SET work_mem = '-5'; SELECT 1"),
        text("SET bad-name = 1"),
        text("SET TIME ZONE 'Nowhere/Land'"),
        text("SET TIME ZONE INTERVAL '+05:30' HOUR TO MINUTE"),
        text("SHOW TimeZone"),
        text("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ"),
        text("SHOW transaction_isolation"),
        text("SET NAMES 'nonsense'"),
        text("SET server_version = '3'"),
        text("SET max_connections = 3"),
        text("SET log_min_messages = debug1"),
        text(&format!("SET app.name = '{}'", "x".repeat(100_000))),
        text("SELECT length(current_setting('app.name'))"),
        text(&format!("SET app.{} = 'y'", "n".repeat(80))),
        text(&format!("SHOW app.{}", "n".repeat(80))),
        text("DISCARD ALL"),
    ]);
    script
}

fn notifications() -> Vec<Step> {
    let mut script = queries(&[
        "LISTEN side",
        "SELECT pg_notify('side', repeat('x', 8000))",
        "NOTIFY side, 'ok'",
        "SELECT 1",
        "SELECT pg_notify('', 'x')",
        "SELECT pg_notify(repeat('c', 64), 'x')",
        "SELECT pg_notify(NULL, 'x')",
        "BEGIN",
        "NOTIFY side, 'never'",
        "SELECT pg_notify('side', repeat('x', 8000))",
        "COMMIT",
        "SELECT 2",
        "BEGIN",
        "SAVEPOINT a",
        "LISTEN other",
        "NOTIFY side, 'undone'",
        "ROLLBACK TO a",
        "NOTIFY side, 'kept'",
        "NOTIFY side, 'kept'",
        "COMMIT",
        "SELECT pg_listening_channels()",
        "UNLISTEN nothing",
        "LISTEN side",
        "UNLISTEN side",
        "NOTIFY side",
        "UNLISTEN *",
        "LISTEN",
        "NOTIFY",
        "SELECT 3",
    ]);
    script.push(text(&format!("NOTIFY side, '{}'", "y".repeat(8000))));
    script.push(text(&format!("LISTEN {}", "z".repeat(70))));
    script.push(text("SELECT pg_listening_channels()"));
    script.push(text("UNLISTEN *"));
    script
}

fn copies() -> Vec<Step> {
    let copy = || batch().query("COPY t1 FROM STDIN");
    vec![
        text("TRUNCATE t1"),
        ready(copy().copy_data(b"1\n2\n").copy_done()),
        ready(copy().copy_data(b"x\n").copy_done()),
        ready(copy().copy_fail("no more")),
        ready(copy().copy_data(b"3\n").copy_fail("no more")),
        ready(copy().copy_data(b"1\n").copy_data(b"1\n1\n").copy_done()),
        ready(batch().query("COPY nowhere FROM STDIN")),
        ready(batch().query("COPY t1 (nothing) FROM STDIN")),
        ready(batch().query("COPY t1 TO STDOUT")),
        ready(batch().query("COPY (SELECT 1/v FROM (VALUES (1), (0)) AS x (v)) TO STDOUT")),
        ready(batch().query("COPY t1 FROM PROGRAM 'nothing'")),
        text("BEGIN"),
        ready(copy().copy_data(b"7\n").copy_done()),
        ready(copy().copy_data(b"bad\n").copy_done()),
        text("SELECT count(*) FROM t1"),
        text("ROLLBACK"),
        text("SELECT v FROM t1 ORDER BY v"),
        // In one string with others, and two in one.
        Step::Ready(batch().query("SELECT 1; COPY t1 FROM STDIN; SELECT 2").copy_data(b"8\n").copy_done(), 1),
        Step::Ready(
            batch()
                .query("COPY t1 FROM STDIN; COPY t1 FROM STDIN")
                .copy_data(b"9\n")
                .copy_done()
                .copy_data(b"10\n")
                .copy_done(),
            1,
        ),
        ready(
            batch()
                .parse("", "COPY t1 FROM STDIN", &[])
                .bind("", "", &[])
                .execute("", 0)
                .sync()
                .copy_data(b"11\n")
                .copy_done()
                .sync(),
        ),
        ready(
            batch()
                .parse("", "COPY t1 FROM STDIN", &[])
                .bind("", "", &[])
                .execute("", 0)
                .copy_data(b"bad\n")
                .copy_done()
                .sync(),
        ),
        ready(batch().run("COPY t1 TO STDOUT", &[]).sync()),
        text("TRUNCATE t1"),
    ]
}

fn two_phase() -> Vec<Step> {
    let mut script = queries(&[
        "PREPARE TRANSACTION 'side'",
        "BEGIN",
        "INSERT INTO t2 VALUES (1)",
        "SET app.name = 'prepared'",
        "PREPARE TRANSACTION 'side'",
        "SHOW app.name",
        "SELECT count(*) FROM t2",
        "COMMIT PREPARED 'side'",
        "SELECT count(*) FROM t2",
        "COMMIT PREPARED 'side'",
        "ROLLBACK PREPARED 'nothing'",
        "BEGIN",
        "COMMIT PREPARED 'side'",
        "ROLLBACK",
        "BEGIN",
        "INSERT INTO t2 VALUES (2)",
        "SELECT 1/0",
        "PREPARE TRANSACTION 'side'",
        "COMMIT PREPARED 'side'",
        "BEGIN",
        "CREATE TEMP TABLE gone (v int)",
        "PREPARE TRANSACTION 'side'",
        "SELECT to_regclass('pg_temp.gone')",
        "BEGIN",
        "LISTEN two_phase",
        "PREPARE TRANSACTION 'side'",
        "SELECT pg_listening_channels()",
        "BEGIN",
        "INSERT INTO t2 VALUES (3)",
        "PREPARE TRANSACTION 'side'",
        "ROLLBACK PREPARED 'side'",
        "TRUNCATE t2",
        "RESET app.name",
    ]);
    script.push(pipeline(&["BEGIN", "INSERT INTO t2 VALUES (4)", "PREPARE TRANSACTION 'side'"]));
    script.push(pipeline(&["COMMIT PREPARED 'side'"]));
    script.push(text("TRUNCATE t2"));
    script
}

fn portals() -> Vec<Step> {
    let series = "SELECT n FROM generate_series(1, 5) AS n";
    let mut script = vec![
        text("BEGIN"),
        ready(batch().parse("s", series, &[]).bind("p", "s", &[]).execute("p", 2).sync()),
        ready(batch().execute("p", 2).sync()),
        text("FETCH 1 FROM p"),
        ready(batch().bind("p", "s", &[]).sync()),
        text("ROLLBACK"),
        text("BEGIN"),
        ready(
            batch().bind("p", "s", &[]).execute("p", 2).flush().execute("p", 2).execute("p", 2).execute("p", 2).sync(),
        ),
        ready(batch().describe(b'P', "p").close(b'P', "p").sync()),
        ready(batch().execute("p", 0).sync()),
        text("COMMIT"),
        ready(batch().bind("p", "s", &[]).execute("p", 1).sync()),
        ready(batch().execute("p", 1).sync()),
        ready(batch().bind("", "s", &[]).execute("", 1).execute("", 1).execute("", 0).sync()),
        ready(batch().describe(b'P', "none").sync()),
        ready(batch().close(b'P', "none").close(b'S', "none").sync()),
        ready(batch().close(b'S', "s").sync()),
        ready(batch().bind("", "s", &[]).sync()),
    ];
    script.extend(queries(&[
        "DECLARE c CURSOR FOR SELECT 1",
        "BEGIN",
        "DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT n FROM generate_series(1, 3) AS n",
        "FETCH LAST FROM c",
        "DECLARE c CURSOR FOR SELECT 1",
        "ROLLBACK",
        "FETCH c",
        "BEGIN",
        "DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT n FROM generate_series(1, 3) AS n",
        "COMMIT",
        "FETCH 2 FROM c",
        "SELECT 1/0",
        "FETCH BACKWARD 1 FROM c",
        "BEGIN",
        "FETCH c",
        "SELECT 1/0",
        "ROLLBACK",
        "FETCH c",
        "MOVE BACKWARD ALL IN c",
        "CLOSE c",
        "FETCH c",
        "CLOSE c",
        "CLOSE ALL",
        "BEGIN; DECLARE d CURSOR FOR SELECT 1; FETCH d; COMMIT; SELECT 2",
        "DECLARE d CURSOR WITH HOLD FOR SELECT 1/(n-2) FROM generate_series(1, 3) AS n",
        "FETCH d",
    ]));
    script
}

fn encodings() -> Vec<Step> {
    let umlaut = "SELECT chr(252), octet_length('\u{fc}')";
    vec![
        ready(
            batch()
                .run("SET client_encoding TO LATIN1", &[])
                .run("SELECT chr(252) = E'\\xfc', length(chr(252))", &[])
                .run("SET client_encoding TO UTF8", &[])
                .run(umlaut, &[])
                .sync(),
        ),
        pipeline(&["SHOW client_encoding"]),
        text("SET client_encoding TO SQL_ASCII; SELECT chr(252); RESET client_encoding; SELECT chr(252)"),
        text("SHOW client_encoding"),
        text("SET NAMES 'LATIN1'"),
        text("PREPARE p AS SELECT length('u')"),
        text("EXECUTE p"),
        text("SELECT chr(8364)"),
        text("SET NAMES 'UTF8'"),
        text("EXECUTE p"),
        text("SELECT chr(8364)"),
        ready(batch().raw(b'Q', b"SELECT '\xff'\0")),
        ready(batch().raw(b'P', b"\0SELECT '\xc3'\0\0\0").sync()),
        ready(
            batch()
                .parse("", "SELECT $1::text", &[25])
                .raw(b'B', b"\0\0\0\0\0\x01\0\0\0\x01\xff\0\0")
                .execute("", 0)
                .sync(),
        ),
        ready(
            batch()
                .parse("", "SELECT $1::text", &[25])
                .raw(b'B', b"\0\0\0\0\0\x01\0\0\0\x03a\0b\0\0")
                .execute("", 0)
                .sync(),
        ),
        text("SET standard_conforming_strings = off; SELECT 'a\\'b'; SET standard_conforming_strings = on"),
        text("SELECT 'a\\'"),
        text("DEALLOCATE ALL"),
        text("SET bytea_output = escape; SELECT '\\x00ff'::bytea; RESET bytea_output"),
        text("SET DateStyle = 'SQL, DMY'"),
        text("SET DateStyle = 'MDY'"),
        text("SELECT '2024-03-01'::date"),
        text("RESET DateStyle"),
        text("SELECT '2024-03-01'::date"),
    ]
}

fn read_only_blocks() -> Vec<Step> {
    let mut script = Vec::new();
    for statement in [
        "SET work_mem = '9MB'",
        "SET LOCAL work_mem = '9MB'",
        "SET ROLE guest_of_all",
        "SELECT set_config('work_mem', '10MB', false)",
        "RESET work_mem",
        "SHOW work_mem",
        "PREPARE r AS SELECT 1",
        "EXECUTE r",
        "DEALLOCATE r",
        "DECLARE c CURSOR FOR SELECT 1",
        "FETCH c",
        "CREATE TEMP TABLE no (v int)",
        "SELECT 1 INTO TEMP no",
        "CREATE TABLE no (v int)",
        "INSERT INTO t3 VALUES (1)",
        "SELECT nextval('s3')",
        "SELECT * FROM t3 FOR UPDATE",
        "SELECT 1/0",
        "SAVEPOINT a",
        "SET TRANSACTION READ WRITE",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET work_mem = 'nonsense'",
        "COPY t3 TO STDOUT",
        "EXPLAIN (COSTS off) SELECT 1",
        "BEGIN",
    ] {
        script.extend(queries(&["BEGIN READ ONLY", "SELECT count(*) FROM t3", statement, "SHOW work_mem", "COMMIT"]));
        script.push(text("RESET ALL"));
        script.push(text("RESET ROLE"));
    }
    for first in ["NOTIFY x", "LISTEN x", "SELECT pg_advisory_lock(17)", "DECLARE c CURSOR WITH HOLD FOR SELECT 1"] {
        script.extend(queries(&["BEGIN READ ONLY", first, "SELECT count(*) FROM t3", "COMMIT", "CLOSE ALL"]));
        script.extend(queries(&["UNLISTEN *", "SELECT pg_advisory_unlock_all()"]));
    }
    script
}

/// What is sent before the answers to what came before it have been read, and what stands between two Syncs.
fn sequences() -> Vec<Step> {
    let large = format!("SELECT length('{}')", "x".repeat(60_000));
    let huge = format!("SELECT length('{}')", "x".repeat(1_200_000));
    vec![
        // A Query within a sequence, behind an error, behind a Flush (trap 42).
        Step::Ready(batch().run("SELECT 1", &[]).query("SELECT 2"), 1),
        Step::Ready(batch().run("SELECT 1/0", &[]).query("SELECT 2").sync(), 1),
        Step::Ready(batch().run("SET app.name = 'kept'", &[]).flush().query("SHOW app.name"), 1),
        text("SHOW app.name"),
        // Errors at each place of a sequence (trap 33).
        ready(batch().parse("a", "SELEC", &[]).parse("b", "SELECT 1", &[]).sync()),
        ready(batch().bind("", "b", &[]).execute("", 0).sync()),
        ready(batch().parse("a", "SELECT $1::int", &[]).bind("", "a", &[Some("x")]).parse("b", "SELECT 2", &[]).sync()),
        ready(
            batch()
                .bind("", "a", &[Some("5")])
                .describe(b'P', "")
                .execute("", 0)
                .bind("", "b", &[])
                .execute("", 0)
                .sync(),
        ),
        ready(
            batch()
                .parse("b", "SELECT 3", &[])
                .close(b'S', "b")
                .parse("b", "SELECT 4", &[])
                .run("SELECT 1/0", &[])
                .close(b'S', "b")
                .sync(),
        ),
        ready(batch().bind("", "b", &[]).execute("", 0).sync()),
        ready(batch().close(b'S', "b").run("SELECT 1/0", &[]).sync()),
        ready(batch().bind("", "b", &[]).execute("", 0).close(b'S', "b").close(b'S', "a").sync()),
        ready(batch().execute("", 0).sync()),
        ready(batch().describe(b'S', "b").run("SELECT 1", &[]).sync()),
        ready(batch().parse("", "", &[]).bind("", "", &[]).describe(b'P', "").execute("", 0).sync()),
        // Several Syncs outstanding (trap 43), some within a transaction.
        Step::Ready(
            batch().run("SELECT 1", &[]).sync().sync().run("SELECT 1/0", &[]).sync().run("SELECT 2", &[]).sync(),
            4,
        ),
        Step::Ready(
            batch()
                .query("BEGIN")
                .run("SET app.name = 'gone'", &[])
                .sync()
                .run("SELECT 1/0", &[])
                .sync()
                .run("SHOW app.name", &[])
                .sync()
                .query("ROLLBACK")
                .query("SHOW app.name"),
            6,
        ),
        Step::Ready(
            batch().query("BEGIN").query("SELECT 1/0").query("COMMIT").query("BEGIN").query("SELECT 1").query("END"),
            6,
        ),
        // Flush by Flush, as asyncpg speaks (trap 38).
        Step::Frames(batch().parse("f", "SELECT $1::int + 1", &[]).describe(b'S', "f").flush(), 3),
        Step::Frames(batch().bind("", "f", &[Some("1")]).execute("", 0).flush(), 3),
        ready(batch().sync()),
        Step::Frames(batch().bind("", "f", &[Some("x")]).execute("", 0).flush(), 1),
        ready(batch().execute("", 0).sync()),
        text("BEGIN"),
        Step::Frames(batch().bind("p", "f", &[Some("1")]).execute("p", 0).flush(), 3),
        text("SELECT name FROM pg_cursors ORDER BY 1"),
        text("COMMIT"),
        ready(batch().close(b'S', "f").sync()),
        // Long messages: longer than what is looked ahead over, and than what is looked at.
        text(&large),
        pipeline(&[&large, "SELECT 1"]),
        ready(batch().run("SELECT length($1)", &[Some(&"y".repeat(200_000))]).sync()),
        text("BEGIN"),
        text(&huge),
        ready(batch().run(&huge, &[]).sync()),
        ready(batch().parse("h", &huge, &[]).bind("", "h", &[]).execute("", 0).sync()),
        text("COMMIT"),
        ready(batch().bind("", "h", &[]).execute("", 0).sync()),
        ready(batch().close(b'S', "h").sync()),
        ready(batch().bind("", "h", &[]).execute("", 0).sync()),
        // Function calls: of one that there is (1 + 2), with a wrong argument, of none (trap 14).
        ready(batch().raw(b'F', b"\0\0\0\xb1\0\x01\0\0\0\x02\0\0\0\x011\0\0\0\x012\0\0")),
        ready(batch().raw(b'F', b"\0\0\0\xb1\0\x01\0\0\0\x02\0\0\0\x01x\0\0\0\x012\0\0")),
        ready(batch().raw(b'F', b"\0\0\0\x01\0\0\0\0\0\0")),
        text("SELECT 1; SELECT 1/0; SELECT 2"),
        text("CREATE TABLE made_here (v int); SELECT count(*) FROM made_here; DROP TABLE made_here"),
        text("; ; SELECT 1;; -- nothing\n;"),
        text("/* only */"),
        ready(batch().run("SELECT 1; SELECT 2", &[]).sync()),
        text("DISCARD ALL"),
    ]
}

/// State that pins, in every way in which it can end.
fn pinning() -> Vec<Step> {
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
    let mut script = queries(&[
        "SELECT pg_advisory_lock(8001)",
        held,
        "SELECT pg_advisory_unlock(8001), pg_advisory_unlock(8001)",
        held,
        "BEGIN",
        "SELECT pg_advisory_lock(8001)",
        "SAVEPOINT a",
        "SELECT pg_advisory_xact_lock(8002), pg_try_advisory_lock_shared(8003)",
        "ROLLBACK TO a",
        held,
        "ROLLBACK",
        held,
        "SELECT pg_catalog.pg_advisory_unlock_all()",
        held,
        "CREATE TEMP TABLE p (v int) ON COMMIT DELETE ROWS",
        "INSERT INTO p VALUES (1)",
        "SELECT count(*) FROM p",
        "BEGIN",
        "DROP TABLE p",
        "SELECT 1/0",
        "ROLLBACK",
        "SELECT count(*) FROM p",
        "DROP TABLE p",
        "SELECT count(*) FROM p",
        "CREATE TEMP VIEW v AS SELECT 5 AS five",
        "SELECT five FROM v",
        "DISCARD TEMP",
        "SELECT five FROM v",
        "SELECT lastval()",
        "SELECT nextval('s4') > 0",
        "SELECT currval('s4') = lastval()",
        "DISCARD SEQUENCES",
        "SELECT currval('s4')",
        "BEGIN; CREATE TEMP TABLE q ON COMMIT DROP AS SELECT 1 AS v; SELECT v FROM q; COMMIT; SELECT v FROM q",
        "CREATE TEMP TABLE q (v int); SELECT 1/0",
        "SELECT v FROM q",
        "SELECT 1 AS v INTO TEMP q",
        "SELECT v FROM q",
        "ALTER TABLE q RENAME TO r",
        "SELECT v FROM r",
        "DROP TABLE r",
        "SELECT set_config('app.name', lower('MADE'), false)",
        "SHOW app.name",
        "RESET app.name",
        "SELECT set_config('work_mem', 'x', false)",
        "SELECT set_config('work_mem', v || 'MB', false) FROM (VALUES (7), (9)) AS t (v)",
        "SHOW work_mem",
        "DISCARD ALL",
        "SHOW work_mem",
        "SELECT setseed(0.25)",
        "SELECT random() < 1",
    ]);
    script.extend([
        pipeline(&["CREATE TEMP TABLE q (v int)", "INSERT INTO q VALUES (1)", "SELECT v FROM q", "SELECT 1/0"]),
        pipeline(&["SELECT v FROM q"]),
        pipeline(&["SELECT pg_advisory_lock(8005)", "SELECT 1/0"]),
        pipeline(&[held]),
        pipeline(&["SELECT pg_advisory_unlock_all()", held]),
        text("LOAD 'nothing_there'"),
        text("SELECT pg_export_snapshot() IS NOT NULL"),
        text("SET TRANSACTION SNAPSHOT 'nonsense'"),
        text("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '00000000-00000000-1'; COMMIT"),
        text("ROLLBACK"),
    ]);
    script
}

const SQL: &str = "RESET ROLE; DO $$ BEGIN CREATE ROLE guest_of_all; \
     EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; GRANT guest_of_all TO app; SET ROLE app; \
     CREATE TABLE t0 (v int); CREATE TABLE t1 (v int PRIMARY KEY); CREATE TABLE t2 (v int); CREATE TABLE t3 (v int); \
     CREATE SEQUENCE s3; CREATE SEQUENCE s4; GRANT ALL ON t0, t1, t2, t3, s3 TO guest_of_all";

/// A session that has all the settings of the scripts: one that nobody has ever set is unknown to a server, and known for good once
/// somebody has (README).
fn connect(world: &World, port: u16) -> RawClient {
    let parameters =
        [("user", APP), ("database", &world.db.name), ("application_name", "start"), ("options", "-c app.name=start")];
    let mut client = RawClient::connect_with(port, APP_PASSWORD, &parameters);
    client.set_timeout(Duration::from_secs(60));
    client
}

fn play(client: &mut RawClient, script: &[Step]) -> Vec<String> {
    script.iter().map(|step| summary(&step.run(client))).collect()
}

#[test]
fn everybody_gets_what_a_connection_of_its_own_would_say() {
    let world = Plan { sql: SQL, pool: "size = 2\nwait_timeout = \"60s\"", ..Plan::default() }.start();
    let scripts: [(&str, Vec<Step>); 10] = [
        ("savepoints", savepoints()),
        ("prepared", prepared()),
        ("discards", discards()),
        ("notifications", notifications()),
        ("copies", copies()),
        ("two-phase", two_phase()),
        ("portals", portals()),
        ("encodings", encodings()),
        ("sequences", sequences()),
        ("pinning", pinning()),
    ];
    let primary = world.db.cluster().primary_port();
    let expected: Vec<_> = scripts.iter().map(|(_, script)| play(&mut connect(&world, primary), script)).collect();
    let mut wrong = Vec::new();
    std::thread::scope(|scope| {
        let running: Vec<_> = scripts
            .iter()
            .map(|(_, script)| {
                scope.spawn(|| {
                    let port = world.proxy.port();
                    (0..ROUNDS).map(|_| play(&mut connect(&world, port), script)).collect::<Vec<_>>()
                })
            })
            .collect();
        for ((thread, expected), (what, _)) in running.into_iter().zip(&expected).zip(&scripts) {
            for got in thread.join().unwrap() {
                for (step, (got, wanted)) in got.iter().zip(expected).enumerate() {
                    if got != wanted {
                        wrong.push(format!("{what}, step {step}\n  direct:  {wanted}\n  through: {got}"));
                    }
                }
            }
        }
    });
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn read_only_blocks_on_a_replica_say_what_the_primary_would_trap_23() {
    let routing = "read_after_write_window = \"0\"";
    let world = Plan { sql: SQL, pool: "size = 2", routing, ..Plan::default() }.start();
    world.db.wait_replayed();
    world.compare("read-only blocks", &read_only_blocks());
}
