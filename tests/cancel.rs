//! Cancel requests: they reach the query of exactly this client. Tests name the traps that they show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use support::clusters::{self, APP, APP_PASSWORD, TestDb};
use support::frames::{Batch, Frame, tags};
use support::process::{Setup, Trunkline};
use support::raw::RawClient;
use support::world::{Plan, World};

fn world(pool: &str) -> World {
    Plan { pool, ..Plan::default() }.start()
}

fn batch() -> Batch {
    Batch::new()
}

fn pause() {
    thread::sleep(Duration::from_millis(150));
}

fn code(frames: &[Frame]) -> String {
    frames.iter().find(|frame| frame.tag == b'E').unwrap_or_else(|| panic!("{frames:?}")).sqlstate()
}

#[test]
fn a_cancel_reaches_this_clients_query_trap_63() {
    let world = world("size = 3");
    let port = world.proxy.port();
    let mut clients: Vec<_> = (0..3).map(|_| world.client()).collect();
    let sleeps = [
        batch().query("SELECT pg_sleep(0.8), 'write' FOR UPDATE"),
        batch().query("SELECT pg_sleep(0.8)"),
        batch().run("SELECT pg_sleep(0.8)", &[]).sync(),
    ];
    for (victim, sleep) in sleeps.iter().enumerate() {
        let began = Instant::now();
        for client in &mut clients {
            client.send(sleep);
        }
        pause();
        clients[victim].cancel(port);
        let frames = clients[victim].recv_ready(1);
        assert_eq!(code(&frames), "57014");
        assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
        for (number, client) in clients.iter_mut().enumerate() {
            if number != victim {
                assert!(tags(&client.recv_ready(1)).ends_with("DCZ"), "the others run on");
            }
        }
    }
    // In a transaction, which then is a failed one.
    let client = &mut clients[0];
    client.exchange(&batch().query("BEGIN"));
    client.send(&batch().query("SELECT pg_sleep(20)"));
    pause();
    client.cancel(port);
    let frames = client.recv_ready(1);
    assert_eq!((code(&frames).as_str(), frames.last().unwrap().body.as_slice()), ("57014", &b"E"[..]));
    client.exchange(&batch().query("ROLLBACK"));
    // In COPY.
    client.exchange(&batch().query("CREATE TABLE c (v text)"));
    client.send(&batch().query("COPY c FROM STDIN"));
    client.recv_frames(1);
    client.cancel(port);
    // A server that waits for data looks at the request when there is some.
    client.send(&batch().copy_data(b"x\n"));
    assert_eq!(code(&client.recv_ready(1)), "57014");
    assert_eq!(client.value("SELECT 'goes on'"), "goes on");
}

#[test]
fn a_late_cancel_reaches_nobody_trap_63() {
    let world = world("size = 1");
    let port = world.proxy.port();
    let victim = world.client();
    let mut racer = world.client();
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        // Over and over, whether something runs or not, while another client uses the same connection.
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                victim.cancel(port);
            }
        });
        let other = scope.spawn(|| {
            let mut other = world.client();
            for round in 0..300 {
                let frames = other.exchange(
                    &batch().query("SELECT count(*) FROM generate_series(1, 20000) /* long enough to be hit */"),
                );
                assert_eq!(tags(&frames), "TDCZ", "round {round}: {frames:?}");
            }
        });
        other.join().unwrap();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(racer.value("SELECT 1"), "1");
    // The same while the victim's own short queries come and go: only they may be hit.
    let mut victim = victim;
    let key = victim.key.clone();
    stop.store(false, std::sync::atomic::Ordering::Relaxed);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                send_cancel(port, &key);
            }
        });
        let other = scope.spawn(|| {
            let mut other = world.client();
            for round in 0..300 {
                let frames = other.exchange(&batch().query("SELECT count(*) FROM generate_series(1, 5000)"));
                assert_eq!(tags(&frames), "TDCZ", "round {round}: {frames:?}");
            }
        });
        for _ in 0..300 {
            let frames = victim.exchange(&batch().query("SELECT count(*) FROM generate_series(1, 5000)"));
            assert!(tags(&frames) == "TDCZ" || code(&frames) == "57014", "{frames:?}");
        }
        other.join().unwrap();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

fn send_cancel(port: u16, key: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let length = i32::try_from(key.len() + 8).unwrap();
    let head = [length.to_be_bytes(), 80_877_102_i32.to_be_bytes()].concat();
    stream.write_all(&[&head, key].concat()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty(), "never answered");
}

