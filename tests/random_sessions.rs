//! Random scripts of session operations: several clients at once over two server connections get, message for message, what each
//! of them gets on a direct connection of its own. The seeds are fixed; `TRUNKLINE_SEEDS=7,8,9` runs others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use fastrand::Rng;

use support::clusters::{APP, APP_PASSWORD};
use support::frames::{Batch, summary};
use support::raw::RawClient;
use support::world::{Plan, World};

const CLIENTS: usize = 8;
const STEPS: usize = 120;

/// One exchange, and how it reads.
struct Exchange {
    text: String,
    batch: Batch,
}

/// The operations of one client. Names of what is shared on a server (tables, lock keys) are its own; names within a session are
/// the same for all clients.
struct Author {
    rng: Rng,
    number: usize,
}

impl Author {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.rng.usize(..from.len())]
    }

    fn setting(&mut self) -> (&'static str, String) {
        let number = self.rng.u32(1..90);
        let n = self.number;
        match self.rng.usize(..9) {
            0 => ("work_mem", format!("'{number}MB'")),
            1 => ("app.name", format!("'client {n} {number}'")),
            2 => ("TimeZone", self.pick(&["'UTC'", "'Asia/Tokyo'", "-3", "'Europe/Rome'"]).to_owned()),
            3 => ("search_path", self.pick(&["public", "other, public", "'other'", "\"$user\", public"]).to_owned()),
            4 => ("statement_timeout", format!("{number}000")),
            5 => ("client_min_messages", self.pick(&["error", "notice", "warning"]).to_owned()),
            6 => ("application_name", format!("'it''s {n}\\{number}'")),
            7 => ("bytea_output", self.pick(&["hex", "escape", "nonsense"]).to_owned()),
            _ => ("default_transaction_isolation", self.pick(&["'repeatable read'", "'read committed'"]).to_owned()),
        }
    }

    fn name(&mut self) -> &'static str {
        self.pick(&["work_mem", "app.name", "timezone", "search_path", "statement_timeout", "application_name"])
    }

    /// A statement that is told by its text alone.
    fn statement(&mut self) -> String {
        let n = self.number;
        let k = self.rng.u32(..20);
        match self.rng.usize(..30) {
            0 | 1 => {
                let (name, value) = self.setting();
                let scope = self.pick(&["", "", "SESSION ", "LOCAL "]);
                format!("SET {scope}{name} TO {value}")
            }
            2 => {
                let local = self.rng.bool();
                format!("SELECT set_config('app.name', 'set {k}', {local})")
            }
            3 | 4 => format!("SHOW {}", self.name()),
            5 => "SELECT current_setting('app.name', true), current_user, current_setting('transaction_isolation')"
                .to_owned(),
            6 => format!("RESET {}", self.name()),
            7 => self
                .pick(&["RESET ALL", "DISCARD ALL", "SET ROLE settings_guest", "RESET ROLE", "SET ROLE none"])
                .to_owned(),
            8 | 9 => self.pick(&["BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE", "START TRANSACTION"]).to_owned(),
            10 | 11 => self.pick(&["COMMIT", "COMMIT", "END", "COMMIT AND CHAIN"]).to_owned(),
            12 => self.pick(&["ROLLBACK", "ABORT", "ROLLBACK AND CHAIN"]).to_owned(),
            13 => format!("SAVEPOINT {}", self.pick(&["a", "b"])),
            14 => format!("ROLLBACK TO {}", self.pick(&["a", "b"])),
            15 => format!("RELEASE {}", self.pick(&["a", "b"])),
            16 => format!("INSERT INTO own{n} VALUES ({k})"),
            17 => format!("SELECT count(*), sum(v) FROM own{n}"),
            18 => self.pick(&["SELECT 1/0", "SELEC", "SELECT nothing", ""]).to_owned(),
            19 => self
                .pick(&["CREATE TEMP TABLE tt (v int)", "CREATE TEMP TABLE tt ON COMMIT DROP AS SELECT 1 AS v"])
                .to_owned(),
            20 => self
                .pick(&[
                    "DROP TABLE tt",
                    "DROP TABLE IF EXISTS tt",
                    "SELECT count(*) FROM tt",
                    "INSERT INTO tt VALUES (1)",
                ])
                .to_owned(),
            21 => self
                .pick(&[
                    "DECLARE c CURSOR FOR SELECT 1 UNION SELECT 2 ORDER BY 1",
                    "DECLARE c CURSOR WITH HOLD FOR SELECT 3",
                ])
                .to_owned(),
            22 => self.pick(&["FETCH c", "FETCH ALL FROM c", "CLOSE c", "CLOSE ALL"]).to_owned(),
            23 => self
                .pick(&[
                    "SELECT pg_advisory_lock(KEY)",
                    "SELECT pg_try_advisory_lock(KEY)",
                    "SELECT pg_advisory_xact_lock(KEY)",
                ])
                .replace("KEY", &(1000 + n).to_string()),
            24 => self
                .pick(&["SELECT pg_advisory_unlock(KEY)", "SELECT pg_advisory_unlock_all()"])
                .replace("KEY", &(1000 + n).to_string()),
            25 => format!("PREPARE {} AS SELECT {k} + $1::int", self.pick(&["p", "q"])),
            26 => format!("EXECUTE {}({k})", self.pick(&["p", "q"])),
            27 => format!("DEALLOCATE {}", self.pick(&["p", "q", "ALL"])),
            28 => format!("DO $$ BEGIN RAISE NOTICE 'said by {n}'; END $$"),
            _ => format!("SELECT 'a'::bytea, '2024-03-01 12:00+00'::timestamptz, {k}"),
        }
    }

    /// A statement for a string or pipeline of several. What follows a RESET there sees the server's value instead of the startup
    /// packet's, which comes back only behind it (README); and names cannot be put on a connection between the end of a failed block
    /// and what follows it in the same string.
    fn statement_among_others(&mut self) -> String {
        loop {
            let sql = self.statement();
            if !["RESET", "DISCARD", "PREPARE", "EXECUTE", "DEALLOCATE"].iter().any(|word| sql.starts_with(word)) {
                return sql;
            }
        }
    }

    fn exchange(&mut self) -> Exchange {
        let batch = Batch::new();
        let k = self.rng.u32(..20);
        match self.rng.usize(..12) {
            0..=5 => {
                let sql = self.statement();
                Exchange { batch: batch.query(&sql), text: sql }
            }
            6 => {
                let sql: Vec<_> = (0..3).map(|_| self.statement_among_others()).collect();
                let sql = sql.join("; ");
                Exchange { batch: batch.query(&sql), text: sql }
            }
            7 | 8 => {
                let sql = self.statement();
                Exchange { batch: batch.run(&sql, &[]).sync(), text: format!("extended: {sql}") }
            }
            9 => {
                let (a, b) = (self.statement_among_others(), self.statement_among_others());
                Exchange { batch: batch.run(&a, &[]).run(&b, &[]).sync(), text: format!("pipeline: {a} | {b}") }
            }
            10 => {
                let name = self.pick(&["p", "q"]);
                let sql = format!("SELECT {k} * $1::int");
                Exchange {
                    batch: batch.parse(name, &sql, &[]).describe(b'S', name).sync(),
                    text: format!("parse {name}: {sql}"),
                }
            }
            _ => {
                let name = self.pick(&["p", "q"]);
                let close = self.rng.bool();
                let value = k.to_string();
                let batch = match close {
                    true => batch.close(b'S', name),
                    false => batch.bind("", name, &[Some(&value)]).execute("", 0),
                };
                Exchange { batch: batch.sync(), text: format!("{} {name}", if close { "close" } else { "bind" }) }
            }
        }
    }
}

