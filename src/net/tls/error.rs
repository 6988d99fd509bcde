//! What can be wrong with certificates, keys and their files.

use std::path::PathBuf;

/// A TLS context that cannot be made. The text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("{what} {path}: {source}: check the path and that Trunkline's user may read it", path = path.display())]
    Read {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not PEM, or holds nothing of the kind wanted.
    #[error("{what} {path}: {problem}", path = path.display())]
    Content {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A setting that needs another one.
    #[error("{0}")]
    Incomplete(&'static str),
    /// rustls refused the combination.
    #[error("TLS settings: {0}")]
    Rustls(#[from] rustls::Error),
}
