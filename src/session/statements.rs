//! What is noted when a statement goes out: its effects on the session's state, its place, its clock.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::backend::Prepared;
use crate::observe::fault;
use crate::sql::{Change, Decision, Effects, ParameterText, Reason, Target, is_rollback, normalize};
use crate::wire::TxStatus;

use super::acquire::sets_temp_buffers;
use super::expect::Expect;
use super::machine::State;
use super::own_settings::Switch;
use super::pins::Pins;
use super::relay::Session;
use super::search_path;
use super::tracked::Script;

/// Effects of statements that change what the session keeps ([`super::tracked`]).
const KEPT_STATE: Effects = Effects::SET_SESSION
    .union(Effects::SAVEPOINT)
    .union(Effects::LISTEN)
    .union(Effects::SQL_PREPARE)
    .union(Effects::DEALLOCATE_ALL)
    .union(Effects::DISCARD_ALL);

impl Session {
    /// Notes what a statement that is about to be sent does to the session, and starts its clock.
    pub(super) fn begin_statement(
        &mut self,
        decision: Decision,
        sql: &[u8],
        prepared: Option<&Arc<Prepared>>,
        script: Option<&Script>,
    ) {
        let effects = decision.effects;
        let text = prepared.map_or(sql, |statement| &statement.sql);
        if !effects.is_empty() {
            self.note_effects(decision, text, script);
        }
        if let Some(link) = self.link() {
            link.chosen = false;
            link.rerun.note(effects);
            link.may_set |= search_path::may_set(decision);
        }
        self.evidence.note(decision);
        self.begin_notifying(effects, script);
        let (primary, in_block) = self.link().map_or((false, false), |link| (link.primary, link.status.in_block()));
        let rolls_back = effects.contains(Effects::TX_END) && is_rollback(text, self.lex);
        let commits = !rolls_back && (!in_block || effects.intersects(Effects::TX_END | Effects::MULTI));
        self.doubt_writes();
        self.sight.begin(decision, self.placement.what_if() && self.placement.would_read(), commits);
        if effects.contains(Effects::WRITES) {
            let touches = decision.touches.get();
            self.changes_schema |= touches.schema;
            // What it may change of the schema the text does not tell.
            self.doubts_schema |= touches.doubts || matches!(decision.reason, Reason::Procedure | Reason::TwoPhase);
            self.note_writer();
            self.pinned_by(text);
        }
        self.count_shard(decision);
        self.metrics.routed(if primary { Target::Primary } else { Target::Replica }, decision.reason);
        if self.placement.own.explain.get() == Switch::On
            && let Some(notice) = self.explain_notice(decision, text)
            && let Some(link) = self.link()
        {
            link.replies.push(Expect::Notice(Box::new(notice)));
        }
        if self.timing.begin(decision, sql, prepared) {
            if self.timing.breaks {
                self.timing.cancels = self.client.cancels_sent();
                if self.timing.trial.is_some() {
                    self.begin_trial(text);
                }
            }
            self.sample(decision, text, self.timing.arrival());
        }
        fault::point("statement", text);
    }

    /// What it does to the session that outlasts it: pins, settings, names. A plain read does nothing of the kind.
    fn note_effects(&mut self, decision: Decision, text: &[u8], script: Option<&Script>) {
        let effects = decision.effects;
        let mut pins = Pins::of(effects);
        if effects.intersects(Effects::SET_SESSION | Effects::SET_LOCAL) {
            self.note_temporary_path(text);
            if sets_temp_buffers(effects, text)
                && let Some(link) = self.link()
            {
                link.lease.temp_buffers_set = true;
            }
        }
        if self.makes_temporary(decision) {
            pins |= Pins::TEMP_OBJECT;
        }
        if self.link().is_some_and(|link| !link.primary) {
            // Refused there ([`Self::refusal`]), or it fails: a temporary object.
            pins.remove(Pins::TEMP_OBJECT);
        }
        if self.sets_unseen(effects, text, script) {
            pins |= Pins::SETTINGS | Pins::ROLE;
        }
        if self.max_prepared == 0 && effects.contains(Effects::SQL_PREPARE) && !effects.contains(Effects::RELEASES_ONLY)
        {
            pins |= Pins::SQL_PREPARE;
        }
        if effects.contains(Effects::SQL_EXECUTE | Effects::SQL_PREPARE) && self.prepares_unseen(text) {
            pins |= Pins::SQL_PREPARE;
        }
        if effects.contains(Effects::SET_LOCAL) {
            self.note_local_settings(text);
        }
        if effects.contains(Effects::RELEASES_ONLY) {
            self.begin_release(text);
        }
        if pins != Pins::empty() {
            self.pin(pins);
            self.pinned_by(text);
        }
        if pins.contains(Pins::TEMP_OBJECT) {
            let client = self.client.id;
            if let Some(link) = self.link() {
                link.lease.temp_schema_of = client;
                link.lease.has_had_temp = true;
            }
        }
        self.note_reading(script);
        self.raise_barrier(effects, script);
    }

