//! Metrics: what sessions, pools and health checks count, and the text of `/metrics`.
//!
//! The hot path counts into atomics of our own ([`SessionMetrics`], [`PoolMetrics`]); when someone
//! reads, they are written through the `metrics` facade into `metrics-exporter-prometheus`, which
//! makes the text. Histograms and fractional counters are the exception: see `histogram.rs`.

mod blame;
pub mod catalog;
mod cells;
mod citus;
mod histogram;
mod listener;
mod node;
mod patroni;
mod pins;
mod pool;
mod process;
mod publish;
mod reads;
mod reruns;
mod routing;
mod schema;
mod session;
mod stats;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_util::MetricKindMask;
use parking_lot::Mutex;

use super::{RouteStats, beat};
use crate::config::{AuthMethod, Config, NodeRole};
use crate::wire::SqlState;

pub use blame::Blame;
pub use cells::{Labels, OTHER};
pub use citus::{CitusCounts, CitusMetrics};
pub use listener::ListenerMetrics;
pub use node::NodeMetrics;
pub use patroni::PatroniMetrics;
pub use pool::{CloseCause, PoolGauges, PoolMetrics};
pub use process::Process;
pub use reruns::RerunCounts;
pub use schema::CatalogMetrics;
pub use session::{ClientState, SessionMetrics};
pub use stats::{DatabaseStats, STATS_PERIOD, StatCounts};

use cells::{CellRegistry, Configured};
use citus::CitusRegistry;
use listener::ListenerRegistry;
use node::NodeRegistry;
use patroni::PatroniRegistry;
use pins::PinTable;
use pool::{PoolNames, PoolRegistry};
pub use reads::ReadOutcome;
use reads::ReadTable;
use reruns::RerunTable;
use routing::RoutingTable;
use schema::CatalogRegistry;
use session::Tables;
use stats::StatsTicker;

/// Most (database, user) pairs of the configuration that become labels of their own, and of others.
pub const LABEL_SETS: usize = 200;

/// Gauges that nothing sets any more (their pool or node is gone) leave `/metrics` after so long.
const GAUGE_IDLE: Duration = Duration::from_secs(60);

/// How often the exporter is told to tidy up when nobody scrapes.
const UPKEEP_PERIOD: Duration = Duration::from_secs(5);

/// All metrics of the program. Cheap to clone; there is one per program, and tests make their own.
#[derive(Debug, Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    sessions: Mutex<CellRegistry>,
    routing: Arc<RoutingTable>,
    reads: Arc<ReadTable>,
    pins: Arc<PinTable>,
    reruns: Arc<RerunTable>,
    routes: Mutex<BTreeMap<Arc<str>, Arc<RouteStats>>>,
    pools: Mutex<PoolRegistry>,
    nodes: Mutex<NodeRegistry>,
    listeners: Mutex<ListenerRegistry>,
    catalogs: Mutex<CatalogRegistry>,
    citus: Mutex<CitusRegistry>,
    patroni: Mutex<PatroniRegistry>,
    slow_log: Arc<SlowLogCounters>,
    stats: Mutex<StatsTicker>,
    published: Mutex<HashSet<metrics::Key>>,
    panics: AtomicU64,
    log_lines_lost: AtomicU64,
    max_clients: AtomicU64,
    last_reload_ok: AtomicBool,
    started: Instant,
    started_unix: f64,
}

/// What the slow-query log counts.
#[derive(Debug, Default)]
pub struct SlowLogCounters {
    /// Lines written.
    pub written: AtomicU64,
    /// Records dropped as the queue was full.
    pub queue_full: AtomicU64,
    /// Records dropped by the limit per fingerprint.
    pub rate_limited: AtomicU64,
    /// Lines that could not be written.
    pub write_errors: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Empty metrics with the default limit of [`LABEL_SETS`].
    pub fn new() -> Self {
        Self::with_label_sets(LABEL_SETS)
    }

