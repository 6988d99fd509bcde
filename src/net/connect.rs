//! Connecting to a server: hosts and addresses in order, and TLS as `sslmode` says.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::socket::{TcpLiveness, is_exhaustion, tune_tcp};
use super::{ClientTlsContext, Stream, names};
use crate::config::{HostPort, SslMode};
use crate::wire::build;

/// How one attempt encrypts. Unix sockets are never encrypted, as with libpq.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// No TLS.
    Plain,
    /// TLS or failure.
    Tls,
    /// TLS when the server has it, else plain text on the same connection.
    TlsOrPlain,
}

/// The attempts that an `sslmode` stands for: `allow` and `prefer` have a second one for servers that refuse the
/// startup of the first ("no pg_hba.conf entry … no encryption").
#[derive(Debug, Clone, Copy)]
pub struct SslPlan {
    first: Encryption,
    second: Option<Encryption>,
}

impl SslPlan {
    pub(super) fn new(mode: SslMode) -> Self {
        let (first, second) = match mode {
            SslMode::Disable => (Encryption::Plain, None),
            SslMode::Allow => (Encryption::Plain, Some(Encryption::Tls)),
            SslMode::Prefer => (Encryption::TlsOrPlain, Some(Encryption::Plain)),
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (Encryption::Tls, None),
        };
        Self { first, second }
    }

    /// What to try first.
    pub fn first(&self) -> Encryption {
        self.first
    }

    /// What to try after the server refused the startup packet (28000) on `refused`; at most once, and `None`
    /// when it would be the same again.
    pub fn retry(&mut self, refused: &Stream) -> Option<Encryption> {
        self.retry_after(refused.is_tls(), refused.is_unix())
    }

    pub(super) fn retry_after(&mut self, was_tls: bool, was_unix: bool) -> Option<Encryption> {
        let second = self.second.take()?;
        let same = was_unix || was_tls == (second != Encryption::Plain);
        (!same).then_some(second)
    }
}

/// Settings of new sockets.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectOptions {
    /// How a TCP socket finds out that the server is gone.
    pub liveness: TcpLiveness,
    /// How much time there is for all addresses together. One that says nothing takes no more of it than its share, so that those behind
    /// it have theirs; the last one has the caller's patience. `None` = each has all.
    pub patience: Option<Duration>,
}

/// None of a server's hosts could be connected to.
#[derive(Debug)]
pub struct ConnectError {
    /// What went wrong, in the order tried; empty only when no host was given.
    pub hosts: Vec<HostError>,
}

impl ConnectError {
    /// Whether the cause is on our side or in the way, so that nothing is known about the server: descriptors ran out, a
    /// name was not resolved (trap 89), or TLS settings do not fit together.
    pub fn is_local(&self) -> bool {
        self.hosts.iter().all(|host| match &host.failure {
            HostFailure::Resolve(_) | HostFailure::NoTls | HostFailure::Alpn => true,
            HostFailure::Handshake(e) => e.get_ref().is_some_and(|e| e.is::<rustls::Error>()),
            HostFailure::Connect(e) => is_exhaustion(e) || e.kind() == io::ErrorKind::PermissionDenied,
            HostFailure::Negotiate(_) | HostFailure::Answer => false,
        })
    }
}

/// What went wrong with one address.
#[derive(Debug)]
pub struct HostError {
    /// Host (and address, when the host is a name).
    pub host: String,
    /// What went wrong.
    pub failure: HostFailure,
}

/// What can go wrong with an address.
#[derive(Debug, thiserror::Error)]
pub enum HostFailure {
    /// The name was not resolved. One failed look-up does not mean that the server is down (trap 89).
    #[error("name resolution failed: {0}")]
    Resolve(io::Error),
    /// The socket was not connected.
    #[error("{0}")]
    Connect(io::Error),
    /// The connection broke during TLS negotiation.
    #[error("connection lost during TLS negotiation: {0}")]
    Negotiate(io::Error),
    /// The server has no TLS, and the mode wants it.
    #[error("the server does not support TLS, but sslmode requires it: turn ssl on there, or use a weaker sslmode")]
    NoTls,
    /// The server answered SSLRequest with something else than `S` or `N`, or sent more than that.
    #[error("unexpected answer to SSLRequest: not a PostgreSQL server, or someone is between")]
    Answer,
    /// The server did not agree on ALPN `postgresql` with direct TLS.
    #[error("the server did not confirm ALPN \"postgresql\", which direct TLS needs: PostgreSQL 17 or newer is wanted")]
    Alpn,
    /// The handshake failed.
    #[error("TLS handshake failed: {0}{hint}", hint = tls_hint(.0))]
    Handshake(io::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.hosts.is_empty() {
            return f.write_str("no host to connect to");
        }
        for (i, host) in self.hosts.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", host.host, host.failure)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.hosts.last().map(|host| &host.failure as _)
    }
}

/// What to do about the usual refusals of a certificate.
fn tls_hint(error: &io::Error) -> &'static str {
    use rustls::CertificateError as E;
    let Some(rustls::Error::InvalidCertificate(problem)) = error.get_ref().and_then(|e| e.downcast_ref()) else {
        return "";
    };
    match problem {
        E::UnknownIssuer => " (set `ca` to the file of the authority that signed the server's certificate)",
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            " (the certificate is for another host: use its name as host, or sslmode verify-ca)"
        }
        E::Expired | E::ExpiredContext { .. } => " (renew the server's certificate)",
        E::Other(_) => " (the certificate may be X.509 version 1: make a version 3 one)",
        _ => "",
    }
}

