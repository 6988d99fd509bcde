//! Reading `pgbouncer.ini`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::ImportError;

/// How deep files may include one another, as in PgBouncer.
const MAX_DEPTH: usize = 10;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub file: Rc<str>,
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A key's value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub text: String,
    pub place: Place,
}

/// A line of `[databases]` or `[users]`: a name, and what it says.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub name: String,
    pub pairs: Vec<(String, String)>,
    pub place: Place,
}

impl Line {
    /// The value of a key; the last one counts.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// The whole configuration, included files and all.
#[derive(Debug, Default)]
pub(super) struct Ini {
    /// Directory of the first file.
    pub dir: PathBuf,
    pub databases: Vec<Line>,
    pub users: Vec<Line>,
    pub peers: Vec<Line>,
    main: BTreeMap<String, Value>,
}

impl Ini {
    pub fn read(file: &Path) -> Result<Self, ImportError> {
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut ini = Self { dir: dir.to_owned(), ..Self::default() };
        ini.read_file(file, &mut String::new(), 0)?;
        Ok(ini)
    }

    /// Takes a key of `[pgbouncer]`: it is dealt with.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.main.remove(key).filter(|value| !value.text.is_empty())
    }

    /// Looks at a key of `[pgbouncer]`.
    pub fn peek(&self, key: &str) -> Option<&Value> {
        self.main.get(key).filter(|value| !value.text.is_empty())
    }

    /// The keys that nobody has taken.
    pub fn left(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.main.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// A path as PgBouncer reads it: from its working directory, for which the directory of the file stands.
    pub fn path(&self, text: &str) -> PathBuf {
        self.dir.join(text)
    }

    fn read_file(&mut self, file: &Path, section: &mut String, depth: usize) -> Result<(), ImportError> {
        let name: Rc<str> = file.display().to_string().into();
        let text =
            std::fs::read_to_string(file).map_err(|source| ImportError::Read { file: name.to_string(), source })?;
        for (number, line) in text.lines().enumerate() {
            let place = Place { file: name.clone(), line: number + 1 };
            let bad = |what: &str| ImportError::Syntax { place: place.to_string(), what: what.to_owned() };
            let line = line.trim();
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            if let Some(include) = line.strip_prefix("%include") {
                if depth == MAX_DEPTH {
                    return Err(bad("files include one another too deeply"));
                }
                let included = self.path(include.trim());
                self.read_file(&included, section, depth + 1)?;
                continue;
            }
            if let Some(rest) = line.strip_prefix('[') {
                let end = rest.find(']').ok_or_else(|| bad("a section's name ends with ]"))?;
                *section = rest[..end].trim().to_ascii_lowercase();
                if !["databases", "users", "pgbouncer", "peers"].contains(&section.as_str()) {
                    return Err(bad("PgBouncer has no such section"));
                }
                continue;
            }
            let (key, value) = split_key(line).ok_or_else(|| bad("expected key = value"))?;
            let pairs = || pairs(value).ok_or_else(|| bad("expected key=value pairs"));
            let list = match section.as_str() {
                "databases" => &mut self.databases,
                "users" => &mut self.users,
                "peers" => &mut self.peers,
                "pgbouncer" => {
                    self.main.insert(key.to_ascii_lowercase(), Value { text: value.to_owned(), place });
                    continue;
                }
                _ => return Err(bad("a key before any section")),
            };
            let line = Line { name: key, pairs: pairs()?, place };
            list.retain(|other| other.name != line.name);
            list.push(line);
        }
        Ok(())
    }
}

/// `key = value`; a key may stand in double quotes, doubled within.
fn split_key(line: &str) -> Option<(String, &str)> {
    let Some(quoted) = line.strip_prefix('"') else {
        let (key, value) = line.split_once('=')?;
        return Some((key.trim().to_owned(), value.trim()));
    };
    let mut key = String::new();
    let mut chars = quoted.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c != '"' {
            key.push(c);
        } else if chars.next_if(|(_, next)| *next == '"').is_some() {
            key.push('"');
        } else {
            return Some((key, quoted[at + 1..].trim_start().strip_prefix('=')?.trim()));
        }
    }
    None
}

/// `key=value key='it''s'`.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, behind) = match after.strip_prefix('\'') {
            Some(quoted) => single_quoted(quoted)?,
            None => {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        found.push((key.trim().to_ascii_lowercase(), value));
        rest = behind.trim_start();
    }
    Some(found)
}

/// A text up to its closing quote, and what is behind it.
fn single_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c != '\'' {
            value.push(c);
        } else if chars.next_if(|(_, next)| *next == '\'').is_some() {
            value.push('\'');
        } else {
            return Some((value, &text[at + 1..]));
        }
    }
    None
}
