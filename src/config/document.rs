//! From text to the raw schema, with every unknown key and every wrong type found at once.
//!
//! serde stops at its first error. So the document is read into a tree first; when the schema refuses it, the
//! refused entry is cut out of the tree and the schema tries again, until it is content. The schema's types
//! stay the only list of what may be written. Overrides from the environment are grafted into the same tree.

use std::ops::Range;

use serde::Deserialize;
use serde_spanned::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue, Deserializer};

use super::environment::{Environment, OVERRIDE_PREFIX};
use super::problem::{Problems, Sources};
use super::redact;
use super::schema::RawConfig;
use super::suggest;

/// A document that the schema accepted, or what is left of it.
pub(super) struct Document {
    /// Everything that could be read.
    pub(super) raw: RawConfig,
    /// What must not be shown.
    pub(super) masks: Vec<Range<usize>>,
    /// Paths of the entries that were refused: what is missing because of that is no mistake of its own.
    pub(super) refused: Vec<String>,
    /// The text is not TOML: nothing could be read.
    pub(super) syntax_error: bool,
}

/// Reads `text` (already in `sources`, at offset 0) and the overrides in `env`.
/// Mistakes go to `problems`; after a syntax error the document is empty.
pub(super) fn read(text: &str, env: &Environment, sources: &mut Sources, problems: &mut Problems) -> Document {
    let mut masks = Vec::new();
    let (tree, errors) = DeTable::parse_recoverable(text);
    match errors.is_empty() {
        true => redact::comment_masks(text, &mut masks),
        false => redact::broken_masks(text, &mut masks),
    }
    redact::table_masks(tree.get_ref(), text, 0, &mut masks);
    for error in &errors {
        let at = error.span().unwrap_or(0..0);
        problems
            .error("this is not TOML")
            .at(at, error.message())
            .help("strings stand in quotes, tables are [name], lists are [\"a\", \"b\"]");
    }
    if !errors.is_empty() {
        return Document { raw: RawConfig::default(), masks, refused: Vec::new(), syntax_error: true };
    }
    let mut root = tree.into_inner();
    graft(&mut root, env, sources, problems, &mut masks);
    let mut refused = Vec::new();
    let raw = deserialize(root, text.len(), sources, problems, &mut masks, &mut refused);
    Document { raw, masks, refused, syntax_error: false }
}

/// Deserializes, cutting out what is refused.
fn deserialize<'a>(
    mut root: DeTable<'a>,
    len: usize,
    sources: &'a Sources,
    problems: &mut Problems,
    masks: &mut Vec<Range<usize>>,
    refused: &mut Vec<String>,
) -> RawConfig {
    loop {
        let error = match RawConfig::deserialize(Deserializer::from(Spanned::new(0..len, root.clone()))) {
            Ok(raw) => return raw,
            Err(error) => error,
        };
        let Some(span) = error.span() else {
            problems.error(error.message());
            return RawConfig::default();
        };
        // What a variable says is text; when the schema wants a number or a boolean, read it as TOML and try again.
        if retype(&mut root, &span, sources) {
            continue;
        }
        let cut = cut(&mut root, &span);
        report(&error, &span, cut.as_ref().map(|cut| cut.path.join(".")), problems);
        let Some(cut) = cut else { return RawConfig::default() };
        // Nobody knows what the value of an unknown key is, perhaps a misspelt password, nor what stands where a table belongs.
        let message = error.message();
        if message.starts_with("unknown field")
            || [", expected struct", ", expected a map"].iter().any(|end| message.contains(end))
        {
            masks.push(cut.value);
        }
        refused.push(cut.path.join("."));
    }
}

/// Words one refusal of the schema.
fn report(error: &toml::de::Error, span: &Range<usize>, path: Option<String>, problems: &mut Problems) {
    let message = error.message();
    let Some(rest) = message.strip_prefix("unknown field `") else {
        let message = without_value(message)
            .replace("invalid type: ", "wrong type: ")
            .replace("map, expected", "table, expected");
        let what = path.map_or("this value".into(), |path| format!("the value of {path}"));
        problems.error(format!("{what} can't be used")).at(span.clone(), message);
        return;
    };
    let (key, expected) = rest.split_once('`').unwrap_or((rest, ""));
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    if let Some(instead) = suggest::replaced(key) {
        problems.error(format!("\"{key}\" is no more")).at(span.clone(), "take it out").help(instead);
        return;
    }
    let help = match (suggest::nearest(key, known.iter().copied()), suggest::from_pgbouncer(key)) {
        (_, Some(ours)) => format!("Trunkline calls it {ours}"),
        (Some(near), None) => format!("did you mean \"{near}\"?"),
        (None, None) => format!("known here: {}", known.join(", ")),
    };
    problems.error(format!("unknown key \"{key}\"")).at(span.clone(), "not known here").help(help);
}

