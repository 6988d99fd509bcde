//! The resolved configuration: immutable, complete, with every default filled in.
//!
//! Everything that runs reads this model and nothing else; the TOML schema, the environment and the
//! command line only build it. A duration that is "off" (`0` in the file) is `None` here.

use super::{BreakerSettings, CitusSettings, Patroni};
use crate::sql::Consistency;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use zeroize::Zeroizing;

/// The whole resolved configuration. Shared as `Arc<Config>`; a reload swaps it whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where clients connect.
    pub listen: Vec<ListenAddr>,
    /// Where a starting process takes the listening sockets over from the running one; `None` = nowhere.
    pub takeover_socket: Option<PathBuf>,
    /// Worker threads that serve sessions, at least 1.
    pub workers: usize,
    /// Small writes of one turn of a worker go to the kernel together, where it gives a ring for that (io_uring).
    pub batch_sends: bool,
    /// Where Trunkline is: reads go to replicas in the same zone first; `None` = zones do not matter.
    pub zone: Option<String>,
    /// Most clients at once over all databases.
    pub max_clients: u32,
    /// Time-outs that concern clients.
    pub client: ClientSettings,
    /// TLS towards clients.
    pub client_tls: ClientTls,
    /// Host-based authentication rules, first match wins; never empty after resolution.
    pub hba: Vec<HbaRule>,
    /// Databases that clients may name, by name. `*` is the fallback that serves any other name.
    pub databases: BTreeMap<String, Arc<Database>>,
    /// Users known here, by name. Others may still be known to a database's `auth_query`.
    pub users: BTreeMap<String, Arc<User>>,
    /// Who may use the admin console.
    pub admin: Admin,
    /// The slow-query log.
    pub slow_log: SlowLogSettings,
    /// Where `/metrics`, `/healthz` and `/readyz` are served; `None` = nowhere.
    pub metrics: Option<SocketAddr>,
    /// Trunkline's own log.
    pub log: LogSettings,
}

/// A client-facing address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// `host:port`, resolved; IPv4 or IPv6.
    Tcp(SocketAddr),
    /// Directory in which the socket `.s.PGSQL.<port>` is made, with that port and the file mode.
    Unix {
        /// The directory.
        dir: PathBuf,
        /// The port in the socket's name.
        port: u16,
        /// Permission bits of the socket file.
        mode: u32,
    },
}

/// Limits and time-outs of the client side.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientSettings {
    /// From accept until authenticated.
    pub login_timeout: Option<Duration>,
    /// Most clients at once that have not proved who they are; `None` = as many as there may be clients.
    pub max_logins: Option<u32>,
    /// How much later a failed login is told when there were many of late from its address.
    pub failed_login_delay: Option<Duration>,
    /// A session without a transaction that sends nothing for so long is closed.
    pub idle_timeout: Option<Duration>,
    /// A session that sends nothing for so long inside a transaction is closed and rolled back.
    pub idle_transaction_timeout: Option<Duration>,
    /// A session that keeps a server connection to itself outside a transaction and sends nothing for so long is closed.
    pub pinned_idle_timeout: Option<Duration>,
    /// On SIGTERM, how long transactions may go on.
    pub drain_timeout: Option<Duration>,
    /// Largest startup packet in bytes.
    pub max_startup_bytes: u32,
    /// Largest statement in bytes that is inspected; longer ones stream to the primary.
    pub max_inspect_bytes: u32,
    /// TCP keepalive idle time.
    pub keepalive: Option<Duration>,
    /// Longest time that a client may leave bytes unacknowledged, or take none; `None` = the system's.
    pub tcp_user_timeout: Option<Duration>,
}

/// TLS towards clients.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientTls {
    /// Whether clients may or must use TLS.
    pub mode: ClientTlsMode,
    /// PEM certificate chain; present unless `mode` is `Disable`.
    pub cert: Option<PathBuf>,
    /// PEM private key.
    pub key: Option<PathBuf>,
    /// PEM roots for client certificates; when set, clients may present one.
    pub client_ca: Option<PathBuf>,
    /// A client certificate signed by `client_ca` is required of every TLS client.
    pub require_client_cert: bool,
}

