//! Hashes as real Citus computed them, spellings, and keys that are evaluated.

use proptest::prelude::*;

use super::super::lexer::LexOptions;
use super::*;

/// What Citus 13.2 on PostgreSQL 15 gave for these values.
const VECTORS: &str = include_str!("../../../tests/citus/hash-vectors.json");

fn key_type(name: &str) -> Option<KeyType> {
    Some(match name {
        "bigint" | "integer" | "smallint" => KeyType::Int,
        "text" => KeyType::Text,
        "bpchar" => KeyType::Bpchar,
        "uuid" => KeyType::Uuid,
        "date" => KeyType::Date,
        "timestamptz" => KeyType::Timestamptz,
        "boolean" => KeyType::Bool,
        "bytea" => KeyType::Bytea,
        _ => return None,
    })
}

/// The value as drivers send it in binary, where that is made easily.
fn binary(name: &str, value: &str) -> Option<Vec<u8>> {
    Some(match name {
        "bigint" => value.parse::<i64>().unwrap().to_be_bytes().to_vec(),
        "integer" => value.parse::<i32>().unwrap().to_be_bytes().to_vec(),
        "smallint" => value.parse::<i16>().unwrap().to_be_bytes().to_vec(),
        "text" | "bpchar" => value.as_bytes().to_vec(),
        "boolean" => vec![u8::from(value == "true")],
        "uuid" => spelled::uuid(value.as_bytes()).unwrap().to_vec(),
        "bytea" => spelled::bytea(value.as_bytes()).unwrap().to_vec(),
        "date" => {
            let from: jiff::civil::Date = "2000-01-01".parse().unwrap();
            let days = (value.parse::<jiff::civil::Date>().unwrap() - from).get_days();
            days.to_be_bytes().to_vec()
        }
        "timestamptz" => {
            let moment: jiff::Timestamp = value.parse().unwrap();
            (moment.as_microsecond() - 946_684_800_000_000).to_be_bytes().to_vec()
        }
        _ => return None,
    })
}

#[test]
fn hashes_are_those_of_real_citus() {
    let vectors: Vec<serde_json::Value> = serde_json::from_str(VECTORS).unwrap();
    let mut compared = 0;
    for vector in &vectors {
        let (name, value) = (vector["type"].as_str().unwrap(), vector["value"].as_str().unwrap());
        let Some(key) = key_type(name) else {
            assert_eq!(name, "numeric", "a type without a hash");
            continue;
        };
        let hash = i32::try_from(vector["hash"].as_i64().unwrap()).unwrap();
        assert_eq!(key.hash_of(value.as_bytes(), Format::Text, true), Some(hash), "{name} {value}");
        let bytes = binary(name, value).unwrap();
        assert_eq!(key.hash_of(&bytes, Format::Binary, true), Some(hash), "{name} {value} in binary");
        compared += 1;
    }
    assert_eq!(compared, 50);
}

#[test]
fn types_are_known_by_their_oids() {
    let known: Vec<_> = (0..20_000).filter_map(|oid| Some((oid, KeyType::of_oid(oid)?))).collect();
    assert_eq!(known.len(), 12);
    assert_eq!(KeyType::of_oid(1043), Some(KeyType::Text));
    for other in [0, 700, 701, 1700, 18, 19, 1083, 2249, 16_384] {
        assert_eq!(KeyType::of_oid(other), None, "{other}");
    }
}

