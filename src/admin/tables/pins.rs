//! `SHOW PINS`: sessions that keep a server connection to themselves, and why.

use super::{View, moment};
use crate::admin::value::Value;
use crate::admin::value::{Column, Rows, int, text};

/// Columns.
pub const COLUMNS: &[Column] = &[
    int("client_id"),
    text("user"),
    text("database"),
    text("application_name"),
    text("reasons"),
    text("since"),
    text("statement"),
    int("remote_pid"),
    text("link"),
];

/// One row per pinned session.
pub fn rows(view: &View<'_>) -> Rows {
    let pinned = view.clients.iter().filter_map(|client| Some((client, client.pinned()?)));
    pinned
        .map(|(client, pinned)| {
            let server = client.server();
            vec![
                Value::count(client.id),
                client.user.as_str().into(),
                client.database.as_str().into(),
                client.application_name.as_str().into(),
                pinned.reasons.into(),
                moment(pinned.since),
                pinned.statement.into(),
                Value::count(server.as_ref().map_or(0, |info| info.cancel.pid)),
                super::connections::link(server.as_deref()).into(),
            ]
        })
        .collect()
}
