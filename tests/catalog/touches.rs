//! Which tables statements read and write: what freshness relies on.

use super::*;

const SCHEMA: &str = "
    CREATE TABLE a (id int PRIMARY KEY, n int);
    CREATE TABLE b (id int PRIMARY KEY, a_id int REFERENCES a ON DELETE CASCADE ON UPDATE SET NULL);
    CREATE TABLE c (id int, b_id int REFERENCES b ON DELETE CASCADE);
    CREATE TABLE lone (id serial PRIMARY KEY, n int DEFAULT 3 CHECK (n > 0), at timestamptz DEFAULT now());
    CREATE VIEW av AS SELECT * FROM a; CREATE VIEW avv AS SELECT id FROM av;
    CREATE VIEW joined AS SELECT a.id FROM a JOIN lone USING (id);
    CREATE TABLE parts (n int) PARTITION BY RANGE (n);
    CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
    CREATE TABLE parts2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
    CREATE TABLE watched (n int); CREATE TABLE journal (n int);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO journal VALUES (1); RETURN NEW; END';
    CREATE TRIGGER note BEFORE UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION note();
    CREATE TABLE ruled (n int); CREATE RULE r AS ON DELETE TO ruled DO ALSO DELETE FROM journal;
    CREATE FUNCTION bump() RETURNS int LANGUAGE sql AS 'INSERT INTO journal VALUES (1) RETURNING n';
    CREATE TABLE defaulted (n int DEFAULT bump());
    CREATE FUNCTION looks() RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM a';
    CREATE FUNCTION pure(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
";

#[test]
fn trap_91_what_is_read_and_what_is_changed_along() {
    let world = world(SCHEMA);
    let reads = |sql: &str| touched(&world, sql).0;
    let writes = |sql: &str| touched(&world, sql).1;
    let [a, b, c, lone, parts] = ["a", "b", "c", "lone", "parts"].map(|table| {
        let slot = reads(&format!("SELECT * FROM {table}"));
        assert!(slot.parse::<u16>().is_ok(), "{table}: {slot}");
        slot
    });
    let all = |slots: &[&String]| {
        let mut slots: Vec<u16> = slots.iter().map(|slot| slot.parse().unwrap()).collect();
        slots.sort_unstable();
        slots.dedup();
        slots.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
    };
    // Reads.
    assert_eq!(reads("SELECT 1, now(), pure(2)"), "");
    assert_eq!(reads("SELECT * FROM avv"), a);
    assert_eq!(reads("SELECT * FROM joined"), all(&[&a, &lone]));
    assert_eq!(reads("SELECT * FROM a WHERE id IN (SELECT a_id FROM b)"), all(&[&a, &b]));
    assert_eq!(reads("WITH x AS (SELECT * FROM a) SELECT * FROM x"), a);
    assert_eq!(reads("SELECT * FROM a; SELECT * FROM c"), all(&[&a, &c]));
    assert_eq!(reads("COPY a TO STDOUT"), a);
    assert_eq!(reads("TABLE a"), a);
    assert_eq!(reads("SELECT looks()"), "all", "who knows what it reads");
    assert_eq!(reads("SELECT * FROM not_there"), "all");
    assert_eq!(reads("SELECT pg_table_size('a')"), "all");
    assert_eq!(reads("SELECT relname FROM pg_class"), "0", "changes with the schema only");
    assert_eq!(reads("SELECT * FROM parts1"), parts, "one slot for a whole tree");
    // Writes.
    assert_eq!(writes("SELECT * FROM a"), "");
    assert_eq!(writes("INSERT INTO a VALUES (1, 2), (3, 4)"), a);
    let upsert = "INSERT INTO a VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET n = 3";
    assert_eq!(writes(upsert), all(&[&a, &b]), "SET NULL");
    assert_eq!(writes("INSERT INTO public.lone (n) VALUES (abs(5)) RETURNING id"), lone);
    assert_eq!(writes("UPDATE a SET n = 1 WHERE id = 2"), all(&[&a, &b]), "SET NULL");
    assert_eq!(writes("DELETE FROM a"), all(&[&a, &b, &c]), "CASCADE, twice");
    assert_eq!(writes("DELETE FROM ONLY b AS x USING a WHERE a.id = x.id"), all(&[&b, &c]));
    assert_eq!(writes("UPDATE avv SET id = 3"), all(&[&a, &b]), "through views");
    assert_eq!(writes("INSERT INTO parts VALUES (1)"), parts);
    assert_eq!(writes("UPDATE parts1 SET n = 2"), parts);
    assert_eq!(writes("COPY lone (n) FROM STDIN"), lone);
    assert_eq!(writes("WITH x AS (DELETE FROM c RETURNING id) UPDATE lone SET n = 2"), all(&[&c, &lone]));
    assert_eq!(writes("WITH x AS (INSERT INTO lone VALUES (1) RETURNING *) SELECT * FROM x"), lone);
    assert_eq!(writes("MERGE INTO lone USING c ON true WHEN MATCHED THEN UPDATE SET n = 1"), lone);
    assert_eq!(writes("INSERT INTO lone (n) SELECT v.n FROM (VALUES (1)) AS v(n) WHERE n IN (1, 2)"), lone);
    assert_eq!(writes("UPDATE lone SET n = looks()"), lone);
    assert_eq!(writes("INSERT INTO lone VALUES (1); DELETE FROM c"), all(&[&lone, &c]));
    assert_eq!(writes("INSERT INTO watched VALUES (1) ON CONFLICT DO NOTHING"), "all", "the trigger fires");
    assert!(writes("DELETE FROM watched").parse::<u16>().is_ok(), "no trigger fires");
    for sql in [
        "UPDATE watched SET n = 1",
        "DELETE FROM ruled",
        "INSERT INTO defaulted DEFAULT VALUES",
        "UPDATE lone SET n = bump()",
        "UPDATE lone SET n = not_known(1)",
        "INSERT INTO not_there VALUES (1)",
        "SELECT bump()",
        "TRUNCATE lone",
        "ALTER TABLE lone ADD x int",
        "DO 'BEGIN END'",
        "CALL p()",
        "COMMIT PREPARED 'x'",
        "SELECT * INTO x FROM a",
        "UPDATE pg_class SET relname = 'x'",
        "nonsense",
    ] {
        assert_eq!(writes(sql), "all", "{sql}");
    }
    assert_eq!(writes("SELECT nextval('lone_id_seq')"), "1", "sequences are read on the primary only");
    assert_eq!(writes("ANALYZE lone"), "0");
    assert_eq!(reads("INSERT INTO lone (n) SELECT id FROM a"), all(&[&a, &lone]));
}

#[test]
fn traps_3_and_91_what_is_called_without_a_name_may_read_any_table() {
    let world = world(
        "CREATE TABLE a (n int); CREATE TYPE pair AS (a int, b int);
         CREATE FUNCTION looks(int, int) RETURNS int STABLE LANGUAGE sql AS 'SELECT count(*)::int FROM a';
         CREATE FUNCTION pure(int, int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
         CREATE FUNCTION writes(text, text) RETURNS int LANGUAGE sql AS 'INSERT INTO a VALUES (1) RETURNING n';
         CREATE OPERATOR @@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = looks);
         CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = pure);
         CREATE OPERATOR &&& (LEFTARG = text, RIGHTARG = text, FUNCTION = writes);
         CREATE OPERATOR &&& (LEFTARG = int, RIGHTARG = int, FUNCTION = looks);
         CREATE FUNCTION to_pair(int) RETURNS pair STABLE LANGUAGE sql AS 'SELECT ROW(max(n), $1)::pair FROM a'",
    );
    world.db.run("CREATE EXTENSION pg_trgm");
    world.client().rows("CREATE TABLE another (n int)");
    world.settle();
    let reads = |sql: &str| touched(&world, sql).0;
    assert_eq!(reads("SELECT 1 @@@ 2"), "all");
    assert_eq!(reads("SELECT 1 ### 2"), "", "immutable");
    assert_eq!(reads("SELECT 5 % 2"), "", "there is a STABLE `%` in pg_trgm");
    is_for_primary(&world, "SELECT 1 &&& 2", "volatile_function", "operator &&&");
    is_read(&world, "SELECT 1 @@@ 2");
    // Not written, and so who knows where it is.
    world.client().rows("CREATE CAST (int AS pair) WITH FUNCTION to_pair(int) AS IMPLICIT");
    world.settle();
    assert_eq!(reads("SELECT 1"), "all");
    is_read(&world, "SELECT 1");
}
