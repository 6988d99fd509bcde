//! How many server connections there are: sizes, reserve, and limits over several pools, against a real server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use support::clusters::{self, APP, APP_PASSWORD, OTHER, OTHER_PASSWORD, TestDb};
use support::frames::{Batch, tags};
use support::process::{Setup, Trunkline};
use support::raw::RawClient;
use support::world::{Plan, World};

fn batch() -> Batch {
    Batch::new()
}

/// Server connections of one user on the primary.
fn connections(world: &World, user: &str) -> usize {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = '{user}' AND application_name NOT LIKE 'trunkline%'",
        world.db.name
    );
    world.db.cluster().query(0, "postgres", &sql).unwrap().parse().unwrap()
}

fn other(world: &World) -> RawClient {
    RawClient::connect(world.proxy.port(), OTHER, OTHER_PASSWORD, &world.db.name)
}

fn begin(client: &mut RawClient) {
    assert_eq!(tags(&client.exchange(&batch().query("BEGIN; SELECT 1"))), "CTDCZ");
}

fn commit(client: &mut RawClient) {
    assert_eq!(tags(&client.exchange(&batch().query("COMMIT"))), "CZ");
}

/// Sends a statement and reads its one value: how long that took.
fn timed(client: &mut RawClient) -> Duration {
    let began = Instant::now();
    assert_eq!(client.value("SELECT 7"), "7");
    began.elapsed()
}

#[test]
fn the_reserve_serves_who_has_waited_for_long() {
    let world = Plan {
        pool: "size = 1\nreserve_size = 1\nreserve_timeout = \"400ms\"\nwait_timeout = \"3s\"",
        primary_only: true,
        ..Plan::default()
    }
    .start();
    let (mut holder, mut late, mut third) = (world.client(), world.client(), world.client());
    begin(&mut holder);
    let waited = timed(&mut late);
    assert!(waited >= Duration::from_millis(380) && waited < Duration::from_millis(1500), "{waited:?}");
    // Nobody waits any more: the reserve has gone again.
    world.wait_for(
        &format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = '{APP}' AND application_name NOT LIKE 'trunkline%'", world.db.name),
        "1",
    );
    // The reserve has an end, too.
    begin(&mut late);
    assert_eq!(connections(&world, APP), 2);
    let began = Instant::now();
    assert_eq!(third.failure("SELECT 1"), "57014");
    assert!(began.elapsed() >= Duration::from_millis(2900));
    assert_eq!(connections(&world, APP), 2);
    commit(&mut late);
    commit(&mut holder);
}

#[test]
fn a_user_with_less_patience_than_the_reserve_wants_waits_no_longer_than_that() {
    let world = Plan {
        pool: "size = 1\nreserve_size = 1\nreserve_timeout = \"4s\"\nwait_timeout = \"8s\"",
        user: "pool = { wait_timeout = \"500ms\" }",
        primary_only: true,
        ..Plan::default()
    }
    .start();
    let (mut holder, mut late) = (world.client(), world.client());
    begin(&mut holder);
    let began = Instant::now();
    assert_eq!(late.failure("SELECT 1"), "57014");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn without_a_reserve_nobody_gets_one() {
    let world = Plan { pool: "size = 1\nwait_timeout = \"700ms\"", primary_only: true, ..Plan::default() }.start();
    let (mut holder, mut late) = (world.client(), world.client());
    begin(&mut holder);
    assert_eq!(late.failure("SELECT 1"), "57014");
    assert_eq!(connections(&world, APP), 1);
}

#[test]
fn a_users_size_and_minimum() {
    let world = Plan {
        pool: "size = 4\nwait_timeout = \"300ms\"",
        user: "pool = { size = 1, min_size = 1 }",
        primary_only: true,
        ..Plan::default()
    }
    .start();
    let (mut a, mut b) = (world.client(), world.client());
    begin(&mut a);
    assert_eq!(b.failure("SELECT 1"), "57014", "the user's own size");
    let mut others: Vec<_> = (0..4).map(|_| other(&world)).collect();
    others.iter_mut().for_each(begin);
    assert_eq!(connections(&world, OTHER), 4, "everybody else has the database's");
    commit(&mut a);
}

#[test]
fn the_minimum_is_kept_open_and_comes_back() {
    let world =
        Plan { pool: "size = 5\nmin_size = 3\nidle_timeout = \"300ms\"", primary_only: true, ..Plan::default() }
            .start();
    let mut clients: Vec<_> = (0..5).map(|_| world.client()).collect();
    clients.iter_mut().for_each(begin);
    assert_eq!(connections(&world, APP), 5);
    clients.iter_mut().for_each(commit);
    let count = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = '{APP}' AND application_name NOT LIKE 'trunkline%'",
        world.db.name
    );
    world.wait_for(&count, "3");
    world.db.run(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND usename = '{APP}'",
        world.db.name
    ));
    world.wait_for(&count, "3");
}

