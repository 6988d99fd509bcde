//! Which shard of Citus a statement is about: whose rows are the only ones that it reads or writes, so that the node that owns them
//! answers it without the coordinator.
//!
//! That is told in two steps. Once for all texts of a fingerprint, where the value of the distribution column stands: a
//! [`ShardKey`]. And for each statement that is sent, the hash of that value ([`ShardKey::hash_in`],
//! [`ShardKey::hash_of_parameter`]). Whatever is not certain names no shard, and goes by the coordinator.

mod conditions;
mod constant;
mod distribution;
mod evaluate;
mod find;
mod hashes;
mod key_type;
mod level;
mod own_types;
mod spelled;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use parking_lot::Mutex;

pub use distribution::{DistributedTable, Distribution, TableKind};
pub(super) use find::find;
pub use key_type::{Format, KeyType};

/// What a statement's text tells of the nodes that can run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShardKey {
    /// Which nodes.
    pub source: KeySource,
    /// It writes, and on the one shard only.
    pub writes: bool,
}

/// Which nodes can run a statement. Each relation of it is distributed by hash or a reference table, and there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// No one owner is named: any node that has the metadata answers. Only of reads.
    AnyNode,
    /// All that it reads and writes of distributed tables is the owner's of one value.
    Owner {
        /// Of these tables.
        colocation: u32,
        /// The type of their distribution columns.
        key: KeyType,
        /// Where the value stands.
        at: KeyAt,
    },
}

/// Where a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyAt {
    /// It is a literal of the text.
    Literal {
        /// How many literals stand before it, as fingerprints count them.
        nth: u16,
        /// A minus stands before it.
        negative: bool,
        /// It is written as an array of one element.
        array: bool,
    },
    /// It is a parameter.
    Param {
        /// From 1.
        number: u16,
        /// The type that the text casts it to.
        cast: Option<KeyType>,
        /// It is an array; more than one element name no shard.
        array: bool,
    },
    /// It is a word of the text, the same in each text of the fingerprint.
    Constant {
        /// Its hash.
        hash: i32,
    },
}

/// The number of a [`ShardKey`] in this process, small enough for a [`Decision`](super::Decision). Never taken back or used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ShardKeyId(u16);

static NUMBERED: [OnceLock<ShardKey>; MOST] = [const { OnceLock::new() }; MOST];
static NUMBERS: LazyLock<Mutex<HashMap<ShardKey, u16>>> = LazyLock::new(Mutex::default);

/// Most keys that are told apart in one process.
const MOST: usize = 1 << 15;

impl ShardKeyId {
    /// Nothing is known: the coordinator's.
    pub const NONE: Self = Self(0);

    /// The number of this key; [`Self::NONE`] when all numbers are given away.
    pub fn of(key: ShardKey) -> Self {
        let mut numbers = NUMBERS.lock();
        if let Some(number) = numbers.get(&key) {
            return Self(*number);
        }
        let at = numbers.len();
        let Some(slot) = NUMBERED.get(at) else { return Self::NONE };
        let _ = slot.set(key);
        let number = at as u16 + 1;
        numbers.insert(key, number);
        Self(number)
    }

    /// The key, if there is one. No lock.
    pub fn get(self) -> Option<&'static ShardKey> {
        NUMBERED.get(usize::from(self.0).checked_sub(1)?)?.get()
    }
}
