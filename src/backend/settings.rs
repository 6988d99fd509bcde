//! Session settings of clients, applied to server connections as a difference.

use std::sync::{Arc, LazyLock, OnceLock};

use parking_lot::Mutex;

use super::interner::Interner;
use crate::sql::quoted_name;
use crate::wire::build;

pub mod reserved;
#[cfg(test)]
mod tests;

/// Settings of a session, by lower-case name, sorted. Interned: equal settings are the same `Arc`, so that
/// "does this connection have what this session needs" is one comparison of pointers.
#[derive(Debug, PartialEq, Eq)]
pub struct Settings {
    entries: Entries,
}

/// The value of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// One text that the setting itself takes apart, as in a startup packet or `set_config`.
    Text(String),
    /// The list of constants of a `SET`: `SET search_path TO 'a b', c` is no text that `set_config` would understand.
    List(Vec<String>),
}

impl Value {
    /// The value where it is one text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::List(_) => None,
        }
    }

    /// The value of a `SET` of this setting with these constants.
    pub fn of_set(name: &str, mut values: Vec<String>) -> Self {
        match values.as_mut_slice() {
            [value] if !QUOTED_LISTS.contains(&name) => Self::Text(std::mem::take(value)),
            _ => Self::List(values),
        }
    }

    fn is_ascii(&self) -> bool {
        match self {
            Self::Text(text) => text.is_ascii(),
            Self::List(values) => values.iter().all(|value| value.is_ascii()),
        }
    }
}

/// Settings of which `SET` quotes each constant as an identifier (`GUC_LIST_QUOTE` of the server).
const QUOTED_LISTS: [&str; 6] = [
    "search_path",
    "temp_tablespaces",
    "local_preload_libraries",
    "session_preload_libraries",
    "shared_preload_libraries",
    "unix_socket_directories",
];

/// Who the session is. Decides what else may be set: taken back before anything else is, and set after it, in this order.
const IDENTITY: [&str; 2] = ["session_authorization", "role"];

type Entries = Vec<(String, Value)>;

static INTERNED: LazyLock<Mutex<Interner<Settings>>> = LazyLock::new(|| Mutex::new(Interner::new()));