/// A message of serde's without the value that it repeats: a password may stand where none belongs.
fn without_value(message: &str) -> String {
    let told = |kind: &str, quote: &str| {
        let (before, rest) = message.split_once(&format!("{kind} {quote}"))?;
        let (_, behind) = rest.rsplit_once(&format!("{quote}, expected"))?;
        let article = if kind == "integer" { "an" } else { "a" };
        Some(format!("{before}{article} {kind}, expected{behind}"))
    };
    let kinds = [("string", "\""), ("integer", "`"), ("floating point", "`")];
    kinds.into_iter().find_map(|(kind, quote)| told(kind, quote)).unwrap_or_else(|| message.to_owned())
}

/// An entry that was taken out of the tree.
struct Cut {
    /// Keys and indices from the root.
    path: Vec<String>,
    /// The place of its value.
    value: Range<usize>,
}

impl Cut {
    fn below(mut self, parent: &str) -> Self {
        self.path.insert(0, parent.to_owned());
        self
    }
}

/// Takes the innermost entry at `span` out of the table.
fn cut(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<Cut> {
    let mut found = None;
    for (key, value) in table.iter_mut() {
        let inner = match value.get_mut() {
            DeValue::Table(inner) => cut(inner, span),
            DeValue::Array(items) => cut_item(items, span),
            _ => None,
        };
        if let Some(inner) = inner {
            return Some(inner.below(key.get_ref()));
        }
        if key.span() == *span || covers(&value.span(), span) {
            found = Some((key.get_ref().clone().into_owned(), value.span()));
            break;
        }
    }
    let (name, value) = found?;
    table.remove(name.as_str());
    Some(Cut { path: vec![name], value })
}

fn cut_item(items: &mut DeArray<'_>, span: &Range<usize>) -> Option<Cut> {
    let mut found = None;
    for (index, item) in items.iter_mut().enumerate() {
        let inner = match item.get_mut() {
            DeValue::Table(inner) => cut(inner, span),
            DeValue::Array(inner) => cut_item(inner, span),
            _ => None,
        };
        if let Some(inner) = inner {
            return Some(inner.below(&index.to_string()));
        }
        if covers(&item.span(), span) {
            found = Some((index, item.span()));
            break;
        }
    }
    let (index, value) = found?;
    let mut kept = DeArray::new();
    items.iter().enumerate().filter(|(i, _)| *i != index).for_each(|(_, item)| kept.push(item.clone()));
    *items = kept;
    Some(Cut { path: vec![index.to_string()], value })
}

fn covers(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end && outer.start < outer.end
}

/// The value that stands for a variable's text when text is not what the schema wants.
fn retype<'a>(root: &mut DeTable<'a>, span: &Range<usize>, sources: &'a Sources) -> bool {
    let Some(value) = string_at(root, span) else { return false };
    let Some(text) = sources.slice(span) else { return false };
    if text.starts_with(['"', '\'']) {
        return false;
    }
    let Ok(parsed) = DeValue::parse(text) else { return false };
    let parsed = parsed.into_inner();
    if matches!(parsed, DeValue::String(_)) {
        return false;
    }
    *value.get_mut() = parsed;
    true
}

fn string_at<'t, 'i>(table: &'t mut DeTable<'i>, span: &Range<usize>) -> Option<&'t mut Spanned<DeValue<'i>>> {
    for (_, value) in table.iter_mut() {
        match value.get_ref() {
            DeValue::String(_) if value.span() == *span => return Some(value),
            DeValue::Table(_) | DeValue::Array(_) => {}
            _ => continue,
        }
        let inner = match value.get_mut() {
            DeValue::Table(inner) => string_at(inner, span),
            DeValue::Array(items) => items.iter_mut().find_map(|item| match item.get_mut() {
                DeValue::Table(inner) => string_at(inner, span),
                _ => None,
            }),
            _ => None,
        };
        if inner.is_some() {
            return inner;
        }
    }
    None
}

