//! "cached plan must not change result type": a table was changed after a statement was prepared that the client may have prepared
//! later, or of which it asks the columns anew. Outside a transaction, and as long as nothing of the segment has run, the statement is
//! prepared anew and the rest of the segment sent once more; the client notices nothing.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::backend::{Parameters, Prepared, prepared};
use crate::wire::frame::{HEADER, frontend_limit};
use crate::wire::{Frame, FrameWalker, Step, TxStatus, build, frontend};

use super::expect::Expect;
use super::machine::{Link, State};
use super::relay::Session;
use super::splice::Splice;

/// A write that is longer is not kept.
pub(super) const REPLAY_LIMIT: usize = 16 * 1024;

impl Session {
    /// Keeps what has just been written, if it is one whole segment with a shared statement in it.
    pub(super) fn keep_for_replay(&mut self, bytes: &[u8]) {
        let Self { state: State::Linked(link), .. } = self else { return };
        let keep = std::mem::take(&mut link.shared_bound)
            && link.replayable
            && bytes.len() <= REPLAY_LIMIT
            && link.replies.is_one_segment();
        if bytes.is_empty() {
            return;
        }
        let replay = &mut link.lease.prepared.replay;
        replay.clear();
        if keep {
            replay.extend_from_slice(bytes);
        }
    }

    /// A server says that a plan is outdated. Returns whether that is no longer the client's concern.
    pub(super) fn heal(&mut self) -> bool {
        let max = self.max_prepared;
        let Self { state: State::Linked(link), told, .. } = self else { return false };
        let (old, relies) = match link.replies.head() {
            Some(Expect::Bind { statement: Some(statement), relies, .. }) => (statement.clone(), *relies),
            Some(Expect::Describe { of: Some(statement), .. }) => (statement.clone(), false),
            Some(Expect::Bind { statement: None, .. } | Expect::Describe { of: None, .. }) => {
                return link.lease.prepared.unnamed.take().is_some_and(|(old, _)| link.replay(&old, None, told));
            }
            _ => return false,
        };
        old.outdate();
        link.lease.prepared.discard(&old);
        !relies && link.replay(&old, Some(max), told)
    }

    /// A server does not know a statement that stands on the connection: a function has given up what was prepared there, that of all
    /// clients. Whoever needs one of them next prepares it anew. Returns whether the error is no longer the client's concern.
    pub(super) fn heal_lost(&mut self, error: &[u8], out: &mut Splice<'_>) -> bool {
        let max = self.max_prepared;
        let Self { state: State::Linked(link), told, .. } = self else { return false };
        let (lost, relies) = match link.replies.head() {
            Some(Expect::Bind { statement: Some(statement), relies, .. }) => (statement.clone(), *relies),
            Some(Expect::Describe { of: Some(statement), .. }) => (statement.clone(), false),
            _ => return false,
        };
        let registry = &mut link.lease.prepared;
        // Closed before they are prepared: nobody knows of each that it is gone.
        let names = registry.take_known().into_iter().map(|statement| statement.name.clone());
        registry.strays.extend(names);
        if !relies && link.replay(&lost, Some(max), told) {
            return true;
        }
        // A block that has just begun with it begins anew, elsewhere.
        let anew = self.begins_anew(error);
        if anew {
            out.discard();
        }
        anew
    }
}

impl Link {
    /// `max` is how many statements the connection may have; `None` for the unnamed one.
    fn replay(&mut self, old: &Arc<Prepared>, max: Option<usize>, told: &Parameters) -> bool {
        let bytes = std::mem::take(&mut self.lease.prepared.replay);
        if self.status != TxStatus::Idle || !self.backlog.is_empty() || !self.replies.is_one_segment() {
            return false;
        }
        let Some(rest) = rest_of(&bytes, self.replies.sent()) else { return false };
        let owed = std::mem::take(&mut self.replies);
        self.flushed = 0;
        let mut built = Vec::with_capacity(bytes.len() + old.weight());
        let mut out = Splice::new(&[], &mut built);
        // That of the segment that failed.
        self.replies.push(Expect::Sync { ours: true });
        let strays = &mut self.lease.prepared.strays;
        if let Some(at) = strays.iter().position(|stray| *stray == old.name) {
            let name = strays.swap_remove(at);
            build::close_statement(out.insert(), &name);
            self.replies.push(Expect::CloseStray { name });
        }
        let new = if max.is_some() { prepared::renew(old) } else { old.clone() };
        match max {
            Some(max) if !self.lease.prepared.has(&new) => {
                self.make_room(&new, max, &mut out);
                self.parse_shared(&new, told, &mut out);
            }
            Some(_) => {}
            None => self.parse_unnamed(&new, told, &mut out),
        }
        for frame in rest {
            rename(&frame, old, &new, out.insert());
        }
        self.replies.append(owed, old, &new);
        self.segment_open = false;
        self.backlog.extend_from_slice(out.finish());
        true
    }
}

/// The last `count` messages of a segment, when nothing before them has bound or executed anything.
fn rest_of(bytes: &[u8], count: usize) -> Option<SmallVec<[Frame<'_>; 8]>> {
    let mut walker = FrameWalker::new(bytes);
    let mut frames = SmallVec::new();
    while let Ok(Step::Whole(frame)) = walker.step(frontend_limit) {
        if frame.tag != b'H' {
            frames.push(frame);
        }
    }
    let first = frames.len().checked_sub(count)?;
    let ran = |frame: &Frame<'_>| matches!(frame.tag, b'B' | b'E');
    let begun = frames.drain(..first).any(|frame| ran(&frame));
    (!begun).then_some(frames)
}

/// Appends a message in which the one statement's name is replaced by the other's.
fn rename(frame: &Frame<'_>, old: &Prepared, new: &Prepared, out: &mut Vec<u8>) {
    match frame.tag {
        b'B' => {
            if let Some(head) = frontend::bind_head(frame.body())
                && *head.statement == *old.name
            {
                let tail = &frame.bytes[HEADER + head.rest..];
                return build::bind(out, head.portal, &new.name, tail);
            }
        }
        b'D' => {
            if let Some((frontend::ObjectKind::Statement, name)) = frontend::object(frame.body())
                && *name == *old.name
            {
                return build::describe_statement(out, &new.name);
            }
        }
        _ => {}
    }
    out.extend_from_slice(frame.bytes);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_has_not_run_can_be_sent_again() {
        let mut bytes = Vec::new();
        build::parse(&mut bytes, b"a", b"SELECT 1", &[0, 0]);
        build::flush(&mut bytes);
        build::bind_nothing(&mut bytes, b"", b"a");
        build::execute(&mut bytes, b"");
        build::sync(&mut bytes);
        let tags = |count| rest_of(&bytes, count).map(|rest| rest.iter().map(|frame| frame.tag).collect::<Vec<_>>());
        assert_eq!(tags(3).unwrap(), b"BES");
        assert_eq!(tags(4).unwrap(), b"PBES");
        assert_eq!(tags(2), None, "something was bound");
        assert_eq!(tags(5), None);
    }
}
