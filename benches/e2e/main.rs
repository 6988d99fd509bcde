//! Trunkline beside PgBouncer and others, in interleaved rounds on one machine: what each costs in CPU time and memory,
//! how much it carries, how much time it adds.
//!
//! A [`suites::Suite`] has cases and peers; each case measures [`quantity::Readings`] through each peer in each round;
//! [`results`] makes medians and ratios of them, and [`report`] tables, JSON and a plot. `BENCHMARKS.md` explains what is
//! measured, and how to repeat it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod citus;
mod client;
mod ground;
mod machine;
mod meter;
mod options;
mod peers;
mod process_tree;
mod quantity;
mod report;
mod results;
mod roster;
mod sockets;
#[expect(dead_code, reason = "the tests' servers alone are needed")]
#[path = "../../tests/citus/fixture.rs"]
mod standin;
mod suites;
mod throttle;

use std::time::Instant;

use clap::Parser;

use ground::Ground;
use machine::Machine;
use options::Options;
use peers::Peer;
use results::{Results, SuiteResults};
use suites::Suite;
use throttle::Throttle;

fn main() {
    let options = Options::parse();
    let machine = Machine::look();
    if let Some(warning) = machine.warning() {
        println!("WARNING: {warning}");
    }
    raise_open_files();
    let suites = suites::chosen(&options);
    let ground = Ground::prepare(&options);
    let began = Instant::now();
    let mut results = Results { machine, settings: options, suites: Vec::new() };
    for suite in &suites {
        println!("{:?}: {} cases, {} peers", suite.name, suite.cases.len(), suite.peers.len());
        results.suites.push(run(suite, &ground));
        println!("  done, {:.0} s since the start", began.elapsed().as_secs_f64());
    }
    println!("\n{}", report::text(&results));
    report::write(&results).iter().for_each(|line| println!("{line}"));
}

/// All rounds of a suite. What fails is noted, and the rest measured.
fn run(suite: &Suite, ground: &Ground) -> SuiteResults {
    let mut results = SuiteResults::new(suite);
    if suite.demands.share.is_some()
        && let Err(reason) = Throttle::check()
    {
        results.notes.push(format!("threads can't be held to a share of a CPU here: {reason}"));
        println!("  skipped: {}", results.notes[0]);
        return results;
    }
    let mut ready: Vec<Ready<'_>> = Vec::new();
    for spec in &suite.peers {
        let start = || spec.start(ground, suite.demands);
        match start() {
            Ok(peer) => {
                results.describe(&peer);
                ready.push(if suite.fresh { Ready::Fresh(Box::new(start)) } else { Ready::Running(peer) });
            }
            Err(error) => {
                println!("  {}: {error}", spec.name);
                results.notes.push(format!("{} does not run: {error}", spec.name));
            }
        }
    }
    for round in 0..ground.options.rounds {
        for case in &suite.cases {
            for peer in &ready {
                peer.with(|peer| match peer {
                    Ok(peer) if !case.suits(peer) => {}
                    Ok(peer) => results.add(&case.name(), &peer.name, round, case.measure(peer, ground)),
                    Err(error) => results.notes.push(error),
                });
            }
            // Whoever comes after another finds its caches warm: let that be someone else each time.
            if !ready.is_empty() {
                ready.rotate_left(1);
            }
        }
        println!("  round {} of {}", round + 1, ground.options.rounds);
    }
    results.finish();
    results
}

/// A peer to measure.
enum Ready<'a> {
    /// It runs for the whole suite.
    Running(Peer),
    /// It is started for each measurement.
    Fresh(Box<dyn Fn() -> Result<Peer, String> + 'a>),
}

impl Ready<'_> {
    fn with(&self, measure: impl FnOnce(Result<&Peer, String>)) {
        match self {
            Self::Running(peer) => measure(Ok(peer)),
            Self::Fresh(start) => match start() {
                Ok(peer) => measure(Ok(&peer)),
                Err(error) => measure(Err(error)),
            },
        }
    }
}

/// Room for the sockets of this process and of the peers that inherit its limit.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
}
