//! When the things are done that are done again and again by the clock: at the same moments, so that a thread that has nothing else to
//! do wakes once for all of them.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Time between two beats.
const BEAT: Duration = Duration::from_secs(1);

/// The moment after a pause from now on: of one of whole beats, the beat that is nearest to its end, of any other its end.
pub fn after(pause: Duration) -> Instant {
    let end = Instant::now() + pause;
    if pause.is_zero() || pause.subsec_nanos() != 0 { end } else { nearest(end) }
}

/// A tick at every so many beats. A tick that is missed is left out.
pub fn every(period: Duration) -> Interval {
    let mut ticks = interval_at(after(period), period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

fn nearest(moment: Instant) -> Instant {
    let since = moment.saturating_duration_since(*FIRST) + BEAT / 2;
    *FIRST + BEAT * u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_fall_together() {
        let (first, ms) = (*FIRST, Duration::from_millis);
        assert_eq!(nearest(first + ms(7_200)), first + ms(7_000));
        assert_eq!(nearest(first + ms(6_500)), first + ms(7_000));
        assert_eq!(nearest(first), first);
        // However far from each other they begin.
        let beat = after(ms(2_000));
        assert_eq!((beat - first).subsec_nanos(), 0);
        assert!(beat.saturating_duration_since(Instant::now()) >= ms(1_400));
        for pause in [ms(0), ms(300), ms(2_300)] {
            let now = Instant::now();
            let end = after(pause);
            assert!(end >= now + pause && end <= Instant::now() + pause, "{pause:?} is as long as it is");
        }
    }
}
