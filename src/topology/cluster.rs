//! The nodes of one configured database, and its pools.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::auth::{self, AuthContext, AuthQuery, ServerCredential, ServerLogin, StoredSecret};
use crate::backend::{ConnectSpec, Parameters, Settings};
use crate::config::{Config, Database, PoolSettings};
use crate::net::ClientTlsContext;
use crate::observe::Metrics;
use crate::pool::{self, Cap, Gates, Pool};

use super::citus::Citus;
use super::default_path::DefaultPath;
use super::defaults::Defaults;
use super::freshness::{Freshness, Stamps};
use super::node::Node;
use super::roles::Era;

/// The nodes and pools of one configured database. Replaced as a whole when a reload changes the database.
pub struct Cluster {
    /// The configuration.
    pub database: Arc<Database>,
    /// Its nodes, in the order configured.
    pub nodes: Vec<Arc<Node>>,
    /// Looks users up that the configuration does not name.
    pub auth_query: Option<Arc<AuthQuery>>,
    pub(super) tls: Arc<ClientTlsContext>,
    pub(super) gates: Arc<Gates>,
    pub(super) users: Mutex<HashMap<UserKey, Arc<UserPools>>>,
    /// Nobody looks after its pools any more.
    pub(super) closed: AtomicBool,
    pub(super) user_caps: Arc<UserCaps>,
    pub(super) checks: Mutex<Vec<AbortHandle>>,
    /// Told when a node has stopped answering: somebody may wait for it.
    pub(super) lost: Arc<Notify>,
    /// The nodes can be asked over SQL for their roles.
    pub(super) can_be_asked: bool,
    /// The nodes of our own zone, as a bit set; all, when zones do not matter.
    pub(super) near: u64,
    pub(super) era: Arc<Era>,
    /// What is known of its replicas' freshness.
    pub freshness: Arc<Freshness>,
    /// What is known of its workers and shards, if Citus distributes it.
    pub citus: Arc<Citus>,
}

/// Database and user, as the client named them.
pub(super) type UserKey = (String, String);

/// The pools of one (database, user): one per node, in the cluster's order.
pub struct UserPools {
    /// Database as the client named it.
    pub database: String,
    /// The client's user name.
    pub user: String,
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// How its connections log in.
    pub login: PoolLogin,
    /// One per node of the cluster, in its order.
    pub pools: Vec<Arc<Pool>>,
    /// When the tables of the database were written last.
    pub stamps: Arc<Stamps>,
    pub(super) settings: ArcSwap<PoolSettings>,
    /// What servers told a session with these settings about their parameters, for the greeting of the next one.
    pub(super) greetings: Arc<Mutex<HashMap<usize, Greeting>>>,
    /// Numbers of the prepared statements that some server has accepted from this user.
    pub(super) accepted: Arc<Mutex<HashSet<u64>>>,
    /// Set when a session of this user asked for what it last got from a sequence, and its connection had gone to another one:
    /// from then on, who writes keeps its connection.
    pub keeps_sequences: AtomicBool,
    /// Sessions of this user ask in transactions which channels they listen on.
    pub asks_channels: AtomicBool,
    /// What the primary does when sessions of this user do not say otherwise.
    pub defaults: Arc<Defaults>,
    /// Where names without schema lead then.
    pub default_path: Arc<DefaultPath>,
    /// What the coordinator of a Citus cluster tells a session of this user that has set nothing.
    pub server_defaults: Arc<ArcSwap<Parameters>>,
    /// For how many rounds of housekeeping nobody has used them.
    pub(super) unused: AtomicU32,
}

/// How the connections of a user's pools log in. All of them share what proves it, and so do the pools that take their place after a
/// reload: whatever yields a newer one, it is the one for all of them.
#[derive(Debug, Clone)]
pub struct PoolLogin {
    /// User on the servers.
    pub user: String,
    pub(super) credential: Arc<ArcSwap<ServerCredential>>,
}

impl From<ServerLogin> for PoolLogin {
    fn from(login: ServerLogin) -> Self {
        Self { user: login.user, credential: Arc::new(ArcSwap::from_pointee(login.credential)) }
    }
}

impl PoolLogin {
    /// A login has proved this, or the configuration says so.
    fn learn(&self, credential: ServerCredential) {
        if credential != ServerCredential::None && **self.credential.load() != credential {
            self.credential.store(Arc::new(credential));
        }
    }

