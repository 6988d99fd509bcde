//! Known functions called anywhere in a statement, found by the lexer alone.
//!
//! Every name before a parenthesis is looked up. A name that turns out to be no call (a list of column names) can
//! only cost a trip to the primary; calls of unknown functions are the parser's business.

use std::borrow::Cow;

use super::carriers::{self, SETS_UNSEEN};
use super::changes::unicode_name;
use super::cursor::{Cursor, identifier};
use super::decision::Effects;
use super::functions::{self, FunctionName};
use super::knowledge::{Facts, Hazard, Knowledge};
use super::lexer::{Kind, Token};
use super::reason::Reason;
use super::touches::Touches;
use super::truth::truth_of_constant;
use super::verdict::Verdict;

/// The worst of the known functions that are called, with all their effects; a read when there is none.
pub(super) fn judge(text: &[u8], cursor: Cursor<'_>, known: &Knowledge) -> Verdict {
    let tokens = cursor.rest();
    let mut verdict = Verdict::replica(Reason::Read);
    let mut releases = false;
    if tokens.iter().any(|token| token.kind == Kind::Word && functions::is_clock(token.of(text))) {
        verdict.effects |= Effects::TELLS_TIME;
    }
    for (at, name) in tokens.iter().enumerate() {
        let here = cursor.skipping(at);
        if carriers::updates_settings(here) {
            verdict.join(unseen("pg_settings"));
        }
        let Some((bytes, mut behind)) = called(here) else { continue };
        let Ok(bare) = std::str::from_utf8(&bytes) else { continue };
        let schema = schema_of(text, &tokens[..at]);
        let Ok(schema) = schema.as_deref().map(std::str::from_utf8).transpose() else { continue };
        if name.kind == Kind::Word && bare == "operator" && schema.is_none() {
            verdict.join(judge_operator(text, &tokens[at + 2..], known));
            continue;
        }
        let arguments = behind.parenthesised();
        let count = arguments.and_then(|inside| count_arguments(text, inside));
        let function = FunctionName { schema, name: bare };
        if carriers::runs_text(bare) && !known.functions.calls_harmless(function) {
            let leaves = arguments.map_or(SETS_UNSEEN, |arguments| carriers::run(bare, arguments, known));
            verdict.effects |= Effects::LITERAL_MATTERS;
            if !leaves.is_empty() {
                let mut carried = unseen(bare);
                carried.effects = leaves | Effects::WRITES;
                verdict.join(carried);
            }
        }
        let mut call = functions::judge_call(function, count, known);
        if call.reason == Reason::UnknownFunction {
            continue;
        }
        releases |= call.effects.contains(Effects::RELEASES_ONLY);
        call.effects -= Effects::RELEASES_ONLY;
        if TAKES_SLOT.contains(&bare) && arguments.is_none_or(is_temporary_slot) {
            call.effects |= Effects::SESSION_STATE;
        }
        if bare == "set_config" {
            call.effects |= match name.kind {
                // Who reads what is set does not read this spelling.
                Kind::UnicodeWord => SETS_UNSEEN,
                _ => arguments.map_or(Effects::UNKNOWN_SETTING, set_config),
            };
        }
        verdict.join(call);
    }
    verdict.join(judge_hazards(text, tokens, known));
    if releases && verdict.effects - Effects::TELLS_TIME == Effects::UNLOCKS {
        verdict.effects |= Effects::RELEASES_ONLY;
    }
    verdict
}

/// Functions that make replication slots. The third argument of each says whether it is the session's own, and goes with it.
const TAKES_SLOT: [&str; 4] = [
    "pg_copy_logical_replication_slot",
    "pg_copy_physical_replication_slot",
    "pg_create_logical_replication_slot",
    "pg_create_physical_replication_slot",
];

/// Whether these arguments may say so.
fn is_temporary_slot(mut arguments: Cursor<'_>) -> bool {
    let mut number = 0;
    while !arguments.at_end() {
        let mut argument = arguments.until_comma();
        number += 1;
        let is_named =
            argument.rest().get(1).is_some_and(|sign| argument.bytes(*sign) == b"=>" || argument.bytes(*sign) == b":=");
        let decides = if is_named { argument.is("temporary") } else { number == 3 };
        if is_named {
            argument.next();
            argument.next();
        }
        if decides {
            return !(argument.is("false") && argument.rest().len() == 1);
        }
    }
    false
}

