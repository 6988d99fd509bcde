//! The prepared statements that one server connection has.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::prepared::{self, Prepared, SqlPrepared};

/// What stands on a connection under a client's own name.
#[derive(Debug, Clone)]
pub enum Own {
    /// Prepared by SQL.
    Sql(Arc<SqlPrepared>),
    /// Prepared by the protocol, and put there for a statement of SQL's that names it.
    Shared(Arc<Prepared>),
    /// Nothing that anybody asked for: put there so that the server complains of a second one.
    Nothing,
}

impl Own {
    /// Whether both are the same statement.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sql(a), Self::Sql(b)) => Arc::ptr_eq(a, b),
            (Self::Shared(a), Self::Shared(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// A statement under a client's own name.
#[derive(Debug, Clone)]
pub struct OwnName {
    /// The statement.
    pub statement: Own,
    /// When it was prepared ([`prepared::moment`]).
    pub prepared: u64,
    used: u64,
}

/// One of our names on the connection; counted by its statement as long as it stands.
#[derive(Debug)]
struct Standing {
    statement: Arc<Prepared>,
    used: u64,
    prepared: u64,
    /// Its columns are known to be those that the statement was first described with.
    verified: bool,
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.statement.stands_no_more();
    }
}

/// The statements that one server connection has, with the least recently used first to go.
#[derive(Debug, Default)]
pub struct Registry {
    /// Under names of ours.
    known: HashMap<u64, Standing, RandomState>,
    /// Under names of clients.
    own: HashMap<Box<[u8]>, OwnName, RandomState>,
    tick: u64,
    /// The client text that stands as the unnamed statement, if it is one of ours, and when it was prepared.
    pub unnamed: Option<(Arc<Prepared>, u64)>,
    /// Names of ours that are to be closed before the connection is used again.
    pub strays: Vec<Box<[u8]>>,
    /// The statement by which others are prepared ([`prepared::helper_name`]) may still stand.
    pub helper: bool,
    /// The messages of the segment under way, as long as they could be sent once more.
    pub replay: Vec<u8>,
}

impl Registry {
    /// Whether the connection has the statement; a hit is a use.
    pub fn has(&mut self, statement: &Prepared) -> bool {
        self.prepared_at(statement).is_some()
    }

    /// When the connection was given the statement, if it has it; a hit is a use.
    pub fn prepared_at(&mut self, statement: &Prepared) -> Option<u64> {
        self.tick += 1;
        let standing = self.known.get_mut(&statement.id)?;
        standing.used = self.tick;
        Some(standing.prepared)
    }

    /// Whether what the connection has of the statement gives the columns that it was first described with.
    pub fn is_verified(&self, statement: &Prepared) -> bool {
        self.known.get(&statement.id).is_some_and(|standing| standing.verified)
    }

    /// It does.
    pub fn verify(&mut self, statement: &Prepared) {
        if let Some(standing) = self.known.get_mut(&statement.id) {
            standing.verified = true;
        }
    }

    /// What the connection has of the statement is not to be used again: it is closed before anything else.
    pub fn discard(&mut self, statement: &Prepared) {
        if self.known.remove(&statement.id).is_some() {
            self.strays.push(statement.name.clone());
        }
    }

    /// What the connection has of the statement is as good as prepared now.
    pub fn refresh(&mut self, statement: &Prepared) {
        if let Some(standing) = self.known.get_mut(&statement.id) {
            standing.prepared = prepared::moment();
        }
    }

    /// Notes that the statement is being prepared. Returns one that must be closed before (trap 35),
    /// when there are more than `max`.
    pub fn add(&mut self, statement: Arc<Prepared>, max: usize) -> Option<Arc<Prepared>> {
        let evicted = if self.known.len() >= max.max(1) { self.evict() } else { None };
        self.insert(statement, prepared::moment());
        evicted
    }

    /// The Close of a statement that had to make room was skipped: the connection still has it (trap 35).
    pub fn restore(&mut self, statement: Arc<Prepared>) {
        self.insert(statement, 0);
    }

    fn insert(&mut self, statement: Arc<Prepared>, prepared: u64) {
        self.tick += 1;
        statement.stands();
        let standing = Standing { used: self.tick, prepared, statement, verified: false };
        self.known.insert(standing.statement.id, standing);
    }

    /// Whether there are more than `max`, as after [`Self::restore`].
    pub fn is_over(&self, max: usize) -> bool {
        self.known.len() > max.max(1)
    }

    /// The least recently used statement, forgotten.
    pub fn evict(&mut self) -> Option<Arc<Prepared>> {
        let oldest = self.known.iter().min_by_key(|(_, standing)| standing.used).map(|(id, _)| *id)?;
        self.known.remove(&oldest).map(|standing| standing.statement.clone())
    }

    /// All statements under names of ours, forgotten: they are about to be closed.
    pub fn take_known(&mut self) -> Vec<Arc<Prepared>> {
        self.known.drain().map(|(_, standing)| standing.statement.clone()).collect()
    }

    /// Forgets a statement whose Parse failed or was skipped (trap 33).
    pub fn forget(&mut self, id: u64) {
        self.known.remove(&id);
    }

    /// The statement under a name of ours.
    pub fn named(&self, name: &[u8]) -> Option<&Arc<Prepared>> {
        self.known.values().map(|standing| &standing.statement).find(|statement| *statement.name == *name)
    }

    /// When what stands under a client's own name was prepared.
    pub fn own_since(&self, name: &[u8]) -> Option<u64> {
        self.own.get(prepared::key(name)).map(|own| own.prepared)
    }

    /// What stands under a client's own name; a hit is a use.
    pub fn own(&mut self, name: &[u8]) -> Option<&OwnName> {
        self.tick += 1;
        let own = self.own.get_mut(prepared::key(name))?;
        own.used = self.tick;
        Some(own)
    }

    /// Notes what stands, or is about to stand, under a client's own name.
    pub fn set_own(&mut self, name: &[u8], statement: Own) {
        self.tick += 1;
        self.own
            .insert(prepared::key(name).into(), OwnName { statement, prepared: prepared::moment(), used: self.tick });
    }

    /// Takes a client's own name away.
    pub fn remove_own(&mut self, name: &[u8]) -> Option<OwnName> {
        self.own.remove(prepared::key(name))
    }

    /// The Close of a client's own name was skipped.
    pub fn restore_own(&mut self, name: Box<[u8]>, own: OwnName) {
        self.own.insert(prepared::key(&name).into(), own);
    }

    /// Names of clients that stand on the connection.
    pub fn own_names(&self) -> impl Iterator<Item = &[u8]> {
        self.own.keys().map(|name| &**name)
    }

    /// The least recently used of the clients' names, as many as are more than `max`.
    pub fn own_over(&self, max: usize) -> Vec<Box<[u8]>> {
        let over = self.own.len().saturating_sub(max.max(1));
        if over == 0 {
            return Vec::new();
        }
        let mut names: Vec<_> = self.own.iter().map(|(name, own)| (own.used, name)).collect();
        names.sort_unstable_by_key(|(used, _)| *used);
        names.into_iter().take(over).map(|(_, name)| name.clone()).collect()
    }

    /// Forgets all: `DEALLOCATE ALL` or `DISCARD ALL` ran on the connection.
    pub fn clear(&mut self) {
        self.known.clear();
        self.own.clear();
        self.unnamed = None;
        self.strays.clear();
        self.helper = false;
    }

    /// How many it has.
    pub fn len(&self) -> usize {
        self.known.len() + self.own.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::Parameters;
    use super::*;
    use crate::sql::{Decision, Effects, LexOptions, Reason, ShardKeyId, Target, TouchId};

    const READ: Decision = Decision {
        by_path: false,
        key: ShardKeyId::NONE,
        target: Target::Replica,
        reason: Reason::Read,
        effects: Effects::empty(),
        touches: TouchId::NOTHING,
        level: None,
    };

    fn three(mark: &str) -> Vec<Arc<Prepared>> {
        let text = |n| format!("SELECT {n} /*{mark}*/");
        (0..3).map(|n| prepared::intern(text(n).as_bytes(), &[0, 0], READ, 0, None)).collect()
    }

    #[test]
    fn trap_35_least_recently_used_goes_first() {
        let mut registry = Registry::default();
        let statements = three("lru");
        assert!(registry.add(statements[0].clone(), 2).is_none());
        assert!(registry.add(statements[1].clone(), 2).is_none());
        assert!(registry.has(&statements[0]));
        let evicted = registry.add(statements[2].clone(), 2).map(|s| s.id);
        assert_eq!(evicted, Some(statements[1].id));
        assert!(!registry.has(&statements[1]));
        assert_eq!(registry.len(), 2);
    }

    #[test]
    fn statements_know_on_how_many_connections_they_stand() {
        let statements = three("servers");
        let mut first = Registry::default();
        let mut second = Registry::default();
        for registry in [&mut first, &mut second] {
            registry.add(statements[0].clone(), 9);
            registry.add(statements[0].clone(), 9);
        }
        assert_eq!(statements[0].servers(), 2);
        assert!(prepared::all_prepared().iter().any(|statement| statement.id == statements[0].id));
        first.forget(statements[0].id);
        assert_eq!(statements[0].servers(), 1);
        drop(second);
        assert_eq!(statements[0].servers(), 0);
    }

    #[test]
    fn trap_44_names_of_clients() {
        let mut registry = Registry::default();
        let sql = prepared::intern_sql(b"PREPARE a AS SELECT 1", READ, LexOptions::default(), &Parameters::default());
        registry.set_own(b"a", Own::Sql(sql.clone()));
        registry.set_own(b"b", Own::Nothing);
        assert!(registry.own(b"a").is_some_and(|own| own.statement.is(&Own::Sql(sql))));
        assert_eq!(registry.own_over(1), [Box::from(&b"b"[..])]);
        assert!(registry.remove_own(b"b").is_some() && registry.own_over(1).is_empty());
        registry.clear();
        assert!(registry.is_empty());
    }
}
