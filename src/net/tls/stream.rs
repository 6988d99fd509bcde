//! A TLS connection with the same readiness face as a plain socket.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::task::{Context, Poll, ready};

use rustls::Connection;
use rustls_pki_types::CertificateDer;

use super::TlsInfo;
use crate::net::IdleCheck;
use crate::net::socket::Socket;

/// rustls over a socket. Memory is bounded: one record of plaintext, one of ciphertext, 64 KiB to send.
#[derive(Debug)]
pub struct TlsStream {
    socket: Socket,
    connection: Connection,
    info: TlsInfo,
    /// Decrypted bytes that wait in `connection`.
    plaintext: usize,
    /// The peer sends no more: close_notify or EOF was seen.
    ended: bool,
}

impl TlsStream {
    /// Runs the handshake. `prefix` is what was read already of the peer's first record; `own` is our own
    /// certificate when we are the server. Not cancel-safe: a dropped handshake loses the socket.
    ///
    /// # Errors
    /// `InvalidData` with the [`rustls::Error`] inside when the handshake fails (the alert was sent);
    /// `UnexpectedEof` when the peer closed; else the connection broke.
    pub(in crate::net) async fn handshake(
        socket: Socket,
        mut connection: Connection,
        prefix: &[u8],
        own: Option<&CertificateDer<'static>>,
    ) -> io::Result<Self> {
        let mut prefix = prefix;
        while !prefix.is_empty() {
            connection.read_tls(&mut prefix)?;
        }
        poll_fn(|cx| {
            loop {
                if let Err(error) = connection.process_new_packets() {
                    // The alert tells the peer why; whether it arrives does not matter.
                    let _ = connection.write_tls(&mut &socket);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
                while connection.wants_write() {
                    match connection.write_tls(&mut &socket) {
                        Ok(_) => {}
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(socket.poll_write_ready(cx))?,
                        Err(e) => return Poll::Ready(Err(e)),
                    }
                }
                if !connection.is_handshaking() {
                    return Poll::Ready(Ok(()));
                }
                match connection.read_tls(&mut &socket) {
                    Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    Ok(_) => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(socket.poll_read_ready(cx))?,
                    Err(e) => return Poll::Ready(Err(e)),
                }
            }
        })
        .await?;
        let info = TlsInfo::new(&connection, own);
        let mut stream = Self { socket, connection, info, plaintext: 0, ended: false };
        // Application data may have come with the last flight.
        stream.process()?;
        Ok(stream)
    }

    pub(in crate::net) fn info(&self) -> &TlsInfo {
        &self.info
    }

    pub(in crate::net) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(in crate::net) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.plaintext > 0 || self.ended {
            return Poll::Ready(Ok(()));
        }
        // A peer that waits for our ciphertext would never send what we wait for.
        while self.wants_flush() && !self.try_flush()? {
            if self.socket.poll_write_ready(cx)?.is_pending() {
                break;
            }
        }
        self.socket.poll_read_ready(cx)
    }

    pub(in crate::net) fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_write_ready(cx)
    }

    pub(in crate::net) fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        if self.plaintext == 0 && !self.ended {
            match self.connection.read_tls(&mut &self.socket)? {
                // EOF without close_notify: many clients leave so. Messages carry their lengths, so a cut is
                // noticed above.
                0 => self.ended = true,
                _ => self.process()?,
            }
        }
        if self.plaintext == 0 {
            // A part of a record, or records without anything in them, of which there may be more without end: it is the caller's turn.
            return if self.ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let mut filled = 0;
        while self.plaintext > 0 && filled < buf.len() {
            let n = self.connection.reader().read(&mut buf[filled..])?;
            self.plaintext = self.plaintext.saturating_sub(n);
            if n == 0 {
                break;
            }
            filled += n;
        }
        Ok(filled)
    }

    pub(in crate::net) fn try_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if !self.try_flush()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = self.connection.writer().write(buf)?;
        self.try_flush()?;
        Ok(taken)
    }

    pub(in crate::net) fn try_flush(&mut self) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut &self.socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    pub(in crate::net) fn wants_flush(&self) -> bool {
        self.connection.wants_write()
    }

    pub(in crate::net) fn shutdown(&mut self) {
        self.connection.send_close_notify();
        // The peer may be gone already: nothing to do about it.
        let _ = self.try_flush();
        self.socket.shutdown_write();
    }

    /// Session tickets may wait unread behind the handshake, so ciphertext in the socket says nothing: it is
    /// decrypted, and kept.
    pub(in crate::net) fn idle_check(&mut self) -> IdleCheck {
        loop {
            if self.plaintext > 0 {
                return IdleCheck::HasData;
            }
            if self.ended {
                return IdleCheck::Closed;
            }
            match self.socket.idle_check() {
                IdleCheck::HasData => {}
                other => return other,
            }
            match self.connection.read_tls(&mut &self.socket) {
                Ok(0) => self.ended = true,
                Ok(_) if self.process().is_err() => return IdleCheck::Closed,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return IdleCheck::Quiet,
                Err(_) => return IdleCheck::Closed,
            }
        }
    }

    /// Decrypts what was read.
    fn process(&mut self) -> io::Result<()> {
        match self.connection.process_new_packets() {
            Ok(state) => {
                self.plaintext = state.plaintext_bytes_to_read();
                self.ended |= state.peer_has_closed();
                Ok(())
            }
            Err(error) => {
                let _ = self.connection.write_tls(&mut &self.socket);
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }
}
