//! Self-healing: what fails on a replica through no fault of the client's runs once more where it can, and the client sees only the
//! last answer. Each cause is produced for real. Tests name the traps that they show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

#[path = "self_healing/nodes.rs"]
mod nodes;
#[path = "self_healing/statements.rs"]
mod statements;

use support::frames::{Batch, Frame, summary, tags};
use support::raw::RawClient;
use support::world::{Plan, World};

/// `writes` and `peeks` claim to read only, and the configuration believes it.
const SQL: &str = "CREATE TABLE t (id int PRIMARY KEY, v int);
    INSERT INTO t SELECT n, 0 FROM generate_series(1, 1000) AS n;
    CREATE UNLOGGED TABLE u (id int); INSERT INTO u VALUES (7);
    CREATE FUNCTION bump() RETURNS int LANGUAGE plpgsql VOLATILE AS
        'BEGIN UPDATE t SET v = v + 1 WHERE id = 1; RETURN 1; END';
    CREATE FUNCTION writes(int) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN bump() + $1; END';
    CREATE FUNCTION late(n int) RETURNS int LANGUAGE plpgsql STABLE AS
        'BEGIN IF n = 900 THEN RETURN bump(); END IF; RETURN n; END';
    CREATE FUNCTION notes() RETURNS int LANGUAGE plpgsql STABLE AS
        'BEGIN RAISE NOTICE ''noted''; RETURN bump(); END';
    CREATE FUNCTION peeks() RETURNS int LANGUAGE plpgsql STABLE AS
        'BEGIN RETURN (SELECT max(id) FROM u); END';";

const ROUTING: &str =
    "read_only_functions = [\"writes\", \"late\", \"notes\", \"peeks\"]\nconsistency = \"eventual\"\nmax_lag = \"0\"";

fn plan() -> Plan<'static> {
    Plan { sql: SQL, routing: ROUTING, tables: "[admin]\nadmin_users = [\"app\"]\n", ..Plan::default() }
}

fn world() -> World {
    let world = plan().start();
    world.settle();
    world
}

fn batch() -> Batch {
    Batch::new()
}

/// How many statements have run once more for a cause.
fn reruns(world: &World, cause: &str) -> f64 {
    world.counter("trunkline_reruns_total", &[&format!("cause=\"{cause}\"")])
}

/// How many have been told as they failed.
fn told(world: &World, cause: &str, why: &str) -> f64 {
    world.counter("trunkline_reruns_refused_total", &[&format!("cause=\"{cause}\""), &format!("why=\"{why}\"")])
}

/// The console's `SHOW LEARNED`: cause and statement.
fn learned(world: &World) -> Vec<(String, String)> {
    let rows = world.console().rows("SHOW LEARNED");
    rows.into_iter().map(|row| (row[3].clone().unwrap(), row[2].clone().unwrap())).collect()
}
