//! Listening for clients.

mod inherited;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket as RawSocket, Type};
use tokio::net;

use super::Stream;
use super::socket::{PeerAddr, TcpLiveness, is_exhaustion, tune_tcp};
use crate::config::ListenAddr;

pub use inherited::Inherited;

/// Settings of listening sockets and of what they accept.
#[derive(Debug, Clone, Copy)]
pub struct ListenOptions {
    /// Connections that may wait to be accepted.
    pub backlog: i32,
    /// Share the port with other processes (SO_REUSEPORT), for a hand-over between two of them.
    pub reuse_port: bool,
    /// How accepted TCP sockets find out that their client is gone.
    pub liveness: TcpLiveness,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 1024, reuse_port: false, liveness: TcpLiveness::default() }
    }
}

/// An address that cannot be listened on. The text names it and the fix.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A running server answers on that Unix socket.
    #[error("{path}: another server is listening there: stop it, or use another directory or port", path = .0.display())]
    SocketInUse(PathBuf),
    /// Something else than a socket has that name.
    #[error("{path}: exists and is not a socket: remove it, or use another directory or port", path = .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot listen on {address}: {source}{hint}", hint = listen_hint(source))]
    System {
        /// The address or path.
        address: String,
        /// Why not.
        source: io::Error,
    },
}

fn listen_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another program has this port: stop it or choose another port)",
        io::ErrorKind::PermissionDenied => " (ports under 1024 and foreign directories need a permission)",
        io::ErrorKind::AddrNotAvailable => " (this machine does not have that address)",
        io::ErrorKind::NotFound => " (the directory does not exist)",
        _ => "",
    }
}

#[derive(Debug)]
enum Kind {
    /// `passes_on`: the settings of connections are those of this socket, from the first one.
    Tcp {
        listener: TcpListener,
        passes_on: bool,
    },
    Unix {
        listener: UnixListener,
        path: PathBuf,
        foreign: bool,
    },
}

/// A listening socket, of no runtime: an [`Acceptor`] accepts. The file of a Unix socket is removed on drop, unless it is somebody
/// else's.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    liveness: TcpLiveness,
    /// Another process uses the file of this Unix socket, or may do so.
    keep_file: AtomicBool,
}

/// A connection just accepted.
#[derive(Debug)]
pub struct Accepted {
    socket: AcceptedSocket,
    /// Whose runtime has it.
    on: ThreadId,
    /// Who connected.
    pub peer: PeerAddr,
}

#[derive(Debug)]
enum AcceptedSocket {
    Tcp(net::TcpStream, SocketAddr),
    Unix(net::UnixStream),
}

impl Accepted {
    /// Binds the connection to the runtime of the calling task, which is the only one of its thread. Costs nothing where it was
    /// accepted.
    ///
    /// # Errors
    /// The runtime cannot take it.
    pub fn into_stream(self) -> io::Result<Stream> {
        let stays = self.on == thread::current().id();
        Ok(match self.socket {
            AcceptedSocket::Tcp(socket, peer) if stays => (socket, peer).into(),
            AcceptedSocket::Unix(socket) if stays => socket.into(),
            AcceptedSocket::Tcp(socket, peer) => (net::TcpStream::from_std(socket.into_std()?)?, peer).into(),
            AcceptedSocket::Unix(socket) => net::UnixStream::from_std(socket.into_std()?)?.into(),
        })
    }
}

impl Listener {
    /// Binds and listens.
    ///
    /// # Errors
    /// [`ListenError`]. A Unix socket's file that nobody answers on is taken over, anything else is left alone.
    pub fn bind(address: &ListenAddr, options: &ListenOptions) -> Result<Self, ListenError> {
        let kind = match address {
            ListenAddr::Tcp(addr) => {
                let failed = |source| ListenError::System { address: addr.to_string(), source };
                let listener = bind_tcp(*addr, options).map_err(failed)?;
                // Linux gives what it accepts the settings of the listening socket: five system calls less for each.
                let passes_on = cfg!(target_os = "linux");
                if passes_on {
                    tune_tcp(&listener, options.liveness).map_err(failed)?;
                }
                Kind::Tcp { listener, passes_on }
            }
            ListenAddr::Unix { dir, port, mode } => {
                let path = dir.join(format!(".s.PGSQL.{port}"));
                let failed = |source| ListenError::System { address: path.display().to_string(), source };
                remove_stale(&path)?;
                let listener = bind_unix(&path, *mode, options.backlog).map_err(failed)?;
                Kind::Unix { listener, path, foreign: false }
            }
        };
        Ok(Self { kind, liveness: options.liveness, keep_file: false.into() })
    }

