//! Instructions of a statement in user space.
//!
//! Of each thread at least 1,000 statements a second are counted for `SHOW ROUTES`, up to 2,000 all of them. So that it is known how
//! many are, fewer are run here; what the counting costs is told by the profile.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::profile::{self, CALLGRIND, Counts};
use super::report::Table;
use super::work::{self, Shape};
use super::{Options, place};
use trunkline::app::demo::ClusterInfo;

/// Most instructions of a simple statement whose text is known, on the primary, of 10,000 a second.
const MOST: f64 = 12_000.0;
/// Of so many statements one is counted then.
const COUNTED: f64 = 10.0;
/// What counts one.
const COUNTING: [&str; 2] = ["Session>::sample_for", "RouteStats::end"];
/// How many functions are listed.
const FUNCTIONS: usize = 25;

/// One line of the table.
#[derive(Debug, Serialize)]
pub struct Row {
    place: &'static str,
    shape: &'static str,
    statements: usize,
    is_judged: bool,
    /// Instructions of one statement, without counting it for `SHOW ROUTES`.
    each: f64,
    /// What counting it costs.
    counting: f64,
    /// What does not grow with the number of statements, over the whole measurement.
    fixed: f64,
    /// Instructions of all other threads for each statement: under valgrind most of them are their jobs by the clock.
    others: f64,
}

/// Measures all of it; the list of functions of the first line goes to `functions`.
pub fn measure(cluster: &ClusterInfo, options: &Options, functions: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    for (place, replicas) in [("primary", false), ("two replicas", true)] {
        let world = place::start(cluster, replicas, 1, 4, CALLGRIND);
        let mut client = work::prepare(world.client());
        let count = options.statements;
        let mut part = 0;
        let mut counts = |statements: usize, shape: Shape| {
            part += 1;
            work::run_slowly(&mut client, shape, statements);
            profile::take(&world, part)
        };
        for shape in [Shape::Simple, Shape::Literals, Shape::Extended, Shape::Prepared] {
            counts(640, shape);
            let (once, twice) = (counts(count, shape), counts(2 * count, shape));
            let [counting_once, counting_twice] = [&once, &twice].map(counting);
            let (once_else, twice_else) =
                ((once.worker - counting_once) as f64, (twice.worker - counting_twice) as f64);
            let each = (twice_else - once_else) / count as f64;
            let fixed = 2.0 * once_else - twice_else;
            let counting = counting_twice as f64 / (2 * count) as f64;
            let is_judged = shape == Shape::Simple && !replicas;
            if is_judged {
                fs::write(functions, profile::functions(&twice, 2 * count, FUNCTIONS)).unwrap();
            }
            let others = (once.others + twice.others) as f64 / (3 * count) as f64;
            rows.push(Row { place, shape: shape.name(), statements: count, is_judged, each, counting, fixed, others });
        }
    }
    rows
}

impl Row {
    fn label(&self) -> String {
        format!("{}, {}", self.place, self.shape)
    }

    /// Of 10,000 statements a second.
    fn under_load(&self) -> f64 {
        self.each + self.counting / COUNTED
    }
}

/// Instructions of counting statements.
fn counting(counts: &Counts) -> u64 {
    COUNTING.iter().map(|name| profile::inclusive(counts, name)).sum()
}

/// The rows as a table.
pub fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(
        "Instructions of one statement in user space, one client",
        &["at 10,000/s", "up to 2,000/s", "other threads"],
    );
    for row in rows {
        table.add(
            row.label(),
            [row.under_load(), row.each + row.counting, row.others].iter().map(|cell| format!("{cell:.0}")).collect(),
        );
    }
    table
}

/// What is more than the budget allows.
pub fn judge(rows: &[Row]) -> Vec<String> {
    let over = rows.iter().filter(|row| row.is_judged && row.under_load() > MOST);
    over.map(|row| format!("{}: {:.0} instructions, not {MOST}", row.label(), row.under_load())).collect()
}
