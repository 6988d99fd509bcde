//! Which changes of the schema leave alone what the catalog tells: those of temporary objects and of indexes.

use std::borrow::Cow;

use super::cursor::Cursor;
use super::knowledge::{Facts, Knowledge};
use super::lexer::Kind;
use super::touches::{CATALOGS_SLOT, Slots, Touches};

/// What a statement that begins with CREATE, ALTER or DROP changes, if that is less than the scanner supposes; `None`: who knows.
///
/// A DROP of what the catalog does not know leaves it as right as it was: either there is no such thing, or it is temporary, or it was
/// made a moment ago and is gone before it was read. Which schema the name leads to is no matter then.
pub(super) fn touches(cursor: Cursor<'_>, known: &Knowledge) -> Option<Touches> {
    let facts = known.catalog.facts()?;
    let harmless = if cursor.is("drop") { drops_unknown(cursor, facts, known) } else { is_of_session(cursor) };
    if !harmless {
        return None;
    }
    // What is made from a query calls what that calls, and event triggers do what they like.
    let only_catalogs = !facts.has_event_triggers() && !cursor.rest().iter().any(|token| is_as(cursor, *token));
    let writes = if only_catalogs { Slots::of([CATALOGS_SLOT]) } else { Slots::All };
    Some(Touches::new(if only_catalogs { Slots::none() } else { Slots::All }, writes))
}

fn is_as(cursor: Cursor<'_>, token: super::lexer::Token) -> bool {
    token.kind == Kind::Word
        && ["as", "execute"].iter().any(|word| cursor.bytes(token).eq_ignore_ascii_case(word.as_bytes()))
}

/// `DROP TABLE | VIEW | SEQUENCE | INDEX …` of names that are nobody else's.
fn drops_unknown(mut cursor: Cursor<'_>, facts: &dyn Facts, known: &Knowledge) -> bool {
    cursor.eat("drop");
    if cursor.eat("index") {
        return true;
    }
    if !(cursor.eat("table") || cursor.eat("view") || cursor.eat("sequence")) {
        return false;
    }
    cursor.eat_all(&["if", "exists"]);
    loop {
        let Some((schema, name)) = dotted(&mut cursor) else { return false };
        let temporary = schema.as_deref() == Some("pg_temp");
        if !temporary && facts.relation(schema.as_deref(), &name, &known.functions).is_some() {
            return false;
        }
        if !cursor.eat_sign(",") {
            break;
        }
    }
    let _ = cursor.eat("cascade") || cursor.eat("restrict");
    cursor.at_end()
}

/// CREATE and ALTER of what is temporary by its own words, and CREATE INDEX.
fn is_of_session(mut cursor: Cursor<'_>) -> bool {
    let creates = cursor.eat("create");
    if !creates && !cursor.eat("alter") {
        return false;
    }
    cursor.eat_all(&["or", "replace"]);
    if creates {
        let _ = cursor.eat("local") || cursor.eat("global");
        if cursor.eat("temp") || cursor.eat("temporary") {
            return true;
        }
        cursor.eat("unique");
        if cursor.eat("index") {
            return true;
        }
    }
    if !["table", "view", "sequence", "function"].iter().any(|kind| cursor.eat(kind)) {
        return false;
    }
    let _ = cursor.eat_all(&["if", "not", "exists"]) || cursor.eat_all(&["if", "exists"]);
    cursor.eat("only");
    dotted(&mut cursor).is_some_and(|(schema, _)| schema.as_deref() == Some("pg_temp"))
}

/// Whether what a definition calls is called when that is used, and not now.
pub(super) fn only_defines(mut cursor: Cursor<'_>) -> bool {
    if !cursor.eat("create") {
        return false;
    }
    cursor.eat_all(&["or", "replace"]);
    let _ = cursor.eat("local") || cursor.eat("global");
    let _ = cursor.eat("temp") || cursor.eat("temporary");
    let _ = cursor.eat("recursive") || cursor.eat("constraint");
    ["function", "procedure", "view", "rule", "trigger", "policy"].iter().any(|kind| cursor.is(kind))
}

/// Whether a definition concerns what all databases of a server have in common.
pub(super) fn is_shared(mut cursor: Cursor<'_>) -> bool {
    let of_server = |cursor: &Cursor<'_>| {
        ["database", "role", "user", "group", "tablespace", "subscription", "parameter"]
            .iter()
            .any(|kind| cursor.is(kind))
    };
    if cursor.eat("create") || cursor.eat("alter") || cursor.eat("comment") || cursor.eat("drop") {
        cursor.eat("on");
        return of_server(&cursor) || cursor.is("owned");
    }
    if !cursor.eat("grant") && !cursor.eat("revoke") {
        return cursor.is("reassign") || cursor.is("security");
    }
    // Privileges are ON something; what is not is a role.
    while cursor.next().is_some() {
        if cursor.eat("on") {
            return of_server(&cursor);
        }
    }
    true
}

/// A name with its schema; `None` where there is none, or a database before it.
fn dotted<'a>(cursor: &mut Cursor<'a>) -> Option<(Option<Cow<'a, str>>, Cow<'a, str>)> {
    let text = |name: Cow<'a, [u8]>| match name {
        Cow::Borrowed(name) => std::str::from_utf8(name).ok().map(Cow::Borrowed),
        Cow::Owned(name) => String::from_utf8(name).ok().map(Cow::Owned),
    };
    let first = text(cursor.identifier()?)?;
    if !cursor.eat_sign(".") {
        return Some((None, first));
    }
    let second = text(cursor.identifier()?)?;
    (!cursor.is_sign(".")).then_some((Some(first), second))
}
