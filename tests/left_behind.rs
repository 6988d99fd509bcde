//! What is left on a server connection, or gone from it, otherwise than by statements that are read: the next client gets neither.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::clusters::{APP, APP_PASSWORD};
use support::frames::{Batch, summary, tags};
use support::raw::RawClient;
use support::world::{Plan, Step, World};

const SQL: &str = "CREATE SCHEMA aside; CREATE TABLE t (v text); CREATE TABLE aside.t (v text);
    INSERT INTO t VALUES ('public'); INSERT INTO aside.t VALUES ('aside')";

fn batch() -> Batch {
    Batch::new()
}

fn one_connection(pool: &str) -> World {
    Plan { sql: SQL, pool: &format!("size = 1\n{pool}"), primary_only: true, ..Plan::default() }.start()
}

/// `EXECUTE 'DEALLOCATE ALL'` within a function gives up the statements of all clients.
#[test]
fn statements_that_a_function_has_given_up() {
    let world = one_connection("");
    let mut client = world.client();
    let mut other = world.client();
    client
        .exchange(&batch().parse("s", "SELECT v FROM t WHERE $1 = 1", &[23]).parse("u", "SELECT $1 + 1", &[23]).sync());
    client.exchange(&batch().query("PREPARE own AS SELECT 'own'"));
    let run = |name: &str| batch().bind("", name, &[Some("1")]).describe(b'P', "").execute("", 0).sync();
    let said = "DO 'BEGIN EXECUTE ''DEALLOCATE ALL''; END'";
    let unseen = "DO 'BEGIN EXECUTE ''DEALL'' || ''OCATE ALL''; END'";
    for gives_up in [said, unseen, said, unseen] {
        other.exchange(&batch().query(gives_up));
        for _ in 0..2 {
            assert_eq!(tags(&client.exchange(&run("s"))), "2TDCZ");
            assert_eq!(tags(&client.exchange(&run("u"))), "2TDCZ");
        }
        let mut third = world.client();
        let frames = third.exchange(&batch().parse("s", "SELECT v FROM t WHERE $1 = 1", &[23]).sync());
        assert_eq!(tags(&frames), "1Z");
        assert_eq!(tags(&third.exchange(&run("s"))), "2TDCZ");
        // As the first statement of a block.
        other.exchange(&batch().query(gives_up));
        client.exchange(&batch().query("BEGIN"));
        assert_eq!(tags(&client.exchange(&run("s"))), "2TDCZ", "{gives_up}");
        client.exchange(&batch().query("COMMIT"));
        // Within one it fails, once, where nobody can have seen it coming.
        other.exchange(&batch().query(gives_up));
        client.exchange(&batch().query("BEGIN; DELETE FROM t WHERE false"));
        let frames = client.exchange(&run("s"));
        match gives_up == said {
            true => assert_eq!(tags(&frames), "2TDCZ"),
            false => {
                assert_eq!(summary(&frames[..1]), "ErrorResponse(ERROR 26000: prepared statement \"s\" does not exist)")
            }
        }
        client.exchange(&batch().query("ROLLBACK"));
        assert_eq!(tags(&client.exchange(&run("s"))), "2TDCZ");
    }
    // Those of SQL's, too.
    assert_eq!(client.value("EXECUTE own"), "own");
    other.exchange(&batch().query(said));
    assert_eq!(client.value("EXECUTE own"), "own");
}

/// The same of a function in the catalog.
#[test]
fn statements_that_a_function_of_the_catalogs_has_given_up() {
    let sql = "CREATE TABLE t (v text);
        CREATE FUNCTION gives_up() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'deallocate all'; END $$";
    let tables = format!("[admin]\nadmin_users = [\"{APP}\"]\n");
    let world = Plan { sql, tables: &tables, pool: "size = 1", primary_only: true, ..Plan::default() }.start();
    world.settle();
    let (mut client, mut other) = (world.client(), world.client());
    client.exchange(&batch().parse("s", "SELECT 's'", &[]).sync());
    client.exchange(&batch().query("PREPARE own AS SELECT 'own'"));
    for _ in 0..3 {
        client.exchange(&batch().query("BEGIN; DELETE FROM t"));
        assert_eq!(tags(&client.exchange(&batch().bind("", "s", &[]).execute("", 0).sync())), "2DCZ");
        assert_eq!(client.value("EXECUTE own"), "own");
        client.exchange(&batch().query("COMMIT"));
        other.exchange(&batch().query("SELECT gives_up()"));
    }
}

