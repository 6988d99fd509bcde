//! What must not be shown of a source text, and the text without it.
//!
//! Hidden are: values of keys that look like secrets (also misspelt ones), values of keys that the schema
//! doesn't know, passwords inside URLs and connection strings, and whatever follows a secret-looking word in a
//! comment. When the text is not TOML at all, the words decide everywhere.

use std::ops::Range;

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

/// What stands in place of a secret.
const MASK: &str = "***";

/// A text in which masked ranges are replaced by [`MASK`].
#[derive(Debug)]
pub(super) struct Redacted {
    /// The text that may be shown.
    pub(super) text: String,
    /// Masked ranges of the original, sorted and disjoint.
    masks: Vec<Range<usize>>,
}

impl Redacted {
    /// The place in the redacted text of `span` of the original.
    pub(super) fn span(&self, span: &Range<usize>) -> Range<usize> {
        let (start, end) = (self.offset(span.start, false), self.offset(span.end, true));
        start..end.max(start)
    }

    fn offset(&self, original: usize, is_end: bool) -> usize {
        let mut shift: isize = 0;
        for mask in &self.masks {
            if original <= mask.start {
                break;
            }
            if original < mask.end {
                let start = mask.start.saturating_add_signed(shift);
                return if is_end { start + MASK.len() } else { start };
            }
            shift += MASK.len() as isize - mask.len() as isize;
        }
        original.saturating_add_signed(shift)
    }
}

/// `text`, which starts at global offset `base`, without what `masks` (global offsets, any order) cover.
pub(super) fn apply(text: &str, base: usize, masks: &[Range<usize>]) -> Redacted {
    let mut local: Vec<Range<usize>> = masks
        .iter()
        .filter(|mask| mask.start >= base && mask.end <= base + text.len() && !mask.is_empty())
        .map(|mask| mask.start - base..mask.end - base)
        .filter(|mask| text.is_char_boundary(mask.start) && text.is_char_boundary(mask.end))
        .collect();
    local.sort_by_key(|mask| (mask.start, mask.end));
    let mut merged: Vec<Range<usize>> = Vec::new();
    for mask in local {
        match merged.last_mut() {
            Some(last) if mask.start <= last.end => last.end = last.end.max(mask.end),
            _ => merged.push(mask),
        }
    }
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for mask in &merged {
        out.push_str(&text[from..mask.start]);
        out.push_str(MASK);
        from = mask.end;
    }
    out.push_str(&text[from..]);
    Redacted { text: out, masks: merged }
}

/// Whether a key's name says, or nearly says, that its value is a secret.
pub(super) fn looks_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let words = ["pass", "pasw", "psw", "pwd", "secret", "token", "verifier", "credential"];
    !key.ends_with("_file") && words.iter().any(|word| key.contains(word))
}

/// Masks of a parsed table: values of secret-looking keys, and passwords inside other strings.
/// `text` is the source and `base` its offset; spans in the table are already global.
pub(super) fn table_masks(table: &DeTable<'_>, text: &str, base: usize, masks: &mut Vec<Range<usize>>) {
    for (key, value) in table.iter() {
        if let ("users", DeValue::Table(users)) = (&**key.get_ref(), value.get_ref()) {
            // A user as PgBouncer's list has it: name and password.
            let plain = users.iter().filter(|(_, user)| matches!(user.get_ref(), DeValue::String(_)));
            masks.extend(plain.map(|(_, user)| user.span()));
        }
        value_masks(looks_secret(key.get_ref()), value, text, base, masks);
    }
}

fn value_masks(secret: bool, value: &Spanned<DeValue<'_>>, text: &str, base: usize, masks: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) if !secret => table_masks(table, text, base, masks),
        DeValue::Array(array) => array.iter().for_each(|item| value_masks(secret, item, text, base, masks)),
        DeValue::String(_) if !secret => {
            let span = value.span();
            if span.start >= base && span.end <= base + text.len() {
                let local = span.start - base..span.end - base;
                let found = text.get(local.clone()).map(passwords_in).unwrap_or_default();
                masks.extend(found.into_iter().map(|r| r.start + span.start..r.end + span.start));
            }
        }
        DeValue::Boolean(_) => {}
        _ if secret => masks.push(value.span()),
        _ => {}
    }
}

