//! Clients that are connected and have not logged in: how many there are, and who goes when there are too many.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// All of them.
#[derive(Debug, Default)]
pub struct Logins {
    count: AtomicUsize,
    unproven: Mutex<Unproven>,
}

/// Those who have not proved who they are, oldest first.
#[derive(Debug, Default)]
struct Unproven {
    next: u64,
    by_number: BTreeMap<u64, Arc<Notify>>,
}

impl Logins {
    /// Counts one more. Of more than `limit` that have proved nothing yet, the oldest is sent away: who means to log in has answered
    /// long before, and who only holds connections keeps nobody out.
    pub fn begin(self: &Arc<Self>, limit: usize) -> LoggingIn {
        self.count.fetch_add(1, Ordering::Relaxed);
        let sent_away = Arc::<Notify>::default();
        let mut unproven = self.unproven.lock();
        let number = unproven.next;
        unproven.next += 1;
        unproven.by_number.insert(number, sent_away.clone());
        let oldest = (unproven.by_number.len() > limit.max(1)).then(|| unproven.by_number.pop_first()).flatten();
        drop(unproven);
        if let Some((_, oldest)) = oldest {
            oldest.notify_one();
        }
        LoggingIn { logins: self.clone(), number, sent_away }
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
    sent_away: Arc<Notify>,
}

impl LoggingIn {
    /// It has proved who it is: nobody sends it away any more for others' sake.
    pub fn proved(&self) {
        self.logins.unproven.lock().by_number.remove(&self.number);
    }

    /// Ends when it must go.
    pub fn sent_away(&self) -> impl Future<Output = ()> + Send + use<> {
        let sent_away = self.sent_away.clone();
        async move { sent_away.notified().await }
    }
}

impl Drop for LoggingIn {
    fn drop(&mut self) {
        self.proved();
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
        let all: Vec<_> = (0..3).map(|_| logins.begin(3)).collect();
        let gone = |login: &LoggingIn| login.sent_away().now_or_never().is_some();
        assert!(!all.iter().any(gone));
        all[0].proved();
        let fourth = logins.begin(3);
        assert!(!all.iter().any(gone), "who has proved who it is does not count");
        let fifth = logins.begin(3);
        assert!(gone(&all[1]) && !gone(&all[0]) && !gone(&all[2]) && !gone(&fourth));
        assert_eq!(logins.count(), 5);
        drop((all, fourth, fifth));
        assert_eq!(logins.count(), 0);
        assert!(logins.unproven.lock().by_number.is_empty());
    }
}
