//! Writing TOML: sections in the order in which they are begun.

use std::fmt::Write;

/// The text that is being written.
#[derive(Debug, Default)]
pub(super) struct Toml {
    text: String,
    /// A section that is written with its first key.
    pending: Option<String>,
}

impl Toml {
    /// Begins `[name]`; nothing is written if no key follows.
    pub fn section(&mut self, name: &str) {
        self.pending = Some(format!("[{name}]"));
    }

    /// Begins `[name]`, also when no key follows.
    pub fn section_always(&mut self, name: &str) {
        self.section(name);
        self.begin();
    }

    /// Begins one more `[[name]]`.
    pub fn item(&mut self, name: &str) {
        self.pending = Some(format!("[[{name}]]"));
        self.begin();
    }

    fn begin(&mut self) {
        if let Some(header) = self.pending.take() {
            let gap = if self.text.is_empty() { "" } else { "\n" };
            let _ = writeln!(self.text, "{gap}{header}");
        }
    }

    /// A key with a value that is TOML already.
    pub fn raw(&mut self, key: &str, value: impl std::fmt::Display) {
        self.begin();
        let _ = writeln!(self.text, "{key} = {value}");
    }

    /// A key with a text.
    pub fn text(&mut self, key: &str, value: &str) {
        self.raw(key, quoted(value));
    }

    /// A key with a secret, in which `${` has no meaning.
    pub fn secret(&mut self, key: &str, value: &str) {
        self.raw(key, quoted(&value.replace("${", "$${")));
    }

    /// A key with a list of texts.
    pub fn list<S: AsRef<str>>(&mut self, key: &str, values: &[S]) {
        let values: Vec<_> = values.iter().map(|value| quoted(value.as_ref())).collect();
        self.raw(key, format!("[{}]", values.join(", ")));
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.text
    }
}

/// A name as part of a section's path or as a key.
pub(super) fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { name.to_owned() } else { quoted(name) }
}

/// A text as a TOML string of one line.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
