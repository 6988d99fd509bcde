//! Statements whose answer does not come: what their clients are told, and what runs elsewhere.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::clusters::{self, APP, APP_PASSWORD, TestDb};
use crate::support::frames::{Batch, tags};
use crate::support::injector::{Fault, Injector};
use crate::support::process::{Setup, Trunkline};
use crate::support::raw::RawClient;
use crate::{before, before_patiently, client};
use trunkline::app::demo::ClusterOptions;

/// Longest time until a node that hangs is known to be down (a second or so), and who waits for it has been told.
const KNOWN_AFTER: Duration = Duration::from_secs(4);

/// A Trunkline before the primary only, by way of an injector.
pub(crate) fn before_link(db: &TestDb, link: &Injector) -> Trunkline {
    let name = &db.name;
    Setup::config(format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n[users.{APP}]\npassword = \"{APP_PASSWORD}\"\n[databases.{name}]\n\
         [[databases.{name}.nodes]]\nname = \"primary\"\nrole = \"primary\"\nhost = \"127.0.0.1\"\nport = {}\n",
        link.port()
    ))
    .start()
}

/// A client with an `application_name`, so that its settings go to a connection that another one has had.
fn connect_as(name: &str, db: &TestDb, proxy: &Trunkline) -> RawClient {
    let parameters = [("user", APP), ("database", db.name.as_str()), ("application_name", name)];
    RawClient::connect_with(proxy.port(), APP_PASSWORD, &parameters)
}

#[test]
fn a_commit_without_an_answer_is_told_to_be_unknown_and_nothing_else_is() {
    let db = TestDb::with(clusters::shared(), "CREATE TABLE t (n int)");
    let link = Injector::before(db.cluster().primary_port());
    let (name, proxy) = (&db.name, before_link(&db, &link));
    let query = |sql: &str| Batch::new().query(sql);
    let write = "INSERT INTO t VALUES (1)";
    let cases: [(&[&str], Batch, &str); 25] = [
        (&["BEGIN", write], query("COMMIT"), "08007"),
        (&["BEGIN", write], Batch::new().run("COMMIT", &[]).sync(), "08007"),
        (&[], query(write), "08007"),
        (&[], Batch::new().run(write, &[]).sync(), "08007"),
        (&[], query(&format!("BEGIN; {write}; COMMIT")), "08007"),
        (&["BEGIN", write], query(write), "08006"),
        (&["BEGIN", "SELECT n FROM t"], query("COMMIT"), "08006"),
        (&[], query("SELECT n FROM t"), "08006"),
        // A notification may have been delivered.
        (&[], query("NOTIFY c, 'said'"), "08007"),
        (&[], Batch::new().run("NOTIFY c", &[]).sync(), "08007"),
        (&[], query("SELECT pg_notify('c', 'said')"), "08007"),
        (&["BEGIN", "NOTIFY c"], query("COMMIT"), "08007"),
        (&["BEGIN", "SELECT n FROM t"], query("NOTIFY c"), "08006"),
        (&["NOTIFY c"], query("SELECT n FROM t"), "08006"),
        (&["BEGIN", "NOTIFY c", "ROLLBACK"], query("SELECT n FROM t"), "08006"),
        // After a rollback nothing can be committed, whether or not it has arrived.
        (&["BEGIN", write], query("ROLLBACK"), "08006"),
        (&["BEGIN", write], query("/* over */ abort work;"), "08006"),
        (&["BEGIN", write], query("ROLLBACK AND CHAIN"), "08006"),
        (&["BEGIN", "NOTIFY c"], query("ROLLBACK"), "08006"),
        (&["BEGIN", write], Batch::new().parse("r", "ROLLBACK", &[]).bind("", "r", &[]).execute("", 0).sync(), "08006"),
        // Except by what stands beside it.
        (&["BEGIN", write], query(&format!("ROLLBACK; {write}")), "08007"),
        (&["BEGIN", write], query("ROLLBACK").query(write), "08007"),
        (&[], query(write).query("ROLLBACK"), "08007"),
        (&["BEGIN", write], query("COMMIT").query("ROLLBACK"), "08007"),
        (&[], query("ROLLBACK PREPARED 'p'"), "08007"),
    ];
    for (number, (prelude, batch, code)) in cases.into_iter().enumerate() {
        let mut client = RawClient::connect(proxy.port(), APP, APP_PASSWORD, name);
        // There is a connection to be had when it is needed.
        client.rows("SELECT 1");
        for sql in prelude {
            client.rows(sql);
        }
        link.strike(Fault::Hold, 100);
        client.send(&batch);
        thread::sleep(Duration::from_millis(100));
        link.strike(Fault::Cut, 100);
        let frame = client.recv();
        assert_eq!(
            (frame.sqlstate().as_str(), frame.field(b'S').as_deref()),
            (code, Some("FATAL")),
            "{number}: {frame:?}"
        );
        assert!(client.is_closed());
        link.calm();
    }
    assert_eq!(db.run("SELECT count(*) FROM t"), "0", "nothing that was held has arrived, nor was it sent again");
}

