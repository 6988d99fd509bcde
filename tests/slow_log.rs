//! The slow-query log of a running Trunkline: what its lines say, and what they keep to themselves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::frames::Batch;
use support::world::{Plan, World};

fn world(keys: &str) -> World {
    let tables = format!("[slow_log]\nslow_query = \"200ms\"\nfile = \"@DIR@/slow.log\"\n{keys}");
    Plan { sql: "CREATE TABLE t (v text)", tables: &tables, ..Plan::default() }.start()
}

/// The lines written, once there are as many.
fn lines(world: &World, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let text = fs::read_to_string(world.proxy.dir().join("slow.log")).unwrap_or_default();
        if text.lines().count() >= count {
            return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        }
        assert!(Instant::now() < deadline, "{count} lines wanted:\n{text}\n{}", world.proxy.log());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Sleeps for as long as its first parameter says.
const SLEEP: &str = "SELECT pg_sleep($1::float8), $2::text, $3::text";

#[test]
fn a_slow_statement_is_told_without_its_literals_and_parameters() {
    let world = world("");
    let mut client = world.client_with(&[("application_name", "night job")]);
    client.rows("SELECT pg_sleep(0.25), 'hunter2' /* controller='orders' */");
    client.exchange(&Batch::new().run(SLEEP, &[Some("0.25"), Some("hunter2"), None]).sync());
    client.rows("SELECT 1");
    let lines = lines(&world, 2);
    let text = format!("{lines:?}");
    assert!(!text.contains("hunter2"), "{text}");
    for (line, normalized) in lines.iter().zip(["select pg_sleep(?), ?", "select pg_sleep($1::float8)"]) {
        assert!(line["statement"].as_str().unwrap().starts_with(normalized), "{line}");
        assert_eq!(line["database"], world.db.name.as_str());
        assert_eq!((&line["user"], &line["application_name"]), (&"app".into(), &"night job".into()));
        assert!(line["node"].as_str().unwrap().starts_with("replica"), "{line}");
        assert_eq!(line["rows"], 1);
        assert_eq!(line["parameters"], Value::Null);
    }
    assert_eq!(lines[0]["tags"]["controller"], "orders");
}

#[test]
fn parameters_when_asked_for() {
    let world = world("parameters = true");
    let mut client = world.client();
    client.exchange(&Batch::new().run(SLEEP, &[Some("0.25"), Some("it's"), None]).sync());
    assert_eq!(lines(&world, 1)[0]["parameters"], serde_json::json!(["0.25", "it's", null]));

    // Of a named statement, bound again with other values; and a binary one.
    client.exchange(&Batch::new().parse("s", SLEEP, &[]).sync());
    for value in ["a", "b"] {
        let bind = Batch::new().bind("", "s", &[Some("0.25"), Some(value), Some("c")]);
        client.exchange(&bind.execute("", 0).sync());
    }
    let binary = Batch::new().parse("", "SELECT pg_sleep(0.25), $1::int4", &[]);
    let binary = binary.raw(b'B', b"\0\0\0\x01\0\x01\0\x01\0\0\0\x04\0\0\x12\x67\0\0");
    client.exchange(&binary.execute("", 0).sync());
    let of: Vec<_> = lines(&world, 4).iter().map(|line| line["parameters"].to_string()).collect();
    assert_eq!(of[1..], [r#"["0.25","a","c"]"#, r#"["0.25","b","c"]"#, r#"["\\x00001267"]"#]);

    // What has none doesn't show those of the statement before it.
    client.rows("SELECT pg_sleep(0.25)");
    assert_eq!(lines(&world, 5)[4]["parameters"], Value::Null);
}

#[test]
fn a_pipelines_first_statement_lends_its_parameters() {
    let world = world("parameters = true");
    let mut client = world.client();
    let both =
        Batch::new().run(SLEEP, &[Some("0.25"), Some("first"), None]).run(SLEEP, &[Some("0"), Some("second"), None]);
    client.exchange(&both.sync());
    assert_eq!(lines(&world, 1)[0]["parameters"][1], "first");
}

#[test]
fn huge_and_many_parameters_are_cut() {
    let world = world("parameters = true\nraw_text = true");
    let mut client = world.client();
    let huge = "x".repeat(30_000_000);
    let sql = "INSERT INTO t SELECT $1 FROM (SELECT pg_sleep(0.25)) AS s RETURNING length(v)";
    let frames = client.exchange(&Batch::new().run(sql, &[Some(&huge)]).sync());
    assert!(frames.iter().any(|frame| frame.tag == b'D' && frame.columns() == [Some("30000000".to_owned())]));
    let line = &lines(&world, 1)[0];
    let value = line["parameters"][0].as_str().unwrap();
    assert_eq!((value.chars().count(), value.ends_with("x…")), (1025, true));

    let count = 1000;
    let list = (1..=count).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
    let values = vec![Some("v"); count];
    client.exchange(&Batch::new().run(&format!("SELECT pg_sleep(0.25) WHERE 'v' IN ({list})"), &values).sync());
    assert_eq!(lines(&world, 2)[1]["parameters"].as_array().unwrap().len(), 100);
}
