//! What an administrator has decided about a database: paused, disabled, to be connected anew.
//!
//! There is one [`Gate`] per name that clients give, whatever pools come and go behind it: a reload that replaces a pool
//! leaves the gate as it stands, and a command reaches the pools that are on their way out, too.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use quanta::Instant;
use tokio::sync::watch;

use super::Pool;

/// This database is paused.
const PAUSED: u8 = 1;
/// All databases are paused.
const ALL_PAUSED: u8 = 2;
/// New clients are refused.
const DISABLED: u8 = 4;

/// What an administrator has decided about one database.
#[derive(Debug, Default)]
pub struct Gate {
    bits: AtomicU8,
    /// When a pause ended last.
    resumed: Mutex<Option<Instant>>,
    /// Its pools, those that a reload has closed included as long as somebody holds a connection of theirs.
    pools: Mutex<Vec<Weak<Pool>>>,
}

impl Gate {
    /// Whether its server connections stay where they are or are closed, and nobody is given one.
    pub fn is_paused(&self) -> bool {
        self.bits.load(Ordering::Acquire) & (PAUSED | ALL_PAUSED) != 0
    }

    /// Since when a client has waited for something else than the end of a pause that has waited since `began`.
    pub fn without_pauses(&self, began: Instant) -> Instant {
        if self.is_paused() {
            return Instant::now();
        }
        self.resumed.lock().map_or(began, |resumed| resumed.max(began))
    }

    /// Whether new clients are refused.
    pub fn is_disabled(&self) -> bool {
        self.bits.load(Ordering::Acquire) & DISABLED != 0
    }

    /// Gives no server connection to anybody until [`Gate::resume`]: idle ones are closed now, those in use when they come
    /// back. `false` = it was paused already.
    pub fn pause(&self) -> bool {
        self.set(PAUSED)
    }

    /// Ends a pause of this database; who waits goes on. `false` = it was not paused by itself.
    pub fn resume(&self) -> bool {
        self.clear(PAUSED)
    }

    /// Refuses new clients, or lets them in again.
    pub fn set_disabled(&self, disabled: bool) {
        if disabled {
            self.bits.fetch_or(DISABLED, Ordering::AcqRel);
        } else {
            self.bits.fetch_and(!DISABLED, Ordering::AcqRel);
        }
    }

    /// Every server connection is closed: idle ones now, those in use when they come back.
    pub fn reconnect(&self) {
        self.pools().iter().for_each(Pool::reconnect);
    }

    /// Server connections that are open or being opened.
    pub fn connections(&self) -> usize {
        self.pools().iter().map(|pool| pool.held()).sum()
    }

    /// Server connections that are to be closed as soon as they come back.
    pub fn to_be_closed(&self) -> usize {
        self.pools().iter().map(|pool| pool.to_be_closed()).sum()
    }

    pub(super) fn enroll(&self, pool: &Arc<Pool>) {
        let mut pools = self.pools.lock();
        pools.retain(|known| known.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    fn pools(&self) -> Vec<Arc<Pool>> {
        self.pools.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn set(&self, bit: u8) -> bool {
        let before = self.bits.fetch_or(bit, Ordering::AcqRel);
        // The pools look at the bits under their locks: from here on none gives a connection away.
        self.pools().iter().for_each(|pool| pool.close_idle());
        before & bit == 0
    }

    fn clear(&self, bit: u8) -> bool {
        if self.bits.load(Ordering::Acquire) & bit != 0 {
            *self.resumed.lock() = Some(Instant::now());
        }
        let before = self.bits.fetch_and(!bit, Ordering::AcqRel);
        if !self.is_paused() {
            self.pools().iter().for_each(Pool::go_on);
        }
        before & bit != 0
    }
}

/// What holds for all databases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Service {
    /// Everything works.
    #[default]
    Active,
    /// No client is given a server connection.
    Paused,
    /// Nothing is read, neither from clients nor from servers.
    Suspended,
}

/// The gates of all databases.
#[derive(Debug, Default)]
pub struct Gates {
    by_name: Mutex<BTreeMap<String, Arc<Gate>>>,
    service: watch::Sender<Service>,
}

impl Gates {
    /// The gate of a database as clients name it.
    pub fn of(&self, database: &str) -> Arc<Gate> {
        let mut all = self.by_name.lock();
        if let Some(gate) = all.get(database) {
            return gate.clone();
        }
        let gate = Arc::new(Gate::default());
        if *self.service.borrow() == Service::Paused {
            gate.bits.store(ALL_PAUSED, Ordering::Release);
        }
        all.insert(database.to_owned(), gate.clone());
        gate
    }

    /// The gate of a database that somebody has used or spoken of.
    pub fn find(&self, database: &str) -> Option<Arc<Gate>> {
        self.by_name.lock().get(database).cloned()
    }

    /// All gates.
    pub fn all(&self) -> Vec<Arc<Gate>> {
        self.by_name.lock().values().cloned().collect()
    }

    /// Forgets those that say nothing and have no pools: clients choose the names of databases behind `*`.
    pub fn tidy(&self) {
        let is_needed = |gate: &Arc<Gate>| {
            Arc::strong_count(gate) > 1 || gate.bits.load(Ordering::Acquire) != 0 || !gate.pools().is_empty()
        };
        self.by_name.lock().retain(|_, gate| is_needed(gate));
    }

    /// What holds for all databases.
    pub fn service(&self) -> Service {
        *self.service.borrow()
    }

    /// Changes what holds for all databases.
    pub fn set_service(&self, service: Service) {
        {
            // Under the lock of the names: a new gate must not miss it.
            let _names = self.by_name.lock();
            self.service.send_replace(service);
        }
        for gate in self.all() {
            if service == Service::Paused {
                gate.set(ALL_PAUSED);
            } else {
                gate.clear(ALL_PAUSED);
            }
        }
    }

    /// Whether any database is paused by itself.
    pub fn any_paused(&self) -> bool {
        self.all().iter().any(|gate| gate.is_paused())
    }

    /// Waits while everything is suspended.
    pub async fn not_suspended(&self) {
        // The sender is ours: it does not go away while we wait.
        let _ = self.service.subscribe().wait_for(|service| *service != Service::Suspended).await;
    }
}
