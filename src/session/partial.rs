//! Frames of which only the beginning is here: those too long to be waited for stream on unseen.

use std::ops::Range;

use crate::wire::frame::HEADER;
use crate::wire::{Frame, frontend};

use super::expect::Expect;
use super::gather::GATHER_LIMIT;
use super::inbound::{Flow, Need, UNSEEN, close};
use super::pins::Pins;
use super::placement::Place;
use super::relay::Session;
use super::splice::Splice;

/// Why a message is refused of which the names do not end: all of it would have to be kept, and looked at anew with each part of it.
const ENDLESS_NAME: &str = "name of a statement or portal is too long";

/// What is known of a Query that is not looked into.
#[derive(Debug, Default)]
pub(super) struct Unseen {
    /// The end of what has passed, in small letters.
    tail: Vec<u8>,
    /// It has words in it by which a `SELECT` leaves something behind in its session.
    pub tells: bool,
}

impl Unseen {
    const WORDS: [&[u8]; 3] = [b"set_config", b"advisory", b"into"];
    const LONGEST: usize = 10;

    /// These bytes of it pass.
    pub fn glance(&mut self, bytes: &[u8]) {
        if self.tells {
            return;
        }
        let mut text = std::mem::take(&mut self.tail);
        text.extend(bytes.iter().map(u8::to_ascii_lowercase));
        self.tells = Self::WORDS.iter().any(|word| memchr::memmem::find(&text, word).is_some());
        self.tail = text[text.len().saturating_sub(Self::LONGEST)..].to_vec();
    }
}

impl Session {
    /// The beginning of a frame. Where it was taken the rest of it will pass unseen, or be dropped with it.
    pub(super) fn take_partial(
        &mut self,
        tag: u8,
        frame_len: usize,
        available: &[u8],
        at: usize,
        out: &mut Splice<'_>,
    ) -> Flow {
        let range = at..at + available.len();
        let flow = match self.take_unread(tag, range.clone(), out) {
            Some(settled) => settled,
            None => self.take_beginning(tag, frame_len, available, range, out),
        };
        if !matches!(flow, Flow::Stop(_)) {
            self.client_pass = frame_len - available.len();
            self.pass_is_dropped = matches!(flow, Flow::Refused);
        }
        flow
    }

    fn take_beginning(
        &mut self,
        tag: u8,
        frame_len: usize,
        available: &[u8],
        range: Range<usize>,
        out: &mut Splice<'_>,
    ) -> Flow {
        match tag {
            b'd' => match self.take_copy(tag, range, out) {
                true => Flow::Taken,
                false => Flow::Refused,
            },
            // A Bind of which the head is here: its parameters stream.
            b'B' if frame_len > GATHER_LIMIT && frontend::bind_head(&available[HEADER..]).is_some() => {
                self.take_extended(Frame { tag, bytes: available }, range, available, out)
            }
            b'B' if available.len() > GATHER_LIMIT => close(ENDLESS_NAME),
            // The name of what is prepared must be there.
            b'P' if frame_len > self.max_inspect && !available[HEADER..].contains(&0) => match available.len() {
                len if len > GATHER_LIMIT => close(ENDLESS_NAME),
                _ => Flow::Stop(Need::Input),
            },
            b'F' if frame_len > self.max_inspect => self.take_function_call(&available[HEADER..], range, out),
            b'Q' | b'P' if frame_len > self.max_inspect => self.take_unseen(tag, &available[HEADER..], range, out),
            _ => Flow::Stop(Need::Input),
        }
    }

    /// A message too long to be inspected: it streams to the primary as it is. A Parse of that kind stays on its connection,
    /// which is pinned, since the text is not kept for another one. What a Query does to the session is told by the tags that it is
    /// answered with ([`Session::pin_unseen`]).
    fn take_unseen(&mut self, tag: u8, head: &[u8], range: Range<usize>, out: &mut Splice<'_>) -> Flow {
        self.forget_shards();
        if let Some(stop) = self.needs_other_link(UNSEEN, range.start, out) {
            return stop;
        }
        let mut client = None;
        if tag == b'Q' {
            if let Some(stop) = self.names_before_unseen(out) {
                return stop;
            }
        } else {
            let name = head.split(|byte| *byte == 0).next().unwrap_or_default();
            if let Some(stop) = self.settle_name(name, out) {
                return stop;
            }
            client = self.take_raw_name(name, out);
            if client.is_some() {
                self.pin(Pins::LARGE_STATEMENT);
                self.pinned_by(b"-- a statement longer than max_inspect");
            }
        }
        self.begin_statement(UNSEEN, &[], None, None);
        if tag != b'P' || client.as_ref().is_some_and(|name| name.is_empty()) {
            self.names.set_unnamed(None);
        }
        let unnamed = self.names.get(b"").is_none();
        let Some(link) = self.link() else { return Flow::Stop(Need::Lease(Place::Primary)) };
        if unnamed {
            link.lease.prepared.unnamed = None;
        }
        if tag == b'P' {
            link.segment_open = true;
            link.replies.push(Expect::RawParse { client: client.filter(|name| !name.is_empty()) });
        } else {
            self.unseen.get_or_insert_default().glance(head);
            let Some(link) = self.link() else { return Flow::Stop(Need::Lease(Place::Primary)) };
            // It may give up names, or take settings away that the client brought along.
            link.barrier = true;
            link.ends_segment(None, None);
            self.segment_cleared = false;
        }
        out.pass(range);
        Flow::Taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_come_in_two_parts() {
        let tells = |parts: [&[u8]; 2]| {
            let mut unseen = Unseen::default();
            parts.iter().for_each(|part| unseen.glance(part));
            unseen.tells
        };
        assert!(
            tells([b"select pg_catalog.Set_con", b"fig('a', 'b', false)"]) && tells([b"xx pg_advisory_lock(", b"1)"])
        );
        assert!(!tells([b"select * from t where id in (1, ", b"2)"]));
    }
}
