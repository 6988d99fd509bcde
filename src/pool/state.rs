//! What a pool's lock guards.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use quanta::Instant;

use crate::backend::{OpenError, ServerConn, ServerInfo};
use crate::config::PoolSettings;

use super::backoff::Backoff;
use super::cap::Places;
use super::line;
use super::waiter::Waiter;

/// Boxed from its opening to its end: connections change hands at every transaction, and a pointer is cheap to move.
pub(super) type Owned = Box<ServerConn>;

#[derive(Debug, Default)]
pub(super) struct State {
    /// Those in force.
    pub settings: Arc<PoolSettings>,
    /// Idle connections by home thread, newest last. Homes that are no worker's share the last list.
    idle: Vec<Vec<Owned>>,
    /// Those who wait, oldest first. Entries whose client gave up are passed over.
    pub waiters: VecDeque<Waiter>,
    /// Connections that exist: idle and leased.
    pub open: usize,
    /// Connections that are being opened.
    pub opening: usize,
    /// Idle connections that are being checked before a waiter gets them.
    pub checking: usize,
    /// Connections of an older epoch are closed.
    pub epoch: u64,
    /// Facts about every open connection.
    pub servers: Vec<Arc<ServerInfo>>,
    /// What each of them takes of the limits over several pools, by its id.
    places: Vec<(u64, Places)>,
    /// The last failure to open, until a success.
    pub failure: Option<Arc<OpenError>>,
    /// When the next opening may begin.
    pub backoff: Backoff,
}

impl State {
    /// Without connections.
    pub fn new(settings: PoolSettings) -> Self {
        Self { settings: Arc::new(settings), ..Self::default() }
    }

    fn list_of(&self, home: usize) -> usize {
        home.min(63)
    }

    /// Pops the newest idle connection, of this home if it has one.
    pub fn pop_idle(&mut self, home: usize) -> Option<Owned> {
        let own = self.list_of(home);
        if let Some(conn) = self.idle.get_mut(own).and_then(Vec::pop) {
            return Some(conn);
        }
        self.idle.iter_mut().find_map(Vec::pop)
    }

    /// Puts a connection into the idle list of its home.
    pub fn push_idle(&mut self, conn: Owned) {
        let list = self.list_of(conn.home);
        if self.idle.len() <= list {
            self.idle.resize_with(list + 1, Vec::new);
        }
        self.idle[list].push(conn);
    }

    /// Has each idle connection look as if it had been idle for so long.
    pub fn age_idle(&mut self, time: Duration, now: Instant) {
        let Some(since) = now.checked_sub(time) else { return };
        for conn in self.idle.iter_mut().flatten() {
            conn.idle_since = conn.idle_since.min(since);
        }
    }

    /// How many are idle.
    pub fn idle_len(&self) -> usize {
        self.idle.iter().map(Vec::len).sum()
    }

    /// Takes all idle connections out.
    pub fn take_idle(&mut self) -> Vec<Owned> {
        self.idle.iter_mut().flat_map(std::mem::take).collect()
    }

    /// Takes out the idle connections that `unwanted` names, oldest first.
    pub fn take_idle_if(&mut self, mut unwanted: impl FnMut(&mut ServerConn) -> bool) -> Vec<Owned> {
        let mut taken = Vec::new();
        for list in &mut self.idle {
            taken.extend(list.extract_if(.., |conn| unwanted(conn)));
        }
        taken
    }

    /// Takes out the idle connection that was used last, of those that are `wanted`.
    pub fn take_newest_idle(&mut self, wanted: impl Fn(&ServerConn) -> bool) -> Option<Owned> {
        let places = self.idle.iter().enumerate().flat_map(|(list, conns)| {
            conns.iter().enumerate().filter(|(_, conn)| wanted(conn)).map(move |(at, conn)| (conn.idle_since, list, at))
        });
        let (_, list, at) = places.max_by_key(|(since, ..)| *since)?;
        Some(self.idle[list].remove(at))
    }

    /// Gives the connection to the oldest client that still waits, or keeps it as idle.
    pub fn hand_over(&mut self, conn: Owned) {
        if let Some(Ok(conn)) = line::hand_over(&mut self.waiters, |waiter| &waiter.place, Ok(conn)) {
            self.push_idle(conn);
        }
    }

    /// How many more connections the waiters need and the pool's size, with its reserve, allows.
    pub fn wanted(&self) -> usize {
        let settings = &*self.settings;
        let exist = self.open + self.opening;
        let waiting = self.waiters.len().saturating_sub(self.opening + self.checking);
        let within_size = (settings.size as usize).saturating_sub(exist);
        if waiting <= within_size || settings.reserve_size == 0 {
            return waiting.min(within_size);
        }
        // The reserve is for those who have waited for long (not for as many as wait at all).
        let Some(patience) = settings.reserve_timeout else { return within_size };
        let late =
            self.waiters.iter().filter(|waiter| waiter.is_waiting() && waiter.since.elapsed() >= patience).count();
        let late = late.saturating_sub(self.opening + self.checking);
        let with_reserve = (settings.size as usize + settings.reserve_size as usize).saturating_sub(exist);
        within_size.max(late.min(with_reserve))
    }

    /// Since when the client waits that has waited longest.
    pub fn oldest_wait(&self) -> Option<Instant> {
        self.waiters.iter().find(|waiter| waiter.is_waiting()).map(|waiter| waiter.since)
    }

    /// Since when the connection is idle that has been so longest.
    pub fn oldest_idle(&self) -> Option<Instant> {
        self.idle.iter().filter_map(|list| list.first()).map(|conn| conn.idle_since).min()
    }

    /// Takes out the connection that has been idle longest.
    pub fn take_oldest_idle(&mut self) -> Option<Owned> {
        let list = self.idle.iter_mut().filter(|list| !list.is_empty()).min_by_key(|list| list[0].idle_since)?;
        Some(list.remove(0))
    }

    /// The failure that a client need not wait to see again: nothing is open, and nothing is opened yet.
    pub fn known_failure(&self, now: Instant) -> Option<Arc<OpenError>> {
        let hopeless = self.open == 0 && self.opening == 0 && self.backoff.is_on(now);
        self.failure.clone().filter(|_| hopeless)
    }

    /// The server's word that it is full, if that is why nothing is open.
    pub fn why_full(&self) -> Option<Arc<OpenError>> {
        self.failure.clone().filter(|failure| self.open == 0 && failure.says_server_is_full())
    }

    /// Notes a connection that was opened, and the places that it takes.
    pub fn opened(&mut self, info: Arc<ServerInfo>, places: Places) {
        self.open += 1;
        self.failure = None;
        self.places.push((info.id, places));
        self.servers.push(info);
    }

    /// Notes that a connection is gone.
    pub fn forget(&mut self, info: &ServerInfo) {
        self.open = self.open.saturating_sub(1);
        self.servers.retain(|other| other.id != info.id);
        self.places.retain(|(id, _)| *id != info.id);
    }
}
