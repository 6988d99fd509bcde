//! What a pool's lock guards.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::backend::{OpenError, ServerConn, ServerInfo};

use super::waiter::Waiter;

/// Boxed from its opening to its end: connections change hands at every transaction, and a pointer is cheap to move.
pub(super) type Owned = Box<ServerConn>;

#[derive(Debug, Default)]
pub(super) struct State {
    /// Idle connections by home thread, newest last. Homes that are no worker's share the last list.
    idle: Vec<Vec<Owned>>,
    /// Those who wait, oldest first. Entries whose client gave up are passed over.
    pub waiters: VecDeque<Waiter>,
    /// Connections that exist: idle and leased.
    pub open: usize,
    /// Connections that are being opened.
    pub opening: usize,
    /// Connections of an older epoch are closed.
    pub epoch: u64,
    /// Facts about every open connection.
    pub servers: Vec<Arc<ServerInfo>>,
    /// The last failure to open, until a success.
    pub failure: Option<Arc<OpenError>>,
}

impl State {
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
        let mut conn = conn;
        while let Some(waiter) = self.waiters.pop_front() {
            match waiter.give(Ok(conn)) {
                None => return,
                Some(Ok(refused)) => conn = refused,
                Some(Err(_)) => return,
            }
        }
        self.push_idle(conn);
    }

    /// Notes a connection that was opened.
    pub fn opened(&mut self, info: Arc<ServerInfo>) {
        self.open += 1;
        self.failure = None;
        self.servers.push(info);
    }

    /// Notes that a connection is gone.
    pub fn forget(&mut self, info: &ServerInfo) {
        self.open = self.open.saturating_sub(1);
        self.servers.retain(|other| other.id != info.id);
    }
}
