//! What the relay and the pools need of a [`Stream`] beyond readiness: reads and writes that wait in the same call.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

use super::{IdleCheck, Stream};

impl Stream {
    /// Takes up to `buf.len()` bytes, or waits for some. `Ok(0)` = the peer sends no more.
    ///
    /// On TCP and Unix sockets a read that does not fill `buf` also clears the readiness, so that no failed read follows it.
    ///
    /// # Errors
    /// The connection broke.
    pub fn poll_read_into(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(s) => s.poll_read_into(cx, buf),
            Self::Tls(s) => {
                // A peer that never lets us wait must not keep the thread for itself; a plain socket's readiness sees to that.
                let turn = ready!(coop::poll_proceed(cx));
                loop {
                    match s.try_read(buf) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(s.poll_readable(cx))?,
                        done => {
                            turn.made_progress();
                            return Poll::Ready(done);
                        }
                    }
                }
            }
        }
    }

    /// Gives bytes to the connection, or waits until it takes some: how many were taken.
    ///
    /// # Errors
    /// The connection broke.
    pub fn poll_write_from(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.try_write(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_writable(cx))?,
                done => return Poll::Ready(done),
            }
        }
    }

    /// Leaves a small write to the batch of this turn of the thread ([`super::batch`]): whether it was taken. What becomes of it is
    /// told by [`Self::wants_flush`].
    pub fn leave_to_batch(&mut self, bytes: &[u8], waker: &Waker) -> bool {
        match self {
            Self::Plain(s) => s.leave_to_batch(bytes, waker),
            Self::Tls(_) => false,
        }
    }

    /// Pushes out what was taken and still waits.
    ///
    /// # Errors
    /// The connection broke.
    pub fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.try_flush()? {
            ready!(self.poll_writable(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// A transfer is over: whatever comes next is told at once, however little ([`super::low_water`]).
    pub fn end_transfer(&self) {
        match self {
            Self::Plain(s) => s.low_water().end(s.socket()),
            Self::Tls(_) => {}
        }
    }

    /// Whether an idle connection is open with nothing to read. Costs no system call while its reactor has seen nothing.
    pub fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        match self.poll_readable(&mut cx) {
            Poll::Pending => true,
            Poll::Ready(_) => self.idle_check() == IdleCheck::Quiet,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let n = ready!(self.get_mut().poll_read_into(cx, buf.initialize_unfilled()))?;
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_from(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_push(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().shutdown();
        Poll::Ready(Ok(()))
    }
}
