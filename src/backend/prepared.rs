//! Prepared statements that clients share: one name per (text, parameter types), known to many server connections.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::sql::Decision;

/// A statement that some client prepared. Shared by all sessions that prepared the same (text, types).
#[derive(Debug)]
pub struct Prepared {
    /// Number within this process, never reused.
    pub id: u64,
    /// Its name on servers.
    pub name: Box<[u8]>,
    /// The text, without NUL.
    pub sql: Box<[u8]>,
    /// Parameter types as in Parse: count and OIDs. Part of the identity (trap 36).
    pub types: Box<[u8]>,
    /// Where it may run.
    pub decision: Decision,
    uses: AtomicU64,
    servers: AtomicU32,
}

impl Prepared {
    /// Bytes that a Parse of it takes, about.
    pub fn weight(&self) -> usize {
        self.name.len() + self.sql.len() + self.types.len() + 16
    }

    /// How often some client wanted it on a server connection.
    pub fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    /// How many server connections have it.
    pub fn servers(&self) -> u32 {
        self.servers.load(Ordering::Relaxed)
    }
}

struct Interner {
    hasher: RandomState,
    /// By hash of (text, types); the vector holds collisions.
    by_hash: HashMap<u64, Vec<Weak<Prepared>>>,
    sweep_at: usize,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);
static INTERNER: LazyLock<Mutex<Interner>> =
    LazyLock::new(|| Mutex::new(Interner { hasher: RandomState::default(), by_hash: HashMap::new(), sweep_at: 1024 }));
/// Names on servers start with this: random per process, so that no client's own name can be one of them.
static PREFIX: LazyLock<String> = LazyLock::new(|| format!("tl{:08x}_", fastrand::u32(..)));

/// The shared statement for (text, types, decision): one that was decided under other rules is another one.
pub fn intern(sql: &[u8], types: &[u8], decision: Decision) -> Arc<Prepared> {
    let mut guard = INTERNER.lock();
    let interner = &mut *guard;
    let hash = {
        let mut state = interner.hasher.build_hasher();
        sql.hash(&mut state);
        types.hash(&mut state);
        state.finish()
    };
    let found = interner
        .by_hash
        .get(&hash)
        .into_iter()
        .flatten()
        .filter_map(Weak::upgrade)
        .find(|statement| *statement.sql == *sql && *statement.types == *types && statement.decision == decision);
    if let Some(found) = found {
        return found;
    }
    if interner.by_hash.len() >= interner.sweep_at {
        interner.by_hash.retain(|_, list| {
            list.retain(|weak| weak.strong_count() > 0);
            !list.is_empty()
        });
        interner.sweep_at = (interner.by_hash.len() * 2).max(1024);
    }
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let statement = Arc::new(Prepared {
        id,
        name: format!("{}{id}", *PREFIX).into_bytes().into_boxed_slice(),
        sql: sql.into(),
        types: types.into(),
        decision,
        uses: AtomicU64::new(0),
        servers: AtomicU32::new(0),
    });
    interner.by_hash.entry(hash).or_default().push(Arc::downgrade(&statement));
    statement
}

/// All statements that some client or server connection has, by number.
pub fn all_prepared() -> Vec<Arc<Prepared>> {
    let mut all: Vec<_> = INTERNER.lock().by_hash.values().flatten().filter_map(Weak::upgrade).collect();
    all.sort_by_key(|statement| statement.id);
    all
}

/// Whether a client's name could be taken for one of ours.
pub fn looks_like_ours(name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes())
}

/// A statement that a server connection has; it is counted for as long.
#[derive(Debug)]
struct Held(Arc<Prepared>);

