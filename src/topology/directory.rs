//! All clusters, by the configuration that they were made from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::auth::{AuthContext, AuthQuery};
use crate::config::{Config, Database, NodeSettings};
use crate::net::control::ControlSettings;
use crate::net::{ClientTlsContext, TlsError, control};
use crate::observe::{Metrics, Moment};
use crate::pool::{Gates, Pool};

use super::citus::Citus;
use super::cluster::{Cluster, UserCaps};
use super::freshness::{self, Stamps};
use super::health;
use super::node::Node;
use super::roles::Era;
use super::succession::{Makings, near};

/// No such database is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("database is not configured")]
pub struct UnknownDatabase;

/// Longest name that servers keep (`NAMEDATALEN` - 1).
const MAX_NAME: usize = 63;

/// The clusters in force. Swapped whole by a reload; sessions find their cluster's successor through it.
pub struct Directory {
    clusters: ArcSwap<BTreeMap<String, Arc<Cluster>>>,
    control: Handle,
    metrics: Metrics,
    /// What administrators have decided about databases.
    pub gates: Arc<Gates>,
    /// Shared state of authentication.
    pub auth: Arc<AuthContext>,
    user_caps: Arc<UserCaps>,
    /// Wakes whoever looks after the maps of Citus clusters.
    surveys: Notify,
    /// Told when a node has stopped answering, or another one takes writes: who waits for one that is lost is to be looked at.
    pub lost: Arc<Notify>,
    /// Held by whoever changes the clusters.
    changing: Mutex<()>,
}

impl Directory {
    /// The clusters of a configuration; health checks start on the runtime `control`.
    ///
    /// # Errors
    /// TLS files of a database that cannot be used.
    pub fn new(config: &Config, control: Handle, metrics: Metrics, auth: Arc<AuthContext>) -> Result<Self, TlsError> {
        Stamps::begin();
        let directory = Self {
            clusters: ArcSwap::default(),
            control,
            metrics,
            gates: Arc::default(),
            auth,
            user_caps: Arc::default(),
            surveys: Notify::new(),
            lost: Arc::default(),
            changing: Mutex::default(),
        };
        directory.apply(config)?;
        Ok(directory)
    }

