//! The text that the parser gets: the statement's own tokens, written so that the parser's lexer can't read them in
//! another way than ours did.
//!
//! Comments are gone, every string constant is `'s'` and every number `1` (or its place among them), so quoting and encodings are no
//! matter, nor which numbers sqlparser knows: texts of one fingerprint are read alike. And since the text is only judged, never run,
//! syntax that sqlparser does not know is left out or written in other words, as long as every relation, function and
//! sub-query in it stays in place.

use std::fmt::Write as _;

use super::super::cursor::Cursor;
use super::super::fold::{Folded, Item};
use super::super::lexer::{Kind, LexOptions, Lexer, Token};

/// The literals of a text by their places among each other, as fingerprints count them.
pub(in crate::sql) struct Numbers {
    opts: LexOptions,
    /// Where each begins, ascending.
    starts: Vec<u32>,
}

impl Numbers {
    /// Of one that is not among them.
    pub(in crate::sql) const UNKNOWN: u16 = u16::MAX;

    pub(in crate::sql) fn of(text: &[u8], opts: LexOptions) -> Self {
        let mut items = Folded::new(text, opts);
        let items = std::iter::from_fn(|| items.next());
        let starts = items.filter_map(|item| match item {
            Item::Literal(token) => Some(token.start),
            Item::Token(_) => None,
        });
        Self { opts, starts: starts.collect() }
    }

    fn number(&self, token: Token) -> u16 {
        let at = self.starts.binary_search(&token.start).ok();
        at.and_then(|at| u16::try_from(at).ok()).unwrap_or(Self::UNKNOWN)
    }

    /// Whether constants of a list were left out between these tokens (see [`StatementTokens`](super::super::split::StatementTokens)).
    fn has_lost(&self, text: &[u8], before: Token, token: Token) -> bool {
        if !matches!(before.kind, Kind::Str | Kind::Number | Kind::Param) || token.of(text) != b")" {
            return false;
        }
        let between = text.get(before.end as usize..token.start as usize).unwrap_or_default();
        Lexer::new(between, self.opts).next_token().is_some()
    }
}

/// Writes the text; `None` for what can't be written safely (`U&"…"` with escapes).
pub(super) fn rebuild(mut cursor: Cursor<'_>, numbers: Option<&Numbers>) -> Option<String> {
    let mut out = String::with_capacity(cursor.rest().iter().map(|token| (token.end - token.start) as usize + 1).sum());
    let mut before: Option<Token> = None;
    while let Some(token) = cursor.peek() {
        if let Some(words) = reword(&mut cursor, before) {
            out.push(' ');
            out.push_str(words);
            out.push(' ');
            // A word, so that the next token gets its space.
            before = Some(Token { kind: Kind::Word, ..token });
            continue;
        }
        cursor.next();
        if before.is_some_and(|before| gap(before, token)) {
            out.push(' ');
        }
        match (numbers, token.kind) {
            (Some(numbers), Kind::Str) => {
                let _ = write!(out, "'{}'", numbers.number(token));
            }
            (Some(numbers), Kind::Number) => {
                let _ = write!(out, "{}", numbers.number(token));
            }
            (Some(numbers), _) => {
                if before.is_some_and(|before| numbers.has_lost(cursor.text(), before, token)) {
                    out.push_str(", NULL");
                }
                write_token(&mut out, token, cursor.bytes(token))?;
            }
            (None, _) => write_token(&mut out, token, cursor.bytes(token))?,
        }
        before = Some(token);
    }
    Some(out)
}

