//! Equal things as one.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Weak};

use foldhash::fast::RandomState;

/// Things that are equal are one thing, as long as somebody has it. Of one that nobody has any more nothing is kept but its hash, so that
/// it does not matter when that is swept away.
pub(super) struct Interner<T> {
    hasher: RandomState,
    /// By hash; the vector holds collisions.
    by_hash: HashMap<u64, Vec<Weak<T>>>,
    sweep_at: usize,
}

impl<T> Interner<T> {
    pub fn new() -> Self {
        Self { hasher: RandomState::default(), by_hash: HashMap::new(), sweep_at: 1024 }
    }

    /// The thing with this key that is the `same`, or a new one.
    pub fn intern(&mut self, key: impl Hash, same: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> Arc<T> {
        let hash = self.hash(key);
        self.find(hash, same).unwrap_or_else(|| self.insert(hash, make()))
    }

    /// What a key is found by.
    pub fn hash(&self, key: impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The one that is the `same`, if somebody has it.
    pub fn find(&self, hash: u64, same: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        self.by_hash.get(&hash).into_iter().flatten().filter_map(Weak::upgrade).find(|found| same(found))
    }

    /// Adds one that was not found.
    pub fn insert(&mut self, hash: u64, new: T) -> Arc<T> {
        if self.by_hash.len() >= self.sweep_at {
            self.by_hash.retain(|_, list| {
                list.retain(|weak| weak.strong_count() > 0);
                !list.is_empty()
            });
            self.sweep_at = (self.by_hash.len() * 2).max(1024);
        }
        let made = Arc::new(new);
        let list = self.by_hash.entry(hash).or_default();
        list.retain(|weak| weak.strong_count() > 0);
        list.push(Arc::downgrade(&made));
        made
    }

    /// All that somebody has.
    pub fn all(&self) -> impl Iterator<Item = Arc<T>> {
        self.by_hash.values().flatten().filter_map(Weak::upgrade)
    }
}
