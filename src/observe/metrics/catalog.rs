//! Every metric that Trunkline exports: name, kind and HELP text, in one table.
//!
//! The table is what `/metrics` describes, and what `tests/deploy.rs` holds the dashboard and the
//! alert rules against. A metric that is missing here can't be exported: the publishing code takes
//! its names from these constants.

/// Kind of a metric in the exposition format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets with `_bucket`, `_sum` and `_count` series.
    Histogram,
}

impl Kind {
    /// The word after `# TYPE name`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric's name, kind and HELP text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// Full name, base unit and `_total` included.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// HELP text.
    pub help: &'static str,
}

macro_rules! catalog {
    ($($(#[$doc:meta])* $id:ident = $kind:ident $name:literal $help:literal;)+) => {
        $(#[doc = $help] pub const $id: &str = $name;)+
        /// All metrics, in the order in which they are described.
        pub const ALL: &[Described] = &[
            $(Described { name: $name, kind: Kind::$kind, help: $help },)+
        ];
    };
}

catalog! {
    STATEMENT_SECONDS = Histogram "trunkline_statement_duration_seconds"
        "Time from a statement's last byte in to its result's last byte out, by the role of the node that ran it.";
    WAIT_SECONDS = Histogram "trunkline_wait_duration_seconds"
        "Time that a client waited for a server connection, zero when one was idle.";
    STATEMENTS = Counter "trunkline_statements_total"
        "Statements that ended, failed ones included.";
    TRANSACTIONS = Counter "trunkline_transactions_total"
        "Transactions that ended; a statement outside a transaction block counts as one.";
    TRANSACTION_SECONDS = Counter "trunkline_transaction_busy_seconds_total"
        "Time that server connections spent inside transactions.";
    CLIENT_RECEIVED = Counter "trunkline_client_received_bytes_total"
        "Bytes received from clients.";
    CLIENT_SENT = Counter "trunkline_client_sent_bytes_total"
        "Bytes sent to clients.";
    SERVER_RECEIVED = Counter "trunkline_server_received_bytes_total"
        "Bytes received from servers.";
    SERVER_SENT = Counter "trunkline_server_sent_bytes_total"
        "Bytes sent to servers.";
    ERRORS = Counter "trunkline_errors_total"
        "Errors that clients were sent, by the first two characters of the SQLSTATE and who is to blame.";
    ROUTING = Counter "trunkline_routing_decisions_total"
        "Routing decisions, by target and reason.";
    RERUNS = Counter "trunkline_reruns_total"
        "Statements that failed on a replica and were run once more on another node, by cause.";
    RERUNS_REFUSED = Counter "trunkline_reruns_refused_total"
        "Statements that failed on a replica and could not be run once more, by cause and why.";
    WHAT_IF = Counter "trunkline_what_if_statements_total"
        "In a what-if mode: statements by where they would have gone: replica, stale (no replica was fresh enough), or what stood against it.";
    WHAT_IF_SECONDS = Counter "trunkline_what_if_seconds_total"
        "In a what-if mode: time of statements by where they would have gone.";
    READS = Counter "trunkline_reads_not_fresh_total"
        "Reads that no replica was fresh enough for at once, by consistency level and what became of them.";
    CITUS_STATEMENTS = Counter "trunkline_citus_statements_total"
        "Statements on distributed tables that a worker might have got, by where they went: coordinator, owner of their shard, any_node.";
    CITUS_LOADS = Counter "trunkline_citus_map_loads_total"
        "Times that nodes and shards of a Citus cluster were read because something had changed.";
    CITUS_LOAD_FAILURES = Counter "trunkline_citus_map_failures_total"
        "Times that the coordinator of a Citus cluster did not tell where its shards are.";
    CITUS_AGE = Gauge "trunkline_citus_map_age_seconds"
        "Time since what is known of nodes and shards of a Citus cluster was found to hold.";
    SLOW_STATEMENTS = Counter "trunkline_slow_statements_total"
        "Statements slower than the threshold of the slow-query log.";
    BREAKER_REFUSED = Counter "trunkline_breaker_refused_total"
        "Statements that the circuit breaker has refused, as they had failed too often.";
    SLOW_LOG_WRITTEN = Counter "trunkline_slow_log_written_total"
        "Lines written to the slow-query log.";
    SLOW_LOG_DROPPED = Counter "trunkline_slow_log_dropped_total"
        "Slow statements that were not logged, by cause.";
    SERVER_ASSIGNMENTS = Counter "trunkline_server_assignments_total"
        "Times that a client was given a server connection.";
    CLIENT_PARSES = Counter "trunkline_client_parses_total"
        "Parse messages received from clients.";
    SERVER_PARSES = Counter "trunkline_server_parses_total"
        "Parse messages sent to servers.";
    BINDS = Counter "trunkline_binds_total"
        "Bind messages received from clients.";
    CLIENT_LOGINS = Counter "trunkline_client_logins_total"
        "Clients that logged in.";
    CLIENT_CONNECTIONS = Gauge "trunkline_client_connections"
        "Clients that are logged in, by state: active, waiting for a server connection, idle.";
    CLIENT_CONNECTIONS_MAX = Gauge "trunkline_client_connections_max"
        "Most clients that may be connected at once.";
    PINNED_SESSIONS = Gauge "trunkline_pinned_sessions"
        "Sessions that keep a server connection to themselves between transactions, by reason.";
    ACCEPTED = Counter "trunkline_client_connections_accepted_total"
        "Client connections accepted, by kind of socket.";
    REFUSED = Counter "trunkline_client_connections_refused_total"
        "Client connections closed before they logged in, by cause.";
    AUTH_FAILURES = Counter "trunkline_authentication_failures_total"
        "Clients that failed to authenticate, by method.";
    POOL_CONNECTIONS = Gauge "trunkline_pool_server_connections"
        "Server connections of a pool, by state: active, idle, opening.";
    POOL_WAITING = Gauge "trunkline_pool_waiting_clients"
        "Clients that wait for a server connection of a pool.";
    POOL_SIZE = Gauge "trunkline_pool_size"
        "Most server connections that a pool may hold.";
    POOL_OPENED = Counter "trunkline_server_connections_opened_total"
        "Server connections opened.";
    POOL_OPEN_FAILED = Counter "trunkline_server_connection_open_failures_total"
        "Server connections that could not be opened.";
    POOL_CLOSED = Counter "trunkline_server_connections_closed_total"
        "Server connections closed, by cause.";
    POOL_WAIT_TIMEOUTS = Counter "trunkline_pool_wait_timeouts_total"
        "Clients that got no server connection in time.";
    NODE_UP = Gauge "trunkline_node_up"
        "1 while a node answers its health checks, else 0.";
    NODE_ROLE = Gauge "trunkline_node_role"
        "1 for the role that a node has now: primary, replica, worker (of Citus) or unknown.";
    NODE_STATE = Gauge "trunkline_node_state"
        "1 for the state that a node is in: up, down, refused (not a member, or an outdated primary) or disabled.";
    NODE_LAG = Gauge "trunkline_node_lag_seconds"
        "How old a replica's data may be at most: the time since the primary's last position that it has replayed for certain.";
    HEALTH_CHECKS = Counter "trunkline_node_health_checks_total"
        "Health checks of a node, by outcome.";
    PATRONI_LOOKS = Counter "trunkline_patroni_looks_total"
        "Looks at the Patroni of a database, by outcome: ok, or failed when no member has answered.";
    LISTENING_CLIENTS = Gauge "trunkline_listening_clients"
        "Clients that LISTEN, all served by one server connection for each database.";
    LISTENED_CHANNELS = Gauge "trunkline_listened_channels"
        "Channels that at least one client listens on.";
    NOTIFICATIONS = Counter "trunkline_notifications_total"
        "Notifications passed to clients that listen, each client counted.";
    LISTENER_LOST = Counter "trunkline_listener_connections_lost_total"
        "Times that the server connection that listens for all clients was lost or could not be opened; notifications may be missed.";
    CATALOG_LOADS = Counter "trunkline_catalog_loads_total"
        "Times that something new was read in the catalogs of a database: functions, views, tables, triggers.";
    CATALOG_LOAD_FAILURES = Counter "trunkline_catalog_load_failures_total"
        "Times that the catalogs of a database could not be read or compared.";
    CATALOG_AGE = Gauge "trunkline_catalog_age_seconds"
        "Time since what is known of the catalogs of a database was last found to hold.";
    RELOADS = Counter "trunkline_config_reloads_total"
        "Reloads of the configuration, by outcome.";
    RELOAD_OK = Gauge "trunkline_config_last_reload_successful"
        "1 when the last reload of the configuration was applied, 0 when it was refused.";
    PANICS = Counter "trunkline_panics_total"
        "Panics caught; each is a bug of Trunkline.";
    LOG_LINES_LOST = Counter "trunkline_log_lines_lost_total"
        "Lines of Trunkline's own log that were dropped because whoever reads its standard error is too slow.";
    LABEL_SETS_FOLDED = Counter "trunkline_label_sets_folded_total"
        "Sessions and pools counted under the label other, as there were too many databases and users.";
    BUILD_INFO = Gauge "trunkline_build_info"
        "Always 1; the version is a label.";
    START_TIME = Gauge "process_start_time_seconds"
        "When the process started, in seconds since 1970.";
    CPU_SECONDS = Counter "process_cpu_seconds_total"
        "User and system CPU time of the process.";
    RESIDENT_BYTES = Gauge "process_resident_memory_bytes"
        "Resident memory of the process.";
    OPEN_FDS = Gauge "process_open_fds"
        "File descriptors that the process holds open.";
    MAX_FDS = Gauge "process_max_fds"
        "File descriptors that the process may hold open.";
}

/// Looks a metric up by its name.
pub fn find(name: &str) -> Option<&'static Described> {
    ALL.iter().find(|metric| metric.name == name)
}
