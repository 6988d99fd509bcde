//! What a statement costs in memory: nothing is allocated for it once everything is warm, and an idle session holds no buffer.
//!
//! The program runs inside this test, so that its allocations can be counted, by thread.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use support::clusters::{self, APP, APP_PASSWORD, TestDb};
use support::frames::Batch;
use support::raw::RawClient;
use trunkline::app::demo::PortLease;
use trunkline::config::{Environment, load_text};

/// The system's allocator, which counts by the number of the thread. Numbers far apart may share a counter.
struct Counting;

const THREADS: usize = 4096;
static CALLS: [AtomicU64; THREADS] = [const { AtomicU64::new(0) }; THREADS];
/// Bytes that are allocated at the moment.
static LIVE: AtomicI64 = AtomicI64::new(0);

fn counted(bytes: i64) {
    let thread = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs() as usize;
    CALLS[thread % THREADS].fetch_add(1, Relaxed);
    LIVE.fetch_add(bytes, Relaxed);
}

// SAFETY: everything is done by the system's allocator.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        counted(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Relaxed);
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        counted(size as i64 - layout.size() as i64);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often the threads that serve clients have allocated.
fn allocations() -> u64 {
    let mut workers = 0;
    let mut calls = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap();
        if std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("worker-")) {
            workers += 1;
            let thread: usize = task.file_name().to_str().unwrap().parse().unwrap();
            calls += CALLS[thread % THREADS].load(Relaxed);
        }
    }
    assert_eq!(workers, 1);
    calls
}

/// Starts the program before the database and all its replicas; returns its port.
fn start(db: &TestDb) -> u16 {
    let port = PortLease::take().unwrap();
    let replicas: Vec<_> = db.cluster().replica_ports().map(|port| format!("\"host=127.0.0.1 port={port}\"")).collect();
    let config = format!(
        "[general]\nlisten = [\"127.0.0.1:{}\"]\nworkers = 1\n[metrics]\nlisten = \"off\"\n\
         [users.{APP}]\npassword = \"{APP_PASSWORD}\"\n[databases.{name}]\nprimary = \"host=127.0.0.1 port={}\"\n\
         replicas = [{}]\ncontrol_user = \"{APP}\"\npool.size = 4\n",
        port.port(),
        db.cluster().primary_port(),
        replicas.join(", "),
        name = db.name,
    );
    let loaded = load_text("test.toml", &config, std::path::Path::new("/"), &Environment::from_process()).unwrap();
    std::thread::spawn(move || trunkline::app::run::run(loaded, None, Environment::from_process()).unwrap());
    let number = port.port();
    let patience = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", number)).is_err() {
        assert!(Instant::now() < patience, "the program does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    number
}

/// Runs what is sent so often, and waits for each answer.
fn run(stream: &mut std::net::TcpStream, requests: &[Vec<u8>], times: usize) {
    let mut answer = [0; 4096];
    for request in requests.iter().cycle().take(times) {
        stream.write_all(request).unwrap();
        let mut len = 0;
        while !answer[..len].ends_with(b"Z\0\0\0\x05I") {
            let n = stream.read(&mut answer[len..]).unwrap();
            assert!(n > 0, "the connection was closed");
            len += n;
        }
    }
}

fn bytes(batch: &Batch) -> Vec<u8> {
    batch.bytes().to_vec()
}

#[test]
fn a_statement_allocates_nothing_and_an_idle_session_holds_no_buffer() {
    let db = TestDb::with(
        clusters::shared(),
        "CREATE TABLE t (n int PRIMARY KEY, v text); INSERT INTO t SELECT n, 'v' FROM generate_series(1, 1000) n",
    );
    db.wait_replayed();
    let port = start(&db);
    let client = || RawClient::connect(port, APP, APP_PASSWORD, &db.name);

    let mut one = client();
    one.exchange(&Batch::new().parse("s", "SELECT v FROM t WHERE n = $1", &[]).sync());
    let simple = |sql: &str| bytes(&Batch::new().query(sql));
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("simple, on a replica", vec![simple("SELECT v FROM t WHERE n = 1")]),
        ("simple, on the primary", vec![simple("/* trunkline: primary */ SELECT v FROM t WHERE n = 1")]),
        ("with other constants", (0..5000).map(|n| simple(&format!("SELECT v FROM t WHERE n = {n}"))).collect()),
        ("a write", vec![simple("UPDATE t SET v = 'w' WHERE n = 7")]),
        ("prepared", vec![bytes(&Batch::new().bind("", "s", &[Some("5")]).execute("", 0).sync())]),
        (
            "prepared, described",
            vec![bytes(&Batch::new().bind("", "s", &[Some("5")]).describe(b'P', "").execute("", 0).sync())],
        ),
        (
            "extended",
            vec![bytes(
                &Batch::new()
                    .parse("", "SELECT v FROM t WHERE n = $1", &[])
                    .bind("", "", &[Some("5")])
                    .describe(b'P', "")
                    .execute("", 0)
                    .sync(),
            )],
        ),
    ];
    let mut stream = one.writer();
    let mut too_many = Vec::new();
    for (name, requests) in &cases {
        // Caches, connections, the places of a thread.
        run(&mut stream, requests, requests.len().max(3000));
        // Now and then something is done that is no statement's: a connection is opened, a table grows. That does not happen each time.
        let made = (0..3).map(|_| {
            let before = allocations();
            run(&mut stream, requests, 2000);
            allocations() - before
        });
        let made = made.min().unwrap();
        println!("{name}: {made} allocations for 2000 statements");
        if made > 20 {
            too_many.push(format!("{name}: {made} allocations for 2000 statements"));
        }
    }
    assert!(too_many.is_empty(), "{too_many:#?}");

    // What a session needed for a large statement and its large answer it does not keep.
    let before = LIVE.load(Relaxed);
    let large = format!("SELECT '{}', repeat('x', 300000)", "y".repeat(300_000));
    let mut clients: Vec<_> = (0..50).map(|_| client()).collect();
    for client in &mut clients {
        assert_eq!(client.rows(&large).len(), 1);
        client.value("SELECT 1");
    }
    std::thread::sleep(Duration::from_millis(200));
    let each = (LIVE.load(Relaxed) - before) / 50;
    println!("{each} bytes for an idle session and its client here");
    // The client's own buffers are among them.
    assert!(each < 64 * 1024, "{each} bytes for an idle session");
    drop(one);
}
