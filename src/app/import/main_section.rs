//! The section `[pgbouncer]`.

use super::ini::{Ini, Place, Value};
use super::notes::Notes;
use super::out::Toml;
use super::users::Userlist;

/// What the databases need of it.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub auth_user: Option<String>,
    pub auth_query: Option<String>,
    pub max_db_connections: Option<String>,
    pub max_db_client_connections: Option<String>,
    pub socket_dir: Option<String>,
    /// Some database looks users up.
    pub has_auth_query: bool,
}

/// A count; PgBouncer's 0 may mean "none".
pub(super) fn count(text: &str, place: &Place, notes: &mut Notes) -> Option<u32> {
    let number = text.trim().parse().ok();
    if number.is_none() {
        notes.add(place, format!("{text}: not a number; left out"));
    }
    number
}

/// A time, which PgBouncer has in seconds.
pub(super) fn time(text: &str, place: &Place, notes: &mut Notes) -> Option<String> {
    let text = text.trim();
    match text.parse::<f64>() {
        Ok(0.0) => Some("0".to_owned()),
        Ok(seconds) if seconds > 0.0 && seconds.is_finite() => Some(format!("{text}s")),
        _ => {
            notes.add(place, format!("{text}: not a time in seconds; left out"));
            None
        }
    }
}

/// A word that is the same here.
pub(super) fn word(toml: &mut Toml, key: &str, value: &str) {
    toml.text(key, &value.to_ascii_lowercase());
}

/// Reads what concerns databases.
pub(super) fn shared(ini: &mut Ini, _users: &Userlist, notes: &mut Notes) -> Shared {
    let mut text = |key: &str| ini.take(key).map(|value| value.text);
    let (auth_user, auth_query) = (text("auth_user"), text("auth_query"));
    let (max_db_connections, max_db_client_connections) =
        (text("max_db_connections"), text("max_db_client_connections"));
    if let Some(value) = ini.take("auth_dbname") {
        notes.add(
            &value.place,
            "auth_dbname: auth_query runs in the database that the client asks for; not carried over",
        );
    }
    Shared {
        has_auth_query: auth_user.is_some() || ini.databases.iter().any(|line| line.get("auth_user").is_some()),
        auth_user,
        auth_query,
        max_db_connections,
        max_db_client_connections,
        socket_dir: ini.peek("unix_socket_dir").map(|value| value.text.clone()),
    }
}

/// Copies keys from the section to the one at hand.
struct Copy<'a> {
    ini: &'a mut Ini,
    toml: &'a mut Toml,
    notes: &'a mut Notes,
}

impl Copy<'_> {
    fn count(&mut self, from: &str, to: &str) {
        if let Some(value) = self.ini.take(from)
            && let Some(n) = count(&value.text, &value.place, self.notes)
        {
            self.toml.raw(to, n);
        }
    }

    fn time(&mut self, from: &str, to: &str) {
        if let Some(value) = self.ini.take(from)
            && let Some(text) = time(&value.text, &value.place, self.notes)
        {
            self.toml.text(to, &text);
        }
    }

    fn text(&mut self, from: &str, to: &str) {
        if let Some(value) = self.ini.take(from) {
            self.toml.text(to, &value.text);
        }
    }

    /// A path, as seen from the directory of the first file.
    fn path(&mut self, from: &str, to: &str) {
        if let Some(value) = self.ini.take(from) {
            let path = self.ini.path(&value.text);
            let path = std::path::absolute(&path).unwrap_or(path);
            self.toml.text(to, &path.display().to_string());
        }
    }

    /// A key that PgBouncer has a default for, which differs from Trunkline's.
    fn time_or(&mut self, from: &str, to: &str, default: &str) {
        if self.ini.peek(from).is_some() { self.time(from, to) } else { self.toml.text(to, default) }
    }
}

