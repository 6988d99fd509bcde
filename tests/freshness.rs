//! Reads that are never stale (design §5), before servers that lag, stop, restart and are promoted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "freshness/blocks.rs"]
mod blocks;
#[path = "freshness/hidden.rs"]
mod hidden;
#[path = "freshness/meanwhile.rs"]
mod meanwhile;
#[path = "freshness/schema.rs"]
mod schema;
#[path = "freshness/storm.rs"]
mod storm;
#[path = "freshness/storm_client.rs"]
mod storm_client;
mod support;

use std::thread;
use std::time::{Duration, Instant};

use support::clusters::{self, APP, APP_PASSWORD};
use support::frames::{Batch, tags};
use support::process::{Setup, Trunkline};
use support::raw::RawClient;
use trunkline::app::demo::{Cluster, ClusterInfo, ClusterOptions, StopMode};

/// A Trunkline before a cluster's database `app`.
fn before(info: &ClusterInfo, routing: &str) -> Setup {
    Setup::config(config(info, "", routing))
}

fn config(info: &ClusterInfo, general: &str, routing: &str) -> String {
    let node = |name: &str, role: &str, port: u16| {
        format!("[[databases.app.nodes]]\nname = \"{name}\"\nrole = \"{role}\"\nhost = \"127.0.0.1\"\nport = {port}\n")
    };
    let mut nodes = node("primary", "primary", info.primary_port());
    for (number, port) in info.replica_ports().enumerate() {
        nodes += &node(&format!("replica{}", number + 1), "replica", port);
    }
    format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n{general}\n\
         [metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n\
         [users.{APP}]\npassword = \"{APP_PASSWORD}\"\n\
         [databases.app]\ncontrol_user = \"{APP}\"\ncontrol_password = \"{APP_PASSWORD}\"\n\
         [databases.app.pool]\nwait_timeout = \"5s\"\n\
         [databases.app.routing]\nhealth_interval = \"200ms\"\nhealth_timeout = \"1s\"\n{routing}\n{nodes}"
    )
}

fn cluster(replicas: usize) -> Cluster {
    clusters::start(ClusterOptions { replicas, ..clusters::options() })
}

fn client(proxy: &Trunkline) -> RawClient {
    RawClient::connect(proxy.port(), APP, APP_PASSWORD, "app")
}

fn query(sql: &str) -> Batch {
    Batch::new().query(sql)
}

