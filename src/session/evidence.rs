//! Whether what pins a session is still there: asked of the server itself.
//!
//! Texts tell what may have been given up (`DROP`, `CLOSE`, `pg_advisory_unlock`, a procedure), or never taken
//! (`pg_try_advisory_lock`, `ON COMMIT DROP`). Then, when the connection is at rest, one query of ours asks what is left, and the pins
//! that nothing answers to are gone. A statement of the client's that comes meanwhile goes out behind it.

use std::task::Context as Cx;

use crate::sql::{Decision, Effects, Reason};
use crate::wire::build;

use super::buffers::send;
use super::expect::Expect;
use super::machine::State;
use super::pins::Pins;
use super::relay::Session;

/// What the server can be asked about, and the condition that says it is there. Whatever lives in a schema depends on it, temporary
/// types and functions too; a cursor that is left outside a transaction is one `WITH HOLD`.
const QUESTIONS: [(Pins, &str); 3] = [
    (
        Pins::TEMP_OBJECT,
        "EXISTS (SELECT FROM pg_catalog.pg_depend WHERE refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass \
         AND refobjid = pg_catalog.pg_my_temp_schema())",
    ),
    (Pins::HOLD_CURSOR, "EXISTS (SELECT FROM pg_catalog.pg_cursors)"),
    (
        Pins::ADVISORY_LOCK,
        "EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid())",
    ),
];

/// Evidence that is wanted, or on its way.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// A statement has run that may have given up what pins.
    due: bool,
    /// The pins that the question under way is about; those that were made anew since are taken out.
    asked: Pins,
}

impl Evidence {
    /// A statement goes out.
    pub fn note(&mut self, decision: Decision) {
        self.due |= decision.effects.intersects(
            Effects::RELEASES_ONLY
                | Effects::UNLOCKS
                | Effects::CURSOR
                | Effects::MULTI
                | Effects::SQL_EXECUTE
                | Effects::ADVISORY_LOCK
                | Effects::TEMP_OBJECT
                | Effects::HOLD_CURSOR,
        ) || matches!(
            decision.reason,
            Reason::Ddl
                | Reason::Procedure
                | Reason::AdvisoryLock
                | Reason::Unparsed
                | Reason::UnknownFunction
                | Reason::VolatileFunction
        );
    }

    /// Something may have been given up.
    pub fn want(&mut self) {
        self.due = true;
    }

    /// State of these kinds is being made.
    pub fn outdated_for(&mut self, pins: Pins) {
        self.asked.remove(pins);
    }
}

impl Session {
    /// Asks what is left of what pins the session, when something may have gone. `true` when a question went out.
    pub(super) fn ask_for_evidence(&mut self, cx: &mut Cx<'_>) -> bool {
        let State::Linked(link) = &mut self.state else { return false };
        if !self.evidence.due || self.keeps_lease || !link.at_rest() {
            return false;
        }
        self.evidence.due = false;
        let asked: Vec<_> = QUESTIONS.iter().filter(|(pin, _)| self.pins.contains(*pin)).collect();
        if asked.is_empty() {
            return false;
        }
        self.evidence.asked = asked.iter().fold(Pins::empty(), |pins, (pin, _)| pins | *pin);
        let conditions: Vec<_> = asked.iter().map(|(_, condition)| *condition).collect();
        let mut message = Vec::with_capacity(512);
        build::query(&mut message, format!("SELECT {}", conditions.join(",")).as_bytes());
        // It ends the unnamed statement (trap 37).
        link.lease.prepared.unnamed = None;
        link.replies.push(Expect::Evidence(self.evidence.asked));
        // A broken connection shows when it is read.
        let sent = send(&mut link.lease.stream, &mut link.backlog, &message, cx).unwrap_or(0);
        self.metrics.server_sent(sent);
        true
    }

    /// Takes away what nobody else is to meet on a connection that is about to go: that it listens, what is left of statements that a
    /// function may have given up, and answers of which nobody knows whether they come. `true` when it was told so.
    pub(super) fn tidy(&mut self, cx: &mut Cx<'_>) -> bool {
        if !self.may_release() {
            return false;
        }
        let State::Linked(link) = &mut self.state else { return false };
        let sql: &[u8] = match (std::mem::take(&mut link.listens), std::mem::take(&mut link.lost_names)) {
            // What is answered before it is the client's.
            (listens, lost) if link.copy_syncs > 0 => {
                (link.listens, link.lost_names) = (listens, lost);
                b""
            }
            (false, false) => return false,
            _ if link.retired.is_some() => return false,
            (true, false) => b"UNLISTEN *",
            (listens, true) => {
                link.lease.prepared.clear();
                if listens { b"UNLISTEN *;DEALLOCATE ALL" } else { b"DEALLOCATE ALL" }
            }
        };
        let mut message = Vec::with_capacity(32);
        build::query(&mut message, sql);
        // It ends the unnamed statement (trap 37).
        link.lease.prepared.unnamed = None;
        link.deaf = self.tracked.listens();
        link.replies.push(Expect::Tidy);
        self.client.set_applying(true);
        // A broken connection shows when it is read.
        let sent = send(&mut link.lease.stream, &mut link.backlog, &message, cx).unwrap_or(0);
        self.metrics.server_sent(sent);
        true
    }

    /// The server's answer, a DataRow with one boolean for each pin that was `asked` about.
    pub(super) fn take_evidence(&mut self, asked: Pins, row: &[u8]) {
        let questions = QUESTIONS.iter().filter(|(pin, _)| asked.contains(*pin));
        // Each value: its length in four bytes, then `t` or `f`.
        let values = row.get(2..).unwrap_or_default().chunks(5);
        for ((pin, _), value) in questions.zip(values) {
            if value == [0, 0, 0, 1, b'f'] && self.evidence.asked.contains(*pin) {
                tracing::debug!(client = self.client.id, reason = pin.describe(), "pin released on evidence");
                self.pins.remove(*pin);
            }
        }
    }
}
