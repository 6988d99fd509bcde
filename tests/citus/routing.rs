//! What of a Citus database goes where.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::fixture::{self, Fixture};
use super::target::{SCHEMA, TENANTS, Target, Tenant, read};
use crate::support::clusters::{OTHER, OTHER_PASSWORD};
use crate::support::frames::Batch;
use crate::support::raw::RawClient;

/// Where `owner_routing` and `reads` are as they are by default: reads of one shard go to its owner, and nothing else does.
pub fn by_default(target: &Target) {
    explain_tells_of_the_shard_and_the_console_counts(target);
    whatever_names_no_shard_stays_with_the_coordinator(target);
    a_transaction_stays_on_the_coordinator(target);
    pipelined_statements_each_go_where_they_belong(target);
    settings_on_which_results_may_depend_keep_a_session_with_the_coordinator(target);
    writes_stay_with_the_coordinator(target);
    a_reload_switches_it_off_and_on(target);
}

/// Where `owner_routing = "all"`.
pub fn when_writes_go_to_the_owner(target: &Target) {
    writes_go_to_the_owner(target);
    blocks_run_with_their_shard_when_a_session_asks_for_it(target);
    what_changes_the_schema_never_reaches_a_worker(target);
}

fn explain_tells_of_the_shard_and_the_console_counts(target: &Target) {
    let [one, _] = target.tenants();
    let mut client = target.client();
    let lines = client.rows(&format!("EXPLAIN (ROUTE) {}", read(&one)));
    assert_eq!(lines[0][0].as_deref(), Some("worker: it names one shard, and this node has it"));
    let mut console = target.console();
    let mut counts = || {
        let row = console.rows("SELECT at_owner, at_any_node, at_coordinator FROM citus").remove(0);
        let counts: Vec<u64> = row.into_iter().map(|count| count.unwrap().parse().unwrap()).collect();
        <[u64; 3]>::try_from(counts).unwrap()
    };
    let [owner, any, coordinator] = counts();
    client.rows(&read(&one));
    client.rows("BEGIN");
    client.rows(&read(&one));
    client.rows("COMMIT");
    assert_eq!(counts(), [owner + 1, any, coordinator + 1]);
    let (_, metrics) = target.proxy.http("/metrics");
    let wanted = format!("trunkline_citus_statements_total{{database=\"app\",route=\"owner\"}} {}", owner + 1);
    assert!(metrics.contains(&wanted), "{metrics}");
}

fn whatever_names_no_shard_stays_with_the_coordinator(target: &Target) {
    let [one, two] = target.tenants();
    let mut client = target.client();
    for tenant in [&one, &two] {
        assert_eq!(target.node_of(&mut client, &read(tenant)), tenant.group);
        assert_eq!(target.node_by(&mut client, &read(tenant), true), tenant.group);
    }
    for stays in [
        format!("SELECT count(*) FROM {TENANTS}"),
        format!("SELECT count(*) FROM {TENANTS} WHERE k IN (1, 2)"),
        format!("SELECT name FROM {SCHEMA}.plans"),
        format!("SELECT v FROM {SCHEMA}.local_only"),
        format!("SELECT k.v, l.v FROM {TENANTS} AS k, {SCHEMA}.local_only AS l WHERE k.k = 1"),
        format!("SELECT v, pg_backend_pid() FROM {TENANTS} WHERE k = 1"),
        format!("/* trunkline: primary */ {}", read(&one)),
        // Two statements in one string, of two tenants.
        format!("{}; {}", read(&one), read(&two)),
    ] {
        assert_eq!(target.node_of(&mut client, &stays), "0", "{stays}");
    }
    // Two in one segment, of two tenants and of one.
    let of_tenant = format!("SELECT v FROM {TENANTS} WHERE k = $1");
    for (first, second, node) in [(&one, &two, "0"), (&two, &two, two.group.as_str())] {
        let mark = target.mark();
        let text = format!("{of_tenant} {mark}");
        let segment = Batch::new().run(&text, &[Some(&first.key)]).run(&text, &[Some(&second.key)]).sync();
        let nodes = target.nodes_of(&mark, || drop(client.exchange(&segment)));
        assert_eq!(nodes, [node]);
    }
    // A statement that was prepared once.
    let mark = target.mark();
    client.exchange(&Batch::new().parse("s", &format!("{of_tenant} {mark}"), &[]).sync());
    for tenant in [&one, &two, &one, &one, &two] {
        let bound = Batch::new().bind("", "s", &[Some(&tenant.key)]).execute("", 0).sync();
        assert_eq!(target.nodes_of(&mark, || drop(client.exchange(&bound))), [tenant.group.as_str()]);
    }
}