/// Whether a read runs on a standby.
fn on_replica(client: &mut RawClient) -> bool {
    client.value("/* trunkline: replica */ SELECT pg_is_in_recovery() FROM (SELECT count(*) FROM t) AS t") == "t"
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn set_paused(info: &ClusterInfo, node: usize, paused: bool) {
    let function = if paused { "pg_wal_replay_pause" } else { "pg_wal_replay_resume" };
    info.query(node, "postgres", &format!("SELECT {function}()")).unwrap();
    if paused {
        until("replay pauses", || {
            info.query(node, "postgres", "SELECT pg_get_wal_replay_pause_state()").unwrap() == "paused"
        });
    }
}

fn make_table(info: &ClusterInfo) {
    info.query(0, "app", "CREATE TABLE t (n int); ALTER TABLE t OWNER TO app").unwrap();
    info.wait_replayed().unwrap();
}

/// A commit that waits for a synchronous standby is shown by the other replicas before the primary shows it: a session that has seen it
/// there does not find less on the primary.
#[test]
fn what_a_replica_has_shown_the_primary_shows_too() {
    let settings = vec![
        ("synchronous_standby_names".to_owned(), "replica2".to_owned()),
        ("synchronous_commit".to_owned(), "remote_apply".to_owned()),
    ];
    let cluster = clusters::start(ClusterOptions { replicas: 2, settings, ..clusters::options() });
    let info = cluster.info();
    make_table(info);
    // Of the synchronous one Trunkline need not know.
    let mut known = info.clone();
    known.nodes.truncate(2);
    let proxy = before(&known, "consistency = \"session\"").start();
    let count = |place: &str| format!("/* trunkline: {place} */ SELECT count(*) FROM t");
    let mut tried = 0;
    for round in 1..40 {
        let (mut reader, mut writer) = (client(&proxy), client(&proxy));
        set_paused(info, 2, true);
        let sent = Instant::now();
        writer.send(&query("INSERT INTO t VALUES (1)"));
        while reader.value(&count("replica")) != round.to_string() {
            assert!(sent.elapsed() < Duration::from_secs(15), "replica1 shows it");
        }
        let seen = sent.elapsed();
        // A write finds no less than a read does.
        let finds = round % 2 == 0;
        reader.send(&query(&if finds { "UPDATE t SET n = n".to_owned() } else { count("primary") }));
        let silent = reader.is_silent_for(Duration::from_millis(20));
        set_paused(info, 2, false);
        let frames = reader.recv_ready(1);
        assert_eq!(tags(&writer.recv_ready(1)), "CZ");
        // Who waits does so for half a second at most.
        if seen > Duration::from_millis(150) || sent.elapsed() > Duration::from_millis(400) {
            continue;
        }
        assert!(silent, "round {round}: {frames:?}");
        let found = if finds { frames[0].strings() } else { frames[1].columns().into_iter().flatten().collect() };
        assert_eq!(found, [if finds { format!("UPDATE {round}") } else { round.to_string() }], "round {round}");
        tried += 1;
        if tried == 6 {
            return;
        }
    }
    assert!(tried > 0, "the machine is too slow for this");
}

#[test]
fn each_level_sees_what_it_promises_and_no_more() {
    let cluster = cluster(1);
    let info = cluster.info();
    make_table(info);
    let proxy = before(info, "consistency = \"session\"").start();
    let (mut writer, mut other) = (client(&proxy), client(&proxy));
    assert!(on_replica(&mut writer) && on_replica(&mut other), "nothing was written");
    set_paused(info, 1, true);
    let count = "SELECT count(*) FROM t";
    assert_eq!(tags(&writer.exchange(&query("INSERT INTO t VALUES (1)"))), "CZ");
    assert_eq!(writer.value(count), "1", "session: its own write");
    assert_eq!(other.value(count), "0", "session: another one's need not be seen");
    assert_eq!(other.value("/* trunkline: consistency=table */ SELECT count(*) FROM t"), "1", "table: by a hint");
    for (level, seen) in [("table", "2"), ("strong", "2")] {
        let mut fresh = client(&proxy);
        fresh.exchange(&query(&format!("SET trunkline.consistency = '{level}'")));
        assert_eq!(fresh.value("SHOW trunkline.consistency"), level);
        if level == "table" {
            writer.exchange(&query("INSERT INTO t VALUES (2)"));
        }
        assert_eq!(fresh.value(count), seen, "{level}");
    }
    // Past Trunkline: only strong reads know of it.
    info.query(0, "app", "INSERT INTO t VALUES (3)").unwrap();
    let parameters = [("user", APP), ("database", "app"), ("options", "-c trunkline.consistency=strong")];
    let mut strong = RawClient::connect_with(proxy.port(), APP_PASSWORD, &parameters);
    assert_eq!(strong.value(count), "3");
    strong.exchange(&query("SET trunkline.consistency = 'eventual'"));
    assert_eq!(strong.value(count), "0");
    strong.exchange(&query("RESET trunkline.consistency"));
    assert_eq!(strong.value(count), "3");
    assert_eq!(strong.value("/* trunkline: consistency=eventual */ SELECT count(*) FROM t"), "0");
    // Reads do not go back in time.
    assert_eq!(other.value("/* trunkline: primary */ SELECT count(*) FROM t"), "3");
    assert_eq!(other.value(count), "3", "session: what it has seen");
    // A block that only reads.
    writer.exchange(&query("BEGIN READ ONLY"));
    assert_eq!(writer.value(count), "3");
    writer.exchange(&query("COMMIT"));
    let (_, metrics) = proxy.http("/metrics");
    assert!(metrics.contains("trunkline_reads_not_fresh_total{level=\"session\",outcome=\"behind\"}"), "{metrics}");

    // Once replayed, all of them come back to the replica.
    set_paused(info, 1, false);
    for client in [&mut writer, &mut other, &mut strong] {
        until("reads are on the replica", || on_replica(client));
        assert_eq!(client.value(count), "3");
    }
}

/// What is sent while another statement runs on a replica is judged for that replica, too, not only for whatever comes next there.
#[test]
fn a_read_that_is_sent_behind_another_one_sees_what_was_committed_meanwhile() {
    let cluster = cluster(1);
    let info = cluster.info();
    make_table(info);
    for (level, by_protocol) in [("table", false), ("table", true), ("strong", false), ("strong", true)] {
        let proxy = before(info, &format!("consistency = \"{level}\"")).start();
        let (mut reader, mut writer) = (client(&proxy), client(&proxy));
        let run = |sql: &str| if by_protocol { Batch::new().run(sql, &[]).sync() } else { query(sql) };
        writer.rows("TRUNCATE t");
        info.wait_replayed().unwrap();
        until("reads run on the replica", || on_replica(&mut reader));
        reader.send(&run("/* trunkline: replica */ SELECT pg_sleep(2), count(*), pg_is_in_recovery() FROM t"));
        thread::sleep(Duration::from_millis(300));
        set_paused(info, 1, true);
        writer.rows("INSERT INTO t VALUES (1)");
        reader.send(&run("SELECT count(*) FROM t"));
        let frames = reader.recv_ready(2);
        let rows: Vec<_> = frames.iter().filter(|frame| frame.tag == b'D').map(|frame| frame.columns()).collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(rows[0][1..], [text("0"), text("t")], "{level}: the first one runs on the replica");
        assert_eq!(rows[1], [text("1")], "{level}, extended protocol: {by_protocol}");
        set_paused(info, 1, false);
    }
}

#[test]
fn writes_of_every_kind_are_seen_by_the_next_read() {
    let cluster = cluster(1);
    let info = cluster.info();
    make_table(info);
    info.query(
        0,
        "app",
        "SET ROLE app; CREATE FUNCTION bump() RETURNS void LANGUAGE sql AS 'INSERT INTO t VALUES (0)'; \
         CREATE PROCEDURE work() LANGUAGE plpgsql AS $$BEGIN INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2); END$$",
    )
    .unwrap();
    info.wait_replayed().unwrap();
    let proxy = before(info, "").start();
    let (mut writer, mut other) = (client(&proxy), client(&proxy));
    let run = |sql: &str| Batch::new().parse("", sql, &[]).bind("", "", &[]).execute("", 0);
    let writes = [
        query("INSERT INTO t VALUES (1)"),
        query("SELECT 1; INSERT INTO t VALUES (1); SELECT 2"),
        query("SELECT bump()"),
        query("CALL work()"),
        query("BEGIN").query("INSERT INTO t VALUES (1)").query("COMMIT"),
        query("BEGIN; INSERT INTO t VALUES (1); COMMIT; SELECT 1"),
        query("BEGIN; INSERT INTO t VALUES (1); COMMIT AND CHAIN; SELECT 1").query("ROLLBACK"),
        query("BEGIN; INSERT INTO t VALUES (1)").query("COMMIT AND CHAIN").query("ROLLBACK"),
        query("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'p'").query("COMMIT PREPARED 'p'"),
        query("DO $$BEGIN INSERT INTO t VALUES (1); END$$"),
        query("WITH w AS (INSERT INTO t VALUES (1) RETURNING n) SELECT n FROM w"),
        query("CREATE TEMP TABLE x AS SELECT 1; INSERT INTO t SELECT * FROM x; DROP TABLE x"),
        run("INSERT INTO t VALUES (1)").sync(),
        run("INSERT INTO t VALUES (1)").sync().query("SELECT 1"),
        run("SELECT 1").sync().parse("", "INSERT INTO t VALUES (1)", &[]).bind("", "", &[]).execute("", 0).sync(),
    ];
    info.query(0, "postgres", "ALTER SYSTEM SET max_prepared_transactions = 5").unwrap();
    cluster.primary().restart(StopMode::Fast).unwrap();
    set_paused(info, 1, true);
    until("the primary is back", || !writer_fails(&proxy));
    let mut expected = 0;
    for write in &writes {
        let mut session = client(&proxy);
        session.send(write);
        let frames = session.recv_ready(write.readies());
        assert!(!tags(&frames).contains('E'), "{}", support::frames::summary(&frames));
        let rows: u64 = info.query(0, "app", "SELECT count(*) FROM t").unwrap().parse().unwrap();
        assert!(rows > expected, "it wrote nothing");
        expected = rows;
        for reader in [&mut session, &mut other] {
            assert_eq!(reader.value("SELECT count(*) FROM t"), expected.to_string());
        }
    }
    drop(writer.exchange(&Batch::new().sync()));
    set_paused(info, 1, false);
    until("reads are on the replica", || on_replica(&mut other));
    assert_eq!(other.value("SELECT count(*) FROM t"), expected.to_string());
}

fn writer_fails(proxy: &Trunkline) -> bool {
    tags(&client(proxy).exchange(&query("SELECT 1 FOR UPDATE"))).contains('E')
}

#[test]
fn an_idle_primary_strands_no_read_trap_86() {
    let cluster = cluster(1);
    let info = cluster.info();
    make_table(info);
    let proxy = before(info, "consistency = \"strong\"\nfreshness_wait = \"5s\"").start();
    let mut client = client(&proxy);
    // The next record goes to a fresh segment: the insert position stands behind the header of its first page.
    let lsn = || {
        info.query(0, "postgres", "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").unwrap().parse::<u64>().unwrap()
    };
    until("the primary writes nothing by itself", || {
        info.query(0, "postgres", "CHECKPOINT; SELECT pg_switch_wal()").unwrap();
        thread::sleep(Duration::from_millis(100));
        lsn() % (16 << 20) == 40
    });
    for _ in 0..3 {
        assert!(on_replica(&mut client), "at {:x}", lsn());
    }
    // And behind the header of any other page: messages fill a page to its last byte.
    info.query(0, "postgres", "CREATE EXTENSION IF NOT EXISTS pg_walinspect").ok();
    until("a page is full", || {
        let room = 8192 - lsn() % 8192;
        // A record's overhead: header 24, main data header 2 or 5, message header 24, prefix 1; all aligned to 8.
        let text = room.saturating_sub(24 + 5 + 24 + 1 + 7);
        if (300..8000).contains(&room) {
            let sql = format!("SELECT pg_logical_emit_message(false, '', repeat('x', {text}))");
            info.query(0, "postgres", &sql).unwrap();
        } else {
            info.query(0, "postgres", "SELECT pg_logical_emit_message(false, '', repeat('x', 700))").unwrap();
        }
        lsn() % 8192 == 24
    });
    info.query(0, "postgres", "CHECKPOINT").ok();
    let mut last = lsn();
    for _ in 0..3 {
        assert!(on_replica(&mut client), "at {last:x}");
        last = lsn();
    }
}

/// A new process has taken over, and the old one serves its clients to their end: neither is told what the other's write.
#[test]
fn beside_another_process_reads_see_what_its_clients_write() {
    let cluster = cluster(1);
    let info = cluster.info();
    make_table(info);
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("takeover.sock");
    let text = config(info, &format!("takeover_socket = \"{}\"", socket.display()), "");
    let old = Setup::config(text.clone()).start();
    let mut before = client(&old);
    until("the socket is there", || socket.exists());
    let mut new = Setup::config(text).beside(&old).launch();
    new.wait_for_log(&["taken over"]);
    let mut after = client(&new);
    for (number, from_old) in [(1, true), (2, false)] {
        until("reads are on the replica", || on_replica(&mut before) && on_replica(&mut after));
        set_paused(info, 1, true);
        let (writer, reader) = if from_old { (&mut before, &mut after) } else { (&mut after, &mut before) };
        writer.rows("INSERT INTO t VALUES (1)");
        assert_eq!(reader.value("SELECT count(*) FROM t"), number.to_string());
        set_paused(info, 1, false);
    }
}

/// How many statements a pattern has been run by the control plane on a node.
fn calls(info: &ClusterInfo, node: usize) -> u64 {
    let sql = "SELECT sum(xact_commit) FROM pg_stat_database WHERE datname = 'app'";
    info.query(node, "postgres", sql).unwrap().parse().unwrap()
}

#[test]
fn the_sampler_costs_the_primary_one_query_a_second_or_two_hundred() {
    let cluster = cluster(1);
    let info = cluster.info();
    make_table(info);
    // The health checks are queries, too: hardly any.
    let proxy = before(info, "consistency = \"strong\"").start();
    let mut reader = client(&proxy);
    thread::sleep(Duration::from_millis(1500));
    let rate = |of: Duration| {
        // The statistics are reported with a delay of up to a second.
        let (before, began) = (calls(info, 0), Instant::now());
        thread::sleep(of);
        (calls(info, 0) - before) as f64 / began.elapsed().as_secs_f64()
    };
    let idle = rate(Duration::from_secs(5));
    assert!(idle <= 1.0 + 5.0 + 1.0, "{idle} a second, five of them health checks");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (busy, reads, replicas) = thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let (mut reads, mut replicas) = (0u64, 0u64);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                reads += 1;
                replicas += u64::from(on_replica(&mut reader));
            }
            (reads, replicas)
        });
        thread::sleep(Duration::from_millis(1500));
        let busy = rate(Duration::from_secs(4));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let (reads, replicas) = reading.join().unwrap();
        (busy, reads, replicas)
    });
    eprintln!("idle {idle:.1}/s, busy {busy:.1}/s; of {reads} strong reads {replicas} on the replica");
    // What strong reads there were on the primary were queries of ours, not the sampler's.
    assert!(busy <= 200.0 + 5.0 + 20.0 + (reads - replicas) as f64, "{busy} a second");
    assert!(replicas * 10 >= reads * 5, "{replicas} of {reads}");
}

