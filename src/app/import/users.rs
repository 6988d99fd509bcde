//! The list of users (`auth_file`), and the section `[users]`.

use std::path::Path;
use std::rc::Rc;

use super::ImportError;
use super::ini::{Ini, Place};
use super::main_section::{Shared, count, time, word};
use super::notes::Notes;
use super::out::{Toml, key};

/// A user and its secret: plain, an md5 hash or a SCRAM verifier.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub name: String,
    pub secret: String,
    pub place: Place,
}

impl Entry {
    /// Whether servers can be logged in to with it.
    pub fn is_plain(&self) -> bool {
        let md5 = self.secret.len() == 35
            && self.secret.starts_with("md5")
            && self.secret[3..].bytes().all(|b| b.is_ascii_hexdigit());
        !self.secret.is_empty() && !md5 && !self.secret.starts_with("SCRAM-SHA-256$")
    }
}

/// All users of the list.
#[derive(Debug, Default)]
pub(super) struct Userlist(pub Vec<Entry>);

impl Userlist {
    pub fn read(file: Option<&Path>, ini: &mut Ini, notes: &mut Notes) -> Result<Self, ImportError> {
        let named = ini.take("auth_file");
        let file = match (file, &named) {
            (Some(file), _) => file.to_owned(),
            (None, Some(named)) => ini.path(&named.text),
            (None, None) => return Ok(Self::default()),
        };
        let name: Rc<str> = file.display().to_string().into();
        let text =
            std::fs::read_to_string(&file).map_err(|source| ImportError::Read { file: name.to_string(), source })?;
        let mut list = Self::default();
        for (number, line) in text.lines().enumerate() {
            let place = Place { file: name.clone(), line: number + 1 };
            let line = line.trim();
            // PgBouncer passes over whatever does not begin with a quote.
            if !line.starts_with('"') {
                continue;
            }
            let Some((name, rest)) = double_quoted(line) else {
                notes.add(&place, "not a user and a secret in quotes: left out");
                continue;
            };
            let Some((secret, _)) = double_quoted(rest.trim_start()) else {
                notes.add(&place, format!("user {name} has no secret in quotes: left out"));
                continue;
            };
            list.0.retain(|other| other.name != name);
            list.0.push(Entry { name, secret, place });
        }
        Ok(list)
    }

    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.name == name)
    }
}

/// A text in double quotes, doubled within, and what is behind it.
fn double_quoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut chars = inner.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c != '"' {
            value.push(c);
        } else if chars.next_if(|(_, next)| *next == '"').is_some() {
            value.push('"');
        } else {
            return Some((value, &inner[at + 1..]));
        }
    }
    None
}

/// `[users.NAME]` for everybody in the list or in the section.
pub(super) fn write(ini: &mut Ini, users: &Userlist, shared: &Shared, toml: &mut Toml, notes: &mut Notes) {
    let most_servers = ini.take("max_user_connections");
    let most_clients = ini.take("max_user_client_connections");
    let mut names: Vec<&str> = users.0.iter().map(|entry| entry.name.as_str()).collect();
    names.extend(ini.users.iter().map(|line| line.name.as_str()).filter(|name| users.get(name).is_none()));
    for (key, limit) in [("max_user_connections", &most_servers), ("max_user_client_connections", &most_clients)] {
        if let Some(limit) = limit.as_ref().filter(|limit| shared.has_auth_query && limit.text != "0") {
            let text = format!("{key}: holds for the users written here only, not for those that auth_query finds");
            notes.add(&limit.place, text);
        }
    }
    for name in names {
        let line = ini.users.iter().find(|line| line.name == name);
        toml.section_always(&format!("users.{}", key(name)));
        match users.get(name) {
            Some(entry) if entry.secret.is_empty() => notes.add(
                &entry.place,
                format!("user {name} has an empty password, by which nobody can log in: none was written"),
            ),
            Some(entry) => toml.secret("password", &entry.secret),
            None => {}
        }
        let own = |key: &str| line.and_then(|line| line.get(key));
        let limit = |key: &str, of_all: &Option<super::ini::Value>| {
            own(key).map(str::to_owned).or_else(|| of_all.as_ref().map(|value| value.text.clone()))
        };
        let place = line.map_or_else(|| users.get(name).map(|entry| &entry.place), |line| Some(&line.place));
        let Some(place) = place else { continue };
        let mut limited = |key: &str, text: Option<String>| {
            if let Some(n) = text.and_then(|text| count(&text, place, notes)).filter(|n| *n > 0) {
                toml.raw(key, n);
            }
        };
        limited("max_clients", limit("max_user_client_connections", &most_clients));
        limited("max_server_connections", limit("max_user_connections", &most_servers));
        let Some(line) = line else { continue };
        for (from, to) in
            [("client_idle_timeout", "client_idle_timeout"), ("idle_transaction_timeout", "idle_transaction_timeout")]
        {
            if let Some(text) = line.get(from).and_then(|text| time(text, place, notes)) {
                toml.text(to, &text);
            }
        }
        toml.section(&format!("users.{}.pool", key(name)));
        for (from, value) in &line.pairs {
            match from.as_str() {
                "pool_mode" => word(toml, "mode", value),
                "pool_size" => number(toml, "size", value, place, notes),
                "reserve_pool_size" => number(toml, "reserve_size", value, place, notes),
                "query_timeout" | "transaction_timeout" => {
                    if let Some(text) = time(value, place, notes) {
                        toml.text(from, &text);
                    }
                }
                "max_user_connections"
                | "max_user_client_connections"
                | "client_idle_timeout"
                | "idle_transaction_timeout" => {}
                other => notes.add(place, format!("{other} of user {name}: Trunkline has no such setting of a user")),
            }
        }
    }
}

fn number(toml: &mut Toml, key: &str, text: &str, place: &Place, notes: &mut Notes) {
    if let Some(n) = count(text, place, notes) {
        toml.raw(key, n);
    }
}
