//! Transactions and pool modes. Tests name the traps that they show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use support::clusters::OTHER;
use support::frames::{Batch, Frame, summary, tags};
use support::raw::RawClient;
use support::world::{Plan, Step, World, ready};

const SQL: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL); INSERT INTO t SELECT n, 0 FROM generate_series(1, 64) AS n";

fn world(pool: &str) -> World {
    Plan { sql: SQL, pool, routing: "consistency = \"eventual\"", ..Plan::default() }.start()
}

fn batch() -> Batch {
    Batch::new()
}

const IN_RECOVERY: &str = "SELECT pg_is_in_recovery()";

#[test]
fn every_spelling_of_begin_trap_22_23() {
    let world = world("size = 2");
    let mut client = world.client();
    let read_only = [
        "BEGIN READ ONLY",
        "begin transaction read only",
        "START TRANSACTION READ ONLY",
        "BEGIN WORK ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY DEFERRABLE",
        "/* comment */ BeGiN -- another\n READ ONLY, NOT DEFERRABLE;",
    ];
    let read_write = [
        "BEGIN",
        "begin work",
        "START TRANSACTION",
        "BEGIN READ WRITE",
        "BEGIN ISOLATION LEVEL SERIALIZABLE",
        "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE",
        "START TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE, NOT DEFERRABLE",
        "BEGIN; SAVEPOINT a",
    ];
    for (texts, wanted) in [(&read_only[..], "t"), (&read_write[..], "f")] {
        for begin in texts {
            for extended in [false, true] {
                if extended && begin.contains("SAVEPOINT") {
                    continue;
                }
                let begun = if extended { batch().run(begin, &[]).sync() } else { batch().query(begin) };
                let frames = client.exchange(&begun);
                assert_eq!(frames.last().unwrap().body, b"T", "{begin}: {frames:?}");
                assert_eq!(client.value(IN_RECOVERY), wanted, "{begin}");
                let frames = client.exchange(&batch().run(IN_RECOVERY, &[]).sync());
                assert_eq!(frames[3].columns(), [Some(wanted.to_owned())], "{begin}");
                if wanted == "t" {
                    assert_eq!(client.failure("INSERT INTO t VALUES (1000, 1)"), "25006");
                    assert_eq!(client.failure("SELECT 1"), "25P02");
                }
                let frames = client.exchange(&batch().query("COMMIT"));
                assert_eq!(frames.last().unwrap().body, b"I");
            }
        }
    }
    // Within one string.
    let frames = client.exchange(&batch().query("BEGIN READ ONLY; SELECT pg_is_in_recovery(); COMMIT"));
    assert_eq!(tags(&frames), "CTDCCZ");
    let frames = client.exchange(&batch().query("BEGIN; UPDATE t SET v = v + 1 WHERE id = 1; COMMIT"));
    assert_eq!(tags(&frames), "CCCZ");
    assert_eq!(client.value("SELECT v FROM t WHERE id = 1 FOR UPDATE"), "1");
    // The session's own default.
    let mut reader = world.client_with(&[("options", "-c default_transaction_read_only=on")]);
    reader.exchange(&batch().query("BEGIN"));
    assert_eq!(reader.value(IN_RECOVERY), "t");
    reader.exchange(&batch().query("COMMIT"));
    reader.exchange(&batch().query("BEGIN READ WRITE"));
    assert_eq!(reader.value(IN_RECOVERY), "f");
}

