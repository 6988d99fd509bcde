//! `LISTEN`, `NOTIFY` and `UNLISTEN` without a server connection of the session's own.
//!
//! The statements run where the session happens to be, so that errors and tags are the server's. What they change is kept with the
//! session ([`super::tracked`]); once it is committed, the session is made a member of the database's [`hub`], whose one connection
//! listens for all, and the client is answered when that is in force. The connection on which the statement ran is told `UNLISTEN *`
//! before anybody else gets it.

mod channels;
mod hub;
mod listener;
mod mailbox;
mod statements;

use std::sync::Arc;

use crate::observe::Blame;
use crate::wire::{ErrorNotice, SqlState, TxStatus, backend, build};

use hub::{Hub, Key, Membership, Ticket, with_sender};
use mailbox::{Mailbox, Notification, Overflowed};

use super::buffers::READ_SIZE;
use super::machine::State;
use super::relay::{Ending, Session};
use super::splice::Splice;

pub(super) use channels::{Channel, Channels, Mark};
pub use hub::Hubs;

/// What a session has to do with notifications.
#[derive(Debug, Default)]
pub(super) struct Notifying {
    /// While it listens.
    membership: Option<Membership>,
    /// Notifications on new channels that the session's own connection told before the hub listened on them.
    early: Vec<Notification>,
    held: Option<Held>,
    /// The statement that wants a connection asks for the session's channels.
    pub asks: bool,
    /// A statement may have notified since the last transaction ended.
    may_have_notified: bool,
    noted: Option<Noted>,
    /// The server connection is kept until these are over.
    catching_up: Vec<Ticket>,
}

/// A ReadyForQuery that is the client's once these are over.
#[derive(Debug)]
struct Held {
    until: Vec<Ticket>,
}

/// That a server connection may notify on behalf of this client, as hubs were told.
#[derive(Debug)]
struct Noted {
    server: u32,
    client: u32,
    hubs: Vec<Arc<Hub>>,
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.hubs.iter().for_each(|hub| hub.forget_sender(self.server, self.client));
    }
}

impl Notifying {
    /// Notifications are nothing to the session at this moment.
    #[inline]
    pub fn is_unconcerned(&self) -> bool {
        self.membership.is_none() && self.held.is_none() && self.catching_up.is_empty()
    }

    /// A ReadyForQuery waits: nothing else may happen to the client before it.
    pub fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// Whether the server connection must stay until what it notified has been seen: the next client's are not this one's.
    pub fn keeps_link(&self) -> bool {
        !self.catching_up.is_empty()
    }

    /// For a client whose channels could not be listened on in time.
    pub fn gave_up(&self) -> ErrorNotice {
        let trouble = self.held.iter().flat_map(|held| &held.until).find_map(Ticket::trouble);
        let notice = ErrorNotice::fatal(SqlState::CONNECTION_FAILURE, "the server could not be listened to in time")
            .hint("LISTEN was committed, but its connection could not be opened. Reconnect and LISTEN again.");
        match trouble {
            Some(trouble) => notice.detail(trouble),
            None => notice,
        }
    }
}

impl Session {
    /// A ReadyForQuery for the client. `true` when it passes now, behind the notifications that wait; else it is kept until the
    /// hub listens on what is new, or has seen what the client itself notified.
    pub(super) fn pass_ready(&mut self, status: TxStatus, out: &mut Splice<'_>) -> bool {
        if status.in_block() {
            // After COMMIT AND CHAIN too: up to the end of the next transaction the connection itself still listens.
            return true;
        }
        let mut until = self.follow_channels();
        if std::mem::take(&mut self.notify.may_have_notified) {
            until.extend(self.catch_up());
        }
        if !until.is_empty() {
            self.notify.held = Some(Held { until });
            // A cancel request that comes meanwhile means what the client has sent behind it.
            self.client.set_applying(true);
            return false;
        }
        if let Some(membership) = &self.notify.membership
            && !membership.mailbox.is_empty()
        {
            // What does not fit in, or is too much, is dealt with when the session is idle.
            let built = out.insert();
            let room = built.len() + READ_SIZE;
            let _ = membership.mailbox.take(built, room);
            self.sight.told();
        }
        true
    }

    /// Tells the hub the channels that hold now. Returns what to wait for.
    fn follow_channels(&mut self) -> Vec<Ticket> {
        let early = std::mem::take(&mut self.notify.early);
        let Self { state: State::Linked(link), notify, tracked, client, .. } = self else { return Vec::new() };
        let Some(channels) = tracked.settled_channels() else { return Vec::new() };
        let encoding = link.lease.parameters.get(b"client_encoding").unwrap_or_default();
        // A name that is not ASCII is known in the encoding in which it was read.
        let has_hub = notify
            .membership
            .as_ref()
            .is_some_and(|membership| *membership.hub.key.encoding == *encoding || !channels.are_ascii());
        if !channels.has_changed() && (has_hub || channels.is_empty()) {
            return Vec::new();
        }
        let mut changes = channels.tell();
        if channels.is_empty() {
            notify.membership = None;
            return Vec::new();
        }
        if !has_hub {
            let before = notify.membership.take().map(|membership| membership.mailbox.clone());
            let mailbox = before.unwrap_or_else(|| Arc::new(Mailbox::new(client.clone())));
            let key = Key { database: client.database.as_str().into(), encoding: encoding.into() };
            notify.membership = Some(Hubs::join(&self.ctx, key, mailbox, self.pools.clone()));
            changes.added = channels.all();
        }
        let Some(membership) = &notify.membership else { return Vec::new() };
        let ticket = membership.change(changes);
        early.into_iter().for_each(|frame| membership.mailbox.push(frame));
        ticket.into_iter().collect()
    }

