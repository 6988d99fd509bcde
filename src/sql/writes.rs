//! Which tables a statement that changes data touches, read from its tokens: the parser need not know its syntax.
//!
//! The tables that it changes are told by the words before them (`INSERT INTO`, `UPDATE`, `DELETE FROM`, `MERGE INTO`), at any depth.
//! The tables that it reads are all that share a name with a word of it, which may be more than it reads.

use std::borrow::Cow;

use super::cursor::{Cursor, identifier};
use super::functions::{self, FunctionName};
use super::knowledge::{Commands, Facts, Knowledge};
use super::lexer::{Kind, Token};
use super::reason::Reason;
use super::touches::Touches;

/// What a statement with these tokens touches, the functions of users excepted that [`super::calls`] knows.
pub(super) fn touches(cursor: Cursor<'_>, known: &Knowledge) -> Touches {
    let Some(facts) = known.catalog.facts() else { return Touches::everything() };
    let mut touches = Touches::nothing();
    let mut targets = 0;
    let mut ahead = cursor;
    let mut before = None;
    while let Some(token) = ahead.peek() {
        let words = Words { cursor: ahead, before };
        if token.kind == Kind::Word
            && let Some(change) = words.change()
        {
            targets += 1;
            let Some((schema, name)) = change.target else { return Touches::everything() };
            touches = touches.union(&facts.written(schema.as_deref(), &name, change.commands, &known.functions));
        }
        before = Some(token);
        ahead.next();
    }
    if targets == 0 || calls_unknown(cursor, known, facts) {
        return Touches { doubts: touches.doubts, ..Touches::everything() };
    }
    read(cursor, known, facts, &mut touches);
    touches
}

/// What `COPY` into this relation touches; `rest` is what follows `FROM`.
pub(super) fn copied(schema: Option<&str>, name: &str, rest: Cursor<'_>, known: &Knowledge) -> Touches {
    let Some(facts) = known.catalog.facts().filter(|facts| !calls_unknown(rest, known, *facts)) else {
        return Touches::everything();
    };
    facts.written(schema, name, Commands::INSERT, &known.functions)
}

type Name<'a> = (Option<Cow<'a, str>>, Cow<'a, str>);

struct Change<'a> {
    commands: Commands,
    /// `None`: it can't be read.
    target: Option<Name<'a>>,
}

struct Words<'a> {
    cursor: Cursor<'a>,
    before: Option<Token>,
}

impl<'a> Words<'a> {
    /// The change that begins with the next word.
    fn change(&self) -> Option<Change<'a>> {
        let mut cursor = self.cursor;
        let after = |words: &[&str]| {
            self.before.is_some_and(|before| {
                let bytes = before.of(self.cursor.text());
                before.kind == Kind::Word && words.iter().any(|word| bytes.eq_ignore_ascii_case(word.as_bytes()))
            })
        };
        let (commands, leads) = if cursor.eat("insert") {
            // It may update where it meets a conflict.
            let conflicts = (0..cursor.rest().len()).any(|ahead| cursor.is_at(ahead, "conflict"));
            let commands = if conflicts { Commands::INSERT | Commands::UPDATE } else { Commands::INSERT };
            (commands, cursor.eat("into"))
        } else if cursor.eat("merge") {
            (Commands::all(), cursor.eat("into"))
        } else if cursor.eat("delete") {
            (Commands::DELETE, cursor.eat("from"))
        } else if cursor.eat("update") {
            if after(&["for", "key"]) {
                return None;
            }
            (Commands::UPDATE, true)
        } else {
            return None;
        };
        // `ON CONFLICT DO UPDATE`, `WHEN MATCHED THEN DELETE`: of the target that was named before.
        if after(&["do", "then"]) {
            return None;
        }
        let target = if leads { target(&mut cursor) } else { None };
        Some(Change { commands, target })
    }
}

fn target<'a>(cursor: &mut Cursor<'a>) -> Option<Name<'a>> {
    if cursor.is("only")
        && (cursor.is_at(1, "only") || !cursor.rest().get(1).is_some_and(|t| is_end_of_name(cursor, *t)))
    {
        cursor.next();
    }
    cursor.eat_sign("(");
    let mut name = text(cursor.identifier()?)?;
    let mut schema = None;
    while cursor.eat_sign(".") {
        schema = Some(name);
        name = text(cursor.identifier()?)?;
    }
    Some((schema, name))
}

/// Whether a token behind `ONLY` says that it is the table's name itself.
fn is_end_of_name(cursor: &Cursor<'_>, token: Token) -> bool {
    let bytes = cursor.bytes(token);
    match token.kind {
        Kind::Word => {
            ["set", "using", "where", "values", "returning"].iter().any(|w| bytes.eq_ignore_ascii_case(w.as_bytes()))
        }
        Kind::Punct => bytes == b".",
        _ => false,
    }
}

fn text(bytes: Cow<'_, [u8]>) -> Option<Cow<'_, str>> {
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

/// Adds every relation that shares its name with a word.
fn read(cursor: Cursor<'_>, known: &Knowledge, facts: &dyn Facts, touches: &mut Touches) {
    let (whole, tokens) = (cursor.text(), cursor.rest());
    for (at, token) in tokens.iter().enumerate() {
        let Some(name) = identifier(whole, *token).and_then(text) else { continue };
        let found = facts.relation(schema_before(whole, &tokens[..at]).as_deref(), &name, &known.functions);
        if let Some(verdict) = found {
            *touches = touches.union(&verdict.touches);
        }
    }
}

/// The schema before the name that follows these tokens.
fn schema_before<'a>(whole: &'a [u8], before: &[Token]) -> Option<Cow<'a, str>> {
    let [.., schema, dot] = before else { return None };
    if dot.kind != Kind::Punct || dot.of(whole) != b"." {
        return None;
    }
    identifier(whole, *schema).and_then(text)
}