/// Whether clients may or must use TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientTlsMode {
    /// SSLRequest is answered `N`.
    Disable,
    /// TLS and plain text both work.
    Allow,
    /// Plain-text TCP startups are refused (28000). Unix sockets are exempt.
    Require,
}

/// One rule of host-based authentication.
#[derive(Debug, Clone, PartialEq)]
pub struct HbaRule {
    /// Kind of connection.
    pub kind: HbaKind,
    /// Database names; empty = all. `replication` matches replication startups only.
    pub databases: Vec<String>,
    /// User names; empty = all.
    pub users: Vec<String>,
    /// Client networks; empty = all. Ignored for `Local`.
    pub addresses: Vec<IpNet>,
    /// How the client proves who it is.
    pub method: AuthMethod,
    /// For `Cert`: common name -> user name; empty = they must be equal.
    pub cert_map: BTreeMap<String, String>,
}

/// The kind of connection that an [`HbaRule`] matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HbaKind {
    /// Unix socket.
    Local,
    /// TCP, with or without TLS.
    Host,
    /// TCP with TLS.
    HostSsl,
    /// TCP without TLS.
    HostNoSsl,
    /// Any of the above.
    Any,
}

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// SCRAM-SHA-256, and -PLUS over TLS.
    ScramSha256,
    /// MD5 challenge; a user whose secret is a SCRAM verifier is asked for SCRAM, as PostgreSQL does.
    Md5,
    /// Clear-text password; refused without TLS unless `plain_ok`.
    Password {
        /// Allowed without TLS too.
        plain_ok: bool,
    },
    /// Client certificate.
    Cert,
    /// No proof.
    Trust,
    /// Always refused.
    Reject,
}

/// A database as clients name it.
#[derive(Debug, Clone, PartialEq)]
pub struct Database {
    /// The name that clients use; `*` for the fallback.
    pub name: String,
    /// The name on the servers; `None` = the name that the client gave.
    pub dbname: Option<String>,
    /// Primary and replicas; never empty, at most one declared primary.
    pub nodes: Vec<NodeSettings>,
    /// Replicas are looked for besides those nodes; `None` = not.
    pub discovery: Option<Discovery>,
    /// Patroni is asked who leads; `None` = not.
    pub patroni: Option<Patroni>,
    /// Nothing is written: no node is the primary, whatever it says of itself.
    pub read_only: bool,
    /// User and secret for all server connections, instead of the client's own.
    pub server_user: Option<String>,
    /// Password for `server_user`.
    pub server_password: Option<Secret>,
    /// User for health checks and `auth_query`; defaults to `server_user`.
    pub control_user: Option<String>,
    /// Password for `control_user`.
    pub control_password: Option<Secret>,
    /// `SELECT` that returns (name, secret[, valid_until]) for `$1`; `None` = configured users only.
    pub auth_query: Option<String>,
    /// TLS towards the servers.
    pub tls: ServerTls,
    /// Pool settings, global defaults merged in.
    pub pool: PoolSettings,
    /// Statements slower than this are logged; `None` = off.
    pub slow_query: Option<Duration>,
    /// Reading and balancing.
    pub routing: RoutingSettings,
    /// What is done with its workers, if it is a Citus database.
    pub citus: CitusSettings,
    /// Most clients of this database at once; `None` = only the global limit.
    pub max_clients: Option<u32>,
    /// Most server connections on each node, over all users; `None` = only the pools' own sizes.
    pub max_server_connections: Option<u32>,
}

/// How replicas are found that are not configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// Their port; `None` = the primary's.
    pub port: Option<u16>,
    /// Ports of those that have another one, by their `application_name`.
    pub ports: BTreeMap<String, u16>,
    /// Their weight.
    pub weight: Option<u32>,
}

