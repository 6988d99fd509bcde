//! Causes that are in the statement.

use super::*;

/// On any replica, as a warm-up: prepared names and settings are there, too.
fn on_replica(client: &mut RawClient) {
    assert_eq!(client.value("/* trunkline: replica */ SELECT pg_is_in_recovery()"), "t");
}

#[test]
fn a_function_that_writes_after_all_runs_on_the_primary_and_is_remembered() {
    let world = world();
    let mut client = world.client();
    on_replica(&mut client);
    assert_eq!(client.value("SELECT writes(41)"), "42");
    assert_eq!(reruns(&world, "read_only"), 1.0);
    assert_eq!(learned(&world), [("read_only".to_owned(), "select writes(?)".to_owned())]);
    // With other literals, by other sessions: no detour any more.
    assert_eq!(world.client().value("SELECT writes(1)"), "2");
    assert_eq!(reruns(&world, "read_only"), 1.0);
    assert_eq!(client.value("/* trunkline: primary */ SELECT v FROM t WHERE id = 1"), "2", "each ran once");
    // The client sees the same as on one server.
    assert_eq!(
        summary(&client.exchange(&batch().query("SELECT writes(0)"))),
        summary(&world.direct().exchange(&batch().query("SELECT writes(0)"))),
    );
}

#[test]
fn what_was_learned_is_forgotten_on_demand_and_when_the_schema_changes() {
    let world = world();
    let mut client = world.client();
    assert_eq!(client.value("SELECT writes(1)"), "2");
    assert_eq!(learned(&world).len(), 1);
    world.console().rows(&format!("FORGET LEARNED {}", world.db.name));
    assert_eq!(learned(&world), []);
    assert_eq!(world.console().failure("FORGET LEARNED nowhere"), "3D000");
    assert_eq!(world.console().failure("FORGET ME"), "42601");
    world.settle();
    assert_eq!(client.value("SELECT writes(1)"), "2");
    assert_eq!(learned(&world).len(), 1);
    client.rows("CREATE TABLE another (id int)");
    assert_eq!(learned(&world), []);
    world.settle();
    assert_eq!(world.client().value("SELECT writes(1)"), "2");
    assert_eq!(reruns(&world, "read_only"), 3.0);
    // A temporary table is nobody else's business.
    client.rows("CREATE TEMP TABLE mine (id int)");
    assert_eq!(learned(&world).len(), 1);
}

#[test]
fn an_unlogged_table_trap_16() {
    let world = world();
    let mut client = world.client();
    assert_eq!(client.value("SELECT peeks()"), "7");
    assert_eq!(reruns(&world, "recovery"), 1.0);
    assert_eq!(learned(&world), [("recovery".to_owned(), "select peeks()".to_owned())]);
    // An error that the primary gives, too, teaches nothing, and is told once.
    let frames = client.exchange(&batch().query("SELECT id, count(*) FROM t"));
    assert_eq!(tags(&frames), "EZ");
    assert_eq!(frames[0].sqlstate(), "42803");
    assert_eq!(learned(&world).len(), 1);
}

