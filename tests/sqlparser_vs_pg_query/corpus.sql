SELECT DISTINCT a, b FROM t WHERE a = 1 AND b IN ('x', 'y') ORDER BY b DESC, a ASC LIMIT 5
--
SELECT t.oid, t.typname, CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END FROM pg_catalog.pg_type t
  LEFT JOIN pg_namespace n ON n.oid = t.typnamespace WHERE (t.typrelid = 0 OR (SELECT c.relkind = 'c' FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid))
  AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_type el WHERE el.oid = t.typelem AND el.typarray = t.oid)
--
SELECT n.nspname as "Schema", c.relname as "Name", CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' END as "Type",
  pg_catalog.pg_get_userbyid(c.relowner) as "Owner" FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r','p','v','m','S','f','') AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast'
  AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1,2
--
SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relname OPERATOR(pg_catalog.~) '^(t)$' COLLATE pg_catalog.default AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 2, 3
--
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true)
  FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef), a.attnotnull
  FROM pg_catalog.pg_attribute a WHERE a.attrelid = '16384' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
--
WITH RECURSIVE tree(id, parent, path) AS (SELECT id, parent, ARRAY[id] FROM node WHERE parent IS NULL UNION ALL
  SELECT n.id, n.parent, t.path || n.id FROM node n JOIN tree t ON n.parent = t.id) SEARCH DEPTH FIRST BY id SET ord SELECT * FROM tree ORDER BY ord
