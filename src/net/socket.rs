//! The two kinds of socket below everything: TCP and Unix.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

use super::IdleCheck;

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerAddr {
    /// TCP address. An IPv4 address that came in by an IPv6 socket is given as IPv4.
    Tcp(SocketAddr),
    /// Unix socket.
    Unix,
}

impl PeerAddr {
    /// Makes the address canonical: `::ffff:a.b.c.d` is `a.b.c.d`.
    pub fn tcp(addr: SocketAddr) -> Self {
        Self::Tcp(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
    }

    /// What one customer of a provider has, by which clients are told from each other where they compete: an address of IPv4, a /64 of
    /// IPv6. `None` = a Unix socket.
    pub fn block(&self) -> Option<IpAddr> {
        match self {
            Self::Unix => None,
            Self::Tcp(addr) => Some(match addr.ip() {
                address @ IpAddr::V4(_) => address,
                IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
            }),
        }
    }

    /// Address and port as the console shows them; `unix` and 0 for a Unix socket.
    pub fn parts(&self) -> (String, u16) {
        match self {
            Self::Tcp(addr) => (addr.ip().to_string(), addr.port()),
            Self::Unix => ("unix".to_owned(), 0),
        }
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix => f.write_str("[local]"),
        }
    }
}

/// A connected socket, without TLS, and to whom: the system is not asked again.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// Runs the same expression on either kind of socket.
macro_rules! each {
    ($socket:expr, $s:ident => $body:expr) => {
        match $socket {
            Socket::Tcp($s, _) => $body,
            Socket::Unix($s) => $body,
        }
    };
}

impl Socket {
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => s.poll_read_ready(cx))
    }

    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => s.poll_write_ready(cx))
    }

    /// Takes up to `buf.len()` bytes, or waits for some. A read that does not fill `buf` clears the readiness, so that no failed
    /// read follows it: whatever comes later makes an event of its own (epoll(7), question 9).
    pub(super) fn poll_read_into(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            let mut taken = None;
            let tried = self.try_io(Interest::READABLE, || {
                let (n, _) = rustix::net::recv(self, &mut *buf, RecvFlags::empty())?;
                taken = Some(n);
                if (1..buf.len()).contains(&n) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (taken, tried) {
                (Some(n), _) => return Poll::Ready(Ok(n)),
                (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                (None, Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                (None, tried) => return Poll::Ready(tried.map(|()| 0)),
            }
        }
    }

    fn try_io<R>(&self, interest: Interest, work: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        each!(self, s => s.try_io(interest, work))
    }

    pub(super) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        each!(self, s => s.try_read(buf))
    }

    pub(super) fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        each!(self, s => s.try_write(buf))
    }

    pub(super) fn peer(&self) -> PeerAddr {
        match self {
            Self::Tcp(_, peer) => PeerAddr::tcp(*peer),
            Self::Unix(_) => PeerAddr::Unix,
        }
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(s, _) => s.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Ends the sending direction; the peer reads EOF.
    pub(super) fn shutdown_write(&self) {
        // An error means that the connection is gone already, which is what was asked for.
        let _ = rustix::net::shutdown(self, rustix::net::Shutdown::Write);
    }

    pub(super) fn idle_check(&self) -> IdleCheck {
        idle_check(self)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        each!(self, s => s.as_fd())
    }
}

/// Lets rustls read and write the socket without blocking.
impl io::Read for &Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.try_read(buf)
    }
}

impl io::Write for &Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.try_write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        each!(self, s => s.try_write_vectored(bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Looks at the socket's receive queue without taking from it.
pub(super) fn idle_check(fd: impl AsFd) -> IdleCheck {
    let mut byte = [0u8; 1];
    match rustix::net::recv(fd, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, 0)) => IdleCheck::Closed,
        Ok(_) => IdleCheck::HasData,
        Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => IdleCheck::Quiet,
        Err(_) => IdleCheck::Closed,
    }
}

/// How a TCP connection finds out that the other end is gone without a word (its machine lost power, a firewall forgot it).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpLiveness {
    /// Idle time before the first keepalive probe; four are sent at a quarter of it. `None` = the system's.
    pub keepalive: Option<Duration>,
    /// Longest time that bytes may wait to be acknowledged, or the peer may take none (TCP_USER_TIMEOUT); `None` = the system's.
    pub user_timeout: Option<Duration>,
}

/// Sets what every TCP connection here wants: no delay, and what finds out about dead peers.
pub(super) fn tune_tcp(socket: &impl AsFd, liveness: TcpLiveness) -> io::Result<()> {
    let socket = socket2::SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    if liveness.user_timeout.is_some() {
        socket.set_tcp_user_timeout(liveness.user_timeout)?;
    }
    if let Some(idle) = liveness.keepalive {
        let interval = (idle / 4).max(Duration::from_secs(1));
        let settings = socket2::TcpKeepalive::new().with_time(idle.max(Duration::from_secs(1))).with_interval(interval);
        socket.set_tcp_keepalive(&settings.with_retries(4))?;
    }
    Ok(())
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM: no fault of the other end, and trying again at once would spin.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.raw_os_error().is_some_and(|code| {
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].contains(&Errno::from_raw_os_error(code))
    })
}
