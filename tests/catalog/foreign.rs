//! Foreign tables that lead back to the same cluster: what is written through them is seen, however they are reached.

use super::*;
use crate::support::frames::{Batch, tags};
use trunkline::app::demo::Cluster;

/// Replicas are late: a read that goes to one too early is stale.
fn late() -> Cluster {
    let settings = vec![("recovery_min_apply_delay".to_owned(), "150ms".to_owned())];
    clusters::start(ClusterOptions { settings, replicas: 1, ..clusters::options() })
}

const TABLES: &str = "
    CREATE TABLE t (n int, v text); CREATE TABLE parent (n int, v text); CREATE TABLE parts (n int, v text) PARTITION BY LIST (n);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1); CREATE TABLE source (n int);
";

/// Foreign tables of every kind over `t`, which is in the same database.
fn make(world: &World) {
    let (port, name) = (world.db.cluster().primary_port(), &world.db.name);
    world.db.run(&format!(
        "CREATE EXTENSION postgres_fdw;
         CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{port}', dbname '{name}');
         GRANT USAGE ON FOREIGN SERVER loop TO {APP};
         CREATE USER MAPPING FOR {APP} SERVER loop OPTIONS (user '{APP}', password '{APP_PASSWORD}');
         SET ROLE {APP};
         CREATE FOREIGN TABLE far (n int, v text) SERVER loop OPTIONS (table_name 't');
         CREATE FOREIGN TABLE child () INHERITS (parent) SERVER loop OPTIONS (table_name 't');
         CREATE FOREIGN TABLE parts_2 PARTITION OF parts FOR VALUES IN (2) SERVER loop OPTIONS (table_name 't');
         CREATE VIEW near AS SELECT * FROM far; CREATE VIEW nearer AS SELECT n, v FROM near WHERE n > 0;
         CREATE MATERIALIZED VIEW kept AS SELECT * FROM far;
         CREATE FUNCTION write_far() RETURNS void LANGUAGE sql AS 'INSERT INTO far VALUES (1, ''by a function'')';
         CREATE FUNCTION pass_on() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO far VALUES (NEW.n, ''by a trigger''); RETURN NEW; END';
         CREATE TRIGGER pass_on AFTER INSERT ON source FOR EACH ROW EXECUTE FUNCTION pass_on()"
    ));
    world.client().rows("CREATE TABLE another (n int)");
    world.settle();
}

