//! What an application must not be able to tell from the coordinator's own answers.

use std::thread;
use std::time::{Duration, Instant};

use trunkline::app::demo::StopMode;

use super::fixture::{Fixture, PATIENCE, read, tenants};
use crate::support::clusters::{self, APP, APP_PASSWORD};
use crate::support::frames::{Batch, Frame};
use crate::support::process::Setup;
use crate::support::raw::RawClient;

const WHO: &str = "SELECT w.node, length($1) FROM whoami AS w";

fn first(frames: &[Frame]) -> String {
    let row = frames.iter().find(|frame| frame.tag == b'D').map(|frame| frame.columns()[0].clone().unwrap());
    let failed = frames.iter().find(|frame| frame.tag == b'E').map(|frame| frame.sqlstate());
    row.or(failed).unwrap_or_default()
}

fn what_is_not_judged_does_not_follow_the_statement_before_it(fixture: &Fixture) {
    let [one, _] = tenants(fixture);
    let mut client = fixture.client();
    // A segment that is too long to be waited for.
    assert_eq!(client.value(&read(&one)), "group 1");
    let long = "x".repeat(100_000);
    assert_eq!(first(&client.exchange(&Batch::new().run(WHO, &[Some(&long)]).sync())), "group 0", "a long segment");
    // One that ends with a Flush.
    assert_eq!(client.value(&read(&one)), "group 1");
    let flushed = Batch::new().run(WHO, &[Some("x")]).flush().sync();
    assert_eq!(first(&client.exchange(&flushed)), "group 0", "a segment that is flushed");
    // A call of inet_server_port() behind a statement that has stayed with the coordinator because of what was before it.
    client.send(&Batch::new().query("SELECT 1").query("SELECT count(*) FROM k0").query(&read(&one)));
    client.recv_ready(3);
    let call = [&2199u32.to_be_bytes()[..], &[0, 0, 0, 0, 0, 0]].concat();
    let frames = client.exchange(&Batch::new().raw(b'F', &call));
    let answer = frames.iter().find(|frame| frame.tag == b'V').map(|frame| frame.body[4..].to_vec()).unwrap();
    let port = fixture.nodes[0].info().primary_port();
    assert_eq!(String::from_utf8(answer).unwrap(), port.to_string(), "a function call");
    // A statement that is not inspected.
    client.send(&Batch::new().query("SELECT count(*) FROM k0").query(&read(&one)));
    client.recv_ready(2);
    let long = format!("SELECT w.node, '{}' FROM whoami AS w", "x".repeat(2 << 20));
    assert_eq!(first(&client.exchange(&Batch::new().query(&long))), "group 0", "a long statement");
}

#[test]
fn what_is_not_judged_stays_with_the_coordinator() {
    let fixture = Fixture::new("");
    what_is_not_judged_does_not_follow_the_statement_before_it(&fixture);
}

