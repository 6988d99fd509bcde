//! What the statements of a text do to the state of a session that Trunkline keeps itself: settings, savepoints,
//! channels, SQL-level prepared statements.
//!
//! Read only for texts whose [`Effects`](super::Effects) say that there is something to read. Whether a change came into force is
//! told by the server: one CommandComplete answers each statement of a text, in order.

use super::cursor::Cursor;
use super::lexer::{Kind, LexOptions, Token};
use super::settings::{SettingValue, is_own_name, read_change};
use super::split::{Splitter, StatementTokens};

mod set_config;
#[cfg(test)]
mod tests;
pub(super) mod unicode_name;

/// One change to the session's state, in force when its statement has succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A setting gets a value for the session (`SET`, `set_config(…, false)`, `SET SESSION CHARACTERISTICS`).
    Set {
        /// Lower-case name.
        name: String,
        /// Its value; [`SettingValue::Default`] = what the session started with.
        value: SettingValue,
    },
    /// `RESET ALL`.
    ResetAll,
    /// `DISCARD ALL`.
    DiscardAll,
    /// `SAVEPOINT`.
    Savepoint(Box<[u8]>),
    /// `RELEASE`.
    Release(Box<[u8]>),
    /// `ROLLBACK TO`.
    RollbackTo(Box<[u8]>),
    /// `LISTEN`.
    Listen(Box<[u8]>),
    /// `UNLISTEN` of one channel.
    Unlisten(Box<[u8]>),
    /// `UNLISTEN *`.
    UnlistenAll,
    /// SQL `PREPARE`: the name, and the statement's whole text without comments before or after it.
    Prepare {
        /// The name as the server stores it.
        name: Box<[u8]>,
        /// `PREPARE name … AS …`; of a text of one statement the whole text, which is what the server keeps.
        text: Box<[u8]>,
    },
    /// `DEALLOCATE` of one name.
    Deallocate(Box<[u8]>),
    /// `DEALLOCATE ALL`.
    DeallocateAll,
    /// Settings were changed in a way that the text does not tell.
    UnknownSetting,
}

/// A change and the statement that makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementChange {
    /// Index of the statement in its text, empty statements not counted.
    pub statement: u32,
    /// What it changes.
    pub change: Change,
}

/// The value of a parameter of the statement, as text; `None` when it is NULL, not given, or not known.
pub type ParameterText<'a> = &'a dyn Fn(usize) -> Option<Vec<u8>>;

/// Reads what a text changes. `parameter` gives the text of `$n` (counted from 1).
pub fn changes(sql: &[u8], opts: LexOptions, parameter: ParameterText<'_>) -> Vec<StatementChange> {
    let mut splitter = Splitter::new(sql, opts);
    let mut tokens = StatementTokens::default();
    let mut found = Vec::new();
    let mut statement = 0;
    while splitter.next(&mut tokens) {
        let mut add = |change| found.push(StatementChange { statement, change });
        if tokens.bad || tokens.cut || !(opts.safe_encoding || splitter.text().is_ascii()) {
            if looks_like_setting(splitter.text(), &tokens.tokens) {
                add(Change::UnknownSetting);
            }
        } else {
            read(Cursor::new(splitter.text(), &tokens.tokens).with_options(opts), parameter, &mut add);
        }
        statement += 1;
    }
    if let ([StatementChange { change: Change::Prepare { text, .. }, .. }], 1) = (found.as_mut_slice(), statement) {
        *text = splitter.text().into();
    }
    found
}

/// Of a statement that cannot be read: whether it may be about settings.
fn looks_like_setting(text: &[u8], tokens: &[Token]) -> bool {
    let cursor = Cursor::new(text, tokens);
    cursor.is("set") || cursor.is("reset") || tokens.iter().any(|token| is_set_config(text, *token))
}

fn is_set_config(text: &[u8], token: Token) -> bool {
    super::cursor::identifier(text, token).is_some_and(|name| &*name == b"set_config")
}

