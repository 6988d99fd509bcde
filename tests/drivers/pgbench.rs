//! pgbench: initialising, then its scripts in every protocol, 16 clients over 3 server connections.

use std::process::Command;

use trunkline::app::demo::PgBinaries;

use super::Fixture;

fn pgbench(fixture: &Fixture, args: &[&str]) -> String {
    let pg = PgBinaries::find().unwrap();
    let output = Command::new(pg.path("pgbench")).args(args).arg(fixture.url()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "pgbench {args:?}:\n{text}");
    text
}

#[test]
fn pgbench_in_every_protocol() {
    let fixture = Fixture::new();
    pgbench(&fixture, &["-i", "-s", "2", "-q"]);
    fixture.db.wait_replayed();
    for mode in ["simple", "extended", "prepared"] {
        for script in ["select-only", "tpcb-like", "simple-update"] {
            let text = pgbench(&fixture, &["-n", "-c", "16", "-j", "2", "-T", "2", "-M", mode, "-b", script]);
            assert!(text.contains("number of failed transactions: 0 (0.000%)"), "{mode} {script}:\n{text}");
        }
    }
    let balance = "SELECT (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(bbalance) FROM pgbench_branches)
        AND (SELECT sum(delta) FROM pgbench_history) = (SELECT sum(abalance) FROM pgbench_accounts)";
    assert_eq!(fixture.db.run(balance), "t", "every transaction was applied once and whole");
    fixture.assert_pool_kept();
}
