//! pgbench against PostgreSQL directly, through PgBouncer and through Trunkline, in interleaved rounds on one
//! machine: transactions per second, latency, and what the proxy costs in CPU time per transaction.
//!
//! `make bench ARGS="--rounds 5 --filter select,prepared"` prints a table and writes `target/e2e.json`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod cpu;
mod load;
mod peers;
mod report;

use std::path::{Path, PathBuf};

use clap::Parser;

use load::Case;
use peers::Peer;
use report::Results;
use support::clusters::{self, TestDb};

/// Options, after `--` of `cargo bench --bench e2e --`.
#[derive(Debug, Parser)]
struct Options {
    /// How often each combination is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Length of one measurement
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Only the cases whose name holds all of these, such as `select,prepared` or `c16`
    #[arg(long, value_delimiter = ',')]
    filter: Vec<String>,
    /// Only these of direct, pgbouncer, trunkline (no replicas) and split (two replicas)
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Numbers of clients
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    clients: Vec<u32>,
    /// Server connections per node of each proxy
    #[arg(long, default_value_t = 20)]
    pool_size: u32,
    /// PgBouncer's `pkt_buf`; 4096 is its own default
    #[arg(long, default_value_t = 4096)]
    pkt_buf: u32,
    /// PgBouncer's program [default: the installed one]
    #[arg(long)]
    pgbouncer: Option<String>,
    /// pgbench's scale factor
    #[arg(long, default_value_t = 10)]
    scale: u32,
    /// Where the results go [default: e2e.json in Cargo's target directory]
    #[arg(long)]
    json: Option<PathBuf>,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    let cases: Vec<_> = Case::all(&options.clients)
        .into_iter()
        .filter(|case| options.filter.iter().all(|part| case.name().contains(part)))
        .collect();
    let cluster = clusters::own();
    let db = TestDb::new(cluster.info());
    load::initialise(&db, options.scale);
    let mut peers: Vec<_> = peers::start_all(&db, &options);
    let mut results = Results::new(&peers, &options);
    println!("{} cases, {} peers, {} rounds of {} s", cases.len(), peers.len(), options.rounds, options.seconds);
    for round in 0..options.rounds {
        for case in &cases {
            for peer in &peers {
                if peer.can_run(case) {
                    results.add(case, peer.name(), round, measure(case, peer, &db, options.seconds));
                }
            }
            // Whoever comes after another finds its caches warm: let that be someone else each time.
            peers.rotate_left(1);
        }
        println!("round {} done", round + 1);
    }
    println!("\n{}", results.table());
    // Beside CARGO_TARGET_TMPDIR, which is target/tmp.
    let json = options.json.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("e2e.json"));
    results.write_json(&json);
    println!("written to {}", json.display());
}

/// One run of pgbench, with the proxy's CPU time around it.
fn measure(case: &Case, peer: &Peer, db: &TestDb, seconds: u32) -> Result<load::Measured, String> {
    let before = peer.pid().map(cpu::used);
    let mut measured = load::run(case, &db.url(peer.port()), seconds)?;
    if let (Some(pid), Some(before)) = (peer.pid(), before) {
        let used = cpu::used(pid).saturating_sub(before);
        measured.cpu_us = Some(used.as_secs_f64() * 1e6 / measured.transactions);
    }
    Ok(measured)
}
