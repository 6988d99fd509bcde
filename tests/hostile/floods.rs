//! More of everything than there is room for.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::clusters::{APP, APP_PASSWORD};
use crate::support::frames::{Batch, tags};
use crate::support::raw::RawClient;
use crate::support::world::{Plan, World};
use crate::{descriptors, processor_time, resident, unharmed, until};

fn cancel_packet(key: &[u8]) -> Vec<u8> {
    [&u32::try_from(8 + key.len()).unwrap().to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), key].concat()
}

/// Sends a cancel request and does not wait for anything.
fn cancel(port: u16, key: &[u8]) {
    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
        let _ = stream.write_all(&cancel_packet(key));
    }
}

/// Runs a statement again and again on a connection that was there before, and says how long the slowest took.
fn slowest_while<T>(client: &mut RawClient, work: impl FnOnce() -> T + Send) -> (T, Duration, usize)
where
    T: Send,
{
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let working = scope.spawn(|| {
            let result = work();
            done.store(true, Ordering::Release);
            result
        });
        let (mut slowest, mut served) = (Duration::ZERO, 0);
        while !done.load(Ordering::Acquire) {
            let began = Instant::now();
            assert_eq!(client.value("SELECT 1"), "1");
            slowest = slowest.max(began.elapsed());
            served += 1;
            thread::sleep(Duration::from_millis(2));
        }
        (working.join().unwrap(), slowest, served)
    })
}

#[test]
fn a_flood_of_cancel_requests_trap_64() {
    let world = Plan { pool: "size = 4", ..Plan::default() }.start();
    let port = world.proxy.port();
    let mut bystander = world.client();
    bystander.value("SELECT 1");
    let (before, open) = (resident(&world), descriptors(&world));
    let mut victim = world.client();
    let key = victim.key.clone();
    let mut wrong = key.clone();
    *wrong.last_mut().unwrap() ^= 1;
    victim.send(&Batch::new().query("SELECT pg_sleep(30)"));
    let ((), slowest, served) = slowest_while(&mut bystander, || {
        for number in 0..3_000 {
            cancel(port, if number % 3 == 0 { &key } else { &wrong });
        }
    });
    eprintln!("3000 cancel requests: {served} statements of another client, the slowest {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert_eq!(victim.recv_ready(1).iter().find(|frame| frame.tag == b'E').unwrap().sqlstate(), "57014");
    until("all of them are done", || descriptors(&world) <= open + 6);
    // Up to six of them may be on their way still.
    let mut last = 0;
    until("nothing moves any more", || {
        thread::sleep(Duration::from_millis(500));
        std::mem::replace(&mut last, descriptors(&world)) == last
    });
    let held = resident(&world).saturating_sub(before);
    assert!(held < 20 * 1024, "{held} KiB");
    // None of them is left to hit what comes next.
    for _ in 0..20 {
        assert_eq!(victim.value("SELECT 2"), "2");
    }
    unharmed(&world, &mut bystander);
}

#[test]
fn thousands_of_connections_a_second() {
    let world = Plan { general: "max_clients = 50", ..Plan::default() }.start();
    let port = world.proxy.port();
    let mut bystander = world.client();
    bystander.value("SELECT 1");
    let (before, open) = (resident(&world), descriptors(&world));
    let made = AtomicUsize::new(0);
    let ((), slowest, served) = slowest_while(&mut bystander, || {
        let end = Instant::now() + Duration::from_secs(3);
        thread::scope(|scope| {
            for kind in 0..4 {
                let (made, name) = (&made, &world.db.name);
                scope.spawn(move || {
                    let startup = startup(name);
                    while Instant::now() < end {
                        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                        made.fetch_add(1, Ordering::Relaxed);
                        let said: &[u8] = match kind {
                            0 => b"",
                            1 => b"\0\0\0\x08\x04\xd2\x16\x2f",
                            2 => &startup,
                            _ => b"\x7f\xff\xff\xffgarbage",
                        };
                        let _ = stream.write_all(said);
                        if kind == 2 {
                            let _ = stream.read(&mut [0; 64]);
                        }
                    }
                });
            }
        });
    });
    let made = made.into_inner();
    eprintln!("{made} connections in 3 s: {served} statements of another client, the slowest {slowest:?}");
    assert!(made > 3_000, "{made}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    until("all of them are gone", || descriptors(&world) <= open + 4);
    let held = resident(&world).saturating_sub(before);
    assert!(held < 30 * 1024, "{held} KiB");
    unharmed(&world, &mut bystander);
}

fn startup(database: &str) -> Vec<u8> {
    let mut packet = 196_608_u32.to_be_bytes().to_vec();
    packet.extend(format!("user\0{APP}\0database\0{database}\0\0").bytes());
    [&u32::try_from(packet.len() + 4).unwrap().to_be_bytes()[..], &packet].concat()
}

/// How the nodes of the world are, as the metrics have them.
fn nodes_up(world: &World) -> f64 {
    world.counter("trunkline_node_up", &[])
}

#[test]
fn descriptors_run_out_and_come_back_trap_80() {
    let world = Plan {
        general: "workers = 2",
        pool: "size = 4\nmin_size = 1",
        under: &["prlimit", "--nofile=90:90"],
        ..Plan::default()
    }
    .start();
    let port = world.proxy.port();
    let mut bystander = world.client();
    bystander.value("SELECT 1");
    bystander.value("SELECT 1 FOR UPDATE");
    until("all nodes are up", || nodes_up(&world) == 3.0);
    // Connections that say nothing take every descriptor that is left, and more wait behind them.
    let mut idle: Vec<_> = (0..150).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    until("no descriptor is left", || descriptors(&world) >= 88);
    let used = processor_time(&world);
    let end = Instant::now() + Duration::from_secs(3);
    let mut slowest = Duration::ZERO;
    while Instant::now() < end {
        let began = Instant::now();
        assert_eq!(bystander.value("SELECT 'reads'"), "reads");
        assert_eq!(bystander.value("SELECT 'writes' FOR UPDATE"), "writes");
        slowest = slowest.max(began.elapsed());
        thread::sleep(Duration::from_millis(50));
    }
    let used = processor_time(&world) - used;
    eprintln!("3 s without a descriptor: {used:?} of processor time, the slowest pair of statements {slowest:?}");
    assert!(used < Duration::from_millis(900), "it spins: {used:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    idle.clear();
    // Nobody takes our lack of descriptors for a failure of the nodes.
    let mut client = RawClient::tcp(port);
    client.login(APP_PASSWORD, &[("user", APP), ("database", &world.db.name)]).unwrap();
    assert_eq!(tags(&client.exchange(&Batch::new().query("SELECT 1"))), "TDCZ");
    assert_eq!(nodes_up(&world), 3.0, "{}", world.proxy.log());
    let log = world.proxy.log();
    let told = log.lines().filter(|line| line.contains("cannot accept a client")).count();
    assert!((1..=20).contains(&told), "told {told} times");
    unharmed(&world, &mut bystander);
}
