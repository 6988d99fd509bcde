//! A client's names for prepared statements, those of the protocol and those of SQL's `PREPARE`: one name space, as on a
//! server (trap 44).

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::backend::{Own, Parameters, Prepared, SqlPrepared, prepared};
use crate::route::DecisionCache;
use crate::sql::{Decision, Effects, LexOptions, PathId};
use crate::wire::ErrorNotice;

use super::gather::worse;
use super::inbound::UNSEEN;

/// Most places that a thread keeps for what names will stand for.
const MOST_SPARE: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<Arc<Named>>> = const { RefCell::new(Vec::new()) };
}

/// Most bytes of texts that the names of one client may stand for. Who goes on preparing without giving up has lost count, or means harm.
const MOST_BYTES: usize = 128 * 1024 * 1024;

/// What a name costs besides.
const OVERHEAD: usize = 128;

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) enum Statement {
    /// A statement of the protocol: under a name of ours on servers.
    Shared(Arc<Prepared>),
    /// A statement of SQL's: under the client's own name on servers.
    Sql(Arc<SqlPrepared>),
    /// It was too long to be kept: it stands on the connection to which the session is pinned, under the client's own name.
    Raw,
}

/// A name that is taken.
#[derive(Debug)]
pub(super) struct Named {
    pub statement: Statement,
    /// When the client prepared it ([`prepared::moment`]).
    pub since: u64,
    /// The client was told its columns, and may rely on them.
    described: AtomicBool,
    /// What was decided about it last, and under which rules.
    decided: Mutex<(u64, Decision)>,
}

impl Named {
    pub fn new(statement: Statement) -> Arc<Self> {
        Self::since(statement, prepared::moment())
    }

    /// As [`Self::new`], of a text in which nothing depends on how it is read, and of which this has been decided under these rules.
    pub fn decided(statement: Statement, rules: u64, decision: Decision) -> Arc<Self> {
        Self::made(statement, prepared::moment(), (rules, decision))
    }

    fn since(statement: Statement, since: u64) -> Arc<Self> {
        let decision = match &statement {
            Statement::Shared(statement) => statement.decision,
            Statement::Sql(statement) => statement.decision,
            Statement::Raw => UNSEEN,
        };
        // No rules have the number 0: it is decided anew when it is first used.
        Self::made(statement, since, (0, decision))
    }

    fn made(statement: Statement, since: u64, decided: (u64, Decision)) -> Arc<Self> {
        let named = Self { statement, since, described: AtomicBool::new(false), decided: Mutex::new(decided) };
        if let Some(mut spare) = SPARE.with_borrow_mut(Vec::pop)
            && let Some(place) = Arc::get_mut(&mut spare)
        {
            *place = named;
            return spare;
        }
        Arc::new(named)
    }