/// Something that sets what nobody reads.
fn unseen(culprit: &str) -> Verdict {
    Verdict::primary(Reason::SessionState, SETS_UNSEEN).touching(Touches::nothing()).with_culprit(culprit)
}

/// The name that stands here before a parenthesis, and what follows it.
fn called(cursor: Cursor<'_>) -> Option<(Cow<'_, [u8]>, Cursor<'_>)> {
    let mut behind = cursor;
    if behind.next()?.kind != Kind::UnicodeWord && !behind.is_sign("(") {
        return None;
    }
    let mut behind = cursor;
    let name = unicode_name::eat_any(&mut behind, "set_config")?;
    behind.is_sign("(").then_some((name, behind))
}

/// How many arguments stand there; `None` where the text does not tell.
fn count_arguments(text: &[u8], inside: Cursor<'_>) -> Option<usize> {
    if inside.at_end() {
        return Some(0);
    }
    let (mut depth, mut count) = (0, 1);
    for token in inside.rest() {
        match (token.kind, token.of(text)) {
            (Kind::Punct, b"(" | b"[") => depth += 1,
            (Kind::Punct, b")" | b"]") => depth -= 1,
            (Kind::Punct, b",") if depth == 0 => count += 1,
            (Kind::Word, word)
                if depth == 0
                    && ["variadic", "order", "distinct", "all"]
                        .iter()
                        .any(|known| word.eq_ignore_ascii_case(known.as_bytes())) =>
            {
                return None;
            }
            _ => {}
        }
    }
    Some(count)
}

/// What calls functions of users' without naming them: operators, casts, columns that are none.
fn judge_hazards(text: &[u8], tokens: &[Token], known: &Knowledge) -> Verdict {
    let mut verdict = Verdict::replica(Reason::Read);
    let Some(hazards) = known.catalog.last_facts().map(Facts::hazards).filter(|hazards| !hazards.is_empty()) else {
        return verdict;
    };
    let lists = &known.functions;
    let mut add = |hazard: Option<&Hazard>| {
        if let Some(hazard) = hazard {
            verdict.join(hazard.verdict(lists));
        }
    };
    add(hazards.hidden.as_ref());
    for (at, token) in tokens.iter().enumerate() {
        if token.kind == Kind::Op {
            let symbol = std::str::from_utf8(token.of(text)).unwrap_or_default();
            add(hazards.operators.get(symbol));
        }
        let Some(bytes) = identifier(text, *token) else { continue };
        let Ok(name) = std::str::from_utf8(&bytes) else { continue };
        add(hazards.types.get(name));
        if !hazards.row_types.is_empty() {
            let makes_rows = ["_populate_record", "_populate_recordset", "_populate_record_valid"]
                .iter()
                .any(|end| name.ends_with(end));
            add(hazards.row_types.values().next().filter(|_| makes_rows));
            add(hazards.row_types.get(name).filter(|_| names_type(text, tokens, at)));
        }
        if at > 0 && tokens[at - 1].of(text) == b"." {
            add(hazards.attributes.get(name));
        }
    }
    verdict
}

/// Whether the name that ends at `at` can be that of a type, and not only of a relation: behind `::`, `AS` or `RETURNING`, before a constant,
/// or the last of a column's definition in a list.
fn names_type(text: &[u8], tokens: &[Token], at: usize) -> bool {
    let mut first = at;
    while first >= 2 && tokens[first - 1].of(text) == b"." {
        first -= 2;
    }
    let next = tokens.get(at + 1);
    let Some(before) = first.checked_sub(1).map(|before| tokens[before]) else { return false };
    let casts = matches!(before.of(text).to_ascii_lowercase().as_slice(), b"::" | b"as" | b"returning");
    let ends_column = matches!(before.kind, Kind::Word | Kind::QuotedWord)
        && !BEFORE_RELATIONS.iter().any(|word| before.of(text).eq_ignore_ascii_case(word.as_bytes()))
        && next.is_some_and(|next| matches!(next.of(text), b"," | b")"));
    casts || ends_column || next.is_some_and(|next| next.kind == Kind::Str)
}

/// Words that stand before the name of a relation, or before a whole row of it.
const BEFORE_RELATIONS: [&str; 12] =
    ["from", "join", "only", "table", "select", "distinct", "all", "by", "and", "or", "on", "where"];

