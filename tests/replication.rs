//! Replication through Trunkline: PostgreSQL's own programs for it, against the primary behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "replication/faults.rs"]
mod faults;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::clusters::{self, APP, APP_PASSWORD, SUPERUSER_PASSWORD, TestDb, scratch};
use support::process::{Setup, Trunkline};
use support::raw::RawClient;
use trunkline::app::demo::PgBinaries;

const PATIENCE: Duration = Duration::from_secs(30);

/// Before one database, with room for replication in the HBA rules as PostgreSQL demands it, too.
fn before(db: &TestDb) -> Trunkline {
    let nodes = [("primary", db.cluster().primary_port())]
        .into_iter()
        .chain(db.cluster().replica_ports().map(|port| ("replica", port)))
        .map(|(role, port)| {
            format!(
                "[[databases.{}.nodes]]\nname = \"{role}{port}\"\nrole = \"{role}\"\nhost = \"127.0.0.1\"\nport = {port}\n",
                db.name
            )
        })
        .collect::<String>();
    Setup::config(format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n[metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n\
         [client]\ndrain_timeout = \"1s\"\n\
         [[hba]]\nmethod = \"scram-sha-256\"\n\
         [[hba]]\ndatabases = [\"replication\"]\nusers = [\"postgres\"]\nmethod = \"scram-sha-256\"\n\
         [users.postgres]\npassword = \"{SUPERUSER_PASSWORD}\"\n[users.{APP}]\npassword = \"{APP_PASSWORD}\"\n{nodes}",
    ))
    .start()
}

/// A program of PostgreSQL's that connects to the proxy as the superuser.
fn program(name: &str, proxy: &Trunkline, dir: &Path, args: &[&str]) -> Command {
    let pg = PgBinaries::find().unwrap();
    let mut command = Command::new(pg.path(name));
    command.current_dir(dir).env("PGPASSWORD", SUPERUSER_PASSWORD).stdin(Stdio::null());
    command.args(["-h", "127.0.0.1", "-p", &proxy.port().to_string(), "-U", "postgres", "-w"]).args(args);
    command
}

fn run(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {text}", output.status);
    text
}

/// A program that runs until it is told to stop; killed when dropped.
struct Running(Child);

