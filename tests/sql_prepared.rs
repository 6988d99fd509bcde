//! SQL's `PREPARE`, `EXECUTE` and `DEALLOCATE` in transaction pooling, in one name space with the protocol's statements (trap 44).
//! Compared with a direct connection, frame by frame, while other clients use the same names for other things.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::thread;

use support::frames::{Batch, summary, tags};
use support::raw::RawClient;
use support::world::{Plan, Step, World, ready};

const SQL: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 9) AS n; \
    CREATE SCHEMA other; CREATE TABLE other.t (id text); \
    CREATE FUNCTION runs(name text) RETURNS text LANGUAGE plpgsql AS \
    $$ DECLARE r text; BEGIN EXECUTE 'EXECUTE ' || name INTO r; RETURN r; END $$";

/// The client's own statements, as it sees them.
const MINE: &str = "SELECT name, statement, parameter_types, from_sql FROM pg_prepared_statements ORDER BY name";

fn world(pool: &str) -> World {
    Plan { sql: SQL, pool, primary_only: true, ..Plan::default() }.start()
}

fn batch() -> Batch {
    Batch::new()
}

fn query(sql: &str) -> Step {
    ready(batch().query(sql))
}

/// Another client, which gives the names `p` and `q` other meanings.
struct Rival {
    client: RawClient,
    turn: u32,
}

impl Rival {
    fn new(world: &World) -> Self {
        Self { client: world.client(), turn: 0 }
    }

    fn interferes(&mut self) {
        self.turn += 1;
        let value = format!("rival {}", self.turn);
        if self.turn.is_multiple_of(3) {
            self.client.exchange(&batch().query("DEALLOCATE ALL"));
        }
        let (sql, protocol) = if self.turn.is_multiple_of(2) { ("p", "q") } else { ("q", "p") };
        self.client.exchange(&batch().query(&format!("DEALLOCATE {sql}")));
        self.client.exchange(&batch().close(b'S', protocol).sync());
        self.client.exchange(&batch().query(&format!("PREPARE {sql} AS SELECT '{value}'::text")));
        let frames = self.client.exchange(&batch().parse(protocol, &format!("SELECT '{value}'::text"), &[]).sync());
        assert_eq!(tags(&frames), "1Z", "{frames:?}");
        assert_eq!(self.client.value(&format!("EXECUTE {sql}")), value);
        assert_eq!(self.client.value(&format!("EXECUTE {protocol}")), value);
    }
}

/// Runs the script as [`World::compare`] does, and lets a rival use the same connection between its steps.
fn compare(world: &World, what: &str, script: &[Step]) {
    let mut direct = world.direct();
    let expected: Vec<_> = script.iter().map(|step| step.run(&mut direct)).collect();
    let mut client = world.client();
    let mut rival = Rival::new(world);
    let mut idle = true;
    for (number, (step, expected)) in script.iter().zip(expected).enumerate() {
        if idle {
            rival.interferes();
        }
        eprintln!("{what}, step {number}: {}", summary(&expected));
        let frames = step.run(&mut client);
        assert_eq!(summary(&frames), summary(&expected), "{what}, step {number}");
        idle = frames.last().is_some_and(|ready| ready.body == b"I");
    }
}

#[test]
fn trap_44_prepare_execute_deallocate() {
    let world = world("size = 1\nwait_timeout = \"5s\"");
    compare(
        &world,
        "by simple queries",
        &[
            query("EXECUTE p"),
            query("DEALLOCATE p"),
            query("PREPARE p (int, text) AS SELECT id, v || $2 FROM t WHERE id = $1; -- and a comment"),
            query("EXECUTE p(3, 'x')"),
            query("EXECUTE p(4, E'it''s \\\\')"),
            query("EXECUTE p(NULL, NULL)"),
            query("EXECUTE p(1 + 1, upper('y'))"),
            query("EXECUTE p(1)"),
            query("EXECUTE p('x', 'y')"),
            query("PREPARE p AS SELECT 1"),
            query("PREPARE q (numeric, timestamptz, int[], bytea, bool) AS SELECT $1 * 2, $2, $3[2], $4, NOT $5"),
            query("EXECUTE q(1.25, '2026-03-01 00:00+00', '{1,2,3}', '\\x00ff', true)"),
            query("EXPLAIN (COSTS OFF) EXECUTE p(3, 'x')"),
            query("EXPLAIN EXECUTE nothing"),
            query("CREATE TABLE made AS EXECUTE p(5, 'made'); TABLE made; DROP TABLE made"),
            query(MINE),
            query("EXECUTE \"P\"(3, 'x')"),
            query("PREPARE \"P\" AS SELECT 'capital'"),
            query("EXECUTE \"P\""),
            query("execute P (6, 'folded')"),
            query("DEALLOCATE PREPARE \"P\""),
            query("DEALLOCATE p"),
            query("EXECUTE p(3, 'x')"),
            query("DEALLOCATE p"),
            query("PREPARE p AS SELECT nothing FROM t"),
            query("EXECUTE p"),
            query("PREPARE p AS"),
            query("PREPARE p AS INSERT INTO t VALUES ($1, 'new') RETURNING v"),
            query("EXECUTE p(100)"),
            query("EXECUTE p(100)"),
            query("DELETE FROM t WHERE id = 100"),
            query("DEALLOCATE ALL"),
            query("EXECUTE q(1, now(), NULL, NULL, NULL)"),
            query(MINE),
        ],
    );
}

