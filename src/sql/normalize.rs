//! Statements as people read them in the slow log: one line, no comments, no literals.

use super::fold::{Folded, Item};
use super::lexer::{Kind, LexOptions, Token};

/// A normalised text is cut (with `…`) once it is longer than so many bytes.
pub const MAX_NORMALIZED: usize = 16 * 1024;

/// The text with `?` for each literal (and for a list of them after `IN`), unquoted words in lower case, comments
/// dropped and white space in one canonical form. Bytes that are not UTF-8 become U+FFFD. Two texts with the same
/// normalised form, hints apart, have the same fingerprint.
pub fn normalize(sql: &[u8], opts: LexOptions) -> String {
    let mut items = Folded::new(sql, opts);
    let text = items.text();
    // Behind the first byte that may be half a character what looks like a constant may be none, and the other way round (trap 19).
    let uncertain = if opts.safe_encoding { None } else { text.iter().position(|byte| !byte.is_ascii()) };
    let uncertain = uncertain.unwrap_or(text.len());
    let mut out = String::with_capacity(text.len().min(512));
    let mut before: Option<Token> = None;
    let mut pending_semicolon: Option<Token> = None;
    while let Some(item) = items.next() {
        let (Item::Token(token) | Item::Literal(token)) = item;
        if token.end as usize > uncertain {
            out.push('…');
            return out;
        }
        if token.kind == Kind::Semicolon {
            pending_semicolon = before.map(|_| token);
            continue;
        }
        if let Some(semicolon) = pending_semicolon.take() {
            out.push(';');
            before = Some(semicolon);
        }
        if before.is_some_and(|before| spaced(text, before, token)) {
            out.push(' ');
        }
        match item {
            Item::Literal(_) => out.push('?'),
            Item::Token(_) if token.kind == Kind::Bad && token.end - token.start > 1 => {
                // A constant or comment without an end may hold anything: never show it.
                out.push('…');
                return out;
            }
            Item::Token(_) => {
                let start = out.len();
                out.push_str(&String::from_utf8_lossy(token.of(text)));
                if token.kind == Kind::Word {
                    out[start..].make_ascii_lowercase();
                }
            }
        }
        if out.len() > MAX_NORMALIZED {
            let cut = out.floor_char_boundary(MAX_NORMALIZED);
            out.truncate(cut);
            out.push('…');
            return out;
        }
        before = Some(token);
    }
    out
}

/// Whether a space stands between two tokens.
pub(super) fn spaced(text: &[u8], before: Token, token: Token) -> bool {
    let single = |token: Token| if token.kind == Kind::Punct { text[token.start as usize] } else { 0 };
    let cast = |token: Token| token.kind == Kind::Colon;
    match (single(before), single(token)) {
        (b'(' | b'[' | b'.', _) | (_, b')' | b']' | b',' | b'.' | b'[') => false,
        (0, b'(') if before.kind == Kind::Word => {
            KEYWORDS_BEFORE_PAREN.iter().any(|word| before.of(text).eq_ignore_ascii_case(word.as_bytes()))
        }
        (0, b'(') if matches!(before.kind, Kind::QuotedWord | Kind::UnicodeWord) => false,
        _ => !cast(before) && !cast(token),
    }
}

/// Words that a space separates from a parenthesis; others look like function names.
const KEYWORDS_BEFORE_PAREN: [&str; 26] = [
    "in",
    "values",
    "and",
    "or",
    "not",
    "as",
    "from",
    "where",
    "on",
    "using",
    "over",
    "select",
    "when",
    "then",
    "else",
    "join",
    "having",
    "union",
    "all",
    "except",
    "intersect",
    "by",
    "filter",
    "group",
    "limit",
    "offset",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> String {
        normalize(sql.as_bytes(), LexOptions::default())
    }

    #[test]
    fn normalises() {
        let rows = [
            ("SELECT  *\n FROM t WHERE a=1 AND b = 'x''y'", "select * from t where a = ? and b = ?"),
            ("select count( * ),f (a , 2) from \"T\".x ;", "select count(*), f(a, ?) from \"T\".x"),
            ("SELECT a::int, b :: text[1] -- secret 'x'", "select a::int, b::text[?]"),
            ("SELECT 1 WHERE a IN (1,2, 3) OR b IN ($1,$2)", "select ? where a in (?) or b in ($1)"),
            ("INSERT INTO t VALUES (1, 'a'), (2, $$b$$)", "insert into t values (?, ?), (?, ?)"),
            ("SELECT 1;; SELECT 2;", "select ?; select ?"),
            ("SELECT 'never ends", "select …"),
            ("/* trunkline: primary */ SELECT -1", "select - ?"),
            ("", ""),
        ];
        for (sql, expected) in rows {
            assert_eq!(of(sql), expected, "{sql}");
        }
        assert_eq!(normalize(b"SELECT '\xff', \xff", LexOptions::default()), "select ?, \u{fffd}");
    }

    /// In Shift JIS the bytes of `ソ` are 0x83 and a backslash.
    #[test]
    fn no_constant_shows_where_a_character_may_hold_its_end() {
        let sjis = LexOptions { safe_encoding: false, ..LexOptions::default() };
        let text = b"SELECT a, E'\x83\\', ' , secret, '";
        assert_eq!(normalize(text, sjis), "select a,…");
        assert_eq!(normalize(b"SELECT 'a', b", sjis), "select ?, b");
    }

    #[test]
    fn is_bounded() {
        let long = format!("SELECT {}", "é, ".repeat(MAX_NORMALIZED));
        assert!(of(&long).len() <= MAX_NORMALIZED + '…'.len_utf8());
    }
}
