//! A Trunkline under callgrind: instructions of its threads between two moments, and the functions that they are of.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::support::world::World;
use super::trace::threads;

/// What runs it: counts by thread are written whenever they are asked for, and begin anew.
pub const CALLGRIND: &[&str] =
    &["valgrind", "--tool=callgrind", "--separate-threads=yes", "--callgrind-out-file=callgrind"];

/// Counts of one stretch of time.
#[derive(Debug)]
pub struct Counts {
    /// Instructions of the worker.
    pub worker: u64,
    /// Instructions of all other threads: their jobs go by the clock.
    pub others: u64,
    /// The worker's profile.
    pub file: PathBuf,
}

/// The counts since the last time; `part` counts those times from 1.
pub fn take(world: &World, part: usize) -> Counts {
    let dumped = Command::new("callgrind_control").args(["--dump", &world.proxy.pid().to_string()]).output().unwrap();
    let said = String::from_utf8_lossy(&dumped.stdout).into_owned() + &String::from_utf8_lossy(&dumped.stderr);
    assert!(dumped.status.success() && said.contains("OK"), "callgrind_control: {said}");
    // Callgrind numbers threads as they begin, and so does the kernel: up to the worker none has ended.
    let mut threads = threads(world.proxy.pid());
    threads.sort();
    let worker = 1 + threads.iter().position(|(_, name)| name == "worker-0").unwrap();
    let file_of = |thread: usize| world.proxy.dir().join(format!("callgrind.{part}-{thread:02}"));
    let total = |thread: usize| {
        let text = fs::read_to_string(file_of(thread)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("totals: "))?;
        line.trim().parse::<u64>().ok()
    };
    let others = (1..=threads.len()).filter(|thread| *thread != worker).filter_map(total).sum();
    Counts { worker: total(worker).unwrap(), others, file: file_of(worker) }
}

/// What most of a profile is spent in, in instructions of each of `statements`: functions themselves, files of source, and functions
/// with what they call. What the compiler put into a function is part of it, and of its own file.
pub fn functions(counts: &Counts, statements: usize, most: usize) -> String {
    let (own, inclusive) = (annotate(counts, "no"), annotate(counts, "yes"));
    let list = |title: &str, sums: BTreeMap<&str, u64>| {
        // Callgrind's own tool takes functions that have not returned yet for ones that do all themselves.
        let mut sums: Vec<_> = sums.into_iter().filter(|(_, count)| *count < counts.worker).collect();
        sums.sort_by_key(|(_, count)| Reverse(*count));
        let each = |(name, count): &(&str, u64)| {
            let share = 100.0 * *count as f64 / counts.worker as f64;
            format!("{:>10.1} {share:>5.1} %  {name}", *count as f64 / statements as f64)
        };
        let lines: Vec<_> = sums.iter().take(most).map(each).collect();
        format!("{title}\n{}\n\n", lines.join("\n"))
    };
    let mut by_function = BTreeMap::new();
    let mut by_file = BTreeMap::new();
    for part in own.iter().filter(|part| part.count < counts.worker) {
        *by_function.entry(part.function.as_str()).or_insert(0) += part.count;
        *by_file.entry(part.file.as_str()).or_insert(0) += part.count;
    }
    let mut with_callees: BTreeMap<&str, u64> = BTreeMap::new();
    for part in &inclusive {
        let count = with_callees.entry(&part.function).or_default();
        *count = part.count.max(*count);
    }
    let title = |what: &str| {
        format!("{what}: instructions of each statement, {:.0} in all", counts.worker as f64 / statements as f64)
    };
    list(&title("functions themselves"), by_function)
        + &list(&title("files of source"), by_file)
        + &list(&title("functions with what they call"), with_callees)
}

/// Instructions of what this function does and calls; 0 if it is no function of its own, or was not called.
pub fn inclusive(counts: &Counts, name: &str) -> u64 {
    annotate(counts, "yes").iter().find(|part| part.function.contains(name)).map_or(0, |part| part.count)
}

/// What of a function comes from one file.
#[derive(Debug)]
struct Part {
    count: u64,
    file: String,
    function: String,
}

/// The parts of a profile, dearest first; lines such as `12,345 (6.78%)  file.rs:path::function [program]`.
fn annotate(counts: &Counts, inclusive: &str) -> Vec<Part> {
    let mut command = Command::new("callgrind_annotate");
    command.args(["--auto=no", "--threshold=100", &format!("--inclusive={inclusive}")]).arg(&counts.file);
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let part = |line: &str| {
        let (count, rest) = line.trim_start().split_once(" (")?;
        let (file, name) = rest.split_once(')')?.1.trim_start().split_once(':')?;
        let function = name.split_once(" [").map_or(name, |(function, _)| function);
        let count = count.replace(',', "").parse().ok()?;
        Some(Part { count, file: short(file), function: function.to_owned() })
    };
    text.lines().filter_map(part).collect()
}

/// A path from the crate's own directory on, or from the name of the library.
fn short(file: &str) -> String {
    let file = file.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/")).unwrap_or(file);
    let words: Vec<&str> = file.split('/').collect();
    let from = words.iter().rposition(|word| matches!(*word, "src" | "sysdeps")).unwrap_or(0).saturating_sub(1);
    words[from..].join("/")
}
