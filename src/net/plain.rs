//! A connection without TLS: its socket, what a batch has not been able to send, and what was read ahead.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker, ready};

use parking_lot::Mutex;
use zeroize::Zeroize;

use super::IdleCheck;
use super::batch;
use super::low_water::{self, LowWater};
use super::socket::Socket;

/// Bytes wait for the end of the turn of a thread.
const BATCHED: u8 = 1;
/// A batch could not send everything, or failed.
const LEFT: u8 = 2;

/// Bytes that are read at a time while messages are read one by one: most messages of a login, with their heads.
const AHEAD: usize = 1024;

/// A TCP connection or one by a Unix socket, without TLS.
#[derive(Debug)]
pub struct Plain {
    shared: Arc<Shared>,
    /// What was read behind a message of a login: the next read gets it first.
    ahead: Vec<u8>,
}

/// What the batch that holds bytes of a connection shares with it. The socket lives until both have let go of it, so what was taken
/// is sent even when the connection is dropped before the end of the turn, and never to anybody else.
#[derive(Debug)]
pub(super) struct Shared {
    pub socket: Socket,
    pub low_water: LowWater,
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
        let shared = Arc::new(Shared {
            socket,
            low_water: LowWater::default(),
            state: AtomicU8::new(0),
            left: Mutex::default(),
        });
        Self { shared, ahead: Vec::new() }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.shared.socket
    }

    pub(super) fn low_water(&self) -> &LowWater {
        &self.shared.low_water
    }

    /// The socket for a TLS handshake; `None` while bytes wait for it, or were read ahead.
    pub(super) fn into_socket(self) -> Option<Socket> {
        if !self.ahead.is_empty() {
            return None;
        }
        Arc::into_inner(self.shared).map(|shared| shared.socket)
    }

    /// What was read ahead, to be read elsewhere.
    pub(super) fn take_ahead(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ahead)
    }

    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.low_water().end(self.socket());
        if self.ahead.is_empty() { self.socket().poll_read_ready(cx) } else { Poll::Ready(Ok(())) }
    }

    pub(super) fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.ahead.is_empty() { self.socket().try_read(buf) } else { Ok(self.read_from_ahead(buf)) }
    }

    pub(super) fn poll_read_into(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Ok(self.read_from_ahead(buf)));
        }
        let read = self.socket().poll_read_into(cx, buf);
        match &read {
            Poll::Ready(Ok(n)) => self.low_water().read(*n),
            Poll::Pending if self.low_water().is_worth_a_mark() => low_water::wait_for_a_piece(&self.shared),
            _ => {}
        }
        read
    }

    /// As [`Self::poll_read_into`], and takes what is there behind it, too.
    pub(super) fn poll_read_ahead(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.ahead.is_empty() || buf.len() >= AHEAD {
            return self.poll_read_into(cx, buf);
        }
        let mut space = [0; AHEAD];
        let n = ready!(self.socket().poll_read_into(cx, &mut space))?;
        let taken = n.min(buf.len());
        buf[..taken].copy_from_slice(&space[..taken]);
        self.ahead.extend_from_slice(&space[taken..n]);
        // It may be a password.
        space[..n].zeroize();
        Poll::Ready(Ok(taken))
    }

    #[cold]
    fn read_from_ahead(&mut self, buf: &mut [u8]) -> usize {
        let taken = self.ahead.len().min(buf.len());
        buf[..taken].copy_from_slice(&self.ahead[..taken]);
        if taken == self.ahead.len() {
            self.ahead.zeroize();
            self.ahead = Vec::new();
        } else {
            self.ahead.drain(..taken);
        }
        taken
    }

    pub(super) fn idle_check(&self) -> IdleCheck {
        if self.ahead.is_empty() { self.socket().idle_check() } else { IdleCheck::HasData }
    }

    pub(super) fn leave_to_batch(&mut self, bytes: &[u8], waker: &Waker) -> bool {
        self.low_water().end(self.socket());
        !self.wants_flush() && batch::take(&self.shared, bytes, waker)
    }

    /// What a batch of this thread holds goes out; what one of another thread holds does so in a moment.
    fn end_batching(&self) -> bool {
        if self.shared.is_batched() {
            batch::send();
        }
        !self.shared.is_batched()
    }

    pub(super) fn wants_flush(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) == LEFT
    }

    /// Whether nothing is left of what was taken.
    pub(super) fn try_flush(&self) -> io::Result<bool> {
        if !self.end_batching() {
            return Ok(false);
        }
        if !self.wants_flush() {
            return Ok(true);
        }
        let mut left = self.shared.left.lock();
        if let Some(error) = &left.error {
            return Err(io::Error::from(error.kind()));
        }
        while !left.bytes.is_empty() {
            match self.shared.socket.try_write(&left.bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => drop(left.bytes.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        left.bytes = Vec::new();
        self.shared.sent();
        Ok(true)
    }

    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.low_water().end(self.socket());
        if !self.try_flush()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.shared.socket.try_write(bytes)
    }

    pub(super) fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.end_batching() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.shared.socket.poll_write_ready(cx)
    }

    /// Ends the sending direction, behind what was taken.
    pub(super) fn shutdown(&mut self) {
        // What the socket does not take at once is given up.
        let _ = self.try_flush();
        self.shared.socket.shutdown_write();
    }
}