fn a_transaction_stays_on_the_coordinator(target: &Target) {
    let [one, _] = target.tenants();
    let mut client = target.client();
    for begin in ["BEGIN", "BEGIN READ ONLY", "BEGIN ISOLATION LEVEL SERIALIZABLE"] {
        client.rows(begin);
        assert_eq!(target.node_of(&mut client, &read(&one)), "0", "{begin}");
        client.rows("COMMIT");
        assert_eq!(target.node_of(&mut client, &read(&one)), one.group);
    }
}

fn pipelined_statements_each_go_where_they_belong(target: &Target) {
    let [one, two] = target.tenants();
    let mut client = target.client();
    let mark = target.mark();
    let count = format!("SELECT count(*) FROM {TENANTS}");
    let texts = [read(&one), read(&two), count, read(&two), "SELECT 1".to_owned(), read(&one)];
    let texts = texts.iter().enumerate();
    let batch = texts.fold(Batch::new(), |batch, (place, sql)| batch.query(&format!("{sql} {mark} -- {place}")));
    client.send(&batch);
    client.recv_ready(6);
    let last = target.last_with(&mark);
    let last: BTreeMap<_, _> = last.iter().map(|(group, query)| (group.as_str(), query.chars().last())).collect();
    // What has come to the coordinator stays there for the rest of the pipeline, as on a primary.
    assert_eq!(last, BTreeMap::from([("0", Some('5')), (&one.group, Some('0')), (&two.group, Some('1'))]));
}

fn settings_on_which_results_may_depend_keep_a_session_with_the_coordinator(target: &Target) {
    let [one, _] = target.tenants();
    let mut client = target.client();
    for harmless in ["SET application_name = 'x'", "SET statement_timeout = '1min'", "SET extra_float_digits = 3"] {
        client.rows(harmless);
        assert_eq!(target.node_of(&mut client, &read(&one)), one.group, "{harmless}");
    }
    for (set, reset) in [
        ("SET TimeZone = 'Asia/Tokyo'", "RESET TimeZone"),
        ("SET app.project = '5'", "RESET app.project"),
        ("SET DateStyle = 'SQL, DMY'", "RESET DateStyle"),
        ("SET extra_float_digits = 0", "RESET extra_float_digits"),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "RESET default_transaction_isolation",
        ),
    ] {
        client.rows(set);
        assert_eq!(target.node_of(&mut client, &read(&one)), "0", "{set}");
        client.rows(reset);
        assert_eq!(target.node_of(&mut client, &read(&one)), one.group, "{reset}");
    }
    // What the server has anyway changes nothing.
    let zone = client.value("SHOW TimeZone");
    client.rows(&format!("SET TimeZone = '{zone}'"));
    assert_eq!(target.node_of(&mut client, &read(&one)), one.group, "TimeZone = {zone}");
    // A path leads to the same tables everywhere.
    client.rows(&format!("SET search_path = {SCHEMA}"));
    assert_eq!(target.node_of(&mut client, &format!("SELECT v FROM t0 WHERE k = {}", one.key)), one.group);
    client.rows("RESET search_path");
    // What cannot be followed pins.
    client.rows("CREATE TEMP TABLE t (n int)");
    assert_eq!(target.node_of(&mut client, &read(&one)), "0");
}

