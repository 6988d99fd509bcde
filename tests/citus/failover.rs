//! Nodes of a Citus cluster that die, hang and are replaced, under load: no acknowledged write is lost, none is done twice, and reads see
//! their own writes all the while.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use trunkline::app::demo::{Cluster, StopMode};

use super::fixture::{Fixture, PATIENCE, config, nodes, nodes_with, tenants};
use crate::support::clusters::{APP, APP_PASSWORD};
use crate::support::frames::Batch;
use crate::support::heard::{Heard, ask};
use crate::support::process::Setup;
use crate::support::raw::RawClient;

/// A client that connects anew when it is closed.
struct Caller<'a> {
    fixture: &'a Fixture,
    client: Option<RawClient>,
}

impl Caller<'_> {
    /// As [`ask`] tells it.
    fn ask(&mut self, batch: &Batch) -> Result<String, String> {
        let client = match &mut self.client {
            Some(client) => client,
            none => {
                let mut client = RawClient::tcp(self.fixture.proxy.port());
                client.set_timeout(PATIENCE);
                if let Err(error) = client.login(APP_PASSWORD, &[("user", APP), ("database", "app")]) {
                    return Err(format!("login: {error:?}"));
                }
                none.insert(client)
            }
        };
        let (outcome, has_ended) = ask(client, batch);
        if has_ended {
            self.client = None;
        }
        outcome
    }
}

/// Writes rows of a tenant until told to stop, and reads after each how many there are.
fn write(fixture: &Fixture, tenant: &str, writer: usize, stop: &AtomicBool, done: &AtomicUsize) -> Heard {
    let (mut heard, mut caller) = (Heard::default(), Caller { fixture, client: None });
    let mut id = 0;
    while !stop.load(Ordering::SeqCst) {
        id += 1;
        let sql = format!("INSERT INTO k0 (k, v) VALUES ({tenant}, '{writer}-{id}')");
        let write = if id % 2 == 0 { Batch::new().query(&sql) } else { Batch::new().run(&sql, &[]).sync() };
        if heard.note_write(id, caller.ask(&write)) {
            done.fetch_add(1, Ordering::SeqCst);
        } else {
            thread::sleep(Duration::from_millis(20));
        }
        let sql = format!("SELECT count(*) FROM k0 WHERE k = {tenant} AND v LIKE '{writer}-%'");
        let read = if id % 3 == 0 { Batch::new().query(&sql) } else { Batch::new().run(&sql, &[]).sync() };
        if !heard.note_count(caller.ask(&read)) {
            thread::sleep(Duration::from_millis(20));
        }
    }
    heard
}

/// Runs the fault under load on tenants of both workers. Afterwards all of them are written to again, every row that was acknowledged is
/// there, and none of which was said that it is not.
fn storm(fixture: &Fixture, fault: impl FnOnce(&dyn Fn(&str))) -> Vec<BTreeMap<String, usize>> {
    let tenants = tenants(fixture);
    let stop = AtomicBool::new(false);
    let done: Vec<AtomicUsize> = (0..4).map(|_| AtomicUsize::new(0)).collect();
    let heard: Vec<(String, usize, Heard)> = thread::scope(|scope| {
        let (stop, done) = (&stop, &done);
        let writers: Vec<_> = (0..4)
            .map(|number| {
                let tenant = tenants[number % 2].clone();
                scope.spawn(move || {
                    let heard = write(fixture, &tenant, number, stop, &done[number]);
                    (tenant, number, heard)
                })
            })
            .collect();
        // All of them write on.
        let flows = |what: &str| {
            let before: Vec<usize> = done.iter().map(|done| done.load(Ordering::SeqCst)).collect();
            fixture.until(what, || {
                assert!(writers.iter().all(|writer| !writer.is_finished()), "{what}: a writer has given up");
                done.iter().zip(&before).all(|(now, before)| now.load(Ordering::SeqCst) > before + 5)
            });
        };
        // A writer that panicked ends the others, too.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            flows("before");
            fault(&flows);
            flows("behind");
        }));
        stop.store(true, Ordering::SeqCst);
        let heard = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        outcome.unwrap();
        heard
    });
    let mut client = fixture.client();
    let mut errors = Vec::new();
    for (tenant, writer, heard) in heard {
        let sql = format!("SELECT split_part(v, '-', 2) FROM k0 WHERE k = {tenant} AND v LIKE '{writer}-%'");
        let there = client.rows(&sql).into_iter().map(|row| row[0].clone().unwrap().parse::<usize>().unwrap());
        heard.check(&format!("tenant {tenant}, writer {writer}"), &there.collect::<Vec<_>>());
        errors.push(heard.errors);
    }
    let mut console = fixture.console();
    fixture.until("nobody has or waits for a connection", || {
        ["cl_waiting", "sv_active"].iter().all(|column| {
            console.value(&format!("SELECT count(*) FROM pools WHERE database = 'app' AND {column} > 0")) == "0"
        })
    });
    errors
}

