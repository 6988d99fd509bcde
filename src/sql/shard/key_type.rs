//! The types of distribution columns, and the hashes of their values.

use super::super::truth::truth_of_constant;
use super::{hashes, spelled};

/// The type of a distribution column that owners are computed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// `smallint`, `integer` and `bigint`: equal values have one hash.
    Int,
    /// `text` and `varchar`, of a collation that is deterministic.
    Text,
    /// `char(n)`.
    Bpchar,
    /// `uuid`.
    Uuid,
    /// `boolean`.
    Bool,
    /// `date`.
    Date,
    /// `timestamp without time zone`.
    Timestamp,
    /// `timestamp with time zone`.
    Timestamptz,
    /// `bytea`.
    Bytea,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// As in a constant.
    Text,
    /// As the type's receive function takes it.
    Binary,
}

impl KeyType {
    /// The type of this OID. `None`: of such values no owner is computed (`numeric`, enums, domains, …).
    pub fn of_oid(oid: u32) -> Option<Self> {
        Some(match oid {
            20 | 21 | 23 => Self::Int,
            25 | 1043 => Self::Text,
            1042 => Self::Bpchar,
            2950 => Self::Uuid,
            16 => Self::Bool,
            1082 => Self::Date,
            1114 => Self::Timestamp,
            1184 => Self::Timestamptz,
            17 => Self::Bytea,
            _ => return None,
        })
    }

    /// Whether a parameter that is declared as this type is compared by this type's equality, and hashes alike. 0: the server takes
    /// the column's.
    pub(super) fn takes(self, declared: u32) -> bool {
        // An `unknown` that meets a text is one.
        declared == 0 || Self::of_oid(declared) == Some(self) || (self == Self::Text && declared == 705)
    }

    /// The same, of arrays of such values.
    pub(super) fn takes_array(self, declared: u32) -> bool {
        match declared {
            0 => true,
            1005 | 1007 | 1016 => self == Self::Int,
            1009 | 1015 => self == Self::Text,
            1014 => self == Self::Bpchar,
            2951 => self == Self::Uuid,
            1000 => self == Self::Bool,
            1182 => self == Self::Date,
            1115 => self == Self::Timestamp,
            1185 => self == Self::Timestamptz,
            1001 => self == Self::Bytea,
            _ => false,
        }
    }

    /// PostgreSQL's hash of a value, by which Citus finds its shard. `None`: not certain. A text counts only if it is ASCII, or if the
    /// client's encoding is the server's.
    pub fn hash_of(self, value: &[u8], format: Format, encoding_is_servers: bool) -> Option<i32> {
        match (self, format) {
            (Self::Text | Self::Bpchar, _) => {
                let certain = (encoding_is_servers || value.is_ascii()) && !value.contains(&0);
                let value = if self == Self::Bpchar { without_blanks(value) } else { value };
                certain.then(|| hashes::of_bytes(value))
            }
            (_, Format::Binary) => self.hash_of_binary(value),
            (Self::Int, _) => spelled::integer(value).map(hashes::of_int8),
            (Self::Uuid, _) => spelled::uuid(value).map(|uuid| hashes::of_bytes(&uuid)),
            (Self::Bool, _) => truth_of_constant(value).map(Self::hash_of_bool),
            (Self::Date, _) => spelled::date(value).map(hashes::of_int4),
            (Self::Timestamp, _) => spelled::timestamp(value).map(hashes::of_int8),
            (Self::Timestamptz, _) => spelled::timestamp_with_zone(value).map(hashes::of_int8),
            (Self::Bytea, _) => spelled::bytea(value).map(|bytes| hashes::of_bytes(&bytes)),
        }
    }

    fn hash_of_binary(self, value: &[u8]) -> Option<i32> {
        Some(match (self, value.len()) {
            (Self::Int, 2) => hashes::of_int4(i16::from_be_bytes(value.try_into().ok()?).into()),
            (Self::Int | Self::Date, 4) => hashes::of_int4(i32::from_be_bytes(value.try_into().ok()?)),
            (Self::Int | Self::Timestamp | Self::Timestamptz, 8) => {
                hashes::of_int8(i64::from_be_bytes(value.try_into().ok()?))
            }
            (Self::Bool, 1) => Self::hash_of_bool(value != [0]),
            (Self::Uuid, 16) | (Self::Bytea, _) => hashes::of_bytes(value),
            _ => return None,
        })
    }

    /// The hash of TRUE or FALSE.
    pub(super) fn hash_of_bool(value: bool) -> i32 {
        hashes::of_int4(value.into())
    }
}

/// What counts of a `char(n)`.
fn without_blanks(value: &[u8]) -> &[u8] {
    &value[..value.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1)]
}
