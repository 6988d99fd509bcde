//! A Trunkline under callgrind: instructions of its threads between two moments, and the functions that they are of.

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

/// The functions that most of a profile is spent in, themselves and with what they call: instructions of each of `statements`.
pub fn functions(counts: &Counts, statements: usize, most: usize) -> String {
    let list = |title: &str, inclusive: &str| {
        let each = |function: &Function| {
            let share = 100.0 * function.count as f64 / counts.worker as f64;
            format!("{:>10.1} {share:>5.1} %  {}", function.count as f64 / statements as f64, function.name)
        };
        // Callgrind's own tool takes functions that have not returned yet for ones that do all themselves.
        let returned = |function: &&Function| function.count < counts.worker;
        let lines: Vec<_> = annotate(counts, inclusive).iter().filter(returned).take(most).map(each).collect();
        format!("{title}, instructions of each statement\n{}\n\n", lines.join("\n"))
    };
    list("Functions themselves", "no") + &list("Functions with what they call", "yes")
}

/// Instructions of what this function does and calls; 0 if it is no function of its own, or was not called.
pub fn inclusive(counts: &Counts, name: &str) -> u64 {
    annotate(counts, "yes").iter().find(|function| function.name.contains(name)).map_or(0, |function| function.count)
}

#[derive(Debug)]
struct Function {
    count: u64,
    /// As callgrind names it: `file.rs:path::function [program]`.
    name: String,
}

/// The functions of a profile, dearest first; lines such as `12,345 (6.78%)  file.rs:function [program]`.
fn annotate(counts: &Counts, inclusive: &str) -> Vec<Function> {
    let mut command = Command::new("callgrind_annotate");
    command.args(["--auto=no", "--threshold=100", &format!("--inclusive={inclusive}")]).arg(&counts.file);
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let function = |line: &str| {
        let (count, rest) = line.trim_start().split_once(" (")?;
        let name = rest.split_once(')')?.1.trim_start().to_owned();
        Some(Function { count: count.replace(',', "").parse().ok()?, name })
    };
    text.lines().filter_map(function).filter(|function| function.name != "PROGRAM TOTALS").collect()
}
