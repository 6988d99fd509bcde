//! Secrets and users of servers that change while clients are connected.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use support::clusters::{self, TestDb};
use support::process::{Setup, Trunkline};
use support::raw::RawClient;

/// A role of the test's own, and a Trunkline before it.
struct Scene {
    db: TestDb,
    role: String,
    proxy: Option<Trunkline>,
    reloads: usize,
}

impl Scene {
    /// The role has this password.
    fn new(password: &str) -> Self {
        let db = TestDb::new(clusters::shared());
        let role = format!("role_of_{}", db.name);
        let scene = Self { db, role, proxy: None, reloads: 0 };
        scene.on_server(&format!("CREATE ROLE {} LOGIN PASSWORD '{password}'", scene.role));
        scene
    }

    fn on_server(&self, sql: &str) -> String {
        self.db.cluster().query(0, "postgres", sql).unwrap()
    }

    fn proxy(&self) -> &Trunkline {
        self.proxy.as_ref().unwrap()
    }

    /// A configuration in which the user has these lines.
    fn config(&self, user: &str, more: &str) -> String {
        format!(
            "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n\
             [users.{role}]\n{user}\n\
             [databases.{name}]\n{more}\n\
             [[databases.{name}.nodes]]\nname = \"primary\"\nrole = \"primary\"\nhost = \"127.0.0.1\"\nport = {port}\n",
            role = self.role,
            name = self.db.name,
            port = self.db.cluster().primary_port(),
        )
    }

    fn start(&mut self, config: String) {
        self.proxy = Some(Setup::config(config).start());
    }

    fn reload(&mut self, config: &str) {
        self.proxy().rewrite_config(config);
        self.proxy().signal(Signal::HUP);
        self.reloads += 1;
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.proxy().log().matches("configuration reloaded").count() < self.reloads {
            assert!(Instant::now() < deadline, "{}", self.proxy().log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn client(&self, password: &str) -> RawClient {
        RawClient::connect(self.proxy().port(), &self.role, password, &self.db.name)
    }

    /// What comes next opens a new server connection.
    fn end_server_connections(&self) {
        let theirs = format!("FROM pg_stat_activity WHERE datname = '{}'", self.db.name);
        self.on_server(&format!("SELECT count(pg_terminate_backend(pid)) {theirs}"));
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.on_server(&format!("SELECT count(*) {theirs}")) != "0" {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.proxy = None;
        let _ = self.db.cluster().query(0, "postgres", &format!("DROP ROLE {}", self.role));
    }
}

#[test]
fn a_reload_brings_the_new_password_of_servers_to_those_who_are_logged_in() {
    let mut scene = Scene::new("old");
    scene.start(scene.config("password = \"old\"", ""));
    let mut client = scene.client("old");
    assert_eq!(client.value("SELECT 1"), "1");
    scene.on_server(&format!("ALTER ROLE {} PASSWORD 'new'", scene.role));
    scene.reload(&scene.config("password = \"new\"", ""));
    scene.end_server_connections();
    assert_eq!(client.value("SELECT 2"), "2", "the one that the file says, and nobody has logged in since");
}

#[test]
fn a_reload_does_not_bring_an_old_password_back() {
    let mut scene = Scene::new("old");
    // A verifier: what servers get is what a client's own login yields.
    let verifier = |scene: &Scene| {
        let sql = format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{}'", scene.role);
        format!("password = '{}'", scene.on_server(&sql))
    };
    scene.start(scene.config(&verifier(&scene), ""));
    let mut client = scene.client("old");
    assert_eq!(client.value("SELECT 1"), "1");
    scene.on_server(&format!("ALTER ROLE {} PASSWORD 'new'", scene.role));
    let new = verifier(&scene);
    scene.reload(&scene.config(&new, ""));
    let mut other = scene.client("new");
    assert_eq!(other.value("SELECT 2"), "2");
    for more in ["slow_query = \"3s\"", "max_clients = 40"] {
        scene.reload(&scene.config(&new, more));
        scene.end_server_connections();
        assert_eq!(client.value("SELECT 3"), "3", "{more}");
        assert_eq!(other.value("SELECT 4"), "4", "{more}");
    }
}

#[test]
fn a_reload_that_names_another_user_of_the_servers_holds_for_all() {
    let mut scene = Scene::new("own");
    let plain = scene.config("password = \"own\"", "");
    scene.start(plain.clone());
    let (mut client, mut busy) = (scene.client("own"), scene.client("own"));
    assert_eq!(client.value("SELECT current_user"), scene.role);
    assert_eq!(busy.value("BEGIN; SELECT current_user"), scene.role);
    let forced = format!(
        "password = \"own\"\nserver_user = \"{}\"\nserver_password = \"{}\"",
        clusters::OTHER,
        clusters::OTHER_PASSWORD
    );
    for more in ["", "max_clients = 40"] {
        scene.reload(&scene.config(&forced, more));
        assert_eq!(scene.client("own").value("SELECT current_user"), clusters::OTHER, "{more}");
        assert_eq!(client.value("SELECT current_user"), clusters::OTHER, "{more}");
        assert_eq!(busy.value("SELECT current_user"), scene.role, "its transaction goes on");
    }
    busy.rows("COMMIT");
    assert_eq!(busy.value("SELECT current_user"), clusters::OTHER);
    scene.reload(&plain);
    assert_eq!(client.value("SELECT current_user"), scene.role);
    assert_eq!(busy.value("SELECT current_user"), scene.role);
}
