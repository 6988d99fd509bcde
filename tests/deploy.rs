//! What `deploy/` says, checked as far as a machine without Docker can: everything parses, tools that are
//! there accept it, and the pieces agree with each other, with the program's defaults and with its metrics.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "deploy/extensions.rs"]
mod extensions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use trunkline::config::{Config, Environment, load_text};
use trunkline::observe::metrics::catalog::{self, Kind};

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(relative)
}

fn text(relative: &str) -> String {
    std::fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("deploy/{relative}: {error}"))
}

fn yaml(relative: &str) -> Value {
    serde_saphyr::from_str(&text(relative)).unwrap_or_else(|error| panic!("deploy/{relative}: {error}"))
}

fn kubernetes(kind: &str) -> Value {
    yaml(&format!("kubernetes/{kind}.yaml"))
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

fn config(toml: &str, env: &[(&str, &str)]) -> Config {
    let env: Environment = env.iter().copied().collect();
    let loaded = load_text("trunkline.toml", toml, Path::new("/"), &env).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    loaded.config
}

/// Where compose's Trunkline writes its slow-query log.
const SLOW_LOG: &str = "/var/log/trunkline/slow.log";

/// The configuration of compose, with the slow-query log in a folder that exists here too.
fn compose_config() -> Config {
    let here = std::env::temp_dir().join("slow.log");
    let toml = text("trunkline/trunkline.toml").replace(SLOW_LOG, here.to_str().unwrap());
    assert_ne!(toml, text("trunkline/trunkline.toml"));
    config(&toml, &[("APP_PASSWORD", "a"), ("MONITOR_PASSWORD", "b")])
}

/// The configuration of Kubernetes, with its secrets as variables: the files exist only in the pod.
fn kubernetes_config() -> Config {
    let toml = text("kubernetes/trunkline.toml");
    let toml = toml.lines().map(|line| match line.split_once("_file = ") {
        Some((key, file)) if file.starts_with("\"/run/secrets/") => format!("{key} = \"${{SECRET}}\""),
        _ => line.to_owned(),
    });
    let toml = toml.collect::<Vec<_>>().join("\n");
    config(&toml, &[("SECRET", "a")])
}

/// Runs a tool; `None` when it isn't installed (then the check is skipped, with a word about it).
fn tool(name: &str, args: &[&str]) -> Option<(bool, String)> {
    match Command::new(name).args(args).output() {
        Ok(output) => {
            let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            Some((output.status.success(), said.concat()))
        }
        Err(error) => {
            eprintln!("skipped: {name} is not in PATH ({error})");
            None
        }
    }
}

fn promtool(args: &[&str]) {
    if let Some((success, said)) = tool("promtool", args) {
        assert!(success && !said.contains("FAILED"), "promtool {args:?}: {said}");
    }
}

/// Names of Trunkline's metrics in a PromQL expression.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words.filter(|word| word.starts_with("trunkline_") || word.starts_with("process_")).map(str::to_owned).collect()
}

fn is_exported(name: &str) -> bool {
    let of_histogram = ["_bucket", "_sum", "_count"].iter().any(|suffix| {
        let base = name.strip_suffix(suffix).and_then(catalog::find);
        base.is_some_and(|metric| metric.kind == Kind::Histogram)
    });
    of_histogram || catalog::find(name).is_some_and(|metric| metric.kind != Kind::Histogram)
}

/// Every string under any of these keys, at any depth.
fn collect<'a>(value: &'a Value, keys: &[&str], found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if keys.contains(&key.as_str()) => found.push(text),
                    other => collect(other, keys, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, keys, found)),
        _ => {}
    }
}

#[test]
fn every_yaml_and_json_file_parses() {
    let mut folders = vec![path("")];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            let name = file.to_str().unwrap().to_owned();
            let read = || std::fs::read_to_string(&file).unwrap();
            if file.is_dir() {
                folders.push(file);
            } else if name.ends_with(".yml") || name.ends_with(".yaml") {
                serde_saphyr::from_str::<Value>(&read()).unwrap_or_else(|error| panic!("{name}: {error}"));
                count += 1;
            } else if name.ends_with(".json") {
                serde_json::from_str::<Value>(&read()).unwrap_or_else(|error| panic!("{name}: {error}"));
                count += 1;
            }
        }
    }
    assert!(count >= 16, "{count}");
}

