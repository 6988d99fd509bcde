//! The text of `/metrics` as a whole.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;
use crate::observe::RouteKey;
use crate::sql::{Reason, Target};
use crate::wire::SqlState;

/// Metrics, and what they count.
type Busy = (Metrics, Vec<SessionMetrics>, Vec<PoolMetrics>, Vec<NodeMetrics>, (ListenerMetrics, CatalogMetrics));

/// Metrics in which every metric of the catalogue has a value.
fn busy() -> Busy {
    let metrics = Metrics::new();
    let mut session = metrics.session("shop", "ann \"the\" \\ admin\n");
    session.set_state(ClientState::Waiting);
    session.assigned(NodeRole::Replica, Duration::from_micros(120));
    session.set_state(ClientState::Active);
    session.client_received(100);
    session.server_sent(100);
    session.server_received(300);
    session.client_sent(300);
    session.routed(Target::Replica, Reason::Read);
    session.statement(NodeRole::Replica, Duration::from_millis(3));
    session.transaction(Duration::from_millis(3));
    session.error(SqlState::SYNTAX_ERROR, Blame::Server);
    session.slow();
    session.broken();
    let key = RouteKey { fingerprint: 1, replica: false, why: "read" };
    session.routes().begin(key, || "select".to_owned());
    session.routes().end(key, Some("replica"), 1, Duration::from_millis(3));
    session.rerun("lost");
    session.not_rerun("lost", "begun");
    session.set_pins(["LISTEN"].into_iter());
    session.client_parse();
    session.server_parse();
    session.bind();
    // Which names pools count under is up to sessions.
    drop(metrics.session("shop", "ann"));
    let pool = metrics.pool("shop", "ann", "pg1");
    pool.set(PoolGauges { active: 1, idle: 2, opening: 3, waiting: 4, size: 10 });
    pool.opened();
    pool.open_failed();
    pool.wait_timed_out();
    pool.closed(CloseCause::Lifetime);
    let node = metrics.node("shop", "pg1");
    node.check_succeeded();
    node.set_role(Some(NodeRole::Replica), false, false);
    let horizon = Arc::<crate::observe::Horizon>::default();
    let at = crate::observe::Moment::now().before(Duration::from_millis(500));
    horizon.advance(at, at);
    node.follow(&horizon);
    session.read(crate::sql::Consistency::Table, crate::observe::ReadOutcome::Behind);
    let listener = metrics.listener("shop");
    listener.set(3, 2);
    listener.notified();
    listener.lost();
    let catalog = metrics.catalog_of("shop");
    catalog.checked(true);
    catalog.checked(false);
    catalog.failed();
    let citus = metrics.citus_of("shop");
    citus.checked(true);
    citus.at_owner();
    metrics.patroni("shop").looked(false);
    metrics.error(SqlState::INVALID_PASSWORD, Blame::Client);
    metrics.accepted("tcp");
    metrics.refused("max_clients");
    metrics.auth_failed(AuthMethod::ScramSha256);
    metrics.reloaded(true);
    metrics.panicked();
    metrics.set_max_clients(100);
    (metrics, vec![session], vec![pool], vec![node], (listener, catalog))
}

fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start}"))
}

#[test]
fn every_metric_of_the_catalogue_is_described_typed_and_exported() {
    let (metrics, _sessions, _pools, _nodes, _listener) = busy();
    let text = metrics.render();
    for metric in catalog::ALL {
        assert_eq!(line(&text, &format!("# HELP {} ", metric.name)), format!("# HELP {} {}", metric.name, metric.help));
        line(&text, &format!("# TYPE {} {}", metric.name, metric.kind.as_str()));
    }
    let named: BTreeSet<_> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    assert_eq!(named.len(), catalog::ALL.len(), "a metric is exported twice, or not in the catalogue");
    assert_eq!(named.len(), text.lines().filter(|line| line.starts_with("# TYPE ")).count());
}

