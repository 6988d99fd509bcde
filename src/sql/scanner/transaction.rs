//! `BEGIN`, `COMMIT` and their relatives, in every spelling (traps 22–25).

use super::super::cursor::Cursor;
use super::super::decision::Effects;
use super::super::lexer::Kind;
use super::super::reason::Reason;
use super::super::truth::truth;
use super::super::verdict::Verdict;

/// How a transaction is kept apart from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// READ UNCOMMITTED, which PostgreSQL runs as READ COMMITTED.
    ReadUncommitted,
    /// READ COMMITTED: each statement sees what is committed when it begins.
    ReadCommitted,
    /// REPEATABLE READ.
    RepeatableRead,
    /// SERIALIZABLE, which no standby runs (trap 15).
    Serializable,
}

impl Isolation {
    /// All of them, the weakest first.
    pub const ALL: [Self; 4] = [Self::ReadUncommitted, Self::ReadCommitted, Self::RepeatableRead, Self::Serializable];

    /// Reads the value of `default_transaction_isolation` or `transaction_isolation`.
    pub fn parse(value: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| value.eq_ignore_ascii_case(level.as_str()))
    }

    /// As servers show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadUncommitted => "read uncommitted",
            Self::ReadCommitted => "read committed",
            Self::RepeatableRead => "repeatable read",
            Self::Serializable => "serializable",
        }
    }

    /// Whether each statement sees what is committed when it begins.
    pub const fn looks_anew(self) -> bool {
        matches!(self, Self::ReadUncommitted | Self::ReadCommitted)
    }
}

/// What a list of transaction modes says; the last word on each matter wins, as on the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::sql) struct Modes {
    pub(in crate::sql) read_only: Option<bool>,
    pub(in crate::sql) isolation: Option<Isolation>,
    /// There was something that is no mode: the server will refuse it, or knows more than we do.
    pub(in crate::sql) unknown: bool,
}

impl Modes {
    /// Reads modes, separated by commas or not, up to the end.
    pub(in crate::sql) fn read(mut cursor: Cursor<'_>) -> Self {
        let mut modes = Self::default();
        while !cursor.at_end() {
            if cursor.eat_all(&["read", "only"]) {
                modes.read_only = Some(true);
            } else if cursor.eat_all(&["read", "write"]) {
                modes.read_only = Some(false);
            } else if cursor.eat_all(&["isolation", "level"]) {
                if cursor.eat("serializable") {
                    modes.isolation = Some(Isolation::Serializable);
                } else if cursor.eat_all(&["repeatable", "read"]) {
                    modes.isolation = Some(Isolation::RepeatableRead);
                } else if cursor.eat_all(&["read", "committed"]) {
                    modes.isolation = Some(Isolation::ReadCommitted);
                } else if cursor.eat_all(&["read", "uncommitted"]) {
                    modes.isolation = Some(Isolation::ReadUncommitted);
                } else {
                    modes.unknown = true;
                    return modes;
                }
            } else if cursor.eat_all(&["not", "deferrable"]) || cursor.eat("deferrable") || cursor.eat_sign(",") {
            } else {
                modes.unknown = true;
                return modes;
            }
        }
        modes
    }

    /// The effects that the modes have by themselves.
    pub(super) fn effects(self) -> Effects {
        let mut effects = Effects::empty();
        effects.set(Effects::READ_WRITE, self.read_only == Some(false));
        effects.set(Effects::SERIALIZABLE, self.isolation == Some(Isolation::Serializable));
        effects
    }

    /// Declared READ ONLY, and nothing that a standby can't do.
    pub(super) fn standby_can(self) -> bool {
        self.read_only == Some(true) && self.isolation != Some(Isolation::Serializable) && !self.unknown
    }
}

/// After `BEGIN` or `START`.
pub(super) fn begin(mut cursor: Cursor<'_>, start: bool) -> Verdict {
    if start {
        if !cursor.eat("transaction") {
            // START_REPLICATION and its like are one word; whatever this is, we don't know it.
            return Verdict::unparsed();
        }
    } else if !cursor.eat("work") {
        cursor.eat("transaction");
    }
    let modes = Modes::read(cursor);
    let mut effects = Effects::BEGIN | modes.effects();
    if modes.standby_can() {
        effects |= Effects::READ_ONLY;
        let mut verdict = Verdict::replica(Reason::ReadOnlyTx);
        verdict.effects = effects;
        return verdict;
    }
    let reason =
        if modes.isolation == Some(Isolation::Serializable) { Reason::Serializable } else { Reason::TxControl };
    Verdict::primary(reason, effects)
}

/// After `COMMIT`, `END`, `ROLLBACK` or `ABORT`, whose lower-case word is `verb`.
pub(super) fn end(mut cursor: Cursor<'_>, verb: &[u8]) -> Verdict {
    if cursor.is("prepared") && cursor.rest().len() > 1 {
        return Verdict::primary(Reason::TwoPhase, Effects::WRITES);
    }
    if !cursor.eat("work") {
        cursor.eat("transaction");
    }
    if verb == b"rollback" && cursor.is("to") {
        return Verdict::anywhere(Reason::TxControl, Effects::SAVEPOINT);
    }
    Verdict::anywhere(Reason::TxControl, Effects::TX_END)
}

/// After `SET [LOCAL|SESSION] TRANSACTION`.
pub(super) fn set_transaction(mut cursor: Cursor<'_>) -> Verdict {
    if cursor.eat("snapshot") {
        return Verdict::primary(Reason::NodeState, Effects::SET_LOCAL | Effects::LITERAL_MATTERS);
    }
    let modes = Modes::read(cursor);
    let effects = Effects::SET_LOCAL | modes.effects();
    if modes.standby_can() {
        Verdict::anywhere(Reason::TxControl, effects | Effects::SET_TX_READ_ONLY)
    } else if modes.isolation == Some(Isolation::Serializable) {
        Verdict::primary(Reason::Serializable, effects)
    } else if modes.read_only == Some(false) || modes.unknown {
        Verdict::primary(Reason::TxControl, effects)
    } else {
        Verdict::anywhere(Reason::TxControl, effects)
    }
}

/// After `SET [LOCAL|SESSION]`, of one of the variables that live for one transaction: `transaction_read_only`,
/// `transaction_isolation`, `transaction_deferrable`. `cursor` stands after `=` or `TO`.
pub(super) fn set_variable(name: &[u8], mut cursor: Cursor<'_>) -> Verdict {
    let value = cursor.next().filter(|_| cursor.at_end());
    let bytes = value.map(|token| cursor.bytes(token)).unwrap_or_default();
    let text = match value.map(|token| token.kind) {
        Some(Kind::Str) => bytes.strip_prefix(b"'").and_then(|b| b.strip_suffix(b"'")).unwrap_or_default(),
        _ => bytes,
    };
    let is = |word: &str| text.eq_ignore_ascii_case(word.as_bytes());
    let effects = Effects::SET_LOCAL | Effects::LITERAL_MATTERS;
    match name {
        b"transaction_read_only" if truth(text) == Some(true) => {
            Verdict::anywhere(Reason::TxControl, effects | Effects::SET_TX_READ_ONLY)
        }
        // Trap 23: a standby refuses to become writable.
        b"transaction_read_only" => Verdict::primary(Reason::TxControl, effects | Effects::READ_WRITE),
        b"transaction_isolation" if is("serializable") => {
            Verdict::primary(Reason::Serializable, effects | Effects::SERIALIZABLE)
        }
        _ => Verdict::anywhere(Reason::TxControl, effects),
    }
}