#[test]
fn types_of_ones_own_have_the_coordinators_numbers() {
    let fixture = Fixture::new("owner_routing = \"all\"");
    // The numbers of types differ from node to node.
    fixture.run(1, "SET standin.allow_ddl = on; CREATE TYPE apart AS ENUM ('x'); CREATE TYPE apart2 AS ENUM ('x')");
    let made = "SET standin.allow_ddl = on; CREATE TYPE mood AS ENUM ('sad', 'happy'); \
        CREATE TABLE moody (k bigint NOT NULL, m mood, v text); GRANT ALL ON moody TO PUBLIC; \
        INSERT INTO pg_dist_partition VALUES ('moody', 'h', '{VAR :varno 1 :varattno 1 :varlevelsup 0}', 100, 's', false)";
    fixture.run_everywhere(made);
    let [one, two] = tenants(&fixture);
    let oid = fixture.run(0, "SELECT 'mood'::regtype::oid");
    assert_ne!(oid, fixture.run(1, "SELECT 'mood'::regtype::oid"));
    let mut client = fixture.client();
    fixture.until("the table is known", || {
        client.value(&format!("SELECT w.node, (SELECT count(v) FROM moody WHERE k = {two}) FROM whoami AS w"))
            == "group 2"
    });
    let type_of = |frames: &[Frame]| {
        let row = frames.iter().find(|frame| frame.tag == b'T').unwrap();
        let end = row.body.iter().skip(2).position(|byte| *byte == 0).unwrap() + 3;
        u32::from_be_bytes(row.body[end + 6..end + 10].try_into().unwrap()).to_string()
    };
    for sql in [
        format!("SELECT m FROM moody WHERE k = {one}"),
        format!("SELECT \"m\" FROM moody AS x WHERE x.k = {one}"),
        format!("SELECT m AS n, * FROM moody WHERE k = {one}"),
        format!("SELECT max(s.n) FROM (SELECT m AS n FROM moody WHERE k = {one}) AS s"),
        format!("SELECT c FROM moody AS x (a, c, d) WHERE a = {one}"),
        format!("SELECT 'happy'::mood FROM moody WHERE k = {one} UNION ALL SELECT NULL"),
        format!("UPDATE moody SET v = 'x' WHERE k = {one} RETURNING m"),
        format!("INSERT INTO moody (k, m) VALUES ({one}, 'sad') RETURNING m"),
    ] {
        assert_eq!(type_of(&client.exchange(&Batch::new().query(&sql))), oid, "{sql}");
        assert_eq!(type_of(&client.exchange(&Batch::new().run(&sql, &[]).sync())), oid, "{sql}");
    }
    let whole = format!("SELECT moody FROM moody WHERE k = {one}");
    let row_type = fixture.run(0, "SELECT 'moody'::regtype::oid");
    assert_eq!(type_of(&client.exchange(&Batch::new().query(&whole))), row_type);
    // A parameter of that type.
    let insert = "INSERT INTO moody (k, m) VALUES ($1, $2)";
    let typed = Batch::new().parse("", insert, &[20, oid.parse().unwrap()]).bind("", "", &[Some(&one), Some("happy")]);
    assert_eq!(first(&client.exchange(&typed.execute("", 0).sync())), "");
}

#[test]
fn read_only_holds_for_workers_too() {
    let fixture = Fixture::new("owner_routing = \"all\"");
    let [one, _] = tenants(&fixture);
    let insert = format!("INSERT INTO k0 (k, v) VALUES ({one}, 'a')");
    let mut client = fixture.client();
    client.rows(&insert);
    assert_eq!(fixture.run(1, "SELECT count(*) FROM k0"), "1");
    let port = fixture.nodes[0].info().primary_port();
    fixture.proxy.rewrite_config(&super::fixture::config(port, "read_only = true", "owner_routing = \"all\""));
    fixture.console().rows("RELOAD");
    assert_eq!(client.failure(&insert), "25006");
    assert_eq!(fixture.run(1, "SELECT count(*) FROM k0"), "1");
}

#[test]
fn defaults_that_take_their_value_from_a_sequence_unseen_are_the_coordinators() {
    let fixture = Fixture::new("owner_routing = \"all\"");
    fixture.run_everywhere(
        "SET standin.allow_ddl = on; CREATE SEQUENCE numbers; GRANT ALL ON numbers TO PUBLIC; \
         CREATE FUNCTION next_number() RETURNS bigint LANGUAGE sql AS $$SELECT nextval('numbers')$$",
    );
    let [one, _] = tenants(&fixture);
    let mut client = fixture.client();
    let insert = format!("INSERT INTO k0 (k, v) VALUES ({one}, 'a')");
    client.rows(&insert);
    assert_eq!(fixture.run(1, "DELETE FROM k0 RETURNING v").lines().next(), Some("a"));
    fixture.run_everywhere("SET standin.allow_ddl = on; ALTER TABLE k0 ADD COLUMN n bigint DEFAULT 0");
    for default in ["next_number()", "nextval('numbers'::text)", "nextval('numbers')"] {
        fixture.run_everywhere("SET standin.allow_ddl = on; ALTER TABLE k0 ALTER COLUMN n SET DEFAULT 0");
        fixture.until("it goes to the worker", || {
            client.rows(&insert);
            fixture.run(1, "SELECT count(*) FROM k0") != "0"
        });
        fixture.run_everywhere(&format!(
            "SET standin.allow_ddl = on; ALTER TABLE k0 ALTER COLUMN n SET DEFAULT {default}"
        ));
        fixture.until(default, || {
            fixture.run(1, "DELETE FROM k0");
            client.rows(&insert);
            fixture.run(1, "SELECT count(*) FROM k0") == "0"
        });
    }
}

