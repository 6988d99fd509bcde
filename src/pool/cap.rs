//! Limits on server connections over several pools: those of a database on one node, those of a user.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use quanta::Instant;

use crate::observe::CloseCause;

use super::{Pool, home};

/// How much longer than a pool's own clients somebody must have waited at another pool to be given its connection's place.
/// Connections then change pools a few times a second at most, however full everything is.
const PATIENCE: Duration = Duration::from_millis(500);

/// A limit on the server connections of several pools. One that is open or being opened counts.
#[derive(Debug)]
pub struct Cap {
    /// `usize::MAX` = none.
    limit: AtomicUsize,
    used: AtomicUsize,
    /// A pool has clients waiting and could not open a connection because of this limit.
    starving: AtomicBool,
    /// Since when the first of them waits.
    since: Mutex<Option<Instant>>,
    pools: Mutex<Vec<Weak<Pool>>>,
    /// Held by whoever makes room: two at once would close one connection too many.
    turn: Mutex<()>,
}

impl Default for Cap {
    fn default() -> Self {
        Self {
            limit: AtomicUsize::new(usize::MAX),
            used: AtomicUsize::new(0),
            starving: AtomicBool::new(false),
            since: Mutex::default(),
            pools: Mutex::default(),
            turn: Mutex::default(),
        }
    }
}

impl Cap {
    /// Sets the limit; `None` = there is none. Connections over a new limit are closed as they come back.
    pub fn set_limit(&self, limit: Option<u32>) {
        self.limit.store(limit.map_or(usize::MAX, |limit| limit as usize), Ordering::Relaxed);
    }

    /// Connections that count at this moment.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn join(&self, pool: &Arc<Pool>) {
        let mut pools = self.pools.lock();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    pub(super) fn is_over(&self) -> bool {
        self.used() > self.limit.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        self.used() >= self.limit.load(Ordering::Relaxed)
    }

    fn try_take(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| (used < limit).then_some(used + 1)).is_ok()
    }

    /// Gives a place back that was never used. Whoever missed it meanwhile gets it from the housekeeping.
    fn put_down(&self) {
        self.used.fetch_sub(1, Ordering::AcqRel);
    }

    fn give_back(self: &Arc<Self>) {
        self.used.fetch_sub(1, Ordering::AcqRel);
        if self.starving.load(Ordering::Acquire) {
            self.make_room();
        }
    }

    /// Whether a connection that nobody waits for at its own pool, or only for a shorter time, should make way.
    pub(super) fn wants_room(&self, own_oldest: impl FnOnce() -> Option<Instant>) -> bool {
        if !self.starving.load(Ordering::Relaxed) {
            return false;
        }
        match (own_oldest(), *self.since.lock()) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(own), Some(other)) => own.checked_duration_since(other).is_some_and(|longer| longer >= PATIENCE),
        }
    }

    fn starve(self: &Arc<Self>, since: Instant) {
        {
            let mut first = self.since.lock();
            *first = Some(first.map_or(since, |first| first.min(since)));
        }
        self.starving.store(true, Ordering::Release);
        self.make_room();
    }

    /// Gives the next place to the pool whose client has waited longest; for it, the connection that has been idle longest at
    /// another pool is closed. In a task of its own: it takes the pools' locks one after another, and the caller holds one.
    fn make_room(self: &Arc<Self>) {
        let cap = self.clone();
        home::spawn(async move {
            let _turn = cap.turn.lock();
            while cap.serve_longest() {}
        });
    }

    /// One step; `false` when nothing more can be done now.
    fn serve_longest(self: &Arc<Self>) -> bool {
        let pools: Vec<Arc<Pool>> = self.pools.lock().iter().filter_map(Weak::upgrade).collect();
        // Room here is of no use to a pool that another limit holds up.
        let helped = |pool: &&Arc<Pool>| pool.caps.iter().all(|cap| Arc::ptr_eq(cap, self) || !cap.is_full());
        let starving = pools.iter().filter(helped).filter_map(|pool| Some((pool.starving_since()?, pool)));
        let starving = starving.min_by_key(|found| found.0);
        let Some((since, hungry)) = starving else {
            *self.since.lock() = None;
            self.starving.store(false, Ordering::Release);
            return false;
        };
        *self.since.lock() = Some(since);
        if self.is_full() {
            let others = pools.iter().filter(|pool| !Arc::ptr_eq(pool, hungry));
            let victim = others.filter_map(|pool| Some((pool.state.lock().oldest_idle()?, pool)));
            let victim = victim.min_by_key(|found| found.0);
            if !victim.is_some_and(|(_, pool)| pool.evict()) {
                return false;
            }
        }
        let mut state = hungry.state.lock();
        let before = state.opening;
        hungry.open_for_waiters_in(Turn::Given, &mut state);
        state.opening > before
    }
}

/// On whose account a pool opens a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Its own: behind those who have waited for longer at other pools.
    Own,
    /// It has waited longest.
    Given,
}

/// The places that one connection takes, in every limit over its pool. Given back when dropped.
#[derive(Debug)]
pub(super) struct Places(Vec<Arc<Cap>>);

impl Places {
    /// One place in each; or, when one limit is reached or somebody else has waited for longer, none.
    pub fn take(caps: &[Arc<Cap>], turn: Turn, since: Option<Instant>) -> Option<Self> {
        let mut taken = Self(Vec::with_capacity(caps.len()));
        for cap in caps {
            if (turn == Turn::Own && cap.wants_room(|| since)) || !cap.try_take() {
                taken.0.drain(..).for_each(|cap| cap.put_down());
                if let Some(since) = since {
                    cap.starve(since);
                }
                return None;
            }
            taken.0.push(cap.clone());
        }
        Some(taken)
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        for cap in &self.0 {
            cap.give_back();
        }
    }
}

impl Pool {
    /// Since when the oldest client waits that a new connection would help. Nobody, when none can be opened now for another reason (a
    /// pause, a server that refuses, or does not answer those who are at its door): room would be kept for nobody.
    fn starving_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        if self.wants_one_now(&state) { state.oldest_wait() } else { None }
    }

    /// Closes the connection that has been idle longest.
    fn evict(&self) -> bool {
        let mut state = self.state.lock();
        let Some(conn) = state.take_oldest_idle() else { return false };
        state.forget(&conn.info);
        self.metrics.closed(CloseCause::Evicted);
        true
    }
}
