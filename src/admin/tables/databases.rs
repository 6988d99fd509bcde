//! `SHOW DATABASES`.

use super::{View, mode};
use crate::admin::value::{Column, Rows, Value, int, text};
use crate::admin::{NAME, is_console};
use crate::config::{Database, NodeRole};

/// Columns. The last is the former name of `reserve_pool_size`, which exporters still look for.
pub const COLUMNS: &[Column] = &[
    text("name"),
    text("host"),
    int("port"),
    text("database"),
    text("force_user"),
    int("pool_size"),
    int("min_pool_size"),
    int("reserve_pool_size"),
    int("server_lifetime"),
    text("pool_mode"),
    text("load_balance_hosts"),
    int("max_connections"),
    int("current_connections"),
    int("max_client_connections"),
    int("current_client_connections"),
    int("paused"),
    int("disabled"),
    int("reserve_pool"),
];

/// One row per database, with the address of its primary; `SHOW NODES` has all nodes.
pub fn rows(view: &View<'_>) -> Rows {
    let mut rows: Rows = view.databases().iter().map(|(name, database)| row(view, name, database)).collect();
    rows.push(console(view));
    rows
}

fn row(view: &View<'_>, name: &str, database: &Database) -> Vec<Value> {
    let cluster = view.clusters.get(&database.name);
    let primary =
        cluster.and_then(|cluster| cluster.nodes.iter().find(|node| node.is_primary())).map(|node| &node.settings);
    let declared = || database.nodes.iter().find(|node| node.role == Some(NodeRole::Primary));
    let primary = primary.or_else(declared).or(database.nodes.first());
    let hosts = primary.map(|node| node.hosts.as_slice()).unwrap_or_default();
    let pool = &database.pool;
    let gate = view.ctx.directory.gates.find(name);
    vec![
        name.into(),
        Value::maybe(hosts.first().map(|host| host.host.as_str())),
        Value::count(hosts.first().map_or(0, |host| host.port)),
        database.dbname.as_deref().unwrap_or(name).into(),
        Value::maybe(database.server_user.as_deref()),
        Value::count(pool.size),
        Value::count(pool.min_size),
        Value::count(pool.reserve_size),
        Value::count(pool.lifetime.map_or(0, |time| time.as_secs())),
        mode(pool.mode),
        // Several addresses of one node are tried in order.
        Value::maybe((hosts.len() > 1).then_some("disable")),
        Value::count(database.max_server_connections.unwrap_or(0)),
        Value::count(view.server_count(|pools| pools.database == name)),
        Value::count(database.max_clients.unwrap_or(0)),
        Value::count(view.client_count(|client| client.database == name && !is_console(name))),
        i32::from(gate.as_ref().is_some_and(|gate| gate.is_paused())).into(),
        i32::from(gate.as_ref().is_some_and(|gate| gate.is_disabled())).into(),
        Value::count(pool.reserve_size),
    ]
}

fn console(view: &View<'_>) -> Vec<Value> {
    let port = view.config.listen.iter().map(|listen| match listen {
        crate::config::ListenAddr::Tcp(address) => address.port(),
        crate::config::ListenAddr::Unix { port, .. } => *port,
    });
    let mut row = vec![NAME.into(), Value::Null, Value::count(port.into_iter().next().unwrap_or(0)), NAME.into()];
    row.extend([NAME.into(), 2.into(), 0.into(), 0.into(), 0.into(), "statement".into(), Value::Null]);
    row.extend([0.into(), 0.into(), 0.into(), Value::count(view.console_clients()), 0.into(), 0.into(), 0.into()]);
    row
}
