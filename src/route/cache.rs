//! Decision caches: from the bytes of a text to its decision, nearly always without reading it.
//!
//! Three steps. The *text cache* of the thread knows texts by their exact bytes: one hash, one comparison, no lock.
//! The *fingerprint cache* of the process knows statements by their 128-bit literal-stripped fingerprint, under a
//! secret seed. What neither knows is analysed.
//!
//! What keeps them right: `standard_conforming_strings` and the encoding's safety are part of every key; hints are
//! part of the fingerprint; a decision that depends on literals is never stored by fingerprint; a new generation
//! (reload, or something learned) is a new seed and a new epoch, so that no older entry can be found.
//!
//! A decision holds for every session. Where it says that it depends on the search path ([`Decision::by_path`]), who knows that asks
//! once more, for that path: a second entry, with the number of the path in its keys.

use std::borrow::Cow;
use std::cell::RefCell;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use quick_cache::UnitWeighter;
use quick_cache::sync::Cache;

use super::breaker::Breaker;
use super::learned::{Learned, LearnedStatement, RerunCause};
use super::rules::Switch;
use crate::catalog::Watched;
use crate::sql::{
    self, Decision, Effects, FIRST_USER_OID, Fingerprint, Knowledge, LexOptions, PathId, Reason, ShardKeyId, Target,
    TouchId, fingerprint_seeded, prepared_body,
};
use crate::wire::frontend::declared_types;

#[cfg(test)]
mod tests;

/// Longest text, in bytes, that the text cache keeps.
pub const MAX_CACHED_TEXT: usize = 2048;
/// Slots of the text cache of one thread, for all databases: at most 4 MiB of text.
const SLOTS: usize = 2048;
/// Entries of one fingerprint cache.
const FINGERPRINTS: usize = 16 * 1024;

/// Decisions by text, for the databases that share one configuration of functions.
pub struct DecisionCache {
    shared: Cache<u128, Known, UnitWeighter, BuildHasherDefault<Identity>>,
    pub(super) rules: ArcSwap<Rules>,
    pub(super) switch: Mutex<Switch>,
    /// What keeps the catalog of the database, if there is one.
    pub(super) catalog: OnceLock<Arc<Watched>>,
    pub(super) learned: Learned,
    breaker: Breaker,
    /// That of `rules`, where the text cache reads it without more.
    epoch: AtomicU64,
    misses: AtomicU64,
}

/// What is known of a statement by its literal-stripped fingerprint under the secret seed.
#[derive(Clone, Copy)]
struct Known {
    decision: Decision,
    /// The stable one.
    fingerprint: Fingerprint,
}

/// What decisions depend on besides the text.
pub(super) struct Rules {
    epoch: u64,
    seed: [u64; 2],
    pub(super) known: Knowledge,
}

impl Rules {
    pub(super) fn new(known: Knowledge) -> Self {
        // Unique in the process, so that the caches of two databases never find each other's entries.
        static NEXT_EPOCH: AtomicU64 = AtomicU64::new(1);
        let epoch = NEXT_EPOCH.fetch_add(1, Ordering::Relaxed);
        Self { epoch, seed: random_seed(), known }
    }
}

fn random_seed() -> [u64; 2] {
    // `RandomState` of the standard library is keyed by the operating system's generator.
    let secret = std::hash::RandomState::new();
    [secret.hash_one(1u8), secret.hash_one(2u8)]
}

impl std::fmt::Debug for DecisionCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DecisionCache").field("entries", &self.shared.len()).finish_non_exhaustive()
    }
}

