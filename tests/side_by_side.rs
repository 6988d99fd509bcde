//! Clients that each use another feature of a session, all at once over two server connections: each gets, message for message, what
//! a connection of its own would have said. Tests name the traps that they show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "side_by_side/messages.rs"]
mod messages;
#[path = "side_by_side/statements.rs"]
mod statements;
mod support;

use std::time::Duration;

use support::clusters::{APP, APP_PASSWORD};
use support::frames::{Batch, summary};
use support::raw::RawClient;
use support::world::{Plan, Step, World, queries, ready, segments};

/// How often each script runs while the others do.
const ROUNDS: usize = 3;

fn batch() -> Batch {
    Batch::new()
}

/// All statements as one segment.
fn pipeline(sql: &[&str]) -> Step {
    ready(sql.iter().fold(batch(), |batch, sql| batch.run(sql, &[])).sync())
}

fn text(sql: &str) -> Step {
    ready(batch().query(sql))
}

fn read_only_blocks() -> Vec<Step> {
    let mut script = Vec::new();
    for statement in [
        "SET work_mem = '9MB'",
        "SET LOCAL work_mem = '9MB'",
        "SET ROLE guest_of_all",
        "SELECT set_config('work_mem', '10MB', false)",
        "RESET work_mem",
        "SHOW work_mem",
        "PREPARE r AS SELECT 1",
        "EXECUTE r",
        "DEALLOCATE r",
        "DECLARE c CURSOR FOR SELECT 1",
        "FETCH c",
        "CREATE TEMP TABLE no (v int)",
        "SELECT 1 INTO TEMP no",
        "CREATE TABLE no (v int)",
        "INSERT INTO t3 VALUES (1)",
        "SELECT nextval('s3')",
        "SELECT * FROM t3 FOR UPDATE",
        "SELECT 1/0",
        "SAVEPOINT a",
        "SET TRANSACTION READ WRITE",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET work_mem = 'nonsense'",
        "COPY t3 TO STDOUT",
        "EXPLAIN (COSTS off) SELECT 1",
        "BEGIN",
    ] {
        script.extend(queries(&["BEGIN READ ONLY", "SELECT count(*) FROM t3", statement, "SHOW work_mem", "COMMIT"]));
        script.push(text("RESET ALL"));
        script.push(text("RESET ROLE"));
    }
    for first in ["NOTIFY x", "LISTEN x", "SELECT pg_advisory_lock(17)", "DECLARE c CURSOR WITH HOLD FOR SELECT 1"] {
        script.extend(queries(&["BEGIN READ ONLY", first, "SELECT count(*) FROM t3", "COMMIT", "CLOSE ALL"]));
        script.extend(queries(&["UNLISTEN *", "SELECT pg_advisory_unlock_all()"]));
    }
    script
}

const SQL: &str = "RESET ROLE; DO $$ BEGIN CREATE ROLE guest_of_all; \
     EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; GRANT guest_of_all TO app; SET ROLE app; \
     CREATE TABLE t0 (v int); CREATE TABLE t1 (v int PRIMARY KEY); CREATE TABLE t2 (v int); CREATE TABLE t3 (v int); \
     CREATE SEQUENCE s3; CREATE SEQUENCE s4; GRANT ALL ON t0, t1, t2, t3, s3 TO guest_of_all";

/// A session that has all the settings of the scripts: one that nobody has ever set is unknown to a server, and known for good once
/// somebody has (README).
fn connect(world: &World, port: u16) -> RawClient {
    let parameters =
        [("user", APP), ("database", &world.db.name), ("application_name", "start"), ("options", "-c app.name=start")];
    let mut client = RawClient::connect_with(port, APP_PASSWORD, &parameters);
    client.set_timeout(Duration::from_secs(60));
    client
}

fn play(client: &mut RawClient, script: &[Step]) -> Vec<String> {
    script.iter().map(|step| summary(&step.run(client))).collect()
}

#[test]
fn everybody_gets_what_a_connection_of_its_own_would_say() {
    let world = Plan { sql: SQL, pool: "size = 2\nwait_timeout = \"60s\"", ..Plan::default() }.start();
    let scripts: [(&str, Vec<Step>); 10] = [
        ("savepoints", statements::savepoints()),
        ("prepared", statements::prepared()),
        ("discards", statements::discards()),
        ("notifications", messages::notifications()),
        ("copies", messages::copies()),
        ("two-phase", statements::two_phase()),
        ("portals", messages::portals()),
        ("encodings", messages::encodings()),
        ("sequences", messages::sequences()),
        ("pinning", statements::pinning()),
    ];
    let primary = world.db.cluster().primary_port();
    let expected: Vec<_> = scripts.iter().map(|(_, script)| play(&mut connect(&world, primary), script)).collect();
    let mut wrong = Vec::new();
    std::thread::scope(|scope| {
        let running: Vec<_> = scripts
            .iter()
            .map(|(_, script)| {
                scope.spawn(|| {
                    let port = world.proxy.port();
                    (0..ROUNDS).map(|_| play(&mut connect(&world, port), script)).collect::<Vec<_>>()
                })
            })
            .collect();
        for ((thread, expected), (what, _)) in running.into_iter().zip(&expected).zip(&scripts) {
            for got in thread.join().unwrap() {
                for (step, (got, wanted)) in got.iter().zip(expected).enumerate() {
                    if got != wanted {
                        wrong.push(format!("{what}, step {step}\n  direct:  {wanted}\n  through: {got}"));
                    }
                }
            }
        }
    });
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn read_only_blocks_on_a_replica_say_what_the_primary_would_trap_23() {
    let routing = "consistency = \"eventual\"";
    let world = Plan { sql: SQL, pool: "size = 2", routing, ..Plan::default() }.start();
    world.db.wait_replayed();
    world.compare("read-only blocks", &read_only_blocks());
}
