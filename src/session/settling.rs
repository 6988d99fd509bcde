//! What has to wait until it is known what a name stands for: something under way may change that, or an error may void what has.

use smallvec::SmallVec;

use crate::sql::Effects;
use crate::wire::frame::frontend_limit;
use crate::wire::frontend::{self, ObjectKind};
use crate::wire::{FrameWalker, Step, build};

use super::inbound::{Flow, Need};
use super::machine::{Link, State};
use super::relay::Session;
use super::splice::Splice;

impl Session {
    /// An extended-protocol message names a statement of which something under way may change the meaning: it waits for the answer
    /// to that.
    pub(super) fn settle_name(&mut self, name: &[u8], out: &mut Splice<'_>) -> Option<Flow> {
        let link = self.link()?;
        let replies = &link.replies;
        if name.is_empty()
            || !(replies.changes_name(name) || replies.prepares_name(name) || replies.unsettles_own(name))
        {
            return None;
        }
        Some(link.wait_for_answers(out))
    }

    /// The same of a message that uses what stands under the name, the unnamed statement included.
    pub(super) fn settle_use(&mut self, name: &[u8], out: &mut Splice<'_>) -> Option<Flow> {
        if !name.is_empty() {
            return self.settle_name(name, out);
        }
        let link = self.link().filter(|link| link.replies.unsettles_unnamed())?;
        Some(link.wait_for_answers(out))
    }

    /// What comes next waits for what is open before it: on the primary for the answers only, since what it has written is not to be
    /// committed before its time.
    pub(super) fn wait_within(&mut self, out: &mut Splice<'_>) -> Flow {
        match self.link() {
            Some(link) if link.primary => link.wait_for_answers(out),
            _ => self.leave_replica(out),
        }
    }

    /// Whether it depends on what is under way what the segment at the beginning of `rest` does: it names statements, or executes by
    /// name, and those names may come to stand for something else, or stay what they were when an error comes. Judged by what they
    /// stand for now it might run on the wrong node.
    pub(super) fn is_unsettled_segment(&self, rest: &[u8]) -> bool {
        let State::Linked(link) = &self.state else { return false };
        let replies = &link.replies;
        if !replies.owes_ready() {
            return false;
        }
        let named = |name: &[u8]| match name.is_empty() {
            true => replies.unsettles_unnamed(),
            false => replies.changes_name(name) || replies.prepares_name(name),
        };
        let text = |sql: &[u8], effects: Effects| {
            effects.contains(Effects::SQL_EXECUTE) && self.names_in(sql).names.iter().any(|name| named(name))
        };
        let used = |name: &[u8]| {
            let stands = self.names.get(name).and_then(|of| of.shared());
            named(name) || stands.is_some_and(|of| text(&of.sql, of.decision.effects))
        };
        let mut prepared: SmallVec<[&[u8]; 4]> = SmallVec::new();
        let mut walker = FrameWalker::new(rest);
        while let Ok(Step::Whole(frame)) = walker.step(frontend_limit) {
            let body = frame.body();
            let name = match frame.tag {
                b'P' => {
                    let Some(parse) = frontend::parse(body) else { return false };
                    if text(parse.sql, self.decisions.decide(parse.sql, self.lex).effects) {
                        return true;
                    }
                    prepared.push(parse.name);
                    continue;
                }
                b'B' => frontend::bind_head(body).map(|head| head.statement),
                b'D' => frontend::object(body).filter(|(kind, _)| *kind == ObjectKind::Statement).map(|(_, name)| name),
                b'C' | b'E' => None,
                _ => return false,
            };
            if name.is_some_and(|name| !prepared.contains(&name) && used(name)) {
                return true;
            }
        }
        false
    }
}

impl Link {
    /// What comes next waits for the answers to what was sent: a Flush of ours asks for them.
    pub fn wait_for_answers(&mut self, out: &mut Splice<'_>) -> Flow {
        self.ask_for_answers(true, out);
        Flow::Stop(Need::Quiet)
    }

    /// A server keeps its answers to itself until a Sync, a Query or a Flush comes: when something waits for them, or they are owed for
    /// messages of ours that belong to no segment (the Close of a stray name, say), a Flush of ours asks for them. To be called at the
    /// end of each write.
    pub fn ask_for_answers(&mut self, waits: bool, out: &mut Splice<'_>) {
        let Some(last) = self.replies.last_sent() else { return };
        if !last.is_ready() && !self.copy_in && (waits || (!self.segment_open && last.is_ours())) {
            let awaited = self.replies.pushed();
            if std::mem::replace(&mut self.flushed, awaited) != awaited {
                build::flush(out.insert());
            }
        }
    }
}
