//! Names without schema: along the session's search path where that is certain, else the worst of that name in any schema (trap 3).
//!
//! Each function and view tells in which schema it is and on which node it ran; the volatile ones write. Nothing is ever healed here: a
//! write that had been tried on a replica would have been run once more.

use super::*;
use crate::support::clusters;
use crate::support::frames::{Batch, Frame, tags};

pub(super) const EVENTUAL: &str = "consistency = \"eventual\"\nmax_lag = \"0\"\ncatalog_interval = \"1h\"";

pub(super) const SCHEMA: &str = "
    CREATE TABLE public.log (n serial);
    CREATE FUNCTION public.node() RETURNS text STABLE LANGUAGE sql AS
        $$SELECT CASE WHEN pg_is_in_recovery() THEN 'replica' ELSE 'primary' END$$;
    CREATE SCHEMA reads; CREATE SCHEMA writes; CREATE SCHEMA app; CREATE SCHEMA \"B c\"; CREATE SCHEMA guest;
    CREATE FUNCTION reads.f() RETURNS text STABLE LANGUAGE sql AS $$SELECT 'reads ' || public.node()$$;
    CREATE FUNCTION writes.f() RETURNS text LANGUAGE sql AS
        $$INSERT INTO public.log DEFAULT VALUES; SELECT 'writes ' || public.node()$$;
    CREATE FUNCTION app.f() RETURNS text LANGUAGE sql AS
        $$INSERT INTO public.log DEFAULT VALUES; SELECT 'app ' || public.node()$$;
    CREATE FUNCTION \"B c\".f() RETURNS text STABLE LANGUAGE sql AS $$SELECT 'B c ' || public.node()$$;
    CREATE FUNCTION guest.f(int) RETURNS text STABLE LANGUAGE sql AS $$SELECT 'guest ' || public.node()$$;
    CREATE VIEW reads.v AS SELECT reads.f() AS v; CREATE VIEW writes.v AS SELECT writes.f() AS v;
    CREATE FUNCTION writes.upper(text) RETURNS text LANGUAGE sql AS
        $$INSERT INTO public.log DEFAULT VALUES; SELECT 'writes ' || public.node()$$;
";

fn split(routing: &str) -> World {
    world_with(Plan { sql: SCHEMA, routing, ..Plan::default() })
}

/// What the statement returns by the simple and the extended protocol; both the same.
fn asked(client: &mut RawClient, sql: &str) -> String {
    let simple = client.value(sql);
    let extended = first_value(&client.exchange(&Batch::new().run(sql, &[]).sync()));
    assert_eq!(extended, simple, "{sql}");
    simple
}

fn first_value(frames: &[Frame]) -> String {
    let row = frames.iter().find(|frame| frame.tag == b'D').unwrap_or_else(|| panic!("no row: {frames:?}"));
    row.columns()[0].clone().unwrap_or_default()
}

fn rows_of(frames: &[Frame]) -> Vec<String> {
    let rows = frames.iter().filter(|frame| frame.tag == b'D');
    rows.map(|row| row.columns()[0].clone().unwrap_or_default()).collect()
}

/// No statement has been tried on a replica that could not run there. (One that names what is not there may have been: that is no worse
/// an answer, and is asked of the primary, too.)
pub(super) fn nothing_was_healed(world: &World) {
    let reruns = |labels: &[&str]| world.counter("trunkline_reruns_total", labels);
    assert_eq!(reruns(&[]), reruns(&["cause=\"lag\""]), "{}", world.proxy.log());
}

