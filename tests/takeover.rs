//! Restarting without a gap: a new process takes the listening sockets over, the old one serves its clients to the end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

#[path = "takeover/peer.rs"]
mod peer;

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use peer::Peer;
use rustix::process::Signal;
use rustls::{ClientConfig, RootCertStore};
use support::clusters::{self, APP, APP_PASSWORD, TestDb};
use support::frames::{Batch, tags};
use support::process::{Setup, Trunkline};
use support::raw::RawClient;
use tempfile::TempDir;

/// What the processes of a test have in common.
struct Scene {
    db: TestDb,
    dir: TempDir,
}

impl Scene {
    fn new(sql: &str) -> Self {
        Self { db: TestDb::with(clusters::shared(), sql), dir: tempfile::tempdir().unwrap() }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("takeover.sock")
    }

    fn config(&self, general: &str, drain: &str) -> String {
        format!(
            "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\ntakeover_socket = \"{socket}\"\n{general}\n\
             [metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n\
             [client]\ndrain_timeout = \"{drain}\"\n\
             [users.{APP}]\npassword = \"{APP_PASSWORD}\"\n\
             [databases.{name}]\ncontrol_user = \"{APP}\"\ncontrol_password = \"{APP_PASSWORD}\"\n\
             [databases.{name}.pool]\nsize = 4\n\
             [[databases.{name}.nodes]]\nname = \"primary\"\nrole = \"primary\"\nhost = \"127.0.0.1\"\nport = {port}\n",
            socket = self.socket().display(),
            name = self.db.name,
            port = self.db.cluster().primary_port(),
        )
    }

    fn start(&self, general: &str, drain: &str) -> Trunkline {
        let proxy = Setup::config(self.config(general, drain)).start();
        self.wait_for_socket();
        proxy
    }

