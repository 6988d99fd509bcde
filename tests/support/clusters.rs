//! Clusters: one that all tests of a run share, or one's own.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use trunkline::app::demo::{Cluster, ClusterInfo, ClusterOptions, Lifetime};

/// Password of the superuser `postgres`.
pub const SUPERUSER_PASSWORD: &str = "postgres";
/// An ordinary role (SCRAM), owner of every [`TestDb`].
pub const APP: &str = "app";
/// Its password.
pub const APP_PASSWORD: &str = "app-secret";
/// A second ordinary role (SCRAM).
pub const OTHER: &str = "other";
/// Its password.
pub const OTHER_PASSWORD: &str = "other-secret";
/// An ordinary role whose stored secret is an MD5 hash.
pub const MD5: &str = "md5user";
/// Its password.
pub const MD5_PASSWORD: &str = "md5-secret";

/// What every cluster of the tests has; change `replicas`, `settings` or `seed` as needed.
pub fn options() -> ClusterOptions {
    let uid = rustix::process::geteuid().as_raw();
    ClusterOptions {
        replicas: 2,
        dir: None,
        keep_files: false,
        superuser_password: SUPERUSER_PASSWORD.to_owned(),
        seed: vec![
            format!("CREATE ROLE {APP} LOGIN CREATEDB PASSWORD '{APP_PASSWORD}'"),
            format!("CREATE ROLE {OTHER} LOGIN PASSWORD '{OTHER_PASSWORD}'"),
            format!("SET password_encryption = 'md5'; CREATE ROLE {MD5} LOGIN PASSWORD '{MD5_PASSWORD}'"),
            format!("CREATE DATABASE {APP} OWNER {APP}"),
        ],
        hba: vec![format!("host all {MD5} 127.0.0.1/32 md5")],
        settings: Vec::new(),
        template_cache: Some(std::env::temp_dir().join(format!("trunkline-templates-{uid}"))),
        lifetime: Lifetime::Owner,
    }
}

/// A cluster of the test's own: primary and two streaming replicas, gone when dropped.
pub fn own() -> Cluster {
    start(options())
}

/// A cluster of the test's own with these options.
pub fn start(options: ClusterOptions) -> Cluster {
    Cluster::start(options).unwrap_or_else(|error| panic!("starting a cluster: {error}"))
}

/// The cluster that all tests of this run share. Don't stop, promote or reconfigure its nodes, and
/// work in a [`TestDb`].
///
/// With nextest each test is a process, so the cluster belongs to their common parent: the first
/// test that asks starts it, and a guard process removes it when the parent has ended or when no
/// test has used it for a minute.
pub fn shared() -> &'static ClusterInfo {
    static SHARED: OnceLock<(ClusterInfo, File)> = OnceLock::new();
    &SHARED.get_or_init(join_or_start).0
}

fn join_or_start() -> (ClusterInfo, File) {
    let runner = parent_id();
    let uid = rustix::process::geteuid().as_raw();
    let dir = std::env::temp_dir().join(format!("trunkline-shared-{uid}-{runner}-{}", start_time(runner)));
    let _lock = lock_dir(&dir);
    let in_use = lock_file(&dir, "use.lock");
    in_use.lock_shared().unwrap();
    let described = dir.join("cluster.json");
    if let Ok(text) = fs::read_to_string(&described) {
        return (serde_json::from_str(&text).unwrap(), in_use);
    }
    let mut options = options();
    options.dir = Some(dir.join("cluster"));
    options.lifetime = Lifetime::Script(until_unused(&dir, runner));
    let cluster = start(options);
    let info = cluster.info().clone();
    fs::write(&described, serde_json::to_string(&info).unwrap()).unwrap();
    (info, in_use)
}

/// The guard's script: returns when the runner has ended, or nobody has held `use.lock` for a minute.
fn until_unused(dir: &Path, runner: u32) -> String {
    format!(
        r#"
dir='{}'
trap 'rm -rf -- "$dir"' EXIT
idle=0
while kill -0 {runner} && [ $idle -lt 60 ]; do
    sleep 1
    idle=$((idle + 1))
    flock -n "$dir/use.lock" true || idle=0
done
exec 9>>"$dir/lock"
flock 9
flock -w 60 "$dir/use.lock" true
rm -f "$dir/cluster.json"
"#,
        dir.display()
    )
}

/// Locks the directory of the shared cluster; makes it when it isn't there. The guard may remove
/// the directory while we wait for its lock: then it is made again.
fn lock_dir(dir: &Path) -> File {
    loop {
        let made = fs::DirBuilder::new().mode(0o711).create(dir);
        if let Err(error) = made {
            assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists, "{error}");
        }
        let Ok(lock) = File::options().create(true).append(true).open(dir.join("lock")) else {
            continue;
        };
        lock.lock().unwrap();
        let still = fs::metadata(dir.join("lock")).map(|meta| meta.ino()).ok();
        if still == Some(lock.metadata().unwrap().ino()) {
            return lock;
        }
    }
}

fn lock_file(dir: &Path, name: &str) -> File {
    File::options().create(true).append(true).open(dir.join(name)).unwrap()
}

/// When a process started, so that a process number used again is not taken for the same process.
fn start_time(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().nth(19).unwrap_or("0").to_owned()
}

/// A database of the test's own on a cluster, on every node of it; dropped with the value.
///
/// PostgreSQL makes and drops a database only when every server process has answered a signal, which one
/// that can't send its result to a client that doesn't read never does: a test that leaves a server so for
/// more than a moment does it on a cluster of its [`own`].
#[derive(Debug)]
pub struct TestDb {
    /// Its name.
    pub name: String,
    info: ClusterInfo,
}

impl TestDb {
    /// Makes an empty database owned by [`APP`] and waits until every replica has it.
    pub fn new(info: &ClusterInfo) -> Self {
        Self::with(info, "")
    }

    /// As [`Self::new`], then runs SQL in it as [`APP`] on the primary; the replicas have that too.
    pub fn with(info: &ClusterInfo, sql: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}_{number}", std::process::id());
        let create = format!("CREATE DATABASE {name} OWNER {APP}");
        info.query(0, "postgres", &create).unwrap_or_else(|error| panic!("{error}"));
        let db = Self { name, info: info.clone() };
        if !sql.is_empty() {
            db.run(&format!("SET ROLE {APP};\n{sql}"));
        }
        info.wait_replayed().unwrap_or_else(|error| panic!("{error}"));
        db
    }

    /// Runs SQL on the primary as superuser, past Trunkline; returns the rows as `psql -At` does.
    pub fn run(&self, sql: &str) -> String {
        self.run_on(0, sql)
    }

    /// Runs SQL on the node of this index as superuser, past Trunkline.
    pub fn run_on(&self, node: usize, sql: &str) -> String {
        self.info.query(node, &self.name, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Waits until every replica has what the primary has now.
    pub fn wait_replayed(&self) {
        self.info.wait_replayed().unwrap_or_else(|error| panic!("{error}"));
    }

    /// The URL of this database on a server or proxy at `port`, as [`APP`].
    pub fn url(&self, port: u16) -> String {
        format!("postgres://{APP}:{APP_PASSWORD}@127.0.0.1:{port}/{}", self.name)
    }

    /// The cluster that it lives on.
    pub fn cluster(&self) -> &ClusterInfo {
        &self.info
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        let _ = self.info.query(0, "postgres", &sql);
    }
}

/// A directory for a test's own files, below Cargo's temporary directory for tests.
pub fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}
