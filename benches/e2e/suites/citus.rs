//! Statements on one shard of a Citus cluster: by way of the coordinator, or straight to the node that has it.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::super::citus::{Citus, ROWS, TABLE, TENANTS};
use super::super::client::Client;
use super::super::ground::Ground;
use super::super::meter::Meter;
use super::super::options::{Options, SuiteName};
use super::super::peers::{Demands, Kind, Peer, Spec};
use super::super::quantity::{Quantity, Readings};
use super::super::support::frames::Batch;
use super::{Case, Suite};

/// Statements of each client before the measurement, which bring connections, caches and generic plans.
const WARM_UP: u32 = 100;

const QUANTITIES: &[Quantity] = &[
    Quantity::compared("server_cpu_us", "CPU of all servers, µs per transaction (less is better)", 0),
    Quantity::compared("cpu_us", "CPU of Trunkline, µs per transaction (less is better)", 1),
    Quantity::compared("p50_us", "median latency, µs (less is better)", 0),
    Quantity::shown("p99_us", "99th percentile of latency, µs (less is better)", 0),
    Quantity::compared("tps", "transactions per second (more is better)", 0),
];

/// What each client does, again and again, for a row at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    PreparedRead,
    Read,
    Update,
}

#[derive(Debug)]
struct OneShard {
    work: Work,
    clients: u32,
}

/// Three statements, with one client and eight.
pub fn suite(options: &Options) -> Suite {
    let spec = |name: &str, kind| Spec { name: name.to_owned(), kind, workers: options.workers };
    let case = |work, clients| Box::new(OneShard { work, clients }) as Box<dyn Case>;
    let both = |work| [case(work, 1), case(work, 8)];
    Suite {
        name: SuiteName::Citus,
        about: "One row by its key, read or written; the key names the shard. direct = at the coordinator's own port, \
                coordinator = Trunkline with owner_routing off, owner = Trunkline with all. c = clients.",
        quantities: QUANTITIES,
        cases: [Work::PreparedRead, Work::Read, Work::Update].into_iter().flat_map(both).collect(),
        peers: vec![
            spec("direct", Kind::Coordinator),
            spec("coordinator", Kind::Citus { owner_routing: "off" }),
            spec("owner", Kind::Citus { owner_routing: "all" }),
        ],
        yardstick: "coordinator",
        demands: Demands::default(),
        fresh: false,
    }
}

impl Case for OneShard {
    fn name(&self) -> String {
        let work = match self.work {
            Work::PreparedRead => "read prepared",
            Work::Read => "read simple",
            Work::Update => "update simple",
        };
        format!("{work} c{}", self.clients)
    }

    fn measure(&self, peer: &Peer, ground: &Ground) -> Result<Readings, String> {
        let citus = ground.citus();
        let time = Duration::from_secs(ground.options.seconds.into());
        let all = self.clients as usize + 1;
        let [ready, go] = [Barrier::new(all), Barrier::new(all)];
        let client = |number: u32| {
            let connected = self.connect(peer, citus, number);
            ready.wait();
            go.wait();
            self.repeat(connected?, number, time)
        };
        thread::scope(|scope| {
            let client = &client;
            let running: Vec<_> = (0..self.clients).map(|number| scope.spawn(move || client(number))).collect();
            ready.wait();
            let meter = Meter::begin(peer);
            let servers_before = citus.servers.as_ref().map(|servers| servers.cpu());
            go.wait();
            let mut latencies = Histogram::<u64>::new(3).map_err(|error| error.to_string())?;
            for client in running {
                let own = client.join().map_err(|_| "a client panicked")??;
                latencies.add(own).map_err(|error| error.to_string())?;
            }
            let used = meter.read();
            let count = latencies.len() as f64;
            let us = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
            let tps = count / used.elapsed.as_secs_f64();
            let mut readings = Readings::from([("p50_us", us(0.5)), ("p99_us", us(0.99)), ("tps", tps)]);
            if let Some((servers, before)) = citus.servers.as_ref().zip(servers_before) {
                readings.insert("server_cpu_us", servers.cpu().saturating_sub(before).as_secs_f64() * 1e6 / count);
            }
            if let Some(cpu) = used.cpu_us() {
                readings.insert("cpu_us", cpu / count);
            }
            Ok(readings)
        })
    }
}

impl OneShard {
    fn connect(&self, peer: &Peer, citus: &Citus, number: u32) -> Result<Client, String> {
        let mut client = Client::connect(&citus.target(peer.port), 4096)?;
        if self.work == Work::PreparedRead {
            let sql = format!("SELECT payload FROM {TABLE} WHERE project_id = $1 AND id = $2");
            client.exchange(&Batch::new().parse("row", &sql, &[]).sync())?;
        }
        for _ in 0..WARM_UP {
            client.exchange(&self.messages(number))?;
        }
        Ok(client)
    }

    fn repeat(&self, mut client: Client, number: u32, time: Duration) -> Result<Histogram<u64>, String> {
        let mut latencies = Histogram::<u64>::new(3).map_err(|error| error.to_string())?;
        let until = Instant::now() + time;
        while Instant::now() < until {
            let messages = self.messages(number);
            let began = Instant::now();
            client.exchange(&messages)?;
            let nanoseconds = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            latencies.record(nanoseconds).map_err(|error| error.to_string())?;
        }
        client.leave();
        Ok(latencies)
    }

    /// Each client has tenants of its own: none waits for another's row.
    fn messages(&self, number: u32) -> Batch {
        let tenant = fastrand::u32(0..TENANTS / self.clients) * self.clients + number;
        let row = fastrand::u32(0..ROWS);
        let found = format!("project_id = {tenant} AND id = {row}");
        match self.work {
            Work::PreparedRead => {
                let values = [tenant, row].map(|value| value.to_string());
                Batch::new().bind("", "row", &[Some(&values[0]), Some(&values[1])]).execute("", 0).sync()
            }
            Work::Read => Batch::new().query(&format!("SELECT payload FROM {TABLE} WHERE {found}")),
            Work::Update => {
                let payload = format!("{{\"n\": {}}}", fastrand::u16(..));
                Batch::new().query(&format!("UPDATE {TABLE} SET payload = '{payload}' WHERE {found}"))
            }
        }
    }
}
