//! What statements do to a database's nodes: by statement, where it goes and why (`SHOW ROUTES`); and in a what-if mode, where it
//! would go (`SHOW WHATIF`).
//!
//! Counting a statement here takes its fingerprint and a lock. So of a thread that runs more than [`RATE`] statements a second only
//! each so manieth is counted, for as many: what is told are estimates then, without bias in numbers and times.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use quanta::Instant;

/// Statements a second of one thread of which each is counted.
const RATE: u32 = 1000;
/// Statements that are told of one database; up to twice as many are kept, then those that took the least time go.
const SHOWN: usize = 1000;

thread_local! {
    static SAMPLER: Cell<Sampler> = const { Cell::new(Sampler { since: None, seen: 0, every: 1, skip: 0 }) };
}

#[derive(Debug, Clone, Copy)]
struct Sampler {
    since: Option<Instant>,
    seen: u32,
    every: u32,
    skip: u32,
}

/// A statement begins on this thread: for how many it is to be counted, if it is.
#[inline]
pub fn sample(now: Instant) -> Option<u32> {
    SAMPLER.with(|cell| {
        let mut sampler = cell.get();
        sampler.seen += 1;
        if sampler.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            sampler.every = (sampler.seen / RATE).max(1);
            sampler.since = Some(now);
            sampler.seen = 0;
        }
        let counted = sampler.skip == 0;
        sampler.skip = if counted { sampler.every - 1 } else { sampler.skip - 1 };
        cell.set(sampler);
        counted.then_some(sampler.every)
    })
}

/// A statement of one kind that goes to one kind of node for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteKey {
    /// Its stable fingerprint.
    pub fingerprint: u128,
    /// Whether it ran on a replica.
    pub replica: bool,
    /// Why, as a stable label.
    pub why: &'static str,
}

/// How often, and how long in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Statements.
    pub count: u64,
    /// From their arrival to their end.
    pub time: Duration,
}

impl Tally {
    fn add(&mut self, weight: u32, took: Duration) {
        self.count += u64::from(weight);
        self.time += took * weight;
    }
}

/// One row of `SHOW ROUTES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which statement, where, and why.
    pub key: RouteKey,
    /// Its text without literals.
    pub statement: Arc<str>,
    /// How often.
    pub tally: Tally,
}

/// What is counted of one database.
#[derive(Debug, Default)]
pub struct RouteStats {
    routes: Mutex<HashMap<RouteKey, (Arc<str>, Tally)>>,
    what_if: Mutex<BTreeMap<&'static str, Tally>>,
}

impl RouteStats {
    /// A statement begins that is to be counted; `text` makes its text without literals.
    pub fn begin(&self, key: RouteKey, text: impl FnOnce() -> String) {
        let mut routes = self.routes.lock();
        if routes.contains_key(&key) {
            return;
        }
        if routes.len() >= 2 * SHOWN {
            let mut times: Vec<_> = routes.values().map(|(_, tally)| tally.time).collect();
            let (_, median, _) = times.select_nth_unstable(SHOWN);
            let least = *median;
            routes.retain(|_, (_, tally)| tally.time > least);
        }
        routes.insert(key, (text().into(), Tally::default()));
    }

    /// It has ended, and counts for `weight` of its kind. `would` = in a what-if mode, where it would have gone: `replica`, or what
    /// stood against that.
    pub fn end(&self, key: RouteKey, would: Option<&'static str>, weight: u32, took: Duration) {
        // One that had to make room meanwhile is none of those that take time.
        if let Some((_, tally)) = self.routes.lock().get_mut(&key) {
            tally.add(weight, took);
        }
        if let Some(would) = would {
            self.what_if.lock().entry(would).or_default().add(weight, took);
        }
    }

    /// The statements that took the most time, the first most.
    pub fn routes(&self) -> Vec<Route> {
        let routes = self.routes.lock();
        let mut all: Vec<_> = routes
            .iter()
            .filter(|(_, (_, tally))| tally.count > 0)
            .map(|(key, (statement, tally))| Route { key: *key, statement: statement.clone(), tally: *tally })
            .collect();
        drop(routes);
        all.sort_by(|a, b| b.tally.time.cmp(&a.tally.time).then(a.key.cmp(&b.key)));
        all.truncate(SHOWN);
        all
    }

    /// What the what-if mode has counted, by where statements would have gone.
    pub fn what_if(&self) -> BTreeMap<&'static str, Tally> {
        self.what_if.lock().clone()
    }

    /// Counts from zero again.
    pub fn reset(&self) {
        self.routes.lock().clear();
        self.what_if.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fingerprint: u128) -> RouteKey {
        RouteKey { fingerprint, replica: false, why: "write" }
    }

    #[test]
    fn those_that_take_the_least_time_make_room() {
        let stats = RouteStats::default();
        for n in 0..5000u32 {
            stats.begin(key(n.into()), || format!("statement {n}"));
            stats.end(key(n.into()), None, 1, Duration::from_micros(u64::from(5001 - n)));
        }
        stats.end(key(7), Some("replica"), 3, Duration::from_secs(1));
        let routes = stats.routes();
        assert_eq!(routes.len(), SHOWN);
        assert_eq!((&*routes[0].statement, routes[0].tally.count), ("statement 7", 4));
        assert!(routes.windows(2).all(|two| two[0].tally.time >= two[1].tally.time));
        assert!(stats.routes.lock().len() <= 2 * SHOWN);
        assert_eq!(stats.what_if()["replica"], Tally { count: 3, time: Duration::from_secs(3) });
        stats.reset();
        assert!(stats.routes().is_empty() && stats.what_if().is_empty());
    }

    #[test]
    fn of_many_statements_a_part_is_counted_for_all() {
        std::thread::spawn(|| {
            let start = Instant::now();
            let mut counted = 0u64;
            for n in 0..100_000u64 {
                counted += u64::from(sample(start + Duration::from_micros(n * 100)).unwrap_or(0));
            }
            assert!((99_000..=101_000).contains(&counted), "{counted}");
        })
        .join()
        .unwrap_or_else(|_| unreachable!());
    }
}
