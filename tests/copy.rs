//! COPY in both protocols and both directions, and how it goes wrong. Tests name the traps that they show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt, pin_mut};
use support::frames::{Batch, Frame, summary, tags};
use support::sql;
use support::world::{Plan, Step, World, ready};

const SQL: &str = "CREATE TABLE t (n int, v text); CREATE TABLE u (n int CHECK (n > 0))";

fn world() -> World {
    Plan { sql: SQL, pool: "size = 2", ..Plan::default() }.start()
}

fn batch() -> Batch {
    Batch::new()
}

/// Another client gets every connection of the pool, and each works.
fn pool_is_whole(world: &World) {
    let mut clients: Vec<_> = (0..2).map(|_| world.client()).collect();
    for client in &mut clients {
        client.exchange(&batch().query("BEGIN; DELETE FROM t; DELETE FROM u"));
        assert_eq!(client.value("SELECT 'whole'"), "whole");
        client.exchange(&batch().query("ROLLBACK"));
    }
}

const IN: &str = "COPY t FROM STDIN";

#[test]
fn copy_in_and_out_trap_50() {
    let world = world();
    world.compare(
        "simple",
        &[
            ready(batch().query("TRUNCATE t")),
            Step::Frames(batch().query(IN), 1),
            Step::Ready(batch().copy_data(b"1\tone\n2\t").copy_data(b"two\n").copy_data(b"").copy_done(), 1),
            ready(batch().query("COPY t TO STDOUT")),
            ready(batch().query("COPY (SELECT n FROM t ORDER BY n) TO STDOUT (FORMAT csv, HEADER)")),
            ready(batch().query("COPY (SELECT n FROM t ORDER BY n) TO STDOUT (FORMAT binary)")),
            Step::Frames(batch().query("COPY t FROM STDIN; COPY u FROM STDIN; SELECT 'behind'"), 1),
            Step::Frames(batch().copy_data(b"3\tthree\n").copy_done(), 2),
            ready(batch().copy_data(b"3\n").copy_done()),
            ready(batch().query("TRUNCATE u")),
            // All at once, before the server has answered.
            ready(batch().query(IN).copy_data(b"4\tfour\n").copy_done()),
            Step::Ready(batch().query(IN).copy_data(b"5\tfive\n").copy_done().query("SELECT count(*) FROM t"), 2),
            ready(batch().query("COPY t FROM STDIN (FORMAT csv)").copy_data(b"6,\"a\n\\.\nb\"\n7,seven\n").copy_done()),
            ready(
                batch()
                    .query("COPY t FROM STDIN; COPY u FROM STDIN")
                    .copy_data(b"8\tx\n")
                    .copy_done()
                    .copy_data(b"9\n")
                    .copy_done(),
            ),
            ready(batch().query("SELECT count(*) FROM t")),
            ready(batch().query("TRUNCATE t, u")),
        ],
    );
    pool_is_whole(&world);
    world.compare(
        "extended, the client waits for CopyInResponse",
        &[
            Step::Frames(batch().parse("c", IN, &[]).bind("", "c", &[]).describe(b'P', "").execute("", 0).flush(), 4),
            ready(batch().copy_data(b"1\tone\n").copy_done().sync()),
            ready(batch().run("COPY t TO STDOUT", &[]).sync()),
            Step::Ready(batch().run("COPY t TO STDOUT", &[]).sync().run("SELECT count(*) FROM t", &[]).sync(), 2),
            ready(batch().run(IN, &[]).copy_data(b"2\ttwo\n").copy_done().sync()),
            ready(batch().query("TRUNCATE t, u")),
        ],
    );
    pool_is_whole(&world);
}

