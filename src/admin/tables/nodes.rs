//! `SHOW NODES`: the servers behind each database.

use std::sync::Arc;
use std::time::SystemTime;

use super::{View, moment};
use crate::admin::value::{Column, Rows, Value, int, text};
use crate::config::NodeRole;
use crate::topology::{Cluster, Node, Standing};

/// Columns.
pub const COLUMNS: &[Column] = &[
    text("name"),
    text("database"),
    text("role"),
    text("declared"),
    text("state"),
    text("host"),
    int("port"),
    text("zone"),
    int("weight"),
    int("timeline"),
    int("outstanding"),
    int("latency_us"),
    int("staleness_ms"),
    text("horizon"),
    text("last_check"),
    text("patroni"),
    text("reason"),
];

/// Rows.
pub fn rows(view: &View<'_>) -> Rows {
    let nodes = view.clusters.values().flat_map(|cluster| cluster.nodes.iter().map(move |node| (cluster, node)));
    nodes.map(|(cluster, node)| row(cluster, node)).collect()
}

fn row(cluster: &Cluster, node: &Arc<Node>) -> Vec<Value> {
    let checked = node.checked();
    let host = node.settings.hosts.first();
    let timeline = cluster.timeline_of(node);
    let staleness = node.load.horizon.staleness();
    vec![
        name(node).into(),
        cluster.database.name.as_str().into(),
        role(node).into(),
        node.settings.role.map_or("auto", NodeRole::as_str).into(),
        state(node).into(),
        Value::maybe(host.map(|host| host.host.as_str())),
        Value::count(host.map_or(0, |host| host.port)),
        Value::maybe(node.settings.zone.as_deref()),
        Value::count(node.weight()),
        timeline.map_or(Value::Null, Value::count),
        Value::count(node.load.outstanding()),
        node.load.latency().map_or(Value::Null, |latency| Value::count(latency.as_micros())),
        staleness.map_or(Value::Null, |age| Value::count(age.as_millis())),
        staleness.and_then(|age| SystemTime::now().checked_sub(age)).map_or(Value::Null, moment),
        checked.at.map_or(Value::Null, moment),
        Value::maybe(cluster.patroni_role(node)),
        Value::maybe(cluster.refusal_of(node).or(checked.error)),
    ]
}

/// The node's name.
pub fn name(node: &Node) -> &str {
    &node.settings.name
}

/// The role that it was found to have.
pub fn role(node: &Node) -> &'static str {
    match node.standing() {
        Standing::Primary => "primary",
        Standing::Replica => "replica",
        Standing::Worker => "worker",
        Standing::Secondary => "secondary",
        Standing::Unknown | Standing::Refused(_) => "unknown",
    }
}

fn state(node: &Node) -> &'static str {
    match node.standing() {
        _ if node.is_disabled() => "disabled",
        Standing::Refused(_) => "refused",
        _ if node.load.is_up() => "up",
        _ => "down",
    }
}
