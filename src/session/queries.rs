//! A simple Query, and its cousin the function call: what is answered here, what is refused, what goes out.

use std::ops::Range;

use crate::sql::{Decision, Effects, Reason};
use crate::wire::{ErrorNotice, SqlState, TxStatus, build};

use super::expect::Expect;
use super::inbound::{Flow, Need, UNSEEN};
use super::machine::State;
use super::pins::Pins;
use super::placement::Place;
use super::relay::Session;
use super::splice::Splice;

impl Session {
    pub(super) fn take_query(&mut self, sql: &[u8], range: Range<usize>, out: &mut Splice<'_>) -> Flow {
        if let Some(stop) = self.awaits_offloaded(out) {
            return stop;
        }
        let decision = self.judge_in_block(self.judge(sql), sql, std::iter::empty());
        if let Some(stop) = self.ends_replicas_block(decision, sql, out) {
            return stop;
        }
        let effects = decision.effects;
        let alone = !effects.contains(Effects::MULTI);
        let own = effects.contains(Effects::OWN_SETTING) && alone;
        let asks = decision.reason == Reason::ExplainRoute && alone && self.status() != TxStatus::Failed;
        if own || asks || (decision.reason == Reason::Empty && matches!(self.state, State::Idle | State::Waiting)) {
            // Answered here, but in its turn.
            if let Some(stop) = self.needs_quiet(out) {
                return stop;
            }
            self.names.set_unnamed(None);
            match own {
                true => self.answer_own_setting(sql),
                false if asks => self.answer_explain_route(sql),
                false => build::bare(&mut self.to_client, b'I'),
            }
            self.answer_ready();
            return Flow::Taken;
        }
        if let Some(answer) = self.shown(decision, sql) {
            // A simple Query ends the unnamed statement (trap 37).
            self.names.set_unnamed(None);
            self.describe_shown(&answer, 0);
            self.answer_shown(&answer, decision);
            self.answer_ready();
            return Flow::Taken;
        }
        self.deferred.asks_defaults = self.wants_defaults(decision, sql);
        if let Some(notice) = self.refusal(decision, sql) {
            return self.refuse_query(notice, out);
        }
        if let Some(answered) = self.take_block_control(decision, sql) {
            return answered;
        }
        self.note_shard_of_query(decision, sql);
        self.sets_temp_buffers = false;
        self.note_temp_buffers(effects, sql);
        if let Some(stop) = self.needs_other_link(decision, range.start, out) {
            return stop;
        }
        if self.must_notify_alone(effects) {
            return self.wait_within(out);
        }
        if let Some(stop) = self.provide_channels(effects, out) {
            return stop;
        }
        if let Some(stop) = self.names_before_query(decision, sql, out) {
            return stop;
        }
        let script = self.read_script(decision.effects, sql, &|_| None);
        self.begin_statement(decision, sql, None, script.as_deref());
        // A simple Query ends the unnamed statement (trap 37).
        let unnamed = self.names.take_unnamed();
        self.segment_cleared = false;
        let Some(link) = self.link() else { return Flow::Stop(Need::Lease(Place::Primary)) };
        link.lease.prepared.unnamed = None;
        link.ends_segment(script, unnamed);
        out.pass(range);
        Flow::Taken
    }

    /// A Query is refused in its turn. The block or sequence that it stands in fails with it, as it would have.
    pub(super) fn refuse_query(&mut self, notice: ErrorNotice, out: &mut Splice<'_>) -> Flow {
        let in_sequence = self.link().is_some_and(|link| link.is_in_sequence());
        if in_sequence && let Some(link) = self.link().filter(|link| !link.replies.is_empty()) {
            return link.wait_for_answers(out);
        }
        if !in_sequence && let Some(stop) = self.needs_quiet(out) {
            return stop;
        }
        if in_sequence || matches!(&self.state, State::Linked(link) if link.status == TxStatus::InTransaction) {
            self.refuse(notice, out);
            if let Some(link) = self.link() {
                link.close_segment();
                link.replies.push(Expect::Sync { ours: false });
            }
            build::sync(out.insert());
            return Flow::Refused;
        }
        notice.encode(&mut self.to_client);
        self.deferred.fail();
        self.answer_ready();
        Flow::Taken
    }

