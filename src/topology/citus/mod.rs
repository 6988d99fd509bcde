//! A database that Citus distributes over workers: what its coordinator knows of nodes and shards, read now and then.
//!
//! The configuration names the coordinator only; workers are found in its catalogs and become nodes of the cluster that take no part in
//! its elections. Whatever the map says, every worker that has the metadata answers every query on distributed tables: an outdated map
//! costs a hop, never an answer.

mod map;
mod read;
mod secondaries;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::cluster::Cluster;
use super::control::ControlPools;
use super::freshness::Freshness;
use crate::config::{HostPort, NodeRole, NodeSettings};
use crate::net::control::in_full;
use crate::observe::{CitusMetrics, Moment};
use read::Look;

pub use map::{CitusMap, CitusNode};
pub(super) use read::GROUP;
pub(super) use secondaries::SecondaryUse;

/// Time between two looks whether a database has become one of Citus'.
const UNLIKELY: Duration = Duration::from_secs(60);
/// Shortest time between two looks, however many doubts there are.
const PAUSE: Duration = Duration::from_millis(200);
/// Pause after a look that failed.
const RETRY: Duration = Duration::from_secs(1);
/// Longest time for one look.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of a cluster's distribution. Goes on through reloads.
#[derive(Debug)]
pub struct Citus {
    map: ArcSwapOption<CitusMap>,
    standing: Mutex<Standing>,
    /// There is a map.
    known: AtomicBool,
    doubted: AtomicBool,
    surveyed: AtomicBool,
    /// By worker group.
    freshness: Mutex<HashMap<u32, Arc<Freshness>>>,
    metrics: CitusMetrics,
}

/// How the knowledge stands.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// When it was last found to hold.
    pub checked_at: Option<SystemTime>,
    /// When what is known was read.
    pub loaded_at: Option<SystemTime>,
    /// The last error, if the last look failed.
    pub error: Option<String>,
}

impl Citus {
    pub(super) fn new(metrics: CitusMetrics) -> Self {
        Self {
            map: ArcSwapOption::empty(),
            standing: Mutex::default(),
            known: AtomicBool::new(false),
            doubted: AtomicBool::new(false),
            surveyed: AtomicBool::new(false),
            freshness: Mutex::default(),
            metrics,
        }
    }

    /// What is counted.
    pub fn metrics(&self) -> &CitusMetrics {
        &self.metrics
    }

    /// What is known; `None`: it is no Citus database, as far as anybody knows.
    pub fn map(&self) -> Option<Arc<CitusMap>> {
        self.map.load_full()
    }

    /// Whether it is a Citus database.
    #[inline]
    pub fn is_known(&self) -> bool {
        self.known.load(Ordering::Acquire)
    }

    /// The group that has the shard of this hash.
    pub fn owner(&self, colocation: u32, hash: i32) -> Option<u32> {
        self.map.load().as_ref()?.owner(colocation, hash)
    }

    /// How the knowledge stands.
    pub fn standing(&self) -> Standing {
        self.standing.lock().clone()
    }

    /// Something suggests that what is known is old.
    pub fn doubt(&self, wake: &Notify) {
        if self.is_known() && !self.doubted.swap(true, Ordering::AcqRel) {
            wake.notify_one();
        }
    }

    /// Whether it is known whether it is one.
    pub(super) fn is_surveyed(&self) -> bool {
        self.surveyed.load(Ordering::Acquire)
    }

    /// What is known of the freshness of a worker group's standbys.
    pub(super) fn freshness_of(&self, group: u32) -> Arc<Freshness> {
        self.freshness.lock().entry(group).or_default().clone()
    }

    /// A read asks for more than is known of standbys.
    fn demand_freshness(&self, now: Moment) {
        if self.is_known() {
            self.freshness.lock().values().for_each(|freshness| freshness.demand(now));
        }
    }

    /// The workers to which statements may be sent.
    pub(super) fn workers(&self) -> Vec<NodeSettings> {
        let Some(map) = self.map() else { return Vec::new() };
        map.nodes.iter().filter(|node| node.is_usable()).map(settings).collect()
    }
}