#[test]
fn segments_of_the_extended_protocol() {
    let world = world();
    let whole = |name: &str, n: &str| {
        batch().parse(name, "SELECT writes($1::int)", &[]).bind("", name, &[Some(n)]).describe(b'P', "").execute("", 0)
    };
    for (number, name) in ["", "s"].into_iter().enumerate() {
        // What was learned before has put the catalog in doubt.
        world.settle();
        let mut client = world.client();
        on_replica(&mut client);
        let expected = summary(&world.direct().exchange(&whole(name, "1").sync()));
        assert_eq!(summary(&client.exchange(&whole(name, "1").sync())), expected, "{name:?}");
        assert_eq!(reruns(&world, "read_only"), number as f64 + 1.0);
        assert_eq!(learned(&world), [("read_only".to_owned(), "select writes($1::int)".to_owned())]);
        // The statement that was prepared is there, and goes to the primary now.
        let again = batch().bind("", name, &[Some("2")]).execute("", 0).sync();
        assert_eq!(
            summary(&client.exchange(&again)),
            "BindComplete DataRow(3) CommandComplete(SELECT 1) ReadyForQuery(I)"
        );
        assert_eq!(reruns(&world, "read_only"), number as f64 + 1.0);
        world.console().rows("FORGET LEARNED");
    }
    // Several statements in one segment: only the culprit is remembered.
    let mut client = world.client();
    on_replica(&mut client);
    let segment = |batch: Batch| {
        let batch = batch.parse("a", "SELECT 1", &[]).parse("b", "SELECT writes(5)", &[]);
        batch.bind("p", "a", &[]).bind("q", "b", &[]).execute("p", 0).execute("q", 0).sync()
    };
    let expected = summary(&world.direct().exchange(&segment(batch())));
    assert_eq!(summary(&client.exchange(&segment(batch()))), expected);
    assert_eq!(learned(&world), [("read_only".to_owned(), "select writes(?)".to_owned())]);
    // A name that is taken stays taken.
    let frames = client.exchange(&batch().parse("a", "SELECT 2", &[]).sync());
    assert_eq!(frames[0].sqlstate(), "42P05");
    let frames = client.exchange(&batch().bind("", "a", &[]).execute("", 0).sync());
    assert_eq!(summary(&frames), "BindComplete DataRow(1) CommandComplete(SELECT 1) ReadyForQuery(I)");
}

#[test]
fn described_first_and_executed_later_as_asyncpg_and_libpq_do_trap_38() {
    let world = world();
    for (number, end) in [b'H', b'S'].into_iter().enumerate() {
        let mut client = world.client();
        on_replica(&mut client);
        let prepare = batch().parse("st", "SELECT writes($1)", &[]).describe(b'S', "st").raw(end, &[]);
        client.send(&prepare);
        assert_eq!(
            tags(&client.recv_frames(if end == b'H' { 3 } else { 4 })),
            if end == b'H' { "1tT" } else { "1tTZ" }
        );
        let run = batch().bind("", "st", &[Some("4")]).execute("", 0).sync();
        assert_eq!(
            summary(&client.exchange(&run)),
            "BindComplete DataRow(5) CommandComplete(SELECT 1) ReadyForQuery(I)"
        );
        assert_eq!(reruns(&world, "read_only"), number as f64 + 1.0);
        world.console().rows("FORGET LEARNED");
    }
}

#[test]
fn a_notice_waits_for_what_comes_after_it_trap_60() {
    let world = world();
    let mut client = world.client();
    on_replica(&mut client);
    let expected = summary(&world.direct().exchange(&batch().query("SELECT notes()")));
    assert_eq!(summary(&client.exchange(&batch().query("SELECT notes()"))), expected, "one notice, not two");
    assert_eq!(reruns(&world, "read_only"), 1.0);
}

#[test]
fn a_result_that_has_begun_is_not_begun_again() {
    let world = world();
    let mut client = world.client();
    let sql = "SELECT repeat('x', 500), late(id) FROM t ORDER BY id";
    let frames = client.exchange(&batch().query(sql));
    let rows = frames.iter().filter(|frame| frame.tag == b'D').count();
    let error = frames.iter().find(|frame| frame.tag == b'E').expect("it had begun");
    assert!(rows > 0 && error.sqlstate() == "25006", "{rows} rows, {error:?}");
    assert_eq!(told(&world, "read_only", "begun"), 1.0);
    // It was a lesson all the same.
    assert_eq!(learned(&world).len(), 1);
    assert_eq!(client.rows(sql).len(), 1000);
}

