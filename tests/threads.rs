//! Worker threads that have unlike shares: all busy clients on one, all server connections opened by another. Limits, the hand-over
//! of connections, the order of those who wait, and clients that leave, against a real server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::clusters::APP;
use support::frames::{Batch, tags};
use support::raw::RawClient;
use support::world::{Plan, World};

/// The time of the server in microseconds: on one connection, an order of statements.
const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

fn start(workers: usize, pool_size: usize) -> World {
    Plan {
        general: &format!("workers = {workers}"),
        pool: &format!("size = {pool_size}"),
        tables: &format!("[admin]\nadmin_users = [\"{APP}\"]"),
        primary_only: true,
        ..Plan::default()
    }
    .start()
}

/// How often each worker has gone to sleep until now.
fn sleeps(world: &World) -> Vec<u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", world.proxy.pid())).unwrap();
    let by_number = |task: fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let number: usize = name.trim_end().strip_prefix("worker-")?.parse().ok()?;
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        Some((number, line.trim().parse().ok()?))
    };
    let mut all: Vec<(usize, u64)> = tasks.filter_map(|task| by_number(task.ok()?)).collect();
    all.sort_unstable();
    all.into_iter().map(|(_, count)| count).collect()
}

/// How often each worker goes to sleep while a client runs a statement over and over, until these workers have done so often. One
/// that finds the next statement there already does not.
fn wakes(world: &World, client: &mut RawClient, sql: &str, enough: impl Fn(&[u64]) -> bool) -> Vec<u64> {
    let before = sleeps(world);
    let mut woken = Vec::new();
    for _ in 0..100 {
        (0..60).for_each(|_| drop(client.rows(sql)));
        woken = sleeps(world).iter().zip(&before).map(|(after, before)| after - before).collect();
        if enough(&woken) {
            return woken;
        }
    }
    panic!("{sql}: {woken:?}");
}

/// The worker that a client was dealt to: the only one that wakes for what is answered without a server.
fn worker_of(world: &World, client: &mut RawClient) -> usize {
    let woken = wakes(world, client, "SHOW server_version", |woken| woken.iter().any(|count| *count >= 40));
    let most = woken.iter().copied().max().unwrap();
    let rest = woken.iter().sum::<u64>() - most;
    assert!(rest <= most / 3, "{woken:?}");
    woken.iter().position(|count| *count == most).unwrap()
}

/// As many clients on each worker as are wanted there.
fn clients(world: &World, wanted: &[usize]) -> Vec<Vec<RawClient>> {
    let mut all: Vec<Vec<RawClient>> = wanted.iter().map(|_| Vec::new()).collect();
    for _ in 0..100 {
        if all.iter().zip(wanted).all(|(there, wanted)| there.len() >= *wanted) {
            all.iter_mut().zip(wanted).for_each(|(there, wanted)| there.truncate(*wanted));
            return all;
        }
        let mut client = world.client();
        let worker = worker_of(world, &mut client);
        all[worker].push(client);
    }
    panic!("clients by worker: {:?}, not {wanted:?}", all.iter().map(Vec::len).collect::<Vec<_>>());
}

