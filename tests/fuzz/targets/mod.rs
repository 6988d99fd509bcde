//! What is fuzzed: each target takes any bytes, and panics when something does not hold that must.

mod config;
mod frames;
mod patroni;
mod server_login;
mod sql;
mod startup;

pub use config::config;
pub use frames::frames;
pub use patroni::patroni;
pub use server_login::server_login;
pub use sql::sql;
pub use startup::startup;

/// Takes any bytes.
#[allow(dead_code, reason = "each fuzz target runs one")]
pub type Target = fn(&[u8]);

/// All of them, by the names of their corpora.
#[allow(dead_code, reason = "each fuzz target runs one")]
pub const ALL: [(&str, Target); 6] = [
    ("frames", frames),
    ("startup", startup),
    ("server_login", server_login),
    ("patroni", patroni),
    ("sql", sql),
    ("config", config),
];
