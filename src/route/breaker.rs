//! A circuit breaker for each statement of a user: one that keeps running into its time-out, or keeps taking its server down, is refused for a
//! while; then one is let through as a trial.
//!
//! By user, so that nobody can have another one's statements refused by a short time-out of its own.
//!
//! While no statement is refused, asking costs one relaxed load. Only failures are counted: a success is told when it was a trial.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::config::BreakerSettings;
use crate::sql::Fingerprint;

/// Most statements of which failures are remembered; then those that failed the longest ago make room.
const MAX_KNOWN: usize = 1024;
/// Connections that are lost within this time count as one failure of a statement: a server that goes away takes all with it that run there,
/// whoever is to blame.
const ONE_LOSS: Duration = Duration::from_secs(1);

/// How a statement failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// A time-out has cancelled it: the server's `statement_timeout` or our `query_timeout`.
    TimedOut,
    /// Its server connection was lost without a word.
    Lost,
}

impl Failing {
    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "timed out",
            Self::Lost => "lost its server",
        }
    }
}

/// Whether a statement may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// It may.
    Free,
    /// It may, and its outcome decides about the next ones.
    Trial,
    /// It may not for so long.
    Refused(Duration),
}

/// A statement that has failed of late, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaking {
    /// Whose it is.
    pub user: String,
    /// Its stable fingerprint.
    pub fingerprint: Fingerprint,
    /// Its text without literals.
    pub statement: String,
    /// `closed` (it runs), `open` (it is refused) or `half-open` (the next one is the trial, or runs).
    pub state: &'static str,
    /// Failures that count.
    pub failures: usize,
    /// How it failed last.
    pub last: Failing,
    /// How often it was refused.
    pub refused: u64,
    /// For how long it is refused.
    pub left: Duration,
}

#[derive(Debug)]
struct Known {
    statement: String,
    /// When it failed, those within the window and never more than are needed.
    failures: Vec<Instant>,
    last: Failing,
    refused: u64,
    /// Until when it is refused, and then until when the trial is waited for.
    until: Option<Instant>,
    on_trial: bool,
}

/// A user's statement.
type Key = (String, u128);

/// All statements of one database that have failed of late.
#[derive(Debug, Default)]
pub struct Breaker {
    /// How many are refused.
    open: AtomicUsize,
    known: Mutex<HashMap<Key, Known>>,
}

