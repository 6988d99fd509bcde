//! Writes of which the text said less than what came of it, and knowledge of them that comes before their end.

use super::schema::{route_of, stale};
use super::*;

/// A cluster whose tables Trunkline knows.
pub fn known(setup: &str, routing: &str) -> (Cluster, Trunkline) {
    let cluster = cluster(1);
    make_table(cluster.info());
    cluster.info().query(0, "app", &format!("SET ROLE app; {setup}")).unwrap();
    cluster.info().wait_replayed().unwrap();
    let proxy = before(cluster.info(), routing).start();
    let mut probe = client(&proxy);
    until("the catalog has been read", || route_of(&mut probe, "SELECT count(*) FROM t").contains("takes reads"));
    (cluster, proxy)
}

/// The replica has all that was written so far, Trunkline knows that, and it gets nothing more.
pub fn pause(cluster: &Cluster, proxy: &Trunkline) {
    // What an open transaction has written waits for somebody's commit until it is sent.
    cluster.info().query(0, "app", "SELECT pg_logical_emit_message(true, '', '')").unwrap();
    let mut probe = client(proxy);
    until("reads are on the replica", || on_replica(&mut probe));
    set_paused(cluster.info(), 1, true);
}

pub fn run(client: &mut RawClient, sql: &str) {
    let frames = client.exchange(&query(sql));
    assert!(!tags(&frames).contains('E'), "{sql}: {frames:?}");
}

/// It was judged by the schema before: its names have come to mean other tables, or more is changed along.
#[test]
fn a_write_that_has_waited_for_a_change_of_the_schema_may_have_been_to_any_table() {
    let (cluster, proxy) =
        known("CREATE TABLE a AS SELECT 1 AS n; CREATE TABLE b AS SELECT 10 AS n; CREATE TABLE u (n int)", "");
    let swap = "ALTER TABLE a RENAME TO c; ALTER TABLE b RENAME TO a; ALTER TABLE c RENAME TO b";
    let trigger =
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO u VALUES (1); RETURN NEW; END';
        CREATE TRIGGER x AFTER UPDATE ON a FOR EACH ROW EXECUTE FUNCTION note()";
    for (change, read, seen) in [(swap, "SELECT n FROM a", "11"), (trigger, "SELECT count(*) FROM u", "1")] {
        let (mut migration, mut session) = (client(&proxy), client(&proxy));
        run(&mut migration, "BEGIN");
        run(&mut migration, change);
        run(&mut session, "BEGIN");
        session.send(&query("UPDATE a SET n = n + 1"));
        assert!(session.is_silent_for(Duration::from_millis(200)), "it waits for the lock");
        run(&mut migration, "COMMIT");
        assert_eq!(tags(&session.recv_ready(1)), "CZ");
        pause(&cluster, &proxy);
        run(&mut session, "COMMIT");
        assert_eq!(session.value(read), seen, "{change}");
        set_paused(cluster.info(), 1, false);
    }
}

/// The transaction has ended, although its string goes on, or the next block has begun.
#[test]
fn a_change_of_the_schema_counts_from_its_commit() {
    let (cluster, proxy) = known("CREATE TABLE a (n int); CREATE TABLE b (n int); CREATE TABLE u (n int)", "");
    let trigger = |table: &str| {
        format!(
            "CREATE FUNCTION note_{table}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO u VALUES (1); RETURN NEW; END';
             CREATE TRIGGER x AFTER INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION note_{table}();"
        )
    };
    let (mut migration, mut session) = (client(&proxy), client(&proxy));
    run(&mut migration, "BEGIN");
    run(&mut migration, &trigger("a"));
    run(&mut migration, "COMMIT AND CHAIN");
    pause(&cluster, &proxy);
    run(&mut session, "INSERT INTO a VALUES (1)");
    assert_eq!(session.value("SELECT count(*) FROM u"), "1");
    set_paused(cluster.info(), 1, false);
    run(&mut migration, "ROLLBACK");

    let goes_on = "DO 'BEGIN RAISE NOTICE ''it is done''; PERFORM pg_sleep(60); END'";
    migration.send(&query(&format!("BEGIN; {} COMMIT; {goes_on}", trigger("b"))));
    while migration.recv().tag != b'N' {}
    pause(&cluster, &proxy);
    run(&mut session, "INSERT INTO b VALUES (1)");
    assert_eq!(session.value("SELECT count(*) FROM u"), "2");
    set_paused(cluster.info(), 1, false);
}

