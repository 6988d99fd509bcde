//! What the operating system says about this process. Read when `/metrics` is; Linux only.

use std::fs;

/// Kernel ticks per second in `/proc`: the same on every architecture that Rust's tier 1 and 2 Linux
/// targets have.
const TICKS: f64 = 100.0;

/// Resources of the process at one moment. A field is `None` where the system does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// User and system CPU time in seconds.
    pub cpu_seconds: Option<f64>,
    /// Resident memory in bytes.
    pub resident_bytes: Option<f64>,
    /// Open file descriptors.
    pub open_fds: Option<f64>,
    /// File descriptors that may be open.
    pub max_fds: Option<f64>,
}

impl Process {
    /// Reads `/proc/self`.
    pub fn read() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let fds = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1) as f64);
        Self {
            cpu_seconds: fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat)),
            resident_bytes: fs::read_to_string("/proc/self/status").ok().and_then(|s| resident_bytes(&s)),
            open_fds: fds,
            max_fds: limit.map(|limit| limit as f64),
        }
    }
}

/// Fields 14 and 15 of `stat`, counted after the command, which is in parentheses and may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 100 1000 200";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2_097_152.0));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn reads_this_process() {
        let process = Process::read();
        assert!(process.cpu_seconds.is_some());
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 1e6));
        assert!(process.open_fds.is_some_and(|fds| fds >= 3.0));
    }
}
