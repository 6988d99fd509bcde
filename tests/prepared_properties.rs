//! Random scripts over names of prepared statements, of SQL and of the protocol, by several clients that share one connection:
//! each must get, frame by frame, what it gets from a server of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use fastrand::Rng;
use support::frames::{Batch, Frame, summary};
use support::raw::RawClient;
use support::world::{Plan, Step};

const NAMES: [&str; 3] = ["a", "b", "C"];
const SEEDS: std::ops::Range<u64> = 1..6;
const STEPS: usize = 150;
const CLIENTS: usize = 3;

/// A script's next step: some messages in one write.
struct Script {
    rng: Rng,
    /// Tells apart what clients prepare.
    owner: usize,
}

impl Script {
    fn name(&mut self) -> &'static str {
        NAMES[self.rng.usize(..NAMES.len())]
    }

    /// The body of a statement with one parameter.
    fn body(&mut self) -> String {
        match self.rng.u8(..6) {
            0 => "SELECT 1/0, $1::text".to_owned(),
            1 => "SELECT v || $1::text FROM nowhere".to_owned(),
            // It locks no row, which the same client on the other side might wait for.
            2 => "UPDATE t SET v = v WHERE $1::text IS NULL RETURNING id".to_owned(),
            _ => format!("SELECT {}, {}, $1::text", self.owner, self.rng.u8(..4)),
        }
    }

    fn sql(&mut self) -> String {
        let name = self.name();
        match self.rng.u8(..20) {
            0..=4 => format!("PREPARE \"{name}\" (text) AS {}", self.body()),
            5..=9 => format!("EXECUTE \"{name}\"('x')"),
            10..=11 => format!("DEALLOCATE \"{name}\""),
            12 => format!("DEALLOCATE PREPARE {name}"),
            13 => format!("EXPLAIN (COSTS OFF) EXECUTE \"{name}\"('y')"),
            14 => "SELECT name, parameter_types, from_sql FROM pg_prepared_statements ORDER BY name".to_owned(),
            15 => "SAVEPOINT s".to_owned(),
            16 => "ROLLBACK TO s".to_owned(),
            17 => "SELECT 1/0".to_owned(),
            18 if self.rng.bool() => "DEALLOCATE ALL".to_owned(),
            18 => "DISCARD ALL".to_owned(),
            _ => "SET work_mem = '5MB'".to_owned(),
        }
    }

    fn query(&mut self, in_block: bool) -> String {
        match self.rng.u8(..10) {
            0 if !in_block => "BEGIN".to_owned(),
            0..=2 if in_block => ["COMMIT", "ROLLBACK"][self.rng.usize(..2)].to_owned(),
            3 => format!("{}; {}; {}", self.sql(), self.sql(), self.sql()),
            _ => self.sql(),
        }
    }

    fn segment(&mut self, mut batch: Batch) -> Batch {
        for _ in 0..self.rng.u8(1..4) {
            let name = self.name();
            batch = match self.rng.u8(..10) {
                0..=2 => {
                    let body = self.body();
                    batch.parse(name, &body, &[25])
                }
                3..=5 => batch.bind("", name, &[Some("z")]).execute("", 0),
                6 => batch.bind("", name, &[Some("z")]).describe(b'P', "").execute("", 0),
                7 => batch.describe(b'S', name),
                8 => batch.close(b'S', name),
                _ => {
                    let sql = self.sql();
                    batch.run(&sql, &[])
                }
            };
        }
        batch.sync()
    }

    fn step(&mut self, in_block: bool) -> Step {
        let count = if self.rng.u8(..4) == 0 { self.rng.usize(2..4) } else { 1 };
        let mut batch = Batch::new();
        for _ in 0..count {
            batch = if self.rng.bool() {
                let sql = self.query(in_block);
                batch.query(&sql)
            } else {
                self.segment(batch)
            };
        }
        Step::Ready(batch, count)
    }
}

fn is_in_block(frames: &[Frame]) -> bool {
    frames.last().is_some_and(|ready| ready.body != b"I")
}

#[test]
fn random_scripts_over_names_traps_31_33_44_45() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'v')";
    let pool = "size = 1\nmax_prepared = 4\nwait_timeout = \"5s\"";
    let world = Plan { sql, pool, primary_only: true, ..Plan::default() }.start();
    for seed in SEEDS {
        let mut pairs: Vec<(RawClient, RawClient)> = (0..CLIENTS).map(|_| (world.direct(), world.client())).collect();
        let mut scripts: Vec<Script> =
            (0..CLIENTS).map(|owner| Script { rng: Rng::with_seed(seed * 100 + owner as u64), owner }).collect();
        let mut turn = Rng::with_seed(seed);
        let mut in_block = None;
        for number in 0..STEPS {
            // Who is in a transaction has the connection.
            let which = in_block.unwrap_or_else(|| turn.usize(..CLIENTS));
            let step = scripts[which].step(in_block.is_some());
            let (direct, client) = &mut pairs[which];
            let expected = step.run(direct);
            eprintln!("seed {seed}, step {number}, client {which}: {}\n{step:?}", summary(&expected));
            let frames = step.run(client);
            assert_eq!(summary(&frames), summary(&expected), "seed {seed}, step {number}, client {which}");
            in_block = is_in_block(&frames).then_some(which);
        }
    }
}
