//! Why a session keeps its server connection beyond a transaction.

use bitflags::bitflags;

use crate::sql::Effects;

bitflags! {
    /// Reasons for which the session's server connection must not be given to another client: state lives on it that
    /// nothing else knows. Given up by DISCARD ALL, or at the end of the session (then the connection is reset).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Pins: u16 {
        /// A change of settings that the text does not tell: `set_config` of an expression, `SET … FROM CURRENT`.
        const SETTINGS = 1;
        /// SQL `PREPARE` of a name that is not read (`U&"…"`), or where statements are not shared.
        const SQL_PREPARE = 1 << 1;
        /// `LISTEN`.
        const LISTEN = 1 << 2;
        /// Temporary tables and the like.
        const TEMP_OBJECT = 1 << 3;
        /// `WITH HOLD` cursors.
        const HOLD_CURSOR = 1 << 4;
        /// Session advisory locks.
        const ADVISORY_LOCK = 1 << 5;
        /// `setseed`, `currval`, LOAD, large objects and the like.
        const SESSION_STATE = 1 << 6;
        /// A statement too long to be kept for other connections.
        const LARGE_STATEMENT = 1 << 7;
        /// What was changed so may be the role or session user: RESET ALL leaves them alone.
        const ROLE = 1 << 8;
    }
}

impl Pins {
    /// What a rollback undoes.
    pub const TRANSACTIONAL: Self =
        Self::SETTINGS.union(Self::ROLE).union(Self::LISTEN).union(Self::TEMP_OBJECT).union(Self::HOLD_CURSOR);

    /// The pins that a statement with these effects asks for. Statements that only give state up ask for none.
    pub fn of(effects: Effects) -> Self {
        const TABLE: [(Effects, Pins); 5] = [
            (Effects::LISTEN, Pins::LISTEN),
            (Effects::TEMP_OBJECT, Pins::TEMP_OBJECT),
            (Effects::HOLD_CURSOR, Pins::HOLD_CURSOR),
            (Effects::ADVISORY_LOCK, Pins::ADVISORY_LOCK),
            (Effects::SESSION_STATE, Pins::SESSION_STATE),
        ];
        if effects.contains(Effects::RELEASES_ONLY) {
            return Self::empty();
        }
        TABLE.iter().filter(|(effect, _)| effects.intersects(*effect)).fold(Self::empty(), |pins, (_, pin)| pins | *pin)
    }

    /// The pins that a string which only gives state up ([`Effects::RELEASES_ONLY`]) is certain to end, when it succeeds outside
    /// a transaction block. `normalized` is the text as the slow log shows it. Drivers' pools reset their connections so.
    pub fn released_by(normalized: &str) -> Self {
        normalized.split(';').map(str::trim).fold(Self::empty(), |pins, statement| {
            pins | match statement {
                "reset all" => Self::SETTINGS,
                "unlisten *" => Self::LISTEN,
                "close all" => Self::HOLD_CURSOR,
                "deallocate all" | "deallocate prepare all" => Self::SQL_PREPARE,
                "discard temp" | "discard temporary" => Self::TEMP_OBJECT,
                "select pg_advisory_unlock_all()" | "select pg_catalog.pg_advisory_unlock_all()" => Self::ADVISORY_LOCK,
                _ => Self::empty(),
            }
        })
    }

    /// Names of the reasons, for logs and the console.
    pub fn describe(self) -> String {
        self.iter_names().map(|(name, _)| name.to_ascii_lowercase()).collect::<Vec<_>>().join(",")
    }
}
