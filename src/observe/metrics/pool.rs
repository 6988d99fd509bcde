//! The handle that a pool counts with.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use super::cells::{CellRegistry, Labels};

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

/// Whose pool it is. Which labels that leads to is asked for when someone reads: clients may have made the names up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolNames {
    /// Database as clients name it.
    pub database: Arc<str>,
    /// User as clients name it.
    pub user: Arc<str>,
    /// Node.
    pub node: Arc<str>,
}

impl PoolNames {
    fn labels(&self, registry: &CellRegistry) -> PoolLabels {
        PoolLabels { owner: registry.labels_of(self.database.clone(), self.user.clone()), node: self.node.clone() }
    }
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
    fn add_to(&self, totals: &mut PoolTotals) {
        totals.opened += self.opened.load(Relaxed);
        totals.open_failed += self.open_failed.load(Relaxed);
        totals.wait_timeouts += self.wait_timeouts.load(Relaxed);
        totals.closed.iter_mut().zip(&self.closed).for_each(|(total, count)| *total += count.load(Relaxed));
    }
}

/// Counters of the pools of some labels at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolTotals {
    /// Connections opened.
    pub opened: u64,
    /// Connections that could not be opened.
    pub open_failed: u64,
    /// Waits that timed out.
    pub wait_timeouts: u64,
    closed: [u64; CloseCause::ALL.len()],
}

impl PoolTotals {
    /// Connections closed, by cause.
    pub fn closed(&self) -> impl Iterator<Item = (CloseCause, u64)> + '_ {
        CloseCause::ALL.into_iter().zip(self.closed)
    }
}

impl AddAssign for PoolTotals {
    fn add_assign(&mut self, other: Self) {
        self.opened += other.opened;
        self.open_failed += other.open_failed;
        self.wait_timeouts += other.wait_timeouts;
        self.closed.iter_mut().zip(other.closed).for_each(|(total, count)| *total += count);
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
    live: Vec<(PoolNames, Weak<GaugeCells>)>,
    counters: BTreeMap<PoolNames, Arc<PoolCounters>>,
    /// Of pools that are gone and whose names are no labels.
    gone: BTreeMap<PoolLabels, PoolTotals>,
}

impl PoolRegistry {
    /// A handle for a new pool. Pools under the same labels (`other`) are summed.
    pub fn register(&mut self, names: PoolNames, registry: &CellRegistry) -> PoolMetrics {
        self.live.retain(|(_, gauges)| gauges.strong_count() > 0);
        if !self.counters.contains_key(&names) {
            self.forget_made_up(registry);
        }
        let gauges = Arc::new(GaugeCells::default());
        self.live.push((names.clone(), Arc::downgrade(&gauges)));
        PoolMetrics { gauges, counters: self.counters.entry(names).or_default().clone() }
    }

    /// Counts those together that are gone and whose names are no labels.
    fn forget_made_up(&mut self, registry: &CellRegistry) {
        let gone = &mut self.gone;
        self.counters.retain(|names, counters| {
            if Arc::strong_count(counters) > 1 {
                return true;
            }
            let labels = names.labels(registry);
            let is_label = labels.owner.user == names.user;
            if !is_label {
                counters.add_to(gone.entry(labels).or_default());
            }
            is_label
        });
    }

    /// The pools that live now.
    pub fn gauges(&self, registry: &CellRegistry) -> BTreeMap<PoolLabels, PoolGauges> {
        let mut all: BTreeMap<PoolLabels, PoolGauges> = BTreeMap::new();
        for (names, gauges) in &self.live {
            let Some(gauges) = gauges.upgrade() else { continue };
            let sum = all.entry(names.labels(registry)).or_default();
            sum.active += gauges.active.load(Relaxed);
            sum.idle += gauges.idle.load(Relaxed);
            sum.opening += gauges.opening.load(Relaxed);
            sum.waiting += gauges.waiting.load(Relaxed);
            sum.size += gauges.size.load(Relaxed);
        }
        all
    }

    /// The counters of all pools that ever lived.
    pub fn totals(&self, registry: &CellRegistry) -> BTreeMap<PoolLabels, PoolTotals> {
        let mut all = self.gone.clone();
        for (names, counters) in &self.counters {
            counters.add_to(all.entry(names.labels(registry)).or_default());
        }
        all
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

    fn names(database: &str, user: &str) -> PoolNames {
        PoolNames { database: database.into(), user: user.into(), node: "pg1".into() }
    }

    #[test]
    fn a_dropped_pool_leaves_its_counters() {
        let (mut registry, mut cells) = (PoolRegistry::default(), CellRegistry::new(9));
        let owner = cells.admit("shop", "ann");
        let labels = PoolLabels { owner, node: "pg1".into() };
        let pool = registry.register(names("shop", "ann"), &cells);
        pool.set(PoolGauges { active: 2, idle: 1, size: 5, ..PoolGauges::default() });
        pool.opened();
        pool.closed(CloseCause::Idle);
        assert_eq!(registry.gauges(&cells)[&labels], pool.get());
        drop(pool);
        drop(registry.register(names("shop", "bob"), &cells));
        assert!(registry.gauges(&cells).is_empty());
        let totals = registry.totals(&cells)[&labels];
        assert_eq!((totals.opened, totals.open_failed), (1, 0));
        assert!(totals.closed().any(|closed| closed == (CloseCause::Idle, 1)));
    }

    #[test]
    fn pools_of_names_that_are_made_up_take_no_memory() {
        let (mut registry, mut cells) = (PoolRegistry::default(), CellRegistry::new(9));
        for number in 0..1000 {
            registry.register(names(&format!("db{number}"), "ann"), &cells).open_failed();
        }
        assert!(registry.counters.len() <= 1 && registry.live.len() <= 1, "{registry:?}");
        // One that turns out to exist is counted under its own name from then on.
        let pool = registry.register(names("real", "ann"), &cells);
        pool.opened();
        let real = PoolLabels { owner: cells.admit("real", "ann"), node: "pg1".into() };
        let totals = registry.totals(&cells);
        assert_eq!((totals.len(), totals[&real].opened), (2, 1));
        assert_eq!(totals.values().map(|totals| totals.open_failed).sum::<u64>(), 1000);
    }
}
