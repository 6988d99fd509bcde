//! Names of SQL's `PREPARE`, `EXECUTE` and `DEALLOCATE` in transaction pooling: a statement of that kind stands under the client's
//! own name on a server connection, and before one is named there, the name is made to mean what it means to this client (trap 44).
//!
//! Not followed: what a function prepares or gives up by dynamic SQL; and a function that executes by name finds what its session
//! prepared outside the block at hand only when it is called outside one.
//!
//! What is put there goes ahead in the same write, as messages of the extended protocol: they leave the unnamed statement and
//! portal alone, and can be put into a segment without ending it.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::backend::{Own, Parameters, Prepared, Registry, prepared};
use crate::route::DecisionCache;
use crate::sql::{Change, Decision, Effects, LexOptions, Reason, ShardKeyId, StatementNames, Target, statement_names};
use crate::wire::build;

use super::expect::Expect;
use super::gather::worse;
use super::inbound::{Flow, Need, UNSEEN};
use super::machine::{Link, State};
use super::names::{Named, Names, Statement};
use super::pins::Pins;
use super::relay::Session;
use super::splice::Splice;

/// Effects of texts that say names of statements.
pub(super) const NAMES: Effects = Effects::SQL_PREPARE.union(Effects::SQL_EXECUTE);

/// Most names that are put on a connection on the chance that a function uses them.
const MOST_ON_CHANCE: usize = 32;

/// Most statements that are followed from one text because they say names themselves: a statement of the protocol may be an `EXECUTE`.
const MOST_NESTED: usize = 16;

/// Which names must mean on the connection what they mean to the client.
enum Wanted {
    None,
    /// These.
    These(Vec<Box<[u8]>>),
    /// All that were prepared by SQL: who knows what a function executes.
    OfSql,
    /// No others, and if `all` may be put there all of them: who knows what a text executes that is not looked into.
    Own {
        all: bool,
    },
    /// All, and there must be no others, of ours neither.
    Exactly,
}

impl Session {
    /// Judges a text, that of `EXECUTE` by the statement that it executes (trap 8).
    pub(super) fn judge(&self, sql: &[u8]) -> Decision {
        self.judge_names(self.decisions.decide_along(sql, self.lex, || self.search_path()), sql)
    }

    /// The decision about a text, with what the statements do that it executes by name.
    pub(super) fn judge_names(&self, decision: Decision, sql: &[u8]) -> Decision {
        let mut decision = decision;
        if !decision.effects.intersects(NAMES) {
            return decision;
        }
        if !decision.effects.contains(Effects::SQL_EXECUTE) {
            if decision.effects.contains(Effects::SQL_PREPARE) && !decision.effects.contains(Effects::MULTI) {
                // Nothing runs yet.
                let own = Effects::SQL_PREPARE | Effects::RELEASES_ONLY | Effects::HINTED | Effects::LITERAL_MATTERS;
                decision.effects &= own;
            }
            return decision;
        }
        let found = self.names_in(sql);
        let executed = found
            .names
            .iter()
            .filter_map(|name| self.names.get(name))
            .map(|named| named.decision(&self.decisions, self.lex, || self.search_path()))
            .chain(found.unreadable.then_some(UNSEEN));
        match (executed.reduce(worse), found.lone_execute && !decision.effects.contains(Effects::HINTED)) {
            (Some(inner), true) => {
                let effects = Effects::SQL_EXECUTE | Effects::LITERAL_MATTERS | inner.effects;
                match inner.target {
                    Target::Primary => Decision {
                        reason: inner.reason.max(decision.reason),
                        effects,
                        touches: inner.touches,
                        ..decision
                    },
                    _ => {
                        let level = decision.level.max(inner.level);
                        Decision {
                            target: Target::Replica,
                            reason: inner.reason,
                            effects,
                            touches: inner.touches,
                            level,
                            by_path: false,
                            key: ShardKeyId::NONE,
                        }
                    }
                }
            }
            (Some(inner), false) => {
                decision.effects |= inner.effects;
                decision.touches = decision.touches.union(inner.touches);
                decision
            }
            (None, _) => decision,
        }
    }

