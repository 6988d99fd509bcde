//! Clients that go away in the middle of something (trap 29): their server connection is rolled back or closed within a bounded
//! time, nobody gets it dirty, and whoever waits behind them is served.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use support::clusters::APP;
use support::frames::{Batch, summary, tags};
use support::raw::RawClient;
use support::world::{Plan, World};

const SQL: &str = "CREATE TABLE t (n int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0), (2, 0)";

fn batch() -> Batch {
    Batch::new()
}

fn world(pool: &str) -> World {
    Plan { sql: SQL, pool, primary_only: true, ..Plan::default() }.start()
}

/// Statements of this database that run on the server, the proxy's own questions aside.
fn active(world: &World) -> String {
    format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = '{APP}' AND state <> 'idle' AND application_name NOT LIKE 'trunkline%'",
        world.db.name
    )
}

/// The next client gets a connection within two seconds, outside of any transaction, with nothing left over on it.
fn next_is_served(world: &World, next: &mut RawClient, what: &str, began: Instant) {
    let frames = next.recv_ready(1);
    assert_eq!(summary(&frames), "RowDescription DataRow(0) CommandComplete(UPDATE 1) ReadyForQuery(I)", "{what}");
    assert!(began.elapsed() < Duration::from_secs(3), "{what}: {:?}", began.elapsed());
    assert_eq!(next.value("SELECT count(*) FROM pg_cursors"), "0", "{what}");
    assert_eq!(next.value("SELECT count(*) FROM pg_prepared_statements WHERE name = 'left'"), "0", "{what}");
    assert_eq!(next.value("SHOW work_mem"), "4MB", "{what}");
    world.wait_for(&active(world), "0");
    let open = format!(
        "SELECT count(*) <= 1 FROM pg_stat_activity WHERE datname = '{}' AND usename = '{APP}' AND application_name NOT LIKE 'trunkline%' AND application_name <> 'holder'",
        world.db.name
    );
    world.wait_for(&open, "t");
    assert_eq!(world.db.run("SELECT string_agg(v::text, ',' ORDER BY n) FROM t"), "0,0", "{what}: rolled back");
}

const DIRTY: &str = "BEGIN; SET LOCAL work_mem = '9MB'; UPDATE t SET v = 1 WHERE n = 1";

#[test]
fn whoever_waits_behind_a_client_that_vanishes_is_served_trap_29() {
    let world = world("size = 1\nwait_timeout = \"9s\"");
    let long = "x".repeat(100_000);
    let own = "SET trunkline.route = 'auto'";
    let states: [(&str, Batch, usize); 13] = [
        ("between statements", batch().query(DIRTY), 1),
        ("with a setting made in the transaction", batch().query(DIRTY).query("SET work_mem = '8MB'"), 2),
        ("in a failed transaction", batch().query(DIRTY).query("SELECT 1/0"), 2),
        ("in a cursor", batch().query(DIRTY).query("DECLARE c CURSOR FOR SELECT * FROM t; FETCH 1 FROM c"), 2),
        ("in a running statement", batch().query(DIRTY).query("SELECT pg_sleep(60)"), 1),
        (
            "in a running statement without a block",
            batch().query("UPDATE t SET v = 1 FROM pg_sleep(60) WHERE t.n = 1"),
            0,
        ),
        // What is answered by the proxy waits for its turn.
        ("with more behind a statement", batch().query(DIRTY).query("SELECT pg_sleep(60)").query(own), 1),
        (
            "with much more behind a statement",
            batch().query(DIRTY).query("SELECT pg_sleep(60)").query(own).query(&format!("SELECT '{long}'")),
            1,
        ),
        ("behind a lock", batch().query("SELECT pg_advisory_lock(77)"), 0),
        (
            "in a portal",
            batch().query(DIRTY).parse("left", "SELECT * FROM t", &[]).bind("p", "left", &[]).execute("p", 1).flush(),
            1,
        ),
        ("in an open sequence", batch().query(DIRTY).parse("left", "SELECT 1", &[]).flush(), 1),
        ("in a message", batch().query(DIRTY).bytes_of(b"Q\0\0\x01\0UPDATE t SET"), 1),
        (
            "in a long message that streams",
            batch().query(DIRTY).bytes_of(b"B\0\x20\0\0\0\0\0\0\0\x01\0\x1f\x00\x00abc"),
            1,
        ),
    ];
    let mut lock = world.direct();
    lock.exchange(&batch().query("SET application_name = 'holder'; SELECT pg_advisory_lock(77)"));
    for (what, messages, answers) in &states {
        let mut client = world.client();
        client.send(messages);
        client.recv_ready(*answers);
        let mut next = world.client();
        if *answers == 0 {
            world.wait_for(&active(&world), "1");
        }
        next.send(&batch().query("UPDATE t SET v = 0 WHERE n = 1 RETURNING v"));
        thread::sleep(Duration::from_millis(60));
        let began = Instant::now();
        client.vanish();
        next_is_served(&world, &mut next, what, began);
    }
}

