//! From our atomics to the exposition text: through the `metrics` facade where the exporter can hold
//! the value, and as text of our own for histograms and fractional counters.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;

use metrics::{Key, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::catalog as name;
use super::cells::{Labels, ROLES, SessionTotals, role_index};
use super::node::NodeState;
use super::process::Process;
use super::text::TextWriter;
use super::{Inner, NodeRole};

static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Writes values through the facade.
pub(super) struct Publisher<'a> {
    recorder: &'a PrometheusRecorder,
    gauges: HashSet<Key>,
}

type Pairs<'a> = &'a [(&'static str, &'a str)];

fn key(name: &'static str, labels: Pairs<'_>) -> Key {
    let labels: Vec<Label> = labels.iter().map(|(key, value)| Label::new(*key, (*value).to_owned())).collect();
    Key::from_parts(name, labels)
}

impl<'a> Publisher<'a> {
    pub(super) fn new(recorder: &'a PrometheusRecorder) -> Self {
        Self { recorder, gauges: HashSet::new() }
    }

    /// A counter that is kept elsewhere; its value never falls.
    fn counter(&self, name: &'static str, labels: Pairs<'_>, value: u64) {
        self.recorder.register_counter(&key(name, labels), &METADATA).absolute(value);
    }

    fn gauge(&mut self, name: &'static str, labels: Pairs<'_>, value: f64) {
        let key = key(name, labels);
        self.recorder.register_gauge(&key, &METADATA).set(value);
        self.gauges.insert(key);
    }

    /// Sets gauges of pools and nodes that are gone to 0; when nothing sets them again, the exporter
    /// forgets them after its idle time-out.
    fn zero_the_gone(&self, before: &HashSet<Key>) {
        for key in before.difference(&self.gauges) {
            self.recorder.register_gauge(key, &METADATA).set(0.0);
        }
    }
}

/// Adds one to a counter that lives in the exporter: for rare events.
pub(super) fn increment(recorder: &PrometheusRecorder, name: &'static str, labels: Pairs<'_>) {
    recorder.register_counter(&key(name, labels), &METADATA).increment(1);
}

/// Describes every metric of the catalogue.
pub(super) fn describe(recorder: &PrometheusRecorder) {
    for metric in name::ALL {
        match metric.kind {
            name::Kind::Counter => recorder.describe_counter(metric.name.into(), None, metric.help.into()),
            name::Kind::Gauge => recorder.describe_gauge(metric.name.into(), None, metric.help.into()),
            // its text is ours
            name::Kind::Histogram => {}
        }
    }
}

/// The whole text of `/metrics`.
pub(super) fn render(inner: &Inner) -> String {
    let totals = inner.sessions.lock().totals();
    let process = Process::read();
    let mut publisher = Publisher::new(&inner.recorder);
    sessions(&mut publisher, &totals);
    errors_and_routing(&publisher, inner);
    pins(&mut publisher, inner);
    pools(&mut publisher, inner);
    for node in inner.nodes.lock().states() {
        publish_node(&mut publisher, &node);
    }
    listeners(&mut publisher, inner);
    catalogs(&mut publisher, inner);
    citus(&mut publisher, inner);
    patroni(&mut publisher, inner);
    slow_log(&publisher, inner);
    general(&mut publisher, inner, process);
    {
        let mut published = inner.published.lock();
        publisher.zero_the_gone(&published);
        *published = publisher.gauges;
    }
    let mut text = inner.handle.render();
    text.push_str(&own_text(&totals, inner, process));
    text
}

fn sessions(publisher: &mut Publisher<'_>, totals: &BTreeMap<Labels, SessionTotals>) {
    for (labels, total) in totals {
        let pairs: Pairs<'_> = &[("database", &labels.database), ("user", &labels.user)];
        for role in ROLES {
            let with_role = [pairs[0], pairs[1], ("target", role.as_str())];
            let (statements, waits) = (&total.statements[role_index(role)], &total.waits[role_index(role)]);
            publisher.counter(name::STATEMENTS, &with_role, statements.count());
            publisher.counter(name::SERVER_ASSIGNMENTS, &with_role, waits.count());
        }
        for (name, value) in [
            (name::TRANSACTIONS, total.transactions),
            (name::CLIENT_RECEIVED, total.client_received),
            (name::CLIENT_SENT, total.client_sent),
            (name::SERVER_RECEIVED, total.server_received),
            (name::SERVER_SENT, total.server_sent),
            (name::CLIENT_PARSES, total.client_parses),
            (name::SERVER_PARSES, total.server_parses),
            (name::BINDS, total.binds),
            (name::CLIENT_LOGINS, total.logins),
            (name::SLOW_STATEMENTS, total.slow),
            (name::BREAKER_REFUSED, total.broken),
        ] {
            publisher.counter(name, pairs, value);
        }
        // the three are read one after another while sessions go on: never let that show as negative
        let waiting = total.waiting.max(0);
        let active = (total.busy - waiting).max(0);
        let idle = (total.clients - waiting - active).max(0);
        for (state, count) in [("active", active), ("waiting", waiting), ("idle", idle)] {
            let with_state = [pairs[0], pairs[1], ("state", state)];
            publisher.gauge(name::CLIENT_CONNECTIONS, &with_state, count as f64);
        }
    }
}