#[test]
fn trap_3_a_name_is_looked_for_along_the_path_of_the_session() {
    let world = split(EVENTUAL);
    // For anybody it is the worst of them.
    is_for_primary(&world, "SELECT f()", "volatile_function", "f() is VOLATILE");
    let mut client = world.client();
    for (path, function, view) in [
        ("SET search_path TO reads", "reads replica", "reads replica"),
        ("SET search_path TO writes", "writes primary", "writes primary"),
        ("SET search_path = 'reads', public, nowhere", "reads replica", "reads replica"),
        ("SET SCHEMA 'reads'", "reads replica", "reads replica"),
        ("SELECT set_config('search_path', 'public,  READS', false)", "reads replica", "reads replica"),
        // Which comes first is no matter: the worst of the path's schemas counts.
        ("SET search_path TO reads, writes", "reads primary", "reads primary"),
        ("SET search_path TO writes, reads", "writes primary", "writes primary"),
        ("SET search_path TO \"$user\", reads", "app primary", "reads replica"),
        // Not certain.
        ("SET search_path TO reads, pg_temp", "reads primary", "reads primary"),
    ] {
        client.rows(path);
        assert_eq!(asked(&mut client, "SELECT f()"), function, "{path}");
        assert_eq!(asked(&mut client, "SELECT v FROM v"), view, "{path}");
        assert_eq!(asked(&mut client, "SELECT writes.f()"), "writes primary");
        assert_eq!(asked(&mut client, "SELECT reads.f()"), "reads replica");
    }
    client.rows("SET search_path TO \"B c\"");
    assert_eq!(asked(&mut client, "SELECT f()"), "B c replica");
    // One of a built-in function's name.
    assert_eq!(asked(&mut client, "SELECT upper('x') || public.node()"), "Xreplica");
    client.rows("SET search_path TO writes");
    assert_eq!(asked(&mut client, "SELECT upper('x') || public.node()"), "Xprimary");
    client.rows("SET search_path TO guest");
    assert_eq!(client.failure("SELECT f()"), "42883");
    assert_eq!(asked(&mut client, "SELECT f(1)"), "guest replica");
    client.rows("RESET search_path");
    assert_eq!(asked(&mut client, "SELECT f()"), "app primary");
    nothing_was_healed(&world);
}

#[test]
fn trap_3_paths_of_the_startup_and_of_others() {
    let world = split(EVENTUAL);
    let mut by_options = world.client_with(&[("options", "-c search_path=reads,public")]);
    let mut by_parameter = world.client_with(&[("search_path", "writes")]);
    for _ in 0..3 {
        assert_eq!(asked(&mut by_options, "SELECT f()"), "reads replica");
        assert_eq!(asked(&mut by_parameter, "SELECT f()"), "writes primary");
    }
    by_options.rows("SET search_path TO writes");
    assert_eq!(asked(&mut by_options, "SELECT f()"), "writes primary");
    by_options.rows("DISCARD ALL");
    assert_eq!(asked(&mut by_options, "SELECT f()"), "reads replica");
    nothing_was_healed(&world);
    // What `connect_query` sets.
    let pool = "connect_query = \"SET search_path = reads\"";
    let world = world_with(Plan { sql: SCHEMA, pool, routing: EVENTUAL, ..Plan::default() });
    let mut by_query = world.client();
    assert_eq!(asked(&mut by_query, "SELECT f()"), "reads replica");
    by_query.rows("SET search_path TO writes");
    assert_eq!(asked(&mut by_query, "SELECT f()"), "writes primary");
    by_query.rows("RESET ALL");
    assert_eq!(asked(&mut by_query, "SELECT f()"), "reads replica");
    nothing_was_healed(&world);
}

/// What makes the server look up names along this path where a session says nothing.
fn default_path(path: &str) -> String {
    format!("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = {path}', current_database()); END $$")
}

/// The servers' own default is asked of each connection that needs it.
#[test]
fn trap_3_the_default_path_is_known_once_it_was_told() {
    let sql = format!("{SCHEMA} {}", default_path("\"$user\", reads"));
    let world = world_with(Plan { sql: &sql, routing: EVENTUAL, ..Plan::default() });
    let mut client = world.client();
    // Asked in the same write.
    assert_eq!(client.value("SELECT v FROM v"), "reads primary");
    assert_eq!(asked(&mut client, "SELECT v FROM v"), "reads replica");
    assert_eq!(asked(&mut client, "SELECT f()"), "app primary");
    client.rows("SET search_path TO writes");
    assert_eq!(asked(&mut client, "SELECT v FROM v"), "writes primary");
    client.rows("SET search_path TO DEFAULT");
    assert_eq!(asked(&mut client, "SELECT v FROM v"), "reads replica");
    // In a block the path of the transaction is another.
    client.rows("BEGIN; SET LOCAL search_path TO writes");
    assert_eq!(asked(&mut client, "SELECT v FROM v"), "writes primary");
    client.rows("ROLLBACK");
    assert_eq!(asked(&mut client, "SELECT v FROM v"), "reads replica");
    nothing_was_healed(&world);
}

