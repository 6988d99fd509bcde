//! `SHOW STATS`, `SHOW STATS_TOTALS`, `SHOW STATS_AVERAGES` and `SHOW TOTALS`. Times in microseconds.

use super::View;
use crate::admin::value::{Column, Rows, Value, numeric, text};
use crate::observe::{DatabaseStats, StatCounts};

/// Columns of `SHOW STATS`.
pub const COLUMNS: &[Column] = &[
    text("database"),
    numeric("total_server_assignment_count"),
    numeric("total_xact_count"),
    numeric("total_query_count"),
    numeric("total_received"),
    numeric("total_sent"),
    numeric("total_xact_time"),
    numeric("total_query_time"),
    numeric("total_wait_time"),
    numeric("total_client_parse_count"),
    numeric("total_server_parse_count"),
    numeric("total_bind_count"),
    numeric("total_client_login_count"),
    numeric("avg_server_assignment_count"),
    numeric("avg_xact_count"),
    numeric("avg_query_count"),
    numeric("avg_recv"),
    numeric("avg_sent"),
    numeric("avg_xact_time"),
    numeric("avg_query_time"),
    numeric("avg_wait_time"),
    numeric("avg_client_parse_count"),
    numeric("avg_server_parse_count"),
    numeric("avg_bind_count"),
    numeric("avg_client_login_count"),
];

/// Columns of `SHOW STATS_TOTALS`.
pub const TOTALS: &[Column] = &[
    text("database"),
    numeric("server_assignment_count"),
    numeric("xact_count"),
    numeric("query_count"),
    numeric("bytes_received"),
    numeric("bytes_sent"),
    numeric("xact_time"),
    numeric("query_time"),
    numeric("wait_time"),
    numeric("client_parse_count"),
    numeric("server_parse_count"),
    numeric("bind_count"),
    numeric("client_login_count"),
];

/// Columns of `SHOW STATS_AVERAGES`. Only the last four have the prefix, in PgBouncer too.
pub const AVERAGES: &[Column] = &[
    text("database"),
    numeric("server_assignment_count"),
    numeric("xact_count"),
    numeric("query_count"),
    numeric("bytes_received"),
    numeric("bytes_sent"),
    numeric("xact_time"),
    numeric("query_time"),
    numeric("wait_time"),
    numeric("avg_client_parse_count"),
    numeric("avg_server_parse_count"),
    numeric("avg_bind_count"),
    numeric("avg_client_login_count"),
];

/// Columns of `SHOW TOTALS`.
pub const SUM: &[Column] = &[text("name"), numeric("value")];

const SUM_NAMES: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
    "client_login_count",
];

/// In the order of all four tables.
fn in_order(counts: &StatCounts) -> [u64; 12] {
    [
        counts.server_assignment_count,
        counts.xact_count,
        counts.query_count,
        counts.received,
        counts.sent,
        counts.xact_time,
        counts.query_time,
        counts.wait_time,
        counts.client_parse_count,
        counts.server_parse_count,
        counts.bind_count,
        counts.client_login_count,
    ]
}

/// Every database, with zeros while nobody has used it.
fn databases(view: &View<'_>) -> Vec<DatabaseStats> {
    let mut all = view.ctx.metrics.database_stats();
    for name in view.databases().into_keys() {
        if !all.iter().any(|stats| *stats.database == *name) {
            let nothing = StatCounts::default();
            all.push(DatabaseStats { database: name.into(), totals: nothing, averages: nothing });
        }
    }
    all.sort_by(|a, b| a.database.cmp(&b.database));
    all
}

fn by_database(view: &View<'_>, numbers: impl Fn(&DatabaseStats) -> Vec<u64>) -> Rows {
    let row = |stats: &DatabaseStats| {
        let name = Value::from(&*stats.database);
        std::iter::once(name).chain(numbers(stats).into_iter().map(Value::from)).collect()
    };
    databases(view).iter().map(row).collect()
}

/// Rows of `SHOW STATS`.
pub fn rows(view: &View<'_>) -> Rows {
    by_database(view, |stats| [in_order(&stats.totals), in_order(&stats.averages)].concat())
}

/// Rows of `SHOW STATS_TOTALS`.
pub fn totals(view: &View<'_>) -> Rows {
    by_database(view, |stats| in_order(&stats.totals).to_vec())
}

/// Rows of `SHOW STATS_AVERAGES`.
pub fn averages(view: &View<'_>) -> Rows {
    by_database(view, |stats| in_order(&stats.averages).to_vec())
}

/// Rows of `SHOW TOTALS`.
pub fn sum(view: &View<'_>) -> Rows {
    let databases = databases(view);
    let totals = databases.iter().fold(StatCounts::default(), |sum, stats| sum.plus(stats.totals));
    let averages = overall(&databases);
    let rows = |prefix: &'static str, counts: StatCounts| {
        let numbers = SUM_NAMES.iter().zip(in_order(&counts));
        numbers.map(move |(name, number)| vec![format!("{prefix}{name}").into(), number.into()])
    };
    rows("total_", totals).chain(rows("avg_", averages)).collect()
}

/// Averages over all databases: counts per second add up, times are weighted by what they are times of.
fn overall(databases: &[DatabaseStats]) -> StatCounts {
    let averages = || databases.iter().map(|stats| stats.averages);
    let sum = averages().fold(StatCounts::default(), StatCounts::plus);
    let weighted = |time: fn(&StatCounts) -> u64, count: fn(&StatCounts) -> u64| {
        let time: u64 = averages().map(|each| time(&each).saturating_mul(count(&each))).sum();
        time.checked_div(count(&sum)).unwrap_or(0)
    };
    StatCounts {
        xact_time: weighted(|each| each.xact_time, |each| each.xact_count),
        query_time: weighted(|each| each.query_time, |each| each.query_count),
        wait_time: weighted(|each| each.wait_time, |each| each.server_assignment_count),
        ..sum
    }
}
