//! `SHOW CLIENTS`, `SHOW SERVERS`, `SHOW SOCKETS`: one row per connection.

use std::sync::Arc;
use std::time::SystemTime;

use super::{View, join, moment, seconds};
use crate::admin::value::{Column, Rows, Value, int, text};
use crate::backend::{ServerInfo, ServerState};
use crate::session::{Client, ClientState};
use crate::topology::{Node, UserPools};

/// Columns of `SHOW CLIENTS` and `SHOW SERVERS`.
pub const COLUMNS: &[Column] = &[
    text("type"),
    text("user"),
    text("database"),
    text("replication"),
    text("state"),
    text("addr"),
    int("port"),
    text("local_addr"),
    int("local_port"),
    text("connect_time"),
    text("request_time"),
    int("wait"),
    int("wait_us"),
    int("close_needed"),
    text("ptr"),
    text("link"),
    int("remote_pid"),
    text("tls"),
    text("application_name"),
    int("prepared_statements"),
    int("id"),
];

/// Columns of `SHOW SERVERS_EXTENDED`.
pub const EXTENDED: &[Column] = &join::<22>(COLUMNS, &[text("node")]);

const BUFFERS: &[Column] = &[
    int("recv_pos"),
    int("pkt_pos"),
    int("pkt_remain"),
    int("send_pos"),
    int("send_remain"),
    int("pkt_avail"),
    int("send_avail"),
];

/// Columns of `SHOW SOCKETS` and `SHOW ACTIVE_SOCKETS`.
pub const SOCKETS: &[Column] = &join::<28>(COLUMNS, BUFFERS);

/// Rows of `SHOW CLIENTS`.
pub fn clients(view: &View<'_>) -> Rows {
    view.clients.iter().map(|each| client(each, "")).collect()
}

/// Rows of `SHOW SERVERS`.
pub fn servers(view: &View<'_>) -> Rows {
    open(view).map(|(pools, _, info)| server(&pools, &info, "")).collect()
}

/// Rows of `SHOW SERVERS_EXTENDED`.
pub fn servers_extended(view: &View<'_>) -> Rows {
    let row = |(pools, node, info): (Arc<UserPools>, Arc<Node>, Arc<ServerInfo>)| {
        let mut row = server(&pools, &info, "");
        row.push(super::nodes::name(&node).into());
        row
    };
    open(view).map(row).collect()
}

/// Rows of `SHOW SOCKETS`.
pub fn sockets(view: &View<'_>) -> Rows {
    with_buffers(view, |_| true, |_| true)
}

/// Rows of `SHOW ACTIVE_SOCKETS`.
pub fn active_sockets(view: &View<'_>) -> Rows {
    with_buffers(view, |client| client.state() != ClientState::Idle, |info| info.state() != ServerState::Idle)
}

/// Buffers are seen by their sessions only: PgBouncer's columns about them say 0.
fn with_buffers(
    view: &View<'_>,
    client_wanted: impl Fn(&Client) -> bool,
    server_wanted: impl Fn(&ServerInfo) -> bool,
) -> Rows {
    let clients = view.clients.iter().filter(|each| client_wanted(each)).map(|each| client(each, "cl_"));
    let servers =
        open(view).filter(|(.., info)| server_wanted(info)).map(|(pools, _, info)| server(&pools, &info, "sv_"));
    let mut rows: Rows = clients.chain(servers).collect();
    rows.iter_mut().for_each(|row| row.extend(BUFFERS.iter().map(|_| Value::Int(0))));
    rows
}

/// Every open server connection, with its pool and node.
fn open(view: &View<'_>) -> impl Iterator<Item = (Arc<UserPools>, Arc<Node>, Arc<ServerInfo>)> {
    view.pools.iter().flat_map(|pools| {
        pools.pools.iter().zip(&pools.cluster.nodes).flat_map(move |(pool, node)| {
            pool.servers().into_iter().map(move |info| (pools.clone(), node.clone(), info))
        })
    })
}

fn client(client: &Client, prefix: &str) -> Vec<Value> {
    use std::sync::atomic::Ordering::Relaxed;
    let link = client.server();
    let state = match client.state() {
        ClientState::Idle => "idle",
        ClientState::Active => "active",
        ClientState::Waiting => "waiting",
    };
    let waits_since = client.waiting_since.load(Relaxed);
    let waited = if waits_since == 0 { 0 } else { now_us().saturating_sub(waits_since) };
    let [wait, wait_us] = seconds(waited);
    vec![
        "C".into(),
        client.user.as_str().into(),
        client.database.as_str().into(),
        client.replication.into(),
        format!("{prefix}{state}").into(),
        client.peer.0.as_str().into(),
        Value::count(client.peer.1),
        client.local.0.as_str().into(),
        Value::count(client.local.1),
        moment(client.connected),
        moment(client.last_request()),
        wait,
        wait_us,
        0.into(),
        pointer('c', client.id).into(),
        self::link(link.as_deref()).into(),
        0.into(),
        client.tls.as_str().into(),
        client.application_name.as_str().into(),
        Value::count(client.prepared.load(Relaxed)),
        Value::count(client.id),
    ]
}

fn server(pools: &UserPools, info: &ServerInfo, prefix: &str) -> Vec<Value> {
    use std::sync::atomic::Ordering::Relaxed;
    let state = match info.state() {
        ServerState::Idle => "idle",
        ServerState::Active => "active",
        ServerState::Tested => "tested",
    };
    let client = info.client.load(Relaxed);
    vec![
        "S".into(),
        pools.login.user.as_str().into(),
        pools.database.as_str().into(),
        "none".into(),
        format!("{prefix}{state}").into(),
        info.addr.as_str().into(),
        Value::count(info.port),
        info.local_addr.as_str().into(),
        Value::count(info.local_port),
        moment(info.connected),
        moment(info.last_request()),
        0.into(),
        0.into(),
        i32::from(info.is_close_needed()).into(),
        pointer('s', info.id).into(),
        if client == 0 { String::new() } else { pointer('c', client) }.into(),
        Value::count(info.cancel.pid),
        info.tls.as_str().into(),
        "".into(),
        Value::count(info.prepared.load(Relaxed)),
        Value::count(info.id),
    ]
}

/// What a client's row says of its server connection.
pub fn link(server: Option<&ServerInfo>) -> String {
    server.map_or_else(String::new, |info| pointer('s', info.id))
}

/// What links rows of clients and servers: PgBouncer shows addresses in memory, which is none of an observer's business.
fn pointer(kind: char, id: u64) -> String {
    format!("{kind}{id}")
}

fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