fn script(seed: u64, number: usize) -> Vec<Exchange> {
    let mut author = Author { rng: Rng::with_seed(seed * 1000 + number as u64), number };
    (0..STEPS).map(|_| author.exchange()).collect()
}

/// What the script is answered on a connection.
fn play(client: &mut RawClient, script: &[Exchange]) -> Vec<String> {
    script.iter().map(|exchange| summary(&client.exchange(&exchange.batch))).collect()
}

/// A session that has all the settings of the scripts: one that nobody has ever set is unknown to a server, and known for good once
/// somebody has.
fn connect(world: &World, port: u16) -> RawClient {
    let parameters =
        [("user", APP), ("database", &world.db.name), ("application_name", "start"), ("options", "-c app.name=start")];
    RawClient::connect_with(port, APP_PASSWORD, &parameters)
}

fn empty_tables(world: &World) {
    for number in 0..CLIENTS {
        world.db.run(&format!("TRUNCATE own{number}"));
    }
    // A session that has written nothing reads from replicas.
    world.db.wait_replayed();
}

fn run_seed(world: &World, seed: u64) {
    let scripts: Vec<_> = (0..CLIENTS).map(|number| script(seed, number)).collect();
    empty_tables(world);
    let expected: Vec<_> =
        scripts.iter().map(|script| play(&mut connect(world, world.db.cluster().primary_port()), script)).collect();
    empty_tables(world);
    world.db.wait_replayed();
    std::thread::scope(|scope| {
        let running: Vec<_> = scripts
            .iter()
            .map(|script| {
                scope.spawn(move || {
                    let mut client = connect(world, world.proxy.port());
                    client.set_timeout(std::time::Duration::from_secs(60));
                    play(&mut client, script)
                })
            })
            .collect();
        for (number, (thread, expected)) in running.into_iter().zip(&expected).enumerate() {
            let got = thread.join().unwrap();
            for (step, (got, wanted)) in got.iter().zip(expected).enumerate() {
                if got == wanted {
                    continue;
                }
                for (before, answer) in scripts[number].iter().zip(expected).take(step + 1) {
                    eprintln!("  {}\n      {answer}", before.text);
                }
                panic!(
                    "seed {seed}, client {number}, step {step}: {}\n  direct:  {wanted}\n  through: {got}",
                    scripts[number][step].text
                );
            }
        }
    });
}

#[test]
fn everybody_gets_what_a_connection_of_its_own_would_say() {
    run_seeds("");
}

#[test]
fn and_so_they_do_when_blocks_are_read_on_replicas() {
    run_seeds("transaction_reads = \"until_write\"");
}

fn run_seeds(routing: &str) {
    let tables: String =
        (0..CLIENTS).map(|n| format!("CREATE TABLE own{n} (v int); GRANT ALL ON own{n} TO settings_guest;")).collect();
    let sql = format!(
        "RESET ROLE; DO $$ BEGIN CREATE ROLE settings_guest; \
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; GRANT settings_guest TO app; SET ROLE app; \
         CREATE SCHEMA other; {tables}"
    );
    let world = Plan { sql: &sql, pool: "size = 2\nwait_timeout = \"60s\"", routing, ..Plan::default() }.start();
    let seeds = std::env::var("TRUNKLINE_SEEDS").unwrap_or_else(|_| "1,2,3".to_owned());
    for seed in seeds.split(',') {
        run_seed(&world, seed.trim().parse().unwrap());
    }
}
