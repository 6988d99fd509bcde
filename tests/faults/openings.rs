//! Servers that refuse at once: they are not asked as fast as they refuse, and used as soon as they do not.

use std::thread;
use std::time::{Duration, Instant};

use crate::lost::before_link;
use crate::support::clusters::{self, APP, APP_PASSWORD, TestDb};
use crate::support::frames::{Batch, tags};
use crate::support::injector::{Fault, Injector};
use crate::support::process::{Setup, Trunkline};
use crate::support::raw::RawClient;

/// Lines of the log about openings that failed.
fn complaints(proxy: &Trunkline) -> Vec<String> {
    let log = proxy.log();
    log.lines().filter(|line| line.contains("cannot open a server connection")).map(str::to_owned).collect()
}

#[test]
fn that_refuse_connections_are_asked_with_pauses_and_used_again_at_once() {
    let db = TestDb::with(clusters::shared(), "CREATE TABLE t (n int)");
    let link = Injector::before(db.cluster().primary_port());
    let proxy = before_link(&db, &link);
    let mut clients: Vec<_> = (0..20).map(|_| RawClient::connect(proxy.port(), APP, APP_PASSWORD, &db.name)).collect();
    clients[0].rows("SELECT 1");
    link.refuse(true);
    // What is open is ended, so that all need a new one.
    let sql = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND usename = '{APP}'",
        db.name
    );
    db.cluster().query(0, "postgres", &sql).unwrap();
    // They have ended, and that is known: who gets one that is about to end hears of it.
    let left = sql.replace("pg_terminate_backend(pid)", "count(*)");
    while db.cluster().query(0, "postgres", &left).unwrap() != "0" {
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(200));
    let (before, lines, began) = (link.accepted(), complaints(&proxy).len(), Instant::now());
    clients.iter_mut().for_each(|client| client.send(&Batch::new().query("INSERT INTO t VALUES (1)")));
    thread::sleep(Duration::from_secs(3));
    let (attempts, lines) = (link.accepted() - before, complaints(&proxy).len() - lines);
    let seconds = began.elapsed().as_secs_f64();
    println!("{attempts} attempts, {lines} lines in {seconds:.1} s: {:#?}", complaints(&proxy));
    // Besides the health checks, three in a second.
    assert!(attempts < 16 + 5 * began.elapsed().as_secs(), "{attempts}");
    assert!((1..=2 + began.elapsed().as_secs()).contains(&(lines as u64)), "{lines}");
    link.calm();
    let calm = Instant::now();
    for client in &mut clients {
        assert_eq!(tags(&client.recv_ready(1)), "CZ", "each runs once");
    }
    println!("answered within {:?}", calm.elapsed());
    assert!(calm.elapsed() < Duration::from_secs(4));
    assert_eq!(db.run("SELECT count(*) FROM t"), "20");
}

/// What was begun while a server was away may never be answered: it is not waited for once that one is known to be back.
#[test]
fn that_were_away_are_used_again_at_once() {
    let db = TestDb::with(clusters::shared(), "CREATE TABLE t (n int)");
    let link = Injector::before(db.cluster().primary_port());
    let mut proxy = before_link(&db, &link);
    let mut clients: Vec<_> = (0..6).map(|_| RawClient::connect(proxy.port(), APP, APP_PASSWORD, &db.name)).collect();
    // All that is open is in use.
    clients[0].rows("BEGIN");
    clients[0].rows("SELECT n FROM t");
    link.strike(Fault::Hold, 100);
    clients[1..].iter_mut().for_each(|client| client.send(&Batch::new().query("INSERT INTO t VALUES (1)")));
    proxy.wait_for_log(&["node is down"]);
    link.forget();
    link.calm();
    let calm = Instant::now();
    for client in &mut clients[1..] {
        client.set_timeout(Duration::from_secs(20));
        assert_eq!(tags(&client.recv_ready(1)), "CZ", "each runs once");
    }
    println!("answered within {:?}", calm.elapsed());
    assert!(calm.elapsed() < Duration::from_secs(4), "{:?}", calm.elapsed());
    assert_eq!(db.run("SELECT count(*) FROM t"), "5");
}

/// Nor is what was idle meanwhile used without a look, as if it had just been.
#[test]
fn that_were_away_are_asked_on_idle_connections_whether_they_are_there() {
    let db = TestDb::with(clusters::shared(), "CREATE TABLE t (n int)");
    let link = Injector::before(db.cluster().primary_port());
    let mut proxy = before_link(&db, &link);
    let mut clients: Vec<_> = (0..3).map(|_| RawClient::connect(proxy.port(), APP, APP_PASSWORD, &db.name)).collect();
    for client in &mut clients {
        client.rows("BEGIN");
        client.rows("SELECT n FROM t");
    }
    clients.iter_mut().for_each(|client| drop(client.rows("COMMIT")));
    link.strike(Fault::Hold, 100);
    proxy.wait_for_log(&["node is down"]);
    link.forget();
    link.calm();
    proxy.wait_for_log(&["node is up"]);
    let began = Instant::now();
    clients.iter_mut().for_each(|client| client.send(&Batch::new().query("INSERT INTO t VALUES (1)")));
    for client in &mut clients {
        client.set_timeout(Duration::from_secs(20));
        assert_eq!(tags(&client.recv_ready(1)), "CZ", "each runs once");
    }
    println!("answered within {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(db.run("SELECT count(*) FROM t"), "3");
}

#[test]
fn that_refuse_the_login_tell_each_client_why() {
    let db = TestDb::new(clusters::shared());
    let (name, port) = (&db.name, db.cluster().primary_port());
    let proxy = Setup::config(format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n[users.{APP}]\npassword = \"{APP_PASSWORD}\"\nserver_password = \"wrong\"\n\
         [databases.{name}]\nprimary = \"host=127.0.0.1 port={port}\"\n"
    ))
    .start();
    let login = || {
        let mut client = RawClient::tcp(proxy.port());
        client.login(APP_PASSWORD, &[("user", APP), ("database", name)]).unwrap_err().sqlstate()
    };
    let began = Instant::now();
    thread::scope(|scope| {
        let all: Vec<_> = (0..12).map(|_| scope.spawn(login)).collect();
        all.into_iter().for_each(|one| assert_eq!(one.join().unwrap(), "28P01"));
    });
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(complaints(&proxy).len() as u64 <= 1 + began.elapsed().as_secs(), "{:#?}", complaints(&proxy));
}
