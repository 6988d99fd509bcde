//! The buffers of a worker thread, and writing from them. Idle sessions hold none: what must outlive a poll is copied out small.

use std::cell::RefCell;
use std::io;
use std::task::{Context as Cx, Poll};

use crate::net::Stream;

/// Size of a read.
pub(super) const READ_SIZE: usize = 64 * 1024;

/// Most bytes of a waiting client's that are taken in: it is being read only so that its end is noticed.
const MAX_WAITING_INBOX: usize = 256 * 1024;

/// A Terminate message. Who has said goodbye behind a statement and closed has not vanished: the statement runs, as it would
/// on a direct connection.
const GOODBYE: &[u8] = b"X\0\0\0\x04";

pub(super) struct Buffers {
    /// Bytes just read, behind what an earlier read left over.
    pub read: Vec<u8>,
    /// Scratch for a [`super::splice::Splice`].
    pub built: Vec<u8>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers { read: vec![0; READ_SIZE], built: Vec::new() });
}

/// Runs `work` with this thread's buffers. Not to be nested.
pub(super) fn with<R>(work: impl FnOnce(&mut Buffers) -> R) -> R {
    BUFFERS.with_borrow_mut(|buffers| {
        let result = work(buffers);
        if buffers.built.capacity() > 4 * READ_SIZE {
            buffers.built = Vec::new();
        }
        result
    })
}

/// Writes at once what the socket takes, behind what waits already; the rest waits. Returns how much was written.
pub(super) fn send(stream: &mut Stream, backlog: &mut Vec<u8>, bytes: &[u8], cx: &mut Cx<'_>) -> io::Result<usize> {
    let mut sent = 0;
    if backlog.is_empty() {
        if !bytes.is_empty() && stream.leave_to_batch(bytes, cx.waker()) {
            return Ok(bytes.len());
        }
        while sent < bytes.len() {
            match stream.poll_write_from(cx, &bytes[sent..]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => sent += n,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
    }
    backlog.extend_from_slice(&bytes[sent..]);
    Ok(sent)
}

/// Writes a backlog as far as the socket takes it.
pub(super) fn drain(stream: &mut Stream, backlog: &mut Vec<u8>, cx: &mut Cx<'_>) -> Poll<io::Result<usize>> {
    match stream.poll_write_from(cx, backlog) {
        Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        Poll::Ready(Ok(n)) => {
            backlog.drain(..n);
            if backlog.is_empty() && backlog.capacity() > 512 {
                *backlog = Vec::new();
            }
            Poll::Ready(Ok(n))
        }
        other => other,
    }
}

/// Takes what a client sends meanwhile that waits for something else. `Err` = it is gone.
pub(super) fn fill(stream: &mut Stream, inbox: &mut Vec<u8>, cx: &mut Cx<'_>) -> Result<usize, ()> {
    let mut taken = 0;
    while inbox.len() < MAX_WAITING_INBOX && !inbox.ends_with(GOODBYE) {
        let read = with(|buffers| match stream.poll_read_into(cx, &mut buffers.read[..READ_SIZE]) {
            Poll::Ready(Ok(0) | Err(_)) => Err(()),
            Poll::Ready(Ok(n)) => {
                inbox.extend_from_slice(&buffers.read[..n]);
                Ok(Some(n))
            }
            Poll::Pending => Ok(None),
        })?;
        let Some(n) = read else { break };
        taken += n;
    }
    Ok(taken)
}
