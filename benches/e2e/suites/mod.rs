//! The suites: which cases, through which peers, measuring what.

mod citus;
mod connect;
mod idle;
mod latency;
pub mod pgbench;
mod threads;
pub mod transfer;

use super::ground::Ground;
use super::options::{Options, SuiteName};
use super::peers::{Demands, Peer, Spec};
use super::quantity::{Quantity, Readings};

/// A group of cases that measure the same quantities.
pub struct Suite {
    /// Its name.
    pub name: SuiteName,
    /// What is measured, and how, in a sentence or two.
    pub about: &'static str,
    /// What comes out.
    pub quantities: &'static [Quantity],
    /// What is run.
    pub cases: Vec<Box<dyn Case>>,
    /// Through what.
    pub peers: Vec<Spec>,
    /// The name of the peer that the others are compared with.
    pub yardstick: &'static str,
    /// What is asked of all peers.
    pub demands: Demands,
    /// Each measurement gets a peer that was started for it.
    pub fresh: bool,
}

/// One workload.
pub trait Case {
    /// Its name, which the filter looks at, such as `select-only prepared c16`.
    fn name(&self) -> String;

    /// Whether the peer can run it at all.
    fn suits(&self, _peer: &Peer) -> bool {
        true
    }

    /// Measures once.
    ///
    /// # Errors
    /// What failed: then there is no number.
    fn measure(&self, peer: &Peer, ground: &Ground) -> Result<Readings, String>;
}

type Make = fn(&Options) -> Suite;

/// The chosen suites, with the chosen cases and peers.
pub fn chosen(options: &Options) -> Vec<Suite> {
    let all: [(SuiteName, Make); 9] = [
        (SuiteName::Pgbench, pgbench::suite),
        (SuiteName::Mix, pgbench::mix),
        (SuiteName::Transfer, transfer::suite),
        (SuiteName::Connect, connect::suite),
        (SuiteName::Latency, latency::suite),
        (SuiteName::Idle, idle::suite),
        (SuiteName::Threads, threads::one_and_two),
        (SuiteName::Pairs, threads::pairs),
        (SuiteName::Citus, citus::suite),
    ];
    let wanted = all.into_iter().filter(|(name, _)| options.wants_suite(*name));
    let mut suites: Vec<Suite> = wanted.map(|(_, make)| make(options)).collect();
    for suite in &mut suites {
        suite.cases.retain(|case| options.wants_case(&case.name()));
    }
    suites.retain(|suite| !suite.cases.is_empty());
    suites
}
