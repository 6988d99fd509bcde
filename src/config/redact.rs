//! What must not be shown of a source text, and the text without it.
//!
//! Hidden are: comments, values of keys that look like secrets (also misspelt ones), values of keys that the schema
//! doesn't know, and passwords inside URLs and connection strings. When the text is not TOML, nobody knows what stands where
//! (it may be a list of passwords, or a private key): section heads and keys are shown, and nothing else.

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
    for end in secret_words(text) {
        let rest = &text[end..];
        let equals = rest.len() - rest.trim_start().len();
        if !rest[equals..].starts_with(['=', ':', '\'']) {
            continue;
        }
        let value = end + equals + usize::from(!rest[equals..].starts_with('\''));
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

/// Where secret-looking words end.
fn secret_words(text: &str) -> impl Iterator<Item = usize> + '_ {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let words = text.split(move |c| !is_word(c)).filter(|word| looks_secret(word));
    words.map(|word| word.as_ptr() as usize - text.as_ptr() as usize + word.len())
}

/// Masks of the comments of a text that is TOML.
pub(super) fn comment_masks(text: &str, masks: &mut Vec<Range<usize>>) {
    let mut at = 0;
    while let Some(found) = text[at..].find(['#', '"', '\'']) {
        let start = at + found;
        at = match &text[start..] {
            rest if rest.starts_with('#') => {
                let end = start + rest.find('\n').unwrap_or(rest.len());
                masks.push(start + 1..start + text[start..end].trim_end().len());
                end
            }
            rest => start + string_len(rest),
        };
    }
}

/// The length of the string that `text` starts with, its quotes included.
fn string_len(text: &str) -> usize {
    let quote = &text[..1];
    let quotes = [quote; 3].concat();
    let opening = if text.starts_with(&quotes) { quotes.as_str() } else { quote };
    let mut at = opening.len();
    loop {
        match &text[at..] {
            "" => return at,
            rest if rest.starts_with(opening) => {
                // A long string may end with two quotes of its own.
                let own = rest[opening.len()..].len() - rest[opening.len()..].trim_start_matches(quote).len();
                return at + opening.len() + if opening == quote { 0 } else { own.min(2) };
            }
            rest => {
                let escaped = quote == "\"" && rest.starts_with('\\');
                at += rest.chars().take(1 + usize::from(escaped)).map(char::len_utf8).sum::<usize>();
            }
        }
    }
}

/// Masks of a text that is not TOML.
pub(super) fn broken_masks(text: &str, masks: &mut Vec<Range<usize>>) {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let shown = harmless_len(line);
        let end = line.trim_end().len();
        masks.push(start + shown.min(end)..start + end);
        start += line.len();
    }
}

/// How much of a line tells no more than where it is: `[users.app]`, or `users.app.password =`.
fn harmless_len(line: &str) -> usize {
    let start = line.len() - line.trim_start().len();
    let text = &line[start..];
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let opened = text.trim_start_matches('[');
    let name = opened.trim_start_matches(is_name);
    if opened.len() < text.len() {
        let closed = name.trim_start_matches(']');
        let is_head = closed.len() < name.len() || name.trim().is_empty();
        return if is_head { line.len() - closed.len() } else { 0 };
    }
    // Keys are lower-case words; a line of a private key ends with `=`, too.
    let key = text[..text.len() - name.len()].split('.').next().unwrap_or_default();
    let is_key = key.starts_with(|c: char| c.is_ascii_lowercase())
        && !key.contains(|c: char| c.is_ascii_digit() || c.is_ascii_uppercase());
    match name.trim_start_matches([' ', '\t']).strip_prefix('=') {
        Some(value) if is_key => line.len() - value.len(),
        _ => 0,
    }
}