fn errors_and_routing(publisher: &Publisher<'_>, inner: &Inner) {
    let tables = inner.sessions.lock().error_tables();
    for (database, table) in &tables {
        for (class, blame, count) in table.non_zero() {
            let labels = [("database", &**database), ("class", class), ("blame", blame.as_str())];
            publisher.counter(name::ERRORS, &labels, count);
        }
    }
    for (level, outcome, count) in inner.reads.non_zero() {
        publisher.counter(name::READS, &[("level", level), ("outcome", outcome)], count);
    }
    for (target, reason, count) in inner.routing.non_zero() {
        publisher.counter(name::ROUTING, &[("target", target), ("reason", reason)], count);
    }
    for (database, stats) in &*inner.routes.lock() {
        for (would, tally) in stats.what_if() {
            let labels = [("database", &**database), ("would", would)];
            publisher.counter(name::WHAT_IF, &labels, tally.count);
        }
    }
    for ((database, cause), counts) in inner.reruns.counts() {
        publisher.counter(name::RERUNS, &[("database", &*database), ("cause", cause)], counts.rerun);
        for (why, count) in counts.told {
            let labels = [("database", &*database), ("cause", cause), ("why", why)];
            publisher.counter(name::RERUNS_REFUSED, &labels, count);
        }
    }
}

fn pins(publisher: &mut Publisher<'_>, inner: &Inner) {
    for (database, reason, count) in inner.pins.counts() {
        publisher.gauge(name::PINNED_SESSIONS, &[("database", &database), ("reason", &reason)], count as f64);
    }
}

fn pools(publisher: &mut Publisher<'_>, inner: &Inner) {
    let (totals, gauges) = {
        let sessions = inner.sessions.lock();
        let registry = inner.pools.lock();
        (registry.totals(&sessions), registry.gauges(&sessions))
    };
    for (pool, counters) in totals {
        let pairs = [("database", &*pool.owner.database), ("user", &*pool.owner.user), ("node", &*pool.node)];
        publisher.counter(name::POOL_OPENED, &pairs, counters.opened);
        publisher.counter(name::POOL_OPEN_FAILED, &pairs, counters.open_failed);
        publisher.counter(name::POOL_WAIT_TIMEOUTS, &pairs, counters.wait_timeouts);
        for (cause, count) in counters.closed().filter(|(_, count)| *count > 0) {
            let with_cause = [pairs[0], pairs[1], pairs[2], ("cause", cause.as_str())];
            publisher.counter(name::POOL_CLOSED, &with_cause, count);
        }
    }
    for (pool, now) in gauges {
        let pairs = [("database", &*pool.owner.database), ("user", &*pool.owner.user), ("node", &*pool.node)];
        for (state, count) in [("active", now.active), ("idle", now.idle), ("opening", now.opening)] {
            let with_state = [pairs[0], pairs[1], pairs[2], ("state", state)];
            publisher.gauge(name::POOL_CONNECTIONS, &with_state, f64::from(count));
        }
        publisher.gauge(name::POOL_WAITING, &pairs, f64::from(now.waiting));
        publisher.gauge(name::POOL_SIZE, &pairs, f64::from(now.size));
    }
}

fn publish_node(publisher: &mut Publisher<'_>, node: &NodeState) {
    let pairs = [("database", &*node.database), ("node", &*node.node)];
    let flag = |set: bool| if set { 1.0 } else { 0.0 };
    publisher.gauge(name::NODE_UP, &pairs, flag(node.up));
    for (role, is) in [
        ("primary", node.role == Some(NodeRole::Primary)),
        ("replica", node.role == Some(NodeRole::Replica)),
        ("worker", node.role == Some(NodeRole::Worker)),
        ("unknown", node.role.is_none()),
    ] {
        publisher.gauge(name::NODE_ROLE, &[pairs[0], pairs[1], ("role", role)], flag(is));
    }
    for state in ["up", "down", "refused", "disabled"] {
        publisher.gauge(name::NODE_STATE, &[pairs[0], pairs[1], ("state", state)], flag(node.state == state));
    }
    if let Some(lag) = node.lag {
        publisher.gauge(name::NODE_LAG, &pairs, lag.as_secs_f64());
    }
    for (outcome, count) in [("ok", node.checks_ok), ("failed", node.checks_failed)] {
        publisher.counter(name::HEALTH_CHECKS, &[pairs[0], pairs[1], ("outcome", outcome)], count);
    }
}

