//! Reads of a block on replicas beside it (`transaction_reads = "until_write"`).
//!
//! A READ COMMITTED block in which nothing but reads has run is, for servers, no block at all: each of its statements sees what is
//! committed when it begins, it holds nothing that outlives it but locks against changes of its tables, and at its end there is
//! nothing to commit. So as long as the block is [`deferred`](super::deferred), each read runs on a replica *beside* it, outside any block;
//! its connection goes back at once, freshness is seen to for each statement, and whatever heals a statement outside a block heals
//! it here. The client is told the block's status, not the server's. The first statement that is anything else begins the block on the primary, with
//! its modes, time-outs and savepoints.
//!
//! What the client could tell from a block of one server's keeps to the primary, where the block begins for it:
//! - any statement that asks for a time ([`Effects::TELLS_TIME`], `'now'`): `now()` must stay the same throughout;
//! - portals that may be used beyond their segment, cursors, and everything else that is no plain read;
//! - blocks of which the isolation level is not known to be READ COMMITTED.
//!
//! An error fails the block as on a server, so a statement behind another one waits for its outcome.

use crate::config::TransactionReads;
use crate::sql::{Consistency, Decision, Effects, Isolation, Reason, Target, names_time};
use crate::wire::{TxStatus, build};

use super::expect::Expect;
use super::inbound::Flow;
use super::machine::State;
use super::pins::Pins;
use super::placement::{NOTIFICATIONS, Place};
use super::relay::Session;
use super::shards::Shard;
use super::splice::Splice;

/// What a read may say beside its block.
const HARMLESS: Effects = Effects::MULTI.union(Effects::LITERAL_MATTERS).union(Effects::HINTED).union(Effects::COPY);

/// What asks the primary how it begins transactions that do not say it themselves: apart from what a session or `connect_query` has
/// set.
const ASKS_DEFAULTS: &[u8] = b"SELECT reset_val FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) \
      ANY (ARRAY['default_transaction_isolation', 'default_transaction_read_only'])";

impl Session {
    /// Whether the link is for a statement that runs beside its block.
    pub(super) fn is_offloading(&self) -> bool {
        self.deferred.is_open() && matches!(self.state, State::Linked(_))
    }

    /// Another statement comes while one runs beside its block: it waits for the outcome, and gets a connection of its own.
    pub(super) fn awaits_offloaded(&mut self, out: &mut Splice<'_>) -> Option<Flow> {
        (self.is_offloading() && !self.segment_cleared).then(|| self.leave_replica(out))
    }

    /// Where a statement runs, or the block that begins with it.
    pub(super) fn place_of(&mut self, decision: Decision) -> Place {
        let shard = self.shards.begin_judging();
        self.placement.only_shows =
            !decision.effects.contains(Effects::WRITES) && !decision.touches.get().reads.is_none();
        self.placement.writes = decision.effects.contains(Effects::WRITES);
        if let Some(place) = self.place_again() {
            // The block begins with it.
            self.deferred.offloads = false;
            return place;
        }
        if !self.deferred.is_open() {
            let place = self.placement.place(decision);
            // A string that leaves its block open is bound by what it says, not by what it ends.
            let leaves_open = !decision.effects.contains(Effects::TX_END)
                && decision.effects.contains(Effects::BEGIN | Effects::MULTI);
            let place = if leaves_open && self.outruns_replicas(decision, None) { Place::Primary } else { place };
            self.shards.settle(shard);
            self.only_sets = place == Place::Primary && self.placement.is_for_any_server(decision);
            return if self.only_sets && !self.has_primary() { Place::Reader } else { place };
        }
        self.only_sets = false;
        self.deferred.offloads = false;
        // State of the session is made on the primary, in a READ ONLY block too.
        if Pins::of(decision.effects) != Pins::empty()
            || decision.effects.intersects(NOTIFICATIONS)
            || decision.effects.contains(Effects::UNKNOWN_SETTING)
        {
            return Place::Primary;
        }
        // What a standby can't do although it only reads: an unlogged table or a foreign one, a snapshot that is exported or imported;
        // or does otherwise: it keeps nobody out by its locks, and shows of a sequence what it may come to (trap 13).
        let of_primary = matches!(decision.reason, Reason::Relation | Reason::AdvisoryLock | Reason::Sequence);
        let of_snapshot = decision.reason == Reason::NodeState && decision.effects.contains(Effects::SET_LOCAL);
        if decision.target == Target::Primary && (of_primary || of_snapshot) {
            return Place::Primary;
        }
        // What follows the block's end is not bound by what the block says.
        if decision.target == Target::Primary && decision.effects.contains(Effects::TX_END | Effects::MULTI) {
            return Place::Primary;
        }
        let place = self.placement.place(self.deferred.decision);
        if shard != Shard::Coordinator {
            // All of the block runs where its first statement's shard is.
            self.shards.settle(shard);
            return place;
        }
        // Of a READ ONLY block too: on its replica it would see what was there when it began, and no later commit until that is replayed.
        if !self.may_offload(decision) {
            let outruns = self.outruns_replicas(self.deferred.decision, self.deferred.isolation());
            return if outruns { Place::Primary } else { place };
        }
        let place = self.placement.place(decision);
        self.deferred.offloads = place == Place::Reader;
        place
    }

