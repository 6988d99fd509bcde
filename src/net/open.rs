//! Opening the client's side: encryption requests, direct TLS, and the startup or cancel packet.

use std::io;

use super::{ServerTlsContext, Stream};
use crate::wire::startup::{self, BadOpening, CancelKey, Opening, Startup};
use crate::wire::{ErrorNotice, SqlState};

/// First byte of a TLS handshake record: a client that starts with TLS directly.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a client may do.
#[derive(Debug, Clone, Copy)]
pub struct OpenSettings<'a> {
    /// Largest packet.
    pub max_startup_bytes: u32,
    /// TLS; `None` = SSLRequest is answered `N`.
    pub tls: Option<&'a ServerTlsContext>,
    /// Plain-text startups over TCP are refused (28000).
    pub tls_required: bool,
}

/// What a client opened.
#[derive(Debug)]
pub enum Opened {
    /// A session. What came behind the packet is what the connection gives next.
    Startup {
        /// The connection, encrypted if the client asked for it.
        stream: Stream,
        /// The packet.
        startup: Startup,
    },
    /// A request to cancel a query. It gets no answer: the connection is just closed, after the cancel was passed on.
    Cancel {
        /// The connection.
        stream: Stream,
        /// Whose query.
        key: CancelKey,
    },
    /// The client closed without a word, as load balancers do that only look whether someone listens.
    Closed,
}

