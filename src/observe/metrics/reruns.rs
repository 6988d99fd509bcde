//! Statements that failed on a replica: run once more elsewhere, or told as failed.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// What became of statements of one database that failed on a replica for one cause.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RerunCounts {
    /// Run once more on another node.
    pub rerun: u64,
    /// Told to the client as they failed, by why they could not be run once more.
    pub told: BTreeMap<&'static str, u64>,
}

/// By database and cause. Written only when a statement has failed on a replica.
#[derive(Debug, Default)]
pub struct RerunTable(Mutex<BTreeMap<(Arc<str>, &'static str), RerunCounts>>);

impl RerunTable {
    /// A statement runs once more.
    pub fn rerun(&self, database: &Arc<str>, cause: &'static str) {
        self.0.lock().entry((database.clone(), cause)).or_default().rerun += 1;
    }

    /// A statement that failed for such a cause was not run once more.
    pub fn told(&self, database: &Arc<str>, cause: &'static str, why: &'static str) {
        *self.0.lock().entry((database.clone(), cause)).or_default().told.entry(why).or_default() += 1;
    }

    /// All counts, by database and cause.
    pub fn counts(&self) -> BTreeMap<(Arc<str>, &'static str), RerunCounts> {
        self.0.lock().clone()
    }
}
