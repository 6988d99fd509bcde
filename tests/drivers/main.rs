//! Drivers of the real world in their default settings, several clients at once over a small pool in
//! transaction mode: what works directly works through Trunkline.
//!
//! `TEST_DIRECT=1` runs the same without Trunkline, to tell a driver's own trouble from ours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod pgbench;
mod psql;
mod scripts;
mod tokio_postgres;

use support::clusters::{self, TestDb};
use support::process::{Setup, Trunkline};

/// Server connections per node: fewer than there are clients.
const POOL_SIZE: &str = "3";

/// What every driver's test finds in its database.
const SCHEMA: &str = "
    CREATE TABLE numbers (n int PRIMARY KEY);
    INSERT INTO numbers SELECT generate_series(1, 1000);
    CREATE TABLE written (id bigserial PRIMARY KEY, task int, note text);
    CREATE TYPE mood AS ENUM ('sad', 'happy');
    CREATE TYPE feeling AS (strength int, mood mood);
    ANALYZE;
";

/// A database with [`SCHEMA`] and a Trunkline before it.
struct Fixture {
    proxy: Option<Trunkline>,
    db: TestDb,
}

impl Fixture {
    fn new() -> Self {
        let db = TestDb::with(clusters::shared(), SCHEMA);
        let direct = std::env::var_os("TEST_DIRECT").is_some();
        let proxy = (!direct).then(|| Setup::before(&db).args(["--pool-size", POOL_SIZE]).start());
        Self { proxy, db }
    }

    /// Where the clients connect.
    fn port(&self) -> u16 {
        self.proxy.as_ref().map_or_else(|| self.db.cluster().primary_port(), Trunkline::port)
    }

    fn url(&self) -> String {
        self.db.url(self.port())
    }

    /// On each node, Trunkline has no more server connections than it may.
    fn assert_pool_kept(&self) {
        if self.proxy.is_none() {
            return;
        }
        // One that listens goes with the last listener.
        let all = "SELECT string_agg(concat_ws(' ', application_name, translate(query, E'\\n', ' ')), E'\\n')
            FROM pg_stat_activity
            WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
        for node in 0..self.db.cluster().nodes.len() {
            let all = self.db.run_on(node, all);
            // Those of the control plane are not of the pool.
            let of_clients = all.lines().filter(|one| !one.starts_with("trunkline")).count();
            assert!(of_clients <= POOL_SIZE.parse::<usize>().unwrap() + 1, "connections at node {node}:\n{all}");
        }
    }
}