    /// How the pools of this client log in by a configuration that may be another one: as before, unless it names another user of the
    /// servers. What it says of passwords is newer than what a login has proved.
    pub(super) fn under(&self, config: &Config, database: &Database, client: &str) -> Self {
        let user = config.users.get(client).map(|user| &**user);
        let secret = user.and_then(|user| user.secret.as_ref()).map(|secret| StoredSecret::parse(secret).credential());
        let proven = match secret {
            Some(password @ ServerCredential::Plain(_)) => password,
            _ if self.user == client => ServerCredential::clone(&self.credential.load()),
            _ => ServerCredential::None,
        };
        let login = auth::server_login(database, user, client, &proven);
        if login.user != self.user {
            return login.into();
        }
        self.learn(login.credential);
        self.clone()
    }
}

/// Pools behind `*` that nobody has used for so many rounds, and that have no connection, are forgotten: clients choose the names.
const UNUSED_ROUNDS: u32 = 10;

/// Accepted statements that are remembered before it begins anew.
const MAX_ACCEPTED: usize = 16 * 1024;

/// The settings are held so that their address, the key, stays theirs.
pub(super) type Greeting = (Arc<Settings>, Arc<Parameters>);

/// More different settings than that are not remembered, nor greetings that are so long: each login then asks a server.
const MAX_GREETINGS: usize = 256;
const LONGEST_GREETING: usize = 8 << 10;

/// So many users are remembered, whether they have pools or not.
const MANY_USERS: usize = 1024;

/// The limits on each user's server connections, over all databases.
#[derive(Debug, Default)]
pub struct UserCaps(Mutex<HashMap<String, Arc<Cap>>>);

impl UserCaps {
    fn of(&self, config: &Config, user: &str) -> Arc<Cap> {
        let mut all = self.0.lock();
        if let Some(cap) = all.get(user) {
            return cap.clone();
        }
        if all.len() >= MANY_USERS {
            // Clients may choose the names: those whose pools are forgotten are, too.
            all.retain(|_, cap| Arc::strong_count(cap) > 1);
        }
        let cap = Arc::new(Cap::default());
        cap.set_limit(limit_of(config, user));
        all.insert(user.to_owned(), cap.clone());
        cap
    }

    pub(super) fn apply(&self, config: &Config) {
        for (user, cap) in &*self.0.lock() {
            cap.set_limit(limit_of(config, user));
        }
    }
}

fn limit_of(config: &Config, user: &str) -> Option<u32> {
    config.users.get(user).and_then(|user| user.max_server_connections)
}

impl Cluster {
    /// The pools of a user who has just logged in, made when needed; the login's credential replaces an older one.
    pub fn user_pools(
        self: &Arc<Self>,
        config: &Config,
        database: &str,
        user: &str,
        login: ServerLogin,
        auth: &Arc<AuthContext>,
        metrics: &Metrics,
    ) -> Arc<UserPools> {
        let mut users = self.users.lock();
        let key = (database.to_owned(), user.to_owned());
        if let Some(found) = users.get(&key) {
            if found.login.user == login.user {
                found.login.learn(login.credential);
            }
            return found.clone();
        }
        let made = self.make_pools(config, database, user, login.into(), auth, metrics);
        self.keep(&mut users, key, made)
    }

    /// The pools with which a session goes on that has had others: after a reload these may have been replaced, or closed.
    pub fn pools_after(
        self: &Arc<Self>,
        before: &UserPools,
        config: &Config,
        auth: &Arc<AuthContext>,
        metrics: &Metrics,
    ) -> Arc<UserPools> {
        let mut users = self.users.lock();
        let key = (before.database.clone(), before.user.clone());
        if let Some(found) = users.get(&key) {
            return found.clone();
        }
        let login = before.login.under(config, &self.database, &before.user);
        let made = self.make_pools(config, &before.database, &before.user, login, auth, metrics);
        self.keep(&mut users, key, made)
    }

    /// Keeps pools that were made, or closes them when the cluster was closed since whoever wants them has found it.
    fn keep(&self, users: &mut HashMap<UserKey, Arc<UserPools>>, key: UserKey, made: Arc<UserPools>) -> Arc<UserPools> {
        if self.closed.load(Ordering::Acquire) {
            made.pools.iter().for_each(Pool::close);
        } else {
            users.insert(key, made.clone());
        }
        made
    }

    fn make_pools(
        self: &Arc<Self>,
        config: &Config,
        database: &str,
        user: &str,
        login: PoolLogin,
        auth: &Arc<AuthContext>,
        metrics: &Metrics,
    ) -> Arc<UserPools> {
        let settings = config.pool_settings(&self.database, user);
        let pools = {
            let make = self.pool_maker(config, database, user, &login, auth, metrics);
            self.nodes.iter().map(make).collect()
        };
        Arc::new(UserPools {
            database: database.to_owned(),
            user: user.to_owned(),
            cluster: self.clone(),
            login,
            pools,
            stamps: Stamps::of(self.dbname_of(database)),
            settings: ArcSwap::from_pointee(settings.clone()),
            greetings: Arc::default(),
            accepted: Arc::default(),
            keeps_sequences: AtomicBool::new(false),
            asks_channels: AtomicBool::default(),
            defaults: Arc::default(),
            default_path: Arc::default(),
            server_defaults: Arc::default(),
            unused: AtomicU32::new(0),
        })
    }