    /// Whether a block that begins with this decision, at this isolation level if it says one, must see more than one replica can promise
    /// for all of it: each statement looks anew, and is to find what is committed when it comes. A hint chooses for the client.
    fn outruns_replicas(&mut self, begins: Decision, isolation: Option<Isolation>) -> bool {
        self.placement.level() == Consistency::Strong
            && !begins.effects.contains(Effects::HINTED)
            && isolation.or_else(|| self.default_isolation()).is_none_or(Isolation::looks_anew)
            // Where there never was a primary nothing can be committed that a replica lacks.
            && self.pools.cluster.freshness.has_had_primary()
    }

    fn may_offload(&mut self, decision: Decision) -> bool {
        if self.placement.own.transaction_reads.get() != TransactionReads::UntilWrite
            || self.deferred.has_failed()
            || self.deferred.decision.effects.contains(Effects::HINTED)
            || decision.target != Target::Replica
            || !HARMLESS.contains(decision.effects)
        {
            return false;
        }
        let level = self.deferred.isolation().or_else(|| self.default_isolation());
        level.is_some_and(Isolation::looks_anew)
    }

    /// The decision about a text in the light of a block that may be read beside: `parameters` are those that come as text.
    pub(super) fn judge_in_block<'v>(
        &self,
        decision: Decision,
        text: &[u8],
        mut parameters: impl Iterator<Item = &'v [u8]>,
    ) -> Decision {
        let mut decision = decision;
        if self.deferred.is_open()
            && decision.target == Target::Replica
            && (names_time(text) || parameters.any(names_time))
        {
            decision.effects |= Effects::TELLS_TIME;
        }
        if self.deferred.is_open() && self.sets_unseen_in_block(decision.effects, text) {
            decision.effects |= Effects::UNKNOWN_SETTING;
        }
        decision
    }

    /// Asks the primary how it begins transactions, when somebody wants to know.
    pub(super) fn ask_defaults(&mut self, out: &mut Splice<'_>) {
        let Self { state: State::Linked(link), .. } = self else { return };
        let asked = std::mem::take(&mut self.deferred.asks_defaults)
            || (self.deferred.is_open() && self.placement.own.transaction_reads.get() == TransactionReads::UntilWrite);
        if asked && link.primary && self.pools.defaults.is_due() {
            build::query(out.insert(), ASKS_DEFAULTS);
            link.replies.push(Expect::Defaults);
            // It ends the unnamed statement (trap 37).
            link.lease.prepared.unnamed = None;
        }
    }

    /// The answer, a DataRow of one value.
    pub(super) fn take_default(&mut self, row: &[u8]) {
        let value = row.get(6..).and_then(|value| std::str::from_utf8(value).ok());
        value.into_iter().for_each(|value| self.pools.defaults.learn(value));
    }

    /// A statement beside its block has ended: the client is told how its block stands.
    pub(super) fn offloaded_ready(&mut self, out: &mut Splice<'_>) {
        build::ready_for_query(out.insert(), self.deferred.status());
    }

    /// The status of the transaction on the link's server says nothing of the client's block, when a statement runs beside that.
    pub(super) fn block_is_on(&self, status: TxStatus) -> bool {
        status.in_block() || self.is_offloading()
    }
}
