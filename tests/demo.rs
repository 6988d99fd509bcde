//! `trunkline demo` as a newcomer runs it: the lines that it prints work, and nothing is left behind however
//! it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for the demo's lines, and for its end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running demo in a directory of the test's own.
struct Demo {
    child: Child,
    /// The directory, which the demo makes and removes.
    dir: PathBuf,
    /// What it printed, until the line on Ctrl-C.
    banner: String,
}

impl Demo {
    /// Starts the demo and reads its lines until one holds this text.
    fn start(until: &'static str) -> Self {
        // Servers run as another user when we are root: not below target/, which may be out of their reach.
        let dir = std::env::temp_dir().join(format!("trunkline-demo-test-{}", std::process::id()));
        let mut child = Command::new(env!("CARGO_BIN_EXE_trunkline"))
            .args(["demo", "--replicas", "1", "--dir"])
            .arg(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, receiver) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut banner = String::new();
        while !banner.contains(until) {
            let line = receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {until:?} in:\n{banner}"));
            banner = banner + &line + "\n";
        }
        // Goes on reading, as a terminal would.
        thread::spawn(move || receiver.into_iter().for_each(drop));
        Self { child, dir, banner }
    }

    /// Runs the line that the banner prints for a topic in a shell.
    fn paste(&self, topic: &str) -> String {
        let mut lines = self.banner.lines();
        let line = lines.find_map(|line| line.trim_start().strip_prefix(topic)).expect(topic);
        // What stands in brackets behind the command is for people.
        let command = line.split("   (").next().unwrap();
        let output = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{command}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until the demo has ended, its directory is gone and no process works there any more.
    fn assert_gone(mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.child.try_wait().unwrap().is_some();
            let left = processes_in(&self.dir);
            if ended && !self.dir.exists() && left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "ended: {ended}, directory: {}, {left:?}", self.dir.exists());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // The guard process does the rest.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processes whose working directory is below this one.
fn processes_in(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let works_there = |path: &PathBuf| fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
    entries.map(|entry| entry.path()).filter(works_there).collect()
}

#[test]
fn the_lines_that_the_demo_prints_work_and_ctrl_c_ends_it() {
    let demo = Demo::start("Ctrl-C stops and removes everything");
    assert!(demo.banner.contains("before a primary and 1 streaming replica."), "{}", demo.banner);
    demo.paste("psql ");
    demo.paste("pgbench ");
    let text = demo.paste("prepared ");
    assert!(text.contains("number of failed transactions: 0 (0.000%)"), "{text}");
    assert!(demo.paste("metrics ").contains("# TYPE"));
    assert!(demo.paste("slow log ").contains("pg_sleep"));
    assert!(demo.paste("replica1 ").is_empty());
    demo.signal(Signal::INT);
    demo.assert_gone();
}

#[test]
fn the_lines_for_the_console_work() {
    let demo = Demo::start("Ctrl-C");
    assert!(demo.paste("console ").contains("cl_waiting"));
    assert!(demo.paste("routing ").contains("replica"));
}

#[test]
fn sigterm_ends_the_demo() {
    let demo = Demo::start("Ctrl-C");
    demo.signal(Signal::TERM);
    demo.assert_gone();
}

#[test]
fn a_demo_that_is_killed_leaves_nothing_behind() {
    let demo = Demo::start("Ctrl-C");
    demo.signal(Signal::KILL);
    demo.assert_gone();
}

#[test]
fn a_demo_ended_while_its_servers_start_leaves_nothing_behind() {
    for after in [100, 600, 1200, 1600] {
        let demo = Demo::start("Starting");
        thread::sleep(Duration::from_millis(after));
        demo.signal(Signal::TERM);
        demo.assert_gone();
    }
}
