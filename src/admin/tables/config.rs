//! `SHOW CONFIG`: the configuration under PgBouncer's keys. Exporters read `max_client_conn` and `max_user_connections`
//! as numbers. No secret is in it.

use std::time::Duration;

use super::View;
use crate::admin::settings;
use crate::admin::value::{Column, Rows, Value, text};
use crate::config::{
    ClientSettings, ClientTls, ClientTlsMode, Config, DEFAULT_SLOW_QUERY, Database, ListenAddr, LogSettings, PoolMode,
    PoolSettings, RoutingSettings, TransactionReads,
};
use crate::sql::Consistency;

/// Columns.
pub const COLUMNS: &[Column] = &[text("key"), text("value"), text("default"), text("changeable")];

/// What stands for a value that differs from database to database.
const DIFFERS: &str = "(see SHOW DATABASES)";

#[derive(Default)]
struct Keys(Rows);

impl Keys {
    /// A key, its value and its default. It is changeable when `SET` takes it.
    fn add(&mut self, key: &str, value: impl Into<String>, default: impl Into<String>) {
        let changeable = if settings::find(key).is_some() { "yes" } else { "no" };
        self.0.push(vec![Value::from(key), value.into().into(), default.into().into(), changeable.into()]);
    }

    /// A pool setting, which each database has of its own.
    fn pool<T: PartialEq>(&mut self, key: &str, config: &Config, of: fn(&PoolSettings) -> T, text: fn(T) -> String) {
        self.each(key, config, |database| of(&database.pool), of(&PoolSettings::default()), text);
    }

    /// A setting that each database has of its own.
    fn each<T: PartialEq>(
        &mut self,
        key: &str,
        config: &Config,
        of: impl Fn(&Database) -> T,
        default: T,
        text: fn(T) -> String,
    ) {
        let mut values = config.databases.values().map(|database| of(database));
        let value = match values.next() {
            Some(first) if values.all(|value| value == first) => text(first),
            Some(_) => DIFFERS.to_owned(),
            None => String::new(),
        };
        self.add(key, value, text(default));
    }
}

/// Rows, by key.
pub fn rows(view: &View<'_>) -> Rows {
    let mut keys = Keys::default();
    process(&mut keys, &view.config);
    clients(&mut keys, &view.config);
    pools(&mut keys, &view.config);
    let mut rows = keys.0;
    rows.sort_by_key(|row| match row.first() {
        Some(Value::Text(key)) => key.clone(),
        _ => String::new(),
    });
    rows
}

/// Whether there is such a key.
pub fn has(view: &View<'_>, key: &str) -> bool {
    rows(view).iter().any(|row| matches!(row.first(), Some(Value::Text(known)) if known.eq_ignore_ascii_case(key)))
}

fn process(keys: &mut Keys, config: &Config) {
    let tcp: Vec<_> = config
        .listen
        .iter()
        .filter_map(|listen| match listen {
            ListenAddr::Tcp(address) => Some(address),
            ListenAddr::Unix { .. } => None,
        })
        .collect();
    let unix = config.listen.iter().find_map(|listen| match listen {
        ListenAddr::Unix { dir, port, mode } => Some((dir.display().to_string(), *port, *mode)),
        ListenAddr::Tcp(_) => None,
    });
    let port = tcp.first().map(|address| address.port()).or(unix.as_ref().map(|unix| unix.1));
    let addresses: Vec<_> = tcp.iter().map(|address| address.ip().to_string()).collect();
    keys.add("listen_addr", addresses.join(","), "127.0.0.1");
    keys.add("listen_port", port.unwrap_or(0).to_string(), "6432");
    let (dir, mode) = unix.map_or_else(Default::default, |(dir, _, mode)| (dir, format!("{mode:04o}")));
    keys.add("unix_socket_dir", dir, "");
    keys.add("unix_socket_mode", mode, "0777");
    keys.add("workers", config.workers.to_string(), "");
    keys.add("batch_sends", config.batch_sends.to_string(), "true");
    keys.add("admin_users", config.admin.admin_users.join(","), "");
    keys.add("stats_users", config.admin.stats_users.join(","), "");
    keys.add("log_level", &config.log.level, LogSettings::default().level);
}

