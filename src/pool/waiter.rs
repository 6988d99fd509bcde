//! A client's place in a pool's line.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use quanta::Instant;

use crate::backend::ServerConn;

use super::state::State;
use super::{CheckOutError, Lease, Pool};

type Answer = Result<Box<ServerConn>, CheckOutError>;

/// A session's slot for waiting, made once per session. A ticket tells one wait from the next, so that an entry left in
/// a line by a wait that was given up is recognised as stale.
#[derive(Debug, Default)]
pub struct WaiterSlot {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The wait that is going on, if any.
    ticket: u64,
    waiting: bool,
    waker: Option<Waker>,
    answer: Option<Answer>,
}

/// An entry in a pool's line.
#[derive(Debug)]
pub(super) struct Waiter {
    slot: Arc<WaiterSlot>,
    ticket: u64,
    /// Since when it waits.
    pub since: Instant,
}

impl Waiter {
    /// Answers the wait; returns the answer when that wait is over already (trap 81).
    pub fn give(&self, answer: Answer) -> Option<Answer> {
        let mut inner = self.slot.inner.lock();
        if inner.ticket != self.ticket || !inner.waiting {
            return Some(answer);
        }
        inner.waiting = false;
        inner.answer = Some(answer);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        None
    }

    /// Whether the place is this slot's.
    pub fn is_of(&self, slot: &Arc<WaiterSlot>) -> bool {
        Arc::ptr_eq(&self.slot, slot)
    }

    /// Whether the client still waits.
    pub fn is_waiting(&self) -> bool {
        let inner = self.slot.inner.lock();
        inner.ticket == self.ticket && inner.waiting
    }
}

/// One wait. Dropping it gives up the place, and hands on a connection that had just been given to it.
pub(super) struct Wait {
    pool: Arc<Pool>,
    slot: Arc<WaiterSlot>,
}

impl Wait {
    /// Joins the end of the line.
    pub fn enqueue(pool: &Arc<Pool>, slot: &Arc<WaiterSlot>, state: &mut State) -> Self {
        let ticket = {
            let mut inner = slot.inner.lock();
            inner.ticket += 1;
            inner.waiting = true;
            inner.answer = None;
            inner.waker = None;
            inner.ticket
        };
        state.waiters.push_back(Waiter { slot: slot.clone(), ticket, since: Instant::now() });
        Self { pool: pool.clone(), slot: slot.clone() }
    }
}

impl Future for Wait {
    type Output = Result<Lease, CheckOutError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut inner = self.slot.inner.lock();
        match inner.answer.take() {
            Some(Ok(conn)) => {
                drop(inner);
                Poll::Ready(Ok(Lease::new(conn, self.pool.clone())))
            }
            Some(Err(error)) => Poll::Ready(Err(error)),
            None => {
                if !inner.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    inner.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let (gave_up, answer) = {
            let mut inner = self.slot.inner.lock();
            inner.waker = None;
            (std::mem::take(&mut inner.waiting), inner.answer.take())
        };
        if let Some(Ok(conn)) = answer {
            self.pool.put_back(conn, Instant::now());
        }
        if gave_up {
            // The place in the line goes, too: an entry that nobody waits behind must hold nobody up.
            self.pool.leave_line(&self.slot);
        }
    }
}
