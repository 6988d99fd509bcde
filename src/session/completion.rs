//! What a statement or transaction that has ended leaves of the session's state.

use crate::backend::{ServerConn, reserved};
use crate::sql::{Change, StatementChange};
use crate::wire::TxStatus;

use super::expect::Expect;
use super::machine::State;
use super::pins::Pins;
use super::preparing::NOT_FOR_OTHERS;
use super::relay::Session;

impl Session {
    /// A statement has succeeded, or its portal is suspended: what it changed of what the session keeps. The tag tells how a transaction
    /// ended, whatever was asked (trap 26: a COMMIT that fails says ROLLBACK).
    pub(super) fn take_completion(&mut self, tag: &[u8]) {
        if tag == b"COMMIT\0" && self.changes_schema {
            // A string goes on behind it, or the next block begins with it.
            self.schema_changed();
        }
        self.doubt_writes();
        if self.sight.is_writing()
            && let State::Linked(link) = &self.state
            && (tag == b"COMMIT\0"
                || (link.status == TxStatus::Idle && matches!(link.replies.head(), Some(Expect::Simple { .. }))))
        {
            // Committed before the tag was sent: whoever sees it may act upon it.
            self.sight.committed(link.replies.owes_more());
        }
        if self.unseen.is_some() {
            self.pin_unseen(tag);
        }
        let Self { state: State::Linked(link), tracked, placement, names, decisions, lex, told, .. } = self else {
            return;
        };
        let link = &mut **link;
        let mut to_savepoint = false;
        if let Some(script) = link.replies.script() {
            for StatementChange { change, .. } in script.next_statement() {
                names.apply(change, decisions, *lex, told, &mut link.lease.prepared);
                tracked.apply(change, &mut link.lease.settings);
                placement.follow_savepoint(change);
                to_savepoint |= matches!(change, Change::RollbackTo(_));
                if matches!(change, Change::Set { name, .. } if reserved::is_doubtful(name)) {
                    link.retired = Some(NOT_FOR_OTHERS);
                }
                if matches!(change, Change::ResetAll | Change::DiscardAll) {
                    placement.reset_own(link.status.in_block());
                }
            }
        }
        placement.observe(tracked.settings());
        if !link.primary && placement.is_serializable() {
            link.retired = Some("serializable transactions by default, which no standby runs");
        }
        link.completed += 1;
        let rolled_back = match tag {
            b"COMMIT\0" | b"PREPARE TRANSACTION\0" => false,
            b"ROLLBACK\0" if !to_savepoint => true,
            _ => return,
        };
        link.ended_by_tag = Some(rolled_back);
        placement.transaction_ended(rolled_back);
        self.transaction_over(rolled_back);
    }

    /// A transaction has ended: what it changed stays, or is as it was before.
    pub(super) fn transaction_over(&mut self, rolled_back: bool) {
        self.names.local_context = 0;
        self.names.temporary_path = false;
        let Self { state: State::Linked(link), tracked, placement, .. } = self else { return };
        match rolled_back {
            true => tracked.rolled_back(&mut link.lease.settings),
            false => tracked.committed(),
        }
        placement.observe(tracked.settings());
    }

    /// The same, and no block is open.
    pub(super) fn settle_transaction(&mut self, rolled_back: bool) {
        self.transaction_over(rolled_back);
        if let Self { state: State::Linked(link), tracked, .. } = self {
            let ServerConn { parameters, settings, .. } = &mut *link.lease;
            tracked.settle_date_style(parameters, settings);
        }
    }

    /// Pins that came with a transaction that is over go when all of it was rolled back. Where it ended in the middle of a string
    /// or pipeline, or more is on its way, nobody knows which of them came later: they stay until evidence is against them.
    pub(super) fn settle_fresh_pins(&mut self, failed: bool) {
        let Some(link) = self.link() else { return };
        let (completed, ended_by_tag) = (std::mem::take(&mut link.completed), link.ended_by_tag.take());
        let undone = match ended_by_tag {
            None => failed,
            Some(rolled_back) => rolled_back && completed == 1 && !failed,
        };
        let in_block = link.status.in_block();
        let certain = undone && link.replies.is_empty() && !in_block;
        if in_block && ended_by_tag.is_none() {
            return;
        }
        let fresh = std::mem::replace(&mut self.fresh_pins, Pins::empty());
        if certain {
            self.pins.remove(fresh);
        } else if !fresh.is_empty() {
            self.evidence.want();
        }
    }

    /// A transaction in which the schema may have been changed has ended: before the client is told, so that nothing it does next is
    /// judged by what was there before. What replicas have refused is found out anew, too.
    pub(super) fn schema_settled(&mut self, outside_block: bool) {
        if outside_block && self.changes_schema {
            self.schema_changed();
            // A statement that is still under way may be the one.
            self.changes_schema = self.link().is_some_and(|link| !link.replies.is_empty());
        }
        if outside_block && self.doubts_schema {
            self.decisions.distrust_catalog();
            self.doubts_schema = self.link().is_some_and(|link| !link.replies.is_empty());
        }
    }

    fn schema_changed(&mut self) {
        self.decisions.schema_changed();
        self.decisions.forget_learned();
    }

    /// What is being written was judged by the schema as it was when it was sent. A statement that waited for a lock meets the one
    /// that was committed meanwhile: what its names mean then, and what changes along, nobody has said.
    pub(super) fn doubt_writes(&mut self) {
        self.sight.judged_by(self.decisions.epoch());
    }

    /// A statement that gives state up has ended.
    pub(super) fn release_pins(&mut self, outside_block: bool) {
        let released = std::mem::replace(&mut self.releasing, Pins::empty());
        if released.is_empty() || !outside_block || self.timing.has_failed() {
            return;
        }
        self.pins.remove(released);
    }
}