/// One PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeSettings {
    /// Name in logs, metrics and the console; unique within its database.
    pub name: String,
    /// The role that it is expected to have; `None` = whichever it is found to have.
    pub role: Option<NodeRole>,
    /// Addresses tried in order: `host` is a name, an IP address, or a socket directory that starts with `/`.
    pub hosts: Vec<HostPort>,
    /// Share of reads relative to the other nodes; 0 = none; `None` = 1 for a replica, none for the primary.
    pub weight: Option<u32>,
    /// Where it is; `None` = not said.
    pub zone: Option<String>,
    /// Its node group in a Citus cluster: 0 = the coordinator's, and that of every node that is no worker.
    pub group: u32,
}

/// Role of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeRole {
    /// Takes writes.
    Primary,
    /// Physical standby.
    Replica,
    /// Primary of a worker group of Citus. Nobody configures one.
    Worker,
}

impl NodeRole {
    /// Its word in logs, tables and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Worker => "worker",
        }
    }
}

/// A host and its port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Name, IP address, or socket directory (starts with `/`).
    pub host: String,
    /// Port, 1–65535.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') && !self.host.starts_with('/') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// TLS towards servers, with libpq's meaning of `sslmode`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerTls {
    /// The mode.
    pub mode: SslMode,
    /// PEM roots; `None` = the Mozilla roots.
    pub ca: Option<PathBuf>,
    /// PEM client certificate.
    pub cert: Option<PathBuf>,
    /// PEM client key.
    pub key: Option<PathBuf>,
    /// Start TLS at once with ALPN `postgresql`, without SSLRequest (`sslnegotiation=direct`).
    pub direct: bool,
}

/// libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SslMode {
    /// Plain text only.
    Disable,
    /// Plain text first, TLS when the server refuses that.
    Allow,
    /// TLS first, plain text when the server has none.
    Prefer,
    /// TLS, certificate not verified (verified against `ca` when that is set, as libpq does).
    Require,
    /// TLS, certificate signed by `ca`.
    VerifyCa,
    /// TLS, certificate signed by `ca` and for this host name.
    VerifyFull,
}

/// Settings of the pools of one (database, user).
#[derive(Debug, Clone, PartialEq)]
pub struct PoolSettings {
    /// When a server connection returns to the pool.
    pub mode: PoolMode,
    /// Most server connections per node.
    pub size: u32,
    /// Kept open per node even when idle.
    pub min_size: u32,
    /// Further connections beyond `size` for clients that have waited for `reserve_timeout`.
    pub reserve_size: u32,
    /// How long a client waits before the reserve is used; `None` = the reserve is never used.
    pub reserve_timeout: Option<Duration>,
    /// Longest wait for a server connection.
    pub wait_timeout: Option<Duration>,
    /// A client that has waited for so long is told so by a NOTICE.
    pub wait_notify: Option<Duration>,
    /// Longest time to open and authenticate one server connection.
    pub connect_timeout: Option<Duration>,
    /// Run on each new server connection, and again after a reset; empty = nothing.
    pub connect_query: String,
    /// A server connection older than this is closed once idle (with jitter).
    pub lifetime: Option<Duration>,
    /// A server connection idle for longer than this is closed (with jitter).
    pub idle_timeout: Option<Duration>,
    /// Run on a connection that was idle for `check_delay` before it is used again; empty = no check.
    pub check_query: String,
    /// See `check_query`; `None` = no check.
    pub check_delay: Option<Duration>,
    /// A statement that runs for longer than this is cancelled.
    pub query_timeout: Option<Duration>,
    /// A transaction that takes longer than this is rolled back, and its client disconnected.
    pub transaction_timeout: Option<Duration>,
    /// A client outside a transaction that sends nothing for so long is disconnected.
    pub client_idle_timeout: Option<Duration>,
    /// A client inside a transaction that sends nothing for so long is disconnected.
    pub idle_transaction_timeout: Option<Duration>,
    /// Most prepared statements per server connection; 0 = prepared statements are not shared.
    pub max_prepared: u32,
    /// Sent when a session that had pinned the connection ends.
    pub reset_query: String,
    /// TCP keepalive idle time of server connections.
    pub keepalive: Option<Duration>,
    /// Longest time that a server may leave bytes unacknowledged, or take none; `None` = the system's.
    pub tcp_user_timeout: Option<Duration>,
}

