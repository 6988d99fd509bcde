//! The search path of a session, where it is certain which one is in force.
//!
//! Certain is what the session has set or brought along, between transactions, while nothing is under way that may set another one; and
//! what servers do for those that have not, where the connection itself has told that. Connections are asked in the write that
//! something else goes out in, and only once some session needs to know: a name must be in several schemas for that.

use quanta::Instant;

use crate::backend::{Settings, Value};
use crate::sql::{Decision, Effects, PathId, Reason, StatedPath};
use crate::topology::BELIEVED_FOR;
use crate::wire::{TxStatus, build};

use super::expect::Expect;
use super::machine::State;
use super::pins::Pins;
use super::relay::Session;
use super::splice::Splice;

/// Asks for the role and the path in force, and for the path to which a RESET returns.
const ASKS_PATH: &[u8] =
    b"SELECT pg_catalog.concat_ws(E'\\n', current_user, pg_catalog.current_setting('search_path'), reset_val) \
      FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) 'search_path'";

/// What a session's own settings say of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnPath {
    /// Nothing.
    Unset,
    /// This.
    Stated(StatedPath),
    /// Something of which it is not certain where it leads.
    Uncertain,
}

impl OwnPath {
    /// That of these settings.
    pub fn of(settings: &Settings) -> Self {
        let stated = match settings.get("search_path") {
            None => return Self::Unset,
            Some(Value::List(names)) => StatedPath::of(names.iter().map(String::as_str)),
            Some(Value::Text(text)) => StatedPath::parse(text),
        };
        stated.map_or(Self::Uncertain, Self::Stated)
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

fn is_believed(told: Option<Instant>) -> bool {
    told.is_some_and(|at| at.elapsed() < BELIEVED_FOR)
}

impl Session {
    /// Along which path a server looks up the names of a statement that comes now; `None`: it is not certain. Before there is a
    /// connection it is the path of all; the one that is got must have told its own, and is looked at again.
    pub(super) fn search_path(&self) -> Option<PathId> {
        let link = match &self.state {
            State::Linked(link) => Some(&**link),
            _ => None,
        };
        let unsettled = link.is_some_and(|link| link.may_set || link.status != TxStatus::Idle);
        if unsettled || !self.placement.splits_reads() || self.pins.intersects(Pins::SETTINGS | Pins::ROLE) {
            return None;
        }
        let default = &self.pools.default_path;
        let stated = match self.placement.search_path() {
            OwnPath::Uncertain => return None,
            OwnPath::Stated(stated) => stated,
            OwnPath::Unset => {
                default.want();
                link.is_none_or(|link| is_believed(link.lease.told_path)).then(|| default.path())??
            }
        };
        if !stated.with_role {
            return Some(stated.schemas);
        }
        let settings = self.tracked.settings();
        let role = match IDENTITY.iter().find_map(|name| settings.get(name)) {
            Some(role) => PathId::of([role.text().filter(|role| *role != "none")?])?,
            None => {
                default.want();
                link.is_none_or(|link| is_believed(link.lease.told_role)).then(|| default.roles())??
            }
        };
        stated.schemas.union(role)
    }

    /// A setting goes out: it may lead to temporary objects before it is known what the session has set.
    pub(super) fn note_temporary_path(&mut self, text: &[u8]) {
        self.names.temporary_path |= text.windows(TEMPORARY.len()).any(|part| part.eq_ignore_ascii_case(TEMPORARY));
    }

    /// Whether what a statement makes under a name without schema may be a temporary object, though the statement does not say so.
    pub(super) fn makes_temporary(&self, decision: Decision) -> bool {
        decision.touches.get().schema
            && (self.names.temporary_path || self.placement.search_path() == OwnPath::Uncertain)
    }

    /// Asks the connection, outside a block, what this session has to know of it.
    pub(super) fn ask_path(&mut self, out: &mut Splice<'_>) {
        if !self.pools.default_path.is_wanted() {
            return;
        }
        let (needs_path, needs_role) = match self.placement.search_path() {
            OwnPath::Unset => (true, !self.has_role()),
            OwnPath::Stated(stated) => (false, stated.with_role && !self.has_role()),
            OwnPath::Uncertain => return,
        };
        let Self { state: State::Linked(link), .. } = self else { return };
        let knows =
            (!needs_path || is_believed(link.lease.told_path)) && (!needs_role || is_believed(link.lease.told_role));
        if knows || link.status != TxStatus::Idle || !self.pools.default_path.may_ask() {
            return;
        }
        build::query(out.insert(), ASKS_PATH);
        link.replies.push(Expect::Path);
        // It ends the unnamed statement (trap 37).
        link.lease.prepared.unnamed = None;
    }

    /// The answer, a DataRow of one value; of an error nothing.
    pub(super) fn take_path(&mut self, row: &[u8]) {
        let has_role = self.has_role();
        let is_own = self.placement.search_path() != OwnPath::Unset;
        let Self { state: State::Linked(link), pools, .. } = self else { return };
        let told = row.get(6..).and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
        let default = &pools.default_path;
        let now = Some(Instant::now());
        match told.split('\n').collect::<Vec<_>>().as_slice() {
            [role, in_force, reset] => {
                if !has_role {
                    default.learn_role(PathId::of([*role]));
                    link.lease.told_role = now;
                }
                if !is_own {
                    default.learn(StatedPath::parse(in_force));
                }
                default.learn(StatedPath::parse(reset));
            }
            _ => return default.give_up(),
        }
        link.lease.told_path = now;
    }

    /// Whether the session has another role than the server's.
    fn has_role(&self) -> bool {
        IDENTITY.iter().any(|name| self.tracked.settings().get(name).is_some())
    }
}

/// The schema of temporary objects, under the name that is each session's own.
const TEMPORARY: &[u8] = b"pg_temp";

/// What says who a session is, the first first.
const IDENTITY: [&str; 2] = ["role", "session_authorization"];
