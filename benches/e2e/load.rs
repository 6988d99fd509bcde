//! pgbench: what is run and what comes out.

use std::process::Command;

use serde::Serialize;
use trunkline::app::demo::PgBinaries;

use super::support::clusters::TestDb;

/// One workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// pgbench's built-in script.
    script: &'static str,
    /// `-M`.
    mode: &'static str,
    /// `-c`.
    clients: u32,
}

/// What one run measured.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Transactions in the whole run.
    pub transactions: f64,
    /// Transactions per second, connecting excluded.
    pub tps: f64,
    /// Mean latency in milliseconds.
    pub latency_ms: f64,
    /// CPU time of the proxy per transaction in microseconds.
    pub cpu_us: Option<f64>,
}

impl Case {
    /// Both scripts in the three protocols with each number of clients.
    pub fn all(clients: &[u32]) -> Vec<Self> {
        let mut cases = Vec::new();
        for script in ["select-only", "tpcb-like"] {
            for mode in ["simple", "extended", "prepared"] {
                cases.extend(clients.iter().map(|&clients| Self { script, mode, clients }));
            }
        }
        cases
    }

    /// Whether it uses named prepared statements.
    pub fn is_prepared(&self) -> bool {
        self.mode == "prepared"
    }

    /// Such as `select-only prepared c16`.
    pub fn name(&self) -> String {
        format!("{} {} c{}", self.script, self.mode, self.clients)
    }
}

/// Fills the database past every proxy, and waits for the replicas.
pub fn initialise(db: &TestDb, scale: u32) {
    let url = db.url(db.cluster().primary_port());
    pgbench(&["-i", "-q", "-s", &scale.to_string(), &url]).unwrap_or_else(|error| panic!("pgbench -i: {error}"));
    db.run("CHECKPOINT");
    db.wait_replayed();
}

/// Runs a case for so long against whatever listens behind the URL.
///
/// # Errors
/// What pgbench said, when it or one of its clients failed.
pub fn run(case: &Case, url: &str, seconds: u32) -> Result<Measured, String> {
    let (clients, seconds) = (case.clients.to_string(), seconds.to_string());
    let threads = case.clients.min(2).to_string();
    let text =
        pgbench(&["-n", "-b", case.script, "-M", case.mode, "-c", &clients, "-j", &threads, "-T", &seconds, url])?;
    let number = |label: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(label)).ok_or(format!("no {label:?} in:\n{text}"))?;
        let word = line.split_whitespace().next().unwrap_or_default();
        word.parse::<f64>().map_err(|error| format!("{label}{word}: {error}"))
    };
    Ok(Measured {
        transactions: number("number of transactions actually processed: ")?,
        tps: number("tps = ")?,
        latency_ms: number("latency average = ")?,
        cpu_us: None,
    })
}

fn pgbench(args: &[&str]) -> Result<String, String> {
    let pg = PgBinaries::find().map_err(|error| error.to_string())?;
    let output = Command::new(pg.path("pgbench")).args(args).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}
