//! What is printed and written.

mod grid;
mod plot;

use std::fs;
use std::path::{Path, PathBuf};

use super::results::{Results, SuiteResults};
use grid::Grid;

/// Between these lines of a file the markdown goes.
const MARKERS: [&str; 2] = ["<!-- last run: begin -->", "<!-- last run: end -->"];

/// Everything as text, for a terminal.
pub fn text(results: &Results) -> String {
    let mut lines = header(results);
    for suite in &results.suites {
        lines.push(format!("\n== {} ==\n{}", name(suite), suite.about));
        lines.extend(suite.peers.iter().map(|(name, what)| format!("  {name:20} {what}")));
        lines.extend(Grid::all(suite).iter().map(|grid| format!("\n{}", grid.text().trim_end())));
        lines.extend(suite.notes.iter().map(|note| format!("\n! {note}")));
    }
    lines.join("\n") + "\n"
}

/// Everything as markdown.
fn markdown(results: &Results) -> String {
    let mut lines: Vec<String> = header(results).into_iter().map(|line| format!("- {line}")).collect();
    for suite in &results.suites {
        lines.push(format!("\n### {}\n\n{}\n", name(suite), suite.about));
        lines.extend(suite.peers.iter().map(|(name, what)| format!("- `{name}`: {what}")));
        lines.extend(Grid::all(suite).iter().map(|grid| format!("\n{}", grid.markdown().trim_end())));
        lines.extend(suite.notes.iter().map(|note| format!("\nNot measured: {note}")));
    }
    lines.join("\n") + "\n"
}

/// Writes JSON, plot and markdown where they are wanted, and says where.
pub fn write(results: &Results) -> Vec<String> {
    let settings = &results.settings;
    // Beside CARGO_TARGET_TMPDIR, which is target/tmp.
    let usual = |name: &str| Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(name);
    let json = settings.json.clone().unwrap_or_else(|| usual("e2e.json"));
    put(&json, &serde_json::to_string_pretty(results).unwrap());
    let mut written = vec![json];
    let svg = settings.svg.clone().unwrap_or_else(|| usual("e2e.svg"));
    if let Some(drawn) = plot::svg(results) {
        put(&svg, &drawn);
        written.push(svg);
    }
    if let Some(path) = &settings.markdown {
        let there = fs::read_to_string(path).unwrap_or_default();
        put(path, &between_markers(&there, &markdown(results)));
        written.push(path.clone());
    }
    written.iter().map(|path: &PathBuf| format!("written: {}", path.display())).collect()
}

fn put(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// The text with what is between its markers replaced; without markers, only the new text.
fn between_markers(there: &str, new: &str) -> String {
    let [begin, end] = MARKERS;
    match (there.split_once(begin), there.split_once(end)) {
        (Some((before, _)), Some((_, after))) => format!("{before}{begin}\n\n{new}\n{end}{after}"),
        _ => new.to_owned(),
    }
}

fn header(results: &Results) -> Vec<String> {
    let settings = &results.settings;
    let mut lines = results.machine.lines();
    lines.push(format!(
        "medians of {} rounds of {} s, ± half the distance between the smallest and the largest; × is the median of the \
         ratios to the yardstick in the same round; pgbench scale {}, {} server connections per node, {} worker thread(s) \
         of Trunkline",
        settings.rounds, settings.seconds, settings.scale, settings.pool_size, settings.workers
    ));
    lines.extend(results.machine.warning().map(|warning| format!("WARNING: {warning}")));
    lines
}

fn name(suite: &SuiteResults) -> String {
    format!("{:?}", suite.name).to_lowercase()
}
