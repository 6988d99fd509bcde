//! A primary and two replicas, an injector before each of them, Trunkline, and an injector before that.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tempfile::TempDir;
use trunkline::app::demo::{Cluster, ClusterOptions};

use crate::support::clusters::{self, APP, APP_PASSWORD, SUPERUSER_PASSWORD};
use crate::support::injector::Injector;
use crate::support::process::{Setup, Trunkline};
use crate::support::raw::RawClient;
use crate::transfer::{ACCOUNTS, BALANCE};

pub const NODES: usize = 3;
const NAMES: [&str; NODES] = ["primary", "replica1", "replica2"];

/// Longest wait for servers to come up, or to have caught up.
const PATIENCE: Duration = Duration::from_secs(60);

/// `here` tells the server. It claims to be immutable, so that a read that calls it is routed as if it did not.
const SCHEMA: &str = "
    SET ROLE app;
    CREATE FUNCTION here() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT inet_server_port()';
    CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL);
    CREATE TABLE transfer (id bigint NOT NULL, client int NOT NULL, source int NOT NULL, target int NOT NULL, amount bigint NOT NULL);
    CREATE INDEX ON transfer (id);
    CREATE TABLE mark (client int PRIMARY KEY, seq bigint NOT NULL);";

pub struct Stage {
    /// Before what it stands before, so that it ends first.
    proxy: Mutex<Option<Trunkline>>,
    /// Before Trunkline.
    pub front: Injector,
    /// Before each server.
    pub links: Vec<Injector>,
    pub cluster: Cluster,
    primary: AtomicUsize,
    /// Of the configuration; changed by reloads.
    pool_size: AtomicUsize,
    dir: TempDir,
    /// What was wrong in the logs of processes that have ended.
    pub complaints: Mutex<Vec<String>>,
}