fn clients(keys: &mut Keys, config: &Config) {
    let (now, usual) = (&config.client, ClientSettings::default());
    keys.add("max_client_conn", config.max_clients.to_string(), "1000");
    // Trunkline has these of each database and user only; see SHOW DATABASES.
    for key in
        ["max_user_connections", "max_db_connections", "max_db_client_connections", "max_user_client_connections"]
    {
        keys.add(key, "0", "0");
    }
    keys.add("client_login_timeout", seconds(now.login_timeout), seconds(usual.login_timeout));
    keys.add("client_idle_timeout", seconds(now.idle_timeout), seconds(usual.idle_timeout));
    keys.add(
        "idle_transaction_timeout",
        seconds(now.idle_transaction_timeout),
        seconds(usual.idle_transaction_timeout),
    );
    keys.add("pinned_idle_timeout", seconds(now.pinned_idle_timeout), seconds(usual.pinned_idle_timeout));
    keys.add("drain_timeout", seconds(now.drain_timeout), seconds(usual.drain_timeout));
    keys.add("max_packet_size", now.max_inspect_bytes.to_string(), usual.max_inspect_bytes.to_string());
    keys.add("tcp_keepidle", seconds(now.keepalive), seconds(usual.keepalive));
    keys.add("tcp_user_timeout", milliseconds(now.tcp_user_timeout), milliseconds(usual.tcp_user_timeout));
    let tls = |mode| match mode {
        ClientTlsMode::Disable => "disable",
        ClientTlsMode::Allow => "allow",
        ClientTlsMode::Require => "require",
    };
    keys.add("client_tls_sslmode", tls(config.client_tls.mode), tls(ClientTls::default().mode));
    let path =
        |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    keys.add("client_tls_cert_file", path(&config.client_tls.cert), "");
    keys.add("client_tls_key_file", path(&config.client_tls.key), "");
    keys.add("client_tls_ca_file", path(&config.client_tls.client_ca), "");
    let auth_queries =
        config.databases.values().filter_map(|database: &std::sync::Arc<Database>| database.auth_query.as_deref());
    keys.add("auth_query", auth_queries.into_iter().next().unwrap_or_default(), "");
}

fn pools(keys: &mut Keys, config: &Config) {
    let mode = |mode| match mode {
        PoolMode::Session => "session".to_owned(),
        PoolMode::Transaction => "transaction".to_owned(),
        PoolMode::Statement => "statement".to_owned(),
    };
    let number = |number: u32| number.to_string();
    keys.pool("pool_mode", config, |pool| pool.mode, mode);
    keys.pool("default_pool_size", config, |pool| pool.size, number);
    keys.pool("min_pool_size", config, |pool| pool.min_size, number);
    keys.pool("reserve_pool_size", config, |pool| pool.reserve_size, number);
    keys.pool("reserve_pool_timeout", config, |pool| pool.reserve_timeout, seconds);
    keys.pool("max_prepared_statements", config, |pool| pool.max_prepared, number);
    keys.pool("query_wait_timeout", config, |pool| pool.wait_timeout, seconds);
    keys.pool("query_wait_notify", config, |pool| pool.wait_notify, seconds);
    keys.pool("query_timeout", config, |pool| pool.query_timeout, seconds);
    keys.pool("transaction_timeout", config, |pool| pool.transaction_timeout, seconds);
    keys.pool("server_check_query", config, |pool| pool.check_query.clone(), |query| query);
    keys.pool("server_check_delay", config, |pool| pool.check_delay, seconds);
    keys.pool("server_connect_timeout", config, |pool| pool.connect_timeout, seconds);
    keys.pool("server_lifetime", config, |pool| pool.lifetime, seconds);
    keys.pool("server_idle_timeout", config, |pool| pool.idle_timeout, seconds);
    keys.each("slow_query", config, |database| database.slow_query, DEFAULT_SLOW_QUERY, seconds);
    let routing = RoutingSettings::default();
    let level = |level: Consistency| level.as_str().to_owned();
    keys.each("consistency", config, |database| database.routing.consistency, routing.consistency, level);
    keys.each("max_lag", config, |database| database.routing.max_lag, routing.max_lag, seconds);
    let wait = |database: &Database| database.routing.freshness_wait;
    keys.each("freshness_wait", config, wait, routing.freshness_wait, seconds);
    let yes_no = |yes: bool| yes.to_string();
    keys.each("split_reads", config, |database| database.routing.split_reads, routing.split_reads, yes_no);
    keys.each("what_if", config, |database| database.routing.what_if, routing.what_if, yes_no);
    let reads = |reads: TransactionReads| reads.as_str().to_owned();
    keys.each(
        "transaction_reads",
        config,
        |database| database.routing.transaction_reads,
        routing.transaction_reads,
        reads,
    );
    keys.pool("server_reset_query", config, |pool| pool.reset_query.clone(), |query| query);
}

/// Milliseconds, as PgBouncer counts here; 0 = off.
fn milliseconds(time: Option<Duration>) -> String {
    time.map_or(0, |time| time.as_millis()).to_string()
}

/// Seconds; 0 = off.
fn seconds(time: Option<Duration>) -> String {
    time.map_or(0.0, |time| time.as_secs_f64()).to_string()
}
