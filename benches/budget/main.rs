//! What one statement costs in system calls (counted by strace) and in instructions of user space (counted by valgrind): the
//! numbers that a noisy machine cannot move, judged by a budget.
//!
//! `make budget ARGS="--suites syscalls"` prints tables and writes `target/budget.json`; exit status 1 = over the budget, which lines
//! are is said. Both tools run the program as it is built for a release, with one worker. Two things to know about valgrind: it shows
//! programs a processor without AVX-512 (jemalloc and aws-lc run as they are, logins by SCRAM included), and threads run one at a
//! time, so that a statement that wakes another thread costs more here than its instructions tell.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod instructions;
mod pgbouncer;
mod place;
mod profile;
mod report;
mod syscalls;
mod trace;
mod work;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use serde::Serialize;

use support::clusters;

/// Options, after `--` of `cargo bench --bench budget --`.
#[derive(Debug, Parser)]
struct Options {
    /// What is measured
    #[arg(long, value_delimiter = ',', default_value = "syscalls,instructions")]
    suites: Vec<Suite>,
    /// Statements of each measurement
    #[arg(long, default_value_t = 3200)]
    statements: usize,
    /// A PgBouncer to count the system calls of, too
    #[arg(long)]
    pgbouncer: Option<PathBuf>,
    /// Where the results go [default: budget.json in Cargo's target directory]
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes the tables as markdown, too
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    Syscalls,
    Instructions,
}

/// All measurements.
#[derive(Debug, Default, Serialize)]
struct Results {
    syscalls: Vec<syscalls::Row>,
    instructions: Vec<instructions::Row>,
    /// What is over the budget.
    over: Vec<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    // Beside CARGO_TARGET_TMPDIR, which is target/tmp.
    let file = |name: &str| Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(name);
    let cluster = clusters::own();
    let mut results = Results::default();
    let mut tables = Vec::new();
    if options.suites.contains(&Suite::Syscalls) {
        results.syscalls = syscalls::measure(cluster.info(), &options);
        tables.push(syscalls::table(&results.syscalls));
        results.over.extend(syscalls::judge(&results.syscalls));
    }
    if options.suites.contains(&Suite::Instructions) {
        let functions = file("budget-functions.txt");
        results.instructions = instructions::measure(cluster.info(), &options, &functions);
        tables.push(instructions::table(&results.instructions));
        results.over.extend(instructions::judge(&results.instructions));
        println!("functions of a simple statement: {}", functions.display());
    }
    tables.iter().for_each(|table| println!("\n{}", table.text()));
    if let Some(markdown) = &options.markdown {
        let texts: Vec<_> = tables.iter().map(report::Table::markdown).collect();
        fs::write(markdown, texts.join("\n")).unwrap();
    }
    let json = options.json.unwrap_or_else(|| file("budget.json"));
    fs::write(&json, serde_json::to_string_pretty(&results).unwrap()).unwrap();
    println!("written to {}", json.display());
    results.over.iter().for_each(|line| println!("over the budget: {line}"));
    if results.over.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