#[test]
fn transaction_control_is_the_servers_trap_20_22_27() {
    // With its window: reads after a write must see it.
    let world = Plan { sql: SQL, pool: "size = 3", ..Plan::default() }.start();
    world.compare(
        "control statements",
        &[
            ready(batch().query("BEGIN")),
            ready(batch().query("UPDATE t SET v = 1 WHERE id = 2")),
            ready(batch().query("COMMIT AND CHAIN")),
            ready(batch().query("SELECT v FROM t WHERE id = 2")),
            ready(batch().query("SELECT 1/0")),
            ready(batch().query("SELECT 1")),
            ready(batch().query("")),
            ready(batch().query("-- ping")),
            ready(batch().run("", &[]).sync()),
            ready(batch().run("SELECT 1", &[]).sync()),
            ready(batch().query("ROLLBACK AND CHAIN")),
            ready(batch().query("SAVEPOINT a")),
            ready(batch().query("SELECT nonsense")),
            ready(batch().query("ROLLBACK TO a")),
            ready(batch().query("UPDATE t SET v = 2 WHERE id = 2")),
            ready(batch().query("RELEASE a")),
            ready(batch().query("END")),
            ready(batch().query("COMMIT")),
            ready(batch().query("BEGIN")),
            ready(batch().query("SELECT 1/0")),
            ready(batch().query("COMMIT")),
            ready(batch().query("START TRANSACTION")),
            ready(batch().query("ABORT")),
            ready(batch().query("BEGIN")),
            ready(batch().query("BEGIN")),
            ready(batch().query("ROLLBACK")),
        ],
    );
    world.compare(
        "strings of several statements, one implicit transaction",
        &[
            ready(batch().query("UPDATE t SET v = 0 WHERE id = 3")),
            ready(batch().query("UPDATE t SET v = 5 WHERE id = 3; SELECT 1/0; UPDATE t SET v = 6 WHERE id = 3")),
            ready(batch().query("SELECT v FROM t WHERE id = 3")),
            ready(batch().query("SELECT 1; UPDATE t SET v = 7 WHERE id = 3; SELECT v FROM t WHERE id = 3")),
            ready(batch().query("BEGIN; SELECT 1; SELECT 1/0; COMMIT; SELECT 2")),
            ready(batch().query("ROLLBACK; SELECT 3; BEGIN; SELECT 4")),
            ready(batch().query("SELECT v FROM t WHERE id = 3; COMMIT")),
            Step::Ready(batch().query("BEGIN").query("SELECT 1").query("COMMIT").query("SELECT 2"), 4),
        ],
    );
}

#[test]
fn a_client_that_vanishes_leaves_nothing_behind_trap_29() {
    let world = Plan { sql: SQL, pool: "size = 1", primary_only: true, ..Plan::default() }.start();
    type Leave = fn(RawClient);
    let ways: [(&str, Leave); 2] =
        [("closes", RawClient::vanish), ("says goodbye", |mut client| client.send(&Batch::new().terminate()))];
    let states: [(&str, Batch, usize); 7] = [
        ("in a transaction", batch().query("BEGIN; UPDATE t SET v = 99 WHERE id = 9"), 1),
        ("in a failed transaction", batch().query("BEGIN; UPDATE t SET v = 99 WHERE id = 9; SELECT 1/0"), 1),
        ("in an unsynced sequence", batch().run("UPDATE t SET v = 99 WHERE id = 9", &[]).flush(), 0),
        (
            "in a portal",
            batch().query("BEGIN; UPDATE t SET v = 99 WHERE id = 9").run("SELECT * FROM t", &[]).execute("", 3).flush(),
            1,
        ),
        ("in a message", batch().query("BEGIN; UPDATE t SET v = 99 WHERE id = 9").bytes_of(b"Q\0\0\x01\0SELECT"), 1),
        (
            "in a streamed message",
            batch().query("BEGIN; UPDATE t SET v = 99 WHERE id = 9").bytes_of(b"Q\0\x20\0\0SELECT"),
            1,
        ),
        (
            "before it has read a result",
            batch().query("BEGIN; UPDATE t SET v = 99 WHERE id = 9").query("SELECT repeat('x', 1000000)"),
            1,
        ),
    ];
    for (how, leave) in ways {
        for (state, messages, count) in &states {
            if how.starts_with("says") && state.contains("message") {
                continue;
            }
            let mut client = world.client();
            client.send(messages);
            if *count == 0 {
                client.recv_frames(4);
            }
            client.recv_ready(*count);
            leave(client);
            let mut next = world.client();
            assert_eq!(next.value("UPDATE t SET v = v WHERE id = 9 RETURNING v"), "0", "{state}, {how}");
            let frames = next.exchange(&batch().query("SELECT count(*) FROM pg_cursors"));
            assert_eq!(
                summary(&frames),
                "RowDescription DataRow(0) CommandComplete(SELECT 1) ReadyForQuery(I)",
                "{state}"
            );
            world.wait_for(
                &format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = 'app' AND state LIKE 'idle in%'", world.db.name),
                "0",
            );
        }
    }
}

