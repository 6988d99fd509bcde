//! When a statement that keeps failing is refused.

use std::time::Duration;

/// The circuit breaker of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures of one statement within `window` after which it is refused; 0 = never.
    pub failures: u32,
    /// See `failures`.
    pub window: Duration,
    /// For how long it is refused, before one is let through as a trial.
    pub pause: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 0, window: Duration::from_secs(60), pause: Duration::from_secs(30) }
    }
}
