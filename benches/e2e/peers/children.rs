//! Processes that the bench starts itself, on one port.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use trunkline::app::demo::PortLease;

use super::super::ground::Ground;
use super::super::process_tree::{self, ProcessTree};
use super::super::sockets;
use super::super::support::clusters::{APP, APP_PASSWORD};
use super::PATIENCE;

/// Longest wait for a process that was asked to end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Ended when dropped, with whatever they have started.
#[derive(Debug)]
pub struct Children {
    running: Vec<Child>,
    port: PortLease,
    dir: PathBuf,
}

impl Children {
    /// None yet: a port, and a directory.
    pub fn new(ground: &Ground) -> Result<Self, String> {
        let port = PortLease::take().map_err(|error| error.to_string())?;
        Ok(Self { running: Vec::new(), port, dir: ground.new_dir() })
    }

    /// Where they are to listen.
    pub fn port(&self) -> u16 {
        self.port.port()
    }

    /// For their files; the log is there.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The processes that were started.
    pub fn pids(&self) -> Vec<u32> {
        self.running.iter().map(Child::id).collect()
    }

    /// Starts one more.
    pub fn spawn(&mut self, command: &mut Command) -> Result<(), String> {
        let log = File::options().create(true).append(true).open(self.log()).map_err(|error| error.to_string())?;
        let again = log.try_clone().map_err(|error| error.to_string())?;
        let child = command.current_dir(&self.dir).stdin(Stdio::null()).stdout(again).stderr(log).spawn();
        self.running.push(child.map_err(|error| format!("{}: {error}", command.get_program().display()))?);
        Ok(())
    }

    /// Starts a line of shell.
    pub fn shell(&mut self, line: &str) -> Result<(), String> {
        self.spawn(Command::new("sh").args(["-c", line]))
    }

    /// Puts into a template what it stands for.
    pub fn fill(&self, template: &str, ground: &Ground) -> String {
        let cluster = ground.db.cluster();
        let replicas: Vec<String> = cluster.replica_ports().map(|port| port.to_string()).collect();
        let pairs = [
            ("{port}", self.port().to_string()),
            ("{primary_port}", cluster.primary_port().to_string()),
            ("{replica_ports}", replicas.join(" ")),
            ("{user}", APP.to_owned()),
            ("{password}", APP_PASSWORD.to_owned()),
            ("{database}", ground.db.name.clone()),
            ("{dir}", self.dir.display().to_string()),
            ("{clients}", ground.options.most_clients().to_string()),
            ("{pool_size}", ground.options.pool_size.to_string()),
            ("{certificate}", ground.certificate.display().to_string()),
            ("{key}", ground.key.display().to_string()),
        ];
        pairs.into_iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, &value))
    }

    /// Waits until so many sockets listen on the port.
    pub fn wait_listening(&mut self, sockets: usize) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while sockets::listening(self.port()) < sockets {
            for child in &mut self.running {
                if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                    return Err(format!("ended with {status}: {}", self.last_words()));
                }
            }
            if Instant::now() > deadline {
                return Err(format!("doesn't listen: {}", self.last_words()));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        // Whoever loses its parent is no longer below it: they are noted first.
        let members = ProcessTree::of(self.pids()).members();
        self.running.iter().for_each(|child| signal(child.id(), Signal::TERM));
        let deadline = Instant::now() + FAREWELL;
        while self.running.iter_mut().any(|child| matches!(child.try_wait(), Ok(None))) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        for (pid, started) in members {
            if process_tree::is_alive(pid, started) {
                signal(pid, Signal::KILL);
            }
        }
        for child in &mut self.running {
            let _ = child.wait();
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}
