//! pgbench: its own scripts, and one of ours that reads and writes.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use trunkline::app::demo::PgBinaries;

use super::super::ground::Ground;
use super::super::meter::Meter;
use super::super::options::{Options, SuiteName};
use super::super::peers::{Demands, Peer};
use super::super::process_tree::ProcessTree;
use super::super::quantity::{Quantity, Readings};
use super::super::roster::{self, Wanted, YARDSTICK};
use super::super::support::clusters::TestDb;
use super::{Case, Suite};

/// How long between two looks at a peer that is about to change.
const GLANCE: Duration = Duration::from_millis(2);
/// As many clients of pgbench are connected in a second at the least: it derives the password's keys for each.
const LOGINS_PER_SECOND: u32 = 256;

/// Of every suite that runs it.
pub const QUANTITIES: &[Quantity] = &[
    Quantity::plotted("cpu_us", "CPU of the proxy, µs per transaction (less is better)", 1),
    Quantity::compared("tps", "transactions per second (more is better)", 0),
    Quantity::shown("latency_ms", "mean latency, ms (less is better)", 3),
];

/// What pgbench runs.
#[derive(Debug, Clone, Copy)]
pub enum Script {
    /// One of its own.
    BuiltIn(&'static str),
    /// One of ours: its name and its text.
    Own(&'static str, &'static str),
}

/// Nine reads to one write, at random, all over the accounts.
const MIX: Script = Script::Own(
    "mix-90-10",
    "\\set aid random(1, 100000 * :scale)\n\\set delta random(-5000, 5000)\n\\set dice random(1, 10)\n\
     \\if :dice = 1\n\
     UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;\n\
     \\else\n\
     SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n\
     \\endif\n",
);

/// One run of pgbench.
#[derive(Debug, Clone, Copy)]
pub struct Pgbench {
    /// What is run.
    pub script: Script,
    /// `-M`.
    pub mode: &'static str,
    /// `-c`.
    pub clients: u32,
}

/// Both scripts in three protocols with each number of clients.
pub fn suite(options: &Options) -> Suite {
    let mut cases: Vec<Box<dyn Case>> = Vec::new();
    for script in ["select-only", "tpcb-like"] {
        for mode in ["simple", "extended", "prepared"] {
            for &clients in &options.clients {
                cases.push(Box::new(Pgbench { script: Script::BuiltIn(script), mode, clients }));
            }
        }
    }
    Suite {
        name: SuiteName::Pgbench,
        about: "pgbench -S and TPC-B. CPU from the moment at which all clients are connected; c = clients.",
        quantities: QUANTITIES,
        cases,
        peers: roster::peers(options, Wanted { direct: true, split: true, ..Wanted::default() }),
        yardstick: YARDSTICK,
        demands: Demands::default(),
        fresh: false,
    }
}

/// Reads and writes.
pub fn mix(options: &Options) -> Suite {
    let case = |mode| Box::new(Pgbench { script: MIX, mode, clients: 16 }) as Box<dyn Case>;
    Suite {
        name: SuiteName::Mix,
        about: "One row read by its key nine times, one written once, at random. Only split has replicas; its reads are \
                never older than the last write to the table.",
        quantities: QUANTITIES,
        cases: ["simple", "prepared"].map(case).into(),
        peers: roster::peers(options, Wanted { direct: true, split: true, ..Wanted::default() }),
        yardstick: YARDSTICK,
        demands: Demands::default(),
        fresh: false,
    }
}

/// Fills the database past every proxy.
pub fn fill(db: &TestDb, scale: u32) {
    let url = db.url(db.cluster().primary_port());
    let mut command = command().unwrap();
    let output = command.args(["-i", "-q", "-s", &scale.to_string(), &url]).output().unwrap();
    assert!(output.status.success(), "pgbench -i: {}", String::from_utf8_lossy(&output.stderr));
}

impl Case for Pgbench {
    fn name(&self) -> String {
        let (Script::BuiltIn(script) | Script::Own(script, _)) = self.script;
        format!("{script} {} c{}", self.mode, self.clients)
    }

