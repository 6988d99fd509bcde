//! Reading the catalog again when it has changed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use deadpool_postgres::Pool;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::read::{self, Mark};
use super::snapshot::{Counts, Snapshot};

/// So long after a change nothing is read yet: changes come in groups.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// Longest time for one reading.
const LIMIT: Duration = Duration::from_secs(60);
/// Readings that fail one after the other until what was read before is given up.
const FAILURES: u32 = 3;

/// Where no interval is configured, it is looked whether the database is still there.
const UNASKED: Duration = Duration::from_secs(3600);

/// Who decides by what is read.
pub trait Sink: Send + Sync {
    /// The catalog was read when `changes` changes had been seen. `same`: it is what was read before. Returns whether it is relied on
    /// now: not if more has changed since.
    fn loaded(&self, snapshot: Arc<Snapshot>, changes: u64, same: bool) -> bool;

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
    wake: Notify,
    standing: Mutex<Standing>,
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
    pub fn new(dbname: String) -> Self {
        Self {
            dbname,
            changes: AtomicU64::new(0),
            doubted: AtomicBool::new(false),
            wake: Notify::new(),
            standing: Mutex::default(),
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
    let mut known: Option<(Mark, Arc<Snapshot>)> = None;
    let mut relied = u64::MAX;
    let mut failures = 0u32;
    let mut last = Instant::now();
    loop {
        let Some(Source { pool, interval }) = source() else { return };
        let looked = pool.is_some();
        if let Some(pool) = pool {
            watched.doubted.store(false, Ordering::Release);
            last = Instant::now();
            let changes = watched.changes();
            let outcome = tokio::time::timeout(LIMIT, look(&pool, &mut known)).await;
            if !keep {
                pool.retain(|_, _| false);
            }
            let Some(sink) = sink.upgrade() else { return };
            match outcome.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}"))) {
                Ok(new) => {
                    failures = 0;
                    note(&watched, &known, new, last);
                    if (new || changes != relied)
                        && let Some((_, snapshot)) = &known
                        && sink.loaded(snapshot.clone(), changes, !new)
                    {
                        relied = changes;
                    }
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(database = watched.dbname, error, "the catalog cannot be read");
                    watched.standing.lock().error = Some(error);
                    pool.retain(|_, _| false);
                    if failures == FAILURES || known.is_none() {
                        known = None;
                        sink.lost();
                    }
                }
            }
        }
        let behind = relied != watched.changes();
        let pause = match (failures, behind, interval) {
            _ if !looked => Duration::from_secs(1),
            (0, true, _) => DEBOUNCE,
            (0, false, None) => UNASKED,
            (0, false, Some(interval)) => interval,
            _ => Duration::from_secs(1),
        };
        if tokio::time::timeout(pause, watched.wake.notified()).await.is_ok() {
            // Doubts may come with every error: a second at least between two looks for their sake.
            let told = relied != watched.changes();
            let rest =
                if told { DEBOUNCE } else { Duration::from_secs(1).saturating_sub(last.elapsed()).max(DEBOUNCE) };
            let _ = tokio::time::timeout(rest, told_of_change(&watched, relied)).await;
            tokio::time::sleep(DEBOUNCE).await;
        }
    }
}

async fn told_of_change(watched: &Watched, relied: u64) {
    while relied == watched.changes() {
        watched.wake.notified().await;
    }
}

fn note(watched: &Watched, known: &Option<(Mark, Arc<Snapshot>)>, new: bool, began: Instant) {
    let now = Some(SystemTime::now());
    let mut standing = watched.standing.lock();
    standing.checked_at = now;
    standing.error = None;
    if let (true, Some((_, snapshot))) = (new, known) {
        standing.loaded_at = now;
        standing.took = began.elapsed();
        standing.version += 1;
        standing.counts = snapshot.counts();
        tracing::debug!(database = watched.dbname, took = ?standing.took, "catalog read");
    }
}

/// Reads the catalog if it has changed; tells whether what is known is another thing now.
async fn look(pool: &Pool, known: &mut Option<(Mark, Arc<Snapshot>)>) -> Result<bool, String> {
    let mut client = pool.get().await.map_err(|error| error.to_string())?;
    let wanted = |mark: &Mark| known.as_ref().is_none_or(|(before, _)| before != mark);
    let (mark, reading) = read::read(&mut client, wanted).await.map_err(|error| in_full(&error))?;
    let Some(reading) = reading else { return Ok(false) };
    // Of a large schema this is work for milliseconds; the control plane has other things to do meanwhile.
    let built = tokio::task::spawn_blocking(|| Snapshot::new(reading)).await.map_err(|error| error.to_string())?;
    let (snapshot, new) = match known.take() {
        Some((_, before)) if *before == built => (before, false),
        _ => (Arc::new(built), true),
    };
    *known = Some((mark, snapshot));
    Ok(new)
}

/// An error of tokio-postgres says what it is about only with its source.
fn in_full(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => error.to_string(),
        None => error.to_string(),
    }
}
