//! Causes that are in the node: conflicts with replay, replicas that go away, replicas that lag.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use trunkline::app::demo::{Cluster, Node, StopMode};

use super::*;
use crate::support::clusters;

/// Where a statement with this text runs: the index of the node, and the number of the server process.
fn running(world: &World, marker: &str) -> (usize, i32) {
    let sql = format!(
        "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%{marker}%' AND pid <> pg_backend_pid()"
    );
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        for node in 0..3 {
            if let Some(pid) = world.db.run_on(node, &sql).lines().next().and_then(|pid| pid.parse().ok()) {
                return (node, pid);
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{marker} runs nowhere");
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// Runs a statement that takes some time, does something to the replica on which it runs, and returns the answer.
fn disturbed(world: &World, cluster: &Cluster, sql: &str, act: impl FnOnce(&World, &Node, usize, i32)) -> Vec<Frame> {
    let mut client = world.client();
    client.send(&batch().query(sql));
    let (node, pid) = running(world, sql.split_whitespace().nth(1).unwrap());
    assert_ne!(node, 0, "it runs on the primary");
    act(world, &cluster.nodes()[node], node, pid);
    let mut frames = Vec::new();
    while let Ok(frame) = client.try_recv() {
        let last = frame.tag == b'Z';
        frames.push(frame);
        if last {
            break;
        }
    }
    frames
}

#[test]
fn a_replica_that_goes_away_before_the_first_byte_trap_66() {
    let cluster = clusters::own();
    let world = plan().start_on(cluster.info());
    let answer = "RowDescription DataRow(, 1) CommandComplete(SELECT 1) ReadyForQuery(I)";
    type Act = fn(&World, &Node, usize, i32);
    let acts: [(&str, Act); 4] = [
        ("terminated", |world, _, node, pid| {
            world.db.run_on(node, &format!("SELECT pg_terminate_backend({pid})"));
        }),
        ("process killed", |_, _, _, pid| kill(pid)),
        ("fast shutdown", |_, node, _, _| node.stop(StopMode::Fast).unwrap()),
        ("server killed", |_, node, _, _| node.kill().unwrap()),
    ];
    for (number, (what, act)) in acts.into_iter().enumerate() {
        let sql = format!("SELECT /*lost{number}*/ pg_sleep(1), 1");
        let frames = disturbed(&world, &cluster, &sql, act);
        assert_eq!(summary(&frames), answer, "{what}");
        assert!(reruns(&world, "lost") > number as f64, "{what}");
        for (index, node) in cluster.nodes().iter().enumerate() {
            if node.pid().is_none() {
                node.start().unwrap();
            }
            // A killed process makes the whole server start anew.
            let deadline = Instant::now() + Duration::from_secs(20);
            while cluster.info().query(index, "postgres", "SELECT 1").is_err() {
                assert!(Instant::now() < deadline);
                thread::sleep(Duration::from_millis(50));
            }
        }
        // The next test wants both replicas.
        thread::sleep(Duration::from_millis(2500));
    }
    assert_eq!(learned(&world), [], "that is no fault of the statement");
    // In the extended protocol, with a statement that was prepared before.
    let mut client = world.client();
    client.exchange(&batch().parse("s", "SELECT /*lostX*/ pg_sleep($1::float), 1", &[]).sync());
    client.send(&batch().bind("", "s", &[Some("1")]).execute("", 0).sync());
    let (node, pid) = running(&world, "lostX");
    world.db.run_on(node, &format!("SELECT pg_terminate_backend({pid})"));
    assert_eq!(summary(&client.recv_ready(1)), "BindComplete DataRow(, 1) CommandComplete(SELECT 1) ReadyForQuery(I)");
}

#[test]
fn a_replica_that_goes_away_in_the_middle_of_a_result() {
    let cluster = clusters::own();
    let world = plan().start_on(cluster.info());
    let rows = "repeat('x', 1000), pg_sleep(0.01) FROM t";
    let terminate = |world: &World, _: &Node, node: usize, pid: i32| {
        thread::sleep(Duration::from_millis(500));
        world.db.run_on(node, &format!("SELECT pg_terminate_backend({pid})"));
    };
    let frames = disturbed(&world, &cluster, &format!("SELECT /*begun1*/ {rows}"), terminate);
    let told_tags = tags(&frames);
    assert!(told_tags.starts_with("TD") && told_tags.ends_with('E'), "{told_tags}");
    assert_eq!(frames.last().unwrap().sqlstate(), "57P01", "in PostgreSQL's own words");
    let frames = disturbed(&world, &cluster, &format!("SELECT /*begun2*/ {rows}"), |_, _, _, pid| {
        thread::sleep(Duration::from_millis(500));
        kill(pid);
    });
    assert!(tags(&frames).starts_with("TD") && !tags(&frames).contains('Z'), "{}", tags(&frames));
    assert_eq!(reruns(&world, "lost"), 0.0);
    assert_eq!(told(&world, "lost", "begun"), 2.0);
}

#[test]
fn replay_that_is_in_the_way() {
    let mut options = clusters::options();
    options.settings = vec![
        ("max_standby_streaming_delay".to_owned(), "0".to_owned()),
        ("hot_standby_feedback".to_owned(), "off".to_owned()),
    ];
    let cluster = clusters::start(options);
    let world = plan().start_on(cluster.info());
    let conflict = |world: &World, _: &Node, _: usize, _: i32| {
        thread::sleep(Duration::from_millis(300));
        world.db.run("DELETE FROM t WHERE id > 900; INSERT INTO t SELECT n, 0 FROM generate_series(901, 1000) AS n");
        world.db.run("VACUUM t");
    };
    // Nothing has come before the conflict: it runs on the primary.
    let frames = disturbed(&world, &cluster, "SELECT /*conflict1*/ count(pg_sleep(0.002)) FROM t", conflict);
    assert_eq!(summary(&frames), "RowDescription DataRow(1000) CommandComplete(SELECT 1) ReadyForQuery(I)");
    assert_eq!(reruns(&world, "conflict"), 1.0);
    assert_eq!(learned(&world), [], "replicas go on to serve it");
    // Rows have come: the client is told, in PostgreSQL's words, and its session goes on.
    let sql = "SELECT /*conflict2*/ repeat('x', 1000), pg_sleep(0.003) FROM t";
    let frames = disturbed(&world, &cluster, sql, conflict);
    let error = frames.iter().find(|frame| frame.tag == b'E').expect("a conflict");
    assert_eq!((error.sqlstate().as_str(), tags(&frames).starts_with("TD")), ("40001", true));
    assert_eq!(told(&world, "conflict", "begun"), 1.0);
}

#[test]
fn a_replica_that_has_not_heard_of_a_table() {
    let cluster = clusters::own();
    let world = plan().start_on(cluster.info());
    for node in [1, 2] {
        world.db.run_on(node, "SELECT pg_wal_replay_pause()");
    }
    world.db.run("SET ROLE app; CREATE TABLE fresh (id int); INSERT INTO fresh VALUES (1); ALTER TABLE t ADD extra int DEFAULT 5");
    let mut client = world.client();
    assert_eq!(client.value("SELECT id FROM fresh"), "1");
    let segment = batch().parse("", "SELECT extra FROM t WHERE id = 1", &[]).bind("", "", &[]).execute("", 0).sync();
    assert_eq!(
        summary(&client.exchange(&segment)),
        "ParseComplete BindComplete DataRow(5) CommandComplete(SELECT 1) ReadyForQuery(I)"
    );
    // Described with a Flush, as asyncpg does.
    client.send(&batch().parse("f", "SELECT id FROM fresh", &[]).describe(b'S', "f").flush());
    assert_eq!(tags(&client.recv_frames(3)), "1tT");
    let frames = client.exchange(&batch().bind("", "f", &[]).execute("", 0).sync());
    assert_eq!(summary(&frames), "BindComplete DataRow(1) CommandComplete(SELECT 1) ReadyForQuery(I)");
    assert_eq!(reruns(&world, "lag"), 3.0);
    assert_eq!(learned(&world), [], "the table will be there");
    for node in [1, 2] {
        world.db.run_on(node, "SELECT pg_wal_replay_resume()");
    }
}

#[test]
fn under_load_a_dying_replica_costs_no_client_an_error() {
    const CLIENTS: usize = 8;
    let cluster = clusters::own();
    let world = plan().start_on(cluster.info());
    let stop = AtomicBool::new(false);
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (world, stop, done) = (&world, &stop, &done);
            scope.spawn(move || {
                let mut client = world.client();
                let mut prepared = false;
                while !stop.load(Ordering::Relaxed) {
                    let id = fastrand::u32(1..=1000).to_string();
                    let frames = match number % 3 {
                        0 => client.exchange(&batch().query(&format!("SELECT id FROM t WHERE id = {id}"))),
                        1 => client.exchange(&batch().run("SELECT id FROM t WHERE id = $1", &[Some(&id)]).sync()),
                        _ => {
                            let first = if prepared {
                                batch()
                            } else {
                                batch().parse("s", "SELECT id FROM t WHERE id = $1", &[])
                            };
                            prepared = true;
                            client.exchange(&first.bind("", "s", &[Some(&id)]).execute("", 0).sync())
                        }
                    };
                    let row = frames.iter().find(|frame| frame.tag == b'D');
                    assert_eq!(row.map(|row| row.columns()), Some(vec![Some(id)]), "{}", summary(&frames));
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let wait = |more: usize| {
            let until = done.load(Ordering::Relaxed) + more;
            let deadline = Instant::now() + Duration::from_secs(30);
            while done.load(Ordering::Relaxed) < until && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(10));
            }
        };
        wait(500);
        cluster.replicas()[0].kill().unwrap();
        wait(500);
        cluster.replicas()[0].start().unwrap();
        wait(1000);
        cluster.replicas()[1].stop(StopMode::Fast).unwrap();
        wait(500);
        // Not an immediate shutdown: a server that is told to do that sends what it has of a result, and no more (seen once in hundreds
        // of runs). What a client has got of it cannot be taken back.
        cluster.replicas()[0].kill().unwrap();
        wait(500);
        stop.store(true, Ordering::Relaxed);
    });
    assert!(done.into_inner() > 1000);
    assert_eq!(learned(&world), []);
}

/// A statement that is closed behind its last use is still there for the next attempt.
#[test]
fn a_statement_that_its_segment_closes_trap_33() {
    let world = world();
    for (number, name) in ["n", ""].into_iter().enumerate() {
        let mut client = world.client();
        let sql = format!("SELECT pg_sleep(1), 'closed{number}'");
        client.exchange(&batch().parse(name, &sql, &[]).sync());
        client.send(&batch().bind("", name, &[]).execute("", 0).close(b'S', name).sync());
        let (node, pid) = running(&world, &format!("closed{number}"));
        assert_ne!(node, 0, "it runs on the primary");
        world.db.run_on(node, &format!("SELECT pg_terminate_backend({pid})"));
        let frames = client.recv_ready(1);
        assert_eq!(tags(&frames), "2DC3Z", "{frames:?}");
        let frames = client.exchange(&batch().bind("", name, &[]).sync());
        assert_eq!(frames[0].sqlstate(), "26000", "{frames:?}");
    }
}
