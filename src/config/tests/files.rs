//! `config/trunkline.toml` tells the truth: every key is in it, and the defaults that it shows are the defaults.

use std::path::Path;

use super::{read, schema_keys};
use crate::config::{Environment, load};

const FULL: &str = include_str!("../../../config/trunkline.toml");

/// The file with its `#key = value` lines, or its `# example:` lines, in force.
fn uncomment(marker: &str) -> String {
    let take = |line: &str| {
        let key = line.strip_prefix(marker)?;
        key.starts_with(|c: char| c.is_ascii_lowercase() || c == '[').then(|| key.to_owned())
    };
    FULL.lines().map(|line| take(line).unwrap_or_else(|| line.to_owned())).collect::<Vec<_>>().join("\n")
}

#[test]
fn both_files_are_good() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let env: Environment = [("APP_PASSWORD", "x")].into_iter().collect();
    for file in ["trunkline.toml", "minimal.toml"] {
        if let Err(errors) = load(&dir.join(file), &env) {
            panic!("{}", errors.render(false));
        }
    }
}

#[test]
fn the_defaults_shown_are_the_defaults() {
    let shown = uncomment("#");
    assert_ne!(shown, FULL);
    let with = read(&shown, &[]).unwrap_or_else(|errors| panic!("{}", errors.render(false))).config;
    assert_eq!(with, read(FULL, &[]).unwrap().config);
}

#[test]
fn every_key_is_named() {
    let mut named = std::collections::BTreeSet::new();
    let mut section = String::new();
    for line in FULL.lines() {
        let line = line.strip_prefix("# example: ").or_else(|| line.strip_prefix('#')).unwrap_or(line);
        if let Some(header) = line.strip_prefix('[') {
            let list = header.starts_with('[');
            let name = header
                .trim_matches(['[', ']'])
                .replace("databases.app", "databases.NAME")
                .replace("users.app", "users.NAME");
            section = if list { format!("{name}.0") } else { name };
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ')) {
            named.insert(format!("{section}.{key}"));
        }
    }
    let overridden = ["databases.NAME.pool.", "databases.NAME.routing.", "databases.NAME.tls."];
    let paths = schema_keys::paths();
    let is_parent = |path: &str| paths.iter().any(|other| other.starts_with(&format!("{path}.")));
    // Their names are the user's own.
    let is_entry = |path: &str| ["cert_map.", "discover_ports."].iter().any(|map| path.contains(map));
    let missing: Vec<_> = paths
        .iter()
        .filter(|path| !named.contains(*path) && !is_parent(path) && !is_entry(path))
        .filter(|path| !overridden.iter().any(|prefix| path.starts_with(prefix)))
        .collect();
    assert!(missing.is_empty(), "config/trunkline.toml does not name {missing:#?}");
}
