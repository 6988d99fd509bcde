//! The program under test, as a process.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use trunkline::app::demo::PortLease;

use super::clusters::{TestDb, scratch};

/// Longest wait for the program to get ready, to end, or to log something.
const PATIENCE: Duration = Duration::from_secs(20);

/// What to start.
#[derive(Debug, Default)]
pub struct Setup {
    config: Option<String>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    ports: Option<[Arc<PortLease>; 2]>,
    passed: Option<OwnedFd>,
    under: Vec<String>,
    program: Option<PathBuf>,
}

impl Setup {
    /// With a configuration file of this text; `@PORT@` and `@METRICS_PORT@` stand for free ports.
    pub fn config(text: impl Into<String>) -> Self {
        Self { config: Some(text.into()), ..Self::default() }
    }

    /// With no file: the test's database, its primary and all replicas, on the command line.
    pub fn before(db: &TestDb) -> Self {
        let replicas = db.cluster().replica_ports().flat_map(|port| ["--replica-url".to_owned(), db.url(port)]);
        let mut setup = Self::before_primary(db);
        setup.args.extend(replicas);
        setup
    }

    /// With no file: the test's database and its primary only.
    pub fn before_primary(db: &TestDb) -> Self {
        let url = db.url(db.cluster().primary_port());
        let listen = ["--listen", "127.0.0.1:@PORT@", "--metrics", "127.0.0.1:@METRICS_PORT@"];
        Self::default().args(["--database-url", &url]).args(listen)
    }

    /// With one more argument or several.
    #[must_use]
    pub fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.args.extend(args.into_iter().map(str::to_owned));
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With the ports of another one, to take over from it.
    #[must_use]
    pub fn beside(mut self, other: &Trunkline) -> Self {
        self.ports = Some([other.port.clone(), other.metrics.clone()]);
        self
    }

    /// With a listening socket as a service manager passes it.
    #[must_use]
    pub fn passed(mut self, socket: OwnedFd) -> Self {
        self.passed = Some(socket);
        self
    }

    /// Another build of it.
    #[must_use]
    pub fn program(mut self, program: PathBuf) -> Self {
        self.program = Some(program);
        self
    }

    /// Run by another program, such as valgrind with its options, that becomes it without another process id.
    #[must_use]
    pub fn under<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
        self.under.extend(words.into_iter().map(str::to_owned));
        self
    }

    /// Starts the program and waits until it listens.
    pub fn start(self) -> Trunkline {
        let mut proxy = self.launch();
        proxy.wait_listening();
        proxy
    }

    /// Starts the program without waiting: for a configuration that it refuses.
    pub fn launch(self) -> Trunkline {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = scratch(&format!("proxy{number}"));
        let lease = || Arc::new(PortLease::take().unwrap());
        let [port, metrics] = self.ports.clone().unwrap_or_else(|| [lease(), lease()]);
        let fill = |text: &str| {
            text.replace("@PORT@", &port.port().to_string())
                .replace("@METRICS_PORT@", &metrics.port().to_string())
                .replace("@DIR@", &dir.display().to_string())
        };
        let log = File::create(dir.join("log")).unwrap();
        let built = OsStr::new(env!("CARGO_BIN_EXE_trunkline"));
        let program = self.program.as_deref().map_or(built, Path::as_os_str);
        let mut command = match (&self.passed, self.under.split_first()) {
            (Some(_), _) => Command::new("sh"),
            (None, None) => Command::new(program),
            (None, Some((outer, options))) => {
                let mut command = Command::new(outer);
                command.args(options).arg(program);
                command
            }
        };
        command.current_dir(&dir).stdin(Stdio::null());
        if let Some(socket) = self.passed {
            let script = "export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 </dev/null";
            command.args(["-c", script]).arg(program).stdin(socket);
        }
        command.arg("run");
        if let Some(text) = &self.config {
            fs::write(dir.join("trunkline.toml"), fill(text)).unwrap();
            command.arg("--config").arg(dir.join("trunkline.toml"));
        }
        command.args(self.args.iter().map(|arg| fill(arg)));
        for (name, value) in &self.env {
            command.env(name, fill(value));
        }
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap();
        Trunkline { child, dir, port, metrics }
    }
}

/// A running Trunkline; ended when dropped.
#[derive(Debug)]
pub struct Trunkline {
    child: Child,
    dir: PathBuf,
    port: Arc<PortLease>,
    metrics: Arc<PortLease>,
}

impl Trunkline {
    /// The port for clients (`@PORT@`).
    pub fn port(&self) -> u16 {
        self.port.port()
    }

    /// The port of `/metrics` (`@METRICS_PORT@`).
    pub fn metrics_port(&self) -> u16 {
        self.metrics.port()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its directory: `trunkline.toml`, `log`, and whatever `@DIR@` was used for.
    pub fn dir(&self) -> &PathBuf {
        &self.dir
    }

    /// Replaces the text of its configuration file; send SIGHUP to have it read.
    pub fn rewrite_config(&self, text: &str) {
        let text = text
            .replace("@PORT@", &self.port().to_string())
            .replace("@METRICS_PORT@", &self.metrics_port().to_string())
            .replace("@DIR@", &self.dir.display().to_string());
        fs::write(self.dir.join("trunkline.toml"), text).unwrap();
    }

    /// Everything that it has written to standard output and standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Waits until a line of the log holds all these texts, and returns the line.
    pub fn wait_for_log(&mut self, texts: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            let mut lines = log.lines();
            if let Some(line) = lines.find(|line| texts.iter().all(|text| line.contains(text))) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "no line with {texts:?} in the log:\n{log}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.wait_for(PATIENCE).unwrap_or_else(|| panic!("still running:\n{}", self.log()))
    }

    /// Waits so long for its end.
    pub fn wait_for(&mut self, time: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            if Instant::now() > deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Gets a path from the metrics port: status line and body.
    pub fn http(&self, path: &str) -> (String, String) {
        // Its door opens a moment after the clients'.
        let deadline = Instant::now() + PATIENCE;
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", self.metrics_port())) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "metrics: {error}"),
            }
            thread::sleep(Duration::from_millis(5));
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
    }

    fn wait_listening(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port())).is_err() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("trunkline ended with {status}:\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "trunkline doesn't listen:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Trunkline {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of trunkline ---\n{}---", self.log());
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::INT);
            if self.wait_for(Duration::from_secs(5)).is_none() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}
