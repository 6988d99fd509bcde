//! What a session has set is refused by another server connection: whatever the client sends next does not run without it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

#[path = "settings_refused/on_replicas.rs"]
mod on_replicas;

use support::clusters::APP;
use support::frames::{Batch, Frame, tags};
use support::raw::RawClient;
use support::world::{Plan, World};

fn batch() -> Batch {
    Batch::new()
}

/// Sets something, lets another client take the only connection over, and returns the client.
fn after_another(world: &World, settings: &str) -> RawClient {
    let mut client = world.client();
    assert_eq!(tags(&client.exchange(&batch().query(settings))).matches('E').count(), 0, "{settings}");
    let mut other = world.client();
    other.exchange(&batch().query("SET application_name = 'other'"));
    assert_eq!(other.value("SELECT current_user FOR UPDATE"), APP);
    client
}

/// Both protocols: what must not run as somebody else.
fn writes() -> [Batch; 2] {
    [
        batch().query("INSERT INTO log VALUES (current_user)"),
        batch().run("INSERT INTO log VALUES (current_user)", &[]).sync(),
    ]
}

#[test]
fn nothing_runs_with_another_role_than_the_sessions_trap_55() {
    let role = format!("refused_{}", std::process::id());
    let sql = format!(
        "RESET ROLE; CREATE TABLE log (who text); GRANT ALL ON log TO public; CREATE ROLE {role}; GRANT {role} TO app"
    );
    let world = Plan { sql: &sql, pool: "size = 1", primary_only: true, ..Plan::default() }.start();
    let settings = format!("SET ROLE {role}; SET search_path TO public, \"$user\"");
    for write in writes() {
        world.db.run(&format!("GRANT {role} TO {APP}"));
        let mut client = after_another(&world, &settings);
        assert_eq!(tags(&client.exchange(&write)).matches('E').count(), 0);
        assert_eq!(world.db.run("SELECT string_agg(DISTINCT who, ',') FROM log"), role);
        let mut client = after_another(&world, &settings);
        world.db.run(&format!("REVOKE {role} FROM {APP}"));
        client.send(&write);
        let frame = client.recv();
        assert_eq!((frame.sqlstate().as_str(), frame.field(b'S').as_deref()), ("08006", Some("FATAL")), "{frame:?}");
        let detail = frame.field(b'D').unwrap();
        assert!(detail.contains("permission denied to set role") && detail.contains("not executed"), "{detail}");
        assert!(client.is_closed());
        assert_eq!(world.db.run("SELECT string_agg(DISTINCT who, ',') FROM log"), role);
    }
    // The connection that refused them is not taken for one that has them, by whoever set the same.
    world.db.run(&format!("GRANT {role} TO {APP}"));
    let mut twin = after_another(&world, &settings);
    let mut client = after_another(&world, &settings);
    world.db.run(&format!("REVOKE {role} FROM {APP}"));
    for session in [&mut client, &mut twin] {
        session.send(&batch().query("INSERT INTO log VALUES (current_user)"));
        assert_eq!(session.recv().sqlstate(), "08006");
        assert!(session.is_closed());
    }
    assert_eq!(world.db.run("SELECT string_agg(DISTINCT who, ',') FROM log"), role);
    // A block that begins with it does not run either.
    world.db.run(&format!("GRANT {role} TO {APP}"));
    let mut client = after_another(&world, &settings);
    world.db.run(&format!("REVOKE {role} FROM {APP}"));
    client.exchange(&batch().query("BEGIN"));
    client.send(&batch().query("INSERT INTO log VALUES (current_user)").query("COMMIT"));
    assert_eq!(client.recv().sqlstate(), "08006");
    assert!(client.is_closed());
    assert_eq!(world.db.run("SELECT string_agg(DISTINCT who, ',') FROM log"), role);
    world.db.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    // The pool is none the worse.
    assert_eq!(world.client().value("SELECT current_user FOR UPDATE"), APP);
}

/// One name that the server does not take makes all of a string void: nothing runs with another client's `search_path`.
#[test]
fn nothing_runs_when_one_of_several_settings_is_refused_trap_55() {
    let sql = "CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.log (who text); CREATE TABLE b.log (who text); \
               CREATE TABLE log (who text); CREATE TEXT SEARCH CONFIGURATION short_lived (COPY = simple)";
    let world = Plan { sql, pool: "size = 1", primary_only: true, ..Plan::default() }.start();
    let mut other = world.client();
    other.exchange(&batch().query("SET search_path TO b"));
    let mut client = world.client();
    client.exchange(&batch().query("SET search_path TO a; SET default_text_search_config TO 'public.short_lived'"));
    assert_eq!(other.value("SELECT current_schema() FOR UPDATE"), "b");
    world.db.run("DROP TEXT SEARCH CONFIGURATION short_lived");
    client.send(&batch().query("INSERT INTO log VALUES ('mine')"));
    let frame = client.recv();
    assert_eq!(frame.sqlstate(), "08006", "{frame:?}");
    assert_eq!(
        world.db.run("SELECT (SELECT count(*) FROM a.log) + (SELECT count(*) FROM b.log) + (SELECT count(*) FROM log)"),
        "0"
    );
}

