//! What becomes of replication streams whose network, server, client or proxy fails.

use std::ops::{Deref, DerefMut};

use trunkline::app::demo::{Cluster, ClusterOptions, StopMode};

use super::support::frames::{Batch, Frame};
use super::support::injector::{Fault, Injector};
use super::*;

/// A cluster of the test's own: one whose server is stopped must not be shared.
fn cluster(settings: &[(&str, &str)]) -> Cluster {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    clusters::start(ClusterOptions { replicas: 1, settings, ..clusters::options() })
}

/// Before these ports of a primary and a replica; `general` and `client` are lines of TOML.
fn setup(primary: u16, replica: u16, general: &str) -> Setup {
    setup_with(primary, replica, general, "")
}

fn setup_with(primary: u16, replica: u16, general: &str, client: &str) -> Setup {
    Setup::config(format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n{general}\n[metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n\
         [client]\ndrain_timeout = \"2s\"\n{client}\n[admin]\nadmin_users = [\"{APP}\"]\n\
         [[hba]]\nmethod = \"scram-sha-256\"\n\
         [[hba]]\ndatabases = [\"replication\"]\nusers = [\"postgres\"]\nmethod = \"scram-sha-256\"\n\
         [users.postgres]\npassword = \"{SUPERUSER_PASSWORD}\"\n[users.{APP}]\npassword = \"{APP_PASSWORD}\"\n\
         [databases.app]\ncontrol_user = \"{APP}\"\ncontrol_password = \"{APP_PASSWORD}\"\n\
         [databases.app.routing]\nhealth_interval = \"200ms\"\nhealth_timeout = \"1s\"\n\
         [[databases.app.nodes]]\nname = \"one\"\nhost = \"127.0.0.1\"\nport = {primary}\n\
         [[databases.app.nodes]]\nname = \"two\"\nhost = \"127.0.0.1\"\nport = {replica}\n"
    ))
}

fn start(cluster: &Cluster) -> Trunkline {
    setup(cluster.primary().port(), cluster.replicas()[0].port(), "").start()
}

const NAME: &str = "streamer";

/// The parameters of a connection of logical replication.
const LOGICAL: [(&str, &str); 3] = [("user", "postgres"), ("database", "app"), ("replication", "database")];

/// A client that streams the WAL.
struct Streamer(RawClient);

impl Deref for Streamer {
    type Target = RawClient;
    fn deref(&self) -> &RawClient {
        &self.0
    }
}

impl DerefMut for Streamer {
    fn deref_mut(&mut self) -> &mut RawClient {
        &mut self.0
    }
}

impl Streamer {
    /// Logged in, with no stream yet.
    fn login(port: u16) -> Self {
        let parameters = [("user", "postgres"), ("replication", "true"), ("application_name", NAME)];
        Self(RawClient::connect_with(port, SUPERUSER_PASSWORD, &parameters))
    }

    fn start(port: u16) -> Self {
        let mut client = Self::login(port);
        client.set_timeout(PATIENCE);
        let at = client.rows("IDENTIFY_SYSTEM")[0][2].clone().unwrap();
        client.send(&Batch::new().query(&format!("START_REPLICATION PHYSICAL {at}")));
        let frame = client.recv();
        assert_eq!(frame.tag, b'W', "{frame:?}");
        client
    }

    /// Reads until a change with this text has come.
    fn sees(&mut self, text: &str) {
        let mut seen = Vec::new();
        while !seen.windows(text.len()).any(|window| window == text.as_bytes()) {
            let frame = self.recv();
            assert_eq!(frame.tag, b'd', "{frame:?}");
            if frame.body[0] == b'w' {
                seen.extend_from_slice(&frame.body[25..]);
            }
        }
    }

    /// What comes until the connection's end, which must come.
    fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            match self.try_recv() {
                Ok(frame) => frames.push(frame),
                Err(error) => {
                    let silent = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                    assert!(!silent, "nothing was heard of the end");
                    return frames;
                }
            }
        }
    }
}

/// A standby status update.
fn status() -> Vec<u8> {
    [&b"r"[..], &[0; 32], &[1]].concat()
}

