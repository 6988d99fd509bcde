//! Hints: what a comment asks of us.
//!
//! A hint is a comment whose first word is `trunkline` followed by a colon: `/* trunkline: primary */`,
//! `/*trunkline:replica*/`, `-- trunkline: primary`. It may stand anywhere in the text outside string constants and
//! quoted identifiers, and concerns the whole text, however many statements it holds. Case does not matter; several
//! words are separated by white space or commas; words that are not known are passed over. A comment nested inside
//! another is no hint. When both words occur, `primary` wins.

use super::lexer::{Kind, LexOptions, Lexer, may_hold_comment};

/// What a comment asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hint {
    /// `trunkline: replica`: run on a replica although functions or syntax are unknown. Never obeyed for a statement
    /// that plainly writes, locks or changes the session.
    Replica,
    /// `trunkline: primary`.
    Primary,
}

/// The hint of one comment, delimiters included.
pub fn of_comment(comment: &[u8]) -> Option<Hint> {
    let body = match comment {
        [b'/', b'*', body @ .., b'*', b'/'] | [b'-', b'-', body @ ..] => body,
        _ => return None,
    };
    let body = body.trim_ascii_start();
    const NAME: &[u8] = b"trunkline";
    let (name, rest) = body.split_at_checked(NAME.len())?;
    if !name.eq_ignore_ascii_case(NAME) {
        return None;
    }
    let words = rest.trim_ascii_start().strip_prefix(b":")?;
    words
        .split(|b| b.is_ascii_whitespace() || *b == b',')
        .filter_map(|word| {
            if word.eq_ignore_ascii_case(b"primary") {
                Some(Hint::Primary)
            } else if word.eq_ignore_ascii_case(b"replica") {
                Some(Hint::Replica)
            } else {
                None
            }
        })
        .max()
}

/// The hint of a whole text: the strongest of its comments.
pub fn of_text(sql: &[u8], opts: LexOptions) -> Option<Hint> {
    if !may_hold_comment(sql) {
        return None;
    }
    let mut lexer = Lexer::new(sql, opts);
    let mut hint = None;
    while let Some(token) = lexer.next_raw() {
        if token.kind == Kind::Comment {
            hint = hint.max(of_comment(token.of(sql)));
        }
    }
    hint
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> Option<Hint> {
        of_text(sql.as_bytes(), LexOptions::default())
    }

    #[test]
    fn hints_are_read_from_comments_only() {
        assert_eq!(of("/* trunkline: primary */ SELECT 1"), Some(Hint::Primary));
        assert_eq!(of("SELECT 1 /*TRUNKLINE:Replica*/"), Some(Hint::Replica));
        assert_eq!(of("SELECT 1 -- trunkline: primary"), Some(Hint::Primary));
        assert_eq!(of("SELECT 1 -- trunkline: primary\n FROM t"), Some(Hint::Primary));
        assert_eq!(of("SELECT /* trunkline: replica, primary */ 1"), Some(Hint::Primary));
        assert_eq!(of("SELECT '/* trunkline: primary */'"), None);
        assert_eq!(of("SELECT $$/* trunkline: primary */$$"), None);
        assert_eq!(of("SELECT \"/* trunkline: primary */\""), None);
        assert_eq!(of("/* see /* trunkline: primary */ */ SELECT 1"), None);
        assert_eq!(of("/* trunkline primary */ SELECT 1"), None);
        assert_eq!(of("/* trunkline: primarily */ SELECT 1"), None);
        assert_eq!(of("/* about trunkline: primary */ SELECT 1"), None);
        assert_eq!(of("SELECT 1"), None);
    }
}