#[test]
fn a_node_that_is_not_the_worker_it_is_taken_for_is_not_used() {
    let fixture = Fixture::new("owner_routing = \"all\"");
    let [one, two] = tenants(&fixture);
    let mut client = fixture.client();
    assert_eq!(client.value(&read(&one)), "group 1");
    for port in [fixture.proxy.port(), fixture.nodes[2].info().primary_port()] {
        fixture.run(0, "UPDATE pg_dist_node SET nodeport = nodeport + 10000 WHERE groupid = 2");
        fixture.run(0, &format!("UPDATE pg_dist_node SET nodeport = {port} WHERE groupid = 1"));
        fixture.until("it is not used", || {
            fixture.console().value("SELECT count(*) FROM citus WHERE used = 'yes'") == "0"
        });
        for _ in 0..20 {
            assert_eq!(client.value(&read(&one)), "group 0", "{port}");
            assert_eq!(client.value(&read(&two)), "group 0", "{port}");
        }
    }
}

#[test]
fn writes_wait_in_line_for_a_workers_connection() {
    let fixture = Fixture::new("owner_routing = \"all\"\n[databases.app.pool]\nsize = 1");
    let [one, _] = tenants(&fixture);
    let insert = format!("INSERT INTO k0 (k, v) VALUES ({one}, 'a')");
    let lock = "BEGIN; LOCK TABLE k0; SELECT pg_sleep(1); COMMIT";
    thread::scope(|scope| {
        scope.spawn(|| fixture.run(1, lock));
        thread::sleep(Duration::from_millis(300));
        for by_protocol in [false, true, false, true, false, true] {
            let (fixture, insert) = (&fixture, &insert);
            scope.spawn(move || {
                let mut client = fixture.client();
                for _ in 0..20 {
                    let batch =
                        if by_protocol { Batch::new().run(insert, &[]).sync() } else { Batch::new().query(insert) };
                    assert_eq!(first(&client.exchange(&batch)), "");
                }
            });
        }
    });
    assert_eq!(fixture.run(1, "SELECT count(*) FROM k0"), "120");
    assert_eq!(fixture.run(0, "SELECT count(*) FROM k0"), "0");
}

#[test]
fn a_write_whose_worker_is_lost_is_never_sent_twice() {
    let fixture = Fixture::new("owner_routing = \"all\"");
    let [one, _] = tenants(&fixture);
    let insert = format!("INSERT INTO k0 (k, v) VALUES ({one}, 'a')");
    for by_protocol in [false, true] {
        let mut client = fixture.client();
        client.rows(&format!("DELETE FROM k0 WHERE k = {one}"));
        thread::scope(|scope| {
            scope.spawn(|| {
                fixture.run(
                    1,
                    "BEGIN; LOCK TABLE k0; SELECT pg_sleep(0.7); \
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO k0%'; COMMIT",
                )
            });
            thread::sleep(Duration::from_millis(200));
            let batch = if by_protocol { Batch::new().run(&insert, &[]).sync() } else { Batch::new().query(&insert) };
            client.send(&batch);
            let code = loop {
                let frame = client.recv();
                if frame.tag == b'E' {
                    break frame.sqlstate();
                }
                assert_ne!(frame.tag, b'C');
            };
            assert!(["57P01", "08007"].contains(&code.as_str()), "{code}");
        });
        assert_eq!([0, 1, 2].map(|group| fixture.run(group, "SELECT count(*) FROM k0")), ["0", "0", "0"]);
    }
}