/// Time-outs of the client before are in force until the settings are others.
#[test]
fn settings_wait_for_their_answer_when_a_time_out_is_in_force() {
    let world = Plan { pool: "size = 1", primary_only: true, ..Plan::default() }.start();
    let (mut hasty, mut client) = (world.client(), world.client());
    hasty.exchange(&batch().query("SET statement_timeout = '200ms'"));
    client.exchange(&batch().query("SET work_mem = '5MB'"));
    for _ in 0..20 {
        assert_eq!(hasty.value("SELECT current_setting('statement_timeout') FOR UPDATE"), "200ms");
        assert_eq!(
            client.value("SELECT current_setting('work_mem') || current_setting('statement_timeout') FOR UPDATE"),
            "5MB0"
        );
    }
    client.exchange(&batch().query("BEGIN"));
    assert_eq!(client.value("SELECT pg_sleep(0.4), current_setting('work_mem')").len(), 0);
    client.exchange(&batch().query("COMMIT"));
}

/// Where temporary tables have been read `temp_buffers` stays as it is: another connection takes what the session has set.
#[test]
fn what_a_client_before_has_done_stands_against_no_setting() {
    let world =
        Plan { sql: "CREATE TABLE log (who text)", pool: "size = 2", primary_only: true, ..Plan::default() }.start();
    let temporary = "BEGIN; CREATE TEMP TABLE mine ON COMMIT DROP AS SELECT 1 AS a";
    let use_all = || {
        let mut clients = [world.client(), world.client()];
        for sql in [temporary, "COMMIT"] {
            for client in &mut clients {
                assert!(!tags(&client.exchange(&batch().query(sql))).contains('E'));
            }
        }
    };
    let mut client = world.client();
    assert_eq!(tags(&client.exchange(&batch().query("SET temp_buffers = '2MB'"))), "CZ");
    for write in writes() {
        use_all();
        assert_eq!(tags(&client.exchange(&write)).matches('E').count(), 0);
        assert_eq!(client.value("SELECT current_setting('temp_buffers') FOR UPDATE"), "2MB");
    }
    // Set while others' are in force, by any protocol, and for a transaction.
    let prepared = |sql: &str| batch().run(sql, &[]).sync();
    for set in [batch().query("SET temp_buffers = '3MB'"), prepared("SET Temp_Buffers TO '3MB'")] {
        use_all();
        assert_eq!(tags(&world.client().exchange(&set)).matches('E').count(), 0);
    }
    use_all();
    let mut client = world.client();
    assert_eq!(tags(&client.exchange(&batch().query("BEGIN"))), "CZ");
    assert_eq!(tags(&client.exchange(&batch().query("SET LOCAL temp_buffers = '3MB'"))), "CZ");
    drop(client);
    // At the login.
    use_all();
    let mut client = world.client_with(&[("temp_buffers", "4MB")]);
    assert_eq!(client.value("SELECT current_setting('temp_buffers') FOR UPDATE"), "4MB");
}

/// What PL/pgSQL does not define it takes away when it is loaded, and refuses from then on: a single server would not end the session.
#[test]
fn a_name_that_an_extension_has_for_itself_is_given_up_trap_58() {
    let world = Plan { pool: "size = 1", primary_only: true, ..Plan::default() }.start();
    let loads = "DO $$ BEGIN NULL; END $$";
    for (round, first) in [batch().query("SELECT 1"), batch().run("SELECT 1", &[]).sync()].iter().enumerate() {
        let (mut client, mut other) = (world.client(), world.client());
        let set = format!("SET plpgsql.nope{round} = 'x'; SET app.name = 'kept'");
        assert_eq!(tags(&client.exchange(&batch().query(&set))), "CCZ");
        assert_eq!(tags(&other.exchange(&batch().query(loads))), "CZ");
        assert!(tags(&client.exchange(first)).contains('D'), "{round}");
        assert_eq!(client.value("SELECT current_setting('app.name')"), "kept");
        assert_eq!(client.failure(&format!("SHOW plpgsql.nope{round}")), "42704");
        // On the connection itself: what comes to it next is not concerned.
        let set = format!("SET plpgsql.never{round} = 'x'");
        assert_eq!(tags(&client.exchange(&batch().query(&set))), "CZ");
        client.exchange(&batch().query(loads));
        assert!(tags(&other.exchange(first)).contains('D'), "{round}");
        assert!(tags(&client.exchange(first)).contains('D'), "{round}");
        // What is defined is a setting as any other.
        assert_eq!(tags(&client.exchange(&batch().query("SET plpgsql.extra_warnings = 'all'"))), "CZ");
        assert_eq!(tags(&other.exchange(&batch().query(loads))), "CZ");
        assert_eq!(client.value("SHOW plpgsql.extra_warnings"), "all");
    }
}
