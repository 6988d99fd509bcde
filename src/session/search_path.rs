//! The search path of a session, where it is certain which one is in force.
//!
//! Certain is what the session has set or brought along, between transactions, while nothing is under way that may set another one. The
//! servers' own default is not: it may differ among them, and among the connections to one.

use crate::backend::{Settings, Value};
use crate::sql::{Decision, Effects, PathId, Reason, path_names};
use crate::wire::TxStatus;

use super::machine::State;
use super::pins::Pins;
use super::relay::Session;

/// The search path that these settings say.
pub(super) fn read(settings: &Settings) -> Option<PathId> {
    match settings.get("search_path")? {
        Value::List(names) => PathId::of(names.iter().map(String::as_str)),
        Value::Text(text) => PathId::of(path_names(text)?.iter().map(String::as_str)),
    }
}

/// Whether a statement may set the path otherwise than the session keeps it when it has succeeded.
pub(super) fn may_set(decision: Decision) -> bool {
    const SETS: Effects = Effects::SET_SESSION.union(Effects::SET_LOCAL).union(Effects::DISCARD_ALL);
    decision.effects.intersects(SETS)
        || matches!(
            decision.reason,
            Reason::Procedure
                | Reason::UnknownFunction
                | Reason::VolatileFunction
                | Reason::Unparsed
                | Reason::TooLong
                | Reason::Encoding
        )
}

impl Session {
    /// Along which path a server looks up the names of a statement that comes now; `None`: it is not certain.
    pub(super) fn search_path(&self) -> Option<PathId> {
        let unsettled = match &self.state {
            State::Linked(link) => link.may_set || link.status != TxStatus::Idle,
            _ => false,
        };
        if unsettled || self.pins.intersects(Pins::SETTINGS | Pins::ROLE) {
            return None;
        }
        self.placement.search_path()
    }
}
