#![allow(clippy::unwrap_used)]

use super::*;

fn of(sql: &str) -> Fingerprint {
    fingerprint(sql.as_bytes(), LexOptions::default())
}

#[test]
fn what_does_not_matter() {
    let same = [
        ("SELECT 1", "select 2"),
        ("SELECT 1", "SELECT 1;"),
        ("SELECT 1", ";; SELECT 1 ;"),
        ("SELECT  a\n FROM t", "select a from T"),
        ("SELECT a FROM t WHERE b = 'x'", "SELECT a FROM t WHERE b=E'it\\'s'"),
        ("SELECT a FROM t WHERE b = 'x'", "SELECT a FROM t WHERE b = $tag$;$tag$"),
        ("SELECT /* why */ 1 -- done", "SELECT 1"),
        ("SELECT a FROM t WHERE b IN (1, 2, 3)", "SELECT a FROM t WHERE b IN ('x')"),
        ("SELECT a FROM t WHERE b IN ($1, $2)", "SELECT a FROM t WHERE b in ($1)"),
        ("SELECT abcdefghijklmnop", "SELECT ABCDEFGHIJKLMNOP"),
    ];
    for (a, b) in same {
        assert_eq!(of(a), of(b), "{a} | {b}");
    }
}

#[test]
fn what_does_matter() {
    let different = [
        ("SELECT a", "SELECT b"),
        ("SELECT ab c", "SELECT a bc"),
        ("SELECT \"a\"", "SELECT \"A\""),
        ("SELECT 1; SELECT 1", "SELECT 1"),
        ("SELECT 1 /* trunkline: primary */", "SELECT 1"),
        ("SELECT 1 /* trunkline: primary */", "SELECT 1 /* trunkline: replica */"),
        ("SELECT f(1, 2)", "SELECT f(1)"),
        ("SELECT a FROM t WHERE b IN (1, f())", "SELECT a FROM t WHERE b IN (f())"),
        ("SELECT a FROM t WHERE b IN (1, f())", "SELECT a FROM t WHERE b IN (1)"),
        ("SELECT $1", "SELECT $2"),
        ("SELECT a+b", "SELECT a-b"),
        ("SELECT 1", ""),
    ];
    for (a, b) in different {
        assert_ne!(of(a), of(b), "{a} | {b}");
    }
    let sql = br"SELECT '\'; DROP TABLE t; --'";
    let off = LexOptions { standard_conforming_strings: false, ..LexOptions::default() };
    assert_ne!(fingerprint(sql, LexOptions::default()), fingerprint(sql, off), "trap 19");
}

#[test]
fn stable_over_time() {
    // The slow log's readers keep these: a change here is a change for them.
    assert_eq!(of("SELECT abalance FROM pgbench_accounts WHERE aid = 1").to_string().len(), 32);
}

#[test]
fn lower_case_of_eight_bytes() {
    for byte in 0..=255u8 {
        let mut bytes = [b'Q', byte, 0, byte, b'[', b'@', byte, 0x80];
        let chunk = u64::from_le_bytes(bytes);
        bytes.make_ascii_lowercase();
        assert_eq!(lower(chunk).to_le_bytes(), bytes, "{byte}");
    }
}

#[test]
fn partial_chunks() {
    let bytes = [1u8, 2, 3, 4, 5, 6, 7];
    for len in 0..=7 {
        let expected = bytes[..len].iter().rev().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
        assert_eq!(partial(&bytes[..len]), expected, "{len}");
    }
}