fn writes_stay_with_the_coordinator(target: &Target) {
    let [one, _] = target.tenants();
    let mut client = target.client();
    for extended in [false, true] {
        let insert = format!("INSERT INTO {TENANTS} (k, v) VALUES ({}, 'a')", one.key);
        assert_eq!(target.node_by(&mut client, &insert, extended), "0");
        assert_eq!(client.value(&read(&one)), "a");
        assert_eq!(target.node_by(&mut client, &format!("DELETE FROM {TENANTS} WHERE k = {}", one.key), extended), "0");
    }
}

fn a_reload_switches_it_off_and_on(target: &Target) {
    let [one, _] = target.tenants();
    let mut client = target.client();
    assert_eq!(target.node_of(&mut client, &read(&one)), one.group);
    target.reconfigure("owner_routing = \"off\"");
    target.until("it is off", || target.node_of(&mut client, &read(&one)) == "0");
    let nodes = target.console().value("SELECT count(*) FROM nodes");
    assert_eq!(nodes, "1", "no worker is needed any more");
    target.reconfigure("");
    target.until("it is on", || target.node_of(&mut client, &read(&one)) == one.group);
}

fn writes_go_to_the_owner(target: &Target) {
    let [one, two] = target.tenants();
    let mut client = target.client();
    let expect = |client: &mut RawClient, sql: &str, extended: bool, node: &str, rows: &[String]| {
        assert_eq!(target.node_by(client, sql, extended), node, "{sql}");
        let found = target.run(0, &format!("SELECT k || v FROM {TENANTS} ORDER BY v"));
        assert_eq!(found, rows, "{sql}");
    };
    let row = |tenant: &Tenant, v: &str| format!("{}{v}", tenant.key);
    let (k1, k2) = (&one.key, &two.key);
    let insert = |k: &str, v: &str| format!("INSERT INTO {TENANTS} (k, v) VALUES ({k}, '{v}')");
    expect(&mut client, &insert(k1, "a"), false, &one.group, &[row(&one, "a")]);
    expect(&mut client, &insert(k2, "b"), true, &two.group, &[row(&one, "a"), row(&two, "b")]);
    let update = format!("UPDATE {TENANTS} SET v = 'c' WHERE k = {k1}");
    expect(&mut client, &update, false, &one.group, &[row(&two, "b"), row(&one, "c")]);
    // What its session has written is seen.
    assert_eq!(client.value(&read(&one)), "c");
    let both = format!("UPDATE {TENANTS} SET v = v || 'd' WHERE k = {k1} OR k = {k2}");
    expect(&mut client, &both, true, "0", &[row(&two, "bd"), row(&one, "cd")]);
    client.rows("BEGIN");
    assert_eq!(target.node_of(&mut client, &format!("DELETE FROM {TENANTS} WHERE k = {k1}")), "0");
    client.rows("COMMIT");
    expect(&mut client, &format!("DELETE FROM {TENANTS} WHERE k = {k2}"), true, &two.group, &[]);
}

fn blocks_run_with_their_shard_when_a_session_asks_for_it(target: &Target) {
    let [one, two] = target.tenants();
    let mut client = target.client();
    client.rows("SET trunkline.shard_blocks = on");
    for extended in [false, true] {
        let mut run = |sql: &str| target.node_by(&mut client, sql, extended);
        run("BEGIN");
        assert_eq!(run(&read(&one)), one.group);
        assert_eq!(run(&read(&two)), one.group, "a block stays where it began");
        let insert = format!("INSERT INTO {TENANTS} (k, v) VALUES ({}, 'in a block')", one.key);
        assert_eq!(run(&insert), one.group);
        run("COMMIT");
        assert_eq!(target.run(0, &format!("SELECT count(*) FROM {TENANTS} WHERE v = 'in a block'")), ["1"]);
        target.run(0, &format!("DELETE FROM {TENANTS}"));
        run("BEGIN");
        assert_eq!(run(&format!("SELECT v FROM {SCHEMA}.local_only")), "0", "the first statement names no shard");
        assert_eq!(run(&read(&one)), "0");
        run("ROLLBACK");
        for refused in ["CREATE TABLE here (n int)", "CREATE TEMP TABLE here (n int)", "LISTEN x", "SELECT 1 INTO here"]
        {
            run("BEGIN");
            assert_eq!(run(&read(&two)), two.group);
            assert_eq!(run(refused), "0A000", "{refused}");
            run("ROLLBACK");
        }
        assert_eq!(run(&read(&two)), two.group);
    }
    client.rows("RESET trunkline.shard_blocks");
    client.rows("BEGIN");
    assert_eq!(target.node_of(&mut client, &read(&one)), "0");
    client.rows("COMMIT");
}

