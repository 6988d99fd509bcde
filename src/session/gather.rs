//! Looking ahead over a segment of the extended protocol: what it will do as a whole decides where it runs.

use smallvec::SmallVec;

use crate::sql::{Consistency, Decision, Effects, Reason, ShardKeyId, Target, TouchId};
use crate::wire::frame::frontend_limit;
use crate::wire::frontend::{self, ObjectKind};
use crate::wire::{FrameWalker, Step};

use super::inbound::UNSEEN;
use super::placement::Place;
use super::relay::Session;

/// Bytes of a segment (what stands between two Syncs) that are waited for before it is routed. A longer one goes to the primary.
pub(super) const GATHER_LIMIT: usize = 48 * 1024;

/// Of a longer segment nothing is judged before its end is here: what comes in small pieces would be judged as often.
const LOOKED_OVER: usize = 4 * 1024;

/// A segment without statements: it may run anywhere.
pub(super) const NOTHING: Decision = Decision {
    target: Target::Anywhere,
    reason: Reason::Empty,
    effects: Effects::empty(),
    touches: TouchId::NOTHING,
    level: None,
    by_path: false,
    key: ShardKeyId::NONE,
};

pub(super) enum Gathered {
    /// Not all of it is here.
    Incomplete,
    /// It is to run here.
    Runs(Place),
    /// No server is needed (`local`).
    Local,
}

/// A Parse in the segment.
pub(super) struct Parsed<'a> {
    pub name: &'a [u8],
    pub sql: &'a [u8],
    pub types: &'a [u8],
    pub decision: Decision,
}

impl Session {
    /// Looks ahead to the Sync or Flush that ends the segment at the beginning of `rest`, and judges all that it executes: it is
    /// one implicit transaction (traps 1 and 30).
    pub(super) fn gather(&mut self, rest: &[u8]) -> Gathered {
        let mut walker = FrameWalker::new(rest);
        let mut parsed: SmallVec<[Parsed<'_>; 4]> = SmallVec::new();
        let mut worst = NOTHING;
        let mut executes = false;
        let (mut binds, mut outlasts) = (false, false);
        self.deferred.asks_defaults = false;
        // Not all of what follows is judged: what held for the statement before does not hold for it.
        self.only_sets = false;
        self.sets_temp_buffers = false;
        self.forget_shards();
        if rest.len() > LOOKED_OVER && is_unfinished(rest) {
            return Gathered::Incomplete;
        }
        let mut local = self.ahead();
        loop {
            let frame = match walker.step(frontend_limit) {
                Ok(Step::Whole(frame)) => frame,
                Ok(Step::Partial { frame_len, .. }) if walker.position() + frame_len > GATHER_LIMIT => {
                    return Gathered::Runs(Place::Primary);
                }
                Ok(_) if rest.len() > GATHER_LIMIT => return Gathered::Runs(Place::Primary),
                Ok(_) => return Gathered::Incomplete,
                // The frame itself will be refused when its turn comes.
                Err(_) => return Gathered::Runs(Place::Primary),
            };
            let body = frame.body();
            let decision = match frame.tag {
                // Where prepared statements are not shared the Parse pins its connection: the primary's, for whatever comes.
                b'P' if self.max_prepared == 0 && body.first() != Some(&0) => None,
                b'P' => frontend::parse(body).map(|parse| {
                    let decision = self.decisions.decide_typed(parse.sql, parse.types, self.lex, || self.search_path());
                    let decision = self.judge_names(decision, parse.sql);
                    let decision = self.judge_in_block(decision, parse.sql, std::iter::empty());
                    self.deferred.asks_defaults |= self.wants_defaults(decision, parse.sql);
                    self.note_temp_buffers(decision.effects, parse.sql);
                    parsed.push(Parsed { name: parse.name, sql: parse.sql, types: parse.types, decision });
                    decision
                }),
                b'B' => {
                    // A portal cannot move to another node either.
                    executes = true;
                    binds = true;
                    frontend::bind_head(body).map(|head| {
                        outlasts |= !head.portal.is_empty();
                        self.judge_bind(head, &body[head.rest..], &parsed)
                    })
                }
                b'D' => frontend::object(body).map(|(kind, name)| match kind {
                    ObjectKind::Statement => self.decision_of(name, &parsed),
                    ObjectKind::Portal => NOTHING,
                }),
                b'E' => {
                    executes = true;
                    outlasts |= !binds || !matches!(frontend::execute(body), Some((_, 0)));
                    Some(NOTHING)
                }
                b'C' => frontend::object(body).map(|_| NOTHING),
                b'H' if local.may_flush() => return Gathered::Local,
                // What comes after a Flush is not known yet: only what has not run can still move.
                b'H' if executes => return Gathered::Runs(Place::Primary),
                b'S' if local.may_sync() => return Gathered::Local,
                b'H' | b'S' => {
                    if outlasts && self.deferred.is_open() {
                        // Within a block that portal is there for what comes after the Sync.
                        worst.effects |= Effects::CURSOR;
                    }
                    return Gathered::Runs(self.place_of(worst));
                }
                _ => None,
            };
            if local.goes_on() {
                self.look_ahead(&mut local, frame, &parsed);
                if local.has_begun() {
                    return Gathered::Local;
                }
            }
            match decision {
                None => return Gathered::Runs(Place::Primary),
                Some(NOTHING) => {}
                // The Bind of what has just been parsed.
                Some(decision) if decision == worst => {}
                Some(decision) => {
                    self.wants_sequences |= decision.effects.contains(Effects::SEQUENCE_STATE);
                    self.notify.asks |= decision.effects.contains(Effects::ASKS_CHANNELS);
                    worst = worse(worst, decision);
                }
            }
        }
    }

    fn judge_bind(&mut self, head: frontend::BindHead<'_>, rest: &[u8], parsed: &[Parsed<'_>]) -> Decision {
        let decision = self.decision_of(head.statement, parsed);
        self.note_shard_of_bound(decision, head.statement, rest, parsed);
        if decision.effects.intersects(Effects::SET_SESSION | Effects::SET_LOCAL)
            && let Some(statement) = self.names.get(head.statement).and_then(|named| named.shared()).cloned()
        {
            self.note_temp_buffers(decision.effects, &statement.sql);
        }
        if !self.deferred.is_open() {
            return decision;
        }
        let text = self.names.get(head.statement).and_then(|named| named.shared()).map_or(&b""[..], |of| &of.sql);
        let values = frontend::bind_parameters(rest).into_iter().flatten();
        self.judge_in_block(decision, text, values.filter_map(|value| value.value))
    }