fn before(nodes: Vec<Cluster>, citus: &str, more: &str) -> Fixture {
    let routing = "[databases.app.routing]\nhealth_interval = \"200ms\"\nhealth_timeout = \"1s\"\n";
    let text = config(nodes[0].info().primary_port(), "", citus) + more + routing;
    let fixture = Fixture { proxy: Setup::config(text).start(), nodes };
    fixture.settle();
    // The stand-in's coordinator does not pass on what is a worker's: it refuses what it is asked of that.
    fixture.run(0, "REVOKE ALL ON k0 FROM PUBLIC");
    fixture
}

/// What is acknowledged by a node is on its standby, too.
fn acknowledge_by_standby(fixture: &Fixture, group: usize) {
    let node = fixture.nodes[group].primary();
    node.configure(&[("synchronous_standby_names", "*")]).unwrap();
    node.reload();
    fixture.until("the standby is synchronous", || {
        fixture.run(group, "SELECT sync_state FROM pg_stat_replication LIMIT 1") == "sync"
    });
}

const ALL: &str = "owner_routing = \"all\"";

#[test]
fn a_worker_that_is_killed_or_restarted_loses_no_acknowledged_write() {
    let fixture = before(nodes(), ALL, "");
    let errors = storm(&fixture, |flows| {
        for mode in [None, Some(StopMode::Immediate), Some(StopMode::Fast)] {
            let worker = fixture.nodes[1].primary();
            match mode {
                None => worker.kill().unwrap(),
                Some(mode) => worker.stop(mode).unwrap(),
            }
            thread::sleep(Duration::from_millis(300));
            worker.start().unwrap();
            flows("the worker is back");
        }
    });
    for other in [&errors[1], &errors[3]] {
        assert!(other.is_empty(), "tenants of the other worker: {other:?}");
    }
}

