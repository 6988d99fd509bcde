//! Files that the configuration names: certificates, keys, secrets, logs.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_spanned::Spanned;

use super::{Context, get, word};
use crate::config::schema::{self, Opt};
use crate::config::{Secret, ServerTls, SslMode};

/// A path; relative ones start at the configuration file's directory.
pub(super) fn path(text: &str, dir: &Path) -> PathBuf {
    dir.join(text)
}

/// What a PEM file must hold.
#[derive(Clone, Copy)]
pub(super) enum Pem {
    /// At least one certificate.
    Certificate,
    /// A private key.
    Key,
}

/// The path of a PEM file that can be read and holds what it should.
pub(super) fn pem(file: &Opt<String>, what: Pem, cx: &mut Context<'_>) -> Option<PathBuf> {
    let file = file.as_ref()?;
    let path = path(file.get_ref(), cx.dir);
    let bytes = match fs::read(&path) {
        Ok(bytes) => zeroize::Zeroizing::new(bytes),
        Err(error) => {
            unreadable(file, &path, &error, cx);
            return None;
        }
    };
    let holds = match what {
        Pem::Certificate => matches!(CertificateDer::pem_slice_iter(&bytes).next(), Some(Ok(_))),
        Pem::Key => PrivateKeyDer::from_pem_slice(&bytes).is_ok(),
    };
    if !holds {
        let what = match what {
            Pem::Certificate => "certificate",
            Pem::Key => "private key",
        };
        cx.problems
            .error(format!("no {what} in {}", path.display()))
            .at(file.span(), format!("must hold a {what} in PEM"))
            .help("a PEM file has lines such as -----BEGIN CERTIFICATE----- or -----BEGIN PRIVATE KEY-----");
        return None;
    }
    if matches!(what, Pem::Key) {
        warn_if_open(file, &path, cx);
    }
    Some(path)
}

/// The secret in a file, without the line break at its end.
pub(super) fn secret_file(file: &Spanned<String>, cx: &mut Context<'_>) -> Option<Secret> {
    let path = path(file.get_ref(), cx.dir);
    match fs::read_to_string(&path).map(zeroize::Zeroizing::new) {
        Ok(text) => {
            let secret = text.strip_suffix('\n').unwrap_or(&text);
            let secret = secret.strip_suffix('\r').unwrap_or(secret);
            if secret.is_empty() || secret.contains(['\n', '\0']) {
                cx.problems
                    .error(format!("{} must hold one line", path.display()))
                    .at(file.span(), "the file holds no usable secret");
                return None;
            }
            warn_if_open(file, &path, cx);
            Some(Secret::new(secret))
        }
        Err(error) => {
            unreadable(file, &path, &error, cx);
            None
        }
    }
}

/// The path of a file that will be appended to.
pub(super) fn log_file(file: &Spanned<String>, cx: &mut Context<'_>) -> Option<PathBuf> {
    let path = path(file.get_ref(), cx.dir);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() || file.get_ref().is_empty() {
        cx.problems.error(format!("{} is a directory", path.display())).at(file.span(), "a file is needed here");
    } else if !parent.is_dir() {
        cx.problems
            .error(format!("there is no directory {}", parent.display()))
            .at(file.span(), "can't be made here")
            .help("make the directory, or leave the key out to write to stderr");
    }
    Some(path)
}

fn unreadable(file: &Spanned<String>, path: &Path, error: &io::Error, cx: &mut Context<'_>) {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "Trunkline's user may not read it".to_owned(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    };
    cx.problems
        .error(format!("can't read {}", path.display()))
        .at(file.span(), why)
        .help("relative paths start at the directory of the configuration file");
}

fn warn_if_open(file: &Spanned<String>, path: &Path, cx: &mut Context<'_>) {
    if is_world_readable(path) {
        cx.problems
            .warn(format!("{} can be read by every user of this machine", path.display()))
            .at(file.span(), "holds a secret")
            .help(format!("chmod o-r {}", path.display()));
    }
}

/// Whether everybody may read the file.
pub(in crate::config) fn is_world_readable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0)
}

/// TLS towards servers: `[server_tls]`, or a database's `tls` on top of it.
pub(super) fn server_tls(raw: &schema::ServerTls, base: ServerTls, cx: &mut Context<'_>) -> ServerTls {
    let tls = ServerTls {
        mode: word(&raw.mode, base.mode),
        ca: pem(&raw.ca, Pem::Certificate, cx).or(base.ca),
        cert: pem(&raw.cert, Pem::Certificate, cx).or(base.cert),
        key: pem(&raw.key, Pem::Key, cx).or(base.key),
        direct: get(&raw.direct).unwrap_or(base.direct),
    };
    if let (Some(mode), true) = (&raw.mode, tls.mode == SslMode::VerifyCa && raw.ca.is_none() && tls.ca.is_none()) {
        cx.problems
            .error("verify-ca needs to know the CA")
            .at(mode.span(), "no ca is given")
            .help("add ca = \"…/root.crt\", or use verify-full, which can rely on the public CAs");
    }
    let direct_with = matches!(tls.mode, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull);
    if let (Some(direct), true, false) = (&raw.direct, tls.direct, direct_with) {
        cx.problems
            .error("direct TLS leaves no way back to plain text")
            .at(direct.span(), "needs mode require, verify-ca or verify-full");
    }
    match (&raw.cert, &raw.key) {
        (Some(only), None) if tls.key.is_none() => {
            cx.problems.error("a client certificate needs its key").at(only.span(), "key is missing");
        }
        (None, Some(only)) if tls.cert.is_none() => {
            cx.problems.error("a client key needs its certificate").at(only.span(), "cert is missing");
        }
        _ => {}
    }
    tls
}
