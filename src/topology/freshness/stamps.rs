//! When tables were written last.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;

use crate::observe::Moment;
use crate::sql::{CATALOGS_SLOT, SLOTS, Slots};

/// When each table of one database was written last through this process, by slots of tables.
///
/// Known by the database's name on its servers, whatever it is called here and however its servers are reached: two configured
/// databases that lead to the same one must not miss each other's writes. Databases of the same name on other servers share it,
/// too; then a write to one keeps reads of the other off replicas for a moment, and nothing is missed.
#[derive(Debug)]
pub struct Stamps {
    slots: Box<[AtomicU64]>,
    /// Of writes that may have been to any table.
    every: AtomicU64,
    /// Of all writes, for reads of any table.
    any: AtomicU64,
    /// As `every`, for reads of no table: what the schema means for them is changed by what may be to any table. What was before this
    /// process does not count: a constant needs no replica that is known to be fresh.
    schema: AtomicU64,
    /// When the commits that are under way were sent.
    commits: Mutex<Vec<Moment>>,
}

/// A commit that has been under way for longer than this is rather a statement that still runs.
const COMMIT_TAKES: Duration = Duration::from_millis(500);

/// More are kept only while somebody uses them.
const MAX_KEPT: usize = 1024;

struct Kept {
    stamps: HashMap<String, Arc<Stamps>>,
    /// What was written before that is not known.
    since: Moment,
}

static KEPT: LazyLock<Mutex<Kept>> =
    LazyLock::new(|| Mutex::new(Kept { stamps: HashMap::new(), since: Moment::now() }));

impl Stamps {
    /// Those of a database, by its name on the servers. In new ones all tables count as written when this process began, since
    /// nobody knows what was written before.
    pub fn of(dbname: &str) -> Arc<Self> {
        let mut kept = KEPT.lock();
        if let Some(known) = kept.stamps.get(dbname) {
            return known.clone();
        }
        if kept.stamps.len() >= MAX_KEPT {
            kept.stamps.retain(|_, stamps| Arc::strong_count(stamps) > 1);
            kept.since = Moment::now();
        }
        let made = Arc::new(Self::new(kept.since));
        kept.stamps.insert(dbname.to_owned(), made.clone());
        made
    }

    /// From now on writes are known.
    pub(in crate::topology) fn begin() {
        LazyLock::force(&KEPT);
    }

    /// What all databases share has been written: a role, or a database itself, which may be another one of its name now.
    pub fn wrote_shared(now: Moment) {
        let mut kept = KEPT.lock();
        kept.since = now;
        kept.stamps.values().for_each(|stamps| stamps.wrote(&Slots::All, now));
    }

    fn new(now: Moment) -> Self {
        let slots = std::iter::repeat_with(AtomicU64::default).take(usize::from(SLOTS)).collect();
        Self {
            slots,
            every: AtomicU64::new(now.nanos()),
            any: AtomicU64::new(now.nanos()),
            schema: AtomicU64::default(),
            commits: Mutex::default(),
        }
    }

    /// What may commit a write is sent now. Until [`Self::commit_ended`] a replica may show what the primary does not: that writes a
    /// commit to its WAL, waits for synchronous standbys, and then tells its own sessions.
    pub fn commit_sent(&self, now: Moment) {
        self.commits.lock().push(now);
    }

    /// What was sent at that instant has been answered, or never will be.
    pub fn commit_ended(&self, sent: Moment) {
        let mut commits = self.commits.lock();
        if let Some(at) = commits.iter().position(|commit| *commit == sent) {
            commits.swap_remove(at);
        }
    }

    /// Whether a replica may have shown at an instant what the primary does not show now.
    pub fn is_ahead(&self, shown: Moment, now: Moment) -> bool {
        let since = now.before(COMMIT_TAKES);
        shown > since && self.commits.lock().iter().any(|commit| *commit <= shown && *commit > since)
    }

    /// A write to these tables has ended. To be said before anybody learns of it.
    pub fn wrote(&self, tables: &Slots, now: Moment) {
        match tables {
            Slots::All => {
                self.every.fetch_max(now.nanos(), Ordering::AcqRel);
                self.schema.fetch_max(now.nanos(), Ordering::AcqRel);
            }
            Slots::Some(slots) if slots.is_empty() => return,
            Slots::Some(slots) => {
                for slot in slots.iter().filter_map(|slot| self.slots.get(usize::from(*slot))) {
                    slot.fetch_max(now.nanos(), Ordering::AcqRel);
                }
            }
        }
        self.any.fetch_max(now.nanos(), Ordering::AcqRel);
    }

