//! Tests of the configuration, by what they are about. Diagnostics are in `tests/config_errors.rs`.

mod diff;
mod files;
mod overrides;
mod resolved;
mod schema_keys;
mod secrets;
mod urls;
mod values;

use std::path::Path;

use super::{Config, Environment, Loaded, load_text};

/// Reads `text` with the variables `env`.
pub(super) fn read(text: &str, env: &[(&str, &str)]) -> Result<Loaded, super::Errors> {
    load_text("test.toml", text, Path::new("/"), &env.iter().copied().collect::<Environment>())
}

/// The configuration of `text`, which must be good.
pub(super) fn config(text: &str) -> Config {
    read(text, &[]).unwrap_or_else(|errors| panic!("{errors}")).config
}

/// All mistakes and warnings of `text`, rendered both ways.
pub(super) fn shown(text: &str, env: &[(&str, &str)]) -> String {
    match read(text, env) {
        Ok(loaded) => super::render_all(&loaded.warnings, false),
        Err(errors) => format!("{}\n{errors}\n{errors:?}", errors.render(false)),
    }
}

/// A database with which everything else can be tested.
pub(super) const BASE: &str = "[databases.app]\nurl = \"postgres://app:pw@db1/app\"\n";