/// The schema before the name that follows these tokens.
fn schema_of<'a>(text: &'a [u8], before: &[Token]) -> Option<Cow<'a, [u8]>> {
    let [.., schema, dot] = before else { return None };
    if dot.kind != Kind::Punct || text[dot.start as usize] != b'.' {
        return None;
    }
    identifier(text, *schema)
}

/// `OPERATOR(schema.+)`: an operator of another schema than PostgreSQL's own may do anything, unless the catalog says which
/// ones do.
fn judge_operator(text: &[u8], after: &[Token], known: &Knowledge) -> Verdict {
    let own = match after {
        [first, ..] if first.kind == Kind::Op => true,
        [schema, ..] => identifier(text, *schema).is_some_and(|name| &*name == b"pg_catalog"),
        [] => true,
    };
    if own || known.catalog.facts().is_some() {
        Verdict::replica(Reason::Read)
    } else {
        Verdict::primary(Reason::UnknownFunction, Effects::WRITES).with_culprit("operator")
    }
}

/// What `set_config` with these arguments does: the third says whether it is for the transaction only.
fn set_config(mut arguments: Cursor<'_>) -> Effects {
    let mut commas = 0;
    let mut depth = 0;
    while commas < 2 {
        let Some(token) = arguments.next() else { return Effects::UNKNOWN_SETTING };
        match (token.kind, arguments.bytes(token)) {
            (Kind::Punct, b"(" | b"[") => depth += 1,
            (Kind::Punct, b")" | b"]") => depth -= 1,
            (Kind::Punct, b",") if depth == 0 => commas += 1,
            _ => {}
        }
    }
    if arguments.is("is_local") && arguments.rest().len() > 1 {
        // Named notation: `is_local => true`.
        arguments.next();
        arguments.next();
    }
    let Some(value) = arguments.next() else { return Effects::UNKNOWN_SETTING };
    let is_boolean_cast = arguments.is_sign("::")
        && (arguments.is_at(1, "bool") || arguments.is_at(1, "boolean"))
        && arguments.rest().len() == 2;
    if !arguments.at_end() && !is_boolean_cast {
        return Effects::UNKNOWN_SETTING;
    }
    let bytes = match value.kind {
        Kind::Str => arguments.bytes(value).trim_ascii().strip_prefix(b"'").and_then(|b| b.strip_suffix(b"'")),
        // Any other word is a column, whatever it is called.
        Kind::Word => Some(arguments.bytes(value))
            .filter(|word| [&b"true"[..], b"false"].iter().any(|literal| word.eq_ignore_ascii_case(literal))),
        _ => None,
    };
    match bytes.and_then(truth_of_constant) {
        Some(true) => Effects::SET_LOCAL,
        Some(false) => Effects::SET_SESSION,
        None => Effects::UNKNOWN_SETTING,
    }
}

#[cfg(test)]
mod tests {
    use super::super::classify::analyze;
    use super::super::lexer::LexOptions;
    use super::*;

    /// A temporary replication slot goes with its session, which alone can use it.
    #[test]
    fn slots_that_are_the_sessions_own() {
        let keeps = |sql: &str| {
            let effects = analyze(sql.as_bytes(), LexOptions::default(), &Knowledge::default()).decision.effects;
            effects.contains(Effects::SESSION_STATE)
        };
        for sql in [
            "SELECT pg_create_logical_replication_slot('s', 'pgoutput', true)",
            "SELECT * FROM pg_catalog.pg_create_logical_replication_slot('s', 'pgoutput', $1)",
            "SELECT pg_create_physical_replication_slot('s', false, true)",
            "SELECT pg_create_physical_replication_slot('s', temporary => true)",
            "SELECT pg_create_physical_replication_slot(temporary := 't', slot_name := 's')",
            "SELECT pg_copy_logical_replication_slot('a', 'b', true, 'pgoutput')",
        ] {
            assert!(keeps(sql), "{sql}");
        }
        for sql in [
            "SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
            "SELECT pg_create_logical_replication_slot('s', 'pgoutput', false, true)",
            "SELECT pg_create_physical_replication_slot('s', true)",
            "SELECT pg_create_physical_replication_slot('s', temporary => FALSE)",
            "SELECT pg_drop_replication_slot('s')",
        ] {
            assert!(!keeps(sql), "{sql}");
        }
    }
}
