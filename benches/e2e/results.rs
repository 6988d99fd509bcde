//! All measurements, their medians, and the ratios to the yardstick in the same round.

use std::collections::BTreeMap;

use serde::Serialize;

use super::machine::Machine;
use super::options::{Options, SuiteName};
use super::peers::Peer;
use super::quantity::{Origin, Quantity, Readings, Role};
use super::suites::Suite;

/// The peer whose readings [`Origin::BeyondDirect`] subtracts.
const DIRECT: &str = "direct";

/// Everything.
#[derive(Debug, Serialize)]
pub struct Results {
    /// Where.
    pub machine: Machine,
    /// What was chosen.
    pub settings: Options,
    /// What came out.
    pub suites: Vec<SuiteResults>,
}

/// Of one suite.
#[derive(Debug, Serialize)]
pub struct SuiteResults {
    /// Its name.
    pub name: SuiteName,
    /// What is measured.
    pub about: &'static str,
    /// The peer that the others are compared with.
    pub yardstick: &'static str,
    /// What is measured, in the order of the tables.
    pub quantities: &'static [Quantity],
    /// Name of each peer and what exactly it is.
    pub peers: Vec<(String, String)>,
    /// In the order in which they were run first.
    pub rows: Vec<Row>,
    /// What could not be measured, and why.
    pub notes: Vec<String>,
}

/// One case through one peer.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub case: String,
    /// The peer's.
    pub peer: String,
    /// By round.
    rounds: BTreeMap<usize, Readings>,
    /// By key of the quantity; made at the end.
    summaries: BTreeMap<&'static str, Summary>,
    /// What was said where it failed.
    errors: Vec<String>,
}

/// One quantity of a row.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Summary {
    /// Over the rounds.
    pub value: Spread,
    /// The same of the ratios within each round: a machine's noise differs between rounds.
    pub ratio: Option<Spread>,
}

/// Of several numbers.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    /// The one in the middle.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl SuiteResults {
    /// None yet.
    pub fn new(suite: &Suite) -> Self {
        Self {
            name: suite.name,
            about: suite.about,
            yardstick: suite.yardstick,
            quantities: suite.quantities,
            peers: Vec::new(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Remembers what a peer is.
    pub fn describe(&mut self, peer: &Peer) {
        if !self.peers.iter().any(|(name, _)| *name == peer.name) {
            self.peers.push((peer.name.clone(), peer.what.clone()));
        }
    }

    /// Adds what a round has measured.
    pub fn add(&mut self, case: &str, peer: &str, round: usize, measured: Result<Readings, String>) {
        let known = self.rows.iter().position(|row| row.case == case && row.peer == peer);
        let index = known.unwrap_or_else(|| {
            let (case, peer) = (case.to_owned(), peer.to_owned());
            let (rounds, summaries, errors) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
            self.rows.push(Row { case, peer, rounds, summaries, errors });
            self.rows.len() - 1
        });
        match measured {
            Ok(readings) => {
                self.rows[index].rounds.insert(round, readings);
            }
            Err(error) => self.rows[index].errors.push(error),
        }
    }

    /// Makes the summaries, and a note of each failure.
    pub fn finish(&mut self) {
        let summaries: Vec<_> = self.rows.iter().map(|row| self.summaries_of(row)).collect();
        for (row, summaries) in self.rows.iter_mut().zip(summaries) {
            row.summaries = summaries;
            if let Some(first) = row.errors.first() {
                let telling = first.lines().find(|line| line.contains("ERROR") || line.contains("FATAL"));
                let shown = telling.or(first.lines().next()).unwrap_or_default();
                let rounds = row.errors.len() + row.rounds.len();
                let note =
                    format!("{} through {}: {} of {rounds} failed: {shown}", row.case, row.peer, row.errors.len());
                self.notes.push(note);
            }
        }
    }

    /// The cases, each once.
    pub fn cases(&self) -> Vec<&str> {
        let mut cases: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !cases.contains(&row.case.as_str()) {
                cases.push(&row.case);
            }
        }
        cases
    }

    /// One quantity of a case through a peer.
    pub fn summary(&self, case: &str, peer: &str, quantity: &Quantity) -> Option<Summary> {
        self.row(case, peer)?.summaries.get(quantity.key).copied()
    }

    fn row(&self, case: &str, peer: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.case == case && row.peer == peer)
    }

    fn summaries_of(&self, row: &Row) -> BTreeMap<&'static str, Summary> {
        let rounds = || row.rounds.keys().copied();
        let one = |quantity: &Quantity| {
            let value = Spread::of(rounds().filter_map(|round| self.value(row, round, quantity)))?;
            let yardstick = self.row(&row.case, self.yardstick).filter(|_| quantity.role != Role::Shown);
            let ratio_in = |round| {
                // Nothing is so and so much of nothing.
                let base = self.value(yardstick?, round, quantity).filter(|base| *base > 0.0)?;
                Some(self.value(row, round, quantity)? / base)
            };
            Some((quantity.key, Summary { value, ratio: Spread::of(rounds().filter_map(ratio_in)) }))
        };
        self.quantities.iter().filter_map(one).collect()
    }

    fn value(&self, row: &Row, round: usize, quantity: &Quantity) -> Option<f64> {
        let of = |row: &Row, key: &str| row.rounds.get(&round)?.get(key).copied();
        match quantity.origin {
            Origin::Measured => of(row, quantity.key),
            Origin::BeyondDirect(_) if row.peer == DIRECT => None,
            Origin::BeyondDirect(key) => Some(of(row, key)? - of(self.row(&row.case, DIRECT)?, key)?),
        }
    }
}

impl Spread {
    /// Of these; `None` of none.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let median = if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) };
        Some(Self { median, least: *values.first()?, most: *values.last()? })
    }
}
