//! Clients that take their time.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::clusters::APP;
use crate::support::frames::{Batch, tags};
use crate::support::raw::RawClient;
use crate::support::world::Plan;
use crate::{descriptors, processor_time, resident, unharmed, until};

#[test]
fn who_dribbles_a_startup_gets_no_more_time_by_that() {
    let world = Plan { general: "[client]\nlogin_timeout = \"1s\"", ..Plan::default() }.start();
    let mut bystander = world.client();
    let open = descriptors(&world);
    let mut packet = 196_608_u32.to_be_bytes().to_vec();
    packet.extend(format!("user\0{APP}\0database\0{}\0\0", world.db.name).bytes());
    let packet = [&u32::try_from(packet.len() + 4).unwrap().to_be_bytes()[..], &packet].concat();
    let began = Instant::now();
    let mut clients: Vec<_> = (0..100).map(|_| RawClient::tcp(world.proxy.port())).collect();
    // A byte each tenth of a second: the packet would take many seconds.
    for byte in &packet[..packet.len() - 1] {
        let alive = clients.iter_mut().filter_map(|client| client.try_send(&[*byte]).ok()).count();
        if alive == 0 || began.elapsed() > Duration::from_secs(2) {
            break;
        }
        assert_eq!(bystander.value("SELECT 1"), "1");
        thread::sleep(Duration::from_millis(100));
    }
    until("they are gone", || descriptors(&world) <= open + 4);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    unharmed(&world, &mut bystander);
}

#[test]
fn half_a_message_holds_no_server_connection() {
    let world = Plan { pool: "size = 1\nwait_timeout = \"5s\"", primary_only: true, ..Plan::default() }.start();
    let mut bystander = world.client();
    let before = resident(&world);
    let whole =
        Batch::new().query(&format!("SELECT '{}'", "x".repeat(100_000))).run("SELECT $1::int", &[Some("7")]).sync();
    let mut slow: Vec<_> = (0..50).map(|_| world.client()).collect();
    for (number, client) in slow.iter_mut().enumerate() {
        // Cut anywhere: in a header, in the text, between two messages of one sequence.
        client.send_bytes(&whole.bytes()[..number * whole.bytes().len() / 50]);
    }
    thread::sleep(Duration::from_millis(200));
    unharmed(&world, &mut bystander);
    let held = resident(&world).saturating_sub(before);
    assert!(held < 40 * 1024, "{held} KiB for 50 halves of 100 kB");
    // All of them can still go on, and get what is theirs.
    for (number, client) in slow.iter_mut().enumerate() {
        client.send_bytes(&whole.bytes()[number * whole.bytes().len() / 50..]);
        assert_eq!(tags(&client.recv_ready(2)), "TDCZ12TDCZ", "{number}");
    }
}

#[test]
fn who_stops_in_the_middle_of_a_large_statement_is_idle_in_a_transaction() {
    let world = Plan {
        pool: "size = 1\nwait_timeout = \"15s\"",
        database: "idle_transaction_timeout = \"700ms\"",
        primary_only: true,
        ..Plan::default()
    }
    .start();
    let mut bystander = world.client();
    // Too large to be looked into: it streams to the server, and takes the only connection.
    let large = Batch::new().query(&format!("SELECT length('{}')", "y".repeat(8 << 20)));
    for part in [3 << 20, 5 << 20] {
        let mut slow = world.client();
        slow.send_bytes(&large.bytes()[..part]);
        let began = Instant::now();
        assert_eq!(bystander.value("SELECT 'served'"), "served");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(slow.is_closed());
    }
    // Slowly is not too slowly.
    let mut steady = world.client();
    for part in large.bytes().chunks(1 << 20) {
        steady.send_bytes(part);
        thread::sleep(Duration::from_millis(150));
    }
    assert_eq!(tags(&steady.recv_ready(1)), "TDCZ");
    unharmed(&world, &mut bystander);
}

#[test]
fn a_promise_of_a_gigabyte_takes_no_memory_trap_78() {
    let world = Plan { pool: "size = 2", ..Plan::default() }.start();
    let mut bystander = world.client();
    bystander.value("SELECT 1");
    let before = resident(&world);
    for head in [&b"Q\x3f\xff\xff\xfeSELECT '"[..], b"P\x3f\xff\xff\xfe\0SELECT '", b"B\x3f\xff\xff\xfe\0\0"] {
        let mut client = world.client();
        client.send_bytes(head);
        client.send_bytes(&vec![b'z'; 12 << 20]);
        thread::sleep(Duration::from_millis(200));
        let held = resident(&world).saturating_sub(before);
        assert!(held < 30 * 1024, "{held} KiB for {}", head.escape_ascii());
        client.vanish();
    }
    unharmed(&world, &mut bystander);
}

/// Names are short: what does not end is not waited for.
#[test]
fn names_without_end_take_no_memory_trap_78() {
    let world = Plan { pool: "size = 2", ..Plan::default() }.start();
    let mut bystander = world.client();
    bystander.value("SELECT 1");
    let before = resident(&world);
    for head in [&b"P\x3f\xff\xff\xfe"[..], b"B\x3f\xff\xff\xfe", b"B\x3f\xff\xff\xfeportal\0"] {
        let mut client = world.client();
        client.send_bytes(head);
        // Until it is turned away.
        let sent = (0..64).take_while(|_| client.try_send(&vec![b'z'; 1 << 20]).is_ok()).count();
        let held = resident(&world).saturating_sub(before);
        assert!(sent < 32 && held < 30 * 1024, "{held} KiB after {sent} MiB of {}", head.escape_ascii());
        assert!(client.is_closed());
    }
    unharmed(&world, &mut bystander);
}

/// A message, or a segment without its end, that comes in the smallest pieces costs as much as its pieces, not as much as all of it for each.
#[test]
fn large_messages_in_the_smallest_pieces_cost_no_more_than_their_pieces() {
    let world = Plan { general: "workers = 1", pool: "size = 2", ..Plan::default() }.start();
    let mut bystander = world.client();
    bystander.value("SELECT 1");
    let large = Batch::new().query(&format!("SELECT length('{}')", "z".repeat(1_000_000)));
    let mut many = Batch::new();
    for number in 0..2_500 {
        many = many.parse("", &format!("SELECT {number}"), &[]);
    }
    let many = many.sync();
    for (what, batch, most) in [("a Query", large, 1_000_050), ("a segment", many, usize::MAX)] {
        let mut client = world.client();
        let bytes = batch.bytes();
        let (begin, dribble) = bytes.split_at(bytes.len().min(most) - 1_000);
        client.send_bytes(begin);
        thread::sleep(Duration::from_millis(300));
        let before = processor_time(&world);
        for byte in dribble {
            client.send_bytes(std::slice::from_ref(byte));
            thread::sleep(Duration::from_micros(300));
        }
        let frames = client.recv_ready(1);
        assert!(frames.iter().all(|frame| frame.tag != b'E'), "{what}");
        let used = processor_time(&world) - before;
        assert!(used < Duration::from_millis(1_500), "{what}: {used:?} of processor time for 1,000 bytes");
    }
    unharmed(&world, &mut bystander);
}
