//! What the text of a prepared statement says is read once, when it is prepared: its encoding, its backslashes, its constants of
//! dates and times. It means the same on whichever server connection it is prepared anew, and whatever the session sets afterwards
//! (trap 36).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::clusters::APP;
use support::frames::{Batch, Frame, summary};
use support::raw::RawClient;
use support::world::{Plan, Step, World, ready};

fn batch() -> Batch {
    Batch::new()
}

fn query(sql: &str) -> Step {
    ready(batch().query(sql))
}

/// Parse of a text that need not be UTF-8.
fn parse(name: &str, sql: &[u8]) -> Batch {
    batch().raw(b'P', &[name.as_bytes(), b"\0", sql, b"\0\0\0"].concat())
}

fn execute(name: &str) -> Step {
    ready(batch().bind("", name, &[]).describe(b'P', "").execute("", 0).sync())
}

fn world() -> World {
    let sql = "CREATE TABLE t (\"größe\" text); INSERT INTO t VALUES ('ö'), ('Ã¶')";
    Plan { sql, pool: "size = 3\nwait_timeout = \"9s\"", primary_only: true, ..Plan::default() }.start()
}

/// Runs the script directly and through the proxy, where outside of blocks each step finds a server connection that is new, or, in a
/// second run, one of two that are not.
fn compare(world: &World, what: &str, script: &[Step]) {
    let mut direct = world.direct();
    let expected: Vec<_> = script.iter().map(|step| step.run(&mut direct)).collect();
    let end = format!(
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
         WHERE datname = '{}' AND usename = '{APP}' AND application_name NOT LIKE 'trunkline%'",
        world.db.name
    );
    direct.vanish();
    for anew in [true, false] {
        let mut client = world.client();
        let mut other = world.client();
        let mut idle = true;
        for (number, (step, expected)) in script.iter().zip(&expected).enumerate() {
            if idle && anew {
                world.db.run(&end);
            } else if idle {
                other.exchange(&batch().query("ROLLBACK"));
                other.exchange(&batch().query(if number % 3 == 0 { "SELECT 1" } else { "BEGIN; SELECT 1" }));
            }
            let frames = step.run(&mut client);
            let what = format!("{what}, new connections: {anew}, step {number}");
            assert_eq!(summary(&frames), summary(expected), "{what}");
            if expected.iter().all(|frame| !b"ENS".contains(&frame.tag)) {
                let bytes = |frames: &[Frame]| frames.iter().map(|frame| frame.body.clone()).collect::<Vec<_>>();
                assert_eq!(bytes(&frames), bytes(expected), "{what}: the bytes");
            }
            idle = frames.last().is_some_and(|ready| ready.body == b"I");
        }
        client.exchange(&batch().query("DISCARD ALL"));
    }
}

/// `SELECT "größe", 'ö' FROM t WHERE "größe" = 'ö'` in Latin 1.
const LATIN: &[u8] = b"SELECT \"gr\xf6\xdfe\", '\xf6' FROM t WHERE \"gr\xf6\xdfe\" = '\xf6'";

#[test]
fn trap_36_a_text_is_in_the_encoding_in_which_it_was_prepared() {
    let world = world();
    let utf8 = String::from_utf8_lossy(LATIN).into_owned();
    assert!(utf8.contains('\u{fffd}'));
    let in_utf8 = "SELECT \"größe\", 'ö' FROM t WHERE \"größe\" = 'ö'";
    compare(
        &world,
        "protocol",
        &[
            query("SET client_encoding TO 'LATIN1'"),
            ready(parse("s", LATIN).sync()),
            execute("s"),
            ready(parse("", LATIN).sync()),
            query("SET client_encoding TO 'UTF8'"),
            execute("s"),
            execute("s"),
            execute("s"),
            ready(parse("", in_utf8.as_bytes()).sync()),
            ready(batch().describe(b'S', "").sync()),
            execute(""),
            ready(parse("u", in_utf8.as_bytes()).sync()),
            execute("u"),
            Step::Ready(batch().query("SET client_encoding TO 'LATIN1'").bind("", "u", &[]).execute("", 0).sync(), 2),
            execute("u"),
            execute("u"),
            execute("s"),
            execute("s"),
            ready(batch().bind("", "s", &[]).execute("", 0).bind("", "u", &[]).execute("", 0).sync()),
            query("BEGIN"),
            execute("u"),
            query("SAVEPOINT a"),
            execute("s"),
            query("SELECT 1/0"),
            execute("u"),
            query("ROLLBACK TO a"),
            execute("u"),
            query("SET LOCAL client_encoding TO 'UTF8'"),
            execute("u"),
            execute("s"),
            query("COMMIT"),
            execute("u"),
            execute("s"),
            query("SHOW client_encoding"),
            query("RESET client_encoding"),
            execute("s"),
            execute("u"),
            query("SHOW client_encoding"),
            query("SELECT * FROM t"),
        ],
    );
}

#[test]
fn trap_36_a_text_of_sqls_too() {
    let world = world();
    let prepare = batch().raw(b'Q', &[b"PREPARE p AS ", LATIN, b"\0"].concat());
    compare(
        &world,
        "SQL",
        &[
            query("SET client_encoding TO 'LATIN1'"),
            ready(prepare),
            query("EXECUTE p"),
            query("SET client_encoding TO 'UTF8'"),
            query("EXECUTE p"),
            query("EXECUTE p"),
            query("BEGIN"),
            query("EXECUTE p"),
            query("COMMIT"),
            query("PREPARE q AS SELECT 'a\\'"),
            query("PREPARE r AS SELECT 'größe', '\\'"),
            query("SET standard_conforming_strings TO off"),
            query("EXECUTE q"),
            query("EXECUTE q"),
            query("EXECUTE r"),
            query("EXECUTE r"),
            execute("q"),
            execute("r"),
            query("SELECT name, statement FROM pg_prepared_statements ORDER BY name"),
            query("SHOW standard_conforming_strings"),
        ],
    );
}

