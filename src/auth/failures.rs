//! Failed logins by address: who guesses passwords is answered later and later than others.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use super::AuthError;
use crate::net::PeerAddr;

/// So many failures of one address within [`WINDOW`] are answered at once: people mistype, and a service with an old password tries
/// again with each of its connections.
const FREE: u32 = 10;
/// Failures count from the first one for so long.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered; of more, those that were not seen for long are forgotten.
const ADDRESSES: usize = 4096;

/// Failures of late.
pub(super) struct Failures {
    by_address: Cache<IpAddr, (Instant, u32)>,
}

impl Default for Failures {
    fn default() -> Self {
        Self { by_address: Cache::new(ADDRESSES) }
    }
}

impl Failures {
    /// Counts a failure of this address: whether there were many of late.
    fn note(&self, peer: PeerAddr, now: Instant) -> bool {
        // Who is on this machine may try as often as he likes.
        let Some(address) = peer.block() else { return false };
        let (since, before) = match self.by_address.get(&address) {
            Some((since, count)) if now.duration_since(since) < WINDOW => (since, count),
            _ => (now, 0),
        };
        // Of two at once one may be lost: that is no hole.
        self.by_address.insert(address, (since, before.saturating_add(1)));
        before >= FREE
    }
}

impl super::AuthContext {
    /// Call it before a client is told that its login failed: returns at once, or after `delay` when its address has failed often of
    /// late. Who knows the password never waits, whatever others from its address do.
    pub async fn hold_back(&self, peer: PeerAddr, error: &AuthError, delay: Option<Duration>) {
        if let (AuthError::Failed { .. }, Some(delay)) = (error, delay)
            && self.failures.note(peer, Instant::now())
        {
            tokio::time::sleep(delay).await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_eleventh_failure_within_a_minute_is_one_too_many() {
        let (failures, began) = (Failures::default(), Instant::now());
        let peer = |address: &str| PeerAddr::tcp(address.parse().unwrap());
        let (guesser, other) = (peer("192.0.2.1:7"), peer("192.0.2.2:7"));
        let many = |address: PeerAddr, seconds| failures.note(address, began + Duration::from_secs(seconds));
        assert!(!(0..10).any(|second| many(guesser, second)));
        assert!(many(guesser, 11) && many(guesser, 59));
        assert!(!many(other, 12));
        assert!(!many(guesser, 61), "a new minute");
        assert!(!(0..20).any(|second| many(PeerAddr::Unix, second)));
    }

    #[test]
    fn a_block_of_ipv6_is_one_guesser() {
        let (failures, now) = (Failures::default(), Instant::now());
        let address = |n: u16| PeerAddr::tcp(format!("[2001:db8:0:1::{n}]:7").parse().unwrap());
        assert!(!(0..10).any(|n| failures.note(address(n), now)));
        assert!(failures.note(address(10), now));
        assert!(!failures.note(PeerAddr::tcp("[2001:db8:0:2::1]:7".parse().unwrap()), now));
    }
}