/// A login whose settings are refused leaves nothing of them: neither the encoding in which they were sent.
#[test]
fn the_encoding_of_a_login_that_was_refused() {
    let world = one_connection("");
    let mut client = world.client_with(&[("client_encoding", "LATIN1")]);
    let ask = batch().query("SELECT chr(233) FROM t FOR UPDATE");
    let before = client.exchange(&ask);
    assert_eq!(before.iter().find(|frame| frame.tag == b'D').unwrap().body[6..], [233]);
    let refused = [("user", "app"), ("database", &world.db.name), ("application_name", "\u{fc}"), ("work_mem", "much")];
    let refusal = RawClient::tcp(world.proxy.port()).login(APP_PASSWORD, &refused).unwrap_err();
    assert_eq!(refusal.sqlstate(), "22023", "{refusal:?}");
    assert_eq!(summary(&client.exchange(&ask)), summary(&before));
}

/// Of what another query than `DISCARD ALL` leaves on a connection it is known that it is there.
#[test]
fn what_a_reset_query_leaves() {
    for reset in ["RESET ALL", "DEALLOCATE ALL", "CLOSE ALL"] {
        let world = one_connection(&format!("reset_query = \"{reset}\""));
        let mut keeper = world.client();
        keeper.exchange(&batch().parse("s", "SELECT v FROM t", &[]).sync());
        let mut client = world.client();
        client.exchange(&batch().parse("s", "SELECT v FROM t", &[]).sync());
        client.exchange(&batch().query("SET search_path TO aside"));
        assert_eq!(tags(&client.exchange(&batch().bind("", "s", &[]).execute("", 0).sync())), "2DCZ");
        client.exchange(&batch().query("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT"));
        client.exchange(&batch().query("SET work_mem TO '7MB'"));
        drop(client);
        let mut other = world.client();
        assert_eq!(other.value("SELECT v || current_setting('work_mem') FROM t FOR UPDATE"), "public4MB", "{reset}");
        let prepared = batch().parse("s", "SELECT v FROM t", &[]).bind("", "s", &[]).execute("", 0).sync();
        let frames = other.exchange(&prepared);
        assert_eq!(summary(&frames[2..3]), "DataRow(public)", "{reset}: {}", summary(&frames));
    }
}

/// `connect_query` runs again after a `DISCARD ALL`, when its client may have set something since.
#[test]
fn what_is_set_between_discard_all_and_the_connect_query() {
    let world = one_connection("connect_query = \"SET work_mem = '7MB'\"");
    for startup in [&[("search_path", "aside")][..], &[]] {
        let mut client = world.client_with(startup);
        let messages = batch().query("DISCARD ALL").query("SET search_path TO aside").query("SELECT v FROM t");
        let frames = Step::Ready(messages, 3).run(&mut client);
        assert!(summary(&frames).contains("DataRow(aside)"), "{}", summary(&frames));
        let mut other = world.client();
        assert_eq!(other.value("SELECT v || current_setting('work_mem') FROM t FOR UPDATE"), "public7MB");
    }
}

/// A name like any other, on which no end follows: what comes behind the statement is read as ever.
#[test]
fn what_is_set_behind_a_routine_with_a_parameter_that_is_called_begin() {
    let world = one_connection("");
    let mut client = world.client();
    let makes = "CREATE FUNCTION f(begin int) RETURNS TABLE (begin_ int, begin2 int) LANGUAGE sql AS 'SELECT 1, 2'";
    client.exchange(&batch().query(&format!("{makes}; SET search_path TO aside; SET work_mem TO '7MB'")));
    let mut other = world.client();
    for _ in 0..2 {
        assert_eq!(other.value("SELECT v || current_setting('work_mem') FROM t FOR UPDATE"), "public4MB");
        assert_eq!(client.value("SELECT v || current_setting('work_mem') FROM t FOR UPDATE"), "aside7MB");
    }
}

