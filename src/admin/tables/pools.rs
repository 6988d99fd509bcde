//! `SHOW POOLS`: PgBouncer has one pool per database and user, Trunkline one for each node of it. They are added up here;
//! `SHOW POOLS_EXTENDED` has them one by one.

use std::sync::Arc;

use super::{View, mode, seconds};
use crate::admin::NAME;
use crate::admin::value::{Column, Rows, Value, int, text};
use crate::pool::{Pool, PoolCounts};
use crate::session::{Client, ClientState};
use crate::topology::{Node, UserPools};

/// Columns of `SHOW POOLS`.
pub const COLUMNS: &[Column] = &[
    text("database"),
    text("user"),
    int("cl_active"),
    int("cl_waiting"),
    int("cl_active_cancel_req"),
    int("cl_waiting_cancel_req"),
    int("sv_active"),
    int("sv_active_cancel"),
    int("sv_being_canceled"),
    int("sv_idle"),
    int("sv_used"),
    int("sv_tested"),
    int("sv_login"),
    int("maxwait"),
    int("maxwait_us"),
    text("pool_mode"),
    text("load_balance_hosts"),
];

/// Rows of `SHOW POOLS`.
pub fn rows(view: &View<'_>) -> Rows {
    let mut rows: Rows = view.pools.iter().map(|pools| row(view, pools)).collect();
    rows.push(console(view));
    rows
}

fn row(view: &View<'_>, pools: &UserPools) -> Vec<Value> {
    let clients = |waiting: bool| {
        view.client_count(|client| {
            client.database == pools.database
                && client.user == pools.user
                && (client.state() == ClientState::Waiting) == waiting
        })
    };
    let counts = pools.pools.iter().map(|pool| pool.counts()).fold(PoolCounts::default(), plus);
    let of_pool = |client: &&Arc<Client>| client.database == pools.database && client.user == pools.user;
    let in_flight = view.clients.iter().filter(of_pool).map(|client| client.cancels());
    let (cancels, being_canceled) =
        in_flight.fold((0, 0), |(all, held), (count, holds)| (all + count, held + u32::from(holds)));
    let [maxwait, maxwait_us] = seconds(counts.max_wait_us);
    let settings = view.config.pool_settings(&pools.cluster.database, &pools.user);
    vec![
        pools.database.as_str().into(),
        pools.user.as_str().into(),
        // Idle clients count as active, as in PgBouncer.
        Value::count(clients(false)),
        Value::count(clients(true)),
        // Cancel requests go to the server as they come: none waits.
        Value::count(cancels),
        0.into(),
        Value::count(counts.active),
        Value::count(cancels),
        Value::count(being_canceled),
        Value::count(counts.idle),
        0.into(),
        Value::count(counts.tested),
        Value::count(counts.opening),
        maxwait,
        maxwait_us,
        mode(settings.mode),
        Value::Null,
    ]
}

fn plus(a: PoolCounts, b: PoolCounts) -> PoolCounts {
    PoolCounts {
        active: a.active + b.active,
        idle: a.idle + b.idle,
        tested: a.tested + b.tested,
        opening: a.opening + b.opening,
        waiting: a.waiting + b.waiting,
        max_wait_us: a.max_wait_us.max(b.max_wait_us),
    }
}

/// The console's own row.
fn console(view: &View<'_>) -> Vec<Value> {
    let mut row = vec![NAME.into(), NAME.into(), Value::count(view.console_clients())];
    row.extend([(); 12].map(|()| Value::Int(0)));
    row.extend(["statement".into(), Value::Null]);
    row
}

/// Columns of `SHOW POOLS_EXTENDED`.
pub const EXTENDED: &[Column] = &[
    text("database"),
    text("user"),
    text("node"),
    text("role"),
    int("cl_waiting"),
    int("sv_active"),
    int("sv_idle"),
    int("sv_tested"),
    int("sv_login"),
    int("maxwait"),
    int("maxwait_us"),
    int("pool_size"),
    int("min_pool_size"),
    text("pool_mode"),
];

/// Rows of `SHOW POOLS_EXTENDED`.
pub fn extended_rows(view: &View<'_>) -> Rows {
    let pairs = view
        .pools
        .iter()
        .flat_map(|pools| pools.pools.iter().zip(&pools.cluster.nodes).map(move |(pool, node)| (pools, pool, node)));
    let row = |(pools, pool, node): (&Arc<UserPools>, &Arc<Pool>, &Arc<Node>)| {
        let counts = pool.counts();
        let settings = pool.settings();
        let [maxwait, maxwait_us] = seconds(counts.max_wait_us);
        vec![
            pools.database.as_str().into(),
            pools.user.as_str().into(),
            super::nodes::name(node).into(),
            super::nodes::role(node).into(),
            Value::count(counts.waiting),
            Value::count(counts.active),
            Value::count(counts.idle),
            Value::count(counts.tested),
            Value::count(counts.opening),
            maxwait,
            maxwait_us,
            Value::count(settings.size),
            Value::count(settings.min_size),
            mode(settings.mode),
        ]
    };
    pairs.map(row).collect()
}
