//! The end of a session, and what is done with a server connection whose client has gone (trap 29): rolled back and
//! verified, or ended and closed, each within a bounded time. While that goes on the connection still counts for its pool, so a server never has more statements
//! running than the pool's size.

use std::io;
use std::time::Duration;

use crate::backend;
use crate::observe::Blame;
use crate::pool::Lease;
use crate::wire::frame::backend_limit;
use crate::wire::{FrameWalker, Step, build};

use super::machine::{Link, State};
use super::notify::Notifying;
use super::pins::Pins;
use super::relay::{Ending, Session};

/// Longest time for each step: the ROLLBACK, the cancel request, the server's own end of the connection.
const STEP: Duration = Duration::from_secs(5);

/// A connection that is free of its client's work, and whether it must be reset before its next use; or none: then it is closed.
/// `within_message` = the client went away in the middle of a message of which the server has had the beginning; `reusable` =
/// what the client has left behind can be taken back at all.
pub(super) async fn clear(link: Link, within_message: bool, reusable: bool) -> Option<(Lease, bool)> {
    let usable = reusable && !within_message && link.retired.is_none();
    if usable && link.at_rest() {
        return Some((link.lease, false));
    }
    let rests_in_block = usable && link.rests_in_block();
    let statement_runs = !link.replies.is_empty() && !link.dying;
    let until_settings = if link.awaits_settings { 0 } else { link.replies.until_settings() };
    let (mut lease, carry, pass) = (link.lease, link.carry, link.pass);
    lease.info.set_state(backend::ServerState::Tested, 0);
    if rests_in_block {
        // Between the statements of a transaction: nothing is in the way of a ROLLBACK.
        return match tokio::time::timeout(STEP, backend::run(&mut lease, b"ROLLBACK")).await {
            // What is known of its settings may have been rolled back with the rest.
            Ok(Ok(None)) => Some((lease, true)),
            _ => None,
        };
    }
    let set = tokio::time::timeout(STEP, settings_answered(&mut lease, carry, pass, until_settings)).await;
    // What a cancel request struck before that would be the settings, and the statement behind them would run with another session's.
    if statement_runs && matches!(set, Ok(Ok(()))) {
        // A server notices that nobody listens only when it has something to say.
        let cancel = backend::cancel(&lease.pool().spec, &lease.info);
        if !matches!(tokio::time::timeout(STEP, cancel).await, Ok(Ok(()))) {
            tracing::debug!(pool = %lease.pool().spec, "the statement of a client that went away could not be cancelled");
        }
    }
    let _ = tokio::time::timeout(STEP, say_goodbye(&mut lease, within_message)).await;
    None
}

/// Reads until so many ReadyForQuery have come. `read` = the beginning of a frame, or nothing and `pass` bytes of one are still to come.
async fn settings_answered(lease: &mut Lease, mut read: Vec<u8>, mut pass: usize, mut left: usize) -> io::Result<()> {
    let mut buffer = [0; 1024];
    while left > 0 {
        let passed = pass.min(read.len());
        read.drain(..passed);
        pass -= passed;
        let mut walker = FrameWalker::new(&read);
        while let Step::Whole(frame) = walker.step(backend_limit).map_err(io::Error::other)? {
            left -= usize::from(frame.tag == b'Z' && left > 0);
        }
        let walked = walker.position();
        read.drain(..walked);
        if left > 0 {
            match lease.stream.read_some(&mut buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => read.extend_from_slice(&buffer[..n]),
            }
        }
    }
    Ok(())
}

/// Ends the connection and waits for the server to do so, too: then it has rolled back.
async fn say_goodbye(lease: &mut Lease, within_message: bool) {
    if !within_message {
        let mut goodbye = Vec::with_capacity(5);
        build::terminate(&mut goodbye);
        if lease.stream.write_all(&goodbye).await.is_err() {
            return;
        }
    }
    lease.stream.shutdown();
    let mut rest = [0; 4096];
    while matches!(lease.stream.read_some(&mut rest).await, Ok(n) if n > 0) {}
}

impl Link {
    /// Whether the client has the beginning of a frame of which the rest has not come: nothing else can be said to it. What answers a
    /// statement of ours is nothing to it, and so is what comes from a connection that refused its settings.
    pub(super) fn is_within_clients_frame(&self) -> bool {
        self.pass > 0 && !self.pass_is_dropped && self.settings_refused.is_none()
    }
}

impl Session {
    /// Ends the session: a last word to the client, then the server connection.
    pub(super) async fn end(mut self: Box<Self>, ending: Ending) {
        self.notify = Notifying::default();
        let mut last = std::mem::take(&mut self.to_client);
        // In the middle of a frame of the server's nothing else can be said (trap 70).
        let mid_frame = match &self.state {
            // Nothing of what was being taken has been sent.
            State::Linked(_) if matches!(ending, Ending::Panicked(_)) && self.taking_within.is_some() => {
                self.taking_within == Some(true)
            }
            State::Linked(link) => link.is_within_clients_frame(),
            _ => false,
        };
        match &ending {
            Ending::Panicked(notice) => {
                self.metrics.error(notice.code, Blame::Proxy);
                if !mid_frame {
                    notice.encode(&mut last);
                }
            }
            Ending::Told(notice, blame) if mid_frame => {
                self.metrics.error(notice.code, *blame);
                tracing::debug!(client = self.client.id, %notice, "session ended within a message");
            }
            Ending::Told(notice, blame) => {
                self.metrics.error(notice.code, *blame);
                tracing::debug!(client = self.client.id, %notice, "session ended");
                notice.encode(&mut last);
            }
            Ending::Goodbye | Ending::ClientGone => {}
        }
        if !matches!(ending, Ending::ClientGone) || !last.is_empty() {
            // A client that does not read gets no more than a moment.
            let _ = tokio::time::timeout(Duration::from_secs(2), self.stream.write_all(&last)).await;
            self.stream.shutdown();
        }
        if matches!(ending, Ending::Panicked(_)) {
            self.client.unassign();
            self.settle_writes();
            // The drop of its link closes the server connection.
            return drop(self.transition(State::Closing));
        }
        self.give_back().await;
    }

    fn settle_writes(&mut self) {
        self.doubt_writes();
        self.sight.settle();
    }

    /// After the end: the connection goes back clean, or is closed (trap 29).
    async fn give_back(mut self: Box<Self>) {
        self.client.unassign();
        self.client.clone().cancels_delivered().await;
        let State::Linked(link) = self.transition(State::Closing) else { return };
        // A commit may have been under way, whose end nobody was told.
        self.settle_writes();
        // Its own LISTENs have not been taken back yet, and who knows what statements are left.
        let untidy = link.listens || link.lost_names;
        let reusable = !self.pins.contains(Pins::SESSION_STATE);
        let reset_query = self.pool_settings.reset_query.clone();
        let cleared = clear(*link, self.client_pass > 0, reusable).await;
        self.settle_writes();
        let Some((mut lease, rolled_back)) = cleared else { return };
        let needs_reset = rolled_back || untidy || self.pins != Pins::empty() || self.keeps_lease;
        if !needs_reset || lease.info.is_close_needed() {
            return lease.check_in();
        }
        if !reset_query.is_empty() {
            lease.info.set_state(backend::ServerState::Tested, 0);
            let reset = backend::reset(&mut lease, reset_query.as_bytes());
            if tokio::time::timeout(Duration::from_secs(5), reset).await.is_ok_and(|done| done.is_ok()) {
                lease.check_in();
            }
        }
    }
}
