//! Where it was measured.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use serde::Serialize;
use trunkline::app::demo::PgBinaries;

/// A load average of the last minute above this means that somebody else was working.
const BUSY: f64 = 0.5;

/// The machine and the programs that don't depend on the peers, before the first measurement.
#[derive(Debug, Serialize)]
pub struct Machine {
    date: String,
    cpu: String,
    cpus: usize,
    memory_mib: u64,
    kernel: String,
    /// Of the last minute, before anything was started.
    load_before: f64,
    trunkline: String,
    postgres: String,
}

impl Machine {
    /// Looks.
    pub fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
            line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 = memory.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
        Self {
            date: jiff::Zoned::now().strftime("%Y-%m-%d %H:%M %Z").to_string(),
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cpus: thread::available_parallelism().map_or(0, usize::from),
            memory_mib: kib / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: read("/proc/loadavg").split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0.0),
            trunkline: format!("Trunkline {}{}", env!("CARGO_PKG_VERSION"), commit()),
            postgres: PgBinaries::find().map_or_else(|error| error.to_string(), |pg| first_line(&pg.path("postgres"))),
        }
    }

    /// What is to be said when somebody else was working.
    pub fn warning(&self) -> Option<String> {
        (self.load_before > BUSY).then(|| {
            let load = self.load_before;
            format!("the load average before the start was {load}, more than {BUSY}: something else was running")
        })
    }

    /// In lines.
    pub fn lines(&self) -> Vec<String> {
        vec![
            format!("{}; load average before: {}", self.date, self.load_before),
            format!("{} × {}, {} MiB, Linux {}", self.cpus, self.cpu, self.memory_mib, self.kernel),
            format!("{}, {}", self.trunkline, self.postgres),
        ]
    }
}

/// The first line of what a program answers to `--version`.
pub fn first_line(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or_default().to_owned()
}

/// The commit that the sources are of, where git knows it; `+` = with changes.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    git(&["rev-parse", "--short", "HEAD"])
        .map_or(String::new(), |hash| format!(" ({hash}{})", if changed { "+" } else { "" }))
}
