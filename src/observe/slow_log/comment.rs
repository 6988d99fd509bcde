//! Tags in a comment at the end of a statement, in sqlcommenter's form: `/*key='value',key='value'*/`,
//! keys and values percent-encoded. `traceparent` (W3C trace context) gets a place of its own.

use std::collections::BTreeMap;

const MOST_TAGS: usize = 32;
const LONGEST: usize = 512;

/// What the comment says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// W3C `traceparent`, when it has the form that the standard demands.
    pub traceparent: Option<String>,
    /// Every other tag.
    pub tags: BTreeMap<String, String>,
}

/// Reads the comment that ends the statement. A comment of another form yields nothing: only what is
/// meant as tags may reach the log, as comments may hold anything.
pub fn parse(text: &[u8]) -> Tags {
    find(text).and_then(parse_pairs).unwrap_or_default()
}

fn find(text: &[u8]) -> Option<&str> {
    let text = text.trim_ascii_end();
    let text = text.strip_suffix(b";").unwrap_or(text).trim_ascii_end().strip_suffix(b"*/")?;
    let start = text.windows(2).rposition(|pair| pair == b"/*")?;
    std::str::from_utf8(text.get(start + 2..)?).ok()
}

fn parse_pairs(comment: &str) -> Option<Tags> {
    let mut tags = Tags::default();
    let mut rest = comment.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once("='")?;
        let (value, after) = take_value(after)?;
        let (key, value) = (decode(key.trim())?, decode(&value)?);
        if key == "traceparent" {
            tags.traceparent = is_traceparent(&value).then_some(value);
        } else if !key.is_empty() && tags.tags.len() < MOST_TAGS {
            tags.tags.insert(key, value);
        }
        rest = match after.trim_start() {
            "" => "",
            more => more.strip_prefix(',')?.trim_start(),
        };
    }
    Some(tags)
}

/// The value up to its closing quote, without the backslashes that escape quotes in it.
fn take_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

/// Undoes percent-encoding; refuses what is too long, not UTF-8 or wrongly encoded.
fn decode(text: &str) -> Option<String> {
    if text.len() > LONGEST {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let hex = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

/// `version-traceid-parentid-flags` in lower-case hex: 2, 32, 16 and 2 digits.
fn is_traceparent(value: &str) -> bool {
    let mut lengths =
        value.split('-').map(|part| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')).then_some(part.len()));
    [2, 32, 16, 2].into_iter().all(|length| lengths.next().flatten() == Some(length)) && lengths.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(text: &str) -> Vec<(String, String)> {
        parse(text.as_bytes()).tags.into_iter().collect()
    }

    #[test]
    fn reads_tags_and_traceparent() {
        let text = "SELECT 1 /*action='%2Fpay%20now',db_driver='odd\\'s',\
                    traceparent='00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01'*/ ; ";
        let found = parse(text.as_bytes());
        assert_eq!(found.traceparent.as_deref(), Some("00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01"));
        assert_eq!(tags(text), [("action".into(), "/pay now".into()), ("db_driver".into(), "odd's".into())]);
    }

    #[test]
    fn other_comments_and_broken_ones_yield_nothing() {
        for text in [
            "SELECT 1",
            "SELECT 1 /* password is hunter2 */",
            "SELECT 1 /*a='b*/",
            "SELECT 1 /*a='%zz'*/",
            "SELECT 1 /*a='b' c='d'*/",
            "SELECT 1 /*a='b'*/ + 2",
            "SELECT '/*a=''b''*/'",
            "/*",
            "*/",
        ] {
            assert_eq!(parse(text.as_bytes()), Tags::default(), "{text}");
        }
        let bad = parse(b"SELECT 1 /*traceparent='00-zz'*/");
        assert_eq!(bad, Tags::default());
    }

    #[test]
    fn the_number_of_tags_is_bounded() {
        let pairs: Vec<_> = (0..100).map(|n| format!("k{n}='v'")).collect();
        assert_eq!(tags(&format!("SELECT 1 /*{}*/", pairs.join(","))).len(), MOST_TAGS);
    }
}
