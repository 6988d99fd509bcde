//! Which peers take part.

use std::path::PathBuf;

use super::options::Options;
use super::peers::{self, Kind, Spec};

/// The peer that the others are compared with.
pub const YARDSTICK: &str = "pgbouncer";

/// What a suite can make use of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// PostgreSQL itself.
    pub direct: bool,
    /// PgBouncer with larger buffers.
    pub large_buffers: bool,
    /// Trunkline before replicas.
    pub split: bool,
}

/// The peers of a suite: those that it can make use of and that were chosen, or that were chosen by name.
pub fn peers(options: &Options, wanted: Wanted) -> Vec<Spec> {
    let spec = |name: &str, kind: Kind, workers: u32| Spec { name: name.to_owned(), kind, workers };
    // Each with whether it takes part without being asked.
    let mut all = vec![(spec("direct", Kind::Direct, 1), wanted.direct)];
    let installed = peers::installed_pgbouncer();
    let (main, second) = match &options.pgbouncer {
        Some(given) => (Some(given.clone()), installed),
        None => (installed, None),
    };
    for (name, program) in [(YARDSTICK, main), ("pgbouncer-installed", second)] {
        let Some(program) = program else { continue };
        let with = |pkt_buf: u32| Kind::PgBouncer { program: program.clone(), pkt_buf };
        all.push((spec(name, with(options.pkt_buf), 1), true));
        all.push((spec(&format!("{name}-64k"), with(65_536), 1), wanted.large_buffers && name == YARDSTICK));
    }
    let trunkline = |split: bool, program: Option<PathBuf>| Kind::Trunkline { split, program };
    all.push((spec("trunkline", trunkline(false, None), options.workers), true));
    all.push((spec("split", trunkline(true, None), options.workers), wanted.split));
    if let Some(program) = &options.pgo {
        let program = program.canonicalize().unwrap_or_else(|error| panic!("--pgo {}: {error}", program.display()));
        all.push((spec("trunkline-pgo", trunkline(false, Some(program)), options.workers), true));
    }
    for text in &options.more_peers {
        let (name, command) = text.split_once('=').unwrap_or_else(|| panic!("--peer {text}: NAME=COMMAND is needed"));
        all.push((spec(name, Kind::Command(command.to_owned()), 1), true));
    }
    let named = |spec: &Spec| options.peers.contains(&spec.name);
    all.retain(|(spec, usual)| if options.peers.is_empty() { *usual } else { named(spec) });
    all.into_iter().map(|(spec, _)| spec).collect()
}

/// One and two of PgBouncer and of Trunkline's worker threads.
pub fn twins(options: &Options, counts: &[u32]) -> Vec<Spec> {
    let peers = peers(options, Wanted::default());
    let twin = |name: &'static str| peers.iter().find(move |spec| spec.name == name);
    let of =
        |count: u32| [YARDSTICK, "trunkline"].into_iter().filter_map(move |name| Some((twin(name)?.clone(), count)));
    let named = |(spec, count): (Spec, u32)| {
        let name = if count == 1 { spec.name } else { format!("{}-{count}", spec.name) };
        Spec { name, kind: spec.kind, workers: count }
    };
    counts.iter().copied().flat_map(of).map(named).collect()
}
