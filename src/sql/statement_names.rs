//! Which SQL-level prepared statements a text speaks of, and what a `PREPARE` prepares.
//!
//! Read only for texts whose [`Effects`](super::Effects) have `SQL_PREPARE` or `SQL_EXECUTE`.

use super::cursor::Cursor;
use super::lexer::{Kind, LexOptions, Token};
use super::split::{Splitter, StatementTokens};

/// The names of prepared statements in a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatementNames {
    /// Those of `PREPARE`, `EXECUTE`, `EXPLAIN EXECUTE`, `CREATE TABLE … AS EXECUTE` and `DEALLOCATE`, as the server stores them.
    pub names: Vec<Box<[u8]>>,
    /// There are more that cannot be read, such as `U&"…"`. Not so in a text that no server will read either.
    pub unreadable: bool,
    /// The text is one `EXECUTE`, or one `EXPLAIN` of it, and its arguments are constants: it does what the statement of that
    /// name does, and no more.
    pub lone_execute: bool,
}

/// Reads the names in a text.
pub fn statement_names(sql: &[u8], opts: LexOptions) -> StatementNames {
    let mut splitter = Splitter::new(sql, opts);
    let mut tokens = StatementTokens::default();
    let mut found = StatementNames::default();
    let mut statements = 0;
    let mut plain = false;
    while splitter.next(&mut tokens) {
        statements += 1;
        let cursor = Cursor::new(splitter.text(), &tokens.tokens).with_options(opts);
        let trusted = !tokens.bad && !tokens.cut && (opts.safe_encoding || splitter.text().is_ascii());
        let Some(mut cursor) = before_name(cursor) else { continue };
        match cursor.identifier() {
            Some(name) if trusted => {
                if !found.names.iter().any(|known| **known == *name) {
                    found.names.push(name.into_owned().into_boxed_slice());
                }
                plain = is_execute(splitter.text(), &tokens.tokens) && has_plain_arguments(cursor);
            }
            Some(_) => found.unreadable |= !tokens.bad,
            None => found.unreadable |= cursor.peek().is_some_and(|token| token.kind == Kind::UnicodeWord),
        }
    }
    found.lone_execute = statements == 1 && plain && !found.unreadable;
    found
}

/// What a `PREPARE` of one statement prepares: the text behind `AS`, with the comments before it.
pub fn prepared_body(text: &[u8], opts: LexOptions) -> Option<&[u8]> {
    let mut splitter = Splitter::new(text, opts);
    let mut tokens = StatementTokens::default();
    if !splitter.next(&mut tokens) {
        return None;
    }
    let mut cursor = Cursor::new(splitter.text(), &tokens.tokens);
    if !cursor.eat("prepare") {
        return None;
    }
    cursor.identifier()?;
    cursor.parenthesised();
    let as_word = cursor.peek()?;
    if !cursor.eat("as") {
        return None;
    }
    text.get(as_word.end as usize..cursor.rest().last()?.end as usize)
}

/// Whether `CREATE … AS EXECUTE` stands in these tokens.
pub(super) fn creates_by_execute(text: &[u8], tokens: &[Token]) -> bool {
    as_execute(text, tokens).is_some()
}

fn as_execute(text: &[u8], tokens: &[Token]) -> Option<usize> {
    let is = |token: &Token, word: &[u8]| token.kind == Kind::Word && token.of(text).eq_ignore_ascii_case(word);
    tokens.windows(2).position(|pair| is(&pair[0], b"as") && is(&pair[1], b"execute"))
}

fn is_execute(text: &[u8], tokens: &[Token]) -> bool {
    let cursor = Cursor::new(text, tokens);
    cursor.is("execute") || (cursor.is("explain") && as_execute(text, tokens).is_none())
}