fn server_says(cluster: &Cluster, sql: &str) -> String {
    cluster.info().query(0, "app", sql).unwrap()
}

fn walsenders(cluster: &Cluster) -> String {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{NAME}'");
    server_says(cluster, &sql)
}

fn clients(proxy: &Trunkline) -> String {
    let mut console = RawClient::connect(proxy.port(), APP, APP_PASSWORD, "trunkline");
    console.value("SELECT count(*) FROM clients WHERE replication <> 'none'")
}

/// Nothing is left of any stream, on the server and here.
fn streams_are_over(proxy: &Trunkline, cluster: &Cluster) {
    until("the server to be rid of it", || walsenders(cluster) == "0");
    until("its client to be forgotten", || clients(proxy) == "0");
}

/// So it is, and others are served.
fn nothing_is_left(proxy: &Trunkline, cluster: &Cluster) {
    streams_are_over(proxy, cluster);
    let mut other = RawClient::connect(proxy.port(), APP, APP_PASSWORD, "app");
    assert_eq!(other.value("SELECT 1"), "1");
}

#[test]
fn a_client_that_goes_in_whatever_way_leaves_no_walsender() {
    let cluster = cluster(&[]);
    let proxy = start(&cluster);
    for round in 0..5 {
        let mut streamer = Streamer::start(proxy.port());
        assert_eq!((walsenders(&cluster), clients(&proxy)), ("1".to_owned(), "1".to_owned()));
        server_says(&cluster, &format!("SELECT pg_logical_emit_message(true, '', 'message {round}!')"));
        streamer.sees(&format!("message {round}!"));
        let update = Batch::new().copy_data(&status());
        match round {
            0 => streamer.0.vanish(),
            1 => streamer.0.reset(),
            2 => {
                // In the middle of a status update.
                streamer.send_bytes(&update.bytes()[..20]);
                streamer.0.vanish();
            }
            3 => {
                streamer.send_bytes(&update.bytes()[..20]);
                streamer.0.reset();
            }
            _ => {
                streamer.send(&update.terminate());
                streamer.rest();
            }
        }
        nothing_is_left(&proxy, &cluster);
    }
}

#[test]
fn either_side_may_end_a_stream_and_the_session_goes_on() {
    let cluster = cluster(&[]);
    let proxy = start(&cluster);
    let mut streamer = Streamer::start(proxy.port());
    for _ in 0..3 {
        streamer.send(&Batch::new().copy_data(&status()));
        assert_eq!(streamer.recv().body[0], b'k', "the keepalive that was asked for");
    }
    streamer.send(&Batch::new().copy_done());
    let frames = streamer.recv_ready(1);
    assert_eq!(frames.iter().filter(|frame| frame.tag == b'c').count(), 1, "{frames:?}");
    assert_eq!(streamer.rows("IDENTIFY_SYSTEM").len(), 1);
    // What is refused is told, and the session goes on.
    assert_eq!(streamer.failure("START_REPLICATION PHYSICAL FFFF/0"), "XX000");
    assert_eq!(streamer.failure("START_REPLICATION SLOT none PHYSICAL 0/0"), "42704");
    let missing = streamer.exchange(&Batch::new().query("START_REPLICATION PHYSICAL 0/1000000 TIMELINE 7"));
    assert!(missing.iter().any(|frame| frame.tag == b'E'), "{missing:?}");
    assert_eq!(streamer.rows("IDENTIFY_SYSTEM").len(), 1);
    // The server ends it, and its client does not close.
    server_says(
        &cluster,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'walsender' AND application_name = 'streamer'",
    );
    let frames = streamer.rest();
    assert!(frames.iter().any(|frame| frame.tag == b'E' && frame.sqlstate() == "57P01"), "{frames:?}");
    nothing_is_left(&proxy, &cluster);
}

