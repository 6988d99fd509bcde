//! Load and health of a node, shared by everything that talks to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quanta::Instant;
use tokio::sync::Notify;

use crate::observe::Horizon;

/// How much of the average a new latency makes: one in so many.
const MEMORY: i64 = 8;

/// Load and health of a node. Written by the pools (load, failures seen by traffic), the health checks, and whoever finds
/// the roles of a cluster's nodes. It stays the same through reloads that keep the node.
#[derive(Debug)]
pub struct NodeLoad {
    outstanding: AtomicU32,
    up: AtomicBool,
    draining: AtomicBool,
    primary: AtomicBool,
    deposed: AtomicBool,
    share: AtomicU32,
    latency_us: AtomicU32,
    /// Since when it is known not to be in recovery.
    primary_since: Mutex<Option<Instant>>,
    /// How fresh its data is known to be.
    pub horizon: Arc<Horizon>,
    /// Wakes the node's health check before its time.
    pub probe: Notify,
}

impl Default for NodeLoad {
    /// A node counts as up until something says otherwise, and takes neither reads nor writes before its role is known.
    fn default() -> Self {
        Self {
            outstanding: AtomicU32::new(0),
            up: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            primary: AtomicBool::new(false),
            deposed: AtomicBool::new(false),
            share: AtomicU32::new(0),
            latency_us: AtomicU32::new(0),
            primary_since: Mutex::new(None),
            horizon: Arc::default(),
            probe: Notify::new(),
        }
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

    /// Whether it is being drained: it gives no connection to anybody, and those that come back are closed.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Drains it, or ends that; the pools are told apart from this. Returns whether it is news.
    pub fn set_draining(&self, draining: bool) -> bool {
        self.draining.swap(draining, Ordering::AcqRel) != draining
    }

    /// Whether it is the one node of its cluster that takes writes.
    pub fn is_primary(&self) -> bool {
        self.primary.load(Ordering::Acquire)
    }

    /// Sets whether it takes writes; returns whether it is news.
    pub fn set_primary(&self, primary: bool) -> bool {
        self.primary.swap(primary, Ordering::AcqRel) != primary
    }

    /// Whether it is certain that it must not be written to, not even by who has begun to: it is in recovery, or another node
    /// is the primary.
    pub fn is_deposed(&self) -> bool {
        self.deposed.load(Ordering::Acquire)
    }

    /// Sets whether it must not be written to.
    pub fn set_deposed(&self, deposed: bool) {
        self.deposed.store(deposed, Ordering::Release);
    }

    /// A check that began at `asked` found it in recovery, or not.
    pub fn set_recovery(&self, in_recovery: bool, asked: Instant) {
        let mut since = self.primary_since.lock();
        *since = if in_recovery { None } else { since.or(Some(asked)) };
    }

    /// Whether it was found to be no standby after this instant. A server becomes a standby only by a restart, which ends
    /// its connections: what a connection from before that said of a recovery is over.
    pub fn is_primary_since(&self, opened: Instant) -> bool {
        self.primary_since.lock().is_some_and(|since| since > opened)
    }

    /// Its share of reads; 0 = it takes none, whatever for. It takes none either while it is down.
    pub fn share(&self) -> u32 {
        self.share.load(Ordering::Relaxed)
    }

    /// Sets its share of reads, in thousandths of its weight's unit.
    pub fn set_share(&self, share: u32) {
        self.share.store(share, Ordering::Relaxed);
    }

    /// How long it takes to answer, on average; `None` = nobody has asked yet.
    pub fn latency(&self) -> Option<Duration> {
        let us = self.latency_us.load(Ordering::Relaxed);
        (us > 0).then(|| Duration::from_micros(us.into()))
    }

    /// One more answer took so long.
    pub fn answered(&self, took: Duration) {
        let took = i64::from(u32::try_from(took.as_micros()).unwrap_or(u32::MAX).max(1));
        let old = i64::from(self.latency_us.load(Ordering::Relaxed));
        let new = if old == 0 { took } else { old + (took - old) / MEMORY };
        // Of two that come at once one may be lost: it is an average.
        self.latency_us.store(u32::try_from(new.max(1)).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_latency_follows_slowly() {
        let load = NodeLoad::default();
        assert_eq!(load.latency(), None);
        load.answered(Duration::from_millis(1));
        assert_eq!(load.latency(), Some(Duration::from_millis(1)));
        load.answered(Duration::from_millis(9));
        assert_eq!(load.latency(), Some(Duration::from_millis(2)));
        for _ in 0..100 {
            load.answered(Duration::from_millis(9));
        }
        assert!(load.latency().unwrap() > Duration::from_micros(8900));
    }

    #[test]
    fn what_an_older_connection_said_of_a_recovery_is_over_after_a_promotion() {
        let load = NodeLoad::default();
        let opened = Instant::now();
        let after = opened + Duration::from_millis(1);
        assert!(!load.is_primary_since(opened));
        load.set_recovery(false, after);
        assert!(load.is_primary_since(opened));
        let later = after + Duration::from_millis(1);
        load.set_recovery(false, later);
        assert!(!load.is_primary_since(after), "what counts is the first time");
        load.set_recovery(true, later);
        assert!(!load.is_primary_since(opened));
    }
}
