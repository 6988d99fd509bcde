//! A Trunkline before the cluster, in the state of one that has run for a while.

use std::thread;
use std::time::{Duration, Instant};

use super::support::clusters::APP;
use super::support::world::{Plan, World};
use super::work;
use trunkline::app::demo::ClusterInfo;

/// Starts it, with the program that runs it if any (`Setup::under`), and waits until it relies on the catalog and all server
/// connections are open: none is opened while something is counted.
pub fn start(cluster: &ClusterInfo, replicas: bool, workers: usize, pool_size: usize, under: &[&str]) -> World {
    let world = Plan {
        sql: work::TABLE,
        general: &format!("workers = {workers}"),
        pool: &format!("size = {pool_size}\nmin_size = {pool_size}"),
        tables: &format!("[admin]\nadmin_users = [\"{APP}\"]"),
        primary_only: !replicas,
        under,
        ..Plan::default()
    }
    .start_on(cluster);
    world.settle();
    // The pools are those of users who have been there.
    world.client().value("SELECT balance FROM accounts WHERE aid = 1");
    let nodes = if replicas { 1 + cluster.replica_ports().count() } else { 1 };
    (0..nodes).for_each(|node| wait_for_connections(&world, node, pool_size));
    world
}

fn wait_for_connections(world: &World, node: usize, count: usize) {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND usename = '{APP}' AND application_name NOT LIKE 'trunkline%'"
    );
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let there = world.db.run_on(node, &sql);
        if there == count.to_string() {
            return;
        }
        assert!(Instant::now() < deadline, "{there} connections to node {node}, not {count}");
        thread::sleep(Duration::from_millis(50));
    }
}
