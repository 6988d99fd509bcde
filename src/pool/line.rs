//! The line before a pool: who waits, and how something is handed to the first who still does.
//!
//! Generic over what is handed over and free of everything else, so that `tests/handover.rs` can run it under loom, which
//! tries every order of the threads. `sync` is that test's or the pool's.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use super::sync::{Arc, Mutex};

/// A session's slot for waiting, made once per session. A ticket tells one wait from the next, so that a place left in
/// a line by a wait that was given up is recognised as stale.
#[derive(Debug)]
pub struct Slot<T> {
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    /// The wait that is going on, if any.
    ticket: u64,
    waiting: bool,
    waker: Option<Waker>,
    answer: Option<T>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { inner: Mutex::new(Inner { ticket: 0, waiting: false, waker: None, answer: None }) }
    }
}

impl<T> Slot<T> {
    /// The answer, once it was given.
    pub fn poll_answer(&self, cx: &mut Context<'_>) -> Poll<T> {
        let mut inner = self.inner.lock();
        match inner.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                if !inner.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    inner.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// Ends the wait: whether it was still going on, so that its place is still in the line; and an answer that was given and not
    /// taken, which the caller hands on.
    pub fn end(&self) -> (bool, Option<T>) {
        let mut inner = self.inner.lock();
        inner.waker = None;
        (std::mem::take(&mut inner.waiting), inner.answer.take())
    }
}

/// A place in a line.
#[derive(Debug)]
pub struct Place<T> {
    slot: Arc<Slot<T>>,
    ticket: u64,
}

impl<T> Place<T> {
    /// Begins a wait: the place that goes into the line.
    pub fn of(slot: &Arc<Slot<T>>) -> Self {
        let mut inner = slot.inner.lock();
        inner.ticket += 1;
        inner.waiting = true;
        inner.answer = None;
        inner.waker = None;
        Self { slot: slot.clone(), ticket: inner.ticket }
    }

    /// Answers the wait; returns the answer when that wait is over already (trap 81).
    pub fn give(&self, answer: T) -> Option<T> {
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
    pub fn is_of(&self, slot: &Arc<Slot<T>>) -> bool {
        Arc::ptr_eq(&self.slot, slot)
    }

    /// Whether the client still waits.
    pub fn is_waiting(&self) -> bool {
        let inner = self.slot.inner.lock();
        inner.ticket == self.ticket && inner.waiting
    }
}

/// Gives `thing` to the first who still waits; back it comes when nobody does. The line's lock is held meanwhile.
pub fn hand_over<T, W>(line: &mut VecDeque<W>, place: impl Fn(&W) -> &Place<T>, thing: T) -> Option<T> {
    let mut thing = thing;
    while let Some(waiter) = line.pop_front() {
        thing = place(&waiter).give(thing)?;
    }
    Some(thing)
}
