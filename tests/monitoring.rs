//! A real Prometheus with the configuration of `deploy/` scrapes Trunkline, and answers every question of the dashboard.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod support;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::clusters::{self, APP, APP_PASSWORD, TestDb, scratch};
use support::frames::Batch;
use support::process::{Setup, Trunkline};
use support::raw::RawClient;
use trunkline::app::demo::PortLease;

fn deployed(relative: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(relative)).unwrap()
}

/// A Prometheus process; ended when dropped.
struct Prometheus {
    child: Child,
    port: PortLease,
    log: std::path::PathBuf,
}

impl Prometheus {
    /// Starts it with compose's configuration, which scrapes this Trunkline instead, and more often. `None` when it isn't
    /// installed.
    fn start(proxy: &Trunkline) -> Option<Self> {
        let dir = scratch("prometheus");
        let port = PortLease::take().unwrap();
        let config = deployed("prometheus/prometheus.yml");
        let adapted = config
            .replace("trunkline:9127", &format!("127.0.0.1:{}", proxy.metrics_port()))
            .replace("localhost:9090", &format!("127.0.0.1:{}", port.port()))
            .replace("scrape_interval: 5s", "scrape_interval: 500ms");
        assert_eq!(adapted.matches("127.0.0.1").count(), 2, "{config}");
        fs::create_dir_all(dir.join("rules")).unwrap();
        fs::write(dir.join("prometheus.yml"), adapted).unwrap();
        fs::write(dir.join("rules/trunkline.rules.yml"), deployed("prometheus/rules/trunkline.rules.yml")).unwrap();
        let log = dir.join("log");
        let started = Command::new("prometheus")
            .current_dir(&dir)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"])
            .arg(format!("--web.listen-address=127.0.0.1:{}", port.port()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn();
        match started {
            Ok(child) => Some(Self { child, port, log }),
            Err(error) if std::env::var_os("CI").is_none() => {
                println!("prometheus: {error}: not tested");
                None
            }
            Err(error) => panic!("prometheus: {error}"),
        }
    }

    /// The value of each series that a PromQL expression yields.
    fn query(&self, expression: &str) -> Result<Vec<(Value, f64)>, String> {
        let mut encoded = String::new();
        for byte in expression.bytes() {
            write!(encoded, "%{byte:02x}").unwrap();
        }
        let mut stream = TcpStream::connect(("127.0.0.1", self.port.port())).map_err(|error| error.to_string())?;
        write!(stream, "GET /api/v1/query?query={encoded} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
        let body = answer.split_once("\r\n\r\n").ok_or("no answer")?.1;
        let answer: Value = serde_json::from_str(body).map_err(|error| format!("{error}: {body}"))?;
        if answer["status"] != "success" {
            return Err(answer.to_string());
        }
        let series = answer["data"]["result"].as_array().unwrap();
        let value = |one: &Value| (one["metric"].clone(), one["value"][1].as_str().unwrap().parse().unwrap());
        Ok(series.iter().map(value).collect())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of prometheus ---\n{}---", fs::read_to_string(&self.log).unwrap_or_default());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A little of everything that the dashboard shows.
fn work(proxy: &Trunkline, db: &TestDb) {
    // Which replica has what is not the matter here.
    let startup = [("user", APP), ("database", &db.name), ("options", "-c trunkline.consistency=eventual")];
    let mut client = RawClient::connect_with(proxy.port(), APP_PASSWORD, &startup);
    for _ in 0..20 {
        client.rows("SELECT count(*) FROM t");
    }
    client.rows("INSERT INTO t VALUES (1)");
    client.failure("SELECT nonsense");
    client.rows("SELECT pg_sleep(0.11)");
    // In the end it is refused.
    let impatient = [("user", APP), ("database", db.name.as_str()), ("statement_timeout", "50ms")];
    let mut stuck = RawClient::connect_with(proxy.port(), APP_PASSWORD, &impatient);
    for _ in 0..4 {
        stuck.failure("SELECT pg_sleep(60), 'stuck'");
    }
    // Its server connection is closed, and its session with it.
    client.send(&Batch::new().query("SELECT pg_terminate_backend(pg_backend_pid())"));
    assert!(client.is_closed());
    let _ = RawClient::tcp(proxy.port()).login("wrong", &[("user", APP), ("database", &db.name)]);
}

/// The dashboard's questions to Prometheus: panel and expression, its variables filled in.
fn questions() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&deployed("grafana/dashboards/trunkline.json")).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            if target["datasource"]["type"] == "prometheus" {
                let expression = target["expr"].as_str().unwrap();
                let filled = expression.replace("$__rate_interval", "10s").replace("$instance", ".*");
                let filled = filled.replace("$database", ".*");
                assert!(!filled.contains('$'), "a variable that Grafana would fill in: {filled}");
                found.push((panel["title"].as_str().unwrap().to_owned(), filled));
            }
        }
    }
    found
}

#[test]
fn prometheus_scrapes_and_answers_the_dashboard() {
    let db = TestDb::with(clusters::shared(), "CREATE TABLE t (n int)");
    let proxy = Setup::before(&db)
        .args(["--slow-query", "100ms"])
        .env("TRUNKLINE__ROUTING__BREAKER_FAILURES", "3")
        // Nobody answers there: servers are believed, and it is counted.
        .env(&format!("TRUNKLINE__DATABASES__{}__PATRONI", db.name.to_uppercase()), "[\"http://127.0.0.1:1\"]")
        .start();
    let Some(prometheus) = Prometheus::start(&proxy) else { return };
    let questions = questions();
    assert!(questions.len() > 30, "{}", questions.len());
    // Panels that stay empty while nothing of their kind has happened.
    let may_be_empty = ["How far replicas are behind"];
    let deadline = Instant::now() + Duration::from_secs(25);
    loop {
        work(&proxy, &db);
        let unanswered: Vec<_> = questions
            .iter()
            .filter(|(panel, _)| !may_be_empty.contains(&panel.as_str()))
            // Of a database that Citus distributes: `tests/citus` has one.
            .filter(|(_, expression)| !expression.contains("trunkline_citus_"))
            .filter(|(_, expression)| !prometheus.query(expression).is_ok_and(|series| has_numbers(&series)))
            .collect();
        if unanswered.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "unanswered: {unanswered:#?}");
        thread::sleep(Duration::from_millis(300));
    }
    let one = |expression: &str| {
        let series = prometheus.query(expression).unwrap();
        assert_eq!(series.len(), 1, "{expression}: {series:?}");
        series[0].1
    };
    let quantile = |q: f64| {
        one(&format!("histogram_quantile({q}, sum by (le) (rate(trunkline_statement_duration_seconds_bucket[10s])))"))
    };
    let share_of_replicas = || {
        one("sum(rate(trunkline_statements_total{target=\"replica\"}[10s])) \
             / sum(rate(trunkline_statements_total[10s]))")
    };
    // A rate needs two scrapes that know of its counter: those of the slow statements and of the replicas may begin later.
    let (median, highest, share) = loop {
        let found = (quantile(0.5), quantile(0.99), share_of_replicas());
        if (found.1 > 0.1 && found.2 > 0.8 && found.2 < 1.0) || Instant::now() > deadline {
            break found;
        }
        work(&proxy, &db);
        thread::sleep(Duration::from_millis(300));
    };
    // How quick the median is, is the machine's affair; that of the slow ones is known.
    assert!(median > 0.0 && median < highest && highest > 0.1, "P50 {median}, P99 {highest}");
    assert!(share > 0.8 && share < 1.0, "{share} of the statements on replicas");
    assert_eq!(one("up{job=\"trunkline\"}"), 1.0);
    assert_eq!(one("count(trunkline_node_up == 1)"), 3.0);
    assert!(one("sum(trunkline_breaker_refused_total)") > 0.0);
    assert!(one("trunkline_patroni_looks_total{outcome=\"failed\"}") > 0.0);
    // The rules are loaded and were evaluated against what was scraped: nothing is wrong here.
    assert_eq!(prometheus.query("ALERTS{alertstate=\"firing\"}").unwrap(), []);
}

/// Not 0 divided by 0, which is what rates that have not begun yield.
fn has_numbers(series: &[(Value, f64)]) -> bool {
    !series.is_empty() && series.iter().any(|(_, value)| value.is_finite())
}