#[test]
fn a_workers_standby_is_promoted() {
    let fixture = before(nodes_with(1), ALL, "");
    acknowledge_by_standby(&fixture, 1);
    let errors = storm(&fixture, |flows| {
        fixture.nodes[1].primary().kill().unwrap();
        let standby = &fixture.nodes[1].replicas()[0];
        standby.configure(&[("synchronous_standby_names", "")]).unwrap();
        standby.reload();
        standby.promote().unwrap();
        let moved = format!(
            "SET standin.allow_ddl = on; UPDATE pg_dist_node SET nodeport = {} WHERE groupid = 1",
            standby.port()
        );
        let server = format!("; ALTER SERVER g1 OPTIONS (SET port '{}')", standby.port());
        fixture.nodes[1].info().query(1, "app", &moved).unwrap();
        for group in [0, 2] {
            fixture.run(group, &(moved.clone() + &server));
        }
        flows("the standby serves");
        let mut console = fixture.console();
        fixture.until("it is used", || console.value("SELECT count(*) FROM citus WHERE used = 'yes'") == "2");
        // The former one comes back, and nobody is sent there.
        fixture.nodes[1].primary().start().unwrap();
        flows("the former one is back");
        assert_eq!(
            fixture.run(1, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND query LIKE '%INTO k0%'"),
            "0"
        );
    });
    for other in [&errors[1], &errors[3]] {
        assert!(other.is_empty(), "tenants of the other worker: {other:?}");
    }
}

#[test]
fn the_coordinators_standby_is_promoted_while_owners_serve() {
    let nodes = nodes_with(1);
    let standby = nodes[0].info().replica_ports().next().unwrap();
    let more = format!("[[databases.app.nodes]]\nname = \"standby\"\nhost = \"127.0.0.1\"\nport = {standby}\n");
    let fixture = before(nodes, ALL, &more);
    acknowledge_by_standby(&fixture, 0);
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let booked = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            // Through the coordinator.
            let mut caller = Caller { fixture: &fixture, client: None };
            let mut heard = Heard::default();
            let mut id = 10;
            while !stop.load(Ordering::SeqCst) {
                id += 1;
                let insert = Batch::new().query(&format!("INSERT INTO local_only VALUES ({id}, 'x')"));
                if heard.note_write(id, caller.ask(&insert)) {
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                } else {
                    thread::sleep(Duration::from_millis(20));
                }
            }
            heard
        });
        let errors = storm(&fixture, |flows| {
            fixture.nodes[0].primary().kill().unwrap();
            flows("owners serve without a coordinator");
            let standby = &fixture.nodes[0].replicas()[0];
            standby.configure(&[("synchronous_standby_names", "")]).unwrap();
            standby.reload();
            standby.promote().unwrap();
            let moved = format!("UPDATE pg_dist_node SET nodeport = {} WHERE groupid = 0", standby.port());
            fixture.nodes[0].info().query(1, "app", &moved).unwrap();
            let before = acknowledged.load(Ordering::SeqCst);
            fixture.until("writes by the new coordinator", || acknowledged.load(Ordering::SeqCst) > before + 5);
        });
        stop.store(true, Ordering::SeqCst);
        eprintln!("{errors:?}");
        assert!(errors.iter().all(BTreeMap::is_empty), "owners were there all the time: {errors:?}");
        writer.join().unwrap()
    });
    let there = fixture.nodes[0].info().query(1, "app", "SELECT id FROM local_only WHERE id > 10").unwrap();
    booked.check("through the coordinator", &there.lines().map(|id| id.parse().unwrap()).collect::<Vec<_>>());
    let codes = ["08006", "08007", "57P01", "57P02"];
    assert!(
        booked.errors.keys().all(|error| codes.iter().any(|code| error.starts_with(&format!("write: {code}")))),
        "{:?}",
        booked.errors
    );
}

#[test]
fn a_coordinator_that_is_restarted_costs_owners_nothing() {
    let fixture = before(nodes(), ALL, "");
    let errors = storm(&fixture, |flows| {
        for mode in [StopMode::Immediate, StopMode::Fast] {
            fixture.nodes[0].primary().restart(mode).unwrap();
            flows("the coordinator is back");
        }
    });
    assert!(errors.iter().all(BTreeMap::is_empty), "{errors:?}");
}

#[test]
fn a_worker_that_hangs_harms_nobody_elses_shards_and_what_waits_goes_on_with_it() {
    let fixture = before(nodes(), ALL, "");
    let errors = storm(&fixture, |flows| {
        for time in [300, 5000] {
            fixture.nodes[1].primary().pause();
            thread::sleep(Duration::from_millis(time));
            fixture.nodes[1].primary().resume();
            flows("the worker goes on");
        }
    });
    for other in [&errors[1], &errors[3]] {
        assert!(other.is_empty(), "tenants of the other worker: {other:?}");
    }
}
