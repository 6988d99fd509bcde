//! Clients that vanish after any byte of what they had to say (trap 29): the next client on the same connection finds nothing of
//! them, and the pool is whole.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use support::clusters::{self, APP, APP_PASSWORD, TestDb};
use support::frames::{Batch, summary, tags};
use support::process::Setup;
use support::raw::RawClient;
use support::world::{Plan, World};

fn batch() -> Batch {
    Batch::new()
}

fn run(sql: &str) -> Batch {
    batch().run(sql, &[])
}

/// What is said, and how it reads.
fn conversations() -> [(&'static str, Batch); 9] {
    let series = "SELECT generate_series(1, 900)";
    [
        (
            "simple",
            batch()
                .query("BEGIN")
                .query("INSERT INTO t VALUES (0)")
                .query("SET work_mem TO '9MB'")
                .query("SET LOCAL TimeZone TO 'Asia/Tokyo'")
                .query("SAVEPOINT a")
                .query("SELECT 1/0")
                .query("ROLLBACK TO a")
                .query("LISTEN x")
                .query("ROLLBACK"),
        ),
        (
            "a string",
            batch()
                .query("SET search_path TO pg_catalog; BEGIN; SAVEPOINT s; SET TimeZone TO 'UTC'; ROLLBACK; SELECT 1"),
        ),
        (
            "extended",
            batch()
                .parse("s", "SELECT $1::int", &[])
                .bind("", "s", &[Some("1")])
                .describe(b'P', "")
                .execute("", 0)
                .flush(),
        ),
        (
            "portals",
            batch()
                .query("BEGIN")
                .parse("", series, &[])
                .bind("c", "", &[])
                .execute("c", 3)
                .sync()
                .execute("c", 5)
                .flush()
                .close(b'P', "c")
                .sync()
                .query("COMMIT"),
        ),
        (
            "COPY in",
            batch()
                .query("BEGIN")
                .query("COPY t FROM STDIN")
                .copy_data(b"1\n")
                .copy_data(b"2\n")
                .copy_done()
                .query("ROLLBACK")
                .query("COPY t FROM STDIN")
                .copy_data(b"3\n")
                .copy_fail("no"),
        ),
        (
            "COPY out",
            batch().query(&format!("COPY ({series}) TO STDOUT")).run(&format!("COPY ({series}) TO STDOUT"), &[]).sync(),
        ),
        (
            "what pins",
            batch()
                .query("CREATE TEMP TABLE tt (n int)")
                .query("SELECT pg_advisory_lock(42)")
                .query("DECLARE h CURSOR WITH HOLD FOR SELECT 1")
                .query("PREPARE p AS SELECT 1")
                .query("EXECUTE p")
                .query("SELECT set_config('work_mem', '5' || 'MB', false)"),
        ),
        (
            "a pipeline",
            batch()
                .bytes_of(run("BEGIN").sync().bytes())
                .bytes_of(run("INSERT INTO t VALUES (0)").sync().bytes())
                .bytes_of(run("ROLLBACK").sync().bytes())
                .bytes_of(run("SELECT pg_sleep(0.01)").sync().bytes()),
        ),
        ("a large message", batch().parse("big", &format!("SELECT '{}'", "y".repeat(200)), &[]).sync()),
    ]
}

/// Everything that a client might find of another.
const LEFT: &str = "SELECT current_setting('work_mem'), current_setting('TimeZone'), current_setting('search_path'), \
    (SELECT count(*) FROM pg_cursors WHERE name <> ''), (SELECT count(*) FROM pg_prepared_statements), \
    (SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
    (SELECT count(*) FROM pg_class WHERE relpersistence = 't'), (SELECT count(*) FROM t), \
    txid_current_if_assigned(), now() = statement_timestamp()";

fn die_everywhere(world: &World, what: &str, said: &[u8]) {
    // One half by a reset, the other in order; `TRUNKLINE_RESETS=odd` has it the other way round.
    let resets_odd = std::env::var("TRUNKLINE_RESETS").is_ok_and(|which| which == "odd");
    let mut next = world.client();
    next.set_timeout(Duration::from_secs(60));
    let clean = summary(&next.exchange(&batch().query(LEFT)));
    for length in 0..=said.len() {
        // Every byte of headers and around ends; of long texts some.
        if length % 4 != 0 && said.get(length.saturating_sub(6)..length + 2).is_some_and(|near| !near.contains(&0)) {
            continue;
        }
        let mut client = world.client();
        client.send_bytes(&said[..length]);
        if length % 2 == usize::from(resets_odd) {
            client.vanish();
        } else {
            client.reset();
        }
        let found = summary(&next.exchange(&batch().query(LEFT)));
        assert_eq!(found, clean, "{what}: died after {length} of {} bytes", said.len());
        let frames = next.exchange(&batch().bind("", "", &[]).execute("", 0).sync());
        assert_eq!(tags(&frames), "EZ", "{what}, {length}: an unnamed statement is left: {frames:?}");
    }
}

fn all(which: std::ops::Range<usize>) {
    let sql = "CREATE TABLE t (n int)";
    let world = Plan { sql, pool: "size = 1\nwait_timeout = \"60s\"", primary_only: true, ..Plan::default() }.start();
    for (what, said) in &conversations()[which] {
        die_everywhere(&world, what, said.bytes());
    }
    let idle = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = '{APP}' AND application_name NOT LIKE 'trunkline%' AND state = 'idle'",
        world.db.name
    );
    world.wait_for(&idle, "1");
    assert_eq!(world.client().value("SELECT 'whole'"), "whole");
}

#[test]
fn trap_29_in_simple_queries() {
    all(0..2);
}

#[test]
fn trap_29_in_the_extended_protocol() {
    all(2..4);
}

