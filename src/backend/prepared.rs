//! Prepared statements that clients share: one name per (text, parameter types), known to many server connections.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::sql::{Decision, LexOptions};

use super::interner::Interner;
use super::{Parameters, Reading};

/// A statement that some client prepared by the protocol. Shared by all sessions that prepared the same (text, types).
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
    /// How the text is to be read, where that makes a difference: as it was when it was prepared first.
    pub reading: Option<Arc<Reading>>,
    /// By which settings texts are read in the sessions that use it ([`Parameters::reading`]): servers make plans anew when they see
    /// fit, by the settings of whoever is there.
    in_force: u64,
    /// What else of a session the meaning of the text depends on, as a hash.
    context: u64,
    uses: AtomicU64,
    servers: AtomicU32,
    /// Hash of the columns that it was first described with.
    shape: OnceLock<u64>,
    /// The body of the ParameterDescription that came first.
    parameters: OnceLock<Box<[u8]>>,
    outdated: AtomicBool,
}

impl Prepared {
    /// Bytes that a Parse of it takes, about.
    pub fn weight(&self) -> usize {
        self.name.len() + self.sql.len() + self.types.len() + 16
    }

    /// Counts a Bind.
    pub fn used(&self) {
        self.uses.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was bound.
    pub fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    /// How many server connections have it.
    pub fn servers(&self) -> u32 {
        self.servers.load(Ordering::Relaxed)
    }

    /// Whether some client was told its columns.
    pub fn is_described(&self) -> bool {
        self.shape.get().is_some()
    }

    /// A server described it with these columns ([`shape_of`]). `false` when they are others than it was first described with.
    pub fn described_as(&self, shape: u64) -> bool {
        *self.shape.get_or_init(|| shape) == shape
    }

    /// A server described its parameters by this body of a ParameterDescription.
    pub fn takes(&self, parameters: &[u8]) {
        self.parameters.get_or_init(|| parameters.into());
    }

    /// That body, if it is known that the statement returns no rows: then no server looks at anything to describe it.
    pub fn parameters_of_no_result(&self) -> Option<&[u8]> {
        let returns_nothing = self.shape.get().copied() == shape_of(None);
        self.parameters.get().filter(|_| returns_nothing).map(|parameters| &**parameters)
    }

    /// Whether it is for sessions that read texts otherwise than these parameters say.
    pub fn is_read_otherwise(&self, parameters: &Parameters) -> bool {
        self.reading.is_some() && self.in_force != parameters.reading()
    }

    /// What it refers to has changed: who prepares the same text from now on gets another statement, so that those who know the
    /// columns of this one are never given rows of others.
    pub fn outdate(&self) {
        self.outdated.store(true, Ordering::Relaxed);
    }

    /// Whether it was outdated.
    pub fn is_outdated(&self) -> bool {
        self.outdated.load(Ordering::Relaxed)
    }

    pub(super) fn stands(&self) {
        self.servers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stands_no_more(&self) {
        self.servers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A statement that some client prepared by SQL `PREPARE`. Shared by all sessions that prepared the same text.
#[derive(Debug)]
pub struct SqlPrepared {
    /// `PREPARE name … AS …`, as the client sent it.
    pub text: Box<[u8]>,
    /// What the statement behind `AS` may do, and where.
    pub decision: Decision,
    /// How the text is cut into tokens.
    pub lex: LexOptions,
    /// How a server is to read it, where that makes a difference.
    pub reading: Option<Arc<Reading>>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);
static CLOCK: AtomicU64 = AtomicU64::new(1);
static STATEMENTS: LazyLock<Mutex<Interner<Prepared>>> = LazyLock::new(|| Mutex::new(Interner::new()));
static SQL_STATEMENTS: LazyLock<Mutex<Interner<SqlPrepared>>> = LazyLock::new(|| Mutex::new(Interner::new()));
/// Names on servers start with this: random per process, so that no client's own name can be one of them.
static PREFIX: LazyLock<String> = LazyLock::new(|| format!("tl{:08x}_", fastrand::u32(..)));
/// The statement and portal by which statements of clients' own names are prepared.
static HELPER: LazyLock<Vec<u8>> = LazyLock::new(|| format!("{}prepare", *PREFIX).into_bytes());

/// As much of a statement's name as servers tell it from others by: of a longer one the rest is not looked at.
pub fn key(name: &[u8]) -> &[u8] {
    &name[..name.len().min(63)]
}

/// A moment: greater than any that was given before.
pub fn moment() -> u64 {
    CLOCK.fetch_add(1, Ordering::Relaxed)
}

/// The name of the statement and portal by which a `PREPARE` of ours runs.
pub fn helper_name() -> &'static [u8] {
    &HELPER
}

/// The shared statement for (text, types, decision, context): one that was decided under other rules is another one. `read_by` = the
/// parameters by which the text is read, if that makes a difference ([`Reading::matters`]); the context says so then, too.
pub fn intern(
    sql: &[u8],
    types: &[u8],
    decision: Decision,
    context: u64,
    read_by: Option<&Parameters>,
) -> Arc<Prepared> {
    let context = (context, read_by.map_or(0, Parameters::reading));
    intern_read(sql, types, decision, context, || read_by.map(|parameters| Arc::new(Reading::new(parameters))))
}

fn intern_read(
    sql: &[u8],
    types: &[u8],
    decision: Decision,
    (context, in_force): (u64, u64),
    reading: impl FnOnce() -> Option<Arc<Reading>>,
) -> Arc<Prepared> {
    let same = |statement: &Prepared| {
        *statement.sql == *sql
            && *statement.types == *types
            && statement.decision == decision
            && (statement.context, statement.in_force) == (context, in_force)
            && !statement.is_outdated()
    };
    STATEMENTS.lock().intern((sql, types), same, || {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Prepared {
            id,
            name: format!("{}{id}", *PREFIX).into_bytes().into_boxed_slice(),
            sql: sql.into(),
            types: types.into(),
            decision,
            reading: reading(),
            in_force,
            context,
            uses: AtomicU64::new(0),
            servers: AtomicU32::new(0),
            shape: OnceLock::new(),
            parameters: OnceLock::new(),
            outdated: AtomicBool::new(false),
        }
    })
}

/// The statement that takes the place of an outdated one.
pub fn renew(old: &Prepared) -> Arc<Prepared> {
    intern_read(&old.sql, &old.types, old.decision, (old.context, old.in_force), || old.reading.clone())
}

/// The same statement, as it was read, for sessions in which these parameters are in force by now.
pub fn follow(old: &Prepared, parameters: &Parameters) -> Arc<Prepared> {
    let context = (old.context, parameters.reading());
    let new = intern_read(&old.sql, &old.types, old.decision, context, || old.reading.clone());
    if let Some(shape) = old.shape.get() {
        new.described_as(*shape);
    }
    new
}

/// The shared statement of a `PREPARE`, read by these parameters.
pub fn intern_sql(text: &[u8], decision: Decision, lex: LexOptions, parameters: &Parameters) -> Arc<SqlPrepared> {
    let reading = Reading::matters(text).then(|| Arc::new(Reading::new(parameters)));
    let same = |statement: &SqlPrepared| {
        *statement.text == *text
            && statement.decision == decision
            && statement.lex == lex
            && statement.reading == reading
    };
    let make = || SqlPrepared { text: text.into(), decision, lex, reading: reading.clone() };
    SQL_STATEMENTS.lock().intern(text, same, make)
}

/// All statements that some client or server connection has, by number.
pub fn all_prepared() -> Vec<Arc<Prepared>> {
    let mut all: Vec<_> = STATEMENTS.lock().all().collect();
    all.sort_by_key(|statement| statement.id);
    all
}

/// Whether a client's name could be taken for one of ours.
pub fn looks_like_ours(name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes())
}

/// A number for the columns that a RowDescription tells (`None` = NoData): their names and types. What does not make rows
/// different (tables of origin, formats) is left out, and so are names outside ASCII: they are told in the client's encoding.
/// `None` when the message is not whole.
pub fn shape_of(row_description: Option<&[u8]>) -> Option<u64> {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);
    let mut state = HASHER.build_hasher();
    let Some(body) = row_description else { return Some(0) };
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    for _ in 0..u16::from_be_bytes(*count) {
        let end = memchr::memchr(0, rest)?;
        let (fields, tail) = rest[end + 1..].split_at_checked(18)?;
        let name = &rest[..end];
        name.is_ascii().then_some(name).hash(&mut state);
        // Type, size and modifier, behind the table and column of origin and before the format.
        fields[6..16].hash(&mut state);
        rest = tail;
    }
    Some(state.finish() | 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Effects, Reason, ShardKeyId, Target, TouchId};

    const READ: Decision = Decision {
        by_path: false,
        key: ShardKeyId::NONE,
        target: Target::Replica,
        reason: Reason::Read,
        effects: Effects::empty(),
        touches: TouchId::NOTHING,
        level: None,
    };

    #[test]
    fn trap_36_types_and_context_are_part_of_the_identity() {
        let a = intern(b"SELECT $1", &[0, 0], READ, 0, None);
        let b = intern(b"SELECT $1", &[0, 0], READ, 0, None);
        let c = intern(b"SELECT $1", &[0, 1, 0, 0, 0, 23], READ, 0, None);
        let d = intern(b"SELECT $1", &[0, 0], READ, 1, None);
        assert!(Arc::ptr_eq(&a, &b));
        assert_ne!(a.name, c.name);
        assert_ne!(a.name, d.name);
        assert!(looks_like_ours(&a.name));
    }

    #[test]
    fn statements_nobody_uses_are_forgotten() {
        let id = intern(b"SELECT 'gone'", &[0, 0], READ, 0, None).id;
        assert_ne!(intern(b"SELECT 'gone'", &[0, 0], READ, 0, None).id, id);
    }

    #[test]
    fn an_outdated_one_is_given_to_nobody_new() {
        let old = intern(b"SELECT 'old'", &[0, 0], READ, 0, None);
        assert!(old.described_as(7) && old.described_as(7) && !old.described_as(8));
        old.outdate();
        let new = renew(&old);
        assert_ne!(old.name, new.name);
        assert!(Arc::ptr_eq(&new, &renew(&old)));
    }

    #[test]
    fn shapes_tell_names_and_types() {
        let column = |name: &str, table: u8, kind: u8, format: u8| {
            let mut body = vec![0, 1];
            body.extend_from_slice(name.as_bytes());
            body.extend_from_slice(&[0, 0, 0, 0, table, 0, 1, 0, 0, 0, kind, 0, 4, 255, 255, 255, 255, 0, format]);
            let shape = shape_of(Some(&body));
            assert!(shape.is_some() && shape_of(Some(&body[..body.len() - 1])).is_none());
            shape
        };
        assert_eq!(column("a", 1, 23, 0), column("a", 2, 23, 1));
        assert_ne!(column("a", 1, 23, 0), column("b", 1, 23, 0));
        assert_ne!(column("a", 1, 23, 0), column("a", 1, 25, 0));
        assert_ne!(shape_of(None), column("a", 1, 23, 0));
        assert_eq!(column("\u{f6}", 1, 23, 0), column("\u{c3}\u{b6}", 1, 23, 0), "one name, told in two encodings");
    }
}