fn read(mut cursor: Cursor<'_>, parameter: ParameterText<'_>, add: &mut dyn FnMut(Change)) {
    let whole = cursor;
    if cursor.is("set") || cursor.is("reset") {
        return read_setting(cursor, add);
    }
    if cursor.eat("savepoint") {
        return name(cursor).map(Change::Savepoint).into_iter().for_each(add);
    }
    if cursor.eat("release") {
        eat_unless_last(&mut cursor, "savepoint");
        return name(cursor).map(Change::Release).into_iter().for_each(add);
    }
    if cursor.eat("rollback") || cursor.eat("abort") {
        if !cursor.eat("work") {
            cursor.eat("transaction");
        }
        if cursor.eat("to") {
            eat_unless_last(&mut cursor, "savepoint");
            name(cursor).map(Change::RollbackTo).into_iter().for_each(add);
        }
        return;
    }
    if cursor.eat("listen") {
        return name(cursor).map(Change::Listen).into_iter().for_each(add);
    }
    if cursor.eat("unlisten") {
        let change = if cursor.is_sign("*") { Some(Change::UnlistenAll) } else { name(cursor).map(Change::Unlisten) };
        return change.into_iter().for_each(add);
    }
    if cursor.eat("prepare") {
        let is_two_phase =
            cursor.is("transaction") && cursor.rest().get(1).is_some_and(|token| token.kind == Kind::Str);
        return match name(cursor) {
            Some(name) if !is_two_phase => add(Change::Prepare { name, text: text_of(whole) }),
            _ => {}
        };
    }
    if cursor.eat("deallocate") {
        eat_unless_last(&mut cursor, "prepare");
        let change = if cursor.is("all") { Some(Change::DeallocateAll) } else { name(cursor).map(Change::Deallocate) };
        return change.into_iter().for_each(add);
    }
    if cursor.eat_all(&["discard", "all"]) {
        return add(Change::DiscardAll);
    }
    if cursor.rest().iter().any(|token| is_set_config(cursor.text(), *token)) {
        set_config::read(cursor, parameter, add);
    }
}

fn read_setting(mut cursor: Cursor<'_>, add: &mut dyn FnMut(Change)) {
    if let Some(change) = read_change(cursor) {
        let for_transaction =
            matches!(&*change.name, "transaction_isolation" | "transaction_read_only" | "transaction_deferrable");
        // `SET seed` sets nothing that could be set again.
        if !change.local && !for_transaction && change.name != "seed" && !is_own_name(&change.name) {
            add(Change::Set { name: change.name, value: change.value });
        }
        return;
    }
    if cursor.eat_all(&["reset", "all"]) {
        return add(Change::ResetAll);
    }
    cursor.next();
    if cursor.is("local") || cursor.is("constraints") || cursor.is("transaction") {
        return;
    }
    if cursor.eat("session") && cursor.is("transaction") {
        return;
    }
    match cursor.eat_all(&["characteristics", "as", "transaction"]) {
        true => read_characteristics(cursor, add),
        false => add(Change::UnknownSetting),
    }
}

/// The modes after `SET SESSION CHARACTERISTICS AS TRANSACTION`: each is a setting.
fn read_characteristics(mut cursor: Cursor<'_>, add: &mut dyn FnMut(Change)) {
    const MODES: [(&[&str], &str, &str); 8] = [
        (&["read", "only"], "default_transaction_read_only", "on"),
        (&["read", "write"], "default_transaction_read_only", "off"),
        (&["deferrable"], "default_transaction_deferrable", "on"),
        (&["not", "deferrable"], "default_transaction_deferrable", "off"),
        (&["isolation", "level", "serializable"], "default_transaction_isolation", "serializable"),
        (&["isolation", "level", "repeatable", "read"], "default_transaction_isolation", "repeatable read"),
        (&["isolation", "level", "read", "committed"], "default_transaction_isolation", "read committed"),
        (&["isolation", "level", "read", "uncommitted"], "default_transaction_isolation", "read uncommitted"),
    ];
    while !cursor.at_end() {
        cursor.eat_sign(",");
        match MODES.iter().find(|(words, ..)| cursor.eat_all(words)) {
            Some((_, name, value)) => {
                add(Change::Set { name: (*name).to_owned(), value: SettingValue::List(vec![(*value).to_owned()]) });
            }
            None => return add(Change::UnknownSetting),
        }
    }
}

/// The name of a savepoint, as the server stores it.
pub(super) fn point_name(cursor: Cursor<'_>) -> Option<Box<[u8]>> {
    name(cursor)
}

/// The identifier that comes next.
fn name(mut cursor: Cursor<'_>) -> Option<Box<[u8]>> {
    match cursor.identifier() {
        Some(name) => Some(name.into_owned().into_boxed_slice()),
        None => unicode_name::read(cursor).map(String::into_bytes).map(Vec::into_boxed_slice),
    }
}

/// Passes over a noise word, which is a name when nothing follows it.
fn eat_unless_last(cursor: &mut Cursor<'_>, word: &str) {
    if cursor.is(word) && cursor.rest().len() > 1 {
        cursor.next();
    }
}

fn text_of(cursor: Cursor<'_>) -> Box<[u8]> {
    match cursor.rest() {
        [first, .., last] => cursor.text()[first.start as usize..last.end as usize].into(),
        _ => Box::default(),
    }
}
