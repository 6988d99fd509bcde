//! `SHOW NODES`: the servers behind each database.

use super::{View, moment};
use crate::admin::value::{Column, Rows, Value, int, text};
use crate::config::NodeRole;
use crate::topology::{Node, ObservedRole};

/// Columns.
pub const COLUMNS: &[Column] = &[
    text("name"),
    text("database"),
    text("role"),
    text("observed_role"),
    text("host"),
    int("port"),
    text("status"),
    int("weight"),
    int("outstanding"),
    int("lag_ms"),
    text("last_check"),
    text("error"),
];

/// Rows.
pub fn rows(view: &View<'_>) -> Rows {
    let nodes = view.clusters.values().flat_map(|cluster| cluster.nodes.iter().map(move |node| (cluster, node)));
    nodes.map(|(cluster, node)| row(&cluster.database.name, node)).collect()
}

fn row(database: &str, node: &Node) -> Vec<Value> {
    let checked = node.checked();
    let observed = match node.observed_role() {
        ObservedRole::Unknown => "unknown",
        ObservedRole::Primary => "primary",
        ObservedRole::Replica => "replica",
    };
    let host = node.settings.hosts.first();
    vec![
        name(node).into(),
        database.into(),
        role(node).into(),
        observed.into(),
        Value::maybe(host.map(|host| host.host.as_str())),
        Value::count(host.map_or(0, |host| host.port)),
        if node.load.is_up() { "up" } else { "down" }.into(),
        Value::count(node.settings.weight),
        Value::count(node.load.outstanding()),
        checked.lag.map_or(Value::Null, |lag| Value::count(lag.as_millis())),
        checked.at.map_or(Value::Null, moment),
        Value::maybe(checked.error),
    ]
}

/// The node's name.
pub fn name(node: &Node) -> &str {
    &node.settings.name
}

/// The role as configured.
pub fn role(node: &Node) -> &'static str {
    match node.settings.role {
        NodeRole::Primary => "primary",
        NodeRole::Replica => "replica",
    }
}
