//! Free TCP ports that two processes never both take.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use super::error::ClusterError;

/// Ports are taken from below the range that the kernel hands out to outgoing connections
/// (32768 and up on Linux), so that none of those can sit on a port between choosing and listening.
const FROM: u16 = 20_000;
const TO: u16 = 32_000;

/// A TCP port on the loopback interface, reserved as long as this value lives.
///
/// The reservation is a lock on a file in the temporary directory, so it holds between processes
/// that use this type, even while nothing listens on the port (a server that is being restarted).
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    _lock: File,
}

impl PortLease {
    /// Reserves a port that nobody listens on.
    ///
    /// # Errors
    /// The lock directory can't be written, or no port is free.
    pub fn take() -> Result<Self, ClusterError> {
        for _ in 0..400 {
            if let Some(lease) = Self::of(fastrand::u16(FROM..TO))? {
                return Ok(lease);
            }
        }
        Err(ClusterError::NoPort { from: FROM, to: TO })
    }

    /// Reserves this port; `None` when somebody listens on it or has reserved it.
    ///
    /// # Errors
    /// The lock directory can't be written.
    pub fn of(port: u16) -> Result<Option<Self>, ClusterError> {
        let dir = lock_dir();
        let _ = fs::create_dir_all(&dir);
        let path = dir.join(port.to_string());
        let lock = match File::options().create(true).append(true).open(&path) {
            Ok(lock) => lock,
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
            Err(source) => {
                return Err(ClusterError::Io { doing: format!("reserving a port by {}", path.display()), source });
            }
        };
        Ok((lock.try_lock().is_ok() && is_free(port)).then_some(Self { port, _lock: lock }))
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Whether nothing listens on this port of the loopback interface.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// One directory per user, so that no user's files stand in another's way.
fn lock_dir() -> PathBuf {
    let user = rustix::process::getuid().as_raw();
    std::env::temp_dir().join(format!("trunkline-ports-{user}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn two_leases_never_share_a_port() {
        let leases: Vec<_> = (0..40).map(|_| PortLease::take().unwrap()).collect();
        let mut ports: Vec<_> = leases.iter().map(PortLease::port).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), leases.len());
    }

    #[test]
    fn a_port_in_use_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }
}
