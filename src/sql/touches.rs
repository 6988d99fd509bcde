//! Which tables a text reads and writes, as a number that fits a [`Decision`](super::Decision).
//!
//! Tables are known by slots: small numbers into which the catalog hashes them. Two tables may share one; whoever asks
//! when a table was written last then learns of the later of two writes, which is never too early.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use parking_lot::Mutex;

/// How many slots there are.
pub const SLOTS: u16 = 4096;
/// The slot of PostgreSQL's own catalogs. No statement but one that changes the schema, which touches everything, or maintenance
/// writes it.
pub const CATALOGS_SLOT: u16 = 0;
/// The slot of all sequences, which are read on the primary only.
pub const SEQUENCES_SLOT: u16 = 1;
/// The first slot of users' tables.
pub const FIRST_TABLE_SLOT: u16 = 2;
/// Most slots that one set names; a greater one is all of them.
pub const MAX_SLOTS_OF_SET: usize = 256;

/// A set of tables.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Slots {
    /// Every table: unknown, or too many to name.
    All,
    /// These slots, ascending, each once. None at all is the set of no table.
    Some(Box<[u16]>),
}

impl Slots {
    /// The set of no table.
    pub fn none() -> Self {
        Self::Some(Box::default())
    }

    /// The set of these slots, in any order.
    pub fn of(slots: impl IntoIterator<Item = u16>) -> Self {
        let mut slots: Vec<u16> = slots.into_iter().map(|slot| slot % SLOTS).collect();
        slots.sort_unstable();
        slots.dedup();
        if slots.len() > MAX_SLOTS_OF_SET { Self::All } else { Self::Some(slots.into()) }
    }

    /// Whether it is the set of no table.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Some(slots) if slots.is_empty())
    }

    /// The tables of both.
    pub fn union(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Some(a), Self::Some(b)) => Self::of(a.iter().chain(b).copied()),
            _ => Self::All,
        }
    }
}

/// The tables that a text reads and those that it may write, other tables changed by triggers and the like included.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Touches {
    /// What its result depends on.
    pub reads: Slots,
    /// What may be different after it.
    pub writes: Slots,
    /// It may change what the catalog tells about functions and relations: DDL, temporary objects excepted.
    pub schema: bool,
    /// It may do so, or not: only the catalog itself tells.
    pub doubts: bool,
    /// It may change what all databases of the server have in common: roles, databases, tablespaces.
    pub shared: bool,
}

impl Touches {
    /// Neither reads nor writes any table.
    pub fn nothing() -> Self {
        Self::new(Slots::none(), Slots::none())
    }

    /// Unknown: may read and write every table.
    pub fn everything() -> Self {
        Self::new(Slots::All, Slots::All)
    }

    /// Reads these and writes those.
    pub fn new(reads: Slots, writes: Slots) -> Self {
        Self { reads, writes, schema: false, doubts: false, shared: false }
    }

    /// Everything, and what the catalog tells of it.
    pub fn schema() -> Self {
        Self { schema: true, ..Self::everything() }
    }

    /// What two statements touch together.
    pub fn union(&self, other: &Self) -> Self {
        Self {
            reads: self.reads.union(&other.reads),
            writes: self.writes.union(&other.writes),
            schema: self.schema || other.schema,
            doubts: self.doubts || other.doubts,
            shared: self.shared || other.shared,
        }
    }
}

/// The number of a [`Touches`] in this process. Numbers are never taken back or used again, so that whoever keeps one (a
/// cached decision, a prepared statement) may use it for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TouchId(u16);

static NUMBERED: [OnceLock<&'static Touches>; 1 << 16] = [const { OnceLock::new() }; 1 << 16];
static NUMBERS: LazyLock<Mutex<HashMap<&'static Touches, u16>>> = LazyLock::new(Mutex::default);
/// Those that have their numbers from the start, whatever else is numbered: none, and every table with what may be changed beside it
/// ([`TouchId::every_table`]).
static RESERVED: LazyLock<[Touches; 9]> = LazyLock::new(|| {
    std::array::from_fn(|number| match number.checked_sub(1) {
        None => Touches::nothing(),
        Some(bits) => {
            let (schema, doubts, shared) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
            Touches { schema, doubts, shared, ..Touches::everything() }
        }
    })
});

impl TouchId {
    /// Of a text that touches no table.
    pub const NOTHING: Self = Self(0);
    /// Of a text of which nobody knows what it touches.
    pub const EVERYTHING: Self = Self(1);

    /// The number of these; when all numbers are given away that of every table, and what else they may change.
    pub fn of(touches: &Touches) -> Self {
        if let Some(number) = RESERVED.iter().position(|reserved| reserved == touches) {
            return Self(number as u16);
        }
        let mut numbers = NUMBERS.lock();
        if let Some(number) = numbers.get(touches) {
            return Self(*number);
        }
        let Ok(number) = u16::try_from(numbers.len() + RESERVED.len()) else { return Self::every_table(touches) };
        // Kept as long as the process lives: 65527 of them at most, of 512 bytes of slots each and mostly far fewer.
        let kept: &'static Touches = Box::leak(Box::new(touches.clone()));
        let _ = NUMBERED[usize::from(number)].set(kept);
        numbers.insert(kept, number);
        Self(number)
    }

    /// The number of every table, with the schema and what databases share if these may change them.
    fn every_table(touches: &Touches) -> Self {
        Self(1 + u16::from(touches.schema) + 2 * u16::from(touches.doubts) + 4 * u16::from(touches.shared))
    }

    /// What is touched. No lock.
    pub fn get(self) -> &'static Touches {
        let number = usize::from(self.0);
        match RESERVED.get(number) {
            Some(reserved) => reserved,
            None => NUMBERED[number].get().copied().unwrap_or(&RESERVED[1]),
        }
    }

    /// What texts of both numbers touch together.
    pub fn union(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::NOTHING, other) | (other, Self::NOTHING) => other,
            (a, b) => Self::of(&a.get().union(b.get())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_for_one_set() {
        let touches = Touches::new(Slots::of([7, 3, 7]), Slots::none());
        let id = TouchId::of(&touches);
        assert_eq!(id.get(), &touches);
        assert_eq!(TouchId::of(&touches), id);
        assert_eq!(TouchId::NOTHING.get(), &Touches::nothing());
        assert_eq!(TouchId::EVERYTHING.get(), &Touches::everything());
        assert_eq!(id.union(TouchId::NOTHING), id);
        assert_eq!(id.union(TouchId::EVERYTHING), TouchId::EVERYTHING);
        let other = TouchId::of(&Touches::new(Slots::of([4]), Slots::of([9])));
        assert_eq!(id.union(other).get().reads, Slots::of([3, 4, 7]));
    }

    /// However many sets of tables somebody invents.
    #[test]
    fn when_no_number_is_left_a_change_of_the_schema_is_still_one() {
        for bits in 0..8 {
            let (schema, doubts, shared) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
            let touches = Touches { schema, doubts, shared, ..Touches::new(Slots::of([7]), Slots::of([8])) };
            let every = Touches { schema, doubts, shared, ..Touches::everything() };
            assert_eq!(TouchId::every_table(&touches).get(), &every);
            assert_eq!(TouchId::of(&every), TouchId::every_table(&touches));
        }
    }

    #[test]
    fn too_many_tables_are_all_tables() {
        assert_eq!(Slots::of(0..1000), Slots::All);
    }
}
