//! Reads that depend on the schema, after a change of it by the session itself and by another one.

use super::*;

/// What there is before, what is changed, and a read that shows it. Each `{}` is the case's own number.
type Case = (&'static str, &'static str, &'static str);

const NAMES_AND_PRIVILEGES: [Case; 18] = [
    ("", "CREATE TABLE b{} (i int)", "SELECT to_regclass('b{}') IS NULL"),
    ("", "CREATE TABLE b{} (i int)", "SELECT 'b{}'::regclass"),
    ("CREATE TABLE b{} (i int)", "CREATE INDEX i{} ON b{} (i)", "SELECT to_regclass('i{}') IS NULL"),
    ("CREATE TABLE b{} (i int)", "DROP TABLE b{}", "SELECT to_regclass('b{}') IS NULL"),
    ("", "CREATE TYPE d{} AS ENUM ('x')", "SELECT to_regtype('d{}')"),
    ("", "CREATE FUNCTION f{}() RETURNS int LANGUAGE sql AS 'SELECT 1'", "SELECT to_regproc('f{}')"),
    ("", "CREATE ROLE r{}", "SELECT to_regrole('r{}')"),
    ("", "CREATE SCHEMA s{}", "SELECT to_regnamespace('s{}')"),
    ("CREATE TYPE d{} AS ENUM ('a')", "ALTER TYPE d{} RENAME TO e{}", "SELECT format_type(to_regtype('e{}'), NULL)"),
    ("", "DO $$BEGIN CREATE TABLE b{} (i int); END$$", "SELECT to_regclass('b{}') IS NULL"),
    ("", "BEGIN; CREATE TABLE b{} (i int); COMMIT", "SELECT to_regclass('b{}') IS NULL"),
    ("", "SELECT 1 AS i INTO b{}", "SELECT to_regclass('b{}') IS NULL"),
    (
        "CREATE TABLE b{} (i int)",
        "GRANT SELECT ON b{} TO other",
        "SELECT has_table_privilege('other', 'b{}', 'select')",
    ),
    (
        "CREATE TABLE b{} (i int); GRANT SELECT ON b{} TO other",
        "REVOKE SELECT ON b{} FROM other",
        "SELECT has_table_privilege('other', 'b{}', 'select')",
    ),
    ("CREATE SCHEMA s{}", "GRANT USAGE ON SCHEMA s{} TO other", "SELECT has_schema_privilege('other', 's{}', 'usage')"),
    (
        "CREATE FUNCTION f{}() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "REVOKE EXECUTE ON FUNCTION f{}() FROM public",
        "SELECT has_function_privilege('other', 'f{}()', 'execute')",
    ),
    ("CREATE ROLE r{}", "GRANT r{} TO other", "SELECT pg_has_role('other', 'r{}', 'member')"),
    (
        "CREATE TABLE b{} (i int); INSERT INTO b{} VALUES (1); GRANT SELECT ON b{} TO app",
        "ALTER TABLE b{} ENABLE ROW LEVEL SECURITY; ALTER TABLE b{} FORCE ROW LEVEL SECURITY",
        "SELECT row_security_active('b{}')",
    ),
];

const TYPES_AND_DEFINITIONS: [Case; 20] = [
    ("CREATE TYPE d{} AS ENUM ('a')", "ALTER TYPE d{} ADD VALUE 'b'", "SELECT 'b'::d{}"),
    ("CREATE TYPE d{} AS ENUM ('a')", "ALTER TYPE d{} ADD VALUE 'b'", "SELECT enum_range(NULL::d{})"),
    ("CREATE TYPE d{} AS ENUM ('a')", "ALTER TYPE d{} RENAME VALUE 'a' TO 'z'", "SELECT enum_first(NULL::d{})"),
    ("CREATE TYPE d{} AS ENUM ('a')", "DROP TYPE d{}", "SELECT 'a'::d{}"),
    ("CREATE DOMAIN d{} AS int", "ALTER DOMAIN d{} ADD CHECK (VALUE < 5)", "SELECT 7::d{}"),
    ("CREATE TYPE d{} AS (x int)", "ALTER TYPE d{} ADD ATTRIBUTE y int", "SELECT '(1)'::d{}"),
    ("CREATE TABLE b{} (i int)", "COMMENT ON TABLE b{} IS 'x'", "SELECT obj_description('b{}'::regclass)"),
    ("CREATE TABLE b{} (i int)", "COMMENT ON COLUMN b{}.i IS 'x'", "SELECT col_description('b{}'::regclass, 1)"),
    (
        "CREATE VIEW b{} AS SELECT 1 AS x",
        "CREATE OR REPLACE VIEW b{} AS SELECT 2 AS x",
        "SELECT pg_get_viewdef('b{}'::regclass)",
    ),
    (
        "CREATE FUNCTION f{}() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION f{}() RETURNS int LANGUAGE sql AS 'SELECT 2'",
        "SELECT pg_get_functiondef('f{}'::regproc)",
    ),
    (
        "CREATE TEXT SEARCH CONFIGURATION c{} (COPY = simple)",
        "ALTER TEXT SEARCH CONFIGURATION c{} ALTER MAPPING FOR asciiword WITH english_stem",
        "SELECT to_tsvector('c{}', 'running')",
    ),
    ("", "CREATE TEXT SEARCH DICTIONARY c{} (TEMPLATE = simple)", "SELECT ts_lexize('c{}', 'ABC')"),
    (
        "CREATE SEQUENCE q{}; CREATE TABLE b{} (i int)",
        "ALTER SEQUENCE q{} OWNED BY b{}.i",
        "SELECT pg_get_serial_sequence('b{}', 'i')",
    ),
    (
        "CREATE SEQUENCE q{}",
        "ALTER SEQUENCE q{} INCREMENT 7",
        "SELECT (pg_sequence_parameters('q{}'::regclass)).increment",
    ),
    ("", "CREATE COLLATION c{} (LOCALE = 'C')", "SELECT 'a' COLLATE c{} < 'b'"),
    // Functions that no word names.
    (
        "CREATE FUNCTION f{}(int, int) RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
         CREATE OPERATOR ~~~#{} (LEFTARG = int, RIGHTARG = int, FUNCTION = f{})",
        "CREATE OR REPLACE FUNCTION f{}(int, int) RETURNS int LANGUAGE sql STABLE AS 'SELECT 2'",
        "SELECT 1 ~~~#{} 2",
    ),
    (
        "CREATE TYPE d{} AS (x int);
         CREATE FUNCTION f{}(text) RETURNS d{} LANGUAGE sql IMMUTABLE AS 'SELECT ROW(1)::d{}';
         CREATE CAST (text AS d{}) WITH FUNCTION f{}(text)",
        "CREATE OR REPLACE FUNCTION f{}(text) RETURNS d{} LANGUAGE sql IMMUTABLE AS 'SELECT ROW(2)::d{}'",
        "SELECT 'x'::text::d{}",
    ),
    (
        "CREATE FUNCTION f{}(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
         CREATE AGGREGATE g{}(int) (SFUNC = f{}, STYPE = int)",
        "CREATE OR REPLACE FUNCTION f{}(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2'",
        "SELECT g{}(1)",
    ),
    (
        "CREATE FUNCTION f{}() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION f{}() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2'",
        "SELECT f{}()",
    ),
    ("CREATE VIEW b{} AS SELECT 1 AS x", "DROP VIEW b{}", "SELECT * FROM b{}"),
];

/// What comes of a statement: its rows, or the error's SQLSTATE.
fn outcome(client: &mut RawClient, sql: &str) -> String {
    let frames = client.exchange(&query(sql));
    match frames.iter().find(|frame| frame.tag == b'E') {
        Some(error) => error.sqlstate(),
        None => format!("{:?}", frames.iter().filter(|f| f.tag == b'D').map(|f| f.columns()).collect::<Vec<_>>()),
    }
}

/// Changes something while the replica replays nothing; the session and another one must see it then. What they do not, is returned.
pub fn stale(info: &ClusterInfo, proxy: &Trunkline, change: &str, read: &str) -> Vec<String> {
    let mut direct = RawClient::connect(info.primary_port(), APP, APP_PASSWORD, "app");
    let mut sessions = [("its own", client(proxy)), ("another", client(proxy))];
    for (_, session) in &mut sessions {
        until("reads are on the replica", || on_replica(session));
    }
    set_paused(info, 1, true);
    let before = outcome(&mut direct, read);
    for (whose, session) in &mut sessions {
        assert_eq!(outcome(session, read), before, "{whose} session, before: {read}");
    }
    let frames = sessions[0].1.exchange(&query(change));
    assert!(!tags(&frames).contains('E'), "{change}: {frames:?}");
    let after = outcome(&mut direct, read);
    assert_ne!(before, after, "it makes no difference: {change}: {read}");
    let seen = sessions.iter_mut().map(|(whose, session)| (*whose, outcome(session, read)));
    let stale = seen.filter(|(_, seen)| *seen != after);
    let stale = stale.map(|(whose, seen)| format!("{whose} session: {change}: {read}: {seen}, not {after}")).collect();
    set_paused(info, 1, false);
    stale
}

/// All of these are seen.
fn sees(cases: &[Case]) {
    let cluster = cluster(1);
    let info = cluster.info();
    make_table(info);
    info.query(0, "postgres", "ALTER ROLE app CREATEROLE").unwrap();
    let sign = |number: usize| ["#", "@", "%", "&", "!", "|"].iter().cycle().nth(number).copied().unwrap_or_default();
    let of = |number: usize, sql: &str| {
        sql.replace("~~~#{}", &format!("~~~{}", sign(number))).replace("{}", &number.to_string())
    };
    let mut direct = RawClient::connect(info.primary_port(), APP, APP_PASSWORD, "app");
    for (number, (setup, ..)) in cases.iter().enumerate() {
        direct.rows(&of(number, setup));
    }
    info.wait_replayed().unwrap();
    let proxy = before(info, "").start();
    let stale: Vec<String> = cases
        .iter()
        .enumerate()
        .flat_map(|(number, (_, change, read))| stale(info, &proxy, &of(number, change), &of(number, read)))
        .collect();
    assert!(stale.is_empty(), "{} stale:\n{}", stale.len(), stale.join("\n"));
}

#[test]
fn changed_names_and_privileges_are_seen_by_every_read_behind() {
    sees(&NAMES_AND_PRIVILEGES);
}

#[test]
fn changed_types_and_definitions_are_seen_by_every_read_behind() {
    sees(&TYPES_AND_DEFINITIONS);
}

/// Of indexes, temporary tables and the planner's figures no read of a table depends.
#[test]
fn what_changes_no_read_keeps_none_from_the_replica() {
    let cluster = cluster(1);
    let info = cluster.info();
    make_table(info);
    info.query(0, "app", "CREATE MATERIALIZED VIEW m AS SELECT 1 AS n; ALTER MATERIALIZED VIEW m OWNER TO app")
        .unwrap();
    info.wait_replayed().unwrap();
    let proxy = before(info, "").start();
    let (mut session, mut reader) = (client(&proxy), client(&proxy));
    until("the catalog has been read", || route_of(&mut reader, "SELECT count(*) FROM t").contains("takes reads"));
    set_paused(info, 1, true);
    for sql in [
        "CREATE TEMP TABLE x (n int)",
        "CREATE INDEX ON x (n)",
        "ALTER TABLE pg_temp.x ADD COLUMN k int",
        "DROP TABLE x",
        "CREATE INDEX i ON t (n)",
        "REINDEX TABLE t",
        "DROP INDEX i",
        "ANALYZE t",
        "VACUUM t",
        "CLUSTER",
        "BEGIN; LOCK TABLE t; COMMIT",
        "SET work_mem = '5MB'",
        "NOTIFY a",
    ] {
        for one in sql.split("; ") {
            assert!(!tags(&session.exchange(&query(one))).contains('E'), "{one}");
        }
        assert_eq!(route_of(&mut reader, "SELECT count(*) FROM t").matches("takes reads").count(), 1, "{sql}");
        assert!(on_replica(&mut reader), "{sql}");
    }
    set_paused(info, 1, false);
}

/// What is told of the way of a statement.
pub fn route_of(client: &mut RawClient, sql: &str) -> String {
    let rows = client.rows(&format!("EXPLAIN (ROUTE) {sql}"));
    rows.into_iter().flatten().flatten().collect::<Vec<_>>().join("\n")
}
