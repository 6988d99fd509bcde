//! What is found out about a Citus cluster, and what is made of it when it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use trunkline::app::demo::StopMode;

use super::fixture::{Fixture, config, nodes};
use super::target::{TENANTS, Target, read};
use crate::support::process::Setup;

const READ: &str = "SELECT w.node, (SELECT count(*) FROM k0 WHERE k = 5) FROM whoami AS w";

/// The group that has the value 5 of `k0`, and the other one.
fn owner(fixture: &Fixture) -> (u32, u32) {
    let sql = "SELECT groupid FROM pg_dist_shard JOIN pg_dist_placement USING (shardid) \
        WHERE logicalrelid = 'k0'::regclass AND hashint8(5) BETWEEN shardminvalue::int8 AND shardmaxvalue::int8";
    let owner = fixture.run(0, sql).parse().unwrap();
    (owner, 3 - owner)
}

/// Nodes and what they have are as Citus' own catalog says.
pub fn what_the_coordinator_tells_is_known(target: &Target) {
    let mut console = target.console();
    let rows = console.rows("SELECT groupid, role, active, synced, used, shards, version FROM citus ORDER BY groupid");
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect();
    let shards = "SELECT groupid || ' ' || count(shardid) FROM pg_dist_node LEFT JOIN \
        (pg_dist_placement JOIN pg_dist_shard USING (shardid) JOIN pg_dist_partition AS p USING (logicalrelid)) USING (groupid) \
        WHERE noderole = 'primary' AND (partmethod IS NULL OR partmethod = 'h') GROUP BY groupid ORDER BY groupid";
    let shards: BTreeMap<String, String> = target
        .run(0, shards)
        .iter()
        .map(|row| row.split_once(' ').unwrap())
        .map(|(g, n)| (g.to_owned(), n.to_owned()))
        .collect();
    for row in rows.iter().filter(|row| row[1] == "primary") {
        let used = if row[0] == "0" { "coordinator" } else { "yes" };
        assert_eq!(row[2..5], ["yes", "yes", used], "{row:?}");
        assert_eq!(Some(&row[5]), shards.get(&row[0]).or(Some(&"0".to_owned())), "{row:?}");
        assert!(row[6].starts_with("Citus"), "{row:?}");
    }
    let groups: BTreeSet<String> = rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!(groups, target.groups());
    let workers = console.value("SELECT count(*) FROM nodes WHERE role = 'worker' AND state = 'up'");
    assert_eq!(workers, (target.groups().len() - 1).to_string());
    let age: u64 = console.value("SELECT age_ms FROM citus WHERE groupid = 0").parse().unwrap();
    assert!(age < 20_000, "{age} ms");
    let (_, metrics) = target.proxy.http("/metrics");
    for wanted in [
        "trunkline_citus_map_age_seconds{database=\"app\"}",
        "trunkline_citus_map_loads_total{database=\"app\"}",
        "role=\"worker\"} 1",
    ] {
        assert!(metrics.contains(wanted), "{wanted} is not in {metrics}");
    }
}

/// As the operator moves it; an outdated map costs no answer.
pub fn a_shard_that_moves_is_followed(target: &Target) {
    let [one, two] = target.tenants();
    let mut client = target.client();
    let (key, from, to) = (&one.key, &one.group, &two.group);
    target.until("it is at its owner", || target.node_of(&mut client, &read(&one)) == *from);
    target.run(0, &format!("INSERT INTO {TENANTS} VALUES ({key}, 'moves')"));
    let place = |group: &str| {
        let sql = "SELECT quote_literal(nodename) || ', ' || nodeport FROM pg_dist_node WHERE noderole = 'primary' AND groupid = ";
        target.run(0, &format!("{sql}{group}")).remove(0)
    };
    let shard = format!("get_shard_id_for_distribution_column('{TENANTS}', {key}::bigint)");
    let mode = "shard_transfer_mode => 'block_writes'";
    target.run(0, &format!("SELECT citus_move_shard_placement({shard}, {}, {}, {mode})", place(from), place(to)));
    // Right from the first statement on, wherever it runs.
    target.until("the shard is followed", || {
        assert_eq!(client.value(&read(&one)), "moves");
        target.node_of(&mut client, &read(&one)) == *to
    });
}

