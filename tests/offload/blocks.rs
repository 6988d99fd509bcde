//! `transaction_reads = "until_write"`.

use std::time::Duration;

use super::support::frames::{summary, tags};
use super::support::raw::RawClient;
use super::support::world::Plan;
use super::{SQL, batch, on_replicas, until_write, world, world_with};

/// Whether the block that is open is read on replicas still: a hint chooses among the nodes that are possible.
const PROBE: &str = "/* trunkline: replica */ SELECT pg_is_in_recovery()";

fn say(client: &mut RawClient, sql: &str) -> String {
    tags(&client.exchange(&batch().query(sql)))
}

#[test]
fn reads_run_on_replicas_until_something_else_comes() {
    let world = until_write();
    let mut client = world.client();
    for read in [
        "SELECT count(*) FROM t",
        "SELECT 1; SELECT 2",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "COPY t TO STDOUT",
        "EXPLAIN SELECT 1",
        "SAVEPOINT a",
    ] {
        say(&mut client, "BEGIN");
        say(&mut client, read);
        let before = on_replicas(&world);
        say(&mut client, read);
        assert_eq!(on_replicas(&world) - before, u64::from(read != "SAVEPOINT a"), "{read}");
        assert_eq!(client.value(PROBE), "t", "{read}");
        say(&mut client, "COMMIT");
    }
    for other in [
        "SELECT now()",
        "SELECT current_date",
        "SELECT 'today'::date",
        "SELECT txid_current()",
        "SELECT nextval('none')",
        "SELECT id FROM t FOR SHARE",
        "SHOW work_mem",
        "SET LOCAL work_mem = '5MB'",
        "UPDATE t SET v = v",
        "DECLARE c CURSOR FOR SELECT 1",
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "/* trunkline: primary */ SELECT 1",
    ] {
        say(&mut client, "BEGIN");
        assert_eq!(client.value(PROBE), "t", "{other}");
        let failed = say(&mut client, other).contains('E');
        if !failed {
            assert_eq!(client.value(PROBE), "f", "{other}");
        }
        say(&mut client, "ROLLBACK");
    }
    for begin in [
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        "BEGIN ISOLATION LEVEL SERIALIZABLE",
        "/* trunkline: primary */ BEGIN",
    ] {
        let mut client = world.client();
        say(&mut client, begin);
        assert_eq!(client.value(PROBE), "f", "{begin}");
    }
    for (setting, place) in [("read_only", "f"), ("off", "f"), ("until_write", "t")] {
        let mut client = world.client();
        say(&mut client, &format!("SET trunkline.transaction_reads = {setting}"));
        say(&mut client, "BEGIN");
        assert_eq!(client.value(PROBE), place, "{setting}");
        assert_eq!(client.value("SHOW trunkline.transaction_reads"), setting);
        say(&mut client, "COMMIT");
        say(&mut client, "BEGIN READ ONLY");
        assert_eq!(client.value("SELECT pg_is_in_recovery()"), if setting == "off" { "f" } else { "t" }, "{setting}");
    }
}

#[test]
fn after_a_write_a_block_reads_what_was_written_trap_21() {
    let world = until_write();
    let mut client = world.client();
    say(&mut client, "SET trunkline.consistency = 'session'");
    say(&mut client, "BEGIN");
    say(&mut client, "INSERT INTO w VALUES (1)");
    assert_eq!(client.value("SELECT count(*) FROM w"), "1");
    say(&mut client, "COMMIT");
    say(&mut client, "BEGIN");
    assert_eq!(client.value("SELECT count(*) FROM w"), "1");
    say(&mut client, "COMMIT");
}

