//! Where lines go: standard error, or a file that is appended to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::SlowLogError;

/// An open destination.
#[derive(Debug)]
pub enum Sink {
    /// Standard error.
    Stderr,
    /// A file, opened for appending.
    File {
        /// Its name, for opening it anew.
        path: PathBuf,
        /// The file.
        file: File,
    },
}

impl Sink {
    /// Opens the file, or standard error when there is none.
    pub fn open(path: Option<&Path>) -> Result<Self, SlowLogError> {
        let Some(path) = path else { return Ok(Self::Stderr) };
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        {
            // it may hold statements' text: nobody else's business
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o640);
        }
        let file = options.open(path).map_err(|source| SlowLogError::Open { path: path.into(), source })?;
        Ok(Self::File { path: path.into(), file })
    }

    /// Opens the same destination again, for a file that was renamed.
    pub fn reopen(&self) -> Result<Self, SlowLogError> {
        match self {
            Self::Stderr => Ok(Self::Stderr),
            Self::File { path, .. } => Self::open(Some(path)),
        }
    }

    /// Writes whole lines in one call.
    pub fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().lock().write_all(lines),
            Self::File { file, .. } => file.write_all(lines),
        }
    }
}
