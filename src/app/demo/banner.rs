//! The configuration that the demo runs with, and the lines that it prints to paste.

use std::env;
use std::fmt::Write as _;
use std::path::Path;

use super::cluster::ClusterInfo;

/// Name of the demo's role, database and password.
pub(super) const DEMO: &str = "demo";

/// Where Trunkline listens in the demo.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    /// For clients.
    pub(super) clients: u16,
    /// For `/metrics`.
    pub(super) metrics: u16,
}

/// The text of the demo's `trunkline.toml`.
pub(super) fn config(info: &ClusterInfo, ports: Ports) -> String {
    let url = |port: u16| format!("\"postgres://{DEMO}:{DEMO}@127.0.0.1:{port}/{DEMO}\"");
    let replicas: Vec<_> = info.replica_ports().map(url).collect();
    let Ports { clients, metrics } = ports;
    format!(
        "\
# Written by `trunkline demo`. After a change: kill -HUP {pid}

[general]
listen = [\"127.0.0.1:{clients}\"]

[client]
drain_timeout = \"2s\"

[databases.{DEMO}]
url = {primary}
replica_urls = [{replicas}]

[users.{DEMO}]
password = \"{DEMO}\"

[admin]
admin_users = [\"{DEMO}\"]

[slow_log]
slow_query = \"200ms\"
file = {slow_log:?}

[metrics]
listen = \"127.0.0.1:{metrics}\"
",
        pid = std::process::id(),
        primary = url(info.primary_port()),
        replicas = replicas.join(", "),
        slow_log = info.root.join("slow.log").display().to_string(),
    )
}

/// What to paste.
pub(super) fn banner(info: &ClusterInfo, ports: Ports, pgbench: &Path, keep: bool) -> String {
    let Ports { clients, metrics } = ports;
    let url = format!("postgres://{DEMO}:{DEMO}@127.0.0.1:{clients}/{DEMO}");
    let console = format!("postgres://{DEMO}:{DEMO}@127.0.0.1:{clients}/trunkline");
    let pgbench = if on_path("pgbench") { Path::new("pgbench") } else { pgbench }.display();
    let root = info.root.display();
    let mut text = String::new();
    let count = info.nodes.len() - 1;
    let plural = if count == 1 { "replica" } else { "replicas" };
    let _ = write!(
        text,
        "
Trunkline listens at 127.0.0.1:{clients}, before a primary and {count} streaming {plural}. Paste into another terminal:

  psql          psql {url}
  pgbench       {pgbench} -i -s 10 {url}
    TPC-B       {pgbench} -c 16 -T 10 {url}
    reads       {pgbench} -S -c 16 -T 10 {url}
    prepared    {pgbench} -S -M prepared -c 16 -T 10 {url}
  console       psql {console} -c 'SHOW POOLS'
    routing     psql {console} -c \"SHOW ROUTE 'SELECT now()'\"
  metrics       curl http://127.0.0.1:{metrics}/metrics
  slow log      psql {url} -c 'SELECT pg_sleep(0.5)'; tail {root}/slow.log
  config        {root}/trunkline.toml   (after a change: kill -HUP {pid})

Past Trunkline, straight at the servers (password of the superuser postgres: {password}):

",
        pid = std::process::id(),
        password = info.superuser_password,
    );
    for (name, port) in &info.nodes {
        let _ = writeln!(text, "  {name:<13} psql postgres://{DEMO}:{DEMO}@127.0.0.1:{port}/{DEMO}");
    }
    let end = if keep { "stops the servers and leaves the directory" } else { "stops and removes everything" };
    let _ = write!(text, "\nCtrl-C {end} ({root}).\n");
    text
}

/// Whether a program can be called by its name alone.
fn on_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> ClusterInfo {
        ClusterInfo {
            root: "/tmp/x \"y\"".into(),
            superuser_password: "secret".to_owned(),
            nodes: vec![("primary".to_owned(), 1), ("replica1".to_owned(), 2), ("replica2".to_owned(), 3)],
        }
    }

    #[test]
    fn the_configuration_is_toml_with_every_node() {
        let text = config(&info(), Ports { clients: 6432, metrics: 9000 });
        let value: toml::Table = toml::from_str(&text).unwrap();
        let database = &value["databases"]["demo"];
        assert_eq!(database["url"].as_str(), Some("postgres://demo:demo@127.0.0.1:1/demo"));
        assert_eq!(database["replica_urls"].as_array().map(Vec::len), Some(2));
        assert_eq!(value["slow_log"]["file"].as_str(), Some("/tmp/x \"y\"/slow.log"));
    }

    #[test]
    fn the_banner_names_every_server() {
        let text = banner(&info(), Ports { clients: 6432, metrics: 9000 }, Path::new("/pg/pgbench"), false);
        for part in
            ["before a primary and 2 streaming replicas", "127.0.0.1:1/demo", "127.0.0.1:3/demo", ":9000/metrics"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