/// `[general]`, `[client]`, `[tls]`, `[log]`.
pub(super) fn process(ini: &mut Ini, toml: &mut Toml, notes: &mut Notes) {
    toml.section("general");
    listen(ini, toml, notes);
    let most = ini.take("max_client_conn").and_then(|value| count(&value.text, &value.place, notes)).unwrap_or(100);
    toml.raw("max_clients", most);
    toml.section("client");
    let mut copy = Copy { ini, toml, notes };
    copy.time_or("client_login_timeout", "login_timeout", "60s");
    copy.time("client_idle_timeout", "idle_timeout");
    copy.time("idle_transaction_timeout", "idle_transaction_timeout");
    copy.time("tcp_keepidle", "keepalive");
    client_tls(&mut copy);
    copy.toml.section("server_tls");
    if let Some(mode) = copy.ini.take("server_tls_sslmode") {
        word(copy.toml, "mode", &mode.text);
    }
    copy.path("server_tls_ca_file", "ca");
    copy.path("server_tls_cert_file", "cert");
    copy.path("server_tls_key_file", "key");
    copy.toml.section("log");
    if copy.ini.take("verbose").is_some_and(|value| value.text != "0") {
        copy.toml.text("level", "debug");
    }
}

fn listen(ini: &mut Ini, toml: &mut Toml, notes: &mut Notes) {
    let port = ini.take("listen_port").and_then(|value| count(&value.text, &value.place, notes)).unwrap_or(6432);
    let addresses: Vec<String> = match ini.take("listen_addr") {
        None => Vec::new(),
        Some(value) => value
            .text
            .split(',')
            .map(str::trim)
            .filter(|address| !address.is_empty())
            .map(
                |address| {
                    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
                },
            )
            .collect(),
    };
    let socket_dir = ini.take("unix_socket_dir");
    let mode = ini.take("unix_socket_mode");
    match &socket_dir {
        Some(dir) if dir.text.starts_with('@') => {
            notes.add(&dir.place, "unix_socket_dir: abstract sockets are not possible; not carried over");
        }
        Some(dir) => {
            toml.list("listen", &addresses);
            toml.text("unix_socket_dir", &dir.text);
            toml.raw("unix_socket_port", port);
            if let Some(mode) = mode {
                toml.text("unix_socket_mode", &mode.text);
            }
            return;
        }
        None => {}
    }
    if !addresses.is_empty() {
        toml.list("listen", &addresses);
    }
}

fn client_tls(copy: &mut Copy<'_>) {
    copy.toml.section("tls");
    let Some(mode) = copy.ini.take("client_tls_sslmode") else { return };
    let (word, certificates) = match mode.text.to_ascii_lowercase().as_str() {
        "disable" => ("disable", false),
        "allow" | "prefer" => ("allow", false),
        "require" => ("require", false),
        "verify-ca" | "verify-full" => ("require", true),
        _ => return copy.notes.add(&mode.place, "client_tls_sslmode: not a mode; left out"),
    };
    copy.toml.text("mode", word);
    if word == "disable" {
        for key in ["client_tls_cert_file", "client_tls_key_file", "client_tls_ca_file"] {
            drop(copy.ini.take(key));
        }
        return;
    }
    copy.path("client_tls_cert_file", "cert");
    copy.path("client_tls_key_file", "key");
    copy.path("client_tls_ca_file", "client_ca");
    if certificates {
        copy.toml.raw("require_client_cert", true);
    }
}

/// `[pool]`.
pub(super) fn pool(ini: &mut Ini, toml: &mut Toml, notes: &mut Notes) {
    toml.section("pool");
    let mode = ini.take("pool_mode").map_or_else(|| "session".to_owned(), |value| value.text);
    word(toml, "mode", &mode);
    let mut copy = Copy { ini, toml, notes };
    copy.count("default_pool_size", "size");
    copy.count("min_pool_size", "min_size");
    let reserve = copy.ini.peek("reserve_pool_size").is_some_and(|value| value.text != "0");
    let never = copy.ini.peek("reserve_pool_timeout").is_some_and(|value| value.text == "0");
    if reserve && never {
        // The reserve is off.
        drop((copy.ini.take("reserve_pool_size"), copy.ini.take("reserve_pool_timeout")));
    }
    copy.count("reserve_pool_size", "reserve_size");
    copy.time("reserve_pool_timeout", "reserve_timeout");
    copy.time_or("query_wait_timeout", "wait_timeout", "120s");
    copy.time("query_wait_notify", "wait_notify");
    copy.time("server_connect_timeout", "connect_timeout");
    copy.time("server_lifetime", "lifetime");
    copy.time("server_idle_timeout", "idle_timeout");
    copy.text("server_check_query", "check_query");
    copy.time("server_check_delay", "check_delay");
    copy.time("query_timeout", "query_timeout");
    copy.time("transaction_timeout", "transaction_timeout");
    copy.count("max_prepared_statements", "max_prepared");
    copy.text("server_reset_query", "reset_query");
}

