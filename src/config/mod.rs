//! The configuration: TOML schema, environment, validation with line and label, the resolved immutable model.
//!
//! The way of a file: [`load`] reads the text, `document` turns it into the raw `schema` (every unknown key and
//! wrong type at once, with the environment's overrides grafted in), `resolve` checks it and fills the defaults
//! in. What is wrong is collected as [`Problem`]s, shown redacted. [`Config::from_urls`] joins at `resolve`.

mod breaker;
mod citus;
mod conninfo;
mod defaults;
mod diff;
mod document;
mod environment;
mod load;
mod model;
mod origin;
mod patroni;
mod problem;
mod redact;
mod resolve;
mod schema;
mod suggest;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
mod urls;

pub use breaker::BreakerSettings;
pub use citus::{CitusReads, CitusSettings, OwnerRouting};
pub use defaults::{MAX_SCRAM_ITERATIONS, REPLICA_WEIGHT, SLOW_QUERY as DEFAULT_SLOW_QUERY};
pub use diff::{Change, Diff};
pub use environment::Environment;
pub use load::{Loaded, load, load_text};
pub use model::*;
pub use origin::Origin;
pub use patroni::{Patroni, PatroniEndpoint};
pub use problem::{Errors, Problem, render_all};
pub use suggest::nearest;
pub use urls::UrlArgs;
