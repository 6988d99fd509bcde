//! The console's language: one command per statement, names in any case and with or without quotes.

use std::sync::Arc;

use super::action::Action;
use super::help;
use super::rights::Rights;
use super::select::{self, Select};
use super::tables::{self, Table, route};
use super::value::{Column, Kind, text as text_column};
use crate::config::nearest;
use crate::sql::{Kind as TokenKind, LexOptions, Lexer, Token};
use crate::wire::{ErrorNotice, SqlState};

/// A command that was understood.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// `SHOW <table>`
    Table(&'static Table),
    /// `SELECT … FROM <table>`
    Select(Arc<Select>),
    /// `SHOW HELP`
    Help,
    /// `SHOW <setting>` of those that drivers ask for when they connect.
    Setting(&'static Setting),
    /// `SHOW ROUTE '<sql>' [database]`
    Route {
        /// The text to explain; `None` = the statement's parameter.
        sql: Option<String>,
        /// Whose lists of functions hold; `None` = the only database's.
        database: Option<String>,
    },
    /// A command that changes something.
    Act(Action),
    /// `BEGIN`: drivers that are not in autocommit mode send it before anything else.
    Begin,
    /// `COMMIT` or `ROLLBACK`.
    End(&'static str),
    /// `DEALLOCATE <name>`; `None` = all prepared statements.
    Deallocate(Option<String>),
    /// What drivers say when they connect or reset; it changes nothing. The value is the tag.
    Accepted(&'static str),
}

/// A setting and the value that PgBouncer fakes for it.
#[derive(Debug, PartialEq)]
pub struct Setting {
    /// The column of the answer, which is named like the setting.
    pub column: Column,
    /// The value.
    pub value: &'static str,
}

const SETTINGS: &[Setting] = &[
    Setting { column: text_column("client_encoding"), value: "UTF8" },
    Setting { column: text_column("default_transaction_isolation"), value: "read committed" },
    Setting { column: text_column("standard_conforming_strings"), value: "on" },
    Setting { column: text_column("datestyle"), value: "ISO" },
    Setting { column: text_column("timezone"), value: "GMT" },
];

/// Tags of what forgets every prepared statement.
pub const DISCARD_ALL: &str = "DISCARD ALL";
/// See [`DISCARD_ALL`].
pub const DEALLOCATE_ALL: &str = "DEALLOCATE ALL";

/// Settings of a session that drivers set when they connect. They mean nothing here.
const SETTABLE: &[&str] = &[
    "application_name",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "extra_float_digits",
    "intervalstyle",
    "names",
    "standard_conforming_strings",
    "statement_timeout",
    "timezone",
];

impl Command {
    /// The columns of its answer; empty = it returns no rows.
    pub fn columns(&self) -> Vec<(&str, Kind)> {
        let columns = match self {
            Self::Table(table) => table.columns,
            Self::Select(select) => return select.columns(),
            Self::Setting(setting) => std::slice::from_ref(&setting.column),
            Self::Route { .. } => route::COLUMNS,
            _ => &[],
        };
        columns.iter().map(|column| (column.name, column.kind)).collect()
    }

    /// Types of its parameters.
    pub fn parameters(&self) -> &[Kind] {
        match self {
            Self::Route { sql: None, .. } => &[Kind::Text],
            Self::Select(select) => select.parameters(),
            _ => &[],
        }
    }

    /// The rights that it needs.
    pub fn needs(&self) -> Rights {
        match self {
            Self::Act(_) => Rights::Admin,
            _ => Rights::Stats,
        }
    }
}

/// A token, as far as the console cares.
#[derive(Debug, Clone, PartialEq)]
pub enum Word {
    /// A name, quoted or not.
    Name(String),
    /// A string.
    Str(String),
    /// `$1` and the like.
    Param,
    /// Anything else as it stands: numbers, operators.
    Other(String),
}

/// The statements of a text; empty ones are left out.
#[derive(Debug)]
pub struct Statements(Vec<(Vec<Word>, String)>);

impl Statements {
    /// Cuts a text at its semicolons. Comments vanish.
    ///
    /// # Errors
    /// A quote or comment that does not end.
    pub fn of(text: &str) -> Result<Self, ErrorNotice> {
        let mut lexer = Lexer::new(text.as_bytes(), LexOptions::default());
        let mut statements = vec![(Vec::new(), 0..0)];
        while let Some(token) = lexer.next_token() {
            match token.kind {
                TokenKind::Semicolon => statements.push((Vec::new(), token.end as usize..token.end as usize)),
                _ => {
                    let word = word(token, text)?;
                    if let Some((words, whole)) = statements.last_mut() {
                        words.push(word);
                        whole.end = token.end as usize;
                    }
                }
            }
        }
        statements.retain(|(words, _)| !words.is_empty());
        let whole = |place: std::ops::Range<usize>| text.get(place).unwrap_or_default().to_owned();
        Ok(Self(statements.into_iter().map(|(words, place)| (words, whole(place))).collect()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What each of them says.
    pub fn commands(&self) -> impl Iterator<Item = Result<Command, ErrorNotice>> + '_ {
        self.0.iter().map(|(words, text)| command(words, text))
    }
}

fn word(token: Token, text: &str) -> Result<Word, ErrorNotice> {
    let piece = text.get(token.start as usize..token.end as usize).unwrap_or_default();
    Ok(match token.kind {
        TokenKind::Word => Word::Name(piece.to_ascii_lowercase()),
        TokenKind::QuotedWord => {
            let inner = piece.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(piece);
            Word::Name(inner.replace("\"\"", "\""))
        }
        // Kinds of strings that mean nothing here may still stand in SQL that is about to be refused as a whole.
        TokenKind::Str => string(piece).map_or_else(|| Word::Other(piece.to_owned()), Word::Str),
        TokenKind::Param => Word::Param,
        TokenKind::Bad => {
            let message = "unterminated quoted string or comment";
            return Err(ErrorNotice::error(SqlState::SYNTAX_ERROR, message).hint(help::HINT));
        }
        _ => Word::Other(piece.to_owned()),
    })
}

/// The value of `'…'` (in one piece) or `$tag$…$tag$`.
fn string(piece: &str) -> Option<String> {
    if let Some(rest) = piece.strip_prefix('\'') {
        let inner = rest.strip_suffix('\'')?;
        let value = inner.replace("''", "\0");
        return (!value.contains('\'')).then(|| value.replace('\0', "'"));
    }
    let end = piece.strip_prefix('$')?.find('$')? + 2;
    let (tag, rest) = piece.split_at(end);
    rest.strip_suffix(tag).map(str::to_owned)
}

fn command(words: &[Word], text: &str) -> Result<Command, ErrorNotice> {
    let [Word::Name(verb), rest @ ..] = words else { return Err(unknown("")) };
    let verb = verb.to_ascii_lowercase();
    if let Some(action) = Action::read(&verb, rest) {
        return action.map(Command::Act);
    }
    match verb.as_str() {
        "show" => show(rest),
        // `SELECT x` is `SHOW x`, as in PgBouncer; everything else of SQL is not for the console.
        "select" => match rest {
            [Word::Name(_)] => show(rest),
            [Word::Name(name), ..] if name.eq_ignore_ascii_case("route") => show(rest),
            // asyncpg's pool says it when a connection comes back.
            [Word::Name(name), ..] if name.eq_ignore_ascii_case("pg_advisory_unlock_all") => {
                Ok(Command::Accepted("SELECT 1"))
            }
            _ => match select::parse(text)? {
                Some(select) => Ok(Command::Select(Arc::new(select))),
                None => Err(no_sql()),
            },
        },
        "begin" | "start" => Ok(Command::Begin),
        "commit" | "end" => Ok(Command::End("COMMIT")),
        "rollback" | "abort" => Ok(Command::End("ROLLBACK")),
        "set" => set(rest),
        "discard" => Ok(Command::Accepted(DISCARD_ALL)),
        "reset" => Ok(Command::Accepted("RESET")),
        "unlisten" => Ok(Command::Accepted("UNLISTEN")),
        "close" => Ok(Command::Accepted("CLOSE CURSOR ALL")),
        "deallocate" => deallocate(rest),
        "insert" | "update" | "delete" | "with" | "create" | "drop" | "alter" | "explain" | "copy" | "values"
        | "table" | "declare" | "fetch" | "analyze" | "vacuum" | "truncate" | "grant" | "do" | "call" => Err(no_sql()),
        name => Err(unknown(name)),
    }
}

fn show(words: &[Word]) -> Result<Command, ErrorNotice> {
    let [Word::Name(name), rest @ ..] = words else {
        return match words {
            [] => Ok(Command::Help),
            _ => Err(ErrorNotice::error(SqlState::SYNTAX_ERROR, "SHOW what?").hint(help::HINT)),
        };
    };
    let name = name.to_ascii_lowercase();
    if name == "route" {
        return route(rest);
    }
    let found = if name == "help" {
        Some(Command::Help)
    } else {
        let table = tables::ALL.iter().find(|table| table.name == name).map(Command::Table);
        table.or_else(|| SETTINGS.iter().find(|setting| setting.column.name == name).map(Command::Setting))
    };
    match found {
        Some(_) if !rest.is_empty() => Err(trailing(&format!("SHOW {}", name.to_ascii_uppercase()))),
        Some(command) => Ok(command),
        None => {
            let known = tables::ALL.iter().map(|table| table.name).chain(["help", "route"]);
            let hint = match nearest(&name, known) {
                Some(meant) => format!("Did you mean SHOW {}? {}", meant.to_ascii_uppercase(), help::HINT),
                None => help::HINT.to_owned(),
            };
            let message = format!("unknown table or setting \"{name}\"");
            Err(ErrorNotice::error(SqlState::UNDEFINED_OBJECT, message).hint(hint))
        }
    }
}

fn route(words: &[Word]) -> Result<Command, ErrorNotice> {
    let (sql, rest) = match words {
        [Word::Str(sql), rest @ ..] => (Some(sql.clone()), rest),
        [Word::Param, rest @ ..] => (None, rest),
        _ => (None, words),
    };
    match rest {
        [] if !words.is_empty() => Ok(Command::Route { sql, database: None }),
        [Word::Name(database)] if words.len() > 1 => Ok(Command::Route { sql, database: Some(database.clone()) }),
        _ => Err(ErrorNotice::error(SqlState::SYNTAX_ERROR, "SHOW ROUTE needs a statement in '…' or $$…$$")
            .hint("SHOW ROUTE 'SELECT 1'; or SHOW ROUTE $$SELECT 'x'$$ database;")),
    }
}

fn deallocate(words: &[Word]) -> Result<Command, ErrorNotice> {
    let is = |name: &str, word| name.eq_ignore_ascii_case(word);
    match words {
        [Word::Name(name)] | [Word::Name(_), Word::Name(name)] if is(name, "all") => Ok(Command::Deallocate(None)),
        [Word::Name(name)] => Ok(Command::Deallocate(Some(name.clone()))),
        [Word::Name(word), Word::Name(name)] if is(word, "prepare") => Ok(Command::Deallocate(Some(name.clone()))),
        _ => Err(ErrorNotice::error(SqlState::SYNTAX_ERROR, "DEALLOCATE what?").hint("DEALLOCATE ALL, or a name.")),
    }
}

fn set(words: &[Word]) -> Result<Command, ErrorNotice> {
    if let Some(action) = set_action(words) {
        return Ok(Command::Act(action));
    }
    let mut names = words.iter().filter_map(|word| match word {
        Word::Name(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let first = names.next().filter(|name| !matches!(name.as_str(), "session" | "local")).or_else(|| names.next());
    match first {
        // `SET TIME ZONE`, `SET SESSION CHARACTERISTICS AS TRANSACTION`, `SET TRANSACTION`
        Some(name)
            if SETTABLE.contains(&name.as_str())
                || matches!(name.as_str(), "time" | "characteristics" | "transaction") =>
        {
            Ok(Command::Accepted("SET"))
        }
        Some(_) => Err(ErrorNotice::error(SqlState::SYNTAX_ERROR, "bad arguments").hint("SET key = value")),
        None => Err(ErrorNotice::error(SqlState::SYNTAX_ERROR, "SET what?").hint(help::HINT)),
    }
}

/// `SET key = value`, where the key may be `section.key`, unless it is something that drivers say.
fn set_action(words: &[Word]) -> Option<Action> {
    let is = |word: &Word, text: &str| matches!(word, Word::Other(other) if other == text);
    let (key, rest) = match words {
        [Word::Name(section), dot, Word::Name(key), rest @ ..] if is(dot, ".") => (format!("{section}.{key}"), rest),
        [Word::Name(key), rest @ ..] => (key.clone(), rest),
        _ => return None,
    };
    if SETTABLE.contains(&key.to_ascii_lowercase().as_str()) {
        return None;
    }
    let rest = match rest {
        [sign, rest @ ..] if is(sign, "=") => rest,
        [Word::Name(to), rest @ ..] if to.eq_ignore_ascii_case("to") => rest,
        _ => return None,
    };
    let text = |word: &Word| match word {
        Word::Name(text) | Word::Str(text) | Word::Other(text) => Some(text.clone()),
        Word::Param => None,
    };
    let value: Option<Vec<String>> = rest.iter().map(text).collect();
    // `200ms` and `app,ops` are several words.
    value.filter(|value| !value.is_empty()).map(|value| Action::Set { key, value: value.concat() })
}

fn trailing(after: &str) -> ErrorNotice {
    let message = format!("{} takes no argument", after.to_ascii_uppercase());
    ErrorNotice::error(SqlState::SYNTAX_ERROR, message).hint(help::HINT)
}

fn unknown(name: &str) -> ErrorNotice {
    let message = match name {
        "" => "unknown command".to_owned(),
        name => format!("unknown command \"{name}\""),
    };
    ErrorNotice::error(SqlState::SYNTAX_ERROR, message).hint(help::HINT)
}

fn no_sql() -> ErrorNotice {
    let message = "this is Trunkline's console: it understands its own commands, not SQL";
    ErrorNotice::error(SqlState::FEATURE_NOT_SUPPORTED, message)
        .hint("SHOW HELP lists the commands. For SQL, connect to one of the databases that SHOW DATABASES lists.")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
