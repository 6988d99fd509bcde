//! A cluster of the test's own with a Trunkline before it that was told no roles.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use trunkline::app::demo::{Cluster, ClusterOptions};

use crate::support::clusters::{self, APP, APP_PASSWORD};
use crate::support::frames::{Batch, Frame, tags};
use crate::support::process::{Setup, Trunkline};
use crate::support::raw::RawClient;

/// Longest wait for something that takes a moment.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A Trunkline, and behind it a cluster with the database `app`.
pub struct Fixture {
    /// The program under test; before the cluster, so that it ends first.
    pub proxy: Trunkline,
    pub cluster: Cluster,
}

/// A table for nodes: lines of TOML for each of them.
pub fn node(name: &str, port: u16, more: &str) -> String {
    format!("[[databases.app.nodes]]\nname = \"{name}\"\nhost = \"127.0.0.1\"\nport = {port}\n{more}\n")
}

/// All nodes of a cluster under their own names, without roles.
pub fn nodes(cluster: &Cluster) -> String {
    cluster.nodes().iter().map(|one| node(one.name(), one.port(), "")).collect()
}

/// A configuration with these nodes.
pub fn config(general: &str, database: &str, nodes: &str) -> String {
    format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n{general}\n\
         [metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n\
         [admin]\nadmin_users = [\"{APP}\"]\n\
         [users.{APP}]\npassword = \"{APP_PASSWORD}\"\n\
         [databases.app]\ncontrol_user = \"{APP}\"\ncontrol_password = \"{APP_PASSWORD}\"\n{database}\n\
         [databases.app.pool]\nwait_timeout = \"10s\"\n\
         [databases.app.routing]\nconsistency = \"eventual\"\n{nodes}"
    )
}

/// A cluster of one's own with so many replicas, and a table `t`.
pub fn cluster(replicas: usize) -> Cluster {
    let cluster = clusters::start(ClusterOptions { replicas, ..clusters::options() });
    cluster.info().query(0, "app", &format!("CREATE TABLE t (n int); ALTER TABLE t OWNER TO {APP}")).unwrap();
    cluster.info().wait_replayed().unwrap();
    cluster
}

impl Fixture {
    /// Without roles.
    pub fn new(replicas: usize) -> Self {
        let cluster = cluster(replicas);
        let proxy = Setup::config(config("", "", &nodes(&cluster))).start();
        Self { proxy, cluster }
    }

    pub fn client(&self) -> RawClient {
        client(&self.proxy)
    }

    /// One column of SHOW NODES, by node.
    pub fn column(&self, column: &str) -> BTreeMap<String, String> {
        column_of(&self.proxy, column)
    }

    /// Waits until a node shows this in SHOW NODES.
    pub fn wait_node(&self, node: &str, column: &str, wanted: &str) {
        until(&format!("{column} of {node} is {wanted}"), || {
            self.column(column).get(node).is_some_and(|value| value == wanted)
        });
    }

    /// Carries a command out on the console.
    pub fn command(&self, sql: &str) {
        console(&self.proxy).rows(sql);
    }

    /// The port of a node, as a client gets it from the server.
    pub fn port(&self, node: usize) -> String {
        self.cluster.info().port(node).to_string()
    }
}

pub fn client(proxy: &Trunkline) -> RawClient {
    let mut client = RawClient::connect(proxy.port(), APP, APP_PASSWORD, "app");
    client.set_timeout(PATIENCE);
    client
}

/// A client of logical replication, which can also run statements.
pub fn replication(proxy: &Trunkline) -> RawClient {
    let mut client = RawClient::tcp(proxy.port());
    client.set_timeout(PATIENCE);
    let parameters = [("user", APP), ("database", "app"), ("replication", "database")];
    client.login(APP_PASSWORD, &parameters).unwrap_or_else(|error| panic!("{error:?}"));
    client
}

pub fn console(proxy: &Trunkline) -> RawClient {
    RawClient::connect(proxy.port(), APP, APP_PASSWORD, "trunkline")
}

pub fn column_of(proxy: &Trunkline, column: &str) -> BTreeMap<String, String> {
    let sql = format!("SELECT name, {column} FROM nodes");
    let rows = console(proxy).rows(&sql);
    rows.into_iter().map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap_or_default())).collect()
}

/// Which server a write is done on: by its port.
pub const WRITE: &str = "INSERT INTO t VALUES (1) RETURNING inet_server_port()";
/// Which server a read is done on.
pub const READ: &str = "/* trunkline: replica */ SELECT inet_server_port()";

/// Which servers so many reads are done on.
pub fn readers(client: &mut RawClient, count: usize) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for _ in 0..count {
        *seen.entry(client.value(READ)).or_default() += 1;
    }
    seen
}

/// Waits until the client writes on the server with this port. What it writes at the moment at which its server is found to be replaced
/// ends with its session, as nobody knows what became of it: another one goes on.
pub fn until_written_on(proxy: &Trunkline, writer: &mut RawClient, port: &str) {
    until("writes on the new primary", || {
        writer.send(&Batch::new().query(WRITE));
        let first = writer.recv();
        if first.tag == b'E' && first.sqlstate() == "08007" {
            assert!(writer.is_closed());
            *writer = client(proxy);
            return false;
        }
        let mut frames = vec![first];
        frames.extend(writer.recv_ready(1));
        assert!(!tags(&frames).contains('E'), "{frames:?}");
        let row = frames.iter().find(|frame| frame.tag == b'D').map(Frame::columns);
        row.is_some_and(|row| row[0].as_deref() == Some(port))
    });
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