#[test]
fn traps_16_and_91_foreign_tables_by_whatever_way_are_the_primarys() {
    let world = world(TABLES);
    make(&world);
    for sql in [
        "SELECT * FROM far",
        "TABLE nearer",
        "SELECT * FROM parent",
        "SELECT * FROM parts",
        "SELECT (SELECT count(*) FROM nearer) FROM source",
        "WITH x AS (SELECT * FROM near) SELECT * FROM x",
    ] {
        is_for_primary(&world, sql, "relation", "foreign table public.");
        assert_eq!(touched(&world, sql).0, "all", "{sql}");
    }
    is_read(&world, "SELECT * FROM ONLY t");
    is_read(&world, "SELECT * FROM kept");
    // What another session makes meanwhile is known before it is told that it is made.
    let mut maker = world.client();
    for (made, read) in [
        ("IMPORT FOREIGN SCHEMA public LIMIT TO (another) FROM SERVER loop INTO other", "SELECT * FROM other.another"),
        ("ALTER TABLE divided ATTACH PARTITION far_part FOR VALUES IN (1)", "SELECT * FROM divided"),
        ("ALTER FOREIGN TABLE far_child INHERIT divided_parent", "SELECT * FROM divided_parent"),
        ("CREATE OR REPLACE VIEW plain AS SELECT * FROM far", "SELECT * FROM plain"),
        (
            "ALTER TABLE another RENAME TO another_was; ALTER FOREIGN TABLE spare RENAME TO another",
            "SELECT * FROM another",
        ),
    ] {
        if made.starts_with("IMPORT") {
            maker.rows("CREATE SCHEMA other; CREATE TABLE divided (n int) PARTITION BY LIST (n); CREATE TABLE divided_parent (n int);
                 CREATE FOREIGN TABLE far_part (n int) SERVER loop OPTIONS (table_name 'another');
                 CREATE FOREIGN TABLE far_child (n int) SERVER loop OPTIONS (table_name 'another');
                 CREATE FOREIGN TABLE spare (n int) SERVER loop OPTIONS (table_name 'source');
                 CREATE VIEW plain AS SELECT * FROM t");
            world.settle();
            is_read(&world, "SELECT * FROM divided");
            is_read(&world, "SELECT * FROM plain");
            is_read(&world, "SELECT * FROM another");
        }
        maker.rows(made);
        let (target, _, _) = route(&world, read);
        assert_eq!(target, "primary", "{read} right behind {made}");
        world.settle();
        is_for_primary(&world, read, "relation", "foreign table");
    }
}

/// What a STABLE function reads there it reads on the primary, too: a replica may not have it.
#[test]
fn traps_3_and_16_functions_that_read_foreign_tables_are_for_the_primary() {
    let world = world(TABLES);
    make(&world);
    world.db.run(&format!(
        "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
         DO $$ DECLARE file text := current_setting('data_directory') || '/{name}'; BEGIN
             EXECUTE format('COPY (SELECT 4711) TO %L', file);
             EXECUTE format('CREATE FOREIGN TABLE only_there (n int) SERVER files OPTIONS (filename %L)', file);
         END $$;
         CREATE VIEW \"Seen there\" AS SELECT n FROM only_there; CREATE TABLE over_there (n int);
         ALTER FOREIGN TABLE only_there INHERIT over_there;
         CREATE FUNCTION by_text() RETURNS int STABLE LANGUAGE sql AS 'SELECT n FROM ONLY_THERE';
         CREATE FUNCTION by_tree() RETURNS int STABLE LANGUAGE sql BEGIN ATOMIC SELECT n FROM over_there; END;
         CREATE FUNCTION by_view() RETURNS int STABLE LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT n FROM \"Seen there\"); END';
         CREATE FUNCTION by_another() RETURNS int STABLE LANGUAGE sql AS 'SELECT by_view()';
         CREATE FUNCTION elsewhere() RETURNS int STABLE LANGUAGE sql AS 'SELECT count(*)::int FROM t AS only_there_not';
         CREATE VIEW calling AS SELECT by_another() AS n;
         GRANT SELECT ON ALL TABLES IN SCHEMA public TO {APP}",
        name = world.db.name,
    ));
    world.client().rows("CREATE TABLE yet_another (n int)");
    world.settle();
    let mut client = world.client();
    for sql in
        ["SELECT by_text()", "SELECT by_tree()", "SELECT by_view()", "SELECT by_another()", "SELECT n FROM calling"]
    {
        is_for_primary(&world, sql, "relation", "reads a foreign table");
        assert_eq!(touched(&world, sql).0, "all", "{sql}");
        for _ in 0..3 {
            assert_eq!(client.value(sql), "4711", "{sql}");
        }
    }
    is_read(&world, "SELECT elsewhere()");
}

#[test]
fn trap_91_what_is_written_through_a_foreign_table_is_seen() {
    for level in ["table", "session"] {
        let cluster = late();
        let routing = format!("consistency = \"{level}\"");
        let world = world_on(cluster.info(), Plan { sql: TABLES, routing: &routing, ..Plan::default() });
        make(&world);
        let mut writer = world.client();
        let mut other = world.client();
        let mut count = 0;
        for sql in [
            "INSERT INTO far VALUES (1, 'x')",
            "INSERT INTO nearer VALUES (2, 'x')",
            "INSERT INTO parts VALUES (2, 'x')",
            "SELECT write_far()",
            "INSERT INTO source VALUES (5)",
            "DO 'BEGIN INSERT INTO far VALUES (1); END'",
            "BEGIN; INSERT INTO far VALUES (7); COMMIT",
            "PREPARE p AS INSERT INTO far VALUES (8)",
            "EXECUTE p",
            "WITH x AS (INSERT INTO far VALUES (9) RETURNING n) SELECT * FROM x",
            "EXPLAIN ANALYZE INSERT INTO far VALUES (10)",
        ] {
            for extended in [false, true] {
                if extended && (sql.starts_with("BEGIN") || sql.starts_with("PREPARE")) {
                    continue;
                }
                let batch = if extended { Batch::new().run(sql, &[]).sync() } else { Batch::new().query(sql) };
                let frames = writer.exchange(&batch);
                assert!(!tags(&frames).contains('E'), "{sql}: {frames:?}");
                let mine = writer.value("SELECT count(*) FROM t");
                let others = other.value("SELECT count(*) FROM t");
                let truth = world.db.run("SELECT count(*) FROM t");
                assert_eq!(mine, truth, "{level}: {sql}, extended: {extended}: it was written before the read");
                if level == "table" {
                    assert_eq!(others, truth, "{level}: {sql}, extended: {extended}: for others, too");
                }
                count = truth.parse::<usize>().unwrap();
            }
        }
        for sql in [
            "UPDATE far SET v = 'one'",
            "UPDATE parent SET v = 'two'",
            "UPDATE nearer SET v = 'three'",
            "UPDATE parts SET v = 'four'",
        ] {
            writer.rows(sql);
            let word = sql.rsplit(' ').next().unwrap().trim_matches('\'');
            let seen = writer.value(&format!("SELECT count(*) > 0 FROM t WHERE v = '{word}'"));
            assert_eq!(seen, "t", "{level}: {sql}");
        }
        writer.send(&Batch::new().query("COPY far FROM STDIN").copy_data(b"11\tx\n12\tx\n").copy_done());
        let frames = writer.recv_ready(1);
        assert!(tags(&frames).ends_with("CZ"), "{frames:?}");
        assert_eq!(writer.value("SELECT count(*) FROM t"), (count + 2).to_string());
        writer.rows("TRUNCATE far");
        assert_eq!(writer.value("SELECT count(*) FROM t"), "0");
    }
}