--
WITH RECURSIVE g(f, t) AS (SELECT 1, 2 UNION ALL SELECT t, f FROM g) CYCLE f, t SET is_cycle USING path SELECT * FROM g
--
WITH RECURSIVE g(f, t) AS (SELECT 1, 2 UNION ALL SELECT t, f FROM g) CYCLE f SET is_cycle TO 'Y' DEFAULT 'N' USING path SELECT * FROM g
--
WITH RECURSIVE g(f) AS (SELECT 1 UNION ALL SELECT f FROM g) SEARCH BREADTH FIRST BY f SET o CYCLE f SET c USING p SELECT * FROM g
--
SELECT depname, avg(salary) OVER (PARTITION BY depname ORDER BY empno ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING) FROM empsalary
--
SELECT sum(a) OVER (ORDER BY b RANGE BETWEEN '1 day' PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW) FROM t
--
SELECT sum(a) OVER (ORDER BY b GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE GROUP), lag(a) OVER (w ROWS UNBOUNDED PRECEDING) FROM t WINDOW w AS (ORDER BY a)
--
SELECT rank() OVER (ORDER BY a) AS r, dense_rank() OVER w, ntile(4) OVER w, nth_value(a, 2) OVER w FROM t WINDOW w AS (PARTITION BY b)
--
SELECT jsonb_path_query_array(js, '$.track.segments[*] ? (@.HR > 130)') FROM t WHERE js @? '$.a' OR js @@ '$.b == 1'
--
SELECT js['a']['b'], js #>> '{a,0}', js - 'k', js #- '{a}' FROM t
--
SELECT * FROM jsonb_to_recordset('[{"a":1}]'::jsonb) AS x(a int, b text)
--
SELECT * FROM json_populate_record(NULL::t, '{"a":1}')
--
SELECT JSON_OBJECT('a' VALUE 1, 'b' VALUE 2 ABSENT ON NULL), JSON_ARRAY(1, 2), JSON_ARRAYAGG(a ORDER BY b) FROM t
--
SELECT JSON_VALUE(js, '$.a' RETURNING int DEFAULT 1 ON EMPTY), JSON_QUERY(js, '$.b' WITH WRAPPER), JSON_EXISTS(js, '$.c') FROM t
--
SELECT jt.* FROM t, JSON_TABLE(js, '$[*]' COLUMNS (id FOR ORDINALITY, a int PATH '$.a', NESTED PATH '$.n[*]' COLUMNS (b text PATH '$'))) AS jt
--
SELECT xmltable.* FROM t, XMLTABLE('//ROW' PASSING data COLUMNS id int PATH '@id', n FOR ORDINALITY, x text PATH 'x' DEFAULT 'none')
--
SELECT xmlforest(a AS b, c), xmlelement(name foo, xmlattributes('x' AS bar), 'y'), xmlconcat(x, y), xmlagg(x) FROM t
--
SELECT xmlparse(DOCUMENT '<a/>'), xmlserialize(CONTENT x AS text), xmlroot(x, VERSION '1.0', STANDALONE YES), xmlexists('//a' PASSING x) FROM t
--
SELECT (a, b, c) = ROW (1, 2, 3), (t.comp).field, (array_col)[1].x, ROW(t.*) FROM t
--
SELECT a[1][2], a[1:2][3:4], (array_agg(a))[1], '{1,2}'::int[] || 3 FROM t GROUP BY a
--
SELECT grouping(a, b), sum(c) FROM t GROUP BY CUBE (a, b), ROLLUP (c, (d, e)), GROUPING SETS ((a), CUBE (b))
--
SELECT mode() WITHIN GROUP (ORDER BY a), percentile_disc(ARRAY[0.1, 0.9]) WITHIN GROUP (ORDER BY b DESC) FROM t
--
SELECT a FROM t TABLESAMPLE SYSTEM (5) REPEATABLE (42)
--
SELECT * FROM ONLY t AS x (a, b), u * WHERE x.a = u.a
--
SELECT * FROM (t JOIN u USING (id)) AS j
--
SELECT * FROM (t JOIN u ON t.a = u.a) JOIN (v LEFT JOIN w USING (b)) ON true
--
SELECT * FROM t JOIN u USING (id) AS ju WHERE ju.id = 1
--
SELECT * FROM ((t CROSS JOIN u) CROSS JOIN v)
--
SELECT * FROM (((SELECT 1) UNION (SELECT 2))) x
--
((SELECT 1 ORDER BY 1) UNION ALL (SELECT 2 LIMIT 1)) ORDER BY 1 OFFSET 1
--
SELECT 1 FETCH FIRST 1 ROW WITH TIES
--
SELECT a FROM t ORDER BY a FETCH NEXT 5 ROWS WITH TIES
--
SELECT a FROM t OFFSET 5 ROWS FETCH NEXT ROW ONLY
--
SELECT 5 !~~ 6, a ~~* 'x', a !~~* 'y', a ^@ 'z' FROM t
--
SELECT 'a' IS NORMALIZED, a IS NFKC NORMALIZED, a IS NOT UNKNOWN FROM t
--
SELECT a IS JSON OBJECT WITH UNIQUE KEYS, b IS NOT JSON ARRAY, a ISNULL, b NOTNULL FROM t
--
SELECT (DATE '2001-02-16', DATE '2001-12-21') OVERLAPS (DATE '2001-10-30', DATE '2002-10-30')
--
SELECT EXTRACT(CENTURY FROM TIMESTAMP '2000-12-16 12:21:13'), EXTRACT('day' FROM a) FROM t
--
SELECT TIMESTAMP WITH TIME ZONE '2001-02-16 20:38:40-05' AT TIME ZONE 'America/Denver', now() AT LOCAL
--
SELECT INTERVAL '1 year 2 months', INTERVAL(3) '1.2345 s', INTERVAL '1' HOUR, CURRENT_TIMESTAMP(3), LOCALTIME(0)
--
SELECT overlay('Txxxxas' placing 'hom' from 2 for 4), position('om' in 'Thomas'), substring('foobar' similar 'o(b)' escape '#')
--
SELECT substring(a, 1, 2), substring(a from 'x'), substring(a for 3), trim(leading from a), trim(a, 'x'), btrim(a) FROM t
--
SELECT CAST('1' AS double precision), '1'::character varying(10), 1::bit(3), 'x'::"char", '1'::pg_catalog.int4, a::public.mood FROM t
--
SELECT '{}'::int[][], NULL::timestamp(3) without time zone, 'x'::national character varying (3), '5'::dec(3,1)
--
SELECT a.*, b."Mixed Case", c.data->>'x' AS "order" FROM a, b, c
--
SELECT 1 AS value, 2 AS type, 3 AS name, 4 AS "select", 5 AS year, 6 AS index, 7 zone
--
SELECT name, type, value, key, data, text, date, time, timestamp, level, role, user_id, action, comment, language FROM things
--
SELECT t.value, t.key FROM settings t WHERE t.key = 'x' AND t.zone IS NULL AND t.hour > 3 AND t.match = 1
--
SELECT "User"."createdAt", "User"."updatedAt" FROM "Users" AS "User" WHERE "User"."deletedAt" IS NULL ORDER BY "User"."createdAt" DESC LIMIT 20 OFFSET 0
--
SELECT "users".* FROM "users" INNER JOIN "posts" ON "posts"."user_id" = "users"."id" WHERE "posts"."published" = TRUE AND ("users"."id" IN (1,2,3))
--
SELECT "t0"."id", COALESCE("t1"."__agg", '[]') FROM "User" AS "t0" LEFT JOIN LATERAL (SELECT JSONB_AGG("__x") AS "__agg" FROM (SELECT 1 AS "__x") AS "t2") AS "t1" ON TRUE
--
SELECT hibernate_0.id as id1_0_, hibernate_0.name as name2_0_ from person hibernate_0 where hibernate_0.id=$1 and hibernate_0.active=true
--
SELECT anon_1.users_id AS anon_1_users_id FROM (SELECT users.id AS users_id FROM users LIMIT %(param_1)s) AS anon_1
--
SELECT COUNT(*) FROM (SELECT DISTINCT "a"."id" AS Col1 FROM "a" WHERE UPPER("a"."n"::text) LIKE UPPER('%x%')) subquery
--
SELECT array_agg(DISTINCT a ORDER BY a DESC NULLS LAST) FILTER (WHERE a IS NOT NULL) FROM t
--
SELECT a, count(*) OVER () AS full_count FROM t ORDER BY a LIMIT 10
--
SELECT generate_series(1, 3), unnest(ARRAY['a','b']), regexp_split_to_table('a b', ' ')
--
SELECT * FROM generate_series('2020-01-01'::date, '2020-02-01', '1 day') AS d(day) LEFT JOIN LATERAL (SELECT count(*) FROM ev WHERE ev.at::date = d.day) c ON true
--
SELECT ts_rank_cd(v, q, 32) AS rank FROM apod, to_tsquery('neutrino|(dark & matter)') q WHERE q @@ v ORDER BY rank DESC
--
SELECT string_to_array(a, ','), array_remove(b, 1), b @> ARRAY[1], b && '{1}', 1 = ANY(b), 2 <> ALL (b) FROM t
--
SELECT a <-> point '(1,2)', box '(1,1)' ?# b, |/ 25.0, ||/ 27.0, @ -5, 5 # 3, ~1, 1 << 4, 91 & 15 FROM t ORDER BY a <-> point '(0,0)'
--
SELECT a ?| array['b','c'], a ? 'x', a ?& '{y}' FROM t
--
SELECT a +-1, b -+ 2, a*-1, -a.b, - -1, +1, a-- comment
 + 1 FROM t