    /// What makes the pool of a (database, user) at a node.
    pub(super) fn pool_maker<'a>(
        &'a self,
        config: &'a Config,
        database: &'a str,
        user: &'a str,
        login: &'a PoolLogin,
        auth: &'a Arc<AuthContext>,
        metrics: &'a Metrics,
    ) -> impl Fn(&Arc<Node>) -> Arc<Pool> + 'a {
        let settings = config.pool_settings(&self.database, user);
        let gate = self.gates.of(database);
        let user_cap = self.user_caps.of(config, user);
        move |node| {
            let spec = ConnectSpec {
                database: database.to_owned(),
                node: node.settings.name.clone(),
                hosts: node.settings.hosts.clone(),
                tls: self.tls.clone(),
                dbname: self.dbname_of(database).to_owned(),
                user: login.user.clone(),
                credential: login.credential.clone(),
                auth: auth.clone(),
            };
            let settings = node_settings(&settings, node);
            let metrics = metrics.pool(database, user, &node.settings.name);
            let caps = vec![node.servers.clone(), user_cap.clone()];
            Pool::new(spec, node.load.clone(), gate.clone(), settings, metrics, caps)
        }
    }

    /// The name on the servers of a database that a client has named.
    fn dbname_of<'a>(&'a self, database: &'a str) -> &'a str {
        self.database.dbname.as_deref().unwrap_or(database)
    }

    /// The pools at a node; none when it is another cluster's.
    fn pools_at(&self, node: &Arc<Node>) -> Vec<Arc<Pool>> {
        let index = self.nodes.iter().position(|one| Arc::ptr_eq(one, node));
        index.map_or_else(Vec::new, |index| self.all_pools().iter().map(|user| user.pools[index].clone()).collect())
    }

    /// Sends those away who wait for a connection to the node.
    pub(super) fn turn_away_from(&self, node: &Arc<Node>) {
        self.pools_at(node).iter().for_each(|pool| pool.turn_away());
    }

    /// The node does not answer: what is being opened there for long is given up, and takes nobody's place any more.
    pub(super) fn give_up_at(&self, node: &Arc<Node>) {
        self.pools_at(node).iter().for_each(|pool| pool.give_openings_up());
    }

    /// The node is up again: connections to it may be opened at once.
    pub(super) fn try_again_at(&self, node: &Arc<Node>) {
        self.pools_at(node).iter().for_each(Pool::try_again);
    }

    /// All pools, by database and user.
    pub fn all_pools(&self) -> Vec<Arc<UserPools>> {
        let mut all: Vec<_> = self.users.lock().values().cloned().collect();
        all.sort_by(|a, b| (&a.database, &a.user).cmp(&(&b.database, &b.user)));
        all
    }

    /// One round of housekeeping over all pools.
    pub fn tend(&self) {
        for user in self.all_pools() {
            user.pools.iter().for_each(pool::tend);
        }
        if self.database.name == "*" {
            self.users.lock().retain(|_, user| !user.is_forgotten());
        }
    }

    /// Applies pool settings of a new configuration in which the database itself is unchanged. Pools that log in as another user by it
    /// are closed: sessions find others.
    pub fn apply(&self, config: &Config) {
        self.limit_servers();
        for user in self.all_pools() {
            if user.login.under(config, &self.database, &user.user).user != user.login.user {
                self.users.lock().remove(&(user.database.clone(), user.user.clone()));
                user.pools.iter().for_each(Pool::close);
                continue;
            }
            let settings = config.pool_settings(&self.database, &user.user);
            for (pool, node) in user.pools.iter().zip(&self.nodes) {
                pool.set_settings(node_settings(&settings, node));
            }
            user.settings.store(Arc::new(settings));
        }
    }

    /// The roles have changed: which pools keep a minimum open depends on them.
    pub(super) fn fit_pools(&self) {
        for user in self.all_pools() {
            for (pool, node) in user.pools.iter().zip(&self.nodes) {
                pool.set_settings(node_settings(&user.settings(), node));
            }
        }
    }

    pub(super) fn limit_servers(&self) {
        self.nodes.iter().for_each(|node| node.servers.set_limit(self.database.max_server_connections));
    }

    /// Whether the servers of `database` are reached in the same way (certificates and keys in the same files may be others), and hold
    /// the same database: then nodes that are in both, with their pools and connections, can stay.
    pub(super) fn is_reached_as(&self, database: &Database) -> bool {
        let own = &self.database;
        let adapted = Database {
            nodes: own.nodes.clone(),
            read_only: own.read_only,
            discovery: own.discovery.clone(),
            citus: own.citus.clone(),
            patroni: own.patroni.clone(),
            pool: own.pool.clone(),
            routing: own.routing.clone(),
            slow_query: own.slow_query,
            max_clients: own.max_clients,
            max_server_connections: own.max_server_connections,
            ..database.clone()
        };
        adapted == **own && self.tls.is_up_to_date(&own.tls)
    }

    /// Whether its replicas are asked how fresh they are.
    pub(super) fn is_sampled(&self) -> bool {
        let is_compared = |node: &&Arc<Node>| !node.is_worker() || node.is_secondary();
        self.nodes.iter().filter(is_compared).count() > 1 && self.can_be_asked && !self.database.read_only
    }

    /// Whether its primary can be asked whether Citus distributes the database.
    pub fn can_be_surveyed(&self) -> bool {
        self.can_be_asked && self.database.dbname.is_some() && !self.database.read_only
    }

    pub(super) fn is_paused(&self) -> bool {
        self.gates.find(&self.database.name).is_some_and(|gate| gate.is_paused())
    }

    /// Whether the database is paused; then the connection of `auth_query` is closed, too.
    pub(super) fn let_go_while_paused(&self) -> bool {
        let paused = self.is_paused();
        if let (true, Some(auth_query)) = (paused, &self.auth_query) {
            auth_query.let_go();
        }
        paused
    }

    /// Stops health checks and closes all pools. Sessions that hold a lease finish their transaction.
    pub fn close(&self) {
        // Before its pools are looked for: whoever makes others from now on sees it.
        self.closed.store(true, Ordering::Release);
        self.checks.lock().drain(..).for_each(|check| check.abort());
        for user in self.all_pools() {
            user.pools.iter().for_each(Pool::close);
        }
        // The pools name their cluster: let go of them.
        self.users.lock().clear();
    }
}

