//! Listening sockets that another process opened: the one that this one takes over from, or the service manager.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use rustix::net::{SocketType, sockopt};
use socket2::SockRef;

use super::{Kind, ListenError, ListenOptions, Listener};
use crate::config::ListenAddr;

/// Sockets to choose from by address. Those that nobody takes are closed.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<Bound>,
}

#[derive(Debug)]
struct Bound {
    socket: OwnedFd,
    name: Name,
    /// The file of a Unix socket is somebody else's to remove.
    foreign: bool,
}

#[derive(Debug, PartialEq)]
enum Name {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Inherited {
    /// What the service manager passes in `LISTEN_FDS`, which is taken out of the environment. To be called before there are
    /// threads, and before anything is opened.
    pub fn from_service_manager() -> Self {
        let mut passed = listenfd::ListenFd::from_env();
        let mut inherited = Self::default();
        for index in 0..passed.len() {
            let socket = match passed.take_tcp_listener(index) {
                Ok(socket) => socket.map(OwnedFd::from),
                Err(_) => passed.take_unix_listener(index).ok().flatten().map(OwnedFd::from),
            };
            if !socket.is_some_and(|socket| inherited.add(socket, true)) {
                tracing::warn!(index, "the service manager passed something that does not listen for streams");
            }
        }
        inherited
    }

    /// Adds a socket. `foreign` = if it is a Unix socket, its file is not to be removed. False: it does not listen for streams.
    pub fn add(&mut self, socket: OwnedFd, foreign: bool) -> bool {
        let Some(name) = name(&socket) else { return false };
        self.sockets.push(Bound { socket, name, foreign });
        true
    }

    /// Adds another one's sockets, to be looked at after the own ones.
    pub fn append(&mut self, mut other: Self) {
        self.sockets.append(&mut other.sockets);
    }

    /// Closes what nobody has taken. A Unix socket's file goes with it: nobody will listen on it any more.
    pub fn close(self) {
        for bound in self.sockets {
            if let (Name::Unix(path), false) = (bound.name, bound.foreign) {
                // Gone already is as good.
                let _ = std::fs::remove_file(path);
            }
        }
    }

    fn take(&mut self, name: &Name) -> Option<Bound> {
        let index = self.sockets.iter().position(|bound| bound.name == *name)?;
        Some(self.sockets.remove(index))
    }

    /// The TCP socket of this address.
    pub fn take_tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let bound = self.take(&Name::Tcp(address))?;
        rustix::io::ioctl_fionbio(&bound.socket, true).ok()?;
        Some(bound.socket.into())
    }

    /// The listener of this address: of these sockets, or a new one.
    ///
    /// # Errors
    /// As of [`Listener::bind`].
    pub fn take_or_bind(&mut self, address: &ListenAddr, options: &ListenOptions) -> Result<Listener, ListenError> {
        match address {
            ListenAddr::Tcp(addr) => {
                let Some(listener) = self.take_tcp(*addr) else { return Listener::bind(address, options) };
                // Whoever waits to be accepted has the settings that it had, or none.
                let kind = Kind::Tcp { listener, passes_on: false };
                Ok(Listener { kind, liveness: options.liveness, keep_file: false.into() })
            }
            ListenAddr::Unix { dir, port, mode } => {
                let path = dir.join(format!(".s.PGSQL.{port}"));
                let there = std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.file_type().is_socket());
                let bound = self.take(&Name::Unix(path.clone()));
                // Without its file nobody finds it.
                let Some(bound) = bound.filter(|_| there) else { return Listener::bind(address, options) };
                let failed = |source| ListenError::System { address: path.display().to_string(), source };
                let listener = adopt_unix(bound.socket).map_err(failed)?;
                if !bound.foreign {
                    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode)).map_err(failed)?;
                }
                let keep_file = AtomicBool::new(true);
                let kind = Kind::Unix { listener, path, foreign: bound.foreign };
                Ok(Listener { kind, liveness: options.liveness, keep_file })
            }
        }
    }
}

fn adopt_unix(socket: OwnedFd) -> io::Result<UnixListener> {
    let socket = UnixListener::from(socket);
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// What a listening stream socket is bound to.
fn name(socket: &OwnedFd) -> Option<Name> {
    let listens =
        sockopt::socket_type(socket).ok()? == SocketType::STREAM && sockopt::socket_acceptconn(socket).ok()?;
    let address = SockRef::from(socket).local_addr().ok().filter(|_| listens)?;
    match address.as_socket() {
        Some(address) => Some(Name::Tcp(address)),
        None => address.as_pathname().map(|path| Name::Unix(path.to_owned())),
    }
}
