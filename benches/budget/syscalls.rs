//! System calls of a statement.
//!
//! Looks are not judged: the pool looks whether a connection that has been idle for a millisecond is still open (`recv` with
//! `MSG_PEEK`), and strace makes everything so slow that they have been more often than they ever are without it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::pgbouncer::PgBouncer;
use super::report::Table;
use super::support::clusters::{APP, APP_PASSWORD, TestDb, scratch};
use super::support::raw::RawClient;
use super::trace::{LOOK, Trace, WAKE, threads};
use super::work::{self, Shape};
use super::{Options, place};
use trunkline::app::demo::ClusterInfo;

/// What the workers' own jobs may add to what is counted.
const JOBS: f64 = 0.02;
/// Of a statement: one read and one write on each side.
const STATEMENT: Limits = Limits { reads: 2.0, writes: 2.0, registers: 0.0 };
/// Of a login by SCRAM-SHA-256, a statement and a goodbye: one read for each of five messages, and one of the server's.
const LOGIN: Limits = Limits { reads: 6.0, writes: 5.0, registers: 2.0 };
/// Logins that are counted.
const LOGINS: usize = 400;
/// Most writes to wake a thread. A client that waits for a connection sets a timer: when that is the next to go off, its runtime is woken.
const MOST_WAKES: f64 = 0.1;

/// The most that is needed.
#[derive(Debug, Clone, Copy, Serialize)]
struct Limits {
    reads: f64,
    writes: f64,
    registers: f64,
}

/// What Trunkline (or a PgBouncer) is given to do.
#[derive(Debug, Clone, Copy)]
struct Place {
    name: &'static str,
    replicas: bool,
    workers: usize,
    pool_size: usize,
    clients: &'static [usize],
    /// Whether the budget is for it.
    is_judged: bool,
}

const PLACES: [Place; 4] = [
    Place { name: "primary", replicas: false, workers: 1, pool_size: 20, clients: &[1, 16], is_judged: true },
    Place { name: "two replicas", replicas: true, workers: 1, pool_size: 20, clients: &[1, 16], is_judged: true },
    Place { name: "4 connections", replicas: false, workers: 1, pool_size: 4, clients: &[16], is_judged: true },
    Place { name: "two workers", replicas: false, workers: 2, pool_size: 20, clients: &[16], is_judged: false },
];

/// One line of the table.
#[derive(Debug, Serialize)]
pub struct Row {
    place: &'static str,
    shape: &'static str,
    clients: usize,
    statements: usize,
    limits: Option<Limits>,
    /// Calls of the threads that serve clients, by name.
    calls: BTreeMap<String, u64>,
    /// Calls of all other threads: their jobs go by the clock.
    calls_of_others: u64,
}

/// Measures all of it.
pub fn measure(cluster: &ClusterInfo, options: &Options) -> Vec<Row> {
    let mut rows = Vec::new();
    for place in PLACES {
        let world = place::start(cluster, place.replicas, place.workers, place.pool_size, &[]);
        let connect = || world.client();
        rows.extend(measure_place(place, world.proxy.pid(), connect, options));
        if place.name == "primary" {
            rows.push(measure_logins(place.name, Some(LOGIN), world.proxy.pid(), connect));
        }
    }
    if let Some(program) = &options.pgbouncer {
        let db = TestDb::with(cluster, work::TABLE);
        for (name, pool_size, clients) in [("PgBouncer", 20, &[1, 16][..]), ("PgBouncer, 4 connections", 4, &[16])] {
            let proxy = PgBouncer::start(program, &db, pool_size);
            let connect = || RawClient::connect(proxy.port(), APP, APP_PASSWORD, &db.name);
            let place = Place { name, replicas: false, workers: 1, pool_size, clients, is_judged: false };
            rows.extend(measure_place(place, proxy.pid(), connect, options));
            if pool_size > 4 {
                rows.push(measure_logins(name, None, proxy.pid(), connect));
            }
        }
    }
    rows
}

fn measure_place(place: Place, pid: u32, connect: impl Fn() -> RawClient, options: &Options) -> Vec<Row> {
    let mut rows = Vec::new();
    let dir = scratch("strace");
    for &count in place.clients {
        let mut clients: Vec<_> = (0..count).map(|_| work::prepare(connect())).collect();
        let statements = options.statements.next_multiple_of(count);
        for shape in [Shape::Simple, Shape::Extended, Shape::Prepared] {
            work::run(&mut clients, shape, 100 * count);
            let (calls, calls_of_others) = traced(pid, &dir, || work::run(&mut clients, shape, statements));
            rows.push(Row {
                place: place.name,
                shape: shape.name(),
                clients: count,
                statements,
                limits: place.is_judged.then_some(STATEMENT),
                calls,
                calls_of_others,
            });
        }
    }
    fs::remove_dir_all(dir).unwrap();
    rows
}

