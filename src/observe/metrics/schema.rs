//! The handle that whoever reads the catalogs of a database counts with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

#[derive(Debug, Default)]
struct Counted {
    loads: AtomicU64,
    failures: AtomicU64,
    checked: Mutex<Option<Instant>>,
}

/// Metrics of what is known of one database's catalogs. While a handle lives, its age is told.
#[derive(Debug)]
pub struct CatalogMetrics(Arc<Counted>);

impl CatalogMetrics {
    /// What is known was found to hold; `new`: by reading it.
    pub fn checked(&self, new: bool) {
        self.0.loads.fetch_add(u64::from(new), Relaxed);
        *self.0.checked.lock() = Some(Instant::now());
    }

    /// The catalogs could not be read.
    pub fn failed(&self) {
        self.0.failures.fetch_add(1, Relaxed);
    }
}

/// What the metrics of one database's catalogs say at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogState {
    /// Database.
    pub database: Arc<str>,
    /// How often something new was read.
    pub loads: u64,
    /// How often they could not be read.
    pub failures: u64,
    /// Time since what is known was found to hold.
    pub age: Option<Duration>,
}

/// All databases whose catalogs have been read. Whoever registers limits how many they are.
#[derive(Debug, Default)]
pub struct CatalogRegistry(Vec<(Arc<str>, Arc<Counted>)>);

impl CatalogRegistry {
    /// The handle of a database.
    pub fn register(&mut self, database: &str) -> CatalogMetrics {
        if let Some((_, counted)) = self.0.iter().find(|(name, _)| **name == *database) {
            return CatalogMetrics(counted.clone());
        }
        let counted = Arc::<Counted>::default();
        self.0.push((database.into(), counted.clone()));
        CatalogMetrics(counted)
    }

    /// What all of them say.
    pub fn states(&self) -> Vec<CatalogState> {
        let states = self.0.iter().map(|(database, counted)| CatalogState {
            database: database.clone(),
            loads: counted.loads.load(Relaxed),
            failures: counted.failures.load(Relaxed),
            // Of a database that is gone nothing is known.
            age: counted.checked.lock().filter(|_| Arc::strong_count(counted) > 1).map(|at| at.elapsed()),
        });
        states.collect()
    }
}
