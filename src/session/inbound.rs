//! Client to server: what each frame of the client's means for the session, and what of it goes out.

use std::ops::Range;

use crate::sql::{Decision, Effects, Reason};
use crate::wire::frame::frontend_limit;
use crate::wire::{ErrorNotice, Frame, FrameWalker, SqlState, Step, frontend};

use super::expect::Expect;
use super::machine::State;
use super::pins::Pins;
use super::placement::Place;
use super::relay::Session;
use super::splice::Splice;

/// Why the reading of the client's bytes stopped.
#[derive(Debug)]
pub(super) enum Need {
    /// All whole frames are taken; more bytes are needed.
    Input,
    /// The next frame needs a server connection.
    Lease(Place),
    /// It needs one, and none is free.
    Wait(Place),
    /// The next frame must wait until the server has answered everything before it.
    Quiet,
    /// The session ends, with this error if any.
    Close(Option<ErrorNotice>),
}

/// What to do after a frame.
#[derive(Debug)]
pub(super) enum Flow {
    /// It is taken.
    Taken,
    /// It is taken, and nothing of it goes out: it is void, or an error of ours stands for it.
    Refused,
    /// It stays where it is, for this reason.
    Stop(Need),
}

/// So many replies may be awaited before the client's next bytes are looked at. Not all that is awaited has been sent to the server,
/// which would take no more of it at some point.
const MOST_AWAITED: usize = 16 * 1024;

/// A decision for what is not looked at: too long, or not SQL.
pub(super) const UNSEEN: Decision = Decision::unknown(Reason::Unparsed);

impl Session {
    /// Takes as many frames from `data` as it can. Returns how many bytes are done with, and why it stopped.
    pub(super) fn take_client(&mut self, data: &[u8], out: &mut Splice<'_>) -> (usize, Need) {
        if matches!(&self.state, State::Linked(link) if link.awaits_its_settings() || link.settings_refused.is_some()) {
            return (0, Need::Quiet);
        }
        let mut start = 0;
        if matches!(&self.state, State::Linked(link) if link.replies.len() > MOST_AWAITED && !link.copy_in)
            && self.client_pass == 0
        {
            return (0, Need::Quiet);
        }
        if self.client_pass > 0 {
            start = self.client_pass.min(data.len());
            self.client_pass -= start;
            if let Some(unseen) = &mut self.unseen {
                unseen.glance(&data[..start]);
            }
            if !self.pass_is_dropped {
                out.pass(0..start);
            }
        }
        let mut walker = FrameWalker::new(&data[start..]);
        loop {
            let at = start + walker.position();
            let step = match walker.step(frontend_limit) {
                Ok(step) => step,
                Err(bad) => return (at, Need::Close(Some(violation(bad.to_string())))),
            };
            let flow = match step {
                Step::End => return (at, Need::Input),
                Step::Partial { tag, frame_len, available } => {
                    match self.take_partial(tag, frame_len, available, at, out) {
                        stop @ Flow::Stop(_) => stop,
                        _ => return (data.len(), Need::Input),
                    }
                }
                Step::Whole(frame) => self.take_frame(frame, at, &data[at..], out),
            };
            if let Flow::Stop(need) = flow {
                return (at, need);
            }
        }
    }

    fn take_frame(&mut self, frame: Frame<'_>, at: usize, rest: &[u8], out: &mut Splice<'_>) -> Flow {
        let range = at..at + frame.bytes.len();
        if let Some(settled) = self.take_unread(frame.tag, range.clone(), out) {
            return settled;
        }
        match frame.tag {
            b'Q' => match frontend::query(frame.body()) {
                Some(sql) => self.take_query(sql, range, out),
                None => close("invalid Query message"),
            },
            b'P' | b'B' | b'D' | b'E' | b'C' | b'H' | b'S' => self.take_extended(frame, range, rest, out),
            b'd' | b'c' | b'f' => {
                self.take_copy(frame.tag, range, out);
                Flow::Taken
            }
            b'F' => self.take_function_call(frame.body(), range, out),
            // What it has asked for before is still its to read.
            b'X' if self.link().is_some_and(|link| link.replies.owes_ready() && !link.copy_in) => {
                Flow::Stop(Need::Quiet)
            }
            b'X' => Flow::Stop(Need::Close(None)),
            tag => close(format!("unexpected message type {tag:#04x} in a session")),
        }
    }