/// `[admin]`: its users must be known here.
pub(super) fn admin(ini: &mut Ini, users: &Userlist, toml: &mut Toml, notes: &mut Notes) {
    toml.section("admin");
    for key in ["admin_users", "stats_users"] {
        let Some(value) = ini.take(key) else { continue };
        let (known, unknown): (Vec<&str>, Vec<&str>) = value
            .text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .partition(|name| users.get(name).is_some() || ini.users.iter().any(|line| line.name == *name));
        for name in unknown {
            let why = "the console's users must be known here, and it is in no list of users: left out";
            notes.add(&value.place, format!("{key}: {name}: {why}"));
        }
        if !known.is_empty() {
            toml.list(key, &known);
        }
    }
}

/// Whatever nobody has taken.
pub(super) fn rest(ini: &Ini, notes: &mut Notes) {
    for (key, value) in ini.left() {
        if let Some(text) = why_not(key, value) {
            notes.add(&value.place, format!("{key}: {text}"));
        }
    }
}

/// Why a key is not carried over; `None` when nothing is lost by it.
fn why_not(key: &str, value: &Value) -> Option<&'static str> {
    let off = matches!(value.text.as_str(), "" | "0" | "no" | "off" | "false");
    Some(match key {
        "logfile" | "syslog" | "syslog_facility" | "syslog_ident" if !off => "Trunkline logs to standard error",
        "logfile" | "syslog" | "syslog_facility" | "syslog_ident" => return None,
        "pidfile" => "Trunkline writes no pid file: let the service manager start it",
        "user" => "Trunkline does not change its user: let the service manager start it as that one",
        "log_connections" | "log_disconnections" | "log_pooler_errors" | "log_stats" | "stats_period" => {
            "see log.level, and /metrics for numbers"
        }
        "ignore_startup_parameters" => return None,
        "track_extra_parameters" => "not needed: every setting of a session is followed",
        "server_reset_query_always" if off => return None,
        "server_reset_query_always" => "not needed: what a session leaves behind is taken back before the next one",
        "server_round_robin" if off => return None,
        "server_round_robin" => "the connection that was used last is used again first",
        "so_reuseport" => return None,
        "disable_pqexec" | "application_name_add_host" | "server_fast_close" | "tcp_defer_accept" if off => {
            return None;
        }
        "max_packet_size" => "messages of PostgreSQL's own largest size pass",
        "pkt_buf" | "sbuf_loopcnt" | "listen_backlog" | "tcp_socket_buffer" => "Trunkline has no such buffer to set",
        "tcp_keepalive" | "tcp_keepcnt" | "tcp_keepintvl" | "tcp_user_timeout" => {
            "see client.keepalive and client.tcp_user_timeout"
        }
        "dns_max_ttl" | "dns_nxdomain_ttl" | "dns_zone_check_period" | "resolv_conf" => {
            "names are looked up at each connection"
        }
        "server_login_retry" => {
            "a server that refuses is tried again after 50 ms, then with pauses of a second at most"
        }
        "cancel_wait_timeout" => "cancel requests need no connection of the pool",
        "suspend_timeout" => "not needed",
        "client_tls_ciphers"
        | "client_tls_protocols"
        | "client_tls_dheparams"
        | "client_tls_ecdhcurve"
        | "client_tls13_ciphers"
        | "server_tls_ciphers"
        | "server_tls_protocols"
        | "server_tls13_ciphers" => "TLS 1.2 and 1.3 with rustls' own choice of ciphers",
        "auth_ident_file" => "user maps are written as cert_map of an HBA rule",
        "job_name" | "service_name" => return None,
        _ => "not carried over: Trunkline has nothing like it",
    })
}