#[test]
fn the_level_at_which_blocks_run_is_known_or_asked_for_trap_25() {
    let plan = Plan { sql: SQL, pool: "size = 4", routing: "transaction_reads = \"until_write\"", ..Plan::default() };
    let world = plan.start();
    let mut client = world.client();
    say(&mut client, "BEGIN");
    assert_eq!(client.value(PROBE), "f", "nobody knows yet");
    say(&mut client, "COMMIT");
    say(&mut client, "BEGIN");
    assert_eq!(client.value(PROBE), "t");
    say(&mut client, "COMMIT");
    for level in ["repeatable read", "serializable"] {
        let mut client = world
            .client_with(&[("options", &format!("-c default_transaction_isolation={}", level.replace(' ', "\\ ")))]);
        say(&mut client, "BEGIN");
        assert_eq!(client.value(PROBE), "f", "{level}");
        let mut client = world.client();
        say(&mut client, &format!("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {level}"));
        say(&mut client, "BEGIN");
        assert_eq!(client.value(PROBE), "f", "{level}");
    }
    // The server's own default, which no client sees.
    let world = plan.start();
    world.db.run(&format!("ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'", world.db.name));
    let mut client = world.client();
    for block in 0..3 {
        say(&mut client, "BEGIN");
        assert_eq!(client.value(PROBE), "f", "block {block}");
        say(&mut client, "COMMIT");
    }
    say(&mut client, "BEGIN ISOLATION LEVEL READ COMMITTED");
    assert_eq!(client.value(PROBE), "t");
}

#[test]
fn a_block_that_has_only_read_holds_no_connection() {
    let routing = "transaction_reads = \"until_write\"";
    let world = world_with(Plan { pool: "size = 1\nwait_timeout = \"500ms\"", routing, ..Plan::default() });
    let mut clients: Vec<_> = (0..6).map(|_| world.client()).collect();
    for sql in ["BEGIN", "SELECT 1", "COMMIT"] {
        say(&mut clients[0], sql);
    }
    for client in &mut clients {
        say(client, "BEGIN");
        assert_eq!(
            summary(&client.exchange(&batch().query("SELECT 1"))),
            "RowDescription DataRow(1) CommandComplete(SELECT 1) ReadyForQuery(T)"
        );
    }
    say(&mut clients[0], "INSERT INTO w VALUES (1)");
    // Its connection is the only one on the primary.
    assert_eq!(clients[1].failure("INSERT INTO w VALUES (2)"), "57014");
    assert_eq!(clients[1].failure("INSERT INTO w VALUES (2)"), "57014", "not even to be told 25P02 by");
    assert_eq!(clients[2].value("SELECT count(*) FROM t"), "5");
    for client in &mut clients[1..3] {
        say(client, "COMMIT");
    }
    say(&mut clients[0], "COMMIT");
    assert_eq!(world.db.run("SELECT count(*) FROM w"), "1");
}

#[test]
fn idle_in_a_block_that_has_only_read_is_limited_too() {
    let world = world_with(Plan {
        general: "[client]\nidle_transaction_timeout = \"150ms\"",
        routing: "transaction_reads = \"until_write\"",
        ..Plan::default()
    });
    for _ in 0..2 {
        let mut client = world.client();
        say(&mut client, "BEGIN");
        say(&mut client, "SELECT 1");
        assert_eq!(client.recv().sqlstate(), "25P03");
        assert!(client.is_closed());
    }
    let mut client = world.client();
    say(&mut client, "SELECT 1");
    assert!(client.is_silent_for(Duration::from_millis(300)));
}

