//! `SHOW USERS`.

use std::collections::BTreeSet;

use super::{View, mode};
use crate::admin::is_console;
use crate::admin::value::{Column, Rows, Value, int, text};

/// Columns.
pub const COLUMNS: &[Column] = &[
    text("name"),
    text("pool_size"),
    text("reserve_pool_size"),
    text("pool_mode"),
    int("max_user_connections"),
    int("current_connections"),
    int("max_user_client_connections"),
    int("current_client_connections"),
];

/// One row per user of the configuration, and for those that `auth_query` found.
pub fn rows(view: &View<'_>) -> Rows {
    let configured = view.config.users.keys().map(String::as_str);
    let names: BTreeSet<&str> = configured.chain(view.pools.iter().map(|pools| pools.user.as_str())).collect();
    names.into_iter().map(|name| row(view, name)).collect()
}

fn row(view: &View<'_>, name: &str) -> Vec<Value> {
    let user = view.config.users.get(name);
    vec![
        name.into(),
        Value::maybe(user.and_then(|user| user.pool.size).map(|size| size.to_string())),
        Value::Null,
        user.and_then(|user| user.pool.mode).map_or(Value::Null, mode),
        0.into(),
        Value::count(view.server_count(|pools| pools.user == name)),
        Value::count(user.and_then(|user| user.max_clients).unwrap_or(0)),
        Value::count(view.client_count(|client| client.user == name && !is_console(&client.database))),
    ]
}
