//! Clients that mean harm, before the real program with real servers: each gets an error that PostgreSQL could give or a closed
//! connection, takes little memory, and nobody else notices. Tests name the traps that they show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

#[path = "hostile/encodings.rs"]
mod encodings;
#[path = "hostile/floods.rs"]
mod floods;
#[path = "hostile/nesting.rs"]
mod nesting;
#[path = "hostile/pipelines.rs"]
mod pipelines;
#[path = "hostile/settings.rs"]
mod settings;
#[path = "hostile/slow.rs"]
mod slow;
#[path = "hostile/startup.rs"]
mod startup;

use std::fs;
use std::time::{Duration, Instant};

use support::raw::RawClient;
use support::world::World;

/// Resident memory of the proxy, in KiB.
fn resident(world: &World) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", world.proxy.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// CPU time that all threads of the proxy have used.
fn cpu(world: &World) -> Duration {
    let threads = fs::read_dir(format!("/proc/{}/task", world.proxy.pid())).unwrap();
    let used = |file: String| file.split_whitespace().next().unwrap().parse::<u64>().unwrap();
    let of = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("schedstat")).map_or(0, used);
    Duration::from_nanos(threads.flatten().map(of).sum())
}

/// Descriptors that the proxy has open.
fn descriptors(world: &World) -> usize {
    fs::read_dir(format!("/proc/{}/fd", world.proxy.pid())).unwrap().count()
}

/// Processor time that the proxy has used.
fn processor_time(world: &World) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", world.proxy.pid())).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let ticks: u64 = rest.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    // 100 a second, as everywhere on Linux.
    Duration::from_millis(ticks * 10)
}

/// Waits until `done`.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Nothing has panicked, a new client is let in, and one that was there all the time goes on.
fn unharmed(world: &World, bystander: &mut RawClient) {
    assert_eq!(bystander.value("SELECT 'reads'"), "reads");
    assert_eq!(bystander.value("SELECT 'writes' FOR UPDATE"), "writes");
    assert_eq!(world.client().value("SELECT 'new'"), "new");
    assert_eq!(world.counter("trunkline_panics_total", &[]), 0.0);
}
