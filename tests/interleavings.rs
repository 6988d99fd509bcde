//! Random interleavings of clients, servers and timers around the real program. Servers are scripted: they are the model of what a session
//! may do to them, and they judge it, as clients judge what they are told (`interleavings/ledger.rs` has what both write down).
//!
//! Nobody gets what is meant for somebody else, what was executed is not executed again, what was acknowledged is there once, nothing gets
//! stuck, and in the end everything is at rest. The seeds are fixed; `TRUNKLINE_SEEDS=7,8,9` runs others, and
//! `TRUNKLINE_INTERLEAVINGS_SECONDS=600` (by `cargo test`; nextest ends what takes long) as many as fit in that time. What is drawn is the seed's, what comes first is the machine's: a
//! seed that fails may have to run several times to do so again. The story of a failure is told at its end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

#[path = "interleavings/acts.rs"]
mod acts;
#[path = "interleavings/client.rs"]
mod client;
#[path = "interleavings/engine.rs"]
mod engine;
#[path = "interleavings/hearing.rs"]
mod hearing;
#[path = "interleavings/ledger.rs"]
mod ledger;
#[path = "interleavings/operator.rs"]
mod operator;
#[path = "interleavings/server.rs"]
mod server;
#[path = "interleavings/statement.rs"]
mod statement;
#[path = "interleavings/units.rs"]
mod units;
#[path = "interleavings/work.rs"]
mod work;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ledger::Ledger;
use operator::Operator;
use statement::Mark;
use support::frames::Batch;
use support::process::{Setup, Trunkline};
use support::raw::RawClient;

/// `query_timeout` of the program.
const QUERY_TIMEOUT: Duration = Duration::from_millis(250);
const SEEDS: std::ops::Range<u64> = 1..9;
const CLIENTS: u64 = 6;
/// How long clients and servers do as they like.
const TURMOIL: Duration = Duration::from_millis(1300);
/// How long it may take until all is at rest.
const REST: Duration = Duration::from_secs(15);

/// The configuration of a seed; a reload may bring another size.
fn config(seed: u64, size: u64, ports: [u16; 2]) -> String {
    let [primary, replica] = ports;
    let reads = ["read_only", "until_write", "off"][(seed % 3) as usize];
    let (reserve, lifetime) = (seed / 2 % 2, ["1h", "200ms"][(seed / 3 % 2) as usize]);
    format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n[metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n\
         [[hba]]\nmethod = \"trust\"\n[users.app]\npassword = \"x\"\n[server_tls]\nmode = \"disable\"\n\
         [admin]\nadmin_users = [\"app\"]\n[client]\nidle_transaction_timeout = \"150ms\"\nidle_timeout = \"350ms\"\n\
         [databases.app]\nprimary = \"host=127.0.0.1 port={primary}\"\nreplicas = [\"host=127.0.0.1 port={replica}\"]\n\
         [databases.app.pool]\nsize = {size}\nreserve_size = {reserve}\nreserve_timeout = \"30ms\"\nwait_timeout = \"400ms\"\n\
         query_timeout = \"{}ms\"\ntransaction_timeout = \"900ms\"\nlifetime = \"{lifetime}\"\nmax_prepared = 3\n\
         check_delay = \"40ms\"\nidle_timeout = \"300ms\"\n\
         [databases.app.routing]\nconsistency = \"eventual\"\nmax_lag = \"0\"\nhealth_interval = \"100ms\"\n\
         transaction_reads = \"{reads}\"\nread_only_functions = [\"hidden0\", \"hidden1\", \"hidden2\", \"hidden3\"]\n",
        QUERY_TIMEOUT.as_millis()
    )
}

/// Servers, clients and an operator, in one thread, until the time is up.
async fn turmoil(seed: u64, ledger: Arc<Ledger>, ports: [u16; 2], proxy: Arc<Trunkline>) {
    let mut tasks: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(client::run(ledger.clone(), proxy.port(), seed * 1000 + number)))
        .collect();
    let operator = Operator::new(seed, ledger.clone(), proxy.clone(), ports);
    tasks.push(tokio::spawn(operator.run()));
    tokio::time::sleep(TURMOIL).await;
    ledger.over.store(true, Ordering::Relaxed);
    for task in tasks {
        if tokio::time::timeout(Duration::from_secs(30), task).await.is_err() {
            ledger.violation("a client does not come to an end");
        }
    }
    ledger.note("clients have ended");
    ledger.calm.store(true, Ordering::Relaxed);
}

/// What a console's table says of the database.
fn rows(console: &mut RawClient, sql: &str) -> Vec<HashMap<String, String>> {
    let frames = console.exchange(&Batch::new().query(sql));
    let head = frames.iter().find(|frame| frame.tag == b'T').unwrap_or_else(|| panic!("{sql}: {frames:?}"));
    let mut names = Vec::new();
    let mut rest = &head.body[2..];
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        names.push(String::from_utf8_lossy(&rest[..end]).into_owned());
        rest = &rest[end + 19..];
    }
    let rows = frames.iter().filter(|frame| frame.tag == b'D');
    rows.map(|row| names.iter().cloned().zip(row.columns().into_iter().map(Option::unwrap_or_default)).collect())
        .collect()
}

