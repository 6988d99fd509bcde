//! What secrets of users look like from outside, so that a user that does not exist looks like one that does (trap 76).

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use super::StoredSecret;
use super::keys::ITERATIONS;

/// The secret can answer an MD5 challenge.
const MD5: u8 = 1;
/// It can only be used by SCRAM.
const SCRAM: u8 = 2;

/// Of the secrets that have been seen: which exchanges they lead to, and how often a password is hashed for them.
#[derive(Debug, Default)]
pub struct Likeness {
    kinds: AtomicU8,
    /// Of the first one: 0 before.
    iterations: AtomicU32,
}

impl Likeness {
    /// A user has this secret.
    pub fn learn(&self, secret: &StoredSecret) {
        let (kind, iterations) = match secret {
            StoredSecret::Scram(verifier) => (SCRAM, verifier.iterations),
            StoredSecret::Plain(_) => (MD5, ITERATIONS),
            StoredSecret::Md5(_) => (MD5, 0),
        };
        if self.kinds.load(Ordering::Relaxed) & kind == 0 {
            self.kinds.fetch_or(kind, Ordering::Relaxed);
        }
        if self.iterations.load(Ordering::Relaxed) == 0 {
            // Whoever was first: users that do not exist keep what they have shown.
            let _ = self.iterations.compare_exchange(0, iterations, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Whether a user that does not exist is challenged by MD5 where the rule says so: as the others are, and where there are both kinds,
    /// by its own `lot`.
    pub fn answers_md5(&self, lot: u8) -> bool {
        match self.kinds.load(Ordering::Relaxed) {
            MD5 => true,
            kinds if kinds == MD5 | SCRAM => lot & 1 == 1,
            // PostgreSQL's default.
            _ => false,
        }
    }

    /// How often a password is hashed for a user that does not exist.
    pub fn iterations(&self) -> u32 {
        match self.iterations.load(Ordering::Relaxed) {
            0 => ITERATIONS,
            seen => seen,
        }
    }
}