#[test]
fn trap_3_connections_may_have_other_defaults_than_those_before() {
    for extended in [false, true] {
        let sql = format!("{SCHEMA} {}", default_path("reads"));
        let world = world_with(Plan { sql: &sql, routing: EVENTUAL, ..Plan::default() });
        let mut client = world.client();
        let mut ask = || match extended {
            true => first_value(&client.exchange(&Batch::new().run("SELECT f()", &[]).sync())),
            false => client.value("SELECT f()"),
        };
        ask();
        assert_eq!(ask(), "reads replica");
        world.db.run(&default_path("writes"));
        world.db.wait_replayed();
        // These keep the connections that there are, in blocks; what else runs is on new ones.
        let mut holders: Vec<RawClient> = (0..6).map(|_| world.client()).collect();
        for (number, holder) in holders.iter_mut().enumerate() {
            holder.rows(if number % 3 == 2 { "BEGIN" } else { "BEGIN READ ONLY" });
            holder.value("SELECT reads.f()");
            let told = ask();
            assert!(["reads replica", "reads primary", "writes primary"].contains(&told.as_str()), "{told}");
            nothing_was_healed(&world);
        }
        assert_eq!(ask(), "writes primary");
        holders.truncate(0);
        // It is not known of which kind the next one is.
        for _ in 0..4 {
            let told = ask();
            assert!(told.ends_with("primary"), "{told}");
        }
        nothing_was_healed(&world);
    }
}

/// Traps 3 and 36: a server plans a prepared statement anew when the path has changed.
#[test]
fn traps_3_and_36_prepared_statements_follow_the_path() {
    let world = split(EVENTUAL);
    let mut client = world.client();
    client.rows("SET search_path TO reads");
    assert_eq!(tags(&client.exchange(&Batch::new().parse("s", "SELECT f()", &[]).describe(b'S', "s").sync())), "1tTZ");
    client.rows("PREPARE p AS SELECT f()");
    client.rows("PREPARE typed (int) AS SELECT f() WHERE $1 = 1");
    let bind = Batch::new().bind("", "s", &[]).execute("", 0).sync();
    for _ in 0..2 {
        for (path, told) in
            [("reads", "reads replica"), ("writes", "writes primary"), ("\"B c\", reads", "B c replica")]
        {
            client.rows(&format!("SET search_path TO {path}"));
            for _ in 0..2 {
                assert_eq!(first_value(&client.exchange(&bind)), told, "{path}");
                assert_eq!(client.value("EXECUTE p"), told, "{path}");
                assert_eq!(client.value("EXECUTE typed(1)"), told, "{path}");
            }
        }
        // Another client's path is no matter.
        let mut other = world.client_with(&[("search_path", "writes")]);
        assert_eq!(tags(&other.exchange(&Batch::new().parse("s", "SELECT f()", &[]).sync())), "1Z");
        assert_eq!(first_value(&other.exchange(&bind)), "writes primary");
    }
    nothing_was_healed(&world);
}

#[test]
fn traps_3_and_26_settings_of_a_transaction_are_not_the_sessions() {
    let world = split(EVENTUAL);
    let mut client = world.client();
    client.rows("SET search_path TO reads");
    for end in ["COMMIT", "ROLLBACK"] {
        client.rows("BEGIN");
        client.rows("SET LOCAL search_path TO writes");
        assert_eq!(asked(&mut client, "SELECT f()"), "writes primary");
        client.rows(end);
        assert_eq!(asked(&mut client, "SELECT f()"), "reads replica");
        client.rows("BEGIN");
        client.rows("SET search_path TO writes");
        assert_eq!(asked(&mut client, "SELECT f()"), "writes primary");
        client.rows(end);
        let told = if end == "COMMIT" { "writes primary" } else { "reads replica" };
        assert_eq!(asked(&mut client, "SELECT f()"), told);
        client.rows("SET search_path TO reads");
    }
    client.rows("BEGIN");
    client.rows("SAVEPOINT a");
    client.rows("SET search_path TO writes");
    client.rows("ROLLBACK TO a");
    assert_eq!(client.value("SELECT f()"), "reads primary");
    client.rows("COMMIT");
    assert_eq!(asked(&mut client, "SELECT f()"), "reads replica");
    // In a block that only reads.
    client.rows("BEGIN READ ONLY");
    assert_eq!(asked(&mut client, "SELECT f()"), "reads replica");
    client.rows("SET LOCAL search_path TO writes");
    assert_eq!(client.failure("SELECT f()"), "25006");
    client.rows("ROLLBACK");
    // What failed has not been set.
    assert_eq!(client.failure("SET search_path TO writes; SELECT 1/0"), "22012");
    assert_eq!(asked(&mut client, "SELECT f()"), "reads replica");
    nothing_was_healed(&world);
}