#[test]
fn pipelines_are_not_repeated_but_teach() {
    let world = world();
    let mut client = world.client();
    let one = |batch: Batch, sql: &str| batch.parse("", sql, &[]).bind("", "", &[]).execute("", 0).sync();
    let pipeline = || one(one(one(batch(), "SELECT 1"), "SELECT writes(2)"), "SELECT 3");
    client.send(&pipeline());
    let frames = client.recv_ready(3);
    assert_eq!(tags(&frames), "12DCZ12EZ12DCZ");
    assert_eq!(told(&world, "read_only", "pipelined"), 1.0);
    assert_eq!(learned(&world), [("read_only".to_owned(), "select writes(?)".to_owned())]);
    client.send(&pipeline());
    assert_eq!(tags(&client.recv_ready(3)), "12DCZ12DCZ12DCZ");
}

#[test]
fn who_asks_for_a_replica_gets_what_it_says() {
    let world = world();
    let mut client = world.client();
    assert_eq!(client.failure("/* trunkline: replica */ SELECT bump()"), "25006");
    client.rows("SET trunkline.route = 'replica'");
    assert_eq!(client.failure("SELECT writes(1)"), "25006");
    assert_eq!(told(&world, "read_only", "wants_replica"), 2.0);
    client.rows("SET trunkline.route = 'auto'");
    // In a READ ONLY block nothing runs twice, and one server would say the same.
    client.rows("BEGIN READ ONLY");
    assert_eq!(client.failure("SELECT writes(1)"), "25006");
    client.rows("ROLLBACK");
    assert_eq!(told(&world, "read_only", "in_block"), 1.0);
    assert_eq!(learned(&world), []);
}

#[test]
fn a_read_beside_its_block_begins_it_on_the_primary() {
    let world = world();
    let mut client = world.client();
    client.rows("SET trunkline.transaction_reads = 'until_write'");
    // The level of blocks is asked for when the first begins.
    client.rows("BEGIN");
    client.rows("UPDATE t SET v = 0 WHERE id = 1");
    client.rows("COMMIT");
    let mut direct = world.direct();
    for step in ["BEGIN", "SELECT count(*) FROM t", "SELECT peeks()", "SELECT v FROM t WHERE id = 1", "COMMIT"] {
        let expected = summary(&direct.exchange(&batch().query(step)));
        assert_eq!(summary(&client.exchange(&batch().query(step))), expected, "{step}");
    }
}

#[test]
fn long_statements_are_not_kept() {
    let world = world();
    let mut client = world.client();
    let sql = format!("SELECT writes(1), '{}'", "x".repeat(20_000));
    assert_eq!(client.failure(&sql), "25006");
    assert_eq!(told(&world, "read_only", "too_long"), 1.0);
}

#[test]
fn the_slow_log_says_what_ran_twice() {
    let world = Plan { database: "slow_query = \"1us\"", ..plan() }.start();
    let mut client = world.client();
    assert_eq!(client.value("SELECT writes(1)"), "2");
    let line = |log: &str| {
        log.lines().find(|line| line.contains("slow_statement") && line.contains("writes")).map(str::to_owned)
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let line = loop {
        if let Some(line) = line(&world.proxy.log()) {
            break line;
        }
        assert!(std::time::Instant::now() < deadline, "nothing was logged");
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert!(line.contains("read_only") && line.contains("select writes(?)"), "{line}");
}

#[test]
fn a_client_s_own_error_is_the_primary_s() {
    let world = world();
    let mut client = world.client();
    on_replica(&mut client);
    let script = [
        batch().query("SELECT * FROM nowhere"),
        batch().query("SELECT nothing FROM t"),
        batch().query("SELECT 1/0"),
        batch().query("SELEC"),
        batch().parse("", "SELECT * FROM nowhere", &[]).bind("", "", &[]).execute("", 0).sync(),
        batch().parse("", "SELECT 1 / $1::int", &[]).bind("", "", &[Some("0")]).execute("", 0).sync(),
        batch().query("SELECT 1; SELECT nope; SELECT 2"),
    ];
    let mut direct = world.direct();
    for step in script {
        let expected: Vec<Frame> = direct.exchange(&step);
        assert_eq!(summary(&client.exchange(&step)), summary(&expected));
    }
    assert_eq!(learned(&world), []);
}
