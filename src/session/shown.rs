//! `SHOW` and `current_setting()` of what is known for certain: answered without a server connection, in the words of one. Drivers ask
//! for the isolation level at every connect.
//!
//! Known is what the session has set or brought along, where the server reports how it is spelled (and the client was told: trap 57);
//! what no server changes while it runs; and how transactions are begun, which the primary is asked for from time to time (`Defaults`).
//! Only between a session's statements, and in blocks that no server knows of: within others a `SET LOCAL` may hold.

use crate::sql::{Decision, Effects, Isolation, Reason, Target, explained_route, shown_setting, truth};
use crate::wire::build;

use super::machine::State;
use super::relay::Session;

/// Reported by every server, and the same as long as it runs.
const CONSTANT: [&str; 3] = ["integer_datetimes", "server_encoding", "server_version"];

/// A setting as a server would show it, or what `EXPLAIN (ROUTE)` says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    column: String,
    value: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `SHOW`.
    Show,
    /// `SELECT current_setting(…)`.
    Function,
    /// `EXPLAIN (ROUTE)`: the value is the text that is explained.
    Explain,
}

impl Session {
    /// The answer to a statement that asks for one setting, when it is known for certain.
    pub(super) fn shown(&self, decision: Decision, sql: &[u8]) -> Option<Answer> {
        if decision.reason == Reason::ExplainRoute && self.may_answer(decision) {
            let explained = String::from_utf8_lossy(explained_route(sql, self.lex)?).into_owned();
            return Some(Answer { column: "QUERY PLAN".to_owned(), value: explained, kind: Kind::Explain });
        }
        if decision.reason == Reason::OwnSetting && matches!(self.state, State::Idle) && !self.deferred.has_failed() {
            return self.own_answer(sql);
        }
        if !self.may_show(decision) {
            return None;
        }
        let shown = shown_setting(sql, self.lex)?;
        let (column, value) = self.known_setting(&shown.name)?;
        // What is not ASCII depends on the client's encoding.
        if !value.is_ascii() {
            return None;
        }
        if !shown.by_function {
            return Some(Answer { column, value, kind: Kind::Show });
        }
        // A function of that name in a schema that stands before PostgreSQL's own.
        let path = self.tracked.settings().get("search_path");
        let is_own = path.is_none_or(|path| path.text().is_some_and(|path| !path.contains("pg_catalog")));
        is_own.then(|| Answer { column: "current_setting".to_owned(), value, kind: Kind::Function })
    }

    /// The answer to one that asks for a setting for us alone.
    pub(super) fn own_answer(&self, sql: &[u8]) -> Option<Answer> {
        let (column, value) = self.shown_own(sql)?;
        Some(Answer { column, value, kind: Kind::Show })
    }

    /// Nothing that a statement asks for is known here, and it is worth asking the primary.
    pub(super) fn wants_defaults(&self, decision: Decision, sql: &[u8]) -> bool {
        self.may_show(decision)
            && shown_setting(sql, self.lex).is_some_and(|shown| {
                matches!(
                    &*shown.name,
                    "transaction_isolation"
                        | "default_transaction_isolation"
                        | "transaction_read_only"
                        | "default_transaction_read_only"
                )
            })
    }

    fn may_show(&self, decision: Decision) -> bool {
        decision.reason == Reason::SettingRead && self.may_answer(decision)
    }

    /// Whether it asks for nothing else, between statements.
    fn may_answer(&self, decision: Decision) -> bool {
        decision.effects == Effects::empty() && matches!(self.state, State::Idle) && !self.deferred.has_failed()
    }

    /// Its name as servers spell it, and its value.
    fn known_setting(&self, name: &str) -> Option<(String, String)> {
        let named = |value: &str| Some((name.to_owned(), value.to_owned()));
        let on_off = |on: bool| named(if on { "on" } else { "off" });
        match name {
            "transaction_isolation" => named(self.deferred.isolation().or_else(|| self.default_isolation())?.as_str()),
            "default_transaction_isolation" => named(self.default_isolation()?.as_str()),
            "transaction_read_only" => on_off(self.deferred.read_only().or_else(|| self.default_read_only())?),
            "default_transaction_read_only" => on_off(self.default_read_only()?),
            // A client talks to one server that is never a standby (trap 57).
            "in_hot_standby" => self.told.get(b"in_hot_standby").and_then(|_| on_off(false)),
            _ => {
                if !CONSTANT.contains(&name) && self.tracked.settings().get(name).is_none() {
                    return None;
                }
                let (column, value) = self.told.iter().find(|(told, _)| told.eq_ignore_ascii_case(name.as_bytes()))?;
                Some((String::from_utf8(column.to_vec()).ok()?, String::from_utf8(value.to_vec()).ok()?))
            }
        }
    }

    /// At which level a block runs that does not say so.
    pub(super) fn default_isolation(&self) -> Option<Isolation> {
        match self.tracked.settings().get("default_transaction_isolation") {
            Some(value) => value.text().and_then(Isolation::parse),
            None => self.pools.defaults.isolation(),
        }
    }

    /// Whether a block that does not say so is READ ONLY.
    fn default_read_only(&self) -> Option<bool> {
        match self.tracked.settings().get("default_transaction_read_only") {
            Some(value) => truth(value.text()?.as_bytes()),
            None => self.pools.defaults.read_only(),
        }
    }

    /// Describes such an answer: its one column, in this format.
    pub(super) fn describe_shown(&mut self, answer: &Answer, format: u16) {
        build::text_column(&mut self.to_client, &answer.column, format);
    }

    /// Answers, without the description before it and the ReadyForQuery behind it. A text is the same in both formats.
    pub(super) fn answer_shown(&mut self, answer: &Answer, decision: Decision) {
        let explained = answer.kind == Kind::Explain;
        let lines = if explained { self.explain_route(answer.value.as_bytes()) } else { vec![answer.value.clone()] };
        for line in &lines {
            build::text_row(&mut self.to_client, &[line]);
        }
        let tag = match answer.kind {
            Kind::Show => "SHOW",
            Kind::Function => "SELECT 1",
            Kind::Explain => "EXPLAIN",
        };
        build::command_complete(&mut self.to_client, tag);
        if answer.kind == Kind::Function && self.deferred.is_open() {
            self.deferred.note_read();
        }
        self.metrics.routed(Target::Anywhere, decision.reason);
    }
}
