//! What one statement comes to, while a text is being judged.

use super::decision::{Decision, Effects, Target};
use super::reason::Reason;
use super::touches::TouchId;

/// The judgement of one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) target: Target,
    pub(super) reason: Reason,
    pub(super) effects: Effects,
    /// The function, table or word that decided, when there is one.
    pub(super) culprit: Option<String>,
}

impl Verdict {
    pub(super) fn new(target: Target, reason: Reason, effects: Effects) -> Self {
        Self { target, reason, effects, culprit: None }
    }

    pub(super) fn primary(reason: Reason, effects: Effects) -> Self {
        Self::new(Target::Primary, reason, effects)
    }

    pub(super) fn replica(reason: Reason) -> Self {
        Self::new(Target::Replica, reason, Effects::empty())
    }

    pub(super) fn anywhere(reason: Reason, effects: Effects) -> Self {
        Self::new(Target::Anywhere, reason, effects)
    }

    /// Not understood: the primary, and it may have written.
    pub(super) fn unparsed() -> Self {
        Self::primary(Reason::Unparsed, Effects::WRITES)
    }

    pub(super) fn with_culprit(mut self, culprit: impl Into<String>) -> Self {
        self.culprit = Some(culprit.into());
        self
    }

    pub(super) fn decision(&self) -> Decision {
        Decision {
            target: self.target,
            reason: self.reason,
            effects: self.effects,
            touches: TouchId::EVERYTHING,
            level: None,
        }
    }

    /// Raises this verdict to `other` where that is worse; effects are united.
    pub(super) fn join(&mut self, other: Self) {
        let effects = self.effects | other.effects;
        if (other.target, other.reason) > (self.target, self.reason) {
            *self = other;
        }
        self.effects = effects;
    }
}
