//! Tables of a row or two, and those that are always empty here.

use std::sync::atomic::Ordering;

use super::View;
use crate::admin::value::{Column, Rows, Value, big, int, text};
use crate::net::looked_up;
use crate::pool::Service;

/// Columns of `SHOW STATE`.
pub const STATE: &[Column] = &[text("key"), text("value")];

/// Rows of `SHOW STATE`.
pub fn state(view: &View<'_>) -> Rows {
    let service = view.ctx.directory.gates.service();
    let active = service == Service::Active && !view.ctx.draining.load(Ordering::Acquire);
    let word = |yes: bool| if yes { "yes" } else { "no" };
    [("active", active), ("paused", service == Service::Paused), ("suspended", service == Service::Suspended)]
        .into_iter()
        .map(|(key, yes)| vec![key.into(), word(yes).into()])
        .collect()
}

/// Columns of `SHOW VERSION`.
pub const VERSION: &[Column] = &[text("version")];

/// The row of `SHOW VERSION`.
pub fn version(_: &View<'_>) -> Rows {
    vec![vec![concat!("Trunkline ", env!("CARGO_PKG_VERSION")).into()]]
}

/// Columns of `SHOW PEERS`.
pub const PEERS: &[Column] = &[int("peer_id"), text("host"), int("port"), int("pool_size")];

/// Columns of `SHOW PEER_POOLS`.
pub const PEER_POOLS: &[Column] = &[
    int("peer_id"),
    int("cl_active_cancel_req"),
    int("cl_waiting_cancel_req"),
    int("sv_active_cancel"),
    int("sv_login"),
];

/// Columns of `SHOW DNS_HOSTS`.
pub const DNS_HOSTS: &[Column] = &[text("hostname"), big("ttl"), text("addrs")];

/// Rows of `SHOW DNS_HOSTS`. Nothing is kept: every connection looks the name up anew.
pub fn dns_hosts(_: &View<'_>) -> Rows {
    let addresses = |found: Vec<std::net::IpAddr>| found.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    looked_up().into_iter().map(|(host, found)| vec![host.into(), Value::Big(0), addresses(found).into()]).collect()
}

/// Columns of `SHOW DNS_ZONES`.
pub const DNS_ZONES: &[Column] = &[text("zonename"), big("serial"), int("count")];

/// No rows.
pub fn nothing(_: &View<'_>) -> Rows {
    Rows::new()
}
