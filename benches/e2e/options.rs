//! What can be chosen, after `--` of `cargo bench --bench e2e --`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use serde::Serialize;

/// A group of cases that measure one kind of cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SuiteName {
    /// pgbench's own scripts, in three protocols, with few and many clients
    Pgbench,
    /// Nine reads to one write, over replicas where the peer can
    Mix,
    /// Many rows, COPY out, COPY in
    Transfer,
    /// Logins
    Connect,
    /// Time that the proxy adds for one client
    Latency,
    /// Many clients that do nothing
    Idle,
    /// How far two threads go, each with the same small share of a CPU
    Threads,
    /// Two worker threads against two PgBouncers
    Pairs,
    /// Statements on one shard of a Citus cluster (make bench-citus); only when it is named
    Citus,
}

/// All options.
#[derive(Debug, Clone, Parser, Serialize)]
#[command(about = "Trunkline beside PgBouncer and others: what each costs. BENCHMARKS.md explains.")]
pub struct Options {
    /// Only these suites [default: all]
    #[arg(long, value_delimiter = ',')]
    pub suites: Vec<SuiteName>,
    /// Only the cases whose name holds all of these, such as `select,prepared` or `c16`
    #[arg(long, value_delimiter = ',')]
    pub filter: Vec<String>,
    /// How often each combination is measured
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Length of one measurement
    #[arg(long, default_value_t = 2)]
    pub seconds: u32,
    /// Only these peers, by the names in the tables [default: those that make sense in each suite]
    #[arg(long, value_delimiter = ',')]
    pub peers: Vec<String>,
    /// A further peer, started by this command; {port} {primary_port} {replica_ports} {user} {password} {database} {dir}
    /// {clients} {pool_size} {certificate} {key} are filled in (repeatable)
    #[arg(long = "peer", value_name = "NAME=COMMAND")]
    pub more_peers: Vec<String>,
    /// A PgBouncer that the others are compared with, instead of the installed one (which is then measured as
    /// pgbouncer-installed)
    #[arg(long, env = "TRUNKLINE_BENCH_PGBOUNCER", value_name = "PROGRAM")]
    pub pgbouncer: Option<PathBuf>,
    /// Trunkline as `make pgo` has built it, as a further peer, trunkline-pgo
    #[arg(long, value_name = "PROGRAM")]
    pub pgo: Option<PathBuf>,
    /// Numbers of clients of the pgbench suite
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    pub clients: Vec<u32>,
    /// Server connections per node of each proxy
    #[arg(long, default_value_t = 20)]
    pub pool_size: u32,
    /// Trunkline's worker threads; 1, since PgBouncer has one
    #[arg(long, default_value_t = 1)]
    pub workers: u32,
    /// PgBouncer's `pkt_buf`; 4096 is its own default. 65536 is the peer pgbouncer-64k
    #[arg(long, default_value_t = 4096)]
    pub pkt_buf: u32,
    /// pgbench's scale factor
    #[arg(long, default_value_t = 10)]
    pub scale: u32,
    /// Clients of the idle suite
    #[arg(long, default_value_t = 10_000)]
    pub idle_clients: usize,
    /// How long they are watched doing nothing, in seconds
    #[arg(long, default_value_t = 10)]
    pub idle_seconds: u32,
    /// Share of a CPU that each proxy thread gets in the threads suite, in percent
    #[arg(long, default_value_t = 15)]
    pub share: u32,
    /// Every single measurement as JSON [default: e2e.json in Cargo's target directory]
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The plot [default: e2e.svg in Cargo's target directory]
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// The tables as markdown: into this file, between its markers if it has them, as BENCHMARKS.md has
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    #[serde(skip)]
    bench: bool,
}

impl Options {
    /// Whether this suite is to run.
    pub fn wants_suite(&self, suite: SuiteName) -> bool {
        self.suites.contains(&suite) || (self.suites.is_empty() && suite != SuiteName::Citus)
    }

    /// Whether this case is to run.
    pub fn wants_case(&self, name: &str) -> bool {
        self.filter.iter().all(|part| name.contains(part))
    }

    /// Most clients at once that a proxy has to bear.
    pub fn most_clients(&self) -> u32 {
        let idle = u32::try_from(self.idle_clients).unwrap_or(u32::MAX);
        self.clients.iter().copied().max().unwrap_or(0).max(idle).saturating_add(200)
    }
}