    /// Waits for the takeover socket, which is the last one to be there.
    fn wait_for_socket(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.socket().exists() {
            assert!(Instant::now() < deadline, "no takeover socket");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts a process that takes over from this one, and waits until it has.
    fn take_over(&self, old: &Trunkline, general: &str, drain: &str) -> Trunkline {
        let mut new = Setup::config(self.config(general, drain)).beside(old).launch();
        new.wait_for_log(&["taken over"]);
        new
    }

    fn connect(&self, port: u16) -> RawClient {
        RawClient::connect(port, APP, APP_PASSWORD, &self.db.name)
    }

    /// Makes a certificate, and returns what trusts it.
    fn certify(&self) -> Arc<ClientConfig> {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(self.dir.path().join("tls.pem"), certificate.pem()).unwrap();
        std::fs::write(self.dir.path().join("tls.key"), key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
    }

    fn connect_tls(&self, trust: &Arc<ClientConfig>, port: u16) -> RawClient {
        let mut client = RawClient::tls(port, "localhost", trust.clone(), false).unwrap();
        client.login(APP_PASSWORD, &[("user", APP), ("database", &self.db.name)]).unwrap();
        client
    }

    fn connect_unix(&self, dir: &Path, port: u16) -> RawClient {
        let mut client = RawClient::unix(dir, port);
        client.login(APP_PASSWORD, &[("user", APP), ("database", &self.db.name)]).unwrap();
        client
    }
}

fn ok(client: &mut RawClient, sql: &str) {
    let tags = tags(&client.exchange(&Batch::new().query(sql)));
    assert!(!tags.contains('E'), "{sql}: {tags}");
}

/// The SQLSTATE of what it gets up to the next ReadyForQuery.
fn error(client: &mut RawClient) -> String {
    let frames = client.recv_ready(1);
    frames.iter().find(|frame| frame.tag == b'E').unwrap_or_else(|| panic!("{frames:?}")).sqlstate()
}

#[test]
fn takeovers_under_load_cost_no_client_an_error() {
    let scene = Scene::new("CREATE TABLE t (n int)");
    let trust = scene.certify();
    let dir = scene.dir.path().display();
    let unix = format!(
        "unix_socket_dir = \"{dir}\"\n[tls]\nmode = \"allow\"\ncert = \"{dir}/tls.pem\"\nkey = \"{dir}/tls.key\""
    );
    let mut old = scene.start(&unix, "20s");
    let port = old.port();
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..6 {
            let (scene, stop, done, trust) = (&scene, &stop, &done, &trust);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut client = match number % 3 {
                        0 => scene.connect(port),
                        1 => scene.connect_tls(trust, port),
                        _ => scene.connect_unix(scene.dir.path(), port),
                    };
                    // At this moment it is idle, perhaps on a process that another one takes over from.
                    thread::sleep(Duration::from_millis(5));
                    assert_eq!(client.value("SELECT 41 + 1"), "42");
                    ok(&mut client, "BEGIN; INSERT INTO t VALUES (1); COMMIT");
                    client.send(&Batch::new().terminate());
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let work = |at_least: u64| {
            let until = done.load(Ordering::Relaxed) + at_least;
            let deadline = Instant::now() + Duration::from_secs(20);
            while done.load(Ordering::Relaxed) < until {
                assert!(Instant::now() < deadline, "nobody is served");
                thread::sleep(Duration::from_millis(10));
            }
        };
        for round in 0..4 {
            let mut busy = scene.connect(port);
            ok(&mut busy, "BEGIN");
            ok(&mut busy, "INSERT INTO t VALUES (2)");
            work(20);
            let mut new = scene.take_over(&old, &unix, "20s");
            work(20);
            assert!(old.wait_for(Duration::ZERO).is_none(), "it has a client with a transaction");
            ok(&mut busy, "INSERT INTO t VALUES (3)");
            ok(&mut busy, "COMMIT");
            assert_eq!(busy.value("SELECT 'a client that stays is served'"), "a client that stays is served");
            busy.send(&Batch::new().terminate());
            assert!(old.wait().success(), "round {round}");
            assert!(new.http("/readyz").0.contains("200"));
            assert!(new.wait_for(Duration::ZERO).is_none());
            old = new;
        }
        stop.store(true, Ordering::Relaxed);
    });
    let counts = scene.db.run("SELECT count(*) FILTER (WHERE n = 1), count(*) FILTER (WHERE n = 3) FROM t");
    assert!(counts.starts_with(&done.load(Ordering::Relaxed).to_string()) && counts.ends_with('4'), "{counts}");
    // The files are the last one's to remove.
    let file = scene.dir.path().join(format!(".s.PGSQL.{port}"));
    assert!(file.exists() && scene.socket().exists());
    old.signal(Signal::TERM);
    assert!(old.wait().success());
    assert!(!file.exists() && !scene.socket().exists());
}

#[test]
fn cancel_keys_of_old_processes_keep_working() {
    let scene = Scene::new("");
    let oldest = scene.start("", "60s");
    let port = oldest.port();
    let mut processes = vec![oldest];
    let mut clients = vec![scene.connect(port)];
    for _ in 0..2 {
        let new = scene.take_over(processes.last().unwrap(), "", "60s");
        processes.push(new);
        clients.push(scene.connect(port));
    }
    // One client on each process; the newest serves all cancel requests, twice.
    for _ in 0..2 {
        for victim in 0..clients.len() {
            for client in &mut clients {
                client.send(&Batch::new().query("SELECT pg_sleep(1)"));
            }
            thread::sleep(Duration::from_millis(200));
            let began = Instant::now();
            clients[victim].cancel(port);
            assert_eq!(error(&mut clients[victim]), "57014");
            assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
            for (number, client) in clients.iter_mut().enumerate().filter(|(number, _)| *number != victim) {
                assert!(tags(&client.recv_ready(1)).ends_with("DCZ"), "client {number} runs on");
            }
        }
    }
    // The right process id with a wrong secret is nobody's.
    clients[0].send(&Batch::new().query("SELECT pg_sleep(0.6)"));
    thread::sleep(Duration::from_millis(150));
    let right = std::mem::take(&mut clients[0].key);
    clients[0].key = right.iter().enumerate().map(|(at, byte)| if at == 7 { byte ^ 1 } else { *byte }).collect();
    clients[0].cancel(port);
    clients[0].key = right;
    assert!(tags(&clients[0].recv_ready(1)).ends_with("DCZ"));
    // Old ones end by themselves, in any order, and the rest goes on.
    drop(clients.remove(1));
    assert!(processes[1].wait().success());
    processes[2].wait_for_log(&["a process that was taken over from has ended"]);
    clients[0].send(&Batch::new().query("SELECT pg_sleep(20)"));
    thread::sleep(Duration::from_millis(150));
    clients[0].cancel(port);
    assert_eq!(error(&mut clients[0]), "57014");
    drop(clients.remove(0));
    assert!(processes[0].wait().success());
    assert_eq!(clients[0].value("SELECT 1"), "1");
    for process in &processes {
        assert!(!process.log().contains("secret"), "{}", process.log());
    }
}

#[test]
fn a_new_process_that_cannot_start_leaves_the_old_one_serving() {
    let scene = Scene::new("");
    let mut old = scene.start("", "60s");
    let mut client = scene.connect(old.port());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("listen = [\"127.0.0.1:@PORT@\", \"{}\"]", taken.local_addr().unwrap());
    let good = scene.config("", "60s");
    let attempts = [
        // A mistake, a file that is not there, an address that another program has (found out after the offer).
        (format!("{good}\nnonsense = 1\n"), "nonsense"),
        (format!("{good}[tls]\nmode = \"require\"\ncert = \"/nonexistent\"\nkey = \"/nonexistent\"\n"), "/nonexistent"),
        (good.replace("listen = [\"127.0.0.1:@PORT@\"]", &listen), "another program has this port"),
    ];
    for (config, why) in attempts {
        let mut new = Setup::config(config).beside(&old).launch();
        assert!(!new.wait().success());
        assert!(new.log().contains(why), "{}", new.log());
        assert_eq!(client.value("SELECT 1"), "1");
        assert_eq!(scene.connect(old.port()).value("SELECT 2"), "2");
    }
    old.wait_for_log(&["a process did not take over; this one goes on"]);
    let new = scene.take_over(&old, "", "60s");
    assert_eq!(scene.connect(new.port()).value("SELECT 3"), "3");
    drop(client);
    assert!(old.wait().success());
}

#[test]
fn a_hostile_peer_on_the_takeover_socket_harms_nothing() {
    let scene = Scene::new("");
    let mut proxy = scene.start("", "60s");
    let mode = std::fs::metadata(scene.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut client = scene.connect(proxy.port());
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap().count();
    let before = descriptors();
    let hello = r#"{"message":"hello","version":2}"#;
    let serving = || assert_eq!(scene.connect(proxy.port()).value("SELECT 1"), "1");
    let huge = "x".repeat(60_000);
    let nested = "[".repeat(16_000);
    for first in ["\0", "{}", "[]", r#"{"message":"ready"}"#, r#"{"message":"serving"}"#, &huge, &nested] {
        let peer = Peer::connect(&scene.socket());
        peer.send(first);
        assert_eq!(peer.recv().0, "", "closed, with no answer: {first:.20}");
        serving();
    }
    let cancel = r#"{"message":"cancel","id":1,"pid":1,"secret":[0,0,0,0]}"#;
    let peer = Peer::connect(&scene.socket());
    peer.send(cancel);
    assert_eq!(peer.recv().0, "");
    // Another version.
    let peer = Peer::connect(&scene.socket());
    peer.send(r#"{"message":"hello","version":1}"#);
    assert!(peer.recv().0.contains("refused"));
    // Sockets that nobody asked for are closed.
    for _ in 0..3 {
        let peer = Peer::connect(&scene.socket());
        peer.send_with(r#"{"message":"nonsense"}"#, &TcpListener::bind("127.0.0.1:0").unwrap());
        assert_eq!(peer.recv().0, "");
    }
    // Gone after the offer; then nonsense after it; then gone when nobody accepts any more.
    for last in [None, Some("?"), Some(cancel), Some(r#"{"message":"ready"}"#)] {
        let peer = Peer::connect(&scene.socket());
        peer.send(hello);
        let (offer, sockets) = peer.recv();
        assert!(offer.contains("offer") && sockets == 3, "{offer}: {sockets}");
        serving();
        if let Some(last) = last {
            peer.send(last);
            let stopped = r#"{"message":"stopped","leaving":[]}"#;
            assert_eq!(peer.recv().0, if last.contains("ready") { stopped } else { "" });
        }
        drop(peer);
        serving();
    }
    assert_eq!(client.value("SELECT 1"), "1");
    // What served clients is closed a moment later.
    let deadline = Instant::now() + Duration::from_secs(5);
    while descriptors() > before + 4 {
        assert!(Instant::now() < deadline, "{} descriptors, {before} before", descriptors());
        thread::sleep(Duration::from_millis(20));
    }
    // Somebody who connects and is silent holds a takeover up for a few seconds.
    let silent = Peer::connect(&scene.socket());
    let new = scene.take_over(&proxy, "", "60s");
    drop(silent);
    // A successor that says nonsense: here, the old one has no takeover socket any more.
    assert_eq!(client.value("SELECT 1"), "1");
    drop(client);
    assert!(proxy.wait().success());
    assert_eq!(scene.connect(new.port()).value("SELECT 1"), "1");
}

#[test]
fn a_peer_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        // Only root can be another user.
        return;
    }
    let scene = Scene::new("");
    let mut proxy = scene.start("", "60s");
    // Whatever the file's mode has become.
    std::fs::set_permissions(scene.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(scene.socket(), std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(peer::hello_as(65534, &scene.socket()).is_empty());
    assert!(peer::hello_as(0, &scene.socket()).contains("offer"));
    proxy.wait_for_log(&["a connection to the takeover socket was refused", "another user"]);
    assert_eq!(scene.connect(proxy.port()).value("SELECT 1"), "1");
}

#[test]
fn who_stays_is_told_when_the_time_is_over() {
    let scene = Scene::new("");
    let mut old = scene.start("", "1s");
    let (mut idle, mut busy) = (scene.connect(old.port()), scene.connect(old.port()));
    ok(&mut busy, "BEGIN; SELECT 1 FOR UPDATE");
    let _new = scene.take_over(&old, "", "1s");
    assert!(idle.is_silent_for(Duration::from_millis(400)), "it may leave by itself");
    assert_eq!(idle.value("SELECT 1"), "1");
    assert_eq!(idle.recv().sqlstate(), "57P01");
    ok(&mut busy, "COMMIT");
    assert_eq!(busy.recv().sqlstate(), "57P01");
    assert!(old.wait().success());
    // SIGTERM to a process that waits for its clients: the usual drain.
    let scene = Scene::new("");
    let mut old = scene.start("", "60s");
    let mut idle = scene.connect(old.port());
    let _new = scene.take_over(&old, "", "60s");
    old.signal(Signal::TERM);
    assert_eq!(idle.recv().sqlstate(), "57P01");
    assert!(old.wait().success());
}

#[test]
fn addresses_may_change_with_the_process() {
    let scene = Scene::new("");
    let unix = format!("unix_socket_dir = \"{}\"\nunix_socket_mode = ", scene.dir.path().display());
    let first = scene.start(&format!("{unix}\"0777\""), "60s");
    let port = first.port();
    let file = scene.dir.path().join(format!(".s.PGSQL.{port}"));
    let mode = || std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o777);
    let kept = scene.connect_unix(scene.dir.path(), port);
    let second = scene.take_over(&first, &format!("{unix}\"0700\""), "60s");
    assert_eq!(mode(), 0o700, "as its own configuration says");
    assert_eq!(scene.connect_unix(scene.dir.path(), port).value("SELECT 1"), "1");
    // Without the Unix socket, and with one more address.
    let more = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = scene.config("", "60s").replace("@PORT@\"", &format!("@PORT@\", \"{more}\""));
    let mut third = Setup::config(text).beside(&second).launch();
    third.wait_for_log(&["taken over"]);
    assert!(!file.exists(), "nobody listens there any more");
    assert_eq!(scene.connect(more.port()).value("SELECT 1"), "1");
    assert_eq!(scene.connect(port).value("SELECT 1"), "1");
    drop(kept);
}

#[test]
fn a_dead_socket_is_replaced_and_a_file_is_not() {
    let scene = Scene::new("");
    let mut proxy = scene.start("", "60s");
    proxy.signal(Signal::KILL);
    proxy.wait();
    assert!(scene.socket().exists(), "it could not remove it");
    let mut proxy = scene.start("", "60s");
    assert_eq!(scene.connect(proxy.port()).value("SELECT 1"), "1");
    proxy.signal(Signal::TERM);
    proxy.wait();
    std::fs::write(scene.socket(), "precious").unwrap();
    let mut proxy = Setup::config(scene.config("", "60s")).launch();
    assert!(!proxy.wait().success());
    assert!(proxy.log().contains("exists and is not a socket"), "{}", proxy.log());
    assert_eq!(std::fs::read_to_string(scene.socket()).unwrap(), "precious");
}

#[test]
fn sockets_of_the_service_manager_are_used() {
    let scene = Scene::new("");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // Somebody connects before the program runs, and waits.
    let mut early = TcpStream::connect(address).unwrap();
    let text = scene.config("", "60s").replace("@PORT@\"", &format!("@PORT@\", \"{address}\""));
    let mut proxy = Setup::config(&text).passed(socket.into()).start();
    scene.wait_for_socket();
    assert_eq!(scene.connect(address.port()).value("SELECT 1"), "1");
    std::io::Write::write_all(&mut early, &[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    let mut answer = [0];
    early.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"N", "no TLS here, says the proxy");
    drop(early);
    // It goes on to who takes over.
    let mut new = Setup::config(&text).beside(&proxy).launch();
    new.wait_for_log(&["taken over"]);
    assert!(proxy.wait().success());
    assert_eq!(scene.connect(address.port()).value("SELECT 1"), "1");
}

#[test]
fn the_service_manager_is_told_to_follow_the_new_process() {
    let scene = Scene::new("");
    let path = scene.dir.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let told = || {
        let mut bytes = [0; 1024];
        let count = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    let setup = || Setup::config(scene.config("", "60s")).env("NOTIFY_SOCKET", path.to_str().unwrap());
    let mut old = setup().start();
    scene.wait_for_socket();
    assert_eq!(told(), "READY=1\n");
    let mut new = setup().beside(&old).launch();
    assert_eq!(told(), format!("MAINPID={}\nREADY=1\n", new.pid()));
    assert!(old.wait_for(Duration::from_millis(300)).is_none(), "it does not end before the manager knows");
    assert_eq!(told(), "BARRIER=1\n");
    new.wait_for_log(&["taken over"]);
    assert!(old.wait().success());
    assert_eq!(told(), "READY=1\n");
    new.signal(Signal::TERM);
    new.wait();
    assert_eq!(told(), "STOPPING=1\n", "only the last one says so");
}
