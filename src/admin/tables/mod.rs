//! The tables of `SHOW`: columns and order are PgBouncer's, so that what reads its console reads ours; columns of our own
//! stand on the right, tables of our own have other names.

mod catalog;
mod citus;
mod config;
mod connections;
mod databases;
mod healing;
mod lists;
mod memory;
mod nodes;
mod patroni;
mod pins;
mod pools;
mod prepared;
pub mod route;
mod routes;
mod small;
mod stats;
mod users;

pub use config::has as config_has;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::is_console;
use super::value::{Column, Kind, Rows, Value};
use crate::config::{Config, Database, PoolMode};
use crate::session::{Client, Context};
use crate::topology::{Cluster, UserPools};

/// A table of `SHOW`.
#[derive(Debug)]
pub struct Table {
    /// Its name, lower case.
    pub name: &'static str,
    /// What it shows, for `SHOW HELP`.
    pub help: &'static str,
    /// Its columns.
    pub columns: &'static [Column],
    /// Its rows now.
    pub rows: fn(&View<'_>) -> Rows,
}

/// There is one of each.
impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

macro_rules! tables {
    ($($name:literal, $help:literal, $columns:expr, $rows:expr;)+) => {
        &[$(Table { name: $name, help: $help, columns: $columns, rows: $rows },)+]
    };
}

/// All tables, in the order of `SHOW HELP`.
pub const ALL: &[Table] = tables! {
    "pools", "pools by database and user", pools::COLUMNS, pools::rows;
    "pools_extended", "pools by database, user and node", pools::EXTENDED, pools::extended_rows;
    "clients", "client connections", connections::COLUMNS, connections::clients;
    "servers", "server connections", connections::COLUMNS, connections::servers;
    "servers_extended", "server connections with their nodes", connections::EXTENDED, connections::servers_extended;
    "sockets", "client and server connections", connections::SOCKETS, connections::sockets;
    "active_sockets", "client and server connections in use", connections::SOCKETS, connections::active_sockets;
    "databases", "databases of the configuration", databases::COLUMNS, databases::rows;
    "nodes", "nodes, their health and load", nodes::COLUMNS, nodes::rows;
    "citus", "nodes and shards of databases that Citus distributes, and what goes there", citus::COLUMNS, citus::rows;
    "patroni", "whether Patroni answers, and whom it names", patroni::COLUMNS, patroni::rows;
    "catalog", "what is known of functions and relations, by database", catalog::COLUMNS, catalog::rows;
    "pins", "sessions that keep a server connection to themselves", pins::COLUMNS, pins::rows;
    "learned", "statements that replicas have refused, kept on the primary", healing::LEARNED, healing::learned;
    "reruns", "statements that failed on a replica", healing::RERUNS, healing::reruns;
    "routes", "where statements go, why, and what time that takes", routes::ROUTES, routes::routes;
    "breakers", "statements that have failed of late, and whether they are refused (routing.breaker_failures)", healing::BREAKERS, healing::breakers;
    "whatif", "where statements would go (routing.what_if)", routes::WHAT_IF, routes::what_if;
    "prepared", "prepared statements that clients share", prepared::COLUMNS, prepared::rows;
    "users", "users and their limits", users::COLUMNS, users::rows;
    "stats", "totals and averages by database", stats::COLUMNS, stats::rows;
    "stats_totals", "totals by database", stats::TOTALS, stats::totals;
    "stats_averages", "averages by database", stats::AVERAGES, stats::averages;
    "totals", "totals and averages of all", stats::SUM, stats::sum;
    "lists", "numbers of things", lists::COLUMNS, lists::rows;
    "config", "the configuration in PgBouncer's terms", config::COLUMNS, config::rows;
    "mem", "memory", memory::COLUMNS, memory::rows;
    "state", "whether the proxy is at work", small::STATE, small::state;
    "version", "the version", small::VERSION, small::version;
    "peers", "always empty: there are no peers", small::PEERS, small::nothing;
    "peer_pools", "always empty: there are no peers", small::PEER_POOLS, small::nothing;
    "dns_hosts", "names of servers, as they were looked up last", small::DNS_HOSTS, small::dns_hosts;
    "dns_zones", "always empty: names are looked up, zones are not", small::DNS_ZONES, small::nothing;
};

/// What the tables look at, taken once for one answer.
pub struct View<'a> {
    /// What all sessions share.
    pub ctx: &'a Context,
    /// The configuration in force.
    pub config: Arc<Config>,
    /// All clients, by id.
    pub clients: Vec<Arc<Client>>,
    /// All clusters.
    pub clusters: Arc<BTreeMap<String, Arc<Cluster>>>,
    /// All pools, by cluster, database and user.
    pub pools: Vec<Arc<UserPools>>,
}

impl<'a> View<'a> {
    /// Looks now.
    pub fn new(ctx: &'a Context) -> Self {
        let clusters = ctx.directory.clusters();
        let pools = clusters.values().flat_map(|cluster| cluster.all_pools()).collect();
        Self { ctx, config: ctx.config.load_full(), clients: ctx.clients.all(), clusters, pools }
    }

    /// Every database that clients can name or have named, without the console: name, and what the configuration says.
    pub fn databases(&self) -> BTreeMap<String, Arc<Database>> {
        let configured = self.config.databases.iter().filter(|(name, _)| *name != "*");
        let mut all: BTreeMap<_, _> = configured.map(|(name, database)| (name.clone(), database.clone())).collect();
        for pools in &self.pools {
            all.entry(pools.database.clone()).or_insert_with(|| pools.cluster.database.clone());
        }
        all
    }

    /// Server connections that are open in the pools that `wanted` names.
    pub fn server_count(&self, wanted: impl Fn(&UserPools) -> bool) -> usize {
        let pools = self.pools.iter().filter(|pools| wanted(pools)).flat_map(|pools| &pools.pools);
        pools.map(|pool| pool.servers().len()).sum()
    }

    /// Clients that `wanted` names.
    pub fn client_count(&self, wanted: impl Fn(&Client) -> bool) -> usize {
        self.clients.iter().filter(|client| wanted(client)).count()
    }

    /// Clients of the console.
    pub fn console_clients(&self) -> usize {
        self.client_count(|client| is_console(&client.database))
    }
}

fn mode(mode: PoolMode) -> Value {
    Value::from(match mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
        PoolMode::Statement => "statement",
    })
}

/// A moment, as PgBouncer writes it.
fn moment(at: SystemTime) -> Value {
    let text = jiff::Timestamp::try_from(at).map(|at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
    Value::maybe(text.ok())
}

/// Whole seconds, and the microseconds behind them.
fn seconds(us: u64) -> [Value; 2] {
    [Value::count(us / 1_000_000), Value::count(us % 1_000_000)]
}

/// Two lists of columns as one.
const fn join<const N: usize>(left: &[Column], right: &[Column]) -> [Column; N] {
    assert!(left.len() + right.len() == N);
    let mut all = [Column { name: "", kind: Kind::Text }; N];
    let mut index = 0;
    while index < N {
        all[index] = if index < left.len() { left[index] } else { right[index - left.len()] };
        index += 1;
    }
    all
}