/// By a function or procedure, or with a transaction that was prepared: no text tells. Which tables a write touches is not relied on until
/// that has been found out.
#[test]
fn a_change_of_the_schema_that_no_text_tells_counts_too() {
    let make = |number: u32| {
        format!(
            "CREATE TABLE a{number} (n int); CREATE TABLE u{number} (n int);
             CREATE FUNCTION note{number}() RETURNS trigger LANGUAGE plpgsql
                 AS 'BEGIN INSERT INTO u{number} VALUES (1); RETURN NEW; END';"
        )
    };
    let trigger = |number: u32| {
        format!("CREATE TRIGGER x AFTER INSERT ON a{number} FOR EACH ROW EXECUTE FUNCTION note{number}()")
    };
    let setup = format!(
        "{}{}{} CREATE FUNCTION migrate() RETURNS void LANGUAGE plpgsql AS $$BEGIN {}; END$$;
         CREATE PROCEDURE migrate_too() LANGUAGE plpgsql AS $$BEGIN {}; END$$",
        make(0),
        make(1),
        make(2),
        trigger(0),
        trigger(1)
    );
    let (cluster, proxy) = known(&setup, "catalog_interval = \"1h\"");
    let prepared = format!("BEGIN; {}; PREPARE TRANSACTION 'x'; COMMIT PREPARED 'x'", trigger(2));
    let changes = ["SELECT migrate()", "CALL migrate_too()", &prepared];
    for (number, change) in changes.iter().enumerate() {
        let (mut session, mut other) = (client(&proxy), client(&proxy));
        change.split("; ").for_each(|sql| run(&mut session, sql));
        pause(&cluster, &proxy);
        run(&mut session, &format!("INSERT INTO a{number} VALUES (1)"));
        assert_eq!(other.value(&format!("SELECT count(*) FROM u{number}")), "1", "{change}");
        set_paused(cluster.info(), 1, false);
    }
}

/// The same by a function that another one calls, and by triggers.
#[test]
fn a_change_of_the_schema_far_behind_a_statement_counts_too() {
    let make = |number: u32| {
        format!(
            "CREATE TABLE a{number} (n int); CREATE TABLE u{number} (n int); CREATE TABLE jobs{number} (n int PRIMARY KEY);
             CREATE FUNCTION note{number}() RETURNS trigger LANGUAGE plpgsql
                 AS 'BEGIN INSERT INTO u{number} VALUES (1); RETURN NEW; END';
             CREATE FUNCTION migrate{number}() RETURNS void LANGUAGE plpgsql AS $$BEGIN
                 CREATE TRIGGER x AFTER INSERT ON a{number} FOR EACH ROW EXECUTE FUNCTION note{number}(); END$$;
             CREATE FUNCTION start{number}() RETURNS trigger LANGUAGE plpgsql
                 AS 'BEGIN PERFORM migrate{number}(); RETURN NULL; END';"
        )
    };
    let trigger = |number: u32, table: &str, event: &str| {
        format!("CREATE TRIGGER x AFTER {event} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION start{number}();")
    };
    let mut setup: String = (0..5).map(make).collect();
    setup += "CREATE FUNCTION calls() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM Migrate0(); END';
              CREATE FUNCTION works() RETURNS void LANGUAGE sql AS 'INSERT INTO jobs2 VALUES (1)';
              CREATE TABLE parts3 (n int REFERENCES jobs3 ON DELETE CASCADE);
              INSERT INTO jobs3 VALUES (1); INSERT INTO parts3 VALUES (1);
              CREATE VIEW jobs AS SELECT * FROM jobs4;";
    setup += &trigger(1, "jobs1", "INSERT");
    setup += &trigger(2, "jobs2", "INSERT");
    setup += &trigger(3, "parts3", "DELETE");
    setup += &trigger(4, "jobs4", "UPDATE OR INSERT");
    let (cluster, proxy) = known(&setup, "catalog_interval = \"1h\"");
    let changes = [
        "SELECT calls()",
        "INSERT INTO jobs1 VALUES (1)",
        "SELECT works()",
        "DELETE FROM jobs3 WHERE n = 1",
        "WITH one AS (INSERT INTO jobs VALUES (1) RETURNING n) SELECT n FROM one",
    ];
    for (number, change) in changes.iter().enumerate() {
        let (mut session, mut other) = (client(&proxy), client(&proxy));
        run(&mut session, change);
        pause(&cluster, &proxy);
        run(&mut session, &format!("INSERT INTO a{number} VALUES (1)"));
        assert_eq!(other.value(&format!("SELECT count(*) FROM u{number}")), "1", "{change}");
        set_paused(cluster.info(), 1, false);
    }
}

