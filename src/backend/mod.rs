//! One server connection: connect, startup, parameters, prepared statements, cancel key.

mod base;
mod conn;
mod interner;
mod open;
pub mod parameters;
pub mod prepared;
mod reading;
mod registry;
mod reset;
mod settings;

pub use base::base_settings;
pub use conn::{ServerConn, ServerInfo, ServerState};
pub use open::{ConnectSpec, OpenError, cancel, open, open_failure, open_with};
pub use parameters::Parameters;
pub use prepared::{Prepared, SqlPrepared, all_prepared};
pub use reading::{Reading, decides_reading};
pub use registry::{Own, OwnName, Registry};
pub use reset::{apply_settings, greet, reset, run};
pub use settings::{DATE_STYLE, Settings, Value, reserved, write_local};
