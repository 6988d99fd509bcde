//! Reading statements that ask for one setting and do nothing else.

use super::cursor::Cursor;
use super::lexer::{Kind, LexOptions};
use super::split::{Splitter, StatementTokens};

/// A statement that asks for one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The setting, in lower case.
    pub name: String,
    /// It is `SELECT current_setting('name')`; else `SHOW`.
    pub by_function: bool,
}

/// Reads a text of exactly one statement `SHOW name` or `SELECT [pg_catalog.]current_setting('name')`.
pub fn shown_setting(sql: &[u8], opts: LexOptions) -> Option<Shown> {
    let mut splitter = Splitter::new(sql, opts);
    let (mut tokens, mut more) = (StatementTokens::default(), StatementTokens::default());
    if !splitter.next(&mut tokens) || splitter.next(&mut more) || tokens.bad || tokens.cut {
        return None;
    }
    let mut cursor = Cursor::new(splitter.text(), &tokens.tokens).with_options(opts);
    if cursor.eat("show") {
        return Some(Shown { name: shown(cursor)?, by_function: false });
    }
    if !cursor.eat("select") {
        return None;
    }
    if cursor.eat("pg_catalog") && !cursor.eat_sign(".") {
        return None;
    }
    if !cursor.eat("current_setting") {
        return None;
    }
    let mut inside = cursor.parenthesised().filter(|_| cursor.at_end())?;
    let name = inside.next().filter(|token| token.kind == Kind::Str && inside.at_end())?;
    let mut name = inside.string(name)?;
    name.make_ascii_lowercase();
    Some(Shown { name, by_function: true })
}

fn shown(mut cursor: Cursor<'_>) -> Option<String> {
    const PHRASES: [(&[&str], &str); 3] = [
        (&["time", "zone"], "timezone"),
        (&["transaction", "isolation", "level"], "transaction_isolation"),
        (&["session", "authorization"], "session_authorization"),
    ];
    if let Some((_, name)) =
        PHRASES.iter().find(|(words, _)| cursor.rest().len() == words.len() && cursor.eat_all(words))
    {
        return Some((*name).to_owned());
    }
    let name = cursor.identifier()?;
    let mut name = String::from_utf8(name.into_owned()).ok()?;
    name.make_ascii_lowercase();
    (cursor.at_end() && name != "all").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let read = |sql: &str| shown_setting(sql.as_bytes(), LexOptions::default());
        for (sql, name, by_function) in [
            ("SHOW TimeZone", "timezone", false),
            ("show time zone;", "timezone", false),
            ("SHOW \"DateStyle\" -- so", "datestyle", false),
            ("SHOW TRANSACTION ISOLATION LEVEL", "transaction_isolation", false),
            ("SHOW session authorization", "session_authorization", false),
            ("SELECT current_setting('TimeZone')", "timezone", true),
            ("select pg_catalog.current_setting ( 'x' )", "x", true),
        ] {
            assert_eq!(read(sql), Some(Shown { name: name.to_owned(), by_function }), "{sql}");
        }
        for sql in [
            "SHOW ALL",
            "SHOW",
            "SHOW a b",
            "SHOW a.b",
            "SHOW TimeZone; SHOW TimeZone",
            "SELECT current_setting('a', true)",
            "SELECT current_setting('a') AS b",
            "SELECT current_setting('a'), 1",
            "SELECT current_setting($1)",
            "SELECT other.current_setting('a')",
            "SELECT \"Current_setting\"('a')",
        ] {
            assert_eq!(read(sql), None, "{sql}");
        }
    }
}
