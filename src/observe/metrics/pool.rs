//! The handle that a pool counts with.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use super::cells::Labels;

/// Why a server connection was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CloseCause {
    /// Older than its lifetime.
    Lifetime,
    /// Idle for too long.
    Idle,
    /// The server closed it.
    ServerClosed,
    /// Broken, or in a state that can't be told.
    Error,
    /// The client went away in the middle of something.
    ClientGone,
    /// RECONNECT, a reload, or a change of credentials.
    Reconnect,
    /// Its node went down or changed its role.
    NodeDown,
    /// Made room for another pool.
    Evicted,
    /// Trunkline stops, or the pool was removed.
    Shutdown,
}

impl CloseCause {
    /// Every cause, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Lifetime,
        Self::Idle,
        Self::ServerClosed,
        Self::Error,
        Self::ClientGone,
        Self::Reconnect,
        Self::NodeDown,
        Self::Evicted,
        Self::Shutdown,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lifetime => "lifetime",
            Self::Idle => "idle",
            Self::ServerClosed => "server_closed",
            Self::Error => "error",
            Self::ClientGone => "client_gone",
            Self::Reconnect => "reconnect",
            Self::NodeDown => "node_down",
            Self::Evicted => "evicted",
            Self::Shutdown => "shutdown",
        }
    }
}

/// How many server connections and waiters a pool has at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolGauges {
    /// Given to clients.
    pub active: u32,
    /// Ready to be given.
    pub idle: u32,
    /// Being opened.
    pub opening: u32,
    /// Clients that wait.
    pub waiting: u32,
    /// Most server connections.
    pub size: u32,
}

/// Labels of a pool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolLabels {
    /// Database and user.
    pub owner: Labels,
    /// Node.
    pub node: Arc<str>,
}

#[derive(Debug, Default)]
struct GaugeCells {
    active: AtomicU32,
    idle: AtomicU32,
    opening: AtomicU32,
    waiting: AtomicU32,
    size: AtomicU32,
}

/// Counters of a pool; they outlive the pool, as counters may not fall.
#[derive(Debug, Default)]
pub struct PoolCounters {
    opened: AtomicU64,
    open_failed: AtomicU64,
    wait_timeouts: AtomicU64,
    closed: [AtomicU64; CloseCause::ALL.len()],
}

impl PoolCounters {
    /// Connections opened, failed to open, and waits that timed out.
    pub fn opened_failed_timeouts(&self) -> (u64, u64, u64) {
        (self.opened.load(Relaxed), self.open_failed.load(Relaxed), self.wait_timeouts.load(Relaxed))
    }

    /// Connections closed, by cause.
    pub fn closed(&self) -> impl Iterator<Item = (CloseCause, u64)> + '_ {
        CloseCause::ALL.into_iter().zip(self.closed.iter().map(|count| count.load(Relaxed)))
    }
}

/// A pool's metrics. Dropping it takes the pool out of the gauges; its counters stay.
#[derive(Debug)]
pub struct PoolMetrics {
    gauges: Arc<GaugeCells>,
    counters: Arc<PoolCounters>,
}

impl PoolMetrics {
    /// The pool's numbers after a change. To be called under the pool's own lock, so that the last
    /// caller's numbers are the true ones; five relaxed stores.
    #[inline]
    pub fn set(&self, now: PoolGauges) {
        self.gauges.active.store(now.active, Relaxed);
        self.gauges.idle.store(now.idle, Relaxed);
        self.gauges.opening.store(now.opening, Relaxed);
        self.gauges.waiting.store(now.waiting, Relaxed);
        self.gauges.size.store(now.size, Relaxed);
    }

    /// The numbers last set.
    pub fn get(&self) -> PoolGauges {
        PoolGauges {
            active: self.gauges.active.load(Relaxed),
            idle: self.gauges.idle.load(Relaxed),
            opening: self.gauges.opening.load(Relaxed),
            waiting: self.gauges.waiting.load(Relaxed),
            size: self.gauges.size.load(Relaxed),
        }
    }

    /// A server connection was opened and has logged in.
    pub fn opened(&self) {
        self.counters.opened.fetch_add(1, Relaxed);
    }

    /// A server connection could not be opened.
    pub fn open_failed(&self) {
        self.counters.open_failed.fetch_add(1, Relaxed);
    }

    /// A server connection was closed.
    pub fn closed(&self, cause: CloseCause) {
        if let Some(count) = self.counters.closed.get(cause as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// A client got no server connection in time.
    pub fn wait_timed_out(&self) {
        self.counters.wait_timeouts.fetch_add(1, Relaxed);
    }
}

/// All pools.
#[derive(Debug, Default)]
pub struct PoolRegistry {
    live: Vec<(PoolLabels, Weak<GaugeCells>)>,
    counters: BTreeMap<PoolLabels, Arc<PoolCounters>>,
}

impl PoolRegistry {
    /// A handle for a new pool. Pools under the same labels (`other`) are summed.
    pub fn register(&mut self, labels: PoolLabels) -> PoolMetrics {
        self.live.retain(|(_, gauges)| gauges.strong_count() > 0);
        let gauges = Arc::new(GaugeCells::default());
        self.live.push((labels.clone(), Arc::downgrade(&gauges)));
        PoolMetrics { gauges, counters: self.counters.entry(labels).or_default().clone() }
    }

    /// The pools that live now.
    pub fn gauges(&self) -> BTreeMap<PoolLabels, PoolGauges> {
        let mut all: BTreeMap<PoolLabels, PoolGauges> = BTreeMap::new();
        for (labels, gauges) in &self.live {
            let Some(gauges) = gauges.upgrade() else { continue };
            let sum = all.entry(labels.clone()).or_default();
            sum.active += gauges.active.load(Relaxed);
            sum.idle += gauges.idle.load(Relaxed);
            sum.opening += gauges.opening.load(Relaxed);
            sum.waiting += gauges.waiting.load(Relaxed);
            sum.size += gauges.size.load(Relaxed);
        }
        all
    }

    /// The counters of all pools that ever lived.
    pub fn counters(&self) -> impl Iterator<Item = (&PoolLabels, &PoolCounters)> {
        self.counters.iter().map(|(labels, counters)| (labels, &**counters))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_numbered_in_order() {
        for (number, cause) in CloseCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, number);
        }
    }

    #[test]
    fn a_dropped_pool_leaves_its_counters() {
        let mut registry = PoolRegistry::default();
        let owner = Labels { database: "shop".into(), user: "ann".into() };
        let labels = PoolLabels { owner, node: "pg1".into() };
        let pool = registry.register(labels.clone());
        pool.set(PoolGauges { active: 2, idle: 1, size: 5, ..PoolGauges::default() });
        pool.opened();
        pool.closed(CloseCause::Idle);
        assert_eq!(registry.gauges()[&labels], pool.get());
        drop(pool);
        assert!(registry.gauges().is_empty());
        let (_, counters) = registry.counters().next().unwrap();
        assert_eq!(counters.opened_failed_timeouts(), (1, 0, 0));
        assert!(counters.closed().any(|closed| closed == (CloseCause::Idle, 1)));
    }
}