#[test]
fn the_configurations_are_valid_and_name_what_the_rest_of_deploy_provides() {
    let compose = compose_config();
    let services = yaml("docker-compose.yml")["services"].clone();
    let nodes = &compose.databases["app"].nodes;
    assert_eq!(nodes.len(), 3);
    for node in nodes {
        assert!(services.get(&node.hosts[0].host).is_some(), "no service {}", node.hosts[0]);
    }
    let volumes = strings(&services["trunkline"]["volumes"]);
    let log = Path::new(SLOW_LOG).parent().unwrap().to_str().unwrap();
    assert!(volumes.contains(&format!("slow-log:{log}").as_str()), "{volumes:?}");
    assert!(strings(&services["alloy"]["volumes"]).contains(&format!("slow-log:{log}:ro").as_str()));
    assert!(text("alloy/config.alloy").contains(&format!("\"{SLOW_LOG}\"")));
    assert!(
        text("Dockerfile").contains(&format!("-o trunkline -g trunkline {log}")),
        "the volume takes its owner from it"
    );

    for config in [compose, kubernetes_config()] {
        assert_eq!(config.listen.len(), 1);
        assert!(matches!(&config.listen[0], trunkline::config::ListenAddr::Tcp(addr) if addr.port() == 6432));
        assert_eq!(config.metrics.unwrap().port(), 9127);
        assert!(config.metrics.unwrap().ip().is_unspecified(), "Prometheus must reach it");
    }
}

#[test]
fn the_stop_of_every_deployment_outlasts_the_drain() {
    let drain = |config: Config| config.client.drain_timeout.unwrap();
    let compose = yaml("docker-compose.yml");
    let grace = compose["services"]["trunkline"]["stop_grace_period"].as_str().unwrap().trim_end_matches('s');
    assert!(Duration::from_secs(grace.parse().unwrap()) > drain(compose_config()));

    let pod = kubernetes("deployment")["spec"]["template"]["spec"].clone();
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    let pre_stop = &pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"];
    let wait: u64 = strings(pre_stop)[1].parse().unwrap();
    assert!(Duration::from_secs(grace - wait) > drain(kubernetes_config()));

    let unit = unit();
    let stop: u64 = unit["TimeoutStopSec"][0].parse().unwrap();
    assert!(Duration::from_secs(stop) > trunkline::config::ClientSettings::default().drain_timeout.unwrap());
}

#[test]
fn the_image_runs_as_nobody_in_particular_and_agrees_with_its_users() {
    let dockerfile = text("Dockerfile");
    let last = |word: &str| dockerfile.lines().rev().find_map(|line| line.strip_prefix(word)).map(str::trim);
    assert_eq!(last("USER "), Some("65532:65532"));
    assert_eq!(last("EXPOSE "), Some("6432 9127"));
    assert_eq!(last("STOPSIGNAL "), Some("SIGTERM"));
    assert!(dockerfile.contains("cargo build --release --locked") && dockerfile.contains("HEALTHCHECK"));
    let stages: Vec<&str> = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")).collect();
    let built = ["rust:1-slim-trixie AS source", "source AS plain", "source AS pgo", "${BUILD} AS build"];
    assert_eq!(stages[..4], built, "what `BUILD` can name");
    assert!(!stages[4].contains(" AS "), "what runs holds nothing of what was needed to build");
    assert!(dockerfile.contains("\nARG BUILD=plain\n\nFROM "), "known to FROM only ahead of the first stage");
    for script in [".ci/install-tools", ".ci/build-pgo"] {
        assert!(dockerfile.contains(script) && Path::new(env!("CARGO_MANIFEST_DIR")).join(script).exists());
    }
    let ignore = text("Dockerfile.dockerignore");
    for needed in ["!Cargo.toml", "!Cargo.lock", "!src", "!.ci"] {
        assert!(ignore.lines().any(|line| line == needed));
    }

    let pod = kubernetes("deployment")["spec"]["template"]["spec"].clone();
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["image"], kubernetes("kustomization")["images"][0]["name"]);
    let entry: Vec<String> = serde_json::from_str(last("CMD ").unwrap()).unwrap();
    assert_eq!(entry, strings(&container["args"]));
    let mounted = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
    assert!(entry.last().unwrap().starts_with(mounted));
    let compose = yaml("docker-compose.yml");
    let volumes = strings(&compose["services"]["trunkline"]["volumes"]);
    assert!(volumes.iter().any(|volume| volume.ends_with(&format!(":{}:ro", entry.last().unwrap()))));
}

