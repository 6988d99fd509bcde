//! The bytes of a session: what is read of either side, looked at, and written to the other.

use std::task::{Context as Cx, Poll};

use quanta::Instant;

use crate::observe::Blame;
use crate::wire::frame::frontend_limit;
use crate::wire::{FrameWalker, Step};

use super::buffers::{self, READ_SIZE, drain, send};
use super::inbound::Need;
use super::machine::State;
use super::outbound::ServerBroken;
use super::placement::Place;
use super::relay::{Ending, Event, Session};
use super::splice::Splice;

impl Session {
    /// Writes what earlier writes left over. Until it is gone nothing more is read for that side (backpressure, trap 47).
    pub(super) fn poll_backlogs(&mut self, cx: &mut Cx<'_>) -> Result<bool, Ending> {
        let mut moved = false;
        if !self.to_client.is_empty() {
            match drain(&mut self.stream, &mut self.to_client, cx) {
                Poll::Ready(Ok(n)) => {
                    self.metrics.client_sent(n);
                    moved = true;
                }
                Poll::Ready(Err(_)) => return Err(Ending::ClientGone),
                Poll::Pending => {}
            }
        }
        if self.stream.wants_flush()
            && let Poll::Ready(Err(_)) = self.stream.poll_push(cx)
        {
            return Err(Ending::ClientGone);
        }
        let State::Linked(link) = &mut self.state else { return Ok(moved) };
        let link = &mut **link;
        let sent = if link.backlog.is_empty() {
            if link.lease.stream.wants_flush() { link.lease.stream.poll_push(cx).map_ok(|()| 0) } else { Poll::Pending }
        } else {
            let sent = drain(&mut link.lease.stream, &mut link.backlog, cx);
            moved |= sent.is_ready();
            sent
        };
        match sent {
            Poll::Ready(Ok(n)) => self.metrics.server_sent(n),
            // What the server said before it closed is still to be read.
            Poll::Ready(Err(_)) => link.backlog.clear(),
            Poll::Pending => {}
        }
        Ok(moved)
    }

    /// Server to client. `true` when bytes were read.
    pub(super) fn poll_server(&mut self, cx: &mut Cx<'_>) -> Result<bool, Ending> {
        let mut moved = false;
        loop {
            if !self.to_client.is_empty() || !self.hears_server() || self.may_release() {
                return Ok(moved);
            }
            let step = buffers::with(|buffers| {
                let State::Linked(link) = &mut self.state else { return Ok(None) };
                let carried = link.carry.len();
                let room = carried + READ_SIZE;
                if buffers.read.len() < room {
                    buffers.read.resize(room, 0);
                }
                let n = match link.read_into(cx, &mut buffers.read[carried..room]) {
                    Poll::Ready(Err(_)) => {
                        self.note_lost_for_breaker();
                        return self.leave_lost().map(Some);
                    }
                    Poll::Ready(Ok(n)) => n,
                    Poll::Pending => return Ok(None),
                };
                buffers.read[..carried].copy_from_slice(&link.carry);
                link.carry.clear();
                // Not before the read: what it tells may have happened just now.
                self.now = Instant::now();
                self.metrics.server_received(n);
                self.timing.received(n, self.now);
                self.taking_within = Some(link.is_within_clients_frame());
                let mut out = Splice::new(&buffers.read[..carried + n], &mut buffers.built);
                self.take_server(&buffers.read[..carried + n], &mut out).map_err(|ServerBroken| self.server_gone())?;
                let mut bytes = out.finish();
                self.taking_within = None;
                if matches!(&self.state, State::Linked(link) if link.settings_refused.is_some()) {
                    // It is an answer to nobody.
                    bytes = &[];
                }
                if let State::Linked(link) = &mut self.state
                    && link.rerun.holds(bytes, link.replies.is_empty(), &mut self.to_client)
                {
                    return Ok(Some(()));
                }
                let sent = send(&mut self.stream, &mut self.to_client, bytes, cx).map_err(|_| Ending::ClientGone)?;
                self.metrics.client_sent(sent);
                Ok(Some(()))
            })?;
            if step.is_none() {
                return Ok(moved);
            }
            moved = true;
            self.resume();
            if self.again.is_none() {
                // One statement, however often it runs.
                self.since = self.now;
            }
            if matches!(&self.state, State::Linked(link) if link.dying && (link.rerun.is_due() || self.is_link_unused()))
            {
                self.leave_lost()?;
            }
            if let State::Linked(link) = &self.state
                && let Some(code) = link.begin_refused
            {
                self.begin_refused(code)?;
            }
            self.leave_refusing();
            // Of a segment without its Sync nothing can have been committed.
            if matches!(&self.state, State::Linked(link) if link.settings_refused.is_some() && (link.replies.is_empty() || link.segment_open))
            {
                self.settings_refused()?;
            }
        }
    }