/// The cursor before the name of a prepared statement, when the statement is about one.
fn before_name(mut cursor: Cursor<'_>) -> Option<Cursor<'_>> {
    let whole = cursor;
    if cursor.eat("execute") {
        return Some(cursor);
    }
    if cursor.eat("prepare") {
        let two_phase = cursor.is("transaction") && cursor.rest().get(1).is_some_and(|token| token.kind == Kind::Str);
        return (!two_phase).then_some(cursor);
    }
    if cursor.eat("deallocate") {
        if cursor.is("prepare") && cursor.rest().len() > 1 {
            cursor.next();
        }
        return (!cursor.is("all")).then_some(cursor);
    }
    let explained = cursor.eat("explain");
    if explained {
        cursor.parenthesised();
        while cursor.is("analyze") || cursor.is("analyse") || cursor.is("verbose") {
            cursor.next();
        }
        if cursor.eat("execute") {
            return Some(cursor);
        }
    }
    let at = if cursor.is("create") { as_execute(whole.text(), cursor.rest())? } else { return None };
    for _ in 0..at + 2 {
        cursor.next();
    }
    Some(cursor)
}

/// Whether what follows the name is nothing, or constants in parentheses.
fn has_plain_arguments(mut cursor: Cursor<'_>) -> bool {
    let Some(mut inside) = cursor.parenthesised() else { return cursor.at_end() };
    while let Some(token) = inside.next() {
        let plain = match token.kind {
            Kind::Str | Kind::Number | Kind::Param => true,
            Kind::Punct => inside.bytes(token) == b",",
            Kind::Op => matches!(inside.bytes(token), b"-" | b"+"),
            Kind::Word => {
                let word = inside.bytes(token);
                [&b"null"[..], b"true", b"false"].iter().any(|known| word.eq_ignore_ascii_case(known))
            }
            _ => false,
        };
        if !plain {
            return false;
        }
    }
    cursor.at_end()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(sql: &str) -> (Vec<String>, bool, bool) {
        let found = statement_names(sql.as_bytes(), LexOptions::default());
        let names = found.names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        (names, found.unreadable, found.lone_execute)
    }

    #[test]
    fn trap_44_every_spelling_of_a_name() {
        for (sql, names, lone) in [
            ("EXECUTE foo", &["foo"][..], true),
            ("/* c */ execute Foo (1, 'a', -2.5, NULL, $1) ;", &["foo"], true),
            ("EXECUTE \"Foo \"\"x\"(now())", &["Foo \"x"], false),
            // Arguments are evaluated before: what they call counts as well.
            ("EXECUTE foo(f())", &["foo"], false),
            ("EXECUTE foo(1, nextval('s'))", &["foo"], false),
            ("EXECUTE foo('1'::checked_domain)", &["foo"], false),
            ("EXECUTE foo(1 <-> 2)", &["foo"], false),
            ("EXECUTE foo((SELECT f()))", &["foo"], false),
            ("EXPLAIN ANALYZE EXECUTE foo(f())", &["foo"], false),
            ("EXPLAIN EXECUTE foo", &["foo"], true),
            ("explain (analyze, costs off) EXECUTE foo(1)", &["foo"], true),
            ("EXPLAIN ANALYZE VERBOSE EXECUTE foo", &["foo"], true),
            ("CREATE TEMP TABLE x (a) AS EXECUTE foo(1) WITH NO DATA", &["foo"], false),
            ("EXPLAIN ANALYZE CREATE TABLE x AS EXECUTE foo", &["foo"], false),
            ("PREPARE foo (int, text) AS SELECT $1", &["foo"], false),
            ("DEALLOCATE foo", &["foo"], false),
            ("DEALLOCATE PREPARE foo", &["foo"], false),
            ("DEALLOCATE PREPARE", &["prepare"], false),
            ("DEALLOCATE ALL", &[], false),
            ("PREPARE TRANSACTION 'x'", &[], false),
            ("PREPARE transaction AS SELECT 1", &["transaction"], false),
            ("PREPARE p AS SELECT 1; EXECUTE p; EXECUTE q; DEALLOCATE p", &["p", "q"], false),
            ("CREATE TRIGGER x BEFORE INSERT ON t EXECUTE FUNCTION f()", &[], false),
            ("EXPLAIN SELECT execute FROM t", &[], false),
        ] {
            assert_eq!(of(sql), (names.iter().map(ToString::to_string).collect(), false, lone), "{sql}");
        }
        for (sql, unreadable) in [
            ("EXECUTE U&\"f\\006fo\"", true),
            ("DEALLOCATE U&\"x\"", true),
            ("PREPARE", false),
            ("EXECUTE foo('", false),
        ] {
            assert_eq!(of(sql).1, unreadable, "{sql}");
        }
    }

    #[test]
    fn bodies() {
        let body = |sql: &'static str| prepared_body(sql.as_bytes(), LexOptions::default());
        assert_eq!(body("PREPARE a (int) AS /* hint */ SELECT $1 ;"), Some(&b" /* hint */ SELECT $1"[..]));
        assert_eq!(body("-- c\nprepare as as select 1"), Some(&b" select 1"[..]));
        assert_eq!(body("EXECUTE a"), None);
    }
}
