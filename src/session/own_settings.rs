//! Settings of a session that are for Trunkline alone (`SET trunkline.…`): no server ever hears of them.
//!
//! To add one: an implementation of [`OwnValue`], a field of [`OwnSettings`], and its place in [`OwnSettings::slot`] and in
//! [`KNOWN`].

use crate::config::TransactionReads;
use crate::sql::{Change, Consistency, Decision, Effects, OwnAction, OwnSetting, Reason, own_setting, truth};
use crate::wire::{ErrorNotice, Severity, SqlState, TxStatus, build};

use super::inbound::Flow;
use super::machine::State;
use super::placement::{Placement, RouteChoice};
use super::relay::Session;
use super::shown::Answer;
use super::splice::Splice;

/// The names that there are, for hints.
const KNOWN: &str = "Known: trunkline.consistency, trunkline.explain, trunkline.route, trunkline.shard_blocks, trunkline.transaction_reads.";

/// What a setting can be.
pub(super) trait OwnValue: Copy {
    /// Its values, for hints.
    const VALUES: &'static str;

    /// Reads one, in any case of letters.
    fn parse(text: &str) -> Option<Self>;

    /// As `SHOW` tells it.
    fn as_str(self) -> &'static str;
}

/// One setting: the value in force is that of `SET LOCAL`, else that of `SET`, else what the client started with, else the
/// configuration's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Own<T> {
    /// Until the end of the transaction.
    local: Option<T>,
    session: Option<T>,
    startup: Option<T>,
    /// What holds when nothing was said.
    pub default: T,
}

impl<T: OwnValue> Own<T> {
    fn go_back_to(&mut self, before: Self) {
        (self.local, self.session) = (before.local, before.session);
    }

    /// The value in force.
    pub fn get(&self) -> T {
        self.local.or(self.session).or(self.startup).unwrap_or(self.default)
    }
}

/// Something that is on or off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Switch {
    #[default]
    Off,
    On,
}

impl OwnValue for Switch {
    const VALUES: &'static str = "off, on";

    fn parse(text: &str) -> Option<Self> {
        truth(text.as_bytes()).map(|on| if on { Self::On } else { Self::Off })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
        }
    }
}

/// The settings of one session.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OwnSettings {
    /// `trunkline.route`
    pub route: Own<RouteChoice>,
    /// `trunkline.explain`
    pub explain: Own<Switch>,
    /// `trunkline.consistency`; the default is the user's or the database's.
    pub consistency: Own<Consistency>,
    /// `trunkline.shard_blocks`
    pub shard_blocks: Own<Switch>,
    /// `trunkline.transaction_reads`
    pub transaction_reads: Own<TransactionReads>,
}

impl OwnSettings {
    fn slot(&mut self, name: &str) -> Option<&mut dyn Slot> {
        match name {
            "consistency" => Some(&mut self.consistency),
            "explain" => Some(&mut self.explain),
            "route" => Some(&mut self.route),
            "shard_blocks" => Some(&mut self.shard_blocks),
            "transaction_reads" => Some(&mut self.transaction_reads),
            _ => None,
        }
    }

    fn slots(&mut self) -> [&mut dyn Slot; 5] {
        let Self { consistency, explain, route, shard_blocks, transaction_reads } = self;
        [consistency, explain, route, shard_blocks, transaction_reads]
    }

    /// A value that the client brings along in its startup packet; `name` without the prefix `trunkline.`.
    ///
    /// # Errors
    /// What the client is told, as FATAL.
    pub fn start_with(&mut self, name: &str, value: &str) -> Result<(), ErrorNotice> {
        let fatal = |notice: ErrorNotice| ErrorNotice { severity: Severity::Fatal, ..notice };
        let slot = self.slot(name).ok_or_else(|| fatal(unknown(name)))?;
        slot.set(Scope::Startup, value).map_err(|Invalid| fatal(invalid(name, value, slot.values())))
    }

