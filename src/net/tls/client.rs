//! TLS towards servers.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::ServerName;

use super::verify::{Check, Verifier};
use super::{ALPN, TlsError, TlsStream, pem, provider};
use crate::config::{ServerTls, SslMode};
use crate::net::{SslPlan, Stream};

/// `sslmode`, roots and client certificate, ready for handshakes.
#[derive(Debug)]
pub struct ClientTlsContext {
    mode: SslMode,
    direct: bool,
    /// `None` when the mode never encrypts.
    config: Option<Arc<ClientConfig>>,
    /// Digest of the files' contents.
    files: Vec<u8>,
}

/// Digest of what stands in the files at this moment.
fn files(settings: &ServerTls) -> Result<Vec<u8>, TlsError> {
    let mut digest = digest::Context::new(&digest::SHA256);
    let named = [
        ("server CA", &settings.ca),
        ("server TLS client certificate", &settings.cert),
        ("server TLS client key", &settings.key),
    ];
    for (what, path) in named {
        let bytes = path.as_ref().map(|path| pem::read(what, path)).transpose()?.unwrap_or_default();
        digest.update(&(bytes.len() as u64).to_be_bytes());
        digest.update(&zeroize::Zeroizing::new(bytes));
    }
    Ok(digest.finish().as_ref().to_vec())
}

/// What a client of the web's protocols needs: certificates are verified by these roots, or by the Mozilla roots, and for the name.
pub(in crate::net) fn web_client(ca: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let (roots, pinned) = match ca {
        Some(path) => pem::roots("CA", path)?,
        None => (public_roots(), Vec::new()),
    };
    let verifier = Verifier::new(Check::ChainAndName, roots, pinned);
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

impl ClientTlsContext {
    /// A context that never encrypts.
    pub fn disabled() -> Arc<Self> {
        Arc::new(Self { mode: SslMode::Disable, direct: false, config: None, files: Vec::new() })
    }

    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], which names the file and the fix.
    pub fn load(settings: &ServerTls) -> Result<Arc<Self>, TlsError> {
        let mode = settings.mode;
        if mode == SslMode::Disable {
            return Ok(Self::disabled());
        }
        // Before they are read for good: whoever changes them meanwhile is noticed next time.
        let files = files(settings)?;
        if settings.direct && matches!(mode, SslMode::Allow | SslMode::Prefer) {
            return Err(TlsError::Incomplete(
                "direct TLS cannot fall back to plain text: use sslmode require, verify-ca or verify-full",
            ));
        }
        let check = match mode {
            SslMode::VerifyFull => Check::ChainAndName,
            SslMode::VerifyCa => Check::Chain,
            // libpq: a root file turns `require` into `verify-ca`
            SslMode::Require if settings.ca.is_some() => Check::Chain,
            _ => Check::Nothing,
        };
        let (roots, pinned) = match &settings.ca {
            Some(path) if check != Check::Nothing => pem::roots("server CA", path)?,
            _ if check != Check::Nothing => (public_roots(), Vec::new()),
            _ => (RootCertStore::empty(), Vec::new()),
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier::new(check, roots, pinned)));
        let mut config = match (&settings.cert, &settings.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let chain = pem::certificates("server TLS client certificate", cert)?;
                let secret = pem::private_key("server TLS client key", key)?;
                builder
                    .with_client_auth_cert(chain, secret)
                    .map_err(|e| pem::key_refused("server TLS client key", key, &e))?
            }
            _ => return Err(TlsError::Incomplete("a client certificate for servers needs both cert and key")),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Arc::new(Self { mode, direct: settings.direct, config: Some(Arc::new(config)), files }))
    }

    /// Whether the files still hold what they held when they were read; not, when one cannot be read any more.
    pub fn is_up_to_date(&self, settings: &ServerTls) -> bool {
        self.config.is_none() || files(settings).is_ok_and(|files| files == self.files)
    }

    /// The order in which plain text and TLS are tried.
    pub fn plan(&self) -> SslPlan {
        SslPlan::new(self.mode)
    }

    pub(in crate::net) fn is_direct(&self) -> bool {
        self.direct
    }

    /// Runs the handshake with a server.
    ///
    /// # Errors
    /// As [`TlsStream::handshake`]; `InvalidInput` when the host's name cannot stand in a certificate and has to.
    pub(in crate::net) async fn connect(&self, stream: Stream, host: &str) -> io::Result<Stream> {
        let Some(config) = &self.config else { return Err(io::ErrorKind::InvalidInput.into()) };
        let name = match ServerName::try_from(host.to_owned()) {
            Ok(name) => name,
            Err(e) if self.mode == SslMode::VerifyFull => return Err(io::Error::new(io::ErrorKind::InvalidInput, e)),
            // No name is checked; an address also keeps SNI out.
            Err(_) => ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        };
        let socket = stream.into_socket().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        // Boxed: the task of a session is as large as its largest phase for all its life.
        let stream = Box::pin(TlsStream::handshake(socket, connection.into(), &[], None)).await?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}
