//! Sequences of the extended protocol that no Sync has ended yet, and what comes in the middle of them: compared with a direct
//! connection, while another client uses the same server connection and names. Tests name the traps that they show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::ErrorKind;
use std::time::Duration;

use support::frames::{Batch, Frame, summary, tags};
use support::raw::RawClient;
use support::world::{Plan, Step, World, ready};

const SQL: &str = "CREATE TABLE log (n int);
    CREATE TABLE copied (n int CHECK (n > 0));
    CREATE TABLE guarded (n int);
    CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
    CREATE TRIGGER no BEFORE INSERT ON guarded FOR EACH STATEMENT EXECUTE FUNCTION no()";

fn world(pool: &str) -> World {
    Plan { sql: SQL, pool: &format!("size = 1\n{pool}"), primary_only: true, ..Plan::default() }.start()
}

fn batch() -> Batch {
    Batch::new()
}

fn query(sql: &str) -> Step {
    ready(batch().query(sql))
}

/// Something that a sequence has written.
fn write() -> Batch {
    batch().run("INSERT INTO log VALUES (1)", &[])
}

/// As [`World::compare`]; between the steps another client leaves its own statements of the same names on the connection.
fn compare(world: &World, what: &str, script: &[Step]) {
    let mut direct = world.direct();
    let expected: Vec<_> = script.iter().map(|step| step.run(&mut direct)).collect();
    direct.vanish();
    let mut client = world.client();
    let mut rival = world.client();
    let mut idle = true;
    for (number, (step, expected)) in script.iter().zip(expected).enumerate() {
        if idle {
            rival.exchange(&batch().query("DEALLOCATE ALL"));
            rival.exchange(&batch().query("PREPARE p AS SELECT 'not yours'; PREPARE q AS SELECT 'not yours'"));
        }
        eprintln!("{what}, step {number}: {}", summary(&expected));
        let frames = step.run(&mut client);
        assert_eq!(summary(&frames), summary(&expected), "{what}, step {number}");
        idle = frames.last().is_some_and(|ready| ready.tag == b'Z' && ready.body == b"I");
    }
}

const WRITTEN: &str = "SELECT count(*) FROM log";

/// What a sequence has written is committed with the Query that ends it, or not at all: also when the names in that Query have to be
/// put on the connection first.
#[test]
fn names_put_ahead_of_a_query_commit_nothing_traps_30_44() {
    let world = world("wait_timeout = \"5s\"");
    let long = format!("SELECT 1; SELECT 1/0 /* {} */", "x".repeat(1 << 20));
    for (what, sql) in [
        ("executed", "EXECUTE p; SELECT 1/0"),
        ("given up", "DEALLOCATE p; SELECT 1/0"),
        ("of which one cannot be prepared any more", "EXECUTE gone"),
        ("that are taken", "PREPARE p AS SELECT 3"),
        ("that are not there", "EXECUTE nobody"),
        ("that are asked for", "SELECT count(*) FROM pg_prepared_statements WHERE name = 'p'; SELECT 1/0"),
        ("not looked into", &long),
        ("well", "EXECUTE p"),
    ] {
        let prepare = || match sql.contains("gone") {
            true => query(
                "TRUNCATE log; CREATE TABLE gone (n int); PREPARE p AS SELECT 1; PREPARE gone AS SELECT * FROM gone; \
                 DROP TABLE gone",
            ),
            false => query("TRUNCATE log; PREPARE p AS SELECT 1"),
        };
        compare(
            &world,
            what,
            &[
                prepare(),
                ready(write().query(sql)),
                query(WRITTEN),
                query("SELECT 'goes on'"),
                query("DEALLOCATE ALL"),
                prepare(),
                // With the sequence's answers there.
                Step::Frames(write().flush(), 4),
                query(sql),
                query(WRITTEN),
                query("DEALLOCATE ALL"),
                // With more behind it.
                prepare(),
                Step::Ready(write().query(sql).bytes_of(write().sync().bytes()).query("SELECT 2"), 3),
                query(WRITTEN),
                query("DEALLOCATE ALL"),
                // Behind what the proxy answers itself.
                prepare(),
                ready(batch().close(b'S', "q").query(sql)),
                query("DEALLOCATE ALL"),
                // An error before it.
                prepare(),
                ready(batch().run("SELECT 1/0", &[]).query(sql).query("EXECUTE p").sync()),
                query(WRITTEN),
                // In a block, where nothing can be committed.
                query("BEGIN"),
                ready(write().query(sql)),
                query("ROLLBACK"),
                query("DEALLOCATE ALL"),
            ],
        );
    }
}