#[test]
fn a_cancel_fails_the_block() {
    let world = until_write();
    let mut client = world.client();
    say(&mut client, "BEGIN");
    client.send(&batch().query("SELECT pg_sleep(20)"));
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(20)' AND state = 'active'";
    let sleeps = |node| world.db.run_on(node, sleeping) == "1";
    while !(sleeps(1) || sleeps(2)) {
        assert!(!sleeps(0) && std::time::Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    client.cancel(world.proxy.port());
    let frames = client.recv_ready(1);
    // The row's description may have come before it.
    assert!(frames.iter().any(|frame| frame.tag == b'E' && frame.sqlstate() == "57014"), "{frames:?}");
    assert_eq!(frames.last().unwrap().body, b"E");
    assert_eq!(client.failure("SELECT 1"), "25P02");
    assert_eq!(summary(&client.exchange(&batch().query("COMMIT"))), "CommandComplete(ROLLBACK) ReadyForQuery(I)");
}

#[test]
fn without_until_write_blocks_stay_where_they_were() {
    let world = world("");
    let mut client = world.client();
    for begin in ["BEGIN", "BEGIN ISOLATION LEVEL READ COMMITTED"] {
        say(&mut client, begin);
        assert_eq!(client.value(PROBE), "f", "{begin}");
        say(&mut client, "COMMIT");
    }
}

#[test]
fn what_only_looked_like_a_read_is_undone_with_its_block_trap_3() {
    let world = until_write();
    world.db.run(
        "CREATE FUNCTION bump() RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO w VALUES (1); RETURN 7; END $$; \
         CREATE VIEW bumping AS SELECT bump() AS n; GRANT ALL ON bumping TO app",
    );
    world.db.wait_replayed();
    for extended in [false, true] {
        let mut client = world.client();
        say(&mut client, "BEGIN");
        say(&mut client, "SELECT 1");
        let sql = "SELECT n FROM bumping";
        let read = if extended { batch().run(sql, &[]).sync() } else { batch().query(sql) };
        let frames = client.exchange(&read);
        assert_eq!(frames.iter().find(|frame| frame.tag == b'D').unwrap().columns(), [Some("7".to_owned())]);
        assert_eq!(frames.last().unwrap().body, b"T");
        assert_eq!(client.value("SELECT count(*) FROM w"), "1");
        say(&mut client, "ROLLBACK");
        assert_eq!(world.db.run("SELECT count(*) FROM w"), "0");
    }
}

#[test]
fn a_begin_ahead_of_the_first_statement_is_a_block_like_any_other() {
    let world = until_write();
    let ahead = |sql: &str| batch().parse("", "BEGIN", &[]).bind("", "", &[]).execute("", 0).run(sql, &[]).sync();
    let mut client = world.client();
    for (sql, place) in [("SELECT count(*) FROM t", "t"), ("INSERT INTO w VALUES (1)", "f"), ("SELECT now()", "f")] {
        let frames = client.exchange(&ahead(sql));
        assert!(tags(&frames).starts_with("12C12"), "{sql}: {frames:?}");
        assert_eq!(frames.last().unwrap().body, b"T", "{sql}");
        assert_eq!(client.value(PROBE), place, "{sql}");
        say(&mut client, "ROLLBACK");
    }
    let frames = client.exchange(&ahead("SELECT 1/0"));
    assert_eq!(frames.last().unwrap().body, b"E", "{frames:?}");
    say(&mut client, "ROLLBACK");
    // As a named statement, the way that the JDBC driver does it in the long run; by somebody who has not written just now.
    let mut client = world.client();
    client.exchange(&batch().parse("begin", "BEGIN", &[]).sync());
    let read = || batch().bind("", "begin", &[]).execute("", 0).run("SELECT 1", &[]).sync();
    assert_eq!(tags(&client.exchange(&read())), "2C12TDCZ");
    assert_eq!(client.value(PROBE), "t");
}

#[test]
fn a_replica_that_is_lost_before_it_answers_is_not_noticed() {
    let world = until_write();
    let mut client = world.client();
    say(&mut client, "BEGIN");
    say(&mut client, "SELECT 1");
    let sql = "SELECT pg_sleep(1.5)";
    client.send(&batch().query(sql));
    let kill = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query = '{sql}'");
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while ![1, 2].into_iter().any(|node| world.db.run_on(node, &kill) == "1") {
        assert!(std::time::Instant::now() < deadline, "it ran on no replica");
        std::thread::sleep(Duration::from_millis(20));
    }
    let frames = client.recv_ready(1);
    assert_eq!(tags(&frames), "TDCZ");
    assert_eq!(frames.last().unwrap().body, b"T");
    assert_eq!(client.value("SELECT 2"), "2");
    say(&mut client, "COMMIT");
}

#[test]
fn a_block_that_has_only_read_is_not_cut_short_by_a_shutdown() {
    let mut world = until_write();
    let mut client = world.client();
    say(&mut client, "BEGIN");
    say(&mut client, "SELECT 1");
    world.proxy.signal(rustix::process::Signal::TERM);
    for _ in 0..3 {
        // Whatever has been read goes on.
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(client.value("SELECT 2"), "2");
    }
    assert_eq!(summary(&client.exchange(&batch().query("COMMIT"))), "CommandComplete(COMMIT) ReadyForQuery(I)");
    assert_eq!(client.recv().sqlstate(), "57P01");
    world.proxy.wait();
}