/// A server says 57P01 of what it has rolled back: who is sent away while a commit is under way must not be told that.
#[test]
fn who_is_sent_away_while_a_commit_is_under_way_is_told_that_it_is_unknown() {
    let db = TestDb::with(clusters::shared(), "CREATE TABLE t (n int)");
    let link = Injector::before(db.cluster().primary_port());
    let mut proxy = before_link(&db, &link);
    let write = "INSERT INTO t VALUES (1)";
    let cases =
        [("", write, "08007"), ("", "SELECT n FROM t", "57P01"), (write, write, "57P01"), (write, "COMMIT", "08007")];
    let mut clients = Vec::new();
    for (before, _, _) in cases {
        let mut client = RawClient::connect(proxy.port(), APP, APP_PASSWORD, &db.name);
        client.rows("BEGIN");
        client.rows(if before.is_empty() { "SELECT n FROM t" } else { before });
        clients.push(client);
    }
    // There is a connection to be had for each of them.
    clients.iter_mut().zip(cases).filter(|(_, (before, ..))| before.is_empty()).for_each(|(client, _)| {
        client.rows("COMMIT");
    });
    link.strike(Fault::Hold, 100);
    for (client, (_, sql, _)) in clients.iter_mut().zip(cases) {
        client.send(&Batch::new().query(sql));
    }
    thread::sleep(Duration::from_millis(200));
    // The second time it waits for nobody.
    for _ in 0..2 {
        proxy.signal(rustix::process::Signal::TERM);
        thread::sleep(Duration::from_millis(200));
    }
    for (client, (before, sql, code)) in clients.iter_mut().zip(cases) {
        assert_eq!(client.recv().sqlstate(), code, "{before}, {sql}");
        assert!(client.is_closed());
    }
    link.strike(Fault::Cut, 100);
    assert!(proxy.wait().success());
}

#[test]
fn the_first_statement_of_a_block_begins_it_anew_when_its_connection_is_lost_and_no_other_one_does() {
    let db = TestDb::with(clusters::shared(), "CREATE TABLE t (n int)");
    let link = Injector::before(db.cluster().primary_port());
    let proxy = before_link(&db, &link);
    let level = "SHOW transaction_isolation";
    // What is sent first, what is answered for it, and what the block is then.
    let cases: [(&str, Batch, &str, &str); 5] = [
        ("BEGIN", Batch::new().query("INSERT INTO t VALUES (1) RETURNING n"), "TDCZ", "read committed"),
        (
            "BEGIN ISOLATION LEVEL REPEATABLE READ",
            Batch::new().query("INSERT INTO t VALUES (2)"),
            "CZ",
            "repeatable read",
        ),
        ("BEGIN", Batch::new().run("INSERT INTO t VALUES ($1::int)", &[Some("3")]).sync(), "12nCZ", "read committed"),
        (
            "BEGIN",
            Batch::new()
                .parse("s", "INSERT INTO t VALUES ($1::int)", &[])
                .bind("", "s", &[Some("4")])
                .execute("", 0)
                .sync(),
            "12CZ",
            "read committed",
        ),
        ("BEGIN", Batch::new().query("SELECT n FROM t WHERE n = 1 FOR UPDATE"), "TDCZ", "read committed"),
    ];
    for (begin, batch, answer, expected) in cases {
        let mut client = RawClient::connect(proxy.port(), APP, APP_PASSWORD, &db.name);
        client.rows("SELECT 1");
        client.rows(begin);
        link.strike(Fault::Hold, 100);
        client.send(&batch);
        thread::sleep(Duration::from_millis(100));
        link.strike(Fault::Cut, 100);
        thread::sleep(Duration::from_millis(20));
        link.calm();
        let frames = client.recv_ready(1);
        assert_eq!(tags(&frames), answer, "{frames:?}");
        assert_eq!(frames.last().unwrap().body, b"T");
        assert_eq!(client.value(level), expected);
        assert_eq!(tags(&client.exchange(&Batch::new().query("COMMIT"))), "CZ");
    }
    assert_eq!(db.run("SELECT string_agg(n::text, ',' ORDER BY n) FROM t"), "1,2,3,4");
}