/// Whatever else has to come first, or is refused by the proxy itself.
#[test]
fn what_listeners_ask_for_commits_nothing_traps_30_59() {
    let world = world("");
    let mut client = world.client();
    client.exchange(&batch().query("LISTEN a"));
    for (sql, fails) in
        [("NOTIFY a; SELECT 1/0", true), ("SELECT pg_listening_channels()", true), ("NOTIFY a, 'well'", false)]
    {
        for flush in [false, true] {
            client.exchange(&batch().query("TRUNCATE log"));
            if flush {
                client.send(&write().flush());
                client.recv_frames(4);
                client.send(&batch().query(sql));
            } else {
                client.send(&write().query(sql));
            }
            let frames = client.recv_ready(1);
            // Asked for in the middle of a sequence the proxy does not know them.
            assert_eq!(tags(&frames).contains('E'), fails, "{sql}: {frames:?}");
            assert_eq!(client.value(WRITTEN), if fails { "0" } else { "1" }, "{sql}");
        }
    }
}

/// A server looks at nothing to describe what returns no rows.
#[test]
fn statements_without_result_are_described_in_a_failed_block_trap_27() {
    let world = world("max_prepared = 1");
    let prepare = |name: &str, sql: &str| ready(batch().parse(name, sql, &[]).describe(b'S', name).sync());
    let script = [
        prepare("write", "INSERT INTO log VALUES ($1)"),
        prepare("returning", "INSERT INTO log VALUES ($1) RETURNING n"),
        prepare("read", "SELECT 1"),
        query("BEGIN"),
        query("SELECT 1/0"),
        ready(batch().describe(b'S', "write").sync()),
        ready(batch().describe(b'S', "returning").sync()),
        ready(batch().describe(b'S', "write").describe(b'S', "write").flush().describe(b'S', "read").sync()),
        ready(batch().close(b'S', "read").describe(b'S', "write").bind("", "write", &[Some("1")]).sync()),
        query("ROLLBACK"),
        ready(batch().describe(b'S', "write").sync()),
    ];
    compare(&world, "described", &script);
}

/// The end of a block that has failed, by statements that the connection at hand has never seen.
#[test]
fn statements_that_end_a_failed_block_trap_27() {
    let world = world("max_prepared = 1");
    let run = |name: &str| batch().bind("", name, &[]).execute("", 0).sync();
    for described in [false, true] {
        let prepare = |name: &str, sql: &str| {
            let parse = batch().parse(name, sql, &[]);
            ready(if described { parse.describe(b'S', name) } else { parse }.sync())
        };
        let mut script = vec![
            prepare("rollback", "ROLLBACK"),
            prepare("commit", "COMMIT"),
            prepare("to", "ROLLBACK TO s"),
            prepare("read", "SELECT 1"),
        ];
        for end in ["rollback", "commit", "to"] {
            script.extend([
                query("BEGIN; SAVEPOINT s; INSERT INTO log VALUES (1)"),
                query("SELECT 1/0"),
                ready(run("read")),
                ready(batch().describe(b'S', "read").sync()),
                ready(batch().describe(b'S', end).sync()),
                ready(run(end)),
                ready(run("read")),
                query("ROLLBACK"),
            ]);
            script.extend([
                query("BEGIN; SAVEPOINT s; INSERT INTO log VALUES (1)"),
                query("SELECT 1/0"),
                ready(batch().bind("", end, &[]).describe(b'P', "").execute("", 0).sync()),
                query("ROLLBACK"),
                // Not known yet to have failed.
                Step::Ready(batch().query("BEGIN; SAVEPOINT s").query("SELECT 1/0").bytes_of(run(end).bytes()), 3),
                query("ROLLBACK"),
            ]);
        }
        script.push(query("DEALLOCATE ALL"));
        compare(&world, "ends", &script);
    }
}

/// An error says the name that the message said, also where the same text has another one.
#[test]
fn errors_say_the_name_that_is_meant_trap_44() {
    let world = world("");
    let sql = "SELECT $1::int + $2::int";
    compare(
        &world,
        "two names",
        &[
            ready(batch().parse("one", sql, &[]).parse("two", sql, &[]).parse("three", sql, &[]).sync()),
            ready(batch().bind("", "two", &[Some("1")]).sync()),
            ready(batch().bind("", "three", &[Some("1")]).sync()),
            ready(batch().bind("", "one", &[Some("1")]).close(b'S', "one").sync()),
            ready(batch().bind("", "two", &[Some("1")]).close(b'S', "two").parse("two", "SELECT 1", &[]).sync()),
            ready(batch().close(b'S', "two").bind("", "one", &[Some("1")]).sync()),
            ready(batch().bind("", "one", &[]).sync()),
            query("DEALLOCATE ALL"),
        ],
    );
}