    /// Whether a text executes by name what prepares something by SQL, or gives it up: the text does not say under which name.
    pub(super) fn prepares_unseen(&self, sql: &[u8]) -> bool {
        let prepares =
            |named: &Named| named.shared().is_some_and(|of| of.decision.effects.contains(Effects::SQL_PREPARE));
        let names = self.names_in(sql).names;
        names.iter().filter_map(|name| self.names.get(name)).any(|named| prepares(named))
    }

    /// The names in a text, and in the statements for which they stand; `unreadable` where these are too many. What a statement executes
    /// stands before it.
    pub(super) fn names_in(&self, sql: &[u8]) -> StatementNames {
        self.with_nested(statement_names(sql, self.lex))
    }

    fn with_nested(&self, said: StatementNames) -> StatementNames {
        let mut found = StatementNames { names: Vec::with_capacity(said.names.len()), ..said };
        // A client may have thousands.
        let mut seen: HashSet<Box<[u8]>, RandomState> = HashSet::default();
        let mut followed = 0;
        for name in said.names {
            let mut chain = vec![name];
            while let Some(of) = chain.last().and_then(|name| self.executing(name)) {
                followed += 1;
                let inner = statement_names(&of.sql, self.lex);
                found.unreadable |= inner.unreadable || followed > MOST_NESTED;
                // A text of the protocol is one statement: it says one name.
                match inner.names.into_iter().next() {
                    Some(name) if followed <= MOST_NESTED && !chain.contains(&name) => chain.push(name),
                    _ => break,
                }
            }
            for name in chain.into_iter().rev() {
                if seen.insert(name.clone()) {
                    found.names.push(name);
                }
            }
        }
        found
    }

    /// What stands for this name, if it is a statement that says names itself.
    fn executing(&self, name: &[u8]) -> Option<&Arc<Prepared>> {
        self.names.get(name)?.shared().filter(|of| of.decision.effects.intersects(NAMES))
    }

    /// Whether this one of `names`, which stands on the connection, executes another one that was put there later: the server would take
    /// that one's rows for those of the one that was there before, and crash if they are of other types (seen with PostgreSQL 15).
    fn executes_newer(&self, at: usize, names: &[Box<[u8]>]) -> bool {
        let State::Linked(link) = &self.state else { return false };
        let since = |name: &[u8]| link.lease.prepared.own_since(name);
        let (Some(of), Some(before)) = (self.executing(&names[at]), since(&names[at])) else { return false };
        let inner = statement_names(&of.sql, self.lex).names;
        names[..at].iter().any(|name| inner.contains(name) && since(name).is_some_and(|later| later > before))
    }

    fn wanted_names(&mut self, decision: Decision, sql: &[u8]) -> Wanted {
        if self.max_prepared == 0 {
            return Wanted::None;
        }
        if decision.effects.contains(Effects::READS_PREPARED) {
            return Wanted::Exactly;
        }
        if decision.effects.intersects(NAMES) {
            let found = self.names_in(sql);
            if !found.unreadable {
                return Wanted::These(found.names);
            }
            // A name that is not read may come to mean something, or nothing.
            self.pin(Pins::SQL_PREPARE);
            return Wanted::OfSql;
        }
        let may_execute = matches!(
            decision.reason,
            Reason::UnknownFunction | Reason::VolatileFunction | Reason::Procedure | Reason::Unparsed
        );
        match self.names.of_sql() {
            1..=MOST_ON_CHANCE if may_execute && self.is_chance_taken() => Wanted::OfSql,
            _ => Wanted::None,
        }
    }

    /// Whether names may be put there on the chance that they are used: within a block, or a sequence that has run something, an unlucky
    /// one would be the end of it.
    fn is_chance_taken(&mut self) -> bool {
        self.link().is_some_and(|link| !link.status.in_block() && !link.segment_executed && !link.replies.owes_ready())
    }

    /// What goes ahead of a Query that is not looked into.
    pub(super) fn names_before_unseen(&mut self, out: &mut Splice<'_>) -> Option<Flow> {
        if self.max_prepared == 0 {
            return None;
        }
        let all = self.names.len() <= MOST_ON_CHANCE && self.is_chance_taken();
        self.names_ahead(&Wanted::Own { all }, out)
    }

