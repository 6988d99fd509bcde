use super::BlockControl::{End, Modes, Release, RollbackTo, Savepoint, Timeout};
use super::Isolation::{ReadCommitted, RepeatableRead, Serializable};
use super::*;

#[test]
fn trap_22_what_can_be_answered_early() {
    let begin = |tag, read_only, isolation| BlockControl::Begin { tag, modes: BlockModes { read_only, isolation } };
    let modes = |read_only, isolation| Modes(BlockModes { read_only, isolation });
    let timeout = |name, value: &str| Timeout { name, value: value.to_owned() };
    let point = |name: &str| name.as_bytes().into();
    let end = |rolls_back, chain| Some(End { rolls_back, chain });
    for (sql, expected) in [
        ("BEGIN", Some(begin("BEGIN", None, None))),
        ("begin work;", Some(begin("BEGIN", None, None))),
        ("/* x */ BEGIN TRANSACTION READ ONLY -- y", Some(begin("BEGIN", Some(true), None))),
        (
            "START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE",
            Some(begin("START TRANSACTION", Some(false), Some(Serializable))),
        ),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ DEFERRABLE", Some(begin("BEGIN", None, Some(RepeatableRead)))),
        ("BEGIN ISOLATION LEVEL CHAOS", None),
        ("BEGIN ,READ ONLY", None),
        ("BEGIN READ ONLY,", None),
        ("BEGIN; SELECT 1", None),
        ("BEGIN nonsense", None),
        ("START", None),
        ("COMMIT", end(false, false)),
        ("END TRANSACTION AND NO CHAIN", end(false, false)),
        ("COMMIT AND CHAIN", end(false, true)),
        ("ABORT WORK AND CHAIN", end(true, true)),
        ("COMMIT AND CHAINS", None),
        ("COMMIT PREPARED 'x'", None),
        ("ROLLBACK WORK", end(true, false)),
        ("abort;", end(true, false)),
        ("ROLLBACK TO a", Some(RollbackTo(point("a")))),
        ("abort work to savepoint \"B c\";", Some(RollbackTo(point("B c")))),
        ("ROLLBACK TO SAVEPOINT", Some(RollbackTo(point("savepoint")))),
        ("SAVEPOINT A", Some(Savepoint(point("a")))),
        ("SAVEPOINT a b", None),
        ("SAVEPOINT", None),
        ("SAVEPOINT \u{e9}", None),
        ("SAVEPOINT a2345678901234567890123456789012345678901234567890123456789012345", None),
        ("RELEASE SAVEPOINT a", Some(Release(point("a")))),
        ("release a", Some(Release(point("a")))),
        ("RELEASE a; SELECT 1", None),
        ("SET TRANSACTION READ ONLY", Some(modes(Some(true), None))),
        ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", Some(modes(None, Some(ReadCommitted)))),
        ("SET TRANSACTION", None),
        ("SET TRANSACTION SNAPSHOT 'x'", None),
        ("SET LOCAL statement_timeout = '5s'", Some(timeout("statement_timeout", "5s"))),
        ("SET LOCAL lock_timeout TO 100", Some(timeout("lock_timeout", "100"))),
        ("SET LOCAL lock_timeout TO 010", None),
        ("SET LOCAL lock_timeout TO '30d'", None),
        ("SET LOCAL lock_timeout TO 2147483648", None),
        ("SET LOCAL lock_timeout TO '1 parsec'", None),
        ("SET LOCAL work_mem = '5MB'", None),
        ("SET statement_timeout = 5", None),
        ("SELECT 1", None),
    ] {
        assert_eq!(block_control(sql.as_bytes(), LexOptions::default()), expected, "{sql}");
    }
}

#[test]
fn the_end_of_a_block_and_what_comes_behind_it() {
    let read = |sql: &str| leading_end(sql.as_bytes(), LexOptions::default());
    let end = |rolls_back, chain, more| Some(BlockEnd { rolls_back, chain, more });
    for (sql, expected) in [
        ("COMMIT", end(false, false, false)),
        ("; end transaction and no chain;;", end(false, false, false)),
        ("COMMIT AND CHAIN", end(false, true, false)),
        ("abort work and chain; SELECT 1", end(true, true, true)),
        ("ROLLBACK; BEGIN", end(true, false, true)),
        ("ROLLBACK TO a; COMMIT", None),
        ("COMMIT PREPARED 'a'", None),
        ("COMMIT nonsense", None),
        ("COMMIT; SELECT 'never ends", None),
        ("SELECT 1; COMMIT", None),
        ("", None),
    ] {
        assert_eq!(read(sql), expected, "{sql}");
    }
}

#[test]
fn the_end_of_a_block_in_the_middle_of_a_text() {
    for (sql, expected) in [
        ("SELECT 1; COMMIT; SELECT 2", Some("COMMIT; SELECT 2")),
        (";SELECT 'ü'; /* c */ end work ;;SELECT 2", Some("end work ;;SELECT 2")),
        ("SELECT 1; SAVEPOINT a; ROLLBACK TO a; ROLLBACK AND CHAIN", Some("ROLLBACK AND CHAIN")),
        ("SELECT 1; COMMIT; COMMIT", Some("COMMIT; COMMIT")),
        ("SELECT 1; COMMIT;;", None),
        ("SELECT 1; COMMIT PREPARED 'a'; SELECT 2", None),
        ("SELECT 1; COMMIT; SELECT 'never ends", None),
        ("COMMIT; SELECT 1; COMMIT; SELECT 2", None),
        ("SELECT 1; SELECT 2", None),
        ("", None),
    ] {
        assert_eq!(inner_end(sql.as_bytes(), LexOptions::default()), expected.and_then(|end| sql.find(end)), "{sql}");
    }
}

#[test]
fn a_rollback_of_all_and_nothing_else() {
    let is = |sql: &[u8]| is_rollback(sql, LexOptions::default());
    for sql in ["ROLLBACK", "/* over */ abort work;", "rollback transaction and chain", ";ROLLBACK AND NO CHAIN -- all"]
    {
        assert!(is(sql.as_bytes()), "{sql}");
    }
    for sql in
        ["COMMIT", "ROLLBACK TO a", "ABORT WORK TO a", "ROLLBACK PREPARED 'x'", "ROLLBACK; SELECT 1", "", "rollbacks"]
    {
        assert!(!is(sql.as_bytes()), "{sql}");
    }
    let unsafe_encoding = LexOptions { safe_encoding: false, ..LexOptions::default() };
    assert!(!is_rollback(b"ROLLBACK /* \x81\x5c */", unsafe_encoding));
    assert!(is_rollback(b"ROLLBACK", unsafe_encoding));
}
