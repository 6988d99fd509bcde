//! Endings of a session that others bring about.

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
}

impl Session {
    /// What others have asked of the session.
    pub(super) fn poll_requests(&mut self) -> Option<Ending> {
        if self.client.requested(Request::Kill) {
            return Some(Ending::killed());
        }
        let resting = matches!(self.state, State::Idle)
            && !self.deferred.is_open()
            && self.inbox.is_empty()
            && self.client_pass == 0;
        let kept = matches!(&self.state, State::Linked(link) if link.at_rest());
        let told = self.to_client.is_empty() && !self.notify.is_holding();
        if self.client.requested(Request::Drain) && told && (resting || kept) {
            return Some(Ending::shutdown("terminating connection: the proxy is shutting down"));
        }
        self.client.clear(Request::CancelWait);
        self.client.clear(Request::Notified);
        None
    }
}
