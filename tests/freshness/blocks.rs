//! Blocks of one client that come one behind the other.

use super::meanwhile::{known, pause, run};
use super::*;

/// Begins a block on the replica.
fn begin(client: &mut RawClient, sql: &str) {
    until("blocks run on the replica", || {
        run(client, sql);
        let is_there = client.value("SELECT pg_is_in_recovery()") == "t";
        if !is_there {
            run(client, "ROLLBACK");
        }
        is_there
    });
}

/// A chained block is a new one: it sees what was committed before its first statement came, whatever the replica has that the block
/// before ran on.
#[test]
fn a_chained_block_sees_what_was_committed_before_it() {
    let (cluster, proxy) = known("CREATE TABLE a (n int)", "");
    let mut writer = client(&proxy);
    let single = |sql: &str| query(sql);
    let prepared = |sql: &str| Batch::new().run(sql, &[]).sync();
    let mut written = 0;
    for first in ["BEGIN READ ONLY", "BEGIN READ ONLY; SELECT 1", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"] {
        for end in ["COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "end work and chain"] {
            for by_protocol in [false, true] {
                let mut reader = client(&proxy);
                begin(&mut reader, first);
                let level = reader.value("SHOW transaction_isolation");
                pause(&cluster, &proxy);
                run(&mut writer, "INSERT INTO a VALUES (1)");
                written += 1;
                let tag = reader.exchange(&if by_protocol { prepared(end) } else { single(end) });
                assert!(!tags(&tag).contains('E'), "{tag:?}");
                assert_eq!(reader.value("SELECT count(*) FROM a"), written.to_string(), "{first}; {end}");
                assert_eq!(reader.value("SHOW transaction_isolation"), level);
                assert_eq!(reader.value("SHOW transaction_read_only"), "on");
                assert_eq!(reader.failure("INSERT INTO a VALUES (1)"), "25006");
                run(&mut reader, "ROLLBACK");
                set_paused(cluster.info(), 1, false);
            }
        }
    }
}

/// What comes behind the end of a block is not bound to the replica that the block ran on.
#[test]
fn what_follows_the_end_of_a_block_in_one_breath_sees_what_was_committed_and_may_write() {
    let (cluster, proxy) = known("CREATE TABLE a (n int)", "");
    let (mut writer, mut reader) = (client(&proxy), client(&proxy));
    let behind = [
        query("COMMIT; SELECT count(*) FROM a"),
        query("COMMIT AND CHAIN; SELECT count(*) FROM a; COMMIT"),
        query("ROLLBACK; INSERT INTO a VALUES (1); SELECT count(*) FROM a"),
        query("COMMIT; BEGIN; INSERT INTO a VALUES (1); COMMIT; SELECT count(*) FROM a"),
        Batch::new().run("COMMIT", &[]).run("SELECT count(*) FROM a", &[]).sync(),
        Batch::new().run("COMMIT", &[]).run("INSERT INTO a VALUES (1)", &[]).run("SELECT count(*) FROM a", &[]).sync(),
        Batch::new().run("SELECT 1", &[]).run("COMMIT", &[]).run("SELECT count(*) FROM a", &[]).sync(),
        query("SELECT 1; COMMIT; SELECT count(*) FROM a"),
        query("SELECT 1; SELECT 2; ROLLBACK AND CHAIN; COMMIT; INSERT INTO a VALUES (1); SELECT count(*) FROM a"),
        Batch::new().run("COMMIT", &[]).flush().run("SELECT count(*) FROM a", &[]).sync(),
        Batch::new()
            .run("COMMIT", &[])
            .flush()
            .run("INSERT INTO a VALUES (1)", &[])
            .run("SELECT count(*) FROM a", &[])
            .sync(),
        Batch::new().run("COMMIT", &[]).flush().query("INSERT INTO a VALUES (1); SELECT count(*) FROM a"),
    ];
    for (number, batch) in behind.iter().enumerate() {
        begin(&mut reader, "BEGIN READ ONLY");
        pause(&cluster, &proxy);
        run(&mut writer, "INSERT INTO a VALUES (1)");
        let frames = reader.exchange(batch);
        let count = cluster.info().query(0, "app", "SELECT count(*) FROM a").unwrap();
        assert!(!tags(&frames).contains('E'), "{number}: {frames:?}");
        let last = frames.iter().rfind(|frame| frame.tag == b'D').unwrap();
        assert_eq!(last.columns(), [Some(count)], "{number}");
        assert_eq!(frames.last().unwrap().body, b"I", "{number}");
        set_paused(cluster.info(), 1, false);
    }
}

/// A Query that is answered without the server ends what has been sent before it, without a Sync of the client's.
#[test]
fn what_is_written_before_a_query_for_trunkline_alone_is_seen() {
    let (cluster, proxy) = known("CREATE TABLE a (n int)", "");
    let (mut writer, mut other) = (client(&proxy), client(&proxy));
    let behind = ["SET trunkline.explain = off", "SHOW trunkline.route", "EXPLAIN (ROUTE) SELECT 1"];
    for (number, own) in behind.iter().enumerate() {
        pause(&cluster, &proxy);
        let insert = Batch::new().parse("", "INSERT INTO a VALUES (1)", &[]).bind("", "", &[]).execute("", 0);
        let frames = writer.exchange(&insert.query(own));
        assert!(tags(&frames).starts_with("12C"), "{frames:?}");
        for reader in [&mut writer, &mut other] {
            assert_eq!(reader.value("SELECT count(*) FROM a"), (number + 1).to_string(), "{own}");
        }
        set_paused(cluster.info(), 1, false);
    }
}