#[test]
fn trap_44_several_statements_in_a_string_and_transactions() {
    let world = world("size = 1\nwait_timeout = \"5s\"");
    compare(
        &world,
        "strings and transactions",
        &[
            query("PREPARE p AS SELECT 1; EXECUTE p; DEALLOCATE p"),
            query("EXECUTE p"),
            query("PREPARE p AS SELECT 1; PREPARE q AS SELECT 2; SELECT 1/0; PREPARE r AS SELECT 3"),
            query("EXECUTE p; EXECUTE q; EXECUTE r"),
            query("DEALLOCATE p; PREPARE p AS SELECT 'second'; EXECUTE p"),
            query("SELECT name, parameter_types, from_sql FROM pg_prepared_statements ORDER BY name"),
            // Not transactional.
            query("BEGIN"),
            query("PREPARE r AS SELECT 'in a block'"),
            query("DEALLOCATE q"),
            query("EXECUTE r"),
            query("ROLLBACK"),
            query("EXECUTE r"),
            query("EXECUTE q"),
            query("BEGIN; SAVEPOINT s; PREPARE s AS SELECT 's'; ROLLBACK TO s; EXECUTE s; COMMIT"),
            query("EXECUTE s"),
            // Aborted.
            query("BEGIN"),
            query("SELECT 1/0"),
            query("EXECUTE s"),
            query("DEALLOCATE s"),
            query("PREPARE z AS SELECT 1"),
            ready(batch().bind("", "s", &[]).execute("", 0).sync()),
            ready(batch().parse("z", "SELECT 1", &[]).sync()),
            query("ROLLBACK"),
            query("EXECUTE s"),
            query("EXECUTE z"),
            query("BEGIN"),
            query("EXECUTE nobody"),
            query("COMMIT"),
            // The table goes away, and comes back in another form.
            query("CREATE TABLE comes (a int)"),
            query("PREPARE c AS SELECT * FROM comes"),
            query("EXECUTE c"),
            query("DROP TABLE comes"),
            query("EXECUTE c"),
            query("BEGIN"),
            query("EXECUTE c"),
            query("ROLLBACK"),
            query("SELECT 'fine'"),
            query("CREATE TABLE comes (a int)"),
            query("EXECUTE c"),
            query("DROP TABLE comes"),
            // The search path is that of the moment.
            query("PREPARE path AS SELECT count(*) FROM t"),
            query("SET search_path = other"),
            query("EXECUTE path"),
            query("RESET search_path"),
            query("EXECUTE path"),
            query("DISCARD ALL"),
            query("EXECUTE path"),
        ],
    );
}

