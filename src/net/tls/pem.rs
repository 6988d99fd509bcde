//! Reading PEM files, with errors that name the file and the fix.

use std::path::Path;

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

pub(super) fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { what, path: path.to_owned(), source })
}

fn content(what: &'static str, path: &Path, problem: impl Into<String>) -> TlsError {
    TlsError::Content { what, path: path.to_owned(), problem: problem.into() }
}

/// All certificates of a file, at least one, in file order.
pub(super) fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(what, path)?;
    let certs = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| content(what, path, format!("not a readable PEM file: {e}")))?;
    if certs.is_empty() {
        return Err(content(what, path, "no certificate in it: a PEM block BEGIN CERTIFICATE is wanted"));
    }
    Ok(certs)
}

/// The private key of a file.
pub(super) fn private_key(what: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = zeroize::Zeroizing::new(read(what, path)?);
    if bytes.windows(15).any(|w| w == b"BEGIN ENCRYPTED") || bytes.windows(20).any(|w| w == b"Proc-Type: 4,ENCRYPT") {
        return Err(content(
            what,
            path,
            "the key is protected by a passphrase: decrypt it (openssl pkey -in KEY -out PLAIN) and guard the file by its mode",
        ));
    }
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|e| content(what, path, format!("no private key in it (PKCS#8, PKCS#1 or SEC1 in PEM): {e}")))
}

/// A store of trust anchors, and the certificates themselves.
pub(super) fn roots(
    what: &'static str,
    path: &Path,
) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let certs = certificates(what, path)?;
    let mut store = RootCertStore::empty();
    for cert in &certs {
        store.add(cert.clone()).map_err(|e| content(what, path, format!("a certificate cannot be a root: {e}")))?;
    }
    Ok((store, certs))
}

/// Names the file behind a refusal of certificate and key.
pub(super) fn key_refused(what: &'static str, path: &Path, error: &rustls::Error) -> TlsError {
    let problem = match error {
        rustls::Error::InconsistentKeys(_) => "the key does not belong to the certificate".to_owned(),
        other => other.to_string(),
    };
    content(what, path, problem)
}