/// Ranges of passwords in a URL or connection string.
pub(super) fn passwords_in(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let scheme = text.find("://");
    // Without one it may be a URL all the same, to whoever wrote it.
    if scheme.is_some() || text.contains('@') {
        let start = scheme.map_or(0, |scheme| scheme + 3);
        let rest = &text[start..];
        // A password may hold any byte, also an unescaped `/` or `@`: it ends at the last `@`.
        match (rest.rfind('@'), rest.find(':')) {
            (Some(at), Some(colon)) if colon < at => found.push(start + colon + 1..start + at),
            (None, Some(colon)) if scheme.is_some() => {
                let tail = &rest[colon + 1..];
                let len = tail.find(['/', '?', '"', '\'', ',', ' ']).unwrap_or(tail.len());
                if !tail[..len].bytes().all(|b| b.is_ascii_digit() || b == b':' || b == b']') {
                    found.push(start + colon + 1..start + colon + 1 + len);
                }
            }
            _ => {}
        }
    }
    let lower = text.to_ascii_lowercase();
    for (at, word) in ["password", "passwd", "pass", "pwd"].iter().flat_map(|word| lower.match_indices(word)) {
        let rest = &text[at + word.len()..];
        let equals = rest.len() - rest.trim_start().len();
        if !rest[equals..].starts_with(['=', ':', '\'']) {
            continue;
        }
        let value = at + word.len() + equals + usize::from(!rest[equals..].starts_with('\''));
        let tail = &text[value..];
        let skip = tail.len() - tail.trim_start().len();
        // A quoted value may hold spaces: hide all that follows it rather than parse what may be broken.
        let len = if tail[skip..].starts_with(['\'', '\\']) {
            tail.len()
        } else {
            skip + tail[skip..].find([' ', '&', '"', '\'', '\n']).unwrap_or(tail.len() - skip)
        };
        found.push(value..value + len);
    }
    found
}

/// Masks by words alone: in comments, or in the whole text when it is not TOML (`everywhere`).
pub(super) fn text_masks(text: &str, base: usize, everywhere: bool, masks: &mut Vec<Range<usize>>) {
    let mut offset = 0;
    let mut until: Option<&str> = None;
    for line in text.split_inclusive('\n') {
        let start = offset;
        offset += line.len();
        if let Some(quotes) = until {
            // Inside a multi-line string that began as a secret.
            match line.find(quotes) {
                Some(end) => {
                    masks.push(base + start..base + start + end);
                    until = None;
                }
                None => masks.push(base + start..base + start + line.trim_end().len()),
            }
            continue;
        }
        let from = if everywhere { Some(0) } else { line.find('#') };
        let Some(from) = from else { continue };
        let shown = line[from..].trim_end();
        for found in passwords_in(shown) {
            masks.push(base + start + from + found.start..base + start + from + found.end);
        }
        if let Some(word_end) = secret_word_end(shown, everywhere) {
            let masked = &shown[word_end..];
            masks.push(base + start + from + word_end..base + start + from + shown.len());
            until = ["\"\"\"", "'''"].into_iter().find(|quotes| everywhere && masked.matches(quotes).count() == 1);
        }
    }
}

/// The end of the first secret-looking word in `line` that a value may follow; of a `broken` line nobody knows where it stands.
fn secret_word_end(line: &str, broken: bool) -> Option<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let has_equals = line.contains(['=', ':']);
    let mut at = 0;
    while at < line.len() {
        let rest = &line[at..];
        let word_start = at + rest.find(is_word)?;
        let word_len = line[word_start..].find(|c| !is_word(c)).unwrap_or(line.len() - word_start);
        let word_end = word_start + word_len;
        if looks_secret(&line[word_start..word_end]) {
            let next = line[word_end..].trim_start_matches([' ', '\t', '"', '\'']);
            if next.starts_with(['=', ':']) || ((broken || !has_equals) && !next.is_empty()) {
                return Some(
                    word_end + (line[word_end..].len() - next.len()) + usize::from(next.starts_with(['=', ':'])),
                );
            }
        }
        at = word_end;
    }
    None
}
