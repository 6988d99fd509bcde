//! The handle that a session counts with.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::blame::{Blame, ErrorTable};
use super::cells::{Labels, SessionCell, role_index};
use super::pins::PinTable;
use super::reads::{ReadOutcome, ReadTable};
use super::reruns::RerunTable;
use super::routing::RoutingTable;
use crate::config::NodeRole;
use crate::observe::RouteStats;
use crate::sql::{Consistency, Reason, Target};
use crate::wire::SqlState;

/// Bytes that a session keeps to itself before it adds them to the shared counters.
const FLUSH_AT: u64 = 1 << 20;

/// What a session is doing, for the gauge of client connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientState {
    /// Between transactions.
    Idle,
    /// Has, or needs no, server connection for what it is doing.
    Active,
    /// Waits for a server connection.
    Waiting,
}

/// A session's metrics: counters resolved once, at login.
///
/// A statement costs a few relaxed additions on memory of the session's own worker thread: no
/// look-up, no allocation, no lock. Bytes are kept in the handle and added to the counters when a
/// transaction ends, or each MiB. Dropping the handle is the logout.
#[derive(Debug)]
pub struct SessionMetrics {
    labels: Labels,
    cell: Arc<SessionCell>,
    tables: Tables,
    stripe: usize,
    state: ClientState,
    pinned: Vec<&'static str>,
    bytes: Bytes,
}

/// Where sessions count together.
#[derive(Debug)]
pub(super) struct Tables {
    pub errors: Arc<ErrorTable>,
    pub routing: Arc<RoutingTable>,
    pub reads: Arc<ReadTable>,
    pub pins: Arc<PinTable>,
    pub reruns: Arc<RerunTable>,
    pub routes: Arc<RouteStats>,
}

#[derive(Debug, Default)]
struct Bytes {
    client_received: u64,
    client_sent: u64,
    server_received: u64,
    server_sent: u64,
}

impl SessionMetrics {
    pub(super) fn new(labels: Labels, cell: Arc<SessionCell>, tables: Tables, stripe: usize) -> Self {
        cell.logins.fetch_add(1, Relaxed);
        cell.clients.fetch_add(1, Relaxed);
        Self { labels, cell, tables, stripe, state: ClientState::Idle, pinned: Vec::new(), bytes: Bytes::default() }
    }

    /// The labels that the session is counted under: its names, or `other`.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// A statement ended, well or not: `took` runs from its last byte in to its result's last byte out.
    #[inline]
    pub fn statement(&self, role: NodeRole, took: Duration) {
        self.cell.statements[role_index(role)].observe(took);
    }

    /// The client was given a server connection, after having waited for `waited` (zero when one was idle).
    #[inline]
    pub fn assigned(&self, role: NodeRole, waited: Duration) {
        self.cell.waits[role_index(role)].observe(waited);
    }

    /// A transaction ended, a single statement outside a block included. Also adds the bytes so far.
    #[inline]
    pub fn transaction(&mut self, took: Duration) {
        self.cell.transactions.fetch_add(1, Relaxed);
        self.cell.transaction_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.flush();
    }

    /// Bytes came from the client.
    #[inline]
    pub fn client_received(&mut self, bytes: usize) {
        self.bytes.client_received += bytes as u64;
        self.flush_when_large(self.bytes.client_received);
    }

    /// Bytes went to the client.
    #[inline]
    pub fn client_sent(&mut self, bytes: usize) {
        self.bytes.client_sent += bytes as u64;
        self.flush_when_large(self.bytes.client_sent);
    }

    /// Bytes came from a server.
    #[inline]
    pub fn server_received(&mut self, bytes: usize) {
        self.bytes.server_received += bytes as u64;
        self.flush_when_large(self.bytes.server_received);
    }

    /// Bytes went to a server.
    #[inline]
    pub fn server_sent(&mut self, bytes: usize) {
        self.bytes.server_sent += bytes as u64;
        self.flush_when_large(self.bytes.server_sent);
    }