impl DecisionCache {
    /// An empty cache that judges by this.
    pub fn new(known: Knowledge) -> Self {
        let rules = Rules::new(known);
        Self {
            shared: Cache::with(
                FINGERPRINTS,
                FINGERPRINTS as u64,
                UnitWeighter,
                BuildHasherDefault::default(),
                quick_cache::sync::DefaultLifecycle::default(),
            ),
            epoch: AtomicU64::new(rules.epoch),
            rules: ArcSwap::from_pointee(rules),
            switch: Mutex::default(),
            catalog: OnceLock::new(),
            learned: Learned::new(random_seed()),
            breaker: Breaker::default(),
            misses: AtomicU64::new(0),
        }
    }

    /// Where a text may run. Never fails; the first time may take as long as parsing does.
    #[inline]
    pub fn decide(&self, sql: &[u8], opts: LexOptions) -> Decision {
        self.decide_for(sql, opts, None)
    }

    /// As [`Self::decide`], for a session with this search path, if it is known. Never worse; and the same for most texts.
    #[inline]
    pub fn decide_along(&self, sql: &[u8], opts: LexOptions, path: impl FnOnce() -> Option<PathId>) -> Decision {
        let decision = self.decide(sql, opts);
        if !decision.by_path {
            return decision;
        }
        match path() {
            path @ Some(_) => self.decide_for(sql, opts, path),
            None => decision,
        }
    }

    #[inline]
    fn decide_for(&self, sql: &[u8], opts: LexOptions, path: Option<PathId>) -> Decision {
        if sql.len() > MAX_CACHED_TEXT {
            return self.decide_by_fingerprint(sql, opts, path).decision;
        }
        let epoch = self.epoch.load(Ordering::Acquire);
        let number = path.map_or(0, PathId::number);
        let reading = u16::from(opts.bits()) | (number << 2);
        TEXTS.with_borrow_mut(|texts| {
            // Not all paths in the same two slots.
            let hash = texts.hash(sql) ^ u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            match texts.slot(hash, epoch, sql, reading) {
                Some(slot) => slot.decision,
                None => {
                    // Under the rules that it was made by, which may have taken the place of those looked for.
                    let found = self.decide_by_fingerprint(sql, opts, path);
                    texts.store(hash, sql, reading, found);
                    found.decision
                }
            }
        })
    }

    /// As [`Self::decide_along`], of a statement whose parameters are declared as these types (count and OIDs, as in Parse): to read a
    /// value of a domain runs the domain's checks.
    pub fn decide_typed(
        &self,
        sql: &[u8],
        types: &[u8],
        opts: LexOptions,
        path: impl FnOnce() -> Option<PathId>,
    ) -> Decision {
        let decision = self.decide_along(sql, opts, path);
        let of_users = || declared_types(types).filter(|oid| *oid >= FIRST_USER_OID);
        if of_users().next().is_none() || decision.effects.contains(Effects::HINTED) {
            return decision;
        }
        let Rules { known, .. } = &**self.rules.load();
        let checks = of_users().filter_map(|oid| known.catalog.checking_value_of(oid, &known.functions));
        checks.fold(decision, |decision, check| match check.target {
            Target::Primary => checking_parameters(decision),
            _ => reading_too(decision, check.effects, TouchId::of(&check.touches)),
        })
    }

    /// As [`Self::decide_along`], of the statement behind `PREPARE name (types) AS`; `None`: it can't be read.
    pub fn decide_prepared(
        &self,
        text: &[u8],
        opts: LexOptions,
        path: impl FnOnce() -> Option<PathId>,
    ) -> Option<Decision> {
        let body = prepared_body(text, opts)?;
        let general = self.decide(body, opts);
        let path = if general.by_path { path() } else { None };
        let mut decision = if path.is_some() { self.decide_for(body, opts, path) } else { general };
        // EXECUTE gives its values in another text.
        decision.key = ShardKeyId::NONE;
        let said = decision.effects.contains(Effects::HINTED) || decision.reason == Reason::ListedRead;
        if decision.target == Target::Primary || said {
            return Some(decision);
        }
        let whole = match path {
            None => Cow::Borrowed(text),
            // Of any path its statement may write: what matters is what stands before that.
            Some(_) => {
                let before = text.get(..body.as_ptr().addr() - text.as_ptr().addr())?;
                Cow::Owned([before, b" SELECT"].concat())
            }
        };
        let whole = self.decide(&whole, opts);
        if !whole.effects.contains(Effects::WRITES) {
            return Some(reading_too(decision, whole.effects, whole.touches));
        }
        // It is not the statement itself that may write, so it is one of the types.
        Some(checking_parameters(decision))
    }

