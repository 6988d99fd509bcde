//! Databases that Citus distributes, before a stand-in of plain servers (`tests/citus/fixture.rs`) and a real one (`tests/citus/real.rs`).

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

#[path = "citus/alike.rs"]
mod alike;
#[path = "citus/discovery.rs"]
mod discovery;
#[path = "citus/failover.rs"]
mod failover;
#[path = "citus/fixture.rs"]
mod fixture;
#[path = "citus/keys.rs"]
mod keys;
#[path = "citus/owners.rs"]
mod owners;
#[path = "citus/real.rs"]
mod real;
#[path = "citus/routing.rs"]
mod routing;
#[path = "citus/standbys.rs"]
mod standbys;
#[path = "citus/target.rs"]
mod target;