#[test]
fn idle_and_old_connections_are_closed_and_zero_is_never_trap_82() {
    let settings = [
        ("lifetime = \"1s\"\nidle_timeout = \"0\"", true),
        ("lifetime = \"0\"\nidle_timeout = \"1s\"", true),
        ("lifetime = \"0\"\nidle_timeout = \"0\"", false),
    ];
    for (pool, closed) in settings {
        let world = Plan { pool, primary_only: true, ..Plan::default() }.start();
        let mut client = world.client();
        let pid = client.value("SELECT pg_backend_pid()");
        assert_eq!(client.value("SELECT pg_backend_pid()"), pid);
        let there = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
        if closed {
            world.wait_for(&there, "0");
        } else {
            thread::sleep(Duration::from_millis(3200));
            assert_eq!(world.db.run(&there), "1");
        }
        let again = client.value("SELECT pg_backend_pid()");
        assert_eq!(again != pid, closed, "{pool}");
    }
}

#[test]
fn max_server_connections_of_a_database_over_all_users() {
    let world = Plan {
        pool: "size = 3\nwait_timeout = \"5s\"",
        database: "max_server_connections = 3",
        primary_only: true,
        ..Plan::default()
    }
    .start();
    // One user's idle connections make way for another user's clients.
    let mut apps: Vec<_> = (0..3).map(|_| world.client()).collect();
    apps.iter_mut().for_each(begin);
    apps.iter_mut().for_each(commit);
    assert_eq!(connections(&world, APP), 3);
    let mut others: Vec<_> = (0..2).map(|_| other(&world)).collect();
    let began = Instant::now();
    others.iter_mut().for_each(begin);
    assert!(began.elapsed() < Duration::from_secs(2), "at once: {:?}", began.elapsed());
    assert_eq!((connections(&world, APP), connections(&world, OTHER)), (1, 2));
    // All are busy: who comes now waits until one comes back, wherever.
    begin(&mut apps[0]);
    apps[1].send(&batch().query("SELECT 'served'"));
    thread::sleep(Duration::from_millis(300));
    assert_eq!(connections(&world, APP) + connections(&world, OTHER), 3, "never more");
    commit(&mut others[0]);
    assert_eq!(tags(&apps[1].recv_ready(1)), "TDCZ");
    assert_eq!(connections(&world, APP) + connections(&world, OTHER), 3);
    commit(&mut others[1]);
    commit(&mut apps[0]);
}

#[test]
fn a_busy_pool_does_not_starve_another_under_the_same_limit() {
    let world = Plan {
        pool: "size = 2\nwait_timeout = \"20s\"",
        database: "max_server_connections = 2",
        primary_only: true,
        ..Plan::default()
    }
    .start();
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut client = world.client();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    client.value("SELECT pg_sleep(0.01) IS NULL");
                }
            });
        }
        thread::sleep(Duration::from_millis(300));
        let mut starving = other(&world);
        let mut slowest = Duration::ZERO;
        for _ in 0..3 {
            slowest = slowest.max(timed(&mut starving));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    });
}

#[test]
fn max_server_connections_of_a_user_over_all_nodes() {
    let world =
        Plan { pool: "size = 5\nwait_timeout = \"500ms\"", user: "max_server_connections = 2", ..Plan::default() }
            .start();
    let mut clients: Vec<_> = (0..3).map(|_| world.client()).collect();
    begin(&mut clients[0]);
    begin(&mut clients[1]);
    assert_eq!(connections(&world, APP), 2);
    assert_eq!(clients[2].failure("SELECT 1 FOR UPDATE"), "57014", "the primary's pool has room, the user has not");
    assert_eq!(connections(&world, APP), 2);
    commit(&mut clients[0]);
    assert_eq!(clients[2].value("SELECT 1 FOR UPDATE"), "1");
    let mut others: Vec<_> = (0..3).map(|_| other(&world)).collect();
    others.iter_mut().for_each(begin);
    assert_eq!(connections(&world, OTHER), 3, "the limit is that user's only");
}

