//! The settings that `SET` changes while the program runs: PgBouncer's names for them, and ours.

use crate::config::nearest;
use crate::wire::{ErrorNotice, SqlState};

/// How a value is written on the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// As in the file.
    AsIs,
    /// A number without a unit means seconds.
    Seconds,
    /// Any text.
    Text,
}

/// A setting that can be changed.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name on the console.
    pub name: &'static str,
    /// `section.key` in the file.
    pub path: &'static str,
    unit: Unit,
}

const fn key(name: &'static str, path: &'static str, unit: Unit) -> Key {
    Key { name, path, unit }
}

const KEYS: &[Key] = &[
    key("admin_users", "admin.admin_users", Unit::AsIs),
    key("client_idle_timeout", "client.idle_timeout", Unit::Seconds),
    key("client_login_timeout", "client.login_timeout", Unit::Seconds),
    key("client_tls_ca_file", "tls.client_ca", Unit::Text),
    key("client_tls_cert_file", "tls.cert", Unit::Text),
    key("client_tls_key_file", "tls.key", Unit::Text),
    key("client_tls_sslmode", "tls.mode", Unit::AsIs),
    key("consistency", "routing.consistency", Unit::AsIs),
    key("default_pool_size", "pool.size", Unit::AsIs),
    key("drain_timeout", "client.drain_timeout", Unit::Seconds),
    key("freshness_wait", "routing.freshness_wait", Unit::Seconds),
    key("idle_transaction_timeout", "client.idle_transaction_timeout", Unit::Seconds),
    key("log_level", "log.level", Unit::Text),
    key("max_client_conn", "general.max_clients", Unit::AsIs),
    key("max_lag", "routing.max_lag", Unit::Seconds),
    key("max_packet_size", "client.max_inspect", Unit::AsIs),
    key("max_prepared_statements", "pool.max_prepared", Unit::AsIs),
    key("min_pool_size", "pool.min_size", Unit::AsIs),
    key("pinned_idle_timeout", "client.pinned_idle_timeout", Unit::Seconds),
    key("pool_mode", "pool.mode", Unit::AsIs),
    key("query_timeout", "pool.query_timeout", Unit::Seconds),
    key("query_wait_notify", "pool.wait_notify", Unit::Seconds),
    key("query_wait_timeout", "pool.wait_timeout", Unit::Seconds),
    key("reserve_pool_size", "pool.reserve_size", Unit::AsIs),
    key("reserve_pool_timeout", "pool.reserve_timeout", Unit::Seconds),
    key("server_check_delay", "pool.check_delay", Unit::Seconds),
    key("server_check_query", "pool.check_query", Unit::Text),
    key("server_connect_timeout", "pool.connect_timeout", Unit::Seconds),
    key("server_idle_timeout", "pool.idle_timeout", Unit::Seconds),
    key("server_lifetime", "pool.lifetime", Unit::Seconds),
    key("server_reset_query", "pool.reset_query", Unit::Text),
    key("slow_query", "slow_log.slow_query", Unit::Seconds),
    key("split_reads", "routing.split_reads", Unit::AsIs),
    key("stats_users", "admin.stats_users", Unit::AsIs),
    key("transaction_reads", "routing.transaction_reads", Unit::Text),
    key("transaction_timeout", "pool.transaction_timeout", Unit::Seconds),
    key("what_if", "routing.what_if", Unit::AsIs),
];

/// The setting of this name, or of this path in the file.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name.eq_ignore_ascii_case(name) || key.path.eq_ignore_ascii_case(name))
}

/// The error for a name that is no such setting; `shown` = `SHOW CONFIG` has it.
pub fn unknown(name: &str, shown: bool) -> ErrorNotice {
    if shown {
        let detail = format!("\"{name}\" cannot be changed while the proxy runs.");
        return failed(SqlState::CANT_CHANGE_RUNTIME_PARAM, detail)
            .hint("SHOW CONFIG tells in the column changeable what can. The other settings are the file's.");
    }
    let hint = match nearest(&name.to_ascii_lowercase(), KEYS.iter().map(|key| key.name)) {
        Some(near) => format!("Did you mean {near}? SHOW CONFIG lists the settings."),
        None => "SHOW CONFIG lists the settings.".to_owned(),
    };
    failed(SqlState::UNDEFINED_OBJECT, format!("unknown setting \"{name}\"")).hint(hint)
}

/// PgBouncer's error, with the reason that it leaves to the log.
pub fn failed(code: SqlState, detail: String) -> ErrorNotice {
    ErrorNotice::error(code, "SET failed").detail(detail)
}

impl Key {
    /// The value as a file would have it.
    pub fn in_file(&self, value: &str) -> String {
        let value = value.trim();
        match self.unit {
            Unit::Seconds if value.parse::<f64>().is_ok_and(|seconds| seconds != 0.0) => format!("{value}s"),
            Unit::Seconds if value.parse::<f64>().is_ok() => "0".to_owned(),
            Unit::AsIs | Unit::Seconds => value.to_owned(),
            // A string of TOML: whatever is in it stays as it is.
            Unit::Text => serde_json::Value::from(value).to_string(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_as_the_file_has_them() {
        let of = |name: &str, value: &str| find(name).unwrap().in_file(value);
        assert_eq!(of("query_timeout", "30"), "30s");
        assert_eq!(of("QUERY_TIMEOUT", "0.5"), "0.5s");
        assert_eq!(of("query_timeout", "0.0"), "0");
        assert_eq!(of("pool.query_timeout", "200ms"), "200ms");
        assert_eq!(of("server_reset_query", "SET x = \"a\"; 'b'"), r#""SET x = \"a\"; 'b'""#);
        assert!(find("listen_port").is_none());
    }

    #[test]
    fn names_are_in_order_and_distinct() {
        assert!(KEYS.is_sorted_by(|a, b| a.name < b.name));
    }
}