impl Settings {
    /// The interned settings with these texts, as of a startup packet; of a repeated name the last value counts.
    pub fn intern(entries: impl IntoIterator<Item = (String, String)>) -> Arc<Self> {
        let entries = entries.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), Value::Text(value)));
        let mut sorted: Entries = entries.collect();
        // Stable, and then the last of equal ones counts. A packet may have a hundred thousand of them.
        sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
        sorted.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        Self::interned(sorted)
    }

    fn interned(entries: Entries) -> Arc<Self> {
        let mut interned = INTERNED.lock();
        let hash = interned.hash(&entries);
        let found = interned.find(hash, |known| known.entries == entries);
        found.unwrap_or_else(|| interned.insert(hash, Self { entries }))
    }

    /// No settings.
    pub fn none() -> Arc<Self> {
        static NONE: OnceLock<Arc<Settings>> = OnceLock::new();
        NONE.get_or_init(|| Self::intern([])).clone()
    }

    /// The value of one setting, by its lower-case name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let at = self.entries.binary_search_by(|(key, _)| key.as_str().cmp(name)).ok()?;
        Some(&self.entries[at].1)
    }

    /// The value of one setting where it is one text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.text()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// These settings with another value of one of them; `None` takes it away.
    pub fn with(&self, name: &str, value: Option<Value>) -> Arc<Self> {
        let mut entries = self.entries.clone();
        put(&mut entries, name, value);
        Self::interned(entries)
    }

    /// What `RESET ALL` makes of these settings on a session that started with `startup`: the session's user and role stay.
    pub fn reset_all(&self, startup: &Self) -> Arc<Self> {
        let mut entries = startup.entries.clone();
        for name in IDENTITY {
            put(&mut entries, name, self.get(name).cloned());
        }
        Self::interned(entries)
    }

    /// These settings, and those of `base` that they say nothing of.
    pub fn over(self: &Arc<Self>, base: &Self) -> Arc<Self> {
        if base.is_empty() {
            return self.clone();
        }
        let only_there = base.entries.iter().filter(|(name, _)| self.get(name).is_none());
        let mut entries: Entries = self.entries.iter().chain(only_there).cloned().collect();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self::interned(entries)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a connection with the settings `from` may refuse these, which some server has accepted before: a right can have been
    /// revoked, an object dropped, and a time-out that is still in force there can strike. Who then goes on would go on without any of
    /// them.
    pub fn may_be_refused(&self, from: &Settings) -> bool {
        let is_sure = |name: &str| if name.contains('.') { !reserved::is_doubtful(name) } else { SURE.contains(&name) };
        let is_new = |(name, value): &&(String, Value)| from.get(name) != Some(value);
        from.entries.iter().any(|(name, _)| STRIKES.contains(&name.as_str()))
            || self.entries.iter().filter(is_new).any(|(name, _)| !is_sure(name))
    }

    /// Whether a connection may lose one of these by itself, and refuse from then on to take it back.
    pub fn may_be_lost(&self) -> bool {
        self.entries.iter().any(|(name, _)| reserved::is_doubtful(name))
    }

    /// Appends Query messages that turn a connection with the settings `from` into one with `self`, and returns how many: each is
    /// answered up to a ReadyForQuery. Values are quoted as literals (trap 55), and only what differs is said (trap 56).
    ///
    /// `in_block`: a transaction block is open. Its first snapshot is for the client to take, so nothing but `SET` is said there.
    pub fn write_difference(&self, from: &Settings, in_block: bool, out: &mut Vec<u8>) -> usize {
        let changed: Vec<_> = self.entries.iter().filter(|(name, value)| from.get(name) != Some(value)).collect();
        // The server reads a whole message in the encoding that is in force when it comes.
        let foreign = changed.iter().any(|(_, value)| !value.is_ascii());
        if foreign {
            build::query(out, b"SET client_encoding TO 'UTF8'");
        }
        build::message(out, b'Q', |out| {
            let mut sql = Statements { out, in_block, calls: 0, any: false };
            IDENTITY.iter().filter(|name| from.get(name).is_some()).for_each(|name| sql.reset(name));
            for (name, value) in from.entries.iter().filter(|(name, _)| !is_identity(name)) {
                // What a new date style does not name stays as it was: it must be given to the server's own.
                let stays = self.get(name).is_some_and(|ours| ours == value || name != DATE_STYLE);
                if !stays {
                    sql.reset(name);
                }
            }
            for (name, value) in changed.iter().filter(|(name, _)| !is_identity(name)) {
                sql.set(name, value);
            }
            if foreign && !changed.iter().any(|(name, _)| name == ENCODING) {
                match self.get(ENCODING) {
                    Some(value) => sql.set(ENCODING, value),
                    None => sql.reset(ENCODING),
                }
            }
            for name in IDENTITY {
                self.get(name).into_iter().for_each(|value| sql.set(name, value));
            }
            out.push(0);
        });
        1 + usize::from(foreign)
    }
}

/// A statement without results of interest that sets this for the transaction at hand. `in_block` as for
/// [`Settings::write_difference`].
pub fn write_local(name: &str, value: &str, in_block: bool) -> Vec<u8> {
    let mut sql = Vec::new();
    if in_block {
        sql.extend_from_slice(b"SET LOCAL ");
        sql.extend_from_slice(name.as_bytes());
        sql.extend_from_slice(b" TO ");
        literal(&mut sql, value);
    } else {
        sql.extend_from_slice(b"SELECT pg_catalog.set_config(");
        literal(&mut sql, name);
        sql.push(b',');
        literal(&mut sql, value);
        sql.extend_from_slice(b",true)");
    }
    sql
}

const ENCODING: &str = "client_encoding";

/// Time-outs that end a `SET`, too.
const STRIKES: [&str; 2] = ["statement_timeout", "transaction_timeout"];

/// Settings, of those that applications often change, whose values are judged by themselves: neither by what is in the catalogs nor
/// by the rights of the user. What an extension or an application defines (`app.tenant`) is taken for such.
const SURE: [&str; 30] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "enable_bitmapscan",
    "enable_hashjoin",
    "enable_indexscan",
    "enable_mergejoin",
    "enable_nestloop",
    "enable_seqscan",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "maintenance_work_mem",
    "plan_cache_mode",
    "row_security",
    "search_path",
    "standard_conforming_strings",
    "statement_timeout",
    "synchronous_commit",
    "timezone",
    "transaction_timeout",
    "work_mem",
];

