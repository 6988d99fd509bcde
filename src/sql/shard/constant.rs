//! Constants and types in a tree whose literals are numbered.

use sqlparser::ast::{ArrayElemTypeDef, CastKind, DataType, Expr, ObjectNamePart, TimezoneInfo, UnaryOperator, Value};

use super::super::query::Numbers;
use super::{KeyAt, KeyType};

/// Most literals before the key, and highest number of a parameter: each is a key of its own, and their number is limited.
const MOST: u16 = 1000;

/// Where the value of this expression stands, if it is a constant that is compared, or stored, as a value of this type.
pub(super) fn constant(expr: &Expr, key: KeyType) -> Option<KeyAt> {
    match expr {
        Expr::Nested(inner) => constant(inner, key),
        Expr::Value(value) => match &value.value {
            Value::Boolean(value) if key == KeyType::Bool => {
                Some(KeyAt::Constant { hash: KeyType::hash_of_bool(*value) })
            }
            value => place(value, false),
        },
        Expr::TypedString(typed) if !typed.uses_odbc_syntax && key_type(&typed.data_type) == Some(key) => {
            place(&typed.value.value, false)
        }
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } if key == KeyType::Int => match constant(expr, key)? {
            KeyAt::Literal { nth, negative: false, array } => Some(KeyAt::Literal { nth, negative: true, array }),
            _ => None,
        },
        Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, format: None }
            if key_type(data_type) == Some(key) =>
        {
            constant(expr, key).map(|at| as_cast(at, key))
        }
        _ => None,
    }
}

/// The same of the only element of an array.
pub(super) fn only_element(expr: &Expr, key: KeyType) -> Option<KeyAt> {
    match expr {
        Expr::Nested(inner) => only_element(inner, key),
        Expr::Value(value) => place(&value.value, true),
        Expr::Array(array) if array.named => match array.elem.as_slice() {
            [only] => constant(only, key),
            _ => None,
        },
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            data_type: DataType::Array(ArrayElemTypeDef::SquareBracket(of, None)),
            format: None,
        } if key_type(of) == Some(key) => only_element(expr, key).map(|at| as_cast(at, key)),
        _ => None,
    }
}

fn as_cast(at: KeyAt, key: KeyType) -> KeyAt {
    match at {
        KeyAt::Param { number, array, .. } => KeyAt::Param { number, cast: Some(key), array },
        at => at,
    }
}

fn place(value: &Value, array: bool) -> Option<KeyAt> {
    let number = |digits: &str, least: u16| {
        let number = digits.parse::<u16>().ok().filter(|number| *number != Numbers::UNKNOWN)?;
        (least..=MOST).contains(&number).then_some(number)
    };
    match value {
        Value::Number(nth, _) if !array => Some(KeyAt::Literal { nth: number(nth, 0)?, negative: false, array }),
        Value::SingleQuotedString(nth) => Some(KeyAt::Literal { nth: number(nth, 0)?, negative: false, array }),
        Value::Placeholder(name) => {
            Some(KeyAt::Param { number: number(name.strip_prefix('$')?, 1)?, cast: None, array })
        }
        _ => None,
    }
}

/// The type of keys that this is, as long as a cast to it changes no value: one with a length or precision may.
fn key_type(data_type: &DataType) -> Option<KeyType> {
    Some(match data_type {
        DataType::SmallInt(None)
        | DataType::Int2(None)
        | DataType::Int(None)
        | DataType::Integer(None)
        | DataType::Int4(None)
        | DataType::Int8(None)
        | DataType::BigInt(None) => KeyType::Int,
        DataType::Text | DataType::Varchar(None) | DataType::CharacterVarying(None) => KeyType::Text,
        DataType::Uuid => KeyType::Uuid,
        DataType::Bool | DataType::Boolean => KeyType::Bool,
        DataType::Date => KeyType::Date,
        DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => KeyType::Timestamp,
        DataType::Timestamp(None, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => KeyType::Timestamptz,
        DataType::Bytea => KeyType::Bytea,
        DataType::Custom(name, modifiers) if modifiers.is_empty() => match name.0.as_slice() {
            [ObjectNamePart::Identifier(name)] if name.value.eq_ignore_ascii_case("bpchar") => KeyType::Bpchar,
            _ => return None,
        },
        _ => return None,
    })
}

/// Whether a cast to this type looks something up in the catalog of the node that it runs on, whose numbers are its own.
pub(super) fn looks_up(data_type: &DataType) -> bool {
    match data_type {
        DataType::Regclass => true,
        DataType::Array(
            ArrayElemTypeDef::SquareBracket(of, _)
            | ArrayElemTypeDef::Qualified(of, _)
            | ArrayElemTypeDef::AngleBracket(of)
            | ArrayElemTypeDef::Parenthesis(of),
        ) => looks_up(of),
        DataType::Custom(name, _) => match name.0.last() {
            Some(ObjectNamePart::Identifier(name)) => {
                name.value.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("reg"))
            }
            _ => true,
        },
        _ => false,
    }
}

/// Whether it is one of PostgreSQL's own types, which have the same OID everywhere.
pub(super) fn is_built_in(data_type: &DataType) -> bool {
    match data_type {
        DataType::Array(
            ArrayElemTypeDef::SquareBracket(of, _)
            | ArrayElemTypeDef::Qualified(of, _)
            | ArrayElemTypeDef::AngleBracket(of)
            | ArrayElemTypeDef::Parenthesis(of),
        ) => is_built_in(of),
        DataType::Custom(name, _) => match name.0.as_slice() {
            [ObjectNamePart::Identifier(name)] => BUILT_IN.iter().any(|own| name.value.eq_ignore_ascii_case(own)),
            _ => false,
        },
        _ => true,
    }
}

/// Those that the parser has no word for, and that are worth one.
const BUILT_IN: [&str; 18] = [
    "bpchar",
    "box",
    "cidr",
    "daterange",
    "inet",
    "int4range",
    "int8range",
    "jsonpath",
    "macaddr",
    "macaddr8",
    "money",
    "name",
    "numrange",
    "oid",
    "pg_lsn",
    "tsrange",
    "tstzrange",
    "xml",
];
