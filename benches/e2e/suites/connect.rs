//! Logins: connect, one query, goodbye.

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

/// Clients at the same time.
const THREADS: usize = 4;

const QUANTITIES: &[Quantity] = &[
    Quantity::plotted("cpu_us", "CPU of the proxy, µs per login (less is better)", 1),
    Quantity::compared("logins_per_s", "logins per second (more is better)", 0),
];

#[derive(Debug)]
struct Connect {
    tls: bool,
}

/// With and without TLS.
pub fn suite(options: &Options) -> Suite {
    let case = |tls| Box::new(Connect { tls }) as Box<dyn Case>;
    Suite {
        name: SuiteName::Connect,
        about: "Connect, SCRAM-SHA-256 (if the peer asks for it), SELECT 1, goodbye; four clients at a time, which derive \
                the password's keys once. TLS: a whole handshake each time, ECDSA P-256 certificate, verified.",
        quantities: QUANTITIES,
        cases: [false, true].map(case).into(),
        peers: roster::peers(options, Wanted { direct: true, ..Wanted::default() }),
        yardstick: YARDSTICK,
        demands: Demands { tls: true, ..Demands::default() },
        fresh: false,
    }
}

impl Case for Connect {
    fn name(&self) -> String {
        format!("login {}", if self.tls { "tls" } else { "plain" })
    }

    fn suits(&self, peer: &Peer) -> bool {
        peer.tls || !self.tls
    }

    fn measure(&self, peer: &Peer, ground: &Ground) -> Result<Readings, String> {
        let time = Duration::from_secs(ground.options.seconds.into());
        // The first one derives the keys.
        self.once(peer, ground)?;
        let meter = Meter::begin(peer);
        let began = Instant::now();
        let repeat = || {
            let mut logins = 0_u32;
            while began.elapsed() < time {
                self.once(peer, ground)?;
                logins += 1;
            }
            Ok::<_, Failed>(logins)
        };
        let logins: Result<Vec<u32>, Failed> = thread::scope(|scope| {
            let running: Vec<_> = (0..THREADS).map(|_| scope.spawn(repeat)).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (logins, used) = (f64::from(logins?.into_iter().sum::<u32>()), meter.read());
        let mut readings = Readings::from([("logins_per_s", logins / used.elapsed.as_secs_f64())]);
        if let Some(cpu) = used.cpu_us() {
            readings.insert("cpu_us", cpu / logins);
        }
        Ok(readings)
    }
}

impl Connect {
    fn once(&self, peer: &Peer, ground: &Ground) -> Result<(), Failed> {
        let target = if self.tls { ground.target_by_tls(peer.port) } else { ground.target(peer.port) };
        let mut client = Client::connect(&target, 4096)?;
        client.exchange(&Batch::new().query("SELECT 1"))?;
        client.leave();
        Ok(())
    }
}
