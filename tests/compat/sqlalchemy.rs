//! SQLAlchemy's test suite for dialects, and its tests of PostgreSQL's dialect, with psycopg and asyncpg.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::stage::{Stage, Way, fetched, results, run};
use super::table::{Outcomes, judge};

/// It takes about two minutes.
const LIMIT: Duration = Duration::from_secs(9 * 60);

/// What SQLAlchemy's README.unittests.rst asks for.
const SCHEMA: &str =
    "CREATE SCHEMA test_schema; CREATE SCHEMA test_schema_2; CREATE EXTENSION hstore; CREATE EXTENSION citext";

#[test]
#[ignore = "minutes long, and needs what .ci/install-compat fetches: make compat"]
fn sqlalchemy_with_psycopg() {
    compare("psycopg");
}

#[test]
#[ignore = "minutes long, and needs what .ci/install-compat fetches: make compat"]
fn sqlalchemy_with_asyncpg() {
    compare("asyncpg");
}

fn compare(driver: &str) {
    let results = results(&format!("sqlalchemy-{driver}"));
    let ways = [Way::Direct, Way::Trunkline { replicas: 0 }];
    let columns: Vec<_> = ways.into_iter().map(|way| (way.title(), suite(driver, way, &results))).collect();
    judge(&format!("SQLAlchemy's dialect suite, {driver}"), &columns, &[], &results);
}

fn suite(driver: &str, way: Way, results: &Path) -> Outcomes {
    let stage = Stage::start(way);
    stage.prepare("postgres", "CREATE ROLE scott SUPERUSER LOGIN PASSWORD 'tiger'");
    stage.prepare("postgres", "CREATE DATABASE test OWNER scott");
    stage.prepare("test", SCHEMA);
    let name = way.name();
    let (log, list) = (results.join(format!("{name}.out")), results.join(format!("{name}.outcomes")));
    let plugins = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/compat/python");
    let mut command = Command::new(fetched("python/bin/python"));
    command
        .args([
            "-B",
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-p",
            "outcomes",
            "-q",
            "--tb=short",
            "--maxfail=100000",
        ])
        .arg(format!("--dburi=postgresql+{driver}://scott:tiger@127.0.0.1:{}/test", stage.port()))
        .args(["test/dialect/test_suite.py", "test/dialect/postgresql"])
        .current_dir(fetched("sqlalchemy"))
        .env("PYTHONPATH", plugins)
        .env("OUTCOMES", &list);
    let ended = run(&mut command, &log, LIMIT);
    stage.finish(results);
    assert!(ended.is_some(), "{} has not ended within {LIMIT:?}: see {}", way.title(), log.display());
    outcomes(&fs::read_to_string(&list).unwrap_or_default())
}

/// Reads the plugin's lines: an outcome, a space, a test. A test that fails in several of its phases has several.
fn outcomes(text: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for (outcome, test) in text.lines().filter_map(|line| line.split_once(' ')) {
        let passed = outcomes.entry(test.to_owned()).or_insert(true);
        *passed &= outcome != "failed";
    }
    outcomes
}
