//! One throw-away PostgreSQL server.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::Signal;

use super::binaries::PgBinaries;
use super::error::{ClusterError, Doing};
use super::ports::PortLease;
use super::processes::{Process, children_of, is_still, send};
use super::seed::{REPLICATOR, write_private};

/// Longest wait until a server accepts connections, or has ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server on its own port: `start` and `stop` as often as wanted, ended when dropped.
#[derive(Debug)]
pub struct Node {
    name: String,
    port: PortLease,
    data: PathBuf,
    log: PathBuf,
    pg: Arc<PgBinaries>,
    child: Mutex<Option<Child>>,
    /// The server is left running when this value is dropped.
    detached: bool,
}

/// How a server is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Sessions are ended, everything is written: a planned restart.
    Fast,
    /// Ends at once; recovers at the next start.
    Immediate,
}

impl Node {
    /// A server whose data directory is `root/<name>`; that directory is made by the caller.
    pub(super) fn new(pg: Arc<PgBinaries>, root: &Path, name: String) -> Result<Self, ClusterError> {
        Ok(Self {
            port: PortLease::take()?,
            data: root.join(&name),
            log: root.join(format!("{name}.log")),
            name,
            pg,
            child: Mutex::new(None),
            detached: false,
        })
    }

    /// Leaves the server running when this value is dropped.
    pub(super) fn detach(&mut self) {
        self.detached = true;
    }

    /// The node's name, which is also its `cluster_name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port that it listens on, at 127.0.0.1 and in the cluster's directory.
    pub fn port(&self) -> u16 {
        self.port.port()
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// Its log file.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// Process id of its postmaster while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.lock().as_ref().map(Child::id)
    }

    /// Writes the node's own settings, over those that every node has; they hold from the next
    /// start or reload.
    ///
    /// # Errors
    /// The file can't be written.
    pub(super) fn write_conf(&self, settings: &[(String, String)]) -> Result<(), ClusterError> {
        let mut text = String::new();
        let sockets = self.data.parent().unwrap_or(Path::new("/"));
        let own = [
            ("port", self.port().to_string()),
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("unix_socket_directories", sockets.display().to_string()),
            ("cluster_name", self.name.clone()),
        ];
        let given = settings.iter().map(|(key, value)| (key.as_str(), value.clone()));
        for (key, value) in own.into_iter().chain(given) {
            let _ = writeln!(text, "{key} = '{}'", value.replace('\'', "''"));
        }
        self.write_file("node.conf", &text)
    }

