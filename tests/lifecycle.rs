//! Reload and shutdown while clients work.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::clusters::{self, APP, APP_PASSWORD, TestDb};
use support::frames::{Batch, tags};
use support::process::Setup;
use support::raw::RawClient;

fn config(db: &TestDb, pool_size: u32, drain: &str) -> String {
    let cluster = db.cluster();
    let replica = cluster.replica_ports().next().unwrap();
    format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n\
         [client]\ndrain_timeout = \"{drain}\"\n\
         [users.{APP}]\npassword = \"{APP_PASSWORD}\"\n\
         [databases.{name}]\ncontrol_user = \"{APP}\"\ncontrol_password = \"{APP_PASSWORD}\"\n\
         [databases.{name}.pool]\nsize = {pool_size}\n\
         [[databases.{name}.nodes]]\nname = \"primary\"\nrole = \"primary\"\nhost = \"127.0.0.1\"\nport = {primary}\n\
         [[databases.{name}.nodes]]\nname = \"replica\"\nrole = \"replica\"\nhost = \"127.0.0.1\"\nport = {replica}\n",
        name = db.name,
        primary = cluster.primary_port(),
    )
}

fn connect(port: u16, db: &TestDb) -> RawClient {
    RawClient::connect(port, APP, APP_PASSWORD, &db.name)
}