#[test]
fn a_client_that_waits_is_cancelled_trap_64() {
    let world = world("size = 1");
    let port = world.proxy.port();
    let mut holder = world.client();
    let mut waiter = world.client();
    // BEGIN alone takes no connection yet.
    holder.rows("BEGIN");
    holder.rows("SELECT 0 FOR UPDATE");
    for (messages, wanted) in [
        (batch().query("SELECT 1 FOR UPDATE"), "EZ"),
        (batch().parse("", "SELECT 1 FOR UPDATE", &[]).bind("", "", &[]).execute("", 0).sync(), "EZ"),
    ] {
        waiter.send(&messages);
        assert!(waiter.is_silent_for(Duration::from_millis(150)));
        waiter.cancel(port);
        let frames = waiter.recv_ready(1);
        assert_eq!(tags(&frames), wanted);
        assert_eq!(code(&frames), "57014");
    }
    assert_eq!(holder.value("SELECT 'untouched'"), "untouched");
    // The next of a pipeline waits in its turn.
    waiter.send(
        &batch().query("SELECT 1 FOR UPDATE").query("SELECT 2 FOR UPDATE").run("SELECT 3 FOR UPDATE", &[]).sync(),
    );
    pause();
    waiter.cancel(port);
    assert_eq!(code(&waiter.recv_ready(1)), "57014");
    assert!(waiter.is_silent_for(Duration::from_millis(150)));
    holder.exchange(&batch().query("COMMIT"));
    assert_eq!(tags(&waiter.recv_ready(2)), "TDCZ12TDCZ");
    // No place in the line is left behind.
    holder.rows("BEGIN");
    holder.rows("SELECT 0 FOR UPDATE");
    waiter.send(&batch().query("SELECT 1 FOR UPDATE"));
    pause();
    waiter.cancel(port);
    waiter.recv_ready(1);
    holder.exchange(&batch().query("COMMIT"));
    assert_eq!(holder.value("SELECT 4 FOR UPDATE"), "4");
    assert_eq!(waiter.value("SELECT 5 FOR UPDATE"), "5");
}

/// How often a client that has asked already must ask again before its statement is cancelled. A server ignores a request that finds
/// it between statements, also when it has the next one and was not given the time to look at it: on a busy machine that happens,
/// with and without a proxy.
fn requests_until_cancelled(client: &mut RawClient, port: u16) -> usize {
    let mut lost = 0;
    while client.is_silent_for(Duration::from_secs(2)) {
        lost += 1;
        client.cancel(port);
    }
    assert_eq!(code(&client.recv_ready(1)), "57014");
    lost
}

/// Requests that come while connections change hands: of whoever had one, and of those who wait for it.
#[test]
fn a_cancel_is_not_lost_when_a_connection_changes_hands_trap_64() {
    let world = world("size = 1");
    let port = world.proxy.port();
    let mut clients: Vec<_> = (0..8).map(|_| world.client()).collect();
    for client in &mut clients {
        client.exchange(&batch().parse("sleep", "SELECT pg_sleep(60)", &[]).sync());
    }
    let sleep = batch().bind("", "sleep", &[]).execute("", 0).sync();
    let mut lost = 0;
    for _ in 0..25 {
        for client in &mut clients {
            client.send(&sleep);
        }
        // Until some run and the others wait.
        thread::sleep(Duration::from_millis(20));
        thread::scope(|scope| {
            for client in &clients {
                let key = client.key.clone();
                scope.spawn(move || send_cancel(port, &key));
            }
        });
        for client in &mut clients {
            lost += requests_until_cancelled(client, port);
        }
    }
    assert!(lost <= 5, "{lost} of 200 requests were lost");
}

/// The first request may have struck what ran before: the second is not the same once more.
#[test]
fn of_two_cancels_at_once_the_second_counts_trap_64() {
    let world = world("size = 1");
    let port = world.proxy.port();
    let mut client = world.client();
    client.exchange(&batch().query("BEGIN; SELECT 1 FOR UPDATE; SAVEPOINT s"));
    let mut lost = 0;
    for _ in 0..20 {
        let key = client.key.clone();
        let first = thread::spawn(move || send_cancel(port, &key));
        client.send(&batch().query("SELECT pg_sleep(60)"));
        thread::sleep(Duration::from_millis(5));
        send_cancel(port, &client.key);
        lost += requests_until_cancelled(&mut client, port);
        first.join().unwrap();
        client.exchange(&batch().query("ROLLBACK TO s"));
    }
    assert!(lost <= 3, "{lost} of 20 requests were lost");
}

