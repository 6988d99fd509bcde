//! System calls of the threads of a running process, written down by strace.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// The threads of a process as (number, name).
pub fn threads(pid: u32) -> Vec<(u32, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let named = |task: fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        Some((task.file_name().to_str()?.parse().ok()?, name.trim_end().to_owned()))
    };
    tasks.filter_map(|task| named(task.ok()?)).collect()
}

/// What a call of recv is counted as that only looks whether something is there, with MSG_PEEK.
pub const LOOK: &str = "recv(MSG_PEEK)";
/// What a write of eight bytes is counted as: of an event's counter, to wake a thread (or a runtime whose next timer is now earlier).
pub const WAKE: &str = "write(eventfd)";

/// A strace that writes down every call until it is told to stop.
#[derive(Debug)]
pub struct Trace {
    child: Child,
    /// Kept open: strace says there, too, that it detaches.
    _messages: BufReader<ChildStderr>,
    file: PathBuf,
}

impl Trace {
    /// Attaches to these threads; returns when each of them is traced.
    pub fn attach(threads: &[u32], file: PathBuf) -> Self {
        let mut command = Command::new("strace");
        command.args(["-s", "0", "-o"]).arg(&file);
        for thread in threads {
            command.arg("-p").arg(thread.to_string());
        }
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("strace is installed");
        let mut messages = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        for _ in threads {
            let length = messages.read_line(&mut said).unwrap();
            assert!(length > 0 && said.ends_with("attached\n"), "strace: {said}");
        }
        Self { child, _messages: messages, file }
    }

    /// Detaches, and returns how often each system call was made.
    pub fn stop(mut self) -> BTreeMap<String, u64> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        self.child.wait().unwrap();
        let calls = count(&fs::read_to_string(&self.file).unwrap());
        fs::remove_file(&self.file).unwrap();
        calls
    }
}

/// Counts the calls that were completed. A call during which another thread made one is told in two lines, of which the second
/// has what it returned: `12 <... epoll_wait resumed>[…], 1024, -1) = 1`; else it is `12 epoll_wait(3, […], 1024, -1) = 1`.
fn count(trace: &str) -> BTreeMap<String, u64> {
    let mut calls = BTreeMap::new();
    for line in trace.lines().filter(|line| line.contains(" = ")) {
        let call = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        let call = call.strip_prefix("<... ").unwrap_or(call);
        let Some(end) = call.find(|c: char| !c.is_ascii_alphanumeric() && c != '_') else { continue };
        let name = match &call[..end] {
            _ if line.contains("MSG_PEEK") => LOOK,
            "write" if line.contains(", 8)") && line.ends_with("= 8") => WAKE,
            name => name,
        };
        *calls.entry(name.to_owned()).or_default() += 1;
    }
    calls
}
