//! What a bug of Trunkline's does: it ends the session that met it, says so under a number, and nobody else notices. The
//! bug is one on demand, which debug builds have (`observe/fault.rs`).

#![cfg(debug_assertions)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io;

use support::clusters::{self, APP, APP_PASSWORD, OTHER, OTHER_PASSWORD, TestDb};
use support::frames::{Batch, Frame};
use support::process::{Setup, Trunkline};
use support::raw::RawClient;

fn before(db: &TestDb, fault: &str) -> Trunkline {
    Setup::before(db).args(["--pool-size", "1"]).env("TRUNKLINE_FAULT", fault).start()
}

fn client(proxy: &Trunkline, db: &TestDb) -> RawClient {
    RawClient::connect(proxy.port(), APP, APP_PASSWORD, &db.name)
}

/// Everything until the connection is closed.
fn last_words(client: &mut RawClient) -> Vec<Frame> {
    let mut frames = Vec::new();
    loop {
        match client.try_recv() {
            Ok(frame) => frames.push(frame),
            Err(error) => {
                assert!(
                    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset),
                    "{error}"
                );
                return frames;
            }
        }
    }
}

/// The number that the client was told, after checking the rest of the message.
fn number_of(error: &Frame) -> String {
    assert_eq!((error.tag, error.sqlstate().as_str()), (b'E', "XX000"), "{error:?}");
    assert_eq!(error.field(b'S').as_deref(), Some("FATAL"));
    let message = error.field(b'M').unwrap();
    message.rsplit_once("number ").unwrap_or_else(|| panic!("{message}")).1.to_owned()
}

fn counted(proxy: &Trunkline, sample: &str) -> String {
    let metrics = proxy.http("/metrics").1;
    let line = metrics.lines().find_map(|line| line.strip_prefix(sample)).unwrap_or_else(|| panic!("{sample}"));
    line.trim().to_owned()
}

#[test]
fn a_panic_ends_its_session_with_a_number_that_the_log_has_too() {
    let db = TestDb::with(clusters::shared(), "CREATE TABLE t (n int)");
    let mut proxy = before(&db, "statement:boom");
    let (mut victim, mut bystander) = (client(&proxy, &db), client(&proxy, &db));
    victim.rows("BEGIN");
    victim.rows("INSERT INTO t VALUES (1)");
    let pid = victim.value("SELECT pg_backend_pid()");

    victim.send(&Batch::new().query("INSERT INTO t VALUES (2) /* boom */"));
    let words = last_words(&mut victim);
    assert_eq!(words.len(), 1, "{words:?}");
    let number = number_of(&words[0]);
    let logged = proxy.wait_for_log(&["panic", &number]);
    assert!(logged.contains("observe/fault.rs"), "the place: {logged}");
    assert_eq!(counted(&proxy, "trunkline_panics_total"), "1");
    // The connection was in a transaction: it is closed, not given to the next client of this pool of one.
    assert_eq!(bystander.value("/* trunkline: primary */ SELECT count(*) FROM t"), "0");
    assert_ne!(bystander.value("/* trunkline: primary */ SELECT pg_backend_pid()"), pid);

    // Of the extended protocol, too.
    let mut victim = client(&proxy, &db);
    victim.send(&Batch::new().run("SELECT $1 /* boom */", &[Some("x")]).sync());
    let other = number_of(last_words(&mut victim).last().unwrap());
    assert_ne!(other, number);
    assert_eq!(counted(&proxy, "trunkline_panics_total"), "2");
    assert_eq!(client(&proxy, &db).value("SELECT 1"), "1");
}

#[test]
fn a_panic_within_a_message_says_nothing_trap_70() {
    let db = TestDb::new(clusters::shared());
    let proxy = before(&db, "reply:boom");
    // Between two messages there is room for a word.
    let mut victim = client(&proxy, &db);
    victim.send(&Batch::new().query("SELECT 'bo' || 'om'"));
    number_of(last_words(&mut victim).last().unwrap());
    // The marker comes when half of a large row has been passed on.
    let mut victim = client(&proxy, &db);
    victim.send(&Batch::new().query("SELECT repeat('x', 2000000) || 'bo' || 'om'"));
    let words = last_words(&mut victim);
    assert_eq!(words.iter().map(|frame| frame.tag as char).collect::<String>(), "T", "{words:?}");
    assert_eq!(counted(&proxy, "trunkline_panics_total"), "2");
}

fn with_console(db: &TestDb, fault: &str) -> Trunkline {
    let config = format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n[admin]\nadmin_users = [\"{APP}\"]\nstats_users = [\"{OTHER}\"]\n\
         [users.{APP}]\npassword = \"{APP_PASSWORD}\"\n[users.{OTHER}]\npassword = \"{OTHER_PASSWORD}\"\n\
         [databases.{name}]\nurl = \"{url}\"\n",
        name = db.name,
        url = db.url(db.cluster().primary_port()),
    );
    Setup::config(config).env("TRUNKLINE_FAULT", fault).start()
}

#[test]
fn a_panic_during_a_login_has_a_last_word_too() {
    let db = TestDb::new(clusters::shared());
    let mut proxy = with_console(&db, &format!("login:{OTHER}"));
    for database in [&*db.name, "trunkline"] {
        let mut victim = RawClient::tcp(proxy.port());
        let refused = victim.login(OTHER_PASSWORD, &[("user", OTHER), ("database", database)]).unwrap_err();
        proxy.wait_for_log(&["panic", &number_of(&refused)]);
        assert!(last_words(&mut victim).is_empty());
        assert_eq!(client(&proxy, &db).value("SELECT 1"), "1");
    }
}

#[test]
fn a_panic_in_the_console_has_a_last_word_too() {
    let db = TestDb::new(clusters::shared());
    let mut proxy = with_console(&db, "console:boom");
    let console = || RawClient::connect(proxy.port(), APP, APP_PASSWORD, "trunkline");
    let (mut victim, mut bystander) = (console(), console());
    victim.send(&Batch::new().query("SHOW VERSION").query("SHOW boom"));
    let words = last_words(&mut victim);
    let number = number_of(words.last().unwrap());
    assert_eq!(bystander.rows("SHOW VERSION").len(), 1);
    proxy.wait_for_log(&["panic", &number]);
}
