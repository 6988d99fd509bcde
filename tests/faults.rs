//! Nodes that die: what clients notice of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

#[path = "faults/breaker.rs"]
mod breaker;
#[path = "faults/lost.rs"]
mod lost;
#[path = "faults/openings.rs"]
mod openings;

use std::thread;
use std::time::{Duration, Instant};

use support::clusters::{self, APP, APP_PASSWORD};
use support::frames::{Batch, tags};
use support::process::{Setup, Trunkline};
use support::raw::RawClient;
use trunkline::app::demo::{Cluster, StopMode};

fn before(cluster: &Cluster, routing: &str) -> Trunkline {
    before_patiently(cluster, "3s", routing)
}

/// With this `wait_timeout`.
fn before_patiently(cluster: &Cluster, patience: &str, routing: &str) -> Trunkline {
    let node = |name: &str, role: &str, port: u16| {
        format!("[[databases.app.nodes]]\nname = \"{name}\"\nrole = \"{role}\"\nhost = \"127.0.0.1\"\nport = {port}\n")
    };
    let replicas: Vec<u16> = cluster.info().replica_ports().collect();
    Setup::config(format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n\
         [metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n\
         [users.{APP}]\npassword = \"{APP_PASSWORD}\"\n\
         [databases.app]\ncontrol_user = \"{APP}\"\ncontrol_password = \"{APP_PASSWORD}\"\n\
         [databases.app.pool]\nwait_timeout = \"{patience}\"\n\
         [databases.app.routing]\nhealth_interval = \"300ms\"\nhealth_timeout = \"1s\"\n{routing}\n{}{}{}",
        node("primary", "primary", cluster.info().primary_port()),
        node("replica1", "replica", replicas[0]),
        node("replica2", "replica", replicas[1]),
    ))
    .start()
}

fn client(proxy: &Trunkline) -> RawClient {
    RawClient::connect(proxy.port(), APP, APP_PASSWORD, "app")
}

/// Which server answers a read: by its port.
fn reader(client: &mut RawClient) -> String {
    client.value("/* trunkline: replica */ SELECT inet_server_port()")
}

/// All reads are answered by this server, once the backends of one that was killed have noticed.
fn only(client: &mut RawClient, port: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while reader(client) != port {
        assert!(Instant::now() < deadline, "reads are not answered by {port}");
    }
    for _ in 0..50 {
        assert_eq!(reader(client), port);
    }
}

#[test]
fn reads_spread_over_replicas_and_survive_their_death_and_return() {
    let cluster = clusters::own();
    let proxy = before(&cluster, "consistency = \"eventual\"");
    let mut client = client(&proxy);
    let ports: Vec<String> = cluster.info().replica_ports().map(|port| port.to_string()).collect();
    let spread = |client: &mut RawClient| {
        let mut seen: Vec<String> = (0..60).map(|_| reader(client)).collect();
        seen.sort();
        seen.dedup();
        seen
    };
    let mut both = ports.clone();
    both.sort();
    // Each from the moment on that it has answered a health check.
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut seen = spread(&mut client);
    while seen != both && Instant::now() < deadline {
        seen = spread(&mut client);
    }
    assert_eq!(seen, both, "both replicas serve reads, the primary none");

    // A dead replica costs no statement an error that has not reached it.
    cluster.replicas()[0].kill().unwrap();
    only(&mut client, &ports[1]);
    // No replica at all: the primary.
    cluster.replicas()[1].kill().unwrap();
    only(&mut client, &cluster.info().primary_port().to_string());
    // They come back by themselves.
    cluster.replicas()[0].start().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while reader(&mut client) != ports[0] {
        assert!(Instant::now() < deadline, "the replica that came back serves no reads");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn without_a_primary_reads_go_on_and_writes_wait_for_it() {
    let cluster = clusters::own();
    let proxy = before(&cluster, "consistency = \"eventual\"");
    let mut session = client(&proxy);
    session.value("SELECT 1");
    cluster.info().query(0, "app", "CREATE TABLE t (n int); GRANT ALL ON t TO PUBLIC").unwrap();
    cluster.info().wait_replayed().unwrap();
    cluster.primary().stop(StopMode::Immediate).unwrap();

    assert_eq!(session.value("SELECT count(*) FROM t"), "0", "reads go on");
    let mut newcomer = client(&proxy);
    assert_eq!(newcomer.value("SELECT count(*) FROM t"), "0", "also for who comes now");

    let began = Instant::now();
    assert_eq!(session.failure("INSERT INTO t VALUES (1)"), "57P03");
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(2) && waited < Duration::from_secs(8), "waited {waited:?} for a limit of 3s");
    assert_eq!(session.value("SELECT count(*) FROM t"), "0", "the session goes on after the error");
    let (status, _) = proxy.http("/readyz");
    assert!(status.contains("503"), "{status}");

    // What only the session knows needs no primary; any server says what is wrong with it.
    let mut third = client(&proxy);
    for sql in ["SET work_mem = '7MB'", "SET SESSION search_path TO other, public", "SET ROLE none", "RESET ROLE"] {
        assert_eq!(tags(&third.exchange(&Batch::new().query(sql))), "CZ", "{sql}");
    }
    assert_eq!(tags(&third.exchange(&Batch::new().run("SET app.name = 'x'", &[]).sync())), "12nCZ");
    assert_eq!(third.failure("SET work_mem = '7 parsecs'"), "22023");
    assert_eq!(third.failure("SET nonsense = 1"), "42704");
    assert_eq!(third.failure("SET ROLE nobody_at_all"), "22023");
    let read = "SELECT current_setting('work_mem') || current_setting('app.name') || count(*) FROM t";
    let read = format!("/* trunkline: replica */ {read}");
    assert_eq!(third.value(&read), "7MBx0");
    assert_eq!(tags(&third.exchange(&Batch::new().query("SET default_transaction_isolation = serializable"))), "CZ");
    assert_eq!(session.value("SELECT count(*) FROM t"), "0", "no connection of a replica is left so");
    assert_eq!(tags(&third.exchange(&Batch::new().query("RESET ALL"))), "CZ");
    assert_eq!(third.value("SELECT count(*) FROM t"), "0");

    // A write that waits gets its primary when it returns in time.
    let writer = thread::spawn(move || newcomer.exchange(&Batch::new().query("INSERT INTO t VALUES (2)")));
    thread::sleep(Duration::from_millis(300));
    cluster.primary().start().unwrap();
    assert_eq!(tags(&writer.join().unwrap()), "CZ");
}
