//! `SHOW MEM`.

use super::View;
use crate::admin::value::{Column, Rows, Value, int, text};
use crate::backend::{ServerConn, ServerInfo};
use crate::config::{Database, User};
use crate::observe::Process;
use crate::pool::Pool;
use crate::session::Client;

/// Columns.
pub const COLUMNS: &[Column] = &[text("name"), int("size"), int("used"), int("free"), int("memtotal")];

/// PgBouncer's caches, with the fixed size of what is in them: text and buffers are not counted. The last row is the whole
/// process, in units of a KiB.
pub fn rows(view: &View<'_>) -> Rows {
    let pools = view.pools.iter().map(|pools| pools.pools.len()).sum();
    let servers = view.server_count(|_| true);
    let resident = Process::read().resident_bytes.map_or(0, |bytes| (bytes / 1024.0) as usize);
    [
        ("user_cache", size_of::<User>(), view.config.users.len()),
        ("db_cache", size_of::<Database>(), view.config.databases.len()),
        ("pool_cache", size_of::<Pool>(), pools),
        ("client_cache", size_of::<Client>(), view.clients.len()),
        ("server_cache", size_of::<ServerConn>() + size_of::<ServerInfo>(), servers),
        ("resident", 1024, resident),
    ]
    .into_iter()
    .map(|(name, size, used)| {
        vec![name.into(), Value::count(size), Value::count(used), 0.into(), Value::count(size * used)]
    })
    .collect()
}