/// The one setting whose new value is joined with the old one: `SET datestyle TO dmy` changes the order of dates and leaves their style.
pub const DATE_STYLE: &str = "datestyle";

fn is_identity(name: &str) -> bool {
    IDENTITY.contains(&name)
}

fn put(entries: &mut Entries, name: &str, value: Option<Value>) {
    match (entries.binary_search_by(|(key, _)| key.as_str().cmp(name)), value) {
        (Ok(at), Some(value)) => entries[at].1 = value,
        (Ok(at), None) => drop(entries.remove(at)),
        (Err(at), Some(value)) => entries.insert(at, (name.to_owned(), value)),
        (Err(_), None) => {}
    }
}

/// Most calls in one list: servers take 1,664.
const MOST_CALLS: usize = 1000;

/// The text of one Query that sets and resets.
struct Statements<'a> {
    out: &'a mut Vec<u8>,
    /// Only statements that need no snapshot.
    in_block: bool,
    /// How many calls the last statement is a list of, to which others can be added; 0 = it is something else.
    calls: usize,
    any: bool,
}

impl Statements<'_> {
    fn begin(&mut self, calls: bool) {
        let goes_on = calls && (1..MOST_CALLS).contains(&self.calls);
        let separator: &[u8] = match (self.any, goes_on) {
            (false, _) => b"",
            (true, true) => b",",
            (true, false) => b";",
        };
        self.out.extend_from_slice(separator);
        if calls && !goes_on {
            self.out.extend_from_slice(b"SELECT ");
        }
        self.any = true;
        self.calls = match (calls, goes_on) {
            (false, _) => 0,
            (true, true) => self.calls + 1,
            (true, false) => 1,
        };
    }

    fn set(&mut self, name: &str, value: &Value) {
        match value {
            Value::Text(text) if self.in_block && !QUOTED_LISTS.contains(&name) => {
                self.assign(name, std::slice::from_ref(text));
            }
            Value::Text(text) => {
                if let Some(values) = names_of(text).filter(|_| self.in_block) {
                    return self.assign(name, &values);
                }
                self.begin(true);
                self.out.extend_from_slice(b"pg_catalog.set_config(");
                literal(self.out, name);
                self.out.push(b',');
                literal(self.out, text);
                self.out.extend_from_slice(b",false)");
            }
            Value::List(values) => self.assign(name, values),
        }
    }

    fn assign(&mut self, name: &str, values: &[String]) {
        self.begin(false);
        self.out.extend_from_slice(b"SET ");
        self.name(name);
        for (i, value) in values.iter().enumerate() {
            self.out.extend_from_slice(if i == 0 { b" TO " } else { b"," });
            literal(self.out, value);
        }
    }

    fn reset(&mut self, name: &str) {
        self.begin(false);
        self.out.extend_from_slice(b"RESET ");
        self.name(name);
    }

    /// `a.b` is one quoted name per part.
    fn name(&mut self, name: &str) {
        for (i, part) in name.split('.').enumerate() {
            self.out.extend_from_slice(if i == 0 { b"\"" } else { b".\"" });
            self.out.extend(part.bytes().flat_map(|b| std::iter::repeat_n(b, if b == b'"' { 2 } else { 1 })));
            self.out.push(b'"');
        }
    }
}

/// The names in a list of identifiers, if a `SET` of these gives the setting that very text, as the server shows it.
fn names_of(text: &str) -> Option<Vec<String>> {
    let is_plain = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let mut names = Vec::new();
    let mut rest = text;
    loop {
        let name;
        if let Some(quoted) = rest.strip_prefix('"') {
            (name, rest) = quoted_name(quoted)?;
            if is_plain(&name) {
                return None;
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            name = rest[..end].to_owned();
            rest = &rest[end..];
            if !is_plain(&name) {
                return None;
            }
        }
        names.push(name);
        if rest.is_empty() {
            return Some(names);
        }
        rest = rest.strip_prefix(", ")?;
    }
}

/// A literal that means the same whatever `standard_conforming_strings` says.
fn literal(out: &mut Vec<u8>, text: &str) {
    if text.contains('\\') {
        out.extend_from_slice(b" E");
    }
    out.push(b'\'');
    for byte in text.bytes().filter(|b| *b != 0) {
        if byte == b'\'' || byte == b'\\' {
            out.push(byte);
        }
        out.push(byte);
    }
    out.push(b'\'');
}