#[test]
fn promtool_finds_nothing() {
    let (metrics, _sessions, _pools, _nodes, _listener) = busy();
    let command = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = command else {
        eprintln!("skipped: promtool (Debian package prometheus) is not in PATH");
        return;
    };
    promtool.stdin.take().unwrap().write_all(metrics.render().as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn values_arrive_under_their_labels() {
    let (metrics, sessions, pools, nodes, _listener) = busy();
    let text = metrics.render();
    let user = "database=\"shop\",user=\"ann \\\"the\\\" \\\\ admin\\n\"";
    for expected in [
        format!("trunkline_statements_total{{{user},target=\"replica\"}} 1"),
        format!("trunkline_statement_duration_seconds_bucket{{{user},target=\"replica\",le=\"0.0025\"}} 0"),
        format!("trunkline_statement_duration_seconds_bucket{{{user},target=\"replica\",le=\"0.004\"}} 1"),
        format!("trunkline_statement_duration_seconds_sum{{{user},target=\"replica\"}} 0.003"),
        format!("trunkline_wait_duration_seconds_count{{{user},target=\"replica\"}} 1"),
        format!("trunkline_client_received_bytes_total{{{user}}} 100"),
        format!("trunkline_client_connections{{{user},state=\"active\"}} 1"),
        format!("trunkline_client_connections{{{user},state=\"idle\"}} 0"),
        format!("trunkline_transaction_busy_seconds_total{{{user}}} 0.003"),
        "trunkline_catalog_loads_total{database=\"shop\"} 1".into(),
        "trunkline_catalog_load_failures_total{database=\"shop\"} 1".into(),
        "trunkline_errors_total{database=\"shop\",class=\"42\",blame=\"server\"} 1".into(),
        "trunkline_errors_total{database=\"other\",class=\"28\",blame=\"client\"} 1".into(),
        "trunkline_routing_decisions_total{target=\"replica\",reason=\"read\"} 1".into(),
        "trunkline_pool_server_connections{database=\"shop\",user=\"ann\",node=\"pg1\",state=\"opening\"} 3".into(),
        "trunkline_pool_waiting_clients{database=\"shop\",user=\"ann\",node=\"pg1\"} 4".into(),
        "trunkline_node_role{database=\"shop\",node=\"pg1\",role=\"replica\"} 1".into(),
        "trunkline_node_role{database=\"shop\",node=\"pg1\",role=\"primary\"} 0".into(),
        "trunkline_reads_not_fresh_total{level=\"table\",outcome=\"behind\"} 1".into(),
        "trunkline_authentication_failures_total{method=\"scram-sha-256\"} 1".into(),
        "trunkline_client_connections_max 100".into(),
        "trunkline_citus_statements_total{database=\"shop\",route=\"owner\"} 1".into(),
    ] {
        assert!(text.lines().any(|line| line == expected), "no {expected} in\n{text}");
    }

    let lag = line(&text, "trunkline_node_lag_seconds{database=\"shop\",node=\"pg1\"} ");
    let lag: f64 = lag.rsplit_once(' ').unwrap().1.parse().unwrap();
    assert!((0.5..30.0).contains(&lag), "{lag}");

    // what is gone reads 0 at once, and leaves when the exporter's idle time-out is over
    drop((sessions, pools, nodes));
    let text = metrics.render();
    line(&text, &format!("trunkline_client_connections{{{user},state=\"active\"}} 0"));
    line(&text, "trunkline_pool_size{database=\"shop\",user=\"ann\",node=\"pg1\"} 0");
    line(&text, "trunkline_node_up{database=\"shop\",node=\"pg1\"} 0");
    line(&text, "trunkline_server_connections_opened_total{database=\"shop\",user=\"ann\",node=\"pg1\"} 1");
}

#[test]
fn labels_are_bounded_whatever_clients_call_themselves() {
    let metrics = Metrics::with_label_sets(3);
    for n in 0..1000 {
        drop(metrics.session(&format!("db{}", n % 500), &format!("user{n}")));
    }
    let text = metrics.render();
    let series: Vec<_> = text.lines().filter(|line| line.starts_with("trunkline_client_logins_total{")).collect();
    assert_eq!(series.len(), 3 + 3 + 1, "{series:#?}");
    line(&text, "trunkline_client_logins_total{database=\"other\",user=\"other\"} 994");
}

#[test]
fn counts_of_many_threads_add_up() {
    let metrics = Metrics::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let mut session = metrics.session("shop", "ann");
                    session.set_state(ClientState::Active);
                    for _ in 0..100 {
                        session.statement(NodeRole::Primary, Duration::from_micros(10));
                        session.client_received(7);
                    }
                    session.transaction(Duration::from_micros(1000));
                }
            });
        }
    });
    let stats = metrics.database_stats();
    assert_eq!(stats[0].totals.query_count, 40_000);
    assert_eq!(stats[0].totals.received, 280_000);
    assert_eq!(stats[0].totals.xact_count, 400);
    assert_eq!(stats[0].totals.client_login_count, 400);
    let text = metrics.render();
    line(&text, "trunkline_client_connections{database=\"shop\",user=\"ann\",state=\"idle\"} 0");
}

/// Prints what one simple statement costs in metrics.
#[test]
#[ignore = "a measurement: run it with --release --ignored --nocapture"]
fn cost_of_a_statement() {
    const N: u32 = 5_000_000;
    let metrics = Metrics::new();
    let mut session = metrics.session("shop", "ann");
    let start = Instant::now();
    for n in 0..N {
        session.set_state(ClientState::Active);
        session.client_received(50);
        session.routed(Target::Replica, Reason::Read);
        session.assigned(NodeRole::Replica, Duration::ZERO);
        session.server_sent(50);
        session.server_received(80);
        session.client_sent(80);
        session.statement(NodeRole::Replica, Duration::from_nanos(200_000 + u64::from(n % 1000)));
        session.transaction(Duration::from_nanos(200_000));
        session.set_state(ClientState::Idle);
    }
    println!("one statement: {:.1} ns", start.elapsed().as_nanos() as f64 / f64::from(N));
}