#[test]
fn trap_44_both_kinds_under_one_name() {
    let world = world("size = 1\nwait_timeout = \"5s\"");
    let run = |name: &str, values: &[Option<&str>]| {
        ready(batch().bind("", name, values).describe(b'P', "").execute("", 0).sync())
    };
    compare(
        &world,
        "both kinds",
        &[
            // Prepared by SQL, used by the protocol.
            query("PREPARE p (int) AS SELECT v FROM t WHERE id = $1"),
            run("p", &[Some("2")]),
            ready(batch().describe(b'S', "p").sync()),
            ready(batch().parse("p", "SELECT 1", &[]).sync()),
            run("p", &[Some("3")]),
            ready(batch().close(b'S', "p").sync()),
            run("p", &[Some("2")]),
            query("EXECUTE p(2)"),
            // Prepared by the protocol, used by SQL.
            ready(batch().parse("p", "SELECT v || $1 FROM t WHERE id = 4", &[25]).sync()),
            query("EXECUTE p('!')"),
            query("EXPLAIN (COSTS OFF) EXECUTE p('!')"),
            query("PREPARE p AS SELECT 1"),
            query(MINE),
            run("p", &[Some("?")]),
            query("DEALLOCATE p"),
            run("p", &[Some("?")]),
            query("DEALLOCATE p"),
            // The statements of SQL's by the extended protocol.
            ready(batch().run("PREPARE p (int) AS SELECT $1 + 1", &[]).sync()),
            ready(batch().run("EXECUTE p(5)", &[]).sync()),
            ready(batch().parse("e", "EXECUTE p(6)", &[]).describe(b'S', "e").sync()),
            run("e", &[]),
            ready(batch().run("EXPLAIN (COSTS OFF) EXECUTE p(5)", &[]).sync()),
            ready(batch().run("SELECT name FROM pg_prepared_statements ORDER BY name", &[]).sync()),
            ready(batch().run("DEALLOCATE e", &[]).sync()),
            run("e", &[]),
            ready(batch().run("DEALLOCATE p", &[]).run("EXECUTE p(5)", &[]).sync()),
            ready(batch().run("DEALLOCATE p", &[]).sync()),
            // One segment in which the meaning of a name changes.
            ready(
                batch()
                    .run("PREPARE p AS SELECT 'one'", &[])
                    .bind("", "p", &[])
                    .execute("", 0)
                    .run("DEALLOCATE p", &[])
                    .parse("p", "SELECT 'two'", &[])
                    .bind("", "p", &[])
                    .execute("", 0)
                    .run("EXECUTE p", &[])
                    .close(b'S', "p")
                    .run("PREPARE p AS SELECT 'three'", &[])
                    .run("EXECUTE p", &[])
                    .sync(),
            ),
            query("EXECUTE p"),
            ready(batch().parse("q", "SELECT 'kept'", &[]).run("SELECT 1/0", &[]).close(b'S', "q").sync()),
            query("EXECUTE q"),
            query("BEGIN"),
            ready(batch().parse("in_block", "SELECT 'in block'", &[]).sync()),
            query("EXECUTE in_block; DEALLOCATE in_block; SELECT 1"),
            query("ROLLBACK"),
            query("EXECUTE in_block"),
        ],
    );
}

#[test]
fn trap_44_in_pipelines() {
    let world = world("size = 1\nwait_timeout = \"5s\"");
    compare(
        &world,
        "pipelines",
        &[
            Step::Ready(
                batch().query("PREPARE p AS SELECT 1").query("EXECUTE p").query("DEALLOCATE p").query("EXECUTE p"),
                4,
            ),
            Step::Ready(
                batch().query("PREPARE p AS SELECT 2").bind("", "p", &[]).execute("", 0).sync().query("EXECUTE p"),
                3,
            ),
            Step::Ready(
                batch().query("DEALLOCATE p").parse("p", "SELECT 3", &[]).sync().query("EXECUTE p; DEALLOCATE p"),
                3,
            ),
            Step::Ready(
                batch().parse("p", "SELECT nothing", &[]).sync().query("EXECUTE p").query("PREPARE p AS SELECT 4"),
                3,
            ),
            Step::Ready(
                batch().close(b'S', "p").sync().query("EXECUTE p").query("PREPARE p AS SELECT 5").query("EXECUTE p"),
                4,
            ),
            Step::Ready(batch().query("SELECT 1/0").query("EXECUTE p").run("EXECUTE p", &[]).sync(), 3),
            Step::Ready(
                batch()
                    .query("BEGIN")
                    .query("DEALLOCATE p")
                    .query("SELECT 1/0")
                    .query("EXECUTE p")
                    .query("ROLLBACK")
                    .query("EXECUTE p"),
                6,
            ),
            Step::Ready(
                batch().query("DEALLOCATE ALL").query("PREPARE p AS SELECT 6").query("EXECUTE p").query(MINE),
                4,
            ),
        ],
    );
}