    /// What goes ahead of a Query, so that the names in it mean what they mean to the client.
    pub(super) fn names_before_query(&mut self, decision: Decision, sql: &[u8], out: &mut Splice<'_>) -> Option<Flow> {
        let wanted = self.wanted_names(decision, sql);
        self.names_ahead(&wanted, out)
    }

    fn names_ahead(&mut self, wanted: &Wanted, out: &mut Splice<'_>) -> Option<Flow> {
        if let Some(refused) = self.fail_for_names(out) {
            return Some(refused);
        }
        if matches!(wanted, Wanted::None) {
            return None;
        }
        let link = self.link()?;
        if link.replies.is_cut_short() {
            // A Sync of ours would end what an error voids: the Query would run that the client's own Sync has yet to save from it.
            return Some(Flow::Stop(Need::Quiet));
        }
        let owes_within = link.segment_open && !link.replies.all_ours();
        if (owes_within && self.lacks_names(wanted)) || self.is_unsettled(wanted) {
            // An error before it may void the Query, and what the names stand for.
            return Some(self.wait_within(out));
        }
        let in_sequence = self.link()?.is_in_sequence();
        if self.put_names(wanted, out) {
            let link = self.link()?;
            if in_sequence {
                // They are part of it, as the Query is; but an error of theirs would void the Query before it is told.
                link.names_ahead = true;
                return Some(link.wait_for_answers(out));
            }
            link.close_segment();
            link.replies.push(Expect::OwnSync);
            build::sync(out.insert());
        }
        None
    }

    /// Names that were put within the client's sequence could not be prepared: the Query that they were for fails so, and with it the
    /// sequence, as it would have if the statement had stood there.
    fn fail_for_names(&mut self, out: &mut Splice<'_>) -> Option<Flow> {
        let Self { state: State::Linked(link), to_client, .. } = self else { return None };
        let is_of_these = link.names_ahead;
        let failure = link.own_failure.take_if(|_| is_of_these)?;
        build::message(to_client, b'E', |out| out.extend_from_slice(&failure));
        link.close_segment();
        link.replies.push(Expect::Sync { ours: false });
        build::sync(out.insert());
        Some(Flow::Refused)
    }

    /// The same within a segment: ahead of the Parse or Bind of such a text.
    pub(super) fn names_in_segment(&mut self, decision: Decision, sql: &[u8], out: &mut Splice<'_>) -> Option<Flow> {
        let wanted = self.wanted_names(decision, sql);
        if self.is_unsettled(&wanted) {
            return Some(self.link()?.wait_for_answers(out));
        }
        if self.put_names(&wanted, out) {
            self.link()?.segment_open = true;
        }
        None
    }

    /// A portal is executed that prepares a name or gives one up: it means what it means to the client by now, which may have changed
    /// since the Bind.
    pub(super) fn names_before_execute(&mut self, portal: &[u8], out: &mut Splice<'_>) -> Option<Flow> {
        let (_, script) = self.scripts.iter().find(|(of, _)| **of == *portal)?;
        let named = script.all().filter_map(|change| match change {
            Change::Prepare { name, .. } | Change::Deallocate(name) => Some(name.clone()),
            _ => None,
        });
        let wanted = Wanted::These(named.collect());
        if self.max_prepared == 0 {
            return None;
        }
        if self.is_unsettled(&wanted) {
            return Some(self.link()?.wait_for_answers(out));
        }
        self.put_names(&wanted, out);
        None
    }

    /// Whether an error that is still to come may decide what the names stand for.
    fn is_unsettled(&self, wanted: &Wanted) -> bool {
        let State::Linked(link) = &self.state else { return false };
        let unsettled = |name: &[u8]| link.replies.prepares_name(name) || link.replies.unsettles_own(name);
        match wanted {
            Wanted::None => false,
            _ if link.replies.changes_too_much() => true,
            Wanted::These(names) => names.iter().any(|name| unsettled(name)),
            Wanted::OfSql | Wanted::Own { .. } => self.names.iter().any(|(name, _)| unsettled(name)),
            Wanted::Exactly => link.replies.owes_client(),
        }
    }

