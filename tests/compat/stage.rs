//! The servers that the suites run on, with or without Trunkline before them, and programs run to their end in bounded time.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use trunkline::app::demo::{Cluster, ClusterOptions};

use crate::support::clusters;
use crate::support::process::{Setup, Trunkline};

/// Server connections per user and node, unless `COMPAT_POOL` says otherwise: far fewer than the suites have clients.
const POOL_SIZE: usize = 3;

/// Longest wait of a client for one of them.
const WAIT_TIMEOUT: &str = "60s";

/// How clients reach the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A direct connection to the primary.
    Direct,
    /// Through Trunkline before a primary and so many replicas.
    Trunkline { replicas: usize },
}

impl Way {
    /// The column's title in a table.
    pub fn title(self) -> String {
        match self {
            Self::Direct => "direct".to_owned(),
            Self::Trunkline { replicas: 0 } => "Trunkline".to_owned(),
            Self::Trunkline { replicas } => format!("Trunkline, {replicas} replicas"),
        }
    }

    /// For names of files and databases.
    pub fn name(self) -> String {
        match self {
            Self::Direct => "direct".to_owned(),
            Self::Trunkline { replicas } => format!("trunkline{replicas}"),
        }
    }
}

/// A cluster of its own, in which everybody is trusted, with a Trunkline before it if the way is so.
pub struct Stage {
    // Dropped first.
    proxy: Option<Trunkline>,
    pub cluster: Cluster,
    way: Way,
}

impl Stage {
    pub fn start(way: Way) -> Self {
        let replicas = match way {
            Way::Direct => 0,
            Way::Trunkline { replicas } => replicas,
        };
        let trust = "host all all 127.0.0.1/32 trust".to_owned();
        // A write is answered when the replicas show it, so that lag is no reason for a difference.
        let settings = match replicas {
            0 => Vec::new(),
            _ => vec![
                ("synchronous_standby_names".to_owned(), format!("{replicas} (*)")),
                ("synchronous_commit".to_owned(), "remote_apply".to_owned()),
            ],
        };
        let options = ClusterOptions { replicas, seed: Vec::new(), hba: vec![trust], settings, ..clusters::options() };
        let cluster = clusters::start(options);
        assert!(std::env::var_os("PGBIN").is_some(), "the servers must be those of the suite: run `make compat`");
        let version = cluster.info().query(0, "postgres", "SHOW server_version").unwrap();
        let wanted = fs::read_to_string(fetched("postgres/version")).unwrap();
        let wanted = wanted.split('-').next().unwrap_or_default();
        assert!(version.starts_with(wanted), "servers are {version}, the suite is {wanted}: run `make compat`");
        let proxy = (way != Way::Direct).then(|| Setup::config(config(&cluster)).start());
        Self { proxy, cluster, way }
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.proxy.as_ref().map_or_else(|| self.cluster.info().primary_port(), Trunkline::port)
    }

    /// Runs SQL on the primary as superuser, past Trunkline, and waits until the replicas have it.
    pub fn prepare(&self, database: &str, sql: &str) {
        let info = self.cluster.info();
        info.query(0, database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        info.wait_replayed().unwrap();
    }

    /// Keeps what Trunkline and the primary logged beside the results, and demands that nothing has crashed.
    pub fn finish(self, results: &Path) {
        let name = self.way.name();
        let server_log = fs::read_to_string(self.cluster.primary().log_file()).unwrap();
        fs::write(results.join(format!("{name}-primary.log")), &server_log).unwrap();
        assert!(!server_log.contains("PANIC:"), "the server panicked");
        if let Some(mut proxy) = self.proxy {
            let log = proxy.log();
            fs::write(results.join(format!("{name}-trunkline.log")), &log).unwrap();
            assert!(proxy.wait_for(Duration::ZERO).is_none(), "Trunkline has ended");
            assert!(!log.contains("panicked"), "a task of Trunkline's panicked:\n{log}");
        }
    }
}

/// Any database and any user: the suites make their own.
fn config(cluster: &Cluster) -> String {
    let pool = std::env::var("COMPAT_POOL").ok().map_or(POOL_SIZE, |text| text.parse().unwrap());
    let nodes: String = cluster
        .nodes()
        .iter()
        .enumerate()
        .map(|(index, node)| {
            let role = if index == 0 { "primary" } else { "replica" };
            format!(
                "[[databases.\"*\".nodes]]\nname = \"{}\"\nrole = \"{role}\"\nhost = \"127.0.0.1\"\nport = {}\n",
                node.name(),
                node.port()
            )
        })
        .collect();
    format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n\
         [metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n\
         [slow_log]\nslow_query = \"0\"\n\
         [routing]\nconsistency = \"session\"\n\
         [pool]\nmode = \"transaction\"\nsize = {pool}\nwait_timeout = \"{WAIT_TIMEOUT}\"\n\
         [[hba]]\naddresses = [\"127.0.0.1\"]\nmethod = \"trust\"\n\
         [databases.\"*\"]\ncontrol_user = \"postgres\"\n{nodes}"
    )
}

/// What `.ci/install-compat` has put there.
pub fn fetched(path: &str) -> PathBuf {
    // CARGO_TARGET_TMPDIR is target/tmp.
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("compat").join(path);
    assert!(path.exists(), "{} is missing: run .ci/install-compat", path.display());
    path
}

/// An empty directory for the results of a suite, below target/compat/results.
pub fn results(suite: &str) -> PathBuf {
    let dir = fetched("").join("results").join(suite);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Runs a program to its end with its output in a file; one that takes longer than `limit` is ended with all that it has started.
/// `None` = it was ended.
pub fn run(command: &mut Command, output: &Path, limit: Duration) -> Option<ExitStatus> {
    let file = File::create(output).unwrap();
    command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).process_group(0);
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() > deadline {
            let group = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
            kill_process_group(group, Signal::KILL).unwrap();
            child.wait().unwrap();
            return None;
        }
        thread::sleep(Duration::from_millis(50));
    }
}
