//! What of a Citus database goes where.

use std::fs;

use super::fixture::Fixture;
use crate::support::clusters::{OTHER, OTHER_PASSWORD};
use crate::support::frames::Batch;
use crate::support::raw::RawClient;

/// Says which node answers, of a tenant whose shard `%` is.
pub fn read(tenant: &str) -> String {
    format!("SELECT w.node, (SELECT count(*) FROM k0 WHERE k = {tenant}) FROM whoami AS w")
}

/// A tenant of each worker.
pub fn tenants(fixture: &Fixture) -> [String; 2] {
    [1, 2].map(|group| {
        let sql = format!(
            "SELECT n FROM generate_series(1, 1000) AS n, pg_dist_shard JOIN pg_dist_placement USING (shardid) \
             WHERE logicalrelid = 'k0'::regclass AND groupid = {group} \
             AND hashint8(n) BETWEEN shardminvalue::int8 AND shardmaxvalue::int8 LIMIT 1"
        );
        fixture.run(0, &sql)
    })
}

fn whatever_names_no_shard_stays_with_the_coordinator(fixture: &Fixture) {
    let [one, two] = tenants(fixture);
    let mut client = fixture.client();
    assert_eq!(client.value(&read(&one)), "group 1");
    assert_eq!(client.value(&read(&two)), "group 2");
    for stays in [
        "SELECT w.node, (SELECT count(*) FROM k0) FROM whoami AS w",
        "SELECT w.node, (SELECT count(*) FROM k0 WHERE k IN (1, 2)) FROM whoami AS w",
        "SELECT w.node FROM whoami AS w",
        "SELECT w.node, l.v FROM whoami AS w, local_only AS l",
        "SELECT w.node, (SELECT count(*) FROM k0 WHERE k = 1), pg_backend_pid() FROM whoami AS w",
        "/* trunkline: primary */ SELECT w.node, (SELECT count(*) FROM k0 WHERE k = 1) FROM whoami AS w",
    ] {
        assert_eq!(client.value(stays), "group 0", "{stays}");
    }
    // Two statements in one string, of two tenants.
    let both = format!("{}; {}", read(&one), read(&two));
    let rows = client.rows(&both);
    assert!(rows.iter().all(|row| row[0].as_deref() == Some("group 0")), "{rows:?}");
    // Two in one segment.
    let segment = Batch::new().run(&read("$1"), &[Some(&one)]).run(&read("$1"), &[Some(&two)]).sync();
    let frames = client.exchange(&segment);
    let rows: Vec<_> =
        frames.iter().filter(|frame| frame.tag == b'D').map(|frame| frame.columns()[0].clone()).collect();
    assert_eq!(rows, [Some("group 0".to_owned()), Some("group 0".to_owned())]);
    let segment = Batch::new().run(&read("$1"), &[Some(&two)]).run(&read("$1"), &[Some(&two)]).sync();
    let frames = client.exchange(&segment);
    let rows: Vec<_> =
        frames.iter().filter(|frame| frame.tag == b'D').map(|frame| frame.columns()[0].clone()).collect();
    assert_eq!(rows, [Some("group 2".to_owned()), Some("group 2".to_owned())]);
}

fn a_transaction_stays_on_the_coordinator(fixture: &Fixture) {
    let [one, _] = tenants(fixture);
    let mut client = fixture.client();
    for begin in ["BEGIN", "BEGIN READ ONLY", "BEGIN ISOLATION LEVEL SERIALIZABLE"] {
        client.rows(begin);
        assert_eq!(client.value(&read(&one)), "group 0", "{begin}");
        client.rows("COMMIT");
        assert_eq!(client.value(&read(&one)), "group 1");
    }
}

fn pipelined_statements_each_go_where_they_belong(fixture: &Fixture) {
    let [one, two] = tenants(fixture);
    let mut client = fixture.client();
    let count = "SELECT w.node, (SELECT count(*) FROM k0) FROM whoami AS w";
    let texts = [read(&one), read(&two), count.to_owned(), read(&two), "SELECT 1".to_owned(), read(&one)];
    let batch = texts.iter().fold(Batch::new(), |batch, sql| batch.query(sql));
    client.send(&batch);
    let frames = client.recv_ready(texts.len());
    let rows: Vec<_> = frames.iter().filter(|f| f.tag == b'D').map(|f| f.columns()[0].clone().unwrap()).collect();
    // What has come to the coordinator stays there for the rest of the pipeline, as on a primary.
    assert_eq!(rows, ["group 1", "group 2", "group 0", "group 0", "1", "group 0"]);
}