    /// What becomes of a frame of this type, or of its beginning, where it does not matter what it says.
    pub(super) fn take_unread(&mut self, tag: u8, range: Range<usize>, out: &mut Splice<'_>) -> Option<Flow> {
        if self.skip_to_sync && !matches!(tag, b'S' | b'X') {
            // What an error made void: the server would skip it too.
            return Some(Flow::Refused);
        }
        let link = self.link()?;
        if link.copy_in && matches!(tag, b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F') {
            // The server ends the connection for it. Whoever waited for an answer first would wait for ever, and the server for data.
            out.pass(range);
            return Some(Flow::Taken);
        }
        let waits = link.is_fenced() && !matches!(tag, b'S' | b'H' | b'X' | b'd' | b'c' | b'f');
        waits.then_some(Flow::Stop(Need::Quiet))
    }

    /// COPY data and its end. Passed on only while the server may read it; PostgreSQL ignores what comes too late, and nobody
    /// else must get it (trap 49). Returns whether it was passed on.
    pub(super) fn take_copy(&mut self, tag: u8, range: Range<usize>, out: &mut Splice<'_>) -> bool {
        let Some(link) = self.link() else { return false };
        if !link.copy_in && link.replies.is_empty() {
            return false;
        }
        if tag != b'd' {
            if link.copy_in {
                link.copy_in = false;
            } else {
                link.replies.push(Expect::CopyEnd);
            }
        }
        out.pass(range);
        true
    }

    /// Whether the frame with this decision, at this place in the client's bytes, cannot go to the link at hand: there is none and
    /// none is free, or it is on a replica and the statement is not for one. A transaction stays where it began.
    pub(super) fn needs_other_link(&mut self, decision: Decision, at: usize, out: &mut Splice<'_>) -> Option<Flow> {
        // Whatever segment follows is judged anew.
        self.segment_cleared = false;
        self.wants_sequences = decision.effects.contains(Effects::SEQUENCE_STATE);
        self.notify.asks = decision.effects.contains(Effects::ASKS_CHANNELS);
        if let Some(end) = self.is_deposed() {
            return Some(end);
        }
        let place = match &self.state {
            State::Linked(link) if link.primary => return None,
            State::Linked(link)
                if link.replies.all_ours()
                    && !link.is_past_end()
                    && (link.status.in_block() || self.pins != Pins::empty()) =>
            {
                return None;
            }
            _ => self.place_of(decision),
        };
        let suits = match place {
            Place::Reader => self.suits_link(),
            Place::Primary => self.is_at_chosen_worker(),
        };
        match &self.state {
            State::Linked(_) if suits => None,
            State::Linked(_) => Some(self.leave_replica(out)),
            // With a block before it, it is judged once more.
            _ if self.deferred.is_open() => Some(Flow::Stop(Need::Lease(place))),
            _ => {
                let stop = self.link_at_once(place, at, out);
                self.segment_cleared = false;
                stop
            }
        }
    }

    /// Links the session to a connection that is free at once, and makes it ready for the frame at this place; or why not.
    pub(super) fn link_at_once(&mut self, place: Place, at: usize, out: &mut Splice<'_>) -> Option<Flow> {
        // What was taken before it was answered here, and is not to be kept with what goes out.
        if at > 0 || self.is_outdated() {
            return Some(Flow::Stop(Need::Lease(place)));
        }
        if !self.try_acquire(place) {
            return Some(Flow::Stop(Need::Wait(place)));
        }
        self.prepare_link(out);
        let link = self.link()?;
        (link.awaits_its_settings() || link.is_fenced()).then_some(Flow::Stop(Need::Quiet))
    }

    /// Ends a session that would go on writing to a node that is the primary no more: what it does there would be lost, or is
    /// refused anyway. A server that is demoted ends its sessions in the same way.
    pub(super) fn is_deposed(&self) -> Option<Flow> {
        match &self.state {
            State::Linked(link) if link.primary && link.lease.pool().load.is_deposed() => {
                Some(Flow::Stop(Need::Close(Some(super::ending::deposed()))))
            }
            _ => None,
        }
    }

    /// Stops when the server owes something, or a segment is open that only a Sync would have answered: an answer of our own
    /// must wait for its turn. A Query would end the segment; a Sync of ours does it here (trap 42).
    pub(super) fn needs_quiet(&mut self, out: &mut Splice<'_>) -> Option<Flow> {
        let link = self.link()?;
        if link.replies.is_empty() && !link.segment_open {
            return None;
        }
        Some(self.leave_replica(out))
    }
}

pub(super) fn violation(message: impl Into<std::borrow::Cow<'static, str>>) -> ErrorNotice {
    ErrorNotice::fatal(SqlState::PROTOCOL_VIOLATION, message)
}

pub(super) fn close(message: impl Into<std::borrow::Cow<'static, str>>) -> Flow {
    Flow::Stop(Need::Close(Some(violation(message))))
}