    pub(super) fn take_function_call(&mut self, body: &[u8], range: Range<usize>, out: &mut Splice<'_>) -> Flow {
        self.forget_shards();
        if let Some(stop) = self.needs_other_link(UNSEEN, range.start, out) {
            return stop;
        }
        if let Some(link) = self.link()
            && !link.replies.is_empty()
            && (link.segment_open || link.replies.is_cut_short())
        {
            // What an error before it makes void leaves nothing behind.
            return link.wait_for_answers(out);
        }
        self.begin_statement(UNSEEN, b"-- function call", None, None);
        self.segment_cleared = false;
        // Large objects live in a transaction (trap 14); any other function may leave session state behind.
        let oid = body.first_chunk::<4>().map_or(0, |oid| u32::from_be_bytes(*oid));
        if !matches!(oid, 715 | 764 | 767 | 952..=958 | 964 | 1004 | 3170..=3172 | 3457..=3460) {
            self.pin(Pins::SESSION_STATE);
            self.pinned_by(b"-- function call");
        }
        let Some(link) = self.link() else { return Flow::Stop(Need::Lease(Place::Primary)) };
        link.ends_segment(None, None);
        out.pass(range);
        Flow::Taken
    }

    /// What must be refused in this mode, or on this node.
    pub(super) fn refusal(&mut self, decision: Decision, sql: &[u8]) -> Option<ErrorNotice> {
        let effects = decision.effects;
        if self.statement_mode && effects.contains(Effects::BEGIN) {
            return Some(
                ErrorNotice::error(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "transaction blocks are not possible in statement pooling",
                )
                .hint("Set pool_mode to \"transaction\" for this database or user."),
            );
        }
        if effects.contains(Effects::OWN_SETTING | Effects::MULTI) {
            return Some(
                ErrorNotice::error(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "trunkline settings cannot be set or shown in one string with other statements",
                )
                .hint("Send SET trunkline.… by itself."),
            );
        }
        if let Some(notice) = self.refuse_posing(effects, sql).or_else(|| self.refuse_at_worker(decision)) {
            return Some(notice);
        }
        // A block that has failed refuses by itself whatever does not end it.
        let ends = effects.intersects(Effects::MULTI | Effects::TX_END);
        let in_block = |status: TxStatus| status.in_block() && (status != TxStatus::Failed || ends);
        let on_replica = self.link().is_some_and(|link| !link.primary && in_block(link.status) && !link.is_past_end());
        let listens = effects.contains(Effects::LISTEN) && !effects.contains(Effects::RELEASES_ONLY);
        // A temporary table cannot be made in a block of that kind, on no server.
        let fails_anyway =
            Pins::of(effects) == Pins::TEMP_OBJECT && !effects.intersects(Effects::MULTI | Effects::TX_END);
        // Nobody on the primary is kept out by it.
        let locks = decision.reason == Reason::AdvisoryLock && !effects.contains(Effects::RELEASES_ONLY);
        // It would show of a sequence what that may come to, and export a snapshot that nobody finds.
        let differs = (decision.reason == Reason::Sequence && !effects.contains(Effects::WRITES))
            || (decision.reason == Reason::NodeState && effects.contains(Effects::SET_LOCAL));
        if on_replica && differs {
            return Some(
                ErrorNotice::error(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "sequences and snapshots cannot be asked for inside a READ ONLY transaction that runs on a replica",
                )
                .hint("Make it the first statement of the transaction: that begins on the primary then."),
            );
        }
        let pins = listens || locks || Pins::of(effects) != Pins::empty();
        if on_replica && !fails_anyway && (pins || self.sets_unseen_in_block(effects, sql)) {
            return Some(
                ErrorNotice::error(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "session state cannot be changed inside a READ ONLY transaction that runs on a replica",
                )
                .hint("Use SET LOCAL, or do it before BEGIN."),
            );
        }
        if self.timing.breaks
            && self.decisions.breaker().refuses_any()
            && let Some(notice) = self.broken(sql, effects)
        {
            return Some(notice);
        }
        self.refuse_listening(effects, sql)
    }
}
