//! A server connection on loan to one session.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use quanta::Instant;

use crate::backend::{ServerConn, ServerState};
use crate::observe::Moment;

use super::Pool;

/// A server connection on loan. Dropping it closes the connection; only [`Lease::check_in`] returns it to the pool, so a
/// session that ends in any unexpected way never returns a dirty one.
#[derive(Debug)]
pub struct Lease {
    /// `None` once it was returned.
    loan: Option<(Box<ServerConn>, Arc<Pool>)>,
}

impl Lease {
    pub(super) fn new(conn: Box<ServerConn>, pool: Arc<Pool>) -> Self {
        pool.load.leased();
        Self { loan: Some((conn, pool)) }
    }

    /// The pool that it came from.
    pub fn pool(&self) -> &Arc<Pool> {
        match &self.loan {
            Some((_, pool)) => pool,
            None => unreachable!("a lease is not used once it was returned"),
        }
    }

    /// Notes which client has it, and since when.
    pub fn link(&self, client: u64, now: Instant) {
        let info = &self.info;
        info.set_state(ServerState::Active, client);
        info.note_request(Moment::of(now));
        info.prepared.store(u32::try_from(self.prepared.len()).unwrap_or(0), Ordering::Relaxed);
    }

    /// Returns the connection. The caller vouches for it: status `I`, no reply outstanding, no frame half read, no
    /// session state on it beyond what `settings` and `prepared` say.
    pub fn check_in(mut self) {
        self.give_back(Instant::now());
    }

    /// As [`Self::check_in`], at this moment. The lease is not to be used any more.
    pub fn give_back(&mut self, now: Instant) {
        if let Some((conn, pool)) = self.loan.take() {
            pool.load.returned();
            pool.put_back(conn, now);
        }
    }
}

impl Deref for Lease {
    type Target = ServerConn;

    fn deref(&self) -> &ServerConn {
        match &self.loan {
            Some((conn, _)) => conn,
            None => unreachable!("a lease is not used once it was returned"),
        }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut ServerConn {
        match &mut self.loan {
            Some((conn, _)) => conn,
            None => unreachable!("a lease is not used once it was returned"),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((conn, pool)) = self.loan.take() {
            pool.load.returned();
            pool.lost(&conn.info);
        }
    }
}
