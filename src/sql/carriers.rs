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
