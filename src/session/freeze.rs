//! SUSPEND: a session that stands still.

use std::task::Context as Cx;

use quanta::Instant;

use crate::pool::Service;

use super::Context;
use super::clients::{Client, Request};
use super::machine::State;
use super::relay::{Ending, Session};

impl Context {
    /// A client was registered whose login was under way when everything was suspended: it is to stand still, too. Whoever suspends or
    /// resumes says so before he looks for clients, so one of the two sees the other.
    pub(super) fn stand_still_if_suspended(&self, client: &Client) {
        let is_suspended = || self.directory.gates.service() == Service::Suspended;
        if is_suspended() {
            client.request(Request::Suspend);
            if !is_suspended() {
                client.wake_up();
            }
        }
    }
}

impl Session {
    /// While the session is to stand still: writes what is left to be written, and reads nothing, so that every byte on its
    /// way stays where it is. `false` = it may go on.
    ///
    /// # Errors
    /// The client is gone.
    pub(super) fn freeze(&mut self, cx: &mut Cx<'_>) -> Result<bool, Ending> {
        if !self.client.requested(Request::Suspend) {
            self.client.set_frozen(false);
            // Time-outs begin anew: nobody could say anything.
            self.since = Instant::now();
            return Ok(false);
        }
        while self.poll_backlogs(cx)? {}
        let server = match &self.state {
            State::Linked(link) => link.backlog.is_empty() && !link.lease.stream.wants_flush(),
            _ => true,
        };
        self.client.set_frozen(server && self.to_client.is_empty() && !self.stream.wants_flush());
        Ok(true)
    }
}
