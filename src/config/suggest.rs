//! "Did you mean": the nearest known name to one that is not known.

/// The candidate nearest to `name`, when one is near enough to be a slip of the fingers.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit || (name.len() >= 4 && candidate.starts_with(name)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// What has taken the place of a key that there was once.
pub(super) fn replaced(name: &str) -> Option<&'static str> {
    (name == "read_after_write_window").then_some(
        "replicas are asked now what they have: a session's reads see its own writes wherever they run. \
         See consistency in [routing], which says what else they must see",
    )
}

/// What a setting of pgbouncer.ini is called here: operators bring their habits and their files.
pub(super) fn from_pgbouncer(name: &str) -> Option<&'static str> {
    const NAMES: &[(&str, &str)] = &[
        ("listen_addr", "listen in [general], as \"address:port\""),
        ("listen_port", "listen in [general], as \"address:port\""),
        ("unix_socket_dir", "unix_socket_dir in [general]"),
        ("unix_socket_mode", "unix_socket_mode in [general]"),
        ("max_client_conn", "max_clients in [general]"),
        ("max_db_client_connections", "max_clients of the database"),
        ("max_user_client_connections", "max_clients of the user"),
        ("pool_mode", "mode in [pool], or in the pool table of the database or user"),
        ("default_pool_size", "size in [pool]"),
        ("pool_size", "size in the pool table: pool.size"),
        ("min_pool_size", "min_size in [pool], or in the pool table of the database"),
        ("query_wait_timeout", "wait_timeout in [pool]"),
        ("server_connect_timeout", "connect_timeout in [pool]"),
        ("server_lifetime", "lifetime in [pool]"),
        ("server_idle_timeout", "idle_timeout in [pool]"),
        ("server_reset_query", "reset_query in [pool]"),
        ("query_timeout", "query_timeout in [pool]"),
        ("max_prepared_statements", "max_prepared in [pool]"),
        ("client_login_timeout", "login_timeout in [client]"),
        ("client_idle_timeout", "idle_timeout in [client]"),
        ("idle_transaction_timeout", "idle_transaction_timeout in [client]"),
        ("tcp_keepidle", "keepalive in [client]"),
        ("auth_type", "method of an [[hba]] rule"),
        ("auth_file", "password or password_file of [users.NAME]"),
        ("auth_hba_file", "[[hba]] rules"),
        ("auth_user", "control_user of the database"),
        ("auth_query", "auth_query of the database"),
        ("client_tls_sslmode", "mode in [tls]"),
        ("client_tls_cert_file", "cert in [tls]"),
        ("client_tls_key_file", "key in [tls]"),
        ("client_tls_ca_file", "client_ca in [tls]"),
        ("server_tls_sslmode", "mode in [server_tls]"),
        ("server_tls_ca_file", "ca in [server_tls]"),
        ("server_tls_cert_file", "cert in [server_tls]"),
        ("server_tls_key_file", "key in [server_tls]"),
        ("admin_users", "admin_users in [admin]"),
        ("stats_users", "stats_users in [admin]"),
        ("host", "primary = \"host=… port=…\", or a [[databases.NAME.nodes]] table"),
        ("port", "primary = \"host=… port=…\", or a [[databases.NAME.nodes]] table"),
        ("logfile", "nothing: the log goes to stderr"),
        ("verbose", "level in [log]"),
    ];
    NAMES.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours)
}
