//! Texts that a reader by bytes takes for something else than the server does (trap 19).

use crate::support::frames::Batch;
use crate::support::world::{Plan, Step, ready};
use crate::unharmed;

fn bytes(sql: &[u8]) -> Step {
    ready(Batch::new().raw(b'Q', &[sql, b"\0"].concat()))
}

fn text(sql: &str) -> Step {
    bytes(sql.as_bytes())
}

fn parsed(sql: &[u8]) -> Step {
    ready(Batch::new().raw(b'P', &[b"\0", sql, b"\0\0\0"].concat()).bind("", "", &[]).execute("", 0).sync())
}

/// Halves of characters that are a backslash, and what a reader by bytes would make of the quote behind them.
fn halves(encoding: &str, character: &[u8]) -> Vec<Step> {
    let mut script = vec![
        text("TRUNCATE t"),
        text("INSERT INTO t VALUES (1)"),
        text(&format!("SET client_encoding TO '{encoding}'")),
    ];
    for standard in ["on", "off"] {
        script.push(text(&format!("SET standard_conforming_strings = {standard}")));
        let with = |before: &str, after: &str| [before.as_bytes(), character, after.as_bytes()].concat();
        for sql in [
            with("SELECT '", "'"),
            // Taken for an escaped quote, the write would be the content of a constant.
            with("SELECT '", "'; INSERT INTO t VALUES (2); --'"),
            with("SELECT E'", "'; INSERT INTO t VALUES (3); --'"),
            with("SELECT '", "' || '; DELETE FROM t; --'"),
            with("SELECT \"", "\" FROM (SELECT 1 AS \"x\") AS s"),
            with("/* ", " */ INSERT INTO t VALUES (4)"),
            with("SELECT $", "$ ' $ ; INSERT INTO t VALUES (5); --"),
            with("SELECT 1 -- ", "\n; INSERT INTO t VALUES (6)"),
        ] {
            script.push(bytes(&sql));
            script.push(parsed(&sql));
            script.push(text("SELECT count(*), sum(n) FROM t"));
        }
    }
    script.push(text("RESET client_encoding; RESET standard_conforming_strings"));
    script.push(text("SELECT n FROM t ORDER BY n"));
    script
}

#[test]
fn trap_19_encodings_with_backslashes_in_characters() {
    let world = Plan { sql: "CREATE TABLE t (n int)", ..Plan::default() }.start();
    let mut bystander = world.client();
    // 0x5C is the second half of each: 表 in SJIS, 功 in BIG5, 乗 in GBK, and a character of GB18030, JOHAB and UHC.
    for (encoding, character) in [
        ("SJIS", &b"\x95\x5c"[..]),
        ("BIG5", b"\xa5\x5c"),
        ("GBK", b"\x81\x5c"),
        ("GB18030", b"\x81\x5c"),
        ("SHIFT_JIS_2004", b"\x95\x5c"),
        ("UHC", b"\x81\x5c"),
        ("JOHAB", b"\x89\x5c"),
    ] {
        world.compare(encoding, &halves(encoding, character));
    }
    // No whole character of UTF-8: the server refuses it, in its own words.
    world.compare("UTF8", &halves("UTF8", b"\xc3\x5c"));
    world.compare("LATIN1", &halves("LATIN1", b"\xe4\x5c"));
    unharmed(&world, &mut bystander);
}

#[test]
fn trap_19_backslashes_when_strings_are_not_standard() {
    let world = Plan { sql: "CREATE TABLE t (n int)", ..Plan::default() }.start();
    let mut bystander = world.client();
    let mut script = vec![text("TRUNCATE t")];
    for standard in ["off", "on"] {
        script.push(text(&format!("SET standard_conforming_strings = {standard}")));
        for sql in [
            r"SELECT '\'; INSERT INTO t VALUES (1); --'",
            r"SELECT '\\'; INSERT INTO t VALUES (2); --'",
            r"SELECT E'\'; INSERT INTO t VALUES (3); --'",
            r"SELECT '\'' || '; INSERT INTO t VALUES (4); --'",
            r"SELECT U&'\0061'; INSERT INTO t VALUES (5)",
            r"SELECT '\' /* trunkline: replica */, 1",
        ] {
            script.extend([text(sql), parsed(sql.as_bytes()), text("SELECT count(*), sum(n) FROM t")]);
        }
    }
    world.compare("scs", &script);
    unharmed(&world, &mut bystander);
}

#[test]
fn bytes_that_are_no_text() {
    let world = Plan { sql: "CREATE TABLE t (n int)", ..Plan::default() }.start();
    let mut bystander = world.client();
    let mut script = Vec::new();
    for sql in [
        &b"SELECT '\xff'"[..],
        b"SELECT '\xc3'",
        b"SELECT '\xed\xa0\x80'",
        b"SELECT '\xf8\x88\x80\x80\x80'",
        b"\xff\xfe",
        b"SELECT \x01\x02",
        b"SELECT 1 \xc2",
        b"/* \xff */ SELECT 1",
        b"INSERT INTO t VALUES ('\xff')",
        b"SELECT \"\xff\"",
    ] {
        script.push(bytes(sql));
        script.push(parsed(sql));
    }
    world.compare("no UTF-8", &script);
    // A NUL ends the text: what is behind it cannot be a message of the protocol.
    for tail in [&b"\0"[..], b"\0; DELETE FROM t"] {
        let mut client = world.client();
        client.send(&Batch::new().raw(b'Q', &[b"SELECT 1", tail, b"\0"].concat()));
        assert_eq!(client.recv().sqlstate(), "08P01");
        assert!(client.is_closed());
    }
    unharmed(&world, &mut bystander);
}
