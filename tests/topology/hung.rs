//! Nodes that stop answering without closing a connection: how soon that is known, and what is no sign of it.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::fixture::{Fixture, READ, WRITE, cluster, column_of, config, node, until};
use crate::support::frames::Batch;
use crate::support::injector::{Fault, Injector};
use crate::support::process::Setup;
use crate::support::raw::RawClient;

/// A second or so, on a machine that has nothing else to do.
const KNOWN_WITHIN: Duration = Duration::from_secs(3);

/// Waits until the node is known to be down. Returns how long that took.
fn known(fixture: &Fixture, name: &str) -> Duration {
    let began = Instant::now();
    fixture.wait_node(name, "state", "down");
    began.elapsed()
}

#[test]
fn is_known_within_a_second_or_so_with_traffic_and_without() {
    let fixture = Fixture::new(2);
    let mut client = fixture.client();
    until("reads", || client.value(READ) != fixture.port(0));
    thread::sleep(Duration::from_secs(1));
    let mut took = Vec::new();
    // Nobody talks to it but the checks.
    fixture.cluster.replicas()[0].pause();
    took.push(("an idle replica", known(&fixture, "replica1")));
    fixture.cluster.replicas()[0].resume();
    let back = Instant::now();
    fixture.wait_node("replica1", "state", "up");
    took.push(("and back", back.elapsed()));
    // A read that waits is answered by somebody else.
    thread::sleep(Duration::from_secs(1));
    fixture.cluster.replicas().iter().for_each(|replica| replica.pause());
    let began = Instant::now();
    assert_eq!(client.value(READ), fixture.port(0));
    took.push(("a read meanwhile", began.elapsed()));
    fixture.cluster.replicas().iter().for_each(|replica| replica.resume());
    // A write that waits for the primary gets its answer when that goes on.
    client.value(WRITE);
    thread::sleep(Duration::from_secs(1));
    fixture.cluster.primary().pause();
    client.send(&Batch::new().query(WRITE));
    took.push(("a primary", known(&fixture, "primary")));
    fixture.cluster.primary().resume();
    let answer = client.recv_ready(1);
    assert!(answer.iter().any(|frame| frame.tag == b'D'), "{answer:?}");
    println!("{took:?}");
    for (what, time) in took {
        assert!(time < KNOWN_WITHIN, "{what}: {time:?}");
    }
}

#[test]
fn slow_answers_long_statements_and_one_hung_backend_are_no_sign_of_it() {
    let cluster = cluster(1);
    let link = Injector::before(cluster.info().port(1));
    let nodes = node("primary", cluster.info().primary_port(), "") + &node("replica1", link.port(), "");
    let fixture = Fixture { proxy: Setup::config(config("", "", &nodes)).start(), cluster };
    let mut client = fixture.client();
    let replica = fixture.port(1);
    until("reads", || client.value(READ) == replica);
    // A statement that takes its time, and nothing else.
    client.send(&Batch::new().query("/* trunkline: replica */ SELECT pg_sleep(2)"));
    client.recv_ready(1);
    // Of a sudden every answer takes 0.4 seconds, as on a machine with far too much to do.
    link.strike(Fault::Delay(Duration::from_millis(200)), 100);
    for _ in 0..6 {
        assert_eq!(client.value(READ), replica);
    }
    link.calm();
    // The backend that answers the checks hangs, and no other one.
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'trunkline' ORDER BY pid";
    let pids = fixture.cluster.info().query(1, "postgres", sql).unwrap();
    let pids: Vec<Pid> = pids.lines().filter_map(|pid| Pid::from_raw(pid.trim().parse().unwrap())).collect();
    assert!(!pids.is_empty());
    pids.iter().for_each(|pid| kill_process(*pid, Signal::STOP).unwrap());
    let before = column_of(&fixture.proxy, "last_check")["replica1"].clone();
    until("it is asked on another connection", || column_of(&fixture.proxy, "last_check")["replica1"] != before);
    assert_eq!(client.value(READ), replica);
    pids.iter().for_each(|pid| kill_process(*pid, Signal::CONT).unwrap());
    let log = fixture.proxy.log();
    assert!(!log.contains("node is down"), "{log}");
}

/// As when a firewall has forgotten it: one login waits for what never comes, and the next one asks on another connection.
#[test]
fn auth_query_asks_on_another_connection_when_one_never_answers_again() {
    let cluster = cluster(0);
    let query = "auth_query = \"SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1\"\n\
                 server_user = \"postgres\"\nserver_password = \"postgres\"\n";
    let text = config("", query, &node("primary", cluster.info().port(0), ""));
    let (from, to) = (text.find("control_user").unwrap(), text.find("auth_query").unwrap());
    let text = text.replace(&text[from..to], "control_user = \"postgres\"\ncontrol_password = \"postgres\"\n");
    let proxy = Setup::config(text).start();
    let log_in = |name: &str| {
        cluster.info().query(0, "app", &format!("CREATE ROLE {name} LOGIN PASSWORD 'secret'")).unwrap();
        let mut client = RawClient::tcp(proxy.port());
        client.login("secret", &[("user", name), ("database", "app")]).map_err(|error| error.sqlstate())
    };
    assert_eq!(log_in("first"), Ok(()));
    let sql = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_authid%' AND application_name = 'trunkline'";
    let pids = cluster.info().query(0, "postgres", sql).unwrap();
    let pids: Vec<Pid> = pids.lines().filter_map(|pid| Pid::from_raw(pid.trim().parse().unwrap())).collect();
    assert!(!pids.is_empty());
    pids.iter().for_each(|pid| kill_process(*pid, Signal::STOP).unwrap());
    let (second, third) = (log_in("second"), log_in("third"));
    pids.iter().for_each(|pid| kill_process(*pid, Signal::CONT).unwrap());
    assert!(second.is_err(), "it waited for nothing");
    assert_eq!(third, Ok(()));
}