    /// Empty metrics in which at most `limit` (database, user) pairs of the configuration become labels, and as many others.
    pub fn with_label_sets(limit: usize) -> Self {
        let recorder = PrometheusBuilder::new().idle_timeout(MetricKindMask::GAUGE, Some(GAUGE_IDLE)).build_recorder();
        publish::describe(&recorder);
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            inner: Arc::new(Inner {
                handle: recorder.handle(),
                recorder,
                sessions: Mutex::new(CellRegistry::new(limit)),
                routing: Arc::default(),
                reads: Arc::default(),
                pins: Arc::default(),
                reruns: Arc::default(),
                routes: Mutex::default(),
                pools: Mutex::default(),
                nodes: Mutex::default(),
                listeners: Mutex::default(),
                catalogs: Mutex::default(),
                citus: Mutex::default(),
                patroni: Mutex::default(),
                slow_log: Arc::default(),
                stats: Mutex::new(StatsTicker::new(Duration::ZERO)),
                published: Mutex::default(),
                panics: AtomicU64::new(0),
                log_lines_lost: AtomicU64::new(0),
                max_clients: AtomicU64::new(0),
                last_reload_ok: AtomicBool::new(true),
                started: Instant::now(),
                started_unix: unix.as_secs_f64(),
            }),
        }
    }

    /// The handle of a session that has just logged in. To be called on the session's own worker
    /// thread, whose counters it gets; dropping it is the logout.
    pub fn session(&self, database: &str, user: &str) -> SessionMetrics {
        let stripe = cells::stripe();
        let mut sessions = self.inner.sessions.lock();
        let labels = sessions.admit(database, user);
        let (cell, errors) = sessions.cell(&labels, stripe);
        drop(sessions);
        let routes = self.inner.routes.lock().entry(labels.database.clone()).or_default().clone();
        let Inner { routing, reads, pins, reruns, .. } = &*self.inner;
        let (routing, reads) = (routing.clone(), reads.clone());
        let (pins, reruns) = (pins.clone(), reruns.clone());
        SessionMetrics::new(labels, cell, Tables { errors, routing, reads, pins, reruns, routes }, stripe)
    }

    /// The handle of a new pool. Nobody need have proved that its database exists.
    pub fn pool(&self, database: &str, user: &str, node: &str) -> PoolMetrics {
        let mut sessions = self.inner.sessions.lock();
        sessions.admit_unproven(database, user);
        let names = PoolNames { database: database.into(), user: user.into(), node: node.into() };
        self.inner.pools.lock().register(names, &sessions)
    }

    /// Follows a change of the configuration: its names are labels before those that clients choose.
    pub fn learn(&self, config: &Config) {
        let databases = config.databases.keys().filter(|name| *name != "*").cloned().collect();
        let users = config.users.keys().cloned().collect();
        self.inner.sessions.lock().learn(Configured { databases, users });
    }

    /// The handle of a node.
    pub fn node(&self, database: &str, node: &str) -> NodeMetrics {
        self.inner.nodes.lock().register(database, node)
    }

    /// The handle of a listening connection of a database.
    pub fn listener(&self, database: &str) -> ListenerMetrics {
        self.inner.listeners.lock().register(database)
    }

    /// The handle of whoever reads a database's catalogs. As many databases become labels as are registered.
    pub fn catalog_of(&self, database: &str) -> CatalogMetrics {
        self.inner.catalogs.lock().register(database)
    }

    /// The handle of a database that Citus may distribute.
    pub fn citus_of(&self, database: &str) -> CitusMetrics {
        self.inner.citus.lock().register(database)
    }

    /// The handle of whoever watches a database's Patroni.
    pub fn patroni(&self, database: &str) -> PatroniMetrics {
        self.inner.patroni.lock().register(database)
    }

    /// The counters of the slow-query log.
    pub fn slow_log(&self) -> Arc<SlowLogCounters> {
        self.inner.slow_log.clone()
    }

    /// An error before there was a session: counted under database `other`, as nobody has yet proved
    /// that the database named exists.
    pub fn error(&self, sqlstate: SqlState, blame: Blame) {
        let table = self.inner.sessions.lock().errors(&OTHER.into());
        table.count(sqlstate, blame);
    }

    /// A client connection was accepted. `kind` is `tcp` or `unix`.
    pub fn accepted(&self, kind: &'static str) {
        publish::increment(&self.inner.recorder, catalog::ACCEPTED, &[("kind", kind)]);
    }

    /// A client connection was closed before it logged in. `cause` is a short fixed word.
    pub fn refused(&self, cause: &'static str) {
        publish::increment(&self.inner.recorder, catalog::REFUSED, &[("cause", cause)]);
    }

    /// A client failed to authenticate.
    pub fn auth_failed(&self, method: AuthMethod) {
        let method = match method {
            AuthMethod::ScramSha256 => "scram-sha-256",
            AuthMethod::Md5 => "md5",
            AuthMethod::Password { .. } => "password",
            AuthMethod::Cert => "cert",
            AuthMethod::Trust => "trust",
            AuthMethod::Reject => "reject",
        };
        publish::increment(&self.inner.recorder, catalog::AUTH_FAILURES, &[("method", method)]);
    }

    /// The configuration was reloaded, or the reload refused.
    pub fn reloaded(&self, applied: bool) {
        self.inner.last_reload_ok.store(applied, Relaxed);
        let outcome = if applied { "applied" } else { "refused" };
        publish::increment(&self.inner.recorder, catalog::RELOADS, &[("outcome", outcome)]);
    }

    /// A panic was caught.
    pub fn panicked(&self) {
        self.inner.panics.fetch_add(1, Relaxed);
    }

    /// So many lines of the program's own log were lost until now.
    pub fn set_log_lines_lost(&self, lines: usize) {
        self.inner.log_lines_lost.store(lines as u64, Relaxed);
    }

    /// The limit on client connections, from the configuration.
    pub fn set_max_clients(&self, limit: u32) {
        self.inner.max_clients.store(limit.into(), Relaxed);
    }

    /// Statistics per database for the console.
    pub fn database_stats(&self) -> Vec<DatabaseStats> {
        let totals = self.inner.sessions.lock().totals();
        self.inner.stats.lock().stats(self.inner.started.elapsed(), &totals)
    }

    /// What became of statements that failed on a replica, by database and cause.
    pub fn reruns(&self) -> BTreeMap<(Arc<str>, &'static str), RerunCounts> {
        self.inner.reruns.counts()
    }

    /// What is counted by statement, by database.
    pub fn route_stats(&self) -> BTreeMap<Arc<str>, Arc<RouteStats>> {
        self.inner.routes.lock().clone()
    }

    /// Moves the console's averages on; [`Self::run`] does it each [`STATS_PERIOD`].
    pub fn tick_stats(&self) {
        let totals = self.inner.sessions.lock().totals();
        self.inner.stats.lock().tick(self.inner.started.elapsed(), &totals);
    }

    /// The text of `/metrics`.
    pub fn render(&self) -> String {
        publish::render(&self.inner)
    }

    /// Upkeep and the console's averages, for as long as the program runs. To be spawned once on the
    /// control plane's runtime; never returns.
    pub async fn run(self) {
        let mut upkeep = beat::every(UPKEEP_PERIOD);
        let mut stats = beat::every(STATS_PERIOD);
        loop {
            tokio::select! {
                _ = upkeep.tick() => self.inner.handle.run_upkeep(),
                _ = stats.tick() => self.tick_stats(),
            }
        }
    }
}