/// Connects to the first host, and the first of its addresses, that answers and agrees on `encryption`.
/// The time-out is the caller's.
///
/// # Errors
/// What went wrong with each address.
pub async fn connect(
    hosts: &[HostPort],
    tls: &ClientTlsContext,
    encryption: Encryption,
    options: &ConnectOptions,
) -> Result<Stream, ConnectError> {
    let mut errors = Vec::new();
    let until = options.patience.map(|patience| Instant::now() + patience);
    for (index, host) in hosts.iter().enumerate() {
        let way = Way { tls, encryption, options, until, hosts_behind: hosts.len() - 1 - index };
        match connect_host(host, &way, &mut errors).await {
            Some(stream) => return Ok(stream),
            None => continue,
        }
    }
    Err(ConnectError { hosts: errors })
}

/// Connects to the very server that another connection goes to. `host` is what it is called in the configuration.
///
/// # Errors
/// What went wrong.
pub async fn connect_to(
    address: SocketAddr,
    host: &str,
    tls: &ClientTlsContext,
    encryption: Encryption,
) -> Result<Stream, ConnectError> {
    let way = Way { tls, encryption, options: &ConnectOptions::default(), until: None, hosts_behind: 0 };
    let failed = |failure| ConnectError { hosts: vec![HostError { host: address.to_string(), failure }] };
    connect_address(address, host, &way).await.map_err(failed)
}

/// How to connect to one host, and for how long.
struct Way<'a> {
    tls: &'a ClientTlsContext,
    encryption: Encryption,
    options: &'a ConnectOptions,
    until: Option<Instant>,
    hosts_behind: usize,
}

impl Way<'_> {
    /// How long an address may take behind which there are so many more of its host.
    fn share(&self, addresses_behind: usize) -> Option<Duration> {
        let behind = u32::try_from(addresses_behind + self.hosts_behind).unwrap_or(u32::MAX - 1);
        let left = self.until?.saturating_duration_since(Instant::now());
        (behind > 0).then(|| left / (behind + 1))
    }
}

/// The addresses that a name has now; an address has itself.
///
/// # Errors
/// The look-up failed, which tells nothing about the server (trap 89).
pub async fn look_up(host: &HostPort) -> io::Result<Vec<SocketAddr>> {
    let found = tokio::net::lookup_host((host.host.as_str(), host.port)).await.map(Iterator::collect::<Vec<_>>);
    names::note(&host.host, found.as_deref().unwrap_or_default());
    found
}

async fn connect_host(host: &HostPort, way: &Way<'_>, errors: &mut Vec<HostError>) -> Option<Stream> {
    let mut failed = |host: String, failure| errors.push(HostError { host, failure });
    if host.host.starts_with('/') {
        let path = Path::new(&host.host).join(format!(".s.PGSQL.{}", host.port));
        return match UnixStream::connect(&path).await {
            Ok(socket) => Some(Stream::from(socket)),
            Err(e) => {
                failed(path.display().to_string(), HostFailure::Connect(e));
                None
            }
        };
    }
    let addresses = match look_up(host).await {
        Ok(found) => found,
        Err(e) => {
            failed(host.to_string(), HostFailure::Resolve(e));
            return None;
        }
    };
    for (index, address) in addresses.iter().enumerate() {
        let attempt = connect_address(*address, &host.host, way);
        let outcome = match way.share(addresses.len() - 1 - index) {
            Some(share) => tokio::time::timeout(share, attempt)
                .await
                .unwrap_or_else(|_| Err(HostFailure::Connect(io::ErrorKind::TimedOut.into()))),
            None => attempt.await,
        };
        match outcome {
            Ok(stream) => return Some(stream),
            Err(failure) if host.host.parse::<std::net::IpAddr>().is_ok() => failed(host.to_string(), failure),
            Err(failure) => failed(format!("{host} ({})", address.ip()), failure),
        }
    }
    None
}

async fn connect_address(address: SocketAddr, host: &str, way: &Way<'_>) -> Result<Stream, HostFailure> {
    let Way { tls, encryption, options, .. } = *way;
    let socket = TcpStream::connect(address).await.map_err(HostFailure::Connect)?;
    tune_tcp(&socket, options.liveness).map_err(HostFailure::Connect)?;
    let mut stream = Stream::from((socket, address));
    if encryption == Encryption::Plain {
        return Ok(stream);
    }
    if tls.is_direct() {
        let stream = tls.connect(stream, host).await.map_err(HostFailure::Handshake)?;
        return if stream.tls_info().is_some_and(|info| info.alpn) { Ok(stream) } else { Err(HostFailure::Alpn) };
    }
    let mut request = Vec::with_capacity(8);
    build::ssl_request(&mut request);
    stream.write_all(&request).await.map_err(HostFailure::Negotiate)?;
    // Whatever comes along with the answer was not encrypted and must not pass for it (CVE-2021-23222).
    let mut answer = [0u8; 64];
    let n = stream.read_some(&mut answer).await.map_err(HostFailure::Negotiate)?;
    match &answer[..n] {
        b"S" => tls.connect(stream, host).await.map_err(HostFailure::Handshake),
        b"N" if encryption == Encryption::TlsOrPlain => Ok(stream),
        b"N" => Err(HostFailure::NoTls),
        [] => Err(HostFailure::Negotiate(io::ErrorKind::UnexpectedEof.into())),
        // An ErrorResponse too: its text is not authenticated, so nothing of it is shown (CVE-2024-10977).
        _ => Err(HostFailure::Answer),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
