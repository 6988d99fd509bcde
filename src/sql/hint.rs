//! Hints: what a comment asks of us.
//!
//! A hint is a comment whose first word is `trunkline` followed by a colon: `/* trunkline: primary */`,
//! `/*trunkline:replica*/`, `-- trunkline: primary`. It may stand anywhere in the text outside string constants and
//! quoted identifiers, and concerns the whole text, however many statements it holds. Case does not matter; several
//! words are separated by white space or commas; words that are not known are passed over. A comment nested inside
//! another is no hint. When both words occur, `primary` wins. `consistency=session` (or another level) says what reads must see.

use super::consistency::Consistency;
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

/// What a comment asks of reads: `trunkline: consistency=strong`. Of several in one text the strongest counts.
pub fn level_of_comment(comment: &[u8]) -> Option<Consistency> {
    let level = |word: &[u8]| {
        const KEY: &[u8] = b"consistency=";
        let (key, level) = word.split_at_checked(KEY.len())?;
        key.eq_ignore_ascii_case(KEY).then(|| Consistency::parse(level))?
    };
    words(comment)?.filter_map(level).max()
}

/// The hint of one comment, delimiters included.
pub fn of_comment(comment: &[u8]) -> Option<Hint> {
    words(comment)?
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

/// The words of a comment that is a hint.
fn words(comment: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
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
    Some(words.split(|b| b.is_ascii_whitespace() || *b == b','))
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
    fn levels() {
        assert_eq!(level_of_comment(b"/* trunkline: consistency=strong */"), Some(Consistency::Strong));
        assert_eq!(level_of_comment(b"-- Trunkline: replica, CONSISTENCY=Eventual"), Some(Consistency::Eventual));
        assert_eq!(level_of_comment(b"/*trunkline:consistency=table consistency=session*/"), Some(Consistency::Table));
        assert_eq!(level_of_comment(b"/* trunkline: consistency = table */"), None);
        assert_eq!(level_of_comment(b"/* trunkline: consistency=any */"), None);
        assert_eq!(level_of_comment(b"/* consistency=table */"), None);
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
