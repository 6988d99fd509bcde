//! What servers do when sessions of a user do not say otherwise.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use quanta::Instant;

use crate::sql::Isolation;

/// For how long an answer is believed: an administrator may reload another one.
const BELIEVED_FOR: Duration = Duration::from_secs(60);
/// Time between two questions, should the first not be answered.
const PATIENCE: Duration = Duration::from_secs(1);

/// The primary's `default_transaction_isolation` and `default_transaction_read_only` for one user of one database, `ALTER ROLE … SET`
/// and the like included. No lock.
#[derive(Debug)]
pub struct Defaults {
    epoch: Instant,
    /// Index into [`Isolation::ALL`], one more; 0 = unknown.
    level: AtomicU8,
    /// 1 = off, 2 = on; 0 = unknown.
    read_only: AtomicU8,
    /// Milliseconds since the epoch until which both are believed.
    until: AtomicU64,
    /// When they may be asked for next.
    due: AtomicU64,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            level: AtomicU8::new(0),
            read_only: AtomicU8::new(0),
            until: AtomicU64::new(0),
            due: AtomicU64::new(0),
        }
    }
}

impl Defaults {
    /// The level, when the primary has told it not long ago.
    pub fn isolation(&self) -> Option<Isolation> {
        let index = self.believed(&self.level).checked_sub(1)?;
        Isolation::ALL.get(usize::from(index)).copied()
    }

    /// Whether transactions are READ ONLY, when the primary has told it not long ago.
    pub fn read_only(&self) -> Option<bool> {
        match self.believed(&self.read_only) {
            1 => Some(false),
            2 => Some(true),
            _ => None,
        }
    }

    fn believed(&self, value: &AtomicU8) -> u8 {
        if self.now() < self.until.load(Ordering::Acquire) { value.load(Ordering::Acquire) } else { 0 }
    }

    /// Whether whoever is on the primary should ask. `true` for one of those who want to know at the same time.
    pub fn is_due(&self) -> bool {
        let (now, due) = (self.now(), self.due.load(Ordering::Relaxed));
        now >= due
            && self.due.compare_exchange(due, now + millis(PATIENCE), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The primary has told a level, or `on` or `off`.
    pub fn learn(&self, value: &str) {
        let level = Isolation::ALL.iter().position(|level| level.as_str() == value);
        match (level.and_then(|index| u8::try_from(index).ok()), value) {
            (Some(index), _) => self.level.store(index + 1, Ordering::Release),
            (None, "off") => self.read_only.store(1, Ordering::Release),
            (None, "on") => self.read_only.store(2, Ordering::Release),
            _ => return,
        }
        let now = self.now();
        self.until.store(now + millis(BELIEVED_FOR), Ordering::Release);
        // Asked again before they are forgotten, where blocks are begun there meanwhile.
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
        assert_eq!((defaults.isolation(), defaults.read_only()), (None, None));
        assert!(defaults.is_due() && !defaults.is_due());
        defaults.learn("nonsense");
        assert_eq!(defaults.isolation(), None);
        defaults.learn("repeatable read");
        assert_eq!((defaults.isolation(), defaults.read_only()), (Some(Isolation::RepeatableRead), None));
        defaults.learn("on");
        assert_eq!(defaults.read_only(), Some(true));
        assert!(!defaults.is_due());
    }
}