--
SELECT a/*c*//b, a*/*x*/b, a||/* y */b FROM t
--
SELECT U&"d\0061t" FROM t
--
SELECT U&'d!0061t' UESCAPE '!'
--
SELECT 'one' -- comment
  'two'
--
SELECT E'\'; DELETE FROM t; --', $$it's; DELETE FROM t$$, $x$ $$ $x$
--
SELECT $1, $2::int, $3 + 1 FROM t WHERE a = ANY ($4::text[])
--
SELECT 0b11, 0o17, 0xFF, 1_000_000, 1.5e-3, .001, 5.
--
SELECT * FROM t WHERE a IN (VALUES (1), (2)) AND (b, c) IN ((1, 2), (3, 4)) AND d IN (SELECT 1 UNION SELECT 2)
--
SELECT (SELECT a FROM t LIMIT 1) + (SELECT max(b) FROM u), EXISTS (TABLE t), ARRAY (VALUES (1), (2))
--
SELECT CASE a WHEN 1 THEN 'x' WHEN 2 THEN 'y' END, CASE WHEN a THEN CASE WHEN b THEN 1 END ELSE NULL END FROM t
--
SELECT nullif(a, ''), greatest(1, 2, 3), least(VARIADIC ARRAY[1, 2]) FROM t
--
SELECT concat(a, VARIADIC b), format('%s %s', VARIADIC ARRAY['a', 'b']), make_interval(days => 10), make_interval(days := 10) FROM t
--
SELECT has_schema_privilege(current_user, 'public', 'usage'), pg_has_role('x', 'member'), to_regclass('public.t') IS NOT NULL
--
SELECT pg_get_viewdef('v'::regclass, true), pg_get_functiondef(oid), pg_get_constraintdef(c.oid) FROM pg_proc, pg_constraint c
--
SELECT current_setting('server_version_num')::int
--
SELECT set_config('search_path', 'a, b', false), pg_catalog.set_config('role', $1, true)
--
SELECT * FROM pg_stat_user_tables, pg_locks
--
SELECT nextval(pg_get_serial_sequence('t', 'id')), currval('t_id_seq'::regclass)
--
SELECT f(a) FROM g(1) WHERE h(b) ORDER BY i(c)
--
SELECT a, (b).f, c.* FROM (SELECT f(x) AS c FROM t) s
--
SELECT * FROM f(1) AS (a int, b text)
--
SELECT * FROM ROWS FROM (f(1) AS (a int), generate_series(1, 2)) WITH ORDINALITY
--
SELECT * FROM t, LATERAL ROWS FROM (unnest(a), unnest(b)) AS x(a, b)
--
SELECT count(*) FROM t WHERE f(a) IS NOT NULL HAVING public.g(1) > 1
--
SELECT sum(a ORDER BY f(b)), g(DISTINCT c), h(*) FROM t
--
WITH x AS (INSERT INTO t VALUES (1) RETURNING id), y AS (SELECT * FROM x) TABLE y
--
WITH x AS (SELECT 1) (SELECT * FROM x) UNION (WITH y AS (UPDATE t SET a = 1 RETURNING 1) SELECT * FROM y)
--
SELECT * FROM (WITH x AS (SELECT 1) SELECT * FROM x) a JOIN (WITH y AS (SELECT 2) TABLE y) b ON true
--
SELECT 1 INTO TEMPORARY TABLE x FROM t
--
SELECT a INTO STRICT FROM t
--
(SELECT 1 INTO x)
--
SELECT * FROM t WHERE id = 1 FOR UPDATE OF t, u SKIP LOCKED
--
SELECT * FROM t FOR READ ONLY
--
SELECT * FROM (SELECT * FROM t FOR NO KEY UPDATE NOWAIT) s
--
VALUES (1, DEFAULT)
--
VALUES (f(1)), (2) UNION VALUES (3)
--
TABLE t ORDER BY a LIMIT 3
--
TABLE pg_catalog.pg_locks
--
INSERT INTO t SELECT * FROM u WHERE nextval('s') > 1
--
INSERT INTO t OVERRIDING SYSTEM VALUE VALUES (1) ON CONFLICT ON CONSTRAINT c DO UPDATE SET a = 1 WHERE t.b RETURNING old.a, new.b
--
UPDATE t SET (a, b) = (SELECT 1, 2), c = DEFAULT, d[1] = 2, e.f = 3 WHERE CURRENT OF cur
--
DELETE FROM ONLY t USING u AS x WHERE t.id = x.id RETURNING *
--
MERGE INTO t USING (SELECT 1 AS id) s ON t.id = s.id WHEN NOT MATCHED BY SOURCE THEN DELETE WHEN MATCHED AND a > 1 THEN UPDATE SET b = 2 WHEN NOT MATCHED THEN DO NOTHING
--
EXPLAIN (ANALYZE, BUFFERS off, FORMAT yaml, SETTINGS) TABLE t
--
EXPLAIN (ANALYZE 'off') DELETE FROM t
--
EXPLAIN (GENERIC_PLAN) SELECT * FROM t WHERE a = $1
--
EXPLAIN ANALYZE (SELECT 1)
--
EXPLAIN (SELECT f())
--
EXPLAIN VERBOSE WITH x AS (DELETE FROM t RETURNING 1) SELECT * FROM x
--
EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1
--
EXPLAIN ANALYZE DECLARE c CURSOR FOR SELECT 1
--
EXPLAIN REFRESH MATERIALIZED VIEW v
--
COPY (TABLE t) TO STDOUT WITH (FORMAT csv, DELIMITER ';', NULL '')
--
COPY t (a, b) TO STDOUT WITH CSV HEADER QUOTE AS '"'
--
COPY public."T" FROM STDIN WITH (FORMAT text, HEADER match) WHERE a > 1
--
COPY BINARY t TO STDOUT
--
COPY t TO STDOUT USING DELIMITERS ','
--
COPY (SELECT f() FROM t) TO STDOUT
--
COPY (VALUES (1)) TO PROGRAM 'cat'
--
COPY pg_temp.x TO STDOUT
--
DECLARE c NO SCROLL CURSOR WITH HOLD FOR SELECT 1
--
DECLARE c ASENSITIVE CURSOR FOR WITH x AS (SELECT 1) TABLE x
--
FETCH ABSOLUTE -1 IN c
--
FETCH FORWARD ALL FROM c; CLOSE c
--
MOVE LAST FROM c
--
BEGIN; DECLARE c CURSOR FOR SELECT 1; FETCH 1 FROM c; COMMIT
--
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT 1; END
--
BEGIN TRANSACTION READ ONLY NOT DEFERRABLE ISOLATION LEVEL SERIALIZABLE
--
START TRANSACTION READ WRITE, READ ONLY
--
COMMIT TRANSACTION AND NO CHAIN
--
ROLLBACK WORK TO s
--
ABORT WORK AND CHAIN
--
PREPARE TRANSACTION E'a\'b'
--
SET LOCAL TRANSACTION ISOLATION LEVEL READ COMMITTED
--
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, DEFERRABLE
--
SET TIME ZONE LOCAL
--
SET SESSION AUTHORIZATION DEFAULT
--
SET LOCAL ROLE NONE
--
SET search_path TO a, "B", 'c d'
--
SET "trunkline".route TO 'primary'
--
PREPARE p (int, text) AS SELECT $1, $2; EXECUTE p (1, 'x'); DEALLOCATE PREPARE p
--
LISTEN "My Channel"; NOTIFY c, 'payload'; UNLISTEN *
--
CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN a > 1 THEN 1 ELSE 2 END; SELECT a; END; SELECT 1
--
CREATE OR REPLACE PROCEDURE p() LANGUAGE sql BEGIN ATOMIC INSERT INTO t VALUES (1); DELETE FROM t; END
--
CREATE RULE r AS ON UPDATE TO t DO INSTEAD (INSERT INTO l VALUES (1); DELETE FROM l); SELECT 2
--
CREATE TEMPORARY TABLE x ON COMMIT DROP AS SELECT 1
--
CREATE TABLE temp (temporary int, temp text)
--
CREATE TEMP SEQUENCE s; CREATE TEMP VIEW v AS SELECT 1
--
CREATE UNLOGGED TABLE x (a int) PARTITION BY RANGE (a)
--
SELECT set_config('a', 'b', 1 = 1)
--
SELECT pg_advisory_xact_lock(hashtext('x')), pg_try_advisory_lock_shared(1, 2)
--
SELECT lo_get(1), loread(2, 3), lo_creat(-1)
--
SELECT a AS insert, b AS update, c AS delete FROM t
--
SELECT insert, update FROM t
--
SELECT * FROM merge WHERE truncate > 1
--
SELECT t.f, f(t), t FROM t
--
SELECT a.b.c.d FROM a.b.c
--
SELECT db.s.f(1), db.pg_catalog.lower('x')
--
SELECT a OPERATOR(s.@@) b, c OPERATOR(pg_catalog.||) d, OPERATOR(pg_catalog.-) 1 FROM t
--
SELECT a FROM t ORDER BY a USING OPERATOR(s.<)
--
SELECT a FROM t WHERE a LIKE ANY (ARRAY['x', 'y']) OR a ~ ALL (b) OR a < SOME (SELECT 1)
--
SELECT merge_action(), a IS DOCUMENT, treat(a AS int) FROM t
--
SELECT cycle, f() FROM t JOIN u USING (a)
--
SELECT (a) cycle, f(), 1 FROM t JOIN u USING (a)
--
SELECT (a) search FROM t
--
SELECT a AS table, "table".b FROM "table"
--
SELECT exclude, variadic_x, symmetric_y, rows FROM t
--
SELECT rows FROM (SELECT 1 AS rows) x
--
SELECT current_schema, current_schema(), current_role, user, system_user
--
SELECT collation for (a), pg_collation_for(b) FROM t
--
SELECT json_scalar(1), json('{}'), json_serialize('{}' RETURNING bytea)
--
SELECT * FROM t t1 (a) NATURAL LEFT JOIN u
--
SELECT
--
SELECT FROM t WHERE a
--
SELECT * FROM t LIMIT (SELECT f())
--
SELECT * FROM t ORDER BY (SELECT nextval('s'))
--
SELECT array(SELECT f()), (array[f()])[1], row(f()).*
--
SELECT count(*) FILTER (WHERE f()) OVER (PARTITION BY g() ORDER BY h() ROWS f() PRECEDING) FROM t
--
SELECT * FROM t JOIN u ON f() WHERE EXISTS (SELECT FROM v WHERE g(v))
--
SELECT xmlelement(name a, f()), xmlforest(g() AS b), xmlparse(CONTENT h())
--
SELECT json_object('k' VALUE f()), json_array(g()), json_value(h(), '$')
--
SELECT coalesce(f(), 1), greatest(g()), CASE f() WHEN 1 THEN g() END
--
SELECT f() AT TIME ZONE g(), extract(day FROM h()), position(i() IN j())
--
SELECT CAST(f() AS int), f()::int, int 'x', f(1)[1], (f(2)).a
--
SELECT 1 WHERE f() IN (1) OR 1 IN (g()) OR h() BETWEEN 1 AND 2 OR a LIKE i() ESCAPE j()
--
SELECT * FROM XMLTABLE('x' PASSING f() COLUMNS a text PATH 'a' DEFAULT g())
--
SELECT * FROM JSON_TABLE(f(), '$' COLUMNS (a int))
--
SELECT * FROM t TABLESAMPLE bernoulli (f()) REPEATABLE (g())
--
SELECT * FROM t TABLESAMPLE my_sampler (1)
