//! A throw-away primary with streaming replicas, for `trunkline demo` and for the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::binaries::{PgBinaries, finish};
use super::error::{ClusterError, Doing};
use super::guard::{Guard, Lifetime};
use super::node::{Node, StopMode};
use super::seed::{Seed, private_dir};

/// The path of a Unix socket holds at most 107 bytes, and the file name takes up to 16 of them.
const LONGEST_ROOT: usize = 90;

/// What to start.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Number of streaming replicas.
    pub replicas: usize,
    /// The directory to make and to remove at the end; `None` = a new one in the temporary directory.
    pub dir: Option<PathBuf>,
    /// Leave the directory in place at the end.
    pub keep_files: bool,
    /// Password of the superuser `postgres`.
    pub superuser_password: String,
    /// Statements, one line each, that the superuser runs in `postgres` before the first start.
    pub seed: Vec<String>,
    /// Lines of `pg_hba.conf` before the common ones, which ask everyone for SCRAM.
    pub hba: Vec<String>,
    /// Settings of every node on top of the common ones.
    pub settings: Vec<(String, String)>,
    /// Directory that keeps initialised data directories between runs; `None` = `initdb` each time.
    pub template_cache: Option<PathBuf>,
    /// When the cluster goes.
    pub lifetime: Lifetime,
}

/// Where the servers of a cluster are; what another process needs to use it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClusterInfo {
    /// The cluster's directory: data directories, logs, and the Unix sockets.
    pub root: PathBuf,
    /// Password of the superuser `postgres`.
    pub superuser_password: String,
    /// Name and port of each node; the first is the primary that the cluster started with.
    pub nodes: Vec<(String, u16)>,
}

/// A running cluster. Dropping it stops the servers and removes the directory (see [`Lifetime`]).
#[derive(Debug)]
pub struct Cluster {
    // Fields drop in this order: servers first, then the guard, which removes the directory.
    nodes: Vec<Node>,
    _guard: Guard,
    info: ClusterInfo,
    pg: Arc<PgBinaries>,
    settings: Vec<(String, String)>,
    detached: bool,
}

impl Cluster {
    /// Makes and starts the servers and waits until every replica streams.
    ///
    /// The replicas begin as copies of the primary's data directory before its first start, which
    /// is a base backup without the waiting. [`Self::add_replica`] runs `pg_basebackup`.
    ///
    /// # Errors
    /// Whatever fails, nothing stays behind: servers already started are stopped, the directory is
    /// removed.
    pub fn start(options: ClusterOptions) -> Result<Self, ClusterError> {
        let pg = Arc::new(PgBinaries::find()?);
        let root = make_root(&pg, options.dir.as_deref())?;
        let detached = matches!(options.lifetime, Lifetime::Script(_));
        let guard = Guard::start(&root, &options.lifetime, options.keep_files)?;
        let mut cluster = Self {
            nodes: Vec::new(),
            _guard: guard,
            info: ClusterInfo { root, superuser_password: options.superuser_password.clone(), nodes: Vec::new() },
            pg,
            settings: options.settings.clone(),
            detached: false,
        };
        cluster.fill(&options)?;
        if detached {
            cluster.detached = true;
            cluster.nodes.iter_mut().for_each(Node::detach);
        }
        Ok(cluster)
    }

    fn fill(&mut self, options: &ClusterOptions) -> Result<(), ClusterError> {
        let seed =
            Seed { superuser_password: &options.superuser_password, statements: &options.seed, hba: &options.hba };
        let names = (1..=options.replicas).map(|number| format!("replica{number}"));
        for name in std::iter::once("primary".to_owned()).chain(names) {
            self.nodes.push(Node::new(self.pg.clone(), &self.info.root, name)?);
        }
        let primary_data = self.nodes[0].data_dir();
        match &options.template_cache {
            Some(cache) => copy_dir(&self.pg, &seed.cached(&self.pg, cache)?, primary_data)?,
            None => seed.init(&self.pg, primary_data)?,
        }
        for node in &self.nodes[1..] {
            copy_dir(&self.pg, primary_data, node.data_dir())?;
        }
        self.spawn_all()?;
        self.info.nodes = self.nodes.iter().map(|node| (node.name().to_owned(), node.port())).collect();
        self.wait_streaming(options.replicas)
    }

    fn spawn_all(&self) -> Result<(), ClusterError> {
        let port = self.nodes[0].port();
        for (index, node) in self.nodes.iter().enumerate() {
            node.write_conf(&self.settings)?;
            if index > 0 {
                node.follow(port, &self.info.superuser_password)?;
            }
            node.spawn()?;
        }
        self.nodes.iter().try_for_each(Node::wait_ready)
    }

