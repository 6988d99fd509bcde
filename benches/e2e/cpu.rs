//! CPU time of a process.

use std::fs;
use std::time::Duration;

/// CPU time, user and system, that all threads of a process have used until now.
///
/// From the scheduler's own count in nanoseconds of each thread (threads that have ended don't count: a
/// proxy's threads live as long as it), or from the process's clock ticks where the kernel keeps no such count.
pub fn used(pid: u32) -> Duration {
    from_scheduler(pid).unwrap_or_else(|| from_ticks(pid))
}

fn from_scheduler(pid: u32) -> Option<Duration> {
    let mut total = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        total += Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?);
    }
    (total > Duration::ZERO).then_some(total)
}

fn from_ticks(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    // utime and stime, fields 14 and 15 of the line, in hundredths of a second on every Linux.
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse().ok()).unwrap_or(0_u64);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
