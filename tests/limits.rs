//! Limits: of pools, of time, of memory, and of what clients may send. Tests name the traps that they show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use support::clusters::{APP, APP_PASSWORD, OTHER, OTHER_PASSWORD};
use support::frames::{Batch, summary, tags};
use support::raw::RawClient;
use support::world::{Plan, World};

fn batch() -> Batch {
    Batch::new()
}

/// Resident memory of the proxy, in MiB.
fn resident(world: &World) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", world.proxy.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn waiters_are_served_in_their_order_trap_81() {
    let world = Plan {
        sql: "CREATE TABLE o (n serial, who int)",
        pool: "size = 1\nwait_timeout = \"900ms\"",
        primary_only: true,
        ..Plan::default()
    }
    .start();
    let mut holder = world.client();
    let mut clients: Vec<_> = (0..8).map(|_| world.client()).collect();
    holder.exchange(&batch().query("BEGIN; SELECT 1"));
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&batch().query(&format!("INSERT INTO o (who) VALUES ({number})")));
        thread::sleep(Duration::from_millis(40));
    }
    holder.exchange(&batch().query("COMMIT"));
    for client in &mut clients {
        assert_eq!(tags(&client.recv_ready(1)), "CZ");
    }
    assert_eq!(world.db.run("SELECT string_agg(who::text, '' ORDER BY n) FROM o"), "01234567");
    assert_eq!(world.server_connections_of_pool(), 1, "never more than the pool's size");
    // Who waits too long learns it, and its session goes on.
    holder.exchange(&batch().query("BEGIN; SELECT 1"));
    let began = Instant::now();
    for client in &mut clients[..2] {
        client.send(&batch().query("SELECT 1"));
    }
    clients[2].send(&batch().run("SELECT 1", &[]).run("SELECT 2", &[]).sync().query("SELECT 3"));
    for client in &mut clients[..2] {
        let frames = client.recv_ready(1);
        assert_eq!(tags(&frames), "EZ");
        assert_eq!(frames[0].sqlstate(), "57014");
    }
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(850) && waited < Duration::from_secs(4), "{waited:?}");
    let frames = clients[2].recv_ready(1);
    assert_eq!(
        (tags(&frames).as_str(), frames[0].sqlstate().as_str()),
        ("EZ", "57014"),
        "the sequence is void as a whole"
    );
    holder.exchange(&batch().query("COMMIT"));
    assert_eq!(tags(&clients[2].recv_ready(1)), "TDCZ");
    for client in &mut clients {
        assert_eq!(client.value("SELECT 4"), "4");
    }
}

