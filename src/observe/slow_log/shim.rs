//! Stands in for `crate::sql::{LexOptions, Fingerprint, SqlTags, fingerprint, normalize, sql_tags}` until they
//! land; then this file goes away and its users import from `crate::sql`.

use std::hash::{DefaultHasher, Hash, Hasher};

/// As in `sql`.
#[derive(Debug, Clone, Copy, Default)]
pub struct LexOptions {
    /// As in `sql`.
    pub standard_conforming_strings: bool,
    /// As in `sql`.
    pub safe_encoding: bool,
}

/// As in `sql`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u128);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// As in `sql`.
#[derive(Debug, Clone, Default)]
pub struct SqlTags {
    /// As in `sql`.
    pub tags: Vec<(String, String)>,
    /// As in `sql`.
    pub traceparent: Option<String>,
}

/// As in `sql`, but tells literals apart only roughly.
pub fn fingerprint(text: &[u8], lex: LexOptions) -> Fingerprint {
    let mut hasher = DefaultHasher::new();
    normalize(text, lex).hash(&mut hasher);
    Fingerprint(hasher.finish().into())
}

/// Words stay; anything in quotes and anything with a digit in it becomes `?`; comments go.
pub fn normalize(text: &[u8], _: LexOptions) -> String {
    let text = String::from_utf8_lossy(text);
    let text = text.split("/*").next().unwrap_or_default();
    let mut out = String::new();
    for (n, part) in text.split('\'').enumerate() {
        if n % 2 == 1 {
            out.push('?');
        } else {
            let words: Vec<_> =
                part.split(' ').map(|w| if w.bytes().any(|b| b.is_ascii_digit()) { "?" } else { w }).collect();
            out.push_str(&words.join(" "));
        }
    }
    out
}

/// As in `sql`, but finds nothing.
pub fn sql_tags(_: &[u8], _: LexOptions) -> Option<SqlTags> {
    None
}
