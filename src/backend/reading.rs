//! By which settings a server reads a text when it prepares it. What it has read stays so: the encoding and the backslashes of the
//! text, and those constants that are made values of their types at once (`'2026-03-01 12:00'::timestamptz`), as dates and times are.

use super::Parameters;
use crate::sql::LexOptions;

/// These settings, as servers report them.
const NAMES: [&str; 5] = ["client_encoding", "DateStyle", "IntervalStyle", "TimeZone", "standard_conforming_strings"];

/// Their values.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading([Option<Box<str>>; NAMES.len()]);

/// Whether a setting, by its lower-case name, is one of them.
pub fn decides_reading(name: &str) -> bool {
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether a parameter, as it is reported, is one of them.
pub(super) fn is_parameter(name: &[u8]) -> bool {
    NAMES.iter().any(|known| known.as_bytes() == name)
}

impl Reading {
    /// How texts are read where these parameters hold.
    pub fn new(parameters: &Parameters) -> Self {
        let value = |name: &str| parameters.get(name.as_bytes()).and_then(|value| std::str::from_utf8(value).ok());
        Self(NAMES.map(|name| value(name).map(Box::from)))
    }

    /// Whether it makes a difference for a text: it has a string constant, a backslash, or a character outside ASCII.
    pub fn matters(sql: &[u8]) -> bool {
        let dollars = || memchr::memchr_iter(b'$', sql).filter_map(|at| sql.get(at + 1));
        memchr::memchr2(b'\'', b'\\', sql).is_some()
            || !sql.is_ascii()
            || dollars().any(|behind| !behind.is_ascii_digit())
    }

    /// How a text that is read so is cut into tokens.
    pub fn lex(&self) -> LexOptions {
        let mut lex = LexOptions::default();
        for (name, value) in NAMES.iter().zip(&self.0) {
            value.iter().for_each(|value| lex.observe_parameter(name.as_bytes(), value.as_bytes()));
        }
        lex
    }

    /// What must be set where these parameters hold, so that a text is read as it was: names and values.
    pub fn beyond<'r>(&'r self, parameters: &Parameters) -> impl Iterator<Item = (&'static str, &'r str)> {
        let holds = |name: &str, value: &str| parameters.get(name.as_bytes()) == Some(value.as_bytes());
        let wanted = NAMES.iter().zip(&self.0).filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        wanted.filter(move |(name, value)| !holds(name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_36_what_a_text_depends_on() {
        for plain in ["SELECT $1, a FROM t WHERE b = 12.5 AND c > $23", ""] {
            assert!(!Reading::matters(plain.as_bytes()), "{plain}");
        }
        for text in ["SELECT 'a'", "SELECT ö", "SELECT $$a$$", "SELECT $a$a$a$", "SELECT E\\"] {
            assert!(Reading::matters(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_to_be_set() {
        let mut parameters = Parameters::default();
        parameters.set(b"TimeZone", b"UTC");
        parameters.set(b"application_name", b"x");
        let before = parameters.reading();
        let reading = Reading::new(&parameters);
        assert_eq!(reading.beyond(&parameters).count(), 0);
        parameters.set(b"application_name", b"y");
        assert_eq!(parameters.reading(), before);
        parameters.set(b"TimeZone", b"Asia/Tokyo");
        assert_ne!(parameters.reading(), before);
        assert_eq!(reading.beyond(&parameters).collect::<Vec<_>>(), [("TimeZone", "UTC")]);
    }
}
