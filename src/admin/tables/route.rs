//! `SHOW ROUTE '<sql>'`.

use crate::admin::value::{Column, Rows, Value, int, text};
use crate::config::{Config, Database};
use crate::route::{RouteRow, explain};
use crate::sql::{FunctionLists, LexOptions};
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
];

/// One row per statement, and one for the whole text (whose number is NULL) when there is more than one.
///
/// # Errors
/// The database is not configured.
pub fn rows(config: &Config, sql: &str, database: Option<&str>) -> Result<Rows, ErrorNotice> {
    let report = explain(sql.as_bytes(), LexOptions::default(), &lists(config, database)?);
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
        ]
    };
    let mut rows: Rows =
        report.statements.iter().enumerate().map(|(index, each)| row(Value::count(index + 1), each)).collect();
    if rows.len() != 1 {
        rows.push(row(Value::Null, &report.overall));
    }
    Ok(rows)
}

/// The lists of functions of the database, or of the only one that is configured.
fn lists(config: &Config, database: Option<&str>) -> Result<FunctionLists, ErrorNotice> {
    let of = |database: &Database| {
        FunctionLists::new(&database.routing.read_only_functions, &database.routing.primary_functions)
    };
    match database {
        Some(name) => config.database(name).map(|database| of(database)).ok_or_else(|| {
            ErrorNotice::error(SqlState::UNKNOWN_DATABASE, format!("database \"{name}\" does not exist"))
                .hint("SHOW DATABASES lists them.")
        }),
        None if config.databases.len() == 1 => {
            Ok(config.databases.values().next().map_or_else(Default::default, |only| of(only)))
        }
        None => Ok(FunctionLists::default()),
    }
}