#[test]
fn trap_44_php_data_objects_and_jdbc() {
    let world = world("size = 2\nwait_timeout = \"5s\"");
    let pdo = |number: u32| {
        let name = format!("pdo_stmt_{number:08}");
        [
            ready(batch().parse(&name, "SELECT v FROM t WHERE id = $1", &[]).sync()),
            ready(batch().bind("", &name, &[Some("1")]).describe(b'P', "").execute("", 0).sync()),
            query(&format!("DEALLOCATE {name}")),
        ]
    };
    let mut script: Vec<Step> = [1, 2, 1].into_iter().flat_map(pdo).collect();
    script.push(query("BEGIN"));
    script.extend(pdo(3));
    script.push(query("ROLLBACK"));
    // JDBC: a server-prepared statement, then what its pool does to the connection.
    script
        .push(ready(batch().parse("S_1", "SELECT $1::int", &[23]).bind("", "S_1", &[Some("1")]).execute("", 0).sync()));
    script.push(ready(batch().parse("", "DEALLOCATE ALL", &[]).bind("", "", &[]).execute("", 1).sync()));
    script.push(ready(batch().bind("", "S_1", &[Some("1")]).execute("", 0).sync()));
    compare(&world, "PDO and JDBC", &script);
}

#[test]
fn eight_clients_over_two_connections_trap_44_45() {
    let world = world("size = 2\nmax_prepared = 3");
    thread::scope(|scope| {
        for number in 0..8_u32 {
            let world = &world;
            scope.spawn(move || {
                let mut client = world.client();
                for round in 0..30 {
                    let value = format!("{number}.{round}");
                    client.exchange(&batch().query(&format!("PREPARE own (text) AS SELECT '{value}' || $1")));
                    client.exchange(&batch().parse("protocol", &format!("SELECT '{value}' || 'p'"), &[]).sync());
                    client.exchange(&batch().query("PREPARE common AS SELECT 'common'"));
                    for _ in 0..3 {
                        assert_eq!(client.value("EXECUTE own('x')"), format!("{value}x"));
                        assert_eq!(client.value("EXECUTE protocol"), format!("{value}p"));
                        assert_eq!(client.value("EXECUTE common"), "common");
                        let frames = client.exchange(&batch().bind("", "own", &[Some("y")]).execute("", 0).sync());
                        assert_eq!(frames[1].columns()[0].as_deref(), Some(format!("{value}y").as_str()));
                        let names = client.rows("SELECT name FROM pg_prepared_statements ORDER BY name");
                        assert_eq!(
                            names.concat().into_iter().flatten().collect::<Vec<_>>(),
                            ["common", "own", "protocol"]
                        );
                    }
                    if round % 2 == number % 2 {
                        client.exchange(&batch().query("DEALLOCATE ALL"));
                    } else {
                        client.exchange(&batch().query("DEALLOCATE own; DEALLOCATE protocol; DEALLOCATE common"));
                    }
                    assert_eq!(client.failure("EXECUTE own('x')"), "26000");
                }
            });
        }
    });
}

#[test]
fn functions_that_execute_by_name() {
    let world = world("size = 1\nwait_timeout = \"5s\"");
    compare(
        &world,
        "functions",
        &[
            query("PREPARE p AS SELECT 'mine'"),
            query("SELECT runs('p')"),
            query("BEGIN"),
            query("PREPARE in_block AS SELECT 'in block'"),
            query("SELECT runs('in_block')"),
            query("ROLLBACK"),
            query("SELECT runs('nobody')"),
            query("SELECT runs('p')"),
        ],
    );
}

#[test]
fn trap_8_execute_is_judged_by_what_it_executes() {
    let world = Plan { sql: SQL, pool: "size = 2", routing: "consistency = \"eventual\"", ..Plan::default() }.start();
    let mut client = world.client();
    let mut other = world.client();
    // Where a statement ran is told by the node's own settings.
    let on_replica = "current_setting('transaction_read_only') || '' AS t FROM t WHERE id = 1";
    client.exchange(&batch().query(&format!("PREPARE p AS /* trunkline: replica */ SELECT {on_replica}")));
    other.exchange(&batch().query("PREPARE p AS SELECT 'no'"));
    client.exchange(&batch().query("PREPARE w AS UPDATE t SET v = v WHERE id = 1 RETURNING id"));
    client.exchange(&batch().query("PREPARE l AS SELECT pg_advisory_lock(44)"));
    for _ in 0..5 {
        assert_eq!(client.value("EXECUTE p"), "on");
        assert_eq!(other.value("EXECUTE p"), "no");
        assert_eq!(client.value("EXECUTE w"), "1");
        assert_eq!(tags(&client.exchange(&batch().run("EXECUTE p", &[]).sync())), "12TDCZ");
    }
    client.exchange(&batch().query("BEGIN"));
    assert_eq!(client.value("EXECUTE p"), "off");
    client.exchange(&batch().query("ROLLBACK"));
    // What it does to its session is what the statement does.
    client.exchange(&batch().query("EXECUTE l"));
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 44";
    for _ in 0..4 {
        assert_eq!(other.value("SELECT pg_try_advisory_xact_lock(44)"), "f");
        assert_eq!(client.value(&format!("{locks} AND pid = pg_backend_pid()")), "1");
    }
}

