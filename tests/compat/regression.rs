//! PostgreSQL's own regression suite, by `pg_regress` and its parallel schedule, in the database `regression`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use trunkline::app::demo::PgBinaries;

use super::stage::{Stage, Way, fetched, results, run};
use super::table::{Explained, Outcomes, judge};

/// It takes about one minute.
const LIMIT: Duration = Duration::from_secs(8 * 60);

/// Explained in the README.
const EXPLAINED: &[Explained] = &[
    Explained { test: "guc", why: "the server process had plpgsql loaded by another client" },
    Explained { test: "stats", why: "counts the sessions of the server, of which \\c makes none" },
];

#[test]
#[ignore = "minutes long, and needs what .ci/install-compat fetches: make compat"]
fn regression_suite() {
    let results = results("regression");
    let ways = [Way::Direct, Way::Trunkline { replicas: 0 }, Way::Trunkline { replicas: 2 }];
    let columns: Vec<_> = ways.into_iter().map(|way| (way.title(), suite(way, &results))).collect();
    judge("PostgreSQL's regression suite", &columns, EXPLAINED, &results);
}

fn suite(way: Way, results: &Path) -> Outcomes {
    let stage = Stage::start(way);
    let pg = PgBinaries::find().unwrap();
    let source = fetched("postgres/source/src/test/regress");
    // Written by the servers and by psql, so it is theirs, and near them.
    let output = stage.cluster.info().root.join("regress");
    fs::create_dir(&output).unwrap();
    pg.give(&output).unwrap();

    let programs = pg.path("psql");
    let pg_regress = fetched("postgres/root/usr/lib/postgresql/15/lib/pgxs/src/test/regress/pg_regress");
    let mut command = pg.command(pg_regress.to_str().unwrap(), &source);
    command
        .arg(format!("--inputdir={}", source.display()))
        .arg(format!("--outputdir={}", output.display()))
        .arg(format!("--bindir={}", programs.parent().unwrap().display()))
        .arg(format!("--dlpath={}", fetched("postgres/modules").display()))
        .arg(format!("--schedule={}", source.join("parallel_schedule").display()))
        .args(["--host=127.0.0.1", "--user=postgres", "--dbname=regression", "--max-concurrent-tests=20"])
        .arg(format!("--port={}", stage.port()));
    let name = way.name();
    let log = results.join(format!("{name}.out"));
    let ended = run(&mut command, &log, LIMIT);

    let _ = fs::copy(output.join("regression.diffs"), results.join(format!("{name}.diffs")));
    stage.finish(results);
    let text = fs::read_to_string(&log).unwrap();
    assert!(ended.is_some(), "{} has not ended within {LIMIT:?}:\n{text}", way.title());
    let outcomes = outcomes(&text);
    assert!(!outcomes.is_empty(), "{} ran no test:\n{text}", way.title());
    outcomes
}

/// Reads lines such as `test geometry ... ok 12 ms` and `     box ... FAILED 8 ms`.
fn outcomes(text: &str) -> Outcomes {
    text.lines()
        .filter_map(|line| {
            let (name, verdict) = line.split_once(" ... ")?;
            let name = name.trim_start_matches("test ").trim();
            Some((name.to_owned(), verdict.starts_with("ok")))
        })
        .collect()
}

#[test]
fn what_pg_regress_prints_is_understood() {
    let text = "test test_setup                   ... ok          460 ms\n\
        parallel group (2 tests):  char varchar\n\
        \x20    boolean                      ... ok         1085 ms\n\
        \x20    char                         ... FAILED      183 ms\n\
        \x20    name                         ... FAILED (test process exited with exit code 2)      183 ms\n";
    let wanted = [("boolean", true), ("char", false), ("name", false), ("test_setup", true)];
    assert_eq!(outcomes(text), wanted.map(|(name, passed)| (name.to_owned(), passed)).into());
}