#[test]
fn kubernetes_objects_fit_together() {
    let kustomization = kubernetes("kustomization");
    let mut listed: BTreeSet<_> = strings(&kustomization["resources"]).into_iter().map(str::to_owned).collect();
    listed.insert("kustomization.yaml".into());
    let files = std::fs::read_dir(path("kubernetes")).unwrap();
    let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(listed, files.filter(|name| name.ends_with(".yaml")).collect());

    for (file, api, kind) in [
        ("namespace", "v1", "Namespace"),
        ("serviceaccount", "v1", "ServiceAccount"),
        ("secret", "v1", "Secret"),
        ("deployment", "apps/v1", "Deployment"),
        ("service", "v1", "Service"),
        ("poddisruptionbudget", "policy/v1", "PodDisruptionBudget"),
        ("horizontalpodautoscaler", "autoscaling/v2", "HorizontalPodAutoscaler"),
        ("servicemonitor", "monitoring.coreos.com/v1", "ServiceMonitor"),
    ] {
        let object = kubernetes(file);
        assert_eq!((&object["apiVersion"], &object["kind"]), (&api.into(), &kind.into()), "{file}");
        assert!(object["metadata"]["name"].is_string(), "{file}");
    }

    let deployment = kubernetes("deployment");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels);
    let service = kubernetes("service");
    assert_eq!(&service["spec"]["selector"], labels);
    assert_eq!(&kubernetes("poddisruptionbudget")["spec"]["selector"]["matchLabels"], labels);
    let monitor = kubernetes("servicemonitor");
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"]);
    let target = &kubernetes("horizontalpodautoscaler")["spec"]["scaleTargetRef"];
    assert_eq!((&target["kind"], &target["name"]), (&deployment["kind"], &deployment["metadata"]["name"]));

    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let ports: BTreeMap<_, _> = container["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| (port["name"].as_str().unwrap(), port["containerPort"].as_u64().unwrap()))
        .collect();
    assert_eq!(ports, BTreeMap::from([("postgres", 6432), ("metrics", 9127)]));
    for port in service["spec"]["ports"].as_array().unwrap() {
        assert!(ports.contains_key(port["targetPort"].as_str().unwrap()));
    }
    for (probe, path) in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"]["path"], path);
        assert!(ports.contains_key(container[probe]["httpGet"]["port"].as_str().unwrap()));
    }

    // what the configuration reads is what the Secret holds, where it is mounted
    let secret = kubernetes("secret");
    let mounted = container["volumeMounts"][1]["mountPath"].as_str().unwrap();
    let toml = text("kubernetes/trunkline.toml");
    let files: BTreeSet<_> =
        toml.lines().filter_map(|line| line.split_once("_file = ")).map(|(_, file)| file).collect();
    let keys = secret["stringData"].as_object().unwrap().keys();
    assert_eq!(
        files,
        keys.map(|key| format!("\"{mounted}/{key}\"")).collect::<Vec<_>>().iter().map(String::as_str).collect()
    );
    let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    assert_eq!(volumes[1]["secret"]["secretName"], secret["metadata"]["name"]);
    assert_eq!(volumes[0]["configMap"]["name"], kustomization["configMapGenerator"][0]["name"]);
}

/// Every service has a pinned image, and what it mounts is there; `folder` is where the compose file is, below `deploy`.
fn check_services(folder: &str, compose: &Value) {
    let services = compose["services"].as_object().unwrap();
    for (name, service) in services {
        let image = service["image"].as_str().unwrap_or_else(|| panic!("{name} has no image"));
        assert!(image.contains(':') && (name == "trunkline" || !image.ends_with(":latest")), "{name}: {image}");
        for volume in service.get("volumes").map(strings).unwrap_or_default() {
            let from = volume.split(':').next().unwrap();
            if from.starts_with('.') {
                assert!(path(folder).join(from).exists(), "{name} mounts {from}, which isn't there");
            } else {
                assert!(compose["volumes"].get(from).is_some(), "{name}: no volume {from}");
            }
        }
        if let Some(others) = service.get("depends_on").and_then(Value::as_object) {
            others.keys().for_each(|other| assert!(services.contains_key(other), "{name} waits for {other}"));
        }
    }
}

/// A slot of a replica is made by the script that runs on its primary.
fn check_slots(compose: &Value, init: &str) {
    for (name, service) in compose["services"].as_object().unwrap() {
        let Some(slot) = service.get("environment").and_then(|environment| environment.get("REPLICATION_SLOT")) else {
            continue;
        };
        assert!(init.contains(&format!("pg_create_physical_replication_slot('{}')", slot.as_str().unwrap())), "{name}");
    }
}

fn check_script(script: &str) {
    if let Some((success, said)) = tool("bash", &["-n", path(script).to_str().unwrap()]) {
        assert!(success, "{script}: {said}");
    }
}

#[test]
fn compose_services_volumes_and_files_exist() {
    let compose = yaml("docker-compose.yml");
    for name in ["primary", "replica1", "replica2", "trunkline", "prometheus", "loki", "alloy", "grafana"] {
        assert!(compose["services"].get(name).is_some(), "no service {name}");
    }
    check_services("", &compose);
    check_slots(&compose, &text("postgres/primary-init.sh"));
    ["postgres/primary-init.sh", "postgres/replica.sh"].into_iter().for_each(check_script);
    let scrape = yaml("prometheus/prometheus.yml");
    assert_eq!(scrape["scrape_configs"][0]["static_configs"][0]["targets"][0], "trunkline:9127");
}

