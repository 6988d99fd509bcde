//! Which replica reads.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::fixture::*;
use crate::support::frames::Batch;
use crate::support::process::Setup;

#[test]
fn reads_stay_in_the_zone_while_a_replica_is_there() {
    let cluster = cluster(2);
    let zones = |here: &str, there: &str| {
        node("primary", cluster.info().port(0), "")
            + &node("near", cluster.info().port(1), &format!("zone = \"{here}\""))
            + &node("far", cluster.info().port(2), &format!("zone = \"{there}\""))
    };
    let proxy = Setup::config(config("zone = \"a\"", "", &zones("a", "b"))).start();
    let mut client = client(&proxy);
    let port = |node: usize| cluster.info().port(node).to_string();
    until("both are known", || column_of(&proxy, "role").values().all(|role| role != "unknown"));
    assert_eq!(readers(&mut client, 40).into_keys().collect::<Vec<_>>(), [port(1)]);
    assert_eq!(column_of(&proxy, "zone")["far"], "b");
    // Another zone by a reload, while everything goes on.
    proxy.rewrite_config(&config("zone = \"b\"", "", &zones("a", "b")));
    proxy.signal(Signal::HUP);
    until("reads move", || readers(&mut client, 10).into_keys().collect::<Vec<_>>() == [port(2)]);
    // A zone without a usable replica reads from the other one, and from the primary only when there is none at all (trap 84).
    cluster.replicas()[1].kill().unwrap();
    until("reads leave the zone", || client.value(READ) == port(1));
    assert_eq!(readers(&mut client, 20).into_keys().collect::<Vec<_>>(), [port(1)]);
    cluster.replicas()[0].kill().unwrap();
    until("reads go to the primary", || client.value(READ) == port(0));
}

#[test]
fn a_busy_pool_is_no_dead_node_trap_83_and_is_still_asked_trap_88() {
    let cluster = cluster(1);
    let text = config("", "", &nodes(&cluster)).replace("wait_timeout = \"10s\"", "wait_timeout = \"700ms\"\nsize = 1");
    let proxy = Setup::config(text).start();
    let mut busy = client(&proxy);
    until("a read on the replica", || busy.value(READ) == cluster.info().port(1).to_string());
    busy.send(&Batch::new().query("/* trunkline: replica */ SELECT pg_sleep(3)"));
    thread::sleep(Duration::from_millis(200));
    let mut other = client(&proxy);
    assert_eq!(other.failure(READ), "57014", "the only connection is in use");
    let checks = column_of(&proxy, "last_check");
    assert_eq!(column_of(&proxy, "state")["replica1"], "up");
    until("it is asked", || column_of(&proxy, "last_check")["replica1"] != checks["replica1"]);
    assert_eq!(column_of(&proxy, "state")["replica1"], "up");
    busy.recv_ready(1);
    assert_eq!(other.value(READ), cluster.info().port(1).to_string());
}

#[test]
fn all_dead_prefers_nobody_and_whoever_comes_back_first_is_used_trap_84() {
    let cluster = cluster(2);
    // However long it takes a server to start.
    let text = config("", "", &nodes(&cluster)).replace("wait_timeout = \"10s\"", "wait_timeout = \"60s\"");
    let fixture = Fixture { proxy: Setup::config(text).start(), cluster };
    let mut client = fixture.client();
    until("reads", || client.value(READ) == fixture.port(1));
    for node in fixture.cluster.nodes() {
        node.kill().unwrap();
    }
    until("all are known to be down", || fixture.column("state").values().all(|state| state == "down"));
    client.send(&Batch::new().query(READ));
    if !client.is_silent_for(Duration::from_millis(500)) {
        panic!("{:?}", client.recv_ready(1));
    }
    fixture.cluster.replicas()[1].start().unwrap();
    let frames = client.recv_ready(1);
    let row = frames.iter().find(|frame| frame.tag == b'D').unwrap_or_else(|| panic!("{frames:?}"));
    assert_eq!(row.columns()[0].clone().unwrap(), fixture.port(2));
}
