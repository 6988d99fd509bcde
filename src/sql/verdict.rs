//! What one statement comes to, while a text is being judged.

use super::decision::{Decision, Effects, Target};
use super::reason::Reason;
use super::shard::ShardKeyId;
use super::touches::{SEQUENCES_SLOT, Slots, TouchId, Touches};

/// The judgement of one statement, or of something that a statement names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Where it may run.
    pub target: Target,
    /// Why.
    pub reason: Reason,
    /// What else it does.
    pub effects: Effects,
    /// The function, table or word that decided, when there is one.
    pub culprit: Option<String>,
    /// The tables that it reads and writes.
    pub touches: Touches,
}

impl Verdict {
    /// A verdict that touches everything if it may write, and nothing otherwise.
    pub fn new(target: Target, reason: Reason, effects: Effects) -> Self {
        let touches = match (effects.contains(Effects::WRITES), reason) {
            // A sequence is read on the primary only.
            (true, Reason::Sequence) => Touches::new(Slots::none(), Slots::of([SEQUENCES_SLOT])),
            (true, _) => Touches::everything(),
            (false, _) => Touches::nothing(),
        };
        Self { target, reason, effects, culprit: None, touches }
    }

    /// It needs the primary.
    pub fn primary(reason: Reason, effects: Effects) -> Self {
        Self::new(Target::Primary, reason, effects)
    }

    /// It may run on any node.
    pub fn replica(reason: Reason) -> Self {
        Self::new(Target::Replica, reason, Effects::empty())
    }

    pub(super) fn anywhere(reason: Reason, effects: Effects) -> Self {
        Self::new(Target::Anywhere, reason, effects)
    }

    /// Calls a volatile function of a user's.
    pub fn volatile(culprit: impl Into<String>) -> Self {
        Self::primary(Reason::VolatileFunction, Effects::WRITES).with_culprit(culprit)
    }

    /// Not understood: the primary, and it may have written.
    pub(super) fn unparsed() -> Self {
        Self::primary(Reason::Unparsed, Effects::WRITES)
    }

    /// With the name of what decided.
    pub fn with_culprit(mut self, culprit: impl Into<String>) -> Self {
        self.culprit = Some(culprit.into());
        self
    }

    /// With a changed schema.
    pub(super) fn changing_schema(mut self) -> Self {
        self.touches = Touches::schema();
        self
    }

    /// With these tables.
    pub fn touching(mut self, touches: Touches) -> Self {
        self.touches = touches;
        self
    }

    /// With these tables read.
    pub fn reading(mut self, reads: Slots) -> Self {
        self.touches.reads = reads;
        self
    }

    pub(super) fn decision(&self) -> Decision {
        // Whoever writes says what: this is the last place to see to it.
        let untold = self.effects.contains(Effects::WRITES) && self.touches.writes.is_none();
        let touches = if untold { TouchId::EVERYTHING } else { TouchId::of(&self.touches) };
        Decision {
            target: self.target,
            reason: self.reason,
            effects: self.effects,
            touches,
            level: None,
            by_path: false,
            key: ShardKeyId::NONE,
        }
    }

    /// Raises this verdict to `other` where that is worse; effects and tables are united.
    pub fn join(&mut self, other: Self) {
        let effects = self.effects | other.effects;
        let touches = self.touches.union(&other.touches);
        if (other.target, other.reason) > (self.target, self.reason) {
            *self = other;
        }
        self.effects = effects;
        self.touches = touches;
    }
}
