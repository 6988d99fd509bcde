//! Clients that are connected and have not logged in: how many there are, who goes when there are too many, and who takes too long.
//!
//! Their time is looked at once a second instead of by a timer for each: a login is over long before, and setting a timer wakes the
//! thread that sets it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// All of them.
#[derive(Debug, Default)]
pub struct Logins {
    count: AtomicUsize,
    waiting: Mutex<Waiting>,
}

/// By number, oldest first.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    all: BTreeMap<u64, Entry>,
    /// Those who have not proved who they are.
    unproven: BTreeSet<u64>,
}

#[derive(Debug)]
struct Entry {
    /// `None` = there is no hurry, or it has been told.
    until: Option<Instant>,
    away: Arc<Away>,
}

/// How a client is sent away.
#[derive(Debug, Default)]
struct Away {
    too_slow: AtomicBool,
    told: Notify,
    /// Its time is over, and it has proved who it is: it is to learn what it has waited for.
    late: Notify,
}

/// Why a client was sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SentAway {
    /// To make room for others: there were more than `max_logins`.
    TooMany,
    /// It took longer than `login_timeout`.
    TooSlow,
}

impl Logins {
    /// Counts one more, which has to log in `within` that time, if there is a limit to it. Of more than `limit` that have proved nothing
    /// yet, the oldest is sent away: who means to log in has answered long before, and who only holds connections keeps nobody out.
    pub fn begin(self: &Arc<Self>, limit: usize, within: Option<Duration>) -> LoggingIn {
        self.count.fetch_add(1, Ordering::Relaxed);
        let away = Arc::<Away>::default();
        let until = within.and_then(|within| Instant::now().checked_add(within));
        let mut waiting = self.waiting.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.all.insert(number, Entry { until, away: away.clone() });
        waiting.unproven.insert(number);
        let oldest = (waiting.unproven.len() > limit.max(1)).then(|| waiting.unproven.pop_first()).flatten();
        if let Some(oldest) = oldest.and_then(|number| waiting.all.get(&number)) {
            oldest.away.told.notify_one();
        }
        drop(waiting);
        LoggingIn { logins: self.clone(), number, away }
    }

    /// Sends away whoever has taken too long.
    pub fn look_at_time(&self, now: Instant) {
        let Waiting { all, unproven, .. } = &mut *self.waiting.lock();
        for (number, entry) in all {
            if entry.until.take_if(|until| *until <= now).is_none() {
                continue;
            }
            if unproven.contains(number) {
                entry.away.too_slow.store(true, Ordering::Release);
                entry.away.told.notify_one();
            } else {
                entry.away.late.notify_one();
            }
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// A client that has not logged in yet.
#[derive(Debug)]
pub struct LoggingIn {
    logins: Arc<Logins>,
    number: u64,
    away: Arc<Away>,
}

impl LoggingIn {
    /// It has proved who it is: nobody sends it away any more for others' sake, and not without a word ([`Self::within_time`]).
    pub fn proved(&self) {
        self.logins.waiting.lock().unproven.remove(&self.number);
    }

    /// Waits on behalf of a client that has proved who it is; `None` = its time is over.
    pub async fn within_time<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = wait => Some(done),
            () = self.away.late.notified() => None,
        }
    }

    /// Waits for something that is not the client's fault: its time stands still.
    pub async fn held_up<T>(&self, wait: impl Future<Output = T>) -> T {
        let left = self.set_time(None).map(|until| until.saturating_duration_since(Instant::now()));
        let done = wait.await;
        self.set_time(left.map(|left| Instant::now() + left));
        done
    }

    /// Gives it so much time: what it had before.
    fn set_time(&self, until: Option<Instant>) -> Option<Instant> {
        let mut waiting = self.logins.waiting.lock();
        waiting.all.get_mut(&self.number).and_then(|entry| std::mem::replace(&mut entry.until, until))
    }

    /// Ends when it must go.
    pub fn sent_away(&self) -> impl Future<Output = SentAway> + Send + use<> {
        let away = self.away.clone();
        async move {
            away.told.notified().await;
            if away.too_slow.load(Ordering::Acquire) { SentAway::TooSlow } else { SentAway::TooMany }
        }
    }
}

impl Drop for LoggingIn {
    fn drop(&mut self) {
        let mut waiting = self.logins.waiting.lock();
        waiting.unproven.remove(&self.number);
        waiting.all.remove(&self.number);
        drop(waiting);
        self.logins.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn the_oldest_that_has_proved_nothing_makes_room() {
        let logins = Arc::<Logins>::default();
        let all: Vec<_> = (0..3).map(|_| logins.begin(3, None)).collect();
        let gone = |login: &LoggingIn| login.sent_away().now_or_never().is_some();
        assert!(!all.iter().any(gone));
        all[0].proved();
        let fourth = logins.begin(3, None);
        assert!(!all.iter().any(gone), "who has proved who it is does not count");
        let fifth = logins.begin(3, None);
        assert!(gone(&all[1]) && !gone(&all[0]) && !gone(&all[2]) && !gone(&fourth));
        assert_eq!(logins.count(), 5);
        drop((all, fourth, fifth));
        assert_eq!(logins.count(), 0);
        let waiting = logins.waiting.lock();
        assert!(waiting.unproven.is_empty() && waiting.all.is_empty());
    }

    #[test]
    fn who_takes_too_long_goes_unless_others_hold_him_up() {
        let logins = Arc::<Logins>::default();
        let (start, minute) = (Instant::now(), Duration::from_secs(60));
        let patient = logins.begin(9, None);
        let slow = logins.begin(9, Some(minute));
        let held_up = logins.begin(9, Some(minute));
        let gone = |login: &LoggingIn| login.sent_away().now_or_never();
        logins.look_at_time(start);
        assert_eq!((gone(&patient), gone(&slow), gone(&held_up)), (None, None, None));
        let mut wait = Box::pin(held_up.held_up(std::future::pending::<()>()));
        assert!((&mut wait).now_or_never().is_none());
        logins.look_at_time(start + 2 * minute);
        assert_eq!((gone(&patient), gone(&slow), gone(&held_up)), (None, Some(SentAway::TooSlow), None));
        drop(wait);
        held_up.held_up(async {}).now_or_never();
        assert_eq!(held_up.set_time(Some(start)), None, "time that stood still when the wait was given up");
        logins.look_at_time(start);
        assert_eq!(gone(&held_up), Some(SentAway::TooSlow));
        assert_eq!(gone(&slow), None, "told once");
    }

    #[test]
    fn who_has_proved_who_he_is_is_not_sent_away_without_a_word() {
        let logins = Arc::<Logins>::default();
        let login = logins.begin(9, Some(Duration::ZERO));
        login.proved();
        let mut wait = Box::pin(login.within_time(std::future::pending::<()>()));
        assert!((&mut wait).now_or_never().is_none());
        logins.look_at_time(Instant::now());
        assert_eq!((&mut wait).now_or_never(), Some(None));
        assert_eq!(login.sent_away().now_or_never(), None);
        assert_eq!(login.within_time(std::future::ready(7)).now_or_never(), Some(Some(7)));
    }
}
