//! A data directory that has never been started: `initdb`, the common settings, the first roles.

use std::fs::{self, File};
use std::hash::BuildHasher;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::binaries::{PgBinaries, finish};
use super::error::{ClusterError, Doing};

/// The role that replicas connect to their primary with.
pub(super) const REPLICATOR: &str = "replicator";

/// Settings of every server. Nothing here survives a crash of the machine: the data is thrown away.
const COMMON_CONF: &str = "\
fsync = off
full_page_writes = off
wal_level = replica
max_wal_senders = 16
max_replication_slots = 16
wal_keep_size = '256MB'
max_wal_size = '1GB'
hot_standby = on
max_connections = 300
max_prepared_transactions = 32
superuser_reserved_connections = 10
shared_buffers = '128MB'
password_encryption = 'scram-sha-256'
wal_receiver_status_interval = '1s'
wal_retrieve_retry_interval = '100ms'
log_line_prefix = '%m [%p] %q%u@%d '
include_if_exists = 'node.conf'
";

/// SCRAM for everyone, also over the Unix socket.
const HBA: &str = "\
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
host all all ::1/128 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
";

/// What a data directory starts with.
#[derive(Debug, Clone, Hash)]
pub(super) struct Seed<'a> {
    /// Password of the superuser `postgres` and of the replication role.
    pub(super) superuser_password: &'a str,
    /// Statements, one line each, run once as superuser in the database `postgres`.
    pub(super) statements: &'a [String],
    /// Lines of `pg_hba.conf` before the common ones.
    pub(super) hba: &'a [String],
}

impl Seed<'_> {
    /// Makes the data directory `data`, whose parent belongs to the servers' account.
    pub(super) fn init(&self, pg: &PgBinaries, data: &Path) -> Result<(), ClusterError> {
        let parent = data.parent().unwrap_or(Path::new("/"));
        let password_file = parent.join("superuser-password");
        write_private(pg, &password_file, self.superuser_password)?;
        let made = self.init_with(pg, parent, data, &password_file);
        let _ = fs::remove_file(&password_file);
        made
    }

    fn init_with(&self, pg: &PgBinaries, parent: &Path, data: &Path, password_file: &Path) -> Result<(), ClusterError> {
        let mut initdb = pg.command("initdb", parent);
        initdb
            .arg("--pgdata")
            .arg(data)
            .arg("--pwfile")
            .arg(password_file)
            .args(["--username=postgres", "--auth=scram-sha-256", "--no-sync"])
            .args(["--encoding=UTF8", "--locale=C"]);
        finish("initdb", &mut initdb)?;
        let conf = data.join("postgresql.conf");
        let mut file = File::options().append(true).open(&conf).doing(|| format!("opening {}", conf.display()))?;
        file.write_all(COMMON_CONF.as_bytes()).doing(|| format!("writing {}", conf.display()))?;
        let hba: String = self.hba.iter().map(|line| format!("{line}\n")).collect();
        write_private(pg, &data.join("pg_hba.conf"), &(hba + HBA))?;
        self.run_statements(pg, data)
    }

    /// Runs the statements in single-user mode: no socket, no waiting, a clean shutdown at the end.
    fn run_statements(&self, pg: &PgBinaries, data: &Path) -> Result<(), ClusterError> {
        let mut input = format!("CREATE ROLE {REPLICATOR} REPLICATION LOGIN PASSWORD '{}'\n", self.superuser_password);
        for statement in self.statements {
            input.push_str(statement);
            input.push('\n');
        }
        let doing = || "setting up the first roles".to_owned();
        let mut child = pg
            .command("postgres", data)
            .args(["--single", "-D"])
            .arg(data)
            .arg("postgres")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .doing(doing)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).doing(doing)?;
        }
        let output = child.wait_with_output().doing(doing)?;
        let text = String::from_utf8_lossy(&output.stderr);
        // A failing statement doesn't change the exit status.
        if output.status.success() && !text.contains("ERROR:") {
            return Ok(());
        }
        Err(ClusterError::Program { program: "postgres --single".to_owned(), output: text.trim().to_owned() })
    }

    /// The data directory of these contents below `cache`, made when it isn't there yet. Safe
    /// between processes.
    pub(super) fn cached(&self, pg: &PgBinaries, cache: &Path) -> Result<PathBuf, ClusterError> {
        private_dir(pg, cache)?;
        let dir = cache.join(self.cache_key(pg));
        let data = dir.join("data");
        let lock_path = cache.join(".lock");
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&lock_path)
            .doing(|| format!("opening {}", lock_path.display()))?;
        lock.lock().doing(|| format!("locking {}", lock_path.display()))?;
        if data.is_dir() {
            return Ok(data);
        }
        let unfinished = cache.join("unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        private_dir(pg, &unfinished)?;
        self.init(pg, &unfinished.join("data"))?;
        fs::rename(&unfinished, &dir).doing(|| format!("renaming to {}", dir.display()))?;
        Ok(data)
    }

    /// Everything that the contents depend on, short enough for a file name.
    fn cache_key(&self, pg: &PgBinaries) -> String {
        let contents = (COMMON_CONF, HBA, self);
        let hash = foldhash::fast::FixedState::default().hash_one(contents);
        format!("{}-{hash:016x}", pg.fingerprint())
    }
}

/// Makes a directory that others may pass through but not list, and gives it to the servers'
/// account. One that exists must be ours or that account's.
pub(super) fn private_dir(pg: &PgBinaries, dir: &Path) -> Result<(), ClusterError> {
    let made = fs::DirBuilder::new().mode(0o711).create(dir);
    if let Err(error) = made
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(error).doing(|| format!("making {}", dir.display()));
    }
    pg.give(dir)?;
    let meta = fs::symlink_metadata(dir).doing(|| format!("looking at {}", dir.display()))?;
    let us = rustix::process::geteuid();
    if meta.is_dir() && (us.is_root() || meta.uid() == us.as_raw()) {
        return Ok(());
    }
    Err(std::io::Error::other("it belongs to someone else")).doing(|| format!("using {}", dir.display()))
}

/// Writes a file that only the servers' account (and root) can read.
pub(super) fn write_private(pg: &PgBinaries, path: &Path, text: &str) -> Result<(), ClusterError> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .doing(|| format!("opening {}", path.display()))?;
    file.write_all(text.as_bytes()).doing(|| format!("writing {}", path.display()))?;
    pg.give(path)
}