/// Why a client was turned away. The client was told already.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The connection broke.
    #[error("connection lost during startup: {0}")]
    Io(#[from] io::Error),
    /// The TLS handshake failed.
    #[error("TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// A packet that cannot be.
    #[error("{0}")]
    Packet(#[from] BadOpening),
    /// The same encryption request twice, or GSSAPI after TLS.
    #[error("unexpected encryption request")]
    RepeatedRequest,
    /// Plain-text bytes came between SSLRequest and the handshake (trap 73).
    #[error("unencrypted data after SSLRequest")]
    DataAfterSslRequest,
    /// Direct TLS without ALPN `postgresql` (trap 73).
    #[error("direct TLS connection without ALPN \"postgresql\"")]
    Alpn,
    /// Direct TLS, and no certificate is configured.
    #[error("direct TLS connection, but TLS is not configured")]
    NoTls,
    /// Plain text, and TLS is required.
    #[error("connection without TLS refused")]
    TlsRequired,
}

impl OpenError {
    /// What the client is told; `None` when it cannot be told anything.
    pub fn notice(&self) -> Option<ErrorNotice> {
        let code = match self {
            Self::Io(_) | Self::Handshake(_) | Self::NoTls | Self::Packet(BadOpening::CancelKey) => return None,
            Self::Packet(BadOpening::NoUser) => SqlState::INVALID_AUTHORIZATION,
            Self::Packet(BadOpening::Version(..)) => SqlState::FEATURE_NOT_SUPPORTED,
            Self::TlsRequired => {
                return Some(
                    ErrorNotice::fatal(SqlState::INVALID_AUTHORIZATION, "connection without TLS refused")
                        .hint("Use sslmode=require or stronger."),
                );
            }
            Self::DataAfterSslRequest => {
                return Some(
                    ErrorNotice::fatal(SqlState::PROTOCOL_VIOLATION, "received unencrypted data after SSL request")
                        .detail("This could be either a client-software bug or evidence of an attempted man-in-the-middle attack."),
                );
            }
            _ => SqlState::PROTOCOL_VIOLATION,
        };
        Some(ErrorNotice::fatal(code, self.to_string()))
    }
}

/// Reads what the client opens with, and encrypts when it asks for that. The order is that of PostgreSQL:
/// GSSENCRequest (answered `N`), then SSLRequest, each at most once, then the packet. The time-out is the caller's.
///
/// # Errors
/// [`OpenError`]; the client has got its ErrorResponse.
pub async fn open(stream: Stream, settings: &OpenSettings<'_>) -> Result<Opened, OpenError> {
    let mut opening = Some(stream);
    let result = open_inner(&mut opening, settings).await;
    if let (Err(error), Some(stream)) = (&result, &mut opening) {
        if let Some(notice) = error.notice() {
            let mut out = Vec::new();
            notice.encode(&mut out);
            // The client may be gone: then nobody is left to tell.
            let _ = stream.write_all(&out).await;
        }
        stream.shutdown();
    }
    result
}

/// `slot` keeps the stream while it lives, so that a refusal can be sent on it.
async fn open_inner(slot: &mut Option<Stream>, settings: &OpenSettings<'_>) -> Result<Opened, OpenError> {
    let (mut gss_asked, mut ssl_asked) = (false, false);
    let mut packet = Vec::new();
    let mut first = true;
    loop {
        let stream = slot.as_mut().ok_or_else(gone)?;
        let mut head = [0u8; 4];
        match stream.read_ahead(&mut head).await? {
            0 if first => return Ok(Opened::Closed),
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            n => stream.read_exact(&mut head[n..]).await?,
        }
        if first && head[0] == TLS_HANDSHAKE {
            let tls = settings.tls.ok_or(OpenError::NoTls)?;
            let begun = [&head[..], &stream.take_ahead()].concat();
            encrypt(slot, tls, &begun).await?;
            if !slot.as_ref().and_then(Stream::tls_info).is_some_and(|info| info.alpn) {
                return Err(OpenError::Alpn);
            }
            // Encrypted from the first byte: no encryption request makes sense any more.
            (first, ssl_asked, gss_asked) = (false, true, true);
            continue;
        }
        first = false;
        let len = startup::packet_len(&head, settings.max_startup_bytes)?.ok_or(BadOpening::Length)?;
        packet.clear();
        packet.extend_from_slice(&head);
        packet.resize(len, 0);
        stream.read_exact(&mut packet[4..]).await?;

        match startup::parse(&packet)? {
            Opening::GssEncRequest => {
                if std::mem::replace(&mut gss_asked, true) || stream.is_tls() {
                    return Err(OpenError::RepeatedRequest);
                }
                stream.write_all(b"N").await?;
            }
            Opening::SslRequest => {
                if std::mem::replace(&mut ssl_asked, true) || stream.is_tls() {
                    return Err(OpenError::RepeatedRequest);
                }
                match settings.tls {
                    // PostgreSQL has no TLS on Unix sockets either.
                    Some(tls) if !stream.is_unix() => {
                        if has_more(stream)? {
                            return Err(OpenError::DataAfterSslRequest);
                        }
                        stream.write_all(b"S").await?;
                        encrypt(slot, tls, &[]).await?;
                    }
                    _ => stream.write_all(b"N").await?,
                }
            }
            Opening::Cancel(key) => {
                let stream = slot.take().ok_or_else(gone)?;
                return Ok(Opened::Cancel { stream, key });
            }
            Opening::Startup(startup) => {
                if settings.tls_required && !stream.is_tls() && !stream.is_unix() {
                    return Err(OpenError::TlsRequired);
                }
                let stream = slot.take().ok_or_else(gone)?;
                return Ok(Opened::Startup { stream, startup });
            }
        }
    }
}

/// Whether the client sent anything behind its request, which nobody encrypted.
fn has_more(stream: &mut Stream) -> io::Result<bool> {
    match stream.idle_check() {
        super::IdleCheck::Quiet => Ok(false),
        super::IdleCheck::HasData => Ok(true),
        super::IdleCheck::Closed => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

async fn encrypt(slot: &mut Option<Stream>, tls: &ServerTlsContext, prefix: &[u8]) -> Result<(), OpenError> {
    let stream = slot.take().ok_or_else(gone)?;
    *slot = Some(tls.accept(stream, prefix).await.map_err(OpenError::Handshake)?);
    Ok(())
}

/// The stream was lost in a failed handshake.
fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