    /// A name stands for it no more. If nothing else knows it, its place in memory is kept for the next Parse of the thread: a driver
    /// that prepares the unnamed statement for each query gets along without an allocation.
    pub fn let_go(mut self: Arc<Self>) {
        let Some(named) = Arc::get_mut(&mut self) else { return };
        named.statement = Statement::Raw;
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < MOST_SPARE {
                spare.push(self);
            }
        });
    }

    /// The same name, of the statement that has taken the place of an outdated one: the client knows nothing of that.
    pub fn renewed(&self, outdated: &Prepared) -> Arc<Self> {
        Self::since(Statement::Shared(prepared::renew(outdated)), self.since)
    }

    /// The same name of the same statement, for the parameters that are in force by now.
    pub fn following(&self, statement: &Prepared, told: &Parameters) -> Arc<Self> {
        let named = Self::since(Statement::Shared(prepared::follow(statement, told)), self.since);
        named.described.store(self.is_described(), Ordering::Relaxed);
        named
    }

    pub fn shared(&self) -> Option<&Arc<Prepared>> {
        match &self.statement {
            Statement::Shared(statement) => Some(statement),
            _ => None,
        }
    }

    /// What it does, by the rules in force: what is known of functions and tables may have changed since it was prepared. `path` is the
    /// search path of now: servers look names up anew when it is another one.
    pub fn decision(
        &self,
        decisions: &DecisionCache,
        lex: LexOptions,
        path: impl FnOnce() -> Option<PathId>,
    ) -> Decision {
        let decision = self.general_decision(decisions, lex);
        if !decision.by_path {
            return decision;
        }
        match &self.statement {
            Statement::Shared(statement) => decisions.decide_typed(&statement.sql, &statement.types, lex, path),
            Statement::Sql(statement) => {
                decisions.decide_prepared(&statement.text, statement.lex, path).unwrap_or(UNSEEN)
            }
            Statement::Raw => decision,
        }
    }

    /// The same for a session with any path.
    fn general_decision(&self, decisions: &DecisionCache, lex: LexOptions) -> Decision {
        let epoch = decisions.epoch();
        let mut decided = self.decided.lock();
        if decided.0 == epoch {
            return decided.1;
        }
        let decision = match &self.statement {
            // The server has read it as strings were read when it was prepared.
            Statement::Shared(statement) => match statement.sql.iter().any(|byte| *byte == b'\\' || !byte.is_ascii()) {
                true => {
                    let (before, now) =
                        (statement.decision, decisions.decide_typed(&statement.sql, &statement.types, lex, || None));
                    let mut both = Decision { by_path: false, ..worse(before, now) };
                    both.effects.set(Effects::MULTI, (before.effects | now.effects).contains(Effects::MULTI));
                    both
                }
                false => decisions.decide_typed(&statement.sql, &statement.types, lex, || None),
            },
            Statement::Sql(statement) => {
                decisions.decide_prepared(&statement.text, statement.lex, || None).unwrap_or(UNSEEN)
            }
            Statement::Raw => UNSEEN,
        };
        *decided = (epoch, decision);
        decision
    }

    /// What it costs to keep it.
    fn weight(&self) -> usize {
        OVERHEAD
            + match &self.statement {
                Statement::Shared(statement) => statement.weight(),
                Statement::Sql(statement) => statement.text.len(),
                Statement::Raw => 0,
            }
    }

    /// What is to stand on a server under the client's own name.
    pub fn own(&self) -> Option<Own> {
        match &self.statement {
            Statement::Shared(statement) => Some(Own::Shared(statement.clone())),
            Statement::Sql(statement) => Some(Own::Sql(statement.clone())),
            Statement::Raw => None,
        }
    }

    pub fn is_described(&self) -> bool {
        self.described.load(Ordering::Relaxed)
    }

    pub fn set_described(&self) {
        self.described.store(true, Ordering::Relaxed);
    }
}

/// What the statement names of one client stand for.
#[derive(Debug, Default)]
pub(super) struct Names {
    named: HashMap<Box<[u8]>, Arc<Named>, RandomState>,
    unnamed: Option<Arc<Named>>,
    /// How many of them are of SQL's.
    sql: usize,
    /// What they cost, with the texts that they stand for.
    bytes: usize,
    /// The portal bound last, when it is of a shared statement of which the client may ask the columns.
    pub bound: Option<(Box<[u8]>, Arc<Named>)>,
    /// Not 0 while a setting for this transaction may change what texts mean.
    pub local_context: u64,
    /// A setting of this transaction, or under way, may lead names without schema to temporary objects.
    pub temporary_path: bool,
    /// Not 0 while a setting is under way that may change how texts are read: what the client was told of it is not up to date.
    pub local_reading: u64,
}