#[test]
fn max_clients() {
    let world = Plan { general: "max_clients = 3", ..Plan::default() }.start();
    let mut clients: Vec<_> = (0..3).map(|_| world.client()).collect();
    let mut refused = RawClient::tcp(world.proxy.port());
    let error = refused.login(APP_PASSWORD, &[("user", APP), ("database", &world.db.name)]).unwrap_err();
    assert_eq!(error.sqlstate(), "53300");
    assert!(refused.is_closed());
    for client in &mut clients {
        assert_eq!(client.value("SELECT 1"), "1");
    }
    clients.pop();
    let deadline = Instant::now() + Duration::from_secs(5);
    while RawClient::tcp(world.proxy.port())
        .login(APP_PASSWORD, &[("user", APP), ("database", &world.db.name)])
        .is_err()
    {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn connections_that_the_server_closed_while_idle_trap_66_71() {
    let world = Plan { pool: "size = 4", ..Plan::default() }.start();
    let mut clients: Vec<_> = (0..4).map(|_| world.client()).collect();
    for round in 0..10 {
        for client in &mut clients {
            client.send(&batch().query("SELECT pg_sleep(0.02)").query("SELECT 1 FOR UPDATE"));
        }
        for client in &mut clients {
            client.recv_ready(2);
        }
        for node in 0..3 {
            let kill = format!(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}' AND usename = '{APP}'",
                world.db.name
            );
            world.db.run_on(node, &kill);
        }
        // The servers have closed; at once or a little later the next statements come.
        thread::sleep(Duration::from_millis(if round % 2 == 0 { 20 } else { 100 }));
        for client in &mut clients {
            assert_eq!(client.value("SELECT 1"), "1", "round {round}");
            assert_eq!(client.value("SELECT 2 FOR UPDATE"), "2", "round {round}");
        }
    }
    // Killed in the middle of a statement: the server's own words, and the end of that session only.
    let mut victim = world.client();
    victim.exchange(&batch().query("SET application_name = 'victim'"));
    victim.send(&batch().query("SELECT pg_sleep(20) FOR UPDATE"));
    world.wait_for("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'victim' AND state = 'active'", "1");
    let mut frame = victim.recv();
    while frame.tag == b'T' {
        frame = victim.recv();
    }
    assert_eq!(frame.sqlstate(), "57P01", "{frame:?}");
    assert!(victim.is_closed());
    assert_eq!(clients[0].value("SELECT 1 FOR UPDATE"), "1");
}

#[test]
fn large_results_take_little_memory_trap_47_78() {
    let world = Plan { pool: "size = 4", ..Plan::default() }.start();
    let mut client = world.client();
    client.value("SELECT 1");
    let before = resident(&world);
    // 100 MB of rows, 100 MB in rows of 10 MB, each to a reader that stops for a while.
    for (sql, rows) in [
        ("SELECT repeat('x', 1000) FROM generate_series(1, 100000)", 100_000),
        ("SELECT repeat('x', 10000000) FROM generate_series(1, 10)", 10),
    ] {
        for extended in [false, true] {
            client.send(&if extended { batch().run(sql, &[]).sync() } else { batch().query(sql) });
            client.recv();
            thread::sleep(Duration::from_millis(300));
            let stalled = resident(&world);
            assert!(stalled < before + 30, "{before} MiB became {stalled} MiB");
            let mut seen = 0;
            loop {
                let frame = client.recv();
                seen += usize::from(frame.tag == b'D');
                if frame.tag == b'Z' {
                    break;
                }
            }
            assert_eq!(seen, rows);
        }
    }
    // 100 MB the other way.
    let text = "y".repeat(100_000_000);
    let frames = client.exchange(&batch().run("SELECT length($1::text)", &[Some(&text)]).sync());
    assert_eq!(frames[3].columns(), [Some("100000000".to_owned())]);
    let frames = client.exchange(&batch().query(&format!("SELECT length('{text}')")));
    assert_eq!(frames[1].columns(), [Some("100000000".to_owned())]);
    let after = resident(&world);
    assert!(after < before + 30, "{before} MiB became {after} MiB");
}

/// Clients choose the names of databases behind `*`: those that lead nowhere, and those that nobody uses any more, are forgotten.
#[test]
fn databases_behind_the_asterisk_do_not_pile_up() {
    let port = support::clusters::shared().primary_port();
    let tables = format!(
        "[admin]\nadmin_users = [\"{APP}\"]\n[databases.\"*\"]\nprimary = \"host=127.0.0.1 port={port}\"\n\
         [databases.\"*\".pool]\nidle_timeout = \"1s\"\n"
    );
    let world = Plan { primary_only: true, tables: &tables, ..Plan::default() }.start();
    let login = |database: &str| {
        let mut client = RawClient::tcp(world.proxy.port());
        client.login(APP_PASSWORD, &[("user", APP), ("database", database)]).map(|()| client)
    };
    let mut used = login("postgres").unwrap();
    for number in 0..20 {
        assert_eq!(login(&format!("nowhere{number}")).unwrap_err().sqlstate(), "3D000");
    }
    let mut console = world.console();
    let mut count = |name: &str| {
        let frames = console.exchange(&batch().query(&format!("SELECT name FROM databases WHERE name LIKE '{name}'")));
        frames.iter().filter(|frame| frame.tag == b'D').count()
    };
    assert_eq!((count("nowhere%"), count("postgres")), (20, 1));
    let deadline = Instant::now() + Duration::from_secs(30);
    while count("nowhere%") > 0 {
        assert!(Instant::now() < deadline, "{} are left", count("nowhere%"));
        thread::sleep(Duration::from_millis(200));
    }
    // Not one in which there is a session, whatever becomes of its connections.
    assert_eq!(count("postgres"), 1);
    assert_eq!(used.value("SELECT 'goes on'"), "goes on");
}

/// Names are what servers make of them, which cut those that are longer than theirs: they fill neither memory nor metrics, and no server
/// is taken for one that is down because it will not hear so much.
#[test]
fn long_names_of_databases_are_cut_as_servers_cut_them() {
    let cluster = support::clusters::shared();
    let tables = format!(
        "[admin]\nadmin_users = [\"{APP}\"]\n\
         [databases.\"*\"]\nprimary = \"host=127.0.0.1 port={}\"\nserver_user = \"{APP}\"\nserver_password = \"{APP_PASSWORD}\"\n",
        cluster.primary_port()
    );
    let world = Plan { primary_only: true, tables: &tables, ..Plan::default() }.start();
    let name = format!("long_{}_{}", std::process::id(), "x".repeat(60)).chars().take(63).collect::<String>();
    cluster.query(0, "postgres", &format!("CREATE DATABASE {name} OWNER {APP}")).unwrap();
    let login = |user: &str, password: &str, database: &str| {
        let mut client = RawClient::tcp(world.proxy.port());
        client.login(password, &[("user", user), ("database", database)]).map(|()| client)
    };
    let mut client = login(APP, APP_PASSWORD, &format!("{name}_and_more")).unwrap();
    assert_eq!(client.value("SELECT current_database()"), name);
    client.vanish();
    // As long as startup packets may be.
    for number in 0..20 {
        let room = 9_969 - OTHER.len();
        let database = format!("{number:02}{}", "y".repeat(room - 2));
        let error = login(OTHER, OTHER_PASSWORD, &database).unwrap_err();
        assert_eq!(error.sqlstate(), "3D000", "{error:?}");
    }
    let (_, metrics) = world.proxy.http("/metrics");
    assert!(metrics.len() < 2 << 20 && !metrics.contains(&"y".repeat(64)), "{} bytes of metrics", metrics.len());
    assert!(!world.proxy.log().contains("node is down"), "{}", world.proxy.log());
    let mut console = world.console();
    console.exchange(&batch().query("RECONNECT"));
    cluster.query(0, "postgres", &format!("DROP DATABASE {name} WITH (FORCE)")).unwrap();
}

/// What a session had set before is gone with it, however long its values are.
#[test]
fn large_settings_take_the_memory_of_those_in_force() {
    let world = Plan { pool: "size = 1", primary_only: true, ..Plan::default() }.start();
    let mut client = world.client();
    let set = |n: u32| format!("SET app.note = '{}'", format!("{n:06}").repeat(80_000));
    client.exchange(&batch().query(&set(0)));
    let before = resident(&world);
    for n in 1..50 {
        client.exchange(&batch().query(&set(n)));
    }
    let after = resident(&world);
    assert!(after < before + 10, "{before} MiB became {after} MiB");
}

#[test]
fn a_flood_in_both_directions_trap_47() {
    let world = Plan { pool: "size = 2", ..Plan::default() }.start();
    let before = resident(&world);
    // The client writes far more than all buffers hold before it reads anything, and the answers are as large.
    for extended in [false, true] {
        let mut client = world.client();
        let text = "z".repeat(2000);
        let one = if extended {
            batch().run("SELECT $1::text", &[Some(&text)]).sync()
        } else {
            batch().query(&format!("SELECT '{text}'"))
        };
        let count = 20_000;
        client.set_timeout(Duration::from_secs(1));
        let all = one.bytes().repeat(count);
        // It blocks: nobody buffers without end. So it must read while it writes.
        assert_eq!(client.try_send(&all).unwrap_err().kind(), ErrorKind::WouldBlock);
        let grown = resident(&world);
        assert!(grown < before + 30, "{before} MiB became {grown} MiB");
        client.vanish();
    }
    let mut client = world.client();
    assert_eq!(client.value("SELECT 'goes on'"), "goes on");
    // Reading as well as writing, all arrives.
    let one = batch().run("SELECT $1::text", &[Some("w")]).sync();
    thread::scope(|scope| {
        let mut writer = client.writer();
        let bytes = one.bytes().repeat(5000);
        scope.spawn(move || std::io::Write::write_all(&mut writer, &bytes).unwrap());
        let frames = client.recv_ready(5000);
        assert_eq!(frames.len(), 6 * 5000);
    });
}

#[test]
fn malformed_messages_trap_70_78() {
    let world = Plan { pool: "size = 2", ..Plan::default() }.start();
    let bad: [(&str, &[u8]); 14] = [
        ("length below 4", b"Q\0\0\0\x03"),
        ("length 0", b"S\0\0\0\0"),
        ("giant length", b"Q\x7f\xff\xff\xff"),
        ("negative length", b"P\xff\xff\xff\xff"),
        ("large Sync", b"S\0\x01\0\0"),
        ("large Describe", b"D\0\x01\0\0"),
        ("unknown type", b"?\0\0\0\x04"),
        ("a server's message", b"Z\0\0\0\x05I"),
        ("a second password", b"p\0\0\0\x05\0"),
        ("Query without its end", b"Q\0\0\0\x06ab"),
        ("Parse with too few types", b"P\0\0\0\x0d\0\0\0\x05\0\0\0\0"),
        ("Bind without names", b"B\0\0\0\x06ab"),
        ("Describe of nothing", b"D\0\0\0\x06X\0"),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ];
    for (what, bytes) in bad {
        for state in ["idle", "in a transaction"] {
            let mut client = world.client();
            if state != "idle" {
                client.exchange(&batch().query("BEGIN"));
            }
            client.send_bytes(bytes);
            // Complete what needs a Sync to be looked at.
            let _ = client.try_send(b"S\0\0\0\x04");
            let frame = client.recv();
            assert_eq!(frame.sqlstate(), "08P01", "{what}, {state}: {frame:?}");
            assert!(client.is_closed(), "{what}");
        }
    }
    let mut client = world.client();
    assert_eq!(client.value("SELECT 'goes on' FOR UPDATE"), "goes on");
    // Messages that arrive byte by byte.
    let slow = batch().query("SELECT 1").run("SELECT $1::int", &[Some("2")]).sync();
    for byte in slow.bytes() {
        client.send_bytes(&[*byte]);
    }
    assert_eq!(tags(&client.recv_ready(2)), "TDCZ12TDCZ");
    // Random bytes end the session and nothing else.
    let mut seed = 12345_u64;
    for _ in 0..100 {
        let mut garbage = Vec::new();
        for _ in 0..200 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            garbage.push((seed >> 56) as u8);
        }
        let mut victim = world.client();
        let _ = victim.try_send(&garbage);
        victim.vanish();
        let mut raw = RawClient::tcp(world.proxy.port());
        let _ = raw.try_send(&garbage);
    }
    let frames = client.exchange(&batch().query("SELECT 'still'"));
    assert_eq!(summary(&frames), "RowDescription DataRow(still) CommandComplete(SELECT 1) ReadyForQuery(I)");
}

