//! Medians and their spread, as a table and as JSON.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::load::{Case, Measured};
use super::peers::Peer;

/// All measurements.
#[derive(Debug, Serialize)]
pub struct Results {
    peers: Vec<&'static str>,
    rounds: usize,
    seconds: u32,
    rows: Vec<Row>,
}

/// One case through one peer.
#[derive(Debug, Serialize)]
struct Row {
    case: String,
    peer: &'static str,
    measured: Vec<Measured>,
    /// What pgbench said where it failed.
    errors: Vec<String>,
}

impl Results {
    /// None yet.
    pub fn new(peers: &[Peer], rounds: usize, seconds: u32) -> Self {
        Self { peers: peers.iter().map(Peer::name).collect(), rounds, seconds, rows: Vec::new() }
    }

    /// Adds one measurement.
    pub fn add(&mut self, case: &Case, peer: &'static str, measured: Result<Measured, String>) {
        let name = case.name();
        let index = self.rows.iter().position(|row| row.case == name && row.peer == peer).unwrap_or_else(|| {
            self.rows.push(Row { case: name, peer, measured: Vec::new(), errors: Vec::new() });
            self.rows.len() - 1
        });
        match measured {
            Ok(measured) => self.rows[index].measured.push(measured),
            Err(error) => self.rows[index].errors.push(error),
        }
    }

    /// One line per case, three columns per peer: median TPS, mean latency, and CPU per transaction, the latter
    /// with half the distance between the largest and the smallest.
    pub fn table(&self) -> String {
        let mut text = format!("{:28}", "medians");
        for peer in &self.peers {
            let _ = write!(text, " | {peer:>9}: TPS  lat. ms  CPU µs/transaction");
        }
        text.push('\n');
        let mut cases: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !cases.contains(&row.case.as_str()) {
                cases.push(&row.case);
            }
        }
        for case in cases {
            let _ = write!(text, "{case:28}");
            for peer in &self.peers {
                let row = self.rows.iter().find(|row| row.case == case && row.peer == *peer);
                let _ = write!(text, " | {}", row.map_or_else(String::new, Row::cells));
            }
            text.push('\n');
        }
        for row in self.rows.iter().filter(|row| !row.errors.is_empty()) {
            let first = row.errors[0].lines().find(|line| line.contains("ERROR") || line.contains("FATAL"));
            let shown = first.or(row.errors[0].lines().next()).unwrap_or_default();
            let _ = writeln!(
                text,
                "{} through {}: {} of {} failed: {shown}",
                row.case,
                row.peer,
                row.errors.len(),
                self.rounds
            );
        }
        text
    }

    /// Writes every single measurement.
    pub fn write_json(&self, path: &Path) {
        let text = serde_json::to_string_pretty(self).unwrap();
        fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

impl Row {
    fn cells(&self) -> String {
        if self.measured.is_empty() {
            return format!("{:>38}", "error");
        }
        let tps = median(self.measured.iter().map(|one| one.tps));
        let latency = median(self.measured.iter().map(|one| one.latency_ms));
        let costs: Vec<f64> = self.measured.iter().filter_map(|one| one.cpu_us).collect();
        let cost = if costs.is_empty() {
            "-".to_owned()
        } else {
            let most = costs.iter().copied().fold(f64::MIN, f64::max);
            let least = costs.iter().copied().fold(f64::MAX, f64::min);
            format!("{:.1} ±{:.1}", median(costs.into_iter()), (most - least) / 2.0)
        };
        format!("{tps:>14.0} {latency:>8.3} {cost:>14}")
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}
