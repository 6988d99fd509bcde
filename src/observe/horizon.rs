//! How fresh a node's data is known to be.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::Moment;

/// The horizon of a replica: the latest instant of which it is known that all that the primary had committed then is there, too
/// (design §5). Written by the sampler, read with every read of a client's: one comparison of atomics.
///
/// Invariant: it falls only together with a change of [`Self::incarnation`].
#[derive(Debug)]
pub struct Horizon {
    at: AtomicU64,
    /// When a question was begun that the replica has answered on the connection from which `at` is known.
    confirmed: AtomicU64,
    incarnation: AtomicU64,
    astray: AtomicBool,
}

impl Default for Horizon {
    /// Nothing is known.
    fn default() -> Self {
        Self {
            at: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            incarnation: AtomicU64::new(new_incarnation()),
            astray: AtomicBool::new(false),
        }
    }
}

/// Unique in the process.
fn new_incarnation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Horizon {
    /// The instant; [`Moment::NEVER`] while nothing is known.
    #[inline]
    pub fn get(&self) -> Moment {
        Moment::from_nanos(self.at.load(Ordering::Acquire))
    }

    /// A number that is another one after the node may have lost what it had: it restarted, say, or became unreachable. What
    /// one read has found there may be missing from the next.
    #[inline]
    pub fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Acquire)
    }

    /// How old the node's data may be at most; `None` = not known.
    pub fn staleness(&self) -> Option<Duration> {
        let at = self.get();
        (at != Moment::NEVER).then(|| at.until(Moment::now()))
    }

    /// Whether what is known holds for a connection of that age, too: a server may have restarted, with less than it had, and
    /// nobody noticed yet. The sampler's own connection ends with that; so if it has answered after the other one was open,
    /// both see the same server in the same life.
    pub fn covers_connection(&self, opened: Moment) -> bool {
        self.confirmed.load(Ordering::Acquire) > opened.nanos()
    }

    /// Whether it is not known to be on the primary's timeline, though there is a primary that was promoted or the replica has told another
    /// one: what it has may never become part of the cluster's history.
    #[inline]
    pub fn is_astray(&self) -> bool {
        self.astray.load(Ordering::Acquire)
    }

    /// Sets whether it is. What is known of the horizon is not touched.
    pub fn set_astray(&self, astray: bool) {
        self.astray.store(astray, Ordering::Release);
    }

    /// The replica has replayed all of `at`, as it said when it was asked at `asked`.
    pub fn advance(&self, at: Moment, asked: Moment) -> bool {
        self.confirmed.fetch_max(asked.nanos(), Ordering::AcqRel);
        self.at.fetch_max(at.nanos(), Ordering::AcqRel) < at.nanos()
    }

    /// Nothing is known any more.
    pub fn forget(&self) {
        self.at.store(0, Ordering::Release);
        self.confirmed.store(0, Ordering::Release);
        self.incarnation.store(new_incarnation(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_opened_after_the_last_answer_is_not_covered() {
        let horizon = Horizon::default();
        let asked = Moment::now();
        let opened_before = asked.before(Duration::from_millis(1));
        assert!(!horizon.covers_connection(opened_before));
        assert!(horizon.advance(asked, asked));
        assert!(!horizon.advance(opened_before, asked), "it does not go back");
        assert_eq!(horizon.get(), asked);
        assert!(horizon.covers_connection(opened_before));
        assert!(!horizon.covers_connection(asked));
        let before = horizon.incarnation();
        horizon.forget();
        assert_eq!(horizon.get(), Moment::NEVER);
        assert_ne!(horizon.incarnation(), before);
        assert!(!horizon.covers_connection(opened_before));
    }
}