    /// Notes which shard a Bind concerns.
    fn note_shard_of_bound(&mut self, decision: Decision, name: &[u8], rest: &[u8], parsed: &[Parsed<'_>]) {
        if decision.key == ShardKeyId::NONE {
            self.note_shard_of_bind(decision, b"", b"", rest);
        } else if let Some(parsed) = parsed.iter().rev().find(|parsed| parsed.name == name) {
            self.note_shard_of_bind(decision, parsed.sql, parsed.types, rest);
        } else if let Some(statement) = self.names.get(name).and_then(|named| named.shared()).cloned() {
            self.note_shard_of_bind(decision, &statement.sql, &statement.types, rest);
        }
    }

    fn decision_of(&self, name: &[u8], parsed: &[Parsed<'_>]) -> Decision {
        let in_segment = parsed.iter().rev().find(|parsed| parsed.name == name).map(|parsed| parsed.decision);
        in_segment.or_else(|| self.names.get(name).map(|named| self.judge_named(named))).unwrap_or(UNSEEN)
    }
}

/// Whether more of a segment is to be waited for, as far as the heads of its messages tell.
fn is_unfinished(rest: &[u8]) -> bool {
    let mut walker = FrameWalker::new(rest);
    while let Ok(step) = walker.step(frontend_limit) {
        match step {
            Step::Whole(frame) if matches!(frame.tag, b'P' | b'B' | b'D' | b'E' | b'C') => {}
            Step::Whole(_) => return false,
            Step::Partial { frame_len, .. } => return walker.position() + frame_len <= GATHER_LIMIT,
            Step::End => return rest.len() <= GATHER_LIMIT,
        }
    }
    false
}

/// Of two decisions the one that binds more; effects are united.
pub(super) fn worse(a: Decision, b: Decision) -> Decision {
    let rank = |decision: &Decision| match decision.target {
        Target::Anywhere => 0,
        Target::Replica => 1,
        Target::Primary => 2,
    };
    let mut effects = a.effects | b.effects;
    // `BEGIN READ ONLY` and a write: what the block says does not hold for all of it.
    effects.set(Effects::MULTI, a != NOTHING);
    let touches = a.touches.union(b.touches);
    let worse = if rank(&b) > rank(&a) { b } else { a };
    // What reads together must see enough for each of them: of different wishes none is known to be the stronger.
    let level = if a == NOTHING || a.level == b.level { b.level } else { Some(Consistency::Strong) };
    // Of keys that differ no one node is known to be for both.
    let key = if a == NOTHING || a.key == b.key { b.key } else { ShardKeyId::NONE };
    Decision { effects, touches, level, key, ..worse }
}
