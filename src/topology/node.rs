//! One PostgreSQL server as the cluster sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::config::{NodeRole, NodeSettings};
use crate::observe::NodeMetrics;
use crate::pool::{Cap, NodeLoad};

/// The role that a node itself reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObservedRole {
    /// Not asked yet, or it could not be asked.
    Unknown,
    /// `pg_is_in_recovery()` is false.
    Primary,
    /// `pg_is_in_recovery()` is true.
    Replica,
}

/// One PostgreSQL server: configured facts, load, and what the health checks found.
#[derive(Debug)]
pub struct Node {
    /// Configured facts.
    pub settings: NodeSettings,
    /// Load and health, shared with its pools.
    pub load: Arc<NodeLoad>,
    /// The limit on its server connections over all users, and how many there are.
    pub servers: Arc<Cap>,
    /// Its metrics.
    pub metrics: NodeMetrics,
    role: AtomicU8,
    checked: Mutex<Checked>,
}

/// What the last health checks found.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// When the last check ended.
    pub at: Option<SystemTime>,
    /// Its error, if it failed.
    pub error: Option<String>,
    /// How far a replica is behind; zero when it has replayed all that it received.
    pub lag: Option<Duration>,
}

impl Node {
    /// A node that counts as up until a check says otherwise.
    pub fn new(settings: NodeSettings, metrics: NodeMetrics) -> Arc<Self> {
        Arc::new(Self {
            settings,
            load: Arc::default(),
            servers: Arc::default(),
            metrics,
            role: AtomicU8::new(0),
            checked: Mutex::default(),
        })
    }

    /// Whether it is configured as the primary.
    pub fn is_primary(&self) -> bool {
        self.settings.role == NodeRole::Primary
    }

    /// The role that it reported last.
    pub fn observed_role(&self) -> ObservedRole {
        match self.role.load(Ordering::Relaxed) {
            1 => ObservedRole::Primary,
            2 => ObservedRole::Replica,
            _ => ObservedRole::Unknown,
        }
    }

    pub(super) fn observe_role(&self, role: ObservedRole) -> bool {
        self.role.swap(role as u8, Ordering::Relaxed) != role as u8
    }

    /// What the last check found.
    pub fn checked(&self) -> Checked {
        self.checked.lock().clone()
    }

    pub(super) fn set_checked(&self, checked: Checked) {
        *self.checked.lock() = checked;
    }
}
