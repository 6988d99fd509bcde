//! The compose files before Citus and TimescaleDB: their pieces agree with each other.

use super::*;

fn read(folder: &str) -> (Value, Config) {
    let compose = yaml(&format!("{folder}/docker-compose.yml"));
    let toml = text(&format!("{folder}/trunkline.toml"));
    (compose, config(&toml, &[("APP_PASSWORD", "a"), ("MONITOR_PASSWORD", "b")]))
}

/// What holds of both.
fn check(folder: &str, scripts: &[&str]) {
    let (compose, config) = read(folder);
    check_services(folder, &compose);
    for script in scripts {
        check_script(&format!("{folder}/{script}"));
    }
    let services = &compose["services"];
    for node in &config.databases["app"].nodes {
        assert!(services.get(&node.hosts[0].host).is_some(), "no service {}", node.hosts[0]);
    }
    let trunkline = &services["trunkline"];
    for variable in ["APP_PASSWORD", "MONITOR_PASSWORD"] {
        assert!(trunkline["environment"].get(variable).is_some(), "{variable} is not passed on");
    }
    assert_eq!(trunkline["build"]["context"], "../..", "where the Dockerfile finds the sources");
    let grace = trunkline["stop_grace_period"].as_str().unwrap().trim_end_matches('s').parse().unwrap();
    assert!(Duration::from_secs(grace) > config.client.drain_timeout.unwrap());
    let published = strings(&trunkline["ports"]);
    assert_eq!(published, ["6432:6432", "127.0.0.1:9127:9127"]);
    assert_eq!(config.metrics.unwrap().port(), 9127);
}

#[test]
fn timescaledbs_pieces_agree() {
    check("timescaledb", &["primary-init.sh"]);
    let (compose, config) = read("timescaledb");
    check_slots(&compose, &text("timescaledb/primary-init.sh"));
    let database = &config.databases["app"];
    assert_eq!(database.nodes.len(), 2);
    // The image puts the extension into this database and no other that we use.
    assert_eq!(compose["services"]["primary"]["environment"]["POSTGRES_DB"], "app");
}

/// The values of `-cNAME=VALUE` in a service's command.
fn settings(service: &Value) -> BTreeMap<String, String> {
    let given = strings(&service["command"]).into_iter().filter_map(|word| word.strip_prefix("-c")?.split_once('='));
    given.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_pieces_of_citus_agree() {
    check("citus", &["node-init.sh", "cluster.sh"]);
    let (compose, config) = read("citus");
    let services = &compose["services"];
    check_slots(&compose, &text("citus/node-init.sh"));
    let database = &config.databases["app"];
    assert_eq!(database.nodes.len(), 1, "the coordinator alone: workers are found");
    assert_eq!(database.citus, trunkline::config::CitusSettings::default(), "what is written there is what is usual");

    let script = text("citus/cluster.sh");
    for node in ["coordinator", "worker1", "worker2"] {
        assert!(services.get(node).is_some());
        let named = [format!("citus_set_coordinator_host('{node}', 5432)"), format!("citus_add_node('{node}', 5432)")];
        assert!(named.iter().any(|call| script.contains(call)), "the coordinator isn't told of {node}");
        let standby = &services[format!("{node}-standby")];
        assert_eq!(standby["environment"]["PRIMARY_HOST"], node);
        assert_eq!(strings(&standby["profiles"]), ["standbys"]);
        let (own, of_standby) = (settings(&services[node]), settings(standby));
        // A standby with less of these than its primary doesn't start.
        for (name, value) in
            own.iter().filter(|(name, _)| name.starts_with("max_") && *name != "max_slot_wal_keep_size")
        {
            assert_eq!(of_standby.get(name), Some(value), "{name} of {node}-standby");
        }
        assert_eq!(of_standby["citus.use_secondary_nodes"], "always");
        let cluster = &of_standby["citus.cluster_name"];
        assert!(script.contains(&format!("5432, '{cluster}')")), "registered in another cluster than {cluster}");
    }
    assert!(script.contains("ARRAY['coordinator', 'worker1', 'worker2']"), "not all standbys are registered");
    // Where nodes look for each other's passwords is where they are written, and what a standby copies along.
    let environment = &services["worker1"]["environment"];
    let dir = environment["PGDATA"].as_str().unwrap();
    assert!(environment["PGPASSFILE"].as_str().unwrap().starts_with(&format!("{dir}/")));
}
