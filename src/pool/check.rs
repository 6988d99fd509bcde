//! Looking at connections before they are used again, and making them as new after a reset.

use std::sync::Arc;
use std::time::Duration;

use quanta::Instant;

use crate::backend::{self, ServerConn, ServerState};
use crate::config::PoolSettings;
use crate::net::IdleCheck;
use crate::observe::CloseCause;

use super::state::{Owned, State};
use super::{Pool, home};

/// Longest time that a server may take to answer a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that was idle for so long costs a system call more before it is used; under load none is.
const COLD: Duration = Duration::from_millis(1);

/// The setting that ends idle sessions. Without a client there is none.
pub(super) const IDLE_TIMEOUT: &str = "idle_session_timeout";

/// Whether the server has not closed an idle connection (trap 71): nothing can have run on one that was closed before a
/// statement is written to it. Its reactor knows without a system call, if it has been asked since: at the beginning of this turn.
pub(super) fn is_open(conn: &mut ServerConn, now: Instant) -> bool {
    if !conn.stream.is_quiet() {
        return false;
    }
    let asked_since = conn.home == home::current() && conn.idle_turn < home::turn();
    asked_since || now.duration_since(conn.idle_since) < COLD || conn.stream.idle_check() == IdleCheck::Quiet
}

/// Whether a connection has been idle for so long that the server is asked whether it still answers.
pub(super) fn is_due(conn: &ServerConn, settings: &PoolSettings, now: Instant) -> bool {
    !settings.check_query.is_empty()
        && settings.check_delay.is_some_and(|delay| now.duration_since(conn.idle_since) >= delay)
}

impl Pool {
    /// Starts the checks of as many idle connections as clients wait. A client gets its connection after the check, from the
    /// line: one that gives up meanwhile swallows nothing (trap 81).
    pub(super) fn check_for_waiters(self: &Arc<Self>, state: &mut State) {
        while state.checking < state.waiters.len() {
            let Some(conn) = state.pop_idle(home::current()) else { return };
            state.checking += 1;
            conn.info.set_state(ServerState::Tested, 0);
            self.start_work(conn, Work::Check);
        }
    }

    /// Takes out what would be asked before its use, too. One that gives no answer is rarely alone, as when a firewall has forgotten what
    /// was idle: who waits must not wait for each of them in turn.
    fn take_due(&self, state: &mut State) -> Vec<Owned> {
        let (settings, now) = (state.settings.clone(), Instant::now());
        let due = state.take_idle_if(|conn| is_due(conn, &settings, now));
        for conn in &due {
            state.forget(&conn.info);
            self.metrics.closed(CloseCause::Error);
        }
        due
    }

    /// Whether `connect_query` must run again before anybody gets the connection.
    pub(super) fn greet_again(&self, conn: &mut ServerConn) -> bool {
        let needed = !self.settings().connect_query.is_empty();
        conn.greeted = !needed;
        needed
    }

    pub(super) fn start_greeting(self: &Arc<Self>, conn: Box<ServerConn>) {
        conn.info.set_state(ServerState::Tested, 0);
        self.start_work(conn, Work::Greet);
    }

    /// Takes back what a client has set to end its session when that is idle: the server would end the connection, and tell it to whoever
    /// takes it at that moment.
    pub(super) fn start_disarming(self: &Arc<Self>, conn: Box<ServerConn>) {
        conn.info.set_state(ServerState::Tested, 0);
        self.start_work(conn, Work::Disarm);
    }

    fn start_work(self: &Arc<Self>, mut conn: Box<ServerConn>, work: Work) {
        let pool = self.clone();
        home::spawn(async move {
            let mut under = UnderWork { pool, info: conn.info.clone(), work, done: false, silent: false };
            let settings = under.pool.settings();
            let asked = async {
                match work {
                    Work::Check => {
                        backend::run(&mut conn, settings.check_query.as_bytes()).await.is_ok_and(|e| e.is_none())
                    }
                    Work::Greet => backend::greet(&mut conn, &settings.connect_query).await.is_ok(),
                    Work::Disarm => {
                        let rest = conn.settings.with(IDLE_TIMEOUT, None);
                        backend::apply_settings(&mut conn, &rest).await.is_ok_and(|refusal| refusal.is_none())
                    }
                }
            };
            let answer = tokio::time::timeout(CHECK_TIMEOUT, asked).await;
            if answer == Ok(true) {
                under.finish();
                under.pool.put_back(conn, Instant::now());
            } else {
                under.silent = answer.is_err();
                tracing::info!(pool = %under.pool.spec, pid = conn.info.cancel.pid, ?work, "server connection failed its check: closed");
            }
        });
    }
}

/// What is being done with a connection that is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// `check_query`.
    Check,
    /// `connect_query` after a reset.
    Greet,
    /// [`IDLE_TIMEOUT`] is reset.
    Disarm,
}

/// A connection under work: forgotten by its pool when the work fails, or its task is dropped.
struct UnderWork {
    pool: Arc<Pool>,
    info: Arc<backend::ServerInfo>,
    work: Work,
    done: bool,
    /// There was no answer at all.
    silent: bool,
}

impl UnderWork {
    fn finish(&mut self) {
        self.done = true;
        if self.work == Work::Check {
            self.pool.state.lock().checking -= 1;
        }
    }
}

impl Drop for UnderWork {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.finish();
        let mut state = self.pool.state.lock();
        state.forget(&self.info);
        self.pool.metrics.closed(CloseCause::Error);
        let is_suspicious = self.silent && self.work == Work::Check;
        let suspects = if is_suspicious { self.pool.take_due(&mut state) } else { Vec::new() };
        self.pool.check_for_waiters(&mut state);
        self.pool.open_for_waiters(&mut state);
        drop(state);
        drop(suspects);
    }
}
