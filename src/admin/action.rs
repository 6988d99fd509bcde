//! The commands that change something: what they are called, and how they are written.

use super::command::Word;
use super::help;
use super::wish::Shutdown;
use crate::wire::{ErrorNotice, SqlState};

/// A command that changes something. Databases are as clients name them; `None` = all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// `PAUSE [db]`
    Pause(Option<String>),
    /// `RESUME [db]`
    Resume(Option<String>),
    /// `DISABLE db`
    Disable(String),
    /// `ENABLE db`
    Enable(String),
    /// `DISABLE NODE db.node`
    DisableNode(NodeName),
    /// `ENABLE NODE db.node`
    EnableNode(NodeName),
    /// `SWITCHOVER db` or `SWITCHOVER db.node`
    Switchover {
        /// The database.
        database: String,
        /// The replica that is to be promoted; `None` = the only one.
        replica: Option<String>,
    },
    /// `RECONNECT [db]`
    Reconnect(Option<String>),
    /// `KILL [db]`
    Kill(Option<String>),
    /// `KILL_CLIENT id`
    KillClient(u64),
    /// `SUSPEND`
    Suspend,
    /// `WAIT_CLOSE [db]`
    WaitClose(Option<String>),
    /// `SHUTDOWN [WAIT_FOR_SERVERS | WAIT_FOR_CLIENTS]`
    Shutdown(Shutdown),
    /// `FORGET LEARNED [db]`
    ForgetLearned(Option<String>),
    /// `FORGET ROUTES`
    ForgetRoutes,
    /// `FORGET BREAKERS`
    ForgetBreakers,
    /// `RELOAD`
    Reload,
    /// `SET key = value`
    Set {
        /// The setting as it was written.
        key: String,
        /// Its value.
        value: String,
    },
}

/// A node, by the name of its database in the configuration and its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName {
    /// The database.
    pub database: String,
    /// The node.
    pub node: String,
}

/// The commands, as `SHOW HELP` shows them.
pub const HELP: &[(&str, &str)] = &[
    ("SET key = value", "change a setting until the next RELOAD"),
    ("RELOAD", "read the configuration again"),
    ("PAUSE [db]", "close server connections as they come free; clients wait"),
    ("RESUME [db]", "end PAUSE, KILL or SUSPEND"),
    ("DISABLE db", "refuse new clients"),
    ("ENABLE db", "let new clients in again"),
    ("DISABLE NODE db.node", "send nothing more to a server; of the primary: writes wait"),
    ("ENABLE NODE db.node", "use a server again"),
    ("SWITCHOVER db[.node]", "let writes wait until the replica has everything and is promoted"),
    ("RECONNECT [db]", "open server connections anew as they come free"),
    ("KILL [db]", "drop clients and server connections at once, and pause"),
    ("FORGET LEARNED [db]", "let replicas try again what they have refused (SHOW LEARNED)"),
    ("FORGET BREAKERS", "let statements run again that have failed too often (SHOW BREAKERS)"),
    ("FORGET ROUTES", "count statements from zero again (SHOW ROUTES, SHOW WHATIF)"),
    ("KILL_CLIENT id", "drop a client and its server connection"),
    ("SUSPEND", "read nothing more from clients and servers"),
    ("WAIT_CLOSE [db]", "wait until RECONNECT or RELOAD has taken full effect"),
    ("SHUTDOWN", "end at once"),
    ("SHUTDOWN WAIT_FOR_SERVERS", "end when no server connection is in use"),
    ("SHUTDOWN WAIT_FOR_CLIENTS", "end when the last client has left"),
];

impl Action {
    /// Reads a command of this name; `None` = there is none.
    ///
    /// # Errors
    /// It is written in another way.
    pub fn read(name: &str, words: &[Word]) -> Option<Result<Self, ErrorNotice>> {
        Some(match name {
            "pause" => optional(name, words).map(Self::Pause),
            "resume" => optional(name, words).map(Self::Resume),
            "disable" if is_about_a_node(words) => node(name, words).map(Self::DisableNode),
            "enable" if is_about_a_node(words) => node(name, words).map(Self::EnableNode),
            "disable" => one(name, words).map(Self::Disable),
            "enable" => one(name, words).map(Self::Enable),
            "switchover" => switchover(words),
            "reconnect" => optional(name, words).map(Self::Reconnect),
            "kill" => optional(name, words).map(Self::Kill),
            "kill_client" => client(words).map(Self::KillClient),
            "suspend" => none(name, words, Self::Suspend),
            "forget" => match words {
                [Word::Name(what), rest @ ..] if what.eq_ignore_ascii_case("learned") => {
                    optional("forget learned", rest).map(Self::ForgetLearned)
                }
                [Word::Name(what)] if what.eq_ignore_ascii_case("routes") => Ok(Self::ForgetRoutes),
                [Word::Name(what)] if what.eq_ignore_ascii_case("breakers") => Ok(Self::ForgetBreakers),
                _ => Err(bad("FORGET what? FORGET LEARNED [db], FORGET ROUTES, or FORGET BREAKERS")),
            },
            "wait_close" => optional(name, words).map(Self::WaitClose),
            "shutdown" => shutdown(words).map(Self::Shutdown),
            "reload" => none(name, words, Self::Reload),
            _ => return None,
        })
    }

