//! `SHOW LEARNED` and `SHOW RERUNS`: statements that failed on a replica. `SHOW BREAKERS`: those that keep failing anywhere.

use std::time::Instant;

use super::{View, moment};
use crate::admin::value::{Column, Rows, Value, big, int, text};

/// Columns of `SHOW LEARNED`.
pub const LEARNED: &[Column] =
    &[text("database"), text("fingerprint"), text("statement"), text("cause"), text("since"), big("times")];

/// Statements that are kept on the primary, the newest of each database first. `database` is the name in the configuration.
pub fn learned(view: &View<'_>) -> Rows {
    let caches = view.ctx.all_decisions();
    let mut rows = Rows::new();
    for (database, cache) in caches {
        for learned in cache.learned() {
            rows.push(vec![
                database.as_str().into(),
                learned.fingerprint.to_string().into(),
                learned.statement.into(),
                learned.cause.as_str().into(),
                moment(learned.since),
                Value::count(learned.times),
            ]);
        }
    }
    rows
}

/// Columns of `SHOW RERUNS`.
pub const RERUNS: &[Column] = &[text("database"), text("cause"), big("rerun"), big("told"), text("told_because")];

/// What became of statements that failed on a replica, by database and cause.
pub fn reruns(view: &View<'_>) -> Rows {
    let row = |((database, cause), counts): (_, crate::observe::RerunCounts)| {
        let (database, cause): (std::sync::Arc<str>, &str) = (database, cause);
        let because: Vec<_> = counts.told.iter().map(|(why, count)| format!("{why}: {count}")).collect();
        vec![
            (&*database).into(),
            cause.into(),
            Value::count(counts.rerun),
            Value::count(counts.told.values().sum::<u64>()),
            because.join(", ").into(),
        ]
    };
    view.ctx.metrics.reruns().into_iter().map(row).collect()
}

/// Columns of `SHOW BREAKERS`.
pub const BREAKERS: &[Column] = &[
    text("database"),
    text("user"),
    text("fingerprint"),
    text("statement"),
    text("state"),
    int("failures"),
    text("last"),
    big("refused"),
    int("left_seconds"),
];

/// Statements that have failed of late; `database` is the name in the configuration.
pub fn breakers(view: &View<'_>) -> Rows {
    let mut rows = Rows::new();
    for (database, cache) in view.ctx.all_decisions() {
        let Some(configured) = view.config.databases.get(&database) else { continue };
        for one in cache.breaker().all(&configured.routing.breaker, Instant::now()) {
            rows.push(vec![
                database.as_str().into(),
                one.user.into(),
                one.fingerprint.to_string().into(),
                one.statement.into(),
                one.state.into(),
                Value::count(one.failures),
                one.last.as_str().into(),
                Value::count(one.refused),
                Value::count(one.left.as_secs()),
            ]);
        }
    }
    rows
}
