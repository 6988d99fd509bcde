//! The configuration: TOML schema, environment, validation with line and label, the resolved immutable model.

mod model;

pub use model::*;
