//! Nothing is lost: clients transfer money and read, while servers are killed, stopped, restarted and promoted, connections are
//! cut, torn, held and delayed, and Trunkline itself is reloaded and restarted.
//!
//! A commit is acknowledged when one of two standbys has it, and only a standby that has everything is promoted: so whatever
//! a client was told to be committed must be there at the end, exactly once.
//!
//! `make chaos` runs ten minutes of it; `TRUNKLINE_CHAOS_SECONDS` and `TRUNKLINE_CHAOS_SEED` say how long, and what is drawn. The
//! seed decides what happens in which order; how that meets what clients do is the machine's. `TRUNKLINE_CHAOS_LOGS` is a
//! directory for Trunkline's logs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod driver;
mod failover;
mod line;
mod record;
mod stage;
mod teller;
mod transfer;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use driver::Driver;
use fastrand::Rng;
use parking_lot::Mutex;
use record::{Board, Fate, Stats};
use stage::Stage;
use teller::{Badge, Teller};

const WRITERS: u64 = 64;
const READERS: u64 = 16;
/// What each client's session is promised.
const LEVELS: [&str; 4] = ["session", "table", "session", "strong"];

/// Each test wants the machine for itself.
static ALONE: Mutex<()> = Mutex::new(());

/// A number in the environment.
fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.trim().parse().unwrap())
}

/// Sets the flag when it goes: whatever panics, the clients end.
struct EndOf<'a>(&'a Board);

impl Drop for EndOf<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

fn chaos(seconds: u64) -> (Board, Stats) {
    let _alone = ALONE.lock();
    let seed = given("TRUNKLINE_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let seconds = given("TRUNKLINE_CHAOS_SECONDS").unwrap_or(seconds);
    eprintln!("TRUNKLINE_CHAOS_SEED={seed} TRUNKLINE_CHAOS_SECONDS={seconds}");
    let stage = Stage::new(WRITERS + READERS);
    eprintln!("servers: {:?}", stage.cluster.info().nodes);
    let board = Board::new();
    let (direct, front) = (stage.port(), stage.front.port());
    let mut memory = 0;
    let mut stats = thread::scope(|scope| {
        let clients: Vec<_> = (0..WRITERS + READERS)
            .map(|number| {
                let badge = Badge {
                    number,
                    // Some come by way of the injector.
                    port: if number % 3 == 0 { front } else { direct },
                    direct: number % 3 != 0,
                    level: LEVELS[usize::try_from(number).unwrap() % LEVELS.len()],
                    writes: number < WRITERS,
                    seed,
                };
                let board = &board;
                scope.spawn(move || Teller::new(badge, board).run())
            })
            .collect();
        {
            let _end = EndOf(&board);
            thread::sleep(Duration::from_secs(2));
            memory = stage.memory();
            Driver { stage: &stage, board: &board, rng: Rng::with_seed(seed) }.run(Duration::from_secs(seconds));
            // In peace, everybody works again.
            thread::sleep(Duration::from_secs(2));
        }
        let mut all = Stats::default();
        for client in clients {
            all.add(client.join().unwrap());
        }
        all
    });
    verify(&stage, &mut stats);
    is_at_rest(&stage, &mut stats, memory);
    stats.violations.extend(stage.complaints.lock().drain(..).map(|line| format!("log: {line}")));
    board.report(seed, &stats);
    if !stats.violations.is_empty() {
        board.print_events();
    }
    (board, stats)
}

/// What is in the books is what the clients were told.
fn verify(stage: &Stage, stats: &mut Stats) {
    stage.catch_up().unwrap();
    let listed = stage.ask(stage.primary(), "SELECT id, count(*) FROM transfer GROUP BY id");
    let booked: BTreeMap<u64, u64> = listed
        .lines()
        .filter_map(|line| line.split_once('|'))
        .map(|(id, count)| (id.parse().unwrap(), count.parse().unwrap()))
        .collect();
    let mut wrong = Vec::new();
    for (id, fate) in &stats.fates {
        match (fate, booked.get(id).copied().unwrap_or(0)) {
            (Fate::Acknowledged, 1) | (Fate::Refused, 0) | (Fate::Unknown, 0 | 1) => {}
            (fate, count) => wrong.push(format!("transfer {id} was {fate:?} and is there {count} times")),
        }
    }
    wrong.extend(
        booked.keys().filter(|id| !stats.fates.contains_key(id)).map(|id| format!("nobody asked for transfer {id}")),
    );
    let sums = format!(
        "SELECT count(*) FILTER (WHERE balance <> {} + came - went), sum(balance) FROM (SELECT balance, \
         (SELECT COALESCE(sum(amount), 0) FROM transfer WHERE target = account.id) AS came, \
         (SELECT COALESCE(sum(amount), 0) FROM transfer WHERE source = account.id) AS went FROM account) AS books",
        transfer::BALANCE
    );
    for node in 0..stage::NODES {
        let found = stage.ask(node, &sums);
        if found != format!("0|{}", i64::from(transfer::ACCOUNTS) * transfer::BALANCE) {
            wrong.push(format!("accounts that do not fit, and their total, at {}: {found}", stage.name(node)));
        }
    }
    stats.violations.extend(wrong);
}

/// Nobody is left, nothing is in use, and memory is what it was.
fn is_at_rest(stage: &Stage, stats: &mut Stats, memory_before: u64) {
    let busy = "SELECT sum(cl_active), sum(cl_waiting), sum(sv_active), sum(sv_login), sum(sv_idle) FROM pools WHERE database = 'app'";
    let mut console = stage.console();
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let counts = console.rows(busy).remove(0).into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>();
        if counts[..4].iter().all(|count| count == "0") && counts[4] != "0" {
            eprintln!("at the end: no clients, {} server connections, all idle", counts[4]);
            break;
        }
        if Instant::now() > deadline {
            let (pools, servers) = (console.rows("SHOW POOLS_EXTENDED"), console.rows("SHOW SERVERS"));
            stats.violations.push(format!("the pools do not come to rest: {pools:?}; {servers:?}"));
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    let memory = stage.memory();
    eprintln!("memory: {memory_before} MiB with all clients before the first fault, {memory} MiB at the end");
    if memory > memory_before + memory_before / 2 + 16 {
        stats.violations.push(format!("{memory} MiB at the end, {memory_before} MiB at the beginning"));
    }
}

fn holds(board: &Board, stats: &Stats) {
    assert!(stats.violations.is_empty(), "{} violations, see above", stats.violations.len());
    assert!(stats.count(Fate::Acknowledged) > 300 && stats.reads > 300, "hardly anything was done");
    assert!(board.faults() >= 5);
}

#[test]
fn nothing_is_lost_in_a_short_chaos() {
    let (board, stats) = chaos(40);
    holds(&board, &stats);
}

#[test]
#[ignore = "ten minutes: make chaos"]
fn nothing_is_lost_in_a_long_chaos() {
    let (board, stats) = chaos(600);
    holds(&board, &stats);
}