/// `PREPARE` as a statement of the protocol finds the name taken, whoever has taken it, and how, in one segment or two.
#[test]
fn a_prepare_by_the_protocol_finds_names_that_are_taken_trap_44() {
    let world = world("");
    let prepare = |name: &str, sql: &str| batch().parse("", &format!("PREPARE {name} AS {sql}"), &[]);
    let then = |first: Batch, second: Batch| first.bytes_of(second.bytes());
    compare(
        &world,
        "taken",
        &[
            ready(batch().run("PREPARE p AS SELECT 1", &[]).sync()),
            ready(batch().run("PREPARE p AS SELECT 2", &[]).sync()),
            query("PREPARE p AS SELECT 3"),
            ready(batch().parse("p", "SELECT 4", &[]).sync()),
            query("EXECUTE p"),
            query("DEALLOCATE p"),
            // Under the name that it prepares.
            ready(batch().parse("p", "PREPARE p AS SELECT 1", &[]).bind("", "p", &[]).execute("", 0).sync()),
            ready(batch().bind("", "p", &[]).execute("", 0).sync()),
            query("DEALLOCATE ALL"),
            // Executed again and again.
            ready(batch().parse("s", "PREPARE p AS SELECT 1", &[]).bind("", "s", &[]).execute("", 0).sync()),
            ready(batch().bind("", "s", &[]).execute("", 0).sync()),
            query("EXECUTE p"),
            ready(then(batch().bind("", "s", &[]).execute("", 0), batch().run("SELECT 1", &[])).sync()),
            query("DEALLOCATE ALL"),
            // The name is taken between Parse, Bind and Execute.
            ready(prepare("p", "SELECT 1").parse("p", "SELECT 9", &[]).bind("", "", &[]).execute("", 0).sync()),
            query("DEALLOCATE ALL"),
            ready(prepare("p", "SELECT 1").bind("", "", &[]).parse("p", "SELECT 9", &[]).execute("", 0).sync()),
            query("EXECUTE p"),
            query("DEALLOCATE ALL"),
            query("BEGIN"),
            ready(prepare("p", "SELECT 1").bind("c", "", &[]).sync()),
            ready(batch().parse("p", "SELECT 9", &[]).sync()),
            ready(batch().execute("c", 0).sync()),
            query("ROLLBACK"),
            query("EXECUTE p"),
            query("DEALLOCATE ALL"),
            query("BEGIN"),
            ready(prepare("p", "SELECT 1").bind("c", "", &[]).sync()),
            query("PREPARE p AS SELECT 9"),
            ready(batch().execute("c", 0).sync()),
            query("ROLLBACK"),
            query("EXECUTE p"),
            query("DEALLOCATE ALL"),
            // And is free again.
            ready(batch().parse("p", "SELECT 1", &[]).sync()),
            ready(prepare("p", "SELECT 2").bind("", "", &[]).close(b'S', "p").execute("", 0).sync()),
            query("EXECUTE p"),
            query("DEALLOCATE ALL"),
            // Twice in one segment.
            ready(batch().run("PREPARE p AS SELECT 1", &[]).run("PREPARE p AS SELECT 2", &[]).sync()),
            query("EXECUTE p"),
            query("DEALLOCATE ALL"),
            ready(batch().parse("p", "SELECT 1", &[]).run("PREPARE p AS SELECT 2", &[]).sync()),
            query("EXECUTE p"),
            ready(batch().run("DEALLOCATE p", &[]).run("PREPARE p AS SELECT 3", &[]).sync()),
            query("EXECUTE p"),
        ],
    );
}

/// A FunctionCall that an error before it has voided has not been: nothing of it stays with the session.
#[test]
fn a_call_that_never_was_leaves_nothing_trap_33() {
    let world = world("wait_timeout = \"3s\"");
    // `pg_backend_pid`, without arguments; the result as text.
    let call = |batch: Batch| batch.raw(b'F', &[0, 0, 7, 0xea, 0, 0, 0, 0, 0, 0]);
    for (what, messages, readies) in [
        ("in its sequence", call(batch().run("SELECT 1/0", &[])).sync(), 1),
        ("behind a Query", call(batch().run("SELECT 1/0", &[]).query("SELECT 1")).sync(), 1),
        ("of a name", call(batch().bind("", "nobody", &[])).sync(), 1),
    ] {
        let mut direct = world.direct();
        direct.send(&messages);
        let expected = summary(&direct.recv_ready(readies));
        let mut client = world.client();
        client.send(&messages);
        assert_eq!(summary(&client.recv_ready(readies)), expected, "{what}");
        assert_eq!(world.client().value("SELECT 'served'"), "served", "{what}");
        let frames = client.exchange(&call(batch().run("SELECT 2", &[])));
        assert_eq!(tags(&frames), "12TDCVZ", "{what}: {frames:?}");
        client.vanish();
    }
}

