//! Reading the catalog again when it has changed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use deadpool_postgres::Pool;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::read::{self, Mark};
use super::snapshot::{Counts, Snapshot};
use crate::net::control::in_full;
use crate::observe::CatalogMetrics;

/// So long after a change nothing is read yet: another may be on its way.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// A change so soon after a reading is one of a group, as of a migration: it is waited until the group seems to be over…
const GROUP: Duration = Duration::from_secs(1);
/// …which it is when nothing has changed for so long. Each reading costs the primary work, and its snapshot keeps VACUUM from what was
/// removed meanwhile.
const QUIET: Duration = Duration::from_millis(250);
/// Longest wait for that.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest time for one reading.
const LIMIT: Duration = Duration::from_secs(60);
/// Readings that fail one after the other until what was read before is given up.
const FAILURES: u32 = 3;

/// Where no interval is configured, it is looked whether the database is still there.
const UNASKED: Duration = Duration::from_secs(3600);

/// To compare all of a large schema costs the primary more than it brings: a thousandth of a core at most is spent on it. Between two
/// comparisons it is only asked whether the server has counted changes.
const THRIFT: u32 = 1000;
/// Longest time between two comparisons for that: counts come late, or are switched off.
const LONGEST: Duration = Duration::from_secs(300);

/// Who decides by what is read.
pub trait Sink: Send + Sync {
    /// The catalog was read when `changes` changes had been seen; as long as it says the same, it is the same snapshot. Returns whether
    /// it is relied on now: not if more has changed since.
    fn loaded(&self, snapshot: Arc<Snapshot>, changes: u64) -> bool;

    /// It can't be read: nothing is known any more.
    fn lost(&self);
}

/// The catalog of one database, as sessions and the console see it.
#[derive(Debug)]
pub struct Watched {
    /// Name of the database on its servers.
    pub dbname: String,
    changes: AtomicU64,
    doubted: AtomicBool,
    /// How often it was distrusted, and how often before what is known was found to hold, or read again.
    distrusted: AtomicU64,
    confirmed: AtomicU64,
    wake: Notify,
    standing: Mutex<Standing>,
    metrics: CatalogMetrics,
}

/// How a catalog stands.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// When it was last found to hold.
    pub checked_at: Option<SystemTime>,
    /// When what is known was read.
    pub loaded_at: Option<SystemTime>,
    /// How long that took.
    pub took: Duration,
    /// How often something new was read.
    pub version: u64,
    /// How much it knows.
    pub counts: Counts,
    /// The last error, if the last attempt failed.
    pub error: Option<String>,
}

impl Watched {
    /// Of a database by its name on the servers.
    pub fn new(dbname: String, metrics: CatalogMetrics) -> Self {
        Self {
            dbname,
            changes: AtomicU64::new(0),
            doubted: AtomicBool::new(false),
            distrusted: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            wake: Notify::new(),
            standing: Mutex::default(),
            metrics,
        }
    }

    /// The schema has been changed: it is read at once. Returns how many changes there have been.
    pub fn change(&self) -> u64 {
        let changes = self.changes.fetch_add(1, Ordering::AcqRel) + 1;
        self.wake.notify_one();
        changes
    }

    /// How many changes have been told.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// What is known may be old: it is compared soon. What is known is relied on meanwhile.
    pub fn doubt(&self) {
        if !self.doubted.swap(true, Ordering::AcqRel) {
            self.wake.notify_one();
        }
    }

    /// Something may have changed it that nobody can tell. What is known goes on to decide where statements run, but not which tables
    /// they touch, until it has been compared.
    pub fn distrust(&self) {
        self.distrusted.fetch_add(1, Ordering::AcqRel);
        self.doubt();
    }

    /// Whether it was distrusted and has not been compared since.
    #[inline]
    pub fn is_distrusted(&self) -> bool {
        self.distrusted.load(Ordering::Acquire) != self.confirmed.load(Ordering::Acquire)
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.standing.lock().clone()
    }
}

/// Where a catalog is read.
#[derive(Debug)]
pub struct Source {
    /// Connections to the server; `None`: not now.
    pub pool: Option<Pool>,
    /// Time between two looks whether it has changed; `None`: only when there is a reason.
    pub interval: Option<Duration>,
}