    fn decide_by_fingerprint(&self, sql: &[u8], opts: LexOptions, path: Option<PathId>) -> Found {
        let rules = self.rules.load();
        let [a, b] = rules.seed;
        let key = fingerprint_seeded(sql, opts, [a, b ^ u64::from(path.map_or(0, PathId::number))]).0;
        let epoch = rules.epoch;
        if let Some(Known { decision, fingerprint }) = self.shared.get(&key) {
            return Found { decision, epoch, fingerprint: Some(fingerprint) };
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let mut decision = match path.and_then(|path| sql::decide_along(sql, opts, &rules.known, path)) {
            Some(read) => read,
            None => {
                let general = sql::decide(sql, opts, &rules.known);
                Decision { by_path: general.by_path && path.is_none(), ..general }
            }
        };
        if decision.target == Target::Replica && self.learned.has(sql, opts) {
            decision.target = Target::Primary;
            decision.reason = Reason::Learned;
            decision.effects |= Effects::WRITES;
            decision.effects -= Effects::READ_ONLY;
            decision.key = ShardKeyId::NONE;
        }
        let is_kept = !decision.effects.contains(Effects::LITERAL_MATTERS);
        let fingerprint = is_kept.then(|| sql::fingerprint(sql, opts));
        if let Some(fingerprint) = fingerprint {
            self.shared.insert(key, Known { decision, fingerprint });
        }
        Found { decision, epoch, fingerprint }
    }

    /// Whether one of the statements of a text may change settings unseen; judged each time.
    pub fn sets_unseen(&self, sql: &[u8], opts: LexOptions) -> bool {
        sql::sets_unseen(sql, opts, &self.rules.load().known)
    }

    /// The stable fingerprint of a text, by which people know it: the same in every process and run. Of a statement that was judged just
    /// now it is known mostly.
    pub fn fingerprint_of(&self, sql: &[u8], opts: LexOptions) -> Fingerprint {
        let (epoch, reading) = (self.epoch(), u16::from(opts.bits()));
        TEXTS.with_borrow_mut(|texts| {
            let hash = texts.hash(sql);
            match texts.slot(hash, epoch, sql, reading) {
                Some(slot) => *slot.fingerprint.get_or_insert_with(|| sql::fingerprint(sql, opts)),
                None => sql::fingerprint(sql, opts),
            }
        })
    }

    /// The number of the rules by which texts are judged now: a decision that was made under another one may be out of date.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Judges by these rules from now on. Decisions of other rules are not found any more, and found again when their rules return.
    pub(super) fn judge_by(&self, rules: Arc<Rules>) {
        let epoch = rules.epoch;
        self.rules.store(rules);
        self.epoch.store(epoch, Ordering::Release);
    }

    /// Remembers that a standby refused this statement: from now on it goes to the primary, whatever its literals.
    pub fn remember_primary(&self, sql: &[u8], opts: LexOptions, cause: RerunCause) {
        if self.learned.remember(sql, opts, cause) {
            self.judge_anew();
        }
    }

    /// Forgets which statements a standby has refused: the schema has changed, or somebody asks for it. Returns how many they were.
    pub fn forget_learned(&self) -> usize {
        self.forget(false)
    }

    /// Forgets those that were learned too long ago. To be called now and then.
    pub fn forget_old(&self) {
        self.forget(true);
    }

    fn forget(&self, only_old: bool) -> usize {
        let forgotten = self.learned.forget(only_old);
        if forgotten > 0 {
            self.judge_anew();
        }
        forgotten
    }

    /// What keeps statements away that keep failing.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// The statements that a standby has refused, the newest first.
    pub fn learned(&self) -> Vec<LearnedStatement> {
        self.learned.all()
    }

    /// Empties the fingerprint cache.
    pub(super) fn clear(&self) {
        self.shared.clear();
    }

    /// How many texts had to be analysed since the start.
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// How many statements the fingerprint cache holds.
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// Whether the fingerprint cache is empty.
    pub fn is_empty(&self) -> bool {
        self.shared.is_empty()
    }
}

/// The decision about a statement, if a function of a user's checks the values of its parameters.
fn checking_parameters(decision: Decision) -> Decision {
    if decision.target == Target::Primary {
        return decision;
    }
    let effects = (decision.effects | Effects::WRITES) - (Effects::READ_ONLY | Effects::SET_TX_READ_ONLY);
    Decision {
        target: Target::Primary,
        reason: Reason::VolatileFunction,
        effects,
        touches: TouchId::EVERYTHING,
        key: ShardKeyId::NONE,
        ..decision
    }
}

/// The same, if that function only reads.
fn reading_too(decision: Decision, effects: Effects, touches: TouchId) -> Decision {
    let effects = decision.effects | (effects & Effects::TELLS_TIME);
    Decision { effects, touches: decision.touches.union(touches), ..decision }
}

/// Fingerprints are hashes already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, value: u128) {
        self.0 = (value as u64) ^ ((value >> 64) as u64);
    }
}

