//! Statements that a replica has refused although they looked like reads: kept on the primary, by fingerprint.
//!
//! An entry says nothing that holds for ever: a function is replaced, a table is made logged. So entries go when the schema is
//! changed through Trunkline ([`super::DecisionCache::forget_learned`]), on the console's `FORGET LEARNED`, and with age. Forgetting one
//! that still holds costs one rerun.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use hashbrown::HashMap;
use parking_lot::RwLock;

use crate::sql::{Fingerprint, LexOptions, fingerprint, fingerprint_seeded, normalize};

/// Most statements that are remembered; then the oldest makes room.
const MAX_LEARNED: usize = 4096;
/// How long one is remembered.
const LEARNED_FOR: Duration = Duration::from_secs(3600);
/// Bytes of a statement's normalised text that are shown.
const SHOWN_TEXT: usize = 1000;

/// Why a statement failed on a replica that may succeed elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RerunCause {
    /// It writes (25006).
    ReadOnly,
    /// It needs what a standby does not do: an unlogged table, a lock, a control function (0A000, 55000).
    Recovery,
    /// An error within the server (class XX): on a standby also of what would need a transaction number.
    Internal,
    /// Replay was in its way (40001, 40P01).
    Conflict,
    /// The replica, or the connection to it, went away.
    Lost,
    /// It names what the replica may not know yet (class 42, 3F000), or the replica refuses what its session has set.
    Lag,
}

impl RerunCause {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::ReadOnly, Self::Recovery, Self::Internal, Self::Conflict, Self::Lost, Self::Lag];

    /// Stable label for metrics, logs and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::Recovery => "recovery",
            Self::Internal => "internal",
            Self::Conflict => "conflict",
            Self::Lost => "lost",
            Self::Lag => "lag",
        }
    }

    /// Whether the statement itself is the cause, so that it would fail again on any replica.
    pub const fn is_of_the_statement(self) -> bool {
        matches!(self, Self::ReadOnly | Self::Recovery | Self::Internal)
    }
}

/// A statement that is kept on the primary, for `SHOW LEARNED`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnedStatement {
    /// Its stable fingerprint.
    pub fingerprint: Fingerprint,
    /// Its text without literals.
    pub statement: String,
    /// Why replicas refuse it.
    pub cause: RerunCause,
    /// When that was found out.
    pub since: SystemTime,
    /// How often a replica has refused it.
    pub times: u64,
}

struct Entry {
    statement: LearnedStatement,
    at: Instant,
}

/// What was learned in one database.
pub(super) struct Learned {
    /// By fingerprint under `seed`.
    entries: RwLock<HashMap<u128, Entry>>,
    any: AtomicBool,
    seed: [u64; 2],
}

impl Learned {
    pub fn new(seed: [u64; 2]) -> Self {
        Self { entries: RwLock::default(), any: AtomicBool::new(false), seed }
    }

    /// Whether there is anything: one load.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    pub fn has(&self, sql: &[u8], opts: LexOptions) -> bool {
        self.any() && self.entries.read().contains_key(&fingerprint_seeded(sql, opts, self.seed).0)
    }

    /// Whether it was not known before.
    pub fn remember(&self, sql: &[u8], opts: LexOptions, cause: RerunCause) -> bool {
        let key = fingerprint_seeded(sql, opts, self.seed).0;
        let mut entries = self.entries.write();
        if let Some(known) = entries.get_mut(&key) {
            known.statement.times += 1;
            return false;
        }
        if entries.len() >= MAX_LEARNED
            && let Some(oldest) = entries.iter().min_by_key(|(_, entry)| entry.at).map(|(key, _)| *key)
        {
            entries.remove(&oldest);
        }
        let mut text = normalize(sql, opts);
        text.truncate(text.floor_char_boundary(SHOWN_TEXT));
        let statement = LearnedStatement {
            fingerprint: fingerprint(sql, opts),
            statement: text,
            cause,
            since: SystemTime::now(),
            times: 1,
        };
        entries.insert(key, Entry { statement, at: Instant::now() });
        self.any.store(true, Ordering::Release);
        true
    }

    /// Forgets all, or what is older than [`LEARNED_FOR`]. Returns how many.
    pub fn forget(&self, only_old: bool) -> usize {
        if !self.any() {
            return 0;
        }
        let mut entries = self.entries.write();
        let before = entries.len();
        entries.retain(|_, entry| only_old && entry.at.elapsed() < LEARNED_FOR);
        self.any.store(!entries.is_empty(), Ordering::Release);
        before - entries.len()
    }

    /// All, the newest first.
    pub fn all(&self) -> Vec<LearnedStatement> {
        let entries = self.entries.read();
        let mut all: Vec<_> = entries.values().collect();
        all.sort_by_key(|entry| std::cmp::Reverse(entry.at));
        all.into_iter().map(|entry| entry.statement.clone()).collect()
    }
}