#[test]
fn horizons_are_dropped_on_promotion_and_timelines_told_apart_trap_90() {
    let cluster = cluster(2);
    let info = cluster.info().clone();
    make_table(&info);
    info.query(0, "postgres", "GRANT pg_monitor TO app").unwrap();
    info.wait_replayed().unwrap();
    // The second replica follows the old primary; the first one is promoted beside it, and is the primary of the configuration.
    cluster.replicas()[0].promote().unwrap();
    let ports: Vec<u16> = info.replica_ports().collect();
    let node = |name: &str, role: &str, port: u16| {
        format!("[[databases.app.nodes]]\nname = \"{name}\"\nrole = \"{role}\"\nhost = \"127.0.0.1\"\nport = {port}\n")
    };
    let text = format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n[metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n\
         [users.{APP}]\npassword = \"{APP_PASSWORD}\"\n\
         [databases.app]\ncontrol_user = \"{APP}\"\ncontrol_password = \"{APP_PASSWORD}\"\n\
         [databases.app.routing]\nhealth_interval = \"200ms\"\nhealth_timeout = \"1s\"\n{}{}",
        node("new", "primary", ports[0]),
        node("diverged", "replica", ports[1]),
    );
    let proxy = Setup::config(text).start();
    let mut client = client(&proxy);
    client.exchange(&query("INSERT INTO t VALUES (1), (2)"));
    // The old primary's WAL grows past all that the new one has.
    info.query(0, "app", "INSERT INTO t SELECT n FROM generate_series(1, 10000) AS n").unwrap();
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        assert_eq!(client.value("SELECT count(*) FROM t"), "2", "the diverged replica is further, and wrong");
        assert!(!on_replica(&mut client));
    }
    // It comes over to the new timeline.
    drop(cluster.primary().stop(StopMode::Immediate));
    cluster.follow(2, 1).unwrap_or_else(|error| panic!("{error}"));
    let _ = end;
}

