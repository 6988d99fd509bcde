//! Identifiers with Unicode escapes: `U&"d\0061ta" UESCAPE '!'`.

use std::borrow::Cow;

use super::super::cursor::{Cursor, clipped_len};
use super::super::lexer::Kind;

/// Reads such an identifier; `None` when there is none, or one that the server refuses.
pub(in crate::sql) fn read(mut cursor: Cursor<'_>) -> Option<String> {
    let token = cursor.next().filter(|token| token.kind == Kind::UnicodeWord)?;
    let text = std::str::from_utf8(cursor.bytes(token)).ok()?;
    let inner = text.get(3..)?.strip_suffix('"')?.replace("\"\"", "\"");
    let escape = if cursor.eat("uescape") {
        let constant = cursor.next()?;
        match std::str::from_utf8(cursor.bytes(constant)).ok()?.trim().as_bytes() {
            [b'\'', escape, b'\''] => char::from(*escape),
            _ => return None,
        }
    } else {
        '\\'
    };
    let mut name = decode(&inner, escape)?;
    name.truncate(clipped_len(name.as_bytes()));
    Some(name)
}

/// Reads an identifier in whatever spelling, the cursor behind it; one whose escapes can't be read counts as `worst`.
pub(in crate::sql) fn eat_any<'a>(cursor: &mut Cursor<'a>, worst: &'a str) -> Option<Cow<'a, [u8]>> {
    if let Some(name) = cursor.identifier() {
        return Some(name);
    }
    cursor.peek().filter(|token| token.kind == Kind::UnicodeWord)?;
    let name = read(*cursor).map_or(Cow::Borrowed(worst.as_bytes()), |name| Cow::Owned(name.into_bytes()));
    cursor.next();
    if cursor.eat("uescape") {
        cursor.next();
    }
    Some(name)
}

/// Puts characters in the place of their escapes: `\XXXX`, `\+XXXXXX`, and the escape itself doubled.
fn decode(text: &str, escape: char) -> Option<String> {
    // Surrogates come in pairs, so the way leads over UTF-16.
    let mut units = Vec::with_capacity(text.len());
    let mut buffer = [0; 2];
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        rest = &rest[char.len_utf8()..];
        if char != escape {
            units.extend_from_slice(char.encode_utf16(&mut buffer));
        } else if let Some(behind) = rest.strip_prefix(escape) {
            units.extend_from_slice(escape.encode_utf16(&mut buffer));
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix('+') {
            let code = u32::from_str_radix(behind.get(..6)?, 16).ok()?;
            units.extend_from_slice(char::from_u32(code)?.encode_utf16(&mut buffer));
            rest = &behind[6..];
        } else {
            units.push(u16::from_str_radix(rest.get(..4)?, 16).ok()?);
            rest = &rest[4..];
        }
    }
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        for (text, escape, wanted) in [
            ("plain", '\\', Some("plain")),
            ("d\\0061t\\+000061", '\\', Some("data")),
            ("d!0061t!+000061 !!", '!', Some("data !")),
            ("\\D83D\\DE00", '\\', Some("\u{1f600}")),
            ("\\D83D", '\\', None),
            ("\\00", '\\', None),
        ] {
            assert_eq!(decode(text, escape).as_deref(), wanted, "{text}");
        }
    }
}