#[test]
fn reloads_under_load_cost_no_statement_an_error() {
    let db = TestDb::with(clusters::shared(), "CREATE TABLE t (n int)");
    let mut proxy = Setup::config(config(&db, 3, "5s")).start();
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let port = proxy.port();
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut client = connect(port, &db);
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(client.value("SELECT 41 + 1"), "42");
                    let frames = client.exchange(&Batch::new().query("BEGIN; INSERT INTO t VALUES (1); COMMIT"));
                    assert_eq!(tags(&frames), "CCCZ");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..6 {
            proxy.rewrite_config(&config(&db, 2 + round % 3, "5s"));
            proxy.signal(Signal::HUP);
            thread::sleep(Duration::from_millis(150));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(db.run("SELECT count(*) FROM t"), done.load(Ordering::Relaxed).to_string());
    proxy.wait_for_log(&["configuration reloaded"]);
}

#[test]
fn a_bad_file_is_refused_whole_and_service_goes_on() {
    let db = TestDb::new(clusters::shared());
    let mut proxy = Setup::config(config(&db, 3, "5s")).start();
    let mut client = connect(proxy.port(), &db);
    proxy.rewrite_config("[databases.x]\nnonsense = 1\n");
    proxy.signal(Signal::HUP);
    proxy.wait_for_log(&["reload refused"]);
    assert_eq!(client.value("SELECT 1"), "1");
    assert_eq!(connect(proxy.port(), &db).value("SELECT 2"), "2");
}

#[test]
fn what_only_tls_refuses_is_refused_whole_too() {
    let db = TestDb::new(clusters::shared());
    let text = config(&db, 3, "5s");
    let mut proxy = Setup::config(text.clone()).start();
    for name in ["one", "two"] {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(proxy.dir().join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(proxy.dir().join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
    let mismatched = "mode = \"prefer\"\ncert = \"one.pem\"\nkey = \"two.key\"";
    proxy.rewrite_config(&format!(
        "{text}[databases.{}.tls]\n{mismatched}\n[log]\nlevel = \"debug\"\n[slow_log]\nfile = \"slow.log\"\nslow_query = \"1us\"\n",
        db.name
    ));
    proxy.signal(Signal::HUP);
    let line = proxy.wait_for_log(&["reload refused"]);
    assert!(line.contains("does not belong to the certificate"), "{line}");
    assert_eq!(connect(proxy.port(), &db).value("SELECT 2"), "2");
    assert!(!proxy.log().contains("DEBUG"), "the level of the refused file holds");
}

#[test]
fn sigterm_lets_transactions_finish_and_tells_the_others() {
    let db = TestDb::with(clusters::shared(), "CREATE TABLE t (n int)");
    let mut proxy = Setup::config(config(&db, 3, "10s")).start();
    let mut idle = connect(proxy.port(), &db);
    let mut busy = connect(proxy.port(), &db);
    assert_eq!(tags(&busy.exchange(&Batch::new().query("BEGIN"))), "CZ");
    proxy.signal(Signal::TERM);
    assert_eq!(idle.recv().sqlstate(), "57P01", "an idle client is told at once");
    assert!(idle.is_closed());
    // Nobody new.
    thread::sleep(Duration::from_millis(200));
    assert!(std::net::TcpStream::connect(("127.0.0.1", proxy.port())).is_err());
    assert_eq!(tags(&busy.exchange(&Batch::new().query("INSERT INTO t VALUES (1)"))), "CZ");
    assert_eq!(tags(&busy.exchange(&Batch::new().query("COMMIT"))), "CZ");
    assert_eq!(busy.recv().sqlstate(), "57P01", "told once its transaction is over");
    assert!(proxy.wait().success());
    assert_eq!(db.run("SELECT count(*) FROM t"), "1");
}

#[test]
fn signals_that_mean_nothing_end_nothing() {
    let db = TestDb::new(clusters::shared());
    let mut proxy = Setup::config(config(&db, 3, "5s")).start();
    let mut client = connect(proxy.port(), &db);
    for signal in [Signal::USR1, Signal::USR2, Signal::USR1] {
        proxy.signal(signal);
        assert_eq!(proxy.wait_for(Duration::from_millis(200)), None);
        assert_eq!(client.value("SELECT 1"), "1");
    }
}

#[test]
fn the_drain_ends_at_its_limit_and_sigint_does_not_wait() {
    let db = TestDb::new(clusters::shared());
    for (signal, drain, least) in [(Signal::TERM, "1s", 0.8), (Signal::INT, "60s", 0.0)] {
        let mut proxy = Setup::config(config(&db, 3, drain)).start();
        let mut stuck = connect(proxy.port(), &db);
        stuck.exchange(&Batch::new().query("BEGIN"));
        let began = Instant::now();
        proxy.signal(signal);
        assert_eq!(stuck.recv().sqlstate(), "57P01");
        assert!(proxy.wait().success());
        let took = began.elapsed().as_secs_f64();
        assert!(took >= least && took < 8.0, "{signal:?} took {took} s");
        // Its transaction was rolled back: nothing is left on the server.
        let open = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()",
            db.name
        );
        let deadline = Instant::now() + Duration::from_secs(5);
        while db.run(&open) != "0" {
            assert!(Instant::now() < deadline, "a transaction was left open");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Server processes of the pool on the primary.
fn backends(db: &TestDb) -> String {
    db.run(&format!(
        "SELECT string_agg(pid::text, ',' ORDER BY pid) FROM pg_stat_activity WHERE datname = '{}' AND usename = '{APP}' AND query LIKE '%mark%' AND pid <> pg_backend_pid()",
        db.name
    ))
}

#[test]
fn a_reload_closes_only_connections_that_it_must_trap_72() {
    let db = TestDb::new(clusters::shared());
    let text = config(&db, 3, "5s");
    let proxy = Setup::config(text.clone()).start();
    let port = proxy.port();
    let mut clients: Vec<_> = (0..3).map(|_| connect(port, &db)).collect();
    let busy = |client: &mut RawClient| client.exchange(&Batch::new().query("BEGIN; SELECT 'mark' FOR UPDATE"));
    clients.iter_mut().for_each(|client| drop(busy(client)));
    let before = backends(&db);
    assert_eq!(before.split(',').count(), 3);
    let mut reloads = 0;
    let mut reload = |text: &str| {
        proxy.rewrite_config(text);
        proxy.signal(Signal::HUP);
        reloads += 1;
        let deadline = Instant::now() + Duration::from_secs(10);
        while proxy.log().matches("configuration reloaded").count() < reloads {
            assert!(Instant::now() < deadline, "{}", proxy.log());
            thread::sleep(Duration::from_millis(20));
        }
    };
    // Sizes, time-outs, limits, routing: running transactions and idle connections stay as they are.
    let routing = format!("[databases.{}.routing]\nmax_lag = \"1s\"\n[[databases", db.name);
    let other = text
        .replace("size = 3", "size = 5\nwait_timeout = \"300ms\"\nreserve_size = 2\nreserve_timeout = \"100ms\"")
        .replace("control_user", "max_clients = 50\nslow_query = \"3s\"\ncontrol_user")
        .replacen("[[databases", &routing, 1);
    reload(&other);
    for client in &mut clients {
        assert_eq!(tags(&client.exchange(&Batch::new().query("COMMIT"))), "CZ");
        drop(busy(client));
    }
    assert_eq!(backends(&db), before, "the same server connections");
    // The new size holds.
    let mut more: Vec<_> = (0..2).map(|_| connect(port, &db)).collect();
    more.iter_mut().for_each(|client| drop(busy(client)));
    assert_eq!(backends(&db).split(',').count(), 5);
    // A smaller one closes what is too much as it comes back.
    reload(&text);
    for client in clients.iter_mut().chain(&mut more) {
        client.exchange(&Batch::new().query("COMMIT"));
    }
    assert!(backends(&db).split(',').count() <= 3);
    // Another set of nodes: those that stay keep their connections.
    let kept = clients[0].value("SELECT pg_backend_pid() FOR UPDATE");
    reload(&text.replace("name = \"replica\"", "name = \"standby\""));
    assert_eq!(clients[0].value("SELECT pg_backend_pid() FOR UPDATE"), kept);
    // Reached in another way: running transactions end where they are, then all is new.
    drop(busy(&mut clients[0]));
    let kept = clients[0].value("SELECT pg_backend_pid()");
    reload(&format!("{text}[databases.{}.tls]\nmode = \"disable\"\n", db.name));
    assert_eq!(clients[0].value("SELECT pg_backend_pid()"), kept);
    clients[0].exchange(&Batch::new().query("COMMIT"));
    assert_ne!(clients[0].value("SELECT pg_backend_pid() FOR UPDATE"), kept);
    // Other certificates in the same files are another way, the same ones are not.
    let pem = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(proxy.dir().join("ca.pem"), certificate.pem()).unwrap();
    };
    pem("one");
    let tls = format!("{text}[databases.{}.tls]\nmode = \"prefer\"\nca = \"ca.pem\"\n", db.name);
    reload(&tls);
    let kept = clients[0].value("SELECT pg_backend_pid() FOR UPDATE");
    reload(&tls);
    assert_eq!(clients[0].value("SELECT pg_backend_pid() FOR UPDATE"), kept);
    pem("two");
    reload(&tls);
    let kept_since = clients[0].value("SELECT pg_backend_pid() FOR UPDATE");
    assert_ne!(kept_since, kept);
    // A shorter life holds for those that are open, too.
    reload(&tls.replace("size = 3", "size = 3\nlifetime = \"1s\""));
    thread::sleep(Duration::from_millis(1100));
    assert_ne!(clients[0].value("SELECT pg_backend_pid() FOR UPDATE"), kept_since);
}

/// Whoever reads the log may stop doing so (a pipe that nobody empties): nobody waits for that, the program ends when it is told to,
/// and what was lost is told when the log is read again.
#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let db = TestDb::with(clusters::shared(), "");
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("log");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Opened for both, so that neither end waits for the other.
    let mut reader = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let script = format!("exec \"$0\" \"$@\" 2>{}", pipe.display());
    let text = format!("{}[metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n", config(&db, 3, "1s"));
    let mut proxy = Setup::config(text).under(["sh", "-c", &script]).start();
    let mut client = connect(proxy.port(), &db);
    let lost = || {
        let (_, body) = proxy.http("/metrics");
        let line = body.lines().find_map(|line| line.strip_prefix("trunkline_log_lines_lost_total ")).unwrap();
        line.parse::<f64>().unwrap()
    };
    // Each refused login is a line of some KiB.
    let name = "x".repeat(3_000);
    let began = Instant::now();
    while lost() == 0.0 {
        assert!(began.elapsed() < Duration::from_secs(60));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let mut stranger = RawClient::tcp(proxy.port());
                        stranger.startup(&[("user", &name), ("database", &db.name), ("replication", "true")]);
                        drop(stranger.try_recv());
                    }
                });
            }
        });
        assert_eq!(client.value("SELECT 41 + 1"), "42");
    }
    // It is read again: the writer goes on, and says what is missing.
    let (told, deadline) = (b"lines of this log were lost", Instant::now() + Duration::from_secs(20));
    let (mut part, mut behind) = (vec![0; 1 << 16], Vec::new());
    while memchr::memmem::find(&behind, told).is_none() {
        assert!(Instant::now() < deadline);
        let got = std::io::Read::read(&mut reader, &mut part).unwrap();
        behind.drain(..behind.len().saturating_sub(told.len()));
        behind.extend_from_slice(&part[..got]);
    }
    proxy.signal(Signal::TERM);
    assert!(proxy.wait_for(Duration::from_secs(10)).is_some(), "it waits for the reader of its log");
}
