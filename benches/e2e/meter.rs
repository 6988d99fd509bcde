//! What a peer's processes use between two instants.

use std::time::{Duration, Instant};

use super::peers::Peer;

/// Begun at an instant.
#[derive(Debug)]
pub struct Meter<'a> {
    peer: &'a Peer,
    began: Instant,
    /// `None`: there is no proxy whose cost could be told.
    cpu: Option<Duration>,
}

/// What was used since.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// Time that went by.
    pub elapsed: Duration,
    /// CPU time of all processes of the peer.
    pub cpu: Option<Duration>,
}

impl<'a> Meter<'a> {
    /// Begins now.
    pub fn begin(peer: &'a Peer) -> Self {
        Self { peer, began: Instant::now(), cpu: peer.tree.as_ref().map(|tree| tree.cpu()) }
    }

    /// Until now.
    pub fn read(&self) -> Used {
        let now = self.peer.tree.as_ref().map(|tree| tree.cpu());
        let cpu = now.zip(self.cpu).map(|(now, before)| now.saturating_sub(before));
        Used { elapsed: self.began.elapsed(), cpu }
    }
}

impl Used {
    /// CPU time in microseconds.
    pub fn cpu_us(&self) -> Option<f64> {
        self.cpu.map(|cpu| cpu.as_secs_f64() * 1e6)
    }
}
