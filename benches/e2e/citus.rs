//! What the peers of the Citus suite stand before: a stand-in of three plain servers, or the cluster that the environment names.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, ToSocketAddrs};

use tokio_postgres::Config;
use tokio_postgres::config::Host;
use trunkline::app::demo::Cluster;

use super::client::{Keys, Target};
use super::process_tree::{self, ProcessTree};
use super::standin;
use super::support::clusters::{APP, APP_PASSWORD};
use super::support::sql::{block_on, connect_with};

/// The URL of a coordinator, with a user that may make and drop a table there.
const GIVEN: &str = "TRUNKLINE_TEST_CITUS";
/// Distributed by `project_id`, with the key (`project_id`, `id`).
pub const TABLE: &str = "trunkline_bench";
/// Tenants (as in `citus.sql`), and rows of each.
pub const TENANTS: u32 = 1000;
pub const ROWS: u32 = 10;
/// The table on the stand-in.
const ON_STANDIN: &str = include_str!("citus.sql");

/// A Citus cluster with a filled table.
#[derive(Debug)]
pub struct Citus {
    /// The coordinator.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub database: String,
    /// What it is.
    pub what: String,
    /// All servers, if all of them run on this machine.
    pub servers: Option<ProcessTree>,
    keys: Keys,
    /// Of the stand-in.
    nodes: Vec<Cluster>,
}

impl Citus {
    /// Starts the stand-in, unless the environment names a cluster, and fills the table.
    pub fn prepare() -> Self {
        let mut citus = match env::var(GIVEN) {
            Ok(url) => Self::given(&url),
            Err(_) => Self::stand_in(),
        };
        citus.run(&[&format!(
            "INSERT INTO {TABLE} (project_id, id, payload) SELECT n % {TENANTS}, n / {TENANTS}, '{{}}' FROM generate_series(0, {}) AS n",
            TENANTS * ROWS - 1
        )]);
        citus.servers = citus.find_servers();
        citus
    }

    fn stand_in() -> Self {
        let nodes = standin::nodes();
        for node in &nodes {
            node.info().query(0, APP, ON_STANDIN).unwrap_or_else(|error| panic!("{error}"));
        }
        let port = nodes[0].info().primary_port();
        let place = ("127.0.0.1".to_owned(), port);
        let login = [APP, APP_PASSWORD, APP].map(str::to_owned);
        Self::new(place, login, "a stand-in of three plain servers, foreign tables between them", nodes)
    }

    fn given(url: &str) -> Self {
        let config: Config = url.parse().unwrap_or_else(|error| panic!("{GIVEN}: {error}"));
        let Some(Host::Tcp(host)) = config.get_hosts().first() else { panic!("{GIVEN}: a host is needed") };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let needed =
            |what: &str, value: Option<&str>| value.unwrap_or_else(|| panic!("{GIVEN}: a {what} is needed")).to_owned();
        let password = config.get_password().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let login = [
            needed("user", config.get_user()),
            needed("password", password.as_deref()),
            needed("database", config.get_dbname()),
        ];
        let citus = Self::new((host.clone(), port), login, "the cluster that was given", Vec::new());
        citus.run(&[
            "DROP TABLE IF EXISTS trunkline_bench",
            "CREATE TABLE trunkline_bench (project_id bigint, id bigint, payload jsonb, PRIMARY KEY (project_id, id))",
            "SELECT create_distributed_table('trunkline_bench', 'project_id')",
        ]);
        citus
    }

    fn new(place: (String, u16), login: [String; 3], what: &str, nodes: Vec<Cluster>) -> Self {
        let ((host, port), [user, password, database]) = (place, login);
        let (keys, what) = (Keys::new(&password), what.to_owned());
        Self { host, port, user, password, database, what, servers: None, keys, nodes }
    }

    /// A login at whatever listens on this port of 127.0.0.1.
    pub fn target(&self, port: u16) -> Target<'_> {
        Target { port, user: &self.user, database: &self.database, keys: &self.keys, tls: None }
    }

    /// Does something while the coordinator has no foreign table. Citus has none between its nodes; what reads one is no statement for a
    /// worker, so who reads the catalog must not see those of the stand-in.
    pub fn without_foreign_tables<T>(&self, act: impl FnOnce() -> T) -> T {
        let coordinator = self.nodes.first().map(Cluster::info);
        let call = |procedure: &str| {
            coordinator.map(|node| node.query(0, APP, &format!("CALL citus.{procedure}()")).unwrap());
        };
        call("bench_detach");
        let done = act();
        call("bench_attach");
        done
    }

    /// Whether the coordinator itself can be measured: clients of the bench connect to 127.0.0.1 only.
    pub fn is_local(&self) -> bool {
        let mut found = (self.host.as_str(), self.port).to_socket_addrs().into_iter().flatten();
        found.any(|address| address.ip() == Ipv4Addr::LOCALHOST)
    }

    fn config(&self, host: &str, port: u16) -> Config {
        let mut config = Config::new();
        config.host(host).port(port).user(&self.user).password(&self.password).dbname(&self.database);
        config
    }

    /// Runs statements on the coordinator.
    fn run(&self, statements: &[&str]) {
        block_on(async {
            let client = connect_with(&self.config(&self.host, self.port)).await.unwrap();
            for sql in statements {
                client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            }
        });
    }

    /// The postmasters of all nodes. One that runs elsewhere, or in a container, is none of our processes.
    fn find_servers(&self) -> Option<ProcessTree> {
        let roots = block_on(async {
            let coordinator = connect_with(&self.config(&self.host, self.port)).await.unwrap();
            let sql = "SELECT nodename, nodeport FROM pg_dist_node WHERE noderole = 'primary' AND groupid <> 0";
            let mut places = vec![(self.host.clone(), self.port)];
            for row in coordinator.query(sql, &[]).await.unwrap() {
                places.push((row.get(0), u16::try_from(row.get::<_, i32>(1)).unwrap()));
            }
            let mut roots = Vec::new();
            for (host, port) in places {
                let client = connect_with(&self.config(&host, port)).await.ok()?;
                let row =
                    client.query_one("SELECT pg_backend_pid(), coalesce(inet_client_port(), 0)", &[]).await.ok()?;
                let (pid, port): (i32, i32) = (row.get(0), row.get(1));
                // What a backend calls itself has the port of its client.
                let title = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
                let is_ours = String::from_utf8_lossy(&title).contains(&format!("({port})"));
                roots.push(process_tree::parent(u32::try_from(pid).ok().filter(|_| is_ours)?)?);
            }
            Some(roots)
        });
        roots.map(ProcessTree::of)
    }
}

impl Drop for Citus {
    fn drop(&mut self) {
        if self.nodes.is_empty() {
            self.run(&["DROP TABLE trunkline_bench"]);
        }
    }
}
