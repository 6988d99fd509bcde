//! [`Stream`]: one connection, with readiness instead of `AsyncRead`.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use tokio::net::{TcpStream, UnixStream};

use super::plain::Plain;
use super::socket::{PeerAddr, Socket};
use super::tls::{TlsInfo, TlsStream};

/// A connection to a client or to a server.
///
/// Every `async` method can be dropped at any await point without losing a byte, so all of them may stand in
/// `tokio::select!`. The exceptions say so. A stream may be used on another runtime than the one that made it.
#[derive(Debug)]
pub enum Stream {
    /// TCP or a Unix socket, without TLS.
    Plain(Plain),
    /// TLS over either.
    Tls(Box<TlsStream>),
}

/// What an idle connection has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleCheck {
    /// Open, nothing to read.
    Quiet,
    /// The peer closed it, or it broke.
    Closed,
    /// Open, and there is something to read.
    HasData,
}

impl Stream {
    /// Waits until [`Self::try_read`] may give something. May be wrong: read again when it says `WouldBlock`.
    /// With TLS it returns at once while decrypted bytes wait, and pushes out pending ciphertext meanwhile.
    ///
    /// # Errors
    /// The runtime is shutting down, or (TLS) the push failed.
    pub async fn readable(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_readable(cx)).await
    }

    /// [`Self::readable`] as a poll.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(s) => s.poll_readable(cx),
            Self::Tls(s) => s.poll_readable(cx),
        }
    }

    /// Takes what is there, up to `buf.len()` bytes. `Ok(0)` = the peer sends no more.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; anything else ends the connection.
    pub fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(s) => s.try_read(buf),
            Self::Tls(s) => s.try_read(buf),
        }
    }

    /// Waits until [`Self::try_write`] or [`Self::try_flush`] may get on. May be wrong.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub async fn writable(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_writable(cx)).await
    }

    /// [`Self::writable`] as a poll.
    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(s) => s.poll_writable(cx),
            Self::Tls(s) => s.poll_writable(cx),
        }
    }

    /// Gives bytes to the connection: how many were taken. With TLS, taken bytes may still wait as ciphertext:
    /// see [`Self::wants_flush`].
    ///
    /// # Errors
    /// `WouldBlock` when nothing could be taken; anything else ends the connection.
    pub fn try_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(s) => s.try_write(buf),
            Self::Tls(s) => s.try_write(buf),
        }
    }

    /// Sends what was taken and still waits (ciphertext; what a batch could not send) as far as the socket takes it: whether
    /// nothing is left.
    ///
    /// # Errors
    /// The connection broke. Never `WouldBlock`.
    pub fn try_flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Plain(s) => s.try_flush(),
            Self::Tls(s) => s.try_flush(),
        }
    }

    /// Whether something that was taken waits to be sent, or could not be: wait for [`Self::writable`], then [`Self::try_flush`].
    pub fn wants_flush(&self) -> bool {
        match self {
            Self::Plain(s) => s.wants_flush(),
            Self::Tls(s) => s.wants_flush(),
        }
    }

    /// Waits for bytes and takes up to `buf.len()` of them. `Ok(0)` = the peer sends no more.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn read_some(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| {
            loop {
                match self.try_read(buf) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_readable(cx))?,
                    done => return Poll::Ready(done),
                }
            }
        })
        .await
    }

    /// As [`Self::read_some`], but what is there behind it is read in the same call of the system and kept for the next read: for
    /// messages that are read one by one.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn read_ahead(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| match self {
            Self::Plain(s) => s.poll_read_ahead(cx, buf),
            Self::Tls(_) => self.poll_read_into(cx, buf),
        })
        .await
    }

    /// Fills `buf`, reading ahead. Not cancel-safe: for logins.
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer closed; else the connection broke.
    pub async fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.read_ahead(&mut buf[filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => filled += n,
            }
        }
        Ok(())
    }

    /// Reads exactly one typed message: `body` becomes what follows the length; the type is returned. What comes
    /// behind the message is left to the next read. Not cancel-safe: for logins.
    ///
    /// # Errors
    /// `InvalidData` when the length field is under 4 or over `max_len` (traps 75 and 78: before a byte of
    /// the body is stored); `UnexpectedEof` when the peer closed; else the connection broke.
    pub async fn read_frame(&mut self, body: &mut Vec<u8>, max_len: u32) -> io::Result<u8> {
        let mut header = [0u8; 5];
        self.read_exact(&mut header).await?;
        let [tag, len @ ..] = header;
        let len = u32::from_be_bytes(len);
        if len < 4 || len > max_len {
            return Err(io::Error::new(io::ErrorKind::InvalidData, crate::wire::BadFrame { tag, len }));
        }
        body.clear();
        body.resize(len as usize - 4, 0);
        self.read_exact(body).await?;
        Ok(tag)
    }

    /// Sends all of `buf`, flush included. Not cancel-safe: a dropped call may have sent a part.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn write_all(&mut self, mut buf: &[u8]) -> io::Result<()> {
        poll_fn(|cx| {
            loop {
                if buf.is_empty() {
                    if self.try_flush()? {
                        return Poll::Ready(Ok(()));
                    }
                    ready!(self.poll_writable(cx))?;
                    continue;
                }
                match self.try_write(buf) {
                    Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Ok(n) => buf = &buf[n..],
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_writable(cx))?,
                    Err(e) => return Poll::Ready(Err(e)),
                }
            }
        })
        .await
    }

    /// Says goodbye: TLS close_notify, then the end of the sending direction. Sends only what the socket takes
    /// at once, so it never waits for the peer.
    pub fn shutdown(&mut self) {
        match self {
            Self::Plain(s) => s.shutdown(),
            Self::Tls(s) => s.shutdown(),
        }
    }

    /// The other end.
    pub fn peer(&self) -> PeerAddr {
        self.socket().peer()
    }

    /// The other end as text for logs and console: `host:port`, or `[local]`.
    pub fn peer_addr_text(&self) -> String {
        self.peer().to_string()
    }

    /// Our own address; `None` on a Unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.socket().local_addr()
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether it runs over a Unix socket (with or without TLS).
    pub fn is_unix(&self) -> bool {
        matches!(self.socket(), Socket::Unix(_))
    }

    /// What the handshake agreed on; `None` without TLS.
    pub fn tls_info(&self) -> Option<&TlsInfo> {
        match self {
            Self::Tls(s) => Some(s.info()),
            Self::Plain(_) => None,
        }
    }

    /// Looks at an idle connection before it is used again (trap 71) without taking a byte from it. One system
    /// call: meant for connections that were idle for a while, not for a hand-over from client to client.
    pub fn idle_check(&mut self) -> IdleCheck {
        match self {
            Self::Plain(s) => s.idle_check(),
            Self::Tls(s) => s.idle_check(),
        }
    }

    /// What was read ahead and nobody has asked for, to be read elsewhere.
    pub(super) fn take_ahead(&mut self) -> Vec<u8> {
        match self {
            Self::Plain(s) => s.take_ahead(),
            Self::Tls(_) => Vec::new(),
        }
    }

    /// Takes the plain socket out, for a TLS handshake. Not of a stream that is encrypted already, or of which a batch has bytes, or
    /// of which bytes were read ahead.
    pub(super) fn into_socket(self) -> Result<Socket, ()> {
        match self {
            Self::Plain(s) => s.into_socket().ok_or(()),
            Self::Tls(_) => Err(()),
        }
    }

    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(s) => s.socket(),
            Self::Tls(s) => s.socket(),
        }
    }
}

impl From<Socket> for Stream {
    fn from(socket: Socket) -> Self {
        Self::Plain(Plain::new(socket))
    }
}

impl From<(TcpStream, SocketAddr)> for Stream {
    /// Of a connection and its other end.
    fn from((socket, peer): (TcpStream, SocketAddr)) -> Self {
        Socket::Tcp(socket, peer).into()
    }
}

impl From<UnixStream> for Stream {
    fn from(socket: UnixStream) -> Self {
        Socket::Unix(socket).into()
    }
}