#[test]
fn cancels_that_mean_nothing() {
    let world = world("size = 2");
    let port = world.proxy.port();
    let mut client = world.client();
    // Idle, and idle in a transaction.
    client.cancel(port);
    assert_eq!(client.value("SELECT 1"), "1");
    client.exchange(&batch().query("BEGIN; SELECT 1"));
    client.cancel(port);
    assert_eq!(client.value("SELECT 2"), "2");
    client.exchange(&batch().query("COMMIT"));
    // Wrong secrets, unknown process ids, keys of other lengths.
    client.send(&batch().query("SELECT pg_sleep(1)"));
    pause();
    let key = client.key.clone();
    let mut wrong = key.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let mut unknown = key.clone();
    unknown[3] ^= 1;
    for bad in [wrong, unknown, [key.clone(), vec![0; 28]].concat(), key[..4].iter().chain(&[0; 8]).copied().collect()]
    {
        send_cancel(port, &bad);
    }
    // Keys of lengths that no server gives: PostgreSQL closes without a word, too (trap 65).
    for length in [0, 4, 7, 4 + 257] {
        send_cancel(port, &key.iter().copied().cycle().take(length).collect::<Vec<_>>());
    }
    assert_eq!(tags(&client.recv_ready(1)), "TDCZ");
}

#[test]
fn long_keys_of_protocol_3_2_trap_65() {
    let world = world("size = 2");
    let port = world.proxy.port();
    let mut client = RawClient::tcp(port);
    let mut packet = 196_610_i32.to_be_bytes().to_vec();
    for text in ["user", APP, "database", &world.db.name] {
        packet.extend_from_slice(text.as_bytes());
        packet.push(0);
    }
    packet.push(0);
    let length = u32::try_from(packet.len() + 4).unwrap();
    client.send_bytes(&[&length.to_be_bytes()[..], &packet].concat());
    client.authenticate(APP, APP_PASSWORD).unwrap();
    for frame in client.recv_ready(1) {
        if frame.tag == b'K' {
            client.key = frame.body;
        }
    }
    assert_eq!(client.key.len(), 4 + 32);
    client.send(&batch().query("SELECT pg_sleep(20)"));
    pause();
    client.cancel(port);
    assert_eq!(code(&client.recv_ready(1)), "57014");
}

#[test]
fn a_cancel_reaches_the_server_that_has_the_statement_of_several_hosts() {
    let db = TestDb::new(clusters::shared());
    // Nobody is there when the connection is made, and somebody when it is cancelled.
    let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = first.local_addr().unwrap();
    drop(first);
    let (name, port) = (&db.name, db.cluster().primary_port());
    let proxy = Setup::config(format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n\
         [databases.{name}]\nurl = \"postgres://{APP}:{APP_PASSWORD}@127.0.0.1:{},127.0.0.1:{port}/{name}\"\n",
        address.port()
    ))
    .start();
    let mut client = RawClient::connect(proxy.port(), APP, APP_PASSWORD, name);
    client.send(&Batch::new().query("SELECT pg_sleep(20)"));
    thread::sleep(Duration::from_millis(300));
    let _first = std::net::TcpListener::bind(address).unwrap();
    client.cancel(proxy.port());
    client.set_timeout(Duration::from_secs(10));
    let frames = client.recv_ready(1);
    assert!(frames.iter().any(|frame| frame.tag == b'E' && frame.sqlstate() == "57014"), "{frames:?}");
}

/// Passes connections on to a server; of cancel requests it says when they have come, and passes them on when it is told to.
fn hold_cancels(target: u16) -> (u16, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (came, coming) = mpsc::channel();
    let (go, going) = mpsc::channel();
    let going = Arc::new(Mutex::new(going));
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let (came, going) = (came.clone(), going.clone());
            thread::spawn(move || {
                let mut first = [0; 8];
                client.read_exact(&mut first).ok()?;
                if first[4..] == 80_877_102_i32.to_be_bytes() {
                    came.send(()).ok()?;
                    going.lock().unwrap().recv().ok()?;
                }
                let mut server = TcpStream::connect(("127.0.0.1", target)).ok()?;
                server.write_all(&first).ok()?;
                let (mut from_server, mut to_client) = (server.try_clone().ok()?, client.try_clone().ok()?);
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from_server, &mut to_client);
                    to_client.shutdown(Shutdown::Both)
                });
                let _ = std::io::copy(&mut client, &mut server);
                server.shutdown(Shutdown::Write).ok()
            });
        }
    });
    (port, coming, go)
}

