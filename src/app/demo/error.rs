//! What can go wrong when throw-away servers are started.

use std::io;
use std::path::PathBuf;

/// An error of the throw-away servers.
///
/// Every variant says what was being done; the text is meant for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No directory with both `initdb` and `postgres` was found.
    #[error(
        "no PostgreSQL server programs found (looked in {looked}); install PostgreSQL (Debian: \
         `apt-get install postgresql`) or set PGBIN to the directory that holds `initdb` and `postgres`"
    )]
    NoBinaries {
        /// The places that were looked at, for the message.
        looked: String,
    },
    /// An operation on a file, a directory or a process failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// The cause.
        source: io::Error,
    },
    /// A PostgreSQL program ended with an error.
    #[error("{program} failed: {output}")]
    Program {
        /// Its file name.
        program: String,
        /// What it wrote, trimmed.
        output: String,
    },
    /// A server ended, or did not get ready in time.
    #[error("server {node} {what}; the end of its log {}:\n{tail}", .log.display())]
    Server {
        /// The node's name.
        node: String,
        /// What happened to it.
        what: &'static str,
        /// Its log file.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// No free TCP port was found.
    #[error("no free TCP port between {from} and {to} on 127.0.0.1")]
    NoPort {
        /// Lowest port tried.
        from: u16,
        /// Highest port tried.
        to: u16,
    },
    /// Servers may not run as root and no other account exists.
    #[error(
        "PostgreSQL refuses to run as root, and neither the account `postgres` nor `nobody` exists: run this as another user"
    )]
    NoAccount,
}

/// Adds to an [`io::Error`] what was being done.
pub(crate) trait Doing<T> {
    /// Turns the error into a [`ClusterError`] that starts with `doing`.
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, ClusterError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, ClusterError> {
        self.map_err(|source| ClusterError::Io { doing: doing(), source })
    }
}

impl<T> Doing<T> for rustix::io::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, ClusterError> {
        self.map_err(io::Error::from).doing(doing)
    }
}

/// The text says all; there is no place in a file to point at.
impl miette::Diagnostic for ClusterError {}
