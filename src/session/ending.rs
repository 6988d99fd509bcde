//! Endings of a session that others bring about: administrators, and servers.

use crate::observe::Blame;
use crate::wire::{ErrorNotice, SqlState};

use super::clients::Request;
use super::machine::State;
use super::relay::{Ending, Session};

impl Ending {
    /// The program ends, or wants to be rid of the session.
    pub fn shutdown(message: &'static str) -> Self {
        let notice = ErrorNotice::fatal(SqlState::ADMIN_SHUTDOWN, message).hint("Connect again.");
        Self::Told(Box::new(notice), Blame::Proxy)
    }

    /// An administrator, or the end of the program's patience.
    pub fn killed() -> Self {
        Self::shutdown("terminating connection due to administrator command")
    }

    /// The client has prepared more than is kept for one.
    pub fn too_many_names() -> Self {
        let message = "terminating connection: its prepared statements take too much memory";
        let notice = ErrorNotice::fatal(SqlState::PROGRAM_LIMIT_EXCEEDED, message);
        Self::Told(Box::new(notice.hint("Close or DEALLOCATE statements that are not needed any more.")), Blame::Client)
    }
}

impl Session {
    /// What others have asked of the session.
    pub(super) fn poll_requests(&mut self) -> Option<Ending> {
        if self.client.requested(Request::Kill) {
            return Some(self.or_unknown(Ending::killed()));
        }
        if self.client.requested(Request::NodeDown)
            && let Err(ending) = self.look_at_lost_node()
        {
            return Some(ending);
        }
        let resting = matches!(self.state, State::Idle)
            && !self.deferred.is_open()
            && self.inbox.is_empty()
            && self.client_pass == 0;
        let kept = matches!(&self.state, State::Linked(link) if link.at_rest()) && !self.deferred.is_open();
        let told = self.to_client.is_empty() && !self.notify.is_holding();
        if self.client.requested(Request::Drain) && told && (resting || kept) {
            return Some(Ending::shutdown("terminating connection: the proxy is shutting down"));
        }
        self.forget_late_cancel();
        self.client.clear(Request::Notified);
        None
    }

    /// What is told to a client that we end: that nobody knows whether it has committed, when something may that is not answered yet. A
    /// server says 57P01 or 25P04 only of what it has rolled back. A lone statement that takes too long is cancelled, and keeps its code.
    pub(super) fn or_unknown(&self, ending: Ending) -> Ending {
        let is_lone = |notice: &ErrorNotice| {
            let in_block = matches!(&self.state, State::Linked(link) if link.status.in_block());
            notice.code == SqlState::TRANSACTION_TIMEOUT && !in_block
        };
        match ending {
            Ending::Told(notice, blame) if self.sight.is_committing() && !is_lone(&notice) => {
                let notice = ErrorNotice { code: SqlState::RESOLUTION_UNKNOWN, ..*notice };
                let notice = notice.detail(UNKNOWN_COMMIT).hint("Reconnect and look before repeating it.");
                Ending::Told(Box::new(notice), blame)
            }
            ending => ending,
        }
    }

    /// A cancel request that came between statements means none. One that came while a statement was between two connections means
    /// that one.
    pub(super) fn forget_late_cancel(&self) {
        if self.inbox.is_empty() || !(self.resumed || self.stalled) {
            self.client.clear(Request::CancelWait);
        }
    }

    /// The node of the link does not answer, and nobody knows whether it ever will; or it was the primary and is none any more. What
    /// only reads, and can run elsewhere, does. What was written to a former primary would be answered by nobody (it may wait for the
    /// standby that was promoted), or with what is lost by then. Everything else waits.
    fn look_at_lost_node(&mut self) -> Result<(), Ending> {
        self.client.clear(Request::NodeDown);
        let State::Linked(link) = &self.state else { return Ok(()) };
        let load = &link.lease.pool().load;
        // Nobody looks at that with each statement.
        let is_replaced = link.primary && load.is_replaced_at(&link.lease.info.addr);
        let is_deposed = link.primary && load.is_deposed();
        let is_void = is_replaced || (is_deposed && (self.sight.is_writing() || self.sight.is_committing()));
        if is_replaced && link.replies.is_empty() {
            return Err(Ending::Told(Box::new(deposed()), Blame::Server));
        }
        if (load.is_up() && !is_void) || link.replies.is_empty() {
            return Ok(());
        }
        match link.rerun.is_possible() {
            // It may come back, and there is no other one.
            _ if link.primary && !is_deposed && !is_replaced => Ok(()),
            true => self.leave_lost(),
            false if link.primary => Err(self.server_gone()),
            false => Ok(()),
        }
    }

    /// The server connection broke. Its last words have been passed on; a client that saw a FATAL needs no second one.
    pub(super) fn server_gone(&mut self) -> Ending {
        // Of a connection that has refused the settings nothing is passed on, its last words included.
        let dying = matches!(&self.state, State::Linked(link) if link.dying && link.settings_refused.is_none());
        if let State::Linked(link) = &self.state {
            link.lease.pool().load.probe.notify_one();
        }
        match () {
            () if dying => Ending::ClientGone,
            () if self.sight.is_committing() => Ending::Told(Box::new(commit_unknown()), Blame::Network),
            () => Ending::Told(Box::new(server_lost()), Blame::Network),
        }
    }

    /// The server has not begun the client's block, and has said why.
    ///
    /// # Errors
    /// No server will: the session ends.
    pub(super) fn begin_refused(&mut self, code: SqlState) -> Result<(), Ending> {
        if matches!(&self.state, State::Linked(link) if link.dying) {
            // The client saw the server's own FATAL.
            return Err(Ending::ClientGone);
        }
        if code == SqlState::QUERY_CANCELED {
            self.fail_unbegun();
            return Ok(());
        }
        let notice =
            ErrorNotice::fatal(SqlState::CONNECTION_FAILURE, "the transaction could not be begun on the server")
                .detail("Nothing of it was executed.")
                .hint("See the error before this one.");
        Err(Ending::Told(Box::new(notice), Blame::Server))
    }
}

/// For a session that would go on writing to a server that is the primary no more.
pub(super) fn deposed() -> ErrorNotice {
    ErrorNotice::fatal(SqlState::ADMIN_SHUTDOWN, "terminating connection: its server is no longer the primary")
        .hint("Connect again: the transaction, if there was one, is not committed.")
}

/// The error for a client whose server connection broke.
pub(super) fn server_lost() -> ErrorNotice {
    ErrorNotice::fatal(SqlState::CONNECTION_FAILURE, "the connection to the server was lost")
        .detail("What the statement or transaction in progress has done is not known, unless its result had arrived.")
        .hint("Reconnect and check before repeating it.")
}

const UNKNOWN_COMMIT: &str = "Whether the transaction is committed is not known. It has not been sent again.";

/// The connection was lost between what may have committed and its answer: only the client can find out.
fn commit_unknown() -> ErrorNotice {
    ErrorNotice::fatal(SqlState::RESOLUTION_UNKNOWN, "the connection to the server was lost during a commit")
        .detail(UNKNOWN_COMMIT)
        .hint("Reconnect and look before repeating it.")
}
