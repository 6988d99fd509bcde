//! Columns and values of the console's tables, in text and in binary form.

use std::error::Error;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use pgwire::api::Type;
use pgwire::api::portal::Format;
use pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo};
use pgwire::error::PgWireResult;
use pgwire::messages::data::DataRow;
use pgwire::types::ToSqlText;
use pgwire::types::format::FormatOptions;
use tokio_postgres::types::{IsNull, ToSql};

use super::answer;
use crate::wire::{ErrorNotice, SqlState};

/// The types that PgBouncer's console uses. Others would break exporters that look at them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `text`
    Text,
    /// `int4`
    Int,
    /// `int8`
    Big,
    /// `numeric`
    Numeric,
    /// `double precision`: averages.
    Float,
}

impl Kind {
    /// The type, and the size that RowDescription tells.
    pub fn datatype(self) -> (Type, i16) {
        match self {
            Self::Text => (Type::TEXT, -1),
            Self::Int => (Type::INT4, 4),
            Self::Big => (Type::INT8, 8),
            Self::Numeric => (Type::NUMERIC, -1),
            Self::Float => (Type::FLOAT8, 8),
        }
    }
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
}

/// A `text` column.
pub const fn text(name: &'static str) -> Column {
    Column { name, kind: Kind::Text }
}

/// An `int4` column.
pub const fn int(name: &'static str) -> Column {
    Column { name, kind: Kind::Int }
}

/// An `int8` column.
pub const fn big(name: &'static str) -> Column {
    Column { name, kind: Kind::Big }
}

/// A `numeric` column.
pub const fn numeric(name: &'static str) -> Column {
    Column { name, kind: Kind::Numeric }
}

/// One value; its variant is that of its column's [`Kind`], or `Null`.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL
    Null,
    /// `text`
    Text(String),
    /// `int4`
    Int(i32),
    /// `int8`
    Big(i64),
    /// `numeric`
    Numeric(u64),
    /// `double precision`
    Float(f64),
}

/// The rows of a table.
pub type Rows = Vec<Vec<Value>>;

impl Value {
    /// An `int4`; what does not fit becomes the largest.
    pub fn count(number: impl TryInto<i32>) -> Self {
        Self::Int(number.try_into().unwrap_or(i32::MAX))
    }

    /// A text, or NULL.
    pub fn maybe<T: Into<String>>(text: Option<T>) -> Self {
        text.map_or(Self::Null, |text| Self::Text(text.into()))
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text.clone()),
            Self::Int(number) => Some(number.to_string()),
            Self::Big(number) => Some(number.to_string()),
            Self::Numeric(number) => Some(number.to_string()),
            Self::Float(number) => Some(number.to_string()),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Int(number)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Numeric(number)
    }
}

type Encoded = Result<IsNull, Box<dyn Error + Sync + Send>>;

impl ToSqlText for Value {
    fn to_sql_text(&self, _: &Type, out: &mut BytesMut, _: &FormatOptions) -> Encoded {
        let Some(text) = self.text() else { return Ok(IsNull::Yes) };
        out.put_slice(text.as_bytes());
        Ok(IsNull::No)
    }
}

impl ToSql for Value {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Encoded {
        match self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Text(text) => out.put_slice(text.as_bytes()),
            Self::Int(number) => out.put_i32(*number),
            Self::Big(number) => out.put_i64(*number),
            Self::Numeric(number) => binary_numeric(*number, out),
            Self::Float(number) => out.put_f64(*number),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Encoded {
        self.to_sql(ty, out)
    }
}

/// `numeric_send`: digits of base 10,000, the first one's weight, sign, and digits behind the decimal point.
fn binary_numeric(number: u64, out: &mut BytesMut) {
    let mut digits: Vec<u16> = Vec::with_capacity(5);
    let mut rest = number;
    while rest > 0 {
        digits.push(u16::try_from(rest % 10_000).unwrap_or_default());
        rest /= 10_000;
    }
    let count = u16::try_from(digits.len()).unwrap_or_default();
    out.put_u16(count);
    out.put_u16(count.saturating_sub(1));
    out.put_u16(0);
    out.put_u16(0);
    digits.iter().rev().for_each(|digit| out.put_u16(*digit));
}

/// What RowDescription says of these columns. `format` is what a Bind asked for.
///
/// # Errors
/// It asked for another number of formats than there are columns.
pub fn schema(columns: &[(&str, Kind)], format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
    if let Some(Format::Individual(codes)) = format
        && codes.len() != columns.len()
    {
        let message =
            format!("bind message has {} result formats but query has {} columns", codes.len(), columns.len());
        return Err(answer::error(ErrorNotice::error(SqlState::PROTOCOL_VIOLATION, message)));
    }
    let field = |(index, (name, kind)): (usize, &(&str, Kind))| {
        let (datatype, size) = kind.datatype();
        let format = format.map_or(FieldFormat::Text, |format| format.format_for(index));
        FieldInfo::new((*name).to_owned(), None, None, datatype, format).with_type_size(size)
    };
    Ok(columns.iter().enumerate().map(field).collect())
}

/// The rows as messages.
pub fn encode(schema: &Arc<Vec<FieldInfo>>, rows: &Rows) -> Vec<PgWireResult<DataRow>> {
    let mut encoder = DataRowEncoder::new(schema.clone());
    let mut encode_row = |row: &Vec<Value>| {
        debug_assert_eq!(row.len(), schema.len(), "{row:?}");
        for (value, _) in row.iter().zip(schema.iter()) {
            encoder.encode_field(value)?;
        }
        Ok(encoder.take_row())
    };
    rows.iter().map(&mut encode_row).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn binary(number: u64) -> Vec<u8> {
        let mut out = BytesMut::new();
        binary_numeric(number, &mut out);
        out.to_vec()
    }

    #[test]
    fn numeric_in_binary_is_what_postgresql_sends() {
        assert_eq!(binary(0), [0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(binary(7), [0, 1, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(binary(12_345), [0, 2, 0, 1, 0, 0, 0, 0, 0, 1, 0x09, 0x29]);
    }

    #[test]
    fn a_wrong_number_of_formats_is_refused() {
        let columns = [("a", Kind::Text), ("b", Kind::Int), ("c", Kind::Numeric)];
        assert!(schema(&columns, Some(&Format::Individual(vec![1, 1]))).is_err());
        assert_eq!(schema(&columns, Some(&Format::UnifiedBinary)).unwrap()[2].format(), FieldFormat::Binary);
        assert_eq!(schema(&columns, None).unwrap()[1].type_size(), 4);
    }
}