#[test]
fn trap_29_51_in_copies() {
    all(4..6);
}

#[test]
fn trap_29_58_with_what_pins_and_in_pipelines() {
    all(6..9);
}

/// Nobody has logged in yet.
#[test]
fn trap_29_before_and_in_a_login() {
    let world = Plan { pool: "size = 1", primary_only: true, ..Plan::default() }.start();
    let packet = |code: i32, rest: &[u8]| {
        let length = i32::try_from(8 + rest.len()).unwrap();
        [&length.to_be_bytes()[..], &code.to_be_bytes(), rest].concat()
    };
    let (tls, gss) = (packet(80_877_103, b""), packet(80_877_104, b""));
    let startup = packet(196_608, format!("user\0{APP}\0database\0{}\0\0", world.db.name).as_bytes());
    let cancel = packet(80_877_102, &[1; 8]);
    for said in [
        tls.clone(),
        [gss, tls.clone(), startup.clone()].concat(),
        [&startup[..], b"p\0\0\0\x37SCRAM-SHA-256\0"].concat(),
        [tls, cancel].concat(),
        b"\x16\x03\x01\x02\0\x01\0\x01".to_vec(),
    ] {
        for length in 0..=said.len() {
            let mut client = RawClient::tcp(world.proxy.port());
            client.send_bytes(&said[..length]);
            client.vanish();
        }
    }
    assert_eq!(world.client().value("SELECT 'whole'"), "whole");
}

/// Passes connections on to a server. Once armed, the connection is reset when the server has said so many bytes more.
fn cut_after(target: u16, left: Arc<AtomicI64>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(("127.0.0.1", target)).unwrap();
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut from_client, &mut to_server);
                to_server.shutdown(std::net::Shutdown::Write)
            });
            let left = left.clone();
            thread::spawn(move || drop(pass_until_cut(server, client, &left)));
        }
    });
    port
}

fn pass_until_cut(mut server: TcpStream, mut client: TcpStream, left: &AtomicI64) -> std::io::Result<()> {
    let mut buffer = [0; 65536];
    loop {
        let n = server.read(&mut buffer)?;
        if n == 0 {
            return client.shutdown(std::net::Shutdown::Write);
        }
        let before = left.load(Ordering::SeqCst);
        if before >= 0 && usize::try_from(before).unwrap() < n {
            left.store(-1, Ordering::SeqCst);
            client.write_all(&buffer[..usize::try_from(before).unwrap()])?;
            // What has been written arrives first.
            thread::sleep(Duration::from_millis(2));
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
            // Both handles are gone with the thread that reads of the client.
            server.shutdown(std::net::Shutdown::Both)?;
            return client.shutdown(std::net::Shutdown::Both);
        }
        if before >= 0 {
            left.fetch_sub(i64::try_from(n).unwrap(), Ordering::SeqCst);
        }
        client.write_all(&buffer[..n])?;
    }
}

/// A server that vanishes after any byte of its answers: the client has whole messages of them, then an error or the end; and the next
/// one is served.
#[test]
fn servers_that_vanish_trap_66() {
    let db = TestDb::with(clusters::shared(), "CREATE TABLE t (n int)");
    let left = Arc::new(AtomicI64::new(-1));
    let port = cut_after(db.cluster().primary_port(), left.clone());
    let name = &db.name;
    let proxy = Setup::config(format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n[server_tls]\nmode = \"disable\"\n\
         [databases.{name}]\nurl = \"postgres://{APP}:{APP_PASSWORD}@127.0.0.1:{port}/{name}\"\n\
         [databases.{name}.pool]\nsize = 1\n[databases.{name}.routing]\nhealth_interval = \"60s\"\n"
    ))
    .start();
    let connect = || RawClient::connect(proxy.port(), APP, APP_PASSWORD, name);
    let conversations = [
        batch().query("INSERT INTO t VALUES (1); SELECT n, 'text' FROM (VALUES (1), (2)) AS v (n)"),
        batch().parse("s", "SELECT $1::int", &[]).describe(b'S', "s").bind("", "s", &[Some("1")]).execute("", 0).sync(),
        batch().query("COPY (SELECT generate_series(1, 5)) TO STDOUT"),
        batch().query("SELECT 1/0"),
        batch().query("BEGIN").query("SELECT 1").query("SELECT nothing").query("ROLLBACK"),
        batch().query("LISTEN a").query("SELECT 1").query("UNLISTEN *"),
    ];
    for (number, conversation) in conversations.iter().enumerate() {
        let readies = conversation.readies();
        let mut client = connect();
        client.send(conversation);
        let whole = summary(&client.recv_ready(readies));
        for cut in 0.. {
            let mut client = connect();
            client.set_timeout(Duration::from_secs(15));
            assert_eq!(client.value("SELECT 'warm' FROM (VALUES (1)) AS x FOR UPDATE"), "warm");
            left.store(cut, Ordering::SeqCst);
            client.send(conversation);
            let mut frames = Vec::new();
            while frames.iter().filter(|frame: &&support::frames::Frame| frame.tag == b'Z').count() < readies {
                match client.try_recv() {
                    Ok(frame) => frames.push(frame),
                    Err(error) => {
                        assert!(
                            !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
                            "{number}, {cut}: {frames:?}"
                        );
                        break;
                    }
                }
            }
            let was_cut = left.swap(-1, Ordering::SeqCst) == -1;
            if let Some(last) = frames.last().filter(|last| last.tag == b'E') {
                assert!(["08006", "08007"].contains(&&*last.sqlstate()), "{number}, {cut}: {frames:?}");
                frames.pop();
            }
            let told = summary(&frames);
            assert!(whole.starts_with(&told), "{number}, {cut}: {told} of {whole}");
            if !was_cut {
                break;
            }
        }
    }
}
