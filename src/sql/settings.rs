//! Reading `SET` and `RESET`: what the session's settings become.

use super::cursor::Cursor;
use super::lexer::{Kind, LexOptions, Token};
use super::scanner::{set_target, strip_set_scope};
use super::split::{Splitter, StatementTokens};

#[cfg(test)]
mod tests;

/// One change of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingChange {
    /// The setting, in lower case, with its prefix if it has one: `search_path`, `myapp.user`, `role`,
    /// `session_authorization`, `timezone`.
    pub name: String,
    /// The new value.
    pub value: SettingValue,
    /// Until the end of the transaction (`SET LOCAL`).
    pub local: bool,
}

/// The value that a `SET` gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingValue {
    /// `DEFAULT`, or `RESET`: back to what the session started with.
    Default,
    /// The list of values, decoded: constants without their quotes, identifiers as the server stores them, numbers
    /// as written. Most settings take one.
    List(Vec<String>),
    /// The value as one text that the setting itself takes apart, as `set_config` gives it.
    Flat(String),
}

impl SettingValue {
    /// Whether it is spelled alike in every encoding.
    pub fn is_ascii(&self) -> bool {
        match self {
            Self::List(values) => values.iter().all(|value| value.is_ascii()),
            Self::Flat(value) => value.is_ascii(),
            Self::Default => true,
        }
    }

    /// The value of a setting that takes one; `None` for a list or the default.
    pub fn single(&self) -> Option<&str> {
        match self {
            Self::List(values) => match values.as_slice() {
                [value] => Some(value),
                _ => None,
            },
            Self::Flat(value) => Some(value),
            Self::Default => None,
        }
    }
}

/// Whether a setting, by its lower-case name, is Trunkline's own.
pub(super) fn is_own_name(name: &str) -> bool {
    name.starts_with("trunkline.")
}

/// What a text does to `trunkline.…` settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnSetting {
    /// The part after `trunkline.`, in lower case.
    pub name: String,
    /// What is asked.
    pub action: OwnAction,
}

/// What is asked of a `trunkline.…` setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnAction {
    /// `SET [SESSION|LOCAL] … = value`; several values are joined by `, `.
    Set {
        /// The value.
        value: String,
        /// `SET LOCAL`.
        local: bool,
    },
    /// `RESET`, or `SET … TO DEFAULT`.
    Reset,
    /// `SHOW`.
    Show,
}

/// Reads a text of exactly one statement `SET`, `RESET` or `SHOW` of a `trunkline.…` setting
/// ([`Effects::OWN_SETTING`](super::Effects::OWN_SETTING)).
pub fn own_setting(sql: &[u8], opts: LexOptions) -> Option<OwnSetting> {
    with_single_statement(sql, opts, |cursor| {
        let mut ahead = cursor;
        if ahead.eat("show") {
            let name = dotted_name(&mut ahead)?;
            let name = name.strip_prefix("trunkline.")?.to_owned();
            return ahead.at_end().then_some(OwnSetting { name, action: OwnAction::Show });
        }
        let change = read_change(cursor)?;
        let name = change.name.strip_prefix("trunkline.")?.to_owned();
        let action = match change.value {
            SettingValue::Default => OwnAction::Reset,
            SettingValue::Flat(value) => OwnAction::Set { value, local: change.local },
            SettingValue::List(values) => OwnAction::Set { value: values.join(", "), local: change.local },
        };
        Some(OwnSetting { name, action })
    })
}

/// Reads a text of exactly one statement `SET` or `RESET` of one setting. `None` for any other text, and for what is
/// no plain setting: `SET TRANSACTION`, `SET SESSION CHARACTERISTICS`, `SET CONSTRAINTS`, `SET TIME ZONE INTERVAL …`,
/// `RESET ALL`, `SET … FROM CURRENT`.
pub fn setting_change(sql: &[u8], opts: LexOptions) -> Option<SettingChange> {
    with_single_statement(sql, opts, read_change)
}

