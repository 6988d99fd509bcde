//! What runs on replicas beyond plain statements: reads of read-write blocks, cursors, COPY, EXPLAIN; and settings that are answered
//! without a server. An application cannot tell. Tests name the traps that they show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

#[path = "offload/blocks.rs"]
mod blocks;
#[path = "offload/kinds.rs"]
mod kinds;
#[path = "offload/same.rs"]
mod same;
#[path = "offload/settings.rs"]
mod settings;

use support::frames::{Batch, Frame};
use support::world::{Plan, Step, World, ready};

const SQL: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT n, 0 FROM generate_series(1, 5) AS n;
     CREATE TABLE w (n int); CREATE UNLOGGED TABLE u (n int)";

fn world(routing: &str) -> World {
    world_with(Plan { pool: "size = 4", routing, ..Plan::default() })
}

/// A world of this plan in which every replica may be read, and the catalog is known.
fn world_with(plan: Plan<'_>) -> World {
    // Which replica has what is not the matter here.
    let routing = format!("consistency = \"eventual\"\nmax_lag = \"0\"\n{}", plan.routing);
    let tables = "[admin]\nadmin_users = [\"app\"]\n";
    let world = Plan { sql: SQL, routing: &routing, tables, ..plan }.start();
    world.db.wait_replayed();
    world.settle();
    world
}

/// The reads of blocks are on replicas from the second block on: the first finds out how blocks are isolated.
fn until_write() -> World {
    let world = world("transaction_reads = \"until_write\"");
    let mut client = world.client();
    for sql in ["BEGIN", "SELECT 1", "COMMIT"] {
        client.exchange(&batch().query(sql));
    }
    world
}

fn batch() -> Batch {
    Batch::new()
}

/// Each statement as a message of its own.
fn script(sql: &[&str]) -> Vec<Step> {
    sql.iter().map(|sql| ready(batch().query(sql))).collect()
}

/// The frame, told by every byte of it that does not depend on the connection or the place in the server's source.
fn exactly(frame: &Frame) -> String {
    match frame.tag {
        b'E' | b'N' => format!("{frame:?} {:?}", frame.field(b'P')),
        b'T' | b't' => format!("{frame:?} {:?}", frame.body),
        _ => format!("{frame:?}"),
    }
}

fn told(frames: &[Frame]) -> String {
    frames.iter().map(exactly).collect::<Vec<_>>().join(" ")
}

/// As `World::compare`, byte for byte where it matters; between the runs the replicas catch up.
fn compare(world: &World, what: &str, script: &[Step]) {
    let mut direct = world.direct();
    let expected: Vec<_> = script.iter().map(|step| told(&step.run(&mut direct))).collect();
    direct.vanish();
    world.db.wait_replayed();
    let mut client = world.client();
    for (number, (step, expected)) in script.iter().zip(expected).enumerate() {
        // Shown when the test fails.
        eprintln!("{what}, step {number}: {}", expected.chars().take(300).collect::<String>());
        assert_eq!(told(&step.run(&mut client)), expected, "{what}, step {number}");
    }
}

/// How many statements went to replicas so far.
fn on_replicas(world: &World) -> u64 {
    let (_, body) = world.proxy.http("/metrics");
    let lines = body
        .lines()
        .filter(|line| line.starts_with("trunkline_routing_decisions_total{") && line.contains("target=\"replica\""));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}
