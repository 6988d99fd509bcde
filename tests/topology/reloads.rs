//! Reloads that reach the same servers in another way, or others: what was known of servers, and what runs there, goes on.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use trunkline::app::demo::{ClusterOptions, StopMode};

use crate::fixture::*;
use crate::membership::Traffic;
use crate::support::clusters::{self, APP};
use crate::support::frames::{Batch, Frame};
use crate::support::injector::Injector;
use crate::support::process::{Setup, Trunkline};
use crate::support::raw::RawClient;

/// A setting that has a reload reach the servers in another way than by the other one.
fn tls(mode: &str) -> String {
    format!("tls = {{ mode = \"{mode}\" }}\n")
}

/// Reloads with another configuration, and waits until it holds.
fn reload(proxy: &Trunkline, text: &str) {
    let done = || proxy.log().matches("configuration reloaded").count();
    let before = done();
    proxy.rewrite_config(text);
    proxy.signal(Signal::HUP);
    until("it is reloaded", || done() > before);
}

impl Fixture {
    fn reload_with_tls(&self, mode: &str) {
        reload(&self.proxy, &config("", &tls(mode), &nodes(&self.cluster)));
    }
}

fn start(client: &mut RawClient, sql: &str) {
    client.send(&Batch::new().query(sql));
}

/// The value that a statement returns that was sent before, or its SQLSTATE.
fn outcome(frames: &[Frame]) -> String {
    let value = frames.iter().find(|frame| frame.tag == b'D').map(|row| row.columns()[0].clone().unwrap());
    let error = || frames.iter().find(|frame| frame.tag == b'E').map(Frame::sqlstate);
    value.or_else(error).unwrap_or_else(|| format!("{frames:?}"))
}

/// Nobody asks a node any more that a reload has taken out. Who has a connection of his own to it hears all the same that another one was
/// promoted since.
#[test]
fn a_session_that_is_pinned_to_a_node_that_is_gone_does_not_write_there_once_another_one_is_the_primary() {
    let fixture = Fixture::new(1);
    let (mut client, mut pinned, mut copying) = (fixture.client(), fixture.client(), fixture.client());
    assert_eq!(client.value(WRITE), fixture.port(0));
    fixture.wait_node("replica1", "role", "replica");
    pinned.rows("CREATE TEMPORARY TABLE mine (n int)");
    copying.send(&Batch::new().query("COPY t FROM STDIN"));
    assert_eq!(copying.recv().tag, b'G');
    fixture.proxy.rewrite_config(&config("", "", &node("replica1", fixture.cluster.info().port(1), "")));
    fixture.proxy.signal(Signal::HUP);
    until("it is gone", || !fixture.column("role").contains_key("primary"));
    pinned.rows("INSERT INTO mine VALUES (1)");
    fixture.cluster.replicas()[0].promote().unwrap();
    assert_eq!(client.value(WRITE), fixture.port(1), "it waited for the promotion");
    pinned.send(&Batch::new().query("INSERT INTO t VALUES (5)"));
    assert_eq!(pinned.recv().sqlstate(), "57P01");
    assert!(pinned.is_closed());
    assert_eq!(copying.recv().sqlstate(), "08007");
    assert_eq!(fixture.cluster.info().query(0, "app", "SELECT count(*) FROM t WHERE n = 5").unwrap(), "0");
}

#[test]
fn a_switchover_waits_for_transactions_from_before_a_reload() {
    let fixture = Fixture::new(1);
    fixture.wait_node("replica1", "role", "replica");
    let (mut admin, mut open) = (console(&fixture.proxy), fixture.client());
    open.rows("BEGIN");
    open.rows("INSERT INTO t VALUES (7)");
    fixture.reload_with_tls("disable");
    start(&mut admin, "SWITCHOVER app");
    assert!(admin.is_silent_for(Duration::from_millis(700)), "a transaction is open on the primary");
    // Nor is it forgotten by one that comes meanwhile.
    fixture.reload_with_tls("prefer");
    assert!(admin.is_silent_for(Duration::from_millis(700)), "a transaction is open on the primary");
    open.rows("INSERT INTO t VALUES (7)");
    open.rows("COMMIT");
    assert_eq!(admin.recv_ready(1)[0].tag, b'C');
    assert_eq!(fixture.cluster.info().query(1, "app", "SELECT count(*) FROM t WHERE n = 7").unwrap(), "2");
}

#[test]
fn who_has_a_connection_from_before_a_reload_is_ended_when_its_primary_is_replaced_trap_87() {
    let fixture = Fixture::new(1);
    let (mut client, mut pinned, mut open) = (fixture.client(), fixture.client(), fixture.client());
    assert_eq!(client.value(WRITE), fixture.port(0));
    pinned.rows("CREATE TEMPORARY TABLE mine (n int)");
    open.rows("BEGIN");
    open.rows(WRITE);
    fixture.reload_with_tls("disable");
    // The old primary lives on, and would take what is lost.
    fixture.cluster.replicas()[0].promote().unwrap();
    until_written_on(&fixture.proxy, &mut client, &fixture.port(1));
    for (client, sql) in [(&mut pinned, "INSERT INTO t VALUES (8)"), (&mut open, "COMMIT")] {
        start(client, sql);
        assert_eq!(client.recv().sqlstate(), "57P01", "{sql}");
        assert!(client.is_closed());
    }
}