#[test]
fn a_server_that_ends_a_connection_while_settings_are_on_their_way_is_heard() {
    let db = TestDb::with(clusters::shared(), "CREATE TABLE t (n int)");
    let link = Injector::before(db.cluster().primary_port());
    let proxy = before_link(&db, &link);
    let client = |name: &str| connect_as(name, &db, &proxy);
    let pid_of = |client: &mut RawClient| client.value("SELECT pg_backend_pid()");
    // Its settings go first, then what it says. A role may be refused, so nothing is sent before it is there.
    for (prelude, told) in [("SELECT 1", Some("57P01")), ("BEGIN", None), ("SET ROLE app", None)] {
        let mut victim = client("victim");
        victim.rows(prelude);
        // The one that has the connection before it.
        let pid = pid_of(&mut client("other"));
        link.strike(Fault::Hold, 100);
        victim.send(&Batch::new().query("INSERT INTO t VALUES (1)"));
        thread::sleep(Duration::from_millis(100));
        assert_eq!(db.run(&format!("SELECT pg_terminate_backend({pid})")), "t");
        thread::sleep(Duration::from_millis(100));
        link.calm();
        match told {
            Some(code) => {
                assert_eq!(victim.recv().sqlstate(), code);
                assert!(victim.is_closed());
            }
            None => assert_eq!(tags(&victim.recv_ready(1)), "CZ", "{prelude}"),
        }
    }
}

#[test]
fn a_connection_that_breaks_within_a_row_of_our_own_is_told_to_the_client() {
    let db = TestDb::with(clusters::shared(), "CREATE TABLE t (n int)");
    let link = Injector::before(db.cluster().primary_port());
    let proxy = before_link(&db, &link);
    let client = |name: &str| connect_as(name, &db, &proxy);
    let mut victim = client("victim");
    // Half of what is answered when this is set ends within the value.
    victim.rows(&format!("SET app.name = '{}'", "x".repeat(1000)));
    client("other").rows("SELECT 1");
    link.strike(Fault::TearAnswer, 100);
    victim.send(&Batch::new().query("INSERT INTO t VALUES (1)"));
    assert_eq!(victim.recv().sqlstate(), "08007");
    assert!(victim.is_closed());
    link.calm();
}

#[test]
fn a_statement_that_ends_its_server_is_not_begun_anew_for_ever() {
    let cluster = clusters::start(ClusterOptions { replicas: 0, ..clusters::options() });
    let die = "CREATE FUNCTION die() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS \
               $$ BEGIN COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'; END $$";
    cluster.info().query(0, "app", die).unwrap();
    let port = cluster.info().primary_port();
    let proxy = Setup::config(format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n[users.{APP}]\npassword = \"{APP_PASSWORD}\"\n\
         [databases.app]\nurl = \"postgres://{APP}:{APP_PASSWORD}@127.0.0.1:{port}/app\"\n"
    ))
    .start();
    let mut client = client(&proxy);
    client.set_timeout(Duration::from_secs(20));
    client.rows("BEGIN");
    client.send(&Batch::new().query("SELECT die()"));
    // Notices and parameters may come at any time; of the last attempt nothing is held back, and the server that is ended along with
    // another one sends what it has.
    let said = std::iter::repeat_with(|| client.recv()).find(|frame| !matches!(frame.tag, b'N' | b'S' | b'T')).unwrap();
    assert_eq!(said.sqlstate(), "08006", "{said:?}");
    let log = std::fs::read_to_string(cluster.primary().log_file()).unwrap();
    let deaths = log.lines().filter(|line| line.contains("was terminated by signal 9")).count();
    assert!((1..=3).contains(&deaths), "{deaths} times");
    eprintln!("{deaths} times");
}