/// Whether something is called of which nobody knows what it does. What may be a call counts as one.
fn calls_unknown(cursor: Cursor<'_>, known: &Knowledge, facts: &dyn Facts) -> bool {
    let (whole, tokens) = (cursor.text(), cursor.rest());
    tokens.windows(2).enumerate().any(|(at, pair)| {
        let [word, paren] = pair else { return false };
        if paren.kind != Kind::Punct || paren.of(whole) != b"(" || word.kind == Kind::UnicodeWord {
            return word.kind == Kind::UnicodeWord;
        }
        let Some(name) = identifier(whole, *word).and_then(text) else { return false };
        let schema = schema_before(whole, &tokens[..at]);
        let function = FunctionName { schema: schema.as_deref(), name: &name };
        if functions::judge(function, &known.functions).reason != Some(Reason::UnknownFunction)
            || facts.function(function, None, &known.functions).is_some()
        {
            return false;
        }
        let syntax = schema.is_none() && word.kind == Kind::Word && SYNTAX.contains(&&*name);
        !syntax
            && !names_columns(whole, tokens, at)
            && facts.relation(schema.as_deref(), &name, &known.functions).is_none()
    })
}

/// Whether the name at this place is that of a type, or that of a table, an alias or a common table expression whose columns follow.
fn names_columns(whole: &[u8], tokens: &[Token], at: usize) -> bool {
    let mut first = at;
    while first >= 2 && tokens[first - 1].kind == Kind::Punct && tokens[first - 1].of(whole) == b"." {
        first -= 2;
    }
    let before = first.checked_sub(1).map(|before| (tokens[before].kind, tokens[before].of(whole)));
    let told = match before {
        Some((Kind::Word, word)) => word.eq_ignore_ascii_case(b"as") || word.eq_ignore_ascii_case(b"into"),
        Some((Kind::Punct, sign)) => sign == b")",
        Some((_, sign)) => sign == b"::",
        None => false,
    };
    if told {
        return true;
    }
    let mut columns = Cursor::new(whole, &tokens[at + 1..]);
    columns.parenthesised().is_some()
        && columns.eat("as")
        && (columns.is_sign("(") || columns.is("materialized") || columns.is("not"))
}

/// Words that stand before parentheses without being called.
const SYNTAX: [&str; 49] = [
    "and",
    "as",
    "between",
    "by",
    "case",
    "check",
    "columns",
    "conflict",
    "default",
    "distinct",
    "else",
    "except",
    "filter",
    "from",
    "group",
    "having",
    "ilike",
    "in",
    "insert",
    "intersect",
    "interval",
    "is",
    "join",
    "key",
    "lateral",
    "like",
    "limit",
    "materialized",
    "not",
    "offset",
    "on",
    "of",
    "only",
    "or",
    "order",
    "over",
    "partition",
    "returning",
    "select",
    "set",
    "sets",
    "then",
    "union",
    "using",
    "values",
    "varying",
    "when",
    "where",
    "with",
];

#[cfg(test)]
mod tests {
    use super::super::lexer::LexOptions;
    use super::super::split::{Splitter, StatementTokens};
    use super::*;

    fn changes(sql: &str) -> Vec<String> {
        let mut splitter = Splitter::new(sql.as_bytes(), LexOptions::default());
        let mut statement = StatementTokens::default();
        assert!(splitter.next(&mut statement));
        let mut ahead = Cursor::new(splitter.text(), &statement.tokens);
        let (mut before, mut found) = (None, Vec::new());
        while let Some(token) = ahead.peek() {
            if token.kind == Kind::Word
                && let Some(change) = (Words { cursor: ahead, before }).change()
            {
                let name = change.target.map(|(schema, name)| match schema {
                    Some(schema) => format!("{schema}.{name}"),
                    None => name.into_owned(),
                });
                found.push(name.unwrap_or_else(|| "?".to_owned()));
            }
            before = Some(token);
            ahead.next();
        }
        found
    }

    #[test]
    fn heads_name_what_is_changed() {
        assert_eq!(changes("INSERT INTO a (x) VALUES (1) ON CONFLICT (x) DO UPDATE SET x = 2"), ["a"]);
        assert_eq!(changes("UPDATE ONLY s.\"B\" SET x = (SELECT y FROM c FOR UPDATE)"), ["s.B"]);
        assert_eq!(changes("DELETE FROM only (d) USING e"), ["d"]);
        assert_eq!(
            changes("MERGE INTO m USING n ON true WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (1)"),
            ["m"]
        );
        assert_eq!(
            changes("WITH i AS (INSERT INTO a VALUES (1)), u AS (UPDATE b SET x = 1) DELETE FROM c"),
            ["a", "b", "c"]
        );
        assert_eq!(changes("UPDATE only SET x = 1"), ["only"]);
        assert_eq!(changes("SELECT delete, \"update\" FROM t FOR NO KEY UPDATE"), ["?"]);
    }
}
