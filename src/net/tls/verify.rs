//! Verifying a server's certificate as libpq's `sslmode` means it.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key,
};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::info::common_name;
use super::provider;

/// How much of a server's certificate is checked. The handshake's signature is checked always: whoever answers
/// holds the key of the certificate that channel binding names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Nothing (`require` without a CA, `prefer`, `allow`).
    Nothing,
    /// Signed by a known root, and valid now (`verify-ca`).
    Chain,
    /// And made out to this host (`verify-full`).
    ChainAndName,
}

/// A rustls verifier with one of the three depths.
#[derive(Debug)]
pub(super) struct Verifier {
    check: Check,
    roots: RootCertStore,
    /// Certificates of the CA file themselves: a self-signed server certificate may stand there, as with OpenSSL.
    pinned: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(check: Check, roots: RootCertStore, pinned: Vec<CertificateDer<'static>>) -> Self {
        Self { check, roots, pinned, algorithms: provider().signature_verification_algorithms }
    }

    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.pinned.iter().any(|cert| cert == end_entity) {
            return valid_now(end_entity, now);
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, self.algorithms.all)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.check != Check::Nothing {
            self.verify_chain(end_entity, intermediates, now)?;
        }
        if self.check == Check::ChainAndName {
            verify_name(end_entity, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = verify_tls13_signature(message, cert, dss, &self.algorithms);
        if verified.is_ok() || self.check != Check::Nothing {
            return verified;
        }
        // webpki cannot read X.509 v1 certificates, which `openssl x509 -req` makes by default: check the
        // signature by the bare key.
        let Ok((_, parsed)) = X509Certificate::from_der(cert) else { return verified };
        let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn valid_now(der: &[u8], now: UnixTime) -> Result<(), Error> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < cert.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > cert.validity().not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// Checks the name by the alternative names; by the common name when the certificate has none, as libpq does.
fn verify_name(der: &CertificateDer<'_>, server_name: &ServerName<'_>) -> Result<(), Error> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding)?;
    let has_names = cert.subject_alternative_name().is_ok_and(|names| names.is_some());
    if has_names {
        return verify_server_name(&ParsedCertificate::try_from(der)?, server_name);
    }
    let common = common_name(der).unwrap_or_default();
    if matches_common_name(&common, &server_name.to_str()) {
        Ok(())
    } else {
        Err(CertificateError::NotValidForName.into())
    }
}

/// Whether `pattern` (a name, or `*.rest` for exactly one label) is `host`, without regard to case.
fn matches_common_name(pattern: &str, host: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("*.") {
        return host.split_once('.').is_some_and(|(label, tail)| !label.is_empty() && tail.eq_ignore_ascii_case(rest));
    }
    !pattern.is_empty() && pattern.eq_ignore_ascii_case(host)
}

#[cfg(test)]
mod tests {
    use super::matches_common_name;

    #[test]
    fn common_names_match_whole_labels() {
        assert!(matches_common_name("db.example.com", "DB.example.com"));
        assert!(matches_common_name("*.example.com", "db.example.com"));
        assert!(!matches_common_name("*.example.com", "a.db.example.com"));
        assert!(!matches_common_name("*.example.com", "example.com"));
        assert!(!matches_common_name("*.example.com", ".example.com"));
        assert!(!matches_common_name("", ""));
    }
}
