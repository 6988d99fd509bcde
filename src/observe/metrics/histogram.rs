//! A histogram of fixed buckets on plain atomics.
//!
//! Why not the exporter's own: `metrics-exporter-prometheus` keeps every sample in a lock-free list until
//! someone scrapes or runs its upkeep, so memory grows with the rate of statements. Measured on a 2-core
//! machine (`cargo test --release observe -- --ignored --nocapture`): 30 ns and 16.5 bytes a sample there,
//! 5 ns and nothing here; all counting for a simple statement together takes 28 ns. Here a sample is two
//! relaxed additions on memory that is allocated once, and the text is made when `/metrics` is read.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds in nanoseconds with their `le` label in seconds.
///
/// Steps of 1, 1.5, 2.5, 4, 6 per decade up to a second, so that a quantile that Prometheus
/// interpolates is off by at most a quarter; coarser above, where precision matters less.
pub const BOUNDS: [(u64, &str); 29] = [
    (50_000, "0.00005"),
    (75_000, "0.000075"),
    (100_000, "0.0001"),
    (150_000, "0.00015"),
    (250_000, "0.00025"),
    (400_000, "0.0004"),
    (600_000, "0.0006"),
    (1_000_000, "0.001"),
    (1_500_000, "0.0015"),
    (2_500_000, "0.0025"),
    (4_000_000, "0.004"),
    (6_000_000, "0.006"),
    (10_000_000, "0.01"),
    (15_000_000, "0.015"),
    (25_000_000, "0.025"),
    (40_000_000, "0.04"),
    (60_000_000, "0.06"),
    (100_000_000, "0.1"),
    (150_000_000, "0.15"),
    (250_000_000, "0.25"),
    (400_000_000, "0.4"),
    (600_000_000, "0.6"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
    (20_000_000_000, "20"),
    (30_000_000_000, "30"),
    (60_000_000_000, "60"),
];

/// One bucket per bound and one for everything above.
const BUCKETS: usize = BOUNDS.len() + 1;

/// Counts durations in fixed buckets. Many threads may observe at once; they should not, as they
/// would share cache lines: each worker thread has its own (see [`super::cells`]).
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum_ns: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts one duration. Two relaxed additions (one when the duration is zero); no allocation, no lock.
    #[inline]
    pub fn observe(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let index = BOUNDS.partition_point(|(bound, _)| *bound < ns);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Relaxed);
        }
        if ns != 0 {
            self.sum_ns.fetch_add(ns, Relaxed);
        }
    }

    /// Adds what was counted so far to `into`.
    pub fn add_to(&self, into: &mut Snapshot) {
        for (sum, bucket) in into.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Relaxed);
        }
        into.sum_ns = into.sum_ns.wrapping_add(self.sum_ns.load(Relaxed));
    }
}

/// The sum of some histograms at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    buckets: [u64; BUCKETS],
    sum_ns: u64,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum_ns: 0 }
    }
}

impl Snapshot {
    /// Durations counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Sum of the durations.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// Sum of the durations in microseconds, the unit of the console.
    pub fn sum_us(&self) -> u64 {
        self.sum_ns / 1_000
    }

    /// Cumulative counts with their `le` label, without the last (`+Inf`), which is [`Self::count`].
    pub fn cumulative(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        BOUNDS.iter().zip(&self.buckets).scan(0, |total, ((_, le), count)| {
            *total += count;
            Some((*le, *total))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::print_stdout)]
mod tests {
    use super::*;

    #[test]
    fn bounds_grow_and_labels_are_the_same_number() {
        for pair in BOUNDS.windows(2) {
            assert!(pair[0].0 < pair[1].0);
        }
        for (ns, le) in BOUNDS {
            assert_eq!((le.parse::<f64>().unwrap() * 1e9).round() as u64, ns, "{le}");
        }
        assert_eq!(BOUNDS[0].0, 50_000);
        assert_eq!(BOUNDS[BOUNDS.len() - 1].0, 60_000_000_000);
    }

    #[test]
    fn a_bound_is_inclusive_and_the_last_bucket_takes_the_rest() {
        let histogram = Histogram::default();
        for us in [0, 50, 51, 60_000_000, 61_000_000] {
            histogram.observe(Duration::from_micros(us));
        }
        let mut snapshot = Snapshot::default();
        histogram.add_to(&mut snapshot);
        let cumulative: Vec<_> = snapshot.cumulative().collect();
        assert_eq!(cumulative[0], ("0.00005", 2));
        assert_eq!(cumulative[1], ("0.000075", 3));
        assert_eq!(cumulative[BOUNDS.len() - 1], ("60", 4));
        assert_eq!(snapshot.count(), 5);
        assert_eq!(snapshot.sum_us(), 121_000_101);
    }

    /// Prints what one observation costs, beside the exporter's histogram.
    #[test]
    #[ignore = "a measurement: run it with --release --ignored --nocapture"]
    fn cost() {
        use metrics::Recorder as _;
        const N: u32 = 5_000_000;
        let ours = Histogram::default();
        let start = std::time::Instant::now();
        for i in 0..N {
            ours.observe(Duration::from_nanos(u64::from(i) * 37));
        }
        println!("fixed buckets: {:.1} ns", start.elapsed().as_nanos() as f64 / f64::from(N));

        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new()
            .set_buckets(&[0.001, 0.01, 0.1])
            .unwrap()
            .build_recorder();
        let metadata = metrics::Metadata::new(module_path!(), metrics::Level::INFO, None);
        let theirs = recorder.register_histogram(&metrics::Key::from_name("cost"), &metadata);
        let rss = || {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
        };
        let before = rss();
        let start = std::time::Instant::now();
        for i in 0..N {
            theirs.record(f64::from(i) * 37e-9);
        }
        println!(
            "exporter's: {:.1} ns and {:.1} bytes a sample until it is drained",
            start.elapsed().as_nanos() as f64 / f64::from(N),
            (rss() - before) as f64 / f64::from(N)
        );
    }
}
