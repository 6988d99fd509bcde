//! A client's place in a pool's line.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quanta::Instant;

use crate::backend::ServerConn;

use super::line::{Place, Slot};
use super::state::State;
use super::{CheckOutError, Lease, Pool};

pub(super) type Answer = Result<Box<ServerConn>, CheckOutError>;

/// A session's slot for waiting, made once per session.
pub type WaiterSlot = Slot<Answer>;

/// An entry in a pool's line.
#[derive(Debug)]
pub(super) struct Waiter {
    /// Whose it is.
    pub place: Place<Answer>,
    /// Since when it waits.
    pub since: Instant,
    /// A primary that is full is waited for.
    pub is_patient: bool,
}

impl Waiter {
    /// Whether the client still waits.
    pub fn is_waiting(&self) -> bool {
        self.place.is_waiting()
    }
}

/// One wait. Dropping it gives up the place, and hands on a connection that had just been given to it.
pub(super) struct Wait {
    pool: Arc<Pool>,
    slot: Arc<WaiterSlot>,
}

impl Wait {
    /// Joins the end of the line.
    pub fn enqueue(pool: &Arc<Pool>, slot: &Arc<WaiterSlot>, is_patient: bool, state: &mut State) -> Self {
        state.waiters.push_back(Waiter { place: Place::of(slot), since: Instant::now(), is_patient });
        Self { pool: pool.clone(), slot: slot.clone() }
    }
}

impl Future for Wait {
    type Output = Result<Lease, CheckOutError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.slot.poll_answer(cx).map(|answer| answer.map(|conn| Lease::new(conn, self.pool.clone())))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let (gave_up, answer) = self.slot.end();
        if let Some(Ok(conn)) = answer {
            self.pool.put_back(conn, Instant::now());
        }
        if gave_up {
            // The place in the line goes, too: an entry that nobody waits behind must hold nobody up.
            self.pool.leave_line(&self.slot);
        }
    }
}
