//! Lines of the log that would come many times a second.

use std::time::Duration;

use parking_lot::Mutex;
use quanta::Instant;

/// Time between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(1);

/// Lets one line through in a while, and counts those that it keeps back.
#[derive(Debug, Default)]
pub struct Sparing(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Sparing {
    /// Whether a line may be written now; if so, how many were left out since the last one.
    pub fn line(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        if state.last.is_some_and(|last| now.duration_since(last) < PAUSE) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_a_while_says_how_many_there_were() {
        let (sparing, now) = (Sparing::default(), Instant::now());
        assert_eq!(sparing.line(now), Some(0));
        for _ in 0..60 {
            assert_eq!(sparing.line(now + PAUSE / 2), None);
        }
        assert_eq!(sparing.line(now + PAUSE), Some(60));
        assert_eq!(sparing.line(now + PAUSE * 3), Some(0));
    }
}
