//! Many idle clients: how long they take to connect by SCRAM-SHA-256, what each costs in resident memory before and after it
//! has run a query, beside the same number of server connections.
//!
//! `cargo bench --bench idle -- --clients 10000` prints a table.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod client;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use client::{Keys, connect, query};
use support::clusters::{self, APP, APP_PASSWORD, TestDb};
use support::process::Setup;

/// Options, after `--` of `cargo bench --bench idle --`.
#[derive(Debug, Parser)]
struct Options {
    /// How many clients
    #[arg(long, default_value_t = 10_000)]
    clients: usize,
    /// Threads that connect them
    #[arg(long, default_value_t = 4)]
    threads: usize,
    /// Server connections
    #[arg(long, default_value_t = 20)]
    pool_size: u32,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    raise_open_files(options.clients);
    let cluster = clusters::own();
    let db = TestDb::new(cluster.info());
    let proxy = Setup::config(config(&db, &options)).start();
    let (port, pid) = (proxy.port(), proxy.pid());
    let keys = Keys::new(APP_PASSWORD);
    // The first clients of all bring the caches and the server connections.
    let mut first: Vec<_> = (0..64).map(|_| connect(port, APP, &db.name, &keys)).collect();
    first.iter_mut().for_each(query);
    drop(first);
    thread::sleep(Duration::from_millis(500));
    let before = resident(pid);

    let began = Instant::now();
    let share = options.clients / options.threads;
    let mut clients: Vec<Vec<_>> = thread::scope(|scope| {
        let (db, keys) = (&db, &keys);
        let parts: Vec<_> = (0..options.threads)
            .map(|_| scope.spawn(move || (0..share).map(|_| connect(port, APP, &db.name, keys)).collect()))
            .collect();
        parts.into_iter().map(|part| part.join().unwrap()).collect()
    });
    let connected = began.elapsed();
    let count = clients.iter().map(Vec::len).sum::<usize>();
    thread::sleep(Duration::from_millis(500));
    let idle = resident(pid);

    let began = Instant::now();
    thread::scope(|scope| {
        for part in &mut clients {
            scope.spawn(|| part.iter_mut().for_each(query));
        }
    });
    let queried = began.elapsed();
    thread::sleep(Duration::from_millis(500));
    let after = resident(pid);

    let each = |kib: u64| kib.saturating_sub(before) as f64 / count as f64;
    println!("{count} clients, {} server connections, {} threads of clients", options.pool_size, options.threads);
    println!(
        "connected in          {:>8.2} s   ({:.0} a second)",
        connected.as_secs_f64(),
        count as f64 / connected.as_secs_f64()
    );
    println!("each ran a query in   {:>8.2} s", queried.as_secs_f64());
    println!("resident before       {before:>8} KiB");
    println!("resident, connected   {idle:>8} KiB ({:.2} KiB a client)", each(idle));
    println!("resident, idle again  {after:>8} KiB ({:.2} KiB a client)", each(after));
}

fn config(db: &TestDb, options: &Options) -> String {
    format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\nmax_clients = {}\n[users.{APP}]\npassword = \"{APP_PASSWORD}\"\n\
         [databases.{name}]\nprimary = \"host=127.0.0.1 port={}\"\ncontrol_user = \"{APP}\"\npool.size = {}\n",
        options.clients + 100,
        db.cluster().primary_port(),
        options.pool_size,
        name = db.name,
    )
}

/// Resident memory of a process, in KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Room for the sockets of this process; the proxy raises its own.
fn raise_open_files(clients: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = clients as u64 + 200;
    assert!(limit.maximum.is_none_or(|most| most >= wanted), "ulimit -Hn must be at least {wanted}");
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