#[test]
fn statement_pooling_refuses_blocks() {
    let world = world("size = 2\nmode = \"statement\"");
    let mut client = world.client();
    for begin in ["BEGIN", "START TRANSACTION READ ONLY", "SELECT 1; BEGIN"] {
        assert_eq!(client.failure(begin), "0A000", "{begin}");
        assert_eq!(client.value("SELECT 1"), "1");
    }
    // In a pipeline what runs before it is rolled back with it.
    let frames = client.exchange(
        &batch()
            .run("UPDATE t SET v = 50 WHERE id = 5", &[])
            .run("BEGIN", &[])
            .run("UPDATE t SET v = 51 WHERE id = 5", &[])
            .sync(),
    );
    assert_eq!(frames.iter().find(|frame| frame.tag == b'E').unwrap().sqlstate(), "0A000", "{frames:?}");
    assert_eq!(frames.last().unwrap().body, b"I");
    assert_eq!(client.value("SELECT v FROM t WHERE id = 5 FOR UPDATE"), "0");
    let frames = client.exchange(&batch().run("SELECT 1", &[]).sync().run("BEGIN", &[]).sync());
    assert_eq!(tags(&frames), "12TDCZ");
    assert!(summary(&client.recv_ready(1)).contains("0A000"));
    assert_eq!(client.value("SELECT 2"), "2");
}

#[test]
fn session_pooling_keeps_one_connection() {
    let world = world("size = 1\nmode = \"session\"\nwait_timeout = \"300ms\"");
    let mut client = world.client();
    let pid = client.value("SELECT pg_backend_pid()");
    client.exchange(&batch().query("CREATE TEMP TABLE mine (n int); SET application_name = 'kept'"));
    for _ in 0..5 {
        assert_eq!(client.value("SELECT pg_backend_pid()"), pid);
        assert_eq!(client.value("SELECT current_setting('application_name')"), "kept");
    }
    assert_eq!(client.value("SELECT count(*) FROM mine"), "0");
    client.exchange(&batch().query("DISCARD ALL"));
    assert_eq!(client.value("SELECT pg_backend_pid()"), pid, "kept until the client leaves");
    client.exchange(&batch().query("CREATE TEMP TABLE mine (n int)"));
    drop(client);
    std::thread::sleep(Duration::from_millis(100));
    let mut next = world.client();
    assert_eq!(next.value("SELECT pg_backend_pid()"), pid, "the same connection, reset");
    assert_eq!(next.failure("SELECT count(*) FROM mine"), "42P01");
    assert_eq!(next.value("SELECT current_setting('application_name')"), "");
}

#[test]
fn other_users_and_roles_are_apart_trap_61() {
    let world = world("size = 2");
    let mut client = world.client();
    client.exchange(&batch().query("BEGIN; SET LOCAL ROLE app; COMMIT"));
    client.exchange(&batch().query("SET SESSION AUTHORIZATION DEFAULT; SET ROLE app"));
    drop(client);
    let mut other = RawClient::connect(world.proxy.port(), OTHER, "other-secret", &world.db.name);
    assert_eq!(other.value("SELECT current_user"), OTHER);
    let mut client = world.client();
    assert_eq!(client.value("SELECT current_setting('role')"), "none");
}

const ALONE: &str = "
    CREATE TABLE log (n int, zone text); CREATE SEQUENCE numbers;
    CREATE PROCEDURE commits(n int) LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO log VALUES (n, current_setting('TimeZone')); COMMIT;
        INSERT INTO log VALUES (n, current_setting('TimeZone')); COMMIT;
    END $$";