fn settings_on_which_results_may_depend_keep_a_session_with_the_coordinator(fixture: &Fixture) {
    let [one, _] = tenants(fixture);
    let mut client = fixture.client();
    for harmless in ["SET application_name = 'x'", "SET statement_timeout = '1min'", "SET extra_float_digits = 3"] {
        client.rows(harmless);
        assert_eq!(client.value(&read(&one)), "group 1", "{harmless}");
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
        assert_eq!(client.value(&read(&one)), "group 0", "{set}");
        client.rows(reset);
        assert_eq!(client.value(&read(&one)), "group 1", "{reset}");
    }
    // What the server has anyway changes nothing.
    let zone = client.value("SHOW TimeZone");
    client.rows(&format!("SET TimeZone = '{zone}'"));
    assert_eq!(client.value(&read(&one)), "group 1", "TimeZone = {zone}");
    // What cannot be followed pins.
    client.rows("CREATE TEMP TABLE t (n int)");
    assert_eq!(client.value(&read(&one)), "group 0");
}

/// One cluster for all of them: three servers take their time to start.
#[test]
fn by_default_reads_of_one_shard_go_to_its_owner_and_nothing_else_does() {
    let fixture = Fixture::new("");
    explain_tells_of_the_shard_and_the_console_counts(&fixture);
    whatever_names_no_shard_stays_with_the_coordinator(&fixture);
    a_transaction_stays_on_the_coordinator(&fixture);
    pipelined_statements_each_go_where_they_belong(&fixture);
    settings_on_which_results_may_depend_keep_a_session_with_the_coordinator(&fixture);
    writes_stay_with_the_coordinator_by_default(&fixture);
    a_reload_switches_it_off_and_on(&fixture);
}

fn blocks_run_with_their_shard_when_a_session_asks_for_it(fixture: &Fixture) {
    let [one, two] = tenants(fixture);
    let mut client = fixture.client();
    client.rows("SET trunkline.shard_blocks = on");
    for by_protocol in [false, true] {
        let mut run = |sql: &str| {
            let batch = if by_protocol { Batch::new().run(sql, &[]).sync() } else { Batch::new().query(sql) };
            let frames = client.exchange(&batch);
            let row = frames.iter().find(|frame| frame.tag == b'D').map(|frame| frame.columns()[0].clone().unwrap());
            let failed = frames.iter().find(|frame| frame.tag == b'E').map(|frame| frame.sqlstate());
            row.or(failed).unwrap_or_default()
        };
        run("BEGIN");
        assert_eq!(run(&read(&one)), "group 1");
        assert_eq!(run(&read(&two)), "group 1", "a block stays where it began");
        assert_eq!(run(&format!("INSERT INTO k0 (k, v) VALUES ({one}, 'in a block')")), "");
        run("COMMIT");
        assert_eq!(fixture.run(1, "DELETE FROM k0 WHERE v = 'in a block' RETURNING 1").lines().next(), Some("1"));
        run("BEGIN");
        assert_eq!(run("SELECT w.node FROM whoami AS w"), "group 0", "the first statement names no shard");
        assert_eq!(run(&read(&one)), "group 0");
        run("ROLLBACK");
        for refused in ["CREATE TABLE here (n int)", "CREATE TEMP TABLE here (n int)", "LISTEN x", "SELECT 1 INTO here"]
        {
            run("BEGIN");
            assert_eq!(run(&read(&two)), "group 2");
            assert_eq!(run(refused), "0A000", "{refused}");
            run("ROLLBACK");
        }
        assert_eq!(run(&read(&two)), "group 2");
    }
    client.rows("RESET trunkline.shard_blocks");
    client.rows("BEGIN");
    assert_eq!(client.value(&read(&one)), "group 0");
    client.rows("COMMIT");
}

fn what_changes_the_schema_never_reaches_a_worker(fixture: &Fixture) {
    let mut client = fixture.client();
    client.rows("CREATE TABLE fresh (n int); CREATE SEQUENCE numbers; CREATE MATERIALIZED VIEW m AS SELECT 1 AS n");
    client.rows("INSERT INTO fresh VALUES (1); SELECT nextval('numbers')");
    for _ in 0..10 {
        assert_eq!(client.value("SELECT n FROM fresh"), "1");
        assert_eq!(client.value("SELECT n FROM m"), "1");
    }
    for group in [1, 2] {
        let made = "SELECT count(*) FROM pg_class WHERE relname IN ('fresh', 'numbers', 'm')";
        assert_eq!(fixture.run(group, made), "0", "group {group}");
    }
}

