//! Session state in transaction pooling: it works, and nobody else sees it. Tests name the traps that they show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::{Duration, Instant};

use support::frames::{Batch, Frame, summary, tags};
use support::raw::RawClient;
use support::world::{Plan, World};

/// How many advisory locks there are in this database; other tests have theirs.
const HELD: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

fn batch() -> Batch {
    Batch::new()
}

fn one_connection() -> World {
    Plan {
        sql: "CREATE TABLE t (n int); CREATE SEQUENCE s; CREATE SCHEMA other; CREATE TABLE other.t (a int, b int)",
        pool: "size = 1\nwait_timeout = \"3s\"",
        primary_only: true,
        ..Plan::default()
    }
    .start()
}

fn query(client: &mut RawClient, sql: &str) -> Vec<Frame> {
    client.exchange(&batch().query(sql))
}

#[test]
fn state_lasts_and_is_gone_with_the_session_trap_58() {
    let world = one_connection();
    let cases: [(&str, &str, &str); 7] = [
        (
            "SELECT set_config('app.tenant', lower('ME'), false)",
            "SELECT coalesce(nullif(current_setting('app.tenant', true), ''), 'none')",
            "me",
        ),
        ("CREATE TEMP TABLE mine AS SELECT 1 AS a", "SELECT to_regclass('pg_temp.mine') IS NOT NULL", "t"),
        ("SELECT pg_advisory_lock(1)", HELD, "1"),
        ("PREPARE U&\"\\0070\" AS SELECT 41", "SELECT count(*) FROM pg_prepared_statements WHERE from_sql", "1"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 5", "SELECT count(*) FROM pg_cursors", "1"),
        ("SELECT nextval('s')", "SELECT currval('s') > 0", "t"),
        ("SELECT setseed(0.5)", "SELECT random() IS NOT NULL", "t"),
    ];
    for (make, ask, wanted) in cases {
        for extended in [false, true] {
            let mut client = world.client();
            let before = query(&mut client, ask);
            let frames = client.exchange(&if extended { batch().run(make, &[]).sync() } else { batch().query(make) });
            assert!(!tags(&frames).contains('E'), "{make}: {frames:?}");
            let mut other = world.client();
            for _ in 0..3 {
                assert_eq!(client.value(ask), wanted, "{make}");
            }
            other.send(&batch().query(ask));
            assert!(other.is_silent_for(Duration::from_millis(60)), "{make}: the connection is this client's");
            drop(client);
            let after = other.recv_ready(1);
            if !make.contains("setseed") {
                assert_eq!(summary(&after), summary(&before), "{make}: seen by another client");
            }
        }
    }
}

#[test]
fn a_search_path_of_temporary_objects_gets_a_server_without_any() {
    let world = one_connection();
    let mut direct = world.direct();
    // The server makes the schema in this very transaction, which therefore cannot be prepared.
    let script =
        ["SET search_path TO pg_temp", "BEGIN", "SELECT current_schema() ~ 'pg_temp'", "PREPARE TRANSACTION 'x'"];
    let expected: Vec<_> = script.iter().map(|sql| summary(&query(&mut direct, sql))).collect();
    assert!(expected[3].contains("0A000"), "{expected:?}");
    let open = [
        "CREATE TEMP TABLE t (a int)",
        "DO 'BEGIN CREATE TEMP TABLE t (a int); END'",
        "SELECT makes()",
        "INSERT INTO public.made SELECT makes()",
    ];
    world.db.run(
        "CREATE TABLE made (n int);
         CREATE FUNCTION makes() RETURNS int LANGUAGE plpgsql AS 'BEGIN CREATE TEMP TABLE t (a int); RETURN 1; END';
         GRANT ALL ON made TO public",
    );
    for make in open {
        let mut before = world.client();
        assert!(!tags(&query(&mut before, make)).contains('E'), "{make}");
        query(&mut before, "DROP TABLE t");
        let mut client = world.client();
        for (sql, expected) in script.iter().zip(&expected) {
            assert_eq!(summary(&query(&mut client, sql)), *expected, "{make}: {sql}");
        }
        assert_eq!(before.value("SELECT 1"), "1");
    }
    // One that has waited for the connection.
    for _ in 0..3 {
        let mut before = world.client();
        query(&mut before, "CREATE TEMP TABLE t (a int)");
        let mut client = world.client();
        client.send(&batch().query(script[0]));
        assert!(client.is_silent_for(Duration::from_millis(60)));
        drop(before);
        client.recv_ready(1);
        for (sql, expected) in script.iter().zip(&expected).skip(1) {
            assert_eq!(summary(&query(&mut client, sql)), *expected, "{sql}");
        }
    }
}

#[test]
fn what_a_reset_changes_is_known_trap_57() {
    let world = one_connection();
    let mut iso = world.client_with(&[("options", "-c datestyle=iso,mdy")]);
    let mut plain = world.client();
    for _ in 0..2 {
        let mut german = world.client_with(&[("options", "-c datestyle=german,ymd")]);
        assert_eq!(german.value("SHOW datestyle"), "German, YMD");
        query(&mut german, "CREATE TEMP TABLE t (a int)");
        // Not before the server has told what is left of temporary objects: then the connection is at rest.
        assert_eq!(german.value("SELECT 1"), "1");
        drop(german);
        // The connection has been reset: nothing is to be told to either of these.
        for client in [&mut iso, &mut plain] {
            let frames = query(client, "SHOW datestyle");
            assert!(!tags(&frames).contains('S'), "{frames:?}");
            assert!(summary(&frames).contains("ISO, MDY"), "{frames:?}");
        }
    }
    let mut german = world.client_with(&[("options", "-c datestyle=german,ymd")]);
    assert_eq!(german.value("SHOW datestyle"), "German, YMD");
}

#[test]
fn libraries_stay_with_their_session() {
    let world = one_connection();
    let mut client = world.client();
    let pid = client.value("SELECT pg_backend_pid()");
    // Refused, since only a superuser may; the library could have been loaded all the same.
    query(&mut client, "CREATE FUNCTION f() RETURNS int AS 'autoinc' LANGUAGE C");
    assert_eq!(client.value("SELECT pg_backend_pid()"), pid);
    drop(client);
    assert_ne!(world.client().value("SELECT pg_backend_pid()"), pid);
}

#[test]
fn what_gives_the_connection_back() {
    let world = one_connection();
    let mut client = world.client();
    let mut other = world.client();
    let ask = "SELECT 'free' FROM (SELECT 1 FOR UPDATE) AS x";
    for make in [
        "SELECT set_config('work_mem', '7' || 'MB', false)",
        "CREATE TEMP TABLE mine (n int)",
        "PREPARE U&\"p\" AS SELECT 1",
    ] {
        query(&mut client, make);
        other.send(&batch().query(ask));
        assert!(other.is_silent_for(Duration::from_millis(60)));
        query(&mut client, "DISCARD ALL");
        assert_eq!(tags(&other.recv_ready(1)), "TDCZ", "{make}: DISCARD ALL unpins");
    }
    // What needs no pin at all.
    for free in [
        "SET work_mem = '7MB'",
        "RESET work_mem",
        "SELECT set_config('work_mem', '7MB', false)",
        "CREATE TEMP TABLE x (n int); SELECT 1/0",
        "SET work_mem = '9MB' nonsense",
        "BEGIN; CREATE TEMP TABLE x (n int); DECLARE c CURSOR WITH HOLD FOR SELECT 1; LISTEN a; ROLLBACK",
        "SET LOCAL work_mem = '7MB'",
        "BEGIN; SET LOCAL work_mem = '9MB'; SELECT set_config('app.x', '1', true); SELECT pg_advisory_xact_lock(5); COMMIT",
        "BEGIN; CREATE TEMP TABLE x (n int) ON COMMIT DROP; ROLLBACK; DISCARD ALL",
        "RESET work_mem",
        "BEGIN; RESET work_mem; RESET ALL; ROLLBACK",
        "RESET ALL",
        "RESET ROLE",
        "LISTEN a",
        "UNLISTEN *",
        "NOTIFY a",
        "SHOW work_mem",
        "PREPARE p AS SELECT pg_advisory_lock(1)",
        "DEALLOCATE p",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    ] {
        if free.contains("ROLLBACK") {
            for part in free.split("; ") {
                query(&mut client, part);
            }
        } else {
            query(&mut client, free);
        }
        // Shown when the test fails.
        eprintln!("{free}");
        assert_eq!(other.value(ask), "free");
    }
    assert_eq!(client.value("SHOW work_mem"), "4MB");
}

#[test]
fn evidence_gives_the_connection_back() {
    let world = one_connection();
    let mut client = world.client();
    let mut other = world.client();
    let mut free = |what: &str| {
        eprintln!("{what}");
        assert_eq!(other.value("SELECT 'free' FROM (SELECT 1 FOR UPDATE) AS x"), "free", "{what}");
        assert_eq!(other.value(HELD), "0", "{what}");
        assert_eq!(other.value("SELECT count(*) FROM pg_cursors"), "0", "{what}");
        assert_eq!(
            other.value("SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()"),
            "0",
            "{what}"
        );
    };
    for (make, gives_up) in [
        ("CREATE TEMP TABLE mine (n int)", "DROP TABLE mine"),
        ("SELECT 1 AS n INTO TEMP mine", "DROP TABLE mine"),
        ("CREATE TYPE pg_temp.mine AS (n int)", "DROP TYPE pg_temp.mine"),
        ("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "DROP FUNCTION pg_temp.f"),
        ("CREATE TEMP TABLE mine (n int)", "DISCARD TEMP"),
        ("CREATE TEMP TABLE mine (n int)", "DO $$ BEGIN DROP TABLE mine; END $$"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "CLOSE c"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "CLOSE ALL"),
        ("SELECT pg_advisory_lock(1), pg_advisory_lock(1)", "SELECT pg_advisory_unlock(1), pg_advisory_unlock(1)"),
        ("SELECT pg_advisory_lock_shared(2, 3)", "SELECT pg_catalog.pg_advisory_unlock_shared(2, 3), 1"),
        ("SELECT pg_try_advisory_lock(4)", "INSERT INTO t SELECT 1 WHERE pg_advisory_unlock(4)"),
        ("BEGIN; SELECT pg_advisory_lock(5); COMMIT", "BEGIN; SELECT pg_advisory_unlock(5); ROLLBACK"),
    ] {
        let half = [make, "SELECT 1"];
        for sql in half {
            assert!(!tags(&query(&mut client, sql)).contains('E'), "{sql}");
        }
        let frames = client.exchange(&batch().run(gives_up, &[]).sync());
        if gives_up.contains(';') && !gives_up.starts_with("DO") {
            assert!(tags(&frames).contains('E'), "no string in the extended protocol");
            query(&mut client, gives_up);
        }
        free(gives_up);
    }
    // Never taken, or gone with the transaction.
    let mut holder = world.direct();
    assert_eq!(holder.value("SELECT pg_try_advisory_lock(7)"), "t");
    let mut free = |what: &str| {
        eprintln!("{what}");
        assert_eq!(other.value("SELECT 'free' FROM (SELECT 1 FOR UPDATE) AS x"), "free", "{what}");
    };
    assert_eq!(client.value("SELECT pg_try_advisory_lock(7)"), "f");
    free("a lock that was not to be had");
    query(&mut client, "BEGIN; CREATE TEMP TABLE mine ON COMMIT DROP AS SELECT 1 AS n");
    assert_eq!(client.value("SELECT n FROM mine"), "1");
    query(&mut client, "COMMIT");
    free("ON COMMIT DROP");
    query(&mut client, "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; FETCH c; CLOSE c; COMMIT");
    free("a cursor closed in its transaction");
    query(&mut client, "SELECT pg_advisory_lock(8)");
    query(&mut client, "SELECT pg_advisory_lock(8)");
    query(&mut client, "SELECT pg_advisory_unlock(8)");
    other.send(&batch().query("SELECT 'free' FROM (SELECT 1 FOR UPDATE) AS x"));
    assert!(other.is_silent_for(Duration::from_millis(60)), "taken twice, given up once (trap 13)");
    // A new table behind the DROP in one write: the evidence for the old one does not count.
    client.send(&batch().query("SELECT pg_advisory_unlock(8)").query("CREATE TEMP TABLE next (n int)"));
    client.recv_ready(2);
    assert!(other.is_silent_for(Duration::from_millis(60)), "the next temporary table");
    query(&mut client, "DROP TABLE next");
    other.recv_ready(1);
}

#[test]
fn sequences_answer_for_their_session_trap_4() {
    let world = Plan {
        sql: "CREATE SEQUENCE a; CREATE SEQUENCE b; CREATE TABLE t (id serial, n int)",
        pool: "size = 2\nwait_timeout = \"3s\"",
        primary_only: true,
        ..Plan::default()
    }
    .start();
    let mut one = world.client();
    let mut two = world.client();
    // Nobody came between.
    let first = one.value("INSERT INTO t (n) VALUES (1) RETURNING id");
    assert_eq!(one.value("SELECT lastval()"), first);
    drop(one);
    // Another client used the connection.
    let mut one = world.client();
    one.value("SELECT nextval('a')");
    two.value("SELECT nextval('b')");
    drop(two);
    let mut clients: Vec<_> = (0..2).map(|_| world.client()).collect();
    for client in &mut clients {
        client.exchange(&batch().query("BEGIN; SELECT nextval('b')"));
    }
    for client in &mut clients {
        client.exchange(&batch().query("COMMIT"));
    }
    // Its own value, or PostgreSQL's word that there is none; never another client's.
    assert_eq!(one.failure("SELECT lastval()"), "55000");
    drop(one);
    // It is known now that this user asks.
    let mut one = world.client();
    let mut two = world.client();
    let first = one.value("INSERT INTO t (n) VALUES (1) RETURNING id");
    let second = two.value("INSERT INTO t (n) VALUES (1) RETURNING id");
    assert_eq!(one.value("SELECT currval('t_id_seq')"), first);
    assert_eq!(two.value("SELECT lastval()"), second);
    drop((one, two));
    assert_eq!(clients[0].failure("SELECT lastval()"), "55000");
}

#[test]
fn startup_settings_are_each_clients_own_trap_52_54_55_56() {
    let world = one_connection();
    let quoted = "it's \\ a \"test\"; DROP TABLE t; --";
    let mut plain = world.client();
    let mut a = world.client_with(&[
        ("application_name", quoted),
        ("options", "-c search_path=other -cwork_mem=8MB --statement_timeout=55s"),
        ("DateStyle", "German"),
    ]);
    let mut b = world.client_with(&[
        ("search_path", "\"$user\", public"),
        ("TimeZone", "Asia/Tokyo"),
        ("client_encoding", "LATIN1"),
    ]);
    for _ in 0..3 {
        assert_eq!(a.value("SHOW search_path"), "other");
        assert_eq!(a.value("SHOW work_mem"), "8MB");
        assert_eq!(a.value("SHOW statement_timeout"), "55s");
        assert_eq!(a.value("SHOW application_name"), quoted);
        assert_eq!(a.value("SELECT '2024-03-01'::date"), "01.03.2024");
        assert_eq!(a.value("SELECT count(*) FROM information_schema.columns WHERE table_name = 't' AND table_schema = current_schema()"), "2");
        assert_eq!(b.value("SHOW search_path"), "\"$user\", public");
        assert_eq!(b.value("SHOW timezone"), "Asia/Tokyo");
        assert_eq!(b.value("SHOW client_encoding"), "LATIN1");
        assert_eq!(b.value("SHOW application_name"), "");
        assert_eq!(plain.value("SHOW search_path"), "\"$user\", public");
        assert_eq!(plain.value("SHOW work_mem"), "4MB");
        assert_eq!(plain.value("SELECT '2024-03-01'::date"), "2024-03-01");
    }
    assert_eq!(a.parameter("application_name"), Some(quoted));
    assert_eq!(a.parameter("DateStyle"), Some("German, DMY"));
    assert_eq!(b.parameter("TimeZone"), Some("Asia/Tokyo"));
    assert_eq!(b.parameter("client_encoding"), Some("LATIN1"));
    assert_eq!(plain.parameter("DateStyle"), Some("ISO, MDY"));
    assert_eq!(plain.parameter("in_hot_standby"), Some("off"));
    // The client's own way to begin each transaction, with its settings and its unnamed statement.
    a.exchange(&batch().parse("", "SELECT current_setting('work_mem')", &[]).sync());
    assert_eq!(plain.value("SHOW work_mem"), "4MB");
    let frames = a.exchange(&batch().bind("", "", &[]).execute("", 0).sync());
    assert_eq!(frames[1].columns(), [Some("8MB".to_owned())]);
    // RESET goes back to what the client started with (trap 52).
    for (change, reset) in [
        ("SET work_mem = '9MB'", "RESET work_mem"),
        ("SET work_mem = '9MB'", "SET work_mem TO DEFAULT"),
        ("SET work_mem = '9MB'", "RESET ALL"),
        ("SET work_mem = '9MB'", "DISCARD ALL"),
        ("SELECT 1", "RESET ALL"),
        ("SELECT 1", "DISCARD ALL"),
    ] {
        query(&mut a, change);
        query(&mut a, "SET search_path = pg_catalog");
        let path = if reset.contains("ALL") { "other" } else { "pg_catalog" };
        query(&mut a, reset);
        assert_eq!(a.value("SHOW work_mem"), "8MB", "{reset}");
        assert_eq!(a.value("SHOW search_path"), path, "{reset}");
        assert_eq!(a.value("SHOW application_name"), quoted, "{reset}");
        query(&mut a, "DISCARD ALL");
    }
    a.send(&batch().query("SET work_mem = '9MB'").query("RESET ALL").query("SHOW work_mem"));
    let frames = a.recv_ready(3);
    let row = frames.iter().rfind(|frame| frame.tag == b'D').unwrap();
    assert_eq!(row.columns(), [Some("8MB".to_owned())], "behind it in one write: {frames:?}");
    query(&mut a, "DISCARD ALL");
    assert_eq!(plain.value("SHOW work_mem"), "4MB");
}

#[test]
fn parameter_status_tells_the_truth_trap_57() {
    let world = Plan { pool: "size = 2", ..Plan::default() }.start();
    let mut client = world.client_with(&[("application_name", "mine")]);
    let status = |frames: &[Frame]| -> Vec<String> {
        frames.iter().filter(|frame| frame.tag == b'S').map(|frame| frame.strings().join("=")).collect()
    };
    assert_eq!(status(&query(&mut client, "SET application_name = 'changed'")), ["application_name=changed"]);
    assert_eq!(status(&query(&mut client, "BEGIN; SET LOCAL DateStyle = 'German'")), ["DateStyle=German, DMY"]);
    assert_eq!(status(&query(&mut client, "ROLLBACK")), ["DateStyle=ISO, MDY"]);
    assert_eq!(status(&query(&mut client, "DISCARD ALL")), ["application_name=mine"]);
    assert_eq!(client.value("SHOW application_name"), "mine");
    // Reads elsewhere tell nothing about where they ran.
    for _ in 0..10 {
        assert_eq!(status(&query(&mut client, "SELECT 1")), [""; 0]);
        assert_eq!(status(&query(&mut client, "/* trunkline: replica */ SELECT pg_is_in_recovery()")), [""; 0]);
    }
    // Connections that are younger than a change of the server's configuration differ from older ones: what holds is told.
    let database = &world.db.name;
    world.db.run(&format!("ALTER DATABASE \"{database}\" SET TimeZone = 'Asia/Tokyo'"));
    let (mut first, mut second) = (world.client(), world.client());
    assert_eq!(first.parameter("TimeZone"), client.parameter("TimeZone"), "all connections are old");
    first.exchange(&batch().query("BEGIN; SELECT txid_current()"));
    let told = query(&mut second, "BEGIN; SELECT txid_current()");
    assert_eq!(status(&told), ["TimeZone=Asia/Tokyo"]);
    assert_eq!(second.value("SHOW timezone"), "Asia/Tokyo");
    for client in [&mut first, &mut second] {
        client.exchange(&batch().query("COMMIT"));
    }
    let mut known = first.parameter("TimeZone").unwrap().to_owned();
    for _ in 0..4 {
        let asked = query(&mut first, "SELECT current_setting('timezone') FOR UPDATE");
        let shown = asked.iter().find(|frame| frame.tag == b'D').and_then(|row| row.columns()[0].clone());
        let told = status(&asked);
        known = told.last().map_or(known, |told| told.replace("TimeZone=", ""));
        assert_eq!(shown, Some(known.clone()));
        second.exchange(&batch().query("BEGIN; SELECT txid_current(); COMMIT"));
    }
    // A value that the server does not take is refused at login, in its words.
    let mut refused = RawClient::tcp(world.proxy.port());
    let error = refused
        .login("app-secret", &[("user", "app"), ("database", &world.db.name), ("work_mem", "much")])
        .unwrap_err();
    assert_eq!(error.sqlstate(), "22023");
    let mut refused = RawClient::tcp(world.proxy.port());
    let error = refused
        .login("app-secret", &[("user", "app"), ("database", &world.db.name), ("no_such_setting", "x")])
        .unwrap_err();
    assert_eq!(error.sqlstate(), "42704");
}

/// What a function leaves in the server session is the client's: nobody else sees it, and the client does as long as it is there.
#[test]
fn what_functions_leave_behind_traps_53_58() {
    let world = Plan {
        sql: "CREATE TABLE shared (v text); INSERT INTO shared VALUES ('of all');
              CREATE FUNCTION makes_table() RETURNS void LANGUAGE plpgsql AS $$
                BEGIN CREATE TEMPORARY TABLE shared AS SELECT 'mine'::text AS v; END $$;
              CREATE PROCEDURE calls_table() LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE shared AS SELECT 'mine'::text AS v; END $$;
              CREATE FUNCTION drops() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DROP TABLE pg_temp.shared; END $$;
              CREATE FUNCTION sets(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('my.name', $1, false); END $$;
              CREATE FUNCTION sets_too(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET my.name = 'a'; END $$;
              CREATE FUNCTION sets_local(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
                PERFORM set_config('my.name', $1, true); UPDATE shared SET v = v; SET LOCAL my.name = 'x'; END $$;
              GRANT ALL ON shared TO public",
        tables: "[admin]\nadmin_users = [\"app\"]\n",
        pool: "size = 2",
        primary_only: true,
        ..Plan::default()
    }
    .start();
    world.settle();
    let pinned = || world.console().rows("SHOW PINS").len();
    let mut other = world.client();
    for make in [
        "SELECT makes_table()",
        "CALL calls_table()",
        "DO 'BEGIN CREATE TEMP TABLE shared AS SELECT ''mine''::text AS v; END'",
    ] {
        let mut client = world.client();
        assert!(!tags(&query(&mut client, make)).contains('E'), "{make}");
        for _ in 0..3 {
            assert_eq!(client.value("SELECT v FROM shared"), "mine", "{make}");
            assert_eq!(other.value("SELECT v FROM shared"), "of all", "{make}: another client's");
        }
        query(&mut client, "SELECT drops()");
        until(|| pinned() == 0, make);
        assert_eq!(client.value("SELECT v FROM shared"), "of all", "{make}");
    }
    for make in ["SELECT sets('a')", "SELECT sets_too('a')", "INSERT INTO shared SELECT 'x' FROM sets('a')"] {
        let mut client = world.client();
        assert!(!tags(&query(&mut client, make)).contains('E'), "{make}");
        for _ in 0..3 {
            assert_eq!(client.value("SELECT current_setting('my.name', true)"), "a", "{make}");
            assert_ne!(other.value("SELECT current_setting('my.name', true)"), "a", "{make}: another client's");
        }
        query(&mut client, "DISCARD ALL");
        until(|| pinned() == 0, make);
    }
    query(&mut other, "SELECT sets_local('b')");
    assert_eq!(pinned(), 0, "until the end of the transaction");
}

fn until(done: impl Fn() -> bool, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Locks of the session and held cursors that a function takes or opens, by its text.
#[test]
fn what_functions_leave_behind_pins_until_it_is_gone() {
    let sql = "CREATE FUNCTION locks(k int) RETURNS boolean LANGUAGE sql AS 'SELECT pg_catalog.pg_try_advisory_lock(k)';
        CREATE FUNCTION locks_too(k int) RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_lock_shared(k); END';
        CREATE FUNCTION locks_in_sql(k int) RETURNS void RETURN pg_advisory_lock(k);
        CREATE FUNCTION holds() RETURNS void LANGUAGE plpgsql AS
            'BEGIN EXECUTE ''DECLARE c CURSOR WITH HOLD FOR SELECT 1''; END';
        CREATE FUNCTION locks_not(k int) RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(k)';
        CREATE PROCEDURE locks_by_call(k int) LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_lock(k); END'";
    let tables = "[admin]\nadmin_users = [\"app\"]\n";
    let pool = "size = 1\nwait_timeout = \"3s\"";
    let world = Plan { sql, pool, tables, primary_only: true, ..Plan::default() }.start();
    world.settle();
    for (make, give_up) in [
        ("SELECT locks(71)", "SELECT pg_advisory_unlock(71)"),
        ("SELECT locks_too(71)", "SELECT pg_advisory_unlock_all()"),
        ("SELECT locks_in_sql(71)", "DO 'BEGIN PERFORM pg_advisory_unlock(71); END'"),
        ("CALL locks_by_call(71)", "SELECT pg_advisory_unlock(71)"),
        ("DO 'BEGIN PERFORM pg_advisory_lock(71); END'", "SELECT pg_advisory_unlock(71)"),
        ("SELECT holds()", "CLOSE c"),
    ] {
        let (mut client, mut other) = (world.client(), world.client());
        assert!(!tags(&query(&mut client, make)).contains('E'), "{make}");
        let ask = batch().query(&format!("SELECT ({HELD}) + (SELECT count(*) FROM pg_cursors)"));
        other.send(&ask);
        assert!(other.is_silent_for(Duration::from_millis(60)), "{make}: the connection is this client's");
        assert!(!tags(&query(&mut client, give_up)).contains('E'), "{give_up}");
        assert_eq!(summary(&other.recv_ready(1)[1..2]), "DataRow(0)", "{make}");
        // With the client.
        query(&mut client, make);
        drop(client);
        assert_eq!(summary(&other.exchange(&ask)[1..2]), "DataRow(0)", "{make}");
    }
    let (mut client, mut other) = (world.client(), world.client());
    query(&mut client, "SELECT locks_not(71)");
    assert_eq!(other.value("SELECT 1"), "1");
}