#[test]
fn no_read_is_stale_after_a_reload_without_a_primary() {
    let fixture = Fixture::new(1);
    let mut client = fixture.client();
    client.rows("SET trunkline.consistency = 'table'");
    client.rows("INSERT INTO t VALUES (1)");
    let count = "SELECT count(*) FROM t";
    assert_eq!(client.value(count), "1");
    until("reads on the replica", || client.value(READ) == fixture.port(1));
    fixture.cluster.info().query(1, "app", "SELECT pg_wal_replay_pause()").unwrap();
    client.rows("INSERT INTO t VALUES (2)");
    fixture.cluster.primary().stop(StopMode::Fast).unwrap();
    fixture.wait_node("primary", "state", "down");
    fixture.reload_with_tls("disable");
    start(&mut client, count);
    assert!(client.is_silent_for(Duration::from_secs(1)), "the replica has not got the second row");
    fixture.cluster.primary().start().unwrap();
    assert_eq!(outcome(&client.recv_ready(1)), "2");
}

/// A replica that nobody has configured was promoted, and the outdated primary lives on: it must not be believed again.
#[test]
fn a_primary_that_was_found_stays_it() {
    let cluster = cluster(1);
    cluster.info().query(0, "postgres", &format!("GRANT pg_monitor TO {APP}")).unwrap();
    let primary = node("primary", cluster.info().port(0), "");
    let found = format!("discover_replicas = true\ndiscover_ports = {{ replica1 = {} }}\n", cluster.info().port(1));
    let proxy = Setup::config(config("", &found, &primary)).start();
    let fixture = Fixture { proxy, cluster };
    let mut client = fixture.client();
    until("the replica reads", || client.value(READ) == fixture.port(1));
    fixture.cluster.replicas()[0].promote().unwrap();
    until_written_on(&fixture.proxy, &mut client, &fixture.port(1));
    reload(&fixture.proxy, &config("", &(found + &tls("disable")), &primary));
    for _ in 0..20 {
        assert_eq!(client.value(WRITE), fixture.port(1));
        thread::sleep(Duration::from_millis(100));
    }
}

/// As in a migration: the database is led to other servers, while replicas that were found beside the former ones live on.
#[test]
fn replicas_that_were_found_beside_other_servers_have_no_say() {
    let other = ClusterOptions { replicas: 0, template_cache: None, ..clusters::options() };
    let (old, new) = (cluster(2), clusters::start(other));
    let monitor = format!("GRANT pg_monitor TO {APP}");
    old.info().query(0, "postgres", &monitor).unwrap();
    new.info().query(0, "postgres", &monitor).unwrap();
    new.info().query(0, "app", &format!("CREATE TABLE t (n int); ALTER TABLE t OWNER TO {APP}")).unwrap();
    let [one, two] = [old.info().port(1), old.info().port(2)];
    let found = format!("discover_replicas = true\ndiscover_ports = {{ replica1 = {one}, replica2 = {two} }}\n");
    let at = |port: u16| config("", &found, &node("primary", port, ""));
    let proxy = Setup::config(at(old.info().port(0))).start();
    let mut client = client(&proxy);
    until("the replicas read", || readers(&mut client, 10).len() == 2);
    reload(&proxy, &at(new.info().port(0)));
    for _ in 0..20 {
        assert_eq!(client.value(WRITE), new.info().port(0).to_string());
        assert_eq!(client.value(READ), new.info().port(0).to_string());
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_is_out_of_service_stays_so_at_another_place() {
    let fixture = Fixture::new(1);
    let mut client = fixture.client();
    assert_eq!(client.value(WRITE), fixture.port(0));
    fixture.wait_node("replica1", "role", "replica");
    fixture.command("SWITCHOVER app");
    let link = Injector::before(fixture.cluster.info().port(0));
    let moved = node("primary", link.port(), "") + &node("replica1", fixture.cluster.info().port(1), "");
    reload(&fixture.proxy, &config("", "", &moved));
    start(&mut client, WRITE);
    assert!(client.is_silent_for(Duration::from_millis(1500)), "it waits for the promotion");
    fixture.cluster.replicas()[0].promote().unwrap();
    assert_eq!(outcome(&client.recv_ready(1)), fixture.port(1));
}

/// Users are looked up where the primary is now.
#[test]
fn auth_query_follows_a_primary_that_has_another_address() {
    let cluster = cluster(0);
    let link = Injector::before(cluster.info().port(0));
    let query = "auth_query = \"SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1\"\n\
                 server_user = \"postgres\"\nserver_password = \"postgres\"\n";
    let at = |port: u16| {
        let text = config("", query, &node("primary", port, ""));
        let (from, to) = (text.find("control_user").unwrap(), text.find("auth_query").unwrap());
        text.replace(&text[from..to], "control_user = \"postgres\"\ncontrol_password = \"postgres\"\n")
    };
    let proxy = Setup::config(at(link.port())).start();
    let log_in = |name: &str| {
        cluster.info().query(0, "app", &format!("CREATE ROLE {name} LOGIN PASSWORD 'secret'")).unwrap();
        let mut client = RawClient::tcp(proxy.port());
        client.login("secret", &[("user", name), ("database", "app")])
    };
    log_in("early").unwrap();
    reload(&proxy, &at(cluster.info().port(0)));
    until("it was asked", || column_of(&proxy, "role")["primary"] == "primary");
    drop(link);
    log_in("late").unwrap();
}

#[test]
fn those_that_reach_servers_in_another_way_cost_no_statement_an_error() {
    let fixture = Fixture::new(2);
    let traffic = Traffic::start(&fixture, 4);
    traffic.goes_on();
    for mode in ["disable", "prefer", "allow", "disable", "prefer"] {
        fixture.reload_with_tls(mode);
        traffic.goes_on();
    }
    traffic.end();
}