    /// Whether nothing more of the client's can be taken before something else has gone out.
    fn is_blocked(&self) -> bool {
        let server = match &self.state {
            State::Linked(link) => !link.backlog.is_empty() || link.dying || link.left || link.rerun.is_due(),
            _ => false,
        };
        server || self.to_client.len() > READ_SIZE || self.notify.is_holding()
    }

    /// What stood waiting in the inbox, before the lease that it waited for could go back. `true` when it was looked at.
    pub(super) fn poll_inbox(&mut self, cx: &mut Cx<'_>) -> Result<bool, Event> {
        if !self.resumed || self.is_blocked() {
            return Ok(false);
        }
        self.resumed = false;
        self.digest_inbox(cx)?;
        if self.client.any_request() {
            self.forget_late_cancel();
        }
        Ok(true)
    }

    /// Client to server: whether bytes were read. Pending when none are there; not when they may not be read yet.
    pub(super) fn poll_client(&mut self, cx: &mut Cx<'_>) -> Result<Poll<bool>, Event> {
        if self.stalled {
            // Read only so that its end is noticed: whatever it is that the inbox waits for, a connection is not held for nobody.
            let read = buffers::fill(&mut self.stream, &mut self.inbox, cx);
            let n = read.map_err(|()| Event::End(Ending::ClientGone))?;
            self.metrics.client_received(n);
            return Ok(Poll::Ready(n > 0));
        }
        if self.is_blocked() {
            return Ok(Poll::Ready(false));
        }
        if self.inbox.len() < self.awaits {
            return self.read_on(cx);
        }
        buffers::with(|buffers| {
            let carried = self.inbox.len();
            let room = carried + READ_SIZE;
            if buffers.read.len() < room {
                buffers.read.resize(room, 0);
            }
            let n = match self.stream.poll_read_into(cx, &mut buffers.read[carried..room]) {
                Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => return Err(Event::End(Ending::ClientGone)),
                Poll::Ready(Ok(n)) => n,
                Poll::Pending => return Ok(Poll::Pending),
            };
            self.note_arrival(n);
            buffers.read[..carried].copy_from_slice(&self.inbox);
            self.inbox.clear();
            let data = &buffers.read[..carried + n];
            let result = self.digest(data, &mut buffers.built, cx);
            if buffers.read.len() > 4 * READ_SIZE {
                buffers.read.truncate(READ_SIZE);
                buffers.read.shrink_to_fit();
            }
            result.map(|()| Poll::Ready(true))
        })
    }

    /// Reads more of a message of which a part is here. However small the pieces are in which it comes, none costs more than itself.
    fn read_on(&mut self, cx: &mut Cx<'_>) -> Result<Poll<bool>, Event> {
        let here = self.inbox.len();
        self.inbox.resize(self.awaits.min(here + READ_SIZE), 0);
        let read = self.stream.poll_read_into(cx, &mut self.inbox[here..]);
        let n = if let Poll::Ready(Ok(n)) = read { n } else { 0 };
        self.inbox.truncate(here + n);
        match read {
            Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => return Err(Event::End(Ending::ClientGone)),
            Poll::Ready(Ok(n)) => self.note_arrival(n),
            Poll::Pending => return Ok(Poll::Pending),
        }
        if self.inbox.len() == self.awaits {
            self.digest_inbox(cx)?;
        }
        Ok(Poll::Ready(true))
    }

    /// So many bytes have come of the client.
    fn note_arrival(&mut self, n: usize) {
        self.metrics.client_received(n);
        let now = Instant::now();
        self.now = now;
        self.client.note_request(now);
        self.timing.arrived(now);
        self.since = now;
    }