#[test]
fn traps_3_and_30_one_string_and_one_pipeline() {
    let world = split(EVENTUAL);
    let mut client = world.client();
    let set = |to: &str| format!("SET search_path TO {to}");
    let mut run = |what: &str, batch: Batch| {
        client.rows("SET search_path TO reads");
        let readies = batch.readies();
        client.send(&batch);
        let rows = rows_of(&client.recv_ready(readies));
        eprintln!("{what}: {rows:?}");
        rows
    };
    let strings = Batch::new().query(&format!("{}; SELECT f()", set("writes"))).query("SELECT f()");
    assert_eq!(run("strings", strings), ["writes primary", "writes primary"]);
    let strings = Batch::new().query(&format!("SELECT f(); {}; SELECT f()", set("writes")));
    assert_eq!(run("set in between", strings), ["reads primary", "writes primary"]);
    let several = Batch::new().query("SELECT f(); SELECT v FROM v");
    assert_eq!(run("only reads", several), ["reads replica", "reads replica"]);
    let local = Batch::new().query("BEGIN; SET LOCAL search_path TO writes; SELECT f(); COMMIT; SELECT f()");
    assert_eq!(run("local", local), ["writes primary", "reads primary"]);
    // Several messages in one write.
    let queries = Batch::new().query("SELECT f()").query(&set("writes")).query("SELECT f()").query("SELECT f()");
    let rows = run("queries", queries);
    assert_eq!(rows[1..], ["writes primary", "writes primary"]);
    let failing =
        Batch::new().query(&set("writes")).query("SELECT f()").query("RESET search_path").query("SELECT reads.f()");
    assert_eq!(run("reset", failing)[0], "writes primary");
    let segments =
        Batch::new().run(&set("writes"), &[]).sync().run("SELECT f()", &[]).sync().run("SELECT f()", &[]).sync();
    assert_eq!(run("segments", segments), ["writes primary", "writes primary"]);
    let segment = Batch::new().run(&set("writes"), &[]).run("SELECT f()", &[]).run("SELECT f()", &[]).sync();
    assert_eq!(run("one segment", segment), ["writes primary", "writes primary"]);
    let segment = Batch::new().run("SET LOCAL search_path TO writes", &[]).run("SELECT f()", &[]).sync();
    assert_eq!(run("a local one", segment), ["writes primary"]);
    let segment =
        Batch::new().run("SELECT f()", &[]).run("SELECT set_config('search_path', $1, false)", &[Some("writes")]);
    let segment = segment.run("SELECT f()", &[]).sync().run("SELECT f()", &[]).sync();
    assert_eq!(run("by a function", segment), ["reads primary", "writes", "writes primary", "writes primary"]);
    let flushed = Batch::new().parse("x", "SELECT f()", &[]).flush().run(&set("writes"), &[]).sync();
    let flushed = flushed.bind("", "x", &[]).execute("", 0).sync().close(b'S', "x").sync();
    assert_eq!(run("behind a Flush", flushed), ["writes primary"]);
    nothing_was_healed(&world);
}

const GUEST: &str = "
    RESET ROLE;
    DO $$ BEGIN CREATE ROLE path_guest; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
    GRANT path_guest TO app; CREATE SCHEMA path_guest; CREATE SCHEMA locked; CREATE SCHEMA locked_well;
    CREATE FUNCTION path_guest.f() RETURNS text LANGUAGE sql AS
        $$INSERT INTO public.log DEFAULT VALUES; SELECT 'path_guest ' || public.node()$$;
    CREATE FUNCTION locked.f() RETURNS text LANGUAGE sql AS $$SELECT 'locked ' || public.node()$$;
    CREATE FUNCTION locked_well.f() RETURNS text STABLE LANGUAGE sql AS $$SELECT 'locked_well ' || public.node()$$;
    GRANT ALL ON SCHEMA path_guest TO path_guest; GRANT USAGE ON SCHEMA reads, writes TO path_guest;
    GRANT ALL ON public.log, reads.v TO path_guest; GRANT ALL ON SEQUENCE public.log_n_seq TO path_guest;
";