/// All that comes until nothing does for a while.
fn everything(client: &mut RawClient, batch: &Batch) -> Vec<Frame> {
    client.send(batch);
    let mut frames = Vec::new();
    client.set_timeout(Duration::from_millis(60));
    loop {
        match client.try_recv() {
            Ok(frame) => frames.push(frame),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("{error} after {frames:?}"),
        }
    }
    client.set_timeout(Duration::from_secs(10));
    frames
}

/// A Sync ahead of the end of the data, of a COPY that fails before it, within it, at its end, or not at all: all that a server says is
/// told, and the next client meets a connection that works.
#[test]
fn a_copy_that_fails_with_a_sync_sent_before_its_end_traps_48_49() {
    let world = world("");
    let copies = ["COPY copied FROM STDIN", "COPY guarded FROM STDIN", "COPY nowhere FROM STDIN"];
    let good = batch().copy_data(b"1\n");
    let bad = batch().copy_data(b"x\n");
    let unfit = batch().copy_data(b"-1\n");
    let then = |first: &Batch, second: &Batch| batch().bytes_of(first.bytes()).bytes_of(second.bytes());
    for copy in copies {
        for (what, data) in [("good", &good), ("bad", &bad), ("unfit", &unfit)] {
            for (end_name, end) in [("done", batch().copy_done()), ("fail", batch().copy_fail("no"))] {
                if what != "good" && (end_name == "fail" || copy.contains("nowhere")) {
                    continue;
                }
                let start = batch().run(copy, &[]).sync();
                let rest = then(&then(data, &end), &batch().sync());
                let goes_on = batch().run("SELECT 'goes on'", &[]).sync();
                let scripts = [
                    ("in one go", vec![then(&start, &rest)]),
                    ("in two", vec![start.clone(), rest.clone()]),
                    ("in three", vec![start.clone(), data.clone(), then(&end, &batch().sync())]),
                    ("with more behind it", vec![then(&then(&start, &rest), &goes_on)]),
                    ("two Syncs", vec![then(&start, &then(&batch().sync(), &rest))]),
                    ("by Query", vec![then(&batch().query(copy).sync(), &then(data, &end))]),
                ];
                for (how, script) in scripts {
                    let run = |client: &mut RawClient| {
                        script.iter().map(|part| summary(&everything(client, part))).collect::<Vec<_>>()
                    };
                    let (mut direct, mut client) = (world.direct(), world.client());
                    let expected = run(&mut direct);
                    let name = format!("{copy}, {what} data, {end_name}, {how}");
                    assert_eq!(run(&mut client), expected, "{name}");
                    assert_eq!(client.value("SELECT 'same'"), "same", "{name}");
                    assert_eq!(world.client().value("SELECT 'another'"), "another", "{name}");
                }
            }
        }
    }
}

/// A statement of the protocol may be an `EXECUTE`, and be executed by SQL: what it names is the client's, too.
#[test]
fn what_is_executed_by_name_names_the_clients_own_statements_traps_8_44() {
    let world = world("wait_timeout = \"5s\"");
    compare(
        &world,
        "nested",
        &[
            query("TRUNCATE log"),
            ready(batch().parse("r", "EXECUTE q", &[]).parse("s", "EXECUTE r", &[]).sync()),
            // Another client has one of that name there.
            query("EXECUTE r"),
            query("EXECUTE s"),
            query("PREPARE q AS INSERT INTO log VALUES (1) RETURNING n"),
            query("EXECUTE r"),
            query("EXECUTE s"),
            // A server takes the columns for those that there were when "r" was prepared: none.
            ready(batch().close(b'S', "r").close(b'S', "s").sync()),
            ready(batch().parse("r", "EXECUTE q", &[]).parse("s", "EXECUTE r", &[]).sync()),
            ready(batch().run("EXECUTE s", &[]).sync()),
            query("EXECUTE q; EXECUTE r; EXECUTE s"),
            query("DEALLOCATE q"),
            query("EXECUTE s"),
            query(WRITTEN),
        ],
    );
}

