//! What a line of the slow-query log is made of.

use std::time::{Duration, SystemTime};

use super::Parameter;
use crate::config::NodeRole;
use crate::sql::{Fingerprint, LexOptions, Reason};
use crate::wire::SqlState;

/// Most bytes of a statement that are kept; the rest is cut.
pub const KEPT_TEXT: usize = 16 * 1024;

/// A statement that was slower than its threshold, as the session knows it.
#[derive(Debug, Clone, Copy)]
pub struct SlowStatement<'a> {
    /// When it ended.
    pub at: SystemTime,
    /// From the statement's last byte in to its result's last byte out.
    pub total: Duration,
    /// Of that, waiting for a server connection.
    pub wait: Duration,
    /// Of that, from the server connection at hand until the result's first byte.
    pub first_byte: Duration,
    /// Of that, from the result's first byte until its last.
    pub transfer: Duration,
    /// Role of the node that ran it.
    pub role: NodeRole,
    /// Name of that node.
    pub node: &'a str,
    /// Why it was sent there.
    pub reason: Reason,
    /// Its text; what goes beyond [`KEPT_TEXT`] is not logged.
    pub sql: &'a [u8],
    /// How its literals are found.
    pub lex: LexOptions,
    /// Parameters, for which [`super::SlowLog::wants_parameters`] asks; at most [`Parameter::MOST`] are written.
    pub parameters: &'a [Parameter],
    /// Database as the client named it.
    pub database: &'a str,
    /// User as the client named it.
    pub user: &'a str,
    /// The client's `application_name`, empty when it gave none.
    pub application_name: &'a str,
    /// The client's address.
    pub client: &'a str,
    /// Rows returned or changed.
    pub rows: u64,
    /// Bytes of the result.
    pub bytes: u64,
    /// Code of the error that ended it.
    pub sqlstate: Option<SqlState>,
    /// It failed on a replica for this cause, and this is its last attempt; the times are of all.
    pub rerun: Option<&'static str>,
}

/// A slow statement on its way to the writer: a copy of what the line needs.
#[derive(Debug)]
pub struct StatementRecord {
    pub at: SystemTime,
    pub total: Duration,
    pub wait: Duration,
    pub first_byte: Duration,
    pub transfer: Duration,
    pub role: NodeRole,
    pub node: Box<str>,
    pub reason: Reason,
    pub fingerprint: Fingerprint,
    pub sql: Box<[u8]>,
    pub cut: bool,
    pub lex: LexOptions,
    pub parameters: Box<[Parameter]>,
    pub database: Box<str>,
    pub user: Box<str>,
    pub application_name: Box<str>,
    pub client: Box<str>,
    pub rows: u64,
    pub bytes: u64,
    pub sqlstate: Option<SqlState>,
    pub rerun: Option<&'static str>,
}

impl StatementRecord {
    /// Copies a statement; its text only up to [`KEPT_TEXT`].
    pub fn new(statement: &SlowStatement<'_>, fingerprint: Fingerprint) -> Self {
        let sql = kept(statement.sql);
        let parameters = statement.parameters.get(..Parameter::MOST).unwrap_or(statement.parameters);
        Self {
            at: statement.at,
            total: statement.total,
            wait: statement.wait,
            first_byte: statement.first_byte,
            transfer: statement.transfer,
            role: statement.role,
            node: statement.node.into(),
            reason: statement.reason,
            fingerprint,
            sql: sql.into(),
            cut: sql.len() < statement.sql.len(),
            lex: statement.lex,
            parameters: parameters.into(),
            database: statement.database.into(),
            user: statement.user.into(),
            application_name: statement.application_name.into(),
            client: statement.client.into(),
            rows: statement.rows,
            bytes: statement.bytes,
            sqlstate: statement.sqlstate,
            rerun: statement.rerun,
        }
    }
}

/// The part of a text that is logged.
pub fn kept(sql: &[u8]) -> &[u8] {
    sql.get(..KEPT_TEXT).unwrap_or(sql)
}
