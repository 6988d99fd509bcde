//! What passed on which way, and the table of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Whether each test passed.
pub type Outcomes = BTreeMap<String, bool>;

/// A difference that is known and said why in the README: of a suite's test, however it is reached through Trunkline.
#[derive(Debug, Clone, Copy)]
pub struct Explained {
    /// The test's name, or how it ends.
    pub test: &'static str,
    /// Why it differs, in a few words.
    pub why: &'static str,
}

/// Writes the table of a suite to `results/table.md` and prints it; fails when any test's outcome through Trunkline is not that of
/// the direct connection, and not explained. The first column is the direct connection's.
pub fn judge(suite: &str, columns: &[(String, Outcomes)], explained: &[Explained], results: &Path) {
    let (_, direct) = &columns[0];
    let mut text =
        format!("| {suite} | tests | passed | failed | as on a direct connection |\n|---|--:|--:|--:|--:|\n");
    let mut differing = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (title, outcomes) in columns {
        let passed = outcomes.values().filter(|passed| **passed).count();
        let names: BTreeSet<_> = direct.keys().chain(outcomes.keys()).collect();
        let (total, mut same) = (names.len(), 0);
        for name in names {
            match direct.get(name) == outcomes.get(name) {
                true => same += 1,
                false => drop(differing.entry(name.as_str()).or_default().insert(title.as_str())),
            }
        }
        let failed = outcomes.len() - passed;
        let _ = writeln!(text, "| {title} | {} | {passed} | {failed} | {same} of {total} |", outcomes.len());
    }
    let failing_directly: Vec<_> =
        direct.iter().filter(|(_, passed)| !**passed).map(|(name, _)| name.as_str()).collect();
    if !failing_directly.is_empty() {
        let _ = writeln!(text, "\nFails on a direct connection already: {}", failing_directly.join(", "));
    }
    let mut unexplained = Vec::new();
    for (name, titles) in differing {
        let titles = titles.into_iter().collect::<Vec<_>>().join("; ");
        match explained.iter().find(|explained| name.ends_with(explained.test)) {
            Some(Explained { why, .. }) => drop(writeln!(text, "\n{name} ({titles}): {why}")),
            None => {
                let _ = writeln!(text, "\n{name} ({titles}): NOT EXPLAINED");
                unexplained.push(name);
            }
        }
    }
    println!("\n{text}\nDetails: {}", results.display());
    fs::write(results.join("table.md"), text).unwrap();
    assert!(!direct.is_empty(), "no test has run");
    assert!(unexplained.is_empty(), "{suite}: other than on a direct connection: {unexplained:?}");
}
