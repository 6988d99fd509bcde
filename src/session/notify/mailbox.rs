//! What a session was notified of and has not yet told its client.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::session::clients::{Client, Request};
use crate::wire::{backend, frame::HEADER};

/// Most bytes that wait for one client. A client that reads nothing more, or never ends its transaction, must not cost memory
/// without end; the frames themselves are shared by all who listen.
const LIMIT: usize = 16 * 1024 * 1024;

/// What a waiting frame costs apart from its bytes.
const OVERHEAD: usize = 48;

/// A whole NotificationResponse, shared by all sessions that get it.
pub(super) type Notification = Arc<[u8]>;

/// The notifications that wait for a session.
pub(super) struct Mailbox {
    client: Arc<Client>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Notification>,
    bytes: usize,
    overflowed: bool,
}

/// More than [`LIMIT`] waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overflowed;

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({:?})", self.client)
    }
}

impl Mailbox {
    /// An empty one; the client's session is woken when something comes.
    pub fn new(client: Arc<Client>) -> Self {
        Self { client, waiting: Mutex::default() }
    }

    /// Whose it is.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Puts a notification behind the others.
    pub fn push(&self, frame: Notification) {
        let mut waiting = self.waiting.lock();
        if waiting.overflowed {
            return;
        }
        let wake = waiting.frames.is_empty();
        waiting.bytes += frame.len() + OVERHEAD;
        waiting.frames.push_back(frame);
        if waiting.bytes > LIMIT {
            *waiting = Waiting { overflowed: true, ..Waiting::default() };
        }
        if wake || waiting.overflowed {
            drop(waiting);
            self.client.request(Request::Notified);
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.lock().frames.is_empty()
    }

    /// Moves notifications to `out` until it is about `room` long. `true` when there were any.
    ///
    /// # Errors
    /// [`Overflowed`]: some are lost, so the session cannot go on as if nothing had happened.
    pub fn take(&self, out: &mut Vec<u8>, room: usize) -> Result<bool, Overflowed> {
        let mut waiting = self.waiting.lock();
        if waiting.overflowed {
            return Err(Overflowed);
        }
        let mut any = false;
        while out.len() < room
            && let Some(frame) = waiting.frames.pop_front()
        {
            waiting.bytes -= frame.len() + OVERHEAD;
            out.extend_from_slice(&frame);
            any = true;
        }
        if waiting.frames.is_empty() && waiting.frames.capacity() > 64 {
            waiting.frames = VecDeque::new();
        }
        Ok(any)
    }

    /// Drops what is of channels that are not listened on: after an UNLISTEN nothing of its channel comes any more.
    pub fn keep(&self, is_listened_on: impl Fn(&[u8]) -> bool) {
        let mut waiting = self.waiting.lock();
        let Waiting { frames, bytes, .. } = &mut *waiting;
        frames.retain(|frame| {
            let known = backend::notification(&frame[HEADER..]).is_some_and(|(_, channel)| is_listened_on(channel));
            *bytes -= if known { 0 } else { frame.len() + OVERHEAD };
            known
        });
    }
}