#[test]
fn servers_that_have_citus_loaded_serve_databases_that_are_not_looked_at() {
    let cluster = clusters::start(clusters::options());
    cluster.info().wait_replayed().unwrap();
    for node in cluster.nodes() {
        node.configure(&[("citus.use_secondary_nodes", "never")]).unwrap();
        node.reload();
    }
    let ports: Vec<u16> = cluster.nodes().iter().map(|node| node.port()).collect();
    let nodes: String =
        ports.iter().map(|port| format!("{{ name = \"n{port}\", host = \"127.0.0.1\", port = {port} }},")).collect();
    let common = format!("control_user = \"{APP}\"\ncontrol_password = \"{APP_PASSWORD}\"\nnodes = [{nodes}]\n");
    let proxy = Setup::config(format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n[admin]\nadmin_users = [\"{APP}\"]\n\
         [users.{APP}]\npassword = \"{APP_PASSWORD}\"\n\
         [databases.calm]\ndbname = \"app\"\nread_only = true\n{common}[databases.\"*\"]\n{common}"
    ))
    .start();
    let mut console = RawClient::connect(proxy.port(), APP, APP_PASSWORD, "trunkline");
    let deadline = Instant::now() + PATIENCE;
    while console.value("SELECT count(*) FROM nodes WHERE role = 'replica'") != (2 * ports.len() - 1).to_string() {
        assert!(Instant::now() < deadline, "{:?}\n{}", console.rows("SHOW NODES"), proxy.log());
        thread::sleep(Duration::from_millis(50));
    }
    for database in ["calm", "app"] {
        let mut client = RawClient::connect(proxy.port(), APP, APP_PASSWORD, database);
        assert_eq!(client.value("SELECT 1"), "1", "{database}");
    }
}

#[test]
fn a_worker_with_other_defaults_answers_as_the_coordinator() {
    let fixture = Fixture::new("");
    let [one, _] = tenants(&fixture);
    let worker = fixture.nodes[1].primary();
    worker.configure(&[("timezone", "Asia/Tokyo"), ("datestyle", "SQL, DMY")]).unwrap();
    worker.reload();
    let mut client = fixture.client();
    let told = "SELECT timestamptz '2020-01-31 00:00+00', count(*) FROM k0 WHERE k = ";
    let right = client.rows(&format!("/* trunkline: primary */ {told}{one}"));
    for _ in 0..10 {
        assert_eq!(client.rows(&format!("{told}{one}")), right);
    }
}

#[test]
fn blocks_wait_in_line_for_a_workers_connection() {
    let fixture = Fixture::new("owner_routing = \"all\"\n[databases.app.pool]\nsize = 1");
    let [one, _] = tenants(&fixture);
    thread::scope(|scope| {
        for by_protocol in [false, true, false, true] {
            let (fixture, one) = (&fixture, &one);
            scope.spawn(move || {
                let mut client = fixture.client();
                client.rows("SET trunkline.shard_blocks = on");
                for _ in 0..15 {
                    for sql in ["BEGIN", &read(one), &format!("INSERT INTO k0 (k, v) VALUES ({one}, 'a')"), "COMMIT"] {
                        let batch =
                            if by_protocol { Batch::new().run(sql, &[]).sync() } else { Batch::new().query(sql) };
                        let said = first(&client.exchange(&batch));
                        assert!(["", "group 1"].contains(&said.as_str()), "{sql}: {said}");
                    }
                }
            });
        }
    });
    assert_eq!([0, 1].map(|group| fixture.run(group, "SELECT count(*) FROM k0")), ["0", "60"]);
}