    /// Whether a statement may set something of which only its connection knows.
    fn sets_unseen(&self, effects: Effects, text: &[u8], script: Option<&Script>) -> bool {
        let by_function = effects.contains(Effects::UNKNOWN_SETTING | Effects::WRITES)
            && match effects.contains(Effects::MULTI) {
                // The sum, it may be, of what the script tells one by one.
                true => self.decisions.sets_unseen(text, self.lex),
                false => !effects.contains(Effects::SQL_PREPARE),
            };
        // What is executed is not in the text.
        let by_name = effects.contains(Effects::SQL_EXECUTE) && effects.contains(Effects::SET_SESSION);
        by_function || by_name || script.is_some_and(Script::is_unknown)
    }

    /// The same of one that comes within a block on a replica, where its session would have to stay: it is refused there, and begins the
    /// block on the primary when it is the first.
    pub(super) fn sets_unseen_in_block(&self, effects: Effects, text: &[u8]) -> bool {
        if !effects.contains(Effects::SET_SESSION) {
            return false;
        }
        // Parameters have values.
        let script = self.read_script(effects, text, &|_| Some(b"f".to_vec()));
        self.sets_unseen(effects, text, script.as_deref())
    }

    /// A statement goes out that may use a sequence (an INSERT does, by a column's default), or call what makes temporary objects.
    fn note_writer(&mut self) {
        self.used_sequences = true;
        self.pools.cluster.freshness.has_written();
        let client = self.client.id;
        if let Some(link) = self.link() {
            link.lease.sequences_of = client;
            if link.lease.temp_schema_of == 0 {
                link.lease.temp_schema_of = client;
            }
        }
        if self.pools.keeps_sequences.load(Ordering::Relaxed) {
            self.pin(Pins::SEQUENCE);
        }
    }

    /// What the statements of a text change of the state that the session keeps.
    pub(super) fn read_script(
        &self,
        effects: Effects,
        sql: &[u8],
        parameter: ParameterText<'_>,
    ) -> Option<Box<Script>> {
        let mut script = effects.intersects(KEPT_STATE).then(|| Script::read(sql, self.lex, parameter))??;
        if self.told.get(b"client_encoding").is_some_and(|encoding| encoding != b"UTF8") {
            script.keep_only_ascii();
        }
        Some(script)
    }

    /// A statement that gives state up: what it will end if it succeeds. A RESET pins nothing, rolled back or not: what it takes
    /// away of the settings that the client brought along is put back ([`Self::raise_barrier`]).
    fn begin_release(&mut self, text: &[u8]) {
        // Behind a pipeline nobody knows yet whether a block will be open.
        let certain = match &self.state {
            State::Linked(link) => link.status == TxStatus::Idle && link.replies.is_empty(),
            _ => false,
        };
        self.releasing = if certain { Pins::released_by(&normalize(text, self.lex)) } else { Pins::empty() };
    }

    /// A statement that takes away settings that the client started with (trap 52), or all statement names (trap 45): what follows
    /// waits for its end, since the settings are put back before it.
    fn raise_barrier(&mut self, effects: Effects, script: Option<&Script>) {
        let undoes = script.is_some_and(|script| script.all().any(|change| self.tracked.is_undone_by(change)));
        let gives_up = effects.contains(Effects::DEALLOCATE_ALL);
        let says_so = || {
            script.is_some_and(|script| {
                script.all().any(|change| matches!(change, Change::DeallocateAll | Change::DiscardAll))
            })
        };
        if let Some(link) = self.link() {
            link.barrier |= undoes || gives_up;
            link.lost_names |= gives_up && !says_so();
        }
    }

    pub(super) fn pin(&mut self, pins: Pins) {
        self.fresh_pins |= (pins & Pins::TRANSACTIONAL) - self.pins;
        self.pins |= pins;
        self.evidence.outdated_for(pins);
        // Made after what is being given up: it stays.
        self.releasing.remove(pins);
    }
}
