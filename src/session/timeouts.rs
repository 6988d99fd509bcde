//! Time-outs of a session: idle, idle in a transaction, and the statement's.

use std::task::Context as Cx;
use std::time::Duration;

use quanta::Instant;
use tokio::time::Instant as TokioInstant;

use crate::observe::Blame;
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
}

impl Session {
    /// The time-out that holds in the present state, and what it says.
    fn limit(&self) -> Option<(Duration, Limit)> {
        let client = &self.ctx.config.load().client;
        match &self.state {
            State::Idle if self.deferred.is_open() => {
                client.idle_transaction_timeout.map(|limit| (limit, Limit::IdleInTransaction))
            }
            State::Idle => client.idle_timeout.map(|limit| (limit, Limit::Idle)),
            State::Linked(link) if link.replies.is_empty() && link.status.in_block() => {
                client.idle_transaction_timeout.map(|limit| (limit, Limit::IdleInTransaction))
            }
            State::Linked(link) if link.replies.is_empty() => {
                let pinned = client.pinned_idle_timeout.filter(|_| !self.pins.is_empty());
                let idle = client.idle_timeout.map(|limit| (limit, Limit::Idle));
                match (pinned, idle) {
                    (Some(pinned), Some((idle, _))) if idle < pinned => Some((idle, Limit::Idle)),
                    (Some(pinned), _) => Some((pinned, Limit::Pinned)),
                    (None, idle) => idle,
                }
            }
            State::Linked(_) => self.pool_settings.query_timeout.map(|limit| (limit, Limit::Query)),
            _ => None,
        }
    }

    /// Arms the timer for the present state and looks whether it is over. The timer is left alone while it stands earlier
    /// than needed: a statement costs no timer operation.
    pub(super) fn poll_timer(&mut self, cx: &mut Cx<'_>) -> Option<Ending> {
        loop {
            let (limit, kind) = self.limit()?;
            let elapsed = self.since.elapsed();
            if elapsed >= limit {
                return self.time_is_over(limit, kind);
            }
            let at = TokioInstant::now() + (limit - elapsed);
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
            Limit::Pinned => {
                let reasons = self.pins.describe();
                let message = format!("terminating connection due to pinned_idle_timeout (pinned by {reasons})");
                let notice = ErrorNotice::fatal(SqlState::IDLE_SESSION_TIMEOUT, message)
                    .detail("The session kept a server connection to itself and did not use it.")
                    .hint("Give the state up when it is no longer needed, or raise pinned_idle_timeout.");
                Some(Ending::Told(Box::new(notice), Blame::Client))
            }
            Limit::Query if self.query_cancelled => {
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