#[test]
fn trap_36_backslashes_mean_what_they_meant() {
    let world = world();
    let text = br"SELECT 'a\\b', 'x\x41'";
    compare(
        &world,
        "backslashes",
        &[
            ready(parse("s", text).sync()),
            execute("s"),
            query("SET escape_string_warning TO off; SET standard_conforming_strings TO off"),
            execute("s"),
            execute("s"),
            ready(parse("t", text).sync()),
            execute("t"),
            execute("s"),
            query("SET standard_conforming_strings TO on"),
            execute("t"),
            execute("t"),
            execute("s"),
        ],
    );
}

#[test]
fn trap_36_times_and_dates_are_read_when_the_statement_is_prepared() {
    let world = world();
    let text =
        b"SELECT '2026-03-01 12:00'::timestamptz AT TIME ZONE 'UTC', '01/02/2026'::date + 0, '-1 2:03'::interval";
    compare(
        &world,
        "constants",
        &[
            query("SET TimeZone TO 'UTC'"),
            query("SET DateStyle TO 'ISO, MDY'"),
            ready(parse("s", text).sync()),
            execute("s"),
            query("SET TimeZone TO 'Asia/Tokyo'"),
            query("SET DateStyle TO 'ISO, DMY'; SET IntervalStyle TO sql_standard"),
            execute("s"),
            execute("s"),
            ready(parse("t", text).sync()),
            execute("t"),
            execute("t"),
            execute("s"),
            ready(parse("", text).sync()),
            query("SET TimeZone TO 'UTC'"),
            execute("t"),
            execute("s"),
            query("BEGIN"),
            query("SET LOCAL TimeZone TO 'America/New_York'"),
            ready(parse("l", text).sync()),
            execute("l"),
            query("COMMIT"),
            execute("l"),
            execute("l"),
            query("SHOW TimeZone"),
        ],
    );
}

/// A plan that a server makes anew is made by the settings of whoever uses it then: nobody else uses it.
#[test]
fn trap_36_a_plan_made_anew_is_for_those_with_the_same_settings() {
    let world = Plan { sql: "CREATE TABLE t (n int)", pool: "size = 1", primary_only: true, ..Plan::default() }.start();
    let sql = "SELECT '2026-03-01 12:00'::timestamptz AT TIME ZONE 'UTC' FROM (SELECT count(*) FROM t) AS c";
    let mut clients = [world.client(), world.client()];
    let utc = "DataRow(2026-03-01 12:00:00)";
    let run = |client: &mut RawClient| summary(&client.exchange(&batch().bind("", "s", &[]).execute("", 0).sync()));
    for client in &mut clients {
        client.exchange(&batch().query("SET TimeZone TO 'UTC'"));
        client.exchange(&batch().parse("s", sql, &[]).sync());
        assert!(run(client).contains(utc));
    }
    let [tokyo, other] = &mut clients;
    tokyo.exchange(&batch().query("SET TimeZone TO 'Asia/Tokyo'"));
    for _ in 0..2 {
        world.db.run("ANALYZE t");
        run(tokyo);
        assert!(run(other).contains(utc));
    }
}

/// Clients in different time zones share no statement whose constants depend on it.
#[test]
fn trap_36_everybody_prepares_in_a_time_zone_of_its_own() {
    let world = Plan { pool: "size = 1", primary_only: true, ..Plan::default() }.start();
    let sql = "SELECT '2026-03-01 12:00'::timestamptz AT TIME ZONE 'UTC'";
    for (zone, wanted) in [("UTC", "2026-03-01 12:00:00"), ("Asia/Tokyo", "2026-03-01 03:00:00")] {
        for by_set in [false, true] {
            let mut client = match by_set {
                true => world.client(),
                false => world.client_with(&[("TimeZone", zone)]),
            };
            if by_set {
                client.exchange(&batch().query(&format!("SET TimeZone TO '{zone}'")));
            }
            for name in ["s", ""] {
                let frames = client.exchange(&batch().parse(name, sql, &[]).sync());
                assert_eq!(summary(&frames), "ParseComplete ReadyForQuery(I)");
                let frames = client.exchange(&batch().bind("", name, &[]).execute("", 0).sync());
                let told = summary(&frames);
                assert!(told.contains(&format!("DataRow({wanted})")), "{zone} {by_set} {name}: {told}");
            }
        }
    }
    // In one write with the SET.
    let mut client = world.client();
    for zone in ["UTC", "Asia/Tokyo"] {
        let name = zone;
        let together = batch().query(&format!("SET TimeZone TO '{zone}'")).parse(name, sql, &[]).sync();
        client.send(&together.bind("", name, &[]).execute("", 0).sync());
        client.recv_ready(3);
    }
    for (zone, wanted) in [("UTC", "2026-03-01 12:00:00"), ("Asia/Tokyo", "2026-03-01 03:00:00")] {
        let frames = client.exchange(&batch().bind("", zone, &[]).execute("", 0).sync());
        assert!(summary(&frames).contains(&format!("DataRow({wanted})")), "{zone}: {frames:?}");
    }
}