fn settings(node: &CitusNode) -> NodeSettings {
    let place = HostPort { host: node.host.clone(), port: node.port };
    NodeSettings {
        name: place.to_string(),
        role: node.is_secondary.then_some(NodeRole::Replica),
        hosts: vec![place],
        weight: None,
        zone: None,
        group: node.group,
    }
}

/// Looks after the map of one database. Made once, and asked again and again.
#[derive(Default)]
pub struct Surveyor {
    pools: ControlPools,
    /// Fingerprint of what is known.
    mark: Option<String>,
    /// When the last look ended.
    looked: Option<Instant>,
    failed: bool,
}

/// What a look has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survey {
    /// Nothing new.
    Same,
    /// The map is another one, or it is known now that there is none.
    New,
}

impl Surveyor {
    /// Until when nothing needs to be looked at, if nobody has doubts.
    pub fn due(&self, cluster: &Cluster) -> Instant {
        let Some(looked) = self.looked else { return Instant::now() };
        let pause = match () {
            () if cluster.citus.doubted.load(Ordering::Acquire) => PAUSE,
            () if self.failed => RETRY,
            () if self.mark.is_some() => cluster.database.citus.interval,
            () => UNLIKELY,
        };
        looked + pause
    }

    /// Of a database that is paused no connection is kept: whoever paused it wants to stop, drop or rename it.
    pub fn let_go_while_paused(&mut self, cluster: &Cluster) {
        if cluster.is_paused() {
            self.pools.let_go();
        }
    }

    /// Looks once, on the primary. An error keeps what is known: it costs hops at worst.
    pub async fn look(&mut self, cluster: &Arc<Cluster>) -> Survey {
        cluster.citus.doubted.store(false, Ordering::Release);
        let outcome = self.ask(cluster).await;
        self.looked = Some(Instant::now());
        let mut standing = cluster.citus.standing.lock();
        let look = match outcome {
            None => return Survey::Same,
            Some(Err(error)) => {
                if standing.error.as_ref() != Some(&error) && cluster.citus.is_known() {
                    tracing::warn!(
                        database = cluster.database.name,
                        error,
                        "the coordinator does not tell where shards are"
                    );
                }
                self.failed = true;
                if cluster.citus.is_known() {
                    cluster.citus.metrics.failed();
                }
                standing.error = Some(error);
                return Survey::Same;
            }
            Some(Ok(look)) => look,
        };
        self.failed = false;
        let first = !cluster.citus.surveyed.swap(true, Ordering::AcqRel);
        standing.error = None;
        let now = Some(SystemTime::now());
        standing.checked_at = now;
        match look {
            Look::Unchanged => {
                cluster.citus.metrics.checked(false);
                Survey::Same
            }
            Look::NoCitus => {
                self.mark = None;
                cluster.citus.metrics.gone();
                cluster.citus.known.store(false, Ordering::Release);
                let was = cluster.citus.map.swap(None).is_some();
                if was || first { Survey::New } else { Survey::Same }
            }
            Look::New(map, mark) => {
                if self.mark.replace(mark).is_none() {
                    tracing::info!(
                        database = cluster.database.name,
                        version = map.version,
                        workers = map.nodes.iter().filter(|node| node.is_usable()).count(),
                        "the database is distributed by Citus"
                    );
                }
                cluster.citus.metrics.checked(true);
                standing.loaded_at = now;
                cluster.citus.map.store(Some(Arc::from(map)));
                cluster.citus.known.store(true, Ordering::Release);
                Survey::New
            }
        }
    }

    /// `None`: there is nobody to ask at the moment.
    async fn ask(&mut self, cluster: &Arc<Cluster>) -> Option<Result<Look, String>> {
        if cluster.is_paused() {
            return None;
        }
        let dbname = cluster.database.dbname.clone()?;
        let pool = self.pools.pool(cluster, &dbname)?;
        let known = self.mark.as_deref().filter(|_| cluster.citus.is_known());
        let look = async {
            let mut client = pool.get().await.map_err(|error| error.to_string())?;
            read::look(&mut client, known).await.map_err(|error| in_full(&error))
        };
        let outcome = tokio::time::timeout(PATIENCE, look).await;
        if !matches!(outcome, Ok(Ok(Look::New(..) | Look::Unchanged))) {
            // It is not asked again soon.
            self.pools.let_go();
        }
        Some(outcome.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}"))))
    }
}
