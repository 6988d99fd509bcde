//! `libpq_pipeline`, the test of libpq's pipeline mode in PostgreSQL's source, with the traces that it must leave.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::stage::{Stage, Way, fetched, results, run};
use super::table::{Outcomes, judge};

/// Each takes less than a second.
const LIMIT: Duration = Duration::from_secs(60);

/// As in the test's own harness.
const ROWS: &str = "700";

#[test]
#[ignore = "needs what .ci/install-compat fetches: make compat"]
fn libpq_pipeline() {
    let results = results("libpq_pipeline");
    let ways = [Way::Direct, Way::Trunkline { replicas: 0 }, Way::Trunkline { replicas: 2 }];
    let columns: Vec<_> = ways.into_iter().map(|way| (way.title(), suite(way, &results))).collect();
    judge("libpq_pipeline", &columns, &[], &results);
}

fn suite(way: Way, results: &Path) -> Outcomes {
    let stage = Stage::start(way);
    let list = Command::new(program()).arg("tests").output().unwrap().stdout;
    let conninfo = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", stage.port());
    let mut outcomes = Outcomes::new();
    for test in String::from_utf8(list).unwrap().split_whitespace() {
        let file = |kind: &str| results.join(format!("{}-{test}.{kind}", way.name()));
        // Every message in both directions; the tests that send as much as the sockets take have none.
        let expected = traces().join(format!("{test}.trace"));
        let mut command = Command::new(program());
        command.args(["-r", ROWS]);
        if expected.exists() {
            command.arg("-t").arg(file("trace"));
        }
        command.arg(test).arg(&conninfo);
        let passed = run(&mut command, &file("out"), LIMIT).is_some_and(|status| status.success());
        outcomes.insert(test.to_owned(), passed);
        if expected.exists() {
            let trace = fs::read(file("trace")).unwrap_or_default();
            outcomes.insert(format!("{test}, trace"), trace == fs::read(expected).unwrap());
        }
    }
    stage.finish(results);
    outcomes
}

fn program() -> PathBuf {
    fetched("postgres/bin/libpq_pipeline")
}

fn traces() -> PathBuf {
    fetched("postgres/source/src/test/modules/libpq_pipeline/traces")
}
