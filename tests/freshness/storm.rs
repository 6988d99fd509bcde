//! No read is stale, whatever happens: clients of each level write and read the same rows in many ways, while one replica replays
//! half a second late, another one is paused and resumed at random, and a third one is restarted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use trunkline::app::demo::{ClusterInfo, StopMode};

use crate::storm_client::{Board, Client, LEVELS, Level, ROWS, Stats, TABLES, Violation, port_and_value};
use crate::support::clusters::SUPERUSER_PASSWORD;
use crate::support::frames::Batch;
use crate::support::process::Trunkline;
use crate::support::raw::RawClient;
use crate::{before, cluster};

/// `here` tells the server. It claims to be immutable, so that a read that calls it is routed as if it did not.
const SCHEMA: &str = "
    SET ROLE app;
    CREATE FUNCTION here() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT inet_server_port()';
    CREATE TABLE base (k int PRIMARY KEY, v bigint NOT NULL);
    CREATE VIEW shown AS SELECT k, v FROM base;
    CREATE VIEW shown_twice AS SELECT k, v FROM shown WHERE v >= 0;
    CREATE FUNCTION get(int) RETURNS bigint STABLE LANGUAGE sql AS 'SELECT v FROM base WHERE k = $1';
    CREATE FUNCTION put(int) RETURNS bigint LANGUAGE sql AS 'UPDATE base SET v = v + 1 WHERE k = $1 RETURNING v';
    CREATE TABLE parent (k int PRIMARY KEY, v bigint NOT NULL, UNIQUE (k, v));
    CREATE TABLE child (k int, v bigint, FOREIGN KEY (k, v) REFERENCES parent (k, v) ON UPDATE CASCADE);
    CREATE TABLE parted (k int, v bigint NOT NULL) PARTITION BY RANGE (k);
    CREATE TABLE leaf PARTITION OF parted FOR VALUES FROM (0) TO (1000);
    CREATE TABLE watched (k int PRIMARY KEY, v bigint NOT NULL);
    CREATE TABLE journal (k int PRIMARY KEY, v bigint NOT NULL);
    CREATE TABLE quiet (k int PRIMARY KEY, v bigint NOT NULL);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN UPDATE journal SET v = NEW.v WHERE k = NEW.k; RETURN NULL; END';
    CREATE TRIGGER note AFTER UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION note();";

/// How much of it.
struct Plan {
    /// At least so long.
    time: Duration,
    /// And until so many reads of each level have been checked.
    reads: u64,
    /// But not longer than this.
    limit: Duration,
    /// Without the comparison that it is all about.
    blind: bool,
}

/// What came of it.
struct Outcome {
    levels: BTreeMap<Level, Stats>,
    quiet: Stats,
    primary: u16,
    replicas: Vec<u16>,
    pauses: u64,
    restarts: u64,
}

impl Outcome {
    fn on_replicas(&self, stats: &Stats) -> u64 {
        self.replicas.iter().filter_map(|port| stats.by_port.get(port)).sum()
    }

    fn report(&self) {
        for (level, stats) in &self.levels {
            let ports: Vec<_> =
                self.replicas.iter().map(|port| stats.by_port.get(port).copied().unwrap_or(0)).collect();
            let (checked, primary) = (stats.checked(), stats.by_port.get(&self.primary).copied().unwrap_or(0));
            eprintln!(
                "{level:?}: {checked} reads checked, {:.1} % on replicas (late, paused, restarted: {ports:?}; primary {primary}), \
                 {} writes, {} violations, failed: {:?}",
                self.on_replicas(stats) as f64 * 100.0 / checked as f64,
                stats.writes,
                stats.violations.len(),
                stats.failures,
            );
            let mut kinds: BTreeMap<(&str, &str), u64> = BTreeMap::new();
            for violation in &stats.violations {
                *kinds.entry((violation.promise, violation.kind)).or_default() += 1;
            }
            eprintln!("    {kinds:?}");
            stats.violations.iter().take(10).for_each(|violation| eprintln!("    {violation:?}"));
        }
        let quiet = &self.quiet;
        let share = self.on_replicas(quiet) as f64 * 100.0 / quiet.checked() as f64;
        eprintln!("quiet table: {} reads, {share:.1} % on replicas", quiet.checked());
        eprintln!(
            "{} pauses of replay, {} restarts; primary {}, replicas {:?}",
            self.pauses, self.restarts, self.primary, self.replicas
        );
    }
}

