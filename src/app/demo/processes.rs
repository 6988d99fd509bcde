//! The processes of a server: its postmaster and what that has started.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// A process, and no later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pid: u32,
    /// In clock ticks since the machine's start.
    started: u64,
}

/// What the kernel says of a process.
struct Stat {
    state: char,
    parent: u32,
    started: u64,
}

impl Stat {
    /// `None` = there is none.
    fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in brackets may hold anything: count fields from behind it.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

impl Process {
    /// Sends a signal, unless it has ended.
    pub fn signal(self, signal: Signal) {
        if !self.has_ended() {
            send(self.pid, signal);
        }
    }

    /// Whether it has ended. It may not have been waited for by its parent yet.
    pub fn has_ended(self) -> bool {
        Stat::of(self.pid).is_none_or(|stat| stat.started != self.started || matches!(stat.state, 'Z' | 'X'))
    }
}

/// Sends a signal to a process that is our own child, not waited for yet.
pub(super) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Whether a process is frozen, or can start no other for another reason.
pub(super) fn is_still(pid: u32) -> bool {
    Stat::of(pid).is_none_or(|stat| matches!(stat.state, 'T' | 'Z' | 'X'))
}

/// Processes whose parent is `pid`.
pub(super) fn children_of(pid: u32) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let child = |child: u32| {
        let stat = Stat::of(child).filter(|stat| stat.parent == pid)?;
        Some(Process { pid: child, started: stat.started })
    };
    numbers.filter_map(child).collect()
}
