//! What a line of the slow-query log is made of.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Parameter;
use super::shim::LexOptions;
use crate::config::NodeRole;
use crate::wire::SqlState;

/// Most bytes of a statement that are kept; the rest is cut.
const KEPT: usize = 16 * 1024;

/// The start of a statement's text and what is needed to find its literals.
#[derive(Debug, Clone)]
pub struct StatementText {
    pub(super) bytes: Box<[u8]>,
    pub(super) cut: bool,
    pub(super) lex: LexOptions,
}

impl StatementText {
    /// Copies the first 16 KiB of a statement.
    pub fn capture(text: &[u8], lex: LexOptions) -> Self {
        let kept = text.get(..KEPT).unwrap_or(text);
        Self { bytes: kept.into(), cut: kept.len() < text.len(), lex }
    }
}

/// One slow statement. Owned, and built only when the statement was over its threshold.
#[derive(Debug, Clone)]
pub struct StatementRecord {
    /// When it ended.
    pub ended: Timestamp,
    /// From the statement's last byte in to its result's last byte out.
    pub total: Duration,
    /// Of that, waiting for a server connection.
    pub wait: Duration,
    /// Of that, from the server connection at hand until the result's first byte.
    pub first_byte: Duration,
    /// Of that, from the result's first byte until its last.
    pub transfer: Duration,
    /// Role of the node that ran it; `None` = it never got a connection.
    pub target: Option<NodeRole>,
    /// Name of that node.
    pub node: Option<Arc<str>>,
    /// Label of the routing reason.
    pub reason: &'static str,
    /// The text.
    pub statement: StatementText,
    /// Parameters; empty unless [`super::SlowLog::wants_parameters`]. At most [`Parameter::MOST`] are written.
    pub parameters: Vec<Parameter>,
    /// Database as the client named it.
    pub database: Arc<str>,
    /// User as the client named it.
    pub user: Arc<str>,
    /// The client's `application_name`, empty when it gave none.
    pub application_name: Arc<str>,
    /// The client's address: `host:port`, or `unix`.
    pub client: Arc<str>,
    /// Rows, by the tag of CommandComplete; `None` when it names none.
    pub rows: Option<u64>,
    /// Bytes of the result.
    pub bytes: u64,
    /// Code of the error that ended it.
    pub sqlstate: Option<SqlState>,
}
