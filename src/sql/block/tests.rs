use super::BlockControl::{Commit, Modes, Rollback, Timeout};
use super::*;

#[test]
fn trap_22_what_can_be_answered_early() {
    let begin =
        |tag, read_only, serializable| BlockControl::Begin { tag, modes: BlockModes { read_only, serializable } };
    let modes = |read_only, serializable| Modes(BlockModes { read_only, serializable });
    for (sql, expected) in [
        ("BEGIN", Some(begin("BEGIN", None, None))),
        ("begin work;", Some(begin("BEGIN", None, None))),
        ("/* x */ BEGIN TRANSACTION READ ONLY -- y", Some(begin("BEGIN", Some(true), None))),
        (
            "START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE",
            Some(begin("START TRANSACTION", Some(false), Some(true))),
        ),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ DEFERRABLE", Some(begin("BEGIN", None, Some(false)))),
        ("BEGIN ISOLATION LEVEL CHAOS", None),
        ("BEGIN ,READ ONLY", None),
        ("BEGIN READ ONLY,", None),
        ("BEGIN; SELECT 1", None),
        ("BEGIN nonsense", None),
        ("START", None),
        ("COMMIT", Some(Commit)),
        ("END TRANSACTION AND NO CHAIN", Some(Commit)),
        ("COMMIT AND CHAIN", None),
        ("COMMIT PREPARED 'x'", None),
        ("ROLLBACK WORK", Some(Rollback)),
        ("abort;", Some(Rollback)),
        ("ROLLBACK TO a", None),
        ("SET TRANSACTION READ ONLY", Some(modes(Some(true), None))),
        ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", Some(modes(None, Some(false)))),
        ("SET TRANSACTION", None),
        ("SET TRANSACTION SNAPSHOT 'x'", None),
        ("SET LOCAL statement_timeout = '5s'", Some(Timeout)),
        ("SET LOCAL lock_timeout TO 100", Some(Timeout)),
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
