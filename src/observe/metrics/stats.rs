//! The numbers of the console's `SHOW STATS`, per database, as PgBouncer counts and averages them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::cells::{Labels, SessionTotals};
use super::histogram::Snapshot;

/// How often the averages move on.
pub const STATS_PERIOD: Duration = Duration::from_secs(60);

macro_rules! counts {
    ($($(#[$doc:meta])* $field:ident,)+) => {
        /// One set of PgBouncer's statistics: totals since the start, or averages. Times in microseconds.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct StatCounts {
            $($(#[$doc])* pub $field: u64,)+
        }

        impl StatCounts {
            fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
                Self { $($field: f(self.$field, other.$field),)+ }
            }

            fn map(self, f: impl Fn(u64) -> u64) -> Self {
                Self { $($field: f(self.$field),)+ }
            }
        }
    };
}

counts! {
    /// Times that a client was given a server connection.
    server_assignment_count,
    /// Transactions.
    xact_count,
    /// Statements.
    query_count,
    /// Bytes from clients.
    received,
    /// Bytes from servers, which is what clients were sent.
    sent,
    /// Time in transactions.
    xact_time,
    /// Time in statements.
    query_time,
    /// Time that clients waited for a server connection.
    wait_time,
    /// Parse messages from clients.
    client_parse_count,
    /// Parse messages to servers.
    server_parse_count,
    /// Bind messages from clients.
    bind_count,
    /// Logins.
    client_login_count,
}

impl StatCounts {
    fn of(totals: &SessionTotals) -> Self {
        let sum = |of: &[Snapshot], what: fn(&Snapshot) -> u64| of.iter().map(what).sum();
        let (statements, waits) = (&totals.statements, &totals.waits);
        Self {
            server_assignment_count: sum(waits, Snapshot::count),
            xact_count: totals.transactions,
            query_count: sum(statements, Snapshot::count),
            received: totals.client_received,
            sent: totals.server_received,
            xact_time: totals.transaction_ns / 1_000,
            query_time: sum(statements, Snapshot::sum_us),
            wait_time: sum(waits, Snapshot::sum_us),
            client_parse_count: totals.client_parses,
            server_parse_count: totals.server_parses,
            bind_count: totals.binds,
            client_login_count: totals.logins,
        }
    }

    /// Adds two sets, for the console's totals over all databases.
    pub fn plus(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    /// Averages over `period`: counts per second; times per transaction, statement and assignment.
    fn averages(self, before: Self, period: Duration) -> Self {
        let us = u64::try_from(period.as_micros()).unwrap_or(u64::MAX).max(1);
        let grown = self.zip(before, u64::saturating_sub);
        let per = |time: u64, count: u64| time.checked_div(count).unwrap_or(0);
        Self {
            xact_time: per(grown.xact_time, grown.xact_count),
            query_time: per(grown.query_time, grown.query_count),
            wait_time: per(grown.wait_time, grown.server_assignment_count),
            ..grown.map(|count| u64::try_from(u128::from(count) * 1_000_000 / u128::from(us)).unwrap_or(u64::MAX))
        }
    }
}

/// Statistics of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseStats {
    /// Database as clients name it, or `other`.
    pub database: Arc<str>,
    /// Since the start.
    pub totals: StatCounts,
    /// Over the last full period and what has passed of the present one, as PgBouncer does.
    pub averages: StatCounts,
}

type PerDatabase = BTreeMap<Arc<str>, StatCounts>;

/// Remembers the totals at the last two ticks, from which the averages come.
#[derive(Debug)]
pub struct StatsTicker {
    older: (Duration, PerDatabase),
    newer: (Duration, PerDatabase),
}

impl StatsTicker {
    /// Starts with nothing counted, at `now` (time since any fixed moment).
    pub fn new(now: Duration) -> Self {
        Self { older: (now, BTreeMap::new()), newer: (now, BTreeMap::new()) }
    }

    /// To be called each [`STATS_PERIOD`].
    pub fn tick(&mut self, now: Duration, totals: &BTreeMap<Labels, SessionTotals>) {
        self.older = std::mem::replace(&mut self.newer, (now, per_database(totals)));
    }

    /// Totals and averages of every database, ordered by name.
    pub fn stats(&self, now: Duration, totals: &BTreeMap<Labels, SessionTotals>) -> Vec<DatabaseStats> {
        let (since, older) = &self.older;
        let period = now.saturating_sub(*since);
        let stats = per_database(totals).into_iter().map(|(database, totals)| {
            let before = older.get(&database).copied().unwrap_or_default();
            DatabaseStats { database, totals, averages: totals.averages(before, period) }
        });
        stats.collect()
    }
}

fn per_database(totals: &BTreeMap<Labels, SessionTotals>) -> PerDatabase {
    let mut sums = PerDatabase::new();
    for (labels, totals) in totals {
        let sum = sums.entry(labels.database.clone()).or_default();
        *sum = sum.plus(StatCounts::of(totals));
    }
    sums
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn totals(transactions: u64, ns: u64) -> BTreeMap<Labels, SessionTotals> {
        let labels = |user: &str| Labels { database: "shop".into(), user: user.into() };
        let one = SessionTotals { transactions, transaction_ns: ns, ..SessionTotals::default() };
        BTreeMap::from([(labels("ann"), one.clone()), (labels("bob"), one)])
    }

    #[test]
    fn averages_run_from_the_tick_before_last_until_now() {
        let second = Duration::from_secs;
        let mut ticker = StatsTicker::new(second(0));
        ticker.tick(second(60), &totals(600, 600_000_000));
        // older is still the start
        let stats = ticker.stats(second(120), &totals(1_200, 1_800_000_000));
        assert_eq!(stats.len(), 1);
        assert_eq!(stats[0].totals.xact_count, 2_400);
        assert_eq!(stats[0].averages.xact_count, 20);
        assert_eq!(stats[0].averages.xact_time, 1_500);
        ticker.tick(second(120), &totals(1_200, 1_800_000_000));
        // 1,200 more in 60 s since the first tick, of 2 ms each
        let stats = ticker.stats(second(120), &totals(1_200, 1_800_000_000));
        assert_eq!(stats[0].averages.xact_count, 20);
        assert_eq!(stats[0].averages.xact_time, 2_000);
    }

    #[test]
    fn nothing_counted_averages_to_zero() {
        let ticker = StatsTicker::new(Duration::ZERO);
        let stats = ticker.stats(Duration::ZERO, &totals(0, 0));
        assert_eq!(stats[0].averages, StatCounts::default());
    }
}
