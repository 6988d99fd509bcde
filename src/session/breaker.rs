//! A statement that keeps failing is refused for a while (`breaker_failures`): what is asked before it goes out, and told when it has ended.

use std::time::{Duration, Instant};

use crate::route::{Failing, Passage};
use crate::sql::{Effects, Fingerprint, fingerprint, normalize};
use crate::wire::{ErrorNotice, SqlState, TxStatus};

use super::machine::State;
use super::relay::Session;
use super::timing::KEPT_TEXT;

/// Bytes of a statement's text without literals that are shown.
const SHOWN_TEXT: usize = 1000;

/// Statements that mean what others have prepared under that name, or what a block has done: their texts say nothing.
const NO_TEXT: Effects =
    Effects::SQL_EXECUTE.union(Effects::CURSOR).union(Effects::BEGIN).union(Effects::TX_END).union(Effects::SAVEPOINT);

/// Whether a statement is known by its text at all.
fn is_known_by(text: &[u8], effects: Effects) -> bool {
    !text.is_empty() && (effects.contains(Effects::MULTI) || !effects.intersects(NO_TEXT))
}

impl Session {
    /// Why the statement is not run, if it is one that has failed too often of late.
    #[cold]
    pub(super) fn broken(&mut self, text: &[u8], effects: Effects) -> Option<ErrorNotice> {
        // Whoever is in a block that a server knows of has it run there: it would have to fail that, too.
        let in_block = matches!(&self.state, State::Linked(link) if link.status != TxStatus::Idle);
        if (in_block && !self.deferred.is_open()) || !is_known_by(text, effects) {
            return None;
        }
        let key = self.fingerprint_of(text);
        if self.timing.trial == Some(key) {
            // It had to wait for a connection.
            return None;
        }
        let settings = self.pools.cluster.database.routing.breaker;
        match self.decisions.breaker().ask(&self.client.user, key, &settings, Instant::now()) {
            Passage::Free => None,
            Passage::Trial => {
                self.timing.trial = Some(key);
                None
            }
            Passage::Refused(left) => {
                self.metrics.broken();
                let message = "this statement is refused: it has failed too often of late";
                let notice = ErrorNotice::error(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message)
                    .detail(format!(
                        "It ran into its time-out, or lost its server, {} times within {:?} (breaker_failures, breaker_window); fingerprint {key}.",
                        settings.failures, settings.window
                    ))
                    .hint(format!(
                        "One is let through as a trial in {} seconds (breaker_pause). FORGET BREAKERS on the admin console ends this at once.",
                        left.as_secs_f64().ceil()
                    ));
                Some(notice)
            }
        }
    }

    /// A statement goes out: a trial that is another one's is given up.
    #[cold]
    pub(super) fn begin_trial(&mut self, text: &[u8]) {
        let key = self.fingerprint_of(text);
        self.timing.trial = self.timing.trial.filter(|trial| *trial == key);
    }

    /// The statement under way has ended, with this error or none.
    pub(super) fn judge_for_breaker(&mut self, error: Option<SqlState>) {
        let cancelled = error == Some(SqlState::QUERY_CANCELED);
        // By a time-out, unless the client has asked for it.
        if cancelled && (self.query_cancelled || self.client.cancels_sent() == self.timing.cancels) {
            self.note_failing(Failing::TimedOut);
        } else if let Some(trial) = self.timing.trial.take()
            && !cancelled
        {
            tracing::info!(database = self.client.database, fingerprint = %trial, "a statement that was refused runs again");
            self.decisions.breaker().passed(&self.client.user, trial);
        }
    }

    /// The connection is lost, and its server has not said why, while a statement was under way.
    pub(super) fn note_lost_for_breaker(&mut self) {
        let told = matches!(&self.state, State::Linked(link) if link.dying);
        if self.timing.breaks && self.timing.is_running() && !told {
            self.note_failing(Failing::Lost);
        }
    }

    /// The statement under way has failed in a way that counts.
    #[cold]
    pub(super) fn note_failing(&mut self, how: Failing) {
        self.timing.trial = None;
        // Of several that were sent together nobody knows which it was.
        let Some(text) = self.timing.only_text().filter(|text| is_known_by(text, self.timing.effects())) else {
            return;
        };
        let key = self.fingerprint_of(text);
        let settings = self.pools.cluster.database.routing.breaker;
        let shown = || {
            let mut shown = normalize(text, self.lex);
            shown.truncate(shown.floor_char_boundary(SHOWN_TEXT));
            shown
        };
        if self.decisions.breaker().failed(&self.client.user, key, how, shown, &settings, Instant::now()) {
            tracing::warn!(
                database = self.client.database,
                user = self.client.user,
                fingerprint = %key,
                last = how.as_str(),
                pause = ?settings.pause,
                "a statement has failed too often: it is refused for a while (SHOW BREAKERS)"
            );
        }
    }

    fn fingerprint_of(&self, text: &[u8]) -> Fingerprint {
        fingerprint(&text[..text.len().min(KEPT_TEXT)], self.lex)
    }
}

/// Whether time-outs and losses are counted with these settings.
pub(super) fn breaks(settings: &crate::config::BreakerSettings) -> bool {
    settings.failures > 0 && settings.window > Duration::ZERO
}
