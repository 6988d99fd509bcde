//! Holds threads to a small share of a CPU each, by the cpu controller of control groups (version 1, which can do so for
//! single threads of a process without further ado).

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::process_tree::ProcessTree;

const CONTROLLER: &str = "/sys/fs/cgroup/cpu";
/// Microseconds. Shorter than usual, so that a thread never pauses for long.
const PERIOD: u32 = 10_000;

/// One group per thread; gone when dropped.
#[derive(Debug)]
pub struct Throttle {
    groups: Vec<PathBuf>,
}

impl Throttle {
    /// Gives each thread of these processes so many percent of a CPU. Threads that they start later share with the one
    /// that started them.
    ///
    /// # Errors
    /// Why that can't be done here.
    pub fn threads(tree: &ProcessTree, percent: u32) -> Result<Self, String> {
        let mut throttle = Self { groups: Vec::new() };
        for (_, thread) in tree.threads() {
            let group = Path::new(CONTROLLER).join(format!("trunkline-bench-{thread}"));
            fs::create_dir(&group).map_err(|error| format!("{}: {error}", group.display()))?;
            throttle.groups.push(group.clone());
            let quota = PERIOD * percent / 100;
            for (file, value) in [("cpu.cfs_period_us", PERIOD), ("cpu.cfs_quota_us", quota), ("tasks", thread)] {
                write(&group.join(file), value)?;
            }
        }
        Ok(throttle)
    }

    /// Whether it can be done here at all.
    ///
    /// # Errors
    /// Why not.
    pub fn check() -> Result<(), String> {
        if !Path::new(CONTROLLER).join("cpu.cfs_quota_us").exists() {
            return Err(format!("no cpu controller of control groups, version 1, at {CONTROLLER}"));
        }
        let group = Path::new(CONTROLLER).join(format!("trunkline-bench-{}", std::process::id()));
        fs::create_dir(&group).and_then(|()| fs::remove_dir(&group)).map_err(|error| format!("{CONTROLLER}: {error}"))
    }
}

fn write(file: &Path, value: u32) -> Result<(), String> {
    fs::write(file, value.to_string()).map_err(|error| format!("{}: {error}", file.display()))
}

impl Drop for Throttle {
    fn drop(&mut self) {
        for group in &self.groups {
            // A group goes when nothing is in it.
            for thread in fs::read_to_string(group.join("tasks")).unwrap_or_default().lines() {
                let _ = fs::write(Path::new(CONTROLLER).join("tasks"), thread);
            }
            for _ in 0..50 {
                if fs::remove_dir(group).is_ok() {
                    break;
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