/// A table is temporary also where its schema is quoted, or only the search path says so; and then its connection is its session's.
#[test]
fn temporary_tables_that_are_not_called_so() {
    let in_function = "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql RETURN 1";
    for (make, name) in [
        (&["CREATE TABLE \"pg_temp\".t (v text)"][..], "t"),
        (&["SELECT 'mine' AS v INTO \"pg_temp\".t"], "t"),
        (&["SET search_path TO pg_temp, public", "CREATE TABLE t (v text)"], "t"),
        (&["SET search_path TO 'PG_TEMP', public; SET search_path TO \"pg_temp\"; CREATE TABLE t (v text)"], "t"),
        (&["SELECT set_config('search_path', 'pg_temp', false)", "SELECT 'mine' AS v INTO t"], "t"),
        (&["BEGIN", "SET LOCAL search_path TO pg_temp", "CREATE TABLE t (v text)", "COMMIT"], "t"),
        (&[in_function, "SET search_path TO \"pg_temp\"", "CREATE VIEW t AS SELECT 1 AS v"], "t"),
    ] {
        let world = one_connection("wait_timeout = \"3s\"");
        let mut client = world.client();
        for sql in make {
            let frames = client.exchange(&batch().query(sql));
            assert!(!tags(&frames).contains('E'), "{sql}: {}", summary(&frames));
        }
        let mut other = world.client();
        other.send(&batch().query("SELECT v FROM t FOR UPDATE"));
        assert!(other.is_silent_for(std::time::Duration::from_millis(60)), "{make:?}");
        assert_eq!(client.value(&format!("SELECT to_regclass('pg_temp.{name}') IS NOT NULL")), "t", "{make:?}");
        drop(client);
        assert_eq!(summary(&other.recv_ready(1)[1..2]), "DataRow(public)", "{make:?}");
    }
}

/// Made where names without schema lead, as long as they lead to temporary objects; what is not temporary keeps no connection.
#[test]
fn tables_that_are_not_temporary_keep_no_connection() {
    let world = one_connection("");
    let (mut client, mut other) = (world.client(), world.client());
    for sql in ["SET search_path TO public, pg_temp", "CREATE TABLE a (n int)", "DROP TABLE a"] {
        assert!(!tags(&client.exchange(&batch().query(sql))).contains('E'), "{sql}");
        assert_eq!(other.value("SELECT v FROM t FOR UPDATE"), "public", "{sql}");
    }
}

/// A server process keeps the buffers for temporary tables that it has made with the first one, whatever `temp_buffers` is reset to.
#[test]
fn few_buffers_for_temporary_tables() {
    let world = one_connection("");
    let makes = "BEGIN; CREATE TEMP TABLE mine ON COMMIT DROP AS SELECT 1 AS a; COMMIT";
    for (sets, ends) in [
        ("SET temp_buffers = '800kB'", ""),
        ("SET temp_buffers = '800kB'", "RESET temp_buffers"),
        ("SET temp_buffers = '800kB'", "DISCARD ALL"),
        ("BEGIN; SET LOCAL temp_buffers = '800kB'; CREATE TEMP TABLE mine ON COMMIT DROP AS SELECT 1 AS a; COMMIT", ""),
        ("SET temp_buffers = '800kB'; CREATE TEMP TABLE stays AS SELECT 1 AS a", ""),
    ] {
        let mut client = world.client();
        for sql in [sets, makes, ends] {
            assert!(!tags(&client.exchange(&batch().query(sql))).contains('E'), "{sql}");
        }
        if sets.contains("stays") {
            drop(client);
        }
        let mut next = world.client();
        next.exchange(&batch().query(
            "CREATE TEMP TABLE wide WITH (fillfactor = 10) AS SELECT g AS a FROM generate_series(1, 5000) g; SELECT count(*) FROM wide",
        ));
        let plan = next.rows("EXPLAIN (ANALYZE, BUFFERS, TIMING off, SUMMARY off) SELECT count(*) FROM wide");
        let plan: String = plan.into_iter().flatten().flatten().collect();
        assert!(plan.contains("local hit=") && !plan.contains("read="), "{sets} … {ends}: {plan}");
        assert_eq!(next.value("SHOW temp_buffers"), "8MB");
    }
}

/// The server would close the connection, or end the session of whoever takes it at that moment (57P05).
#[test]
fn a_time_out_for_idle_sessions_trap_71() {
    let world = one_connection("");
    let prepared = batch().run("SET idle_session_timeout = '2s'", &[]).sync();
    for sets in [batch().query("SET idle_session_timeout = '2s'"), prepared] {
        let mut client = world.client();
        assert!(!tags(&client.exchange(&sets)).contains('E'));
        let server = client.value("SELECT pg_backend_pid()");
        std::thread::sleep(std::time::Duration::from_millis(2500));
        assert_eq!(world.client().value("SELECT pg_backend_pid()"), server);
        assert_eq!(client.value("SHOW idle_session_timeout"), "2s");
    }
}
