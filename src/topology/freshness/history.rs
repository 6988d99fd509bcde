//! Positions of the primary's WAL, and when they were asked for.

use std::collections::VecDeque;

use crate::observe::Moment;

/// Most samples that are kept. A replica that lags by more of them than that is known a little less exactly.
const MAX_SAMPLES: usize = 1024;

/// Bytes of the header of a WAL page (`SizeOfXLogShortPHD`), and of the first page of a segment (`SizeOfXLogLongPHD`).
const PAGE_HEADER: u64 = 24;
const SEGMENT_HEADER: u64 = 40;

/// How a server's WAL is laid out, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::topology) struct Layout {
    pub page: u64,
    pub segment: u64,
}

impl Layout {
    /// The end of what has been written, when this is the position at which the next record would be inserted: behind the header
    /// of a page on which there is no record yet, that is the end of the page before. A replica that has replayed all there is
    /// says so, and says it for as long as the primary is idle.
    pub fn end_of_records(self, insert: u64) -> u64 {
        if self.segment > 0 && insert % self.segment == SEGMENT_HEADER {
            insert - SEGMENT_HEADER
        } else if self.page > 0 && insert % self.page == PAGE_HEADER && insert % self.segment.max(1) != PAGE_HEADER {
            insert - PAGE_HEADER
        } else {
            insert
        }
    }
}

/// Samples of one primary on one timeline, in the order of time. Positions only grow.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<(Moment, u64)>,
}

impl History {
    /// A position that was asked for at an instant. `false` = the primary has gone back, which is another server's or another life's
    /// position: all that is known is void.
    pub fn push(&mut self, begun: Moment, position: u64) -> bool {
        match self.samples.back_mut() {
            Some((_, last)) if position < *last => return false,
            Some((at, last)) if position == *last => *at = begun,
            _ => self.samples.push_back((begun, position)),
        }
        if self.samples.len() > MAX_SAMPLES {
            // Of the older half every second one goes: what is left says less, and nothing wrong.
            let mut index = 0;
            self.samples.retain(|_| {
                index += 1;
                index > MAX_SAMPLES / 2 || index % 2 == 0
            });
        }
        true
    }

    /// The latest instant whose position a replica has that has replayed up to this one.
    pub fn horizon(&self, replayed: u64) -> Option<Moment> {
        let behind = self.samples.partition_point(|(_, position)| *position <= replayed);
        behind.checked_sub(1).map(|index| self.samples[index].0)
    }

    pub fn clear(&mut self) {
        self.samples.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { page: 8192, segment: 16 << 20 };

    #[test]
    fn the_header_of_an_empty_page_is_not_waited_for() {
        let (page, segment) = (LAYOUT.page, LAYOUT.segment);
        for (insert, end) in [
            (3 * segment + 5 * page + 24, 3 * segment + 5 * page),
            (3 * segment + 40, 3 * segment),
            (3 * segment + 5 * page + 32, 3 * segment + 5 * page + 32),
            (3 * segment + 5 * page + 40, 3 * segment + 5 * page + 40),
            (3 * segment + 24, 3 * segment + 24),
            (3 * segment + 5 * page, 3 * segment + 5 * page),
            (3 * segment + 5 * page + 4096 + 24, 3 * segment + 5 * page + 4096 + 24),
        ] {
            assert_eq!(LAYOUT.end_of_records(insert), end, "{insert:#x}");
        }
        let unknown = Layout { page: 0, segment: 0 };
        assert_eq!(unknown.end_of_records(40), 40);
    }

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    #[test]
    fn a_replica_is_as_fresh_as_the_last_position_that_it_has_replayed() {
        let mut history = History::default();
        assert_eq!(history.horizon(u64::MAX), None);
        assert!(history.push(at(1), 100));
        assert!(history.push(at(2), 200));
        assert!(history.push(at(3), 200));
        assert!(history.push(at(4), 300));
        assert_eq!(history.horizon(99), None);
        assert_eq!(history.horizon(100), Some(at(1)));
        assert_eq!(history.horizon(299), Some(at(3)), "idle in between: the later of two samples of one position");
        assert_eq!(history.horizon(1000), Some(at(4)));
        assert!(!history.push(at(5), 299));
    }

    #[test]
    fn what_is_thinned_out_says_nothing_wrong() {
        let mut history = History::default();
        for number in 1..=5000 {
            assert!(history.push(at(number), number * 10));
        }
        assert!(history.samples.len() <= MAX_SAMPLES);
        for replayed in (0..60_000).step_by(7) {
            if let Some(horizon) = history.horizon(replayed) {
                assert!(horizon.nanos() * 10 <= replayed);
            }
        }
        assert_eq!(history.horizon(50_000), Some(at(5000)));
    }
}
