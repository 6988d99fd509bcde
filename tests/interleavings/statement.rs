//! The statements of these tests: what they do to a scripted server, told by their text, and whose they are, told by a mark in it.

use std::fmt;

/// Names a statement: the session that sent it, and its number there. Written `c12-5` into texts, parameters and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark {
    /// The session; no number is used twice.
    pub session: u32,
    /// The number of the statement in its session.
    pub number: u32,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}-{}", self.session, self.number)
    }
}

impl Mark {
    /// How many rows a read of this mark has.
    pub fn rows(self) -> usize {
        1 + self.number as usize % 3
    }

    /// The marks in these bytes.
    pub fn all_in(bytes: &[u8]) -> Vec<Self> {
        let text = String::from_utf8_lossy(bytes);
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        words.filter_map(Self::of_word).collect()
    }

    fn of_word(word: &str) -> Option<Self> {
        let (session, number) = word.strip_prefix('c')?.split_once('-')?;
        Some(Self { session: session.parse().ok()?, number: number.parse().ok()? })
    }
}

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No statement at all.
    Empty,
    Begin,
    Commit,
    Rollback,
    /// `app.x` becomes its mark.
    Set,
    /// `app.x` becomes empty.
    Reset,
    DiscardAll,
    CopyIn,
    CopyOut,
    /// Rows are read.
    Read,
    /// One row is written, and returned.
    Write,
    /// Writes though its text does not look like it: a standby refuses it.
    HiddenWrite,
    /// What Trunkline itself asks and these servers do not know.
    Unknown,
}

impl Kind {
    /// By the text.
    pub fn of(text: &str) -> Self {
        let text = text.trim();
        let starts = |word: &str| text.starts_with(word);
        match () {
            () if text.is_empty() => Self::Empty,
            () if starts("BEGIN") => Self::Begin,
            () if starts("COMMIT") => Self::Commit,
            () if starts("ROLLBACK") => Self::Rollback,
            () if starts("SELECT pg_catalog.set_config(") || starts("SET ") => Self::Set,
            () if starts("RESET") => Self::Reset,
            () if starts("DISCARD ALL") => Self::DiscardAll,
            () if starts("COPY t FROM") => Self::CopyIn,
            () if starts("COPY (") => Self::CopyOut,
            () if starts("SELECT hidden") => Self::HiddenWrite,
            () if starts("SELECT echo") => Self::Read,
            () if starts("INSERT") => Self::Write,
            () => Self::Unknown,
        }
    }

    /// Whether something is there afterwards that was not before.
    pub fn writes(self) -> bool {
        matches!(self, Self::CopyIn | Self::Write | Self::HiddenWrite)
    }

    /// Whether it has rows.
    pub fn returns(self) -> bool {
        matches!(self, Self::Read | Self::Write | Self::HiddenWrite)
    }

    /// How many rows it has.
    pub fn rows(self, mark: Option<Mark>) -> usize {
        match self {
            Self::Read => mark.map_or(1, Mark::rows),
            Self::Write | Self::HiddenWrite => 1,
            _ => 0,
        }
    }

    /// The tag of its completion.
    pub fn tag(self, rows: usize) -> String {
        match self {
            Self::Begin => "BEGIN".to_owned(),
            Self::Commit => "COMMIT".to_owned(),
            Self::Rollback => "ROLLBACK".to_owned(),
            Self::Set => "SET".to_owned(),
            Self::Reset => "RESET".to_owned(),
            Self::DiscardAll => "DISCARD ALL".to_owned(),
            Self::CopyIn | Self::CopyOut => format!("COPY {rows}"),
            Self::Write => format!("INSERT 0 {rows}"),
            Self::Read | Self::HiddenWrite => format!("SELECT {rows}"),
            Self::Empty | Self::Unknown => String::new(),
        }
    }

    /// Its text with this mark, or with a parameter where the mark would be, for those that can have one.
    pub fn text(self, mark: Mark, parameter: bool, variant: u32) -> String {
        let value = if parameter { "$1".to_owned() } else { format!("'{mark}'") };
        match self {
            Self::Empty | Self::Unknown => String::new(),
            Self::Begin => format!("BEGIN /* {mark} */"),
            Self::Commit => format!("COMMIT /* {mark} */"),
            Self::Rollback => format!("ROLLBACK /* {mark} */"),
            Self::Set => format!("SET app.x TO '{mark}'"),
            Self::Reset => "RESET app.x".to_owned(),
            Self::DiscardAll => "DISCARD ALL".to_owned(),
            Self::CopyIn => format!("COPY t FROM STDIN /* {mark} */"),
            Self::CopyOut => format!("COPY (SELECT '{mark}') TO STDOUT"),
            Self::Read => format!("SELECT echo FROM t WHERE variant = {variant} AND mark = {value}"),
            Self::Write => format!("INSERT INTO t VALUES ({variant}, {value}) RETURNING echo"),
            Self::HiddenWrite => format!("SELECT hidden{variant}({value})"),
        }
    }
}

/// What `app.x` becomes by a `SET` or one of Trunkline's `set_config`; `None` = it is about other settings only.
pub fn value_set(text: &str) -> Option<String> {
    let after = ["app.x TO ", "'app.x',", "\"app\".\"x\" TO "].iter().find_map(|how| text.split(how).nth(1))?;
    Some(after.trim_start_matches([' ', 'E']).trim_start_matches('\'').split('\'').next()?.to_owned())
}
