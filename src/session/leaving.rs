//! Leaving a server connection on which nothing of the client's has run: what waits for one gets another, or the session ends.

use crate::backend::reserved;
use crate::observe::{Blame, Moment};
use crate::route::RerunCause;
use crate::wire::{ErrorNotice, SqlState, TxStatus};

use super::clearing::clear;
use super::machine::State;
use super::pins::Pins;
use super::relay::{Ending, Session};
use super::rerun::cause_of;

impl Session {
    /// Whether nothing has been sent on the link that it still has to answer for, nor anything kept there: its end is nobody's
    /// concern (trap 71). A server that goes away tells its idle connections so, also those that were just given out.
    pub(super) fn is_link_unused(&self) -> bool {
        let State::Linked(link) = &self.state else { return false };
        link.status == TxStatus::Idle
            && link.replies.is_empty()
            && link.backlog.is_empty()
            && !link.segment_open
            && !link.copy_in
            && link.pass == 0
            && link.copy_syncs == 0
            && !link.rerun.is_due()
            && self.client_pass == 0
            && self.pins.is_empty()
            && !self.keeps_lease
            && !self.sight.is_writing()
    }

    /// Closes the connection of a link that is unused. What waits in the inbox gets another one.
    pub(super) fn leave_unused(&mut self) {
        self.client.unassign();
        self.transition(State::Idle);
        self.resumed = true;
        self.segment_cleared = false;
    }

    /// A cancel request has struck the beginning of the client's block, of which it knows nothing, and the client was told so in answer to
    /// the first statement: that never ran, and the block has failed. The connection is closed, as it skips whatever comes.
    pub(super) fn fail_unbegun(&mut self) {
        self.client.unassign();
        self.timing.failed(SqlState::QUERY_CANCELED);
        self.metrics.error(SqlState::QUERY_CANCELED, Blame::Client);
        self.statement_ended(self.now, false);
        let Self { state: State::Linked(link), names, deferred, sight, .. } = self else { return };
        deferred.begin_anew();
        deferred.fail();
        sight.ready(Moment::of(self.now), link.incarnation, TxStatus::Idle, false, true);
        let (has_ended, is_sent) = (link.replies.owes_client(), link.replies.answers_client());
        link.replies.undo(names, &mut link.lease.prepared);
        names.bound = None;
        // All of these came with that statement: a session that has any begins its blocks on its own connection.
        (self.pins, self.fresh_pins, self.releasing) = (Pins::empty(), Pins::empty(), Pins::empty());
        self.scripts.clear();
        self.own_portals.clear();
        self.pass_is_dropped = self.client_pass > 0;
        self.transition(State::Idle);
        (self.resumed, self.segment_cleared, self.skip_to_sync) = (true, false, is_sent && !has_ended);
        if has_ended {
            self.answer_ready();
        } else if !is_sent {
            // It waited for the block.
            self.drop_refused();
        }
    }

    /// A replica refused what the session has set, or was kept from taking it by replay, and what the client has sent came right behind
    /// that. Nothing of its answer is told, and if it can be taken back it runs on the primary, which has the last word on the settings.
    pub(super) fn plan_without_refused(&mut self) {
        let Some(link) = self.link() else { return };
        // What awaits the settings has not been sent.
        if link.primary || link.awaits_settings || !link.rerun.is_possible() {
            return;
        }
        let error = link.settings_refused.as_deref().unwrap_or_default().to_vec();
        self.forget_refused(&error);
        self.note_refusal(&error);
        self.plan_rerun(cause_of_refusal(&error), ErrorNotice::sqlstate_of(&error), error, None);
    }

    /// Leaves the connection for that. It is closed, not put back: of several settings some may be in force. A statement that
    /// runs there without them is cancelled, and counts for its pool until it has ended.
    pub(super) fn leave_refusing(&mut self) {
        if !matches!(&self.state, State::Linked(link) if link.settings_refused.is_some() && link.rerun.is_due()) {
            return;
        }
        self.take_back();
        if let State::Linked(link) = self.transition(State::Idle)
            && !link.replies.is_empty()
        {
            let within_message = !link.backlog.is_empty();
            drop(tokio::spawn(async move { drop(clear(*link, within_message, false).await) }));
        }
    }

    /// The server has refused a setting for its name. On a single one it would have been taken away when that became an extension's own.
    fn forget_refused(&mut self, error: &[u8]) -> bool {
        let message = ErrorNotice::field_of(error, b'M').unwrap_or_default();
        let is_of_name = ErrorNotice::sqlstate_of(error) == SqlState::INVALID_NAME;
        let Some(name) = std::str::from_utf8(message).ok().filter(|_| is_of_name).and_then(reserved::refused_in) else {
            return false;
        };
        self.tracked.forget(name);
        self.placement.observe(self.tracked.settings());
        true
    }

    fn note_refusal(&self, error: &[u8]) {
        let code = ErrorNotice::sqlstate_of(error);
        tracing::warn!(database = self.client.database, user = self.client.user, %code, "a server refused the settings of a session");
    }

    /// The server refused what the session has set. What could not have run without that yet runs elsewhere: on the primary, if it was
    /// a replica, which may not know of a role yet; on another connection, if a time-out struck that a client before has left, or if it
    /// was what a client before has done there that stood against a setting.
    ///
    /// # Errors
    /// There is nowhere else: the session ends.
    pub(super) fn settings_refused(&mut self) -> Result<(), Ending> {
        let Some(link) = self.link() else { return Ok(()) };
        let error = link.settings_refused.clone().unwrap_or_default();
        let (sent, on_replica, committing) = (!link.awaits_settings, !link.primary, link.refused_with_commit);
        let code = ErrorNotice::sqlstate_of(&error);
        let is_old =
            matches!(&self.state, State::Linked(link) if link.lease.is_set_in_its_ways(self.tracked.settings()));
        let struck = code == SqlState::QUERY_CANCELED || (code == SqlState::INVALID_PARAMETER_VALUE && is_old);
        self.note_refusal(&error);
        if self.forget_refused(&error) && !sent && self.is_link_unused() {
            self.leave_unused();
            return Ok(());
        }
        if !sent && (on_replica || struck) && self.is_link_unused() {
            if !struck {
                self.plan_rerun(cause_of_refusal(&error), code, error.into_vec(), None);
            }
            self.leave_unused();
            return Ok(());
        }
        let said = String::from_utf8_lossy(ErrorNotice::field_of(&error, b'M').unwrap_or_default()).into_owned();
        let outcome = if sent {
            "Whether the statement that followed was executed is not known."
        } else {
            "The statement that followed was not executed."
        };
        let unknown = sent && committing;
        let notice = ErrorNotice::fatal(
            if unknown { SqlState::RESOLUTION_UNKNOWN } else { SqlState::CONNECTION_FAILURE },
            "the session's settings could not be applied to another server connection",
        )
        .detail(format!("The server said: {said} ({code}). {outcome}"))
        .hint("What was set earlier is not accepted any more: connect again.");
        Err(Ending::Told(Box::new(notice), Blame::Server))
    }
}

/// Why a replica has refused settings.
fn cause_of_refusal(error: &[u8]) -> RerunCause {
    let routine = ErrorNotice::field_of(error, b'R').unwrap_or_default();
    cause_of(ErrorNotice::sqlstate_of(error), routine, false).unwrap_or(RerunCause::Lag)
}
