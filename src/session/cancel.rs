//! Serving a CancelRequest.

use std::sync::Arc;
use std::time::Duration;

use crate::backend;
use crate::wire::startup::CancelKey;

use super::clients::{Clients, Request};

/// Longest time that delivering a cancel request may take; the pool is never involved (trap 64).
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Cancels what the client with this key is running: the wait for a connection, or the query on the very server connection
/// that it has at this moment. Nothing is answered, as the protocol wants it. False: no client here has this key.
pub async fn cancel(clients: &Arc<Clients>, key: &CancelKey) -> bool {
    let Some(client) = clients.find(key) else {
        tracing::debug!(pid = key.pid, "cancel request for an unknown key");
        return false;
    };
    let Some(in_flight) = client.begin_cancel() else {
        client.request(Request::CancelWait);
        return true;
    };
    let delivery = backend::cancel(&in_flight.pool.spec, &in_flight.server.cancel);
    match tokio::time::timeout(CANCEL_TIMEOUT, delivery).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(pool = %in_flight.pool.spec, %error, "cancel request not delivered"),
        Err(_) => tracing::warn!(pool = %in_flight.pool.spec, "cancel request not delivered in time"),
    }
    true
}