    /// When one of these tables was written last; of no table, when the schema may have been changed last, on which names, types,
    /// privileges and definitions depend ([`Moment::NEVER`], if it has not been).
    #[inline]
    pub fn last_write(&self, tables: &Slots) -> Moment {
        let nanos = match tables {
            Slots::All => self.any.load(Ordering::Acquire),
            Slots::Some(slots) if slots.is_empty() => {
                let of = |stamp: &AtomicU64| stamp.load(Ordering::Acquire);
                of(&self.schema).max(self.slots.get(usize::from(CATALOGS_SLOT)).map_or(0, of))
            }
            Slots::Some(slots) => slots
                .iter()
                .filter_map(|slot| self.slots.get(usize::from(*slot)))
                .map(|slot| slot.load(Ordering::Acquire))
                .fold(self.every.load(Ordering::Acquire), u64::max),
        };
        Moment::from_nanos(nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_learns_of_the_last_write_to_what_it_reads() {
        let start = Moment::now();
        let at = |ms: u64| Moment::from_nanos(start.nanos() + ms * 1_000_000);
        let stamps = Stamps::new(start);
        assert_eq!(stamps.last_write(&Slots::of([1])), start, "what was before is not known");
        assert_eq!(stamps.last_write(&Slots::none()), Moment::NEVER, "the schema was not changed");
        stamps.wrote(&Slots::of([CATALOGS_SLOT]), at(5));
        assert_eq!(stamps.last_write(&Slots::none()), at(5));
        stamps.wrote(&Slots::of([1, 2]), at(10));
        stamps.wrote(&Slots::of([2]), at(20));
        assert_eq!(stamps.last_write(&Slots::of([1])), at(10));
        assert_eq!(stamps.last_write(&Slots::of([1, 2])), at(20));
        assert_eq!(stamps.last_write(&Slots::of([3])), start);
        assert_eq!(stamps.last_write(&Slots::All), at(20), "a read of any table sees every write");
        stamps.wrote(&Slots::All, at(30));
        assert_eq!(stamps.last_write(&Slots::of([3])), at(30), "a write to any table concerns every read");
        assert_eq!(stamps.last_write(&Slots::none()), at(30), "it may have changed the schema");
        stamps.wrote(&Slots::none(), at(40));
        assert_eq!(stamps.last_write(&Slots::All), at(30));
        stamps.wrote(&Slots::of([3]), at(25));
        assert_eq!(stamps.last_write(&Slots::of([3])), at(30), "it does not go back");
    }

    #[test]
    fn one_database_has_one_set_of_them() {
        let name = "stamps_of_one_database";
        Stamps::begin();
        let later = Moment::now();
        let first = Stamps::of(name);
        assert!(first.last_write(&Slots::All) <= later, "what is written from now on is known");
        first.wrote(&Slots::of([7]), later);
        drop(first);
        assert_eq!(Stamps::of(name).last_write(&Slots::of([7])), later, "for good");
    }

    #[test]
    fn a_replica_is_ahead_while_a_commit_is_under_way_that_was_sent_before_it_was_read() {
        let at = |ms: u64| Moment::from_nanos(ms * 1_000_000);
        let stamps = Stamps::new(at(1));
        assert!(!stamps.is_ahead(at(1000), at(1001)));
        stamps.commit_sent(at(1000));
        stamps.commit_sent(at(1005));
        assert!(!stamps.is_ahead(at(999), at(1010)), "read before");
        assert!(stamps.is_ahead(at(1001), at(1010)));
        stamps.commit_ended(at(1000));
        assert!(!stamps.is_ahead(at(1001), at(1010)));
        assert!(stamps.is_ahead(at(1006), at(1010)));
        assert!(!stamps.is_ahead(at(1006), at(1600)), "that is no commit any more");
        stamps.commit_ended(at(1005));
        assert!(!stamps.is_ahead(at(1006), at(1010)));
    }
}
