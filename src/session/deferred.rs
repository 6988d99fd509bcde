//! `BEGIN` that has been answered and not yet sent: no server connection is held while an application thinks after it, and it
//! goes out in the same write as the block's first statement.
//!
//! Whether it comes as a Query or in a segment of its own of the extended protocol (`local`) makes no difference.
//!
//! It is sent as messages of the extended protocol without a Sync: should a server refuse it, it skips whatever follows, so that
//! no statement of the block runs outside one (trap 28).

use std::sync::Arc;

use crate::backend::Prepared;
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
    /// What the unnamed portal executes, between a Bind and the end of its segment that need no server.
    pub portal: Option<Arc<Prepared>>,
}

impl Default for Deferred {
    fn default() -> Self {
        Self { statements: Vec::new(), decision: NOTHING, failed: false, portal: None }
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

    /// Whether it has failed before a server knew of it.
    pub fn has_failed(&self) -> bool {
        self.failed
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
    /// Answers a Query about a block that no server knows of, if that can be done.
    pub(super) fn take_block_control(&mut self, decision: Decision, sql: &[u8]) -> Option<Flow> {
        let control = self.controls_block(decision, sql)?;
        // A simple Query ends the unnamed statement (trap 37).
        self.names.set_unnamed(None);
        self.control_block(control, decision, sql);
        self.answer_ready();
        Some(Flow::Taken)
    }

    /// What a statement says about its block, if that can be read: every server accepts it in its place.
    pub(super) fn reads_as_control(&self, decision: Decision, sql: &[u8]) -> Option<BlockControl> {
        const CONTROL: Effects = Effects::BEGIN.union(Effects::TX_END).union(Effects::SET_LOCAL);
        if !decision.effects.intersects(CONTROL) || sql.len() >= MAX_KEPT {
            return None;
        }
        block_control(sql, self.lex)
    }

    /// Whether a statement that comes now is about a block that no server knows of, and what the server would say is certain.
    pub(super) fn controls_block(&self, decision: Decision, sql: &[u8]) -> Option<BlockControl> {
        if !matches!(self.state, State::Idle) {
            return None;
        }
        let control = self.reads_as_control(decision, sql)?;
        let is_begin = matches!(control, BlockControl::Begin { .. });
        // Begun twice, or ended without a beginning: the server has a warning to give.
        let certain = is_begin != self.deferred.is_open()
            && match control {
                BlockControl::Begin { .. } => !self.statement_mode,
                BlockControl::Modes(_) | BlockControl::Timeout { .. } => self.deferred.has_room_for(sql),
                BlockControl::Commit | BlockControl::Rollback => true,
                // Those are not answered here.
                BlockControl::Savepoint(_) | BlockControl::Release(_) | BlockControl::RollbackTo(_) => false,
            };
        certain.then_some(control)
    }

    /// Answers such a statement, without the ReadyForQuery behind it.
    pub(super) fn control_block(&mut self, control: BlockControl, decision: Decision, sql: &[u8]) {
        match control {
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
            // Nothing has happened yet to which one could go back.
            BlockControl::Savepoint(_) | BlockControl::Release(_) | BlockControl::RollbackTo(_) => {}
            kept => {
                if let BlockControl::Modes(modes) = kept {
                    self.deferred.shape(modes);
                }
                self.deferred.keep(sql);
                build::command_complete(&mut self.to_client, "SET");
            }
        }
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
