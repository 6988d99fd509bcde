//! ErrorResponse and NoticeResponse: made, and read from a server.

use std::borrow::Cow;
use std::fmt;

use super::{SqlState, split_cstr};

/// Severity of an [`ErrorNotice`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed, the session goes on.
    Error,
    /// The session ends.
    Fatal,
    /// The server ends.
    Panic,
    /// Information.
    Notice,
    /// A warning.
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Panic => "PANIC",
            Self::Notice => "NOTICE",
            Self::Warning => "WARNING",
        }
    }
}

/// An error or notice in PostgreSQL's form: what happened, and what to do (the hint).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorNotice {
    /// Severity; `Fatal` means that the sender closes the connection.
    pub severity: Severity,
    /// SQLSTATE.
    pub code: SqlState,
    /// One sentence, lower case, no full stop (PostgreSQL's style guide).
    pub message: Cow<'static, str>,
    /// More facts, if any.
    pub detail: Option<Cow<'static, str>>,
    /// What to do, if anything.
    pub hint: Option<Cow<'static, str>>,
    /// The server's routine that reports it, by which drivers tell some errors.
    pub routine: Option<&'static str>,
}

impl ErrorNotice {
    /// An ERROR: the session goes on.
    pub fn error(code: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self { severity: Severity::Error, code, message: message.into(), detail: None, hint: None, routine: None }
    }

    /// A FATAL: the connection closes after it.
    pub fn fatal(code: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self { severity: Severity::Fatal, ..Self::error(code, message) }
    }

    /// Adds a detail.
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a hint.
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the name of the server's routine that would report it.
    pub fn routine(mut self, routine: &'static str) -> Self {
        self.routine = Some(routine);
        self
    }

    /// Whether the connection closes after it.
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity, Severity::Fatal | Severity::Panic)
    }

    /// Appends the whole message: `E` for errors, `N` for notices and warnings. NUL bytes in texts are dropped.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let tag = match self.severity {
            Severity::Notice | Severity::Warning => b'N',
            _ => b'E',
        };
        super::build::message(out, tag, |out| {
            let mut field = |key: u8, text: &str| {
                out.push(key);
                out.extend(text.bytes().filter(|b| *b != 0));
                out.push(0);
            };
            field(b'S', self.severity.as_str());
            field(b'V', self.severity.as_str());
            field(b'C', self.code.as_str());
            field(b'M', &self.message);
            if let Some(detail) = &self.detail {
                field(b'D', detail);
            }
            if let Some(hint) = &self.hint {
                field(b'H', hint);
            }
            if let Some(routine) = self.routine {
                field(b'R', routine);
            }
            out.push(0);
        });
    }

    /// Reads the body of an ErrorResponse or NoticeResponse. Unknown fields are passed over; a missing or
    /// malformed SQLSTATE counts as XX000 (trap 67).
    pub fn decode(body: &[u8]) -> Self {
        let mut notice = Self::error(SqlState::INTERNAL_ERROR, "");
        let mut rest = body;
        while let Some((&key, tail)) = rest.split_first() {
            if key == 0 {
                break;
            }
            let Some((value, tail)) = split_cstr(tail) else {
                break;
            };
            rest = tail;
            let text = || Cow::Owned(String::from_utf8_lossy(value).into_owned());
            match key {
                b'V' | b'S' => {
                    notice.severity = match value {
                        b"FATAL" => Severity::Fatal,
                        b"PANIC" => Severity::Panic,
                        b"NOTICE" | b"INFO" | b"LOG" | b"DEBUG" => Severity::Notice,
                        b"WARNING" => Severity::Warning,
                        b"ERROR" => Severity::Error,
                        _ => notice.severity,
                    }
                }
                b'C' => notice.code = SqlState::from_bytes(value).unwrap_or(SqlState::INTERNAL_ERROR),
                b'M' => notice.message = text(),
                b'D' => notice.detail = Some(text()),
                b'H' => notice.hint = Some(text()),
                _ => {}
            }
        }
        notice
    }

    /// The body of an ErrorResponse of which this is the body or its beginning: what is cut off is left out.
    pub fn whole(body: &[u8]) -> Vec<u8> {
        let mut whole = body.to_vec();
        while !whole.ends_with(b"\0\0") {
            whole.push(0);
        }
        whole
    }

    /// Finds the SQLSTATE in the body (or its beginning) of an ErrorResponse, without decoding the rest.
    pub fn sqlstate_of(body: &[u8]) -> SqlState {
        Self::field_of(body, b'C').and_then(SqlState::from_bytes).unwrap_or(SqlState::INTERNAL_ERROR)
    }

    /// Finds a field in the body (or its beginning) of an ErrorResponse.
    pub fn field_of(body: &[u8], wanted: u8) -> Option<&[u8]> {
        let mut rest = body;
        while let Some((&key, tail)) = rest.split_first() {
            let (value, tail) = split_cstr(tail)?;
            if key == wanted {
                return Some(value);
            }
            rest = tail;
        }
        None
    }
}

impl fmt::Display for ErrorNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.severity.as_str(), self.message, self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_and_decodes() {
        let notice = ErrorNotice::fatal(SqlState::TOO_MANY_CONNECTIONS, "too many\0clients").detail("a").hint("b");
        let mut out = Vec::new();
        notice.encode(&mut out);
        assert_eq!(out[0], b'E');
        assert_eq!(u32::from_be_bytes([out[1], out[2], out[3], out[4]]) as usize, out.len() - 1);
        let back = ErrorNotice::decode(&out[5..]);
        assert_eq!(back.message, "too manyclients");
        assert_eq!((back.code, back.severity), (notice.code, Severity::Fatal));
        assert_eq!(ErrorNotice::sqlstate_of(&out[5..]), SqlState::TOO_MANY_CONNECTIONS);
    }

    #[test]
    fn a_body_that_is_cut_off() {
        let body = b"SERROR\0C42P01\0Mno such thing\0\0";
        assert_eq!(ErrorNotice::whole(body), body);
        assert_eq!(ErrorNotice::whole(&body[..21]), b"SERROR\0C42P01\0Mno suc\0\0");
        assert_eq!(ErrorNotice::whole(&body[..14]), b"SERROR\0C42P01\0\0");
    }

    #[test]
    fn trap_67_error_without_sqlstate() {
        assert_eq!(ErrorNotice::sqlstate_of(b"SERROR\0Mboom\0\0"), SqlState::INTERNAL_ERROR);
        assert_eq!(ErrorNotice::decode(b"SERROR\0Cxx").code, SqlState::INTERNAL_ERROR);
    }
}