    /// Writes a file in the data directory that only the server can read: a certificate, a key,
    /// `pg_hba.conf`.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_file(&self, name: &str, text: &str) -> Result<(), ClusterError> {
        write_private(&self.pg, &self.data.join(name), text)
    }

    /// Changes settings for good, as `ALTER SYSTEM` would; takes effect at the next
    /// [`Self::reload`] or [`Self::restart`].
    ///
    /// # Errors
    /// The file can't be written.
    pub fn configure(&self, settings: &[(&str, &str)]) -> Result<(), ClusterError> {
        let path = self.data.join("node.conf");
        let mut text = fs::read_to_string(&path).doing(|| format!("reading {}", path.display()))?;
        for (key, value) in settings {
            let _ = writeln!(text, "{key} = '{}'", value.replace('\'', "''"));
        }
        self.write_file("node.conf", &text)
    }

    /// Makes the node a standby of the server on `port` from its next start or reload on.
    ///
    /// # Errors
    /// The files can't be written.
    pub(super) fn follow(&self, port: u16, password: &str) -> Result<(), ClusterError> {
        let conninfo =
            format!("host=127.0.0.1 port={port} user={REPLICATOR} password={password} application_name={}", self.name);
        self.write_file("standby.signal", "")?;
        self.configure(&[("primary_conninfo", &conninfo)])
    }

    /// Starts the server and waits until it accepts connections. Nothing happens when it runs.
    ///
    /// # Errors
    /// It ends at once or isn't ready within a minute; the error holds the end of its log.
    pub fn start(&self) -> Result<(), ClusterError> {
        self.spawn()?;
        self.wait_ready()
    }

    /// Starts the server without waiting.
    pub(super) fn spawn(&self) -> Result<(), ClusterError> {
        let mut child = self.child.lock();
        if child.is_some() {
            return Ok(());
        }
        let doing = || format!("starting server {}", self.name);
        let log = File::options().create(true).append(true).open(&self.log).doing(doing)?;
        let spawned = self
            .pg
            .command("postgres", &self.data)
            .arg("-D")
            .arg(&self.data)
            .stdout(Stdio::from(log.try_clone().doing(doing)?))
            .stderr(Stdio::from(log))
            // Ctrl-C at the terminal is for us, who then stop the servers in order.
            .process_group(0)
            .spawn()
            .doing(doing)?;
        *child = Some(spawned);
        Ok(())
    }

    /// Waits until the server accepts connections.
    pub(super) fn wait_ready(&self) -> Result<(), ClusterError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Some(pid) = self.pid() else {
                return Err(self.error("was stopped while it started"));
            };
            if self.is_ready(pid) {
                return Ok(());
            }
            if self.reap()? {
                return Err(self.error("ended while it started"));
            }
            if Instant::now() > deadline {
                return Err(self.error("did not accept connections within a minute"));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// `postmaster.pid` names the process in its first line and says `ready` in its eighth.
    fn is_ready(&self, pid: u32) -> bool {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let mut lines = text.lines();
        lines.next().and_then(|line| line.trim().parse().ok()) == Some(pid)
            && lines.nth(6).is_some_and(|line| line.trim() == "ready")
    }

    /// Stops the server and waits for its end. Nothing happens when it doesn't run.
    ///
    /// # Errors
    /// It is still there after a minute.
    pub fn stop(&self, mode: StopMode) -> Result<(), ClusterError> {
        self.ask_to_stop(mode);
        self.wait_end()
    }

    /// Sends the signal to stop, without waiting.
    pub(super) fn ask_to_stop(&self, mode: StopMode) {
        self.resume();
        self.signal(match mode {
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        });
    }

    /// Stops and starts the server.
    ///
    /// # Errors
    /// As [`Self::stop`] and [`Self::start`].
    pub fn restart(&self, mode: StopMode) -> Result<(), ClusterError> {
        self.stop(mode)?;
        self.start()
    }

    /// Ends the server and all its processes by SIGKILL, as a loss of power would. None is left afterwards, not even one
    /// that was frozen: without its postmaster nobody would ever wake it.
    ///
    /// # Errors
    /// One is still there after a minute.
    pub fn kill(&self) -> Result<(), ClusterError> {
        let children = self.freeze();
        children.iter().for_each(|child| child.signal(Signal::KILL));
        self.signal(Signal::KILL);
        self.wait_end()?;
        let deadline = Instant::now() + PATIENCE;
        while !children.iter().all(|child| child.has_ended()) {
            if Instant::now() > deadline {
                return Err(self.error("left processes behind"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Freezes the server and all its processes: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.freeze().iter().for_each(|child| child.signal(Signal::STOP));
    }

    /// Ends [`Self::pause`].
    pub fn resume(&self) {
        let Some(pid) = self.pid() else { return };
        children_of(pid).iter().for_each(|child| child.signal(Signal::CONT));
        self.signal(Signal::CONT);
    }

    /// Freezes the postmaster, and tells what it has started: that is all, as it starts nothing more.
    fn freeze(&self) -> Vec<Process> {
        let Some(pid) = self.pid() else { return Vec::new() };
        self.signal(Signal::STOP);
        let deadline = Instant::now() + Duration::from_secs(1);
        while !is_still(pid) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        children_of(pid)
    }

    /// Makes the server read its configuration again.
    pub fn reload(&self) {
        self.signal(Signal::HUP);
    }

    /// Makes a standby a primary and waits until it takes writes.
    ///
    /// # Errors
    /// `pg_ctl` fails, for instance because the node is no standby.
    pub fn promote(&self) -> Result<(), ClusterError> {
        let mut command = self.pg.command("pg_ctl", &self.data);
        command.args(["promote", "--wait", "-D"]).arg(&self.data);
        super::binaries::finish("pg_ctl promote", &mut command).map(drop)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            send(pid, signal);
        }
    }

    fn wait_end(&self) -> Result<(), ClusterError> {
        let deadline = Instant::now() + PATIENCE;
        while !self.reap()? {
            if Instant::now() > deadline {
                return Err(self.error("did not end within a minute"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Whether the server has ended; collects its exit status then.
    fn reap(&self) -> Result<bool, ClusterError> {
        let mut slot = self.child.lock();
        let Some(child) = slot.as_mut() else {
            return Ok(true);
        };
        let ended = child.try_wait().doing(|| format!("waiting for server {}", self.name))?.is_some();
        if ended {
            *slot = None;
        }
        Ok(ended)
    }

    fn error(&self, what: &'static str) -> ClusterError {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(12)..].join("\n");
        ClusterError::Server { node: self.name.clone(), what, log: self.log.clone(), tail }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.detached {
            let _ = self.stop(StopMode::Immediate);
        }
    }
}
