//! Nodes that are taken out, brought back and added.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::fixture::*;
use crate::support::clusters::{APP, APP_PASSWORD};
use crate::support::frames::Batch;
use crate::support::process::Setup;
use crate::support::raw::RawClient;

/// Clients that read and write until they are told to stop; each error is a panic of theirs.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Traffic {
    pub fn start(fixture: &Fixture, clients: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let work = |mut client: RawClient| {
            let (stop, done) = (stop.clone(), done.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    for sql in [READ, "SELECT count(*) FROM t", WRITE, "BEGIN; SELECT 1; COMMIT"] {
                        let frames = client.exchange(&Batch::new().query(sql));
                        let error = frames.iter().find(|frame| frame.tag == b'E');
                        assert!(error.is_none(), "{sql}: {error:?}");
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let threads = (0..clients).map(|_| thread::spawn(work(fixture.client()))).collect();
        Self { stop, done, threads }
    }

    /// Waits until much has been done from now on.
    pub fn goes_on(&self) {
        let from = self.done.load(Ordering::Relaxed);
        until("traffic goes on", || self.done.load(Ordering::Relaxed) > from + 20);
    }

    pub fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

#[test]
fn a_node_is_drained_and_comes_back_under_load_without_an_error() {
    let fixture = Fixture::new(2);
    let mut open = fixture.client();
    until("reads on replica1", || {
        open.rows("BEGIN READ ONLY");
        let here = open.value("SELECT inet_server_port()") == fixture.port(1);
        if !here {
            open.rows("COMMIT");
        }
        here
    });
    let traffic = Traffic::start(&fixture, 4);
    traffic.goes_on();
    fixture.command("DISABLE NODE app.replica1");
    assert_eq!(fixture.column("state")["replica1"], "disabled");
    assert_eq!(fixture.column("reason")["replica1"], "disabled on the console");
    let mut reader = fixture.client();
    assert!(!readers(&mut reader, 40).contains_key(&fixture.port(1)));
    // The transaction that was open there goes on to its end.
    assert_eq!(open.value("SELECT inet_server_port()"), fixture.port(1));
    traffic.goes_on();
    open.rows("COMMIT");
    // Then nothing of the pools is left there.
    let left = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'app' AND query NOT LIKE '%pg_is_in_recovery%'";
    until("nothing is open there", || fixture.cluster.info().query(1, "postgres", left).unwrap() == "0");
    // A reload changes nothing about that.
    fixture.proxy.signal(Signal::HUP);
    thread::sleep(Duration::from_millis(200));
    assert!(!readers(&mut reader, 40).contains_key(&fixture.port(1)));
    fixture.command("ENABLE NODE app.replica1");
    until("reads are back", || readers(&mut reader, 10).contains_key(&fixture.port(1)));
    traffic.goes_on();
    traffic.end();
}

#[test]
fn writes_wait_while_the_primary_is_disabled() {
    let fixture = Fixture::new(1);
    let (mut client, mut busy) = (fixture.client(), fixture.client());
    assert_eq!(client.value(WRITE), fixture.port(0));
    busy.rows("BEGIN");
    busy.rows("INSERT INTO t VALUES (7)");
    fixture.command("DISABLE NODE app.primary");
    client.send(&Batch::new().query(WRITE));
    assert!(client.is_silent_for(Duration::from_millis(300)));
    assert_eq!(busy.value("SELECT count(*) FROM t WHERE n = 7"), "1", "what runs there ends there");
    busy.rows("COMMIT");
    let mut reader = fixture.client();
    assert_eq!(reader.value(READ), fixture.port(1));
    fixture.command("ENABLE NODE app.primary");
    assert!(client.recv_ready(1).iter().any(|frame| frame.tag == b'D'));
    let mut console = console(&fixture.proxy);
    assert_eq!(console.failure("DISABLE NODE app.nowhere"), "42704");
    assert_eq!(console.failure("ENABLE NODE nowhere.primary"), "3D000");
}

#[test]
fn a_reload_adds_and_removes_a_replica_under_load_and_keeps_the_others_trap_72() {
    let fixture = {
        let cluster = cluster(2);
        let first: String = cluster.nodes()[..2].iter().map(|one| node(one.name(), one.port(), "")).collect();
        let proxy = crate::support::process::Setup::config(config("", "", &first)).start();
        Fixture { proxy, cluster }
    };
    let (mut open, mut pinned) = (fixture.client(), fixture.client());
    open.rows("BEGIN");
    open.rows("INSERT INTO t VALUES (7)");
    pinned.rows("CREATE TEMPORARY TABLE mine (n int)");
    let pid = pinned.value("SELECT pg_backend_pid()");
    let traffic = Traffic::start(&fixture, 4);
    traffic.goes_on();
    let servers = "SELECT count(*), max(id) FROM servers";
    let _ = console(&fixture.proxy).rows(servers);
    fixture.proxy.rewrite_config(&config("", "", &nodes(&fixture.cluster)));
    fixture.proxy.signal(Signal::HUP);
    let mut reader = fixture.client();
    until("the new replica reads", || readers(&mut reader, 10).contains_key(&fixture.port(2)));
    traffic.goes_on();
    // What was open at the primary still is.
    open.rows("COMMIT");
    assert_eq!(pinned.value("SELECT pg_backend_pid()"), pid);
    pinned.rows("INSERT INTO mine VALUES (1)");
    let two: String =
        [0, 2].map(|n| node(fixture.cluster.nodes()[n].name(), fixture.cluster.info().port(n), "")).concat();
    fixture.proxy.rewrite_config(&config("", "", &two));
    fixture.proxy.signal(Signal::HUP);
    until("the old replica is gone", || !fixture.column("role").contains_key("replica1"));
    assert_eq!(readers(&mut reader, 20).into_keys().collect::<Vec<_>>(), [fixture.port(2)]);
    let left = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'app'";
    until("nothing is open there", || fixture.cluster.info().query(1, "postgres", left).unwrap() == "0");
    traffic.goes_on();
    assert_eq!(pinned.value("SELECT count(*) FROM mine"), "1");
    traffic.end();
}

#[test]
fn replicas_that_stream_from_the_primary_are_found_and_lost() {
    let mut cluster = cluster(1);
    let primary = node("primary", cluster.info().port(0), "");
    let ports = format!("discover_replicas = true\ndiscover_ports = {{ replica1 = {}, ", cluster.info().port(1));
    // Its port is known from the beginning; the server comes later.
    cluster.add_replica(0).unwrap();
    cluster.replicas()[1].stop(trunkline::app::demo::StopMode::Fast).unwrap();
    let database = format!("{ports}replica2 = {} }}\ndiscover_weight = 2", cluster.info().port(2));
    let proxy = crate::support::process::Setup::config(config("", &database, &primary)).start();
    let mut fixture = Fixture { proxy, cluster };
    let mut reader = fixture.client();
    assert_eq!(reader.value(READ), fixture.port(0), "nobody else is known");
    fixture.proxy.wait_for_log(&["GRANT pg_monitor"]);
    fixture
        .cluster
        .info()
        .query(0, "postgres", &format!("GRANT pg_monitor TO {}", crate::support::clusters::APP))
        .unwrap();
    until("the replica reads", || reader.value(READ) == fixture.port(1));
    // It is known how fresh it is, too.
    reader.rows("SET trunkline.consistency = 'session'");
    reader.value(WRITE);
    until("what was just written is read there", || reader.value(READ) == fixture.port(1));
    reader.rows("SET trunkline.consistency = 'eventual'");
    assert_eq!((&*fixture.column("declared")["replica1"], &*fixture.column("weight")["replica1"]), ("auto", "2"));
    let traffic = Traffic::start(&fixture, 2);
    fixture.cluster.replicas()[1].start().unwrap();
    until("the new one reads", || readers(&mut reader, 10).contains_key(&fixture.port(2)));
    // A reload does not lose them.
    fixture.proxy.signal(Signal::HUP);
    traffic.goes_on();
    assert_eq!(fixture.column("role").len(), 3);
    // Nor does a configured node come twice.
    let both = primary + &node("replica1", fixture.cluster.info().port(1), "weight = 5");
    fixture.proxy.rewrite_config(&config("", &database, &both));
    fixture.proxy.signal(Signal::HUP);
    until("it is as configured", || fixture.column("weight")["replica1"] == "5");
    assert_eq!(fixture.column("role").len(), 3);
    traffic.goes_on();
    traffic.end();
    fixture.cluster.replicas()[1].stop(trunkline::app::demo::StopMode::Fast).unwrap();
    fixture.wait_node("replica2", "state", "down");
    let gone = std::time::Instant::now();
    while fixture.column("role").contains_key("replica2") {
        assert!(gone.elapsed() < Duration::from_secs(60), "it is still there");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_server_that_says_why_it_does_not_let_the_control_user_in_is_not_down() {
    let cluster = cluster(1);
    let on_primary = |sql: &str| cluster.info().query(0, "postgres", sql).unwrap();
    on_primary("CREATE ROLE control LOGIN PASSWORD 'control'; GRANT pg_monitor TO control");
    cluster.info().wait_replayed().unwrap();
    let text = config("", "", &nodes(&cluster)).replace(
        &format!("control_user = \"{APP}\"\ncontrol_password = \"{APP_PASSWORD}\""),
        "control_user = \"control\"\ncontrol_password = \"control\"",
    );
    let proxy = Setup::config(text).start();
    let mut client = client(&proxy);
    assert_eq!(client.value(WRITE), cluster.info().port(0).to_string());
    on_primary("ALTER ROLE control NOLOGIN");
    cluster.info().wait_replayed().unwrap();
    for node in 0..2 {
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'control'";
        cluster.info().query(node, "postgres", ended).unwrap();
    }
    let refused = || column_of(&proxy, "reason").values().filter(|error| error.contains("not permitted")).count();
    until("both have refused", || refused() == 2);
    thread::sleep(Duration::from_millis(1500));
    assert!(column_of(&proxy, "state").values().all(|state| state == "up"), "{}", proxy.log());
    assert_eq!(client.value(WRITE), cluster.info().port(0).to_string(), "what it said last holds");
    assert_eq!(readers(&mut client, 5).get(&cluster.info().port(1).to_string()), Some(&5));
    on_primary("ALTER ROLE control LOGIN");
    until("they tell again", || refused() == 0);
}