    /// The transaction has ended: what `SET LOCAL` changed goes back.
    fn transaction_ended(&mut self) {
        self.slots().into_iter().for_each(Slot::end_local);
    }

    /// What was set is as it was; what holds when nothing was said may have changed since.
    fn go_back_to(&mut self, before: &Self) {
        self.route.go_back_to(before.route);
        self.explain.go_back_to(before.explain);
        self.consistency.go_back_to(before.consistency);
        self.shard_blocks.go_back_to(before.shard_blocks);
        self.transaction_reads.go_back_to(before.transaction_reads);
    }

    /// As the client started.
    fn reset_all(&mut self) {
        self.slots().into_iter().for_each(Slot::reset);
    }
}

/// What the settings were at each point to which the transaction can be rolled back: its beginning, which has no name, and its savepoints.
///
/// Invariant: a point is kept only within a transaction that has set something or made a savepoint.
#[derive(Debug, Default)]
pub(super) struct OwnPoints(Vec<(Option<Box<[u8]>>, OwnSettings)>);

impl OwnPoints {
    fn remember_beginning(&mut self, own: &OwnSettings) {
        if self.0.is_empty() {
            self.0.push((None, *own));
        }
    }

    /// The last savepoint of this name.
    fn place(&self, wanted: &[u8]) -> Option<usize> {
        self.0.iter().rposition(|(name, _)| name.as_deref() == Some(wanted))
    }
}

impl Placement {
    /// A savepoint was made, released or rolled back to.
    pub fn follow_savepoint(&mut self, change: &Change) {
        let Self { own, own_points: points, .. } = self;
        match change {
            Change::Savepoint(name) => {
                points.remember_beginning(own);
                points.0.push((Some(name.clone()), *own));
            }
            Change::Release(name) => {
                if let Some(at) = points.place(name) {
                    points.0.truncate(at);
                }
            }
            Change::RollbackTo(name) => {
                if let Some(at) = points.place(name) {
                    own.go_back_to(&points.0[at].1);
                    points.0.truncate(at + 1);
                }
            }
            _ => {}
        }
    }

    /// `RESET ALL`, `DISCARD ALL`.
    pub fn reset_own(&mut self, in_block: bool) {
        if in_block {
            self.own_points.remember_beginning(&self.own);
        }
        self.own.reset_all();
    }

    /// Whether an error would take back what the transaction at hand has set.
    pub fn may_go_back(&self) -> bool {
        !self.own_points.0.is_empty()
    }

    /// A server has ended the block well, and the client's own end of it is still to come: until then all of it can be taken back.
    pub fn ended_early(&mut self) {
        self.own_points.0.truncate(1);
        self.own.transaction_ended();
    }

    /// A transaction has ended: what it has set stays, or is as it was before.
    pub fn transaction_ended(&mut self, rolled_back: bool) {
        if let (true, Some((_, before))) = (rolled_back, self.own_points.0.first()) {
            self.own.go_back_to(before);
        }
        self.own_points.0.clear();
        self.own.transaction_ended();
    }
}

/// For how long a value is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Startup,
    Session,
    Transaction,
}

/// Not one of the values.
struct Invalid;

/// A setting whose type does not matter.
trait Slot {
    fn set(&mut self, scope: Scope, text: &str) -> Result<(), Invalid>;
    fn reset(&mut self);
    fn end_local(&mut self);
    fn takes(&self, text: &str) -> bool;
    fn shown(&self) -> &'static str;
    fn values(&self) -> &'static str;
}

impl<T: OwnValue> Slot for Own<T> {
    fn set(&mut self, scope: Scope, text: &str) -> Result<(), Invalid> {
        let value = Some(T::parse(text).ok_or(Invalid)?);
        match scope {
            Scope::Startup => self.startup = value,
            Scope::Session => (self.session, self.local) = (value, None),
            Scope::Transaction => self.local = value,
        }
        Ok(())
    }

    fn reset(&mut self) {
        (self.session, self.local) = (None, None);
    }

    fn end_local(&mut self) {
        self.local = None;
    }