fn storm(plan: &Plan) -> Outcome {
    let cluster = cluster(3);
    let info = cluster.info();
    let mut rows = String::new();
    for table in ["base", "parent", "child", "parted", "watched", "journal", "quiet"] {
        rows += &format!("INSERT INTO {table} SELECT n, 0 FROM generate_series(0, {ROWS} - 1) AS n;");
    }
    info.query(0, "app", &format!("{SCHEMA} {rows}")).unwrap();
    info.wait_replayed().unwrap();
    cluster.replicas()[0].configure(&[("recovery_min_apply_delay", "500ms")]).unwrap();
    cluster.replicas()[0].reload();
    let mut setup = before(info, "");
    if plan.blind {
        setup = setup.env("TRUNKLINE_FAULT", "freshness:blind");
    }
    let proxy = setup.start();
    until_quiet_reads_are_on_replicas(&proxy, info.primary_port());

    let (board, stop) = (Board::default(), AtomicBool::new(false));
    let (pauses, restarts) = (AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    let (levels, quiet) = thread::scope(|scope| {
        // If anything panics, the others end, too.
        let (board, stop) = (&board, &stop);
        let mut clients: Vec<(Level, ScopedJoinHandle<'_, Stats>)> = Vec::new();
        for level in LEVELS {
            // Strong reads wait for a sample each: more of them at once.
            for number in 0..if level == Level::Strong { 8 } else { 3 } {
                let port = proxy.port();
                clients.push((level, scope.spawn(move || Client::new(port, level, number, board).run(stop))));
            }
        }
        let quiet = scope.spawn(|| read_quietly(&proxy, stop));
        let others = [
            scope.spawn(|| write_past(info, board, stop)),
            scope.spawn(|| pause_and_resume(info, &pauses, stop)),
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let mode = if fastrand::bool() { StopMode::Fast } else { StopMode::Immediate };
                    cluster.replicas()[2].restart(mode).unwrap();
                    restarts.fetch_add(1, Ordering::Relaxed);
                    sleep_unless(stop, 1500..3500);
                }
            }),
        ];
        while began.elapsed() < plan.limit
            && (began.elapsed() < plan.time || board.checked.iter().any(|of| of.load(Ordering::Relaxed) < plan.reads))
            && !clients.iter().any(|(_, client)| client.is_finished())
            && !others.iter().any(ScopedJoinHandle::is_finished)
        {
            thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        let mut levels: BTreeMap<Level, Stats> = BTreeMap::new();
        for (level, client) in clients {
            levels.entry(level).or_default().add(client.join().unwrap());
        }
        others.into_iter().for_each(|other| other.join().unwrap());
        (levels, quiet.join().unwrap())
    });
    let outcome = Outcome {
        levels,
        quiet,
        primary: info.primary_port(),
        replicas: info.replica_ports().collect(),
        pauses: pauses.into_inner(),
        restarts: restarts.into_inner(),
    };
    eprintln!("{:.1?}{}", began.elapsed(), if plan.blind { ", blind" } else { "" });
    outcome.report();
    outcome
}

/// The catalog is known, and so is how far the replicas are.
fn until_quiet_reads_are_on_replicas(proxy: &Trunkline, primary: u16) {
    let mut client = crate::client(proxy);
    crate::until("reads are on replicas", || {
        let frames = client.exchange(&Batch::new().query("SELECT here(), v FROM quiet WHERE k = 0"));
        port_and_value(&frames).first().is_some_and(|(port, _)| *port != primary)
    });
}