#[test]
fn a_server_that_ends_a_stream_takes_the_place_of_its_client_back() {
    let cluster = cluster(&[("wal_sender_timeout", "1s")]);
    let proxy = start(&cluster);
    let mut streamer = Streamer::start(proxy.port());
    // Its status updates are missed; it reads on, and never closes.
    let frames = streamer.rest();
    assert!(frames.iter().all(|frame| frame.tag == b'd'), "{frames:?}");
    nothing_is_left(&proxy, &cluster);
    // One that reads nothing.
    let mut streamer = Streamer::start(proxy.port());
    until("the server's end of it", || walsenders(&cluster) == "0");
    until("its client to be forgotten", || clients(&proxy) == "0");
    streamer.rest();
}

#[test]
fn a_client_that_takes_nothing_any_more_holds_its_place_no_longer_than_it_may() {
    let cluster = cluster(&[("wal_sender_timeout", "1s")]);
    let (primary, replica) = (cluster.primary().port(), cluster.replicas()[0].port());
    let proxy = setup_with(primary, replica, "", "tcp_user_timeout = \"1s\"").start();
    let streamer = Streamer::start(proxy.port());
    server_says(&cluster, "SELECT pg_logical_emit_message(true, '', repeat('x', 30000000))");
    nothing_is_left(&proxy, &cluster);
    drop(streamer);
}

#[test]
fn a_client_that_goes_while_the_server_hangs_gives_its_place_back() {
    let cluster = cluster(&[]);
    let proxy = start(&cluster);
    let streamer = Streamer::start(proxy.port());
    let mut waiting = Streamer::start(proxy.port());
    cluster.primary().pause();
    streamer.0.vanish();
    until("the client to be forgotten", || clients(&proxy) == "1");
    waiting.send(&Batch::new().copy_data(&status()));
    assert!(waiting.is_silent_for(Duration::from_millis(300)));
    cluster.primary().resume();
    assert_eq!(waiting.recv().tag, b'd', "who stayed goes on");
    until("the server to be rid of one", || walsenders(&cluster) == "1");
    drop(waiting);
    nothing_is_left(&proxy, &cluster);
}

#[test]
fn a_stream_ends_with_its_network_and_nobody_elses_does() {
    let cluster = cluster(&[("wal_sender_timeout", "2s")]);
    let link = Injector::before(cluster.primary().port());
    let proxy = setup(link.port(), cluster.replicas()[0].port(), "").start();
    let front = Injector::before(proxy.port());
    for (round, fault) in
        [Fault::Cut, Fault::TearAnswer, Fault::CutAnswer(9000), Fault::EndAnswer(9000)].into_iter().enumerate()
    {
        for injector in [&link, &front] {
            let mut streamer = Streamer::start(front.port());
            injector.strike(fault, 100);
            server_says(&cluster, &format!("SELECT pg_logical_emit_message(true, '', repeat('{round}', 200000))"));
            // The end may be in the middle of a frame.
            assert!(streamer.is_closed(), "{fault:?}");
            injector.calm();
            drop(streamer);
            streams_are_over(&proxy, &cluster);
            let mut other = RawClient::connect(proxy.port(), APP, APP_PASSWORD, "app");
            until("writes", || other.exchange(&Batch::new().query("SELECT pg_current_wal_lsn()"))[0].tag == b'T');
        }
    }
    // Every byte by itself, and late.
    for fault in [Fault::Split, Fault::Delay(Duration::from_millis(20))] {
        link.strike(fault, 100);
        let mut streamer = Streamer::start(front.port());
        server_says(&cluster, "SELECT pg_logical_emit_message(true, '', 'in pieces')");
        streamer.sees("in pieces");
        link.calm();
    }
    nothing_is_left(&proxy, &cluster);
    // Half-open on the client's side: the server misses its updates.
    let streamer = Streamer::start(front.port());
    front.forget();
    streams_are_over(&proxy, &cluster);
    drop(streamer);
}

