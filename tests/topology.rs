//! Roles that are found, and what follows from them: promotion, demotion, two primaries, nodes that come and go.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod support;

#[path = "topology/balance.rs"]
mod balance;
#[path = "topology/cascading.rs"]
mod cascading;
#[path = "topology/failovers.rs"]
mod failovers;
#[path = "topology/fixture.rs"]
mod fixture;
#[path = "topology/hung.rs"]
mod hung;
#[path = "topology/membership.rs"]
mod membership;
#[path = "topology/names.rs"]
mod names;
#[path = "topology/operated.rs"]
mod operated;
#[path = "topology/patroni.rs"]
mod patroni;
#[path = "topology/reloads.rs"]
mod reloads;
#[path = "topology/rest.rs"]
mod rest;
#[path = "topology/roles.rs"]
mod roles;
#[path = "topology/switchover.rs"]
mod switchover;
