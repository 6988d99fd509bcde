//! Prepared statements in transaction pooling. Tests name the traps that they show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::thread;

use support::frames::{Batch, Frame, summary, tags};
use support::raw::RawClient;
use support::world::{Plan, World};

const SQL: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL); INSERT INTO t SELECT n, 0 FROM generate_series(1, 64) AS n";

fn batch() -> Batch {
    Batch::new()
}

fn one_connection(pool: &str) -> World {
    Plan { sql: SQL, pool: &format!("size = 1\n{pool}"), primary_only: true, ..Plan::default() }.start()
}

fn first_value(frames: &[Frame]) -> String {
    let row = frames.iter().find(|frame| frame.tag == b'D').unwrap_or_else(|| panic!("{frames:?}"));
    row.columns()[0].clone().unwrap()
}

#[test]
fn sixteen_clients_over_three_connections_trap_31() {
    let world = Plan { sql: SQL, pool: "size = 3\nmax_prepared = 4", ..Plan::default() }.start();
    thread::scope(|scope| {
        for number in 1..=16_i32 {
            let world = &world;
            scope.spawn(move || {
                let mut client = world.client();
                // The same names mean other statements for other clients, other names the same one.
                let own = format!("SELECT $1::int + {}", number * 1000);
                client.exchange(&batch().parse("own", &own, &[23]).sync());
                let common = format!("common{number}");
                client.exchange(&batch().parse(&common, "SELECT $1::int * 2", &[23]).describe(b'S', &common).sync());
                client.exchange(&batch().parse("up", "UPDATE t SET v = v + 1 WHERE id = $1 RETURNING v", &[23]).sync());
                let id = number.to_string();
                for round in 1..=40_i32 {
                    let text = round.to_string();
                    let frames = client.exchange(&batch().bind("", "own", &[Some(&text)]).execute("", 0).sync());
                    assert_eq!(first_value(&frames), (number * 1000 + round).to_string());
                    let frames = client.exchange(
                        &batch()
                            .bind("", &common, &[Some(&text)])
                            .execute("", 0)
                            .bind("", "up", &[Some(&id)])
                            .execute("", 0)
                            .bind("", "own", &[Some(&text)])
                            .execute("", 0)
                            .sync(),
                    );
                    assert_eq!(tags(&frames), "2DC2DC2DCZ", "{frames:?}");
                    assert_eq!(first_value(&frames), (round * 2).to_string());
                    assert_eq!(frames[4].columns()[0].as_deref(), Some(text.as_str()));
                    if round % 10 == 0 {
                        let name = format!("n{round}");
                        client.exchange(&batch().parse(&name, &format!("SELECT {round}"), &[]).sync());
                        client.exchange(&batch().close(b'S', &name).sync());
                    }
                }
            });
        }
    });
    assert_eq!(world.db.run("SELECT sum(v) FROM t"), (16 * 40).to_string());
}

#[test]
fn eviction_trap_35() {
    let world = one_connection("max_prepared = 2");
    let mut client = world.client();
    // What stands on the server: asked for by name, the view would show the client's own statements.
    client.exchange(&batch().query("CREATE VIEW standing AS SELECT * FROM pg_prepared_statements"));
    let parse_all =
        (1..=6).fold(batch(), |all, n| all.parse(&format!("s{n}"), &format!("SELECT {n} + $1::int"), &[23]));
    assert_eq!(tags(&client.exchange(&parse_all.sync())), "111111Z");
    // In one pipeline, and one by one, forth and back.
    let order = [1, 2, 3, 4, 5, 6, 6, 5, 4, 3, 2, 1, 1, 3, 1, 5, 1];
    let all = order.iter().fold(batch(), |all, n| all.bind("", &format!("s{n}"), &[Some("10")]).execute("", 0));
    let frames = client.exchange(&all.sync());
    let got: Vec<_> = frames.iter().filter(|frame| frame.tag == b'D').map(|frame| frame.columns()[0].clone()).collect();
    let wanted: Vec<_> = order.iter().map(|n| Some((n + 10).to_string())).collect();
    assert_eq!(got, wanted, "{frames:?}");
    for n in order {
        let frames = client.exchange(
            &batch().describe(b'S', &format!("s{n}")).bind("", &format!("s{n}"), &[Some("1")]).execute("", 0).sync(),
        );
        assert_eq!(first_value(&frames), (n + 1).to_string());
    }
    assert_eq!(client.value("SELECT count(*) FROM standing"), "2");
    // An error skips the Close of what was to make room, and the Parse behind it.
    for n in [3, 4, 5, 6, 1, 2] {
        let name = format!("s{n}");
        let frames =
            client.exchange(&batch().run("SELECT 1/0", &[]).bind("", &name, &[Some("1")]).execute("", 0).sync());
        assert_eq!(tags(&frames), "1EZ", "{frames:?}");
        for n in [1, 2, 3] {
            let frames = client.exchange(&batch().bind("", &format!("s{n}"), &[Some("1")]).execute("", 0).sync());
            assert_eq!(first_value(&frames), (n + 1).to_string());
        }
    }
    let left: u32 = client.value("SELECT count(*) FROM standing").parse().unwrap();
    assert!(left <= 2, "{left} statements");
}

