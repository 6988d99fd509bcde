//! Statements that are deep, or long: the parser's stack and time are not theirs.

use std::time::{Duration, Instant};

use crate::support::frames::{Batch, Frame};
use crate::support::world::Plan;
use crate::{cpu, resident, unharmed};

fn around(open: &str, middle: &str, close: &str, depth: usize) -> String {
    format!("SELECT {}{middle}{}", open.repeat(depth), close.repeat(depth))
}

/// What ends an answer: an error's SQLSTATE, or how many rows there were.
fn outcome(frames: &[Frame]) -> String {
    match frames.iter().find(|frame| frame.tag == b'E') {
        Some(error) => error.sqlstate(),
        None => format!("{} rows", frames.iter().filter(|frame| frame.tag == b'D').count()),
    }
}

#[test]
fn deep_and_long_statements_are_the_servers_to_judge() {
    let world = Plan { sql: "CREATE TABLE t (n int)", ..Plan::default() }.start();
    let mut bystander = world.client();
    let mut texts: Vec<(&str, String)> = Vec::new();
    for depth in [30, 200, 3_000, 30_000] {
        texts.extend([
            ("parentheses", around("(", "1", ")", depth)),
            ("subselects", around("(SELECT ", "1", ")", depth)),
            ("calls", around("abs(", "1", ")", depth)),
            ("arrays", around("ARRAY[", "1", "]", depth)),
            ("CASE", around("CASE WHEN true THEN ", "1", " END", depth)),
            ("NOT", around("NOT ", "true", "", depth)),
            ("minus", around("- ", "1", "", depth)),
            ("EXISTS", around("EXISTS (SELECT ", "1", ")", depth)),
            ("sums", around("", "1", " + 1", depth)),
            ("texts", around("", "'a'", " || 'a'", depth)),
            ("casts", around("", "1", "::int", depth)),
            ("subscripts", around("", "'{1}'::int[]", "[1]", depth)),
            ("AND", around("", "true", " AND true", depth)),
            ("IS NULL", around("", "1", " IS NULL", depth)),
            ("UNION", format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(depth))),
            ("joins", format!("SELECT 1 FROM t{}", " CROSS JOIN t".repeat(depth.min(1_000)))),
            ("FROM", format!("SELECT 1 FROM {}t{}", "(".repeat(depth), ")".repeat(depth))),
            ("WITH", format!("WITH {}b AS (SELECT 1) SELECT 1", "a AS (WITH ".repeat(depth))),
            ("lists", format!("SELECT 1 WHERE 1 IN ({}1)", "2, ".repeat(depth))),
            ("comments", format!("{}SELECT 1{}", "/*".repeat(depth), "*/".repeat(depth))),
            ("statements", "SELECT 1;".repeat(depth.min(3_000))),
            ("rows", format!("VALUES {}(1)", "(1), ".repeat(depth))),
            ("JSON", format!("SELECT '{}{}'::json IS NULL", "[".repeat(depth), "]".repeat(depth))),
            ("EXPLAIN", format!("{}SELECT 1", "EXPLAIN ".repeat(depth))),
            (
                "functions",
                format!("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql BEGIN ATOMIC {}", "BEGIN ".repeat(depth)),
            ),
        ]);
    }
    bystander.value("SELECT 1");
    let before = resident(&world);
    let (mut direct, mut client) = (world.direct(), world.client());
    let patience = Duration::from_secs(60);
    let mut slowest = (Duration::ZERO, "", 0);
    direct.set_timeout(patience);
    client.set_timeout(patience);
    for (what, sql) in &texts {
        for batch in [Batch::new().query(sql), Batch::new().run(sql, &[]).sync()] {
            let expected = outcome(&direct.exchange(&batch));
            let used = cpu(&world);
            let got = outcome(&client.exchange(&batch));
            let used = cpu(&world).saturating_sub(used);
            assert_eq!(got, expected, "{what}, {} bytes", sql.len());
            // The proxy's own work, without optimisation, whatever the server needs: never a power of the depth.
            let most = Duration::from_secs(1 + sql.len() as u64 / 50_000);
            assert!(used < most, "{what}, {} bytes: {used:?} of the proxy's CPU time", sql.len());
            if used > slowest.0 {
                slowest = (used, *what, sql.len());
            }
        }
    }
    eprintln!("most CPU time of the proxy: {slowest:?}");
    let held = resident(&world).saturating_sub(before);
    assert!(held < 60 * 1024, "{held} KiB are left");
    unharmed(&world, &mut bystander);
}

#[test]
fn parsing_one_text_after_the_other_leaves_the_thread_to_others() {
    let world = Plan { general: "workers = 1", ..Plan::default() }.start();
    let mut bystander = world.client();
    bystander.value("SELECT 1");
    let port_client = world.client();
    let flood = std::thread::spawn(move || {
        let mut client = port_client;
        // Each another text, so that no cache helps; each as costly for the classifier as it may be.
        for number in 0..60 {
            let list: String = (0..1_000).map(|n| format!("lower(c{number}_{n}), ")).collect();
            let _ = client.exchange(&Batch::new().query(&format!("SELECT {list} 1 FROM nowhere{number}")));
        }
    });
    let mut worst = Duration::ZERO;
    while !flood.is_finished() {
        let began = Instant::now();
        assert_eq!(bystander.value("SELECT 1"), "1");
        worst = worst.max(began.elapsed());
    }
    flood.join().unwrap();
    eprintln!("the longest that a statement of another client took: {worst:?}");
    assert!(worst < Duration::from_secs(1), "{worst:?}");
    unharmed(&world, &mut bystander);
}