    #[inline]
    fn flush_when_large(&mut self, bytes: u64) {
        if bytes >= FLUSH_AT {
            self.flush();
        }
    }

    /// Adds the bytes kept in the handle to the shared counters.
    #[inline]
    pub fn flush(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        for (counter, bytes) in [
            (&self.cell.client_received, bytes.client_received),
            (&self.cell.client_sent, bytes.client_sent),
            (&self.cell.server_received, bytes.server_received),
            (&self.cell.server_sent, bytes.server_sent),
        ] {
            if bytes > 0 {
                counter.fetch_add(bytes, Relaxed);
            }
        }
    }

    /// The session changed what it is doing. At most two additions; none when nothing changed.
    #[inline]
    pub fn set_state(&mut self, state: ClientState) {
        if state == self.state {
            return;
        }
        let busy = |state| i64::from(state != ClientState::Idle);
        let waiting = |state| i64::from(state == ClientState::Waiting);
        let (busy, waiting) = (busy(state) - busy(self.state), waiting(state) - waiting(self.state));
        if busy != 0 {
            self.cell.busy.fetch_add(busy, Relaxed);
        }
        if waiting != 0 {
            self.cell.waiting.fetch_add(waiting, Relaxed);
        }
        self.state = state;
    }

    /// The reasons for which the session keeps its server connection are now these.
    pub fn set_pins(&mut self, reasons: impl Iterator<Item = &'static str>) {
        let before = std::mem::replace(&mut self.pinned, reasons.collect());
        self.tables.pins.change(&self.labels.database, &before, &self.pinned);
    }

    /// A statement was sent where `target` says, for `reason`.
    #[inline]
    pub fn routed(&self, target: Target, reason: Reason) {
        self.tables.routing.count(self.stripe, target, reason as u8, reason.as_str());
    }

    /// A read ran that no replica could take at once, or one had to that was too old.
    pub fn read(&self, level: Consistency, outcome: ReadOutcome) {
        self.tables.reads.count(level, outcome);
    }

    /// The client was sent an error.
    pub fn error(&self, sqlstate: SqlState, blame: Blame) {
        self.tables.errors.count(sqlstate, blame);
    }

    /// A statement failed on a replica for this cause and runs once more elsewhere.
    pub fn rerun(&self, cause: &'static str) {
        self.tables.reruns.rerun(&self.labels.database, cause);
    }

    /// A statement failed on a replica for this cause and could not be run once more, and why.
    pub fn not_rerun(&self, cause: &'static str, why: &'static str) {
        self.tables.reruns.told(&self.labels.database, cause, why);
    }

    /// What is counted by statement.
    pub fn routes(&self) -> &RouteStats {
        &self.tables.routes
    }

    /// A statement was refused by the circuit breaker.
    pub fn broken(&self) {
        self.cell.broken.fetch_add(1, Relaxed);
    }

    /// A statement was slower than its threshold.
    pub fn slow(&self) {
        self.cell.slow.fetch_add(1, Relaxed);
    }

    /// A Parse message came from the client.
    #[inline]
    pub fn client_parse(&self) {
        self.cell.client_parses.fetch_add(1, Relaxed);
    }

    /// A Parse message went to a server.
    #[inline]
    pub fn server_parse(&self) {
        self.cell.server_parses.fetch_add(1, Relaxed);
    }

    /// A Bind message came from the client.
    #[inline]
    pub fn bind(&self) {
        self.cell.binds.fetch_add(1, Relaxed);
    }
}

impl Drop for SessionMetrics {
    fn drop(&mut self) {
        self.set_state(ClientState::Idle);
        if !self.pinned.is_empty() {
            self.set_pins(std::iter::empty());
        }
        self.flush();
        self.cell.clients.fetch_sub(1, Relaxed);
    }
}