#[test]
fn prometheus_accepts_its_configuration_and_the_rules_do_what_they_say() {
    promtool(&["check", "config", path("prometheus/prometheus.yml").to_str().unwrap()]);
    promtool(&["check", "rules", path("prometheus/rules/trunkline.rules.yml").to_str().unwrap()]);
    promtool(&["test", "rules", path("prometheus/rules/trunkline.test.yml").to_str().unwrap()]);
}

#[test]
fn alert_rules_name_metrics_that_exist_and_say_what_to_do() {
    let rules = yaml("prometheus/rules/trunkline.rules.yml");
    for rule in rules["groups"][0]["rules"].as_array().unwrap() {
        let name = rule["alert"].as_str().unwrap();
        for metric in metrics_in(rule["expr"].as_str().unwrap()) {
            assert!(is_exported(&metric), "{name}: {metric} is not exported");
        }
        assert!(["critical", "warning", "info"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        assert!(rule["annotations"]["summary"].is_string() && rule["annotations"]["description"].is_string(), "{name}");
    }
}

#[test]
fn the_dashboard_names_metrics_and_sources_that_exist() {
    let dashboard: Value = serde_json::from_str(&text("grafana/dashboards/trunkline.json")).unwrap();
    let mut expressions = Vec::new();
    collect(&dashboard, &["expr", "query", "definition"], &mut expressions);
    let used: BTreeSet<_> = expressions.iter().flat_map(|expression| metrics_in(expression)).collect();
    for metric in &used {
        assert!(is_exported(metric), "{metric} is not exported");
    }
    // the KPIs that it is there for
    for metric in [
        "trunkline_statement_duration_seconds_bucket",
        "trunkline_statements_total",
        "trunkline_pool_server_connections",
        "trunkline_routing_decisions_total",
        "trunkline_slow_statements_total",
    ] {
        assert!(used.contains(metric), "no panel shows {metric}");
    }
    for quantile in ["0.5", "0.95", "0.99"] {
        assert!(expressions.iter().any(|expression| expression.contains(&format!("histogram_quantile({quantile},"))));
    }

    let mut used = Vec::new();
    collect(&dashboard, &["uid"], &mut used);
    let sources = yaml("grafana/provisioning/datasources/datasources.yml");
    let known: Vec<_> =
        sources["datasources"].as_array().unwrap().iter().map(|source| source["uid"].as_str().unwrap()).collect();
    for uid in used {
        assert!(known.contains(&uid) || uid == dashboard["uid"], "no source {uid}");
    }
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels {
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{}", panel["title"]);
    }
    // the logs' panels ask for the label that the collector gives
    assert!(text("alloy/config.alloy").contains("\"trunkline-slow-log\""));
    assert!(expressions.iter().any(|expression| expression.contains("job=\"trunkline-slow-log\"")));
}

/// The unit's settings; a key may stand several times.
fn unit() -> BTreeMap<String, Vec<String>> {
    let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text("systemd/trunkline.service").lines() {
        if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            settings.entry(key.into()).or_default().push(value.into());
        }
    }
    settings
}

#[test]
fn systemd_accepts_the_unit_and_finds_it_hardened() {
    let settings = unit();
    for (key, value) in [("Type", "notify"), ("NoNewPrivileges", "yes"), ("ProtectSystem", "strict")] {
        assert_eq!(settings[key], [value]);
    }
    assert!(settings["ExecReload"][0].ends_with("kill -HUP $MAINPID"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trunkline.service");
    // the program isn't installed here
    std::fs::write(&file, text("systemd/trunkline.service").replace("/usr/bin/trunkline ", "/bin/true ")).unwrap();
    let file = file.to_str().unwrap();
    if let Some((success, said)) = tool("systemd-analyze", &["verify", "--man=no", file]) {
        assert!(success && said.trim().is_empty(), "{said}");
    }
    // With the drop-in for takeovers: what a reload starts is what a start does.
    let takeover = text("systemd/takeover.conf");
    let started = settings["ExecStart"][0].as_str();
    assert!(
        takeover.contains(&format!("ExecReload=/bin/sh -c '{started} &'")) && takeover.contains("NotifyAccess=all")
    );
    assert!(takeover.contains(&settings["ExecStartPre"][0]), "checked in the same way");
    let drop_in = dir.path().join("trunkline.service.d");
    std::fs::create_dir(&drop_in).unwrap();
    std::fs::write(drop_in.join("takeover.conf"), takeover.replace("/usr/bin/trunkline ", "/bin/true ")).unwrap();
    if let Some((success, said)) = tool("systemd-analyze", &["verify", "--man=no", file]) {
        assert!(success && said.trim().is_empty(), "{said}");
    }
    let args = ["security", "--offline=true", "--threshold=20", "--no-pager", file];
    if let Some((success, said)) = tool("systemd-analyze", &args) {
        assert!(success, "{said}");
    }
}