/// Two spellings of one value, and spellings that only the server knows.
#[test]
fn values_are_read_as_the_server_reads_them() {
    let hash = |key: KeyType, text: &str| key.hash_of(text.as_bytes(), Format::Text, true);
    for (key, one, other) in [
        (KeyType::Int, "5", " +005\n"),
        (KeyType::Int, "-5", "\t-5"),
        (KeyType::Bool, "true", " YES "),
        (KeyType::Bool, "1", "oN"),
        (KeyType::Bool, "f", "of"),
        (KeyType::Bool, "no", "0"),
        (KeyType::Bpchar, "a", "a   "),
        (KeyType::Uuid, "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "{6BA7B8109DAD11d1-80b400c0-4fd430c8}"),
        (KeyType::Bytea, "\\xAB", "\\xab"),
        (KeyType::Timestamp, "2026-02-28", "2026-02-28T00:00"),
        (KeyType::Timestamp, "2026-02-28 12:34:05.5", "2026-02-28 12:34:05.500000"),
        (KeyType::Timestamptz, "2026-02-28 12:34+02", "2026-02-28 11:04:00 +00:30"),
        (KeyType::Timestamptz, "2026-02-28 12:34:00-0130", "2026-02-28 14:04Z"),
        (KeyType::Timestamptz, "2026-02-28 12:34:00+01:02:03", "2026-02-28 11:31:57 UTC"),
        (KeyType::Timestamptz, "2026-03-01 00:30+01", "2026-02-28 23:30+00"),
    ] {
        assert!(hash(key, one).is_some(), "{key:?} {one}");
        assert_eq!(hash(key, one), hash(key, other), "{key:?} {one} {other}");
    }
    for (key, texts) in [
        (KeyType::Int, &["", "-", "5.0", "5e0", "0x5", "5_0", "- 5", "9223372036854775808", "five"][..]),
        (KeyType::Bool, &["", "o", "2", "truer", "y e"]),
        (
            KeyType::Uuid,
            &["", "6ba7b810", "6ba7b8-10-9dad-11d1-80b4-00c04fd430c8", "{6ba7b810-9dad-11d1-80b4-00c04fd430c8"],
        ),
        (KeyType::Date, &["today", "2026-2-3", "2026-02-29", "0000-01-01", "01/02/2026", "2026-02-03 ", "infinity"]),
        (KeyType::Timestamp, &["now", "2026-02-28 24:00", "2026-02-28 12:34:60", "2026-02-28 12:34:05.1234567"]),
        (KeyType::Timestamp, &["2026-02-28 12:34+00", "2026-02-28 12"]),
        (KeyType::Timestamptz, &["2026-02-28 12:34", "2026-02-28", "2026-02-28+00", "2026-02-28 12:34 CET"]),
        (KeyType::Timestamptz, &["2026-02-28 12:34+2", "2026-02-28 12:34+16", "2026-02-28 12:34+02:60"]),
        (KeyType::Bytea, &["abc", "\\x1", "\\xzz", "\\x 61", "\\X61"]),
        (KeyType::Text, &["a\0b"]),
    ] {
        for text in texts {
            assert_eq!(hash(key, text), None, "{key:?} {text}");
        }
    }
    assert_eq!(KeyType::Text.hash_of("ä".as_bytes(), Format::Text, false), None);
    assert_eq!(KeyType::Text.hash_of(b"a", Format::Binary, false), hash(KeyType::Text, "a"));
    for (key, len) in [(KeyType::Int, 3), (KeyType::Uuid, 15), (KeyType::Bool, 2), (KeyType::Timestamp, 4)] {
        assert_eq!(key.hash_of(&vec![0; len], Format::Binary, true), None, "{key:?}");
    }
}

proptest! {
    /// Days and moments as another library counts them.
    #[test]
    fn days_are_counted_as_the_calendar_does(days in -730_000i32..2_900_000, micros in 0i64..86_400_000_000) {
        let start: jiff::civil::Date = "2000-01-01".parse().unwrap();
        let date = start.checked_add(jiff::ToSpan::days(i64::from(days)));
        if let Ok(date) = date && date.year() > 0 {
            prop_assert_eq!(spelled::date(date.to_string().as_bytes()), Some(days));
            let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
            let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            let text = format!("{date} {hour:02}:{minute:02}:{second:02}.{fraction:06}");
            let moment = i64::from(days) * 86_400_000_000 + micros;
            prop_assert_eq!(spelled::timestamp(text.as_bytes()), Some(moment));
        }
    }
}

fn owner(key: KeyType, at: KeyAt) -> ShardKey {
    ShardKey { source: KeySource::Owner { colocation: 1, key, at }, writes: false }
}

fn literal(key: KeyType, nth: u16, negative: bool, array: bool) -> ShardKey {
    owner(key, KeyAt::Literal { nth, negative, array })
}

fn hash_in(key: ShardKey, sql: &str) -> Option<i32> {
    key.hash_in(sql.as_bytes(), LexOptions::default(), false)
}

fn int(value: i64) -> Option<i32> {
    KeyType::Int.hash_of(&value.to_be_bytes(), Format::Binary, false)
}

fn text(value: &str) -> Option<i32> {
    KeyType::Text.hash_of(value.as_bytes(), Format::Binary, true)
}

#[test]
fn a_literal_is_found_by_its_place() {
    let second = literal(KeyType::Int, 1, false, false);
    assert_eq!(hash_in(second, "/* 1 */ SELECT 'a' FROM t WHERE x = 5 LIMIT 9"), int(5));
    assert_eq!(hash_in(second, "SELECT x IN (1, 2, 3) FROM t WHERE p = '7'"), int(7));
    assert_eq!(hash_in(second, "SELECT 1"), None);
    let minus = literal(KeyType::Int, 0, true, false);
    assert_eq!(hash_in(minus, "p = -9223372036854775808"), int(i64::MIN));
    assert_eq!(hash_in(minus, "p = -'5'"), None);
    let first = literal(KeyType::Int, 0, false, false);
    for odd in ["5.0", "5e0", "0x5", "5_0", "9223372036854775808", "B'101'", "X'5'", "N'5'", "U&'5'"] {
        assert_eq!(hash_in(first, &format!("p = {odd}")), None, "{odd}");
    }
    let array = literal(KeyType::Int, 0, false, true);
    assert_eq!(hash_in(array, "p = ANY('{5}')"), int(5));
    assert_eq!(hash_in(array, "p = ANY(' { 5 } ')"), int(5));
    assert_eq!(hash_in(array, "p = ANY('{\"5\"}')"), int(5));
    for other in ["'{5,6}'", "'{}'", "'{NULL}'", "'{{5}}'", "'[0:0]={5}'", "5", "'{5'"] {
        assert_eq!(hash_in(array, &format!("p = ANY({other})")), None, "{other}");
    }
    let constant = owner(KeyType::Bool, KeyAt::Constant { hash: 7 });
    assert_eq!(hash_in(constant, "p = TRUE"), Some(7));
}

#[test]
fn strings_are_read_only_where_nothing_in_them_is_escaped() {
    let key = literal(KeyType::Text, 0, false, false);
    for (written, value) in [
        ("'abc'", "abc"),
        ("''", ""),
        ("'it''s'", "it's"),
        ("''''", "'"),
        ("'a\\b'", "a\\b"),
        ("E'abc'", "abc"),
        ("$$abc$$", "abc"),
        ("$q$it's$q$", "it's"),
    ] {
        assert_eq!(hash_in(key, &format!("p = {written}")), text(value), "{written}");
    }
    for written in ["E'a\\n'", "'a'\n'b'", "'a''b'\n'c'", "U&'a'", "5", "'ä'"] {
        assert_eq!(hash_in(key, &format!("p = {written}")), None, "{written}");
    }
    assert_eq!(key.hash_in("p = 'ä'".as_bytes(), LexOptions::default(), true), text("ä"));
    let old = LexOptions { standard_conforming_strings: false, ..LexOptions::default() };
    assert_eq!(key.hash_in(b"p = 'a\\b'", old, true), None);
    let unsafe_encoding = LexOptions { safe_encoding: false, ..LexOptions::default() };
    assert_eq!(key.hash_in("p = 'a' AND x = 'ä'".as_bytes(), unsafe_encoding, true), None);
}

#[test]
fn parameters_count_by_the_type_that_they_have() {
    let of = |key, cast, array| owner(key, KeyAt::Param { number: 1, cast, array });
    let plain = of(KeyType::Int, None, false);
    let read =
        |key: ShardKey, declared, format, value: &[u8]| key.hash_of_parameter(declared, format, Some(value), false);
    for (declared, value) in [(0, &5i64.to_be_bytes()[..]), (23, &5i32.to_be_bytes()), (21, &5i16.to_be_bytes())] {
        assert_eq!(read(plain, declared, Format::Binary, value), int(5), "{declared}");
    }
    assert_eq!(read(plain, 20, Format::Text, b" 5"), int(5));
    for declared in [25, 1700, 701, 705, 16_400] {
        assert_eq!(read(plain, declared, Format::Text, b"5"), None, "{declared}");
    }
    assert_eq!(plain.hash_of_parameter(20, Format::Text, None, false), None);
    assert_eq!(read(of(KeyType::Int, Some(KeyType::Int), false), 0, Format::Text, b"5"), int(5));
    assert_eq!(read(of(KeyType::Int, Some(KeyType::Text), false), 0, Format::Text, b"5"), None);
    assert_eq!(read(of(KeyType::Text, None, false), 705, Format::Text, b"a"), text("a"));
    assert_eq!(read(of(KeyType::Text, None, false), 1042, Format::Text, b"a"), None);
    assert_eq!(hash_in(plain, "p = 5"), None);
    assert_eq!(read(literal(KeyType::Int, 0, false, false), 0, Format::Text, b"5"), None);

    let array = of(KeyType::Int, None, true);
    assert_eq!(read(array, 1016, Format::Text, b"{5}"), int(5));
    assert_eq!(read(array, 0, Format::Text, b"{5,6}"), None);
    assert_eq!(read(array, 20, Format::Text, b"{5}"), None);
    let binary = |words: &[u32], rest: &[u8]| {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.extend(rest);
        bytes
    };
    let five = 5i32.to_be_bytes();
    assert_eq!(read(array, 1007, Format::Binary, &binary(&[1, 0, 23, 1, 1, 4], &five)), int(5));
    for (words, rest) in [
        (&[1, 0, 23, 2, 1, 4][..], &[five, five].concat()[..]),
        (&[2, 0, 23, 1, 1, 4], &five),
        (&[1, 1, 23, 1, 1, u32::MAX], &[]),
        (&[1, 0, 25, 1, 1, 4], &five),
        (&[0, 0, 23], &[]),
        (&[1, 0, 23, 1, 1, 5], &five),
    ] {
        assert_eq!(read(array, 0, Format::Binary, &binary(words, rest)), None, "{words:?}");
    }
}

#[test]
fn a_number_stands_for_one_key() {
    let key = literal(KeyType::Int, 3, false, false);
    let id = ShardKeyId::of(key);
    assert_eq!(id.get(), Some(&key));
    assert_eq!(ShardKeyId::of(key), id);
    assert_ne!(ShardKeyId::of(ShardKey { writes: true, ..key }), id);
    assert_eq!(ShardKeyId::NONE.get(), None);
}

#[test]
fn a_distribution_is_what_its_tables_are() {
    let table = |schema: &str, name: &str, kind| DistributedTable {
        schema: schema.into(),
        name: name.into(),
        is_numbered: name == "numbered",
        own_types: Box::default(),
        kind,
    };
    let one = table("public", "plans", TableKind::Reference);
    let two = table("other", "plans", TableKind::Other);
    let both = Distribution::new([one.clone(), two.clone()]);
    assert_eq!(both, Distribution::new([two.clone(), one.clone()]));
    assert_ne!(both, Distribution::new([one.clone()]));
    let catalog = super::super::knowledge::Catalog::Absent;
    assert_eq!(both.find(Some("public"), "plans", &catalog), Some(&one));
    assert_eq!(both.find(Some("else"), "plans", &catalog), None);
    // No catalog tells that no other relation has that name.
    assert_eq!(Distribution::new([one]).find(None, "plans", &catalog), None);
}
