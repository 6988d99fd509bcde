//! The stand-in for a Citus cluster: three plain servers with Citus' catalogs, a coordinator and two workers, and a Trunkline that is
//! told of the coordinator alone. As with Citus, every node answers every query.

use std::thread;
use std::time::{Duration, Instant};

use trunkline::app::demo::{Cluster, ClusterOptions};

use crate::support::clusters::{self, APP, APP_PASSWORD, SUPERUSER_PASSWORD};
use crate::support::process::{Setup, Trunkline};
use crate::support::raw::RawClient;
use crate::support::sql::psql_as;

/// Longest wait for something that takes a moment.
pub const PATIENCE: Duration = Duration::from_secs(30);

const STANDIN: &str = include_str!("standin.sql");
const KEYS: &str = include_str!("keys.sql");
/// What distributes tables, on top of both.
pub const DISTRIBUTING: &str = include_str!("distributing.sql");

/// A Trunkline before a coordinator, and its workers.
pub struct Fixture {
    /// The program under test; before the servers, so that it ends first.
    pub proxy: Trunkline,
    /// By group: the coordinator and two workers.
    pub nodes: Vec<Cluster>,
}

/// A configuration with these lines for the database, and those for its workers.
pub fn config(coordinator: u16, database: &str, citus: &str) -> String {
    format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n\
         [metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n\
         [admin]\nadmin_users = [\"{APP}\"]\n\
         [users.{APP}]\npassword = \"{APP_PASSWORD}\"\n\
         [databases.app]\ncontrol_user = \"{APP}\"\ncontrol_password = \"{APP_PASSWORD}\"\n{database}\n\
         [databases.app.citus]\ninterval = \"200ms\"\n{citus}\n\
         [[databases.app.nodes]]\nname = \"coordinator\"\nhost = \"127.0.0.1\"\nport = {coordinator}\n"
    )
}

/// Three servers, which know of each other.
pub fn nodes() -> Vec<Cluster> {
    nodes_with(0)
}

/// The same, each with so many standbys, of which Citus does not know.
pub fn nodes_with(standbys: usize) -> Vec<Cluster> {
    let options = move || ClusterOptions {
        replicas: standbys,
        hba: vec!["host all postgres 127.0.0.1/32 trust".to_owned()],
        ..clusters::options()
    };
    let starting: Vec<_> = (0..3).map(|_| thread::spawn(move || clusters::start(options()))).collect();
    let nodes: Vec<Cluster> = starting.into_iter().map(|thread| thread.join().unwrap()).collect();
    let ports = nodes.iter().map(|node| node.info().primary_port().to_string()).collect::<Vec<_>>().join(",");
    let settling: Vec<_> = nodes
        .iter()
        .enumerate()
        .map(|(group, node)| {
            let (port, ports) = (node.info().primary_port(), format!("ports={ports}"));
            thread::spawn(move || {
                let group = format!("group={group}");
                let script = [STANDIN, KEYS].concat();
                let args = ["-v", &group, "-v", &ports, "-v", "fdwuser=postgres"];
                psql_as(port, "app", "postgres", SUPERUSER_PASSWORD, &script, &args)
            })
        })
        .collect();
    for thread in settling {
        let done = thread.join().unwrap();
        assert_eq!(done.code, 0, "{}", done.stderr);
    }
    nodes.iter().for_each(|node| node.info().wait_replayed().unwrap());
    nodes
}

/// Waits until this holds.
pub fn until(proxy: &Trunkline, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}\n{}", proxy.log());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Says which node answers, of a tenant.
pub fn read(tenant: &str) -> String {
    format!("SELECT w.node, (SELECT count(*) FROM k0 WHERE k = {tenant}) FROM whoami AS w")
}

/// A tenant of each worker.
pub fn tenants(fixture: &Fixture) -> [String; 2] {
    [1, 2].map(|group| {
        let sql = format!(
            "SELECT n FROM generate_series(1, 1000) AS n, pg_dist_shard JOIN pg_dist_placement USING (shardid) \
             WHERE logicalrelid = 'k0'::regclass AND groupid = {group} \
             AND hashint8(n) BETWEEN shardminvalue::int8 AND shardmaxvalue::int8 LIMIT 1"
        );
        fixture.run(0, &sql)
    })
}

impl Fixture {
    /// With these lines for the database's workers.
    pub fn new(citus: &str) -> Self {
        let nodes = nodes();
        let proxy = Setup::config(config(nodes[0].info().primary_port(), "", citus)).start();
        let fixture = Self { proxy, nodes };
        fixture.settle();
        fixture
    }

    /// Waits until the workers are known and used, and the catalog is relied on.
    pub fn settle(&self) {
        let mut console = self.console();
        self.until("SHOW CITUS", || {
            console.value("SELECT count(*) FROM citus WHERE used = 'yes'") == "2"
                && console.value("SELECT relied_on FROM catalog") == "yes"
        });
    }

    pub fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        until(&self.proxy, what, holds);
    }

    /// A client behind the proxy.
    pub fn client(&self) -> RawClient {
        RawClient::connect(self.proxy.port(), APP, APP_PASSWORD, "app")
    }

    /// A client of the console.
    pub fn console(&self) -> RawClient {
        RawClient::connect(self.proxy.port(), APP, APP_PASSWORD, "trunkline")
    }

    /// Runs SQL as superuser on the node of a group, past the proxy.
    pub fn run(&self, group: usize, sql: &str) -> String {
        let info = self.nodes[group].info();
        info.query(0, "app", sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Runs SQL as superuser on every node.
    pub fn run_everywhere(&self, sql: &str) {
        (0..self.nodes.len()).for_each(|group| drop(self.run(group, sql)));
    }
}
