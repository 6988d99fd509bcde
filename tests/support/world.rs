//! A database before which a Trunkline of the test's own runs, and scripts that must go the same way through both.

use super::clusters::{self, APP, APP_PASSWORD, OTHER, OTHER_PASSWORD, TestDb};
use super::frames::{Batch, Frame, summary};
use super::process::{Setup, Trunkline};
use super::raw::RawClient;
use trunkline::app::demo::ClusterInfo;

/// What a [`World`] is made of; each text is lines of TOML for its table.
#[derive(Debug, Default, Clone, Copy)]
pub struct Plan<'a> {
    /// SQL that fills the database.
    pub sql: &'a str,
    /// `[general]`.
    pub general: &'a str,
    /// `[databases.….pool]`.
    pub pool: &'a str,
    /// `[databases.…]`.
    pub database: &'a str,
    /// `[users.app]`, and what may follow it.
    pub user: &'a str,
    /// `[databases.….routing]`.
    pub routing: &'a str,
    /// More tables, with their headings.
    pub tables: &'a str,
    /// No replica: everything runs on the primary.
    pub primary_only: bool,
    /// A program that runs it, and its options (`Setup::under`).
    pub under: &'a [&'a str],
}

/// A database on the shared cluster with a Trunkline before it.
#[derive(Debug)]
pub struct World {
    /// The program under test. Before the database, so that it ends first.
    pub proxy: Trunkline,
    /// The database.
    pub db: TestDb,
}

/// One exchange of a script.
#[derive(Debug)]
pub enum Step {
    /// Sends messages and reads until so many ReadyForQuery have come.
    Ready(Batch, usize),
    /// Sends messages and reads so many frames.
    Frames(Batch, usize),
}

impl Plan<'_> {
    /// Starts it.
    pub fn start(self) -> World {
        self.start_on(clusters::shared())
    }

    /// Starts it on a cluster of the test's own.
    pub fn start_on(self, cluster: &ClusterInfo) -> World {
        let db = TestDb::with(cluster, self.sql);
        let node = |name: &str, role: &str, port: u16| {
            format!(
                "[[databases.{}.nodes]]\nname = \"{name}\"\nrole = \"{role}\"\nhost = \"127.0.0.1\"\nport = {port}\n",
                db.name
            )
        };
        let mut nodes = node("primary", "primary", db.cluster().primary_port());
        if !self.primary_only {
            for (number, port) in db.cluster().replica_ports().enumerate() {
                nodes += &node(&format!("replica{}", number + 1), "replica", port);
            }
        }
        let name = &db.name;
        let proxy = Setup::config(format!(
            "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n{}\n\
             [metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n\
             [users.{APP}]\npassword = \"{APP_PASSWORD}\"\n{}\n\
             [users.{OTHER}]\npassword = \"{OTHER_PASSWORD}\"\n\
             [databases.{name}]\ncontrol_user = \"{APP}\"\ncontrol_password = \"{APP_PASSWORD}\"\n{}\n\
             [databases.{name}.pool]\n{}\n\
             [databases.{name}.routing]\n{}\n{nodes}\n{}",
            self.general, self.user, self.database, self.pool, self.routing, self.tables,
        ))
        .under(self.under.iter().copied())
        .start();
        World { proxy, db }
    }
}

impl World {
    /// A client behind the proxy.
    pub fn client(&self) -> RawClient {
        RawClient::connect(self.proxy.port(), APP, APP_PASSWORD, &self.db.name)
    }

    /// A client behind the proxy with more startup parameters.
    pub fn client_with(&self, parameters: &[(&str, &str)]) -> RawClient {
        let mut all = vec![("user", APP), ("database", self.db.name.as_str())];
        all.extend_from_slice(parameters);
        RawClient::connect_with(self.proxy.port(), APP_PASSWORD, &all)
    }

    /// A client of the primary, past the proxy.
    pub fn direct(&self) -> RawClient {
        RawClient::connect(self.db.cluster().primary_port(), APP, APP_PASSWORD, &self.db.name)
    }

    /// Runs a script on the primary and then behind the proxy, each over a connection of its own, and demands that every
    /// frame says the same. A script leaves the database as it found it, or begins by making it so.
    pub fn compare(&self, what: &str, script: &[Step]) {
        let mut direct = self.direct();
        let expected: Vec<_> = script.iter().map(|step| summary(&step.run(&mut direct))).collect();
        direct.vanish();
        let mut client = self.client();
        for (number, (step, expected)) in script.iter().zip(expected).enumerate() {
            // Shown when the test fails.
            eprintln!("{what}, step {number}: {}", expected.chars().take(300).collect::<String>());
            assert_eq!(summary(&step.run(&mut client)), expected, "{what}, step {number}");
        }
    }

    /// A client of the console, who may do all; the configuration must say so (`admin_users`).
    pub fn console(&self) -> RawClient {
        RawClient::connect(self.proxy.port(), APP, APP_PASSWORD, "trunkline")
    }

    /// Waits until the catalog of the database, as it is now, is relied on. The console must be open to the test's user.
    pub fn settle(&self) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while self.console().value("SELECT relied_on FROM catalog") != "yes" {
            assert!(std::time::Instant::now() < deadline, "no catalog: {}", self.proxy.log());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// The value of a counter in `/metrics`, summed over the series whose labels hold all of these texts.
    pub fn counter(&self, name: &str, labels: &[&str]) -> f64 {
        let (_, body) = self.proxy.http("/metrics");
        let wanted = |line: &&str| {
            let is_named = line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
            is_named && labels.iter().all(|label| line.contains(label))
        };
        body.lines().filter(wanted).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// How many connections the pool has on the primary, the health check's not counted.
    pub fn server_connections_of_pool(&self) -> usize {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = '{APP}' AND application_name NOT LIKE 'trunkline%'",
            self.db.name
        );
        self.db.cluster().query(0, "postgres", &sql).unwrap().parse().unwrap()
    }

    /// Waits until a query as superuser past the proxy, on the primary, returns this.
    pub fn wait_for(&self, sql: &str, wanted: &str) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let got = self.db.run(sql);
            if got == wanted {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{sql}: {got}, not {wanted}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Step {
    /// Runs it, and returns what came.
    pub fn run(&self, client: &mut RawClient) -> Vec<Frame> {
        match self {
            Self::Ready(batch, count) => {
                client.send(batch);
                client.recv_ready(*count)
            }
            Self::Frames(batch, count) => {
                client.send(batch);
                client.recv_frames(*count)
            }
        }
    }
}

/// Each statement as a Query of its own.
pub fn queries(sql: &[&str]) -> Vec<Step> {
    sql.iter().map(|sql| ready(Batch::new().query(sql))).collect()
}

/// Each statement as a segment of its own of the extended protocol.
pub fn segments(sql: &[&str]) -> Vec<Step> {
    sql.iter().map(|sql| ready(Batch::new().run(sql, &[]).sync())).collect()
}

/// Messages that one ReadyForQuery ends.
pub fn ready(batch: Batch) -> Step {
    Step::Ready(batch, 1)
}