fn writes_go_to_the_owner_when_that_is_asked_for(fixture: &Fixture) {
    let [one, two] = tenants(fixture);
    let mut client = fixture.client();
    let rows_of = |group: usize| fixture.run(group, "SELECT coalesce(string_agg(k || v, ',' ORDER BY k), '') FROM k0");
    client.rows(&format!("INSERT INTO k0 (k, v) VALUES ({one}, 'a')"));
    client.exchange(&Batch::new().run("INSERT INTO k0 (k, v) VALUES ($1, $2)", &[Some(&two), Some("b")]).sync());
    assert_eq!([rows_of(0), rows_of(1), rows_of(2)], [String::new(), format!("{one}a"), format!("{two}b")]);
    client.rows(&format!("UPDATE k0 SET v = 'c' WHERE k = {one}"));
    assert_eq!(rows_of(1), format!("{one}c"));
    // What its session has written is seen.
    assert_eq!(client.value(&format!("SELECT v FROM k0 WHERE k = {one}")), "c");
    client.rows(&format!("DELETE FROM k0 WHERE k = {two}"));
    assert_eq!(rows_of(2), "");
    // The coordinator of the stand-in has no row: what goes there writes none.
    client.rows("BEGIN");
    client.rows(&format!("UPDATE k0 SET v = 'd' WHERE k = {one}"));
    client.rows("COMMIT");
    client.rows(&format!("UPDATE k0 SET v = 'd' WHERE k = {one} OR k = {two}"));
    assert_eq!(rows_of(1), format!("{one}c"));
}

fn writes_stay_with_the_coordinator_by_default(fixture: &Fixture) {
    let [one, _] = tenants(fixture);
    fixture.client().rows(&format!("INSERT INTO k0 (k, v) VALUES ({one}, 'a')"));
    assert_eq!([0, 1].map(|group| fixture.run(group, "SELECT count(*) FROM k0")), ["1", "0"]);
}

fn reads_of_several_shards_are_spread_over_all_nodes_when_that_is_asked_for(fixture: &Fixture) {
    let [one, _] = tenants(fixture);
    let mut client = fixture.client();
    for sql in ["SELECT w.node, (SELECT count(*) FROM k0) FROM whoami AS w".to_owned(), read(&one)] {
        let mut seen = std::collections::BTreeSet::new();
        fixture.until("every node is asked", || {
            seen.insert(client.value(&sql));
            seen.len() == 3
        });
    }
    for _ in 0..20 {
        assert_eq!(client.value("SELECT v FROM local_only"), "on the coordinator");
    }
}

fn explain_tells_of_the_shard_and_the_console_counts(fixture: &Fixture) {
    let [one, _] = tenants(fixture);
    let mut client = fixture.client();
    let lines = client.rows(&format!("EXPLAIN (ROUTE) {}", read(&one)));
    let lines: Vec<String> = lines.into_iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(lines[0], "worker: it names one shard, and this node has it");
    client.value(&read(&one));
    client.rows("BEGIN");
    client.value(&read(&one));
    client.rows("COMMIT");
    let counts = fixture.console().rows("SELECT at_owner, at_any_node, at_coordinator FROM citus").remove(0);
    assert_eq!(counts, ["1", "0", "1"].map(|count| Some(count.to_owned())));
    let (_, metrics) = fixture.proxy.http("/metrics");
    let wanted = "trunkline_citus_statements_total{database=\"app\",route=\"owner\"} 1";
    assert!(metrics.contains(wanted), "{metrics}");
}

fn a_reload_switches_it_off_and_on(fixture: &Fixture) {
    let [one, _] = tenants(fixture);
    let mut client = fixture.client();
    assert_eq!(client.value(&read(&one)), "group 1");
    fixture.reconfigure("owner_routing = \"off\"");
    fixture.until("it is off", || client.value(&read(&one)) == "group 0");
    let nodes = fixture.console().value("SELECT count(*) FROM nodes");
    assert_eq!(nodes, "1", "no worker is needed any more");
    fixture.reconfigure("");
    fixture.until("it is on", || client.value(&read(&one)) == "group 1");
}

#[test]
fn writes_and_reads_of_several_shards_leave_the_coordinator_when_that_is_asked_for() {
    let fixture = Fixture::new("owner_routing = \"all\"\nreads = \"any_node\"");
    writes_go_to_the_owner_when_that_is_asked_for(&fixture);
    blocks_run_with_their_shard_when_a_session_asks_for_it(&fixture);
    what_changes_the_schema_never_reaches_a_worker(&fixture);
    fixture.reconfigure("owner_routing = \"off\"\nreads = \"any_node\"");
    reads_of_several_shards_are_spread_over_all_nodes_when_that_is_asked_for(&fixture);
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
    let [one, two] = tenants(&fixture);
    let mut client = RawClient::connect(fixture.proxy.port(), OTHER, OTHER_PASSWORD, "app");
    fixture.until("it is not let in", || client.value(&read(&one)) == "group 0");
    for _ in 0..50 {
        assert_eq!(client.value(&read(&two)), "group 0");
        client.rows(&format!("INSERT INTO k0 (k, v) VALUES ({one}, 'a')"));
    }
    assert_eq!(fixture.run(0, "SELECT count(*) FROM k0"), "50");
    assert!(attempts(&fixture) < 10, "{} attempts to log in for 100 statements", attempts(&fixture));
}