/// What is drawn of messages about names, by the protocol and by SQL, with writes and errors between them, in sequences that Queries
/// and Syncs end where they please.
struct Author {
    rng: fastrand::Rng,
}

impl Author {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.rng.usize(..from.len())]
    }

    fn name(&mut self) -> &'static str {
        self.pick(&["p", "q", "r"])
    }

    fn sql(&mut self) -> String {
        let (name, n) = (self.name(), self.rng.u32(..3));
        match self.rng.usize(..13) {
            0..=2 => format!("EXECUTE {name}"),
            3 | 4 => format!("PREPARE {name} AS SELECT {n}"),
            5 => format!("PREPARE {name} AS INSERT INTO log VALUES ({n})"),
            6 => format!("DEALLOCATE {name}"),
            7 => "INSERT INTO log VALUES (1)".to_owned(),
            8 => "SELECT 1/0".to_owned(),
            9 => self.pick(&["BEGIN", "COMMIT", "ROLLBACK"]).to_owned(),
            10 => "SELECT count(*) FROM log".to_owned(),
            11 => self
                .pick(&["DEALLOCATE ALL", "SELECT name, statement FROM pg_prepared_statements ORDER BY name"])
                .to_owned(),
            _ => format!("SELECT {n}"),
        }
    }

    fn message(&mut self, batch: Batch) -> Batch {
        let name = if self.rng.usize(..4) == 0 { "" } else { self.name() };
        match self.rng.usize(..13) {
            0 | 1 => batch.parse(name, &self.sql(), &[]),
            2 | 3 => batch.bind("", name, &[]).execute("", 0),
            4 => batch.bind("c", name, &[]),
            5 => batch.execute(self.pick(&["", "c"]), 0),
            6 => batch.describe(b'S', name),
            7 => batch.close(b'S', name),
            8 | 9 => batch.query(&self.sql()),
            10 => batch.flush(),
            11 => batch.sync(),
            _ => batch.run(&self.sql(), &[]),
        }
    }
}

/// The end of an exchange: an empty Query is answered in a failed block, too.
fn until_mark(client: &mut RawClient, batch: &Batch) -> Vec<Frame> {
    client.send(&batch.clone().sync().query(""));
    let mut frames: Vec<Frame> = Vec::new();
    loop {
        match client.try_recv() {
            Ok(frame) => frames.push(frame),
            Err(error) => panic!("{error} after {}", summary(&frames)),
        }
        if let [.., mark, ready] = frames.as_slice()
            && mark.tag == b'I'
            && ready.tag == b'Z'
        {
            return frames;
        }
    }
}

#[test]
fn random_sequences_are_answered_as_by_a_server_traps_30_33_44() {
    // Two: one may have to stay with its session.
    let pool = "size = 2\nwait_timeout = \"8s\"";
    let world = Plan { sql: SQL, pool, primary_only: true, ..Plan::default() }.start();
    let seeds = std::env::var("TRUNKLINE_SEEDS").unwrap_or_else(|_| "1,2,3,4".to_owned());
    for seed in seeds.split(',').map(|seed| seed.trim().parse::<u64>().unwrap()) {
        let mut author = Author { rng: fastrand::Rng::with_seed(seed) };
        let script: Vec<Batch> =
            (0..60).map(|_| (0..author.rng.usize(1..7)).fold(batch(), |batch, _| author.message(batch))).collect();
        let start = batch().query("TRUNCATE log");
        let mut direct = world.direct();
        direct.exchange(&start);
        let expected: Vec<_> = script.iter().map(|batch| until_mark(&mut direct, batch)).collect();
        direct.vanish();
        let (mut client, mut rival) = (world.client(), world.client());
        client.exchange(&start);
        let mut idle = true;
        for (step, (batch_, expected)) in script.iter().zip(&expected).enumerate() {
            if idle {
                rival.exchange(&batch().query("DEALLOCATE ALL"));
                rival.exchange(&batch().query("PREPARE p AS SELECT 'not yours'; PREPARE q AS SELECT 'not yours'"));
                rival.exchange(&batch().parse("r", "SELECT 'not yours'", &[]).parse("", "SELECT 'no'", &[]).sync());
            }
            let said = String::from_utf8_lossy(batch_.bytes()).replace('\0', ".");
            // Shown when the test fails.
            eprintln!("{step}: {said}\n    {}", summary(expected));
            let frames = until_mark(&mut client, batch_);
            assert_eq!(summary(&frames), summary(expected), "seed {seed}, step {step}: {said}");
            idle = frames.last().is_some_and(|ready| ready.body == b"I");
        }
        client.vanish();
    }
}
