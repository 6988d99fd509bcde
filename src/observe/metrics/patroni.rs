//! The handle that whoever watches Patroni counts with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Debug, Default)]
struct Counted {
    ok: AtomicU64,
    failed: AtomicU64,
}

/// Metrics of the looks at one database's Patroni.
#[derive(Debug)]
pub struct PatroniMetrics(Arc<Counted>);

impl PatroniMetrics {
    /// A look has ended: somebody has answered, or nobody has.
    pub fn looked(&self, answered: bool) {
        let counter = if answered { &self.0.ok } else { &self.0.failed };
        counter.fetch_add(1, Relaxed);
    }
}

/// All databases whose Patroni has been watched: as many as are configured with one. Counters outlive the watching, as they may not fall.
#[derive(Debug, Default)]
pub struct PatroniRegistry(Vec<(Arc<str>, Arc<Counted>)>);

impl PatroniRegistry {
    /// The handle of a database.
    pub fn register(&mut self, database: &str) -> PatroniMetrics {
        if let Some((_, counted)) = self.0.iter().find(|(name, _)| **name == *database) {
            return PatroniMetrics(counted.clone());
        }
        let counted = Arc::<Counted>::default();
        self.0.push((database.into(), counted.clone()));
        PatroniMetrics(counted)
    }

    /// Database, looks that were answered, and looks that were not.
    pub fn states(&self) -> Vec<(Arc<str>, u64, u64)> {
        self.0
            .iter()
            .map(|(name, counted)| (name.clone(), counted.ok.load(Relaxed), counted.failed.load(Relaxed)))
            .collect()
    }
}
