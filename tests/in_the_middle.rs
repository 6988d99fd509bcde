//! What stands in the middle of something else — held cursors, savepoints, two-phase commits, roles, portals, COPY — compared byte for byte
//! with a direct connection, while another client uses the same server connections. Tests name the traps that they show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::frames::{Batch, Frame, summary};
use support::raw::RawClient;
use support::world::{Plan, Step, World, queries, ready, segments};

const SQL: &str = "RESET ROLE; DO $$ BEGIN CREATE ROLE middle_guest; \
     EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; GRANT middle_guest TO app; SET ROLE app; \
     CREATE TABLE t (v int); CREATE TABLE copied (n int CHECK (n > 0)); \
     CREATE TABLE secrets (owner text, tenant text, v int); \
     INSERT INTO secrets VALUES ('app', 'a', 1), ('app', 'b', 2), ('middle_guest', 'a', 3), ('middle_guest', 'b', 4); \
     ALTER TABLE secrets ENABLE ROW LEVEL SECURITY; ALTER TABLE secrets FORCE ROW LEVEL SECURITY; \
     CREATE POLICY own ON secrets USING (owner = current_user AND tenant = current_setting('app.tenant')); \
     GRANT ALL ON secrets, t, copied TO middle_guest";

fn batch() -> Batch {
    Batch::new()
}

/// What must be the same; a ParameterStatus may come at other moments, but not another value.
fn said(frames: &[Frame]) -> Vec<&Frame> {
    frames.iter().filter(|frame| frame.tag != b'S').collect()
}

fn connect(world: &World, direct: bool) -> RawClient {
    let parameters = [("options", "-c app.tenant=a")];
    if !direct {
        return world.client_with(&parameters);
    }
    let mut all = vec![("user", "app"), ("database", world.db.name.as_str())];
    all.extend_from_slice(&parameters);
    RawClient::connect_with(world.db.cluster().primary_port(), support::clusters::APP_PASSWORD, &all)
}

/// Runs the script directly and through the proxy; between its steps a rival leaves what it can on the connections.
fn compare(world: &World, what: &str, script: &[Step]) -> Vec<String> {
    let mut direct = connect(world, true);
    let expected: Vec<_> = script.iter().map(|step| step.run(&mut direct)).collect();
    direct.vanish();
    let mut client = connect(world, false);
    let mut rival = connect(world, false);
    let mut wrong = Vec::new();
    let mut free = true;
    for (number, (step, expected)) in script.iter().zip(&expected).enumerate() {
        if free {
            for sql in [
                "SET ROLE middle_guest; SET app.tenant = 'b'; SET work_mem = '3MB'",
                "SELECT count(*) FROM secrets",
                "BEGIN; DECLARE h CURSOR FOR SELECT 'not yours'; SAVEPOINT a",
                "ROLLBACK",
            ] {
                rival.exchange(&batch().query(sql));
            }
        }
        let frames = step.run(&mut client);
        free = expected.last().is_some_and(|ready| ready.tag == b'Z' && ready.body == b"I");
        if said(&frames) != said(expected) {
            wrong.push(format!(
                "{what}, step {number}\n  direct:  {}\n  through: {}",
                summary(expected),
                summary(&frames)
            ));
        }
    }
    wrong
}

