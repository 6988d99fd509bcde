//! What statements do besides reading and writing: the session machine relies on these.

use trunkline::sql::{Effects, Knowledge, LexOptions, Target, analyze};

const LITERAL: Effects = Effects::LITERAL_MATTERS;

fn effects(sql: &str) -> Effects {
    analyze(sql.as_bytes(), LexOptions::default(), &Knowledge::default()).decision.effects
}

#[test]
fn effects_of_statements() {
    use Effects as E;
    let rows: &[(&str, Effects)] = &[
        ("SELECT 1", E::empty()),
        ("SELECT 1; SELECT 2", E::MULTI),
        ("SELECT now()", E::TELLS_TIME),
        ("SELECT pg_catalog.age(a) FROM t", E::TELLS_TIME),
        ("SELECT a FROM t WHERE b < Current_Date", E::TELLS_TIME),
        ("SELECT current_timestamp(0)", E::TELLS_TIME),
        ("SELECT 'now()', now, \"current_date\" FROM t", E::empty()),
        ("EXPLAIN SELECT now()", E::empty()),
        ("EXPLAIN ANALYZE SELECT now()", E::TELLS_TIME),
        ("INSERT INTO t VALUES (1)", E::WRITES),
        ("SELECT * FROM t FOR UPDATE", E::empty()),
        ("SELECT * FROM t FOR NO KEY UPDATE", E::empty()),
        ("SELECT f() FROM t FOR KEY SHARE", E::WRITES),
        ("SELECT f()", E::WRITES),
        ("SELECT pg_backend_pid()", E::empty()),
        ("SELECT pg_backend_pid(), f()", E::WRITES),
        ("BEGIN", E::BEGIN),
        ("BEGIN READ ONLY", E::BEGIN.union(E::READ_ONLY)),
        ("BEGIN READ WRITE", E::BEGIN.union(E::READ_WRITE)),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", E::BEGIN.union(E::SERIALIZABLE)),
        ("/* trunkline: primary */ BEGIN READ ONLY", E::BEGIN.union(E::HINTED)),
        ("COMMIT", E::TX_END),
        ("COMMIT AND CHAIN", E::TX_END),
        ("END", E::TX_END),
        ("ABORT", E::TX_END),
        ("PREPARE TRANSACTION 'x'", E::TX_END.union(E::WRITES)),
        ("COMMIT PREPARED 'x'", E::WRITES),
        ("ROLLBACK TO a", E::SAVEPOINT),
        ("SAVEPOINT a", E::SAVEPOINT),
        ("SET a = 1", E::SET_SESSION.union(LITERAL)),
        ("SET LOCAL a = 1", E::SET_LOCAL.union(LITERAL)),
        ("SET TRANSACTION READ ONLY", E::SET_LOCAL.union(E::SET_TX_READ_ONLY)),
        ("SET TRANSACTION READ WRITE", E::SET_LOCAL.union(E::READ_WRITE)),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY", E::SET_LOCAL.union(E::SERIALIZABLE)),
        ("SET transaction_read_only = on", E::SET_LOCAL.union(E::SET_TX_READ_ONLY).union(LITERAL)),
        ("SET CONSTRAINTS ALL IMMEDIATE", E::SET_LOCAL),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", E::SET_SESSION.union(LITERAL)),
        ("SET ROLE x", E::SET_SESSION.union(LITERAL)),
        ("SET trunkline.route = primary", E::OWN_SETTING.union(LITERAL)),
        ("SHOW trunkline.route", E::OWN_SETTING),
        ("CREATE FUNCTION f() RETURNS text RETURN set_config('a', 'b', false)", E::WRITES),
        ("CREATE OR REPLACE PROCEDURE f() BEGIN ATOMIC SELECT setseed(0.5), pg_advisory_lock(1); END", E::WRITES),
        ("CREATE VIEW v AS SELECT set_config('a', 'b', false)", E::WRITES),
        ("CREATE TABLE v AS SELECT setseed(0.5)", E::WRITES.union(E::SESSION_STATE)),
        ("CREATE MATERIALIZED VIEW v AS SELECT setseed(0.5)", E::WRITES.union(E::SESSION_STATE)),
        ("SET SEED TO 0.5", E::SET_SESSION.union(E::SESSION_STATE).union(LITERAL)),
        ("SELECT setseed(0.5)", E::SESSION_STATE),
        ("SELECT set_config('a', 'b', true)", E::SET_LOCAL.union(LITERAL)),
        ("SELECT set_config('a', 'b', 't'::bool)", E::SET_LOCAL.union(LITERAL)),
        ("SELECT set_config('a', 'b', ' Tru ')", E::SET_LOCAL.union(LITERAL)),
        ("SELECT set_config('a', 'b', 'of')", E::SET_SESSION.union(LITERAL)),
        // A column, whatever it is called.
        (
            "SELECT set_config('a', 'b', t) FROM (VALUES (false)) v(t)",
            E::SET_SESSION.union(E::SET_LOCAL).union(LITERAL),
        ),
        ("SELECT set_config('a', 'b', yes) FROM v", E::SET_SESSION.union(E::SET_LOCAL).union(LITERAL)),
        ("SELECT set_config('x', 'y', false)", E::SET_SESSION.union(LITERAL)),
        ("SELECT set_config('a', lower('b,c'), is_local => false)", E::SET_SESSION.union(LITERAL)),
        ("SELECT set_config('a', 'b', $1)", E::SET_SESSION.union(E::SET_LOCAL).union(LITERAL)),
        ("SELECT set_config(a, b, c) FROM t", E::SET_SESSION.union(E::SET_LOCAL).union(LITERAL)),
        ("INSERT INTO t SELECT set_config('a', 'b', false)", E::WRITES.union(E::SET_SESSION).union(LITERAL)),
        ("RESET a", E::SET_SESSION.union(E::RELEASES_ONLY)),
        ("RESET ALL", E::SET_SESSION.union(E::RELEASES_ONLY)),
        ("DISCARD ALL", E::DISCARD_ALL.union(E::DEALLOCATE_ALL).union(E::RELEASES_ONLY)),
        ("DISCARD PLANS", E::RELEASES_ONLY),
        ("PREPARE p AS SELECT 1", E::SQL_PREPARE),
        ("EXECUTE p", E::SQL_EXECUTE.union(E::WRITES).union(LITERAL)),
        ("EXPLAIN EXECUTE p", E::SQL_EXECUTE.union(LITERAL)),
        ("EXPLAIN DELETE FROM t", E::empty()),
        ("EXPLAIN SELECT pg_advisory_lock(1)", E::empty()),
        ("EXPLAIN ANALYZE SELECT pg_advisory_lock(1)", E::ADVISORY_LOCK),
        ("DEALLOCATE p", E::SQL_PREPARE.union(E::RELEASES_ONLY)),
        ("DEALLOCATE ALL", E::DEALLOCATE_ALL.union(E::RELEASES_ONLY)),
        ("LISTEN c", E::LISTEN),
        ("UNLISTEN *", E::LISTEN.union(E::RELEASES_ONLY)),
        ("NOTIFY c", E::NOTIFIES),
        ("SELECT pg_notify('c', 'x')", E::NOTIFIES),
        ("SELECT * FROM pg_catalog.pg_listening_channels()", E::ASKS_CHANNELS),
        ("LOAD 'x'", E::SESSION_STATE),
        ("CREATE OR REPLACE FUNCTION f() RETURNS trigger AS 'x' LANGUAGE C", E::WRITES.union(E::SESSION_STATE)),
        ("CREATE PROCEDURE p() LANGUAGE \"c\" AS 'x', 'y'", E::WRITES.union(E::SESSION_STATE)),
        ("CREATE FUNCTION f(c int) RETURNS int LANGUAGE 'C' AS 'x'", E::WRITES.union(E::SESSION_STATE).union(LITERAL)),
        ("CREATE FUNCTION f(c int) RETURNS int LANGUAGE 'sql' AS 'x'", E::WRITES.union(LITERAL)),
        ("CREATE FUNCTION f(c int) RETURNS int LANGUAGE sql AS $$SELECT 1 language c$$", E::WRITES),
        ("CREATE TABLE function (language c)", E::WRITES),
        ("CREATE TEMP TABLE t (a int)", E::WRITES.union(E::TEMP_OBJECT)),
        ("CREATE TABLE pg_temp.t (a int)", E::WRITES.union(E::TEMP_OBJECT)),
        ("CREATE TABLE temp (temp int)", E::WRITES),
        ("SELECT 1 INTO TEMP x", E::WRITES.union(E::TEMP_OBJECT)),
        ("SELECT 1 INTO x", E::WRITES),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", E::CURSOR.union(E::HOLD_CURSOR)),
        ("DECLARE c CURSOR FOR SELECT 1", E::CURSOR),
        ("FETCH c", E::CURSOR),
        ("CLOSE ALL", E::CURSOR.union(E::RELEASES_ONLY)),
        ("SELECT pg_advisory_lock(1)", E::ADVISORY_LOCK),
        ("SELECT pg_try_advisory_lock(1)", E::ADVISORY_LOCK),
        ("SELECT pg_advisory_xact_lock(1)", E::empty()),
        ("SELECT pg_advisory_unlock(1)", E::UNLOCKS.union(E::RELEASES_ONLY)),
        ("SELECT pg_advisory_unlock_all()", E::UNLOCKS.union(E::RELEASES_ONLY)),
        ("SELECT pg_advisory_unlock(1), pg_advisory_lock(2)", E::ADVISORY_LOCK.union(E::UNLOCKS)),
        ("SELECT pg_advisory_unlock(1), f()", E::WRITES.union(E::UNLOCKS)),
        ("UPDATE t SET a = 1 WHERE pg_try_advisory_lock(a)", E::WRITES.union(E::ADVISORY_LOCK)),
        ("SELECT nextval('s')", E::WRITES),
        ("SELECT currval('s')", E::SEQUENCE_STATE),
        ("SELECT lastval()", E::SEQUENCE_STATE),
        ("COPY t FROM STDIN", E::WRITES.union(E::COPY)),
        ("COPY t TO STDOUT", E::COPY),
        ("COPY t TO '/x'", E::empty()),
        ("COPY (SELECT 1) TO STDOUT", E::COPY),
        ("VACUUM", E::WRITES),
        ("CALL p()", E::WRITES),
        ("LOCK TABLE t", E::empty()),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END", E::WRITES),
        // A semicolon ends a statement, whatever is called `begin`.
        (
            "CREATE OR REPLACE FUNCTION f(begin date) RETURNS int LANGUAGE sql AS 'x'; SAVEPOINT a",
            after_ddl(E::SAVEPOINT),
        ),
        (
            "CREATE FUNCTION begin() RETURNS TABLE (begin date) LANGUAGE sql AS 'x'; SAVEPOINT a",
            after_ddl(E::SAVEPOINT),
        ),
        (
            "CREATE FUNCTION f() BEGIN ATOMIC SELECT begin, a.case, 1 AS end FROM a; SELECT CASE 1 END; END; SAVEPOINT a",
            after_ddl(E::SAVEPOINT),
        ),
        ("CREATE TABLE \"pg_temp\".t (a int)", E::WRITES.union(E::TEMP_OBJECT)),
        ("SELECT 1 AS a INTO \"pg_temp\".t", E::WRITES.union(E::TEMP_OBJECT)),
        ("SELECT pg_export_snapshot()", E::SET_LOCAL),
        ("SELECT pg_backup_start('a')", E::WRITES.union(E::SESSION_STATE)),
        ("SELECT pg_replication_origin_session_setup('a')", E::SESSION_STATE),
    ];
    let wrong: Vec<String> = rows
        .iter()
        .filter(|(sql, expected)| effects(sql) != *expected)
        .map(|(sql, expected)| format!("{sql}\n    expected {expected:?}, got {:?}", effects(sql)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a string has in which another statement follows one that changes the schema.
fn after_ddl(effects: Effects) -> Effects {
    effects | Effects::WRITES | Effects::MULTI
}

#[test]
fn asyncpgs_reset_query_releases_only() {
    let sql = "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;";
    let decision = analyze(sql.as_bytes(), LexOptions::default(), &Knowledge::default()).decision;
    assert_eq!(decision.target, Target::Primary);
    assert!(decision.effects.contains(Effects::RELEASES_ONLY));
    assert!(!decision.effects.intersects(Effects::ADVISORY_LOCK | Effects::WRITES));
    assert!(!effects("RESET ALL; SET a = 1").contains(Effects::RELEASES_ONLY));
    assert!(!effects("RESET ALL; SELECT 1").contains(Effects::RELEASES_ONLY));
}