/// Puts `TRUNKLINE__SECTION__KEY=value` into the tree, in place of what the file says.
fn graft(
    root: &mut DeTable<'_>,
    env: &Environment,
    sources: &mut Sources,
    problems: &mut Problems,
    masks: &mut Vec<Range<usize>>,
) {
    let mut text = String::new();
    let mut entries = Vec::new();
    for (name, value) in env.overrides() {
        let key = text.len()..text.len() + name.len();
        text.push_str(name);
        text.push('=');
        entries.push((name, value, key, text.len()..text.len() + value.len()));
        text.push_str(value);
        text.push('\n');
    }
    if entries.is_empty() {
        return;
    }
    let base = sources.push("environment", text);
    for (name, value, key, place) in entries {
        let key = key.start + base..key.end + base;
        let place = place.start + base..place.end + base;
        let mut start = key.start + OVERRIDE_PREFIX.len();
        let mut path: Vec<Part<'_>> = Vec::new();
        for part in name[OVERRIDE_PREFIX.len()..].split("__") {
            path.push((part, start..start + part.len()));
            start += part.len() + 2;
        }
        let secret = path.last().is_some_and(|(last, _)| redact::looks_secret(last));
        // Their names tell where they belong; what stands in them may be a secret in the wrong place.
        masks.push(place.clone());
        let parsed = match value.trim_start().chars().next() {
            Some('[' | '{' | '"' | '\'') if !secret => match DeValue::parse(value) {
                Ok(parsed) => shift(parsed.into_inner(), place.start),
                Err(error) => {
                    let at = error.span().map_or(place.clone(), |s| s.start + place.start..s.end + place.start);
                    problems.error(format!("the value of {name} is not TOML")).at(at, error.message());
                    continue;
                }
            },
            _ => DeValue::String(DeString::Owned(value.to_owned())),
        };
        if path.iter().any(|(part, _)| part.is_empty()) || !insert(root, &path, Spanned::new(place, parsed)) {
            problems
                .error(format!("the environment variable {name} names nothing"))
                .at(key, "no such place in the configuration")
                .help("the rule is TRUNKLINE__SECTION__KEY=value, list items by their number from 0");
        }
    }
}

/// Moves every place in `value` by `by`, and lets go of the text it borrows.
fn shift(value: DeValue<'_>, by: usize) -> DeValue<'static> {
    let moved = |span: Range<usize>| span.start + by..span.end + by;
    match value {
        DeValue::Array(items) => {
            let mut out = DeArray::new();
            for item in items.iter() {
                out.push(Spanned::new(moved(item.span()), shift(item.get_ref().clone(), by)));
            }
            DeValue::Array(out)
        }
        DeValue::Table(table) => {
            let mut out = DeTable::new();
            for (key, item) in table {
                let name = DeString::Owned(key.get_ref().clone().into_owned());
                let item = Spanned::new(moved(item.span()), shift(item.get_ref().clone(), by));
                out.insert(Spanned::new(moved(key.span()), name), item);
            }
            DeValue::Table(out)
        }
        mut other => {
            other.make_owned();
            match other {
                DeValue::String(s) => DeValue::String(DeString::Owned(s.into_owned())),
                DeValue::Boolean(b) => DeValue::Boolean(b),
                DeValue::Datetime(d) => DeValue::Datetime(d),
                // Numbers borrow; as text they are read again when the schema asks for a number.
                other => DeValue::String(DeString::Owned(number_text(&other))),
            }
        }
    }
}

fn number_text(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(n) => n.to_string(),
        DeValue::Float(n) => n.to_string(),
        _ => String::new(),
    }
}

/// Keys whose value is a list of tables: their items may be added by the number after the last.
const LISTS: [&str; 2] = ["hba", "nodes"];

/// One part of a variable's name, and its place: every part has its own, as keys in a file have.
type Part<'a> = (&'a str, Range<usize>);

/// Sets `path` in `table`; a part matches a key that is there whatever its case, and is lower case otherwise.
fn insert(table: &mut DeTable<'_>, path: &[Part<'_>], value: Spanned<DeValue<'static>>) -> bool {
    let Some(((first, key), rest)) = path.split_first() else { return false };
    let existing = table.keys().find(|k| k.get_ref().eq_ignore_ascii_case(first)).map(|k| k.get_ref().to_string());
    let name = existing.unwrap_or_else(|| first.to_ascii_lowercase());
    if rest.is_empty() {
        table.remove(name.as_str());
        table.insert(Spanned::new(key.clone(), DeString::Owned(name)), value);
        return true;
    }
    let is_new = !table.contains_key(name.as_str());
    if is_new {
        let is_list = LISTS.contains(&name.as_str());
        let empty = if is_list { DeValue::Array(DeArray::new()) } else { DeValue::Table(DeTable::new()) };
        let empty = Spanned::new(key.clone(), empty);
        table.insert(Spanned::new(key.clone(), DeString::Owned(name.clone())), empty);
    }
    let is_done = match table.get_mut(name.as_str()).map(Spanned::get_mut) {
        Some(DeValue::Table(inner)) => insert(inner, rest, value),
        Some(DeValue::Array(items)) => insert_item(items, rest, value),
        _ => false,
    };
    if is_new && !is_done {
        // Nothing is left of it that would mean something by itself.
        table.remove(name.as_str());
    }
    is_done
}

fn insert_item(items: &mut DeArray<'_>, path: &[Part<'_>], value: Spanned<DeValue<'static>>) -> bool {
    let Some(((first, key), rest)) = path.split_first() else { return false };
    if first.parse() == Ok(items.len()) {
        items.push(Spanned::new(key.clone(), DeValue::Table(DeTable::new())));
    }
    let Some(item) = first.parse::<usize>().ok().and_then(|index| items.get_mut(index)) else { return false };
    match item.get_mut() {
        _ if rest.is_empty() => {
            *item = value;
            true
        }
        DeValue::Table(inner) => insert(inner, rest, value),
        _ => false,
    }
}