/// Each script statement by statement: as Queries, and by the extended protocol, under these names.
fn in_both_protocols(names: [&'static str; 2], scripts: &[&[&str]]) -> Vec<(&'static str, Vec<Step>)> {
    scripts.iter().flat_map(|sql| [(names[0], queries(sql)), (names[1], segments(sql))]).collect()
}

fn check(world: &World, scripts: &[(&str, Vec<Step>)]) {
    let wrong: Vec<_> = scripts.iter().flat_map(|(what, script)| compare(world, what, script)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn worlds() -> [World; 2] {
    let plan = Plan { sql: SQL, pool: "size = 2\nwait_timeout = \"20s\"", ..Plan::default() };
    let alone = Plan { primary_only: true, ..plan }.start();
    let split = Plan { routing: "consistency = \"table\"", ..plan }.start();
    split.db.wait_replayed();
    [alone, split]
}

const SERIES: &str = "SELECT n FROM generate_series(1, 5) AS n";

#[test]
fn held_cursors_trap_58() {
    let held = format!("DECLARE h CURSOR WITH HOLD FOR {SERIES}");
    let held = held.as_str();
    let scripts: [&[&str]; 9] = [
        &["BEGIN", held, "FETCH 2 FROM h", "COMMIT", "FETCH 1 FROM h", "CLOSE h", "FETCH h"],
        &["BEGIN", held, "ROLLBACK", "FETCH h"],
        &["BEGIN", "SAVEPOINT a", held, "ROLLBACK TO a", "FETCH h", "ROLLBACK"],
        &[
            "BEGIN",
            held,
            "SAVEPOINT a",
            "FETCH h",
            "SELECT 1/0",
            "ROLLBACK TO a",
            "FETCH h",
            "COMMIT",
            "MOVE 1 FROM h",
            "FETCH h",
            "CLOSE ALL",
        ],
        &[
            held,
            "FETCH 2 FROM h",
            "BEGIN READ ONLY",
            "FETCH 1 FROM h",
            "SELECT 1/0",
            "ROLLBACK",
            "FETCH 1 FROM h",
            "CLOSE h",
        ],
        &["BEGIN READ ONLY", held, "COMMIT", "FETCH 2 FROM h", "DISCARD ALL", "FETCH h"],
        &["DECLARE c CURSOR FOR SELECT 1", "BEGIN; DECLARE c CURSOR FOR SELECT 1; COMMIT; FETCH c", "SELECT 1"],
        &[
            "BEGIN; DECLARE h CURSOR WITH HOLD FOR SELECT 1/(2 - n) FROM generate_series(1, 3) AS n",
            "COMMIT",
            "FETCH h",
        ],
        &[
            "BEGIN",
            held,
            "COMMIT AND CHAIN",
            "FETCH h",
            "SELECT 1/0",
            "ROLLBACK AND CHAIN",
            "FETCH h",
            "CLOSE h",
            "COMMIT",
        ],
    ];
    let named = in_both_protocols(["held", "held, by protocol"], &scripts);
    for world in worlds() {
        check(&world, &named);
    }
}

#[test]
fn savepoints_and_settings_trap_26() {
    let scripts: [&[&str]; 10] = [
        &[
            "BEGIN",
            "SAVEPOINT a",
            "SET work_mem = '5MB'",
            "ROLLBACK TO a",
            "SHOW work_mem",
            "SET work_mem = '6MB'",
            "RELEASE a",
            "COMMIT",
            "SHOW work_mem",
            "RESET work_mem",
        ],
        &[
            "BEGIN READ ONLY",
            "SELECT 1",
            "SAVEPOINT a",
            "SET work_mem = '5MB'",
            "SAVEPOINT a",
            "SET LOCAL work_mem = '7MB'",
            "ROLLBACK TO a",
            "SHOW work_mem",
            "RELEASE a",
            "SHOW work_mem",
            "ROLLBACK TO a",
            "SHOW work_mem",
            "COMMIT",
            "SHOW work_mem",
        ],
        &[
            "BEGIN",
            "SELECT 1",
            "SET ROLE middle_guest",
            "SAVEPOINT a",
            "RESET ROLE",
            "SELECT current_user",
            "ROLLBACK TO a",
            "SELECT current_user, v FROM secrets",
            "ROLLBACK",
            "SELECT current_user, v FROM secrets",
        ],
        &[
            "BEGIN",
            "SAVEPOINT a",
            "SELECT set_config('app.tenant', 'b', true), set_config('work_mem', '9MB', false)",
            "SELECT v FROM secrets",
            "ROLLBACK TO a",
            "SELECT v FROM secrets",
            "SHOW work_mem",
            "COMMIT",
            "SELECT v FROM secrets",
        ],
        &[
            "BEGIN; SAVEPOINT a; SET app.tenant = 'b'; SELECT 1/0",
            "ROLLBACK TO a; SHOW app.tenant",
            "SET app.tenant = 'b'; COMMIT; SELECT v FROM secrets; SELECT 1/0",
            "SELECT v FROM secrets",
            "RESET app.tenant",
            "SELECT v FROM secrets",
        ],
        &[
            "SET app.tenant = 'b'; BEGIN; SET app.tenant = 'c'; ROLLBACK; SHOW app.tenant",
            "SHOW app.tenant",
            "RESET ALL",
            "SHOW app.tenant",
        ],
        &[
            "BEGIN",
            "INSERT INTO t VALUES (1)",
            "SAVEPOINT a",
            "RESET ALL",
            "SET datestyle = 'German'",
            "ROLLBACK TO a",
            "SHOW datestyle",
            "ROLLBACK",
            "SHOW datestyle",
        ],
        &[
            "BEGIN",
            "SAVEPOINT a",
            "SAVEPOINT b",
            "SET LOCAL lock_timeout = '7s'",
            "RELEASE a",
            "ROLLBACK TO b",
            "SHOW lock_timeout",
            "COMMIT",
            "SHOW lock_timeout",
        ],
        &[
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            "SAVEPOINT a",
            "SELECT count(*) FROM t",
            "SELECT 1/0",
            "ROLLBACK TO SAVEPOINT a",
            "SET search_path = pg_catalog",
            "SELECT count(*) FROM t",
            "ROLLBACK TO a",
            "SELECT count(*) FROM t",
            "COMMIT",
        ],
        &[
            "BEGIN READ ONLY",
            "SELECT 1",
            "SAVEPOINT a",
            "SET app.tenant = 'b'",
            "COMMIT AND CHAIN",
            "ROLLBACK TO a",
            "ROLLBACK AND CHAIN",
            "SHOW app.tenant",
            "ROLLBACK",
            "RESET app.tenant",
        ],
    ];
    let named = in_both_protocols(["savepoints", "savepoints, by protocol"], &scripts);
    for world in worlds() {
        check(&world, &named);
    }
}

#[test]
fn two_phase_commits_trap_10() {
    let scripts: [&[&str]; 8] = [
        &[
            "BEGIN",
            "SET work_mem = '5MB'",
            "INSERT INTO t VALUES (1)",
            "PREPARE TRANSACTION 'one'",
            "SHOW work_mem",
            "ROLLBACK PREPARED 'one'",
            "SHOW work_mem",
            "RESET work_mem",
        ],
        &["BEGIN", "SELECT 1/0", "PREPARE TRANSACTION 'two'", "ROLLBACK PREPARED 'two'"],
        &["BEGIN", "CREATE TEMP TABLE x (n int)", "PREPARE TRANSACTION 'three'", "SELECT 1"],
        &["BEGIN", "LISTEN a", "PREPARE TRANSACTION 'four'", "SELECT count(*) FROM pg_listening_channels()"],
        &["BEGIN", "DECLARE h CURSOR WITH HOLD FOR SELECT 1", "PREPARE TRANSACTION 'five'", "FETCH h"],
        &[
            "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'six'; SELECT 1",
            "COMMIT PREPARED 'six'; SELECT 1",
            "COMMIT PREPARED 'six'",
            "DELETE FROM t",
        ],
        &[
            "PREPARE TRANSACTION 'seven'",
            "BEGIN",
            "COMMIT PREPARED 'seven'",
            "SELECT 1",
            "ROLLBACK",
            "BEGIN",
            "SAVEPOINT a",
            "INSERT INTO t VALUES (1)",
            "ROLLBACK TO a",
            "PREPARE TRANSACTION 'seven'",
            "COMMIT PREPARED 'seven'",
        ],
        &[
            "BEGIN READ ONLY",
            "SELECT 1",
            "COMMIT",
            "BEGIN",
            "SELECT pg_advisory_xact_lock(5)",
            "PREPARE TRANSACTION 'eight'",
            "SELECT pg_try_advisory_lock(5)",
            "ROLLBACK PREPARED 'eight'",
            "SELECT pg_try_advisory_lock(5)",
            "SELECT pg_advisory_unlock_all()",
        ],
    ];
    let named = in_both_protocols(["two-phase", "two-phase, by protocol"], &scripts);
    for world in worlds() {
        check(&world, &named);
    }
}

#[test]
fn roles_and_policies_traps_17_61() {
    let read = "SELECT current_user, session_user, v FROM secrets ORDER BY v";
    let scripts: [&[&str]; 7] = [
        &[
            read,
            "SET ROLE middle_guest",
            read,
            "SET app.tenant = 'b'",
            read,
            "RESET ROLE",
            read,
            "RESET app.tenant",
            read,
        ],
        &[
            "SET SESSION AUTHORIZATION app",
            read,
            "SET SESSION AUTHORIZATION middle_guest",
            read,
            "RESET SESSION AUTHORIZATION",
            read,
        ],
        &["BEGIN", "SET LOCAL ROLE middle_guest", read, "COMMIT", read],
        &[
            "BEGIN READ ONLY",
            read,
            "SET LOCAL ROLE middle_guest",
            read,
            "SAVEPOINT a",
            "SET ROLE none",
            read,
            "ROLLBACK TO a",
            read,
            "COMMIT",
            read,
        ],
        &[
            "PREPARE p AS SELECT current_user, v FROM secrets ORDER BY v",
            "EXECUTE p",
            "SET ROLE middle_guest",
            "EXECUTE p",
            "SET ROLE app",
            "EXECUTE p",
            "RESET ROLE",
            "EXECUTE p",
            "DEALLOCATE p",
        ],
        &[
            "SET ROLE nobody_knows",
            read,
            "SET ROLE middle_guest; SELECT 1/0",
            read,
            "SET ROLE middle_guest; COMMIT; SELECT 1/0",
            read,
            "RESET ROLE",
        ],
        &["SET row_security = off", read, "SET ROLE middle_guest", read, "RESET ROLE", "RESET row_security", read],
    ];
    let bound = |role: &str| queries(&[&format!("SET ROLE {role}")]);
    let by_name = || ready(batch().bind("", "s", &[]).execute("", 0).sync());
    for world in worlds() {
        let mut named = in_both_protocols(["roles", "roles, by protocol"], &scripts);
        let mut script = vec![ready(batch().parse("s", read, &[]).describe(b'S', "s").sync()), by_name()];
        for role in ["middle_guest", "app", "middle_guest", "none"] {
            script.extend(bound(role));
            script.push(by_name());
        }
        named.push(("a prepared read", script));
        check(&world, &named);
    }
}

#[test]
fn portals_across_flushes_trap_41() {
    let more = |portal: &str| batch().execute(portal, 2);
    for world in worlds() {
        let begin = |sql: &str| ready(batch().query(sql));
        let mut scripts = Vec::new();
        for first in ["BEGIN", "BEGIN READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1"] {
            scripts.push((
                "portals",
                vec![
                    begin(first),
                    Step::Frames(batch().parse("s", SERIES, &[]).bind("p", "s", &[]).execute("p", 2).flush(), 5),
                    Step::Frames(batch().bind("q", "s", &[]).execute("q", 1).flush(), 3),
                    Step::Frames(more("p").flush(), 3),
                    Step::Frames(batch().parse("", "SELECT 1", &[]).bind("", "", &[]).execute("", 0).flush(), 4),
                    ready(more("q").close(b'P', "q").execute("p", 0).sync()),
                    ready(more("p").sync()),
                    ready(batch().close(b'S', "s").sync()),
                    begin("ROLLBACK"),
                ],
            ));
            scripts.push((
                "a write between",
                vec![
                    begin(first),
                    Step::Frames(batch().parse("s", SERIES, &[]).bind("p", "s", &[]).execute("p", 2).flush(), 5),
                    ready(batch().run("INSERT INTO t VALUES (1)", &[]).execute("p", 2).sync()),
                    ready(batch().query("SELECT count(*) FROM t")),
                    ready(more("p").sync()),
                    begin("ROLLBACK"),
                    begin("DELETE FROM t"),
                    ready(batch().close(b'S', "s").sync()),
                ],
            ));
            scripts.push((
                "an error between",
                vec![
                    begin(first),
                    Step::Frames(batch().parse("s", SERIES, &[]).bind("p", "s", &[]).execute("p", 2).flush(), 5),
                    ready(batch().run("SELECT 1/0", &[]).execute("p", 2).sync()),
                    ready(more("p").sync()),
                    begin("ROLLBACK"),
                    ready(batch().bind("p", "s", &[]).execute("p", 1).sync()),
                    ready(batch().close(b'S', "s").sync()),
                ],
            ));
        }
        check(&world, &scripts);
    }
}

#[test]
fn copies_in_the_middle_of_pipelines_traps_48_49() {
    let copy = "COPY copied FROM STDIN";
    let run = |sql: &str| batch().run(sql, &[]);
    let after = |batch: Batch| batch.run("SELECT count(*) FROM copied", &[]).sync();
    for world in worlds() {
        let one = |batch: Batch, readies: usize| {
            let clean = ready(Batch::new().query("TRUNCATE copied"));
            let count = ready(Batch::new().query("SELECT count(*) FROM copied"));
            vec![clean, Step::Ready(batch, readies), count, ready(Batch::new().run("SELECT 1", &[]).sync())]
        };
        let scripts = vec![
            ("well", one(after(run("SELECT 1").run(copy, &[]).copy_data(b"1\n2\n").copy_done()), 1)),
            ("bad data", one(after(run("SELECT 1").run(copy, &[]).copy_data(b"1\n0\n").copy_done()), 1)),
            ("given up", one(after(run(copy).copy_data(b"1\n").copy_fail("no")), 1)),
            (
                "two",
                one(after(run(copy).copy_data(b"1\n").copy_done().run(copy, &[]).copy_data(b"2\n").copy_done()), 1),
            ),
            ("an error before it", one(after(run("SELECT 1/0").run(copy, &[]).copy_data(b"1\n").copy_done()), 1)),
            ("an error behind it", one(run(copy).copy_data(b"1\n").copy_done().run("SELECT 1/0", &[]).sync(), 1)),
            ("out", one(run("SELECT 1").run("COPY (SELECT 7) TO STDOUT", &[]).run("SELECT 2", &[]).sync(), 1)),
            ("a Query behind it", one(run(copy).copy_data(b"1\n").copy_done().query("SELECT count(*) FROM copied"), 1)),
            ("a Query of its own", one(run("SELECT 1").query(copy).copy_data(b"1\n").copy_done().query("SELECT 2"), 2)),
            (
                "in a block",
                one(
                    batch()
                        .query("BEGIN")
                        .bytes_of(after(run(copy).copy_data(b"3\n").copy_done()).bytes())
                        .query("COMMIT"),
                    3,
                ),
            ),
            (
                "in a block that fails",
                one(
                    batch()
                        .query("BEGIN")
                        .bytes_of(after(run(copy).copy_data(b"0\n").copy_done()).bytes())
                        .query("COMMIT"),
                    3,
                ),
            ),
            (
                "flushed",
                vec![
                    ready(batch().query("TRUNCATE copied")),
                    Step::Frames(batch().parse("", copy, &[]).bind("", "", &[]).execute("", 0).flush(), 3),
                    ready(after(batch().copy_data(b"1\n").copy_data(b"2\n").copy_done())),
                ],
            ),
            (
                "in the middle of a string",
                one(
                    batch()
                        .query("SELECT 1; COPY copied FROM STDIN; SELECT 1/0; SELECT 2")
                        .copy_data(b"5\n")
                        .copy_done(),
                    1,
                ),
            ),
            (
                "around the end of a block",
                one(
                    batch().query("BEGIN; COPY copied FROM STDIN; COMMIT; SELECT 1/0").copy_data(b"5\n").copy_done(),
                    1,
                ),
            ),
        ];
        check(&world, &scripts);
    }
}

#[test]
fn statement_pooling_says_the_same_outside_of_blocks() {
    let plan = Plan { sql: SQL, pool: "mode = \"statement\"\nsize = 2\nwait_timeout = \"20s\"", ..Plan::default() };
    let world = plan.start();
    world.db.wait_replayed();
    let scripts: [&[&str]; 6] = [
        &[
            "SELECT 1; SELECT 2",
            "INSERT INTO t VALUES (1); SELECT 1/0",
            "SELECT count(*) FROM t",
            "SELECT 1/0",
            "COMMIT",
            "ROLLBACK",
            "SAVEPOINT a",
        ],
        &[
            "SET work_mem = '5MB'",
            "SHOW work_mem",
            "SET ROLE middle_guest",
            "SELECT current_user, v FROM secrets",
            "RESET ALL",
            "RESET ROLE",
            "SHOW work_mem",
        ],
        &["PREPARE p AS SELECT 7", "EXECUTE p", "DEALLOCATE p", "EXECUTE p"],
        &["LISTEN a", "SELECT count(*) FROM pg_listening_channels()", "UNLISTEN *", "DECLARE c CURSOR FOR SELECT 1"],
        &["DECLARE h CURSOR WITH HOLD FOR SELECT 1", "FETCH h", "CLOSE h", "FETCH h"],
        &[
            "SET LOCAL work_mem = '5MB'",
            "SET TRANSACTION READ ONLY",
            "LOCK TABLE t",
            "SELECT v FROM t FOR UPDATE",
            "COPY t TO STDOUT",
        ],
    ];
    let named: Vec<_> = scripts
        .iter()
        .flat_map(|sql| [("statements", queries(sql)), ("statements, by protocol", segments(sql))])
        .collect();
    check(&world, &named);
    let mut client = connect(&world, false);
    for begin in ["BEGIN", "START TRANSACTION READ ONLY", "BEGIN; SELECT 1", "SELECT 1; BEGIN"] {
        assert_eq!(client.failure(begin), "0A000", "{begin}");
        assert_eq!(client.value("SELECT 1"), "1");
    }
}