#[test]
fn what_the_default_of_a_domain_changes_is_seen() {
    let (cluster, proxy) = known(
        "CREATE TABLE u (n int); CREATE TABLE a (k int);
         CREATE FUNCTION noted() RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO u VALUES (1); RETURN 5; END';
         CREATE DOMAIN five AS int DEFAULT noted(); ALTER TABLE a ADD COLUMN n five",
        "",
    );
    let stale = stale(cluster.info(), &proxy, "INSERT INTO a (k) VALUES (1)", "SELECT count(*) FROM u");
    assert!(stale.is_empty(), "{stale:?}");
}

/// On the primary, by what no table of the text tells.
#[test]
fn what_a_session_has_read_of_tables_and_sequences_does_not_go_back() {
    let (cluster, proxy) = known("CREATE TABLE a AS SELECT 1 AS n; CREATE SEQUENCE s", "consistency = \"session\"");
    let (mut writer, mut reader) = (client(&proxy), client(&proxy));
    for (number, read) in [
        "SELECT table_to_xml('a', true, false, '')",
        "SELECT query_to_xml('TABLE a', true, false, '')",
        "SELECT last_value FROM s",
    ]
    .iter()
    .enumerate()
    {
        pause(&cluster, &proxy);
        run(&mut writer, "UPDATE a SET n = n + 1 + 0 * nextval('s')");
        run(&mut reader, read);
        assert_eq!(reader.value("SELECT n FROM a"), (number + 2).to_string(), "{read}");
        set_paused(cluster.info(), 1, false);
    }
}

/// Of a commit the listeners learn before it is answered.
#[test]
fn what_a_notification_tells_of_is_seen() {
    let (cluster, proxy) = known("CREATE TABLE a AS SELECT 1 AS n", "consistency = \"session\"");
    let (mut writer, mut reader) = (client(&proxy), client(&proxy));
    run(&mut reader, "LISTEN c");
    pause(&cluster, &proxy);
    run(&mut writer, "UPDATE a SET n = 2; NOTIFY c");
    assert_eq!(reader.recv().tag, b'A');
    assert_eq!(reader.value("SELECT n FROM a"), "2");
    // With an answer, if the machine is not too slow for that.
    run(&mut writer, "UPDATE a SET n = 3");
    reader.send(&query("SELECT pg_sleep(1)"));
    run(&mut writer, "NOTIFY c");
    if !tags(&reader.recv_ready(1)).contains('A') {
        assert_eq!(reader.recv().tag, b'A');
    }
    assert_eq!(reader.value("SELECT n FROM a"), "3");
    set_paused(cluster.info(), 1, false);
}