    /// A transaction has ended that may have notified: whoever listens is to have seen it before the connection goes to another
    /// client. A client that listens itself gets its own before it is answered, as on a server; for that it waits.
    fn catch_up(&mut self) -> Vec<Ticket> {
        let Some(noted) = &self.notify.noted else { return Vec::new() };
        let tickets: Vec<_> = noted.hubs.iter().filter_map(|hub| hub.catch_up(&self.client)).collect();
        if tickets.is_empty() {
            self.notify.noted = None;
        }
        self.notify.catching_up.clone_from(&tickets);
        if self.notify.membership.is_some() { tickets } else { Vec::new() }
    }

    /// Does what hubs have made possible: lets the connection go, answers a client that waits, and tells a client between its
    /// queries what it was notified of. `true` when there was something.
    pub(super) fn poll_notifications(&mut self) -> Result<bool, Ending> {
        let mut moved = false;
        if self.notify.keeps_link() && self.notify.catching_up.iter().all(Ticket::is_over) {
            self.notify.catching_up.clear();
            // Unless the next transaction may notify already.
            if !self.notify.may_have_notified {
                self.notify.noted = None;
            }
            moved = true;
        }
        if let Some(held) = &self.notify.held {
            if !held.until.iter().all(Ticket::is_over) {
                return Ok(moved);
            }
            self.notify.held = None;
            self.client.set_applying(false);
            self.tell_notifications(usize::MAX)?;
            build::ready_for_query(&mut self.to_client, TxStatus::Idle);
            // What the server has said behind it, and what the client has asked meanwhile.
            self.resumed = true;
            if let Some(link) = self.link() {
                link.unread = true;
            }
            return Ok(true);
        }
        if self.notify.membership.is_some() {
            // None at all, as long as the client is not to be told: but that it is too much is told at once.
            let room = if self.is_between_queries() { READ_SIZE } else { 0 };
            moved |= self.tell_notifications(room)?;
        }
        Ok(moved)
    }

    pub(super) fn tell_notifications(&mut self, room: usize) -> Result<bool, Ending> {
        let Some(membership) = &self.notify.membership else { return Ok(false) };
        let told = membership.mailbox.take(&mut self.to_client, room).map_err(|Overflowed| {
            let notice = ErrorNotice::fatal(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                "terminating connection: too many notifications wait for the client",
            )
            .hint("Read notifications in time, and keep transactions of sessions that LISTEN short.");
            Ending::Told(Box::new(notice), Blame::Client)
        })?;
        if told {
            // The commit that it came with may not have been answered yet, and so is no write that anybody knows of.
            self.sight.told();
        }
        Ok(told)
    }

    /// Whether the server is read: behind a ReadyForQuery that waits come only answers of our own.
    pub(super) fn hears_server(&self) -> bool {
        match &self.state {
            State::Linked(link) => !self.notify.is_holding() || (link.carry.is_empty() && link.drops_rows()),
            _ => false,
        }
    }

    /// Where a server tells notifications: outside transactions, with everything answered.
    fn is_between_queries(&self) -> bool {
        let rests = match &self.state {
            State::Idle => true,
            State::Linked(link) => {
                link.replies.is_empty() && link.carry.is_empty() && link.pass == 0 && !link.segment_open
            }
            State::Waiting | State::Closing => false,
        };
        rests && self.status() == TxStatus::Idle && !self.skip_to_sync
    }

    /// A NotificationResponse of the session's own connection. The hub tells it too, unless it does not listen on the channel yet.
    pub(super) fn take_notification(&mut self, body: &[u8]) {
        let Some((pid, channel)) = backend::notification(body) else { return };
        let State::Linked(link) = &mut self.state else { return };
        // Also when nobody here knows why: a LISTEN within a function.
        link.listens = true;
        let channels = self.tracked.channels();
        if !channels.contains(channel) || channels.is_told(channel) {
            return;
        }
        let sender = if pid == link.lease.info.cancel.pid {
            self.client.key.pid
        } else {
            self.ctx.hubs.of(&self.client.database).first().map_or(pid, |hub| hub.sender(pid))
        };
        let mut frame = Vec::with_capacity(body.len() + 5);
        build::message(&mut frame, b'A', |out| out.extend_from_slice(body));
        self.notify.early.push(with_sender(&frame, sender));
    }
}
