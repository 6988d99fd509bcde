//! `SHOW PREPARED`: the statements that clients share, and on how many server connections they are prepared.

use super::View;
use crate::admin::value::{Column, Rows, Value, int, numeric, text};
use crate::backend::all_prepared;
use crate::sql::{LexOptions, normalize};

/// Columns.
pub const COLUMNS: &[Column] =
    &[text("name"), text("statement"), int("parameter_types"), numeric("uses"), int("servers"), int("bytes")];

/// One row per statement that a client or a server connection still has. Literals are not shown.
pub fn rows(_: &View<'_>) -> Rows {
    let row = |statement: &std::sync::Arc<crate::backend::Prepared>| {
        // By default where it makes no difference.
        let lex = statement.reading.as_ref().map_or_else(LexOptions::default, |reading| reading.lex());
        // A count and as many OIDs.
        let types = statement.types.first_chunk::<2>().map_or(0, |count| u16::from_be_bytes(*count));
        vec![
            String::from_utf8_lossy(&statement.name).into_owned().into(),
            normalize(&statement.sql, lex).into(),
            Value::count(types),
            statement.uses().into(),
            Value::count(statement.servers()),
            Value::count(statement.weight()),
        ]
    };
    all_prepared().iter().map(row).collect()
}
