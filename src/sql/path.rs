//! Search paths: the schemas in which a session's names without schema are looked for.
//!
//! The server passes over schemas that do not exist, and over those that the role may not use; and of functions it takes the one that
//! fits best, wherever in the path. So what counts is which schemas a path names, not their order: a name means the worst of that
//! name in any of them.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::{Arc, LazyLock, OnceLock};

use parking_lot::Mutex;

use super::cursor::identifier;
use super::decision::{Decision, Effects, Reason, Target};
use super::knowledge::{Catalog, Knowledge};
use super::lexer::{Kind, LexOptions, Lexer};

/// Most paths that are told apart in one process; any other is not known.
const MAX_PATHS: usize = 4096;
/// Most schemas of a path that is known.
const MAX_SCHEMAS: usize = 64;
/// Longest name of a schema (`NAMEDATALEN` - 1): the server cuts longer ones.
const MAX_NAME: usize = 63;

/// In every path, whether it says so or not.
const ALWAYS: &str = "pg_catalog";

/// The schemas of a path, sorted, each once.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SearchPath(Box<[Box<str>]>);

impl SearchPath {
    /// Whether names are looked for in this schema.
    pub fn has(&self, schema: &str) -> bool {
        self.0.binary_search_by(|one| (**one).cmp(schema)).is_ok()
    }
}

/// The number of a [`SearchPath`] in this process. Never taken back or used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathId(NonZeroU16);

static NUMBERED: [OnceLock<&'static SearchPath>; MAX_PATHS] = [const { OnceLock::new() }; MAX_PATHS];
static NUMBERS: LazyLock<Mutex<HashMap<&'static SearchPath, PathId>>> = LazyLock::new(Mutex::default);

impl PathId {
    /// The number of the path through these schemas, in any order. `None`: where it leads is not certain (to temporary objects, or by
    /// names that may be another in the server's encoding), or there are too many.
    pub fn of<'n>(schemas: impl IntoIterator<Item = &'n str>) -> Option<Self> {
        let mut names: Vec<Box<str>> = vec![ALWAYS.into()];
        for name in schemas {
            let certain = name.is_ascii()
                && name.len() <= MAX_NAME
                && !["pg_temp", "pg_toast", "$user"].iter().any(|start| name.starts_with(start));
            if !certain || names.len() > MAX_SCHEMAS {
                return None;
            }
            names.push(name.into());
        }
        names.sort_unstable();
        names.dedup();
        let path = SearchPath(names.into());
        let mut numbers = NUMBERS.lock();
        if let Some(number) = numbers.get(&path) {
            return Some(*number);
        }
        let at = numbers.len();
        let number = Self(NonZeroU16::new(u16::try_from(at + 1).ok()?)?);
        // Kept as long as the process lives: at most 4 KiB each.
        let kept: &'static SearchPath = Box::leak(Box::new(path));
        NUMBERED.get(at)?.set(kept).ok()?;
        numbers.insert(kept, number);
        Some(number)
    }

    /// The path through the schemas of both.
    pub fn union(self, other: Self) -> Option<Self> {
        if self == other {
            return Some(self);
        }
        let names = |path: Self| path.get().0.iter().map(|name| &**name);
        Self::of(names(self).chain(names(other)))
    }

    /// Where it leads.
    pub fn get(self) -> &'static SearchPath {
        static NOWHERE: LazyLock<SearchPath> = LazyLock::new(|| SearchPath(Box::default()));
        NUMBERED[usize::from(self.0.get()) - 1].get().copied().unwrap_or(&NOWHERE)
    }

    /// The number itself, for cache keys: 1 to 4096.
    pub fn number(self) -> u16 {
        self.0.get()
    }
}

/// A path as it is written, in which one name may stand for another in each session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatedPath {
    /// The schemas that it names.
    pub schemas: PathId,
    /// `"$user"`: that of the name of the session's role, too.
    pub with_role: bool,
}

impl StatedPath {
    /// The path of these names; `None` as for [`PathId::of`].
    pub fn of<'n>(names: impl IntoIterator<Item = &'n str>) -> Option<Self> {
        let mut with_role = false;
        let schemas = PathId::of(names.into_iter().filter(|name| {
            with_role |= *name == "$user";
            *name != "$user"
        }))?;
        Some(Self { schemas, with_role })
    }

    /// As [`Self::of`], of a setting's text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::of(path_names(text)?.iter().map(String::as_str))
    }

    /// The path through the schemas of both.
    pub fn union(self, other: Self) -> Option<Self> {
        let schemas = self.schemas.union(other.schemas)?;
        Some(Self { schemas, with_role: self.with_role || other.with_role })
    }
}

/// The name whose opening quote has just been read, and what comes behind its end; two quotes within it are one.
pub fn quoted_name(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (part, behind) = rest.split_once('"')?;
        name.push_str(part);
        let Some(doubled) = behind.strip_prefix('"') else { return Some((name, behind)) };
        name.push('"');
        rest = doubled;
    }
}

