//! The handle that counts what goes where in a database that Citus distributes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

#[derive(Debug, Default)]
struct Counted {
    coordinator: AtomicU64,
    owner: AtomicU64,
    any_node: AtomicU64,
    loads: AtomicU64,
    failures: AtomicU64,
    checked: Mutex<Option<Instant>>,
}

/// Metrics of one database. Only of statements that a worker might have got is counted where they went.
#[derive(Debug, Clone, Default)]
pub struct CitusMetrics(Arc<Counted>);

impl CitusMetrics {
    /// One went to the coordinator.
    pub fn at_coordinator(&self) {
        self.0.coordinator.fetch_add(1, Relaxed);
    }

    /// One went to the node that has its shard.
    pub fn at_owner(&self) {
        self.0.owner.fetch_add(1, Relaxed);
    }

    /// One of several shards went to a worker.
    pub fn at_any_node(&self) {
        self.0.any_node.fetch_add(1, Relaxed);
    }

    /// What is known of nodes and shards was found to hold; `new`: by reading it.
    pub fn checked(&self, new: bool) {
        self.0.loads.fetch_add(u64::from(new), Relaxed);
        *self.0.checked.lock() = Some(Instant::now());
    }

    /// The coordinator did not tell.
    pub fn failed(&self) {
        self.0.failures.fetch_add(1, Relaxed);
    }

    /// The database is not one of Citus'.
    pub fn gone(&self) {
        *self.0.checked.lock() = None;
    }

    /// What it says at this moment.
    pub fn counts(&self) -> CitusCounts {
        let counted = &self.0;
        CitusCounts {
            coordinator: counted.coordinator.load(Relaxed),
            owner: counted.owner.load(Relaxed),
            any_node: counted.any_node.load(Relaxed),
            loads: counted.loads.load(Relaxed),
            failures: counted.failures.load(Relaxed),
            age: counted.checked.lock().map(|at| at.elapsed()),
        }
    }
}

/// What was counted of one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CitusCounts {
    /// Statements that a worker might have got, on the coordinator.
    pub coordinator: u64,
    /// On the node that has their shard.
    pub owner: u64,
    /// Reads of several shards on workers.
    pub any_node: u64,
    /// How often nodes and shards were read.
    pub loads: u64,
    /// How often they could not be.
    pub failures: u64,
    /// Time since what is known was found to hold; `None`: it is no Citus database.
    pub age: Option<Duration>,
}

/// The databases that were registered.
#[derive(Debug, Default)]
pub struct CitusRegistry(Vec<(Arc<str>, CitusMetrics)>);

impl CitusRegistry {
    /// The handle of a database.
    pub fn register(&mut self, database: &str) -> CitusMetrics {
        if let Some((_, found)) = self.0.iter().find(|(name, _)| **name == *database) {
            return found.clone();
        }
        let made = CitusMetrics::default();
        self.0.push((database.into(), made.clone()));
        made
    }

    /// What is counted of those that Citus distributes, or has distributed.
    pub fn counts(&self) -> Vec<(Arc<str>, CitusCounts)> {
        let all = self.0.iter().map(|(database, metrics)| (database.clone(), metrics.counts()));
        all.filter(|(_, counts)| counts.loads > 0).collect()
    }
}