impl Names {
    /// What a name stands for; the empty name is the unnamed statement.
    pub fn get(&self, name: &[u8]) -> Option<&Arc<Named>> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(prepared::key(name)) }
    }

    /// Lets a name stand for a statement.
    pub fn set(&mut self, name: &[u8], named: Arc<Named>) {
        if name.is_empty() {
            self.unnamed = Some(named);
        } else {
            self.sql += usize::from(matches!(named.statement, Statement::Sql(_)));
            self.bytes += named.weight();
            let before = self.named.insert(prepared::key(name).into(), named);
            self.discount(before.as_ref());
        }
    }

    /// Ends the unnamed statement.
    pub fn take_unnamed(&mut self) -> Option<Arc<Named>> {
        self.unnamed.take()
    }

    /// The unnamed statement as it was.
    pub fn set_unnamed(&mut self, named: Option<Arc<Named>>) {
        self.unnamed = named;
    }

    /// Takes a name away.
    pub fn remove(&mut self, name: &[u8]) -> Option<Arc<Named>> {
        if name.is_empty() {
            return self.unnamed.take();
        }
        let removed = self.named.remove(prepared::key(name));
        self.discount(removed.as_ref());
        removed
    }

    fn discount(&mut self, gone: Option<&Arc<Named>>) {
        let Some(named) = gone else { return };
        self.sql -= usize::from(matches!(named.statement, Statement::Sql(_)));
        self.bytes -= named.weight();
    }

    /// Forgets all: DEALLOCATE ALL, DISCARD ALL (trap 45). The unnamed statement outlasts them, unless they came as a Query, which has
    /// ended it.
    pub fn clear(&mut self) {
        self.named.clear();
        self.sql = 0;
        self.bytes = 0;
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.named.len()
    }

    /// Whether they take more memory than one client may have. Texts that others have prepared, too, count as its own.
    pub fn are_too_many(&self) -> bool {
        self.bytes > MOST_BYTES
    }

    /// How many of them were prepared by SQL.
    pub fn of_sql(&self) -> usize {
        self.sql
    }

    /// The names that stand for this shared statement.
    pub fn of_statement(&self, id: u64) -> Vec<Box<[u8]>> {
        let is = |named: &Named| named.shared().is_some_and(|statement| statement.id == id);
        self.named.iter().filter(|(_, named)| is(named)).map(|(name, _)| name.clone()).collect()
    }

    /// The name that was given at this moment; else one that stands for this shared statement.
    pub fn name_of(&self, id: u64, since: u64) -> Option<&[u8]> {
        let is = |named: &Named| named.shared().is_some_and(|statement| statement.id == id);
        let of = |wanted: &dyn Fn(&Named) -> bool| self.iter().find(|(_, named)| wanted(named)).map(|(name, _)| name);
        of(&|named| named.since == since).or_else(|| of(&is))
    }

    /// An error that speaks of a shared statement by our name for it, with the client's in its place.
    pub fn in_clients_words(&self, statement: &Prepared, since: u64, error: &[u8]) -> Option<Vec<u8>> {
        let at = memchr::memmem::find(error, &statement.name)?;
        // Closed or prepared anew since: as if it had none.
        let name = self.name_of(statement.id, since).unwrap_or_default();
        Some(ErrorNotice::whole(&[&error[..at], name, &error[at + statement.name.len()..]].concat()))
    }

    /// All names, and what they stand for.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Arc<Named>)> {
        self.named.iter().map(|(name, named)| (&**name, named))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::LexOptions;

    #[test]
    fn statements_of_sql_are_counted() {
        let sql = || {
            Named::new(Statement::Sql(prepared::intern_sql(
                b"PREPARE",
                UNSEEN,
                LexOptions::default(),
                &Parameters::default(),
            )))
        };
        let mut names = Names::default();
        names.set(b"a", sql());
        names.set(b"a", sql());
        names.set(b"b", sql());
        names.set(b"b", Named::new(Statement::Raw));
        assert_eq!((names.of_sql(), names.len()), (1, 2));
        assert_eq!(names.bytes, 2 * OVERHEAD + b"PREPARE".len());
        assert!(names.remove(b"a").is_some() && names.remove(b"a").is_none());
        assert_eq!((names.of_sql(), names.bytes), (0, OVERHEAD));
    }
}
