//! From a decision about the text to a place for this session: what the session's own state adds.

use std::sync::Arc;

use crate::backend::Settings;
use crate::config::{Database, PoolMode, TransactionReads};
use crate::sql::{Consistency, Decision, Effects, Isolation, Reason, Target, TouchId, truth};

use super::own_settings::{OwnPoints, OwnSettings, OwnValue};
use super::pins::Pins;
use super::search_path::OwnPath;

/// What exists on the primary only, whatever a session chooses.
pub(super) const NOTIFICATIONS: Effects = Effects::LISTEN.union(Effects::NOTIFIES).union(Effects::ASKS_CHANNELS);

/// Where a statement or a whole segment is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// On a replica, or on the primary when there is none.
    Reader,
    /// On the primary.
    Primary,
}

/// What a session's own choice of route says (`SET trunkline.route`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum RouteChoice {
    /// As the statement says.
    #[default]
    Auto,
    /// Everything on the primary.
    Primary,
    /// Everything outside transaction blocks on a replica, as a hint does.
    Replica,
}

impl OwnValue for TransactionReads {
    const VALUES: &'static str = "off, read_only, until_write";

    fn parse(text: &str) -> Option<Self> {
        [Self::Off, Self::ReadOnly, Self::UntilWrite].into_iter().find(|one| one.as_str().eq_ignore_ascii_case(text))
    }

    fn as_str(self) -> &'static str {
        Self::as_str(self)
    }
}

impl OwnValue for RouteChoice {
    const VALUES: &'static str = "auto, primary, replica";

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Some(Self::Auto),
            "primary" => Some(Self::Primary),
            "replica" => Some(Self::Replica),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

/// What of a session's state decides about places.
#[derive(Debug)]
pub(super) struct Placement {
    /// What the session has chosen itself.
    pub own: OwnSettings,
    /// What that was, for as long as it may be rolled back.
    pub own_points: OwnPoints,
    /// Reads may go to replicas at all.
    split_reads: bool,
    /// Where statements would run is told, and all run on the primary.
    what_if: bool,
    /// The statement judged last would be for a replica.
    would_read: bool,
    /// The settings of which the following two tell.
    observed: Option<Arc<Settings>>,
    /// `default_transaction_read_only`.
    default_read_only: bool,
    /// `default_transaction_isolation` is SERIALIZABLE, which no standby runs (trap 15).
    default_serializable: bool,
    /// Where names without schema are looked for.
    search_path: OwnPath,
    /// What the statement reads that was judged last; every table, when a block begins with it.
    pub reads: TouchId,
    /// It shows something and writes nothing; so does the first statement of a block that begins with it.
    pub only_shows: bool,
    /// It may write: what it finds, it finds as a read on the primary would.
    pub writes: bool,
    /// What its hint says that it must see.
    level_hint: Option<Consistency>,
}

impl Placement {
    pub fn new(database: &Database, mode: PoolMode, settings: &Arc<Settings>, own: OwnSettings) -> Self {
        let mut placement = Self {
            own,
            own_points: OwnPoints::default(),
            // In session mode a client has one server connection for everything.
            split_reads: database.routing.split_reads && mode != PoolMode::Session,
            what_if: database.routing.what_if,
            would_read: false,
            observed: None,
            default_read_only: false,
            default_serializable: false,
            search_path: OwnPath::Unset,
            reads: TouchId::EVERYTHING,
            only_shows: false,
            writes: false,
            level_hint: None,
        };
        placement.own.transaction_reads.default = database.routing.transaction_reads;
        placement.observe(settings);
        placement
    }

    /// Follows the session's settings (trap 25).
    pub fn observe(&mut self, settings: &Arc<Settings>) {
        if self.observed.as_ref().is_some_and(|observed| Arc::ptr_eq(observed, settings)) {
            return;
        }
        let before = self.observed.replace(settings.clone());
        if before.is_none_or(|before| before.get("search_path") != settings.get("search_path")) {
            self.search_path = OwnPath::of(settings);
        }
        let read_only = settings.text("default_transaction_read_only");
        self.default_read_only = read_only.and_then(|value| truth(value.as_bytes())) == Some(true);
        let isolation = settings.text("default_transaction_isolation").and_then(Isolation::parse);
        self.default_serializable = isolation == Some(Isolation::Serializable);
    }

