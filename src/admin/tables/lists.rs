//! `SHOW LISTS`.

use super::View;
use crate::admin::value::{Column, Rows, Value, int, text};

/// Columns.
pub const COLUMNS: &[Column] = &[text("list"), int("items")];

/// Rows, in PgBouncer's order. What Trunkline has none of is 0.
pub fn rows(view: &View<'_>) -> Rows {
    let servers = view.server_count(|_| true);
    // The console counts as a database with a pool.
    let items = [
        ("databases", view.databases().len() + 1),
        ("users", super::users::rows(view).len()),
        ("peers", 0),
        ("pools", view.pools.len() + 1),
        ("peer_pools", 0),
        ("free_clients", 0),
        ("used_clients", view.clients.len()),
        ("login_clients", view.ctx.clients.logging_in_now()),
        ("free_servers", 0),
        ("used_servers", servers),
        ("dns_names", crate::net::looked_up().len()),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
    ];
    items.into_iter().map(|(list, count)| vec![list.into(), Value::count(count)]).collect()
}