fn listeners(publisher: &mut Publisher<'_>, inner: &Inner) {
    for state in inner.listeners.lock().states() {
        let pairs: Pairs<'_> = &[("database", &state.database)];
        publisher.counter(name::NOTIFICATIONS, pairs, state.notified);
        publisher.counter(name::LISTENER_LOST, pairs, state.lost);
        if let Some((clients, channels)) = state.listening {
            publisher.gauge(name::LISTENING_CLIENTS, pairs, clients as f64);
            publisher.gauge(name::LISTENED_CHANNELS, pairs, channels as f64);
        }
    }
}

fn citus(publisher: &mut Publisher<'_>, inner: &Inner) {
    for (database, counts) in inner.citus.lock().counts() {
        let pair = ("database", &*database);
        for (route, count) in
            [("coordinator", counts.coordinator), ("owner", counts.owner), ("any_node", counts.any_node)]
        {
            publisher.counter(name::CITUS_STATEMENTS, &[pair, ("route", route)], count);
        }
        publisher.counter(name::CITUS_LOADS, &[pair], counts.loads);
        publisher.counter(name::CITUS_LOAD_FAILURES, &[pair], counts.failures);
        if let Some(age) = counts.age {
            publisher.gauge(name::CITUS_AGE, &[pair], age.as_secs_f64());
        }
    }
}

fn patroni(publisher: &mut Publisher<'_>, inner: &Inner) {
    for (database, ok, failed) in inner.patroni.lock().states() {
        for (outcome, count) in [("ok", ok), ("failed", failed)] {
            publisher.counter(name::PATRONI_LOOKS, &[("database", &database), ("outcome", outcome)], count);
        }
    }
}

fn catalogs(publisher: &mut Publisher<'_>, inner: &Inner) {
    for state in inner.catalogs.lock().states() {
        let pairs: Pairs<'_> = &[("database", &state.database)];
        publisher.counter(name::CATALOG_LOADS, pairs, state.loads);
        publisher.counter(name::CATALOG_LOAD_FAILURES, pairs, state.failures);
        if let Some(age) = state.age {
            publisher.gauge(name::CATALOG_AGE, pairs, age.as_secs_f64());
        }
    }
}

fn slow_log(publisher: &Publisher<'_>, inner: &Inner) {
    let counters = &inner.slow_log;
    publisher.counter(name::SLOW_LOG_WRITTEN, &[], counters.written.load(Relaxed));
    for (cause, count) in [
        ("queue_full", &counters.queue_full),
        ("rate_limit", &counters.rate_limited),
        ("write_error", &counters.write_errors),
    ] {
        publisher.counter(name::SLOW_LOG_DROPPED, &[("cause", cause)], count.load(Relaxed));
    }
}

fn general(publisher: &mut Publisher<'_>, inner: &Inner, process: Process) {
    publisher.counter(name::LABEL_SETS_FOLDED, &[], inner.sessions.lock().folded());
    publisher.counter(name::PANICS, &[], inner.panics.load(Relaxed));
    publisher.counter(name::LOG_LINES_LOST, &[], inner.log_lines_lost.load(Relaxed));
    publisher.gauge(name::BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    publisher.gauge(name::START_TIME, &[], inner.started_unix);
    publisher.gauge(name::CLIENT_CONNECTIONS_MAX, &[], inner.max_clients.load(Relaxed) as f64);
    let ok = inner.last_reload_ok.load(Relaxed);
    publisher.gauge(name::RELOAD_OK, &[], if ok { 1.0 } else { 0.0 });
    for (name, value) in [
        (name::RESIDENT_BYTES, process.resident_bytes),
        (name::OPEN_FDS, process.open_fds),
        (name::MAX_FDS, process.max_fds),
    ] {
        if let Some(value) = value {
            publisher.gauge(name, &[], value);
        }
    }
}

fn own_text(totals: &BTreeMap<Labels, SessionTotals>, inner: &Inner, process: Process) -> String {
    let mut text = TextWriter::default();
    for (name, waits) in [(name::STATEMENT_SECONDS, false), (name::WAIT_SECONDS, true)] {
        text.metric(name);
        for (labels, total) in totals {
            let histograms = if waits { &total.waits } else { &total.statements };
            for role in ROLES {
                let pairs = [("database", &*labels.database), ("user", &*labels.user), ("target", role.as_str())];
                text.histogram(name, &pairs, &histograms[role_index(role)]);
            }
        }
    }
    text.metric(name::TRANSACTION_SECONDS);
    for (labels, total) in totals {
        let pairs = [("database", &*labels.database), ("user", &*labels.user)];
        text.value(name::TRANSACTION_SECONDS, &pairs, total.transaction_ns as f64 / 1e9);
    }
    text.metric(name::WHAT_IF_SECONDS);
    for (database, stats) in &*inner.routes.lock() {
        for (would, tally) in stats.what_if() {
            let labels = [("database", &**database), ("would", would)];
            text.value(name::WHAT_IF_SECONDS, &labels, tally.time.as_secs_f64());
        }
    }
    if let Some(cpu) = process.cpu_seconds {
        text.metric(name::CPU_SECONDS).value(name::CPU_SECONDS, &[], cpu);
    }
    text.finish()
}