/// When a server connection returns to the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolMode {
    /// When the client disconnects.
    Session,
    /// At the end of each transaction.
    Transaction,
    /// After each statement; transaction blocks are refused.
    Statement,
}

/// Which statements of transaction blocks may run on replicas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum TransactionReads {
    /// None: every block runs on the primary.
    Off,
    /// Those of blocks that are declared READ ONLY.
    #[default]
    ReadOnly,
    /// Those, and the reads of a READ COMMITTED block before its first statement that is no plain read.
    UntilWrite,
}

impl TransactionReads {
    /// As the configuration names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::ReadOnly => "read_only",
            Self::UntilWrite => "until_write",
        }
    }
}

/// Routing of one database.
#[derive(Debug, Clone, PartialEq)]
pub struct RoutingSettings {
    /// Reads may go to replicas; `false` = everything goes to the primary.
    pub split_reads: bool,
    /// Everything runs on the primary, and where it would run is counted.
    pub what_if: bool,
    /// Which transaction blocks are read on replicas.
    pub transaction_reads: TransactionReads,
    /// What reads that may go to replicas must at least see.
    pub consistency: Consistency,
    /// How old the data may be that `eventual` reads see; `None` = any age.
    pub max_lag: Option<Duration>,
    /// How long a read waits for a replica to be fresh enough, where waiting is of use; `None` = not at all.
    pub freshness_wait: Option<Duration>,
    /// Time between health checks of a node.
    pub health_interval: Duration,
    /// Time-out of one health check.
    pub health_timeout: Duration,
    /// Time between two look-ups of the nodes' names; `None` = only when a connection is opened.
    pub dns_interval: Option<Duration>,
    /// Functions (optionally schema-qualified, lower case) that may run on a replica.
    pub read_only_functions: Vec<String>,
    /// Functions that must run on the primary.
    pub primary_functions: Vec<String>,
    /// Patterns of statements that run on the primary, over their normalised texts.
    pub primary_statements: Vec<String>,
    /// Patterns of statements that only read, as far as nothing certain speaks against it.
    pub read_only_statements: Vec<String>,
    /// Time between two looks whether the catalog has changed; `None` = only when Trunkline has a reason to.
    pub catalog_interval: Option<Duration>,
    /// When a statement that keeps failing is refused.
    pub breaker: BreakerSettings,
}

/// A user known in the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// Name.
    pub name: String,
    /// What the client must prove to know; `None` = only `trust`, `cert` or `auth_query` can let it in.
    pub secret: Option<Secret>,
    /// Name on the servers; `None` = the same.
    pub server_user: Option<String>,
    /// Password on the servers; `None` = `secret` when it is plain, or what the login yields.
    pub server_password: Option<Secret>,
    /// Overrides of the database's pool settings.
    pub pool: UserPool,
    /// Overrides the database's slow-query threshold; `Some(None)` = off.
    pub slow_query: Option<Option<Duration>>,
    /// Overrides the database's consistency of reads.
    pub consistency: Option<Consistency>,
    /// Most clients of this user at once.
    pub max_clients: Option<u32>,
    /// Most server connections of this user, over all databases and nodes.
    pub max_server_connections: Option<u32>,
}

