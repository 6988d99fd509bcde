//! Packets over a Unix socket (SOCK_SEQPACKET): whole messages, which may carry open sockets (SCM_RIGHTS).
//!
//! Only a process of the same user or of root is let in: the file has mode 0600, and the system says who is at the other end.

use std::fs::Permissions;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketType, recvmsg, sendmsg, sockopt,
};
use socket2::{Domain, SockAddr, Socket as RawSocket, Type};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

/// Longest message.
pub const MOST_BYTES: usize = 16 * 1024;
/// Most sockets in one message: what the system allows.
pub const MOST_SOCKETS: usize = 253;
const CONTROL_BYTES: usize = rustix::cmsg_space!(ScmRights(MOST_SOCKETS));

/// One message and the sockets that came with it.
#[derive(Debug)]
pub struct Packet {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The sockets, in the sender's order.
    pub sockets: Vec<OwnedFd>,
}

/// One end of a connection, on the runtime that it was made on.
#[derive(Debug)]
pub struct Packets {
    /// Of packets, not of a stream: only the readiness and the system calls below are used of it.
    socket: UnixStream,
}

impl Packets {
    /// Uses a connected socket.
    ///
    /// # Errors
    /// It is no socket of this kind, or the runtime cannot take it.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        if sockopt::socket_type(&socket)? != SocketType::SEQPACKET {
            return Err(io::Error::other("not a socket for packets"));
        }
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self { socket: UnixStream::from_std(socket.into())? })
    }

    /// Connects to the process that listens at this path; `None` = there is none.
    ///
    /// # Errors
    /// The system refuses, or whoever listens runs as another user.
    pub fn connect(path: &Path) -> io::Result<Option<Self>> {
        let socket = RawSocket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        match socket.connect(&SockAddr::unix(path)?) {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        }
        let packets = Self::new(socket.into())?;
        packets.check_peer()?;
        Ok(Some(packets))
    }

    /// Whether the peer runs as this process's user, or as root.
    ///
    /// # Errors
    /// It does not, or the system does not tell.
    pub fn check_peer(&self) -> io::Result<()> {
        let peer = self.socket.peer_cred()?;
        if peer.uid() == rustix::process::geteuid().as_raw() || peer.uid() == 0 {
            return Ok(());
        }
        let who = peer.pid().map_or("a process".to_owned(), |pid| format!("process {pid}"));
        Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{who} belongs to another user")))
    }

    /// Sends one message, whole.
    ///
    /// # Errors
    /// The peer is gone, or there are too many bytes or sockets.
    pub async fn send(&self, bytes: &[u8], sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.len() > MOST_BYTES || sockets.len() > MOST_SOCKETS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too much for one message"));
        }
        let attempt = || {
            let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !sockets.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(sockets));
            }
            let send = || sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
            Ok(rustix::io::retry_on_intr(send)?)
        };
        self.socket.async_io(Interest::WRITABLE, attempt).await.map(drop)
    }

    /// The next message; `None` = the peer has closed. Cancel-safe.
    ///
    /// # Errors
    /// The connection is broken, or a message is longer than any may be.
    pub async fn recv(&self) -> io::Result<Option<Packet>> {
        self.socket.async_io(Interest::READABLE, || receive(self.socket.as_fd())).await
    }
}

impl AsFd for Packets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Packet>> {
    let mut bytes = vec![0; MOST_BYTES];
    let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let receive = || recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags);
    let got = rustix::io::retry_on_intr(receive)?;
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            sockets.extend(received);
        }
    }
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message that is too long"));
    }
    bytes.truncate(got.bytes);
    Ok((got.bytes > 0).then_some(Packet { bytes, sockets }))
}

/// Listens for [`Packets`] at a path.
#[derive(Debug)]
pub struct PacketListener {
    socket: UnixListener,
}

impl PacketListener {
    /// Listens at this path. What a dead process left there is replaced; whether one lives there has been found out by
    /// [`Packets::connect`].
    ///
    /// # Errors
    /// The system refuses, or something else than a socket has that name.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if std::fs::symlink_metadata(path).is_ok_and(|meta| !meta.file_type().is_socket()) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "exists and is not a socket"));
        }
        let socket = RawSocket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        // Under another name first: whoever finds the right one finds somebody listening, and the right mode.
        let fresh = fresh_name(path);
        let _ = std::fs::remove_file(&fresh);
        socket.bind(&SockAddr::unix(&fresh)?)?;
        let named = std::fs::set_permissions(&fresh, Permissions::from_mode(0o600))
            .and_then(|()| socket.listen(16))
            .and_then(|()| std::fs::rename(&fresh, path));
        if let Err(e) = named {
            let _ = std::fs::remove_file(&fresh);
            return Err(e);
        }
        Self::adopt(socket.into())
    }

    /// Uses a socket that listens already.
    ///
    /// # Errors
    /// It does not, or the runtime cannot take it.
    pub fn adopt(socket: OwnedFd) -> io::Result<Self> {
        if sockopt::socket_type(&socket)? != SocketType::SEQPACKET || !sockopt::socket_acceptconn(&socket)? {
            return Err(io::Error::other("not a socket that listens for packets"));
        }
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self { socket: UnixListener::from_std(socket.into())? })
    }

    /// The next connection of a process that may be let in. Cancel-safe.
    ///
    /// # Errors
    /// The system refuses, or the peer runs as another user.
    pub async fn accept(&self) -> io::Result<Packets> {
        let packets = Packets { socket: self.socket.accept().await?.0 };
        packets.check_peer()?;
        Ok(packets)
    }
}

impl AsFd for PacketListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Beside the path, and of this process alone.
fn fresh_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    name.into()
}
