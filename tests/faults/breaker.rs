//! The circuit breaker: a statement that keeps failing is refused, whoever sends it, until a trial ends well.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::clusters::{self, APP, APP_PASSWORD, TestDb};
use crate::support::frames::{Batch, tags};
use crate::support::injector::{Fault, Injector};
use crate::support::process::{Setup, Trunkline};
use crate::support::raw::RawClient;

/// A Trunkline whose breaker opens after three failures, for a while.
fn before(db: &TestDb, port: u16, pause: &str) -> Trunkline {
    let name = &db.name;
    Setup::config(format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n[metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n\
         [admin]\nadmin_users = [\"{APP}\"]\n[users.{APP}]\npassword = \"{APP_PASSWORD}\"\n\
         [databases.{name}]\nprimary = \"host=127.0.0.1 port={port}\"\n\
         [databases.{name}.routing]\nbreaker_failures = 3\nbreaker_pause = \"{pause}\"\n"
    ))
    .start()
}

fn client(proxy: &Trunkline, db: &TestDb) -> RawClient {
    let parameters = [("user", APP), ("database", db.name.as_str()), ("statement_timeout", "100ms")];
    RawClient::connect_with(proxy.port(), APP_PASSWORD, &parameters)
}

fn console(proxy: &Trunkline) -> RawClient {
    RawClient::connect(proxy.port(), APP, APP_PASSWORD, "trunkline")
}

/// Statement, state and count of refusals of all that have failed of late.
fn shown(proxy: &Trunkline) -> Vec<Vec<String>> {
    let rows = console(proxy).rows("SELECT statement, state, failures, refused FROM breakers");
    rows.into_iter().map(|row| row.into_iter().flatten().collect()).collect()
}

#[test]
fn refuses_what_keeps_running_into_its_time_out_until_a_trial_passes() {
    let db = TestDb::new(clusters::shared());
    let proxy = before(&db, db.cluster().primary_port(), "2s");
    let (mut first, mut second) = (client(&proxy, &db), client(&proxy, &db));
    // What a client cancels is its own business.
    first.rows("SET statement_timeout = 0");
    for _ in 0..4 {
        first.send(&Batch::new().query("SELECT pg_sleep(20), 'cancelled'"));
        thread::sleep(Duration::from_millis(200));
        first.cancel(proxy.port());
        assert!(first.recv_ready(1).iter().any(|frame| frame.tag == b'E' && frame.sqlstate() == "57014"));
    }
    assert!(shown(&proxy).is_empty());
    first.rows("RESET statement_timeout");

    for seconds in 10..13 {
        assert_eq!(first.failure(&format!("SELECT pg_sleep({seconds})")), "57014");
    }
    let opened = Instant::now();
    let frames = second.exchange(&Batch::new().query("SELECT pg_sleep(0.01)"));
    assert_eq!(tags(&frames), "EZ", "whatever its constants, and whoever sends it");
    assert_eq!(frames[0].sqlstate(), "53400");
    let hint = frames[0].field(b'H').unwrap();
    assert!(hint.contains("breaker_pause") && hint.contains("seconds"), "{hint}");
    assert_eq!(second.value("SELECT 1"), "1", "all else runs");
    // A name says nothing of what another client means by it.
    first.rows("PREPARE s AS SELECT pg_sleep(9), 's'");
    for _ in 0..4 {
        assert_eq!(first.failure("EXECUTE s"), "57014");
    }
    // As the first statement of a block it fails that.
    second.rows("BEGIN");
    assert_eq!(second.failure("SELECT pg_sleep(0.01)"), "53400");
    assert_eq!(second.failure("SELECT 1"), "25P02");
    second.rows("ROLLBACK");
    assert_eq!(shown(&proxy), [["select pg_sleep(?)", "open", "3", "2"]]);
    let metrics = proxy.http("/metrics").1;
    let counted = metrics.lines().find(|line| line.starts_with("trunkline_breaker_refused_total{"));
    assert!(counted.is_some_and(|line| line.ends_with(" 2")), "{counted:?}");

    // One trial, which fails: refused for as long again.
    thread::sleep(Duration::from_secs(2).saturating_sub(opened.elapsed()) + Duration::from_millis(50));
    assert_eq!(first.failure("SELECT pg_sleep(10)"), "57014");
    assert_eq!(second.failure("SELECT pg_sleep(0.01)"), "53400");
    // The next one passes.
    thread::sleep(Duration::from_millis(2100));
    second.rows("SELECT pg_sleep(0.01)");
    assert!(shown(&proxy).is_empty());
    first.rows("SELECT pg_sleep(0.01)");
}

#[test]
fn knows_prepared_statements_and_what_takes_its_server_away() {
    let db = TestDb::new(clusters::shared());
    let link = Injector::before(db.cluster().primary_port());
    let proxy = before(&db, link.port(), "10m");
    let mut victim = client(&proxy, &db);
    let run = || Batch::new().run("SELECT pg_sleep($1::float)", &[Some("10")]).sync();
    for _ in 0..3 {
        assert_eq!(tags(&victim.exchange(&run())), "12TEZ");
    }
    let frames = victim.exchange(&run());
    assert_eq!(frames.iter().find(|frame| frame.tag == b'E').unwrap().sqlstate(), "53400", "{frames:?}");
    assert_eq!(victim.value("SELECT 1"), "1");
    // Behind another one in a block, which fails with it.
    victim.rows("BEGIN");
    victim.rows("SELECT 1");
    victim.exchange(&run());
    assert_eq!(victim.failure("SELECT 1"), "25P02");
    victim.rows("ROLLBACK");
    console(&proxy).rows("FORGET BREAKERS");
    assert!(shown(&proxy).is_empty());
    assert_eq!(tags(&victim.exchange(&run())), "12TEZ");
    console(&proxy).rows("FORGET BREAKERS");

    let lost = "SELECT 'lost' FROM pg_sleep(0.09)";
    for round in 0..3 {
        let mut client = client(&proxy, &db);
        client.rows("SELECT 1");
        link.strike(Fault::Hold, 100);
        client.send(&Batch::new().query(lost));
        thread::sleep(Duration::from_millis(100));
        link.cut_held();
        assert_eq!(client.recv().sqlstate(), "08006");
        link.calm();
        if round < 2 {
            assert_eq!(shown(&proxy), [["select ? from pg_sleep(?)", "closed", &(round + 1).to_string(), "0"]]);
            thread::sleep(Duration::from_millis(1100));
        }
    }
    let mut other = client(&proxy, &db);
    assert_eq!(other.failure(lost), "53400");
    // Whom an administrator ends was told so.
    console(&proxy).rows("FORGET BREAKERS");
    for _ in 0..4 {
        let mut ended = client(&proxy, &db);
        ended.send(&Batch::new().query("SELECT pg_terminate_backend(pg_backend_pid())"));
        while ended.recv().tag != b'E' {}
    }
    assert!(shown(&proxy).is_empty());
}
