//! Time-outs of a session: idle, idle in a transaction, the statement's and the transaction's. Off is `None` (trap 82).

use std::task::Context as Cx;
use std::time::Duration;

use quanta::Instant;
use tokio::time::Instant as TokioInstant;

use crate::observe::Blame;
use crate::route::Failing;
use crate::wire::{ErrorNotice, SqlState};

use super::machine::State;
use super::relay::{Ending, Session};

/// Which time-out it is.
#[derive(Debug, Clone, Copy)]
enum Limit {
    Idle,
    IdleInTransaction,
    Pinned,
    Query,
    Listen,
    Transaction,
}

/// Longest time that a client waits until its channels are listened on.
const LISTEN_PATIENCE: Duration = Duration::from_secs(30);

impl Session {
    /// The time-out that ends first in the present state: how much of it is left, how long it is, and what it says.
    fn limit(&self) -> Option<(Duration, Duration, Limit)> {
        if self.notify.is_holding() {
            return Some((LISTEN_PATIENCE.saturating_sub(self.since.elapsed()), LISTEN_PATIENCE, Limit::Listen));
        }
        let settings = &self.pool_settings;
        let (limit, kind) = match &self.state {
            State::Idle if self.deferred.is_open() => (settings.idle_transaction_timeout, Limit::IdleInTransaction),
            State::Idle => (settings.client_idle_timeout, Limit::Idle),
            State::Linked(link) if link.replies.is_empty() && self.block_is_on(link.status) => {
                (settings.idle_transaction_timeout, Limit::IdleInTransaction)
            }
            State::Linked(link) if link.replies.is_empty() => {
                let pinned = self.ctx.config.load().client.pinned_idle_timeout.filter(|_| !self.pins.is_empty());
                match (pinned, settings.client_idle_timeout) {
                    (Some(pinned), Some(idle)) if idle < pinned => (Some(idle), Limit::Idle),
                    (Some(pinned), _) => (Some(pinned), Limit::Pinned),
                    (None, idle) => (idle, Limit::Idle),
                }
            }
            State::Linked(_) => (settings.query_timeout, Limit::Query),
            _ => return None,
        };
        let left = |limit: Duration| limit.saturating_sub(self.since.elapsed());
        let present = limit.map(|limit| (left(limit), limit, kind));
        let owing = settings.idle_transaction_timeout.filter(|_| self.client_owes_the_rest());
        let owing = owing.map(|limit| (left(limit), limit, Limit::IdleInTransaction));
        let present = [present, owing].into_iter().flatten().min_by_key(|(left, ..)| *left);
        let Some(limit) = settings.transaction_timeout else { return present };
        // A statement outside a block is a transaction of its own.
        let running = match &self.state {
            State::Linked(link) => self.block_is_on(link.status) || !link.replies.is_empty(),
            State::Idle => self.deferred.is_open(),
            _ => false,
        };
        let transaction =
            running.then(|| (limit.saturating_sub(self.timing.transaction_age()), limit, Limit::Transaction));
        [present, transaction].into_iter().flatten().min_by_key(|(left, ..)| *left)
    }

    /// Whether the server waits, with all that it was sent, for the rest of what the client has begun: a message, or a sequence of
    /// them. Its connection is nobody else's until then.
    fn client_owes_the_rest(&self) -> bool {
        match &self.state {
            State::Linked(link) if !link.backlog.is_empty() => false,
            State::Linked(link) => self.client_pass > 0 || (link.segment_open && link.replies.is_empty()),
            _ => false,
        }
    }

    /// Arms the timer for the present state and looks whether it is over. The timer is left alone while it stands earlier
    /// than needed: a statement costs no timer operation.
    pub(super) fn poll_timer(&mut self, cx: &mut Cx<'_>) -> Option<Ending> {
        if matches!(self.state, State::Idle)
            && let Err(ending) = self.refresh()
        {
            return Some(ending);
        }
        loop {
            let (left, limit, kind) = self.limit()?;
            if left.is_zero() {
                match self.time_is_over(limit, kind) {
                    None => continue,
                    ending => return ending,
                }
            }
            let at = TokioInstant::now() + left;
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if timer.is_elapsed() || timer.deadline() > at {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return None;
            }
        }
    }

    fn time_is_over(&mut self, limit: Duration, kind: Limit) -> Option<Ending> {
        let told = |code, message: &'static str| {
            Some(Ending::Told(Box::new(ErrorNotice::fatal(code, message)), Blame::Client))
        };
        match kind {
            Limit::Idle => told(SqlState::IDLE_SESSION_TIMEOUT, "terminating connection due to idle-session timeout"),
            Limit::IdleInTransaction => {
                told(SqlState::IDLE_IN_TRANSACTION_TIMEOUT, "terminating connection due to idle-in-transaction timeout")
            }
            Limit::Listen => Some(Ending::Told(Box::new(self.notify.gave_up()), Blame::Network)),
            Limit::Transaction => {
                told(SqlState::TRANSACTION_TIMEOUT, "terminating connection due to transaction timeout")
            }
            Limit::Pinned => {
                let reasons = self.pins.describe();
                let message = format!("terminating connection due to pinned_idle_timeout (pinned by {reasons})");
                let notice = ErrorNotice::fatal(SqlState::IDLE_SESSION_TIMEOUT, message)
                    .detail("The session kept a server connection to itself and did not use it.")
                    .hint("Give the state up when it is no longer needed, or raise pinned_idle_timeout.");
                Some(Ending::Told(Box::new(notice), Blame::Client))
            }
            Limit::Query if self.query_cancelled => {
                if self.timing.breaks {
                    self.note_failing(Failing::TimedOut);
                }
                told(SqlState::QUERY_CANCELED, "query_timeout passed and the server did not stop the statement")
            }
            Limit::Query => {
                tracing::info!(client = self.client.id, ?limit, "statement cancelled by query_timeout");
                self.query_cancelled = true;
                self.since = Instant::now();
                let (clients, key) = (self.ctx.clients.clone(), self.client.key.clone());
                drop(tokio::spawn(async move { super::cancel(&clients, &key).await }));
                None
            }
        }
    }
}