/// One client after the other logs in, asks something and goes.
fn measure_logins(place: &'static str, limits: Option<Limits>, pid: u32, connect: impl Fn() -> RawClient) -> Row {
    let dir = scratch("strace");
    let log_in = || assert_eq!(connect().value("SELECT 1"), "1");
    (0..20).for_each(|_| log_in());
    let (calls, calls_of_others) = traced(pid, &dir, || (0..LOGINS).for_each(|_| log_in()));
    fs::remove_dir_all(dir).unwrap();
    Row { place, shape: "login and query", clients: 1, statements: LOGINS, limits, calls, calls_of_others }
}

/// What the threads that serve clients call meanwhile, by name, and how many calls all others make.
fn traced(pid: u32, dir: &Path, work: impl FnOnce()) -> (BTreeMap<String, u64>, u64) {
    let (serving, others): (Vec<_>, Vec<_>) = threads(pid).into_iter().partition(|(_, name)| serves(name));
    let numbers = |threads: &[(u32, String)]| threads.iter().map(|thread| thread.0).collect::<Vec<_>>();
    let trace = Trace::attach(&numbers(&serving), dir.join("serving"));
    let trace_of_others = (!others.is_empty()).then(|| Trace::attach(&numbers(&others), dir.join("others")));
    work();
    (trace.stop(), trace_of_others.map_or(0, |trace| trace.stop().values().sum()))
}

/// Whether a thread serves clients, by its name: a worker of Trunkline's, or PgBouncer's only one.
fn serves(name: &str) -> bool {
    name.starts_with("worker-") || name == "pgbouncer"
}

impl Row {
    /// Calls of a statement, over all that have one of these names.
    fn each(&self, names: &[&str]) -> f64 {
        let count: u64 = names.iter().filter_map(|name| self.calls.get(*name)).sum();
        count as f64 / self.statements as f64
    }

    /// The columns of the table, in its order.
    fn cells(&self) -> [f64; 10] {
        let (wakes, looks) = (self.each(&[WAKE]), self.each(&[LOOK]));
        let reads = self.each(&["read", "recvfrom", "readv", "recvmsg"]);
        let writes = self.each(&["write", "sendto", "writev", "sendmsg"]);
        let batches = self.each(&["io_uring_enter"]);
        let waits = self.each(&["epoll_wait", "epoll_pwait", "epoll_pwait2"]);
        let (registers, futexes) = (self.each(&["epoll_ctl"]), self.each(&["futex"]));
        let all = self.calls.values().sum::<u64>() as f64 / self.statements as f64;
        let rest = (all - reads - wakes - looks - writes - batches - waits - registers - futexes).max(0.0);
        [
            reads,
            writes,
            batches,
            waits,
            registers,
            futexes,
            wakes,
            looks,
            rest,
            self.calls_of_others as f64 / self.statements as f64,
        ]
    }

    /// What it is called.
    fn label(&self) -> String {
        format!("{}, {} client{}, {}", self.place, self.clients, if self.clients == 1 { "" } else { "s" }, self.shape)
    }

    /// What of it is more than the budget.
    fn excess(&self) -> Vec<String> {
        let [reads, writes, batches, _, registers, futexes, wakes, ..] = self.cells();
        let Some(limits) = self.limits else { return Vec::new() };
        let limits = [
            ("reads", reads, limits.reads + JOBS),
            ("writes and batches of writes", writes + batches, limits.writes + JOBS),
            ("epoll_ctl", registers, limits.registers + JOBS),
            ("futex", futexes, JOBS),
            ("wakes", wakes, MOST_WAKES),
        ];
        let over = limits.into_iter().filter(|(_, used, most)| used > most);
        over.map(|(what, used, most)| format!("{}: {used:.3} {what}, not {most:.2}", self.label())).collect()
    }
}

/// The rows as a table.
pub fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(
        "System calls of one statement, of the threads that serve clients",
        &["read", "write", "io_uring", "epoll_wait", "epoll_ctl", "futex", "wake", "look", "rest", "other threads"],
    );
    for row in rows {
        table.add(row.label(), row.cells().iter().map(|cell| format!("{cell:.3}")).collect());
    }
    table
}

/// What is more than the budget allows.
pub fn judge(rows: &[Row]) -> Vec<String> {
    rows.iter().flat_map(Row::excess).collect()
}