#[test]
fn deallocate_all_and_discard_all_trap_45() {
    let world = one_connection("");
    for command in ["DEALLOCATE ALL", "DISCARD ALL", "deallocate prepare all", "/* c */ discard all;"] {
        let (mut a, mut b) = (world.client(), world.client());
        for client in [&mut a, &mut b] {
            client.exchange(&batch().parse("s", "SELECT 1", &[]).parse("", "SELECT 2", &[]).sync());
        }
        a.exchange(&batch().query(command));
        let frames = a.exchange(&batch().bind("", "s", &[]).execute("", 0).sync());
        assert_eq!(frames[0].sqlstate(), "26000", "{command}");
        let frames = b.exchange(&batch().bind("", "s", &[]).execute("", 0).sync());
        assert_eq!(tags(&frames), "2DCZ", "{command}: only this client's view");
        let frames = a.exchange(&batch().parse("s", "SELECT 3", &[]).bind("", "s", &[]).execute("", 0).sync());
        assert_eq!(first_value(&frames), "3");
        // With what comes behind it in one write, and by the extended protocol.
        a.send(&batch().query(command).parse("s", "SELECT 1", &[]).bind("", "s", &[]).execute("", 0).sync());
        assert_eq!(
            summary(&a.recv_ready(2)[2..]),
            "ParseComplete BindComplete DataRow(1) CommandComplete(SELECT 1) ReadyForQuery(I)"
        );
        a.send(&batch().run(command, &[]).sync().parse("s", "SELECT 1", &[]).bind("", "s", &[]).execute("", 0).sync());
        assert_eq!(tags(&a.recv_ready(2)), "12nCZ12DCZ", "{command}");
    }
}

#[test]
fn a_parse_that_failed_or_was_never_finished_trap_33_34() {
    let world = one_connection("");
    let mut a = world.client();
    let frames = a.exchange(&batch().parse("s", "SELECT * FROM later", &[]).sync());
    assert_eq!(frames[0].sqlstate(), "42P01");
    let frames = a.exchange(&batch().bind("", "s", &[]).execute("", 0).sync());
    assert_eq!(frames[0].sqlstate(), "26000");
    assert_eq!(a.failure("SELECT * FROM later"), "42P01");
    let mut b = world.client();
    let frames = b.exchange(&batch().parse("t", "SELECT * FROM later", &[]).sync());
    assert_eq!(frames[0].sqlstate(), "42P01", "also for another client");
    a.exchange(&batch().query("CREATE TABLE later AS SELECT 5 AS n"));
    for (client, name) in [(&mut a, "s"), (&mut b, "t")] {
        let frames =
            client.exchange(&batch().parse(name, "SELECT * FROM later", &[]).bind("", name, &[]).execute("", 0).sync());
        assert_eq!(first_value(&frames), "5");
    }
    // A client that vanishes before its Sync: what it had asked for is not taken for done.
    for text in ["SELECT 'vanished' || $1", "SELECT * FROM never_made"] {
        for flush in [false, true] {
            let mut gone = world.client();
            let parse = batch().parse("v", text, &[]);
            gone.send(&if flush { parse.flush() } else { parse });
            if flush {
                gone.recv_frames(1);
            }
            gone.vanish();
            let frames = a.exchange(&batch().parse("v", text, &[]).sync());
            let ok = text.contains("vanished");
            assert_eq!(tags(&frames), if ok { "1Z" } else { "EZ" });
            if ok {
                let frames = a.exchange(&batch().bind("", "v", &[Some("x")]).execute("", 0).close(b'S', "v").sync());
                assert_eq!(first_value(&frames), "vanishedx");
            }
        }
    }
}