#[test]
fn a_stream_of_a_primary_that_hangs_ends_when_another_one_is_promoted() {
    let cluster = cluster(&[]);
    let proxy = start(&cluster);
    let mut streamer = Streamer::start(proxy.port());
    let mut sql = RawClient::connect_with(proxy.port(), SUPERUSER_PASSWORD, &LOGICAL);
    sql.set_timeout(PATIENCE);
    sql.send(&Batch::new().query("SELECT pg_sleep(1000)"));
    cluster.primary().pause();
    streamer.send(&Batch::new().copy_data(&status()));
    cluster.replicas()[0].promote().unwrap();
    streamer.rest();
    assert!(sql.is_closed());
    until("both to be forgotten", || clients(&proxy) == "0");
    // The next one is on the new primary.
    let mut next = Streamer::start(proxy.port());
    cluster.info().query(1, "app", "SELECT pg_logical_emit_message(true, '', 'on the new one')").unwrap();
    next.sees("on the new one");
    cluster.primary().resume();
    next.send(&Batch::new().copy_data(&status()));
    drop(next);
    until("it to be forgotten", || clients(&proxy) == "0");
    until("the former primary to be rid of it", || walsenders(&cluster) == "0");
}

#[test]
fn a_primary_that_is_shut_down_waits_for_its_streams_and_tells_their_end() {
    let cluster = cluster(&[]);
    let proxy = start(&cluster);
    let mut streamer = Streamer::start(proxy.port());
    // It confirms what comes while the server is dying, which waits for that.
    let confirming = thread::spawn(move || {
        let mut frames = Vec::new();
        while let Ok(frame) = streamer.try_recv() {
            let at = |place: usize| u64::from_be_bytes(frame.body[place..place + 8].try_into().unwrap());
            let seen = match (frame.tag, frame.body.first()) {
                (b'd', Some(b'w')) => at(1) + (frame.body.len() as u64 - 25),
                (b'd', Some(b'k')) => at(1),
                _ => {
                    frames.push(frame);
                    continue;
                }
            };
            let update = [&b"r"[..], &[seen.to_be_bytes(); 3].concat(), &[0; 9]].concat();
            let _ = streamer.try_send(Batch::new().copy_data(&update).bytes());
        }
        (streamer, frames)
    });
    cluster.primary().stop(StopMode::Fast).unwrap();
    let (_streamer, frames) = confirming.join().unwrap();
    assert!(frames.iter().any(|frame| matches!(frame.tag, b'C' | b'E')), "{frames:?}");
    until("its client to be forgotten", || clients(&proxy) == "0");
    let mut client = Streamer(RawClient::tcp(proxy.port()));
    let refused = client.login(SUPERUSER_PASSWORD, &[("user", "postgres"), ("replication", "true")]).unwrap_err();
    assert!(["57P03", "08006", "08001"].contains(&refused.sqlstate().as_str()), "{refused:?}");
    cluster.primary().start().unwrap();
    until("a stream", || {
        RawClient::tcp(proxy.port()).login(SUPERUSER_PASSWORD, &[("user", "postgres"), ("replication", "true")]).is_ok()
    });
}

