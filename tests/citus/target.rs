//! What a test of a cluster is given: the stand-in, or a real Citus, and a Trunkline before it. The same statements make the tables on
//! both, in a schema of the test's own.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use tokio::runtime::Runtime;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, SimpleQueryMessage};
use trunkline::app::demo::Cluster;

use super::fixture::{self, DISTRIBUTING};
use crate::support::clusters::{APP, APP_PASSWORD, SUPERUSER_PASSWORD};
use crate::support::frames::{Batch, Frame};
use crate::support::process::{Setup, Trunkline};
use crate::support::raw::RawClient;
use crate::support::sql::{connect_with, psql_as};

/// The schema of all that is made. Dropped at the end, and by the next start if there was none.
pub const SCHEMA: &str = "trunkline_test";
/// The table of tenants, by bigint.
pub const TENANTS: &str = "trunkline_test.t0";

/// The types of the distribution columns of `t0`, `t1`, …
pub const TYPES: [&str; 12] = [
    "bigint",
    "integer",
    "smallint",
    "text",
    "varchar(40)",
    "char(20)",
    "uuid",
    "boolean",
    "date",
    "timestamp",
    "timestamptz",
    "bytea",
];

/// A key of [`TENANTS`], and the group that has its shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    pub key: String,
    pub group: String,
}

/// A cluster, and a Trunkline that is told of its coordinator alone. What a node is called is the number of its group.
pub struct Target {
    /// The program under test; before the servers, so that it ends first.
    pub proxy: Trunkline,
    runtime: Runtime,
    /// To each node, past the proxy.
    nodes: BTreeMap<u32, Client>,
    coordinator: Config,
    marks: Cell<u32>,
    _standin: Vec<Cluster>,
}

/// The first host and port.
fn address(config: &Config) -> (String, u16) {
    match config.get_hosts().first() {
        Some(Host::Tcp(host)) => (host.clone(), config.get_ports().first().copied().unwrap_or(5432)),
        other => panic!("TRUNKLINE_TEST_CITUS needs a host: {other:?}"),
    }
}

/// The same user and database elsewhere.
fn at(config: &Config, host: &str, port: u16) -> Config {
    let mut other = Config::new();
    other.user(config.get_user().unwrap()).password(config.get_password().unwrap_or_default());
    other.dbname(config.get_dbname().unwrap()).host(host).port(port).application_name("test");
    other
}

