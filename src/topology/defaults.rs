//! What servers do when sessions of a user do not say otherwise.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use quanta::Instant;

use crate::sql::Isolation;

/// For how long an answer is believed: an administrator may reload another one.
const BELIEVED_FOR: Duration = Duration::from_secs(60);
/// Time between two questions, should the first not be answered.
const PATIENCE: Duration = Duration::from_secs(1);

/// The primary's `default_transaction_isolation` for one user of one database, `ALTER ROLE … SET` and the like included. No lock.
#[derive(Debug)]
pub struct Defaults {
    epoch: Instant,
    level: AtomicU8,
    /// Milliseconds since the epoch until which it is believed.
    until: AtomicU64,
    /// When it may be asked next.
    due: AtomicU64,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { epoch: Instant::now(), level: AtomicU8::new(0), until: AtomicU64::new(0), due: AtomicU64::new(0) }
    }
}

impl Defaults {
    /// The level, when the primary has told it not long ago.
    pub fn isolation(&self) -> Option<Isolation> {
        if self.now() >= self.until.load(Ordering::Acquire) {
            return None;
        }
        match self.level.load(Ordering::Acquire) {
            1 => Some(Isolation::ReadCommitted),
            2 => Some(Isolation::RepeatableRead),
            3 => Some(Isolation::Serializable),
            _ => None,
        }
    }

    /// Whether whoever is on the primary should ask. `true` for one of those who want to know at the same time.
    pub fn is_due(&self) -> bool {
        let (now, due) = (self.now(), self.due.load(Ordering::Relaxed));
        now >= due
            && self.due.compare_exchange(due, now + millis(PATIENCE), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The primary has told. `None` = something that is not known.
    pub fn learn(&self, level: Option<Isolation>) {
        let code = match level {
            Some(Isolation::ReadCommitted) => 1,
            Some(Isolation::RepeatableRead) => 2,
            Some(Isolation::Serializable) => 3,
            None => 0,
        };
        let now = self.now();
        self.level.store(code, Ordering::Release);
        self.until.store(now + millis(BELIEVED_FOR), Ordering::Release);
        // Asked again before it is forgotten, where blocks are begun there meanwhile.
        self.due.store(now + millis(BELIEVED_FOR / 2), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        millis(self.epoch.elapsed())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asked_by_one_and_believed_by_all() {
        let defaults = Defaults::default();
        assert_eq!(defaults.isolation(), None);
        assert!(defaults.is_due() && !defaults.is_due());
        defaults.learn(Some(Isolation::RepeatableRead));
        assert_eq!(defaults.isolation(), Some(Isolation::RepeatableRead));
        assert!(!defaults.is_due());
        defaults.learn(None);
        assert_eq!(defaults.isolation(), None);
    }
}
