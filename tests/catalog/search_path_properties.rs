//! Random scripts over functions of the same names in several schemas.

use fastrand::Rng;

use super::search_path::{EVENTUAL, SCHEMA, nothing_was_healed};
use super::*;
use crate::support::frames::{Batch, Frame};

const SCHEMAS: [&str; 4] = ["one", "two", "three", "app"];
const NAMES: [&str; 4] = ["a", "b", "c", "upper"];
const SEEDS: std::ops::Range<u64> = 1..7;
const STEPS: usize = 200;

/// Functions of the same names in several schemas, at random. Each tells its schema, what it is, and its node.
fn random_functions(rng: &mut Rng) -> String {
    let mut sql = SCHEMA.to_owned();
    for schema in &SCHEMAS[..3] {
        sql += &format!("CREATE SCHEMA {schema};");
    }
    for schema in SCHEMAS {
        for name in NAMES {
            for arguments in ["", "int", "int, text"].into_iter().filter(|_| rng.u8(..4) > 0).collect::<Vec<_>>() {
                let (kind, body) = match rng.u8(..4) {
                    0 => ("VOLATILE", "INSERT INTO public.log DEFAULT VALUES; "),
                    _ => ("STABLE", ""),
                };
                sql += &format!(
                    "CREATE FUNCTION {schema}.{name}({arguments}) RETURNS text {kind} LANGUAGE sql AS
                         $${body} SELECT '{schema} {kind} ' || public.node()$$;"
                );
            }
        }
    }
    sql
}

/// The next messages of a client, and what they are in words.
fn random_step(rng: &mut Rng, step: usize) -> (Batch, String) {
    fn pick<'t>(rng: &mut Rng, of: &[&'t str]) -> &'t str {
        of[rng.usize(..of.len())]
    }
    fn call(rng: &mut Rng) -> String {
        let (name, arguments) = (pick(rng, &NAMES), pick(rng, &["", "1", "1, 'x'"]));
        let other = if rng.u8(..4) == 0 { format!(", {}(1)", pick(rng, &NAMES)) } else { String::new() };
        format!("SELECT {name}({arguments}){other}")
    }
    // What follows a RESET in the same string or pipeline sees the server's value instead of the startup's (README).
    fn change_among_others(rng: &mut Rng) -> String {
        loop {
            let sql = change(rng);
            if !sql.contains("RESET") && !sql.contains("DEFAULT") {
                return sql;
            }
        }
    }
    fn change(rng: &mut Rng) -> String {
        let mut all = ["one", "two", "three", "app", "\"$user\"", "public", "nowhere"];
        rng.shuffle(&mut all);
        let path = all[..rng.usize(1..4)].join(", ");
        match rng.u8(..14) {
            0..=4 => format!("SET search_path TO {path}"),
            5 | 6 => format!("SET LOCAL search_path TO {path}"),
            7 => format!("SELECT set_config('search_path', '{path}', {})", rng.bool()),
            8 => {
                pick(rng, &["RESET search_path", "RESET ALL", "SET search_path TO DEFAULT", "SET ROLE app"]).to_owned()
            }
            9 => pick(rng, &["BEGIN", "BEGIN READ ONLY"]).to_owned(),
            10..=12 => pick(rng, &["COMMIT", "ROLLBACK", "ROLLBACK"]).to_owned(),
            _ => pick(rng, &["SAVEPOINT s", "ROLLBACK TO s", "RELEASE s", "SELECT 1/0"]).to_owned(),
        }
    }
    let batch = Batch::new();
    match rng.u8(..14) {
        0..=2 => {
            let sql = change(rng);
            (batch.query(&sql), sql)
        }
        3 => {
            let sql = change(rng);
            (batch.run(&sql, &[]).sync(), format!("extended: {sql}"))
        }
        4..=6 => {
            let sql = call(rng);
            (batch.query(&sql), sql)
        }
        7 => {
            let sql = call(rng);
            (batch.run(&sql, &[]).sync(), format!("extended: {sql}"))
        }
        8 => {
            let (set, one, two) = (change_among_others(rng), call(rng), call(rng));
            (batch.query(&format!("{one}; {set}; {two}")), format!("{one}; {set}; {two}"))
        }
        9 => {
            let (set, one, two) = (change_among_others(rng), call(rng), call(rng));
            (batch.query(&one).query(&set).query(&two), format!("{one} | {set} | {two}"))
        }
        10 => {
            let (set, one, two) = (change_among_others(rng), call(rng), call(rng));
            let batch = batch.run(&one, &[]).run(&set, &[]).run(&two, &[]).sync().run(&two, &[]).sync();
            (batch, format!("segment: {one} | {set} | {two}; {two}"))
        }
        11 => {
            let sql = call(rng);
            (batch.parse(&format!("s{}", step % 5), &sql, &[]).sync(), format!("parse s{}: {sql}", step % 5))
        }
        12 => {
            let name = format!("s{}", rng.u8(..5));
            (batch.bind("", &name, &[]).execute("", 0).sync(), format!("bind {name}"))
        }
        _ => {
            let name = format!("p{}", rng.u8(..2));
            let sql = match rng.u8(..3) {
                0 => format!("PREPARE {name} AS {}", call(rng)),
                _ => format!("EXECUTE {name}"),
            };
            (batch.query(&sql), sql)
        }
    }
}

