//! One thread and two: of Trunkline's workers, and of PgBouncers behind one port.

use super::super::options::{Options, SuiteName};
use super::super::peers::Demands;
use super::super::quantity::Quantity;
use super::super::roster::{self, YARDSTICK};
use super::pgbench::{self, Pgbench, Script};
use super::{Case, Suite};

const QUANTITIES: &[Quantity] = &[
    Quantity::compared("tps", "transactions per second (more is better)", 0),
    Quantity::shown("cpu_percent", "CPU of the proxy used, % of one CPU (near its share: nothing else held it up)", 1),
    Quantity::compared("cpu_us", "CPU of the proxy, µs per transaction (less is better)", 1),
];

const SELECT_1: Script = Script::Own("select-1", "SELECT 1;\n");

/// How far a second thread goes, where neither server nor clients are the bottleneck.
pub fn one_and_two(options: &Options) -> Suite {
    let case = |mode| Box::new(Pgbench { script: SELECT_1, mode, clients: 32 }) as Box<dyn Case>;
    Suite {
        name: SuiteName::Threads,
        about: "SELECT 1. On a small machine server and clients use up the CPUs, so every proxy thread is held to the \
                same small share of a CPU (--share) by the cgroup cpu controller: throughput tells how far one thread \
                and two go, not how fast the machine is.",
        quantities: QUANTITIES,
        cases: ["simple", "prepared"].map(case).into(),
        peers: roster::twins(options, &[1, 2]),
        yardstick: YARDSTICK,
        demands: Demands { share: Some(options.share), ..Demands::default() },
        fresh: false,
    }
}

/// Two against two.
pub fn pairs(options: &Options) -> Suite {
    let case = |(script, mode, clients)| Box::new(Pgbench { script, mode, clients }) as Box<dyn Case>;
    let select = Script::BuiltIn("select-only");
    let cases = [(select, "simple", 16), (select, "prepared", 16), (select, "simple", 64), (select, "prepared", 64)];
    Suite {
        name: SuiteName::Pairs,
        about: "Two worker threads of one Trunkline against two PgBouncers behind one port (so_reuseport), measured \
                together; nothing is held back. All have the same number of server connections in all.",
        quantities: pgbench::QUANTITIES,
        cases: cases.map(case).into(),
        peers: roster::twins(options, &[2]),
        yardstick: "pgbouncer-2",
        demands: Demands::default(),
        fresh: false,
    }
}
