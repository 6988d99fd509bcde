//! A primary dies under load and a replica is promoted, while somebody at the console does all kinds of things: no acknowledged write is
//! lost or done twice, whatever is said not to be done is not, and nobody waits for ever.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use trunkline::app::demo::Cluster;

use crate::fixture::*;
use crate::support::clusters::{APP, APP_PASSWORD};
use crate::support::frames::Batch;
use crate::support::heard::{Heard, ask};
use crate::support::process::Setup;
use crate::support::raw::RawClient;

const WRITERS: usize = 8;

/// Everything that may end a statement or refuse it, in reach.
const EDGY: &str = "[databases.app.pool]\nsize = 4\nwait_timeout = \"4s\"\n\
    [databases.app.routing]\nconsistency = \"table\"\nmax_lag = \"300ms\"\nhealth_interval = \"200ms\"\nhealth_timeout = \"1s\"\n\
    breaker_failures = 3\nbreaker_window = \"5s\"\nbreaker_pause = \"300ms\"\n";

fn edgy(nodes: &str) -> String {
    let text = config("", "", nodes);
    let (head, rest) = text.split_once("[databases.app.pool]").unwrap();
    let (_, nodes) = rest.split_once("consistency = \"eventual\"\n").unwrap();
    format!("{head}{EDGY}{nodes}\n[client]\nidle_transaction_timeout = \"700ms\"\n")
}

fn login(fixture: &Fixture) -> Result<RawClient, String> {
    let mut client = RawClient::tcp(fixture.proxy.port());
    client.set_timeout(PATIENCE);
    // It may be killed in the middle of its login.
    let attempt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        client.login(APP_PASSWORD, &[("user", APP), ("database", "app")]).map_err(|error| format!("{error:?}"))
    }));
    attempt.unwrap_or_else(|_| Err("closed".to_owned())).map(|()| client)
}

/// Writes rows in every way until told to stop, and reads after each how many of its own there are.
fn write(fixture: &Fixture, writer: usize, stop: &AtomicBool, done: &AtomicUsize) -> Heard {
    let (mut heard, mut client) = (Heard::default(), None);
    let mut id = writer * 1_000_000;
    let count = format!("SELECT count(*) FROM t WHERE n / 1000000 = {writer}");
    while !stop.load(Ordering::SeqCst) {
        let Some(line) = &mut client else {
            match login(fixture) {
                Ok(line) => client = Some(line),
                Err(error) => heard.note_error("login", &error),
            }
            continue;
        };
        id += 1;
        let sql = format!("INSERT INTO t VALUES ({id})");
        let batch = match id % 4 {
            0 => Batch::new().query(&sql),
            1 => Batch::new().run("INSERT INTO t VALUES ($1)", &[Some(&id.to_string())]).sync(),
            2 => Batch::new().query("BEGIN").query(&sql).query("COMMIT"),
            _ => Batch::new().query("BEGIN").run(&sql, &[]).sync().run("COMMIT", &[]).sync(),
        };
        let (outcome, mut ended) = ask(line, &batch);
        if heard.note_write(id, outcome) {
            done.fetch_add(1, Ordering::SeqCst);
        } else {
            thread::sleep(Duration::from_millis(10));
        }
        if !ended {
            let (outcome, has_ended) = ask(line, &Batch::new().query(&count));
            ended = has_ended;
            heard.note_count(outcome);
        }
        if ended {
            client = None;
        }
    }
    heard
}

/// A command of the console's, which is answered.
fn command(fixture: &Fixture, sql: &str) -> Result<String, String> {
    let mut console = console(&fixture.proxy);
    console.set_timeout(PATIENCE);
    ask(&mut console, &Batch::new().query(sql)).0
}

/// What somebody does at the console again and again, with the number of the turn.
type Meddling = fn(&Fixture, usize);