    /// The address in use (the port that the system chose, when 0 was asked for); `None` for a Unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp { listener, .. } => listener.local_addr().ok(),
            Kind::Unix { .. } => None,
        }
    }

    /// Whether the file of this Unix socket stays when it is dropped: another process listens on it, too.
    pub fn keep_file(&self, keep: bool) {
        self.keep_file.store(keep, Ordering::Release);
    }

    /// Whether the file of this Unix socket belongs to the service manager.
    pub fn is_foreign(&self) -> bool {
        matches!(self.kind, Kind::Unix { foreign: true, .. })
    }
}

/// Accepts from a listening socket, for as long as it lives.
#[derive(Debug)]
pub struct Acceptor {
    socket: ListeningSocket,
    /// What accepted TCP sockets are still to be told.
    liveness: Option<TcpLiveness>,
}

#[derive(Debug)]
enum ListeningSocket {
    Tcp(net::TcpListener),
    Unix(net::UnixListener),
}

impl Acceptor {
    /// On the runtime of the calling task.
    ///
    /// # Errors
    /// The system or the runtime cannot give what it takes.
    pub fn new(listener: &Listener) -> io::Result<Self> {
        Ok(match &listener.kind {
            Kind::Tcp { listener: socket, passes_on } => Self {
                socket: ListeningSocket::Tcp(net::TcpListener::from_std(socket.try_clone()?)?),
                liveness: (!passes_on).then_some(listener.liveness),
            },
            Kind::Unix { listener: socket, .. } => Self {
                socket: ListeningSocket::Unix(net::UnixListener::from_std(socket.try_clone()?)?),
                liveness: None,
            },
        })
    }

    /// Waits for the next connection. Never fails: a client that gave up is passed over, and when descriptors or
    /// memory run out it waits for some to come back (trap 80). Cancel-safe.
    pub async fn accept(&self) -> Accepted {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.accept_once().await {
                Ok(accepted) => return accepted,
                Err(e) if is_exhaustion(&e) => {
                    tracing::warn!(error = %e, pause_ms = pause.as_millis() as u64, "cannot accept a client: raise the limit of open files (LimitNOFILE, ulimit -n)");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(e) => {
                    // The client gave up between connect and accept, or the network did.
                    tracing::debug!(error = %e, "a client went away before it was accepted");
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    async fn accept_once(&self) -> io::Result<Accepted> {
        let (socket, peer) = match &self.socket {
            ListeningSocket::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                if let Some(liveness) = self.liveness {
                    tune_tcp(&socket, liveness)?;
                }
                (AcceptedSocket::Tcp(socket, peer), PeerAddr::tcp(peer))
            }
            ListeningSocket::Unix(listener) => (AcceptedSocket::Unix(listener.accept().await?.0), PeerAddr::Unix),
        };
        Ok(Accepted { socket, on: thread::current().id(), peer })
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

fn bind_tcp(addr: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
    let socket = RawSocket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if addr.is_ipv6() {
        // `::` and `0.0.0.0` can then both be listed, and mean what they say.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(addr))?;
    socket.listen(options.backlog)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path, mode: u32, backlog: i32) -> io::Result<UnixListener> {
    let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before `listen`, so the mode is in force for the first client.
    let listening =
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).and_then(|()| socket.listen(backlog));
    if let Err(e) = listening {
        // Our own file: nothing else may trip over it.
        let _ = std::fs::remove_file(path);
        return Err(e);
    }
    Ok(socket.into())
}

/// Removes the socket file that a dead process left: only when connecting is refused.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    use std::os::unix::fs::FileTypeExt;
    let Ok(meta) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !meta.file_type().is_socket() {
        return Err(ListenError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .map_err(|source| ListenError::System { address: path.display().to_string(), source }),
        _ => Err(ListenError::SocketInUse(path.to_owned())),
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Tcp { listener, .. } => listener.as_fd(),
            Kind::Unix { listener, .. } => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Kind::Unix { path, foreign: false, .. } = &self.kind
            && !self.keep_file.load(Ordering::Acquire)
        {
            // Gone already is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