/// Passes over syntax that sqlparser does not know, and gives what to write instead; `None`, and nothing read, where
/// there is none of it.
fn reword(cursor: &mut Cursor<'_>, before: Option<Token>) -> Option<&'static str> {
    let token = cursor.peek()?;
    let here = *cursor;
    let after_sign = |sign: &[u8]| before.is_some_and(|b| b.kind == Kind::Punct && here.bytes(b) == sign);
    let after_word = |word: &str| {
        before.is_some_and(|b| b.kind == Kind::Word && here.bytes(b).eq_ignore_ascii_case(word.as_bytes()))
    };
    if token.kind == Kind::Punct {
        // `(f(x)).*`: without the star the same functions are called.
        if after_sign(b")") && cursor.is_sign(".") {
            let mut ahead = *cursor;
            ahead.next();
            if ahead.eat_sign("*") {
                *cursor = ahead;
                return Some("");
            }
        }
        return None;
    }
    if token.kind != Kind::Word {
        return None;
    }
    match cursor.bytes(token).first()?.to_ascii_lowercase() {
        // The row locks are known from the keyword bits, in more spellings than the parser's.
        b'f' if cursor.eat_all(&["for", "no", "key", "update"]) => Some("FOR UPDATE"),
        b'f' if cursor.eat_all(&["for", "key", "share"]) => Some("FOR SHARE"),
        b't' if cursor.is("table") && starts_query(cursor, before) => {
            cursor.next();
            Some("SELECT * FROM")
        }
        b's' if after_word("between") && cursor.eat("symmetric") => Some(""),
        b'a' if after_word("between") && cursor.eat("asymmetric") => Some(""),
        b'd' if after_word("by") && cursor.eat("distinct") => Some(""),
        b'd' if (after_word("is") || after_word("not")) && cursor.eat("document") => Some("NULL"),
        b'v' if (after_sign(b"(") || after_sign(b",")) && cursor.is("variadic") => {
            cursor.next();
            Some("")
        }
        b'e' => [
            &["exclude", "current", "row"][..],
            &["exclude", "group"],
            &["exclude", "ties"],
            &["exclude", "no", "others"],
        ]
        .iter()
        .any(|words| cursor.eat_all(words))
        .then_some(""),
        b'r' if cursor.is_at(1, "from") && cursor.is("rows") => {
            let mut ahead = *cursor;
            ahead.eat_all(&["rows", "from"]);
            if !ahead.eat_sign("(") {
                return None;
            }
            *cursor = ahead;
            Some("(SELECT")
        }
        b's' | b'c' if after_sign(b")") => search_or_cycle(cursor),
        _ => None,
    }
}

/// Whether `TABLE` stands where a query begins.
fn starts_query(cursor: &Cursor<'_>, before: Option<Token>) -> bool {
    let Some(before) = before else { return true };
    match before.kind {
        // A query in parentheses, or the one that a list of common table expressions ends before.
        Kind::Punct => matches!(cursor.bytes(before), b"(" | b")"),
        Kind::Word => ["union", "all", "except", "intersect", "distinct"]
            .iter()
            .any(|word| cursor.bytes(before).eq_ignore_ascii_case(word.as_bytes())),
        _ => false,
    }
}

/// `SEARCH … SET column` and `CYCLE … SET column [TO … DEFAULT …] USING column` after a recursive query: names and
/// constants only.
fn search_or_cycle(cursor: &mut Cursor<'_>) -> Option<&'static str> {
    let mut ahead = *cursor;
    let search =
        ahead.eat_all(&["search", "breadth", "first", "by"]) || ahead.eat_all(&["search", "depth", "first", "by"]);
    if !search && !ahead.eat("cycle") {
        return None;
    }
    let last = if search { "set" } else { "using" };
    while !ahead.eat(last) {
        let token = ahead.next()?;
        if token.kind == Kind::Punct && ahead.bytes(token) != b"," {
            return None;
        }
    }
    ahead.identifier()?;
    *cursor = ahead;
    Some("")
}

/// Whether a space must or may stand between two tokens.
fn gap(before: Token, token: Token) -> bool {
    // To the parser `:1` is a parameter and `: 1` is none, to the server neither: texts of one fingerprint must be read alike.
    before.end < token.start
        // A number that a dot follows is one token to the parser, with the dot, and two with a space between.
        || matches!(before.kind, Kind::Colon | Kind::Number)
        || !matches!(
            (before.kind, token.kind),
            (Kind::Punct | Kind::Semicolon, _) | (_, Kind::Punct | Kind::Colon | Kind::Semicolon)
        )
}

fn write_token(out: &mut String, token: Token, bytes: &[u8]) -> Option<()> {
    match token.kind {
        Kind::Str => out.push_str("'s'"),
        Kind::Number => out.push('1'),
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