fn survives(name: &str, meddling: Meddling) {
    let cluster: Cluster = cluster(2);
    let proxy = Setup::config(edgy(&nodes(&cluster))).start();
    let fixture = Fixture { proxy, cluster };
    let primary = fixture.cluster.primary();
    primary.configure(&[("synchronous_standby_names", "2 (*)")]).unwrap();
    primary.reload();
    fixture.wait_node("replica2", "role", "replica");
    let (stop, meddles) = (AtomicBool::new(false), AtomicBool::new(true));
    let done: Vec<AtomicUsize> = (0..WRITERS).map(|_| AtomicUsize::new(0)).collect();
    let heard: Vec<Heard> = thread::scope(|scope| {
        let (fixture, stop, meddles, done) = (&fixture, &stop, &meddles, &done);
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| scope.spawn(move || write(fixture, writer, stop, &done[writer]))).collect();
        let flows = |what: &str| {
            let before: Vec<usize> = done.iter().map(|done| done.load(Ordering::SeqCst)).collect();
            until(what, || {
                assert!(writers.iter().all(|writer| !writer.is_finished()), "{what}: a writer has given up");
                done.iter().zip(&before).all(|(now, before)| now.load(Ordering::SeqCst) > before + 3)
            });
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            flows("before");
            let meddler = scope.spawn(move || {
                let mut turn = 0;
                while meddles.load(Ordering::SeqCst) {
                    turn += 1;
                    meddling(fixture, turn);
                }
            });
            thread::sleep(Duration::from_millis(300));
            fixture.cluster.primary().kill().unwrap();
            thread::sleep(Duration::from_millis(1000));
            fixture.cluster.replicas()[0].promote().unwrap();
            fixture.cluster.follow(2, 1).unwrap();
            thread::sleep(Duration::from_millis(1500));
            meddles.store(false, Ordering::SeqCst);
            meddler.join().unwrap();
            // Put in order again.
            fixture.proxy.rewrite_config(&edgy(&nodes(&fixture.cluster)));
            for sql in [
                "RELOAD",
                "RESUME",
                "ENABLE app",
                "ENABLE NODE app.primary",
                "ENABLE NODE app.replica1",
                "ENABLE NODE app.replica2",
            ] {
                eprintln!("{sql}: {:?}", command(fixture, sql));
            }
            flows("behind");
        }));
        meddles.store(false, Ordering::SeqCst);
        stop.store(true, Ordering::SeqCst);
        let heard = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        if outcome.is_err() {
            panic!("{name}: {}", fixture.proxy.log());
        }
        heard
    });
    let there = fixture.cluster.info().query(1, "app", "SELECT n FROM t").unwrap();
    let there: Vec<usize> = there.lines().map(|n| n.parse().unwrap()).collect();
    for (writer, heard) in heard.iter().enumerate() {
        let own: Vec<usize> = there.iter().copied().filter(|row| row / 1_000_000 == writer).collect();
        heard.check(&format!("{name}, writer {writer}"), &own);
    }
    until("nobody has or waits for a connection", || {
        ["cl_waiting", "sv_active"].iter().all(|column| {
            let sql = format!("SELECT count(*) FROM pools WHERE database = 'app' AND {column} > 0");
            command(&fixture, &sql).unwrap() == "0"
        })
    });
}

#[test]
fn with_pauses_and_an_idle_transaction() {
    survives("pauses", |fixture, turn| {
        let mut idle = login(fixture).unwrap();
        let _ = ask(&mut idle, &Batch::new().query("BEGIN; SELECT count(*) FROM t"));
        thread::scope(|scope| {
            let pausing = scope.spawn(|| command(fixture, if turn % 2 == 0 { "PAUSE app" } else { "PAUSE" }));
            thread::sleep(Duration::from_millis(200));
            command(fixture, "RESUME").ok();
            pausing.join().unwrap().ok();
        });
        command(fixture, "RESUME").ok();
        thread::sleep(Duration::from_millis(50));
    });
}

#[test]
fn with_reconnects_and_kills() {
    survives("kills", |fixture, turn| {
        command(fixture, "RECONNECT app").unwrap();
        if turn % 3 == 0 {
            command(fixture, "KILL app").unwrap();
            thread::sleep(Duration::from_millis(30));
            command(fixture, "RESUME app").unwrap();
        }
        let mut console = console(&fixture.proxy);
        if let Some(row) = console.rows("SELECT id FROM clients WHERE database = 'app' LIMIT 1").first() {
            command(fixture, &format!("KILL_CLIENT {}", row[0].as_deref().unwrap())).ok();
        }
        thread::sleep(Duration::from_millis(30));
    });
}

#[test]
fn with_nodes_that_are_disabled_and_enabled() {
    survives("nodes", |fixture, turn| {
        let node = ["primary", "replica1", "replica2"][turn % 3];
        command(fixture, &format!("DISABLE NODE app.{node}")).ok();
        thread::sleep(Duration::from_millis(60));
        command(fixture, &format!("ENABLE NODE app.{node}")).ok();
        command(fixture, "RECONNECT").unwrap();
    });
}

#[test]
fn with_reloads_that_change_the_nodes() {
    survives("reloads", |fixture, turn| {
        let all: Vec<String> = fixture.cluster.nodes().iter().map(|one| node(one.name(), one.port(), "")).collect();
        let text = match turn % 4 {
            0 => all.concat(),
            1 => all[1..].concat(),
            2 => all.iter().rev().cloned().collect(),
            _ => node("renamed", fixture.cluster.replicas()[0].port(), "weight = 3") + &all[0] + &all[2],
        };
        fixture.proxy.rewrite_config(&edgy(&text));
        command(fixture, "RELOAD").unwrap();
        thread::sleep(Duration::from_millis(80));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| command(fixture, "WAIT_CLOSE app"));
            thread::sleep(Duration::from_millis(20));
            command(fixture, "RECONNECT app").unwrap();
            waiting.join().unwrap().ok();
        });
    });
}
