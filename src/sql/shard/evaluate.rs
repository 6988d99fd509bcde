//! The hash of the key that a text or the values of a Bind give.

use std::borrow::Cow;

use super::super::fold::{Folded, Item};
use super::super::lexer::{Kind, LexOptions, Token};
use super::{Format, KeyAt, KeySource, KeyType, ShardKey, hashes, spelled};

impl ShardKey {
    /// The hash of the key in a text with the fingerprint of the one that this was found in. `None`: it names no owner, or it is not
    /// certain which.
    pub fn hash_in(&self, sql: &[u8], opts: LexOptions, encoding_is_servers: bool) -> Option<i32> {
        let KeySource::Owner { key, at, .. } = self.source else { return None };
        let (nth, negative, array) = match at {
            KeyAt::Literal { nth, negative, array } => (nth, negative, array),
            KeyAt::Constant { hash } => return Some(hash),
            KeyAt::Param { .. } => return None,
        };
        if !opts.safe_encoding && !sql.is_ascii() {
            return None;
        }
        let (text, token) = literal(sql, opts, nth)?;
        match (token.kind, key) {
            (Kind::Number, KeyType::Int) if !array => spelled::signed(token.of(text), negative).map(hashes::of_int8),
            (Kind::Str, _) if !negative => {
                let value = string(token.of(text), opts)?;
                let value = if array { element(&value)? } else { &value };
                self.hash_of(key, value, Format::Text, encoding_is_servers)
            }
            _ => None,
        }
    }

    fn hash_of(&self, key: KeyType, value: &[u8], format: Format, encoding_is_servers: bool) -> Option<i32> {
        // A column of a given length or precision stores less than this without a word. What it is compared with is not cut.
        let may_be_cut = match (key, format) {
            (KeyType::Text, _) => value.last() == Some(&b' '),
            (KeyType::Timestamp | KeyType::Timestamptz, Format::Text) => value.contains(&b'.'),
            (KeyType::Timestamp | KeyType::Timestamptz, Format::Binary) => {
                value.try_into().map_or(0, i64::from_be_bytes) % 1_000_000 != 0
            }
            _ => false,
        };
        if self.writes && may_be_cut {
            return None;
        }
        key.hash_of(value, format, encoding_is_servers)
    }

    /// The hash of the key in a Bind: `declared` is the type that Parse gave the parameter (0: none), `value` what Bind gives for it
    /// (`None`: NULL). `None`: it is no parameter, or it is not certain.
    pub fn hash_of_parameter(
        &self,
        declared: u32,
        format: Format,
        value: Option<&[u8]>,
        encoding_is_servers: bool,
    ) -> Option<i32> {
        let KeySource::Owner { key, at: KeyAt::Param { cast, array, .. }, .. } = self.source else { return None };
        let value = value?;
        if cast.is_some_and(|cast| cast != key) {
            return None;
        }
        if !array {
            return key.takes(declared).then(|| self.hash_of(key, value, format, encoding_is_servers))?;
        }
        if !key.takes_array(declared) {
            return None;
        }
        let value = match format {
            Format::Text => element(value)?,
            Format::Binary => binary_element(key, value)?,
        };
        self.hash_of(key, value, format, encoding_is_servers)
    }
}

/// The nth literal of a text, and the text as it was read.
fn literal(sql: &[u8], opts: LexOptions, nth: u16) -> Option<(&[u8], Token)> {
    let mut items = Folded::new(sql, opts);
    let mut before = 0;
    while let Some(item) = items.next() {
        if let Item::Literal(token) = item {
            if before == nth {
                return Some((items.text(), token));
            }
            before += 1;
        }
    }
    None
}

/// The value of a string constant without escapes and continuations, doubled quotes excepted.
fn string(token: &[u8], opts: LexOptions) -> Option<Cow<'_, [u8]>> {
    if token.first() == Some(&b'$') {
        let tag = memchr::memchr(b'$', token.get(1..)?)? + 2;
        return token.get(tag..token.len().checked_sub(tag)?).map(Cow::Borrowed);
    }
    let (escapes, inner) = match token {
        [b'\'', inner @ .., b'\''] => (!opts.standard_conforming_strings, inner),
        [b'E' | b'e', b'\'', inner @ .., b'\''] => (true, inner),
        _ => return None,
    };
    if escapes && inner.contains(&b'\\') {
        return None;
    }
    if !inner.contains(&b'\'') {
        return Some(Cow::Borrowed(inner));
    }
    let mut value = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte == b'\'' {
            // One that stands alone ends a piece that is continued.
            rest = rest.strip_prefix(b"'")?;
        }
        value.push(*byte);
    }
    Some(Cow::Owned(value))
}

/// The only element of an array that is written out, if nothing in it is quoted with escapes.
fn element(array: &[u8]) -> Option<&[u8]> {
    let inner = array.trim_ascii().strip_prefix(b"{")?.strip_suffix(b"}")?.trim_ascii();
    if let Some(quoted) = inner.strip_prefix(b"\"") {
        let quoted = quoted.strip_suffix(b"\"")?;
        return (!quoted.iter().any(|byte| matches!(byte, b'"' | b'\\'))).then_some(quoted);
    }
    let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b',' | b'{' | b'}');
    let certain = !inner.is_empty() && inner.iter().all(plain) && !inner.eq_ignore_ascii_case(b"null");
    certain.then_some(inner)
}

/// The only element of an array as its receive function takes it.
fn binary_element(key: KeyType, array: &[u8]) -> Option<&[u8]> {
    let mut rest = array;
    let mut number = || {
        let (word, behind) = rest.split_first_chunk::<4>()?;
        rest = behind;
        Some(u32::from_be_bytes(*word))
    };
    let (dimensions, _nulls, oid) = (number()?, number()?, number()?);
    let (elements, _lower_bound, len) = (number()?, number()?, number()?);
    let one = dimensions == 1 && elements == 1 && rest.len() == usize::try_from(len).ok()?;
    (one && oid != 0 && key.takes(oid)).then_some(rest)
}
