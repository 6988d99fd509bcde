//! Scripts in which the messages matter, and their order.

use super::support::world::{Step, ready};
use super::{batch, pipeline, queries, text};

pub fn notifications() -> Vec<Step> {
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

pub fn copies() -> Vec<Step> {
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

pub fn portals() -> Vec<Step> {
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

pub fn encodings() -> Vec<Step> {
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

/// What is sent before the answers to what came before it have been read, and what stands between two Syncs.
pub fn sequences() -> Vec<Step> {
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