fn with_single_statement<T>(sql: &[u8], opts: LexOptions, read: impl FnOnce(Cursor<'_>) -> Option<T>) -> Option<T> {
    let mut splitter = Splitter::new(sql, opts);
    let (mut first, mut second) = (StatementTokens::default(), StatementTokens::default());
    if !splitter.next(&mut first) || splitter.next(&mut second) || first.bad || first.cut {
        return None;
    }
    read(Cursor::new(splitter.text(), &first.tokens).with_options(opts))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn dotted_name(cursor: &mut Cursor<'_>) -> Option<String> {
    let mut name = text(&cursor.identifier()?);
    while cursor.eat_sign(".") {
        name.push('.');
        name.push_str(&text(&cursor.identifier()?));
    }
    name.make_ascii_lowercase();
    Some(name)
}

pub(super) fn read_change(mut cursor: Cursor<'_>) -> Option<SettingChange> {
    if cursor.eat("reset") {
        return read_reset(cursor);
    }
    if !cursor.eat("set") {
        return None;
    }
    let local = strip_set_scope(&mut cursor);
    let change = |name: &str, value| Some(SettingChange { name: name.to_owned(), value, local });
    if let Some(name) = set_target(&mut cursor) {
        let name = text(&name).to_ascii_lowercase();
        return change(&name, read_value(cursor)?);
    }
    if cursor.eat_all(&["time", "zone"]) {
        return match cursor.is("local") && cursor.rest().len() == 1 {
            true => change("timezone", SettingValue::Default),
            false => change("timezone", read_value(cursor)?),
        };
    }
    if cursor.eat("role") {
        return match cursor.is("none") && cursor.rest().len() == 1 {
            true => change("role", SettingValue::List(vec!["none".to_owned()])),
            false => change("role", read_value(cursor)?),
        };
    }
    let renamed = [
        (&["session", "authorization"][..], "session_authorization"),
        (&["names"], "client_encoding"),
        (&["schema"], "search_path"),
        (&["xml", "option"], "xmloption"),
    ];
    for (words, name) in renamed {
        if cursor.eat_all(words) {
            // `SET NAMES` alone is `SET client_encoding TO DEFAULT`.
            let value = if cursor.at_end() { SettingValue::Default } else { read_value(cursor)? };
            return change(name, value);
        }
    }
    None
}

fn read_reset(mut cursor: Cursor<'_>) -> Option<SettingChange> {
    let name = if cursor.eat_all(&["time", "zone"]) {
        "timezone".to_owned()
    } else if cursor.eat_all(&["session", "authorization"]) {
        "session_authorization".to_owned()
    } else if cursor.eat_all(&["transaction", "isolation", "level"]) {
        "transaction_isolation".to_owned()
    } else if cursor.is("all") {
        return None;
    } else {
        dotted_name(&mut cursor)?
    };
    cursor.at_end().then_some(SettingChange { name, value: SettingValue::Default, local: false })
}

/// Reads the values up to the end of the statement.
fn read_value(mut cursor: Cursor<'_>) -> Option<SettingValue> {
    if cursor.is("default") && cursor.rest().len() == 1 {
        return Some(SettingValue::Default);
    }
    let mut values = Vec::new();
    loop {
        let sign = if cursor.eat_sign("-") {
            "-"
        } else {
            cursor.eat_sign("+");
            ""
        };
        let token = cursor.next()?;
        let value = match token.kind {
            Kind::Number => number(text(cursor.bytes(token))),
            _ if !sign.is_empty() => return None,
            Kind::Str => cursor.string(token)?,
            Kind::Word | Kind::QuotedWord => text(&super::cursor::identifier(cursor.text(), token)?),
            _ => return None,
        };
        values.push(format!("{sign}{value}"));
        if cursor.at_end() {
            return Some(SettingValue::List(values));
        }
        if !cursor.eat_sign(",") {
            return None;
        }
    }
}

/// A number as the server hands it to a setting: whole ones in their plainest form, of whatever base and with whatever groups they were
/// written.
fn number(text: String) -> String {
    let digits = text.replace('_', "");
    let based = [("0x", 16), ("0o", 8), ("0b", 2)].into_iter().find_map(|(prefix, radix)| {
        let (start, rest) = digits.split_at_checked(2)?;
        start.eq_ignore_ascii_case(prefix).then(|| i32::from_str_radix(rest, radix))
    });
    based.unwrap_or_else(|| digits.parse()).map_or(text, |number| number.to_string())
}

/// The value of a string constant. `None` for `U&''`, bit strings, and texts that are not UTF-8.
pub(super) fn decode_string(token: Token, source: &[u8], opts: LexOptions) -> Option<String> {
    let bytes = token.of(source);
    if bytes.first() == Some(&b'$') {
        let tag = memchr::memchr(b'$', bytes.get(1..)?)? + 2;
        return String::from_utf8(bytes.get(tag..bytes.len() - tag)?.to_vec()).ok();
    }
    let quote = memchr::memchr(b'\'', bytes)?;
    let backslash = match bytes[..quote].to_ascii_lowercase().as_slice() {
        b"e" => true,
        b"" | b"n" => !opts.standard_conforming_strings,
        _ => return None,
    };
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = &bytes[quote + 1..];
    loop {
        match *rest {
            [b'\'', b'\'', ..] => {
                out.push(b'\'');
                rest = &rest[2..];
            }
            [b'\''] => return String::from_utf8(out).ok(),
            // A continuation: everything up to its opening quote is white space or comment.
            [b'\'', ..] => {
                let mut at = 1;
                while rest.get(at)? != &b'\'' {
                    if rest[at..].starts_with(b"--") {
                        at += memchr::memchr2(b'\n', b'\r', &rest[at..])?;
                    } else {
                        at += 1;
                    }
                }
                rest = &rest[at + 1..];
            }
            [b'\\', ..] if backslash => rest = unescape(&rest[1..], &mut out)?,
            [byte, ..] => {
                out.push(byte);
                rest = &rest[1..];
            }
            [] => return None,
        }
    }
}

/// Undoes one backslash escape, of which `rest` is what follows the backslash; returns what follows the escape.
fn unescape<'a>(rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let number = |digits: &[u8], radix: u32| u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok();
    let run = |from: usize, most: usize, accepts: fn(&u8) -> bool| {
        rest.iter().skip(from).take(most).take_while(|b| accepts(b)).count()
    };
    let (&byte, after) = rest.split_first()?;
    match byte {
        b'n' => out.push(b'\n'),
        b't' => out.push(b'\t'),
        b'r' => out.push(b'\r'),
        b'b' => out.push(8),
        b'f' => out.push(12),
        b'x' => {
            let len = run(1, 2, u8::is_ascii_hexdigit);
            if len > 0 {
                out.push(number(&rest[1..=len], 16)? as u8);
                return Some(&rest[1 + len..]);
            }
            out.push(b'x');
        }
        b'0'..=b'7' => {
            let len = run(0, 3, |b| (b'0'..=b'7').contains(b));
            out.push(number(&rest[..len], 8)? as u8);
            return Some(&rest[len..]);
        }
        b'u' | b'U' => {
            let len = if byte == b'u' { 4 } else { 8 };
            let character = char::from_u32(number(rest.get(1..=len)?, 16)?)?;
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(&rest[1 + len..]);
        }
        other => out.push(other),
    }
    Some(after)
}