    /// Whether something has to go ahead of a text for these names to mean what they mean to the client.
    fn lacks_names(&mut self, wanted: &Wanted) -> bool {
        let Self { state: State::Linked(link), names, .. } = self else { return false };
        match wanted {
            Wanted::None => false,
            Wanted::These(wanted) => {
                wanted.iter().any(|name| link.lacks_name(name, names.get(name).map(|named| &**named)))
                    || (0..wanted.len()).any(|at| self.executes_newer(at, wanted))
            }
            Wanted::OfSql | Wanted::Own { .. } | Wanted::Exactly => true,
        }
    }

    /// Makes one name on the connection mean what it means to the client. Returns whether anything was put in.
    pub(super) fn put_name(&mut self, name: &[u8], out: &mut Splice<'_>) -> bool {
        let Self { state: State::Linked(link), names, told, .. } = self else { return false };
        link.put_name(name, names.get(name).map(|named| &**named), told, out)
    }

    fn put_names(&mut self, wanted: &Wanted, out: &mut Splice<'_>) -> bool {
        let names: Vec<Box<[u8]>> = match wanted {
            Wanted::None => return false,
            Wanted::These(names) => names.clone(),
            // What is prepared by SQL executes nothing by name.
            Wanted::OfSql => {
                let of_sql = self.names.iter().filter(|(_, named)| named.is_of_sql());
                of_sql.map(|(name, _)| name.into()).collect()
            }
            Wanted::Own { all: false } => Vec::new(),
            Wanted::Own { all: true } | Wanted::Exactly => {
                let names = self.names.iter().map(|(name, _)| name.into()).collect();
                self.with_nested(StatementNames { names, ..StatementNames::default() }).names
            }
        };
        let mut any = false;
        if matches!(wanted, Wanted::Exactly) {
            any |= self.take_our_names(out);
        }
        if matches!(wanted, Wanted::Own { .. } | Wanted::Exactly) {
            any |= self.take_foreign_names(out);
        }
        for (at, name) in names.iter().enumerate() {
            if self.executes_newer(at, &names)
                && let Some(link) = self.link()
            {
                link.take_name(name, out);
            }
            any |= self.put_name(name, out);
        }
        any
    }

    /// Takes away all statements under names of ours.
    fn take_our_names(&mut self, out: &mut Splice<'_>) -> bool {
        let Self { state: State::Linked(link), .. } = self else { return false };
        let known = link.lease.prepared.take_known();
        let any = !known.is_empty();
        for statement in known {
            build::close_statement(out.insert(), &statement.name);
            link.replies.push(Expect::Evict { statement });
        }
        any
    }

    /// Takes away all that stands under names of clients and is nothing to this one.
    fn take_foreign_names(&mut self, out: &mut Splice<'_>) -> bool {
        let Self { state: State::Linked(link), names, .. } = self else { return false };
        let mut any = false;
        let foreign = link.lease.prepared.own_names().filter(|name| names.get(name).is_none());
        for name in foreign.map(Box::from).collect::<Vec<Box<[u8]>>>() {
            any |= link.take_name(&name, out);
        }
        any
    }
}

impl Session {
    /// A Parse too long to be kept goes out under the client's own name: whatever else stands there is taken away, or is to make
    /// the server complain. Returns the name when it is the client's to have.
    pub(super) fn take_raw_name(&mut self, name: &[u8], out: &mut Splice<'_>) -> Option<Box<[u8]>> {
        if !name.is_empty() && self.names.get(name).is_some() {
            self.link()?.occupy(name, out);
            return None;
        }
        if !name.is_empty() {
            self.put_name(name, out);
            self.names.set(name, Named::new(Statement::Raw));
        }
        Some(name.into())
    }
}

impl Names {
    /// A statement that changes what names stand for has succeeded.
    pub fn apply(
        &mut self,
        change: &Change,
        decisions: &DecisionCache,
        lex: LexOptions,
        told: &Parameters,
        registry: &mut Registry,
    ) {
        match change {
            Change::Prepare { name, text } => {
                let decision = decisions.decide_prepared(text, lex, || None).unwrap_or(UNSEEN);
                let statement = prepared::intern_sql(text, decision, lex, told);
                self.set(name, Named::new(Statement::Sql(statement.clone())));
                registry.set_own(name, Own::Sql(statement));
            }
            Change::Deallocate(name) => {
                self.remove(name);
                registry.remove_own(name);
            }
            _ => {}
        }
    }
}

