//! Pools of server connections: leases, waiters, limits.
//!
//! One [`Pool`] per (database, user, node), shared by all worker threads. Idle connections are kept per home
//! thread and used last-in first-out; waiters are served first-in first-out, and a connection that comes back
//! goes straight to the oldest of them. Connections are opened by tasks of their own, never inside a waiting
//! client's future, so a client that gives up swallows nothing (trap 81).

mod backoff;
mod cap;
mod check;
mod gate;
pub mod home;
mod janitor;
mod lease;
mod line;
mod load;
mod opener;
mod state;
mod waiter;

/// What the line stands on; loom's in its model.
mod sync {
    pub use parking_lot::Mutex;
    pub use std::sync::Arc;
}

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quanta::Instant;
use tokio::sync::Notify;

use crate::backend::{ConnectSpec, OpenError, ServerConn, ServerInfo, ServerState};
use crate::config::PoolSettings;
use crate::net::{ConnectOptions, TcpLiveness};
use crate::observe::{CloseCause, Moment, PoolGauges, PoolMetrics};

pub use cap::Cap;
pub use gate::{Gate, Gates, Service};
pub use janitor::tend;
pub use lease::Lease;
pub use load::{NodeLoad, Passing, Traffic, is_elsewhere};
pub use waiter::WaiterSlot;

use state::State;

/// What is said of a server that reports more than is kept ([`crate::backend::Parameters`]).
pub const TOO_MANY_PARAMETERS: &str = "the server reports too many parameters";

/// Why no connection could be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CheckOutError {
    /// None came free within `wait_timeout`.
    #[error("no server connection came free within the wait time-out")]
    Timeout,
    /// None is open and none could be opened.
    #[error("cannot connect to the server: {0}")]
    Open(Arc<OpenError>),
    /// The pool was closed by a reload, or its node takes nobody any more: another one is to be looked for.
    #[error("the pool was closed")]
    Closed,
}

/// Numbers of one pool at an instant, for `SHOW POOLS`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Connections leased to clients.
    pub active: usize,
    /// Connections in the pool.
    pub idle: usize,
    /// Connections being reset.
    pub tested: usize,
    /// Connections being opened.
    pub opening: usize,
    /// Clients that wait.
    pub waiting: usize,
    /// How long the oldest of them has waited, in microseconds.
    pub max_wait_us: u64,
}

/// The server connections of one (database, user, node).
#[derive(Debug)]
pub struct Pool {
    /// How to open one.
    pub spec: ConnectSpec,
    /// The node's load and health, shared with the other pools on it.
    pub load: Arc<NodeLoad>,
    gate: Arc<Gate>,
    state: Mutex<State>,
    closed: AtomicBool,
    /// When an opening failed last, as a [`Moment`]; `NEVER` after one that did not.
    failed: AtomicU64,
    metrics: PoolMetrics,
    /// The limits over several pools.
    caps: Vec<Arc<Cap>>,
    /// Wakes the openings that are under way: their node is away, or was.
    hopeless: Notify,
}

