//! The handle that the listening connection of a database counts with.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

/// What is counted of one database; counters outlive the listening, as they may not fall.
#[derive(Debug, Default)]
struct Counters {
    notified: AtomicU64,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Gauges {
    clients: AtomicUsize,
    channels: AtomicUsize,
}

/// Metrics of one listening connection. Dropping it takes it out of the gauges.
#[derive(Debug)]
pub struct ListenerMetrics {
    counters: Arc<Counters>,
    gauges: Arc<Gauges>,
}

impl ListenerMetrics {
    /// How many clients listen, and on how many channels.
    pub fn set(&self, clients: usize, channels: usize) {
        self.gauges.clients.store(clients, Relaxed);
        self.gauges.channels.store(channels, Relaxed);
    }

    /// A client was notified.
    pub fn notified(&self) {
        self.counters.notified.fetch_add(1, Relaxed);
    }

    /// The connection was lost, or could not be opened.
    pub fn lost(&self) {
        self.counters.lost.fetch_add(1, Relaxed);
    }
}

#[derive(Debug)]
struct Entry {
    database: Arc<str>,
    counters: Arc<Counters>,
    gauges: Vec<Weak<Gauges>>,
}

/// What the metrics of a database's listeners say at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerState {
    /// Database.
    pub database: Arc<str>,
    /// Clients that listen, and channels that they listen on, while there are any.
    pub listening: Option<(usize, usize)>,
    /// Notifications passed to clients.
    pub notified: u64,
    /// Connections lost.
    pub lost: u64,
}

/// All databases in which somebody has listened.
#[derive(Debug, Default)]
pub struct ListenerRegistry(Vec<Entry>);

impl ListenerRegistry {
    /// A handle for one more listening connection of a database.
    pub fn register(&mut self, database: &str) -> ListenerMetrics {
        let gauges = Arc::default();
        let at = self.0.iter().position(|entry| &*entry.database == database).unwrap_or_else(|| {
            self.0.push(Entry { database: database.into(), counters: Arc::default(), gauges: Vec::new() });
            self.0.len() - 1
        });
        let entry = &mut self.0[at];
        entry.gauges.retain(|gauges| gauges.strong_count() > 0);
        entry.gauges.push(Arc::downgrade(&gauges));
        ListenerMetrics { counters: entry.counters.clone(), gauges }
    }

    /// What all of them say.
    pub fn states(&self) -> Vec<ListenerState> {
        let states = self.0.iter().map(|entry| {
            let live = entry.gauges.iter().filter_map(Weak::upgrade);
            let listening = live
                .map(|gauges| (gauges.clients.load(Relaxed), gauges.channels.load(Relaxed)))
                .reduce(|a, b| (a.0 + b.0, a.1 + b.1));
            ListenerState {
                database: entry.database.clone(),
                listening,
                notified: entry.counters.notified.load(Relaxed),
                lost: entry.counters.lost.load(Relaxed),
            }
        });
        states.collect()
    }
}
