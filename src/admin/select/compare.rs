//! Values compared, and parameters read.

use std::cmp::Ordering;

use super::super::value::{Kind, Value};
use crate::wire::{ErrorNotice, SqlState};

/// How two values stand to each other; `None` when one is NULL.
pub fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Float(_), _) | (_, Value::Float(_)) => Some(float(a)?.total_cmp(&float(b)?)),
        _ => Some(whole(a)?.cmp(&whole(b)?)),
    }
}

/// A number without a fraction.
pub fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Int(number) => Some((*number).into()),
        Value::Big(number) => Some((*number).into()),
        Value::Numeric(number) => Some((*number).into()),
        Value::Null | Value::Text(_) | Value::Float(_) => None,
    }
}

/// Any number.
pub fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(*number),
        // Beyond 2^53 the nearest will do.
        other => whole(other).map(|number| number as f64),
    }
}

/// A text as a value of this type.
pub fn read(text: &str, kind: Kind) -> Result<Value, ErrorNotice> {
    let trimmed = text.trim();
    let value = match kind {
        Kind::Text => Some(Value::from(text)),
        Kind::Int | Kind::Big | Kind::Numeric => trimmed
            .parse()
            .map(Value::Big)
            .ok()
            .or_else(|| trimmed.parse().map(Value::Numeric).ok())
            .or_else(|| trimmed.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::Float)),
        Kind::Float => trimmed.parse().ok().map(Value::Float),
    };
    value.ok_or_else(|| {
        let message = format!("invalid input syntax for type {}: \"{text}\"", kind.datatype().0.name());
        ErrorNotice::error(SqlState::INVALID_TEXT_REPRESENTATION, message)
    })
}

/// The value of a parameter as Bind brought it.
///
/// # Errors
/// It is none of this type.
pub fn parameter(bytes: Option<&[u8]>, binary: bool, kind: Kind) -> Result<Value, ErrorNotice> {
    let Some(bytes) = bytes else { return Ok(Value::Null) };
    if binary && kind != Kind::Text {
        let value = match (bytes, kind) {
            (&[a, b, c, d, e, f, g, h], Kind::Float) => {
                Some(Value::Float(f64::from_be_bytes([a, b, c, d, e, f, g, h])))
            }
            (&[a, b], _) => Some(Value::Big(i16::from_be_bytes([a, b]).into())),
            (&[a, b, c, d], _) => Some(Value::Big(i32::from_be_bytes([a, b, c, d]).into())),
            (&[a, b, c, d, e, f, g, h], _) => Some(Value::Big(i64::from_be_bytes([a, b, c, d, e, f, g, h]))),
            _ => None,
        };
        let message = "incorrect binary data format in a parameter";
        return value.ok_or_else(|| ErrorNotice::error(SqlState::INVALID_BINARY_REPRESENTATION, message));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| ErrorNotice::error(SqlState::BAD_CHARACTER, "invalid byte sequence for encoding \"UTF8\""))?;
    read(text, kind)
}

/// Whether a text is like a pattern: `%` stands for anything, `_` for one character, `\` takes their meaning away.
pub fn is_like(text: &str, pattern: &str, any_case: bool) -> bool {
    let chars = |text: &str| if any_case { text.to_lowercase() } else { text.to_owned() }.chars().collect::<Vec<_>>();
    let (text, pattern) = (chars(text), chars(pattern));
    // Where to go on when the rest does not fit: behind the last `%`, one character later each time.
    let mut again: Option<(usize, usize)> = None;
    let (mut at, mut p) = (0, 0);
    loop {
        let fits = match pattern.get(p) {
            Some('%') => {
                again = Some((p + 1, at));
                p += 1;
                continue;
            }
            None if at == text.len() => return true,
            None => None,
            Some('_') => (at < text.len()).then_some(1),
            Some('\\') if p + 1 < pattern.len() => (text.get(at) == pattern.get(p + 1)).then_some(2),
            Some(wanted) => (text.get(at) == Some(wanted)).then_some(1),
        };
        match (fits, again) {
            (Some(step), _) => {
                at += 1;
                p += step;
            }
            (None, Some((pattern_at, text_at))) if text_at < text.len() => {
                again = Some((pattern_at, text_at + 1));
                (p, at) = (pattern_at, text_at + 1);
            }
            _ => return false,
        }
    }
}