/// The settings of the pool at one node. The minimum is for nodes that are used at all: a replica without weight is not.
fn node_settings(settings: &PoolSettings, node: &Node) -> PoolSettings {
    // Each connection to a worker takes one of those that the other nodes may open there.
    let unused = node.is_worker() || (!node.is_primary() && node.weight() == 0);
    PoolSettings { min_size: if unused { 0 } else { settings.min_size }, ..settings.clone() }
}

impl UserPools {
    /// One more round of housekeeping; called with the lock of the map that they are in. Whether nobody else has had them for long, and
    /// nothing is open.
    fn is_forgotten(self: &Arc<Self>) -> bool {
        if Arc::strong_count(self) > 1 || self.pools.iter().any(|pool| pool.held() > 0) {
            self.unused.store(0, Ordering::Relaxed);
            return false;
        }
        self.unused.fetch_add(1, Ordering::Relaxed) >= UNUSED_ROUNDS
    }

    /// The settings in force, shared by all sessions.
    pub fn settings(&self) -> Arc<PoolSettings> {
        self.settings.load_full()
    }

    /// A server of these pools has accepted the Parse of a shared statement.
    pub fn accept_statement(&self, id: u64) {
        let mut accepted = self.accepted.lock();
        if accepted.len() >= MAX_ACCEPTED {
            accepted.clear();
        }
        accepted.insert(id);
    }

    /// Whether a server of these pools has once accepted the Parse of a shared statement. It may refuse it today, when a table
    /// is gone; then it says so at the Bind.
    pub fn has_accepted(&self, id: u64) -> bool {
        self.accepted.lock().contains(&id)
    }

    /// What a server reported under these settings, when a session with them has logged in before.
    pub fn greeting(&self, settings: &Arc<Settings>) -> Option<Arc<Parameters>> {
        self.greetings.lock().get(&Arc::as_ptr(settings).addr()).map(|(_, parameters)| parameters.clone())
    }

    /// Remembers what a server reported under these settings.
    pub fn remember_greeting(&self, settings: &Arc<Settings>, parameters: Arc<Parameters>) {
        if parameters.bytes() > LONGEST_GREETING {
            return;
        }
        let mut greetings = self.greetings.lock();
        if greetings.len() >= MAX_GREETINGS {
            greetings.clear();
        }
        greetings.insert(Arc::as_ptr(settings).addr(), (settings.clone(), parameters));
    }
}
