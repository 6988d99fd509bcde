//! Small writes of one turn of a worker thread, given to the kernel in one call.
//!
//! Most of what a statement costs is the kernel's work for its two sends, and part of that is coming back from each: whoever was woken
//! by the send takes the processor at that moment. A turn of the thread runs all tasks that are ready; what they send waits until
//! the thread has nothing more to do and goes out by one call of io_uring (`ring.rs`), each socket's bytes in order.
//!
//! What holds: a socket has one send in a batch at most. When a send comes back, it is over: nothing stays with the kernel, since
//! sockets do not block. What was not sent, or why, is told to the connection, whose task is woken ([`Stream::wants_flush`]).
//! A larger write goes the ordinary way, and so does everything when there is nothing to put together (one client), when the
//! kernel or its policy allows no ring, and when the feature `io-uring` is left out.
//!
//! [`Stream::wants_flush`]: super::Stream::wants_flush

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;

#[cfg_attr(not(all(feature = "io-uring", target_os = "linux")), path = "batch/no_ring.rs")]
mod ring;

use super::plain::Shared;
use ring::Ring;

/// Longest write that is put into a batch. What is longer is worth a call of its own, and is not copied.
const LONGEST: usize = 4096;
/// Most sends of one batch.
const MOST: usize = 64;
/// Bytes of one batch.
const ROOM: usize = 32 * 1024;

thread_local! {
    static BATCH: RefCell<Option<Batch>> = const { RefCell::new(None) };
}

/// What goes out at the end of the turn.
struct Batch {
    ring: Ring,
    bytes: Vec<u8>,
    sends: Vec<Send>,
    /// Writes that were offered in this turn, and in the last one.
    offered: usize,
    offered_before: usize,
}

struct Send {
    of: Arc<Shared>,
    range: Range<usize>,
    waker: Waker,
}

/// This thread's small writes go out in batches from now on, if the kernel lets them: whether it does. The thread calls
/// [`end_of_turn`] before it waits.
pub fn start() -> bool {
    BATCH.with_borrow_mut(|batch| {
        *batch = Ring::open(MOST).map(|ring| Batch {
            ring,
            bytes: Vec::with_capacity(ROOM),
            sends: Vec::with_capacity(MOST),
            offered: 0,
            offered_before: 0,
        });
        batch.is_some()
    })
}

/// The thread has nothing more to do: what waits goes out.
pub fn end_of_turn() {
    BATCH.with_borrow_mut(|batch| {
        if let Some(batch) = batch {
            batch.send();
            batch.offered_before = std::mem::take(&mut batch.offered);
        }
    });
}

/// What waits goes out now.
pub(super) fn send() {
    BATCH.with_borrow_mut(|batch| batch.as_mut().map_or((), Batch::send));
}

/// Takes a write for the end of the turn: whether it did. If not, what the connection has in the batch of this thread has gone out.
pub(super) fn take(of: &Arc<Shared>, bytes: &[u8], waker: &Waker) -> bool {
    BATCH.with_borrow_mut(|batch| batch.as_mut().is_some_and(|batch| batch.take(of, bytes, waker)))
}

impl Batch {
    fn take(&mut self, of: &Arc<Shared>, bytes: &[u8], waker: &Waker) -> bool {
        self.offered += 1;
        let is_lone = self.offered_before < 2 && self.offered < 2;
        if is_lone || bytes.len() > LONGEST || !self.ring.is_open() {
            return false;
        }
        if of.is_batched() || self.sends.len() == MOST || self.bytes.len() + bytes.len() > ROOM {
            self.send();
            if of.is_unsent() {
                return false;
            }
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        of.taken();
        self.sends.push(Send { of: of.clone(), range: start..self.bytes.len(), waker: waker.clone() });
        true
    }

    fn send(&mut self) {
        if self.sends.is_empty() {
            return;
        }
        let Self { ring, bytes, sends, .. } = self;
        let wanted = sends.iter().map(|send| (&send.of.socket, &bytes[send.range.clone()]));
        ring.send(wanted, |number, sent| {
            let send = &sends[number];
            let wanted = &bytes[send.range.clone()];
            match sent {
                Ok(n) if n == wanted.len() => send.of.sent(),
                sent => {
                    match sent {
                        Ok(n) => send.of.not_sent(&wanted[n..], None),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => send.of.not_sent(wanted, None),
                        Err(error) => send.of.not_sent(&[], Some(error)),
                    }
                    send.waker.wake_by_ref();
                }
            }
        });
        self.sends.clear();
        self.bytes.clear();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
