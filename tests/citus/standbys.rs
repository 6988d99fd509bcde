//! Standbys of a Citus cluster: used where they read from standbys, and a read sees what it must see on all of them.

use trunkline::app::demo::StopMode;

use super::fixture::{Fixture, config, nodes_with};
use crate::support::process::Setup;
use crate::support::raw::RawClient;

/// A read of a reference table: the coordinator's standby answers, if it may.
const REFERENCE: &str = "SELECT count(*) FROM plans";
/// Reads one tenant's row.
fn read(tenant: &str) -> String {
    format!("SELECT v FROM k0 WHERE k = {tenant}")
}

/// Tells a node's standby to read from the standbys of the cluster `ro`.
fn configure(fixture: &Fixture, group: usize) {
    let standby = &fixture.nodes[group].replicas()[0];
    standby.configure(&[("citus.use_secondary_nodes", "always"), ("citus.cluster_name", "ro")]).unwrap();
    standby.restart(StopMode::Fast).unwrap();
}

/// Registers the standby of a worker with every node.
fn register(fixture: &Fixture, group: usize) {
    let port = fixture.nodes[group].info().replica_ports().next().unwrap();
    fixture.run_everywhere(&format!(
        "INSERT INTO pg_dist_node (nodeid, groupid, nodename, nodeport, noderole, nodecluster) \
         VALUES (10 + {group}, {group}, '127.0.0.1', {port}, 'secondary', 'ro')"
    ));
}

/// How many statements Trunkline has sent to nodes of this role.
fn statements_at(fixture: &Fixture, role: &str) -> u64 {
    let (_, metrics) = fixture.proxy.http("/metrics");
    let is_wanted =
        |line: &&str| line.starts_with("trunkline_statements_total{") && line.contains(&format!("target=\"{role}\""));
    metrics.lines().filter(is_wanted).filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

/// How many of 20 reads run on nodes of this role.
fn reads_at(fixture: &Fixture, client: &mut RawClient, role: &str, sql: &str) -> u64 {
    let before = statements_at(fixture, role);
    for _ in 0..20 {
        client.value(sql);
    }
    statements_at(fixture, role) - before
}

/// Whether the owner's standby answers, not its primary.
fn is_at_standby(client: &mut RawClient, sql: &str, port: u16) -> bool {
    let lines = client.rows(&format!("EXPLAIN (ROUTE) {sql}"));
    lines.iter().flatten().flatten().any(|line| line.trim() == format!("node 127.0.0.1:{port}"))
}

fn set_paused(fixture: &Fixture, group: usize, paused: bool) {
    let function = if paused { "pg_wal_replay_pause" } else { "pg_wal_replay_resume" };
    fixture.nodes[group].info().query(1, "app", &format!("SELECT {function}()")).unwrap();
}

#[test]
fn standbys_take_part_when_all_of_them_read_from_standbys() {
    let nodes = nodes_with(1);
    let coordinator = nodes[0].info().primary_port();
    let standby = nodes[0].info().replica_ports().next().unwrap();
    let more = format!("[[databases.app.nodes]]\nname = \"standby\"\nhost = \"127.0.0.1\"\nport = {standby}\n");
    let proxy = Setup::config(config(coordinator, "", "owner_routing = \"all\"") + &more).start();
    let mut fixture = Fixture { proxy, nodes };
    let mut console = fixture.console();
    fixture.settle();

    // Nobody has told the standby: it is refused, and why is told.
    let reason = "SELECT reason FROM nodes WHERE name = 'standby'";
    fixture.until("the standby is refused", || {
        console.value("SELECT state FROM nodes WHERE name = 'standby'") == "refused"
    });
    assert!(console.value(reason).contains("citus.use_secondary_nodes = 'always'"), "{}", console.value(reason));
    let log = fixture.proxy.wait_for_log(&["node is refused", "citus_add_secondary_node"]);
    assert!(log.contains("standby"), "{log}");

    // It alone is told: the workers have no standbys yet.
    configure(&fixture, 0);
    fixture.until("the workers' standbys are missed", || {
        console.rows(reason).iter().flatten().flatten().any(|why| why.contains("not every worker has a standby"))
    });

    // One that is registered and reads other shards from primaries is refused, too.
    register(&fixture, 1);
    register(&fixture, 2);
    let refused = "SELECT count(*) FROM nodes WHERE reason LIKE '%worker''s standby that reads other shards%'";
    fixture.until("the workers' standbys are refused", || console.value(refused) == "2");
    configure(&fixture, 1);
    configure(&fixture, 2);
    fixture.until("all standbys are used", || {
        console.value("SELECT count(*) FROM nodes WHERE state = 'up' AND role IN ('replica', 'secondary')") == "3"
            && console.value("SELECT count(*) FROM citus WHERE role = 'secondary' AND used = 'yes'") == "2"
    });
    let mut client = fixture.client();
    fixture.until("reads run on the coordinator's standby", || {
        reads_at(&fixture, &mut client, "replica", REFERENCE) == 20
    });

    // A tenant of the first worker: reads of it run on that worker's standby, and see what was written.
    let tenant = fixture.run(
        0,
        "SELECT n FROM generate_series(1, 1000) AS n, pg_dist_shard JOIN pg_dist_placement USING (shardid) \
         WHERE logicalrelid = 'k0'::regclass AND groupid = 1 \
         AND hashint8(n) BETWEEN shardminvalue::int8 AND shardmaxvalue::int8 LIMIT 1",
    );
    client.rows(&format!("INSERT INTO k0 (k, v) VALUES ({tenant}, '0')"));
    let port = fixture.nodes[1].info().replica_ports().next().unwrap();
    fixture.until("reads run on the owner's standby", || is_at_standby(&mut client, &read(&tenant), port));
    assert_eq!(reads_at(&fixture, &mut client, "worker", &read(&tenant)), 20);
    for round in 1..200 {
        client.rows(&format!("UPDATE k0 SET v = '{round}' WHERE k = {tenant}"));
        assert_eq!(client.value(&read(&tenant)), round.to_string());
    }

    // A worker's standby falls behind: what it lacks is read from its primary, and nothing of several shards through the coordinator's
    // standby, which has all of its own.
    set_paused(&fixture, 1, true);
    client.rows(&format!("UPDATE k0 SET v = 'late' WHERE k = {tenant}"));
    for _ in 0..50 {
        assert_eq!(client.value(&read(&tenant)), "late");
    }
    let mut other = fixture.client();
    other.rows("SET trunkline.consistency = 'strong'");
    let through_standby = reads_at(&fixture, &mut other, "replica", REFERENCE);
    assert_eq!(through_standby, 0, "through the coordinator's standby is seen what the worker's has");
    set_paused(&fixture, 1, false);
    fixture.until("reads come back to the owner's standby", || is_at_standby(&mut client, &read(&tenant), port));
    fixture.until("and to the coordinator's", || reads_at(&fixture, &mut other, "replica", REFERENCE) == 20);
}