#[test]
fn trap_3_roles_and_what_they_may_use() {
    let sql = format!("{SCHEMA} {GUEST}");
    let world = world_with(Plan { sql: &sql, routing: EVENTUAL, ..Plan::default() });
    let mut client = world.client();
    let mut under = |path: &str, told: &str| {
        client.rows(&format!("SET search_path TO {path}"));
        assert_eq!(asked(&mut client, "SELECT f()"), told, "{path}");
    };
    // The server passes over what the role may not use; which that is, is not known here.
    under("locked, reads", "reads primary");
    under("locked_well, writes", "writes primary");
    under("locked_well, reads", "reads replica");
    under("\"$user\", reads", "app primary");
    client.rows("SET ROLE path_guest");
    assert_eq!(asked(&mut client, "SELECT v FROM v"), "reads replica");
    assert_eq!(asked(&mut client, "SELECT f()"), "path_guest primary");
    client.rows("SET search_path TO path_guest, reads");
    assert_eq!(asked(&mut client, "SELECT f()"), "path_guest primary");
    client.rows("SET search_path TO reads");
    assert_eq!(asked(&mut client, "SELECT f()"), "reads replica");
    client.rows("RESET ROLE");
    assert_eq!(asked(&mut client, "SELECT f()"), "reads replica");
    nothing_was_healed(&world);
}

#[test]
fn what_is_explained_is_what_is_done() {
    let world = split(EVENTUAL);
    let mut client = world.client();
    let explained = |client: &mut RawClient| {
        let lines = client.rows("EXPLAIN (ROUTE) SELECT f()");
        lines.into_iter().map(|line| line[0].clone().unwrap()).collect::<Vec<_>>().join("\n")
    };
    assert!(explained(&mut client).starts_with("primary: it calls"), "{}", explained(&mut client));
    client.rows("SET search_path TO reads");
    let told = explained(&mut client);
    assert!(told.starts_with("replica:") && told.contains("search_path") && told.contains("reason read,"), "{told}");
    client.rows("SET search_path TO writes");
    let told = explained(&mut client);
    assert!(told.starts_with("primary:") && told.contains("writes.f() is VOLATILE"), "{told}");
    // On the console nobody's path is known.
    is_for_primary(&world, "SELECT f()", "volatile_function", "f() is VOLATILE");
}

/// A function that is declared to read and writes all the same is found out, and kept on the primary for every path.
#[test]
fn what_a_replica_refuses_is_learned_for_all_paths() {
    let sly = "CREATE FUNCTION reads.sly() RETURNS text STABLE LANGUAGE sql AS
                   $$SELECT 'reads ' || public.node() WHERE nextval('public.log_n_seq') > 0$$;
               CREATE FUNCTION writes.sly() RETURNS text LANGUAGE sql AS $$SELECT 'writes ' || public.node()$$;
               CREATE FUNCTION app.sly() RETURNS text STABLE LANGUAGE sql AS $$SELECT 'app ' || public.node()$$;";
    let world = world_with(Plan { sql: &format!("{SCHEMA} {sly}"), routing: EVENTUAL, ..Plan::default() });
    let (mut app, mut reads) = (world.client_with(&[("search_path", "app")]), world.client());
    reads.rows("SET search_path TO reads");
    assert_eq!(app.value("SELECT sly()"), "app replica");
    for turn in 0..3 {
        assert_eq!(reads.value("SELECT sly()"), "reads primary", "{turn}");
        assert_eq!(app.value("SELECT sly()"), "app primary", "{turn}");
    }
    assert_eq!(world.counter("trunkline_reruns_total", &[]), 1.0, "{}", world.proxy.log());
    world.console().rows("FORGET LEARNED");
    assert_eq!(app.value("SELECT sly()"), "app replica");
}

#[test]
fn trap_3_a_change_of_the_schema_changes_what_a_path_leads_to() {
    let world = split(EVENTUAL);
    let mut client = world.client();
    client.rows("SET search_path TO reads");
    let frames = client.exchange(&Batch::new().parse("s", "SELECT f()", &[]).sync());
    assert_eq!(tags(&frames), "1Z");
    let bind = Batch::new().bind("", "s", &[]).execute("", 0).sync();
    assert_eq!(asked(&mut client, "SELECT f()"), "reads replica");
    assert_eq!(first_value(&client.exchange(&bind)), "reads replica");
    let body =
        "RETURNS text LANGUAGE sql AS $$INSERT INTO public.log DEFAULT VALUES; SELECT 'anew ' || public.node()$$";
    world.client().rows(&format!("CREATE OR REPLACE FUNCTION reads.f() {body}"));
    assert_eq!(asked(&mut client, "SELECT f()"), "anew primary");
    assert_eq!(first_value(&client.exchange(&bind)), "anew primary");
    world.settle();
    assert_eq!(asked(&mut client, "SELECT f()"), "anew primary");
    assert_eq!(first_value(&client.exchange(&bind)), "anew primary");
    nothing_was_healed(&world);
}