impl Held {
    fn new(statement: Arc<Prepared>) -> Self {
        statement.servers.fetch_add(1, Ordering::Relaxed);
        Self(statement)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.servers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The statements that one server connection has, with the least recently used first to go.
#[derive(Debug, Default)]
pub struct Registry {
    /// Statement and the tick of its last use.
    known: HashMap<u64, (Held, u64), RandomState>,
    tick: u64,
    /// The client text that stands as the unnamed statement, if it is one of ours.
    pub unnamed: Option<Arc<Prepared>>,
    /// Names of a client's that we put there only to let the server complain (see `session`): close them first.
    pub strays: Vec<Box<[u8]>>,
}

impl Registry {
    /// Whether the connection has the statement; a hit is a use.
    pub fn has(&mut self, statement: &Prepared) -> bool {
        self.tick += 1;
        statement.uses.fetch_add(1, Ordering::Relaxed);
        match self.known.get_mut(&statement.id) {
            Some((_, used)) => {
                *used = self.tick;
                true
            }
            None => false,
        }
    }

    /// Notes that the statement is being prepared. Returns one that must be closed before (trap 35),
    /// when there are more than `max`.
    pub fn add(&mut self, statement: Arc<Prepared>, max: usize) -> Option<Arc<Prepared>> {
        self.tick += 1;
        let evicted = if self.known.len() >= max.max(1) { self.evict() } else { None };
        self.known.insert(statement.id, (Held::new(statement), self.tick));
        evicted
    }

    /// The Close of a statement that had to make room was skipped: the connection still has it (trap 35).
    pub fn restore(&mut self, statement: Arc<Prepared>) {
        self.known.insert(statement.id, (Held::new(statement), self.tick));
    }

    /// Whether there are more than `max`, as after [`Self::restore`].
    pub fn is_over(&self, max: usize) -> bool {
        self.known.len() > max.max(1)
    }

    /// The least recently used statement, forgotten.
    pub fn evict(&mut self) -> Option<Arc<Prepared>> {
        let oldest = self.known.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id)?;
        self.known.remove(&oldest).map(|(held, _)| held.0.clone())
    }

    /// A plan no longer gives what its statement was described with (`ALTER TABLE`): a client that prepares the statement
    /// anew must get a new one. Which of them it was is not known, so all are closed.
    pub fn outdate(&mut self) {
        self.strays.extend(self.known.drain().map(|(_, (held, _))| held.0.name.clone()));
    }

    /// Forgets a statement whose Parse failed or was skipped (trap 33).
    pub fn forget(&mut self, id: u64) {
        self.known.remove(&id);
    }

    /// Forgets all: `DEALLOCATE ALL` or `DISCARD ALL` ran on the connection.
    pub fn clear(&mut self) {
        self.known.clear();
        self.unnamed = None;
        self.strays.clear();
    }

    /// How many it has.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Effects, Reason, Target};

    const READ: Decision = Decision { target: Target::Replica, reason: Reason::Read, effects: Effects::empty() };

    #[test]
    fn trap_36_types_are_part_of_the_identity() {
        let a = intern(b"SELECT $1", &[0, 0], READ);
        let b = intern(b"SELECT $1", &[0, 0], READ);
        let c = intern(b"SELECT $1", &[0, 1, 0, 0, 0, 23], READ);
        assert!(Arc::ptr_eq(&a, &b));
        assert_ne!(a.name, c.name);
        assert!(looks_like_ours(&a.name));
    }

    #[test]
    fn trap_35_least_recently_used_goes_first() {
        let mut registry = Registry::default();
        let statements: Vec<_> =
            (0..3).map(|n| intern(format!("SELECT {n} /*lru*/").as_bytes(), &[0, 0], READ)).collect();
        assert!(registry.add(statements[0].clone(), 2).is_none());
        assert!(registry.add(statements[1].clone(), 2).is_none());
        assert!(registry.has(&statements[0]));
        let evicted = registry.add(statements[2].clone(), 2).map(|s| s.id);
        assert_eq!(evicted, Some(statements[1].id));
        assert!(!registry.has(&statements[1]));
        assert_eq!(registry.len(), 2);
    }

    #[test]
    fn statements_nobody_uses_are_forgotten() {
        let id = intern(b"SELECT 'gone'", &[0, 0], READ).id;
        assert_ne!(intern(b"SELECT 'gone'", &[0, 0], READ).id, id);
    }
}
