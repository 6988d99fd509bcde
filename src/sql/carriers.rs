//! What changes settings without looking like it: an UPDATE of the view `pg_settings`, and functions that run a text.

use super::changes::unicode_name;
use super::classify::analyze;
use super::cursor::Cursor;
use super::decision::Effects;
use super::knowledge::Knowledge;
use super::lexer::Kind;

/// What is known of something that may change settings where nobody reads which: it pins.
pub(super) const SETS_UNSEEN: Effects = Effects::UNKNOWN_SETTING.union(Effects::WRITES);

/// State of the session that a text may make wherever it runs.
const STATE: Effects = Effects::TEMP_OBJECT
    .union(Effects::ADVISORY_LOCK)
    .union(Effects::SESSION_STATE)
    .union(Effects::SEQUENCE_STATE)
    .union(Effects::UNLOCKS);

/// Functions that run a text, and which of their arguments that is.
const RUN_TEXT: [(&str, usize); 5] = [
    ("query_to_xml", 0),
    ("query_to_xml_and_xmlschema", 0),
    ("query_to_xmlschema", 0),
    ("ts_rewrite", 1),
    ("ts_stat", 0),
];

/// The same of the extension `tablefunc`, which has several, with one text or two.
const CROSSTAB: &str = "crosstab";

/// Whether an UPDATE begins here whose target is the view `pg_settings`: its rule calls `set_config`.
pub(super) fn updates_settings(mut cursor: Cursor<'_>) -> bool {
    if !cursor.eat("update") {
        return false;
    }
    cursor.eat("only");
    cursor.eat_sign("(");
    let mut schema = None;
    let mut name = unicode_name::eat_any(&mut cursor, "pg_settings");
    while cursor.eat_sign(".") {
        schema = name;
        name = unicode_name::eat_any(&mut cursor, "pg_settings");
    }
    name.is_some_and(|name| &*name == b"pg_settings") && schema.is_none_or(|schema| &*schema == b"pg_catalog")
}

/// Whether a function of this name runs a text that it is given.
pub(super) fn runs_text(name: &str) -> bool {
    RUN_TEXT.iter().any(|(known, _)| *known == name) || name.starts_with(CROSSTAB)
}

/// What the texts may leave behind that a function runs with these arguments. One that is no constant may set anything; except for
/// `crosstab`, which reports call with all sorts of texts.
pub(super) fn run(name: &str, mut arguments: Cursor<'_>, known: &Knowledge) -> Effects {
    let mut all = Vec::new();
    while !arguments.at_end() {
        all.push(arguments.until_comma());
    }
    let Some((_, which)) = RUN_TEXT.iter().find(|(known, _)| *known == name) else {
        let constants = all.iter().take(2).filter_map(constant);
        return constants.fold(Effects::empty(), |effects, text| effects | of_text(&text, arguments, known));
    };
    if name == "ts_rewrite" && all.len() > 2 {
        // The form with two queries for one.
        return Effects::empty();
    }
    match all.get(*which).and_then(constant) {
        Some(text) => of_text(&text, arguments, known),
        None => SETS_UNSEEN,
    }
}

/// The value of an argument that is a constant, with a cast or without.
fn constant(argument: &Cursor<'_>) -> Option<String> {
    match argument.rest() {
        [text] if text.kind == Kind::Str => argument.string(*text),
        [text, cast, _] if text.kind == Kind::Str && argument.bytes(*cast) == b"::" => argument.string(*text),
        _ => None,
    }
}

fn of_text(text: &str, within: Cursor<'_>, known: &Knowledge) -> Effects {
    let lower = text.to_ascii_lowercase();
    // No text within a text within a text is read, however it spells that.
    if lower.contains("u&\"") || lower.contains(CROSSTAB) || RUN_TEXT.iter().any(|(name, _)| lower.contains(*name)) {
        return SETS_UNSEEN;
    }
    let effects = analyze(text.as_bytes(), within.options(), known).decision.effects;
    let sets = if effects.contains(Effects::SET_SESSION) { SETS_UNSEEN } else { Effects::empty() };
    (effects & STATE) | sets
}

#[cfg(test)]
mod tests {
    use super::super::lexer::LexOptions;
    use super::*;

    fn sets(sql: &str) -> bool {
        let effects = analyze(sql.as_bytes(), LexOptions::default(), &Knowledge::default()).decision.effects;
        effects.contains(SETS_UNSEEN)
    }

    #[test]
    fn what_sets_is_seen() {
        for sql in [
            "UPDATE pg_settings SET setting = 'a'",
            "update only (PG_SETTINGS) set setting = 'a'",
            "UPDATE db.pg_catalog.pg_settings s SET setting = 'a'",
            "UPDATE U&\"pg!005fsettings\" UESCAPE '!' SET setting = 'a'",
            "UPDATE U&\"pg!005fsettings\" UESCAPE $$!$$ SET setting = 'a'",
            "WITH a AS (UPDATE pg_settings SET setting = 'a' RETURNING 1) SELECT * FROM a",
            "INSERT INTO t SELECT U&\"set\\005fconfig\"('a', 'b', false)",
            "SELECT U&\"set!005fconfig\" UESCAPE $$!$$ ('a', 'b', true)",
            "SELECT query_to_xml($1, true, true, '')",
            "SELECT ts_stat('SELECT ts_stat(''SELECT 1'')')",
            "SELECT ts_stat('SELECT U&\"a\"(1)')",
            "SELECT * FROM s.crosstab('SELECT set_config(''a'', ''b'', false), 1, 2') AS t (a text)",
            "SELECT ts_rewrite(a, b) FROM t",
        ] {
            assert!(sets(sql), "{sql}");
        }
    }

    #[test]
    fn what_sets_nothing_is_not() {
        for sql in [
            "UPDATE other.pg_settings SET setting = 'a'",
            "UPDATE t SET a = (SELECT setting FROM pg_settings)",
            "SELECT * FROM pg_settings FOR UPDATE",
            "SELECT query_to_xml('SELECT set_config(''a'', ''b'', true)'::text, true, true, '')",
            "SELECT ts_rewrite(a, b, c) FROM t",
            "SELECT * FROM crosstab($1) AS t (a text)",
            "SELECT U&\"l\\006fwer\"('A')",
        ] {
            assert!(!sets(sql), "{sql}");
        }
        let lock = "SELECT ts_stat('SELECT to_tsvector(''a''), pg_advisory_lock(1)')";
        let decision = analyze(lock.as_bytes(), LexOptions::default(), &Knowledge::default()).decision;
        assert!(decision.effects.contains(Effects::ADVISORY_LOCK));
    }

    /// However deep texts stand in each other, and however their functions are spelled.
    #[test]
    fn texts_in_texts_need_no_stack() {
        let levels = |call: &str| {
            let mut sql = "SELECT 1".to_owned();
            for level in 0..3000 {
                sql = format!("SELECT {call}($a{level}${sql}$a{level}$)");
            }
            sql
        };
        assert!(sets(&levels("ts_stat")));
        assert!(sets(&levels("U&\"ts\\005fstat\"")));
        assert!(sets(&levels("crosstab")));
    }
}
