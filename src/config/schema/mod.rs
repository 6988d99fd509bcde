//! The TOML schema: what may be written, before anything is checked.
//!
//! Every key is optional here, so that reading never stops at a missing one: what must be there is
//! decided in `resolve`, which sees everything at once. Whatever can be semantically wrong carries its span.

pub mod value;
pub mod words;

use crate::sql::Consistency;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_spanned::Spanned;

use self::value::{Count, Dur, FileMode, List, RawSecret, Size, Word};
use self::words::Method;
use super::{
    CitusReads, ClientTlsMode, HbaKind, LogFormat, NodeRole, OwnerRouting, PoolMode, SslMode, TransactionReads,
};

/// An optional value with its place.
pub type Opt<T> = Option<Spanned<T>>;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    pub general: General,
    pub client: Client,
    pub tls: Tls,
    pub hba: Opt<Vec<Spanned<Hba>>>,
    pub pool: Pool,
    pub routing: Routing,
    pub server_tls: ServerTls,
    pub databases: BTreeMap<Spanned<String>, Database>,
    pub users: BTreeMap<Spanned<String>, User>,
    pub admin: Admin,
    pub slow_log: SlowLog,
    pub metrics: Metrics,
    pub log: Log,
}

/// `[general]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct General {
    pub listen: Opt<List>,
    pub unix_socket_dir: Opt<String>,
    pub unix_socket_port: Opt<Count>,
    pub unix_socket_mode: Opt<FileMode>,
    pub takeover_socket: Opt<String>,
    pub workers: Opt<Count>,
    pub batch_sends: Opt<bool>,
    pub zone: Opt<String>,
    pub max_clients: Opt<Count>,
}

/// `[client]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Client {
    pub login_timeout: Opt<Dur>,
    pub max_logins: Opt<Count>,
    pub failed_login_delay: Opt<Dur>,
    pub idle_timeout: Opt<Dur>,
    pub idle_transaction_timeout: Opt<Dur>,
    pub pinned_idle_timeout: Opt<Dur>,
    pub drain_timeout: Opt<Dur>,
    pub max_startup_packet: Opt<Size>,
    pub max_inspect: Opt<Size>,
    pub keepalive: Opt<Dur>,
    pub tcp_user_timeout: Opt<Dur>,
}

/// `[tls]`: towards clients.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    pub mode: Opt<Word<ClientTlsMode>>,
    pub cert: Opt<String>,
    pub key: Opt<String>,
    pub client_ca: Opt<String>,
    pub require_client_cert: Opt<bool>,
}

/// `[[hba]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hba {
    pub r#type: Opt<Word<HbaKind>>,
    pub databases: Opt<List>,
    pub users: Opt<List>,
    pub addresses: Opt<List>,
    pub method: Opt<Word<Method>>,
    pub allow_plaintext: Opt<bool>,
    pub cert_map: Option<BTreeMap<String, Spanned<String>>>,
}

/// `[pool]`, and `pool` of a database or user.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    pub mode: Opt<Word<PoolMode>>,
    pub size: Opt<Count>,
    pub min_size: Opt<Count>,
    pub reserve_size: Opt<Count>,
    pub reserve_timeout: Opt<Dur>,
    pub wait_timeout: Opt<Dur>,
    pub wait_notify: Opt<Dur>,
    pub connect_timeout: Opt<Dur>,
    pub connect_query: Opt<String>,
    pub lifetime: Opt<Dur>,
    pub idle_timeout: Opt<Dur>,
    pub check_query: Opt<String>,
    pub check_delay: Opt<Dur>,
    pub query_timeout: Opt<Dur>,
    pub transaction_timeout: Opt<Dur>,
    pub max_prepared: Opt<Count>,
    pub reset_query: Opt<String>,
    pub keepalive: Opt<Dur>,
    pub tcp_user_timeout: Opt<Dur>,
}

/// `pool` of a user: what one user can have differently.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserPool {
    pub mode: Opt<Word<PoolMode>>,
    pub size: Opt<Count>,
    pub min_size: Opt<Count>,
    pub reserve_size: Opt<Count>,
    pub wait_timeout: Opt<Dur>,
    pub query_timeout: Opt<Dur>,
    pub transaction_timeout: Opt<Dur>,
}