/// The configuration of a Trunkline before it, with these lines for its workers.
fn configuration(coordinator: &Config, citus: &str) -> String {
    let (host, port) = address(coordinator);
    let (user, database) = (coordinator.get_user().unwrap(), coordinator.get_dbname().unwrap());
    let password = String::from_utf8_lossy(coordinator.get_password().unwrap_or_default());
    format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n[metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n\
         [admin]\nadmin_users = [\"{user}\"]\n[users.{user}]\npassword = \"{password}\"\n\
         [databases.app]\ndbname = \"{database}\"\ncontrol_user = \"{user}\"\ncontrol_password = \"{password}\"\n\
         [databases.app.citus]\ninterval = \"200ms\"\n{citus}\n\
         [[databases.app.nodes]]\nname = \"coordinator\"\nhost = \"{host}\"\nport = {port}\n"
    )
}

impl Target {
    /// The stand-in.
    pub fn standin() -> Self {
        let nodes = fixture::nodes();
        for (group, node) in nodes.iter().enumerate() {
            let group = format!("group={group}");
            let port = node.info().primary_port();
            let done = psql_as(port, "app", "postgres", SUPERUSER_PASSWORD, DISTRIBUTING, &["-v", &group]);
            assert_eq!(done.code, 0, "{}", done.stderr);
        }
        let mut coordinator = Config::new();
        coordinator.host("127.0.0.1").port(nodes[0].info().primary_port());
        coordinator.user(APP).password(APP_PASSWORD).dbname("app");
        Self::new(coordinator, nodes)
    }

    /// The cluster that `TRUNKLINE_TEST_CITUS` names: `postgres://user:password@coordinator:5432/database`, of a user who may make tables
    /// and distribute them.
    pub fn real() -> Option<Self> {
        let url = std::env::var("TRUNKLINE_TEST_CITUS").ok()?;
        Some(Self::new(url.parse().unwrap(), Vec::new()))
    }

    fn new(coordinator: Config, standin: Vec<Cluster>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (host, port) = address(&coordinator);
        let connect = |host: &str, port| runtime.block_on(connect_with(&at(&coordinator, host, port))).unwrap();
        let mut nodes = BTreeMap::from([(0, connect(&host, port))]);
        let workers = "SELECT groupid || ' ' || nodename || ' ' || nodeport FROM pg_dist_node \
            WHERE noderole = 'primary' AND isactive AND groupid > 0";
        for row in column(&runtime, &nodes[&0], workers) {
            let [group, host, port] = row.split(' ').collect::<Vec<_>>().try_into().unwrap();
            nodes.insert(group.parse().unwrap(), connect(host, port.parse().unwrap()));
        }
        let proxy = Setup::config(configuration(&coordinator, "")).start();
        let target = Self { proxy, runtime, nodes, coordinator, marks: Cell::new(0), _standin: standin };
        target.make_tables();
        target.settle();
        target
    }

    /// DDL goes to the coordinator, whoever carries it.
    fn make_tables(&self) {
        let mut client = self.client();
        client.rows(&format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"));
        client.rows(&format!("CREATE SCHEMA {SCHEMA}"));
        for (number, name) in TYPES.iter().enumerate() {
            let table = format!("{SCHEMA}.t{number}");
            client.rows(&format!("CREATE TABLE {table} (k {name} NOT NULL, v text)"));
            client.rows(&format!("SELECT create_distributed_table('{table}', 'k', colocate_with => 'none')"));
        }
        client.rows(&format!("CREATE TABLE {SCHEMA}.plans (id int NOT NULL, name text)"));
        client.rows(&format!("INSERT INTO {SCHEMA}.plans VALUES (1, 'free'), (2, 'paid')"));
        client.rows(&format!("SELECT create_reference_table('{SCHEMA}.plans')"));
        client.rows(&format!("CREATE TABLE {SCHEMA}.local_only (id int NOT NULL, v text)"));
        client.rows(&format!("INSERT INTO {SCHEMA}.local_only VALUES (1, 'on the coordinator')"));
    }

    /// Waits until the workers and the tables are known, and the catalog is relied on.
    pub fn settle(&self) {
        let workers = (self.nodes.len() - 1).to_string();
        let mut console = self.console();
        self.until("the cluster is known", || {
            console.value("SELECT count(*) FROM citus WHERE used = 'yes'") == workers
                && console.value("SELECT relied_on FROM catalog") == "yes"
        });
        let mut client = self.client();
        let [one, _] = self.tenants();
        self.until("the tables are known", || self.node_of(&mut client, &read(&one)) == one.group);
    }

    /// Other lines for the database's workers.
    pub fn reconfigure(&self, citus: &str) {
        self.proxy.rewrite_config(&configuration(&self.coordinator, citus));
        self.console().rows("RELOAD");
    }

    pub fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        fixture::until(&self.proxy, what, holds);
    }

    fn connect(&self, database: &str) -> RawClient {
        let password = String::from_utf8_lossy(self.coordinator.get_password().unwrap_or_default()).into_owned();
        RawClient::connect(self.proxy.port(), self.coordinator.get_user().unwrap(), &password, database)
    }

    /// A client behind the proxy.
    pub fn client(&self) -> RawClient {
        self.connect("app")
    }

    /// A client of the console.
    pub fn console(&self) -> RawClient {
        self.connect("trunkline")
    }

    /// The first column of what a node answers, past the proxy.
    pub fn run(&self, group: u32, sql: &str) -> Vec<String> {
        column(&self.runtime, &self.nodes[&group], sql)
    }

    /// The groups of all nodes.
    pub fn groups(&self) -> BTreeSet<String> {
        self.nodes.keys().map(u32::to_string).collect()
    }

    /// Tenants of two workers.
    pub fn tenants(&self) -> [Tenant; 2] {
        let sql = format!(
            "SELECT DISTINCT ON (groupid) n || ' ' || groupid \
             FROM (SELECT n, get_shard_id_for_distribution_column('{TENANTS}', n::bigint) AS shardid FROM generate_series(1, 100) AS n) AS s \
             JOIN pg_dist_placement USING (shardid) WHERE groupid > 0 ORDER BY groupid, n LIMIT 2"
        );
        let tenants = self.run(0, &sql).into_iter().map(|row| {
            let (key, group) = row.split_once(' ').unwrap();
            Tenant { key: key.to_owned(), group: group.to_owned() }
        });
        tenants.collect::<Vec<_>>().try_into().unwrap_or_else(|found| panic!("two workers must have shards: {found:?}"))
    }

    /// A comment that no other statement has.
    pub fn mark(&self) -> String {
        self.marks.set(self.marks.get() + 1);
        format!("/* {SCHEMA} {} {}. */", self.proxy.pid(), self.marks.get())
    }

    /// Which statement with this in it each server connection has run last, and where: those of Citus' own have no comments.
    pub fn last_with(&self, mark: &str) -> BTreeSet<(String, String)> {
        let sql = format!(
            "SELECT query_start || ' ' || query FROM pg_stat_activity \
             WHERE pid <> pg_backend_pid() AND position('{mark}' in query) > 0"
        );
        let of = |group: u32| self.run(group, &sql).into_iter().map(move |query| (group.to_string(), query));
        self.nodes.keys().copied().flat_map(of).collect()
    }

    /// Where statements with this mark run that are run now.
    pub fn nodes_of(&self, mark: &str, run: impl FnOnce()) -> Vec<String> {
        let before = self.last_with(mark);
        run();
        self.last_with(mark).difference(&before).map(|(group, _)| group.clone()).collect()
    }

    /// Where a statement runs; or else the SQLSTATE that it fails with.
    pub fn node_of(&self, client: &mut RawClient, sql: &str) -> String {
        self.node_by(client, sql, false)
    }

    /// The same in either protocol.
    pub fn node_by(&self, client: &mut RawClient, sql: &str, extended: bool) -> String {
        let mark = self.mark();
        let sql = format!("{sql} {mark}");
        let batch = if extended { Batch::new().run(&sql, &[]).sync() } else { Batch::new().query(&sql) };
        let mut failed = None;
        let nodes = self.nodes_of(&mark, || {
            let frames: Vec<Frame> = client.exchange(&batch);
            failed = frames.iter().find(|frame| frame.tag == b'E').map(Frame::sqlstate);
        });
        failed.unwrap_or_else(|| nodes.join(", "))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let sql = format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE");
        if let Err(error) = self.runtime.block_on(self.nodes[&0].batch_execute(&sql)) {
            eprintln!("{SCHEMA} is still there: {error}");
        }
    }
}

/// A read of one tenant.
pub fn read(tenant: &Tenant) -> String {
    format!("SELECT v FROM {TENANTS} WHERE k = {}", tenant.key)
}

/// The first column of all rows.
fn column(runtime: &Runtime, client: &Client, sql: &str) -> Vec<String> {
    let messages = runtime.block_on(client.simple_query(sql)).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("").to_owned()),
        _ => None,
    });
    rows.collect()
}