    /// Follows a reload of the database's settings.
    pub fn follow(&mut self, database: &Database) {
        self.split_reads &= database.routing.split_reads;
        self.what_if = database.routing.what_if;
        self.own.transaction_reads.default = database.routing.transaction_reads;
    }

    /// The search path of the session's own. Not what is under way.
    pub fn search_path(&self) -> OwnPath {
        self.search_path
    }

    /// Whether the session itself refuses to write, outside transaction blocks.
    pub fn is_read_only(&self) -> bool {
        self.default_read_only
    }

    /// Whether the session's transactions are SERIALIZABLE where they do not say otherwise.
    pub fn is_serializable(&self) -> bool {
        self.default_serializable
    }

    /// Whether a statement changes nothing but what the session keeps of its settings: a replica can say as well as the primary
    /// whether it is right.
    pub fn is_for_any_server(&self, decision: Decision) -> bool {
        const ONLY_SETS: Effects = Effects::SET_SESSION.union(Effects::LITERAL_MATTERS).union(Effects::RELEASES_ONLY);
        self.split_reads
            && decision.reason == Reason::SessionState
            && decision.effects.contains(Effects::SET_SESSION)
            && ONLY_SETS.contains(decision.effects)
    }

    /// What the read must see that was judged last: by its hint, or as the session has it.
    pub fn level(&self) -> Consistency {
        self.level_hint.unwrap_or_else(|| self.own.consistency.get())
    }

    /// As [`Self::level`] and `reads` of a statement with this decision.
    pub fn needs_of(&self, decision: Decision) -> (Consistency, TouchId) {
        let level = decision.level.unwrap_or_else(|| self.own.consistency.get());
        (level, reads_of(decision))
    }

    /// Reads may go to replicas at all.
    pub fn splits_reads(&self) -> bool {
        self.split_reads
    }

    /// Whether everything runs on the primary, and where it would run is only told.
    pub fn what_if(&self) -> bool {
        self.what_if
    }

    /// Whether the statement judged last would be for a replica.
    pub fn would_read(&self) -> bool {
        self.would_read
    }

    /// The place for a statement or segment, outside a transaction block.
    pub fn place(&mut self, decision: Decision) -> Place {
        let place = self.judge(decision);
        self.would_read = place == Place::Reader;
        if self.what_if { Place::Primary } else { place }
    }

    fn judge(&mut self, decision: Decision) -> Place {
        let effects = decision.effects;
        self.level_hint = decision.level;
        self.reads = reads_of(decision);
        if !self.split_reads || self.default_serializable {
            return Place::Primary;
        }
        if effects.contains(Effects::HINTED) {
            return if decision.target == Target::Primary { Place::Primary } else { Place::Reader };
        }
        match self.own.route.get() {
            RouteChoice::Primary => return Place::Primary,
            RouteChoice::Replica
                if !effects.intersects(Effects::BEGIN | Effects::WRITES | NOTIFICATIONS)
                    && Pins::of(effects).is_empty() =>
            {
                return Place::Reader;
            }
            _ => {}
        }
        if effects.contains(Effects::BEGIN) {
            let read_only = effects.contains(Effects::READ_ONLY)
                || (self.default_read_only && !effects.contains(Effects::READ_WRITE));
            let lone = !effects.contains(Effects::MULTI) || decision.target != Target::Primary;
            let off = self.own.transaction_reads.get() == TransactionReads::Off;
            if off || !read_only || effects.contains(Effects::SERIALIZABLE) || !lone {
                return Place::Primary;
            }
        } else if decision.target == Target::Primary {
            return Place::Primary;
        }
        Place::Reader
    }
}

/// What a statement or the block that it begins reads.
fn reads_of(decision: Decision) -> TouchId {
    // What a block will read nobody knows.
    if decision.effects.contains(Effects::BEGIN) { TouchId::EVERYTHING } else { decision.touches }
}
