//! Many bytes in one statement: a result, COPY out, COPY in.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::super::client::{Client, Failed};
use super::super::ground::Ground;
use super::super::meter::Meter;
use super::super::options::{Options, SuiteName};
use super::super::peers::{Demands, Peer};
use super::super::quantity::{Quantity, Readings};
use super::super::roster::{self, Wanted, YARDSTICK};
use super::super::support::clusters::{APP, TestDb};
use super::super::support::frames::Batch;
use super::{Case, Suite};

const ROWS: usize = 200_000;
/// Bytes of a row's one column.
const WIDTH: usize = 100;
/// Bytes that a client reads at a time, and about as many as it sends.
const CHUNK: usize = 64 * 1024;
/// Most clients of a case: each has a table of its own to copy into.
const MOST_CLIENTS: usize = 8;

const QUANTITIES: &[Quantity] = &[
    Quantity::plotted("cpu_ms_per_mb", "CPU of the proxy, ms per MB (less is better)", 3),
    Quantity::compared("mb_per_s", "MB per second (more is better)", 0),
];

#[derive(Debug, Clone, Copy)]
enum What {
    Select,
    CopyOut,
    CopyIn,
}

#[derive(Debug)]
struct Transfer {
    what: What,
    clients: usize,
}

/// All three with one client and with eight.
pub fn suite(options: &Options) -> Suite {
    let mut cases: Vec<Box<dyn Case>> = Vec::new();
    for what in [What::Select, What::CopyOut, What::CopyIn] {
        cases.extend([1, MOST_CLIENTS].map(|clients| Box::new(Transfer { what, clients }) as Box<dyn Case>));
    }
    Suite {
        name: SuiteName::Transfer,
        about: "200,000 rows of 100 bytes in one statement, again and again. MB = 1,000,000 bytes on the client's wire. \
                The client reads 64 KiB at a time and looks at headers only.",
        quantities: QUANTITIES,
        cases,
        peers: roster::peers(options, Wanted { direct: true, large_buffers: true, split: true }),
        yardstick: YARDSTICK,
        demands: Demands::default(),
        fresh: false,
    }
}

/// Makes the tables.
pub fn fill(db: &TestDb) {
    let fill =
        format!("CREATE TABLE wide AS SELECT lpad(n::text, {WIDTH}, 'x') AS line FROM generate_series(1, {ROWS}) n");
    // What is copied in is not logged: neither the replicas nor the disk are what is measured.
    let sinks: String = (0..MOST_CLIENTS).map(|n| format!("CREATE UNLOGGED TABLE sink{n} (line text);\n")).collect();
    db.run(&format!("SET ROLE {APP};\n{fill};\n{sinks}"));
    db.run("VACUUM ANALYZE wide");
}

impl Case for Transfer {
    fn name(&self) -> String {
        let what = match self.what {
            What::Select => "select-rows",
            What::CopyOut => "copy-out",
            What::CopyIn => "copy-in",
        };
        format!("{what} c{}", self.clients)
    }

    fn measure(&self, peer: &Peer, ground: &Ground) -> Result<Readings, String> {
        let time = Duration::from_secs(ground.options.seconds.into());
        let target = ground.target(peer.port);
        let connect = |number| Ok((number, Client::connect(&target, CHUNK)?));
        let clients: Vec<_> = (0..self.clients).map(connect).collect::<Result<_, Failed>>()?;
        let lines = matches!(self.what, What::CopyIn).then(lines).unwrap_or_default();
        let start = Barrier::new(self.clients + 1);
        let (bytes, used) = thread::scope(|scope| {
            let run = |(number, client): (usize, Client)| {
                let (start, lines) = (&start, &lines);
                scope.spawn(move || {
                    start.wait();
                    self.repeat(number, client, lines, time)
                })
            };
            let running: Vec<_> = clients.into_iter().map(run).collect();
            let meter = Meter::begin(peer);
            start.wait();
            let moved: Result<Vec<u64>, Failed> = running.into_iter().map(|thread| thread.join().unwrap()).collect();
            Ok::<_, Failed>((moved?.into_iter().sum::<u64>(), meter.read()))
        })?;
        let megabytes = bytes as f64 / 1e6;
        let mut readings = Readings::from([("mb_per_s", megabytes / used.elapsed.as_secs_f64())]);
        if let Some(cpu) = used.cpu_us() {
            readings.insert("cpu_ms_per_mb", cpu / 1e3 / megabytes);
        }
        Ok(readings)
    }
}

impl Transfer {
    /// One client, until the time is over: the bytes that it has moved, headers included.
    fn repeat(&self, number: usize, mut client: Client, lines: &[Vec<u8>], time: Duration) -> Result<u64, Failed> {
        let began = Instant::now();
        let mut bytes = 0;
        while began.elapsed() < time {
            bytes += match self.what {
                What::Select => client.exchange(&Batch::new().query("SELECT line FROM wide"))?,
                What::CopyOut => client.exchange(&Batch::new().query("COPY wide TO STDOUT"))?,
                What::CopyIn => {
                    client.exchange(&Batch::new().query(&format!("TRUNCATE sink{number}")))?;
                    client.send(Batch::new().query(&format!("COPY sink{number} FROM STDIN")).bytes())?;
                    client.until(b'G')?;
                    lines.iter().try_for_each(|chunk| client.send(chunk))?;
                    client.exchange(&Batch::new().copy_done())?;
                    lines.iter().map(|chunk| chunk.len() as u64).sum()
                }
            };
        }
        client.leave();
        Ok(bytes)
    }
}

/// The same rows as CopyData messages, one per row as libpq's and psql's are, in pieces that are sent at a time.
fn lines() -> Vec<Vec<u8>> {
    let row = |number: usize| {
        let line = format!("{number:x>WIDTH$}\n");
        Batch::new().copy_data(line.as_bytes()).bytes().to_vec()
    };
    let mut pieces = vec![Vec::new()];
    for number in 1..=ROWS {
        let row = row(number);
        if pieces.last().is_some_and(|piece: &Vec<u8>| piece.len() + row.len() > CHUNK) {
            pieces.push(Vec::with_capacity(CHUNK));
        }
        if let Some(piece) = pieces.last_mut() {
            piece.extend(row);
        }
    }
    pieces
}