#[test]
fn a_takeover_ends_streams_and_the_new_process_serves_them() {
    let cluster = cluster(&[]);
    let (primary, replica) = (cluster.primary().port(), cluster.replicas()[0].port());
    let dir = scratch("takeover");
    let general = format!("takeover_socket = \"{}\"", dir.join("socket").display());
    let mut old = setup(primary, replica, &general).start();
    let mut streamer = Streamer::start(old.port());
    server_says(&cluster, "SELECT pg_logical_emit_message(true, '', 'before')");
    streamer.sees("before");
    until("the socket", || dir.join("socket").exists());
    let mut new = setup(primary, replica, &general).beside(&old).launch();
    new.wait_for_log(&["taken over"]);
    assert!(old.wait().success(), "{}", old.log());
    streamer.rest();
    let mut streamer = Streamer::start(new.port());
    server_says(&cluster, "SELECT pg_logical_emit_message(true, '', 'behind')");
    streamer.sees("behind");
    until("only the new one's", || walsenders(&cluster) == "1");
    drop(streamer);
    nothing_is_left(&new, &cluster);
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_shutdown_waits_for_no_server_that_hangs() {
    let cluster = cluster(&[]);
    let mut proxy = start(&cluster);
    let mut streamer = Streamer::start(proxy.port());
    let mut sql = RawClient::connect_with(proxy.port(), SUPERUSER_PASSWORD, &LOGICAL);
    sql.send(&Batch::new().query("SELECT pg_sleep(1000)"));
    cluster.primary().pause();
    // One that waits for its server connection.
    let port = proxy.port();
    let waiting = thread::spawn(move || {
        let mut client = RawClient::tcp(port);
        client.set_timeout(PATIENCE);
        client.login(SUPERUSER_PASSWORD, &LOGICAL)
    });
    until("it to be there", || clients(&proxy) == "3");
    let began = Instant::now();
    proxy.signal(Signal::TERM);
    assert!(proxy.wait().success());
    eprintln!("took {:?}", began.elapsed());
    streamer.rest();
    assert!(sql.is_closed());
    // Refused, or closed before it heard anything.
    assert!(!matches!(waiting.join(), Ok(Ok(()))));
    cluster.primary().resume();
    until("the server to be rid of them", || walsenders(&cluster) == "0");
}

#[test]
fn commands_on_the_console_hold_streams_and_end_them() {
    let cluster = cluster(&[]);
    let proxy = start(&cluster);
    let mut streamer = Streamer::start(proxy.port());
    let mut console = RawClient::connect(proxy.port(), APP, APP_PASSWORD, "trunkline");
    let emit = |text: &str| drop(server_says(&cluster, &format!("SELECT pg_logical_emit_message(true, '', '{text}')")));
    console.rows("SUSPEND");
    emit("while suspended");
    assert!(streamer.is_silent_for(Duration::from_millis(300)));
    console.rows("RESUME");
    streamer.set_timeout(PATIENCE);
    streamer.sees("while suspended");
    // What is about pools is nothing to it.
    for sql in ["PAUSE app", "RESUME app", "RECONNECT", "RELOAD"] {
        console.rows(sql);
        emit(sql);
        streamer.sees(sql);
    }
    // A client that reads nothing is ended, too.
    let idle = Streamer::start(proxy.port());
    server_says(&cluster, "SELECT pg_logical_emit_message(true, '', repeat('x', 20000000))");
    for row in console.rows("SELECT id FROM clients WHERE replication <> 'none'") {
        console.rows(&format!("KILL_CLIENT {}", row[0].as_deref().unwrap()));
    }
    streamer.rest();
    nothing_is_left(&proxy, &cluster);
    drop(idle);
    // A pause of everything in the middle of a stream whose client then goes.
    let streamer = Streamer::start(proxy.port());
    console.rows("SUSPEND");
    streamer.0.vanish();
    thread::sleep(Duration::from_millis(100));
    console.rows("RESUME");
    nothing_is_left(&proxy, &cluster);
}

#[test]
fn a_client_that_goes_in_the_middle_of_what_it_asked_for_ends_it() {
    let cluster = cluster(&[]);
    let proxy = start(&cluster);
    let logical = [("user", "postgres"), ("database", "app"), ("replication", "database"), ("application_name", NAME)];
    let mut sql = RawClient::connect_with(proxy.port(), SUPERUSER_PASSWORD, &logical);
    sql.send(&Batch::new().query("SELECT pg_sleep(1000)"));
    until("the statement", || walsenders(&cluster) == "1");
    sql.vanish();
    nothing_is_left(&proxy, &cluster);
    // A base backup that nobody takes, and what was sent right before the end is done.
    let mut backup = Streamer::login(proxy.port());
    backup.send(&Batch::new().query("BASE_BACKUP ( CHECKPOINT 'fast', WAL )"));
    until("the backup", || walsenders(&cluster) == "1");
    thread::sleep(Duration::from_millis(500));
    backup.0.vanish();
    nothing_is_left(&proxy, &cluster);
    let mut last = RawClient::connect_with(proxy.port(), SUPERUSER_PASSWORD, &logical);
    last.send(&Batch::new().query("CREATE TABLE made_last AS SELECT 1 AS n FROM pg_sleep(1)").terminate());
    last.vanish();
    until("it to be done", || {
        server_says(&cluster, "SELECT count(*) FROM pg_class WHERE relname = 'made_last'") == "1"
    });
    nothing_is_left(&proxy, &cluster);
}
