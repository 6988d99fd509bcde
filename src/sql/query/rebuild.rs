//! The text that the parser gets: the statement's own tokens, written so that the parser's lexer can't read them in
//! another way than ours did.
//!
//! Comments are gone and every string constant is `'s'`, so quoting and encodings are no matter. And since the text
//! is only judged, never run, syntax that sqlparser does not know is left out or written in other words, as long as
//! every relation, function and sub-query in it stays in place.

use super::super::cursor::Cursor;
use super::super::lexer::{Kind, Token};

/// Writes the text; `None` for what can't be written safely (`U&"…"` with escapes).
pub(super) fn rebuild(mut cursor: Cursor<'_>) -> Option<String> {
    let mut out = String::with_capacity(cursor.rest().iter().map(|token| (token.end - token.start) as usize + 1).sum());
    let mut before: Option<Token> = None;
    while let Some(token) = cursor.peek() {
        let starts_query = match before {
            None => true,
            Some(before) => {
                before.kind == Kind::Punct && cursor.bytes(before) == b"("
                    || before.kind == Kind::Word
                        && ["union", "all", "except", "intersect", "distinct"]
                            .iter()
                            .any(|word| cursor.bytes(before).eq_ignore_ascii_case(word.as_bytes()))
            }
        };
        if token.kind == Kind::Word && reword(&mut cursor, &mut out, starts_query) {
            before = Some(token);
            out.push(' ');
            continue;
        }
        cursor.next();
        if before.is_some_and(|before| gap(before, token)) {
            out.push(' ');
        }
        write_token(&mut out, token, cursor.bytes(token))?;
        before = Some(token);
    }
    Some(out)
}

/// Writes or leaves out words that sqlparser does not know; `false` when the next word is none of them.
fn reword(cursor: &mut Cursor<'_>, out: &mut String, starts_query: bool) -> bool {
    // The row locks are known from the keyword bits, in more spellings than the parser's.
    if cursor.eat_all(&["for", "no", "key", "update"]) {
        out.push_str(" FOR UPDATE");
    } else if cursor.eat_all(&["for", "key", "share"]) {
        out.push_str(" FOR SHARE");
    } else if starts_query && cursor.is("table") && !cursor.is_at(1, "as") {
        cursor.next();
        out.push_str(" SELECT * FROM");
    } else {
        return false;
    }
    true
}

/// Whether a space must or may stand between two tokens.
fn gap(before: Token, token: Token) -> bool {
    before.end < token.start
        || !matches!(
            (before.kind, token.kind),
            (Kind::Punct | Kind::Colon | Kind::Semicolon, _) | (_, Kind::Punct | Kind::Colon | Kind::Semicolon)
        )
}

fn write_token(out: &mut String, token: Token, bytes: &[u8]) -> Option<()> {
    match token.kind {
        Kind::Str => out.push_str("'s'"),
        Kind::Bad | Kind::Semicolon | Kind::Comment => return None,
        Kind::UnicodeWord => {
            if bytes.contains(&b'\\') {
                return None;
            }
            write_bytes(out, bytes.get(2..)?);
        }
        _ => write_bytes(out, bytes),
    }
    Some(())
}

/// Bytes that are not UTF-8 become letters: such a name is no function that we know, and that is all that counts.
fn write_bytes(out: &mut String, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => out.push_str(text),
        Err(_) => out.extend(bytes.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { 'ß' })),
    }
}
