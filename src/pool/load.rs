//! Load and health of a node, shared by everything that talks to it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use quanta::Instant;
use tokio::sync::Notify;

use crate::observe::{Horizon, Sparing};

/// How much of the average a new latency makes: one in so many.
const MEMORY: i64 = 8;

/// Load and health of a node. Written by the pools (load, failures seen by traffic), the health checks, and whoever finds
/// the roles of a cluster's nodes. It stays the same through reloads that keep the node.
#[derive(Debug)]
pub struct NodeLoad {
    /// Leases that are out, in the lower half; in the upper one how many have ended, modulo 2³²: one word, so that a lease costs
    /// one operation at its beginning and one at its end.
    leases: AtomicU64,
    up: AtomicBool,
    draining: AtomicBool,
    primary: AtomicBool,
    deposed: AtomicBool,
    /// Connections outside the pools on which clients may write: logical replication.
    passing: AtomicU32,
    share: AtomicU32,
    latency_us: AtomicU32,
    /// Since when it is known not to be in recovery.
    primary_since: Mutex<Option<Instant>>,
    /// Where it is, once another server has taken its name.
    places: ArcSwapOption<Vec<IpAddr>>,
    /// How fresh its data is known to be.
    pub horizon: Arc<Horizon>,
    /// Wakes the node's health check before its time.
    pub probe: Notify,
    /// Nobody has a connection, and who looks after the node sleeps until somebody gets one.
    at_rest: AtomicBool,
    stir: Notify,
    /// Openings that fail are told once in a while.
    pub(super) complaints: Sparing,
}

impl Default for NodeLoad {
    /// A node counts as up until something says otherwise, and takes neither reads nor writes before its role is known.
    fn default() -> Self {
        Self {
            leases: AtomicU64::new(0),
            up: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            primary: AtomicBool::new(false),
            deposed: AtomicBool::new(false),
            passing: AtomicU32::new(0),
            share: AtomicU32::new(0),
            latency_us: AtomicU32::new(0),
            primary_since: Mutex::new(None),
            places: ArcSwapOption::empty(),
            horizon: Arc::default(),
            probe: Notify::new(),
            at_rest: AtomicBool::new(false),
            stir: Notify::new(),
            complaints: Sparing::default(),
        }
    }
}

impl NodeLoad {
    /// Leases that are out.
    pub fn outstanding(&self) -> u32 {
        self.traffic().out
    }

    /// What its connections are doing, to be compared with what they do a moment later.
    pub fn traffic(&self) -> Traffic {
        let leases = self.leases.load(Ordering::SeqCst);
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        Traffic { out: half(leases), ended: half(leases >> 32) }
    }

    pub(super) fn leased(&self) {
        // Ordered with what follows as `is_at_rest_until_leased` is: one of the two sees the other.
        self.leases.fetch_add(1, Ordering::SeqCst);
        if self.at_rest.load(Ordering::SeqCst) && self.at_rest.swap(false, Ordering::SeqCst) {
            self.stir.notify_one();
        }
    }

    /// Whether no lease is out. Then the next one is told to who waits for it ([`Self::stirred`]).
    pub fn is_at_rest_until_leased(&self) -> bool {
        self.at_rest.store(true, Ordering::SeqCst);
        let is_at_rest = self.outstanding() == 0;
        if !is_at_rest {
            self.at_rest.store(false, Ordering::SeqCst);
        }
        is_at_rest
    }

    /// A lease has begun since it was at rest. One wake-up may be an old one.
    pub async fn stirred(&self) {
        self.stir.notified().await;
    }