/// Reads a catalog, and again when its fingerprint has changed, until `sink` or the database is gone (`source` has nothing to tell).
/// Between readings a connection is kept if `keep`.
pub async fn watch(
    watched: Arc<Watched>,
    sink: Weak<dyn Sink>,
    mut source: impl FnMut() -> Option<Source> + Send,
    keep: bool,
) {
    let mut known: Option<Known> = None;
    let mut relied = u64::MAX;
    let mut failures = 0u32;
    let mut last = Instant::now();
    loop {
        let Some(Source { pool, interval }) = source() else { return };
        let looked = pool.is_some();
        if let Some(pool) = pool {
            let doubted = watched.doubted.swap(false, Ordering::AcqRel);
            let began = Instant::now();
            let changes = watched.changes();
            let distrusted = watched.distrusted.load(Ordering::Acquire);
            let told = doubted || watched.is_distrusted() || changes != relied || failures > 0;
            let outcome = tokio::time::timeout(LIMIT, look(&pool, &mut known, told)).await;
            if !keep {
                pool.retain(|_, _| false);
            }
            let Some(sink) = sink.upgrade() else { return };
            match outcome.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}"))) {
                Ok(new) => {
                    failures = 0;
                    note(&watched, &known, new, began);
                    if (new || changes != relied)
                        && let Some(Known { snapshot, .. }) = &known
                        && sink.loaded(snapshot.clone(), changes)
                    {
                        relied = changes;
                    }
                    if relied == changes {
                        watched.confirmed.store(distrusted, Ordering::Release);
                    }
                }
                Err(error) => {
                    failures += 1;
                    let said = watched.standing.lock().error.replace(error.clone());
                    if said.as_ref() != Some(&error) {
                        tracing::warn!(
                            database = watched.dbname,
                            error,
                            "the catalog cannot be read: functions that are not PostgreSQL's own go to the primary"
                        );
                    }
                    watched.metrics.failed();
                    pool.retain(|_, _| false);
                    if failures == FAILURES || known.is_none() {
                        known = None;
                        sink.lost();
                    }
                }
            }
            last = Instant::now();
        }
        let pause = match (failures, interval) {
            (0, _) if looked && relied != watched.changes() => Duration::ZERO,
            (0, None) if looked => UNASKED,
            (0, Some(interval)) if looked => interval,
            _ => Duration::from_secs(1),
        };
        let woken = tokio::time::timeout(pause, watched.wake.notified()).await.is_ok();
        if relied == watched.changes() && woken {
            // Doubts may come with every error: a second at least between two looks for their sake.
            let rest = Duration::from_secs(1).saturating_sub(last.elapsed());
            let _ = tokio::time::timeout(rest, told_of_change(&watched, relied)).await;
        }
        if relied != watched.changes() && last.elapsed() < GROUP {
            let _ = tokio::time::timeout(PATIENCE, quiet(&watched)).await;
        } else if woken {
            tokio::time::sleep(DEBOUNCE).await;
        }
    }
}

/// Waits until nothing has changed for a while.
async fn quiet(watched: &Watched) {
    loop {
        let changes = watched.changes();
        tokio::time::sleep(QUIET).await;
        if changes == watched.changes() {
            return;
        }
    }
}

async fn told_of_change(watched: &Watched, relied: u64) {
    while relied == watched.changes() {
        watched.wake.notified().await;
    }
}

fn note(watched: &Watched, known: &Option<Known>, new: bool, began: Instant) {
    watched.metrics.checked(new);
    let now = Some(SystemTime::now());
    let mut standing = watched.standing.lock();
    standing.checked_at = now;
    standing.error = None;
    if let (true, Some(Known { snapshot, .. })) = (new, known) {
        standing.loaded_at = now;
        standing.took = began.elapsed();
        standing.version += 1;
        standing.counts = snapshot.counts();
        tracing::debug!(database = watched.dbname, took = ?standing.took, "catalog read");
    }
}

/// What was read, and what the next look is compared with.
struct Known {
    mark: Mark,
    snapshot: Arc<Snapshot>,
    /// Changes that the server had counted before.
    activity: Option<i64>,
    /// When all was compared, and how long that took.
    compared: Instant,
    took: Duration,
}

impl Known {
    /// Whether a server that has counted so many changes need not be asked for more.
    fn spares(&self, activity: Option<i64>) -> bool {
        let spared = self.took.saturating_mul(THRIFT).min(LONGEST);
        activity.is_some() && activity == self.activity && self.compared.elapsed() < spared
    }
}

/// Reads the catalog if it has changed; tells whether what is known is another thing now. `told`: there is a reason to look closely.
async fn look(pool: &Pool, known: &mut Option<Known>, told: bool) -> Result<bool, String> {
    let mut client = pool.get().await.map_err(|error| error.to_string())?;
    let activity = read::activity(&client).await.map_err(|error| in_full(&error))?;
    if !told && known.as_ref().is_some_and(|known| known.spares(activity)) {
        return Ok(false);
    }
    let compared = Instant::now();
    let wanted = |mark: &Mark| known.as_ref().is_none_or(|known| known.mark != *mark);
    let (mark, reading, took) = read::read(&mut client, wanted).await.map_err(|error| in_full(&error))?;
    let Some(reading) = reading else {
        if let Some(known) = known {
            (known.activity, known.compared, known.took) = (activity, compared, took);
        }
        return Ok(false);
    };
    // Of a large schema this is work for milliseconds; the control plane has other things to do meanwhile.
    let built = tokio::task::spawn_blocking(|| Snapshot::new(reading)).await.map_err(|error| error.to_string())?;
    let (snapshot, new) = match known.take() {
        Some(before) if *before.snapshot == built => (before.snapshot, false),
        _ => (Arc::new(built), true),
    };
    *known = Some(Known { mark, snapshot, activity, compared, took });
    Ok(new)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_costly_comparison_is_spared_while_nothing_is_counted() {
        let mark = Mark::default();
        let of = |activity, took, ago| Known {
            mark: mark.clone(),
            snapshot: Arc::default(),
            activity,
            compared: Instant::now().checked_sub(Duration::from_secs(ago)).unwrap(),
            took: Duration::from_millis(took),
        };
        assert!(of(Some(7), 100, 10).spares(Some(7)));
        assert!(!of(Some(7), 100, 10).spares(Some(8)), "something has changed");
        assert!(!of(Some(7), 100, 10).spares(Some(6)), "the counts were reset, or it is another server");
        assert!(!of(None, 100, 10).spares(None), "nothing is counted");
        assert!(!of(Some(7), 2, 10).spares(Some(7)), "it costs little");
        assert!(!of(Some(7), 100, 110).spares(Some(7)));
        assert!(!of(Some(7), 5000, 301).spares(Some(7)));
    }
}
