//! Settings that a session gets without a `SET` that is answered by a CommandComplete: in portals that are suspended, through the view
//! `pg_settings`, by texts that run within other texts. They are that session's own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::frames::{Batch, summary, tags};
use support::raw::RawClient;
use support::world::{Plan, World};

fn batch() -> Batch {
    Batch::new()
}

fn world(pool: &str) -> World {
    let sql = "CREATE TABLE t (id int); GRANT ALL ON t TO public;
        CREATE FUNCTION sets(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN set_config('app.tenant', $1, false); END $$;
        CREATE FUNCTION updates() RETURNS void LANGUAGE plpgsql AS $$
            BEGIN UPDATE pg_catalog.pg_settings SET setting = '20MB' WHERE name = 'work_mem'; END $$;
        CREATE FUNCTION sets_too(v text) RETURNS text BEGIN ATOMIC SELECT 1; SELECT set_config('app.tenant', v, false); END;
        CREATE FUNCTION sets_not(v text) RETURNS text RETURN set_config('app.tenant', v, true);
        CREATE VIEW setting AS SELECT set_config('app.tenant', 'v', false) AS value; GRANT ALL ON setting TO public";
    let tables = "[admin]\nadmin_users = [\"app\"]\n";
    let world = Plan { sql, pool, tables, primary_only: true, ..Plan::default() }.start();
    world.settle();
    world
}

fn set(client: &mut RawClient) -> String {
    client.value("SELECT current_setting('work_mem') || coalesce(current_setting('app.tenant', true), '')")
}

/// The session reads what it would on a connection of its own, as often as it asks, and no other ever does.
fn compare(world: &World, what: &str, script: &[Batch]) {
    let mut direct = world.direct();
    let mut client = world.client();
    let mut other = world.client();
    for batch in script {
        let expected = tags(&direct.exchange(batch));
        let frames = client.exchange(batch);
        assert_eq!(tags(&frames), expected, "{what}: {}", summary(&frames));
    }
    let wanted = set(&mut direct);
    eprintln!("{what}: {wanted:?}");
    for _ in 0..3 {
        assert_eq!(set(&mut other), "4MB", "{what}: another client's");
        assert_eq!(set(&mut client), wanted, "{what}");
    }
    drop(client);
    for _ in 0..3 {
        assert_eq!(set(&mut world.client()), "4MB", "{what}: after it");
    }
}

/// Of a statement that is executed for a number of rows at most.
fn limited(sql: &str, rows: i32) -> Batch {
    batch().parse("", sql, &[]).bind("", "", &[]).execute("", rows)
}

const SET: &str = "SELECT set_config('app.tenant', 'v', false)";

#[test]
fn a_suspended_portal_has_set_traps_39_53() {
    let world = world("size = 1");
    let with_parameter = batch().parse("s", "SELECT set_config('app.tenant', $1, false)", &[]);
    let suspended = || limited(SET, 1);
    let query = |sql: &str| batch().query(sql);
    for (what, script) in [
        ("one row", vec![suspended().sync()]),
        ("two rows", vec![limited(SET, 2).sync()]),
        (
            "a parameter",
            vec![with_parameter.bind("p", "s", &[Some("alice")]).describe(b'P', "p").execute("p", 1).sync()],
        ),
        ("twice", vec![suspended().execute("", 1).sync()]),
        ("closed", vec![suspended().flush().close(b'P', "").sync()]),
        ("a statement behind it", vec![suspended().run("SELECT 1", &[]).sync()]),
        ("an error behind it", vec![suspended().run("SELECT 1/0", &[]).sync()]),
        ("a block", vec![query("BEGIN"), suspended().sync(), query("COMMIT")]),
        ("a block that is rolled back", vec![query("BEGIN"), suspended().sync(), query("ROLLBACK")]),
        ("a block that fails", vec![query("BEGIN"), suspended().run("SELECT 1/0", &[]).sync(), query("COMMIT")]),
        ("a savepoint", vec![query("BEGIN; SAVEPOINT a"), suspended().sync(), query("ROLLBACK TO a"), query("COMMIT")]),
        (
            "a portal that goes on",
            vec![
                query("BEGIN"),
                batch().parse("", SET, &[]).bind("p", "", &[]).execute("p", 1).sync(),
                batch().execute("p", 1).sync(),
                query("COMMIT"),
            ],
        ),
        (
            "a block in one segment",
            vec![
                batch()
                    .run("BEGIN", &[])
                    .parse("", SET, &[])
                    .bind("", "", &[])
                    .execute("", 1)
                    .run("COMMIT", &[])
                    .sync(),
            ],
        ),
        (
            "several",
            vec![limited("SELECT set_config('app.tenant', 'v', false), set_config('app.x', 'y', false)", 1).sync()],
        ),
        ("for the transaction", vec![limited("SELECT set_config('app.tenant', 'v', true)", 1).sync()]),
        ("nothing", vec![limited("", 1).sync()]),
    ] {
        compare(&world, what, &script);
    }
    // What the server reports, too.
    compare(&world, "reported", &[limited("SELECT set_config('DateStyle', 'german', false)", 1).sync()]);
    assert_eq!(world.client().value("SELECT date '1999-01-08'"), "1999-01-08");
}

#[test]
fn a_suspended_portal_may_have_set_anything_traps_39_53() {
    let world = world("size = 2");
    let expression = "SELECT set_config('app.tenant', 'v' || 1, false)";
    let rows = "SELECT set_config('app.tenant', i::text, false) FROM generate_series(1, 3) AS i";
    let query = |sql: &str| batch().query(sql);
    for (what, script) in [
        ("an expression", vec![limited(expression, 1).sync()]),
        ("some of the rows", vec![limited(rows, 2).sync()]),
        ("some of the rows, and an error", vec![limited(rows, 2).run("SELECT 1/0", &[]).sync()]),
        ("a block that ends before it", {
            vec![
                query("BEGIN"),
                batch().run("ROLLBACK", &[]).parse("", expression, &[]).bind("", "", &[]).execute("", 1).sync(),
            ]
        }),
        ("EXECUTE", vec![query(&format!("PREPARE q AS {SET}")), limited("EXECUTE q", 1).sync()]),
        ("a function", vec![limited("SELECT sets('v')", 1).sync()]),
    ] {
        compare(&world, what, &script);
    }
}

#[test]
fn an_update_of_the_view_of_settings_sets_trap_53() {
    let world = world("size = 2");
    let assigns = "SET setting = '20MB' WHERE name = 'work_mem'";
    for sql in [
        format!("UPDATE pg_settings {assigns}"),
        format!("update pg_catalog.pg_settings {assigns}"),
        format!("UPDATE ONLY \"pg_settings\" AS s {assigns}"),
        format!("UPDATE \"pg_catalog\" . \"pg_settings\" s {assigns}"),
        format!("UPDATE U&\"pg\\005fsettings\" {assigns}"),
        format!("EXPLAIN (ANALYZE, FORMAT json) UPDATE pg_settings {assigns}"),
        format!("SET app.x = 'y'; UPDATE pg_settings {assigns}"),
        format!("DO $$ BEGIN UPDATE pg_settings {assigns}; END $$"),
        format!("PREPARE q AS UPDATE pg_settings {assigns}; EXECUTE q"),
        "SELECT updates()".to_owned(),
    ] {
        compare(&world, &sql, &[batch().query(&sql)]);
    }
    compare(&world, "extended", &[batch().run(&format!("UPDATE pg_settings {assigns}"), &[]).sync()]);
}

#[test]
fn what_sets_by_another_name_or_text_trap_53() {
    let world = world("size = 2");
    let quoted = SET.replace('\'', "''");
    for sql in [
        "SELECT U&\"set\\005fconfig\"('app.tenant', 'v', false)".to_owned(),
        "SELECT U&\"set!005fconfig\" UESCAPE '!' ('app.tenant', 'v', false)".to_owned(),
        "SELECT pg_catalog.U&\"set\\005fconfig\"('app.tenant', 'v', false)".to_owned(),
        format!("SELECT query_to_xml('{quoted}', true, true, '') IS NULL"),
        format!("SELECT query_to_xml_and_xmlschema(E'{}', true, true, '') IS NULL", quoted.replace('_', "\\x5f")),
        "SELECT query_to_xml('SELECT set_con' || 'fig(''app.tenant'', ''v'', false)', true, true, '') IS NULL"
            .to_owned(),
        "SELECT query_to_xml('SELECT sets(''v'')', true, true, '') IS NULL".to_owned(),
        "SELECT count(*) FROM ts_stat($q$SELECT to_tsvector('simple', set_config('app.tenant', 'v', false))$q$)"
            .to_owned(),
        "SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, set_config(''app.tenant'', ''v'', false)::tsquery')"
            .to_owned(),
        // Each by itself is followed, or pins.
        "SET app.x = 'y'; SELECT sets('v')".to_owned(),
        "SELECT * FROM setting".to_owned(),
    ] {
        compare(&world, &sql, &[batch().query(&sql)]);
    }
}

/// What only might have run another text is no reason to keep the connection.
#[test]
fn what_sets_nothing_pins_nothing() {
    let world = world("size = 1");
    let mut client = world.client();
    let mut other = world.client();
    for sql in [
        "SELECT * FROM pg_settings WHERE name = 'update'",
        "SELECT query_to_xml('SELECT 1 AS a', true, true, '') IS NULL",
        "SELECT count(*) FROM ts_stat('SELECT to_tsvector(''simple'', ''a'')')",
        "SELECT ts_rewrite('a'::tsquery, 'a'::tsquery, 'b'::tsquery)",
        "SET app.x = 'y'; SET LOCAL app.z = 'y'; INSERT INTO t VALUES (1)",
        "SELECT U&\"l\\006fwer\"('A')",
    ] {
        assert!(!tags(&client.exchange(&batch().query(sql))).contains('E'), "{sql}");
        assert_eq!(other.value("SELECT 1"), "1", "{sql}");
    }
}

/// Drivers bind numbers and truths as what they are: what is set is the text that the server makes of them.
#[test]
fn parameters_that_are_no_texts() {
    let world = world("size = 2");
    const INT2: u32 = 21;
    const INT4: u32 = 23;
    const INT8: u32 = 20;
    const BOOL: u32 = 16;
    const UUID: u32 = 2950;
    let values: [(u32, &[u8], i16); 9] = [
        (INT4, &[0, 0, 0, 42], 1),
        (INT4, &[0, 0, 42, 0], 1),
        (INT8, &[255; 8], 1),
        (INT2, &[1, 1], 1),
        (INT4, b" +0042", 0),
        (BOOL, &[1], 1),
        (BOOL, b"off", 0),
        (UUID, &[0x41; 16], 1),
        (UUID, b"A0EEBC999C0B4EF8BB6D6BB9BD380A11", 0),
    ];
    for (of, value, format) in values {
        for (local, is_local) in [(&[0][..], "false"), (&[1], "true")] {
            let mut bind = b"\0\0".to_vec();
            bind.extend_from_slice(&[0, 2]);
            bind.extend_from_slice(&format.to_be_bytes());
            bind.extend_from_slice(&[0, 1, 0, 2]);
            for value in [value, local] {
                bind.extend_from_slice(&i32::try_from(value.len()).unwrap().to_be_bytes());
                bind.extend_from_slice(value);
            }
            bind.extend_from_slice(&[0, 0]);
            let sql = "SELECT set_config('app.tenant', $1::text, $2)";
            let script = batch().parse("", sql, &[of, BOOL]).raw(b'B', &bind).execute("", 0).sync();
            compare(&world, &format!("type {of}, {value:?}, {is_local}"), &[script]);
        }
    }
}

/// A function in standard SQL has a tree for a body.
#[test]
fn functions_in_standard_sql() {
    let world = world("size = 1");
    let (mut client, mut other) = (world.client(), world.client());
    assert_eq!(client.value("SELECT sets_not('b')"), "b");
    assert_eq!(set(&mut other), "4MB", "it was for the transaction");
    drop((client, other));
    let world = self::world("size = 2");
    compare(&world, "it sets", &[batch().query("SELECT sets_too('b')")]);
}