    /// What a client means by a database's name: one that is configured, or else what servers make of it, which cut longer ones. Nobody
    /// may fill memory or metrics with names behind `*`.
    pub fn name_meant<'n>(&self, asked: &'n str) -> &'n str {
        if asked.len() <= MAX_NAME || self.clusters.load().contains_key(asked) {
            return asked;
        }
        &asked[..asked.floor_char_boundary(MAX_NAME)]
    }

    /// The cluster that serves a database name.
    ///
    /// # Errors
    /// [`UnknownDatabase`].
    pub fn cluster(&self, database: &str) -> Result<Arc<Cluster>, UnknownDatabase> {
        let clusters = self.clusters.load();
        clusters.get(database).or_else(|| clusters.get("*")).cloned().ok_or(UnknownDatabase)
    }

    /// The cluster for a client to which databases do not matter (physical replication, which programs ask for with
    /// `replication` or nothing as the database's name): the one that serves the name, or else the only one there is.
    pub fn cluster_of_any(&self, database: &str) -> Option<Arc<Cluster>> {
        let clusters = self.clusters.load();
        let only = || clusters.values().next().filter(|_| clusters.len() == 1).cloned();
        self.cluster(database).ok().or_else(only)
    }

    /// Wakes whoever looks after the maps of Citus clusters.
    pub fn surveys(&self) -> &Notify {
        &self.surveys
    }

    /// The runtime of the control plane.
    pub fn control(&self) -> &Handle {
        &self.control
    }

    /// All clusters, by configured name.
    pub fn clusters(&self) -> Arc<BTreeMap<String, Arc<Cluster>>> {
        self.clusters.load_full()
    }

    /// Whether a node of any of them does not answer.
    pub fn misses_a_node(&self) -> bool {
        self.clusters.load().values().any(|cluster| cluster.nodes.iter().any(|node| !node.load.is_up()))
    }

    /// Waits until it is known how fresh every replica is that tells, so that the first reads may run there; not for long.
    pub async fn first_look(&self, patience: Duration) {
        let looks = async {
            for cluster in self.clusters().values().filter(|cluster| cluster.is_sampled()) {
                let mut advances = cluster.freshness.advances();
                let knows = |node: &Arc<Node>| node.is_primary() || node.load.horizon.get() != Moment::NEVER;
                while !cluster.nodes.iter().filter(|node| !node.is_worker()).all(knows) {
                    if advances.changed().await.is_err() {
                        break;
                    }
                }
            }
        };
        let _ = tokio::time::timeout(patience, looks).await;
    }

    /// Makes the clusters those of `config`. Databases whose servers are reached as before keep their nodes, health and
    /// connections; the other ones are closed once their successors are in place.
    ///
    /// # Errors
    /// TLS files that cannot be used; then nothing has changed.
    pub fn apply(&self, config: &Config) -> Result<(), TlsError> {
        self.auth.learn(config, &self.control);
        self.metrics.learn(config);
        let _changing = self.changing.lock();
        let old = self.clusters.load_full();
        let mut made = BTreeMap::new();
        for (name, database) in &config.databases {
            let before = old.get(name);
            if !before.is_some_and(|cluster| cluster.is_reached_as(database)) {
                made.insert(name.clone(), self.make(database, config, before)?);
            }
        }
        // Nothing is refused any more: what they share with those that they replace may change.
        made.iter().for_each(|(name, cluster)| cluster.begin(old.get(name).map(|before| &**before)));
        self.user_caps.apply(config);
        let mut new = made;
        let mut closing = Vec::new();
        let makings = Makings { config, auth: &self.auth, metrics: &self.metrics };
        for (name, database) in &config.databases {
            let Some(before) = old.get(name).filter(|_| !new.contains_key(name)) else { continue };
            let cluster = if before.database == *database && before.is_near_as(config) {
                before.apply(config);
                before.clone()
            } else {
                let (cluster, pools) = before.succeeded_by(database, &before.nodes_of(database), &makings);
                closing.extend(pools);
                cluster
            };
            new.insert(name.clone(), cluster);
        }
        for (name, cluster) in &new {
            if !old.get(name).is_some_and(|before| Arc::ptr_eq(before, cluster)) {
                health::start(cluster, &self.control, &self.metrics);
                freshness::start(cluster, &self.control);
            }
        }
        self.clusters.store(Arc::new(new.clone()));
        for (name, cluster) in old.iter() {
            if !new.get(name).is_some_and(|after| Arc::ptr_eq(after, cluster)) {
                // What a successor took over is no longer there to be closed.
                cluster.close();
            }
        }
        closing.iter().for_each(Pool::close);
        self.surveys.notify_one();
        Ok(())
    }

    /// Makes these the replicas of a database besides the configured ones. `false` = they are so already.
    pub fn adopt(&self, config: &Config, name: &str, discovered: Vec<NodeSettings>) -> bool {
        self.replace_found(config, name, discovered, |era| &era.discovered)
    }

    /// Makes the workers that its coordinator names nodes of a database. `false` = they are so already.
    pub fn adopt_workers(&self, config: &Config, name: &str) -> bool {
        let Some(workers) = self.clusters.load().get(name).map(|cluster| cluster.citus.workers()) else { return false };
        self.replace_found(config, name, workers, |era| &era.workers)
    }

    /// Replaces the nodes of a database that were found, of one kind.
    fn replace_found(
        &self,
        config: &Config,
        name: &str,
        found: Vec<NodeSettings>,
        place: impl Fn(&Era) -> &Mutex<Vec<NodeSettings>>,
    ) -> bool {
        let _changing = self.changing.lock();
        let old = self.clusters.load_full();
        let Some(before) = old.get(name) else { return false };
        if *place(&before.era).lock() == found {
            return false;
        }
        *place(&before.era).lock() = found;
        let nodes = before.nodes_of(&before.database);
        let makings = Makings { config, auth: &self.auth, metrics: &self.metrics };
        let (cluster, closing) = before.succeeded_by(&before.database, &nodes, &makings);
        health::start(&cluster, &self.control, &self.metrics);
        freshness::start(&cluster, &self.control);
        let mut new = (*old).clone();
        new.insert(name.to_owned(), cluster);
        self.clusters.store(Arc::new(new));
        before.close();
        closing.iter().for_each(Pool::close);
        true
    }

    /// A cluster that is to [`Cluster::begin`]; until then nothing has changed for the one whose place it takes, if there is one.
    fn make(
        &self,
        database: &Arc<Database>,
        config: &Config,
        before: Option<&Arc<Cluster>>,
    ) -> Result<Arc<Cluster>, TlsError> {
        let tls = ClientTlsContext::load(&database.tls)?;
        let can_be_asked = database.control_user.is_some() || database.server_user.is_some();
        let settings = before.map_or_else(|| database.nodes.clone(), |before| before.members_of(database));
        let node = |settings: &NodeSettings| {
            let known = before.and_then(|before| before.node_again(settings, can_be_asked));
            known.unwrap_or_else(|| Node::new(settings.clone(), self.metrics.node(&database.name, &settings.name)))
        };
        let nodes: Vec<_> = settings.iter().map(node).collect();
        let auth_query = database.auth_query.as_ref().and_then(|sql| {
            let pool = control::pool(control_settings(database, nodes.first()?, &tls)?).ok()?;
            Some(Arc::new(AuthQuery::new(pool, sql.clone(), self.control.clone())))
        });
        Ok(Arc::new(Cluster {
            database: database.clone(),
            can_be_asked,
            near: near(&settings, config.zone.as_deref()),
            era: before.map(|before| before.era.clone()).unwrap_or_default(),
            freshness: before.map(|before| before.freshness.clone()).unwrap_or_default(),
            citus: Arc::new(Citus::new(self.metrics.citus_of(&database.name))),
            nodes,
            auth_query,
            tls,
            gates: self.gates.clone(),
            users: Default::default(),
            closed: Default::default(),
            user_caps: self.user_caps.clone(),
            checks: Default::default(),
            lost: self.lost.clone(),
        }))
    }
}

/// Most bytes of an answer to the control plane; catalogs are longer.
const MAX_ANSWER: u64 = 16 << 20;

/// How the control plane connects to a node; `None` when no user for it is configured.
pub(super) fn control_settings(
    database: &Database,
    node: &Node,
    tls: &Arc<ClientTlsContext>,
) -> Option<ControlSettings> {
    let (user, password) = match (&database.control_user, &database.server_user) {
        (Some(user), _) => (user, database.control_password.as_ref().or(database.server_password.as_ref())),
        (None, Some(user)) => (user, database.server_password.as_ref()),
        (None, None) => return None,
    };
    let dbname = database.dbname.clone().unwrap_or_else(|| match database.name.as_str() {
        "*" => "postgres".to_owned(),
        name => name.to_owned(),
    });
    Some(ControlSettings {
        hosts: node.settings.hosts.clone(),
        dbname,
        user: user.clone(),
        password: password.cloned(),
        tls: tls.clone(),
        max_size: 2,
        connect_timeout: database.routing.health_timeout,
        application_name: "trunkline".to_owned(),
        max_answer: MAX_ANSWER,
    })
}
