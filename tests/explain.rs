//! Why a statement goes where it goes: EXPLAIN (ROUTE), trunkline.explain, SHOW ROUTES; and where it would go: SHOW WHATIF.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::clusters;
use support::frames::{Batch, Frame, summary, tags};
use support::raw::RawClient;
use support::world::{Plan, World};

const SQL: &str = "CREATE TABLE t (id int PRIMARY KEY, v int);
    INSERT INTO t SELECT n, 0 FROM generate_series(1, 10) AS n;
    CREATE FUNCTION bump() RETURNS int LANGUAGE plpgsql VOLATILE AS
        'BEGIN UPDATE t SET v = v + 1 WHERE id = 1; RETURN 1; END';";

fn plan() -> Plan<'static> {
    Plan { sql: SQL, tables: "[admin]\nadmin_users = [\"app\"]\n", ..Plan::default() }
}

/// Started, with the roles of all nodes found.
fn started(plan: Plan<'_>, nodes: f64) -> World {
    ready(plan.start(), nodes)
}

fn ready(world: World, nodes: f64) -> World {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while world.counter("trunkline_node_up", &[]) < nodes {
        assert!(std::time::Instant::now() < deadline, "not all nodes are up");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    world.client().rows("/* trunkline: primary */ SELECT 1");
    world.settle();
    if nodes > 1.0 {
        // Until it is known how far replicas have come, they get no reads.
        let known = |state: &String| !state.ends_with("|");
        let states = || table(&world, "SELECT role, staleness_ms FROM nodes WHERE role = 'replica'", &[0, 1]);
        until("freshness is known", || states().iter().filter(|state| known(state)).count() as f64 == nodes - 1.0);
    }
    world
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(15);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn batch() -> Batch {
    Batch::new()
}

/// The lines of an EXPLAIN (ROUTE).
fn explained(client: &mut RawClient, sql: &str) -> Vec<String> {
    let rows = client.rows(&format!("EXPLAIN (ROUTE) {sql}"));
    rows.into_iter().map(|row| row[0].clone().unwrap()).collect()
}

fn text(frame: &Frame) -> String {
    frame.field(b'M').unwrap()
}

/// A row of a console's table as `a|b|c`, of the columns of these numbers.
fn table(world: &World, sql: &str, columns: &[usize]) -> Vec<String> {
    let row = |row: Vec<Option<String>>| {
        columns.iter().map(|at| row[*at].clone().unwrap_or_default()).collect::<Vec<_>>().join("|")
    };
    world.console().rows(sql).into_iter().map(row).collect()
}

#[test]
fn explain_route_names_the_cause() {
    let world = started(plan(), 3.0);
    let mut client = world.client();
    let lines = explained(&mut client, "SELECT * FROM t");
    assert!(lines[0].starts_with("replica: it only reads"), "{lines:?}");
    assert!(lines[1].contains("node replica1: takes reads"), "{lines:?}");
    let lines = explained(&mut client, "SELECT public.bump()");
    assert!(lines[0].starts_with("primary: ") && lines[0].contains("public.bump"), "{lines:?}");
    assert_eq!(lines[1], "  node primary");
    let lines = explained(&mut client, "UPDATE t SET v = 2");
    assert!(lines[0].starts_with("primary: it changes data") && lines.len() == 3, "{lines:?}");
    // What stands behind it would run: a server is to say that it does not know this.
    assert_eq!(client.failure("EXPLAIN (ROUTE) SELECT 1; UPDATE t SET v = 2"), "42601");
    // Nothing ran.
    assert_eq!(client.value("/* trunkline: primary */ SELECT sum(v) FROM t"), "0");
    // What the session has chosen, and its state.
    client.rows("SET trunkline.route = 'primary'");
    let lines = explained(&mut client, "SELECT * FROM t");
    assert!(lines[0].contains("trunkline.route = primary"), "{lines:?}");
    client.rows("RESET trunkline.route");
    client.rows("SET default_transaction_isolation = 'serializable'");
    let lines = explained(&mut client, "SELECT * FROM t");
    assert!(lines[0].starts_with("primary: default_transaction_isolation is serializable"), "{lines:?}");
    client.rows("RESET default_transaction_isolation");
    client.rows("BEGIN");
    let lines = explained(&mut client, "SELECT * FROM t");
    assert!(lines[0].starts_with("primary: a transaction block is open"), "{lines:?}");
    client.rows("UPDATE t SET v = 0");
    let lines = explained(&mut client, "SELECT * FROM t");
    assert!(lines[0].starts_with("primary: a transaction block is open"), "{lines:?}");
    assert_eq!(client.failure("SELEC"), "42601");
    assert_eq!(client.failure("EXPLAIN (ROUTE) SELECT 1"), "25P02", "a block that has failed says so");
    client.rows("ROLLBACK");
    client.rows("CREATE TEMP TABLE mine (id int)");
    world.settle();
    let lines = explained(&mut client, "SELECT * FROM t");
    assert!(lines[0].contains("pinned by temp_object"), "{lines:?}");
    // The protocol around it.
    let frames = client.exchange(&batch().query("EXPLAIN (ROUTE) SELECT 1"));
    assert!(tags(&frames).starts_with("TD") && tags(&frames).ends_with("CZ"), "{}", tags(&frames));
    assert!(summary(&frames).contains("CommandComplete(EXPLAIN)"));
}

#[test]
fn explain_route_in_the_extended_protocol() {
    let world = started(plan(), 3.0);
    let mut client = world.client();
    client.rows("/* trunkline: primary */ SELECT 1");
    let prepare = batch().parse("e", "EXPLAIN (ROUTE) DELETE FROM t", &[]).describe(b'S', "e").sync();
    assert_eq!(
        summary(&client.exchange(&prepare)),
        "ParseComplete ParameterDescription RowDescription ReadyForQuery(I)"
    );
    let run = batch().bind("", "e", &[]).execute("", 0).sync();
    let frames = client.exchange(&run);
    assert_eq!(tags(&frames), "2DDDCZ", "{frames:?}");
    assert!(frames[1].columns()[0].as_ref().unwrap().starts_with("primary: it changes data"), "{frames:?}");
    let frames = client.exchange(&batch().run("EXPLAIN (ROUTE) SELECT v FROM t", &[]).sync());
    assert_eq!(tags(&frames), "12TDDDDDCZ");
    assert!(frames[3].columns()[0].as_ref().unwrap().starts_with("replica: it only reads"), "{frames:?}");
    // Before a block has begun on a server, too.
    client.rows("BEGIN");
    let frames = client.exchange(&run);
    assert_eq!(tags(&frames), "2DDDCZ", "{frames:?}");
    client.rows("ROLLBACK");
    assert_eq!(client.value("/* trunkline: primary */ SELECT count(*) FROM t"), "10", "nothing was deleted");
}

#[test]
fn explain_route_knows_the_configuration_and_the_nodes() {
    let world = started(Plan { routing: "split_reads = false", ..plan() }, 3.0);
    assert!(explained(&mut world.client(), "SELECT * FROM t")[0].starts_with("primary: split_reads is off"));
    let world = started(Plan { primary_only: true, ..plan() }, 1.0);
    assert!(explained(&mut world.client(), "SELECT * FROM t")[0].starts_with("primary: no replica takes reads"));
    let world = started(Plan { pool: "mode = \"session\"", ..plan() }, 3.0);
    assert!(explained(&mut world.client(), "SELECT * FROM t")[0].starts_with("primary: pool_mode is session"));
    let routing = "catalog_interval = \"200ms\"\nread_only_functions = [\"bump\"]";
    let world = started(Plan { routing, ..plan() }, 3.0);
    let mut client = world.client();
    let learned = "primary: a standby refused this statement before, so it is kept on the primary (cause read_only, ";
    until("learned", || {
        client.rows("SELECT bump()");
        explained(&mut world.client(), "SELECT bump()")[0].starts_with(learned)
    });
    let told = table(&world, "SHOW ROUTE 'SELECT bump()'", &[1, 2, 3]);
    assert!(told[0].starts_with("primary|learned|") && told[0].contains("cause read_only, once"), "{told:?}");
    // Another schema, made past Trunkline: nothing of that is sure any more.
    world.direct().rows("CREATE TABLE more (id int)");
    until("forgotten", || table(&world, "SHOW LEARNED", &[0]).is_empty());
    // As soon as a replica is known to have all that was written before: the tables may be numbered anew.
    until("read anew", || explained(&mut world.client(), "SELECT bump()")[0].starts_with("replica: it only reads"));
}

#[test]
fn a_session_may_ask_for_a_notice_with_each_statement() {
    let world = started(plan(), 3.0);
    let mut client = world.client();
    client.rows("SET trunkline.explain = on");
    assert_eq!(client.value("SHOW trunkline.explain"), "on");
    let frames = client.exchange(&batch().query("SELECT count(*) FROM t"));
    assert_eq!(tags(&frames), "NTDCZ");
    assert!(text(&frames[0]).starts_with("trunkline: replica replica"), "{frames:?}");
    let frames = client.exchange(&batch().query("UPDATE t SET v = 1"));
    assert_eq!(tags(&frames), "NCZ");
    assert_eq!(text(&frames[0]), "trunkline: primary primary: it changes data");
    // Each with the answer of its own statement.
    let one = |batch: Batch, sql: &str| batch.parse("", sql, &[]).bind("", "", &[]).execute("", 0);
    let frames = client.exchange(&one(one(batch(), "SELECT 1"), "UPDATE t SET v = 2").sync());
    assert_eq!(tags(&frames), "12NDC12NCZ");
    client.send(&one(one(batch(), "UPDATE t SET v = 3").sync(), "SELECT nothing").sync());
    assert_eq!(tags(&client.recv_ready(2)), "12NCZEZ");
    // COPY data is not cut.
    client.rows("BEGIN");
    client.send(&batch().query("COPY t FROM STDIN").copy_data(b"100\t1\n").copy_done());
    assert_eq!(tags(&client.recv_ready(1)), "NGCZ");
    client.rows("ROLLBACK");
    client.rows("SET trunkline.explain = off");
    assert_eq!(tags(&client.exchange(&batch().query("SELECT 1"))), "TDCZ");
    assert_eq!(client.failure("SET trunkline.explain = maybe"), "22023");
}

#[test]
fn show_routes_tells_where_statements_go() {
    let world = started(plan(), 3.0);
    let mut client = world.client();
    // Connections are there, and their opening counts for nothing.
    client.rows("SELECT 1");
    client.rows("/* trunkline: primary */ SELECT 1");
    world.console().rows("FORGET ROUTES");
    for id in 1..4 {
        client.rows(&format!("SELECT v FROM t WHERE id = {id}"));
    }
    client.exchange(&batch().run("SELECT v FROM t WHERE id = $1", &[Some("1")]).sync());
    client.rows("SELECT bump(), pg_sleep(1)");
    client.rows("BEGIN");
    client.rows("SELECT v FROM t WHERE id = 7");
    client.rows("COMMIT");
    let rows = table(&world, "SHOW ROUTES", &[2, 3, 4, 5]);
    assert_eq!(rows[0], "select bump(), pg_sleep(?)|primary|volatile_function|1", "what takes the most time is first");
    assert!(rows.contains(&"select v from t where id = ?|replica|read|3".to_owned()), "{rows:?}");
    assert!(rows.contains(&"select v from t where id = $1|replica|read|1".to_owned()), "{rows:?}");
    assert!(rows.contains(&"select v from t where id = ?|primary|in_block|1".to_owned()), "{rows:?}");
    let selected = table(&world, "SELECT reason, count FROM routes WHERE target = 'replica' AND count = 3", &[0, 1]);
    assert_eq!(selected, ["read|3"]);
    world.console().rows("FORGET ROUTES");
    assert_eq!(table(&world, "SHOW ROUTES", &[2]), [""; 0]);
}

#[test]
fn what_if_runs_all_on_the_primary_and_tells_where_it_would_run() {
    let world =
        started(Plan { tables: "[admin]\nadmin_users = [\"app\"]\n[routing]\nwhat_if = true\n", ..plan() }, 3.0);
    world.console().rows("FORGET ROUTES");
    let mut client = world.client();
    for _ in 0..6 {
        assert_eq!(client.value("SELECT pg_is_in_recovery() FROM t WHERE id = 1 /* trunkline: replica */"), "f");
    }
    client.rows("SELECT v FROM t");
    client.rows("BEGIN READ ONLY");
    client.rows("SELECT v FROM t");
    client.rows("COMMIT");
    assert!(explained(&mut client, "SELECT v FROM t")[0].starts_with("primary: what_if is on"));
    client.rows("UPDATE t SET v = 5");
    // Behind its own write it would not find a replica fresh enough at once.
    client.rows("SELECT v FROM t");
    let rows = table(&world, "SHOW WHATIF", &[1, 2, 3]);
    assert_eq!(rows[..3], ["anywhere|all statements|11", "replica||8", "primary|stale|1"], "{rows:?}");
    assert!(rows.contains(&"primary|write|1".to_owned()), "{rows:?}");
    let share = table(&world, "SHOW WHATIF", &[4]);
    assert_eq!(share[1], "72.7 %");
    assert_eq!(world.counter("trunkline_what_if_statements_total", &["would=\"replica\""]), 8.0);
    assert!(world.counter("trunkline_what_if_seconds_total", &["would=\"replica\""]) > 0.0);
    // Off again: nothing more is counted.
    world.console().rows("SET what_if = false");
    // It may have been under way with the old settings.
    client.rows("SELECT 1");
    let counted = table(&world, "SHOW WHATIF", &[3]);
    client.rows("SELECT 1");
    client.rows("UPDATE t SET v = 6");
    assert_eq!(table(&world, "SHOW WHATIF", &[3]), counted);
}

#[test]
fn explain_route_names_what_the_catalog_knows() {
    let sql = format!(
        "{SQL}
        CREATE FUNCTION bump(int) RETURNS int LANGUAGE sql AS 'UPDATE t SET v = v + $1 WHERE id = 1 RETURNING v';
        CREATE FUNCTION looks(int) RETURNS int STABLE LANGUAGE sql AS 'SELECT v FROM t WHERE id = $1';
        CREATE VIEW bumping AS SELECT public.bump(id) FROM t;
        CREATE UNLOGGED TABLE volatile_notes (id int);"
    );
    let world = started(Plan { sql: &sql, ..plan() }, 3.0);
    let mut client = world.client();
    for (statement, start, cause) in [
        ("SELECT bump(1)", "primary: it calls a function", "(function public.bump(integer) is VOLATILE)"),
        (
            "SELECT * FROM bumping",
            "primary: it calls a function",
            "(view public.bumping: function public.bump(integer) is VOLATILE)",
        ),
        ("SELECT id FROM volatile_notes", "primary: it reads a relation", "(unlogged table public.volatile_notes)"),
        ("SELECT looks(1)", "replica: it only reads", ""),
    ] {
        let lines = explained(&mut client, statement);
        assert!(lines[0].starts_with(start) && lines[0].contains(cause), "{statement}: {lines:?}");
        let told = table(&world, &format!("SHOW ROUTE $q${statement}$q$"), &[1, 3]);
        assert!(told[0].starts_with(&start[..start.find(':').unwrap()]) && told[0].contains(cause), "{told:?}");
    }
    client.rows("SET trunkline.explain = on");
    let frames = client.exchange(&batch().query("SELECT * FROM bumping WHERE false"));
    assert!(
        text(&frames[0]).ends_with("(view public.bumping: function public.bump(integer) is VOLATILE)"),
        "{frames:?}"
    );
}

#[test]
fn explaining_tells_what_no_replica_has_yet() {
    let cluster = clusters::start(trunkline::app::demo::ClusterOptions { replicas: 1, ..clusters::options() });
    let info = cluster.info();
    let sql = format!("{SQL} CREATE TABLE other (id int);");
    let world = ready(Plan { sql: &sql, ..plan() }.start_on(info), 2.0);
    let (mut client, mut reader) = (world.client(), world.client());
    let in_recovery = |client: &mut RawClient, table: &str| {
        let sql =
            format!("/* trunkline: replica */ SELECT pg_is_in_recovery() FROM (SELECT count(*) FROM {table}) AS c");
        client.value(&sql) == "t"
    };
    let lines = explained(&mut client, "SELECT * FROM t");
    assert!(lines[0].starts_with("replica: ") && lines[1].contains("replica1: takes reads, at most "), "{lines:?}");
    info.query(1, "postgres", "SELECT pg_wal_replay_pause()").unwrap();
    until("replay pauses", || info.query(1, "postgres", "SELECT pg_get_wal_replay_pause_state()").unwrap() == "paused");
    client.rows("UPDATE t SET v = 1");
    // The session has not read what it wrote, and explaining that reads nothing, either.
    for _ in 0..2 {
        let lines = explained(&mut client, "SELECT * FROM t");
        let cause = "primary: no replica has the last write to what it reads yet (consistency table; freshest replica1: at most ";
        assert!(lines[0].starts_with(cause), "{lines:?}");
        assert!(lines[1].contains("replica1: lacks what it must see, at most "), "{lines:?}");
        assert!(lines[2].starts_with("  consistency table: it must see what was committed up to "), "{lines:?}");
    }
    assert!(in_recovery(&mut client, "other"), "it is where it was");
    // The levels.
    for (level, start) in [
        ("session", "primary: no replica has the session's last write yet (consistency session; "),
        ("eventual", "replica: it only reads"),
    ] {
        client.rows(&format!("SET trunkline.consistency = '{level}'"));
        let lines = explained(&mut client, "SELECT * FROM t");
        assert!(lines[0].starts_with(start), "{level}: {lines:?}");
    }
    client.rows("SET trunkline.consistency = 'strong'");
    let lines = explained(&mut client, "SELECT * FROM t");
    assert!(lines[0].contains("for one that has all that was committed before"), "{lines:?}");
    client.rows("RESET trunkline.consistency");
    reader.rows("SET trunkline.consistency = 'session'");
    assert!(explained(&mut reader, "SELECT * FROM t")[0].starts_with("replica: "), "it is another one's write");
    // The notice tells of the same.
    client.rows("SET trunkline.explain = on");
    let frames = client.exchange(&batch().query("SELECT v FROM t WHERE id = 1"));
    assert!(
        text(&frames[0]).starts_with("trunkline: primary primary: no replica has the last write to "),
        "{frames:?}"
    );
    let frames = client.exchange(&batch().query("SELECT id FROM t"));
    assert!(text(&frames[0]).contains("primary: no replica has the last write"), "{frames:?}");
    // What it has read since counts for all its reads.
    assert!(!in_recovery(&mut client, "other"));
    reader.rows("SET trunkline.explain = on");
    let frames = reader.exchange(&batch().query("SELECT v FROM t"));
    let told = text(&frames[0]);
    assert!(
        told.starts_with("trunkline: replica replica1: ") && told.ends_with(" behind, consistency session)"),
        "{told}"
    );
    // So does the mode that only tells.
    world.console().rows("SET what_if = true");
    world.console().rows("FORGET ROUTES");
    let mut third = world.client();
    assert!(
        explained(&mut third, "SELECT id FROM other")[0].starts_with("primary: what_if is on; without it a replica")
    );
    // Whether the replica has it is known a moment later, where nothing asks for a while.
    until("what the mode tells", || {
        world.console().rows("FORGET ROUTES");
        third.rows("SELECT v FROM t");
        third.rows("SELECT id FROM other");
        third.rows("SELECT id FROM other");
        table(&world, "SHOW WHATIF", &[1, 2, 3]) == ["anywhere|all statements|3", "replica||2", "primary|stale|1"]
    });
    assert!(explained(&mut third, "SELECT id FROM t")[0].starts_with("primary: no replica has the last write"));
    world.console().rows("SET what_if = false");
    info.query(1, "postgres", "SELECT pg_wal_replay_resume()").unwrap();
    until("it has all", || explained(&mut client, "SELECT * FROM t")[0].starts_with("replica: "));
}