    fn takes(&self, text: &str) -> bool {
        T::parse(text).is_some()
    }

    fn shown(&self) -> &'static str {
        self.get().as_str()
    }

    fn values(&self) -> &'static str {
        T::VALUES
    }
}

fn unknown(name: &str) -> ErrorNotice {
    let message = format!("unrecognized configuration parameter \"trunkline.{name}\"");
    ErrorNotice::error(SqlState::UNDEFINED_OBJECT, message).hint(KNOWN)
}

fn invalid(name: &str, value: &str, values: &str) -> ErrorNotice {
    let message = format!("invalid value for parameter \"trunkline.{name}\": \"{value}\"");
    ErrorNotice::error(SqlState::INVALID_PARAMETER_VALUE, message).hint(format!("Available values: {values}."))
}

impl Session {
    /// `SET`, `RESET` and `SHOW` of `trunkline.…` settings.
    pub(super) fn answer_own_setting(&mut self, sql: &[u8]) {
        if let Err(notice) = self.take_own_setting(sql) {
            notice.encode(&mut self.to_client);
        }
    }

    /// Why a Bind of a statement about such a setting fails, if it does. No server is to learn of the setting: its statement is prepared
    /// and bound there, and executed here ([`Self::executes_own`]); one that shows it no server would prepare.
    pub(super) fn refuse_own(&self, decision: Decision, sql: &[u8]) -> Option<ErrorNotice> {
        if !decision.effects.contains(Effects::OWN_SETTING) {
            return None;
        }
        let mut own = self.placement.own;
        let checked = self.read_own_setting(sql).and_then(|OwnSetting { name, action }| {
            let slot = own.slot(&name).ok_or_else(|| unknown(&name))?;
            match action {
                OwnAction::Set { value, .. } if !slot.takes(&value) => Err(invalid(&name, &value, slot.values())),
                _ => Ok(()),
            }
        });
        checked.err()
    }

    /// Whether a statement sets such a setting, and certainly succeeds.
    pub(super) fn takes_own(&self, decision: Decision, sql: &[u8]) -> bool {
        decision.effects.contains(Effects::OWN_SETTING)
            && !self.deferred.has_failed()
            && self.refuse_own(decision, sql).is_none()
    }

    /// Whether a message that is about a statement which shows such a setting is answered here, when all that was sent before it has been:
    /// what a server would say of it, and its place among the answers. In a failed block a server says all that is to say.
    pub(super) fn shows_own(
        &mut self,
        decision: Decision,
        sql: &[u8],
        out: &mut Splice<'_>,
    ) -> Option<Result<Answer, Flow>> {
        if decision.reason != Reason::OwnSetting {
            return None;
        }
        let answer = self.own_answer(sql)?;
        let link = self.link().filter(|link| link.status != TxStatus::Failed)?;
        if !link.replies.is_empty() {
            return Some(Err(link.wait_for_answers(out)));
        }
        link.segment_open = true;
        Some(Ok(answer))
    }

    /// The statement of this portal is about such a setting: it is executed here, when all that was sent before it has been answered.
    pub(super) fn executes_own(&mut self, portal: &[u8], out: &mut Splice<'_>) -> Option<Flow> {
        let at = self.own_portals.iter().position(|(of, ..)| **of == *portal)?;
        let State::Linked(link) = &mut self.state else { return None };
        if !link.replies.is_empty() {
            return Some(link.wait_for_answers(out));
        }
        // It can be executed once.
        let (_, statement, _) = self.own_portals.swap_remove(at);
        link.rerun.note(Effects::OWN_SETTING);
        match self.own_answer(&statement.sql) {
            Some(answer) => self.answer_shown(&answer, statement.decision),
            None => self.answer_own_setting(&statement.sql),
        }
        Some(Flow::Taken)
    }

