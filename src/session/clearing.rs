//! What is done with a server connection whose client has gone (trap 29): rolled back and verified, or ended and closed, each
//! within a bounded time. While that goes on the connection still counts for its pool, so a server never has more statements
//! running than the pool's size.

use std::time::Duration;

use crate::backend;
use crate::pool::Lease;
use crate::wire::build;

use super::machine::Link;

/// Longest time for each step: the ROLLBACK, the cancel request, the server's own end of the connection.
const STEP: Duration = Duration::from_secs(5);

/// A connection that is free of its client's work, and whether it must be reset before its next use; or none: then it is closed.
/// `within_message` = the client went away in the middle of a message of which the server has had the beginning; `reusable` =
/// what the client has left behind can be taken back at all.
pub(super) async fn clear(link: Link, within_message: bool, reusable: bool) -> Option<(Lease, bool)> {
    let usable = reusable && !within_message && link.retired.is_none();
    if usable && link.at_rest() {
        return Some((link.lease, false));
    }
    let rests_in_block = usable && link.rests_in_block();
    let statement_runs = !link.replies.is_empty() && !link.dying;
    let mut lease = link.lease;
    lease.info.set_state(backend::ServerState::Tested, 0);
    if rests_in_block {
        // Between the statements of a transaction: nothing is in the way of a ROLLBACK.
        return match tokio::time::timeout(STEP, backend::run(&mut lease, b"ROLLBACK")).await {
            // What is known of its settings may have been rolled back with the rest.
            Ok(Ok(None)) => Some((lease, true)),
            _ => None,
        };
    }
    if statement_runs {
        // A server notices that nobody listens only when it has something to say.
        let cancel = backend::cancel(&lease.pool().spec, &lease.info.cancel);
        if !matches!(tokio::time::timeout(STEP, cancel).await, Ok(Ok(()))) {
            tracing::debug!(pool = %lease.pool().spec, "the statement of a client that went away could not be cancelled");
        }
    }
    let _ = tokio::time::timeout(STEP, say_goodbye(&mut lease, within_message)).await;
    None
}

/// Ends the connection and waits for the server to do so, too: then it has rolled back.
async fn say_goodbye(lease: &mut Lease, within_message: bool) {
    if !within_message {
        let mut goodbye = Vec::with_capacity(5);
        build::terminate(&mut goodbye);
        if lease.stream.write_all(&goodbye).await.is_err() {
            return;
        }
    }
    lease.stream.shutdown();
    let mut rest = [0; 4096];
    while matches!(lease.stream.read_some(&mut rest).await, Ok(n) if n > 0) {}
}