#[test]
fn a_statement_prepared_before_its_table_was_undistributed_goes_to_the_coordinator() {
    let fixture = Fixture::new("owner_routing = \"all\"");
    let [one, _] = tenants(&fixture);
    let mut client = fixture.client();
    let insert = "INSERT INTO k0 (k, v) VALUES ($1, 'a')";
    client.exchange(&Batch::new().parse("s", insert, &[]).parse("r", &read("$1"), &[]).sync());
    let run = |client: &mut RawClient, name: &str| {
        first(&client.exchange(&Batch::new().bind("", name, &[Some(&one)]).execute("", 0).sync()))
    };
    assert_eq!((run(&mut client, "r"), run(&mut client, "s")), ("group 1".to_owned(), String::new()));
    assert_eq!(fixture.run(1, "DELETE FROM k0 RETURNING v").lines().next(), Some("a"));
    fixture.run_everywhere("DELETE FROM pg_dist_partition WHERE logicalrelid = 'k0'::regclass");
    fixture.until("it is followed", || run(&mut client, "r") == "group 0");
    assert_eq!(run(&mut client, "s"), "");
    assert_eq!(fixture.run(1, "SELECT count(*) FROM k0"), "0");
}

#[test]
fn what_runs_on_a_worker_can_be_cancelled_and_times_out() {
    let fixture = Fixture::new("owner_routing = \"all\"\n[databases.app.pool]\nquery_timeout = \"3s\"");
    let [one, _] = tenants(&fixture);
    let port = fixture.proxy.port();
    let insert = format!("INSERT INTO k0 (k, v) VALUES ({one}, 'a')");
    let read = read(&one);
    for sql in [&insert, &read] {
        for cancels in [true, false] {
            thread::scope(|scope| {
                scope.spawn(|| fixture.run(1, "BEGIN; LOCK TABLE k0; SELECT pg_sleep(5); COMMIT"));
                thread::sleep(Duration::from_millis(300));
                let mut client = fixture.client();
                client.send(&Batch::new().query(sql));
                thread::sleep(Duration::from_millis(300));
                if cancels {
                    client.cancel(port);
                }
                assert_eq!(first(&client.recv_ready(1)), "57014", "{sql} {cancels}");
            });
        }
    }
    assert_eq!(fixture.run(1, "SELECT count(*) FROM k0"), "0");
}

/// What a client sees of answers, node by node alike.
fn seen(frames: &[Frame]) -> Vec<String> {
    let told = |frame: &Frame| match frame.tag {
        b'S' | b'N' => None,
        b'D' => Some(format!("D {:?}", frame.columns())),
        b'E' => Some(format!("E {} {:?}", frame.sqlstate(), frame.field(b'M'))),
        b'C' => Some(format!("C {}", frame.strings()[0])),
        b'Z' => Some(format!("Z {}", char::from(frame.body[0]))),
        tag => Some(char::from(tag).to_string()),
    };
    frames.iter().filter_map(told).collect()
}

