//! The primary is killed, and a replica is promoted: how long clients wait, and who hears of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::line::Line;
use crate::support::clusters::{self, APP, APP_PASSWORD};
use crate::support::frames::Batch;
use crate::support::process::{Setup, Trunkline};
use trunkline::app::demo::{Cluster, ClusterOptions};

const CLIENTS: usize = 24;

/// How a client writes; of each kind as many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// One statement, sent once the primary is dead: it waits for the next one.
    Waiting,
    /// A block that was begun before, and of which no server knows: its first statement waits.
    Deferred,
    /// Writes all the time, so that something is under way when the primary dies.
    Busy,
}

/// What a client saw: SQLSTATEs of its errors, and when its first write after the promotion was done.
struct Seen {
    kind: Kind,
    errors: Vec<String>,
    done: Option<Instant>,
}

fn before(cluster: &Cluster) -> Trunkline {
    let nodes: String = cluster
        .nodes()
        .iter()
        .map(|node| {
            format!(
                "[[databases.app.nodes]]\nname = \"{}\"\nhost = \"127.0.0.1\"\nport = {}\n",
                node.name(),
                node.port()
            )
        })
        .collect();
    // The usual intervals.
    Setup::config(format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n[[hba]]\nmethod = \"trust\"\n[users.{APP}]\npassword = \"{APP_PASSWORD}\"\n\
         [databases.app]\ncontrol_user = \"{APP}\"\ncontrol_password = \"{APP_PASSWORD}\"\n{nodes}"
    ))
    .start()
}

#[test]
fn of_a_killed_primary_hears_only_who_had_something_under_way_and_writes_go_on_within_a_second_of_the_promotion() {
    let _alone = crate::ALONE.lock();
    let cluster = clusters::start(ClusterOptions { replicas: 2, ..clusters::options() });
    cluster
        .info()
        .query(0, "app", &format!("CREATE TABLE t (kind text, n int); ALTER TABLE t OWNER TO {APP}"))
        .unwrap();
    cluster.info().wait_replayed().unwrap();
    let proxy = before(&cluster);
    let (dead, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let promoted: Mutex<Option<Instant>> = Mutex::new(None);
    let is_promoted = || promoted.lock().is_some();

    let client = |kind: Kind, number: usize| {
        let mut line = Line::open(proxy.port(), &format!("{kind:?}"), "eventual").ok().unwrap();
        let sql = format!("INSERT INTO t VALUES ('{kind:?}', {number})");
        let mut seen = Seen { kind, errors: Vec::new(), done: None };
        let waits_for_death = || {
            while !dead.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(1))
            }
        };
        match kind {
            Kind::Waiting => {
                assert!(line.query(&sql).failure().is_none());
                waits_for_death();
                // Some at once, some a while later.
                thread::sleep(Duration::from_millis(u64::try_from(number).unwrap() * 20));
                seen.errors.extend(line.query(&sql).failure());
            }
            Kind::Deferred => {
                assert!(line.query("BEGIN").failure().is_none());
                waits_for_death();
                seen.errors.extend(line.query(&sql).failure());
                seen.errors.extend(line.query("COMMIT").failure());
            }
            Kind::Busy => {
                while !stop.load(Ordering::Relaxed) {
                    let answer = line.exchange(&Batch::new().query("BEGIN").query(&sql).query("COMMIT"));
                    if let Some(failure) = answer.failure() {
                        seen.errors.push(failure);
                        line = Line::open(proxy.port(), "Busy", "eventual").ok().unwrap();
                        continue;
                    }
                    if is_promoted() {
                        break;
                    }
                }
            }
        }
        seen.done = Some(Instant::now());
        line.close();
        seen
    };
    let seen: Vec<Seen> = thread::scope(|scope| {
        let client = &client;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let kind = [Kind::Waiting, Kind::Deferred, Kind::Busy][number % 3];
                scope.spawn(move || client(kind, number))
            })
            .collect();
        thread::sleep(Duration::from_millis(700));
        cluster.primary().kill().unwrap();
        // Its backends end a moment after it.
        thread::sleep(Duration::from_millis(100));
        dead.store(true, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(1500));
        cluster.replicas()[0].promote().unwrap();
        *promoted.lock() = Some(Instant::now());
        let deadline = Instant::now() + Duration::from_secs(20);
        while clients.iter().any(|client| !client.is_finished()) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let promoted = promoted.lock().unwrap();
    let mut longest: BTreeMap<Kind, Duration> = BTreeMap::new();
    let mut errors: BTreeMap<(Kind, String), usize> = BTreeMap::new();
    for one in seen {
        let stall = one.done.unwrap().saturating_duration_since(promoted);
        let longest = longest.entry(one.kind).or_default();
        *longest = stall.max(*longest);
        one.errors.into_iter().for_each(|code| *errors.entry((one.kind, code)).or_default() += 1);
    }
    eprintln!("longest stall after the promotion: {longest:?}; errors: {errors:?}");
    assert!(errors.keys().all(|(kind, _)| *kind == Kind::Busy), "nothing was under way: {errors:?}");
    // What was on its way when the server died; who was quick to come back met a backend that ended last.
    assert!(errors.values().sum::<usize>() <= 2 * CLIENTS / 3, "{errors:?}");
    let codes = ["08006", "08007", "57P01", "57P02"];
    assert!(errors.keys().all(|(_, code)| codes.contains(&code.as_str())), "{errors:?}");
    assert!(longest.values().all(|stall| *stall < Duration::from_secs(1)), "{longest:?}");
    let booked = cluster.info().query(1, "app", "SELECT count(*) FROM t WHERE kind = 'Deferred'").unwrap();
    assert_eq!(booked, (CLIENTS / 3).to_string());
}
