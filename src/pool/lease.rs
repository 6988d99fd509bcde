//! A server connection on loan to one session.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use crate::backend::{ServerConn, ServerState};

use super::Pool;

/// A server connection on loan. Dropping it closes the connection; only [`Lease::check_in`] returns it to the pool, so a
/// session that ends in any unexpected way never returns a dirty one.
#[derive(Debug)]
pub struct Lease {
    conn: Option<Box<ServerConn>>,
    pool: Arc<Pool>,
}

impl Lease {
    pub(super) fn new(conn: Box<ServerConn>, pool: Arc<Pool>) -> Self {
        pool.load.leased();
        Self { conn: Some(conn), pool }
    }

    /// The pool that it came from.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Notes which client has it.
    pub fn link(&self, client: u64) {
        let info = &self.info;
        info.set_state(ServerState::Active, client);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        info.requested.store(u64::try_from(now.as_micros()).unwrap_or(0), Ordering::Relaxed);
        info.prepared.store(u32::try_from(self.prepared.len()).unwrap_or(0), Ordering::Relaxed);
    }

    /// Returns the connection. The caller vouches for it: status `I`, no reply outstanding, no frame half read, no
    /// session state on it beyond what `settings` and `prepared` say.
    pub fn check_in(mut self) {
        if let Some(conn) = self.conn.take() {
            self.pool.load.returned();
            self.pool.put_back(conn);
        }
    }
}

impl Deref for Lease {
    type Target = ServerConn;

    fn deref(&self) -> &ServerConn {
        match &self.conn {
            Some(conn) => conn,
            None => unreachable!("a lease holds its connection until it is consumed"),
        }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut ServerConn {
        match &mut self.conn {
            Some(conn) => conn,
            None => unreachable!("a lease holds its connection until it is consumed"),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.pool.load.returned();
            self.pool.lost(&conn.info);
        }
    }
}