    /// The tag of its answer.
    pub fn tag(&self) -> String {
        match self {
            Self::Pause(_) => "PAUSE",
            Self::Resume(_) => "RESUME",
            Self::Disable(_) => "DISABLE",
            Self::Enable(_) => "ENABLE",
            Self::DisableNode(_) => "DISABLE NODE",
            Self::EnableNode(_) => "ENABLE NODE",
            Self::Switchover { .. } => "SWITCHOVER",
            Self::Reconnect(_) => "RECONNECT",
            Self::Kill(_) => "KILL",
            Self::KillClient(_) => "KILL_CLIENT",
            Self::Suspend => "SUSPEND",
            Self::WaitClose(_) => "WAIT_CLOSE",
            Self::Shutdown(_) => "SHUTDOWN",
            Self::ForgetLearned(_) => "FORGET LEARNED",
            Self::ForgetRoutes => "FORGET ROUTES",
            Self::ForgetBreakers => "FORGET BREAKERS",
            Self::Reload => "RELOAD",
            Self::Set { key, value } => return format!("SET {key}={}", value.replace('\0', "")),
        }
        .to_owned()
    }
}

fn none(name: &str, words: &[Word], action: Action) -> Result<Action, ErrorNotice> {
    if words.is_empty() { Ok(action) } else { Err(bad(&format!("{} takes no argument", name.to_ascii_uppercase()))) }
}

fn optional(name: &str, words: &[Word]) -> Result<Option<String>, ErrorNotice> {
    match words {
        [] => Ok(None),
        [Word::Name(database) | Word::Str(database)] => Ok(Some(database.clone())),
        _ => Err(bad(&format!("{} takes one database", name.to_ascii_uppercase()))),
    }
}

fn one(name: &str, words: &[Word]) -> Result<String, ErrorNotice> {
    optional(name, words)?.ok_or_else(|| bad("a database is required"))
}

/// `DISABLE node` is about a database of that name.
fn is_about_a_node(words: &[Word]) -> bool {
    matches!(words, [Word::Name(kind), _, ..] if kind.eq_ignore_ascii_case("node"))
}

fn node(name: &str, words: &[Word]) -> Result<NodeName, ErrorNotice> {
    let named = |database: &str, node: &str| NodeName { database: database.to_owned(), node: node.to_owned() };
    match words {
        [_, Word::Name(database) | Word::Str(database), Word::Other(dot), Word::Name(node) | Word::Str(node)]
            if dot == "." =>
        {
            Ok(named(database, node))
        }
        [_, Word::Str(both) | Word::Name(both)] if both.contains('.') => {
            let (database, node) = both.split_once('.').unwrap_or((both, ""));
            Ok(named(database, node))
        }
        _ => Err(bad(&format!("{} NODE takes a database and one of its nodes: db.node", name.to_ascii_uppercase()))),
    }
}

fn switchover(words: &[Word]) -> Result<Action, ErrorNotice> {
    let (database, replica) = match words {
        [Word::Name(database) | Word::Str(database)] => (database, None),
        [Word::Name(database) | Word::Str(database), Word::Other(dot), Word::Name(node) | Word::Str(node)]
            if dot == "." =>
        {
            (database, Some(node.clone()))
        }
        _ => return Err(bad("SWITCHOVER takes a database, or a database and one of its replicas: db.node")),
    };
    Ok(Action::Switchover { database: database.clone(), replica })
}

fn client(words: &[Word]) -> Result<u64, ErrorNotice> {
    let id = match words {
        [Word::Other(text) | Word::Str(text)] => text.parse().ok(),
        _ => None,
    };
    id.ok_or_else(|| {
        ErrorNotice::error(SqlState::INVALID_PARAMETER_VALUE, "invalid client pointer supplied")
            .hint("KILL_CLIENT takes the number in the column id of SHOW CLIENTS.")
    })
}

fn shutdown(words: &[Word]) -> Result<Shutdown, ErrorNotice> {
    match words {
        [] => Ok(Shutdown::Now),
        [Word::Name(how)] if how.eq_ignore_ascii_case("wait_for_servers") => Ok(Shutdown::WaitForServers),
        [Word::Name(how)] if how.eq_ignore_ascii_case("wait_for_clients") => Ok(Shutdown::WaitForClients),
        _ => Err(bad("SHUTDOWN takes nothing, WAIT_FOR_SERVERS or WAIT_FOR_CLIENTS")),
    }
}

fn bad(message: &str) -> ErrorNotice {
    ErrorNotice::error(SqlState::SYNTAX_ERROR, message.to_owned()).hint(help::HINT)
}
