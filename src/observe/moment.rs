//! Instants as numbers: what two threads compare without a lock.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use quanta::Instant;

static BEGINNING: LazyLock<Instant> = LazyLock::new(|| Instant::now() - Duration::from_secs(1));

/// An instant on the process's monotonic clock, in nanoseconds since a moment shortly before it was first asked. Means nothing in
/// another process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// Before everything: the default.
    pub const NEVER: Self = Self(0);

    /// This instant.
    pub fn now() -> Self {
        Self::of(Instant::now())
    }

    /// That instant.
    pub fn of(instant: Instant) -> Self {
        let since = instant.saturating_duration_since(*BEGINNING);
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The number.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// From the number.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// How long before `later` it was; zero when it was not.
    pub const fn until(self, later: Self) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }

    /// What the system's clock said at that time, if it was not set since.
    pub fn system_time(self) -> SystemTime {
        let now = SystemTime::now();
        now.checked_sub(self.until(Self::now())).unwrap_or(now)
    }

    /// So long before; [`Self::NEVER`] at the earliest.
    #[must_use]
    pub fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_in_the_order_of_the_instants() {
        let (a, b) = (Moment::now(), Moment::now());
        assert!(Moment::NEVER < a && a <= b);
        assert_eq!(b.before(Duration::from_secs(3600)), Moment::NEVER);
        assert_eq!(a.until(a), Duration::ZERO);
        assert_eq!(a.before(Duration::from_millis(5)).until(a), Duration::from_millis(5));
    }
}
