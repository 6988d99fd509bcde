//! What a handshake agreed on, and who the peer is.

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Facts about a finished handshake.
#[derive(Debug, Clone)]
pub struct TlsInfo {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// Cipher suite, by its standard name.
    pub cipher: String,
    /// Whether ALPN `postgresql` was agreed.
    pub alpn: bool,
    /// Channel-binding data `tls-server-end-point` (RFC 5929); `None` when the certificate's signature has no
    /// single hash (Ed25519), as in PostgreSQL.
    pub server_end_point: Option<Vec<u8>>,
    /// The server's certificate in DER: ours towards clients, the peer's towards servers.
    pub server_certificate: Option<CertificateDer<'static>>,
    /// Common name of the client's certificate, which was verified; only towards clients.
    pub client_cn: Option<String>,
}

impl TlsInfo {
    pub(super) fn new(connection: &rustls::Connection, own: Option<&CertificateDer<'static>>) -> Self {
        let peer = connection.peer_certificates().and_then(<[_]>::first);
        let (server, client) = match connection {
            rustls::Connection::Server(_) => (own.cloned(), peer),
            rustls::Connection::Client(_) => (peer.map(|c| c.clone().into_owned()), None),
        };
        Self {
            version: match connection.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "TLSv1.2",
            },
            cipher: connection
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .map(|name| name.replacen("TLS13_", "TLS_", 1))
                .unwrap_or_default(),
            alpn: connection.alpn_protocol() == Some(super::ALPN),
            server_end_point: server.as_ref().and_then(|cert| server_end_point(cert)),
            server_certificate: server,
            client_cn: client.and_then(|cert| common_name(cert)),
        }
    }
}

/// Hash of the certificate by its signature's own hash, MD5 and SHA-1 raised to SHA-256 (RFC 5929, section 4.1).
pub(super) fn server_end_point(der: &[u8]) -> Option<Vec<u8>> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let algorithm = match cert.signature_algorithm.algorithm.to_id_string().as_str() {
        // md5, sha1 and sha256 with RSA; ecdsa with SHA-1 and SHA-256
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => &digest::SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, der).as_ref().to_vec())
}

/// The subject's common name, the last one when there are several (the most specific). One with a NUL is none.
pub(super) fn common_name(der: &[u8]) -> Option<String> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let name = cert.subject().iter_common_name().last()?.as_str().ok()?;
    (!name.contains('\0')).then(|| name.to_owned())
}