/// Where its reads run beside it, or must see everything. (Otherwise all of it runs on its replica, as that is.)
#[test]
fn a_block_that_only_reads_sees_what_is_committed_meanwhile() {
    let (cluster, proxy) = known("CREATE TABLE a AS SELECT 1 AS n", "");
    let (mut writer, mut reader) = (client(&proxy), client(&proxy));
    pause(&cluster, &proxy);
    for (level, reads) in [("strong", "read_only"), ("table", "until_write"), ("strong", "until_write")] {
        run(&mut reader, &format!("SET trunkline.consistency = {level}"));
        run(&mut reader, &format!("SET trunkline.transaction_reads = {reads}"));
        let before: u32 = reader.value("SELECT n FROM a").parse().unwrap();
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY";
        run(&mut reader, begin);
        assert_eq!(reader.value("SELECT n FROM a"), before.to_string(), "{level}, {reads}");
        run(&mut writer, "UPDATE a SET n = n + 1");
        assert_eq!(reader.value("SELECT n FROM a"), (before + 1).to_string(), "{level}, {reads}");
        run(&mut reader, "COMMIT");
        if level == "strong" {
            run(&mut reader, &format!("{begin}; SELECT n FROM a"));
            run(&mut writer, "UPDATE a SET n = n + 1");
            assert_eq!(reader.value("SELECT n FROM a"), (before + 2).to_string(), "in one string, {reads}");
            run(&mut reader, "COMMIT");
        }
    }
    set_paused(cluster.info(), 1, false);
}

#[test]
fn what_a_procedure_has_committed_when_it_says_so_is_seen() {
    let (cluster, proxy) = known(
        "CREATE TABLE a AS SELECT 1 AS n; CREATE PROCEDURE p() LANGUAGE plpgsql AS
         'BEGIN UPDATE a SET n = 2; COMMIT; RAISE NOTICE ''done''; PERFORM pg_sleep(60); END'",
        "",
    );
    let (mut caller, mut reader) = (client(&proxy), client(&proxy));
    pause(&cluster, &proxy);
    caller.send(&query("CALL p()"));
    assert_eq!(caller.recv().tag, b'N');
    assert_eq!(reader.value("SELECT n FROM a"), "2");
    set_paused(cluster.info(), 1, false);
}

/// Roles and databases are those of all databases.
#[test]
fn what_databases_have_in_common_is_seen_in_each() {
    let cluster = cluster(1);
    let info = cluster.info();
    make_table(info);
    info.query(0, "postgres", "ALTER ROLE app CREATEROLE CREATEDB").unwrap();
    info.wait_replayed().unwrap();
    let port = info.primary_port();
    let proxy = before(info, &format!("[databases.postgres]\nprimary = \"host=127.0.0.1 port={port}\"")).start();
    let mut elsewhere = RawClient::connect(proxy.port(), APP, APP_PASSWORD, "postgres");
    let mut session = client(&proxy);
    pause(&cluster, &proxy);
    for (change, read) in [
        ("CREATE ROLE r", "SELECT count(*) FROM pg_roles WHERE rolname = 'r'"),
        (
            "GRANT r TO app",
            "SELECT count(*) FROM pg_auth_members WHERE roleid = (SELECT oid FROM pg_roles WHERE rolname = 'r')",
        ),
        ("ALTER ROLE r CREATEDB", "SELECT count(*) FROM pg_roles WHERE rolname = 'r' AND rolcreatedb"),
        ("CREATE DATABASE d", "SELECT count(*) FROM pg_database WHERE datname = 'd'"),
    ] {
        assert_eq!(session.value(read), "0", "{change}");
        run(&mut elsewhere, change);
        assert_eq!(session.value(read), "1", "{change}");
        set_paused(info, 1, false);
        pause(&cluster, &proxy);
    }
    set_paused(info, 1, false);
}

/// By another name in the catalog, after a change past Trunkline.
#[test]
fn what_was_written_to_a_partition_is_seen_in_what_becomes_of_it() {
    let (cluster, proxy) = known(
        "CREATE TABLE p (n int) PARTITION BY RANGE (n); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9)",
        "catalog_interval = \"100ms\"",
    );
    let mut session = client(&proxy);
    pause(&cluster, &proxy);
    run(&mut session, "INSERT INTO p VALUES (1)");
    cluster.info().query(0, "app", "ALTER TABLE p DETACH PARTITION p1").unwrap();
    for _ in 0..20 {
        // Each time one that has not seen it yet.
        assert_eq!(client(&proxy).value("SELECT count(*) FROM p1"), "1");
        thread::sleep(Duration::from_millis(100));
    }
    set_paused(cluster.info(), 1, false);
}
