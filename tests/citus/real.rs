//! What must hold on a real Citus as on the stand-in. With `TRUNKLINE_TEST_CITUS=postgres://user:password@coordinator:5432/database` it is
//! tried there (in a schema of its own, which it drops again), as a user who may make tables and distribute them.

use std::collections::BTreeSet;

use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, SimpleQueryMessage};

use super::fixture::Fixture;
use super::keys::KEYS;
use crate::support::clusters::{APP, APP_PASSWORD};
use crate::support::process::{Setup, Trunkline};
use crate::support::sql::{block_on, connect_with};

const SCHEMA: &str = "trunkline_test";

/// A coordinator, and a Trunkline before it.
struct Target {
    coordinator: Config,
    proxy: Trunkline,
    /// Tables can be distributed; the stand-in has some that are.
    is_real: bool,
}

impl Target {
    fn new(coordinator: Config, is_real: bool) -> Self {
        let host = match coordinator.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            other => panic!("TRUNKLINE_TEST_CITUS needs a host: {other:?}"),
        };
        let port = coordinator.get_ports().first().copied().unwrap_or(5432);
        let (user, database) = (coordinator.get_user().unwrap(), coordinator.get_dbname().unwrap());
        let password = String::from_utf8_lossy(coordinator.get_password().unwrap_or_default());
        let proxy = Setup::config(format!(
            "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n[metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n\
             [admin]\nadmin_users = [\"{user}\"]\n[users.{user}]\npassword = \"{password}\"\n\
             [databases.app]\ndbname = \"{database}\"\ncontrol_user = \"{user}\"\ncontrol_password = \"{password}\"\n\
             [databases.app.citus]\nowner_routing = \"all\"\ninterval = \"500ms\"\n\
             [[databases.app.nodes]]\nname = \"coordinator\"\nhost = \"{host}\"\nport = {port}\n"
        ))
        .start();
        Self { coordinator, proxy, is_real }
    }

    async fn behind(&self, database: &str) -> Client {
        let mut config = Config::new();
        config.user(self.coordinator.get_user().unwrap());
        config.password(self.coordinator.get_password().unwrap_or_default());
        connect_with(config.host("127.0.0.1").port(self.proxy.port()).dbname(database)).await.unwrap()
    }

    async fn direct(&self) -> Client {
        connect_with(&self.coordinator).await.unwrap()
    }

    fn table(&self, number: usize) -> String {
        if self.is_real { format!("{SCHEMA}.k{number}") } else { format!("k{number}") }
    }
}

/// The first column of all rows.
async fn column(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("").to_owned()),
        _ => None,
    });
    rows.collect()
}

async fn suite(target: &Target) {
    let direct = target.direct().await;
    let client = target.behind("app").await;
    let types = [
        "bigint",
        "integer",
        "smallint",
        "text",
        "varchar(40)",
        "char(20)",
        "uuid",
        "boolean",
        "date",
        "timestamp",
        "timestamptz",
        "bytea",
    ];
    if target.is_real {
        // DDL goes to the coordinator, whoever carries it.
        column(&client, &format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE; CREATE SCHEMA {SCHEMA}")).await;
        for (number, name) in types.iter().enumerate() {
            let table = target.table(number);
            column(&client, &format!("CREATE TABLE {table} (k {name} NOT NULL, v text)")).await;
            column(&client, &format!("SELECT create_distributed_table('{table}', 'k', colocate_with => 'none')")).await;
        }
    }
    let console = target.behind("trunkline").await;
    let tables = if target.is_real { target.table(0) } else { "k0".to_owned() };
    let mut patience = 400;
    while column(&client, &format!("EXPLAIN (ROUTE) SELECT v FROM {tables} WHERE k = 5")).await[0].split(':').next()
        != Some("worker")
    {
        patience -= 1;
        assert!(patience > 0, "{:?}\n{}", column(&console, "SHOW CITUS").await, target.proxy.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let mut nodes = BTreeSet::new();
    for key in &KEYS {
        let (table, name) = (target.table(key.table), types[key.table]);
        for value in key.values {
            // By Citus itself.
            let shard = format!("get_shard_id_for_distribution_column('{table}', {value}::{name})");
            let place = format!(
                "SELECT nodename || ':' || nodeport FROM pg_dist_placement JOIN pg_dist_node USING (groupid) \
                 WHERE noderole = 'primary' AND shardid = {shard}"
            );
            let place = match direct.simple_query(&place).await {
                Ok(_) => column(&direct, &place).await.remove(0),
                // Of the stand-in's, which calls hash functions by their names.
                Err(error) if !target.is_real => {
                    eprintln!("{name}: {error}");
                    continue;
                }
                Err(error) => panic!("{place}: {error}"),
            };
            let read = format!("SELECT v FROM {table} WHERE k = {value}");
            let told = column(&client, &format!("EXPLAIN (ROUTE) {read}")).await;
            assert_eq!(told[1].trim(), format!("node {place}"), "{read}");
            nodes.insert(place);
            if !target.is_real {
                continue;
            }
            // Written at the owner and read through the coordinator, and the other way round.
            column(&client, &format!("INSERT INTO {table} (k, v) VALUES ({value}, 'a')")).await;
            assert_eq!(column(&direct, &read).await, ["a"], "{read}");
            column(&direct, &format!("UPDATE {table} SET v = 'b' WHERE k = {value}")).await;
            assert_eq!(column(&client, &read).await, ["b"], "{read}");
            let row = client.query_one(&format!("SELECT v FROM {table} WHERE k = {value} AND v = $1"), &[&"b"]).await;
            assert_eq!(row.unwrap().get::<_, &str>(0), "b");
            column(&client, &format!("BEGIN; DELETE FROM {table} WHERE k = {value}; COMMIT")).await;
            assert_eq!(column(&client, &read).await, [""; 0], "{read}");
        }
    }
    assert!(nodes.len() > 1, "only {nodes:?} was asked");
    let unused =
        column(&console, "SELECT host FROM citus WHERE role = 'primary' AND groupid > 0 AND used <> 'yes'").await;
    assert!(unused.is_empty(), "{unused:?}");
    if target.is_real {
        let owner: u64 = column(&console, "SELECT at_owner FROM citus").await[0].parse().unwrap();
        assert!(owner > 100, "{owner} statements have gone to the owner of their shard");
        column(&client, &format!("DROP SCHEMA {SCHEMA} CASCADE")).await;
    }
}

#[test]
fn owners_are_those_of_a_real_citus() {
    let Ok(url) = std::env::var("TRUNKLINE_TEST_CITUS") else {
        eprintln!("skipped: TRUNKLINE_TEST_CITUS names no coordinator");
        return;
    };
    block_on(suite(&Target::new(url.parse().unwrap(), true)));
}

#[test]
fn owners_are_those_of_the_stand_in() {
    let fixture = Fixture::new("");
    let mut coordinator = Config::new();
    coordinator.host("127.0.0.1").port(fixture.nodes[0].info().primary_port());
    coordinator.user(APP).password(APP_PASSWORD).dbname("app");
    block_on(suite(&Target::new(coordinator, false)));
}