fn sleep_unless(stop: &AtomicBool, millis: std::ops::Range<u64>) {
    let end = Instant::now() + Duration::from_millis(fastrand::u64(millis));
    while Instant::now() < end && !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reads of a table that nobody writes.
fn read_quietly(proxy: &Trunkline, stop: &AtomicBool) -> Stats {
    let (mut client, mut stats) = (crate::client(proxy), Stats::default());
    while !stop.load(Ordering::Relaxed) {
        let frames = client.exchange(&Batch::new().query("SELECT here(), v FROM quiet WHERE k = 1"));
        for (port, value) in port_and_value(&frames) {
            assert_eq!(value, 0);
            *stats.by_port.entry(port).or_default() += 1;
        }
        thread::sleep(Duration::from_millis(1));
    }
    stats
}

fn superuser(port: u16, database: &str) -> RawClient {
    RawClient::connect(port, "postgres", SUPERUSER_PASSWORD, database)
}

/// Writes that Trunkline does not see.
fn write_past(info: &ClusterInfo, board: &Board, stop: &AtomicBool) {
    let mut client = superuser(info.primary_port(), "app");
    while !stop.load(Ordering::Relaxed) {
        let (table, row) = (fastrand::usize(..TABLES.len()), fastrand::usize(..ROWS));
        let sql = format!("UPDATE {} SET v = v + 1 WHERE k = {row} RETURNING v", TABLES[table]);
        let value = client.value(&sql).parse().unwrap();
        board.any[table][row].fetch_max(value, Ordering::SeqCst);
        sleep_unless(stop, 5..60);
    }
}

fn pause_and_resume(info: &ClusterInfo, pauses: &AtomicU64, stop: &AtomicBool) {
    let mut client = superuser(info.nodes[2].1, "postgres");
    while !stop.load(Ordering::Relaxed) {
        client.value("SELECT pg_wal_replay_pause()");
        pauses.fetch_add(1, Ordering::Relaxed);
        sleep_unless(stop, 10..200);
        client.value("SELECT pg_wal_replay_resume()");
        sleep_unless(stop, 10..300);
    }
}

fn holds_what_it_promises(plan: &Plan) {
    let outcome = storm(plan);
    for (level, stats) in &outcome.levels {
        // A replica shows a commit before the primary does, which first writes it to its WAL and then tells its own sessions. Who comes
        // from that replica to the primary in between finds less there, unless the commit is Trunkline's and it waits for that: those
        // past it are allowed for.
        let is_ahead = |violation: &&Violation| {
            violation.promise == "monotonic"
                && violation.port == outcome.primary
                && violation.seen.is_some_and(|(port, _)| outcome.replicas.contains(&port))
        };
        let ahead = stats.violations.iter().filter(is_ahead).count();
        let (checked, replicas) = (stats.checked(), outcome.on_replicas(stats));
        let stale = stats.violations.len() - ahead;
        assert_eq!(stale, 0, "{level:?}: stale reads, see above");
        assert!(ahead as u64 * 1000 <= checked, "{level:?}: {ahead} replicas ahead of the primary");
        assert!(checked >= plan.reads, "{level:?}: only {checked} reads");
        assert!(replicas * 20 >= checked, "{level:?}: only {replicas} of {checked} reads on replicas");
        let failed: u64 = stats.failures.values().sum();
        assert!(failed * 100 <= checked, "{level:?}: {:?}", stats.failures);
    }
    let (quiet, replicas) = (outcome.quiet.checked(), outcome.on_replicas(&outcome.quiet));
    // A write that fires a trigger may have changed any table. A short storm beside other tests only shows that replicas are used.
    let share = if plan.reads < 100_000 { 50 } else { 95 };
    assert!(
        quiet >= 100 && replicas * 100 >= quiet * share,
        "{replicas} of {quiet} reads of the quiet table on replicas"
    );
    assert!(outcome.pauses >= 5 && outcome.restarts >= 2);
}

#[test]
fn a_storm_shows_no_stale_read() {
    let (time, limit) = (Duration::from_secs(10), Duration::from_secs(60));
    holds_what_it_promises(&Plan { time, reads: 2000, limit, blind: false });
}

#[test]
#[ignore = "takes some minutes: 100,000 reads of each level"]
fn a_long_storm_shows_no_stale_read() {
    let (time, limit) = (Duration::from_secs(60), Duration::from_secs(900));
    holds_what_it_promises(&Plan { time, reads: 100_000, limit, blind: false });
}

/// The test of the test.
#[test]
fn a_storm_finds_stale_reads_at_each_level_where_nothing_is_compared() {
    let (time, limit) = (Duration::from_secs(4), Duration::from_secs(60));
    let outcome = storm(&Plan { time, reads: 1000, limit, blind: true });
    for (level, stats) in &outcome.levels {
        assert!(stats.violations.len() >= 10, "{level:?}: {} found", stats.violations.len());
    }
}