/// Overrides of pool settings by a user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UserPool {
    /// Overrides [`PoolSettings::mode`].
    pub mode: Option<PoolMode>,
    /// Overrides [`PoolSettings::size`].
    pub size: Option<u32>,
    /// Overrides [`PoolSettings::min_size`].
    pub min_size: Option<u32>,
    /// Overrides [`PoolSettings::reserve_size`].
    pub reserve_size: Option<u32>,
    /// Overrides [`PoolSettings::wait_timeout`]; `Some(None)` = off.
    pub wait_timeout: Option<Option<Duration>>,
    /// Overrides [`PoolSettings::query_timeout`]; `Some(None)` = off.
    pub query_timeout: Option<Option<Duration>>,
    /// Overrides [`PoolSettings::transaction_timeout`]; `Some(None)` = off.
    pub transaction_timeout: Option<Option<Duration>>,
    /// Overrides [`PoolSettings::client_idle_timeout`]; `Some(None)` = off.
    pub client_idle_timeout: Option<Option<Duration>>,
    /// Overrides [`PoolSettings::idle_transaction_timeout`]; `Some(None)` = off.
    pub idle_transaction_timeout: Option<Option<Duration>>,
}

/// The admin console's own name.
pub const CONSOLE: &str = "trunkline";

/// Whether a database name means the admin console, which answers to PgBouncer's name, too.
pub fn is_console(database: &str) -> bool {
    database == CONSOLE || database == "pgbouncer"
}

/// Who may use the admin console.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Admin {
    /// May do everything.
    pub admin_users: Vec<String>,
    /// May `SHOW`.
    pub stats_users: Vec<String>,
}

/// The slow-query log.
#[derive(Debug, Clone, PartialEq)]
pub struct SlowLogSettings {
    /// Form of a line.
    pub format: LogFormat,
    /// File to append to; `None` = stderr.
    pub file: Option<PathBuf>,
    /// Write the statement as sent, literals included.
    pub raw_text: bool,
    /// Write the parameters of prepared statements.
    pub parameters: bool,
    /// Most lines per fingerprint and second; 0 = unlimited.
    pub per_fingerprint_per_second: u32,
    /// Lines that may wait for the writer before they are dropped (and counted).
    pub queue: usize,
}

/// Trunkline's own log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogSettings {
    /// Form of a line.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a tracing filter.
    pub level: String,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Readable text.
    Text,
    /// One JSON object per line.
    Json,
}

/// A secret: never printed, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a plain password, a SCRAM verifier (`SCRAM-SHA-256$…`) or an md5 hash (`md5` + 32 hex digits).
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The secret itself. Never log it, never put it into an error.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Config {
    /// The database that a client's name stands for: itself, or the fallback `*`.
    pub fn database(&self, name: &str) -> Option<&Arc<Database>> {
        self.databases.get(name).or_else(|| self.databases.get("*"))
    }

    /// Pool settings of `database` as `user` sees them.
    pub fn pool_settings(&self, database: &Database, user: &str) -> PoolSettings {
        let mut pool = database.pool.clone();
        if let Some(user) = self.users.get(user) {
            let over = &user.pool;
            pool.mode = over.mode.unwrap_or(pool.mode);
            pool.size = over.size.unwrap_or(pool.size);
            pool.min_size = over.min_size.unwrap_or(pool.min_size).min(pool.size);
            pool.wait_timeout = over.wait_timeout.unwrap_or(pool.wait_timeout);
            pool.reserve_size = over.reserve_size.unwrap_or(pool.reserve_size);
            pool.query_timeout = over.query_timeout.unwrap_or(pool.query_timeout);
            pool.transaction_timeout = over.transaction_timeout.unwrap_or(pool.transaction_timeout);
            pool.client_idle_timeout = over.client_idle_timeout.unwrap_or(pool.client_idle_timeout);
            pool.idle_transaction_timeout = over.idle_transaction_timeout.unwrap_or(pool.idle_transaction_timeout);
        }
        pool
    }

    /// What reads of `user` on `database` must see when nothing else was said.
    pub fn consistency(&self, database: &Database, user: &str) -> Consistency {
        self.users.get(user).and_then(|u| u.consistency).unwrap_or(database.routing.consistency)
    }

    /// Slow-query threshold of `user` on `database`.
    pub fn slow_query(&self, database: &Database, user: &str) -> Option<Duration> {
        self.users.get(user).and_then(|u| u.slow_query).unwrap_or(database.slow_query)
    }
}
