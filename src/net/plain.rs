//! A connection without TLS: its socket, and what a batch has not been able to send.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::batch;
use super::socket::Socket;

/// Bytes wait for the end of the turn of a thread.
const BATCHED: u8 = 1;
/// A batch could not send everything, or failed.
const LEFT: u8 = 2;

/// A TCP connection or one by a Unix socket, without TLS.
#[derive(Debug)]
pub struct Plain(Arc<Shared>);

/// What the batch that holds bytes of a connection shares with it. The socket lives until both have let go of it, so what was taken
/// is sent even when the connection is dropped before the end of the turn, and never to anybody else.
#[derive(Debug)]
pub(super) struct Shared {
    pub socket: Socket,
    state: AtomicU8,
    left: Mutex<Left>,
}

#[derive(Debug, Default)]
struct Left {
    bytes: Vec<u8>,
    error: Option<io::Error>,
}

impl Shared {
    /// A batch has taken bytes of this connection.
    pub fn taken(&self) {
        self.state.store(BATCHED, Ordering::Release);
    }

    pub fn is_batched(&self) -> bool {
        self.state.load(Ordering::Acquire) == BATCHED
    }

    /// Whether something that was taken has not been sent.
    pub fn is_unsent(&self) -> bool {
        self.state.load(Ordering::Acquire) != 0
    }

    /// All of them were sent.
    pub fn sent(&self) {
        self.state.store(0, Ordering::Release);
    }

    /// These of them were not sent: the socket takes no more at the moment, or has failed.
    pub fn not_sent(&self, bytes: &[u8], error: Option<io::Error>) {
        let mut left = self.left.lock();
        left.bytes.extend_from_slice(bytes);
        left.error = error;
        self.state.store(LEFT, Ordering::Release);
    }
}

impl Plain {
    pub(super) fn new(socket: Socket) -> Self {
        Self(Arc::new(Shared { socket, state: AtomicU8::new(0), left: Mutex::default() }))
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.0.socket
    }

    /// The socket for a TLS handshake; `None` while bytes wait for it.
    pub(super) fn into_socket(self) -> Option<Socket> {
        Arc::into_inner(self.0).map(|shared| shared.socket)
    }

    pub(super) fn leave_to_batch(&mut self, bytes: &[u8], waker: &Waker) -> bool {
        !self.wants_flush() && batch::take(&self.0, bytes, waker)
    }

    /// What a batch of this thread holds goes out; what one of another thread holds does so in a moment.
    fn end_batching(&self) -> bool {
        if self.0.is_batched() {
            batch::send();
        }
        !self.0.is_batched()
    }

    pub(super) fn wants_flush(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == LEFT
    }

    /// Whether nothing is left of what was taken.
    pub(super) fn try_flush(&self) -> io::Result<bool> {
        if !self.end_batching() {
            return Ok(false);
        }
        if !self.wants_flush() {
            return Ok(true);
        }
        let mut left = self.0.left.lock();
        if let Some(error) = &left.error {
            return Err(io::Error::from(error.kind()));
        }
        while !left.bytes.is_empty() {
            match self.0.socket.try_write(&left.bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => drop(left.bytes.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        left.bytes = Vec::new();
        self.0.sent();
        Ok(true)
    }

    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.try_flush()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.socket.try_write(bytes)
    }

    pub(super) fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.end_batching() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.0.socket.poll_write_ready(cx)
    }

    /// Ends the sending direction, behind what was taken.
    pub(super) fn shutdown(&mut self) {
        // What the socket does not take at once is given up.
        let _ = self.try_flush();
        self.0.socket.shutdown_write();
    }
}
