//! Leaving a server connection on which nothing of the client's has run: what waits for one gets another, or the session ends.

use crate::observe::Blame;
use crate::route::RerunCause;
use crate::wire::{ErrorNotice, SqlState, TxStatus};

use super::machine::State;
use super::relay::{Ending, Session};

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

    /// The server refused what the session has set. What could not have run without that yet runs elsewhere: on the primary, if it was
    /// a replica, which may not know of a role yet; on another connection, if a time-out struck that a client before has left.
    ///
    /// # Errors
    /// There is nowhere else: the session ends.
    pub(super) fn settings_refused(&mut self) -> Result<(), Ending> {
        let Some(link) = self.link() else { return Ok(()) };
        let error = link.settings_refused.clone().unwrap_or_default();
        let (sent, on_replica, committing) = (!link.awaits_settings, !link.primary, link.refused_with_commit);
        let code = ErrorNotice::sqlstate_of(&error);
        let struck = code == SqlState::QUERY_CANCELED;
        tracing::warn!(database = self.client.database, user = self.client.user, %code, "a server refused the settings of a session");
        if !sent && (on_replica || struck) && self.is_link_unused() {
            if !struck {
                self.plan_rerun(RerunCause::Lag, code, Vec::new(), None);
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
