//! Making a connection as good as new.

use std::io;
use std::sync::Arc;

use super::{OpenError, ServerConn, Settings, base_settings};
use crate::sql::{Change, LexOptions, changes};
use crate::wire::{ErrorNotice, TxStatus, build};

/// Largest message that a reset query may be answered with.
const MAX_ANSWER: u32 = 1 << 20;

/// Runs a query of ours and verifies that the connection is idle after it. `Some` = the server refused it.
///
/// # Errors
/// The connection broke, or the query left a transaction open: close the connection. The caller bounds the time.
pub async fn run(conn: &mut ServerConn, query: &[u8]) -> io::Result<Option<ErrorNotice>> {
    let mut message = Vec::with_capacity(query.len() + 6);
    build::query(&mut message, query);
    conn.stream.write_all(&message).await?;
    // A simple Query ends the unnamed statement (trap 37).
    conn.prepared.unnamed = None;
    let mut body = Vec::new();
    let mut refusal = None;
    loop {
        match conn.stream.read_frame(&mut body, MAX_ANSWER).await? {
            b'S' => conn.take_parameter_status(&body),
            b'E' => refusal = Some(ErrorNotice::decode(&body)),
            b'Z' => break,
            _ => {}
        }
    }
    if body.first().copied().and_then(TxStatus::from_byte) != Some(TxStatus::Idle) {
        return Err(io::Error::other("the query left a transaction open"));
    }
    Ok(refusal)
}

/// Runs the reset query (`DISCARD ALL`). What another one does not take back is known to be there.
///
/// # Errors
/// The connection broke, the query failed, or a transaction is open: close the connection. The caller bounds the time.
pub async fn reset(conn: &mut ServerConn, query: &[u8]) -> io::Result<()> {
    if let Some(refusal) = run(conn, query).await? {
        return Err(io::Error::other(refusal.to_string()));
    }
    for change in changes(query, LexOptions::default(), &|_| None) {
        match change.change {
            Change::DiscardAll => {
                conn.change_settings(&Settings::none());
                conn.sequences_of = 0;
                conn.prepared.clear();
                conn.greeted = false;
            }
            Change::ResetAll => {
                conn.change_settings(&conn.settings.reset_all(&Settings::none()));
                conn.greeted = false;
            }
            Change::DeallocateAll => conn.prepared.clear(),
            _ => {}
        }
    }
    Ok(())
}

/// Runs `connect_query` on a connection that is new, or has been reset; an empty one does nothing. What the last client has set since
/// is still there.
///
/// # Errors
/// The connection broke, or the query failed: close the connection. The caller bounds the time.
pub async fn greet(conn: &mut ServerConn, query: &str) -> Result<(), OpenError> {
    if !query.is_empty()
        && let Some(refusal) = run(conn, query.as_bytes()).await?
    {
        return Err(OpenError::Refused(refusal));
    }
    conn.settings = base_settings(query).over(&conn.settings);
    conn.greeted = true;
    Ok(())
}

/// Applies a session's settings and waits for the answer, noting what the server then reports. `Some` = the server refused them,
/// and the connection is as before, or is closed when it comes back.
///
/// # Errors
/// The connection broke: close it.
pub async fn apply_settings(conn: &mut ServerConn, settings: &Arc<Settings>) -> io::Result<Option<ErrorNotice>> {
    let mut message = Vec::with_capacity(256);
    let mut queries = settings.write_difference(&conn.settings, false, &mut message);
    let at_once = queries == 1;
    conn.stream.write_all(&message).await?;
    // A simple Query ends the unnamed statement (trap 37).
    conn.prepared.unnamed = None;
    let mut body = Vec::new();
    let mut refusal = None;
    loop {
        match conn.stream.read_frame(&mut body, MAX_ANSWER).await? {
            b'S' => conn.take_parameter_status(&body),
            b'E' => refusal = Some(ErrorNotice::decode(&body)),
            b'Z' if queries > 1 => queries -= 1,
            b'Z' => break,
            _ => {}
        }
    }
    match &refusal {
        None => conn.change_settings(settings),
        Some(_) if at_once => {}
        // Some of them may be in force.
        Some(_) => conn.info.set_close_needed(),
    }
    Ok(refusal)
}
