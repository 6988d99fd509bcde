//! What a reload changes, in words.

use crate::sql::Consistency;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{
    CitusReads, Config, Database, HbaRule, ListenAddr, NodeSettings, OwnerRouting, PoolSettings, RoutingSettings,
    Secret, ServerTls, TransactionReads, User, UserPool,
};

/// One setting that differs. Secrets are never in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What changed, such as `pool.size of database app: 20 -> 30`.
    pub text: String,
    /// It takes effect only after a restart.
    pub needs_restart: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if self.needs_restart { f.write_str(" (needs a restart)") } else { Ok(()) }
    }
}

/// The difference of two configurations.
#[derive(Debug)]
pub struct Diff;

impl Diff {
    /// Every change from `old` to `new`; empty when they are equal.
    pub fn between(old: &Config, new: &Config) -> Vec<Change> {
        let mut out = Changes::default();
        out.process(old, new);
        out.sections(old, new);
        out.databases(&old.databases, &new.databases);
        out.users(&old.users, &new.users);
        // Whatever the words above miss must still not pass unseen.
        if out.0.is_empty() && old != new {
            out.note("other settings changed");
        }
        out.0
    }
}

#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn note(&mut self, text: impl Into<String>) {
        self.0.push(Change { text: text.into(), needs_restart: false });
    }

    fn restart(&mut self, text: impl Into<String>) {
        self.0.push(Change { text: text.into(), needs_restart: true });
    }

    fn value<T: PartialEq + Shown>(&mut self, what: &str, old: &T, new: &T) {
        if old != new {
            self.note(format!("{what}: {} -> {}", old.shown(), new.shown()));
        }
    }

    fn secret(&mut self, what: &str, old: Option<&Secret>, new: Option<&Secret>) {
        match (old, new) {
            (None, Some(_)) => self.note(format!("{what} added")),
            (Some(_), None) => self.note(format!("{what} removed")),
            (Some(old), Some(new)) if old != new => self.note(format!("{what} changed")),
            _ => {}
        }
    }

    fn process(&mut self, old: &Config, new: &Config) {
        if old.listen != new.listen {
            self.restart(format!("listen: {} -> {}", old.listen.shown(), new.listen.shown()));
        }
        if old.takeover_socket != new.takeover_socket {
            let show =
                |path: &Option<std::path::PathBuf>| path.as_ref().map_or("off".into(), |p| p.display().to_string());
            let (old, new) = (show(&old.takeover_socket), show(&new.takeover_socket));
            self.restart(format!("takeover_socket: {old} -> {new}"));
        }
        if old.workers != new.workers {
            self.restart(format!("workers: {} -> {}", old.workers, new.workers));
        }
        let sockets = [
            ("client.keepalive", old.client.keepalive, new.client.keepalive),
            ("client.tcp_user_timeout", old.client.tcp_user_timeout, new.client.tcp_user_timeout),
        ];
        for (what, old, new) in sockets.into_iter().filter(|(_, old, new)| old != new) {
            self.restart(format!("{what}: {} -> {}", old.shown(), new.shown()));
        }
        if old.batch_sends != new.batch_sends {
            self.restart(format!("batch_sends: {} -> {}", old.batch_sends, new.batch_sends));
        }
        if old.metrics != new.metrics {
            let show = |addr: &Option<_>| addr.map_or("off".into(), |addr: std::net::SocketAddr| addr.to_string());
            self.restart(format!("metrics.listen: {} -> {}", show(&old.metrics), show(&new.metrics)));
        }
        if old.slow_log.queue != new.slow_log.queue {
            self.restart(format!("slow_log.queue: {} -> {}", old.slow_log.queue, new.slow_log.queue));
        }
        if old.log.format != new.log.format {
            self.restart(format!("log.format: {:?} -> {:?}", old.log.format, new.log.format));
        }
    }

    fn sections(&mut self, old: &Config, new: &Config) {
        self.value("max_clients", &old.max_clients, &new.max_clients);
        self.value("zone", &old.zone, &new.zone);
        let (a, b) = (&old.client, &new.client);
        self.value("client.login_timeout", &a.login_timeout, &b.login_timeout);
        self.value("client.max_logins", &a.max_logins, &b.max_logins);
        self.value("client.failed_login_delay", &a.failed_login_delay, &b.failed_login_delay);
        self.value("client.idle_timeout", &a.idle_timeout, &b.idle_timeout);
        self.value("client.idle_transaction_timeout", &a.idle_transaction_timeout, &b.idle_transaction_timeout);
        self.value("client.pinned_idle_timeout", &a.pinned_idle_timeout, &b.pinned_idle_timeout);
        self.value("client.drain_timeout", &a.drain_timeout, &b.drain_timeout);
        self.value("client.max_startup_packet", &a.max_startup_bytes, &b.max_startup_bytes);
        self.value("client.max_inspect", &a.max_inspect_bytes, &b.max_inspect_bytes);
        if old.client_tls != new.client_tls {
            self.note("tls changed");
        }
        if old.hba != new.hba {
            let count = |rules: &[HbaRule]| format!("{} rule{}", rules.len(), if rules.len() == 1 { "" } else { "s" });
            self.note(format!("hba: {} -> {}", count(&old.hba), count(&new.hba)));
        }
        self.value("admin.admin_users", &old.admin.admin_users, &new.admin.admin_users);
        self.value("admin.stats_users", &old.admin.stats_users, &new.admin.stats_users);
        let (a, b) = (&old.slow_log, &new.slow_log);
        if a.format != b.format {
            self.note(format!("slow_log.format: {:?} -> {:?}", a.format, b.format));
        }
        if a.file != b.file {
            let show =
                |file: &Option<std::path::PathBuf>| file.as_ref().map_or("stderr".into(), |f| f.display().to_string());
            self.note(format!("slow_log.file: {} -> {}", show(&a.file), show(&b.file)));
        }
        self.value("slow_log.raw_text", &a.raw_text, &b.raw_text);
        self.value("slow_log.parameters", &a.parameters, &b.parameters);
        let rate = "slow_log.per_fingerprint_per_second";
        self.value(rate, &a.per_fingerprint_per_second, &b.per_fingerprint_per_second);
        self.value("log.level", &old.log.level, &new.log.level);
    }

    fn databases(&mut self, old: &BTreeMap<String, Arc<Database>>, new: &BTreeMap<String, Arc<Database>>) {
        for name in old.keys().filter(|name| !new.contains_key(*name)) {
            self.note(format!("database {name} removed"));
        }
        for (name, b) in new {
            match old.get(name) {
                None => self.note(format!("database {name} added")),
                Some(a) if a != b => self.database(name, a, b),
                Some(_) => {}
            }
        }
    }

    fn database(&mut self, name: &str, a: &Database, b: &Database) {
        let of = |what: &str| format!("{what} of database {name}");
        self.value(&of("dbname"), &a.dbname, &b.dbname);
        self.nodes(name, &a.nodes, &b.nodes);
        if a.discovery != b.discovery {
            self.note(format!("{} changed", of("discover_replicas")));
        }
        if a.patroni != b.patroni {
            self.note(format!("{} changed", of("patroni")));
        }
        self.value(&of("read_only"), &a.read_only, &b.read_only);
        self.value(&of("server_user"), &a.server_user, &b.server_user);
        self.secret(&of("server_password"), a.server_password.as_ref(), b.server_password.as_ref());
        self.value(&of("control_user"), &a.control_user, &b.control_user);
        self.secret(&of("control_password"), a.control_password.as_ref(), b.control_password.as_ref());
        if a.auth_query != b.auth_query {
            self.note(format!("{} changed", of("auth_query")));
        }
        self.tls(name, &a.tls, &b.tls);
        self.pool(name, &a.pool, &b.pool);
        self.value(&of("slow_query"), &a.slow_query, &b.slow_query);
        self.routing(name, &a.routing, &b.routing);
        self.value(&of("citus.reads"), &a.citus.reads, &b.citus.reads);
        self.value(&of("citus.owner_routing"), &a.citus.owner_routing, &b.citus.owner_routing);
        self.value(&of("citus.interval"), &Some(a.citus.interval), &Some(b.citus.interval));
        self.value(&of("max_clients"), &a.max_clients, &b.max_clients);
        self.value(&of("max_server_connections"), &a.max_server_connections, &b.max_server_connections);
        let timeout = |database: &Database| database.pool.client_idle_timeout;
        self.value(&of("client_idle_timeout"), &timeout(a), &timeout(b));
        let timeout = |database: &Database| database.pool.idle_transaction_timeout;
        self.value(&of("idle_transaction_timeout"), &timeout(a), &timeout(b));
    }

    fn nodes(&mut self, name: &str, old: &[NodeSettings], new: &[NodeSettings]) {
        for a in old {
            match new.iter().find(|b| b.name == a.name) {
                None => self.note(format!("node {} of database {name} removed", a.name)),
                Some(b) => {
                    let of = |what: &str| format!("{what} of node {} of database {name}", a.name);
                    if a.role != b.role {
                        let role =
                            |node: &NodeSettings| node.role.map_or("auto".to_owned(), |role| format!("{role:?}"));
                        self.note(format!("{}: {} -> {}", of("role"), role(a), role(b)));
                    }
                    self.value(&of("zone"), &a.zone, &b.zone);
                    let hosts = |node: &NodeSettings| node.hosts.iter().map(ToString::to_string).collect::<Vec<_>>();
                    self.value(&of("hosts"), &hosts(a), &hosts(b));
                    self.value(&of("weight"), &a.weight, &b.weight);
                }
            }
        }
        for b in new.iter().filter(|b| !old.iter().any(|a| a.name == b.name)) {
            let hosts = b.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            self.note(format!("node {} of database {name} added ({hosts})", b.name));
        }
    }

    fn tls(&mut self, name: &str, a: &ServerTls, b: &ServerTls) {
        if a.mode != b.mode {
            self.note(format!("tls.mode of database {name}: {:?} -> {:?}", a.mode, b.mode));
        }
        if (&a.ca, &a.cert, &a.key, a.direct) != (&b.ca, &b.cert, &b.key, b.direct) {
            self.note(format!("tls of database {name} changed"));
        }
    }

    fn pool(&mut self, name: &str, a: &PoolSettings, b: &PoolSettings) {
        let of = |what: &str| format!("pool.{what} of database {name}");
        if a.mode != b.mode {
            self.note(format!("{}: {:?} -> {:?}", of("mode"), a.mode, b.mode));
        }
        self.value(&of("size"), &a.size, &b.size);
        self.value(&of("min_size"), &a.min_size, &b.min_size);
        self.value(&of("reserve_size"), &a.reserve_size, &b.reserve_size);
        self.value(&of("reserve_timeout"), &a.reserve_timeout, &b.reserve_timeout);
        self.value(&of("wait_timeout"), &a.wait_timeout, &b.wait_timeout);
        self.value(&of("wait_notify"), &a.wait_notify, &b.wait_notify);
        self.value(&of("connect_timeout"), &a.connect_timeout, &b.connect_timeout);
        self.value(&of("connect_query"), &a.connect_query, &b.connect_query);
        self.value(&of("lifetime"), &a.lifetime, &b.lifetime);
        self.value(&of("idle_timeout"), &a.idle_timeout, &b.idle_timeout);
        self.value(&of("check_query"), &a.check_query, &b.check_query);
        self.value(&of("check_delay"), &a.check_delay, &b.check_delay);
        self.value(&of("query_timeout"), &a.query_timeout, &b.query_timeout);
        self.value(&of("transaction_timeout"), &a.transaction_timeout, &b.transaction_timeout);
        self.value(&of("max_prepared"), &a.max_prepared, &b.max_prepared);
        self.value(&of("reset_query"), &a.reset_query, &b.reset_query);
        self.value(&of("keepalive"), &a.keepalive, &b.keepalive);
        self.value(&of("tcp_user_timeout"), &a.tcp_user_timeout, &b.tcp_user_timeout);
    }

    fn routing(&mut self, name: &str, a: &RoutingSettings, b: &RoutingSettings) {
        let of = |what: &str| format!("routing.{what} of database {name}");
        self.value(&of("split_reads"), &a.split_reads, &b.split_reads);
        self.value(&of("what_if"), &a.what_if, &b.what_if);
        self.value(&of("transaction_reads"), &a.transaction_reads, &b.transaction_reads);
        self.value(&of("consistency"), &a.consistency, &b.consistency);
        self.value(&of("max_lag"), &a.max_lag, &b.max_lag);
        self.value(&of("freshness_wait"), &a.freshness_wait, &b.freshness_wait);
        self.value(&of("health_interval"), &Some(a.health_interval), &Some(b.health_interval));
        self.value(&of("health_timeout"), &Some(a.health_timeout), &Some(b.health_timeout));
        self.value(&of("dns_interval"), &a.dns_interval, &b.dns_interval);
        self.value(&of("read_only_functions"), &a.read_only_functions, &b.read_only_functions);
        self.value(&of("primary_functions"), &a.primary_functions, &b.primary_functions);
        self.value(&of("primary_statements"), &a.primary_statements, &b.primary_statements);
        self.value(&of("read_only_statements"), &a.read_only_statements, &b.read_only_statements);
        self.value(&of("catalog_interval"), &a.catalog_interval, &b.catalog_interval);
        self.value(&of("breaker_failures"), &a.breaker.failures, &b.breaker.failures);
        self.value(&of("breaker_window"), &Some(a.breaker.window), &Some(b.breaker.window));
        self.value(&of("breaker_pause"), &Some(a.breaker.pause), &Some(b.breaker.pause));
    }

    fn users(&mut self, old: &BTreeMap<String, Arc<User>>, new: &BTreeMap<String, Arc<User>>) {
        for name in old.keys().filter(|name| !new.contains_key(*name)) {
            self.note(format!("user {name} removed"));
        }
        for (name, b) in new {
            let Some(a) = old.get(name) else {
                self.note(format!("user {name} added"));
                continue;
            };
            let of = |what: &str| format!("{what} of user {name}");
            self.secret(&of("password"), a.secret.as_ref(), b.secret.as_ref());
            self.value(&of("server_user"), &a.server_user, &b.server_user);
            self.secret(&of("server_password"), a.server_password.as_ref(), b.server_password.as_ref());
            if a.pool.mode != b.pool.mode {
                self.note(format!("{} changed", of("pool.mode")));
            }
            self.value(&of("pool.size"), &a.pool.size, &b.pool.size);
            self.value(&of("pool.min_size"), &a.pool.min_size, &b.pool.min_size);
            self.value(&of("pool.reserve_size"), &a.pool.reserve_size, &b.pool.reserve_size);
            self.value(&of("pool.wait_timeout"), &a.pool.wait_timeout, &b.pool.wait_timeout);
            self.value(&of("pool.query_timeout"), &a.pool.query_timeout, &b.pool.query_timeout);
            let timeout = |pool: &UserPool| pool.transaction_timeout;
            self.value(&of("pool.transaction_timeout"), &timeout(&a.pool), &timeout(&b.pool));
            self.value(&of("slow_query"), &a.slow_query, &b.slow_query);
            self.value(&of("consistency"), &a.consistency, &b.consistency);
            self.value(&of("max_clients"), &a.max_clients, &b.max_clients);
            self.value(&of("max_server_connections"), &a.max_server_connections, &b.max_server_connections);
            self.value(&of("client_idle_timeout"), &a.pool.client_idle_timeout, &b.pool.client_idle_timeout);
            let timeout = |pool: &UserPool| pool.idle_transaction_timeout;
            self.value(&of("idle_transaction_timeout"), &timeout(&a.pool), &timeout(&b.pool));
        }
    }
}