    /// Waits until the first node has at least `count` standbys that stream from it.
    fn wait_streaming(&self, count: usize) -> Result<(), ClusterError> {
        if count == 0 {
            return Ok(());
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        let query = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        while self.info.query(0, "postgres", query)?.parse().unwrap_or(0) < count {
            if Instant::now() > deadline {
                return Err(std::io::Error::from(std::io::ErrorKind::TimedOut))
                    .doing(|| "waiting for the replicas to stream".to_owned());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Where everything is.
    pub fn info(&self) -> &ClusterInfo {
        &self.info
    }

    /// The installation that the servers run from.
    pub fn binaries(&self) -> &PgBinaries {
        &self.pg
    }

    /// All nodes; the first is the primary that the cluster started with.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The primary that the cluster started with.
    pub fn primary(&self) -> &Node {
        &self.nodes[0]
    }

    /// The replicas that the cluster started with, and those that were added.
    pub fn replicas(&self) -> &[Node] {
        &self.nodes[1..]
    }

    /// Adds a streaming replica of node `upstream` by `pg_basebackup` and waits until it accepts
    /// connections.
    ///
    /// # Errors
    /// The backup fails or the new server doesn't start.
    pub fn add_replica(&mut self, upstream: usize) -> Result<&Node, ClusterError> {
        let name = format!("replica{}", self.nodes.len());
        let mut node = Node::new(self.pg.clone(), &self.info.root, name)?;
        let port = self.nodes[upstream].port();
        let mut backup = self.pg.command("pg_basebackup", &self.info.root);
        backup
            .args(["--checkpoint=fast", "--no-sync", "--wal-method=stream"])
            .args(["--host=127.0.0.1", "--username", super::seed::REPLICATOR])
            .arg(format!("--port={port}"))
            .arg("--pgdata")
            .arg(node.data_dir())
            .env("PGPASSWORD", &self.info.superuser_password);
        finish("pg_basebackup", &mut backup)?;
        node.write_conf(&self.settings)?;
        node.follow(port, &self.info.superuser_password)?;
        node.start()?;
        if self.detached {
            node.detach();
        }
        self.info.nodes.push((node.name().to_owned(), node.port()));
        self.nodes.push(node);
        Ok(&self.nodes[self.nodes.len() - 1])
    }

    /// Makes `node` stream from `upstream` from now on, as after a promotion.
    ///
    /// # Errors
    /// The node's settings can't be written.
    pub fn follow(&self, node: usize, upstream: usize) -> Result<(), ClusterError> {
        let port = self.nodes[upstream].port();
        self.nodes[node].follow(port, &self.info.superuser_password)?;
        self.nodes[node].reload();
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.detached {
            // All at once: a primary needn't wait for its replicas.
            for node in &self.nodes {
                node.ask_to_stop(StopMode::Immediate);
            }
        }
    }
}

impl ClusterInfo {
    /// Port of the node of this index.
    pub fn port(&self, node: usize) -> u16 {
        self.nodes[node].1
    }

    /// Port of the first primary.
    pub fn primary_port(&self) -> u16 {
        self.port(0)
    }

    /// Ports of the replicas.
    pub fn replica_ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.nodes[1..].iter().map(|(_, port)| *port)
    }

    /// Runs SQL on a node as superuser by `psql` and returns its rows, columns separated by `|`.
    ///
    /// # Errors
    /// A statement fails, or the server can't be reached.
    pub fn query(&self, node: usize, database: &str, sql: &str) -> Result<String, ClusterError> {
        let pg = PgBinaries::find()?;
        let mut psql = pg.command("psql", &self.root);
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres"])
            .arg("-h")
            .arg(&self.root)
            .args(["-p", &self.port(node).to_string(), "-d", database, "-c", sql])
            .env("PGPASSWORD", &self.superuser_password)
            .env("PGOPTIONS", "-c synchronous_commit=local");
        finish("psql", &mut psql).map(|text| text.trim_end().to_owned())
    }

    /// Waits until every replica has replayed what the primary has written until now.
    ///
    /// # Errors
    /// A server can't be reached, or a replica is still behind after a minute.
    pub fn wait_replayed(&self) -> Result<(), ClusterError> {
        // Not the insert position: that may stand behind a page header that no record fills yet.
        let target = self.query(0, "postgres", "SELECT pg_current_wal_flush_lsn()")?;
        let reached = format!("SELECT pg_last_wal_replay_lsn() >= '{target}'");
        let deadline = Instant::now() + Duration::from_secs(60);
        for node in 1..self.nodes.len() {
            while self.query(node, "postgres", &reached)? != "t" {
                if Instant::now() > deadline {
                    return Err(std::io::Error::from(std::io::ErrorKind::TimedOut))
                        .doing(|| format!("waiting for {} to catch up", self.nodes[node].0));
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }
}

/// Makes the cluster's directory and gives it to the servers' account.
fn make_root(pg: &PgBinaries, wanted: Option<&Path>) -> Result<PathBuf, ClusterError> {
    let root = match wanted {
        Some(dir) => {
            let used = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
            if used {
                return Err(std::io::Error::other("it is not empty")).doing(|| format!("using {}", dir.display()));
            }
            dir.to_owned()
        }
        None => {
            let name = format!("trunkline-{:08x}", fastrand::u32(..));
            std::env::temp_dir().join(name)
        }
    };
    private_dir(pg, &root)?;
    // The guard compares this path with what the kernel says about a process.
    let root = fs::canonicalize(&root).doing(|| format!("looking at {}", root.display()))?;
    if root.as_os_str().len() > LONGEST_ROOT {
        let _ = fs::remove_dir(&root);
        return Err(std::io::Error::other("its path is too long for Unix sockets"))
            .doing(|| format!("using {}", root.display()));
    }
    Ok(root)
}

/// Copies a data directory that no server uses.
fn copy_dir(pg: &PgBinaries, from: &Path, to: &Path) -> Result<(), ClusterError> {
    let parent = to.parent().unwrap_or(Path::new("/"));
    let mut copy = pg.command("cp", parent);
    copy.args(["-a", "--reflink=auto", "--"]).arg(from).arg(to);
    finish("cp", &mut copy).map(drop)
}
