//! Pauses between openings that fail: a server that refuses at once must not be asked as fast as it refuses.

use std::time::Duration;

use quanta::Instant;

/// Pause after the first failure; each further one doubles it.
const FIRST: Duration = Duration::from_millis(50);
/// Longest pause: a server that comes back is used within it.
const LONGEST: Duration = Duration::from_secs(1);

/// What is known of a pool's failed openings. While there is a pause clients wait in line as they do for a connection; a timer ends it.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// Failures without a success, those of one herd counted once.
    failures: u32,
    /// Nothing is opened before this.
    until: Option<Instant>,
}

impl Backoff {
    /// An opening has failed. Returns how long the pause is when it begins with this; one that is on is left as it is.
    pub fn failed(&mut self, now: Instant) -> Option<Duration> {
        if self.is_on(now) {
            return None;
        }
        let longest = FIRST.saturating_mul(1 << self.failures.min(8)).min(LONGEST);
        self.failures += 1;
        // Up to a third shorter: pools that failed together need not ask together.
        let pause = longest.mul_f64(fastrand::f64().mul_add(-0.33, 1.0));
        self.until = Some(now + pause);
        Some(pause)
    }

    /// Whether nothing is to be opened yet.
    pub fn is_on(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Whether the last opening failed: the next one goes alone.
    pub fn is_careful(&self) -> bool {
        self.failures > 0
    }

    /// An opening has succeeded, or there is reason to think that the next one will. Returns whether that is news.
    pub fn end(&mut self) -> bool {
        self.until = None;
        std::mem::take(&mut self.failures) > 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn pauses_grow_to_a_second_and_end_with_a_success() {
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        assert!(!backoff.is_on(now) && !backoff.is_careful());
        let mut last = Duration::ZERO;
        for (number, most) in [50, 100, 200, 400, 800, 1000, 1000].into_iter().enumerate() {
            let pause = backoff.failed(now).unwrap();
            let most = Duration::from_millis(most);
            assert!(pause <= most && pause >= most.mul_f64(0.66), "{number}: {pause:?}");
            assert!(backoff.is_on(now) && backoff.is_careful());
            assert_eq!(backoff.failed(now), None, "one of the same herd");
            now += pause;
            assert!(!backoff.is_on(now) && backoff.is_careful());
            last = pause;
        }
        assert!(last > Duration::from_millis(600));
        assert!(backoff.end() && !backoff.is_careful() && !backoff.end());
        assert!(backoff.failed(now).unwrap() <= FIRST, "it begins anew");
    }
}