/// A server forgets no name of a setting that a client has invented, and each new one costs it more: who invents thousands leaves no
/// connection behind that is slow for others.
#[test]
fn connections_on_which_settings_were_invented_without_end_are_closed() {
    let world = Plan { pool: "size = 1", primary_only: true, ..Plan::default() }.start();
    let mut bystander = world.client();
    let pid = bystander.value("SELECT pg_backend_pid()");
    let login = |number: usize| {
        let names: Vec<_> = (0..400).map(|n| format!("made{number}.up{n}")).collect();
        let parameters: Vec<_> = names.iter().map(|name| (name.as_str(), "x")).collect();
        assert_eq!(world.client_with(&parameters).value("SELECT 1"), "1");
    };
    (0..3).for_each(login);
    assert_eq!(bystander.value("SELECT pg_backend_pid()"), pid, "a few are nothing unusual");
    (3..12).for_each(login);
    assert_ne!(bystander.value("SELECT pg_backend_pid()"), pid);
    // The same names again and again are none that are new.
    let pid = bystander.value("SELECT pg_backend_pid()");
    for value in 0..3000 {
        assert_eq!(tags(&bystander.exchange(&batch().query(&format!("SET app.tenant = '{value}'")))), "CZ");
    }
    assert_eq!(bystander.value("SELECT pg_backend_pid()"), pid);
}
