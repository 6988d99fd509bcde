//! What is measured: PostgreSQL itself, PgBouncer, Trunkline, and whatever the command line names.

mod children;
mod citus;
mod pgbouncer;
mod trunkline;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::client::{Client, Target};
use super::ground::Ground;
use super::process_tree::ProcessTree;
use super::support::frames::Batch;
use super::support::process::Trunkline;
use super::throttle::Throttle;
use children::Children;
pub use pgbouncer::installed as installed_pgbouncer;

/// Longest wait until a peer serves its first query.
const PATIENCE: Duration = Duration::from_secs(20);

/// A peer that can be started.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its name in the results.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Worker threads of Trunkline, processes of PgBouncer that share one port.
    pub workers: u32,
}

/// What a peer is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// The primary's own port.
    Direct,
    /// PgBouncer before the primary.
    PgBouncer {
        /// The program.
        program: PathBuf,
        /// Bytes of its buffer for each socket: it makes at most so much of each read and write.
        pkt_buf: u32,
    },
    /// Trunkline, with or without replicas.
    Trunkline {
        /// Before two replicas, too.
        split: bool,
        /// Another build than the bench's.
        program: Option<PathBuf>,
    },
    /// The coordinator's own port.
    Coordinator,
    /// Trunkline before the coordinator of a Citus cluster.
    Citus {
        /// `citus.owner_routing`.
        owner_routing: &'static str,
    },
    /// A command with placeholders.
    Command(String),
}

/// What a suite asks of all of its peers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Demands {
    /// TLS for clients that ask for it.
    pub tls: bool,
    /// Percent of a CPU for each thread.
    pub share: Option<u32>,
}

/// A peer that runs; ended when dropped.
#[derive(Debug)]
pub struct Peer {
    /// Its name in the results.
    pub name: String,
    /// What exactly it is.
    pub what: String,
    /// Where it listens.
    pub port: u16,
    /// Its processes; `None` = the server itself.
    pub tree: Option<ProcessTree>,
    /// Whether it follows prepared statements in transaction mode.
    pub prepared: bool,
    /// Whether clients can ask for TLS.
    pub tls: bool,
    _process: Process,
    // Behind the process: a group must be empty before it can go.
    throttle: Option<Throttle>,
}

/// Held until it is to end.
#[derive(Debug)]
enum Process {
    Server,
    Trunkline(#[expect(dead_code, reason = "ends when dropped")] Trunkline),
    Children(#[expect(dead_code, reason = "ends when dropped")] Children),
}

impl Spec {
    /// Starts it and waits until it has answered a query.
    ///
    /// # Errors
    /// Why it doesn't run.
    pub fn start(&self, ground: &Ground, demands: Demands) -> Result<Peer, String> {
        let mut peer = match &self.kind {
            Kind::Direct => self.direct(ground),
            Kind::PgBouncer { program, pkt_buf } => pgbouncer::start(self, program, *pkt_buf, ground, demands)?,
            Kind::Trunkline { split, program } => trunkline::start(self, *split, program.as_ref(), ground, demands),
            Kind::Coordinator => self.coordinator(ground)?,
            Kind::Citus { owner_routing } => citus::start(self, owner_routing, ground)?,
            Kind::Command(template) => self.command(template, ground)?,
        };
        peer.wait_for_answer(&match self.kind {
            Kind::Coordinator | Kind::Citus { .. } => ground.citus().target(peer.port),
            _ => ground.target(peer.port),
        })?;
        if let (Some(tree), Some(percent)) = (&peer.tree, demands.share) {
            peer.throttle = Some(Throttle::threads(tree, percent)?);
        }
        Ok(peer)
    }

    fn peer(&self, what: String, port: u16, roots: Vec<u32>, process: Process) -> Peer {
        Peer {
            name: self.name.clone(),
            what,
            port,
            tree: Some(ProcessTree::of(roots)),
            prepared: true,
            tls: false,
            _process: process,
            throttle: None,
        }
    }

    fn direct(&self, ground: &Ground) -> Peer {
        let port = ground.db.cluster().primary_port();
        let peer = self.peer("the primary's own port".to_owned(), port, Vec::new(), Process::Server);
        Peer { tree: None, ..peer }
    }

    fn coordinator(&self, ground: &Ground) -> Result<Peer, String> {
        let citus = ground.citus();
        if !citus.is_local() {
            return Err("the coordinator is on another machine".to_owned());
        }
        let peer =
            self.peer(format!("the coordinator's own port; {}", citus.what), citus.port, Vec::new(), Process::Server);
        Ok(Peer { tree: None, ..peer })
    }

    fn command(&self, template: &str, ground: &Ground) -> Result<Peer, String> {
        let tls = template.contains("{certificate}");
        let mut children = Children::new(ground)?;
        children.shell(&children.fill(template, ground))?;
        children.wait_listening(1)?;
        let (port, roots) = (children.port(), children.pids());
        Ok(Peer { tls, ..self.peer(template.to_owned(), port, roots, Process::Children(children)) })
    }
}

impl Peer {
    fn wait_for_answer(&self, target: &Target<'_>) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let asked = Client::connect(target, 1024).and_then(|mut client| {
                client.exchange(&Batch::new().query("SELECT 1"))?;
                client.leave();
                Ok(())
            });
            match asked {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}
