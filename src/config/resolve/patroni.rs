//! `patroni` of a database: who else knows who leads.

use serde_spanned::Spanned;

use super::{Context, files, needed};
use crate::config::schema;
use crate::config::schema::value::items;
use crate::config::{Patroni, PatroniEndpoint, defaults};

/// Reads how Patroni is watched; `None` = it is not.
pub(super) fn patroni(raw: &schema::Database, cx: &mut Context<'_>) -> Option<Patroni> {
    let mut endpoints = Vec::new();
    for text in items(&raw.patroni) {
        match PatroniEndpoint::parse(text.get_ref()) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(why) => {
                cx.problems
                    .error("not the address of a Patroni")
                    .at(text.span(), why)
                    .help("patroni = [\"http://db1.example:8008\", \"http://db2.example:8008\"]");
            }
        }
    }
    let keys = [raw.patroni_interval.as_ref().map(Spanned::span), raw.patroni_ca.as_ref().map(Spanned::span)];
    if let (None, Some(span)) = (&raw.patroni, keys.into_iter().flatten().next()) {
        cx.problems.warn("no Patroni is watched").at(span, "not used").help("add patroni = [\"http://…:8008\"]");
    }
    let interval = needed(&raw.patroni_interval, defaults::PATRONI_INTERVAL, cx);
    let ca = files::pem(&raw.patroni_ca, files::Pem::Certificate, cx);
    (!endpoints.is_empty()).then_some(Patroni { endpoints, interval, ca })
}
