//! The text of a configuration.

use std::path::Path;

use trunkline::config::{Diff, Environment, load_text, render_all};

/// The bytes are the file.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Secrets are read from files: not from devices that never end.
    if text.contains("/dev") || text.contains("/proc") {
        return;
    }
    match load_text("trunkline.toml", text, Path::new("/nonexistent"), &Environment::default()) {
        Ok(loaded) => {
            let _ = render_all(&loaded.warnings, false);
            let again = load_text("trunkline.toml", text, Path::new("/nonexistent"), &Environment::default());
            match again {
                Ok(again) => assert!(Diff::between(&loaded.config, &again.config).is_empty(), "unlike itself"),
                Err(_) => panic!("accepted once, refused then"),
            }
        }
        Err(errors) => {
            assert!(!errors.problems().is_empty() && !errors.to_string().is_empty());
            let _ = errors.render(true);
        }
    }
}