#[test]
fn who_only_reads_comes_back_from_the_primary() {
    let cluster = cluster(1);
    let info = cluster.info();
    make_table(info);
    let proxy = before(info, "consistency = \"session\"").start();
    let mut reader = client(&proxy);
    assert_eq!(reader.value("/* trunkline: primary */ SELECT count(*) FROM t"), "0");
    // One read after the other: each on the primary would put the next one off, for ever.
    let began = Instant::now();
    let mut reads = 0;
    while !on_replica(&mut reader) {
        reads += 1;
        assert!(began.elapsed() < Duration::from_secs(5), "stuck on the primary for {reads} reads");
    }
    for _ in 0..50 {
        assert!(on_replica(&mut reader), "and stays");
    }
}

#[test]
fn a_read_that_waits_for_a_replica_can_be_cancelled_and_ends_with_its_client() {
    let cluster = cluster(1);
    let info = cluster.info();
    make_table(info);
    let proxy = before(info, "consistency = \"strong\"\nfreshness_wait = \"30s\"").start();
    let mut waiter = client(&proxy);
    set_paused(info, 1, true);
    info.query(0, "app", "INSERT INTO t VALUES (1)").unwrap();
    waiter.send(&query("SELECT count(*) FROM t"));
    assert!(waiter.is_silent_for(Duration::from_millis(300)), "it waits");
    waiter.cancel(proxy.port());
    assert_eq!(waiter.recv_ready(1)[0].sqlstate(), "57014");
    // wait_timeout is shorter than freshness_wait: after it the primary answers.
    let began = Instant::now();
    assert_eq!(waiter.value("SELECT count(*) FROM t"), "1");
    assert!((4..9).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    // Its end is noticed.
    waiter.send(&query("SELECT count(*) FROM t"));
    thread::sleep(Duration::from_millis(100));
    waiter.vanish();
    until("the client is gone", || {
        let (_, metrics) = proxy.http("/metrics");
        metrics.contains("trunkline_client_connections{database=\"app\",user=\"app\",state=\"waiting\"} 0")
    });
    // Woken by the replica, at once.
    let mut waiter = client(&proxy);
    waiter.send(&query("/* trunkline: replica */ SELECT pg_is_in_recovery()"));
    thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    set_paused(info, 1, false);
    assert_eq!(tags(&waiter.recv_ready(1)), "TDCZ");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn without_a_primary_only_eventual_reads_may_be_stale() {
    let cluster = cluster(1);
    let info = cluster.info();
    make_table(info);
    let proxy = before(info, "consistency = \"table\"\nmax_lag = \"100ms\"").start();
    let mut client = client(&proxy);
    client.exchange(&query("INSERT INTO t VALUES (1)"));
    until("reads are on the replica", || on_replica(&mut client));
    set_paused(info, 1, true);
    client.exchange(&query("INSERT INTO t VALUES (2)"));
    cluster.primary().stop(StopMode::Immediate).unwrap();
    until("the primary is known to be down", || proxy.http("/readyz").0.contains("503"));
    assert_eq!(client.value("/* trunkline: consistency=eventual */ SELECT count(*) FROM t"), "1");
    assert_eq!(client.failure("SELECT count(*) FROM t"), "57P03", "it waits for the primary, as a write does");
    cluster.primary().start().unwrap();
    until("the primary is back", || !writer_fails(&proxy));
    assert_eq!(client.value("SELECT count(*) FROM t"), "2");
    set_paused(info, 1, false);
}