#[test]
fn syncs_within_copy_in_trap_48() {
    let world = world();
    world.compare(
        "a Sync right behind the Execute, as tokio-postgres sends it",
        &[
            Step::Frames(batch().run(IN, &[]).sync(), 4),
            Step::Ready(batch().copy_data(b"1\tone\n").copy_done().sync(), 1),
            Step::Frames(batch().run(IN, &[]).sync(), 4),
            // Flush and Sync in the middle are ignored as well.
            Step::Ready(batch().copy_data(b"2\tt").flush().sync().copy_data(b"wo\n").sync().copy_done().sync(), 1),
            Step::Ready(
                batch().run(IN, &[]).sync().copy_data(b"3\tthree\n").copy_done().sync().query("SELECT count(*) FROM t"),
                2,
            ),
            ready(batch().query("SELECT count(*) FROM t")),
            Step::Frames(batch().query(IN).sync(), 1),
            Step::Ready(batch().copy_data(b"4\tfour\n").sync().copy_done(), 1),
            ready(batch().query("TRUNCATE t")),
        ],
    );
    pool_is_whole(&world);
    // The driver itself.
    sql::block_on(async {
        let client = sql::connect(world.proxy.port(), &world.db).await;
        for round in 0..3 {
            let sink = client.copy_in("COPY t FROM STDIN").await.unwrap();
            pin_mut!(sink);
            for n in 0..100 {
                sink.send(Bytes::from(format!("{n}\tround {round}\n"))).await.unwrap();
            }
            assert_eq!(sink.finish().await.unwrap(), 100);
            let sink = client.copy_in("COPY u FROM STDIN").await.unwrap();
            pin_mut!(sink);
            sink.send(Bytes::from_static(b"-1\n")).await.unwrap();
            let error = sink.finish().await.unwrap_err();
            assert_eq!(error.code().unwrap().code(), "23514");
            let rows: Vec<_> = client.copy_out("COPY t TO STDOUT").await.unwrap().collect().await;
            assert_eq!(rows.len(), 100 * (round + 1));
        }
    });
    pool_is_whole(&world);
}

#[test]
fn errors_while_the_client_keeps_sending_trap_49() {
    let world = world();
    let bad = b"not a number\n";
    world.compare(
        "simple",
        &[
            Step::Frames(batch().query("COPY u FROM STDIN"), 1),
            ready(batch().copy_data(bad).copy_data(b"2\n")),
            // What comes now is nobody's.
            Step::Ready(batch().copy_data(b"3\n").copy_done().query("SELECT 'goes on'"), 1),
            Step::Ready(batch().query("COPY nowhere FROM STDIN").copy_data(b"1\n").copy_done(), 1),
            Step::Ready(
                batch().query("COPY u FROM STDIN").copy_data(bad).copy_data(b"1\n").copy_done().query("SELECT 1"),
                2,
            ),
            ready(batch().copy_done().copy_fail("late").copy_data(b"x").query("SELECT 2")),
        ],
    );
    pool_is_whole(&world);
    world.compare(
        "extended: skipped up to Sync",
        &[
            Step::Frames(batch().run("COPY u FROM STDIN", &[]).flush(), 4),
            Step::Frames(batch().copy_data(bad).copy_data(b"2\n"), 1),
            ready(batch().copy_data(b"3\n").copy_done().sync()),
            Step::Ready(
                batch().run("COPY u FROM STDIN", &[]).sync().copy_data(bad).copy_data(b"1\n").copy_done().sync(),
                1,
            ),
            Step::Ready(batch().run("COPY nowhere FROM STDIN", &[]).sync().copy_data(b"1\n").copy_done().sync(), 2),
            ready(batch().run("SELECT 'goes on'", &[]).sync()),
        ],
    );
    pool_is_whole(&world);
    world.compare(
        "CopyFail, and what is no COPY message",
        &[
            Step::Frames(batch().query("COPY u FROM STDIN"), 1),
            ready(batch().copy_data(b"1\n").copy_fail("changed my mind")),
            Step::Frames(batch().run("COPY u FROM STDIN", &[]).flush(), 4),
            ready(batch().copy_fail("again").sync()),
            ready(batch().query("SELECT count(*) FROM u")),
            ready(batch().query("BEGIN")),
            Step::Frames(batch().query("COPY u FROM STDIN"), 1),
            ready(batch().copy_data(bad).copy_done()),
            ready(batch().query("COPY u FROM STDIN")),
            ready(batch().query("ROLLBACK")),
        ],
    );
    pool_is_whole(&world);
    // A Sync in the middle of the data races with the error: whatever is answered, the connection is not reused wrongly.
    for _ in 0..20 {
        let mut client = world.client();
        client.send(&batch().run("COPY u FROM STDIN", &[]).flush());
        client.recv_frames(4);
        client.send(&batch().copy_data(bad).sync());
        assert_eq!(tags(&client.recv_ready(1)), "EZ");
        assert_eq!(client.value("SELECT 'goes on'"), "goes on");
    }
    pool_is_whole(&world);
}

