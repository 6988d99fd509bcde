//! What became of reads that no replica could take at once, by level.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::sql::Consistency;

/// What became of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOutcome {
    /// It waited for a replica to be fresh enough, and ran there.
    Waited,
    /// It waited in vain, and ran on the primary.
    GaveUp,
    /// On the primary: no replica had what its level asks for.
    Behind,
    /// On the primary: a replica had, but not all that its session had read before.
    Diverted,
    /// On a replica that is older than allowed, as there was no primary.
    Stale,
}

const OUTCOMES: [(ReadOutcome, &str); 5] = [
    (ReadOutcome::Waited, "waited"),
    (ReadOutcome::GaveUp, "gave_up"),
    (ReadOutcome::Behind, "behind"),
    (ReadOutcome::Diverted, "diverted"),
    (ReadOutcome::Stale, "stale"),
];

/// Counters, all databases together. Only what is out of the ordinary is counted, so they are not striped.
#[derive(Debug, Default)]
pub struct ReadTable([[AtomicU64; OUTCOMES.len()]; Consistency::ALL.len()]);

impl ReadTable {
    /// Counts one.
    pub fn count(&self, level: Consistency, outcome: ReadOutcome) {
        self.0[level as usize][outcome as usize].fetch_add(1, Relaxed);
    }

    /// Level, outcome and count of all that there were.
    pub fn non_zero(&self) -> Vec<(&'static str, &'static str, u64)> {
        let mut all = Vec::new();
        for level in Consistency::ALL {
            for (outcome, label) in OUTCOMES {
                let count = self.0[level as usize][outcome as usize].load(Relaxed);
                if count > 0 {
                    all.push((level.as_str(), label, count));
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_level_and_outcome() {
        let table = ReadTable::default();
        table.count(Consistency::Strong, ReadOutcome::Stale);
        table.count(Consistency::Session, ReadOutcome::Waited);
        table.count(Consistency::Session, ReadOutcome::Waited);
        assert_eq!(table.non_zero(), [("session", "waited", 2), ("strong", "stale", 1)]);
    }
}