thread_local! {
    static TEXTS: RefCell<Texts> = RefCell::new(Texts::new());
}

/// What is decided about a text that the thread did not know.
#[derive(Clone, Copy)]
struct Found {
    decision: Decision,
    /// That of the rules by which it is.
    epoch: u64,
    fingerprint: Option<Fingerprint>,
}

/// The text cache of a thread: two slots for each place of the hash.
struct Texts {
    slots: Vec<Option<Slot>>,
    hasher: RandomState,
}

struct Slot {
    hash: u64,
    epoch: u64,
    /// How the text is read: its options, and the number of the search path.
    reading: u16,
    decision: Decision,
    /// The stable one, where it is known already.
    fingerprint: Option<Fingerprint>,
    text: Vec<u8>,
}

impl Slot {
    #[inline]
    fn holds(&self, hash: u64, epoch: u64, text: &[u8], reading: u16) -> bool {
        self.hash == hash && self.epoch == epoch && self.reading == reading && *self.text == *text
    }
}

impl Texts {
    fn new() -> Self {
        let mut slots = Vec::new();
        slots.resize_with(SLOTS, || None);
        Self { slots, hasher: RandomState::default() }
    }

    #[inline]
    fn hash(&self, text: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(text);
        hasher.finish()
    }

    #[inline]
    fn slot(&mut self, hash: u64, epoch: u64, text: &[u8], reading: u16) -> Option<&mut Slot> {
        let first = (hash as usize % SLOTS) & !1;
        self.slots[first..first + 2].iter_mut().flatten().find(|slot| slot.holds(hash, epoch, text, reading))
    }

    fn store(&mut self, hash: u64, text: &[u8], reading: u16, found: Found) {
        let first = (hash as usize % SLOTS) & !1;
        // The older of the two moves aside, so that a text seen once can't push out one that is seen all the time
        // together with its neighbour.
        self.slots.swap(first, first + 1);
        let slot = &mut self.slots[first];
        // In the memory of the one that goes: where constants change, every statement comes here.
        let mut kept = slot.take().map(|gone| gone.text).unwrap_or_default();
        kept.clear();
        kept.extend_from_slice(text);
        let Found { decision, epoch, fingerprint } = found;
        *slot = Some(Slot { hash, epoch, reading, decision, fingerprint, text: kept });
    }
}