/// Waits until so many clients stand in the pool's line.
fn wait_for_line(world: &World, console: &mut RawClient, length: usize) {
    let sql = format!("SELECT cl_waiting FROM pools_extended WHERE database = '{}' AND user = '{APP}'", world.db.name);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let there = console.value(&sql);
        if there == length.to_string() {
            return;
        }
        assert!(Instant::now() < deadline, "{there} wait, not {length}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until the pool has no more connections than this.
fn wait_for_connections(world: &World, most: usize) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while world.server_connections_of_pool() > most {
        assert!(Instant::now() < deadline, "more than {most} connections");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Takes a server connection: its process number.
fn begin(client: &mut RawClient) -> String {
    let frames = client.exchange(&Batch::new().query("BEGIN; SELECT pg_backend_pid()"));
    assert_eq!(tags(&frames), "CTDCZ");
    frames[2].columns()[0].clone().unwrap()
}

fn commit(client: &mut RawClient) {
    assert_eq!(tags(&client.exchange(&Batch::new().query("COMMIT"))), "CZ");
}

fn ask(client: &mut RawClient, sql: &str) {
    client.send(&Batch::new().query(sql));
}

fn answer(client: &mut RawClient) -> String {
    let frames = client.recv_ready(1);
    assert_eq!(tags(&frames), "TDCZ", "{frames:?}");
    frames[1].columns()[0].clone().unwrap()
}

/// Lets all clients run statements at once: the server connections that these ran on. Meanwhile never more are open than `most`.
fn hammer(world: &World, clients: &mut [RawClient], statements: usize, most: usize) -> BTreeSet<String> {
    let running = AtomicUsize::new(clients.len());
    thread::scope(|scope| {
        let busy: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                let running = &running;
                scope.spawn(move || {
                    let pids: BTreeSet<_> = (0..statements).map(|_| client.value("SELECT pg_backend_pid()")).collect();
                    running.fetch_sub(1, Ordering::Relaxed);
                    pids
                })
            })
            .collect();
        while running.load(Ordering::Relaxed) > 0 && !busy.iter().all(|client| client.is_finished()) {
            let open = world.server_connections_of_pool();
            assert!(open <= most, "{open} connections");
            thread::sleep(Duration::from_millis(10));
        }
        busy.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

#[test]
fn connections_that_one_thread_opened_serve_the_clients_of_another() {
    for workers in [2, 3] {
        let world = start(workers, 4);
        let mut clients = clients(&world, &[&[4, 6][..], &vec![0; workers - 2]].concat());
        // The first client's login has opened one, on whatever thread.
        assert!(!tags(&world.console().exchange(&Batch::new().query("RECONNECT"))).contains('E'));
        let opened: BTreeSet<_> = clients[0].iter_mut().map(begin).collect();
        assert_eq!(opened.len(), 4);
        clients[0].iter_mut().for_each(commit);

        // The one that was told to reconnect may take a moment to go.
        wait_for_connections(&world, 4);
        let used = hammer(&world, &mut clients[1], 100, 4);
        assert!(used.is_subset(&opened), "{used:?} of {opened:?}");
        assert_eq!(world.server_connections_of_pool(), 4);

        // They are still at home where they were opened: that thread wakes when a server has answered, no third one does.
        let woken = wakes(&world, &mut clients[1][0], "SELECT 1", |woken| woken[0] >= 60 && woken[1] >= 60);
        assert!(woken[2..].iter().all(|count| *count <= 20), "{woken:?}");
    }
}

#[test]
fn threads_share_one_limit() {
    for workers in [2, 3] {
        let world = start(workers, 3);
        let by_worker = clients(&world, &vec![5; workers]);
        let mut all: Vec<_> = by_worker.into_iter().flatten().collect();
        let used = hammer(&world, &mut all, 60, 3);
        assert!(used.len() <= 3, "{used:?}");
    }
}

#[test]
fn who_waits_is_served_in_order_whatever_the_thread() {
    for workers in [2, 3] {
        let world = start(workers, 1);
        let mut console = world.console();
        // One more on the first thread, which opens the only connection, then holds it.
        let mut clients = clients(&world, &[&[4][..], &vec![3; workers - 1]].concat());
        let mut holder = clients[0].pop().unwrap();
        // In turn by thread: 0, 1, …, 0, 1, …
        let mut line: Vec<_> = (0..3).flat_map(|_| 0..workers).map(|worker| clients[worker].pop().unwrap()).collect();
        for _ in 0..line.len() {
            begin(&mut holder);
            for (place, client) in line.iter_mut().enumerate() {
                ask(client, NOW);
                wait_for_line(&world, &mut console, place + 1);
            }
            commit(&mut holder);
            let served: Vec<i64> = line.iter_mut().map(|client| answer(client).parse().unwrap()).collect();
            assert!(served.is_sorted(), "{served:?}");
            line.rotate_left(1);
        }
        assert_eq!(world.server_connections_of_pool(), 1);
    }
}

#[test]
fn no_thread_gets_more_than_its_turn() {
    let world = start(2, 2);
    // One client here, seven there: by client, not by thread.
    let by_worker = clients(&world, &[1, 7]);
    let mut all: Vec<_> = by_worker.into_iter().flatten().collect();
    let done = AtomicBool::new(false);
    let served: Vec<usize> = thread::scope(|scope| {
        let busy: Vec<_> = all
            .iter_mut()
            .map(|client| {
                let done = &done;
                scope.spawn(move || {
                    let mut served = 0;
                    while served < 60 && !done.load(Ordering::Relaxed) {
                        client.rows("SELECT pg_sleep(0.005)");
                        served += 1;
                    }
                    done.store(true, Ordering::Relaxed);
                    served
                })
            })
            .collect();
        busy.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert!(served.iter().all(|count| *count >= 30), "{served:?}");
}

#[test]
fn nothing_is_lost_when_a_client_leaves_the_line() {
    let world = start(2, 1);
    let mut console = world.console();
    let sorted = clients(&world, &[3, 2]);
    let [here, there] = <[Vec<RawClient>; 2]>::try_from(sorted).unwrap();
    let [mut holder, mut leaving, mut staying] = <[RawClient; 3]>::try_from(here).unwrap();
    let [mut leaving_too, mut staying_too] = <[RawClient; 2]>::try_from(there).unwrap();
    begin(&mut holder);
    let line = [&mut leaving, &mut leaving_too, &mut staying, &mut staying_too];
    for (place, client) in line.into_iter().enumerate() {
        ask(client, NOW);
        wait_for_line(&world, &mut console, place + 1);
    }
    // The first of each thread leaves.
    leaving.vanish();
    leaving_too.vanish();
    wait_for_line(&world, &mut console, 2);
    commit(&mut holder);
    let served = [answer(&mut staying), answer(&mut staying_too)];
    assert!(served.is_sorted(), "{served:?}");
    assert_eq!(world.server_connections_of_pool(), 1);
}

#[test]
fn nothing_is_lost_when_a_client_leaves_at_the_moment_of_its_turn() {
    let world = start(2, 1);
    let mut console = world.console();
    let mut sorted = clients(&world, &[2, 2]);
    for round in 0..20 {
        let (here, there) = (round % 2, 1 - round % 2);
        // Whoever has fewer sessions now gets the new one; both have two again.
        let mut leaving = world.client();
        let at_once = Barrier::new(2);
        let [first, second] = sorted.get_disjoint_mut([here, there]).unwrap();
        let (holder, staying) = (&mut first[0], &mut second[0]);
        begin(holder);
        ask(&mut leaving, "SELECT 1");
        wait_for_line(&world, &mut console, 1);
        ask(staying, "SELECT 2");
        wait_for_line(&world, &mut console, 2);
        thread::scope(|scope| {
            scope.spawn(|| {
                at_once.wait();
                leaving.vanish();
            });
            at_once.wait();
            commit(holder);
        });
        assert_eq!(answer(staying), "2");
    }
    wait_for_connections(&world, 1);
    // All who are left get it, in turn.
    for client in sorted.iter_mut().flatten() {
        assert_eq!(client.value("SELECT 3"), "3");
    }
}

#[test]
fn a_client_that_never_pauses_leaves_the_others_their_turn() {
    let world = start(1, 2);
    let (busy, mut other) = (world.client(), world.client());
    let question = "SHOW server_version";
    let many = batch_of(question, 2000);
    let stop = AtomicBool::new(false);
    let (mut sends, mut reads) = (busy.writer(), busy.writer());
    let slowest = thread::scope(|scope| {
        // Answered without a server: as much as it can send.
        scope.spawn(|| {
            while sends.write_all(&many).is_ok() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        scope.spawn(|| {
            let mut answers = vec![0; 1 << 20];
            while matches!(reads.read(&mut answers), Ok(n) if n > 0) {}
        });
        thread::sleep(Duration::from_millis(300));
        let probe = |_| {
            let began = Instant::now();
            other.value(question);
            began.elapsed()
        };
        let slowest = (0..10).map(probe).max().unwrap();
        stop.store(true, Ordering::Relaxed);
        busy.writer().shutdown(std::net::Shutdown::Both).unwrap();
        slowest
    });
    assert!(slowest < Duration::from_millis(2500), "{slowest:?}");
}

fn batch_of(sql: &str, count: usize) -> Vec<u8> {
    (0..count).fold(Batch::new(), |batch, _| batch.query(sql)).bytes().to_vec()
}