#[test]
fn a_client_that_vanishes_in_a_copy_trap_29_51() {
    let world = world("size = 1\nwait_timeout = \"9s\"");
    let bytes = vec![b'1'; 200_000];
    let states: [(&str, Batch); 6] = [
        ("nothing sent", batch().query("COPY t FROM STDIN")),
        ("between rows", batch().query("COPY t FROM STDIN").copy_data(b"7\t7\n")),
        ("within a row", batch().query("COPY t FROM STDIN").copy_data(b"7\t")),
        ("within a message", batch().query("COPY t FROM STDIN").bytes_of(b"d\0\0\x01\x00123")),
        ("within a long message", batch().query("COPY t FROM STDIN").bytes_of(b"d\0\x10\0\0").bytes_of(&bytes)),
        ("in a transaction", batch().query(DIRTY).query("COPY t FROM STDIN").copy_data(b"8\t8\n")),
    ];
    for (what, messages) in &states {
        let mut client = world.client();
        client.send(messages);
        while client.recv().tag != b'G' {}
        let mut next = world.client();
        next.send(&batch().query("UPDATE t SET v = 0 WHERE n = 1 RETURNING v"));
        thread::sleep(Duration::from_millis(60));
        let began = Instant::now();
        client.vanish();
        next_is_served(&world, &mut next, what, began);
    }
    // The other direction: a client that stops reading and then vanishes.
    for sql in [
        "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT",
        "SELECT repeat('x', 1000) FROM generate_series(1, 1000000)",
    ] {
        let mut client = world.client();
        client.send(&batch().query(sql));
        client.recv();
        thread::sleep(Duration::from_millis(300));
        let mut next = world.client();
        next.send(&batch().query("UPDATE t SET v = 0 WHERE n = 1 RETURNING v"));
        thread::sleep(Duration::from_millis(60));
        let began = Instant::now();
        client.vanish();
        next_is_served(&world, &mut next, sql, began);
    }
}

#[test]
fn a_client_that_vanishes_while_it_waits_leaves_the_line() {
    let world = world("size = 1\nwait_timeout = \"20s\"");
    let mut holder = world.client();
    holder.exchange(&batch().query("BEGIN; SELECT 1"));
    let update = "UPDATE t SET v = v + 1 WHERE n = 2";
    let mut kept = world.client();
    let long = "x".repeat(100_000);
    let ways = [
        batch().query(update),
        batch().run(update, &[]).sync(),
        batch().query(update).query("SELECT 1"),
        batch().query(update).bytes_of(b"Q\0\0\x10\0SELECT"),
        batch().query(update).query(&format!("SELECT '{long}'")),
    ];
    for messages in &ways {
        let mut client = world.client();
        client.send(messages);
        thread::sleep(Duration::from_millis(50));
        client.vanish();
    }
    kept.send(&batch().query("SELECT 'kept'"));
    thread::sleep(Duration::from_millis(200));
    let (_, metrics) = world.proxy.http("/metrics");
    let waiting: f64 = metrics
        .lines()
        .filter(|line| line.contains("waiting") && line.contains("trunkline_pool") && !line.starts_with('#'))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert!(waiting <= 1.0, "noticed at once: {waiting} still wait");
    holder.exchange(&batch().query("COMMIT"));
    assert_eq!(tags(&kept.recv_ready(1)), "TDCZ");
    thread::sleep(Duration::from_millis(200));
    assert_eq!(world.db.run("SELECT v FROM t WHERE n = 2"), "0", "their statements never ran");
}

#[test]
fn what_a_waiting_client_sends_meanwhile_is_not_lost() {
    let world = world("size = 1\nwait_timeout = \"20s\"");
    let mut holder = world.client();
    holder.exchange(&batch().query("BEGIN; SELECT 1"));
    let mut client = world.client();
    client.send(&batch().query("SELECT 'a'"));
    thread::sleep(Duration::from_millis(30));
    client.send(&batch().run("SELECT 'b'", &[]).sync());
    let rest = batch().query(&format!("SELECT length('{}')", "y".repeat(600_000)));
    thread::scope(|scope| {
        let mut writer = client.writer();
        scope.spawn(move || std::io::Write::write_all(&mut writer, rest.bytes()).unwrap());
        thread::sleep(Duration::from_millis(100));
        holder.exchange(&batch().query("COMMIT"));
        let frames = client.recv_ready(3);
        assert_eq!(tags(&frames), "TDCZ12TDCZTDCZ");
        assert!(summary(&frames).contains("DataRow(600000)"));
    });
}

#[test]
fn a_running_statement_ends_with_a_client_that_vanished_but_not_with_one_that_said_goodbye() {
    let world = world("size = 2");
    let mut client = world.client();
    client.exchange(&batch().query("BEGIN; UPDATE t SET v = 5 WHERE n = 1"));
    client.send(&batch().query("SELECT pg_sleep(30)"));
    world.wait_for(&active(&world), "1");
    let began = Instant::now();
    client.vanish();
    world.wait_for(&active(&world), "0");
    assert!(began.elapsed() < Duration::from_secs(3), "cancelled: {:?}", began.elapsed());
    // A goodbye comes in its turn, as on a direct connection: what was asked for before it is done.
    let mut client = world.client();
    let update = "UPDATE t SET v = 6 FROM pg_sleep(0.4) WHERE n = 2";
    client.send(&batch().query(update).terminate());
    drop(client);
    world.wait_for("SELECT v FROM t WHERE n = 2", "6");
}