#[test]
fn a_read_that_waits_for_a_replica_that_hangs_is_answered_by_another_node() {
    let cluster = clusters::own();
    let proxy = before_patiently(&cluster, "20s", "consistency = \"eventual\"");
    let read = "/* trunkline: replica */ SELECT inet_server_port()";
    let mut clients: Vec<_> = (0..32).map(|_| client(&proxy)).collect();
    // Connections to both are there, though not enough for all: some wait for one.
    for _ in 0..10 {
        clients.iter_mut().take(8).for_each(|client| client.send(&Batch::new().query(read)));
        clients.iter_mut().take(8).for_each(|client| drop(client.recv_ready(1)));
    }
    let hung = &cluster.replicas()[0];
    hung.pause();
    let began = Instant::now();
    clients.iter_mut().for_each(|client| client.send(&Batch::new().query(read)));
    for client in &mut clients {
        client.set_timeout(KNOWN_AFTER);
        let frames = client.recv_ready(1);
        assert!(frames.iter().any(|frame| frame.tag == b'D'), "{frames:?}");
    }
    eprintln!("all were answered within {:?}", began.elapsed());
    hung.resume();
}

#[test]
fn who_waits_for_a_primary_that_hangs_and_was_replaced_is_told() {
    let cluster = clusters::own();
    cluster.info().query(0, "app", "CREATE TABLE t (n int); GRANT ALL ON t TO PUBLIC").unwrap();
    cluster.info().wait_replayed().unwrap();
    let proxy = before(&cluster, "");
    let (mut single, mut block, mut reader) = (client(&proxy), client(&proxy), client(&proxy));
    let mut deferred = client(&proxy);
    let write = "INSERT INTO t VALUES (1)";
    block.rows("BEGIN");
    block.rows(write);
    reader.rows("BEGIN");
    reader.rows("SELECT n FROM t FOR UPDATE");
    // They find connections that are open already.
    for client in [&mut single, &mut deferred] {
        client.send(&Batch::new().query("INSERT INTO t SELECT 1 FROM pg_sleep(0.1)"));
    }
    for client in [&mut single, &mut deferred] {
        client.recv_ready(1);
    }
    deferred.rows("BEGIN");
    let hung = cluster.primary();
    hung.pause();
    single.send(&Batch::new().query(write));
    block.send(&Batch::new().query(write));
    deferred.send(&Batch::new().query("INSERT INTO t VALUES (2)"));
    reader.send(&Batch::new().query("SELECT 1"));
    assert!(single.is_silent_for(Duration::from_millis(500)), "it may come back");
    cluster.replicas()[0].promote().unwrap();
    let promoted = Instant::now();
    for (client, code) in [(&mut single, "08007"), (&mut block, "08006"), (&mut reader, "08006")] {
        client.set_timeout(KNOWN_AFTER);
        assert_eq!(client.recv().sqlstate(), code);
        assert!(client.is_closed());
    }
    eprintln!("they were told within {:?}", promoted.elapsed());
    // The block of which nothing was told has moved.
    assert_eq!(tags(&deferred.recv_ready(1)), "CZ");
    assert_eq!(tags(&deferred.exchange(&Batch::new().query("COMMIT"))), "CZ");
    assert_eq!(cluster.info().query(1, "app", "SELECT count(*) FROM t WHERE n = 2").unwrap(), "1");
    assert!(client(&proxy).rows(write).is_empty(), "writes go on");
    hung.kill().unwrap();
}