impl Breaker {
    /// Whether any statement is refused: else there is nothing to ask.
    #[inline]
    pub fn refuses_any(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// Whether this statement may run now. Of those that ask when its time is over one gets the trial, the others wait for its
    /// outcome; when nobody tells it, there is another one after a further pause.
    pub fn ask(&self, user: &str, fingerprint: Fingerprint, settings: &BreakerSettings, now: Instant) -> Passage {
        let mut all = self.known.lock();
        let Some(known) = all.get_mut(&key(user, fingerprint)) else { return Passage::Free };
        let Some(until) = known.until else { return Passage::Free };
        if now < until {
            known.refused += 1;
            return Passage::Refused(until - now);
        }
        known.on_trial = true;
        known.until = Some(now + settings.pause);
        Passage::Trial
    }

    /// A statement has failed. `text` makes its text without literals. Returns whether it is refused from now on, and was not.
    pub fn failed(
        &self,
        user: &str,
        fingerprint: Fingerprint,
        how: Failing,
        text: impl FnOnce() -> String,
        settings: &BreakerSettings,
        now: Instant,
    ) -> bool {
        let key = key(user, fingerprint);
        let mut all = self.known.lock();
        if all.len() >= MAX_KNOWN && !all.contains_key(&key) {
            self.make_room(&mut all);
        }
        let known = all.entry(key).or_insert_with(|| Known {
            statement: text(),
            failures: Vec::new(),
            last: how,
            refused: 0,
            until: None,
            on_trial: false,
        });
        let one_loss = how == Failing::Lost
            && known.last == Failing::Lost
            && known.failures.last().is_some_and(|last| now.saturating_duration_since(*last) < ONE_LOSS);
        known.last = how;
        known.failures.retain(|at| now.saturating_duration_since(*at) < settings.window);
        if one_loss {
            return false;
        }
        let most = (settings.failures as usize).max(1);
        if known.failures.len() >= most {
            known.failures.remove(0);
        }
        known.failures.push(now);
        let trips = known.on_trial || known.failures.len() >= most;
        if !trips {
            return false;
        }
        known.on_trial = false;
        let news = known.until.replace(now + settings.pause).is_none();
        self.open.fetch_add(usize::from(news), Ordering::Relaxed);
        news
    }

    /// A trial has ended well: the statement runs again, as if it had never failed.
    pub fn passed(&self, user: &str, fingerprint: Fingerprint) {
        let gone = self.known.lock().remove(&key(user, fingerprint));
        if gone.is_some_and(|known| known.until.is_some()) {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Lets all statements run again. Returns how many were refused.
    pub fn reset(&self) -> usize {
        self.known.lock().clear();
        self.open.swap(0, Ordering::Relaxed)
    }

    /// Statements that have failed of late, those that are refused first.
    pub fn all(&self, settings: &BreakerSettings, now: Instant) -> Vec<Breaking> {
        let all = self.known.lock();
        let mut shown: Vec<Breaking> = all
            .iter()
            .filter_map(|((user, fingerprint), known)| {
                let recent = known.failures.iter().filter(|at| now.saturating_duration_since(**at) < settings.window);
                let failures = recent.count();
                let (state, left) = match known.until {
                    None if failures == 0 => return None,
                    None => ("closed", Duration::ZERO),
                    Some(_) if known.on_trial => ("half-open", Duration::ZERO),
                    Some(until) if until <= now => ("half-open", Duration::ZERO),
                    Some(until) => ("open", until - now),
                };
                let (user, fingerprint, statement) = (user.clone(), Fingerprint(*fingerprint), known.statement.clone());
                let (last, refused) = (known.last, known.refused);
                Some(Breaking { user, fingerprint, statement, state, failures, last, refused, left })
            })
            .collect();
        shown.sort_by(|a, b| {
            b.state.cmp(a.state).then_with(|| (&a.user, a.fingerprint.0).cmp(&(&b.user, b.fingerprint.0)))
        });
        shown
    }

    fn make_room(&self, all: &mut HashMap<Key, Known>) {
        let oldest = all.iter().min_by_key(|(_, known)| (known.until.is_some(), known.failures.last().copied()));
        let Some(key) = oldest.map(|(key, _)| key.clone()) else { return };
        if all.remove(&key).is_some_and(|known| known.until.is_some()) {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn key(user: &str, fingerprint: Fingerprint) -> Key {
    (user.to_owned(), fingerprint.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: BreakerSettings =
        BreakerSettings { failures: 3, window: Duration::from_secs(60), pause: Duration::from_secs(30) };
    const KEY: Fingerprint = Fingerprint(7);

    fn fail(breaker: &Breaker, key: Fingerprint, how: Failing, now: Instant) -> bool {
        breaker.failed("u", key, how, || "select ?".to_owned(), &SETTINGS, now)
    }

    #[test]
    fn opens_after_failures_in_its_window_and_closes_after_a_trial_that_passed() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!fail(&breaker, KEY, Failing::TimedOut, at(0)) && !fail(&breaker, KEY, Failing::TimedOut, at(1)));
        assert!(!fail(&breaker, KEY, Failing::TimedOut, at(61)), "the first two are too long ago, but for one of them");
        assert!(!breaker.refuses_any());
        assert!(!fail(&breaker, KEY, Failing::TimedOut, at(62)) && fail(&breaker, KEY, Failing::TimedOut, at(63)));
        assert!(breaker.refuses_any());
        assert_eq!(breaker.ask("u", KEY, &SETTINGS, at(73)), Passage::Refused(Duration::from_secs(20)));
        assert_eq!(breaker.ask("u", Fingerprint(8), &SETTINGS, at(73)), Passage::Free);
        assert_eq!(breaker.ask("other", KEY, &SETTINGS, at(73)), Passage::Free);
        let shown = &breaker.all(&SETTINGS, at(73))[0];
        assert_eq!((shown.state, shown.failures, shown.refused, shown.left.as_secs()), ("open", 3, 1, 20));
        // One trial, that fails: another pause, at once.
        assert_eq!(breaker.ask("u", KEY, &SETTINGS, at(93)), Passage::Trial);
        assert_eq!(breaker.all(&SETTINGS, at(93))[0].state, "half-open");
        assert!(matches!(breaker.ask("u", KEY, &SETTINGS, at(94)), Passage::Refused(_)), "one at a time");
        assert!(!fail(&breaker, KEY, Failing::TimedOut, at(100)), "no news");
        assert_eq!(breaker.ask("u", KEY, &SETTINGS, at(101)), Passage::Refused(Duration::from_secs(29)));
        // One of which nobody tells the outcome, and one that passes.
        assert_eq!(breaker.ask("u", KEY, &SETTINGS, at(130)), Passage::Trial);
        assert_eq!(breaker.ask("u", KEY, &SETTINGS, at(160)), Passage::Trial);
        breaker.passed("u", KEY);
        assert!(!breaker.refuses_any() && breaker.all(&SETTINGS, at(160)).is_empty());
        assert_eq!(breaker.ask("u", KEY, &SETTINGS, at(160)), Passage::Free);
    }

    #[test]
    fn what_a_server_takes_with_it_counts_once() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for n in 0..50 {
            assert!(!fail(&breaker, KEY, Failing::Lost, at(n)));
        }
        assert_eq!(breaker.all(&SETTINGS, at(50))[0].failures, 1);
        assert!(!fail(&breaker, KEY, Failing::Lost, at(2000)) && fail(&breaker, KEY, Failing::Lost, at(4000)));
        assert_eq!((breaker.reset(), breaker.refuses_any()), (1, false));
    }

    #[test]
    fn a_bounded_number_is_remembered_and_those_that_are_refused_last_longest() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..3 {
            fail(&breaker, KEY, Failing::TimedOut, start);
        }
        for n in 0..5000 {
            fail(&breaker, Fingerprint(1000 + n), Failing::TimedOut, start);
        }
        assert_eq!(breaker.known.lock().len(), MAX_KNOWN);
        assert!(matches!(breaker.ask("u", KEY, &SETTINGS, start), Passage::Refused(_)));
    }
}