/// `[routing]`, and `routing` of a database.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Routing {
    pub split_reads: Opt<bool>,
    pub what_if: Opt<bool>,
    pub transaction_reads: Opt<Word<TransactionReads>>,
    pub consistency: Opt<Word<Consistency>>,
    pub max_lag: Opt<Dur>,
    pub freshness_wait: Opt<Dur>,
    pub health_interval: Opt<Dur>,
    pub health_timeout: Opt<Dur>,
    pub dns_interval: Opt<Dur>,
    pub read_only_functions: Opt<List>,
    pub primary_functions: Opt<List>,
    pub primary_statements: Opt<List>,
    pub read_only_statements: Opt<List>,
    pub catalog_interval: Opt<Dur>,
    pub breaker_failures: Opt<Count>,
    pub breaker_window: Opt<Dur>,
    pub breaker_pause: Opt<Dur>,
}

/// `[server_tls]`, and `tls` of a database: towards the servers.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerTls {
    pub mode: Opt<Word<SslMode>>,
    pub ca: Opt<String>,
    pub cert: Opt<String>,
    pub key: Opt<String>,
    pub direct: Opt<bool>,
}

/// `[databases.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    pub dbname: Opt<String>,
    pub url: Opt<String>,
    pub replica_urls: Opt<List>,
    pub primary: Opt<String>,
    pub replicas: Opt<List>,
    pub nodes: Vec<Spanned<Node>>,
    pub read_only: Opt<bool>,
    pub discover_replicas: Opt<bool>,
    pub discover_port: Opt<i64>,
    pub discover_ports: Option<BTreeMap<String, Spanned<i64>>>,
    pub discover_weight: Opt<Count>,
    pub patroni: Opt<List>,
    pub patroni_interval: Opt<Dur>,
    pub patroni_ca: Opt<String>,
    pub server_user: Opt<String>,
    pub server_password: Opt<RawSecret>,
    pub server_password_file: Opt<String>,
    pub control_user: Opt<String>,
    pub control_password: Opt<RawSecret>,
    pub control_password_file: Opt<String>,
    pub auth_query: Opt<String>,
    pub tls: ServerTls,
    pub pool: Pool,
    pub slow_query: Opt<Dur>,
    pub routing: Routing,
    pub citus: Citus,
    pub max_clients: Opt<Count>,
    pub max_server_connections: Opt<Count>,
    pub client_idle_timeout: Opt<Dur>,
    pub idle_transaction_timeout: Opt<Dur>,
}

/// `citus` of a database.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Citus {
    pub reads: Opt<Word<CitusReads>>,
    pub owner_routing: Opt<Word<OwnerRouting>>,
    pub interval: Opt<Dur>,
}

/// `[[databases.NAME.nodes]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    pub name: Opt<String>,
    pub role: Opt<Word<Option<NodeRole>>>,
    pub host: Opt<String>,
    pub port: Opt<i64>,
    pub hosts: Opt<List>,
    pub weight: Opt<Count>,
    pub zone: Opt<String>,
}

/// `[users.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct User {
    pub consistency: Opt<Word<Consistency>>,
    pub password: Opt<RawSecret>,
    pub password_file: Opt<String>,
    pub server_user: Opt<String>,
    pub server_password: Opt<RawSecret>,
    pub server_password_file: Opt<String>,
    pub pool: UserPool,
    pub slow_query: Opt<Dur>,
    pub max_clients: Opt<Count>,
    pub max_server_connections: Opt<Count>,
    pub client_idle_timeout: Opt<Dur>,
    pub idle_transaction_timeout: Opt<Dur>,
}

/// `[admin]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    pub admin_users: Opt<List>,
    pub stats_users: Opt<List>,
}

/// `[slow_log]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlowLog {
    pub slow_query: Opt<Dur>,
    pub format: Opt<Word<LogFormat>>,
    pub file: Opt<String>,
    pub raw_text: Opt<bool>,
    pub parameters: Opt<bool>,
    pub per_fingerprint_per_second: Opt<Count>,
    pub queue: Opt<Count>,
}

/// `[metrics]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    pub listen: Opt<String>,
}

/// `[log]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub format: Opt<Word<LogFormat>>,
    pub level: Opt<String>,
}
