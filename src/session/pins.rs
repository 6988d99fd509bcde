//! Why a session keeps its server connection beyond a transaction.

use std::time::SystemTime;

use bitflags::bitflags;

use crate::sql::{Effects, normalize};

use super::clients::Pinned;
use super::relay::Session;

bitflags! {
    /// Reasons for which the session's server connection must not be given to another client: state lives on it that
    /// nothing else knows. Given up by DISCARD ALL, or at the end of the session (then the connection is reset).
    #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
    pub struct Pins: u16 {
        /// A change of settings that the text does not tell: `set_config` of an expression, `SET … FROM CURRENT`.
        const SETTINGS = 1;
        /// SQL `PREPARE` of a name that is not read (`U&"…"`), or where statements are not shared.
        const SQL_PREPARE = 1 << 1;
        /// Temporary tables and the like.
        const TEMP_OBJECT = 1 << 3;
        /// `WITH HOLD` cursors.
        const HOLD_CURSOR = 1 << 4;
        /// Session advisory locks.
        const ADVISORY_LOCK = 1 << 5;
        /// `setseed`, LOAD and the like, which no reset takes back.
        const SESSION_STATE = 1 << 6;
        /// A statement too long to be kept for other connections.
        const LARGE_STATEMENT = 1 << 7;
        /// `currval`, `lastval`: what the session got from sequences.
        const SEQUENCE = 1 << 9;
        /// What was changed so may be the role or session user: RESET ALL leaves them alone.
        const ROLE = 1 << 8;
    }
}

impl Pins {
    /// What a rollback undoes.
    pub const TRANSACTIONAL: Self = Self::SETTINGS.union(Self::ROLE).union(Self::TEMP_OBJECT).union(Self::HOLD_CURSOR);

    /// The pins that a statement with these effects asks for. Statements that only give state up ask for none.
    pub fn of(effects: Effects) -> Self {
        const TABLE: [(Effects, Pins); 5] = [
            (Effects::TEMP_OBJECT, Pins::TEMP_OBJECT),
            (Effects::HOLD_CURSOR, Pins::HOLD_CURSOR),
            (Effects::ADVISORY_LOCK, Pins::ADVISORY_LOCK),
            (Effects::SESSION_STATE, Pins::SESSION_STATE),
            (Effects::SEQUENCE_STATE, Pins::SEQUENCE),
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
                "close all" => Self::HOLD_CURSOR,
                "deallocate all" | "deallocate prepare all" => Self::SQL_PREPARE,
                "discard temp" | "discard temporary" => Self::TEMP_OBJECT,
                "select pg_advisory_unlock_all()" | "select pg_catalog.pg_advisory_unlock_all()" => Self::ADVISORY_LOCK,
                _ => Self::empty(),
            }
        })
    }

    /// What a statement may have done to its session of which only the tag is known, and whether a `SELECT` in its text `tells` that it
    /// leaves something behind. Those that write are trusted to do nothing else: they are what most long statements are.
    fn of_tag(tag: &[u8], tells: bool) -> Self {
        const ANY: Pins = Pins::SETTINGS.union(Pins::ROLE).union(Pins::TEMP_OBJECT).union(Pins::ADVISORY_LOCK);
        match tag.split(|byte| matches!(byte, b' ' | 0)).next().unwrap_or_default() {
            b"INSERT" | b"UPDATE" | b"DELETE" | b"MERGE" | b"COPY" | b"TRUNCATE" | b"LOCK" | b"NOTIFY" => Self::empty(),
            b"BEGIN" | b"START" | b"COMMIT" | b"ALTER" | b"DROP" | b"GRANT" | b"REVOKE" | b"COMMENT" => Self::empty(),
            b"ANALYZE" | b"VACUUM" | b"SHOW" | b"SAVEPOINT" | b"RELEASE" | b"ROLLBACK" | b"CLOSE" => Self::empty(),
            b"DECLARE" => Self::HOLD_CURSOR,
            b"CREATE" => Self::TEMP_OBJECT,
            b"SET" | b"RESET" => Self::SETTINGS | Self::ROLE,
            b"SELECT" | b"EXPLAIN" | b"FETCH" | b"MOVE" if !tells => Self::empty(),
            b"SELECT" | b"EXPLAIN" | b"FETCH" | b"MOVE" => ANY,
            b"LOAD" => Self::SESSION_STATE,
            _ => ANY | Self::HOLD_CURSOR | Self::SQL_PREPARE,
        }
    }

    /// Names of the reasons, for logs and the console.
    pub fn describe(self) -> String {
        self.iter_names().map(|(name, _)| name.to_ascii_lowercase()).collect::<Vec<_>>().join(",")
    }
}

impl Session {
    /// A statement has succeeded, with this tag, of a text that was not looked into.
    #[cold]
    pub(super) fn pin_unseen(&mut self, tag: &[u8]) {
        let pins = Pins::of_tag(tag, self.unseen.as_ref().is_some_and(|unseen| unseen.tells));
        if !pins.is_empty() {
            self.pin(pins);
            self.pinned_by(b"-- a Query longer than max_inspect");
            // They may be gone again before the session looks at its pins.
            self.show_pins();
            self.evidence.want();
        }
    }

    /// Notes the statement that has just pinned the server connection, for `SHOW PINS`.
    pub(super) fn pinned_by(&mut self, text: &[u8]) {
        if self.shown_pins.contains(self.pins) {
            return;
        }
        let statement = normalize(&text[..text.len().min(SHOWN_TEXT)], self.lex);
        self.client.set_pinned(|pinned| {
            let fresh =
                || Box::new(Pinned { reasons: String::new(), since: SystemTime::now(), statement: String::new() });
            pinned.get_or_insert_with(fresh).statement = statement;
        });
    }

    /// Tells the console, the metrics and the log when the pins have changed.
    #[inline]
    pub(super) fn show_pins(&mut self) {
        if self.pins != self.shown_pins {
            self.show_changed_pins();
        }
    }

    #[cold]
    fn show_changed_pins(&mut self) {
        let reasons = self.pins.describe();
        let mut by = String::new();
        self.client.set_pinned(|pinned| {
            if self.pins.is_empty() {
                *pinned = None;
                return;
            }
            let fresh =
                || Box::new(Pinned { reasons: String::new(), since: SystemTime::now(), statement: String::new() });
            let pinned = pinned.get_or_insert_with(fresh);
            pinned.reasons.clone_from(&reasons);
            by.clone_from(&pinned.statement);
        });
        self.metrics.set_pins(self.pins.iter_names().map(|(name, _)| name));
        let (client, user, database) = (self.client.id, &*self.client.user, &*self.client.database);
        if !self.logged_pins.contains(self.pins) {
            // Once for each reason: a session that pins and releases all the time must not fill the log.
            tracing::info!(client, user, database, reasons, statement = by, "server connection pinned");
            self.logged_pins |= self.pins;
        } else if self.pins.is_empty() {
            tracing::debug!(client, user, database, "server connection no longer pinned");
        } else {
            tracing::debug!(client, user, database, reasons, statement = by, "server connection pinned");
        }
        self.shown_pins = self.pins;
    }
}

/// Bytes of a statement that pins which are looked at for showing it.
const SHOWN_TEXT: usize = 2048;