impl Pool {
    /// An empty pool; nothing is opened before the first check-out or [`tend`].
    pub fn new(
        spec: ConnectSpec,
        load: Arc<NodeLoad>,
        gate: Arc<Gate>,
        settings: PoolSettings,
        metrics: PoolMetrics,
        caps: Vec<Arc<Cap>>,
    ) -> Arc<Self> {
        let pool = Arc::new(Self {
            spec,
            load,
            gate,
            state: Mutex::new(State::new(settings)),
            closed: AtomicBool::new(false),
            failed: AtomicU64::new(Moment::NEVER.nanos()),
            metrics,
            caps,
            hopeless: Notify::new(),
        });
        pool.caps.iter().for_each(|cap| cap.join(&pool));
        pool.gate.enroll(&pool);
        pool
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<PoolSettings> {
        self.state.lock().settings.clone()
    }

    /// How its connections are to be connected.
    pub fn connect_options(&self) -> ConnectOptions {
        let settings = self.settings();
        let (keepalive, user_timeout) = (settings.keepalive, settings.tcp_user_timeout);
        // There must be time left for the login.
        let patience = settings.connect_timeout.map(|limit| limit.mul_f64(0.8));
        ConnectOptions { liveness: TcpLiveness { keepalive, user_timeout }, patience }
    }

    /// New settings after a reload; connections over the new size are closed as they come back.
    pub fn set_settings(self: &Arc<Self>, settings: PoolSettings) {
        let mut state = self.state.lock();
        let old = std::mem::replace(&mut state.settings, Arc::new(settings));
        if old.connect_query != state.settings.connect_query {
            drop(state);
            self.reconnect();
            state = self.state.lock();
        }
        self.open_for_waiters(&mut state);
    }

    /// Whether the last attempt to open a connection failed, not longer ago than this.
    pub fn has_failed_within(&self, time: Duration, now: Instant) -> bool {
        let failed = Moment::from_nanos(self.failed.load(Ordering::Relaxed));
        failed != Moment::NEVER && failed.until(Moment::of(now)) <= time
    }

    /// Its server is not as it should be: that counts as an attempt to open a connection that has failed.
    pub fn complain(&self, why: &'static str) {
        self.failed.store(Moment::now().nanos(), Ordering::Relaxed);
        if let Some(left_out) = self.load.complaints.line(Instant::now()) {
            tracing::warn!(pool = %self.spec, left_out, why, "server connections cannot be used");
        }
    }

    /// Takes an idle connection, if one is here and nobody waits for it. One uncontended lock and a pop.
    pub fn try_check_out(self: &Arc<Self>, now: Instant) -> Option<Lease> {
        let mut state = self.state.lock();
        if !state.waiters.is_empty() || self.gate.is_paused() || self.load.is_draining() {
            return None;
        }
        let conn = self.pop_usable(&mut state, now)?;
        drop(state);
        Some(Lease::new(conn, self.clone()))
    }

    /// Takes the idle connection on which this client was the last to use sequences, if it is here.
    pub fn try_check_out_sequences_of(self: &Arc<Self>, client: u64) -> Option<Lease> {
        let mut state = self.state.lock();
        if self.load.is_draining() {
            return None;
        }
        let mut conn = state.take_newest_idle(|conn| conn.sequences_of == client)?;
        if !conn.stream.is_quiet() {
            state.forget(&conn.info);
            self.metrics.closed(CloseCause::ServerClosed);
            return None;
        }
        drop(state);
        Some(Lease::new(conn, self.clone()))
    }

    /// Takes a connection, waiting in line for one. `slot` is the session's own, used for one wait at a time.
    ///
    /// # Errors
    /// [`CheckOutError`]; after it the caller holds no place in the line.
    pub async fn check_out(self: &Arc<Self>, slot: &Arc<WaiterSlot>) -> Result<Lease, CheckOutError> {
        self.check_out_if(true, slot).await
    }

    /// The same on behalf of somebody who has other places to go to: a primary that is full is not waited for.
    ///
    /// # Errors
    /// [`CheckOutError`], as for [`Self::check_out`].
    pub async fn check_out_unless_full(self: &Arc<Self>, slot: &Arc<WaiterSlot>) -> Result<Lease, CheckOutError> {
        self.check_out_if(false, slot).await
    }

    async fn check_out_if(self: &Arc<Self>, is_patient: bool, slot: &Arc<WaiterSlot>) -> Result<Lease, CheckOutError> {
        let (mut wait, settings) = {
            let mut state = self.state.lock();
            if self.closed.load(Ordering::Acquire) || self.load.is_draining() {
                return Err(CheckOutError::Closed);
            }
            if state.waiters.is_empty()
                && !self.gate.is_paused()
                && let Some(conn) = self.pop_usable(&mut state, Instant::now())
            {
                drop(state);
                return Ok(Lease::new(conn, self.clone()));
            }
            // For what the primary does there is no other node: it waits for the next attempt.
            if !self.load.is_primary()
                && let Some(error) = state.known_failure(Instant::now())
            {
                return Err(CheckOutError::Open(error));
            }
            let wait = waiter::Wait::enqueue(self, slot, is_patient, &mut state);
            self.check_for_waiters(&mut state);
            self.open_for_waiters(&mut state);
            (wait, state.settings.clone())
        };
        let began = Instant::now();
        if settings.reserve_size > 0
            && let Some(patience) = settings.reserve_timeout
            && settings.wait_timeout.is_none_or(|limit| patience < limit)
        {
            match tokio::time::timeout(patience, &mut wait).await {
                Ok(answer) => return answer,
                Err(_) => self.open_for_waiters(&mut self.state.lock()),
            }
        }
        let Some(limit) = settings.wait_timeout else { return wait.await };
        // A pause is no lack of connections: the time begins anew with its end.
        let left = || limit.saturating_sub(self.gate.without_pauses(began).elapsed());
        loop {
            match tokio::time::timeout(left(), &mut wait).await {
                Ok(outcome) => return outcome,
                Err(_) if !left().is_zero() => {}
                Err(_) => {
                    self.metrics.wait_timed_out();
                    let full = self.state.lock().why_full();
                    return Err(full.map_or(CheckOutError::Timeout, CheckOutError::Open));
                }
            }
        }
    }

    /// Pops the newest idle connection that is fit for use, from this thread's list first. Unfit ones are closed; `None` too
    /// when the next one must be checked before its use.
    fn pop_usable(&self, state: &mut State, now: Instant) -> Option<Box<ServerConn>> {
        let home = home::current();
        loop {
            let mut conn = state.pop_idle(home)?;
            let stale = conn.epoch != state.epoch || is_too_old(&conn, &state.settings, now);
            if !stale && check::is_open(&mut conn, now) {
                if check::is_due(&conn, &state.settings, now) {
                    state.push_idle(conn);
                    return None;
                }
                return Some(conn);
            }
            state.forget(&conn.info);
            self.metrics.closed(if stale { CloseCause::Lifetime } else { CloseCause::ServerClosed });
        }
    }

    /// Takes a connection back: to the oldest waiter, else to the idle list, else (too old, too many) it is closed.
    fn put_back(self: &Arc<Self>, mut conn: Box<ServerConn>, now: Instant) {
        conn.idle_since = now;
        conn.idle_turn = if conn.home == home::current() { home::turn() } else { u64::MAX };
        if !conn.greeted && self.greet_again(&mut conn) {
            return self.start_greeting(conn);
        }
        if conn.settings.get(check::IDLE_TIMEOUT).is_some() && self.state.lock().waiters.is_empty() {
            return self.start_disarming(conn);
        }
        conn.info.set_state(ServerState::Idle, 0);
        conn.stream.end_transfer();
        let mut state = self.state.lock();
        let unfit = if self.closed.load(Ordering::Acquire) {
            Some(CloseCause::Shutdown)
        } else if conn.epoch != state.epoch
            || conn.info.is_close_needed()
            || self.gate.is_paused()
            || self.load.is_draining()
        {
            Some(CloseCause::Reconnect)
        } else if is_too_old(&conn, &state.settings, now) {
            Some(CloseCause::Lifetime)
        } else if !state.waiters.is_empty() && !conn.stream.is_quiet() {
            // Who takes an idle one looks at it then.
            Some(CloseCause::ServerClosed)
        } else if self.is_too_many(&state) {
            Some(CloseCause::Evicted)
        } else {
            None
        };
        if let Some(cause) = unfit {
            if conn.parameters.are_too_many() {
                self.complain(TOO_MANY_PARAMETERS);
            }
            state.forget(&conn.info);
            self.metrics.closed(cause);
            self.open_for_waiters(&mut state);
            drop(state);
            drop(conn);
            return;
        }
        state.hand_over(conn);
    }

    /// Whether a connection that comes back is more than the pool may have, or should make way for another pool.
    fn is_too_many(&self, state: &State) -> bool {
        let size = state.settings.size as usize;
        // The reserve lives for as long as somebody waits.
        let allowed = if state.waiters.is_empty() { size } else { size + state.settings.reserve_size as usize };
        state.open > allowed || self.caps.iter().any(|cap| cap.is_over() || cap.wants_room(|| state.oldest_wait()))
    }

    /// A client gives up its place.
    fn leave_line(&self, slot: &Arc<WaiterSlot>) {
        self.state.lock().waiters.retain(|waiter| !waiter.place.is_of(slot));
    }

    /// A leased connection is gone; a waiter may need another one.
    fn lost(self: &Arc<Self>, info: &ServerInfo) {
        let mut state = self.state.lock();
        state.forget(info);
        self.metrics.closed(CloseCause::Error);
        self.open_for_waiters(&mut state);
    }

    /// Marks all present connections as old: idle ones are closed now, leased ones when they come back (RECONNECT).
    pub fn reconnect(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.epoch += 1;
        let idle = self.take_idle(&mut state);
        state.servers.iter().for_each(|info| info.set_close_needed());
        self.open_for_waiters(&mut state);
        drop(state);
        drop(idle);
    }

    /// Sends everybody away who waits, to look for another node.
    pub fn turn_away(&self) {
        let waiters = std::mem::take(&mut self.state.lock().waiters);
        for waiter in waiters {
            waiter.place.give(Err(CheckOutError::Closed));
        }
    }

    /// Closes the idle connections now and those in use when they come back, and sends away who waits.
    pub fn drain(self: &Arc<Self>) {
        self.turn_away();
        self.reconnect();
        self.publish();
    }

    /// Closes the connections that `unwanted` names: idle ones now, those in use when they come back. Returns how many they are.
    pub fn retire(self: &Arc<Self>, unwanted: impl Fn(&ServerInfo) -> bool) -> usize {
        let mut state = self.state.lock();
        let mut retired = 0;
        for info in state.servers.iter().filter(|info| !info.is_close_needed() && unwanted(info)) {
            info.set_close_needed();
            retired += 1;
        }
        let idle = state.take_idle_if(|conn| conn.info.is_close_needed());
        for conn in &idle {
            state.forget(&conn.info);
            self.metrics.closed(CloseCause::Reconnect);
        }
        self.open_for_waiters(&mut state);
        drop(state);
        drop(idle);
        retired
    }

    /// Closes the idle connections (PAUSE).
    fn close_idle(&self) {
        let mut state = self.state.lock();
        let idle = self.take_idle(&mut state);
        drop(state);
        drop(idle);
    }

    fn take_idle(&self, state: &mut State) -> Vec<state::Owned> {
        let idle = state.take_idle();
        for conn in &idle {
            state.forget(&conn.info);
            self.metrics.closed(CloseCause::Reconnect);
        }
        idle
    }

    /// Opens connections for those who have waited for the end of a pause.
    fn go_on(self: &Arc<Self>) {
        self.open_for_waiters(&mut self.state.lock());
    }

    /// The node answers again: who waits for the next attempt to open a connection need not any longer. What was idle meanwhile may never
    /// answer, as when the way there was another one: it is checked before it is used.
    pub fn try_again(self: &Arc<Self>) {
        self.give_openings_up();
        let mut state = self.state.lock();
        if let Some(delay) = state.settings.check_delay {
            state.age_idle(delay, Instant::now());
        }
        if state.backoff.end() {
            self.open_for_waiters(&mut state);
        }
    }

    /// Connections that are open or being opened.
    pub fn held(&self) -> usize {
        let state = self.state.lock();
        state.open + state.opening
    }

    /// Connections in use that are closed when they come back.
    fn to_be_closed(&self) -> usize {
        self.state.lock().servers.iter().filter(|info| info.is_close_needed()).count()
    }

    /// Closes the pool: waiters get [`CheckOutError::Closed`], idle connections are closed, leased ones when they come back.
    pub fn close(self: &Arc<Self>) {
        self.closed.store(true, Ordering::Release);
        self.reconnect();
        self.turn_away();
        self.publish();
    }

    /// Numbers now.
    pub fn counts(&self) -> PoolCounts {
        let state = self.state.lock();
        let tested = state.servers.iter().filter(|info| info.state() == ServerState::Tested).count();
        let idle = state.idle_len();
        PoolCounts {
            idle,
            tested,
            active: state.open.saturating_sub(idle + tested),
            opening: state.opening,
            waiting: state.waiters.iter().filter(|waiter| waiter.is_waiting()).count(),
            max_wait_us: state
                .waiters
                .iter()
                .find(|waiter| waiter.is_waiting())
                .map_or(0, |waiter| u64::try_from(waiter.since.elapsed().as_micros()).unwrap_or(u64::MAX)),
        }
    }

    /// Facts about every open connection, for `SHOW SERVERS`.
    pub fn servers(&self) -> Vec<Arc<ServerInfo>> {
        self.state.lock().servers.clone()
    }

    /// Writes the pool's gauges.
    pub fn publish(&self) {
        let counts = self.counts();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.metrics.set(PoolGauges {
            active: number(counts.active + counts.tested),
            idle: number(counts.idle),
            opening: number(counts.opening),
            waiting: number(counts.waiting),
            size: self.settings().size,
        });
    }
}

/// Whether a connection is older than any may be by these settings.
fn is_too_old(conn: &ServerConn, settings: &PoolSettings, now: Instant) -> bool {
    let Some(lifetime) = settings.lifetime else { return false };
    let age = now.duration_since(conn.opened);
    // Seldom: what follows costs more.
    age >= lifetime / 2 && age >= lifetime.mul_f64(conn.jitter)
}
