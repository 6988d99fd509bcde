//! The handle that health checks and the freshness sampler report a node's state with.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use crate::config::NodeRole;
use crate::observe::Horizon;

#[derive(Debug)]
struct NodeCells {
    up: AtomicBool,
    /// 0 unknown, 1 primary, 2 replica.
    role: AtomicU8,
    refused: AtomicBool,
    disabled: AtomicBool,
    horizon: OnceLock<Arc<Horizon>>,
    checks_ok: Arc<AtomicU64>,
    checks_failed: Arc<AtomicU64>,
}

/// What a node's gauges say at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeState {
    /// Database.
    pub database: Arc<str>,
    /// Node.
    pub node: Arc<str>,
    /// Answers its health checks.
    pub up: bool,
    /// The role that it has now.
    pub role: Option<NodeRole>,
    /// `up`, `down`, `refused` or `disabled`.
    pub state: &'static str,
    /// How old its data may be at most; `None` = not known, or a primary.
    pub lag: Option<Duration>,
    /// Health checks that succeeded.
    pub checks_ok: u64,
    /// Health checks that failed.
    pub checks_failed: u64,
}

/// A node's metrics. Dropping it takes the node out of the gauges.
#[derive(Debug)]
pub struct NodeMetrics {
    cells: Arc<NodeCells>,
}

impl NodeMetrics {
    /// A health check succeeded.
    pub fn check_succeeded(&self) {
        self.cells.checks_ok.fetch_add(1, Relaxed);
        self.cells.up.store(true, Relaxed);
    }

    /// The role that it was found to have, and whether it is kept out: refused, or disabled by an administrator.
    pub fn set_role(&self, role: Option<NodeRole>, refused: bool, disabled: bool) {
        let role = match role {
            Some(NodeRole::Primary) => 1,
            Some(NodeRole::Replica) => 2,
            Some(NodeRole::Worker) => 3,
            None => 0,
        };
        self.cells.role.store(role, Relaxed);
        self.cells.refused.store(refused, Relaxed);
        self.cells.disabled.store(disabled, Relaxed);
    }

    /// A health check failed. `up` tells whether the node still counts as up (one failure may not be enough).
    pub fn check_failed(&self, up: bool) {
        self.cells.checks_failed.fetch_add(1, Relaxed);
        self.cells.up.store(up, Relaxed);
    }

    /// What is known of the freshness of the node's data.
    pub fn follow(&self, horizon: &Arc<Horizon>) {
        let _ = self.cells.horizon.set(horizon.clone());
    }
}

#[derive(Debug)]
struct Entry {
    database: Arc<str>,
    node: Arc<str>,
    cells: Weak<NodeCells>,
    // outlive the node, as counters may not fall
    checks_ok: Arc<AtomicU64>,
    checks_failed: Arc<AtomicU64>,
}

/// All nodes.
#[derive(Debug, Default)]
pub struct NodeRegistry(Vec<Entry>);

impl NodeRegistry {
    /// A handle for a node; a node of the same name goes on with its counters.
    pub fn register(&mut self, database: &str, node: &str) -> NodeMetrics {
        let known = self.0.iter().position(|entry| &*entry.database == database && &*entry.node == node);
        let entry = match known {
            Some(place) => self.0.swap_remove(place),
            None => Entry {
                database: database.into(),
                node: node.into(),
                cells: Weak::new(),
                checks_ok: Arc::default(),
                checks_failed: Arc::default(),
            },
        };
        let cells = Arc::new(NodeCells {
            up: AtomicBool::new(false),
            role: AtomicU8::new(0),
            refused: AtomicBool::new(false),
            disabled: AtomicBool::new(false),
            horizon: OnceLock::new(),
            checks_ok: entry.checks_ok.clone(),
            checks_failed: entry.checks_failed.clone(),
        });
        self.0.push(Entry { cells: Arc::downgrade(&cells), ..entry });
        NodeMetrics { cells }
    }

    /// The nodes that live now.
    pub fn states(&self) -> Vec<NodeState> {
        let states = self.0.iter().filter_map(|entry| {
            let cells = entry.cells.upgrade()?;
            Some(NodeState {
                database: entry.database.clone(),
                node: entry.node.clone(),
                up: cells.up.load(Relaxed),
                role: match cells.role.load(Relaxed) {
                    _ if !cells.up.load(Relaxed) => None,
                    1 => Some(NodeRole::Primary),
                    2 => Some(NodeRole::Replica),
                    3 => Some(NodeRole::Worker),
                    _ => None,
                },
                state: match (cells.disabled.load(Relaxed), cells.refused.load(Relaxed), cells.up.load(Relaxed)) {
                    (true, ..) => "disabled",
                    (_, true, _) => "refused",
                    (.., true) => "up",
                    _ => "down",
                },
                lag: cells.horizon.get().and_then(|horizon| horizon.staleness()),
                checks_ok: cells.checks_ok.load(Relaxed),
                checks_failed: cells.checks_failed.load(Relaxed),
            })
        });
        states.collect()
    }
}