    pub(super) fn returned(&self) {
        // One less in the lower half, carried as one more into the upper one.
        self.leases.fetch_add(u64::from(u32::MAX), Ordering::Relaxed);
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

    /// Counts a connection outside the pools on which a client may write, until the guard is dropped.
    pub fn pass(self: &Arc<Self>) -> Passing {
        // Ordered with what follows as in `leased`: whoever stands down sees it, or is seen.
        self.passing.fetch_add(1, Ordering::SeqCst);
        Passing(self.clone())
    }

    /// How many there are.
    pub fn passing(&self) -> usize {
        self.passing.load(Ordering::SeqCst) as usize
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

    /// Another server has taken its name, at these addresses.
    pub fn set_places(&self, places: Vec<IpAddr>) {
        self.places.store(Some(Arc::new(places)));
    }

    /// Its name leads to these addresses, too, and to the same server as far as is known.
    pub fn add_places(&self, more: &[IpAddr]) {
        if let Some(places) = &*self.places.load() {
            self.set_places([&places[..], more].concat());
        }
    }

    /// Whether a connection to this peer goes to a server whose name another one has taken: it must not be written to, as a node that
    /// is deposed must not.
    pub fn is_replaced_at(&self, peer: &str) -> bool {
        self.places.load().as_ref().is_some_and(|places| is_elsewhere(peer, places))
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

/// Whether a connection's peer is none of these. Unix sockets have no address.
pub fn is_elsewhere(peer: &str, places: &[IpAddr]) -> bool {
    peer.parse::<IpAddr>().is_ok_and(|peer| !places.contains(&peer))
}

/// A connection outside the pools, see [`NodeLoad::pass`].
#[derive(Debug)]
pub struct Passing(Arc<NodeLoad>);

impl Drop for Passing {
    fn drop(&mut self) {
        self.0.passing.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a node's connections were doing at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Leases that were out.
    out: u32,
    /// Leases that had ended.
    ended: u32,
}

impl Traffic {
    /// Whether leases were out now and before, and none has ended in between. That may be one long statement, or a block in which its
    /// client thinks; or a server that has stopped answering.
    pub fn is_stuck_since(self, before: Self) -> bool {
        self.out > 0 && before.out > 0 && self.ended == before.ended
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
    fn traffic_without_an_end_is_seen() {
        let load = NodeLoad::default();
        let idle = load.traffic();
        assert!(!load.traffic().is_stuck_since(idle), "nobody waits");
        load.leased();
        let began = load.traffic();
        assert!(!began.is_stuck_since(idle), "it has just begun");
        assert!(load.traffic().is_stuck_since(began));
        load.leased();
        load.returned();
        assert_eq!(load.outstanding(), 1);
        assert!(!load.traffic().is_stuck_since(began), "one of them was answered");
        load.leases.store(u64::MAX - u64::from(u32::MAX) + 1, Ordering::Relaxed);
        let last = load.traffic();
        load.returned();
        load.leased();
        assert_eq!((load.outstanding(), load.traffic().is_stuck_since(last)), (1, false), "the number begins anew");
    }

    #[test]
    fn who_sleeps_while_nothing_is_out_is_woken_by_the_first_lease() {
        let load = NodeLoad::default();
        load.leased();
        assert!(!load.is_at_rest_until_leased(), "one is out");
        load.returned();
        assert!(load.is_at_rest_until_leased());
        load.leased();
        let mut woken = std::pin::pin!(load.stirred());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(woken.as_mut().poll(&mut cx).is_ready());
        load.leased();
        assert!(std::pin::pin!(load.stirred()).poll(&mut cx).is_pending(), "nobody sleeps");
    }

    #[test]
    fn connections_to_addresses_that_a_name_has_no_more() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let load = NodeLoad::default();
        load.add_places(&[ip("10.0.0.9")]);
        assert!(!load.is_replaced_at("10.0.0.2"), "nothing has replaced anything");
        load.set_places(vec![ip("10.0.0.1"), ip("::1")]);
        assert!(load.is_replaced_at("10.0.0.2"));
        assert!(!load.is_replaced_at("10.0.0.1") && !load.is_replaced_at("::1") && !load.is_replaced_at("unix"));
        load.add_places(&[ip("10.0.0.2")]);
        assert!(!load.is_replaced_at("10.0.0.2") && !load.is_replaced_at("10.0.0.1"));
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
