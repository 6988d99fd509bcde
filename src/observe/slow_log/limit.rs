//! At most so many lines per fingerprint and second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;

const SHARDS: usize = 16;

/// Most fingerprints that a shard remembers within a second; others are let through, and the queue's
/// capacity bounds them.
const REMEMBERED: usize = 4096;

#[derive(Debug, Default)]
struct Shard {
    second: u64,
    counts: HashMap<u128, u32>,
}

/// Counts lines per fingerprint in the present second.
#[derive(Debug)]
pub struct RateLimit {
    per_second: AtomicU32,
    started: Instant,
    shards: [Mutex<Shard>; SHARDS],
}

impl RateLimit {
    /// `per_second` lines of each fingerprint; 0 = unlimited.
    pub fn new(per_second: u32) -> Self {
        Self { per_second: AtomicU32::new(per_second), started: Instant::now(), shards: Default::default() }
    }

    /// Changes the limit.
    pub fn set(&self, per_second: u32) {
        self.per_second.store(per_second, Relaxed);
    }

    /// Whether one more line of this fingerprint may be written now; counts it when so.
    pub fn admit(&self, fingerprint: u128) -> bool {
        self.admit_at(fingerprint, self.started.elapsed().as_secs())
    }

    fn admit_at(&self, fingerprint: u128, second: u64) -> bool {
        let limit = self.per_second.load(Relaxed);
        if limit == 0 {
            return true;
        }
        let place = usize::try_from(fingerprint % SHARDS as u128).unwrap_or(0);
        let Some(shard) = self.shards.get(place) else { return true };
        let mut shard = shard.lock();
        if shard.second != second {
            shard.second = second;
            shard.counts.clear();
        }
        if let Some(count) = shard.counts.get_mut(&fingerprint) {
            *count += 1;
            return *count <= limit;
        }
        if shard.counts.len() < REMEMBERED {
            shard.counts.insert(fingerprint, 1);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_each_fingerprint_by_itself_and_starts_anew_each_second() {
        let limit = RateLimit::new(2);
        let mut admitted = [0; 2];
        for _ in 0..5 {
            for (n, count) in admitted.iter_mut().enumerate() {
                *count += u32::from(limit.admit_at(n as u128, 7));
            }
        }
        assert_eq!(admitted, [2, 2]);
        assert!(limit.admit_at(0, 8));
        limit.set(0);
        assert!((0..100).all(|_| limit.admit_at(0, 8)));
    }

    #[test]
    fn memory_is_bounded() {
        let limit = RateLimit::new(1);
        for fingerprint in 0..200_000u128 {
            assert!(limit.admit_at(fingerprint, 1));
        }
        assert!(limit.shards.iter().all(|shard| shard.lock().counts.len() <= REMEMBERED));
    }
}