/// Settings of every server: a commit is acknowledged when a standby has it, and `pg_rewind` can be used.
fn settings() -> Vec<(String, String)> {
    let standbys = format!("ANY 1 ({})", NAMES.join(", "));
    // Standbys that apply late show at once what is read without need to be there.
    let lag = std::env::var("TRUNKLINE_CHAOS_LAG").unwrap_or_else(|_| "0".to_owned());
    let all = [
        ("recovery_min_apply_delay", lag.as_str()),
        ("synchronous_standby_names", standbys.as_str()),
        ("full_page_writes", "on"),
        ("wal_log_hints", "on"),
        ("restart_after_crash", "on"),
        ("wal_receiver_timeout", "10s"),
        ("wal_sender_timeout", "10s"),
        ("max_wal_size", "256MB"),
    ];
    all.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

impl Stage {
    pub fn new(clients: u64) -> Self {
        let mut options = ClusterOptions { settings: settings(), ..clusters::options() };
        // What the newest timeline is, replicas tell those only who may see it.
        options.seed.push(format!("GRANT pg_monitor TO {APP}"));
        let cluster = clusters::start(options);
        let rows = format!(
            "INSERT INTO account SELECT n, {BALANCE} FROM generate_series(0, {ACCOUNTS} - 1) AS n; \
             INSERT INTO mark SELECT n, 0 FROM generate_series(0, {clients} - 1) AS n;"
        );
        cluster.info().query(0, "app", &format!("{SCHEMA} {rows}")).unwrap();
        cluster.info().wait_replayed().unwrap();
        let links: Vec<_> = cluster.nodes().iter().map(|node| Injector::before(node.port())).collect();
        let dir = tempfile::tempdir().unwrap();
        let proxy = Setup::config(config(&links, &dir, 16)).start();
        let front = Injector::before(proxy.port());
        Self {
            proxy: Mutex::new(Some(proxy)),
            front,
            links,
            cluster,
            primary: AtomicUsize::new(0),
            pool_size: AtomicUsize::new(16),
            dir,
            complaints: Mutex::default(),
        }
    }

    pub fn primary(&self) -> usize {
        self.primary.load(Ordering::SeqCst)
    }

    pub fn set_primary(&self, node: usize) {
        self.primary.store(node, Ordering::SeqCst);
    }

    /// The other two.
    pub fn standbys(&self) -> [usize; 2] {
        let primary = self.primary();
        [(primary + 1) % NODES, (primary + 2) % NODES]
    }

    pub fn name(&self, node: usize) -> &str {
        self.cluster.nodes()[node].name()
    }

    /// Does something with Trunkline.
    pub fn with_proxy<T>(&self, work: impl FnOnce(&mut Trunkline) -> T) -> T {
        work(self.proxy.lock().as_mut().unwrap())
    }

    pub fn port(&self) -> u16 {
        self.with_proxy(|proxy| proxy.port())
    }

    /// Changes the configuration and has it read.
    pub fn reload(&self, pool_size: usize) {
        self.pool_size.store(pool_size, Ordering::Relaxed);
        self.with_proxy(|proxy| {
            proxy.rewrite_config(&self.config());
            proxy.signal(rustix::process::Signal::HUP);
        });
    }

    pub fn config(&self) -> String {
        config(&self.links, &self.dir, self.pool_size.load(Ordering::Relaxed))
    }

    /// Puts another process in Trunkline's place, made by `next` from the old one.
    pub fn replace_proxy(&self, next: impl FnOnce(&mut Trunkline) -> Trunkline) -> Trunkline {
        let mut slot = self.proxy.lock();
        let new = next(slot.as_mut().unwrap());
        slot.replace(new).unwrap()
    }

    /// Looks through the log of a process that is over.
    pub fn read_log(&self, proxy: &Trunkline) {
        let log = proxy.log();
        let is_bad = |line: &&str| ["panick", "XX000", "bug", "overflow"].iter().any(|word| line.contains(word));
        self.complaints.lock().extend(log.lines().filter(is_bad).map(str::to_owned));
        if let Some(dir) = std::env::var_os("TRUNKLINE_CHAOS_LOGS") {
            let _ = fs::create_dir_all(&dir);
            let _ = fs::write(std::path::Path::new(&dir).join(format!("trunkline-{}.log", proxy.pid())), log);
        }
    }

    pub fn console(&self) -> RawClient {
        RawClient::connect(self.port(), APP, APP_PASSWORD, "trunkline")
    }

    /// Asks a server past everything.
    pub fn ask(&self, node: usize, sql: &str) -> String {
        self.try_ask(node, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub fn try_ask(&self, node: usize, sql: &str) -> Result<String, String> {
        self.cluster.info().query(node, "app", sql).map_err(|error| error.to_string())
    }

    /// Waits until both standbys have replayed what the primary has now.
    pub fn catch_up(&self) -> Result<(), String> {
        let primary = self.primary();
        let names: Vec<_> = self.standbys().map(|node| format!("'{}'", self.name(node))).into();
        let target = self.try_ask(primary, "SELECT pg_current_wal_flush_lsn()")?;
        let sql = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn >= '{target}' \
             AND application_name IN ({})",
            names.join(", ")
        );
        let deadline = Instant::now() + PATIENCE;
        while self.try_ask(primary, &sql).as_deref() != Ok("2") {
            if Instant::now() > deadline {
                return Err(self.ask(primary, "SELECT json_agg(r) FROM pg_stat_replication r"));
            }
            thread::sleep(Duration::from_millis(30));
        }
        Ok(())
    }

    /// Whether a node streams from the primary within this time.
    fn streams_within(&self, node: usize, time: Duration) -> bool {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name = '{}'",
            self.name(node)
        );
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            if self.try_ask(self.primary(), &sql).as_deref() == Ok("1") {
                return true;
            }
            thread::sleep(Duration::from_millis(50));
        }
        false
    }

    /// Makes a node that has ended a standby of the primary: by `pg_rewind` if wanted and possible, else by a new base backup.
    pub fn rejoin(&self, node: usize, rewind: bool) -> &'static str {
        if rewind && self.rewind(node) {
            self.restart_as_standby(node);
            if self.streams_within(node, Duration::from_secs(10)) {
                return "pg_rewind";
            }
        }
        self.base_backup(node);
        self.restart_as_standby(node);
        assert!(self.streams_within(node, PATIENCE), "{} does not stream", self.name(node));
        "pg_basebackup"
    }

    fn restart_as_standby(&self, node: usize) {
        let server = &self.cluster.nodes()[node];
        // The files came from the primary: its port and name, too.
        let own = [
            ("port", server.port().to_string()),
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("unix_socket_directories", self.cluster.info().root.display().to_string()),
            ("cluster_name", server.name().to_owned()),
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value));
        let lines: String =
            own.into_iter().chain(settings()).map(|(key, value)| format!("{key} = '{value}'\n")).collect();
        server.write_file("node.conf", &lines).unwrap();
        self.cluster.follow(node, self.primary()).unwrap();
        // One that can't recover from what was rewound gets a base backup.
        let _ = server.start();
    }

    fn rewind(&self, node: usize) -> bool {
        // It looks at the control file, which says the new timeline from the next checkpoint on.
        self.ask(self.primary(), "CHECKPOINT");
        let port = self.cluster.info().port(self.primary());
        let source = format!("host=127.0.0.1 port={port} user=postgres password={SUPERUSER_PASSWORD} dbname=postgres");
        let server = &self.cluster.nodes()[node];
        let mut rewind = self.cluster.binaries().command("pg_rewind", &self.cluster.info().root);
        rewind.arg("--no-sync").arg("--target-pgdata").arg(server.data_dir()).arg("--source-server").arg(source);
        rewind.output().unwrap().status.success()
    }

    fn base_backup(&self, node: usize) {
        let server = &self.cluster.nodes()[node];
        let _ = server.kill();
        fs::remove_dir_all(server.data_dir()).unwrap();
        let mut backup = self.cluster.binaries().command("pg_basebackup", &self.cluster.info().root);
        backup
            .args(["--checkpoint=fast", "--no-sync", "--wal-method=stream", "--host=127.0.0.1", "--username=postgres"])
            .arg(format!("--port={}", self.cluster.info().port(self.primary())))
            .arg("--pgdata")
            .arg(server.data_dir())
            .env("PGPASSWORD", SUPERUSER_PASSWORD);
        let output = backup.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Memory of Trunkline, in MiB.
    pub fn memory(&self) -> u64 {
        let pid = self.with_proxy(|proxy| proxy.pid());
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(proxy) = self.proxy.lock().take() {
            self.read_log(&proxy);
        }
    }
}

fn config(links: &[Injector], dir: &TempDir, pool_size: usize) -> String {
    let nodes: String = links
        .iter()
        .zip(NAMES)
        .map(|(link, name)| {
            format!("[[databases.app.nodes]]\nname = \"{name}\"\nhost = \"127.0.0.1\"\nport = {}\n", link.port())
        })
        .collect();
    format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\ntakeover_socket = \"{socket}\"\n\
         [client]\ndrain_timeout = \"2s\"\n\
         [admin]\nadmin_users = [\"{APP}\"]\n\
         [[hba]]\nmethod = \"trust\"\n\
         [users.{APP}]\npassword = \"{APP_PASSWORD}\"\n\
         [databases.app]\ncontrol_user = \"{APP}\"\ncontrol_password = \"{APP_PASSWORD}\"\n\
         [databases.app.pool]\nsize = {pool_size}\nwait_timeout = \"20s\"\nconnect_timeout = \"3s\"\n\
         [databases.app.routing]\nhealth_interval = \"300ms\"\nhealth_timeout = \"700ms\"\n{nodes}",
        socket = dir.path().join("takeover.sock").display(),
    )
}
