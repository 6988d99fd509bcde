//! Sessions that keep a server connection to themselves, by reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// How many sessions there are by database and reason. Written only when a session's reasons change.
#[derive(Debug, Default)]
pub struct PinTable(Mutex<BTreeMap<(Arc<str>, &'static str), i64>>);

impl PinTable {
    /// A session of `database` had the reasons `before` and has the reasons `now`.
    pub fn change(&self, database: &Arc<str>, before: &[&'static str], now: &[&'static str]) {
        let mut counts = self.0.lock();
        for (reasons, by) in [(before, -1), (now, 1)] {
            for reason in reasons {
                *counts.entry((database.clone(), *reason)).or_default() += by;
            }
        }
    }

    /// Sessions by database and reason; 0 for reasons that once were.
    pub fn counts(&self) -> Vec<(Arc<str>, String, i64)> {
        let counts = self.0.lock();
        let row = |((database, reason), count): (&(Arc<str>, &str), &i64)| {
            (database.clone(), reason.to_ascii_lowercase(), *count)
        };
        counts.iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_session_no_longer_has_is_taken_away() {
        let table = PinTable::default();
        let shop: Arc<str> = "shop".into();
        table.change(&shop, &[], &["LISTEN"]);
        table.change(&shop, &["LISTEN"], &["LISTEN", "SETTINGS"]);
        table.change(&shop, &["LISTEN", "SETTINGS"], &["SETTINGS"]);
        let expected = [(shop.clone(), "listen".to_owned(), 0), (shop, "settings".to_owned(), 1)];
        assert_eq!(table.counts(), expected);
    }
}