/// How a value is written in a change.
trait Shown {
    fn shown(&self) -> String;
}

impl Shown for Option<Consistency> {
    fn shown(&self) -> String {
        self.map_or_else(|| "the database's".to_owned(), |level| level.shown())
    }
}

impl Shown for Consistency {
    fn shown(&self) -> String {
        self.as_str().to_owned()
    }
}

impl Shown for u32 {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for bool {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for TransactionReads {
    fn shown(&self) -> String {
        self.as_str().to_owned()
    }
}

impl Shown for CitusReads {
    fn shown(&self) -> String {
        self.as_str().to_owned()
    }
}

impl Shown for OwnerRouting {
    fn shown(&self) -> String {
        self.as_str().to_owned()
    }
}

impl Shown for String {
    fn shown(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Shown for Vec<String> {
    fn shown(&self) -> String {
        format!("[{}]", self.join(", "))
    }
}

impl Shown for Vec<ListenAddr> {
    fn shown(&self) -> String {
        let one = |addr: &ListenAddr| match addr {
            ListenAddr::Tcp(addr) => addr.to_string(),
            ListenAddr::Unix { dir, port, mode } => format!("{}/.s.PGSQL.{port} ({mode:04o})", dir.display()),
        };
        self.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

impl Shown for Option<Duration> {
    fn shown(&self) -> String {
        self.map_or("off".into(), |duration| format!("{duration:?}"))
    }
}

impl Shown for Option<String> {
    fn shown(&self) -> String {
        self.as_ref().map_or("none".into(), Shown::shown)
    }
}

impl Shown for Option<u32> {
    fn shown(&self) -> String {
        self.map_or("none".into(), |n| n.to_string())
    }
}

impl Shown for Option<Option<Duration>> {
    fn shown(&self) -> String {
        self.as_ref().map_or("as the database".into(), Shown::shown)
    }
}
