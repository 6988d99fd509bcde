//! What a proxy adds to the time of a statement when there is nothing else to do.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::super::client::Client;
use super::super::ground::Ground;
use super::super::meter::Meter;
use super::super::options::{Options, SuiteName};
use super::super::peers::{Demands, Peer};
use super::super::quantity::{Quantity, Readings};
use super::super::roster::{self, Wanted, YARDSTICK};
use super::super::support::frames::Batch;
use super::{Case, Suite};

/// Statements before the measurement, which bring connections and caches.
const WARM_UP: u32 = 200;
/// Accounts for each unit of pgbench's scale.
const ACCOUNTS: u32 = 100_000;

const QUANTITIES: &[Quantity] = &[
    Quantity::shown("p50_us", "median latency, µs (less is better)", 1),
    Quantity::shown("p99_us", "99th percentile of latency, µs (less is better)", 1),
    Quantity::compared("added_p50_us", "median latency added to the direct one, µs (less is better)", 1)
        .beyond_direct("p50_us"),
    Quantity::compared("added_p99_us", "99th percentile added to the direct one, µs (less is better)", 1)
        .beyond_direct("p99_us"),
    Quantity::compared("cpu_us", "CPU of the proxy, µs per transaction (less is better)", 1),
];

#[derive(Debug)]
struct Latency {
    prepared: bool,
}

/// In two protocols.
pub fn suite(options: &Options) -> Suite {
    let case = |prepared| Box::new(Latency { prepared }) as Box<dyn Case>;
    Suite {
        name: SuiteName::Latency,
        about: "One client reads a row by its key, one statement after the other. Added: what is beyond the direct \
                connection's in the same round.",
        quantities: QUANTITIES,
        cases: [false, true].map(case).into(),
        peers: roster::peers(options, Wanted { direct: true, split: true, ..Wanted::default() }),
        yardstick: YARDSTICK,
        demands: Demands::default(),
        fresh: false,
    }
}

impl Case for Latency {
    fn name(&self) -> String {
        format!("row-by-key {} c1", if self.prepared { "prepared" } else { "simple" })
    }

    fn suits(&self, peer: &Peer) -> bool {
        peer.prepared || !self.prepared
    }

    fn measure(&self, peer: &Peer, ground: &Ground) -> Result<Readings, String> {
        let time = Duration::from_secs(ground.options.seconds.into());
        let mut client = Client::connect(&ground.target(peer.port), 4096)?;
        if self.prepared {
            let sql = "SELECT abalance FROM pgbench_accounts WHERE aid = $1";
            client.exchange(&Batch::new().parse("row", sql, &[]).sync())?;
        }
        let most = ground.options.scale * ACCOUNTS;
        let mut ask = || {
            let messages = self.messages(fastrand::u32(1..=most));
            let began = Instant::now();
            client.exchange(&messages)?;
            Ok::<_, String>(began.elapsed())
        };
        for _ in 0..WARM_UP {
            ask()?;
        }
        let mut latencies = Histogram::<u64>::new(3).map_err(|error| error.to_string())?;
        let meter = Meter::begin(peer);
        let began = Instant::now();
        while began.elapsed() < time {
            let nanoseconds = u64::try_from(ask()?.as_nanos()).unwrap_or(u64::MAX);
            latencies.record(nanoseconds).map_err(|error| error.to_string())?;
        }
        let used = meter.read();
        client.leave();
        let us = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
        let mut readings = Readings::from([("p50_us", us(0.5)), ("p99_us", us(0.99))]);
        if let Some(cpu) = used.cpu_us() {
            readings.insert("cpu_us", cpu / latencies.len() as f64);
        }
        Ok(readings)
    }
}

impl Latency {
    fn messages(&self, key: u32) -> Batch {
        let key = key.to_string();
        if self.prepared {
            Batch::new().bind("", "row", &[Some(&key)]).execute("", 0).sync()
        } else {
            Batch::new().query(&format!("SELECT abalance FROM pgbench_accounts WHERE aid = {key}"))
        }
    }
}
