//! `SHOW ROUTES` and `SHOW WHATIF`: where statements go, and where they would go.

use std::time::Duration;

use super::View;
use crate::admin::value::{Column, Rows, Value, big, text};
use crate::observe::Tally;

/// Columns of `SHOW ROUTES`.
pub const ROUTES: &[Column] = &[
    text("database"),
    text("fingerprint"),
    text("statement"),
    text("target"),
    text("reason"),
    big("count"),
    big("time_ms"),
    text("share_of_time"),
];

/// The statements that took the most time, of all databases, the first most.
pub fn routes(view: &View<'_>) -> Rows {
    let mut all = Vec::new();
    for (database, stats) in view.ctx.metrics.route_stats() {
        all.extend(stats.routes().into_iter().map(|route| (database.clone(), route)));
    }
    all.sort_by_key(|(_, route)| std::cmp::Reverse(route.tally.time));
    let total = all.iter().map(|(_, route)| route.tally.time).sum();
    let row = |(database, route): (std::sync::Arc<str>, crate::observe::Route)| {
        vec![
            (&*database).into(),
            format!("{:032x}", route.key.fingerprint).into(),
            (&*route.statement).into(),
            if route.key.replica { "replica" } else { "primary" }.into(),
            route.key.why.into(),
            Value::count(route.tally.count),
            Value::count(u64::try_from(route.tally.time.as_millis()).unwrap_or(u64::MAX)),
            share(route.tally.time, total),
        ]
    };
    all.into_iter().map(row).collect()
}

/// Columns of `SHOW WHATIF`.
pub const WHAT_IF: &[Column] = &[
    text("database"),
    text("would_go"),
    text("because"),
    big("count"),
    text("share_of_statements"),
    big("time_ms"),
    text("share_of_time"),
];

/// For each database that is in the what-if mode or was: all statements, those for replicas, those for which no replica was fresh
/// enough, and what keeps the rest, what takes the most time first.
pub fn what_if(view: &View<'_>) -> Rows {
    let mut rows = Rows::new();
    for (database, stats) in view.ctx.metrics.route_stats() {
        let tallies = stats.what_if();
        let all = tallies
            .values()
            .fold(Tally::default(), |sum, tally| Tally { count: sum.count + tally.count, time: sum.time + tally.time });
        if all.count == 0 {
            continue;
        }
        let mut row = |would: &str, because: &str, tally: Tally| {
            rows.push(vec![
                (&*database).into(),
                would.into(),
                because.into(),
                Value::count(tally.count),
                percent(tally.count as f64, all.count as f64),
                Value::count(u64::try_from(tally.time.as_millis()).unwrap_or(u64::MAX)),
                share(tally.time, all.time),
            ]);
        };
        row("anywhere", "all statements", all);
        let of = |label: &str| tallies.get(label).copied().unwrap_or_default();
        row("replica", "", of("replica"));
        row("primary", "stale", of("stale"));
        let mut rest: Vec<_> = tallies.iter().filter(|(label, _)| !matches!(**label, "replica" | "stale")).collect();
        rest.sort_by_key(|(_, tally)| std::cmp::Reverse((tally.time, tally.count)));
        for (label, tally) in rest {
            row("primary", label, *tally);
        }
    }
    rows
}

fn share(part: Duration, of: Duration) -> Value {
    percent(part.as_secs_f64(), of.as_secs_f64())
}

fn percent(part: f64, of: f64) -> Value {
    let share = if of > 0.0 { 100.0 * part / of } else { 0.0 };
    format!("{share:.1} %").into()
}
