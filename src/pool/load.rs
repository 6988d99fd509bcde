//! Load and health of a node, shared by everything that talks to it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::sync::Notify;

/// Load and health of a node. Written by the pools (load, failures seen by traffic) and by the health checks.
#[derive(Debug)]
pub struct NodeLoad {
    outstanding: AtomicU32,
    up: AtomicBool,
    /// Wakes the node's health check before its time.
    pub probe: Notify,
}

impl Default for NodeLoad {
    /// A node counts as up until something says otherwise.
    fn default() -> Self {
        Self { outstanding: AtomicU32::new(0), up: AtomicBool::new(true), probe: Notify::new() }
    }
}

impl NodeLoad {
    /// Leases that are out.
    pub fn outstanding(&self) -> u32 {
        self.outstanding.load(Ordering::Relaxed)
    }

    pub(super) fn leased(&self) {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn returned(&self) {
        self.outstanding.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the node is believed to be reachable.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Sets what a health check found; returns whether it is news.
    pub fn set_up(&self, up: bool) -> bool {
        self.up.swap(up, Ordering::AcqRel) != up
    }

    /// Traffic saw a failure that only a node that is down shows (design §7): it counts as down until a health check says
    /// otherwise, and that check is made at once.
    pub fn suspect(&self) {
        self.set_up(false);
        self.probe.notify_one();
    }
}