/// The names in a `search_path` that is given as one text, as the server takes it apart. `None`: it can't be read here.
fn path_names(text: &str) -> Option<Vec<String>> {
    let space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c');
    let mut rest = text.trim_start_matches(space);
    let mut names = Vec::new();
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        let name;
        if let Some(quoted) = rest.strip_prefix('"') {
            (name, rest) = quoted_name(quoted)?;
        } else {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '$')));
            let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
            if word.is_empty() {
                return None;
            }
            name = word.to_ascii_lowercase();
            rest = behind;
        }
        names.push(name);
        rest = rest.trim_start_matches(space);
        if rest.is_empty() {
            return Some(names);
        }
        rest = rest.strip_prefix(',')?.trim_start_matches(space);
    }
}

/// Effects of what is not judged by its names alone, or may be in another transaction than what stands before it.
const APART: Effects = Effects::BEGIN
    .union(Effects::TX_END)
    .union(Effects::SAVEPOINT)
    .union(Effects::SQL_PREPARE)
    .union(Effects::SQL_EXECUTE)
    .union(Effects::DISCARD_ALL)
    .union(Effects::OWN_SETTING)
    .union(Effects::HINTED);

/// Whether a text with this decision may be a read after all, for one who knows the search path: the catalog has a name of it in
/// several schemas.
pub(super) fn matters(sql: &[u8], opts: LexOptions, known: &Knowledge, decision: Decision) -> bool {
    let by_catalog = matches!(
        decision.reason,
        Reason::VolatileFunction
            | Reason::UnknownFunction
            | Reason::ListedFunction
            | Reason::Sequence
            | Reason::Relation
            | Reason::NodeState
            | Reason::SessionState
            | Reason::SettingRead
            | Reason::Notify
            | Reason::AdvisoryLock
            | Reason::LargeObject
    );
    if decision.target != Target::Primary || !by_catalog || decision.effects.intersects(APART) {
        return false;
    }
    // A function of one of the schemas may set something. Otherwise it is a text that itself sets the path, or may.
    let lone_call = decision.reason == Reason::VolatileFunction && !decision.effects.contains(Effects::MULTI);
    if decision.effects.intersects(Effects::UNKNOWN_SETTING) && !lone_call {
        return false;
    }
    let Catalog::Known(facts) = &known.catalog else { return false };
    let mut lexer = Lexer::new(sql, opts);
    let mut qualified = false;
    while let Some(token) = lexer.next_token() {
        let name = identifier(lexer.text(), token);
        if !qualified
            && let Some(Ok(name)) = name.as_deref().map(std::str::from_utf8)
            && facts.is_in_several_schemas(name)
        {
            return true;
        }
        qualified = token.kind == Kind::Punct && token.of(lexer.text()) == b".";
    }
    false
}

/// What is known to a session with this path; `None` where no catalog is relied on.
pub(super) fn along(known: &Knowledge, path: PathId) -> Option<Knowledge> {
    let Catalog::Known(facts) = &known.catalog else { return None };
    Some(Knowledge {
        functions: known.functions.clone(),
        statements: known.statements.clone(),
        catalog: Catalog::Known(Arc::clone(facts).along(path.get())),
        distribution: known.distribution.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_for_the_schemas_in_any_order() {
        let path = PathId::of(["b", "a", "b"]).unwrap();
        assert_eq!(PathId::of(["a", "pg_catalog", "b"]), Some(path));
        assert_ne!(PathId::of(["a"]), Some(path));
        assert!(path.get().has("a") && path.get().has("pg_catalog") && !path.get().has("public"));
        assert!(PathId::of([]).is_some_and(|path| path.get().has("pg_catalog")));
        for uncertain in ["pg_temp", "pg_temp_3", "pg_toast", "$user", "ä", &"x".repeat(64)] {
            assert_eq!(PathId::of(["a", uncertain]), None, "{uncertain}");
        }
        let stated = StatedPath::parse("\"$user\", a,b").unwrap();
        assert!(stated.with_role && stated.schemas == path);
        assert_eq!(PathId::of(["a"]).unwrap().union(PathId::of(["b"]).unwrap()), Some(path));
        let many: Vec<String> = (0..100).map(|n| format!("s{n}")).collect();
        assert_eq!(PathId::of(many.iter().map(String::as_str)), None);
    }

    #[test]
    fn texts_are_taken_apart_as_the_server_does() {
        let read = |text: &str| path_names(text).map(|names| names.join("|"));
        assert_eq!(read("\"$user\", public").as_deref(), Some("$user|public"));
        assert_eq!(read(" A ,\t\"B c\"\"d\" , e$1").as_deref(), Some("a|B c\"d|e$1"));
        assert_eq!(read("").as_deref(), Some(""));
        assert_eq!(read("\"\"").as_deref(), Some(""));
        for odd in ["a,", ",a", "a b", "\"a", "a;b", "ä"] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }
}