/// Pools come to rest, and the program still serves.
fn comes_to_rest(ledger: &Ledger, proxy: &Trunkline) {
    let mut console = RawClient::connect(proxy.port(), "app", "", "trunkline");
    let deadline = Instant::now() + REST;
    loop {
        let pools = rows(&mut console, "SHOW POOLS");
        let pools: Vec<_> = pools.into_iter().filter(|pool| pool["database"] == "app").collect();
        let busy = ["cl_active", "cl_waiting", "sv_active", "sv_tested", "sv_login"];
        if pools.iter().all(|pool| busy.iter().all(|column| pool.get(*column).is_none_or(|count| count == "0"))) {
            break;
        }
        if Instant::now() > deadline {
            return ledger.violation(format!("pools do not come to rest: {pools:?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let session = ledger.next_session();
    let mut served = 0;
    let mut client = RawClient::connect(proxy.port(), "app", "", "app");
    for number in 1..40 {
        let mark = Mark { session, number };
        let kind = if number % 2 == 0 { statement::Kind::Read } else { statement::Kind::Write };
        client.send(&Batch::new().query(&kind.text(mark, false, 0)));
        let mut told = String::new();
        let ended = loop {
            match client.try_recv() {
                Ok(frame) if frame.tag == b'Z' => break false,
                Ok(frame) if frame.tag == b'D' => told = frame.columns().remove(0).unwrap_or_default(),
                Ok(_) => {}
                Err(_) => break true,
            }
        };
        if told.starts_with(&format!("{mark}||")) {
            served += 1;
        } else {
            ledger.note(format!("in the end {mark} is told {told:?}"));
        }
        if served == 4 {
            break;
        }
        if ended {
            client = RawClient::connect(proxy.port(), "app", "", "app");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    if served < 4 {
        ledger.violation("the program does not serve any more");
    }
    let metrics = proxy.http("/metrics").1;
    let panics = metrics.lines().find_map(|line| line.strip_prefix("trunkline_panics_total ")).unwrap_or("0");
    if panics != "0" || proxy.log().contains("panicked") {
        ledger.violation(format!("{panics} panics"));
    }
}

/// Runs one seed. Returns what it has seen, by kind.
fn run_seed(seed: u64) -> HashMap<&'static str, u32> {
    let ledger = Arc::new(Ledger::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (ports, proxy) = runtime.block_on(async {
        let primary = server::start("primary", ledger.clone(), seed).await;
        let replica = server::start("replica", ledger.clone(), seed + 77).await;
        let ports = [primary, replica];
        (ports, Arc::new(Setup::config(config(seed, 1 + seed % 2, ports)).start()))
    });
    runtime.block_on(turmoil(seed, ledger.clone(), ports, proxy.clone()));
    let calm = {
        let (ledger, proxy) = (ledger.clone(), proxy.clone());
        std::thread::spawn(move || comes_to_rest(&ledger, &proxy))
    };
    runtime.block_on(async {
        while !calm.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await
        }
    });
    calm.join().unwrap();
    let violations = ledger.verdict();
    if !violations.is_empty() {
        tell(seed, &ledger, &violations, &proxy);
    }
    ledger.counts()
}

/// The test fails: with what was wrong, and with the story of those that it concerns.
fn tell(seed: u64, ledger: &Ledger, violations: &[String], proxy: &Trunkline) -> ! {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("interleavings-{seed}.log"));
    std::fs::write(&file, format!("{}\n--- trunkline ---\n{}", ledger.story(None), proxy.log())).unwrap();
    let first = &violations[0];
    let concerned = |word: &&str| {
        word.len() > 1
            && word[1..].bytes().all(|byte| byte.is_ascii_digit())
            && (word.starts_with('c') || word.starts_with('s'))
    };
    let words: Vec<_> = first.split(|c: char| !c.is_alphanumeric()).filter(concerned).map(str::to_owned).collect();
    eprintln!("{}", ledger.story(Some(&words)));
    panic!("seed {seed} (all of it in {}):\n  {}", file.display(), violations.join("\n  "));
}

#[test]
fn random_interleavings_of_clients_servers_and_timers() {
    let seconds = std::env::var("TRUNKLINE_INTERLEAVINGS_SECONDS").ok().and_then(|text| text.parse().ok());
    let chosen = std::env::var("TRUNKLINE_SEEDS").ok();
    let seeds: Vec<u64> = match &chosen {
        Some(text) => text.split(',').map(|seed| seed.trim().parse().unwrap()).collect(),
        None => SEEDS.collect(),
    };
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(0));
    let mut counts: HashMap<&'static str, u32> = HashMap::new();
    let mut run = |seed| {
        for (what, count) in run_seed(seed) {
            *counts.entry(what).or_default() += count;
        }
    };
    let mut last = 0;
    for seed in seeds {
        run(seed);
        last = seed;
    }
    while Instant::now() < until {
        last += 1;
        run(last);
    }
    eprintln!("up to seed {last}: {counts:?}");
}
