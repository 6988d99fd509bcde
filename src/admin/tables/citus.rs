//! `SHOW CITUS`: the nodes of databases that Citus distributes, as their coordinators have them, and what goes there.

use std::sync::Arc;

use super::{View, moment};
use crate::admin::value::{Column, Rows, Value, int, numeric, text};
use crate::topology::{CitusMap, CitusNode, Cluster, Node};

/// Columns.
pub const COLUMNS: &[Column] = &[
    text("database"),
    text("version"),
    int("groupid"),
    int("nodeid"),
    text("host"),
    int("port"),
    text("role"),
    text("cluster"),
    text("active"),
    text("synced"),
    text("used"),
    int("shards"),
    text("checked_at"),
    text("loaded_at"),
    int("age_ms"),
    numeric("at_owner"),
    numeric("at_any_node"),
    numeric("at_coordinator"),
    text("error"),
];

/// One row per node that a coordinator knows.
pub fn rows(view: &View<'_>) -> Rows {
    let known = view.clusters.values().filter_map(|cluster| Some((cluster, cluster.citus.map()?)));
    known.flat_map(|(cluster, map)| map.nodes.iter().map(|node| row(cluster, &map, node)).collect::<Vec<_>>()).collect()
}

fn row(cluster: &Arc<Cluster>, map: &CitusMap, node: &CitusNode) -> Vec<Value> {
    let standing = cluster.citus.standing();
    let counts = cluster.citus.metrics().counts();
    let is_node = |known: &&Arc<Node>| {
        known.settings.group == node.group
            && known.settings.hosts.iter().any(|at| at.host == node.host && at.port == node.port)
    };
    let used = match cluster.nodes.iter().find(is_node).filter(|known| known.is_worker()) {
        Some(worker) if worker.is_usable_worker() || worker.is_usable_secondary() => "yes",
        Some(worker) if worker.is_disabled() => "disabled",
        Some(worker) if !worker.load.is_up() => "down",
        Some(_) => "no",
        None if node.group == 0 => "coordinator",
        None => "no",
    };
    let yes = |is: bool| Value::from(if is { "yes" } else { "no" });
    vec![
        cluster.database.name.as_str().into(),
        map.version.as_str().into(),
        Value::count(node.group),
        Value::count(node.id),
        node.host.as_str().into(),
        Value::count(node.port),
        if node.is_primary { "primary" } else { "secondary" }.into(),
        node.cluster.as_str().into(),
        yes(node.is_active),
        yes(node.is_synced),
        used.into(),
        Value::count(map.shards_of(node.group)),
        standing.checked_at.map_or(Value::Null, moment),
        standing.loaded_at.map_or(Value::Null, moment),
        counts.age.map_or(Value::Null, |age| Value::count(age.as_millis())),
        Value::from(counts.owner),
        Value::from(counts.any_node),
        Value::from(counts.coordinator),
        Value::maybe(standing.error),
    ]
}
