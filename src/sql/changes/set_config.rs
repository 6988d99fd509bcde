//! `SELECT set_config(name, value, is_local)`: SET as a function.

use super::super::cursor::Cursor;
use super::super::lexer::Kind;
use super::super::settings::{SettingValue, is_own_name};
use super::super::truth::truth_of_constant;
use super::{Change, ParameterText};

/// Reads a statement in which `set_config` stands. Only a select list of nothing but such calls and `current_setting`, with
/// constants or parameters, says what it sets.
pub(super) fn read(mut cursor: Cursor<'_>, parameter: ParameterText<'_>, add: &mut dyn FnMut(Change)) {
    if !cursor.eat("select") {
        return add(Change::UnknownSetting);
    }
    let mut changes = Vec::new();
    loop {
        match read_call(&mut cursor, parameter) {
            Some(change) => changes.extend(change),
            None => return add(Change::UnknownSetting),
        }
        if cursor.eat("as") {
            cursor.next();
        } else if cursor.peek().is_some_and(|token| matches!(token.kind, Kind::Word | Kind::QuotedWord)) {
            // An alias without AS; anything else that begins with a word is not understood.
            cursor.next();
        }
        if cursor.at_end() {
            break;
        }
        if !cursor.eat_sign(",") {
            return add(Change::UnknownSetting);
        }
    }
    changes.into_iter().for_each(add);
}

/// One call. `Some(None)` = it is for the transaction only, or only asks.
fn read_call(cursor: &mut Cursor<'_>, parameter: ParameterText<'_>) -> Option<Option<Change>> {
    if cursor.is("pg_catalog") {
        cursor.next();
        if !cursor.eat_sign(".") {
            return None;
        }
    }
    let function = cursor.identifier()?;
    let mut arguments = cursor.parenthesised()?;
    match &*function {
        b"set_config" => {}
        b"current_setting" => {
            argument(&mut arguments, parameter)?;
            let missing_ok = arguments.eat_sign(",").then(|| argument(&mut arguments, parameter));
            return (arguments.at_end() && missing_ok != Some(None)).then_some(None);
        }
        _ => return None,
    }
    let name = argument(&mut arguments, parameter)?;
    if !arguments.eat_sign(",") {
        return None;
    }
    let value = match arguments.eat("null") {
        true => SettingValue::Default,
        false => SettingValue::Flat(String::from_utf8(argument(&mut arguments, parameter)?).ok()?),
    };
    let is_local = arguments.eat_sign(",").then(|| argument(&mut arguments, parameter))??;
    if !arguments.at_end() {
        return None;
    }
    match is_local.as_slice() {
        [1] => return Some(None),
        [0] => {}
        text if truth_of_constant(text)? => return Some(None),
        _ => {}
    }
    let name = String::from_utf8(name).ok()?.to_ascii_lowercase();
    if is_own_name(&name) {
        return Some(None);
    }
    Some(Some(Change::Set { name, value }))
}

/// A constant or parameter, with a cast or without: its text.
fn argument(cursor: &mut Cursor<'_>, parameter: ParameterText<'_>) -> Option<Vec<u8>> {
    let token = cursor.next()?;
    let value = match token.kind {
        Kind::Str => cursor.string(token)?.into_bytes(),
        Kind::Param => {
            let number = std::str::from_utf8(cursor.bytes(token)).ok()?.strip_prefix('$')?.parse().ok()?;
            parameter(number)?
        }
        Kind::Word if cursor.bytes(token).eq_ignore_ascii_case(b"true") => b"true".to_vec(),
        Kind::Word if cursor.bytes(token).eq_ignore_ascii_case(b"false") => b"false".to_vec(),
        _ => return None,
    };
    if cursor.eat_sign("::") && !["text", "varchar", "bool", "boolean"].iter().any(|name| cursor.eat(name)) {
        return None;
    }
    Some(value)
}