/// What may not be part of a block (2D000 of a procedure that commits, 25001 of VACUUM) reaches its server alone: nothing of ours is in the
/// same string, or before the same Sync, whatever the connection needs first.
#[test]
fn what_must_run_alone_does() {
    let world = Plan { sql: ALONE, pool: "size = 1", primary_only: true, ..Plan::default() }.start();
    let mut direct = world.direct();
    assert_eq!(direct.failure("SET TimeZone = 'UTC'; CALL commits(0)"), "2D000", "what it would be without care");
    let piped = direct.exchange(&batch().run("SELECT 1", &[]).run("VACUUM log", &[]).sync());
    assert!(piped.iter().any(|frame| frame.tag == b'E' && frame.sqlstate() == "25001"), "{piped:?}");

    // Each on its own way into the session, and each time on a connection that another client has left with other settings.
    let mut other = world.client_with(&[("options", "-c work_mem=1MB"), ("application_name", "other")]);
    let mut interfere = |how: &Batch| drop(other.exchange(how));
    let plain = batch().query("SET TimeZone = 'Asia/Tokyo'");
    let with_sequences = batch().query("SELECT nextval('numbers')");
    let with_a_stray = batch().parse("s", "SELECT nowhere", &[]).sync();
    let mut client = world.client();
    client.exchange(&batch().query("LISTEN news"));
    client.exchange(&batch().parse("call", "CALL commits($1)", &[23]).parse("vacuum", "VACUUM log", &[]).sync());
    let mut number = 0;
    for ready_for in [
        "SET TimeZone = 'Europe/Rome'",
        "SET LOCAL TimeZone = 'Europe/Oslo'",
        "BEGIN; SELECT 1; COMMIT",
        "SET trunkline.transaction_reads = 'until_write'",
        "SET search_path = public, pg_catalog",
    ] {
        client.exchange(&batch().query(ready_for));
        // A block that no server has heard of.
        client.exchange(&batch().query("BEGIN"));
        client.exchange(&batch().query("COMMIT"));
        for before in [&plain, &with_sequences, &with_a_stray] {
            number += 1;
            let text = number.to_string();
            for alone in [
                batch().query(&format!("CALL commits({number})")),
                batch().run("CALL commits($1)", &[Some(&text)]).sync(),
                batch().bind("", "call", &[Some(&text)]).describe(b'P', "").execute("", 0).sync(),
                batch().query("VACUUM log"),
                batch().run("VACUUM log", &[]).sync(),
                batch().bind("", "vacuum", &[]).execute("", 0).sync(),
                batch().query("SELECT 1").run("CALL commits($1)", &[Some(&text)]).sync().query("VACUUM log"),
            ] {
                interfere(before);
                client.send(&alone);
                let frames = client.recv_ready(alone.readies());
                assert!(frames.iter().all(|frame| frame.tag != b'E'), "{ready_for}: {}", summary(&frames));
            }
        }
    }
    let rows = format!("SELECT count(*), count(DISTINCT n), min(zone), max(zone) FROM log WHERE n <= {number}");
    let wanted = [&(number * 8).to_string(), &number.to_string(), "Europe/Rome", "Europe/Rome"].map(str::to_owned);
    assert_eq!(client.rows(&rows).remove(0), wanted.map(Some));
    // In a block of the client's own it fails as on a server.
    client.exchange(&batch().query("BEGIN"));
    assert_eq!(client.failure("CALL commits(0)"), "2D000");
    client.exchange(&batch().query("ROLLBACK"));
}

/// What its connection alone knows would keep the session on it, and a replica takes no writes.
#[test]
fn settings_that_the_text_does_not_tell_bind_no_session_to_a_replica() {
    let world = Plan {
        sql: "CREATE TABLE t (id int)",
        routing: "consistency = \"eventual\"\nmax_lag = \"0\"",
        tables: "[admin]\nadmin_users = [\"app\"]\n",
        ..Plan::default()
    }
    .start();
    world.settle();
    let query: fn(&mut RawClient, &str) -> Vec<Frame> = |client, sql| client.exchange(&batch().query(sql));
    let run: fn(&mut RawClient, &str) -> Vec<Frame> = |client, sql| client.exchange(&batch().run(sql, &[]).sync());
    for exchange in [query, run] {
        for (text, told) in [
            ("SELECT set_config('work_mem', '7MB', false)", true),
            ("SELECT set_config('work_mem', '7' || 'MB', false)", false),
            ("DO 'BEGIN PERFORM set_config(''work_mem'', ''7MB'', false); END'", false),
        ] {
            for first in [true, false] {
                let mut client = world.client();
                exchange(&mut client, "BEGIN READ ONLY");
                if !first {
                    exchange(&mut client, "SELECT count(*) FROM t");
                }
                let frames = exchange(&mut client, text);
                let refused = frames.iter().find(|frame| frame.tag == b'E').map(|frame| frame.sqlstate());
                assert_eq!(refused.as_deref(), (!told && !first).then_some("0A000"), "{text}");
                // An error is the end of its block.
                let end = if refused.is_some() { "CommandComplete(ROLLBACK)" } else { "CommandComplete(COMMIT)" };
                assert!(summary(&exchange(&mut client, "COMMIT")).contains(end), "{text}");
                assert_eq!(client.value("INSERT INTO t VALUES (1) RETURNING id"), "1", "{text}");
                let wanted = if refused.is_some() { "4MB" } else { "7MB" };
                assert_eq!(
                    client.value("SELECT current_setting('work_mem') FROM t FOR UPDATE LIMIT 1"),
                    wanted,
                    "{text}"
                );
            }
        }
    }
}