#[test]
fn max_clients_of_a_database_and_of_a_user() {
    let world = Plan { database: "max_clients = 3", user: "max_clients = 2", ..Plan::default() }.start();
    let refused = |user: &str, password: &str| {
        let mut client = RawClient::tcp(world.proxy.port());
        client.login(password, &[("user", user), ("database", &world.db.name)]).unwrap_err()
    };
    let clients = [world.client(), world.client()];
    let error = refused(APP, support::clusters::APP_PASSWORD);
    assert_eq!(error.sqlstate(), "53300");
    assert!(error.field(b'D').unwrap().contains("of the user"), "{error:?}");
    let third = other(&world);
    let error = refused(OTHER, OTHER_PASSWORD);
    assert_eq!(error.sqlstate(), "53300");
    assert!(error.field(b'D').unwrap().contains("of the database"), "{error:?}");
    // Logins at the same time do not get past the limit together.
    drop((clients, third));
    thread::sleep(Duration::from_millis(200));
    let entered: usize = thread::scope(|scope| {
        let attempts: Vec<_> = (0..12)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = RawClient::tcp(world.proxy.port());
                    let parameters = [("user", OTHER), ("database", world.db.name.as_str())];
                    let entered = client.login(OTHER_PASSWORD, &parameters).is_ok();
                    thread::sleep(Duration::from_millis(800));
                    usize::from(entered)
                })
            })
            .collect();
        attempts.into_iter().map(|attempt| attempt.join().unwrap()).sum()
    });
    assert_eq!(entered, 3);
}

#[test]
fn a_waiter_that_gave_up_swallows_nothing_trap_81() {
    let world = Plan { pool: "size = 2\nwait_timeout = \"40ms\"", primary_only: true, ..Plan::default() }.start();
    // What servers report is known from here on: logins need no connection any more.
    let parameters = [("user", APP), ("database", world.db.name.as_str())];
    while RawClient::tcp(world.proxy.port()).login(support::clusters::APP_PASSWORD, &parameters).is_err() {}
    // Many clients whose waits end all the time, by time-out, by a cancel request and by going away; the two connections
    // survive it all.
    thread::scope(|scope| {
        for number in 0..12 {
            let world = &world;
            scope.spawn(move || {
                for round in 0..25 {
                    let mut client = world.client();
                    let pause = if (number + round) % 3 == 0 { 0.06 } else { 0.001 };
                    client.send(&batch().query(&format!("SELECT pg_sleep({pause})")));
                    match (number + round) % 4 {
                        0 => client.vanish(),
                        1 => {
                            client.cancel(world.proxy.port());
                            client.recv_ready(1);
                        }
                        _ => drop(client.recv_ready(1)),
                    }
                }
            });
        }
    });
    let mut clients: Vec<_> = (0..2).map(|_| world.client()).collect();
    thread::sleep(Duration::from_millis(500));
    for client in &mut clients {
        // A connection may have to be opened, which takes longer than this pool's clients wait.
        while client.exchange(&batch().query("BEGIN; SELECT 1"))[0].tag == b'E' {}
    }
    assert_eq!(connections(&world, APP), 2);
    // And never is a busy pool taken for a dead node (trap 83).
    assert!(!world.proxy.log().contains("node is down"), "{}", world.proxy.log());
}

#[test]
fn a_herd_gets_all_its_connections_at_once() {
    let world = Plan { pool: "size = 16", primary_only: true, ..Plan::default() }.start();
    let clients: Vec<_> = (0..16).map(|_| world.client()).collect();
    let began = Instant::now();
    let herd = clients.into_iter().map(|mut client| {
        thread::spawn(move || {
            begin(&mut client);
            client
        })
    });
    let herd: Vec<_> = herd.collect();
    let mut clients: Vec<_> = herd.into_iter().map(|one| one.join().unwrap()).collect();
    // Nobody has given one back meanwhile, and housekeeping comes once a second.
    assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
    assert_eq!(connections(&world, APP), 16);
    clients.iter_mut().for_each(commit);
}

