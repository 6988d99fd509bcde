//! What is written down while the chaos lasts, and the report.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What a client knows of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It was told that it is committed.
    Acknowledged,
    /// It was told that it is not, or had not asked for it yet.
    Refused,
    /// It was not told.
    Unknown,
}

/// How long something took, and when that ended, since the beginning.
#[derive(Debug, Clone, Copy, Default)]
pub struct Longest {
    pub took: Duration,
    pub at: Duration,
}

impl Longest {
    pub fn note(&mut self, other: Self) {
        if other.took > self.took {
            *self = other;
        }
    }
}

/// What a client, or all of them, have seen.
#[derive(Debug, Default)]
pub struct Stats {
    pub fates: BTreeMap<u64, Fate>,
    pub reads: u64,
    pub reads_by_port: BTreeMap<u16, u64>,
    pub connects: u64,
    /// By what was done, and SQLSTATE or what became of the connection.
    pub failures: BTreeMap<(&'static str, String), u64>,
    pub longest: BTreeMap<&'static str, Longest>,
    pub violations: Vec<String>,
}

impl Stats {
    pub fn add(&mut self, other: Self) {
        self.fates.extend(other.fates);
        self.reads += other.reads;
        self.connects += other.connects;
        other.reads_by_port.into_iter().for_each(|(port, count)| *self.reads_by_port.entry(port).or_default() += count);
        other.failures.into_iter().for_each(|(what, count)| *self.failures.entry(what).or_default() += count);
        other.longest.into_iter().for_each(|(what, longest)| self.longest.entry(what).or_default().note(longest));
        self.violations.extend(other.violations);
    }

    pub fn count(&self, fate: Fate) -> usize {
        self.fates.values().filter(|each| **each == fate).count()
    }
}

/// What all share.
pub struct Board {
    pub began: Instant,
    pub stop: AtomicBool,
    /// Milliseconds since the beginning when a transfer was acknowledged last, and the longest time without one.
    last_write: AtomicU64,
    longest_gap: Mutex<Longest>,
    /// From a promotion to the next transfer that was acknowledged.
    after_promotion: Mutex<Longest>,
    events: Mutex<Vec<(Duration, String)>>,
    faults: Mutex<BTreeMap<String, u64>>,
    /// When Trunkline was killed last, in milliseconds since the beginning.
    killed: AtomicU64,
}

impl Board {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            stop: AtomicBool::new(false),
            last_write: AtomicU64::new(0),
            longest_gap: Mutex::default(),
            after_promotion: Mutex::default(),
            events: Mutex::default(),
            faults: Mutex::default(),
            killed: AtomicU64::new(0),
        }
    }

    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Somebody's transfer was acknowledged.
    pub fn written(&self) {
        let at = self.began.elapsed();
        let now = self.millis();
        let took = Duration::from_millis(now.saturating_sub(self.last_write.fetch_max(now, Ordering::Relaxed)));
        self.longest_gap.lock().note(Longest { took, at });
    }

    /// A server has just been promoted: waits until somebody has written to it.
    pub fn promoted(&self) {
        let (began, promoted) = (Instant::now(), self.millis());
        while self.last_write.load(Ordering::Relaxed) <= promoted && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.after_promotion.lock().note(Longest { took: began.elapsed(), at: self.began.elapsed() });
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    /// Trunkline is about to be killed, or is: its clients hear nothing of it.
    pub fn killing(&self) {
        self.killed.store(self.millis().max(1), Ordering::SeqCst);
    }

    /// Whether it was a moment ago.
    pub fn was_killed(&self) -> bool {
        let killed = self.killed.load(Ordering::SeqCst);
        killed > 0 && self.millis() < killed + 3000
    }

    /// The driver does something.
    pub fn event(&self, kind: &str, what: &str) {
        *self.faults.lock().entry(kind.to_owned()).or_default() += 1;
        self.note(format!("{kind} {what}"));
    }

    /// Something to be told should it go wrong.
    pub fn note(&self, text: String) {
        self.events.lock().push((self.began.elapsed(), text));
    }

    pub fn faults(&self) -> u64 {
        self.faults.lock().values().sum()
    }

    /// What happened around a moment.
    pub fn around(&self, longest: Longest) -> String {
        let from = longest.at.saturating_sub(longest.took + Duration::from_secs(1));
        let events = self.events.lock();
        let near = events.iter().filter(|(at, _)| (from..=longest.at).contains(at));
        near.map(|(at, what)| format!("{:.1}s {what}", at.as_secs_f64())).collect::<Vec<_>>().join("; ")
    }

    pub fn print_events(&self) {
        for (at, what) in self.events.lock().iter() {
            eprintln!("  {:8.2}s {what}", at.as_secs_f64());
        }
    }

    /// Prints what came of it.
    pub fn report(&self, seed: u64, stats: &Stats) {
        eprintln!("--- chaos: seed {seed}, {:.0} s ---", self.began.elapsed().as_secs_f64());
        eprintln!("faults: {}", self.faults());
        for (kind, count) in self.faults.lock().iter() {
            eprintln!("  {count:5} {kind}");
        }
        eprintln!(
            "transfers: {} acknowledged, {} refused, {} unknown; reads: {} ({:?} by server); logins: {}",
            stats.count(Fate::Acknowledged),
            stats.count(Fate::Refused),
            stats.count(Fate::Unknown),
            stats.reads,
            stats.reads_by_port,
            stats.connects,
        );
        eprintln!("failures seen by clients:");
        for ((what, code), count) in &stats.failures {
            eprintln!("  {count:5} {what} {code}");
        }
        for (what, longest) in &stats.longest {
            eprintln!("longest {what}: {:.2} s ({})", longest.took.as_secs_f64(), self.around(*longest));
        }
        let gap = *self.longest_gap.lock();
        eprintln!(
            "longest time without any acknowledged transfer: {:.2} s ({})",
            gap.took.as_secs_f64(),
            self.around(gap)
        );
        let after = *self.after_promotion.lock();
        eprintln!("longest time from a promotion to the next acknowledged transfer: {:.2} s", after.took.as_secs_f64());
        eprintln!("violations: {}", stats.violations.len());
        stats.violations.iter().take(40).for_each(|violation| eprintln!("  {violation}"));
    }
}
