//! Medians, their spread, and the ratio to PgBouncer in the same round, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread;

use serde::Serialize;

use super::Options;
use super::load::{Case, Measured};
use super::peers::Peer;

/// The peer that the others are compared with.
const YARDSTICK: &str = "pgbouncer";

/// All measurements.
#[derive(Debug, Serialize)]
pub struct Results {
    peers: Vec<Described>,
    rounds: usize,
    seconds: u32,
    scale: u32,
    pool_size: u32,
    cpus: usize,
    /// What the machine had to do besides, when it began: the load average of the last minute.
    load_before: String,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Described {
    name: &'static str,
    what: String,
}

/// One case through one peer.
#[derive(Debug, Serialize)]
struct Row {
    case: String,
    peer: &'static str,
    /// By round.
    measured: BTreeMap<usize, Measured>,
    /// What pgbench said where it failed.
    errors: Vec<String>,
}

impl Results {
    /// None yet.
    pub fn new(peers: &[Peer], options: &Options) -> Self {
        Self {
            peers: peers.iter().map(|peer| Described { name: peer.name(), what: peer.what() }).collect(),
            rounds: options.rounds,
            seconds: options.seconds,
            scale: options.scale,
            pool_size: options.pool_size,
            cpus: thread::available_parallelism().map_or(0, usize::from),
            load_before: load_average(),
            rows: Vec::new(),
        }
    }

    /// Adds the measurement of a round.
    pub fn add(&mut self, case: &Case, peer: &'static str, round: usize, measured: Result<Measured, String>) {
        let name = case.name();
        let index = self.rows.iter().position(|row| row.case == name && row.peer == peer).unwrap_or_else(|| {
            self.rows.push(Row { case: name, peer, measured: BTreeMap::new(), errors: Vec::new() });
            self.rows.len() - 1
        });
        match measured {
            Ok(measured) => {
                self.rows[index].measured.insert(round, measured);
            }
            Err(error) => self.rows[index].errors.push(error),
        }
    }

    /// What was compared, then one line per case with four columns per peer: median TPS, mean latency, CPU per
    /// transaction with half the distance between the largest and the smallest, and the latter's ratio to
    /// PgBouncer's: the median of the ratios within each round, since a machine's noise differs between rounds.
    pub fn table(&self) -> String {
        let mut text = format!(
            "medians of {} rounds of {} s; scale {}, {} server connections per node; {} CPUs, load average {} before\n",
            self.rounds, self.seconds, self.scale, self.pool_size, self.cpus, self.load_before
        );
        for peer in &self.peers {
            let _ = writeln!(text, "  {:10} {}", peer.name, peer.what);
        }
        let _ = write!(text, "{:28}", "");
        for peer in &self.peers {
            let _ = write!(text, " | {:<45}", peer.name);
        }
        let _ = write!(text, "\n{:28}", "case");
        for _ in &self.peers {
            let _ = write!(text, " | {:>9} {:>9} {:>15} {:>9}", "TPS", "lat. ms", "CPU µs/trans.", "ratio");
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
                let cells = self.row(case, peer.name).map_or_else(|| "n/a".to_owned(), |row| self.cells(row));
                let _ = write!(text, " | {cells:>45}");
            }
            text.push('\n');
        }
        for row in self.rows.iter().filter(|row| !row.errors.is_empty()) {
            let first = row.errors[0].lines().find(|line| line.contains("ERROR") || line.contains("FATAL"));
            let shown = first.or(row.errors[0].lines().next()).unwrap_or_default();
            let (failed, rounds) = (row.errors.len(), self.rounds);
            let _ = writeln!(text, "{} through {}: {failed} of {rounds} failed: {shown}", row.case, row.peer);
        }
        text
    }

    /// Writes every single measurement.
    pub fn write_json(&self, path: &Path) {
        let text = serde_json::to_string_pretty(self).unwrap();
        fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    fn row(&self, case: &str, peer: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.case == case && row.peer == peer)
    }

    fn cells(&self, row: &Row) -> String {
        let measured = || row.measured.values();
        let (Some(tps), Some(latency)) =
            (median(measured().map(|one| one.tps)), median(measured().map(|one| one.latency_ms)))
        else {
            return "error".to_owned();
        };
        let costs: Vec<f64> = measured().filter_map(|one| one.cpu_us).collect();
        let most = costs.iter().copied().fold(f64::MIN, f64::max);
        let least = costs.iter().copied().fold(f64::MAX, f64::min);
        let cost = median(costs.into_iter())
            .map_or_else(|| "-".to_owned(), |cost| format!("{cost:.1} ±{:.1}", (most - least) / 2.0));
        let ratio = self.ratio(row).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        format!("{tps:>9.0} {latency:>9.3} {cost:>15} {ratio:>9}")
    }

    /// CPU per transaction beside PgBouncer's in the same case and round.
    fn ratio(&self, row: &Row) -> Option<f64> {
        let yardstick = self.row(&row.case, YARDSTICK)?;
        let of_round = |(round, one): (&usize, &Measured)| Some(one.cpu_us? / yardstick.measured.get(round)?.cpu_us?);
        median(row.measured.iter().filter_map(of_round))
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) })
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or_default().to_owned()
}
