//! `BEGIN` that has been answered and not yet sent: no server connection is held while an application thinks after it, and it
//! goes out in the same write as the block's first statement.
//!
//! It is sent as messages of the extended protocol without a Sync: should a server refuse it, it skips whatever follows, so that
//! no statement of the block runs outside one (trap 28).

use crate::sql::{BlockControl, BlockModes, Decision, Effects, Isolation, Target, block_control};
use crate::wire::{TxStatus, build};

use super::gather::NOTHING;
use super::inbound::Flow;
use super::machine::State;
use super::pins::Pins;
use super::placement::Place;
use super::relay::Session;
use super::replies::Expect;
use super::splice::Splice;

/// Bytes of statements that are kept; what comes after them fetches a connection.
const MAX_KEPT: usize = 512;

/// A transaction block that no server knows of.
#[derive(Debug)]
pub(super) struct Deferred {
    /// `BEGIN` and what else was answered, to be sent in order, each with a NUL behind it. Empty = there is no such block.
    statements: Vec<u8>,
    /// About the block as a whole.
    decision: Decision,
    /// No connection could be had for its first statement: the block has failed, as it would have on a server.
    failed: bool,
}

impl Default for Deferred {
    fn default() -> Self {
        Self { statements: Vec::new(), decision: NOTHING, failed: false }
    }
}

impl Deferred {
    /// Whether there is such a block.
    pub fn is_open(&self) -> bool {
        !self.statements.is_empty()
    }

    /// Its status, as a server would tell it.
    pub fn status(&self) -> TxStatus {
        match (self.is_open(), self.failed) {
            (false, _) => TxStatus::Idle,
            (true, false) => TxStatus::InTransaction,
            (true, true) => TxStatus::Failed,
        }
    }

    /// The statement for which it was to begin could not have a connection.
    pub fn fail(&mut self) {
        self.failed = self.is_open();
    }

    fn open(&mut self, sql: &[u8], decision: Decision) {
        self.close();
        self.decision = decision;
        self.keep(sql);
    }

    fn close(&mut self) {
        self.statements.clear();
        self.failed = false;
    }

    fn keep(&mut self, sql: &[u8]) {
        self.statements.extend_from_slice(sql);
        self.statements.push(0);
    }

    fn has_room_for(&self, sql: &[u8]) -> bool {
        !self.failed && self.statements.len() + sql.len() < MAX_KEPT
    }

    /// `SET TRANSACTION`: the last word on each matter wins.
    fn shape(&mut self, modes: BlockModes) {
        let effects = &mut self.decision.effects;
        if let Some(read_only) = modes.read_only {
            effects.set(Effects::READ_WRITE, !read_only);
            effects.set(Effects::READ_ONLY, read_only && !effects.contains(Effects::HINTED));
        }
        if let Some(isolation) = modes.isolation {
            effects.set(Effects::SERIALIZABLE, isolation == Isolation::Serializable);
        }
    }
}

impl Session {
    /// Answers a statement about a block that no server knows of, if that can be done.
    pub(super) fn take_block_control(&mut self, decision: Decision, sql: &[u8]) -> Option<Flow> {
        const CONTROL: Effects = Effects::BEGIN.union(Effects::TX_END).union(Effects::SET_LOCAL);
        let is_begin = decision.effects.contains(Effects::BEGIN);
        // Begun twice, or ended without a beginning: the server has a warning to give.
        if !decision.effects.intersects(CONTROL)
            || !matches!(self.state, State::Idle)
            || is_begin == self.deferred.is_open()
            || sql.len() >= MAX_KEPT
        {
            return None;
        }
        match block_control(sql, self.lex)? {
            BlockControl::Begin { tag, .. } => {
                self.deferred.open(sql, decision);
                build::command_complete(&mut self.to_client, tag);
            }
            end @ (BlockControl::Commit | BlockControl::Rollback) => {
                let rolled_back = end == BlockControl::Rollback || self.deferred.failed;
                self.deferred.close();
                self.placement.own.transaction_ended();
                build::command_complete(&mut self.to_client, if rolled_back { "ROLLBACK" } else { "COMMIT" });
            }
            BlockControl::Savepoint(_) | BlockControl::Release(_) | BlockControl::RollbackTo(_) => return None,
            BlockControl::Modes(_) | BlockControl::Timeout { .. } if !self.deferred.has_room_for(sql) => return None,
            kept => {
                if let BlockControl::Modes(modes) = kept {
                    self.deferred.shape(modes);
                }
                self.deferred.keep(sql);
                build::command_complete(&mut self.to_client, "SET");
            }
        }
        self.answer_ready();
        Some(Flow::Taken)
    }

    /// Where a statement runs, or the block that begins with it.
    pub(super) fn place_of(&mut self, decision: Decision) -> Place {
        if !self.deferred.is_open() {
            return self.placement.place(decision);
        }
        // State of the session is made on the primary, in a READ ONLY block too.
        if Pins::of(decision.effects) != Pins::empty() {
            return Place::Primary;
        }
        self.placement.place(self.deferred.decision)
    }

    /// The block begins on the connection that was got for it.
    pub(super) fn send_deferred(&mut self, out: &mut Splice<'_>) {
        let Self { state: State::Linked(link), deferred, .. } = self else { return };
        if !deferred.is_open() {
            return;
        }
        for statement in deferred.statements.split_inclusive(|byte| *byte == 0) {
            build::run_unnamed(out.insert(), statement);
            link.replies.push(Expect::Begin);
        }
        link.lease.prepared.unnamed = None;
        // Until a ReadyForQuery tells; should the server refuse, none comes.
        link.status = TxStatus::InTransaction;
        link.segment_open = true;
        if deferred.failed {
            // What the client was told is to hold on the server, too: all else is for it to say.
            build::run_unnamed(out.insert(), b"the block has failed\0");
            build::sync(out.insert());
            link.replies.push(Expect::Spoiled);
            link.segment_open = false;
        }
        let target = if link.primary { Target::Primary } else { Target::Replica };
        self.metrics.routed(target, deferred.decision.reason);
        deferred.close();
    }
}
