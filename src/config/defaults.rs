//! The defaults: what holds when nothing is said.

use crate::sql::Consistency;
use std::time::Duration;

use super::{
    AuthMethod, BreakerSettings, ClientSettings, ClientTls, ClientTlsMode, HbaKind, HbaRule, LogFormat, LogSettings,
    PoolMode, PoolSettings, RoutingSettings, ServerTls, SlowLogSettings, SslMode, TransactionReads,
};

/// Where clients connect.
pub(super) const LISTEN: &str = "127.0.0.1:6432";
/// Port in the name of the Unix socket when there is no TCP address to take it from.
pub(super) const PORT: u16 = 6432;
/// Port of a server when none is given.
pub(super) const SERVER_PORT: u16 = 5432;
/// Permission bits of the Unix socket.
pub(super) const UNIX_SOCKET_MODE: u32 = 0o777;
/// `[general] batch_sends`.
pub(super) const BATCH_SENDS: bool = true;
/// Time between two looks at Patroni.
pub(super) const PATRONI_INTERVAL: Duration = secs(1);
/// Most clients at once.
pub(super) const MAX_CLIENTS: u32 = 1000;
/// Most iterations of SCRAM that a stored verifier or a server may ask for. PostgreSQL sets no limit; this is about a second of work.
pub const MAX_SCRAM_ITERATIONS: u32 = 4_000_000;

/// Statements slower than this are logged.
pub const SLOW_QUERY: Option<Duration> = Some(Duration::from_secs(1));
/// A replica's share of reads.
pub const REPLICA_WEIGHT: u32 = 1;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            login_timeout: Some(secs(30)),
            max_logins: None,
            failed_login_delay: Some(secs(1)),
            idle_timeout: None,
            idle_transaction_timeout: None,
            pinned_idle_timeout: None,
            drain_timeout: Some(secs(30)),
            max_startup_bytes: 10_000,
            max_inspect_bytes: 1 << 20,
            keepalive: Some(secs(60)),
            tcp_user_timeout: None,
        }
    }
}

impl Default for ClientTls {
    fn default() -> Self {
        Self { mode: ClientTlsMode::Disable, cert: None, key: None, client_ca: None, require_client_cert: false }
    }
}

impl Default for ServerTls {
    fn default() -> Self {
        Self { mode: SslMode::Prefer, ca: None, cert: None, key: None, direct: false }
    }
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            mode: PoolMode::Transaction,
            size: 20,
            min_size: 0,
            reserve_size: 0,
            reserve_timeout: Some(secs(5)),
            wait_timeout: Some(secs(30)),
            wait_notify: None,
            connect_timeout: Some(secs(15)),
            connect_query: String::new(),
            lifetime: Some(secs(3600)),
            idle_timeout: Some(secs(600)),
            check_query: ";".into(),
            check_delay: Some(secs(30)),
            query_timeout: None,
            transaction_timeout: None,
            client_idle_timeout: None,
            idle_transaction_timeout: None,
            max_prepared: 200,
            reset_query: "DISCARD ALL".into(),
            keepalive: Some(secs(60)),
            tcp_user_timeout: None,
        }
    }
}

impl Default for RoutingSettings {
    fn default() -> Self {
        Self {
            split_reads: true,
            what_if: false,
            transaction_reads: TransactionReads::ReadOnly,
            consistency: Consistency::Table,
            max_lag: Some(secs(10)),
            freshness_wait: Some(Duration::from_millis(20)),
            health_interval: secs(1),
            health_timeout: secs(2),
            dns_interval: None,
            read_only_functions: Vec::new(),
            primary_functions: Vec::new(),
            primary_statements: Vec::new(),
            read_only_statements: Vec::new(),
            catalog_interval: Some(secs(10)),
            breaker: BreakerSettings::default(),
        }
    }
}

impl Default for SlowLogSettings {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            file: None,
            raw_text: false,
            parameters: false,
            per_fingerprint_per_second: 10,
            queue: 4096,
        }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}

/// The rule that holds when there is none: everybody, by SCRAM-SHA-256.
pub(super) fn hba_rule() -> HbaRule {
    HbaRule {
        kind: HbaKind::Any,
        databases: Vec::new(),
        users: Vec::new(),
        addresses: Vec::new(),
        method: AuthMethod::ScramSha256,
        cert_map: Default::default(),
    }
}
