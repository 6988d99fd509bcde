//! `BEGIN` that has been answered and not yet sent: no server connection is held while an application thinks after it, and it
//! goes out in the same write as the block's first statement.
//!
//! Whether it comes as a Query or in a segment of its own of the extended protocol (`local`) makes no difference. What else is said
//! about the block before a server knows of it is kept with it: modes, time-outs, savepoints.
//!
//! It is sent as messages of the extended protocol without a Sync: should a server refuse it, it skips whatever follows, so that
//! no statement of the block runs outside one (trap 28).

use std::sync::Arc;

use quanta::Instant;
use smallvec::SmallVec;

use crate::backend::{Prepared, Settings, Value};
use crate::sql::{BlockControl, BlockModes, Change, Decision, Effects, Isolation, Reason, Target, block_control};
use crate::wire::{TxStatus, build};

use super::expect::Expect;
use super::gather::NOTHING;
use super::inbound::Flow;
use super::machine::State;
use super::relay::Session;
use super::splice::Splice;

/// Bytes of statements that are kept; what comes after them fetches a connection.
const MAX_KEPT: usize = 512;

/// Takes the block's first snapshot, and has no result.
const SNAPSHOT: &[u8] = b"SELECT LIMIT 0";

/// A transaction block that no server knows of.
#[derive(Debug)]
pub(super) struct Deferred {
    /// `BEGIN` and what else was answered, to be sent in order, each with a NUL behind it. Empty = there is no such block.
    texts: Vec<u8>,
    /// What these texts are.
    kept: SmallVec<[Kept; 2]>,
    /// The same of the block that was sent last: it may have to begin anew.
    sent: (Vec<u8>, SmallVec<[Kept; 2]>, BlockModes),
    /// About the block as a whole.
    pub decision: Decision,
    /// What the block itself says.
    modes: BlockModes,
    /// An error has come, or no connection could be had for a statement: the block has failed, as it would have on a server.
    failed: bool,
    /// The last of them came as a Query, which leaves no unnamed portal behind.
    queried: bool,
    /// What the unnamed portal executes, between a Bind and the end of its segment that need no server.
    pub portal: Option<Arc<Prepared>>,
    /// The statement at hand runs on a replica beside the block (`offload`).
    pub offloads: bool,
    /// The statement at hand asks how transactions are begun.
    pub asks_defaults: bool,
    /// The format of the column of that portal.
    pub portal_format: u16,
}