/// What another schema's function of that name would leave behind in the session is no matter.
#[test]
fn traps_3_and_53_the_path_decides_what_pins() {
    let sql = format!(
        "{SCHEMA} CREATE FUNCTION reads.g() RETURNS text STABLE LANGUAGE sql AS $$SELECT 'reads ' || public.node()$$;
         CREATE FUNCTION writes.g() RETURNS text LANGUAGE sql AS
             $$SELECT 'writes ' || public.node() FROM set_config('search_path', 'app', false)$$;"
    );
    let world = world_with(Plan { sql: &sql, routing: EVENTUAL, ..Plan::default() });
    let (mut reads, mut writes) =
        (world.client_with(&[("search_path", "reads")]), world.client_with(&[("search_path", "writes")]));
    let pins = || world.console().rows("SHOW PINS").len();
    assert_eq!(asked(&mut reads, "SELECT g()"), "reads replica");
    assert_eq!(pins(), 0);
    assert_eq!(writes.value("SELECT g()"), "writes primary");
    assert_eq!(pins(), 1);
    // Its path is the function's from now on.
    assert_eq!(asked(&mut writes, "SELECT f()"), "app primary");
    assert_eq!(asked(&mut reads, "SELECT f()"), "reads replica");
    writes.rows("DISCARD ALL");
    assert_eq!(pins(), 0);
    assert_eq!(asked(&mut writes, "SELECT f()"), "writes primary");
    nothing_was_healed(&world);
}

/// Settings that are under way, or of a transaction: what is then called and writes is seen to write, and no read that follows misses it
/// on a replica that lags.
#[test]
fn a_write_by_a_path_that_is_under_way_is_seen_by_what_follows() {
    let cluster = clusters::start(ClusterOptions { replicas: 1, ..clusters::options() });
    let plan = Plan { sql: SCHEMA, routing: "catalog_interval = \"1h\"", ..Plan::default() };
    let world = world_on(cluster.info(), plan);
    let (mut client, mut reader) = (world.client_with(&[("search_path", "reads")]), world.client());
    let count = "SELECT count(*) FROM public.log";
    let set = "SET search_path TO writes";
    let f = "SELECT f()";
    client.exchange(&Batch::new().parse("s", f, &[]).sync());
    let ways = [
        Batch::new().query(set).query(f),
        Batch::new().query(set).query(f).query("SET search_path TO reads"),
        Batch::new().query("BEGIN; SET LOCAL search_path TO writes").query(f).query("COMMIT"),
        Batch::new().query("BEGIN").query("SET LOCAL search_path TO writes").query(f).query("COMMIT"),
        Batch::new().run(set, &[]).run(f, &[]).sync(),
        Batch::new().run(set, &[]).bind("", "s", &[]).execute("", 0).sync(),
        Batch::new().run("SET LOCAL search_path TO writes", &[]).run(f, &[]).sync(),
        Batch::new().run(set, &[]).sync().run(f, &[]).sync(),
        Batch::new().run(set, &[]).sync().bind("", "s", &[]).execute("", 0).sync(),
        Batch::new().query("SELECT set_config('search_path', 'writes', false)").run(f, &[]).sync(),
        Batch::new().query(&format!("{set}; {f}")),
        Batch::new().query("DO $$BEGIN SET LOCAL search_path TO reads; PERFORM writes.f(); END$$"),
    ];
    for (number, way) in ways.into_iter().enumerate() {
        client.rows("SET search_path TO reads");
        world.db.wait_replayed();
        let deadline = Instant::now() + Duration::from_secs(20);
        let told = |reader: &mut RawClient| reader.rows(&format!("EXPLAIN (ROUTE) {count}"))[0][0].clone().unwrap();
        while !told(&mut reader).starts_with("replica") {
            assert!(Instant::now() < deadline, "{}", told(&mut reader));
            std::thread::sleep(Duration::from_millis(5));
        }
        world.db.run_on(1, "SELECT pg_wal_replay_pause()");
        client.send(&way);
        let frames = client.recv_ready(way.readies());
        assert!(!tags(&frames).contains('E'), "way {number}: {frames:?}");
        // Who has read on the primary does not go back in time anyway.
        assert_eq!(reader.value(count), (number + 1).to_string(), "way {number}");
        world.db.run_on(1, "SELECT pg_wal_replay_resume()");
    }
    nothing_was_healed(&world);
}
