//! Clients that are connected and have not logged in: how many there are, who goes when there are too many, and who takes too long.
//!
//! Their time is looked at once a second instead of by a timer for each: a login is over long before, and setting a timer wakes the
//! thread that sets it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::net::PeerAddr;

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
    unproven: Crowd,
}

/// Clients by where they come from ([`PeerAddr::block`]).
#[derive(Debug, Default)]
struct Crowd {
    by_block: HashMap<Option<IpAddr>, BTreeSet<u64>>,
    /// How many each place has and who of them came first: the largest crowd is the last, of equal ones that of the oldest.
    sizes: BTreeSet<(usize, Reverse<u64>)>,
    places: HashMap<u64, Option<IpAddr>>,
}

impl Crowd {
    fn len(&self) -> usize {
        self.places.len()
    }

    fn contains(&self, number: u64) -> bool {
        self.places.contains_key(&number)
    }

    fn insert(&mut self, number: u64, block: Option<IpAddr>) {
        self.places.insert(number, block);
        self.change(block, |crowd| crowd.insert(number));
    }

    fn remove(&mut self, number: u64) {
        if let Some(block) = self.places.remove(&number) {
            self.change(block, |crowd| crowd.remove(&number));
        }
    }

    /// Takes out the oldest of those of whom there are most.
    fn pop(&mut self) -> Option<u64> {
        let Reverse(oldest) = self.sizes.last()?.1;
        self.remove(oldest);
        Some(oldest)
    }

    fn change(&mut self, block: Option<IpAddr>, change: impl FnOnce(&mut BTreeSet<u64>) -> bool) {
        let crowd = self.by_block.entry(block).or_default();
        let size = |crowd: &BTreeSet<u64>| crowd.first().map(|first| (crowd.len(), Reverse(*first)));
        if let Some(before) = size(crowd) {
            self.sizes.remove(&before);
        }
        change(crowd);
        match size(crowd) {
            Some(after) => drop(self.sizes.insert(after)),
            None => drop(self.by_block.remove(&block)),
        }
    }
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
    /// yet, the oldest of the place that has most of them is sent away: who means to log in has answered long before, and who only holds
    /// connections keeps nobody out, at other places least of all.
    pub fn begin(self: &Arc<Self>, peer: PeerAddr, limit: usize, within: Option<Duration>) -> LoggingIn {
        self.count.fetch_add(1, Ordering::Relaxed);
        let away = Arc::<Away>::default();
        let until = within.and_then(|within| Instant::now().checked_add(within));
        let mut waiting = self.waiting.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.all.insert(number, Entry { until, away: away.clone() });
        waiting.unproven.insert(number, peer.block());
        let oldest = (waiting.unproven.len() > limit.max(1)).then(|| waiting.unproven.pop()).flatten();
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
            if unproven.contains(*number) {
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
        self.logins.waiting.lock().unproven.remove(self.number);
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
        waiting.unproven.remove(self.number);
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
        let all: Vec<_> = (0..3).map(|_| logins.begin(PeerAddr::Unix, 3, None)).collect();
        let gone = |login: &LoggingIn| login.sent_away().now_or_never().is_some();
        assert!(!all.iter().any(gone));
        all[0].proved();
        let fourth = logins.begin(PeerAddr::Unix, 3, None);
        assert!(!all.iter().any(gone), "who has proved who it is does not count");
        let fifth = logins.begin(PeerAddr::Unix, 3, None);
        assert!(gone(&all[1]) && !gone(&all[0]) && !gone(&all[2]) && !gone(&fourth));
        assert_eq!(logins.count(), 5);
        drop((all, fourth, fifth));
        assert_eq!(logins.count(), 0);
        let waiting = logins.waiting.lock();
        assert!(waiting.unproven.len() == 0 && waiting.unproven.sizes.is_empty() && waiting.all.is_empty());
    }

    #[test]
    fn a_crowd_of_one_place_keeps_nobody_out_of_another() {
        let logins = Arc::<Logins>::default();
        let gone = |login: &LoggingIn| login.sent_away().now_or_never().is_some();
        let come = |address: &str| logins.begin(PeerAddr::tcp(format!("{address}:7").parse().unwrap()), 5, None);
        let (first, local) = (come("192.0.2.1"), logins.begin(PeerAddr::Unix, 5, None));
        let crowd: Vec<_> = (0..20).map(|_| come("192.0.2.2")).collect();
        assert!(!gone(&first) && !gone(&local));
        assert_eq!(crowd.iter().filter(|login| gone(login)).count(), 17);
        assert!(!crowd[17..].iter().any(gone), "the oldest of them go first");
        // A network of IPv6 is one place, however many addresses it has.
        let network: Vec<_> = (0..20).map(|n| come(&format!("[2001:db8::{n}]"))).collect();
        assert!(!gone(&first) && !gone(&local) && !gone(&network[19]));
        // Where every place has one, the oldest goes.
        drop((crowd, network));
        let others: Vec<_> = (2..6).map(|n| come(&format!("198.51.100.{n}"))).collect();
        assert!(gone(&first) && !gone(&local) && !others.iter().any(gone));
    }

    #[test]
    fn who_takes_too_long_goes_unless_others_hold_him_up() {
        let logins = Arc::<Logins>::default();
        let (start, minute) = (Instant::now(), Duration::from_secs(60));
        let patient = logins.begin(PeerAddr::Unix, 9, None);
        let slow = logins.begin(PeerAddr::Unix, 9, Some(minute));
        let held_up = logins.begin(PeerAddr::Unix, 9, Some(minute));
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
        let login = logins.begin(PeerAddr::Unix, 9, Some(Duration::ZERO));
        login.proved();
        let mut wait = Box::pin(login.within_time(std::future::pending::<()>()));
        assert!((&mut wait).now_or_never().is_none());
        logins.look_at_time(Instant::now());
        assert_eq!((&mut wait).now_or_never(), Some(None));
        assert_eq!(login.sent_away().now_or_never(), None);
        assert_eq!(login.within_time(std::future::ready(7)).now_or_never(), Some(Some(7)));
    }
}
