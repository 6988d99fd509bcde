//! Messages without end behind a statement that does not.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::support::frames::{Batch, tags};
use crate::support::raw::RawClient;
use crate::support::world::{Plan, World};
use crate::{processor_time, resident, unharmed};

fn world() -> World {
    let sql = "CREATE TABLE t (n int); INSERT INTO t VALUES (1)";
    Plan { sql, general: "workers = 1", pool: "size = 4", primary_only: true, ..Plan::default() }.start()
}

/// What is not for the server is not taken by it, and nothing else would hold the client back.
#[test]
fn messages_that_are_answered_without_the_server() {
    let world = world();
    let mut bystander = world.client();
    let mut client = world.client();
    client.exchange(&Batch::new().parse("s", "SELECT 1", &[]).sync());
    client.exchange(&Batch::new().query("BEGIN; SELECT FROM t FOR UPDATE"));
    let before = resident(&world);
    client.send(&Batch::new().run("SELECT pg_sleep(4)", &[]).flush());
    let mut writer = client.writer();
    writer.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut flood = Batch::new();
    for _ in 0..1_000 {
        flood = flood.close(b'S', "s").parse("s", "SELECT 1", &[]);
    }
    let sending = std::thread::spawn(move || {
        let mut sent = 0;
        while let Ok(n) = writer.write(&flood.bytes()[sent % flood.bytes().len()..]) {
            sent += n;
        }
        sent
    });
    let served = served_in(Duration::from_secs(3), &mut bystander);
    let grown = resident(&world).saturating_sub(before);
    assert!(served > 20, "somebody else was served {served} times");
    client.vanish();
    let sent = sending.join().unwrap();
    assert!(grown < 20_000, "{grown} KiB for {sent} bytes");
    unharmed(&world, &mut bystander);
}

/// How many statements a client gets answered one after another in so much time.
fn served_in(time: Duration, client: &mut RawClient) -> usize {
    let began = Instant::now();
    std::iter::repeat_with(|| client.value("SELECT 1")).take_while(|_| began.elapsed() < time).count()
}

/// Each statement costs the same, however many are under way.
#[test]
fn statements_by_the_thousand_behind_one_that_waits() {
    const COUNT: usize = 12_000;
    let world = world();
    let mut bystander = world.client();
    let mut holder = world.client();
    holder.exchange(&Batch::new().query("BEGIN; UPDATE t SET n = n"));
    let mut client = world.client();
    client.exchange(&Batch::new().parse("s", "UPDATE t SET n = n + $1", &[23]).sync());
    let mut pipeline = Batch::new();
    for _ in 0..COUNT {
        pipeline = pipeline.bind("", "s", &[Some("1")]).execute("", 0).sync();
    }
    let before = processor_time(&world);
    let mut writer = client.writer();
    let sending = std::thread::spawn(move || writer.write_all(pipeline.bytes()).unwrap());
    let served = served_in(Duration::from_secs(2), &mut bystander);
    holder.exchange(&Batch::new().query("ROLLBACK"));
    for _ in 0..COUNT {
        assert_eq!(tags(&client.recv_ready(1)), "2CZ");
    }
    sending.join().unwrap();
    let used = processor_time(&world) - before;
    assert!(served > 20, "somebody else was served {served} times; {used:?} of processor time");
    assert_eq!(client.value("SELECT n FROM t"), (COUNT + 1).to_string());
    unharmed(&world, &mut bystander);
}

/// Nobody keeps statements without end.
#[test]
fn who_prepares_without_end_has_to_go() {
    let world = world();
    let mut bystander = world.client();
    let mut client = world.client();
    let before = resident(&world);
    let text = format!("SELECT '{}'", "z".repeat(1_000_000));
    let mut last = None;
    for number in 0..200 {
        let batch = Batch::new().parse(&format!("s{number}"), &format!("{text}, {number}"), &[]).sync();
        client.send(&batch);
        let frame = client.recv();
        if frame.tag == b'E' {
            last = Some((number, frame));
            break;
        }
        assert_eq!((frame.tag, client.recv().tag), (b'1', b'Z'));
    }
    let (number, frame) = last.expect("an end");
    assert!((100..150).contains(&number), "{number}");
    assert_eq!((frame.sqlstate().as_str(), frame.field(b'S').as_deref()), ("54000", Some("FATAL")));
    assert!(client.is_closed());
    let held = resident(&world).saturating_sub(before);
    assert!(held < 200 * 1024, "{held} KiB");
    unharmed(&world, &mut bystander);
}

/// Nor does a name cost more, however many are under way before it.
#[test]
fn names_by_the_thousand_behind_a_statement_that_waits() {
    const COUNT: usize = 10_000;
    let world = world();
    let mut bystander = world.client();
    let mut client = world.client();
    let mut pipeline = Batch::new().query("SELECT pg_sleep(2)");
    for number in 0..COUNT {
        pipeline = pipeline.query(&format!("PREPARE z{number} AS SELECT {number}"));
    }
    let before = processor_time(&world);
    let mut writer = client.writer();
    let sending = std::thread::spawn(move || writer.write_all(pipeline.bytes()).unwrap());
    let served = served_in(Duration::from_secs(2), &mut bystander);
    assert_eq!(tags(&client.recv_ready(1)), "TDCZ");
    for _ in 0..COUNT {
        assert_eq!(tags(&client.recv_ready(1)), "CZ");
    }
    sending.join().unwrap();
    let used = processor_time(&world) - before;
    eprintln!("{COUNT} names: {used:?} of processor time, somebody else was served {served} times");
    assert!(served > 20, "somebody else was served {served} times; {used:?} of processor time");
    assert_eq!(client.value(&format!("EXECUTE z{}", COUNT - 1)), (COUNT - 1).to_string());
    unharmed(&world, &mut bystander);
}
