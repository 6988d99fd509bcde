//! `SHOW CATALOG`: what is known of the databases' functions and relations.

use super::{View, moment};
use crate::admin::value::{Column, Rows, Value, int, text};

/// Columns.
pub const COLUMNS: &[Column] = &[
    text("database"),
    text("dbname"),
    text("loaded_at"),
    text("checked_at"),
    int("load_ms"),
    int("version"),
    int("functions"),
    int("relations"),
    int("views"),
    int("extensions"),
    text("relied_on"),
    text("error"),
];

/// One row per database of which the catalog is read.
pub fn rows(view: &View<'_>) -> Rows {
    let caches = view.ctx.all_decisions();
    let row = |(name, cache): &(String, std::sync::Arc<crate::route::DecisionCache>)| {
        let (dbname, standing) = cache.catalog()?;
        let counts = standing.counts;
        Some(vec![
            name.as_str().into(),
            dbname.into(),
            standing.loaded_at.map_or(Value::Null, moment),
            standing.checked_at.map_or(Value::Null, moment),
            Value::count(standing.took.as_millis()),
            Value::count(standing.version),
            Value::count(counts.functions),
            Value::count(counts.relations),
            Value::count(counts.views),
            Value::count(counts.extensions),
            if cache.knowledge().catalog.facts().is_some() { "yes" } else { "no" }.into(),
            Value::maybe(standing.error),
        ])
    };
    caches.iter().filter_map(row).collect()
}
