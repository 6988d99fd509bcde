//! What the catalog of a database tells about statements, with real servers: functions, views, tables of all kinds, what a write
//! changes along, and that changes of the schema are noticed. Traps by number where they have one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "catalog/changes.rs"]
mod changes;
#[path = "catalog/foreign.rs"]
mod foreign;
#[path = "catalog/hidden.rs"]
mod hidden;
#[path = "catalog/lists.rs"]
mod lists;
#[path = "catalog/reads.rs"]
mod reads;
#[path = "catalog/search_path.rs"]
mod search_path;
#[path = "catalog/search_path_properties.rs"]
mod search_path_properties;
mod support;
#[path = "catalog/temporary.rs"]
mod temporary;
#[path = "catalog/timescaledb.rs"]
mod timescaledb;
#[path = "catalog/touches.rs"]
mod touches;

use std::time::{Duration, Instant};

use support::clusters::{self, APP, APP_PASSWORD};
use support::raw::RawClient;
use support::world::{Plan, World};
use trunkline::app::demo::{ClusterInfo, ClusterOptions};

/// A world whose console is open, with its catalog read.
fn world(sql: &str) -> World {
    world_with(Plan { sql, ..Plan::default() })
}

fn world_with(plan: Plan<'_>) -> World {
    world_on(clusters::shared(), plan)
}

fn world_on(cluster: &ClusterInfo, plan: Plan<'_>) -> World {
    let tables = format!("[admin]\nadmin_users = [\"{APP}\"]\n{}", plan.tables);
    let world = Plan { tables: &tables, ..plan }.start_on(cluster);
    let began = Instant::now();
    while standing(&world, "relied_on") != "yes" {
        assert!(began.elapsed() < Duration::from_secs(20), "no catalog: {}", world.proxy.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    world
}

fn console(world: &World) -> RawClient {
    RawClient::connect(world.proxy.port(), APP, APP_PASSWORD, "trunkline")
}

/// A column of `SHOW CATALOG`.
fn standing(world: &World, column: &str) -> String {
    console(world).value(&format!("SELECT {column} FROM catalog"))
}

/// Where a statement would go, the label of the reason, and what is told of it.
fn route(world: &World, sql: &str) -> (String, String, String) {
    let rows = console(world).rows(&format!("SHOW ROUTE $q${sql}$q$ {}", world.db.name));
    let of = |column: usize| rows.last().unwrap()[column].clone().unwrap_or_default();
    (of(1), of(2), of(3))
}

/// Slots of the tables that a statement reads, and of those that it may write.
fn touched(world: &World, sql: &str) -> (String, String) {
    let rows = console(world).rows(&format!("SHOW ROUTE $q${sql}$q$ {}", world.db.name));
    let of = |column: usize| rows.last().unwrap()[column].clone().unwrap_or_default();
    (of(7), of(8))
}

fn is_read(world: &World, sql: &str) {
    let (target, reason, told) = route(world, sql);
    assert_eq!(target, "replica", "{sql}: {reason}: {told}");
}

/// The statement needs the primary, for this reason, and these words are said of it.
fn is_for_primary(world: &World, sql: &str, reason: &str, words: &str) {
    let (target, found, told) = route(world, sql);
    assert_eq!((target.as_str(), found.as_str()), ("primary", reason), "{sql}: {told}");
    assert!(told.contains(words), "{sql}: {told}");
}