    /// What is in the inbox, once more: a server connection is there now, or the server has answered.
    fn digest_inbox(&mut self, cx: &mut Cx<'_>) -> Result<(), Event> {
        let data = std::mem::take(&mut self.inbox);
        self.now = Instant::now();
        buffers::with(|buffers| self.digest(&data, &mut buffers.built, cx))
    }

    /// Takes frames and sends what comes of them, with a server connection that is free at once if one is needed.
    fn digest(&mut self, data: &[u8], built: &mut Vec<u8>, cx: &mut Cx<'_>) -> Result<(), Event> {
        let mut from = 0;
        self.awaits = 0;
        loop {
            let mut out = Splice::new(&data[from..], built);
            if let State::Linked(_) = self.state {
                self.prepare_link(&mut out);
            }
            let (taken, need) = self.take_client(&data[from..], &mut out);
            if let State::Linked(link) = &mut self.state
                && self.client_pass == 0
            {
                link.ask_for_answers(matches!(need, Need::Quiet), &mut out);
            }
            let bytes = out.finish();
            self.keep_for_replay(bytes);
            self.keep_for_rerun(&data[from..from + taken], !bytes.is_empty());
            if let State::Linked(link) = &mut self.state
                && !bytes.is_empty()
            {
                let link = &mut **link;
                // A broken connection shows when it is read.
                let sent = send(&mut link.lease.stream, &mut link.backlog, bytes, cx).unwrap_or(0);
                self.metrics.server_sent(sent);
            }
            from += taken;
            let made = self.answer_made();
            match need {
                Need::Input => {
                    self.awaits = self.awaited(&data[from..]);
                    break;
                }
                // All that it waited for was for us to say.
                Need::Quiet if made => {}
                Need::Quiet => {
                    self.stalled = true;
                    break;
                }
                Need::Lease(place) => {
                    self.refresh().map_err(Event::End)?;
                    if !self.try_acquire(place) {
                        return Err(self.wait_with(&data[from..], place));
                    }
                }
                Need::Wait(place) => return Err(self.wait_with(&data[from..], place)),
                Need::Close(notice) => {
                    return Err(Event::End(match notice {
                        Some(notice) => Ending::Told(Box::new(notice), Blame::Client),
                        None => Ending::Goodbye,
                    }));
                }
            }
        }
        if self.names.are_too_many() {
            return Err(Event::End(Ending::too_many_names()));
        }
        self.inbox.extend_from_slice(&data[from..]);
        if self.inbox.is_empty() && self.inbox.capacity() > 512 {
            self.inbox = Vec::new();
        }
        Ok(())
    }

    /// How long the message at the beginning of the client's bytes is, if nothing is done about it before it is whole.
    fn awaited(&self, data: &[u8]) -> usize {
        match FrameWalker::new(data).step(frontend_limit) {
            Ok(Step::Partial { tag: b'Q' | b'P', frame_len, .. })
                if self.client_pass == 0 && frame_len <= self.max_inspect =>
            {
                frame_len
            }
            _ => 0,
        }
    }

    /// What is left of the client's bytes waits for a connection.
    fn wait_with(&mut self, rest: &[u8], place: Place) -> Event {
        self.inbox.extend_from_slice(rest);
        Event::Acquire(place)
    }

    /// The frame at the front of the inbox was refused: a Query is answered and gone, anything else is void up to its Sync.
    pub(super) fn drop_refused(&mut self) {
        if self.inbox.first() != Some(&b'Q') && self.inbox.first() != Some(&b'F') {
            self.skip_to_sync = true;
            return;
        }
        let len =
            self.inbox.get(1..5).map_or(0, |len| u32::from_be_bytes([len[0], len[1], len[2], len[3]]) as usize + 1);
        self.client_pass = len.saturating_sub(self.inbox.len());
        self.pass_is_dropped = true;
        self.inbox.drain(..len.min(self.inbox.len()));
        self.answer_ready();
    }

    /// Replies that are ours to make and that nothing of the server's will follow. Whether there were any.
    fn answer_made(&mut self) -> bool {
        let Self { state: State::Linked(link), to_client, .. } = self else { return false };
        let made = !link.replies.is_empty() && link.pass == 0 && link.replies.all_made();
        if made {
            let mut made = Vec::new();
            let mut out = Splice::new(&[], &mut made);
            link.replies.make_leading(&mut out);
            to_client.extend_from_slice(out.finish());
        }
        made
    }
}