#[test]
fn clients_that_die_in_copy_trap_51() {
    let world = world();
    for count in 0..6 {
        let mut client = world.client();
        match count % 3 {
            0 => {
                client.send(&batch().query(IN));
                client.recv_frames(1);
                client.send(&batch().copy_data(b"1\tdead\n"));
            }
            1 => {
                client.send(&batch().run(IN, &[]).flush());
                client.recv_frames(4);
                client.send(&batch().copy_data(b"1\tdead\n").bytes_of(b"d\0\0\x10\0half of a message"));
            }
            _ => {
                client
                    .send(&batch().query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT"));
                client.recv_frames(10);
            }
        }
        client.vanish();
    }
    pool_is_whole(&world);
    assert_eq!(world.db.run("SELECT count(*) FROM t"), "0");
}

#[test]
fn large_copies_both_ways_trap_47() {
    let world = world();
    let mut client = world.client();
    // 100 MB in, in messages of all sizes, and out again to a slow reader.
    let line = format!("1\t{}\n", "y".repeat(998)).into_bytes();
    let rows = 60_000;
    let data = line.repeat(1000);
    client.send(&batch().query(IN));
    client.recv_frames(1);
    let mut sent = 0;
    let mut size = 1;
    let mut pending = data.repeat(rows / 1000);
    while !pending.is_empty() {
        let part: Vec<u8> = pending.drain(..size.min(pending.len())).collect();
        client.send(&batch().copy_data(&part));
        sent += part.len();
        size = (size * 3 + 1).min(8_000_000);
    }
    let frames = client.exchange(&batch().copy_done());
    assert_eq!(summary(&frames), format!("CommandComplete(COPY {rows}) ReadyForQuery(I)"));
    client.send(&batch().query("COPY t TO STDOUT"));
    std::thread::sleep(Duration::from_millis(300));
    let mut got = 0;
    loop {
        let Frame { tag, body } = client.recv();
        match tag {
            b'd' => got += body.len(),
            b'Z' => break,
            _ => {}
        }
    }
    assert_eq!(got, sent);
    pool_is_whole(&world);
}

/// What would have to wait for an answer finds a server that waits for data: it ends the connection, instead of both waiting for ever.
#[test]
fn other_messages_within_copy_in_end_the_connection_trap_51() {
    let world = world();
    for (what, behind) in [
        ("an Execute", batch().execute("", 1).sync()),
        ("a Query", batch().query("SELECT 1")),
        ("a name", batch().query("DEALLOCATE p")),
        ("a call", batch().raw(b'F', &[0; 10])),
    ] {
        // A statement that is to reach its server alone stands before it.
        for first in [batch(), batch().parse("s1", "UNLISTEN x", &[]).bind("p1", "s1", &[])] {
            let count = if first.bytes().is_empty() { 3 } else { 5 };
            let sent = first.query(IN).sync().bytes_of(behind.bytes());
            let [mut direct, mut client] = [world.direct(), world.client()];
            let [expected, got] = [&mut direct, &mut client].map(|client| {
                client.send(&sent);
                let frames = summary(&client.recv_frames(count));
                assert!(client.is_closed(), "{what}");
                frames
            });
            assert_eq!(got, expected, "{what}");
        }
    }
    pool_is_whole(&world);
}
