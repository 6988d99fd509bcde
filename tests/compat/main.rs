//! PostgreSQL's regression suite, `libpq_pipeline` and SQLAlchemy's dialect suite, on a direct connection and through
//! Trunkline in transaction pooling: the same results are demanded. `make compat` runs it; see the README beside this file.
//!
//! The tests are ignored otherwise: they need what `.ci/install-compat` fetches, and take minutes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod pipeline;
mod regression;
mod sqlalchemy;
mod stage;
mod table;