#[test]
fn conversations_are_as_with_the_coordinator() {
    let fixture = Fixture::new("owner_routing = \"all\"\nreads = \"any_node\"");
    let read = "SELECT id, payload FROM events WHERE project_id = $1 ORDER BY id";
    let insert = "INSERT INTO events (project_id, id) VALUES ($1, $2) RETURNING project_id, id";
    let five = [Some("5")];
    let new = |id: &'static str| [Some("5"), Some(id)];
    let conversations: Vec<(&str, Vec<Batch>)> = vec![
        ("rows in parts", vec![Batch::new().parse("", read, &[]).bind("", "", &five).execute("", 2).execute("", 2).execute("", 0).sync()]),
        ("a named portal", vec![Batch::new().parse("s", read, &[]).bind("p", "s", &five).execute("p", 3).sync(), Batch::new().execute("p", 0).sync()]),
        ("a portal in a block", vec![
            Batch::new().query("BEGIN"),
            Batch::new().parse("t", read, &[]).bind("p", "t", &five).execute("p", 3).sync(),
            Batch::new().execute("p", 0).close(b'P', "p").sync(),
            Batch::new().query("COMMIT"),
        ]),
        ("flushes", vec![Batch::new().parse("u", read, &[20]).describe(b'S', "u").flush().bind("", "u", &five).execute("", 1).flush().execute("", 0).sync()]),
        ("an error in a pipeline", vec![Batch::new().run(insert, &new("100")).run(insert, &new("100")).run(read, &five).sync()]),
        ("after it", vec![Batch::new().run(read, &five).sync()]),
        ("writes in one segment", vec![Batch::new().run(insert, &new("101")).run(insert, &new("102")).run(read, &five).sync()]),
        ("of two tenants", vec![Batch::new().run(insert, &new("103")).run(insert, &[Some("8"), Some("1")]).run(insert, &new("103")).sync(), Batch::new().run(read, &five).run(read, &[Some("8")]).sync()]),
        ("syncs in a row", vec![Batch::new().run(insert, &new("104")).sync().run(insert, &new("104")).sync().run(read, &five).sync().query("SELECT 1")]),
        ("NULL", vec![Batch::new().run(read, &[None]).sync().run(insert, &[None, Some("1")]).sync()]),
        ("what is no number", vec![Batch::new().run(read, &[Some("x")]).sync().run(insert, &[Some("99999999999999999999"), Some("1")]).sync()]),
        ("no parameter", vec![Batch::new().parse("", read, &[]).bind("", "", &[]).execute("", 0).sync()]),
        ("strings of two", vec![Batch::new().query("INSERT INTO events (project_id, id) VALUES (5, 200); SELECT id FROM events WHERE project_id = 5 ORDER BY id; SELECT 1/0")]),
        ("after them", vec![Batch::new().query("SELECT id FROM events WHERE project_id = 5 ORDER BY id")]),
        ("SQL PREPARE", vec![
            Batch::new().query("PREPARE q (bigint) AS SELECT id FROM events WHERE project_id = $1 ORDER BY id"),
            Batch::new().query("EXECUTE q (5)").query("EXPLAIN (COSTS off) SELECT 1"),
            Batch::new().bind("", "q", &five).execute("", 0).sync(),
            Batch::new().query("DEALLOCATE q").query("EXECUTE q (5)"),
        ]),
        ("a cursor", vec![
            Batch::new().query("BEGIN").query("DECLARE c CURSOR FOR SELECT id FROM events WHERE project_id = 5 ORDER BY id"),
            Batch::new().query("FETCH 2 FROM c").query("UPDATE events SET payload = '1' WHERE project_id = 5 AND id = 1").query("FETCH ALL FROM c").query("ROLLBACK"),
        ]),
        ("COPY out", vec![Batch::new().query("COPY (SELECT id FROM events WHERE project_id = 5 ORDER BY id) TO STDOUT")]),
        ("a failed block", vec![
            Batch::new().query("BEGIN").query("INSERT INTO events (project_id, id) VALUES (5, 1)").query("SELECT id FROM events WHERE project_id = 5").query("COMMIT"),
        ]),
        ("upserts", vec![
            Batch::new().query("UPDATE events SET payload = '{\"a\": 1}' WHERE project_id = 5 AND id < 3 RETURNING id, payload"),
            Batch::new().query("DELETE FROM events WHERE project_id = 5 AND id = 3 RETURNING id"),
            Batch::new().query("DELETE FROM events e USING plans p WHERE e.project_id = 5 AND e.id = p.id RETURNING e.id, p.name"),
            Batch::new().query("WITH w AS (DELETE FROM events WHERE project_id = 5 AND id = 4 RETURNING id) SELECT * FROM w"),
        ]),
        ("SET LOCAL", vec![Batch::new().query("BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'; SELECT timestamptz '2020-01-01 00:00+00', count(*) FROM events WHERE project_id = 5; COMMIT")]),
        ("unnamed ends", vec![Batch::new().parse("", read, &[]).sync(), Batch::new().query("SELECT 1"), Batch::new().bind("", "", &five).execute("", 0).sync()]),
        ("functions", vec![Batch::new().query("SELECT current_user, count(*), inet_server_port() > 0 FROM events WHERE project_id = 5")]),
    ];
    fixture.run_everywhere("ANALYZE plans");
    let coordinator = fixture.nodes[0].info().primary_port();
    let mut fill = RawClient::connect(coordinator, APP, APP_PASSWORD, "app");
    for blocks in ["off", "on"] {
        let mut direct = RawClient::connect(coordinator, APP, APP_PASSWORD, "app");
        let mut proxied = fixture.client();
        proxied.rows(&format!("SET trunkline.shard_blocks = {blocks}"));
        for (what, batches) in &conversations {
            let mut told = [&mut direct, &mut proxied].map(|client| {
                fill.rows("DELETE FROM events");
                fill.rows("INSERT INTO events (project_id, id) SELECT p, i FROM generate_series(1, 7) AS i, (VALUES (5), (8)) AS t (p) WHERE p = 5 OR i > 1");
                let mut told = Vec::new();
                for batch in batches {
                    client.send(batch);
                    told.extend(seen(&client.recv_ready(batch.readies())));
                }
                told
            });
            let proxied = std::mem::take(&mut told[1]);
            assert_eq!(proxied, told[0], "{what}, shard_blocks = {blocks}");
        }
    }
    let counts = fixture.console().rows("SELECT at_owner FROM citus").remove(0);
    assert!(counts[0].as_ref().unwrap().parse::<u64>().unwrap() > 10, "{counts:?}");
}

