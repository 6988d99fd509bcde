//! TLS towards clients.

use std::io;
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection};
use rustls_pki_types::CertificateDer;

use super::{ALPN, TlsError, TlsStream, pem, provider};
use crate::config::{ClientTls, ClientTlsMode};
use crate::net::Stream;

/// Certificate, key and client roots, ready for handshakes. A reload makes a new one; running connections keep theirs.
#[derive(Debug)]
pub struct ServerTlsContext {
    config: Arc<ServerConfig>,
    certificate: CertificateDer<'static>,
}

impl ServerTlsContext {
    /// Reads the files. `None` when TLS towards clients is off.
    ///
    /// # Errors
    /// [`TlsError`], which names the file and the fix.
    pub fn load(settings: &ClientTls) -> Result<Option<Arc<Self>>, TlsError> {
        if settings.mode == ClientTlsMode::Disable {
            return Ok(None);
        }
        let (Some(cert_path), Some(key_path)) = (&settings.cert, &settings.key) else {
            return Err(TlsError::Incomplete("client TLS needs both a certificate and a key"));
        };
        let chain = pem::certificates("client TLS certificate", cert_path)?;
        let key = pem::private_key("client TLS key", key_path)?;
        let Some(certificate) = chain.first().cloned() else {
            return Err(TlsError::Incomplete("client TLS needs a certificate"));
        };

        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = match &settings.client_ca {
            None if settings.require_client_cert => {
                return Err(TlsError::Incomplete("requiring client certificates needs the CA that signs them"));
            }
            None => builder.with_no_client_auth(),
            Some(path) => {
                let (roots, _) = pem::roots("client CA", path)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
                let verifier = if settings.require_client_cert { verifier } else { verifier.allow_unauthenticated() };
                let verifier = verifier.build().map_err(|e| TlsError::Content {
                    what: "client CA",
                    path: path.clone(),
                    problem: e.to_string(),
                })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config =
            builder.with_single_cert(chain, key).map_err(|e| pem::key_refused("client TLS key", key_path, &e))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Some(Arc::new(Self { config: Arc::new(config), certificate })))
    }

    /// Runs the handshake with a client. `prefix` is what was read already of its first record.
    ///
    /// # Errors
    /// As [`TlsStream::handshake`]; `InvalidInput` when the stream is encrypted already.
    pub(in crate::net) async fn accept(&self, stream: Stream, prefix: &[u8]) -> io::Result<Stream> {
        let socket = stream.into_socket().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let connection = ServerConnection::new(Arc::clone(&self.config)).map_err(io::Error::other)?;
        // Boxed: the task of a session is as large as its largest phase for all its life.
        let stream = Box::pin(TlsStream::handshake(socket, connection.into(), prefix, Some(&self.certificate))).await?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}