    fn suits(&self, peer: &Peer) -> bool {
        peer.prepared || self.mode != "prepared"
    }

    fn measure(&self, peer: &Peer, ground: &Ground) -> Result<Readings, String> {
        let files = peer.tree.as_ref().map(settled_files);
        let mut child = self.start(peer, ground)?;
        // pgbench begins when all its clients are connected: what logins cost is not counted.
        while let (Some(tree), Some(before)) = (&peer.tree, files)
            && tree.files() < before + self.clients as usize
        {
            if child.try_wait().map_err(|error| error.to_string())?.is_some() {
                return Err(words(child).err().unwrap_or("it can't be told when all clients were there".to_owned()));
            }
            thread::sleep(GLANCE);
        }
        let meter = Meter::begin(peer);
        let text = words(child)?;
        let used = meter.read();
        let transactions = number(&text, "number of transactions actually processed: ")?;
        let tps = number(&text, "tps = ").map_err(|_| "time was over before all clients were there")?;
        let mut readings = Readings::from([
            ("transactions", transactions),
            ("tps", tps),
            ("latency_ms", number(&text, "latency average = ")?),
        ]);
        if let Some(cpu) = used.cpu_us() {
            readings.insert("cpu_us", cpu / transactions);
            readings.insert("cpu_percent", cpu / 1e4 / (transactions / tps));
        }
        Ok(readings)
    }
}

impl Pgbench {
    /// Two, but for a thread that prepares a client's statement it waits, and lets the others wait that are in the
    /// middle of a transaction: with fewer server connections than clients, for ever. Then each client gets its own.
    fn threads(&self, pool_size: u32) -> u32 {
        let blocks = matches!(self.script, Script::BuiltIn("tpcb-like"));
        if blocks && self.mode == "prepared" && self.clients > pool_size { self.clients } else { self.clients.min(2) }
    }

    fn start(&self, peer: &Peer, ground: &Ground) -> Result<Child, String> {
        let mut command = command()?;
        match self.script {
            Script::BuiltIn(name) => command.args(["-b", name]),
            Script::Own(name, text) => command.arg("-f").arg(script_file(ground, name, text)?),
        };
        // The time runs from its start on, and many logins take a while.
        let seconds = ground.options.seconds + self.clients / LOGINS_PER_SECOND;
        let threads = self.threads(ground.options.pool_size);
        command
            .args(["-n", "-M", self.mode, "-c", &self.clients.to_string(), "-j", &threads.to_string()])
            .args(["-s", &ground.options.scale.to_string(), "-T", &seconds.to_string()])
            .arg(ground.db.url(peer.port))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("pgbench: {error}"))
    }
}

/// How many files a peer has open when nobody of a former run is about to leave any more.
fn settled_files(tree: &ProcessTree) -> usize {
    let mut before = tree.files();
    for _ in 0..100 {
        thread::sleep(10 * GLANCE);
        let now = tree.files();
        if now == before {
            break;
        }
        before = now;
    }
    before
}

/// What pgbench has printed when it has ended.
fn words(child: Child) -> Result<String, String> {
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn command() -> Result<Command, String> {
    let pg = PgBinaries::find().map_err(|error| error.to_string())?;
    Ok(Command::new(pg.path("pgbench")))
}

fn script_file(ground: &Ground, name: &str, text: &str) -> Result<PathBuf, String> {
    let path = ground.db.cluster().root.join(format!("{name}.sql"));
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

fn number(text: &str, label: &str) -> Result<f64, String> {
    let line = text.lines().find_map(|line| line.strip_prefix(label)).ok_or(format!("no {label:?} in:\n{text}"))?;
    let word = line.split_whitespace().next().unwrap_or_default();
    word.parse().map_err(|error| format!("{label}{word}: {error}"))
}
