//! Session settings that a client brought along, applied to server connections as a difference.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use crate::wire::build;

/// Settings of a session, by lower-case name, sorted. Interned: equal settings are the same `Arc`, so that
/// "does this connection have what this session needs" is one comparison of pointers.
#[derive(Debug, PartialEq, Eq)]
pub struct Settings {
    entries: Vec<(String, String)>,
}

type Interned = Mutex<HashMap<Vec<(String, String)>, Weak<Settings>>>;

static INTERNED: OnceLock<Interned> = OnceLock::new();

impl Settings {
    /// The interned settings with these entries; of a repeated name the last value counts.
    pub fn intern(entries: impl IntoIterator<Item = (String, String)>) -> Arc<Self> {
        let mut sorted: Vec<(String, String)> = Vec::new();
        for (name, value) in entries {
            let name = name.to_ascii_lowercase();
            match sorted.binary_search_by(|(key, _)| key.as_str().cmp(&name)) {
                Ok(at) => sorted[at].1 = value,
                Err(at) => sorted.insert(at, (name, value)),
            }
        }
        let mut interned = INTERNED.get_or_init(Mutex::default).lock();
        if let Some(found) = interned.get(&sorted).and_then(Weak::upgrade) {
            return found;
        }
        // Settings of clients long gone leave only a dead entry; sweep when they outnumber the living.
        if interned.len() >= 64 && interned.len().is_power_of_two() {
            interned.retain(|_, weak| weak.strong_count() > 0);
        }
        let settings = Arc::new(Self { entries: sorted.clone() });
        interned.insert(sorted, Arc::downgrade(&settings));
        settings
    }

    /// No settings.
    pub fn none() -> Arc<Self> {
        static NONE: OnceLock<Arc<Settings>> = OnceLock::new();
        NONE.get_or_init(|| Self::intern([])).clone()
    }

    /// The value of one setting.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.entries.binary_search_by(|(key, _)| key.as_str().cmp(name)).ok()?;
        Some(&self.entries[at].1)
    }

    /// These settings without one of them.
    pub fn without(&self, name: &str) -> Arc<Self> {
        Self::intern(self.entries.iter().filter(|(key, _)| key != name).cloned())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends a Query message that turns a connection with the settings `from` into one with `self`:
    /// values through `set_config`, quoted as literals (trap 55), and `RESET` of what only `from` has.
    /// Its replies end with one ReadyForQuery.
    pub fn write_difference(&self, from: &Settings, out: &mut Vec<u8>) {
        build::message(out, b'Q', |out| {
            let mut first = true;
            for (name, value) in &self.entries {
                if from.get(name) == Some(value) {
                    continue;
                }
                out.extend_from_slice(if first { b"SELECT " } else { b"," });
                first = false;
                out.extend_from_slice(b"pg_catalog.set_config(");
                literal(out, name);
                out.push(b',');
                literal(out, value);
                out.extend_from_slice(b",false)");
            }
            for (name, _) in &from.entries {
                if self.get(name).is_none() {
                    if !first {
                        out.push(b';');
                    }
                    first = false;
                    out.extend_from_slice(b"RESET ");
                    // `a.b` is one quoted name per part.
                    for (i, part) in name.split('.').enumerate() {
                        out.extend_from_slice(if i == 0 { b"\"" } else { b".\"" });
                        out.extend(part.bytes().flat_map(|b| std::iter::repeat_n(b, if b == b'"' { 2 } else { 1 })));
                        out.push(b'"');
                    }
                }
            }
            out.push(0);
        });
    }
}

/// A literal that means the same whatever `standard_conforming_strings` says.
fn literal(out: &mut Vec<u8>, text: &str) {
    if text.contains('\\') {
        out.extend_from_slice(b" E");
    }
    out.push(b'\'');
    for byte in text.bytes().filter(|b| *b != 0) {
        if byte == b'\'' || byte == b'\\' {
            out.push(byte);
        }
        out.push(byte);
    }
    out.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Arc<Settings> {
        Settings::intern(list.iter().map(|(a, b)| (a.to_string(), b.to_string())))
    }

    fn difference(from: &Settings, to: &Settings) -> String {
        let mut out = Vec::new();
        to.write_difference(from, &mut out);
        String::from_utf8(out[5..out.len() - 1].to_vec()).unwrap()
    }

    #[test]
    fn equal_settings_are_one() {
        let a = pairs(&[("DateStyle", "ISO"), ("timezone", "UTC")]);
        let b = pairs(&[("TimeZone", "GMT"), ("datestyle", "ISO"), ("timezone", "UTC")]);
        assert!(Arc::ptr_eq(&a, &b));
        assert!(!Arc::ptr_eq(&a, &Settings::none()));
    }

    #[test]
    fn trap_56_only_the_difference() {
        let from = pairs(&[("a", "1"), ("b", "2"), ("app.x", "3")]);
        let to = pairs(&[("a", "1"), ("c", "4")]);
        assert_eq!(
            difference(&from, &to),
            "SELECT pg_catalog.set_config('c','4',false);RESET \"app\".\"x\";RESET \"b\""
        );
        assert_eq!(difference(&to, &Settings::none()), "RESET \"a\";RESET \"c\"");
    }

    #[test]
    fn trap_55_values_are_literals() {
        let to = pairs(&[("search_path", "\"$user\", public"), ("x.y", "a'; DROP TABLE t; --\\")]);
        assert_eq!(
            difference(&Settings::none(), &to),
            "SELECT pg_catalog.set_config('search_path','\"$user\", public',false),pg_catalog.set_config('x.y', E'a''; DROP TABLE t; --\\\\',false)"
        );
    }
}