    /// The same of what describes it.
    pub(super) fn describes_own(&mut self, portal: &[u8], out: &mut Splice<'_>) -> Option<Flow> {
        let (_, statement, format) = self.own_portals.iter().find(|(of, ..)| **of == *portal)?.clone();
        Some(match self.shows_own(statement.decision, &statement.sql, out)? {
            Ok(answer) => {
                self.describe_shown(&answer, format);
                Flow::Taken
            }
            Err(stop) => stop,
        })
    }

    /// What such a setting is, for a statement that asks for it and nothing else.
    pub(super) fn shown_own(&self, sql: &[u8]) -> Option<(String, String)> {
        let OwnSetting { name, action } = own_setting(sql, self.lex)?;
        let mut own = self.placement.own;
        let value = own.slot(&name).filter(|_| action == OwnAction::Show)?.shown();
        Some((format!("trunkline.{name}"), value.to_owned()))
    }

    fn read_own_setting(&self, sql: &[u8]) -> Result<OwnSetting, ErrorNotice> {
        own_setting(sql, self.lex).ok_or_else(|| {
            let message = "this form of SET is not understood for trunkline settings";
            ErrorNotice::error(SqlState::SYNTAX_ERROR, message).hint("Write SET [LOCAL] trunkline.name = 'value'.")
        })
    }

    fn take_own_setting(&mut self, sql: &[u8]) -> Result<(), ErrorNotice> {
        let setting = self.read_own_setting(sql)?;
        let in_block = self.status().in_block();
        let name = &*setting.name;
        // What is executed before a Sync is undone by an error behind it.
        let in_segment = matches!(&self.state, State::Linked(link) if link.segment_open);
        if (in_block || in_segment) && setting.action != OwnAction::Show {
            let Placement { own, own_points, .. } = &mut self.placement;
            own_points.remember_beginning(own);
        }
        let slot = self.placement.own.slot(name).ok_or_else(|| unknown(name))?;
        let tag = match setting.action {
            OwnAction::Set { value, local } => {
                let scope = if local { Scope::Transaction } else { Scope::Session };
                // Outside a transaction it is tried all the same, and lasts no longer than the statement.
                slot.set(scope, &value).map_err(|Invalid| invalid(name, &value, slot.values()))?;
                if local && !in_block {
                    slot.end_local();
                    let message = "SET LOCAL can only be used in transaction blocks";
                    let notice = ErrorNotice::error(SqlState::NO_ACTIVE_TRANSACTION, message);
                    ErrorNotice { severity: Severity::Warning, ..notice }.encode(&mut self.to_client);
                }
                "SET"
            }
            OwnAction::Reset => {
                slot.reset();
                "RESET"
            }
            OwnAction::Show => {
                let shown = slot.shown();
                build::text_columns(&mut self.to_client, &[&format!("trunkline.{name}")]);
                build::text_row(&mut self.to_client, &[shown]);
                "SHOW"
            }
        };
        build::command_complete(&mut self.to_client, tag);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_in_force_is_the_one_of_the_shortest_life() {
        let mut own = OwnSettings::default();
        assert_eq!(own.route.get(), RouteChoice::Auto);
        own.start_with("route", "replica").unwrap();
        assert_eq!(own.route.get(), RouteChoice::Replica);
        let set = |own: &mut OwnSettings, scope, text| assert!(own.route.set(scope, text).is_ok());
        set(&mut own, Scope::Transaction, "primary");
        assert_eq!(own.route.get(), RouteChoice::Primary);
        own.transaction_ended();
        assert_eq!(own.route.get(), RouteChoice::Replica);
        set(&mut own, Scope::Transaction, "primary");
        set(&mut own, Scope::Session, "AUTO");
        assert_eq!(own.route.get(), RouteChoice::Auto, "SET after SET LOCAL");
        own.reset_all();
        assert_eq!(own.route.get(), RouteChoice::Replica, "as the client started (trap 52)");
        assert!(own.start_with("route", "nowhere").is_err_and(|notice| notice.is_fatal()));
        assert!(own.start_with("nonsense", "x").is_err_and(|notice| notice.is_fatal()));
    }
}