fn what_changes_the_schema_never_reaches_a_worker(target: &Target) {
    let mut client = target.client();
    for made in ["TABLE {}.fresh (n int)", "SEQUENCE {}.numbers", "MATERIALIZED VIEW {}.m AS SELECT 1 AS n"] {
        let sql = format!("CREATE {}", made.replace("{}", SCHEMA));
        assert_eq!(target.node_of(&mut client, &sql), "0", "{sql}");
    }
    client.rows(&format!("INSERT INTO {SCHEMA}.fresh VALUES (1); SELECT nextval('{SCHEMA}.numbers')"));
    for _ in 0..10 {
        assert_eq!(client.value(&format!("SELECT n FROM {SCHEMA}.fresh")), "1");
        assert_eq!(client.value(&format!("SELECT n FROM {SCHEMA}.m")), "1");
    }
    for tenant in target.tenants() {
        let made = format!(
            "SELECT count(*) FROM pg_class WHERE relname IN ('fresh', 'numbers', 'm') \
             AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = '{SCHEMA}')"
        );
        assert_eq!(target.run(tenant.group.parse().unwrap(), &made), ["0"], "{tenant:?}");
    }
}

/// Where `owner_routing = "off"` and `reads = "any_node"`.
pub fn reads_of_several_shards_are_spread_over_all_nodes(target: &Target) {
    let [one, _] = target.tenants();
    let mut client = target.client();
    for sql in [format!("SELECT count(*) FROM {TENANTS}"), read(&one)] {
        let mut seen = BTreeSet::new();
        target.until("every node is asked", || {
            seen.insert(target.node_of(&mut client, &sql));
            seen == target.groups()
        });
    }
    for _ in 0..20 {
        assert_eq!(client.value(&format!("SELECT v FROM {SCHEMA}.local_only")), "on the coordinator");
    }
}

fn attempts(fixture: &Fixture) -> u64 {
    let (_, metrics) = fixture.proxy.http("/metrics");
    let of_other = |line: &&str| {
        line.starts_with("trunkline_server_connection_open_failures_total{")
            && line.contains(&format!("user=\"{OTHER}\""))
    };
    metrics.lines().filter(of_other).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

#[test]
fn a_worker_that_does_not_let_the_user_in_costs_no_statement() {
    let fixture = Fixture::new(&format!("owner_routing = \"all\"\n[users.{OTHER}]\npassword = \"{OTHER_PASSWORD}\""));
    for worker in &fixture.nodes[1..] {
        let node = worker.primary();
        let rules = fs::read_to_string(node.data_dir().join("pg_hba.conf")).unwrap();
        node.write_file("pg_hba.conf", &format!("host all {OTHER} 127.0.0.1/32 reject\n{rules}")).unwrap();
        node.reload();
    }
    let [one, two] = fixture::tenants(&fixture);
    let mut client = RawClient::connect(fixture.proxy.port(), OTHER, OTHER_PASSWORD, "app");
    fixture.until("it is not let in", || client.value(&fixture::read(&one)) == "group 0");
    for _ in 0..50 {
        assert_eq!(client.value(&fixture::read(&two)), "group 0");
        client.rows(&format!("INSERT INTO k0 (k, v) VALUES ({one}, 'a')"));
    }
    assert_eq!(fixture.run(0, "SELECT count(*) FROM k0"), "50");
    assert!(attempts(&fixture) < 10, "{} attempts to log in for 100 statements", attempts(&fixture));
}
