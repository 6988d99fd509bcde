//! Opening connections, in tasks of their own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quanta::Instant;

use crate::backend::{self, OpenError, ServerConn};
use crate::observe::Moment;

use super::cap::{Places, Turn};
use super::state::State;
use super::{CheckOutError, Pool, home};

/// Most connections that one pool opens at the same time: a herd of clients after a restart must not become a herd of logins.
const MAX_OPENING: usize = 4;

/// An opening that has lasted for so long is given up when its node is found not to answer, or to answer again: a connection that was
/// begun while the node was away may never get an answer.
const PATIENCE: Duration = Duration::from_secs(1);

impl Pool {
    /// Starts as many openings as the waiters need and the limits allow.
    pub(super) fn open_for_waiters(self: &Arc<Self>, state: &mut State) {
        self.open_for_waiters_in(Turn::Own, state);
    }

    pub(super) fn open_for_waiters_in(self: &Arc<Self>, turn: Turn, state: &mut State) {
        while self.wants_one_now(state) {
            let since = state.oldest_wait();
            if !self.start_opening(state, turn, since) {
                return;
            }
        }
    }

    /// Whether another opening is to be started now, as far as this pool is concerned.
    pub(super) fn wants_one_now(&self, state: &State) -> bool {
        if state.waiters.is_empty() || self.gate.is_paused() || state.backoff.is_on(Instant::now()) {
            return false;
        }
        // After a failure one goes ahead.
        let most = if state.backoff.is_careful() { 1 } else { MAX_OPENING };
        state.opening < most && state.wanted() > 0
    }

    /// Starts one opening; the caller has looked at the pool's size. `false` when a limit over several pools is reached: then
    /// room is made for a client that waits since `since`.
    pub(super) fn start_opening(self: &Arc<Self>, state: &mut State, turn: Turn, since: Option<Instant>) -> bool {
        let Some(places) = Places::take(&self.caps, turn, since) else { return false };
        state.opening += 1;
        let pool = self.clone();
        let epoch = state.epoch;
        home::spawn(async move { pool.open_one(epoch, places).await });
        true
    }

    async fn open_one(self: Arc<Self>, epoch: u64, places: Places) {
        let mut guard = OpeningGuard { pool: &self, done: false };
        let settings = self.settings();
        let opening = async {
            let mut conn = backend::open(&self.spec, &self.connect_options()).await?;
            backend::greet(&mut conn, &settings.connect_query).await?;
            Ok(conn)
        };
        let in_time = async {
            match settings.connect_timeout {
                Some(limit) => tokio::time::timeout(limit, opening).await.unwrap_or(Err(OpenError::Timeout)),
                None => opening.await,
            }
        };
        let result = tokio::select! {
            biased;
            result = in_time => result,
            () = self.given_up() => Err(OpenError::GivenUp),
        };
        guard.done = true;
        match result {
            Ok(conn) => self.take_opened(conn, epoch, places),
            Err(error) => {
                drop(places);
                self.opening_failed(error);
            }
        }
    }

    /// Gives up the openings that have lasted for long: their node does not answer, or answers again.
    pub fn give_openings_up(&self) {
        self.hopeless.notify_waiters();
    }

    /// Until an opening that begins now is given up.
    async fn given_up(&self) {
        let began = Instant::now();
        loop {
            self.hopeless.notified().await;
            if began.elapsed() >= PATIENCE {
                return;
            }
        }
    }

    fn take_opened(self: &Arc<Self>, mut conn: ServerConn, epoch: u64, places: Places) {
        conn.home = home::current();
        conn.epoch = epoch;
        conn.jitter = fastrand::f64().mul_add(-0.1, 1.0);
        if conn.parameters.in_hot_standby().is_some_and(|standby| standby == self.load.is_primary()) {
            // It has another role than we believe: somebody has to look (trap 69).
            self.load.probe.notify_one();
        }
        self.failed.store(Moment::NEVER.nanos(), Ordering::Relaxed);
        self.metrics.opened();
        tracing::debug!(pool = %self.spec, pid = conn.info.cancel.pid, "server connection opened");
        let mut state = self.state.lock();
        state.opening -= 1;
        state.opened(conn.info.clone(), places);
        state.backoff.end();
        drop(state);
        self.put_back(Box::new(conn), Instant::now());
        // Its turn is over: whoever waits beyond it may have the next one.
        self.go_on();
    }

    /// All waiters learn of the failure when nothing else is open or opening that could
    /// serve them; while other connections live they go on waiting for those (trap 67), and where a primary is full, as one may be that was
    /// promoted a moment ago, for what others give up. The next attempt is made after a pause.
    fn opening_failed(self: &Arc<Self>, error: OpenError) {
        self.failed.store(Moment::now().nanos(), Ordering::Relaxed);
        self.metrics.open_failed();
        let now = Instant::now();
        match self.load.complaints.line(now) {
            Some(0) => tracing::warn!(pool = %self.spec, %error, "cannot open a server connection"),
            Some(left_out) => {
                tracing::warn!(pool = %self.spec, %error, left_out, "cannot open a server connection")
            }
            None => {}
        }
        // What is given up was asked for by who checks the node's health.
        if error.says_node_is_down() && !matches!(error, OpenError::GivenUp) {
            self.load.suspect();
        }
        let error = Arc::new(error);
        let mut state = self.state.lock();
        state.opening -= 1;
        state.failure = Some(error.clone());
        if let Some(pause) = state.backoff.failed(now) {
            let pool = Arc::downgrade(self);
            home::spawn(async move {
                // Not a moment too early.
                tokio::time::sleep(pause + Duration::from_millis(1)).await;
                if let Some(pool) = pool.upgrade() {
                    pool.go_on();
                }
            });
        }
        if state.open > 0 || state.opening > 0 || self.gate.is_paused() {
            return;
        }
        let is_full = error.says_server_is_full() && self.load.is_primary();
        let all = std::mem::take(&mut state.waiters).into_iter();
        let (patient, waiters): (VecDeque<_>, _) = all.partition(|waiter| is_full && waiter.is_patient);
        state.waiters = patient;
        drop(state);
        for waiter in waiters {
            waiter.place.give(Err(CheckOutError::Open(error.clone())));
        }
    }
}

/// Takes the attempt back when its task is dropped half-way (the runtime ends).
struct OpeningGuard<'a> {
    pool: &'a Arc<Pool>,
    done: bool,
}

impl Drop for OpeningGuard<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.pool.state.lock().opening -= 1;
        }
    }
}