/// The program before a server at this port, with one connection.
fn proxy_before(port: u16, name: &str) -> Trunkline {
    Setup::config(format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n[server_tls]\nmode = \"disable\"\n\
         [databases.{name}]\nurl = \"postgres://{APP}:{APP_PASSWORD}@127.0.0.1:{port}/{name}\"\n\
         [databases.{name}.pool]\nsize = 1\n"
    ))
    .start()
}

/// A server, or what stands before it, that reads a cancel request later than anybody waits for it.
#[test]
fn a_cancel_that_comes_too_late_finds_nobody_elses_statement_trap_63() {
    let db = TestDb::new(clusters::shared());
    let (port, coming, go) = hold_cancels(db.cluster().primary_port());
    let name = &db.name;
    let proxy = proxy_before(port, name);
    let connect = || {
        let mut client = RawClient::connect(proxy.port(), APP, APP_PASSWORD, name);
        client.set_timeout(Duration::from_secs(20));
        client
    };
    let (mut client, mut other) = (connect(), connect());
    client.send(&batch().query("SELECT pg_sleep(0.3)"));
    thread::sleep(Duration::from_millis(100));
    let key = client.key.clone();
    let proxy_port = proxy.port();
    let cancelling = thread::spawn(move || send_cancel(proxy_port, &key));
    coming.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(tags(&client.recv_ready(1)), "TDCZ");
    // Nobody gets the connection before the request is given up.
    other.send(&batch().query("SELECT pg_sleep(2), 'mine'"));
    cancelling.join().unwrap();
    thread::sleep(Duration::from_millis(500));
    go.send(()).unwrap();
    let frames = other.recv_ready(1);
    assert_eq!(tags(&frames), "TDCZ", "{frames:?}");
}

/// The client has been answered, its connection waits for a request that is on its way: what it asks for meanwhile can be cancelled.
#[test]
fn a_cancel_while_another_one_is_on_its_way_trap_64() {
    let db = TestDb::new(clusters::shared());
    let name = &db.name;
    for listens in [false, true] {
        let (port, coming, go) = hold_cancels(db.cluster().primary_port());
        let proxy = proxy_before(port, name);
        let mut client = RawClient::connect(proxy.port(), APP, APP_PASSWORD, name);
        if listens {
            client.exchange(&batch().query("LISTEN a"));
        }
        client.send(&batch().query("SELECT pg_sleep(0.2)"));
        thread::sleep(Duration::from_millis(100));
        let (key, proxy_port) = (client.key.clone(), proxy.port());
        let cancel = || {
            let key = key.clone();
            thread::spawn(move || send_cancel(proxy_port, &key))
        };
        let first = cancel();
        coming.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!(tags(&client.recv_ready(1)), "TDCZ");
        let began = Instant::now();
        client.send(&batch().query("SELECT pg_sleep(5)"));
        thread::sleep(Duration::from_millis(100));
        let second = cancel();
        thread::sleep(Duration::from_millis(100));
        assert!(!second.is_finished(), "what is asked for when it has ended is not meant");
        go.send(()).unwrap();
        // Of the second one, should it be sent to the server, too.
        go.send(()).unwrap();
        let frames = client.recv_ready(1);
        assert_eq!(code(&frames), "57014", "{frames:?}");
        assert!(began.elapsed() < Duration::from_secs(3));
        [first, second].into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Passes connections on to a server, but what has this text in it: that is answered, once, as a server does that is cancelled.
fn strike(target: u16, text: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let struck = Arc::new(Mutex::new(false));
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let struck = struck.clone();
            thread::spawn(move || {
                let mut server = TcpStream::connect(("127.0.0.1", target)).ok()?;
                let (mut from_server, mut to_client) = (server.try_clone().ok()?, client.try_clone().ok()?);
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from_server, &mut to_client);
                    to_client.shutdown(Shutdown::Both)
                });
                let mut buffer = [0; 16384];
                loop {
                    let n = client.read(&mut buffer).ok().filter(|n| *n > 0)?;
                    let has_it = buffer[..n].windows(text.len()).any(|part| part == text.as_bytes());
                    let mut struck = struck.lock().unwrap();
                    if has_it && !*struck {
                        *struck = true;
                        let error = b"SERROR\0VERROR\0C57014\0Mcanceling statement due to user request\0\0";
                        let mut answer = batch().raw(b'E', error);
                        if text != "BEGIN" {
                            answer = answer.raw(b'Z', b"I");
                        }
                        client.write_all(answer.bytes()).ok()?;
                        continue;
                    }
                    server.write_all(&buffer[..n]).ok()?;
                }
                #[allow(unreachable_code)]
                Some(())
            });
        }
    });
    port
}