#[test]
fn an_error_never_speaks_of_a_statement_by_our_name() {
    let world = one_connection("");
    let mut client = world.client();
    let wrong = |name: &str| batch().parse(name, &format!("SELECT '{name}'"), &[]).bind("", name, &[Some("1")]);
    for (batch, named) in [(wrong("s"), "\"s\""), (wrong(""), "\"\""), (wrong("gone").close(b'S', "gone"), "\"gone\"")]
    {
        let frames = client.exchange(&batch.execute("", 0).sync());
        let error = frames.iter().find(|frame| frame.tag == b'E').unwrap();
        assert_eq!(error.sqlstate(), "08P01");
        let message = error.field(b'M').unwrap();
        assert!(message.contains(&format!("statement {named} requires 0")), "{message}");
    }
}

#[test]
fn a_statement_whose_table_changed_can_be_prepared_anew() {
    let world = one_connection("");
    let mut client = world.client();
    client.exchange(&batch().query("CREATE TABLE changing AS SELECT 1 AS a"));
    let run = |client: &mut RawClient, name: &str| client.exchange(&batch().bind("", name, &[]).execute("", 0).sync());
    client.exchange(&batch().parse("s", "SELECT * FROM changing", &[]).describe(b'S', "s").sync());
    assert_eq!(tags(&run(&mut client, "s")), "2DCZ");
    world.db.run("ALTER TABLE changing ADD COLUMN b int DEFAULT 2");
    assert_eq!(run(&mut client, "s")[0].sqlstate(), "0A000", "as on a server without a proxy");
    // What drivers do next.
    for (close, name) in [(true, "s"), (false, "s2")] {
        let prepare = if close { batch().close(b'S', "s") } else { batch() };
        client.exchange(&prepare.parse(name, "SELECT * FROM changing", &[]).describe(b'S', name).sync());
        let frames = run(&mut client, name);
        assert_eq!(tags(&frames), "2DCZ", "{frames:?}");
        assert_eq!(frames[1].columns().len(), 2);
    }
    // In a transaction, with the ROLLBACK and what follows in one write.
    world.db.run("ALTER TABLE changing ADD COLUMN c int DEFAULT 3");
    client.exchange(&batch().query("BEGIN"));
    assert_eq!(run(&mut client, "s")[0].sqlstate(), "0A000");
    client.send(
        &batch()
            .query("ROLLBACK")
            .close(b'S', "s")
            .parse("s", "SELECT * FROM changing", &[])
            .bind("", "s", &[])
            .execute("", 0)
            .sync(),
    );
    assert_eq!(tags(&client.recv_ready(2)), "CZ312DCZ");
}

#[test]
fn names_of_sql_and_of_the_protocol_trap_44() {
    let world = one_connection("");
    let mut client = world.client();
    assert_eq!(tags(&client.exchange(&batch().query("PREPARE q AS SELECT $1::int + 1"))), "CZ");
    // One name space: a statement of SQL's is bound by the protocol.
    let frames = client.exchange(&batch().bind("", "q", &[Some("1")]).execute("", 0).sync());
    assert_eq!(first_value(&frames), "2");
    assert_eq!(client.value("EXECUTE q(5)"), "6");
    let mut other = world.client();
    drop(client);
    assert_eq!(other.failure("EXECUTE q(5)"), "26000", "nobody else's");
}

#[test]
fn not_shared_when_max_prepared_is_0() {
    let world = Plan { sql: SQL, pool: "size = 2\nmax_prepared = 0", ..Plan::default() }.start();
    let mut client = world.client();
    client.exchange(&batch().parse("s", "SELECT $1::int + 1", &[23]).sync());
    for _ in 0..3 {
        let frames = client.exchange(&batch().bind("", "s", &[Some("1")]).execute("", 0).sync());
        assert_eq!(first_value(&frames), "2");
    }
    drop(client);
    let mut other = world.client();
    let frames = other.exchange(&batch().bind("", "s", &[Some("1")]).execute("", 0).sync());
    assert_eq!(frames[0].sqlstate(), "26000");
}