#[test]
fn who_waits_for_the_end_of_a_pause_keeps_no_room_from_others() {
    let port = clusters::shared().primary_port();
    let world = Plan {
        user: "max_server_connections = 2",
        tables: &format!(
            "[admin]\nadmin_users = [\"{APP}\"]\n\
             [[databases.postgres.nodes]]\nname = \"p\"\nrole = \"primary\"\nhost = \"127.0.0.1\"\nport = {port}\n"
        ),
        primary_only: true,
        ..Plan::default()
    }
    .start();
    let mut paused = RawClient::connect(world.proxy.port(), APP, APP_PASSWORD, "postgres");
    let (mut a, mut b) = (world.client(), world.client());
    begin(&mut a);
    begin(&mut b);
    // It waits for room, and then for the end of the pause.
    paused.send(&batch().query("SELECT 1"));
    thread::sleep(Duration::from_millis(300));
    world.console().rows("PAUSE postgres");
    thread::sleep(Duration::from_millis(700));
    commit(&mut a);
    commit(&mut b);
    for _ in 0..5 {
        assert!(timed(&mut a) < Duration::from_millis(1500));
        begin(&mut b);
        commit(&mut b);
    }
    world.console().rows("RESUME postgres");
    assert_eq!(tags(&paused.recv_ready(1)), "TDCZ");
}

/// A Trunkline before the primary of a database, which asks nobody for roles, with these settings of its pool.
fn before_primary(db: &TestDb, pool: &str) -> Trunkline {
    Setup::config(format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n[admin]\nadmin_users = [\"{APP}\"]\n\
         [users.{APP}]\npassword = \"{APP_PASSWORD}\"\n[databases.{name}.pool]\n{pool}\n\
         [[databases.{name}.nodes]]\nname = \"primary\"\nrole = \"primary\"\nhost = \"127.0.0.1\"\nport = {port}\n",
        name = db.name,
        port = db.cluster().primary_port(),
    ))
    .start()
}

/// The time of a pause is not counted, however soon after its end the time for waiting would have been over.
#[test]
fn who_has_waited_through_a_pause_has_all_the_time_there_is() {
    let db = TestDb::new(clusters::shared());
    let proxy = before_primary(&db, "size = 1\nwait_timeout = \"2s\"");
    let connect = |database: &str| RawClient::connect(proxy.port(), APP, APP_PASSWORD, database);
    let (mut busy, mut late) = (connect(&db.name), connect(&db.name));
    let (mut console, mut pausing) = (connect("trunkline"), connect("trunkline"));
    begin(&mut busy);
    pausing.send(&batch().query(&format!("PAUSE {}", db.name)));
    assert!(pausing.is_silent_for(Duration::from_millis(100)));
    late.send(&batch().query("SELECT 7"));
    assert!(late.is_silent_for(Duration::from_millis(1500)));
    console.rows(&format!("RESUME {}", db.name));
    assert!(late.is_silent_for(Duration::from_millis(1000)));
    commit(&mut busy);
    assert_eq!(tags(&late.recv_ready(1)), "TDCZ");
}

/// As when a firewall has forgotten what was idle. Who waits must not wait for each of them in turn.
#[test]
fn connections_that_never_answer_again_are_found_out_together() {
    let db = TestDb::new(clusters::shared());
    let proxy = before_primary(&db, "check_delay = \"500ms\"");
    let mut clients: Vec<_> = (0..6).map(|_| RawClient::connect(proxy.port(), APP, APP_PASSWORD, &db.name)).collect();
    clients.iter_mut().for_each(begin);
    clients.iter_mut().for_each(commit);
    let sql = format!("SELECT pid FROM pg_stat_activity WHERE datname = '{}'", db.name);
    let pids = db.cluster().query(0, "postgres", &sql).unwrap();
    let pids: Vec<Pid> = pids.lines().filter_map(|pid| Pid::from_raw(pid.trim().parse().unwrap())).collect();
    assert_eq!(pids.len(), 6);
    pids.iter().for_each(|pid| kill_process(*pid, Signal::STOP).unwrap());
    thread::sleep(Duration::from_millis(700));
    clients[0].set_timeout(Duration::from_secs(40));
    let waited = timed(&mut clients[0]);
    pids.iter().for_each(|pid| kill_process(*pid, Signal::CONT).unwrap());
    // The first one is given five seconds.
    assert!(waited < Duration::from_secs(9), "{waited:?}");
}
