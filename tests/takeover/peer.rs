//! A peer on the takeover socket that says what a test wants it to say.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use socket2::{Domain, SockAddr, Socket, Type};

/// A connection.
pub struct Peer(Socket);

impl Peer {
    /// Connects.
    pub fn connect(path: &Path) -> Self {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        socket.connect(&SockAddr::unix(path).unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        Self(socket)
    }

    /// Sends one message.
    pub fn send(&self, text: &str) {
        assert_eq!(rustix::net::send(&self.0, text.as_bytes(), SendFlags::NOSIGNAL).unwrap(), text.len());
    }

    /// Sends one message with a socket.
    pub fn send_with(&self, text: &str, socket: &TcpListener) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let sockets = [socket.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&sockets)));
        rustix::net::sendmsg(&self.0, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::NOSIGNAL).unwrap();
    }

    /// The next message, and how many sockets came along; empty = closed.
    pub fn recv(&self) -> (String, usize) {
        let mut bytes = vec![0; 65536];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = match rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
            Ok(got) => got.bytes,
            Err(rustix::io::Errno::CONNRESET) => 0,
            Err(error) => panic!("{error}"),
        };
        let sockets = control.drain().map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => sockets.count(),
            _ => 0,
        });
        let sockets = sockets.sum();
        (String::from_utf8(bytes[..got].to_vec()).unwrap(), sockets)
    }
}

/// Says hello as another user, and returns the answer.
pub fn hello_as(user: u32, path: &Path) -> String {
    let script = "socket(S, 1, 5, 0) or die 'socket'; connect(S, pack('Sa*', 1, $ARGV[0])) or die \"connect: $!\"; \
                  syswrite(S, '{\"message\":\"hello\",\"version\":2}'); sysread(S, $answer, 9999); print $answer";
    let mut command = Command::new("perl");
    command.args(["-e", script]).arg(path).uid(user).gid(user).current_dir("/").stderr(Stdio::inherit());
    let output = command.output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}