impl Running {
    fn start(mut command: Command, log: PathBuf) -> Self {
        let log = fs::File::create(log).unwrap();
        Self(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }

    /// Asks it to end, and waits for that.
    fn stop(&mut self) -> bool {
        let _ = kill_process(Pid::from_child(&self.0), Signal::INT);
        until("the program to end", || self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap().success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn pg_basebackup_takes_a_whole_backup() {
    let db = TestDb::with(clusters::shared(), "CREATE TABLE t AS SELECT generate_series(1, 20000) AS n");
    let proxy = before(&db);
    let dir = scratch("basebackup");
    let target = dir.join("backup");
    // Streams the WAL on a second connection beside the first, and makes a temporary slot for it.
    let args = ["-D", target.to_str().unwrap(), "-X", "stream", "-c", "fast", "--no-sync"];
    run(program("pg_basebackup", &proxy, &dir, &args));
    // Reads the files and the WAL that belongs to them.
    let mut verify = Command::new(PgBinaries::find().unwrap().path("pg_verifybackup"));
    verify.arg(&target);
    run(verify);
    assert!(fs::read_dir(target.join("pg_wal")).unwrap().flatten().any(|file| file.file_name().len() == 24));
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn pg_receivewal_streams_what_is_written_meanwhile() {
    let db = TestDb::with(clusters::shared(), "CREATE TABLE t (v text)");
    let proxy = before(&db);
    let dir = scratch("receivewal");
    let mut receiver = Running::start(
        program("pg_receivewal", &proxy, &dir, &["-D", ".", "-s", "1", "--synchronous"]),
        dir.join("log"),
    );
    let streaming = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'pg_receivewal'";
    until("the stream", || db.run(streaming).trim() == "1");
    let marker = "a word that is found in the log of changes";
    db.run(&format!("INSERT INTO t VALUES ('{marker}')"));
    let has_it = || {
        let files = fs::read_dir(&dir).unwrap().flatten();
        files
            .map(|file| fs::read(file.path()).unwrap_or_default())
            .any(|bytes| bytes.windows(marker.len()).any(|window| window == marker.as_bytes()))
    };
    until("the change in the received WAL", has_it);
    let mut other = RawClient::connect(proxy.port(), APP, APP_PASSWORD, &db.name);
    assert_eq!(other.value("SELECT 1"), "1", "others are served meanwhile");
    assert!(receiver.stop(), "{}", text(&dir.join("log")));
    until("the stream's end on the server", || db.run(streaming).trim() == "0");
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn pg_recvlogical_decodes_the_changes_of_its_database() {
    // Logical decoding needs more WAL than the shared cluster writes.
    let mut options = clusters::options();
    options.replicas = 0;
    options.settings.push(("wal_level".to_owned(), "logical".to_owned()));
    let cluster = clusters::start(options);
    let db = TestDb::with(cluster.info(), "CREATE TABLE t (n int)");
    let proxy = before(&db);
    let dir = scratch("recvlogical");
    let slot = ["-d", &db.name, "--slot", "through", "--plugin", "test_decoding"];
    run(program("pg_recvlogical", &proxy, &dir, &[&slot[..], &["--create-slot"]].concat()));
    let mut client = RawClient::connect(proxy.port(), APP, APP_PASSWORD, &db.name);
    client.rows("INSERT INTO t VALUES (4711)");
    let start = ["-d", &db.name, "--slot", "through", "--start", "-f", "changes", "-F", "1", "-s", "1"];
    let mut receiver = Running::start(program("pg_recvlogical", &proxy, &dir, &start), dir.join("log"));
    let changes = dir.join("changes");
    until("the first change", || text(&changes).contains("INSERT: n[integer]:4711"));
    client.rows("INSERT INTO t VALUES (4712)");
    until("the second change", || text(&changes).contains("INSERT: n[integer]:4712"));
    receiver.stop();
    let active = "SELECT active FROM pg_replication_slots WHERE slot_name = 'through'";
    until("the slot to be free", || db.run(active).trim() == "f");
    run(program("pg_recvlogical", &proxy, &dir, &["-d", &db.name, "--slot", "through", "--drop-slot"]));
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_replication_session_speaks_sql_and_walsender_commands() {
    let db = TestDb::new(clusters::shared());
    let proxy = before(&db);
    let logical = [("user", "postgres"), ("database", db.name.as_str()), ("replication", "database")];
    let mut client = RawClient::connect_with(proxy.port(), SUPERUSER_PASSWORD, &logical);
    assert_eq!(client.rows("IDENTIFY_SYSTEM")[0][3].as_deref(), Some(db.name.as_str()));
    assert_eq!(client.value("SELECT pg_is_in_recovery()"), "f", "the primary");
    // A cancel reaches it as any other client.
    client.send(&support::frames::Batch::new().query("SELECT pg_sleep(30)"));
    thread::sleep(Duration::from_millis(300));
    client.cancel(proxy.port());
    let frames = client.recv_ready(1);
    assert!(frames.iter().any(|frame| frame.tag == b'E' && frame.sqlstate() == "57014"), "{frames:?}");

    // What the server refuses is told in its own words, and who has no rule is refused by ours.
    let app = [("user", APP), ("database", db.name.as_str()), ("replication", "database")];
    let refusal = RawClient::tcp(proxy.port()).login(APP_PASSWORD, &app).unwrap_err();
    assert_eq!(refusal.sqlstate(), "42501", "{refusal:?}");
    let physical = [("user", APP), ("database", "replication"), ("replication", "true")];
    let refusal = RawClient::tcp(proxy.port()).login(APP_PASSWORD, &physical).unwrap_err();
    assert_eq!(refusal.sqlstate(), "28000", "{refusal:?}");
}

#[test]
fn a_shutdown_waits_for_a_replication_stream_no_longer_than_it_may() {
    let db = TestDb::new(clusters::shared());
    let mut proxy = before(&db);
    let physical = [("user", "postgres"), ("replication", "true")];
    let mut client = RawClient::connect_with(proxy.port(), SUPERUSER_PASSWORD, &physical);
    assert_eq!(client.rows("IDENTIFY_SYSTEM")[0][3], None, "physical: no database");
    let began = Instant::now();
    proxy.signal(Signal::TERM);
    assert!(client.is_closed());
    let took = began.elapsed();
    assert!(took > Duration::from_millis(800), "it might have been a backup: {took:?}");
    assert!(proxy.wait().success());
    assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
}