/// Nor where what comes with the block could not simply be sent once more.
#[test]
fn a_cancel_that_strikes_a_block_which_has_not_begun_trap_28() {
    let db = TestDb::new(clusters::shared());
    let name = &db.name;
    let run = |sql: &str| batch().run(sql, &[]);
    for (first, said) in [
        (batch().query("LISTEN a"), "EZ"),
        (batch().query("CREATE TEMP TABLE a (n int)"), "EZ"),
        (batch().query("SET work_mem = '5MB'"), "EZ"),
        (run("LISTEN a").sync(), "EZ"),
        (run("SET work_mem = '5MB'").flush().sync(), "EZ"),
        (batch().parse("s", "LISTEN a", &[]).bind("", "s", &[]).execute("", 0).run("SELECT 1", &[]).sync(), "EZ"),
    ] {
        let proxy = proxy_before(strike(db.cluster().primary_port(), "BEGIN"), name);
        let mut client = RawClient::connect(proxy.port(), APP, APP_PASSWORD, name);
        assert_eq!(tags(&client.exchange(&batch().query("LISTEN b"))), "CZ");
        // The only connection is free of what LISTEN left there: BEGIN is kept back, and goes with the block's first statement.
        assert_eq!(RawClient::connect(proxy.port(), APP, APP_PASSWORD, name).value("SELECT 1"), "1");
        assert_eq!(tags(&client.exchange(&batch().query("BEGIN"))), "CZ");
        let frames = client.exchange(&first);
        assert_eq!((tags(&frames).as_str(), code(&frames).as_str()), (said, "57014"), "{frames:?}");
        assert_eq!(frames.last().unwrap().body, b"E");
        assert_eq!(client.failure("SELECT 1"), "25P02");
        assert_eq!(tags(&client.exchange(&batch().query("ROLLBACK"))), "CZ");
        assert_eq!(client.value("SHOW work_mem"), "4MB");
        assert_eq!(client.value("SELECT string_agg(c, ' ') FROM pg_listening_channels() AS c"), "b");
        for sql in ["BEGIN", "LISTEN a", "NOTIFY a", "COMMIT"] {
            assert!(!tags(&client.exchange(&batch().query(sql))).contains('E'), "{sql}");
        }
        let channels = "SELECT string_agg(c, ' ' ORDER BY c) FROM pg_listening_channels() AS c";
        assert_eq!(client.value(channels), "a b");
    }
}

/// A request that strikes a statement of the proxy's own is not the end of the session.
#[test]
fn a_cancel_that_strikes_what_the_client_has_not_asked_for() {
    let db = TestDb::new(clusters::shared());
    let name = &db.name;
    for (text, listens) in [("BEGIN", false), ("UNLISTEN *", true)] {
        eprintln!("{text}, {listens}");
        let port = strike(db.cluster().primary_port(), text);
        let proxy = proxy_before(port, name);
        let mut client = RawClient::connect(proxy.port(), APP, APP_PASSWORD, name);
        if listens {
            assert_eq!(tags(&client.exchange(&batch().query("LISTEN a"))), "CZ");
        }
        for _ in 0..2 {
            assert_eq!(tags(&client.exchange(&batch().query("BEGIN"))), "CZ");
            assert_eq!(client.value("SELECT 'in a block' FOR UPDATE"), "in a block", "{text}");
            assert_eq!(tags(&client.exchange(&batch().query("COMMIT"))), "CZ");
            let channels = client.value("SELECT count(*) FROM pg_listening_channels()");
            assert_eq!(channels, u8::from(listens).to_string());
            let mut other = RawClient::connect(proxy.port(), APP, APP_PASSWORD, name);
            assert_eq!(other.value("SELECT count(*) FROM pg_listening_channels()"), "0", "{text}");
        }
    }
}