#[derive(Debug)]
struct Kept {
    /// Bytes of its text, the NUL included.
    len: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    Begin,
    Modes,
    /// The end of a block, which another one of its modes follows.
    Chain,
    /// `SET LOCAL` of this setting.
    Local(&'static str, String),
    /// A statement has read: the time for some modes is over.
    Snapshot,
    Savepoint(Box<[u8]>),
}

impl Default for Deferred {
    fn default() -> Self {
        Self {
            texts: Vec::new(),
            kept: SmallVec::new(),
            sent: (Vec::new(), SmallVec::new(), BlockModes::default()),
            decision: NOTHING,
            modes: BlockModes::default(),
            failed: false,
            queried: false,
            portal: None,
            offloads: false,
            asks_defaults: false,
            portal_format: 0,
        }
    }
}

impl Deferred {
    /// Whether there is such a block.
    pub fn is_open(&self) -> bool {
        !self.texts.is_empty()
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

    /// The isolation level, when the block itself says it.
    pub fn isolation(&self) -> Option<Isolation> {
        self.modes.isolation
    }

    /// Whether it is READ ONLY, when the block itself says so.
    pub fn read_only(&self) -> Option<bool> {
        self.modes.read_only
    }

    /// The client was told an error.
    pub fn fail(&mut self) {
        self.failed = self.is_open();
    }

    /// A statement of the block runs beside it.
    pub fn note_read(&mut self) {
        if !self.has_read() {
            self.keep(SNAPSHOT, What::Snapshot);
        }
    }

    /// The session's settings, and those that the block has made its own.
    pub fn settings_over(&self, session: &Arc<Settings>) -> Arc<Settings> {
        self.kept.iter().fold(session.clone(), |settings, kept| match &kept.what {
            What::Local(name, value) => settings.with(name, Some(Value::Text(value.clone()))),
            _ => settings,
        })
    }

    fn open(&mut self, sql: &[u8], decision: Decision, modes: BlockModes) {
        self.close();
        self.decision = decision;
        self.modes = modes;
        self.keep(sql, What::Begin);
    }

    fn close(&mut self) {
        self.texts.clear();
        self.kept.clear();
        self.modes = BlockModes::default();
        self.failed = false;
        self.offloads = false;
    }

    /// The block has ended, and one of the same modes begins: on the server, too, which takes modes that `BEGIN` has said back when the
    /// block fails, and keeps those of a chain.
    fn chain(&mut self) {
        let (texts, mut from) = (&mut self.texts, 0);
        self.kept.retain(|kept| {
            let stays = matches!(kept.what, What::Begin | What::Modes);
            match stays {
                true => from += kept.len,
                false => drop(texts.drain(from..from + kept.len)),
            }
            stays
        });
        self.keep(b"COMMIT AND CHAIN", What::Chain);
        self.failed = false;
        self.offloads = false;
    }

    /// A block that may have run on a replica goes on, in the client's eyes, as one that no server knows of: READ ONLY, at this level if
    /// that is known.
    pub fn reopen(&mut self, isolation: Option<Isolation>, deferrable: bool, failed: bool) {
        let mut begin = b"BEGIN READ ONLY".to_vec();
        if deferrable {
            begin.extend_from_slice(b", DEFERRABLE");
        }
        if let Some(level) = isolation {
            begin.extend_from_slice(b" ISOLATION LEVEL ");
            begin.extend_from_slice(level.as_str().as_bytes());
        }
        let effects = Effects::BEGIN | Effects::READ_ONLY;
        let decision = Decision { target: Target::Replica, reason: Reason::ReadOnlyTx, effects, ..NOTHING };
        self.open(&begin, decision, BlockModes { read_only: Some(true), isolation });
        self.failed = failed;
        self.queried = true;
    }

    /// The block was sent. Memory is used again.
    fn set_aside(&mut self) {
        std::mem::swap(&mut self.texts, &mut self.sent.0);
        std::mem::swap(&mut self.kept, &mut self.sent.1);
        self.sent.2 = std::mem::take(&mut self.modes);
        self.close();
    }

    /// The block that was sent last has never been.
    pub fn begin_anew(&mut self) {
        std::mem::swap(&mut self.texts, &mut self.sent.0);
        std::mem::swap(&mut self.kept, &mut self.sent.1);
        self.modes = std::mem::take(&mut self.sent.2);
    }

    fn keep(&mut self, sql: &[u8], what: What) {
        self.texts.extend_from_slice(sql);
        self.texts.push(0);
        self.kept.push(Kept { len: sql.len() + 1, what });
    }

    fn has_room_for(&self, sql: &[u8]) -> bool {
        !self.failed && self.texts.len() + sql.len() < MAX_KEPT
    }

    fn has_read(&self) -> bool {
        self.kept.iter().any(|kept| matches!(kept.what, What::Snapshot))
    }

    /// Whether every mode can still be set: no statement has run, and no savepoint was made.
    fn is_fresh(&self) -> bool {
        self.kept.iter().all(|kept| !matches!(kept.what, What::Snapshot | What::Savepoint(_)))
    }

    /// Where the last savepoint of this name stands.
    fn point(&self, name: &[u8]) -> Option<usize> {
        self.kept.iter().rposition(|kept| matches!(&kept.what, What::Savepoint(of) if **of == *name))
    }

    /// `ROLLBACK TO`: what came after the savepoint has not been, errors included.
    fn roll_back_to(&mut self, name: &[u8]) {
        let Some(at) = self.point(name) else { return };
        let had_read = self.has_read();
        self.kept.truncate(at + 1);
        self.texts.truncate(self.kept.iter().map(|kept| kept.len).sum());
        self.failed = false;
        if had_read {
            self.note_read();
        }
    }

    /// `RELEASE`: the savepoint and those after it are gone, and what came after them is kept.
    fn release(&mut self, name: &[u8]) {
        let Some(at) = self.point(name) else { return };
        let (mut from, mut index) = (0, 0);
        let texts = &mut self.texts;
        self.kept.retain(|kept| {
            let is_gone = index >= at && matches!(kept.what, What::Savepoint(_));
            if is_gone {
                texts.drain(from..from + kept.len);
            } else {
                from += kept.len;
            }
            index += 1;
            !is_gone
        });
    }

    /// `SET TRANSACTION`: the last word on each matter wins.
    fn shape(&mut self, modes: BlockModes) {
        let effects = &mut self.decision.effects;
        if let Some(read_only) = modes.read_only {
            self.modes.read_only = Some(read_only);
            effects.set(Effects::READ_WRITE, !read_only);
            effects.set(Effects::READ_ONLY, read_only && !effects.contains(Effects::HINTED));
        }
        if let Some(isolation) = modes.isolation {
            effects.set(Effects::SERIALIZABLE, isolation == Isolation::Serializable);
            self.modes.isolation = Some(isolation);
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
        self.deferred.queried = true;
        self.answer_ready();
        Some(Flow::Taken)
    }

    /// What a statement says about its block, if that can be read.
    pub(super) fn reads_as_control(&self, decision: Decision, sql: &[u8]) -> Option<BlockControl> {
        const CONTROL: Effects =
            Effects::BEGIN.union(Effects::TX_END).union(Effects::SET_LOCAL).union(Effects::SAVEPOINT);
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
        let deferred = &self.deferred;
        let is_begin = matches!(control, BlockControl::Begin { .. });
        // Begun twice, or ended without a beginning: the server has a warning to give.
        let certain = is_begin != deferred.is_open()
            && match &control {
                BlockControl::Begin { .. } => !self.statement_mode,
                BlockControl::Modes(_) => deferred.has_room_for(sql) && deferred.is_fresh(),
                BlockControl::Timeout { .. } | BlockControl::Savepoint(_) => deferred.has_room_for(sql),
                BlockControl::Release(name) => !deferred.failed && deferred.point(name).is_some(),
                BlockControl::RollbackTo(name) => deferred.point(name).is_some(),
                BlockControl::End { .. } => true,
            };
        certain.then_some(control)
    }

    /// Answers such a statement, without the ReadyForQuery behind it.
    pub(super) fn control_block(&mut self, control: BlockControl, decision: Decision, sql: &[u8]) {
        let tag = match control {
            BlockControl::Begin { tag, modes } => {
                self.deferred.open(sql, decision, modes);
                tag
            }
            BlockControl::End { rolls_back, chain } => {
                let rolled_back = rolls_back || self.deferred.failed;
                match chain {
                    true => self.deferred.chain(),
                    false => self.deferred.close(),
                }
                self.tracked.ended_unseen(rolled_back);
                self.placement.transaction_ended(rolled_back);
                self.placement.observe(self.tracked.settings());
                self.block_ended(Instant::now());
                if rolled_back { "ROLLBACK" } else { "COMMIT" }
            }
            BlockControl::Modes(modes) => {
                self.deferred.shape(modes);
                self.deferred.keep(sql, What::Modes);
                "SET"
            }
            BlockControl::Timeout { name, value } => {
                self.deferred.keep(sql, What::Local(name, value));
                "SET"
            }
            BlockControl::Savepoint(name) => {
                self.placement.follow_savepoint(&Change::Savepoint(name.clone()));
                self.deferred.keep(sql, What::Savepoint(name));
                "SAVEPOINT"
            }
            BlockControl::Release(name) => {
                self.deferred.release(&name);
                self.placement.follow_savepoint(&Change::Release(name));
                "RELEASE"
            }
            BlockControl::RollbackTo(name) => {
                self.deferred.roll_back_to(&name);
                self.placement.follow_savepoint(&Change::RollbackTo(name));
                "ROLLBACK"
            }
        };
        self.deferred.queried = false;
        build::command_complete(&mut self.to_client, tag);
    }

    /// The block begins on the connection that was got for it, unless the statement at hand runs beside it.
    pub(super) fn send_deferred(&mut self, out: &mut Splice<'_>) {
        let Self { state: State::Linked(link), deferred, tracked, .. } = self else { return };
        if !deferred.is_open() {
            return;
        }
        if deferred.offloads && !link.primary {
            return deferred.note_read();
        }
        for statement in deferred.texts.split_inclusive(|byte| *byte == 0) {
            build::run_unnamed(out.insert(), statement);
            link.replies.push(Expect::Begin);
        }
        if deferred.queried {
            // The client's next message may ask for that portal, and is to be refused.
            build::close_portal(out.insert(), b"");
            link.replies.push(Expect::Close { ours: true });
        }
        tracked.goes_on(&link.lease.settings);
        for kept in &deferred.kept {
            if let What::Savepoint(name) = &kept.what {
                tracked.apply(&Change::Savepoint(name.clone()), &mut link.lease.settings);
            }
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
        // Savepoints are known to the session from now on.
        if !deferred.failed && deferred.kept.iter().all(|kept| !matches!(kept.what, What::Savepoint(_))) {
            link.rerun.begin_block();
        }
        deferred.set_aside();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(deferred: &Deferred) -> String {
        String::from_utf8_lossy(&deferred.texts).replace('\0', ";")
    }

    fn block() -> Deferred {
        let mut deferred = Deferred::default();
        deferred.open(b"BEGIN", NOTHING, BlockModes::default());
        for name in ["a", "b", "a"] {
            deferred.keep(format!("SAVEPOINT {name}").as_bytes(), What::Savepoint(name.as_bytes().into()));
            deferred.keep(b"SET LOCAL x", What::Local("x", name.to_owned()));
        }
        deferred
    }

    #[test]
    fn rolled_back_to_a_savepoint_a_read_has_still_been() {
        let mut deferred = block();
        deferred.note_read();
        deferred.note_read();
        deferred.fail();
        deferred.roll_back_to(b"b");
        assert_eq!(texts(&deferred), "BEGIN;SAVEPOINT a;SET LOCAL x;SAVEPOINT b;SELECT LIMIT 0;");
        assert_eq!(deferred.status(), TxStatus::InTransaction);
        assert_eq!(deferred.settings_over(&Settings::none()).text("x"), Some("a"));
        assert!(!deferred.is_fresh());
    }

    #[test]
    fn of_a_block_that_is_chained_the_modes_stay() {
        let mut deferred = block();
        deferred.keep(b"SET TRANSACTION READ ONLY", What::Modes);
        deferred.note_read();
        deferred.fail();
        deferred.chain();
        deferred.chain();
        assert_eq!(texts(&deferred), "BEGIN;SET TRANSACTION READ ONLY;COMMIT AND CHAIN;");
        assert!(deferred.is_fresh() && deferred.status() == TxStatus::InTransaction);
        deferred.reopen(Some(Isolation::RepeatableRead), false, true);
        assert_eq!(texts(&deferred), "BEGIN READ ONLY ISOLATION LEVEL repeatable read;");
        assert_eq!((deferred.status(), deferred.read_only()), (TxStatus::Failed, Some(true)));
        deferred.reopen(Some(Isolation::RepeatableRead), true, false);
        assert_eq!(texts(&deferred), "BEGIN READ ONLY, DEFERRABLE ISOLATION LEVEL repeatable read;");
        for _ in 0..2 {
            deferred.set_aside();
            deferred.begin_anew();
        }
        assert_eq!(deferred.isolation(), Some(Isolation::RepeatableRead));
    }

    #[test]
    fn what_was_set_behind_a_released_savepoint_stays() {
        let mut deferred = block();
        deferred.release(b"a");
        assert_eq!(texts(&deferred), "BEGIN;SAVEPOINT a;SET LOCAL x;SAVEPOINT b;SET LOCAL x;SET LOCAL x;");
        deferred.release(b"a");
        assert_eq!(texts(&deferred), "BEGIN;SET LOCAL x;SET LOCAL x;SET LOCAL x;");
        assert_eq!(deferred.point(b"a"), None);
        assert_eq!(deferred.settings_over(&Settings::none()).text("x"), Some("a"));
    }
}
