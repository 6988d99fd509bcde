//! `SHOW PATRONI`: whether Patroni answers, and what it says.

use super::{View, moment};
use crate::admin::value::{Column, Rows, Value, int, text};

/// Columns.
pub const COLUMNS: &[Column] = &[
    text("database"),
    text("endpoint"),
    text("last_answer"),
    text("error"),
    text("standing"),
    text("leader"),
    int("timeline"),
];

/// One row per endpoint of each database that is watched.
pub fn rows(view: &View<'_>) -> Rows {
    let mut rows = Rows::new();
    for cluster in view.clusters.values() {
        let Some(report) = cluster.patroni() else { continue };
        for endpoint in &report.endpoints {
            rows.push(vec![
                cluster.database.name.as_str().into(),
                endpoint.url.as_str().into(),
                endpoint.answered.map_or(Value::Null, moment),
                Value::maybe(endpoint.error.as_deref()),
                report.standing.into(),
                Value::maybe(report.leader.as_deref()),
                if report.timeline > 0 { Value::count(report.timeline) } else { Value::Null },
            ]);
        }
    }
    rows
}
