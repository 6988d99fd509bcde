//! What a process and all its descendants use: a proxy may fork.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// Length of a clock tick in /proc/<pid>/stat: a hundredth of a second on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// The processes of a proxy, by the processes that were started.
#[derive(Debug, Clone)]
pub struct ProcessTree {
    roots: Vec<u32>,
}

/// What /proc/<pid>/stat tells.
struct Stat {
    parent: u32,
    /// User and system time, in ticks, of all threads of the process, ended ones too.
    own: u64,
    /// The same of its children that have ended and were waited for.
    ended_children: u64,
    /// In ticks since the machine was started: with the number it names a process for good.
    started: u64,
}

impl ProcessTree {
    /// Of these processes and whatever they start.
    pub fn of(roots: Vec<u32>) -> Self {
        Self { roots }
    }

    /// All its processes that run now, each with the time when it started.
    pub fn members(&self) -> Vec<(u32, u64)> {
        let all: HashMap<u32, Stat> = numbers("/proc").filter_map(|pid| Some((pid, stat(pid)?))).collect();
        let belongs = |pid: u32| {
            let mut pid = pid;
            while let Some(stat) = all.get(&pid) {
                if self.roots.contains(&pid) {
                    return true;
                }
                pid = stat.parent;
            }
            false
        };
        all.iter().filter(|(pid, _)| belongs(**pid)).map(|(pid, stat)| (*pid, stat.started)).collect()
    }

    /// CPU time, user and system, used until now.
    pub fn cpu(&self) -> Duration {
        self.pids().map(|pid| cpu_of(pid).unwrap_or_default()).sum()
    }

    /// Resident memory in KiB; what processes share counts once.
    pub fn memory_kib(&self) -> u64 {
        let of = |pid: u32, file: &str, key: &str| {
            let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        self.pids().filter_map(|pid| of(pid, "smaps_rollup", "Pss:").or_else(|| of(pid, "status", "VmRSS:"))).sum()
    }

    /// How often its threads have been put on a CPU after waiting: context switches, voluntary or not.
    pub fn wake_ups(&self) -> u64 {
        self.threads()
            .iter()
            .filter_map(|(pid, thread)| fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")).ok())
            .map(|text| {
                let lines = text.lines().filter(|line| line.contains("ctxt_switches"));
                lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>()
            })
            .sum()
    }

    /// Open files and sockets.
    pub fn files(&self) -> usize {
        self.pids().map(|pid| numbers(&format!("/proc/{pid}/fd")).count()).sum()
    }

    /// Process and thread of each of its threads.
    pub fn threads(&self) -> Vec<(u32, u32)> {
        let of = |pid: u32| numbers(&format!("/proc/{pid}/task")).map(move |thread| (pid, thread));
        self.pids().flat_map(of).collect()
    }

    fn pids(&self) -> impl Iterator<Item = u32> + use<> {
        self.members().into_iter().map(|(pid, _)| pid)
    }
}

/// The process that has started this one.
pub fn parent(pid: u32) -> Option<u32> {
    stat(pid).map(|stat| stat.parent)
}

/// Whether the process of this number is still the one that started then.
pub fn is_alive(pid: u32, started: u64) -> bool {
    stat(pid).is_some_and(|stat| stat.started == started)
}

/// Of one process and of its ended children.
///
/// The scheduler counts each living thread in nanoseconds. The process's own count in ticks includes threads that have
/// ended: where it is larger, some have. Of ended children there are only ticks.
fn cpu_of(pid: u32) -> Option<Duration> {
    let threads = numbers(&format!("/proc/{pid}/task"));
    let exact: u64 = threads
        .filter_map(|thread| fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    let stat = stat(pid)?;
    Some(Duration::from_nanos(exact).max(ticks(stat.own)) + ticks(stat.ended_children))
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(u64::try_from(TICK.as_millis()).unwrap_or(10)))
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold anything, also brackets and spaces. Fields are counted from 1 in proc(5); the third is next.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(field(4)?).ok()?,
        own: field(14)? + field(15)?,
        ended_children: field(16)? + field(17)?,
        started: field(22)?,
    })
}

/// The entries of a directory that are numbers.
fn numbers(dir: &str) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
