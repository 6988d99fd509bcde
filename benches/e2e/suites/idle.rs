//! Many clients that do nothing: what each costs in memory, and all of them in CPU time.

use std::thread;
use std::time::{Duration, Instant};

use super::super::client::{Client, Failed};
use super::super::ground::Ground;
use super::super::meter::Meter;
use super::super::options::{Options, SuiteName};
use super::super::peers::{Demands, Peer};
use super::super::quantity::{Quantity, Readings};
use super::super::roster::{self, Wanted, YARDSTICK};
use super::super::support::frames::Batch;
use super::{Case, Suite};

/// Threads that connect them.
const THREADS: usize = 4;
/// The first clients of all bring the caches and the server connections: not counted.
const FIRST: usize = 64;
/// Time to come to rest before memory is looked at.
const REST: Duration = Duration::from_millis(500);

const QUANTITIES: &[Quantity] = &[
    Quantity::plotted(
        "kib",
        "memory of the proxy, KiB per client that has run a query and is idle (less is better)",
        2,
    ),
    Quantity::compared(
        "kib_connected",
        "memory of the proxy, KiB per client that has only logged in (less is better)",
        2,
    ),
    Quantity::compared("cpu_ms", "CPU of the proxy, ms per second of doing nothing (less is better)", 2),
    Quantity::compared("wake_ups", "wake-ups of the proxy per second of doing nothing (less is better)", 1),
    Quantity::shown("logins_per_s", "logins per second until all were there (more is better)", 0),
];

#[derive(Debug)]
struct Idle {
    clients: usize,
}

/// One crowd.
pub fn suite(options: &Options) -> Suite {
    Suite {
        name: SuiteName::Idle,
        about: "Clients log in, do nothing, run a query each, do nothing again; memory is what the proxy has more than \
                before the first of them. A process of its own for each measurement.",
        quantities: QUANTITIES,
        cases: vec![Box::new(Idle { clients: options.idle_clients })],
        peers: roster::peers(options, Wanted::default()),
        yardstick: YARDSTICK,
        demands: Demands::default(),
        fresh: true,
    }
}

impl Case for Idle {
    fn name(&self) -> String {
        format!("idle c{}", self.clients)
    }

    fn suits(&self, peer: &Peer) -> bool {
        peer.tree.is_some()
    }

    fn measure(&self, peer: &Peer, ground: &Ground) -> Result<Readings, String> {
        let tree = peer.tree.as_ref().ok_or("no proxy")?;
        let connect = || Client::connect(&ground.target(peer.port), 1024);
        let mut first: Vec<Client> = (0..FIRST).map(|_| connect()).collect::<Result<_, _>>()?;
        first.iter_mut().try_for_each(ask)?;
        drop(first);
        thread::sleep(REST);
        let before = tree.memory_kib();

        let began = Instant::now();
        let mut crowd: Vec<Vec<Client>> = thread::scope(|scope| {
            let of = |number: usize| self.clients * (number + 1) / THREADS - self.clients * number / THREADS;
            let some = |count: usize| (0..count).map(|_| connect()).collect::<Result<Vec<_>, Failed>>();
            let parts: Vec<_> = (0..THREADS).map(|number| scope.spawn(move || some(of(number)))).collect();
            parts.into_iter().map(|part| part.join().unwrap()).collect::<Result<_, Failed>>()
        })?;
        let connecting = began.elapsed();
        thread::sleep(REST);
        let connected = tree.memory_kib();

        thread::scope(|scope| {
            let parts: Vec<_> =
                crowd.iter_mut().map(|part| scope.spawn(|| part.iter_mut().try_for_each(ask))).collect();
            parts.into_iter().try_for_each(|part| part.join().unwrap())
        })?;
        thread::sleep(REST);
        let idle = tree.memory_kib();

        let (meter, wake_ups) = (Meter::begin(peer), tree.wake_ups());
        thread::sleep(Duration::from_secs(ground.options.idle_seconds.into()));
        let (used, wake_ups) = (meter.read(), tree.wake_ups().saturating_sub(wake_ups));
        drop(crowd);

        let each = |kib: u64| kib.saturating_sub(before) as f64 / self.clients as f64;
        let seconds = used.elapsed.as_secs_f64();
        Ok(Readings::from([
            ("kib", each(idle)),
            ("kib_connected", each(connected)),
            ("cpu_ms", used.cpu_us().unwrap_or_default() / 1e3 / seconds),
            ("wake_ups", wake_ups as f64 / seconds),
            ("logins_per_s", self.clients as f64 / connecting.as_secs_f64()),
        ]))
    }
}

fn ask(client: &mut Client) -> Result<(), Failed> {
    client.exchange(&Batch::new().query("SELECT 1")).map(drop)
}
