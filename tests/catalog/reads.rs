//! Reads, and what makes them none.

use super::*;

const FUNCTIONS: &str = "
    CREATE TABLE t (id int PRIMARY KEY, x int);
    CREATE FUNCTION pure(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + 1';
    CREATE FUNCTION looks(int) RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM t';
    CREATE FUNCTION bump(int) RETURNS int LANGUAGE sql AS 'INSERT INTO t VALUES ($1, 1) RETURNING id';
    CREATE FUNCTION over(int) RETURNS int STABLE LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION over(int, int) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION spread(int, int DEFAULT 1, VARIADIC text[] DEFAULT '{}') RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION spread(VARIADIC int[]) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
    CREATE SCHEMA other;
    CREATE FUNCTION other.pure(text) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION other.\"Odd name\"() RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION public.lower(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION public.upper(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION step(int, int) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE AGGREGATE risky(int) (SFUNC = step, STYPE = int);
    CREATE AGGREGATE fine(int) (SFUNC = int4pl, STYPE = int);
    CREATE FUNCTION full_name(t) RETURNS text LANGUAGE sql AS 'SELECT $1::text';
    CREATE OPERATOR @+ (LEFTARG = int, RIGHTARG = int, FUNCTION = step);
    CREATE OPERATOR <-> (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl);
    CREATE FUNCTION risky_check(int) RETURNS bool LANGUAGE sql AS 'SELECT true';
    CREATE DOMAIN checked AS int CHECK (risky_check(VALUE));
    CREATE DOMAIN plain AS int CHECK (VALUE > 0);
    CREATE TYPE pair AS (a int, b int);
    CREATE FUNCTION to_pair(int) RETURNS pair LANGUAGE sql AS 'SELECT ROW($1, $1)::pair';
    CREATE CAST (int AS pair) WITH FUNCTION to_pair(int);
    CREATE VIEW seen AS SELECT id, bump(id + 100) FROM t;
    CREATE VIEW seen_deeper AS SELECT * FROM seen WHERE id > 1;
    CREATE VIEW seen_deepest AS SELECT (SELECT count(*) FROM seen_deeper) AS n;
    CREATE VIEW numbers AS SELECT nextval('other_seq') FROM t WHERE false;
";

#[test]
fn trap_3_functions_by_their_volatility() {
    let world = world(&format!("CREATE SEQUENCE other_seq; {FUNCTIONS}"));
    is_read(&world, "SELECT public.pure(id) FROM t");
    is_read(&world, "SELECT looks(1)");
    is_for_primary(&world, "SELECT bump(1)", "volatile_function", "function public.bump(integer) is VOLATILE");
    is_for_primary(&world, "SELECT public . \"bump\" (1)", "volatile_function", "public.bump");
    is_for_primary(&world, "SELECT nowhere(1)", "unknown_function", "nowhere");
    // Overloads: those that fit.
    is_read(&world, "SELECT over(1)");
    is_for_primary(&world, "SELECT over(1, 2)", "volatile_function", "public.over(integer, integer)");
    is_for_primary(&world, "SELECT spread(1, 2, 'x', 'y')", "volatile_function", "public.spread");
    // Without a schema it may be any of them; with one it is that.
    is_for_primary(&world, "SELECT pure('a')", "volatile_function", "other.pure(text)");
    is_for_primary(&world, "SELECT other.\"Odd name\"()", "volatile_function", "Odd name");
    is_read(&world, "SELECT public.pure(1)");
    // One of a built-in function's name.
    is_for_primary(&world, "SELECT lower(x) FROM t", "volatile_function", "public.lower");
    is_read(&world, "SELECT pg_catalog.lower('X'), upper('x')");
    // Aggregates by what they are made of.
    is_for_primary(&world, "SELECT risky(x) FROM t", "volatile_function", "aggregate public.risky");
    is_read(&world, "SELECT fine(x) FROM t");
    // Calls that don't look like calls: a column that is none, operators, casts, domains.
    is_for_primary(&world, "SELECT t.full_name FROM t", "volatile_function", "full_name");
    is_for_primary(&world, "SELECT 1 @+ 2", "volatile_function", "operator @+");
    is_for_primary(&world, "SELECT 1 OPERATOR(public.@+) 2", "volatile_function", "operator @+");
    is_read(&world, "SELECT 1 <-> 2");
    is_read(&world, "SELECT 1 OPERATOR(public.<->) 2");
    is_for_primary(&world, "SELECT 1::checked", "volatile_function", "domain checked");
    is_for_primary(&world, "SELECT CAST(1 AS public.checked)", "volatile_function", "risky_check");
    is_read(&world, "SELECT 1::plain");
    is_for_primary(&world, "SELECT 1::pair", "volatile_function", "cast to pair");
    // Views at any depth.
    is_for_primary(
        &world,
        "SELECT id FROM seen",
        "volatile_function",
        "view public.seen: function public.bump(integer)",
    );
    is_for_primary(
        &world,
        "SELECT * FROM seen_deepest",
        "volatile_function",
        "view public.seen_deeper: view public.seen:",
    );
    // Trap 4, by a view.
    is_for_primary(&world, "SELECT * FROM numbers", "sequence", "nextval");
    // And what is said is what is done.
    let mut client = world.client();
    assert_eq!(client.value("SELECT bump(1)"), "1");
    assert_eq!(client.value("SELECT bump FROM seen"), "101");
}

#[test]
fn traps_4_11_and_16_relations_that_a_standby_cannot_answer_for() {
    let world = world(
        "CREATE UNLOGGED TABLE quick (n int); CREATE TABLE slow (n int); CREATE VIEW quick_view AS SELECT * FROM quick;
         CREATE MATERIALIZED VIEW kept AS SELECT count(*) AS n FROM slow;
         CREATE SEQUENCE s; CREATE VIEW activity AS SELECT pid FROM pg_stat_activity;
         CREATE VIEW columns_of AS SELECT table_name, column_name FROM information_schema.columns;
         CREATE TABLE parts (n int) PARTITION BY LIST (n); CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1);
         CREATE UNLOGGED TABLE part2 PARTITION OF parts FOR VALUES IN (2);
         CREATE TABLE guarded (n int); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
         CREATE FUNCTION may_see(int) RETURNS bool LANGUAGE sql AS 'SELECT true';
         CREATE POLICY p ON guarded USING (may_see(n));
         CREATE TABLE guarded_well (n int); ALTER TABLE guarded_well ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON guarded_well USING (n IN (SELECT slow.n FROM slow));",
    );
    is_for_primary(&world, "SELECT * FROM quick", "relation", "unlogged table public.quick");
    is_for_primary(&world, "SELECT count(*) FROM quick_view", "relation", "view public.quick_view: unlogged table");
    is_for_primary(&world, "COPY quick TO STDOUT", "relation", "unlogged");
    is_for_primary(&world, "WITH q AS (SELECT * FROM public.quick) SELECT * FROM q", "relation", "unlogged");
    is_for_primary(&world, "SELECT * FROM parts", "relation", "unlogged table public.part2");
    is_read(&world, "SELECT * FROM part1");
    is_read(&world, "SELECT * FROM kept");
    is_for_primary(&world, "SELECT last_value FROM s", "sequence", "sequence public.s");
    is_for_primary(&world, "SELECT * FROM activity", "node_state", "view public.activity: relation pg_stat_activity");
    is_read(&world, "SELECT * FROM columns_of");
    is_for_primary(
        &world,
        "SELECT * FROM guarded",
        "volatile_function",
        "policy on public.guarded: function public.may_see",
    );
    is_read(&world, "SELECT * FROM guarded_well");
    // Not known: a replica is as good at saying so.
    is_read(&world, "SELECT * FROM not_there");
    let mut client = world.client();
    assert_eq!(client.value("SELECT count(*) FROM quick"), "0");
    assert_eq!(client.value("SELECT count(*) FROM parts"), "0");
}
