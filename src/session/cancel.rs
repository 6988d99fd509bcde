//! Serving a CancelRequest.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::backend::{self, ServerInfo};
use crate::pool::Pool;
use crate::wire::startup::CancelKey;

use super::clients::{Client, Clients, Request};

/// Longest time that delivering a cancel request may take; the pool is never involved (trap 64). A server connection to which one may still
/// be on its way after that is closed when it comes back (trap 63).
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

const NO_DELIVERY: u8 = 0;
const DELIVERY: u8 = 1;
/// Another request has come meanwhile.
const DELIVERY_AGAIN: u8 = 2;

/// Cancels what the client with this key is running: the wait for a connection, or the query on the very server connection
/// that it has at this moment. Nothing is answered, as the protocol wants it. False: no client here has this key.
pub async fn cancel(clients: &Arc<Clients>, key: &CancelKey) -> bool {
    let Some(client) = clients.find(key) else {
        tracing::debug!(pid = key.pid, "cancel request for an unknown key");
        return false;
    };
    let Some(mut delivery) = client.begin_delivery() else {
        // Who cancels waits for the end of this: what its client asks for after that is not meant.
        let _ = tokio::time::timeout(CANCEL_TIMEOUT, client.delivery_over()).await;
        return true;
    };
    loop {
        if let Some(in_flight) = delivery.target().await {
            deliver(&in_flight).await;
        }
        if !delivery.goes_on() {
            return true;
        }
    }
}

async fn deliver(in_flight: &CancelInFlight) {
    let spec = &in_flight.pool.spec;
    match tokio::time::timeout(CANCEL_TIMEOUT, backend::cancel(spec, &in_flight.server)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => tracing::warn!(pool = %spec, %error, "cancel request not delivered"),
        Err(_) => tracing::warn!(pool = %spec, "cancel request not delivered in time"),
    }
    // The server may read it whenever it comes round to it: nobody else's statement is to be there then.
    in_flight.server.set_close_needed();
}

impl Client {
    /// The right to deliver its cancel requests, one after the other, so that a flood of them costs one connection. `None`: whoever
    /// has it goes once more.
    fn begin_delivery(self: &Arc<Self>) -> Option<Delivery> {
        let asked = |now| Some(if now == NO_DELIVERY { DELIVERY } else { DELIVERY_AGAIN });
        let before = self.delivery.fetch_update(Ordering::AcqRel, Ordering::Acquire, asked);
        (before == Ok(NO_DELIVERY)).then(|| Delivery { client: self.clone(), ended: false })
    }

    /// Waits until nobody delivers its cancel requests any more.
    async fn delivery_over(&self) {
        loop {
            let released = self.released.notified();
            if self.delivery.load(Ordering::Acquire) == NO_DELIVERY {
                return;
            }
            released.await;
        }
    }

    /// Whether another request has come since the one that is being delivered. It counts as served now.
    fn take_repetition(&self) -> bool {
        let change = self.delivery.compare_exchange(DELIVERY_AGAIN, DELIVERY, Ordering::AcqRel, Ordering::Acquire);
        change.is_ok()
    }
}

/// The right to deliver a client's cancel requests.
struct Delivery {
    client: Arc<Client>,
    ended: bool,
}

impl Delivery {
    /// What a cancel request means now: the server connection to cancel, held until the guard is dropped. `None` when there is none:
    /// the wait for one is cancelled. Waits while the session's settings are being applied, which are not what is to be cancelled.
    async fn target(&self) -> Option<CancelInFlight> {
        let client = &self.client;
        loop {
            let released = client.released.notified();
            {
                let mut assignment = client.assignment.lock();
                let Some((pool, server)) = assignment.server.clone() else {
                    // Under the lock: a connection that is assigned from now on finds it.
                    client.request(Request::CancelWait);
                    return None;
                };
                if !assignment.applying {
                    assignment.in_flight += 1;
                    client.cancels_sent.fetch_add(1, Ordering::Relaxed);
                    return Some(CancelInFlight { client: client.clone(), pool, server });
                }
            }
            released.await;
        }
    }

    /// Whether another request has come meanwhile. If not, the right is given up.
    fn goes_on(&mut self) -> bool {
        let change = self.client.delivery.compare_exchange(DELIVERY, NO_DELIVERY, Ordering::AcqRel, Ordering::Acquire);
        self.ended = change.is_ok();
        match self.ended {
            true => self.client.released.notify_waiters(),
            false => self.client.delivery.store(DELIVERY, Ordering::Release),
        }
        !self.ended
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.ended {
            self.client.delivery.store(NO_DELIVERY, Ordering::Release);
            self.client.released.notify_waiters();
        }
    }
}

/// A cancel request on its way to a server.
struct CancelInFlight {
    client: Arc<Client>,
    pool: Arc<Pool>,
    server: Arc<ServerInfo>,
}

impl Drop for CancelInFlight {
    fn drop(&mut self) {
        let mut assignment = self.client.assignment.lock();
        // A request that has come meanwhile, while the session waited for this one, means what it is about to ask for: not to be sent
        // to a server that may not have heard of that yet.
        if assignment.server.is_none() && self.client.take_repetition() {
            self.client.request(Request::CancelWait);
        }
        assignment.in_flight -= 1;
        drop(assignment);
        self.client.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::session::clients::Identity;

    fn client() -> Arc<Client> {
        let identity = Identity {
            user: "u".to_owned(),
            database: "d".to_owned(),
            peer: ("127.0.0.1".to_owned(), 1),
            local: ("127.0.0.1".to_owned(), 2),
            tls: String::new(),
            application_name: String::new(),
            replication: "none",
            console: false,
        };
        Arc::new(Client::new(1, 7, identity, 4))
    }

    #[tokio::test]
    async fn trap_64_who_has_no_connection_is_cancelled_before_getting_one() {
        let client = client();
        let mut delivery = client.begin_delivery().unwrap();
        assert!(delivery.target().await.is_none() && client.requested(Request::CancelWait));
        assert!(!delivery.goes_on());
    }

    #[test]
    fn requests_to_cancel_are_delivered_one_after_the_other_and_the_last_is_not_lost() {
        let client = client();
        let mut delivery = client.begin_delivery().unwrap();
        assert!(client.begin_delivery().is_none() && client.begin_delivery().is_none());
        assert!(delivery.goes_on() && !delivery.goes_on());
        let given_up = client.begin_delivery().unwrap();
        drop(given_up);
        assert!(client.begin_delivery().is_some());
    }
}