/// What each call that came to a result says: schema and kind, and apart from them the nodes.
fn told(frames: &[Frame]) -> (Vec<String>, Vec<String>) {
    let mut answers = Vec::new();
    let mut calls = Vec::new();
    for frame in frames {
        match frame.tag {
            b'E' => answers.push(frame.sqlstate()),
            b'D' => {
                for value in frame.columns().into_iter().flatten() {
                    answers.push(value.replace("replica", "primary"));
                    calls.push(value);
                }
            }
            _ => {}
        }
    }
    (answers, calls)
}

/// Random scripts: each function is the one that a server of the client's own finds, and none that writes is ever tried on a replica.
#[test]
fn trap_3_random_paths_never_lead_a_write_to_a_replica() {
    for seed in SEEDS {
        let mut rng = Rng::with_seed(seed);
        let sql = random_functions(&mut rng);
        let routing =
            if rng.bool() { format!("{EVENTUAL}\ntransaction_reads = \"until_write\"") } else { EVENTUAL.to_owned() };
        let world = world_with(Plan { sql: &sql, routing: &routing, ..Plan::default() });
        let start = rng.bool().then_some(("search_path", "two, three"));
        let parameters: Vec<_> = start.into_iter().collect();
        let (mut client, mut other) = (world.client_with(&parameters), world.client_with(&[("search_path", "one")]));
        let mut login = vec![("user", APP), ("database", world.db.name.as_str())];
        login.extend(&parameters);
        let mut direct = RawClient::connect_with(world.db.cluster().primary_port(), APP_PASSWORD, &login);
        let (mut on_replicas, mut calls) = (0, 0);
        for step in 0..STEPS {
            let (batch, what) = random_step(&mut rng, step);
            let both = [&mut direct, &mut client].map(|client| {
                client.send(&batch);
                told(&client.recv_ready(batch.readies()))
            });
            let [(expected, _), (answers, found)] = both;
            eprintln!("seed {seed}, step {step}: {what}: {found:?}");
            assert_eq!(answers, expected, "seed {seed}, step {step}: {what}");
            for call in &found {
                assert!(!(call.contains("VOLATILE") && call.contains("replica")), "seed {seed}, step {step}: {what}");
                on_replicas += usize::from(call.contains("replica"));
                calls += usize::from(call.contains("STABLE"));
            }
            // Somebody else uses the connections in between.
            let _ = other.exchange(&Batch::new().query("SELECT 1"));
        }
        eprintln!("seed {seed}: {on_replicas} of {calls} reads on replicas");
        nothing_was_healed(&world);
        assert!(on_replicas > 0, "seed {seed}: none of {calls}");
    }
}