fn ranges_may_be_of_any_width(fixture: &Fixture) {
    let (owner, other) = owner(fixture);
    // The tenant 5 gets a shard of its own, on another node; its neighbours stay.
    fixture.run_everywhere(&format!(
        "WITH old AS (DELETE FROM pg_dist_shard WHERE logicalrelid = 'k0'::regclass \
            AND hashint8(5) BETWEEN shardminvalue::int8 AND shardmaxvalue::int8 RETURNING *), \
         new AS (INSERT INTO pg_dist_shard SELECT logicalrelid, 900001, 't', shardminvalue, (hashint8(5) - 1)::text FROM old \
            UNION ALL SELECT logicalrelid, 900002, 't', hashint8(5)::text, hashint8(5)::text FROM old \
            UNION ALL SELECT logicalrelid, 900003, 't', (hashint8(5) + 1)::text, shardmaxvalue FROM old) \
         INSERT INTO pg_dist_placement VALUES (900001, 900001, 1, 0, {owner}), (900002, 900002, 1, 0, {other}), (900003, 900003, 1, 0, {owner})"
    ));
    let mut client = fixture.client();
    fixture.until("the shard of one tenant is used", || client.value(READ) == format!("group {other}"));
    // Another key of the range that was cut.
    let neighbour = fixture.run(
        0,
        "SELECT n FROM generate_series(6, 100000) AS n, pg_dist_shard WHERE shardid IN (900001, 900003) \
         AND hashint8(n) BETWEEN shardminvalue::int8 AND shardmaxvalue::int8 LIMIT 1",
    );
    assert_eq!(client.value(&READ.replace('5', &neighbour)), format!("group {owner}"));
}

fn a_worker_that_is_gone_costs_no_read(fixture: &Fixture) {
    let (owner, other) = owner(fixture);
    let mut client = fixture.client();
    assert_eq!(client.value(READ), format!("group {owner}"));
    fixture.nodes[owner as usize].primary().stop(StopMode::Immediate).unwrap();
    for _ in 0..20 {
        assert_eq!(client.value(READ), "group 0");
    }
    // A coordinator that cannot reach a worker says so with an error of class 08, and is well itself.
    let mut console = fixture.console();
    for _ in 0..5 {
        let error = client.failure("SELECT count(*) FROM events");
        assert!(error.starts_with("08"), "{error}");
        assert_eq!(console.value("SELECT state FROM nodes WHERE name = 'coordinator'"), "up");
        assert_eq!(client.value("SELECT v FROM local_only"), "on the coordinator");
    }
    let elsewhere = fixture.run(
        0,
        &format!(
            "SELECT n FROM generate_series(1, 1000) AS n, pg_dist_shard JOIN pg_dist_placement USING (shardid) \
             WHERE logicalrelid = 'k0'::regclass AND groupid = {other} \
             AND hashint8(n) BETWEEN shardminvalue::int8 AND shardmaxvalue::int8 LIMIT 1"
        ),
    );
    assert_eq!(
        client.value(&READ.replace('5', &elsewhere)),
        format!("group {other}"),
        "other shards are where they are"
    );
    fixture.nodes[owner as usize].primary().start().unwrap();
    fixture.until("the worker is back", || client.value(READ) == format!("group {owner}"));
}

/// Reads of one shard, that is; and writes of one, where those go to its owner.
fn a_coordinator_that_is_gone_costs_nothing_that_a_worker_can_answer(fixture: &Fixture) {
    let (owner, _) = owner(fixture);
    let mut client = fixture.client();
    assert_eq!(client.value(READ), format!("group {owner}"));
    fixture.nodes[0].primary().stop(StopMode::Immediate).unwrap();
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        assert_eq!(client.value(READ), format!("group {owner}"));
    }
    assert_eq!(fixture.client().value(READ), format!("group {owner}"), "nor one who comes now");
    fixture.nodes[0].primary().start().unwrap();
    fixture.until("the coordinator is back", || client.rows("SELECT count(*) FROM k0").len() == 1);
}

fn a_worker_without_metadata_is_not_used(fixture: &Fixture) {
    let (owner, _) = owner(fixture);
    fixture.run(0, &format!("UPDATE pg_dist_node SET metadatasynced = false WHERE groupid = {owner}"));
    let mut client = fixture.client();
    fixture.until("the coordinator is back in charge", || client.value(READ) == "group 0");
    let mut console = fixture.console();
    assert_eq!(console.value(&format!("SELECT used FROM citus WHERE groupid = {owner}")), "no");
    fixture.run(0, &format!("UPDATE pg_dist_node SET metadatasynced = true WHERE groupid = {owner}"));
    fixture.until("the worker is used again", || client.value(READ) == format!("group {owner}"));
}

#[test]
fn a_cluster_is_found_and_followed() {
    let fixture = Fixture::new("");
    a_worker_without_metadata_is_not_used(&fixture);
    a_worker_that_is_gone_costs_no_read(&fixture);
    a_coordinator_that_is_gone_costs_nothing_that_a_worker_can_answer(&fixture);
    ranges_may_be_of_any_width(&fixture);
}

#[test]
fn a_worker_taken_for_the_coordinator_is_an_ordinary_database() {
    let nodes = nodes();
    let proxy = Setup::config(config(nodes[1].info().primary_port(), "", "")).start();
    let fixture = Fixture { proxy, nodes };
    let mut client = fixture.client();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(client.value(READ), "group 1");
    assert_eq!(fixture.console().rows("SHOW CITUS").len(), 0);
}