#[test]
fn a_long_statement_under_a_name_that_is_taken() {
    let world = world("size = 1\nwait_timeout = \"5s\"");
    let long = format!("SELECT 'long' /* {} */", "x".repeat(3 << 20));
    compare(
        &world,
        "long statements",
        &[
            ready(batch().parse("big", "SELECT 'short'", &[]).sync()),
            ready(batch().parse("big", &long, &[]).sync()),
            ready(batch().bind("", "big", &[]).execute("", 0).sync()),
            ready(batch().close(b'S', "big").sync()),
            query("PREPARE big AS SELECT 'by SQL'"),
            ready(batch().parse("big", &long, &[]).sync()),
            query("DEALLOCATE big"),
        ],
    );
    // From here on the connection is the client's own.
    world.compare(
        "long statements that stay",
        &[
            ready(batch().parse("p", &long, &[]).sync()),
            ready(batch().bind("", "p", &[]).execute("", 0).sync()),
            ready(batch().parse("p", "SELECT 'again'", &[]).sync()),
            query("EXECUTE p"),
            query("DEALLOCATE p"),
            ready(batch().parse("p", "SELECT 'short'", &[]).sync()),
            ready(batch().bind("", "p", &[]).execute("", 0).sync()),
            query("EXECUTE p"),
        ],
    );
}

/// `\gdesc` of psql: prepared in one round trip, described in the next, on whatever connection that gets.
#[test]
fn an_execute_is_described_wherever_it_goes_trap_44() {
    let world = Plan { pool: "size = 2", ..Plan::default() }.start();
    let mut other = world.client();
    other.exchange(&Batch::new().query("PREPARE test AS SELECT 'another'"));
    for _ in 0..6 {
        world.compare(
            "described",
            &[
                ready(Batch::new().query("PREPARE test AS SELECT 1 AS first, 2 AS second")),
                ready(Batch::new().parse("", "EXECUTE test", &[]).sync()),
                ready(Batch::new().describe(b'S', "").sync()),
                ready(Batch::new().parse("named", "EXECUTE test", &[]).sync()),
                ready(Batch::new().describe(b'S', "named").sync()),
                ready(Batch::new().bind("", "named", &[]).describe(b'P', "").execute("", 0).sync()),
                ready(Batch::new().query("DEALLOCATE ALL")),
            ],
        );
    }
}

/// What an EXECUTE prepares is not in its text: the connection stays with its session, and nobody else meets it.
#[test]
fn an_execute_that_prepares_leaves_nothing_to_others_trap_44() {
    let world = world("size = 1");
    let bind = |name: &str| ready(batch().bind("", name, &[]).execute("", 0).sync());
    let gone = ["PREPARE inner_name AS SELECT 'not yours'", "DEALLOCATE outer_name"];
    for (text, query) in gone.iter().flat_map(|text| [(text, true), (text, false)]) {
        let run = match query {
            true => batch().query("EXECUTE outer_name"),
            false => batch().run("EXECUTE outer_name", &[]).sync(),
        };
        let mut first = world.client();
        first.exchange(&batch().parse("outer_name", text, &[]).sync());
        assert!(!summary(&first.exchange(&run)).contains("ErrorResponse"), "{text}");
        first.exchange(&batch().query("SELECT 1"));
        drop(first);
        world.compare(
            text,
            &[
                bind("inner_name"),
                ready(batch().query("EXECUTE inner_name")),
                ready(batch().parse("outer_name", text, &[]).sync()),
                ready(run),
                bind("inner_name"),
                ready(batch().query("EXECUTE inner_name")),
                ready(batch().query("SELECT count(*) FROM pg_prepared_statements WHERE name = 'inner_name'")),
            ],
        );
    }
}