#[test]
fn workers_come_and_go_while_statements_run() {
    let fixture = Fixture::new("owner_routing = \"all\"");
    let [one, two] = tenants(&fixture);
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for (number, tenant) in [&one, &two, &one, &two].into_iter().enumerate() {
            let (fixture, stop) = (&fixture, &stop);
            scope.spawn(move || {
                let mut client = fixture.client();
                let insert = format!("INSERT INTO events (project_id, id) VALUES ({tenant}, $1)");
                let count = format!("SELECT count(*) FROM events WHERE project_id = {tenant} AND id % 4 = {number}");
                let mut written = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let id = (4 * written + number).to_string();
                    assert_eq!(first(&client.exchange(&Batch::new().run(&insert, &[Some(&id)]).sync())), "");
                    written += 1;
                    assert_eq!(client.value(&count), written.to_string());
                }
            });
        }
        for round in 0..12 {
            let group = 1 + round % 2;
            fixture.run(0, &format!("UPDATE pg_dist_node SET isactive = NOT isactive WHERE groupid = {group}"));
            thread::sleep(Duration::from_millis(400));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(!fixture.proxy.log().contains("panicked"));
}

#[test]
fn reads_of_several_shards_go_on_without_the_coordinator() {
    let fixture = Fixture::new("reads = \"any_node\"");
    let ready = fixture.proxy.http("/readyz").1;
    assert!(ready.contains("\"replicas\":0"), "workers are no replicas: {ready}");
    let mut client = fixture.client();
    let sql = "SELECT w.node, (SELECT count(*) FROM k0) FROM whoami AS w";
    client.value(sql);
    fixture.nodes[0].primary().stop(StopMode::Immediate).unwrap();
    fixture.until("it is known to be down", || {
        fixture.console().value("SELECT state FROM nodes WHERE name = 'coordinator'") != "up"
    });
    let began = Instant::now();
    for _ in 0..20 {
        assert_ne!(client.value(sql), "group 0");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