impl Named {
    fn is_of_sql(&self) -> bool {
        matches!(self.own(), Some(Own::Sql(_)))
    }
}

impl Link {
    fn put_name(&mut self, name: &[u8], named: Option<&Named>, told: &Parameters, out: &mut Splice<'_>) -> bool {
        if !self.lacks_name(name, named) {
            return false;
        }
        self.take_name(name, out);
        let Some(own) = named.and_then(Named::own) else { return true };
        let reading = match &own {
            Own::Sql(statement) => statement.reading.clone(),
            Own::Shared(statement) => statement.reading.clone(),
            Own::Nothing => None,
        };
        let reads = self.read_as(reading.as_deref(), told, out);
        match &own {
            Own::Sql(statement) => self.run_aside(&statement.text, Some(name), out),
            Own::Shared(statement) => {
                build::parse(out.insert(), name, &statement.sql, &statement.types);
                self.replies.push(Expect::OwnParse { name: name.into() });
            }
            Own::Nothing => {}
        }
        self.read_again(reads, out);
        self.lease.prepared.set_own(name, own);
        true
    }

    /// Whether the name does not mean on the connection what it means to the client, and will not by what is under way.
    fn lacks_name(&mut self, name: &[u8], named: Option<&Named>) -> bool {
        if self.replies.changes_name(name) {
            return false;
        }
        let stands = self.lease.prepared.own(name);
        match named.map(|named| (named, named.own())) {
            None => stands.is_some(),
            // On the connection to which the session is pinned the server knows.
            Some((_, None)) => false,
            Some((named, Some(own))) => {
                !stands.is_some_and(|stands| stands.statement.is(&own) && stands.prepared >= named.since)
            }
        }
    }

    /// Nothing is to stand under the name. Returns whether anything did.
    fn take_name(&mut self, name: &[u8], out: &mut Splice<'_>) -> bool {
        if self.replies.changes_name(name) {
            // It meant the same on both sides before that, and the server goes on by itself.
            return false;
        }
        let Some(own) = self.lease.prepared.remove_own(name) else { return false };
        build::close_statement(out.insert(), name);
        self.replies.push(Expect::TakeAway { name: name.into(), own });
        true
    }

    /// Runs a statement of ours within a segment, beside the unnamed statement and portal. `prepares` = the client's name that it
    /// prepares.
    pub fn run_aside(&mut self, text: &[u8], prepares: Option<&[u8]>, out: &mut Splice<'_>) {
        let helper = prepared::helper_name();
        let out = out.insert();
        if std::mem::take(&mut self.lease.prepared.helper) {
            build::close_statement(out, helper);
            self.replies.push(Expect::Close { ours: true });
        }
        build::parse(out, helper, text, &[0, 0]);
        build::bind_nothing(out, helper, helper);
        build::execute(out, helper);
        build::close_portal(out, helper);
        build::close_statement(out, helper);
        self.replies.push(Expect::OwnParse { name: helper.into() });
        self.replies.push(Expect::OwnBind);
        self.replies.push(Expect::OwnExecute { prepares: prepares.map(Box::from) });
        self.replies.push(Expect::Close { ours: true });
        self.replies.push(Expect::Close { ours: true });
    }

    /// Lets the server complain of a second statement of this name, in its own words: something must stand there.
    pub fn occupy(&mut self, name: &[u8], out: &mut Splice<'_>) {
        if self.lease.prepared.own(name).is_some() {
            return;
        }
        build::parse(out.insert(), name, b"", &[0, 0]);
        self.replies.push(Expect::OwnParse { name: name.into() });
        self.lease.prepared.set_own(name, Own::Nothing);
    }

    /// Closes the names of clients that are too many on the connection. To be called while it is at rest.
    pub fn trim_own_names(&mut self, max: usize, out: &mut Splice<'_>) {
        for name in self.lease.prepared.own_over(max) {
            self.take_name(&name, out);
        }
    }
}
