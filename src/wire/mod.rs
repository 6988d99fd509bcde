//! Protocol bytes, without IO: frames, startup packets, SQLSTATEs, and the messages that Trunkline makes itself.
//!
//! Everything here works on byte slices and never decodes a message that is only passed on. The format is
//! that of PostgreSQL's documentation, chapter "Frontend/Backend Protocol", protocol 3.0 and 3.2.

pub mod backend;
pub mod build;
mod error;
pub mod frame;
pub mod frontend;
mod sqlstate;
pub mod startup;

pub use error::{ErrorNotice, Severity};
pub use frame::{BadFrame, Frame, FrameWalker, Step};
pub use sqlstate::SqlState;

/// Transaction status as ReadyForQuery reports it. What it says is the truth; our own parse is only a guess (trap 22).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxStatus {
    /// `I`: outside a transaction block.
    Idle,
    /// `T`: in a transaction block.
    InTransaction,
    /// `E`: in a failed transaction block.
    Failed,
}

impl TxStatus {
    /// Reads the status byte of a ReadyForQuery.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::InTransaction),
            b'E' => Some(Self::Failed),
            _ => None,
        }
    }

    /// Whether a transaction block is open, failed or not.
    pub fn in_block(self) -> bool {
        self != Self::Idle
    }

    /// The status byte of a ReadyForQuery.
    pub fn as_byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }
}

/// Splits a NUL-terminated string off the front: (string without NUL, rest).
pub fn split_cstr(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}
