//! `SHOW ROUTE '<sql>'`.

use std::sync::Arc;

use crate::admin::value::{Column, Rows, Value, int, text};
use crate::route::{DecisionCache, RouteRow, explain, explain_for};
use crate::session::Context;
use crate::sql::{Knowledge, LexOptions};
use crate::wire::{ErrorNotice, SqlState};

/// Columns.
pub const COLUMNS: &[Column] = &[
    int("statement"),
    text("target"),
    text("reason"),
    text("explanation"),
    text("effects"),
    text("sql"),
    text("fingerprint"),
    text("reads"),
    text("writes"),
];

/// One row per statement, and one for the whole text (whose number is NULL) when there is more than one.
///
/// # Errors
/// The database is not configured.
pub fn rows(ctx: &Arc<Context>, sql: &str, database: Option<&str>) -> Result<Rows, ErrorNotice> {
    let report = match decisions(ctx, database)? {
        Some(cache) => explain_for(&cache, sql.as_bytes(), LexOptions::default(), None),
        None => explain(sql.as_bytes(), LexOptions::default(), &Knowledge::default()),
    };
    let fingerprint = report.fingerprint.to_string();
    let row = |number: Value, row: &RouteRow| {
        vec![
            number,
            row.target.as_str().into(),
            row.reason.as_str().into(),
            row.sentence.as_str().into(),
            row.effects.join(", ").into(),
            row.sql.as_str().into(),
            fingerprint.as_str().into(),
            tables(row.reads.as_deref()).into(),
            tables(row.writes.as_deref()).into(),
        ]
    };
    let mut rows: Rows =
        report.statements.iter().enumerate().map(|(index, each)| row(Value::count(index + 1), each)).collect();
    if rows.len() != 1 {
        rows.push(row(Value::Null, &report.overall));
    }
    Ok(rows)
}

/// Slots of tables, as numbers; "all" for any table.
fn tables(slots: Option<&[u16]>) -> String {
    match slots {
        None => "all".to_owned(),
        Some(slots) => slots.iter().map(u16::to_string).collect::<Vec<_>>().join(","),
    }
}

/// The decisions of the database, or of the only one that is configured.
fn decisions(ctx: &Arc<Context>, database: Option<&str>) -> Result<Option<Arc<DecisionCache>>, ErrorNotice> {
    let config = ctx.config.load();
    match database {
        Some(name) => match config.database(name) {
            Some(database) => Ok(Some(ctx.decisions(database, name))),
            None => Err(ErrorNotice::error(SqlState::UNKNOWN_DATABASE, format!("database \"{name}\" does not exist"))
                .hint("SHOW DATABASES lists them.")),
        },
        None if config.databases.len() == 1 => {
            let only = config.databases.values().find(|only| only.name != "*");
            Ok(only.map(|only| ctx.decisions(only, &only.name)))
        }
        None => Ok(None),
    }
}
