//! Statements in one column, what is found in the other (see [`told`](super::told)).

use super::*;

#[test]
fn one_table_held_to_one_value() {
    check(&[
        ("SELECT * FROM events WHERE project_id = 5", "1:0"),
        ("SELECT * FROM events WHERE 5 = project_id", "1:0"),
        ("SELECT 1, 'a' FROM events WHERE project_id = '5' AND x > 3 ORDER BY y LIMIT 10", "1:2"),
        ("SELECT count(*) FROM public.events AS e WHERE (e.project_id = 5)", "1:0"),
        ("SELECT * FROM events WHERE public.events.project_id = -5", "1:-0"),
        ("SELECT * FROM events WHERE events.project_id = 5::bigint", "1:0"),
        ("SELECT * FROM events WHERE project_id = CAST('5' AS int8)", "1:0"),
        ("SELECT * FROM events WHERE project_id = int8 '5'", "1:0"),
        ("SELECT * FROM \"events\" WHERE \"project_id\" = $1", "1:$1"),
        ("SELECT * FROM EVENTS WHERE Project_ID = $2::int", "1:$2::"),
        ("SELECT * FROM events WHERE project_id IN (5)", "1:0 !"),
        ("SELECT * FROM events WHERE project_id IN ($1)", "1:$1 !"),
        ("SELECT * FROM events WHERE project_id = ANY(ARRAY[5])", "1:0"),
        ("SELECT * FROM events WHERE project_id = ANY(ARRAY[$1]::bigint[])", "1:$1::"),
        ("SELECT * FROM events WHERE project_id = ANY('{5}')", "1:0[]"),
        ("SELECT * FROM events WHERE project_id = SOME('{5}'::int[])", "1:0[]"),
        ("SELECT * FROM events WHERE project_id = ANY($1)", "1:$1[]"),
        ("SELECT * FROM events WHERE project_id = ANY($1::bigint[])", "1:$1::[]"),
        ("SELECT * FROM events WHERE (project_id, id) = (5, 1)", "1:0"),
        ("SELECT * FROM events WHERE (id, project_id) = (5, 1)", "1:1"),
        ("SELECT * FROM events WHERE project_id = 5 AND project_id = 6", "1:0"),
        ("SELECT * FROM docs WHERE key = 'abc'", "2:0"),
        ("SELECT * FROM docs WHERE key = 'abc'::varchar", "2:0"),
        ("SELECT * FROM things WHERE id = uuid '6ba7b810-9dad-11d1-80b4-00c04fd430c8'", "3:0"),
        ("SELECT * FROM things WHERE id = '6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid", "3:0"),
        ("SELECT * FROM flags WHERE is_set = true", "4:=-1905060026"),
        ("SELECT * FROM shop.carts c WHERE c.tenant = 5", "1:0"),
        ("(SELECT * FROM events WHERE project_id = 5)", "1:0"),
        (
            "SELECT DISTINCT x, sum(y) OVER (PARTITION BY z) FROM events WHERE project_id = 5 GROUP BY 1 HAVING sum(y) > 1",
            "1:0",
        ),
        ("SELECT now(), upper(x) FROM events TABLESAMPLE bernoulli (5) WHERE project_id = $1", "1:$1"),
    ]);
}

#[test]
fn what_any_node_answers() {
    check(&[
        ("SELECT * FROM events", "any"),
        ("SELECT * FROM plans WHERE id = 1", "any"),
        ("SELECT * FROM events WHERE project_id BETWEEN 5 AND 5", "any"),
        ("SELECT * FROM events WHERE project_id >= 5 AND project_id <= 5", "any"),
        ("SELECT * FROM events WHERE project_id + 0 = 5", "any"),
        ("SELECT * FROM events WHERE project_id = (SELECT 5)", "any"),
        ("SELECT * FROM events WHERE project_id IS NOT DISTINCT FROM 5", "any"),
        ("SELECT * FROM events WHERE project_id = 5 OR x", "any"),
        ("SELECT * FROM events WHERE NOT (project_id = 5)", "any"),
        ("SELECT * FROM events WHERE CASE WHEN x THEN project_id = 5 END", "any"),
        ("SELECT * FROM events WHERE project_id = 5 IS TRUE", "any"),
        ("SELECT * FROM events WHERE project_id <> 5", "any"),
        ("SELECT * FROM events WHERE project_id = abs(5)", "any"),
        ("SELECT * FROM events WHERE project_id = 5 + 1", "any"),
        ("SELECT * FROM events WHERE project_id = 5::numeric", "any"),
        ("SELECT * FROM events WHERE project_id IN (5, 6)", "any"),
        ("SELECT * FROM events WHERE project_id IN (5, $1)", "any"),
        ("SELECT * FROM events WHERE project_id NOT IN (5)", "any"),
        ("SELECT * FROM events WHERE project_id = ANY(ARRAY[5, 6])", "any"),
        ("SELECT * FROM events WHERE project_id = ALL($1)", "any"),
        ("SELECT * FROM events WHERE project_id IN (SELECT 5)", "any"),
        ("SELECT * FROM events WHERE id = 5", "any"),
        ("SELECT * FROM events WHERE (project_id, id) > (5, 1)", "any"),
        ("SELECT * FROM events AS e (a, project_id) WHERE project_id = 5", "any"),
        ("SELECT * FROM odd WHERE amount = 5", "any"),
        ("SELECT * FROM docs WHERE key = 'abc'::varchar(2)", "any"),
        ("SELECT * FROM docs WHERE key = 'abc'::char", "any"),
        ("SELECT * FROM flags WHERE is_set", "any"),
        ("SELECT * FROM events HAVING project_id = 5", "any"),
        ("SELECT * FROM events, plans p WHERE p.project_id = 5", "any"),
        ("SELECT project_id = 5 FROM events", "any"),
    ]);
    let many = vec!["1"; 1001].join(" + ");
    assert_eq!(told(decision(&format!("SELECT {many} FROM events WHERE project_id = 5"))), "any");
}

#[test]
fn what_only_the_coordinator_is_sure_to_know() {
    check(&[
        ("SELECT 1", "none"),
        ("SELECT * FROM local_only", "none"),
        ("SELECT * FROM unknown", "none"),
        ("SELECT * FROM coord", "none"),
        ("SELECT * FROM pg_class, events WHERE project_id = 5", "none"),
        ("SELECT * FROM events WHERE project_id = 5 AND x IN (SELECT y FROM local_only)", "none"),
        ("SELECT * FROM other.events WHERE project_id = 5", "none"),
        ("SELECT * FROM elsewhere.public.events WHERE project_id = 5", "none"),
        // Which of them it is, the search path says.
        ("SELECT * FROM twice WHERE project_id = 5", "none"),
        ("SELECT * FROM public.twice WHERE project_id = 5", "1:0"),
        ("SELECT * FROM events WHERE project_id = 5 FOR UPDATE", "none"),
        ("SELECT * INTO x FROM events WHERE project_id = 5", "none"),
        ("EXPLAIN SELECT * FROM events WHERE project_id = 5", "none"),
        ("DECLARE c CURSOR FOR SELECT * FROM events WHERE project_id = 5", "none"),
        ("COPY (SELECT * FROM events WHERE project_id = 5) TO STDOUT", "none"),
        ("PREPARE p AS SELECT * FROM events WHERE project_id = 5", "none"),
        ("SELECT * FROM events WHERE project_id = 5; SELECT 1", "none"),
        ("/* trunkline: primary */ SELECT * FROM events WHERE project_id = 5", "none"),
        // Functions of users, and what each node answers for itself.
        ("SELECT mine(x) FROM events WHERE project_id = 5", "none"),
        ("SELECT lower(x) FROM events WHERE project_id = 5", "none"),
        ("SELECT pg_catalog.lower(x) FROM events WHERE project_id = 5", "1:0"),
        ("SELECT nextval('s') FROM events WHERE project_id = 5", "none"),
        ("SELECT pg_relation_size('events') FROM events WHERE project_id = 5", "none"),
        ("SELECT 'coord'::regclass FROM events WHERE project_id = 5", "none"),
        ("SELECT * FROM events, mine() WHERE project_id = 5", "none"),
        ("SELECT * FROM events, generate_series(1, 2) AS g WHERE project_id = 5", "1:2"),
        ("SELECT * FROM events, unnest(ARRAY[1]) AS u WHERE project_id = 5", "1:1"),
    ]);
}

#[test]
fn several_tables_are_held_to_the_same() {
    check(&[
        ("SELECT * FROM events e JOIN issues i ON e.project_id = i.project_id WHERE e.project_id = 5", "1:0"),
        ("SELECT * FROM events e, issues i WHERE e.project_id = i.project_id AND i.project_id = $1", "1:$1"),
        ("SELECT * FROM events e JOIN issues i ON e.project_id = i.project_id AND e.project_id = 5", "1:0"),
        ("SELECT * FROM events e JOIN issues i USING (project_id) WHERE e.project_id = 5", "1:0"),
        ("SELECT * FROM events JOIN issues USING (project_id) WHERE project_id = 5", "1:0"),
        (
            "SELECT * FROM events e JOIN issues i USING (id, project_id) JOIN issues j USING (project_id) WHERE i.project_id = 5",
            "1:0",
        ),
        ("SELECT * FROM events e JOIN plans p ON p.id = e.plan WHERE e.project_id = 5 AND p.x = 6", "1:0"),
        ("SELECT * FROM events JOIN plans ON plans.id = events.plan WHERE project_id = 5", "1:0"),
        ("SELECT * FROM events e, shop.carts c WHERE e.project_id = $1 AND c.tenant = $1", "1:$1"),
        (
            "SELECT * FROM events e, issues i WHERE e.project_id = 5 AND i.project_id = 5 AND e.project_id = i.project_id",
            "1:0",
        ),
        (
            "SELECT * FROM events e JOIN issues i ON (e.project_id, e.id) = (i.project_id, i.id) WHERE e.project_id = 5",
            "1:0",
        ),
        // Two literals may be two values, and two types of a parameter are two keys.
        ("SELECT * FROM events e, issues i WHERE e.project_id = 5 AND i.project_id = 5", "any"),
        ("SELECT * FROM events e, issues i WHERE e.project_id = $1 AND i.project_id = $2", "any"),
        ("SELECT * FROM events e, issues i WHERE e.project_id = 5", "any"),
        ("SELECT * FROM events e JOIN issues i ON e.project_id = i.id WHERE e.project_id = 5", "any"),
        ("SELECT * FROM events, issues WHERE project_id = 5", "any"),
        ("SELECT * FROM events NATURAL JOIN issues WHERE project_id = 5", "any"),
        ("SELECT * FROM events e, docs d WHERE e.project_id = $1 AND d.key = $1", "any"),
        ("SELECT * FROM events e JOIN odd o ON o.amount = e.project_id WHERE e.project_id = 5", "any"),
        ("SELECT * FROM (events e JOIN issues i USING (project_id)) AS j WHERE project_id = 5", "none"),
        // Outer joins.
        (
            "SELECT * FROM (issues a JOIN plans z ON a.project_id = 5) RIGHT JOIN plans b USING (project_id) \
             JOIN events c USING (project_id)",
            "any",
        ),
        ("SELECT * FROM events e LEFT JOIN issues i ON e.project_id = i.project_id WHERE e.project_id = 5", "1:0"),
        ("SELECT * FROM events e LEFT JOIN issues i USING (project_id) WHERE e.project_id = 5", "1:0"),
        ("SELECT * FROM plans p LEFT JOIN events e ON e.project_id = 5 AND e.plan = p.id", "1:0"),
        ("SELECT * FROM events e RIGHT JOIN plans p ON e.project_id = 5", "1:0"),
        (
            "SELECT * FROM events e LEFT JOIN (issues i JOIN issues j ON i.project_id = j.project_id) ON i.project_id = e.project_id WHERE e.project_id = 5",
            "1:0",
        ),
        ("SELECT * FROM events e LEFT JOIN plans p ON e.project_id = 5", "any"),
        ("SELECT * FROM events e LEFT JOIN issues i ON e.project_id = i.project_id AND i.project_id = 5", "any"),
        ("SELECT * FROM events e LEFT JOIN issues i ON e.id = i.id WHERE e.project_id = 5", "any"),
        ("SELECT * FROM events e FULL JOIN issues i ON e.project_id = i.project_id WHERE e.project_id = 5", "any"),
        ("SELECT * FROM events e FULL JOIN issues i USING (project_id) WHERE project_id = 5", "any"),
        ("SELECT * FROM plans r LEFT JOIN events USING (project_id) WHERE project_id = 5", "any"),
        (
            "SELECT * FROM plans r LEFT JOIN events a USING (project_id) JOIN issues c USING (project_id) WHERE a.project_id = 5",
            "any",
        ),
    ]);
}

#[test]
fn each_query_is_held_by_itself() {
    check(&[
        ("SELECT * FROM (SELECT * FROM events WHERE project_id = 5) s", "1:0"),
        ("WITH e AS (SELECT * FROM events WHERE project_id = $1) SELECT * FROM e JOIN plans ON true", "1:$1"),
        (
            "WITH e AS MATERIALIZED (SELECT * FROM events WHERE project_id = $1) SELECT * FROM e, issues WHERE issues.project_id = $1",
            "1:$1",
        ),
        ("SELECT * FROM events WHERE project_id = $1 UNION ALL SELECT * FROM issues WHERE project_id = $1", "1:$1"),
        (
            "SELECT * FROM events e WHERE project_id = 5 AND EXISTS (SELECT FROM issues i WHERE i.project_id = e.project_id)",
            "1:0",
        ),
        (
            "SELECT (SELECT count(*) FROM issues i WHERE i.project_id = e.project_id) FROM events e WHERE e.project_id = 5",
            "1:0",
        ),
        (
            "SELECT * FROM events e, LATERAL (SELECT * FROM issues i WHERE i.project_id = e.project_id) l WHERE e.project_id = 5",
            "1:0",
        ),
        ("SELECT * FROM events WHERE project_id = $1 AND id IN (SELECT id FROM issues WHERE project_id = $1)", "1:$1"),
        ("SELECT * FROM events WHERE project_id = 5 AND id IN (SELECT id FROM plans)", "1:0"),
        ("SELECT * FROM events WHERE project_id = 5 UNION SELECT * FROM issues WHERE project_id = 5", "any"),
        ("SELECT * FROM events WHERE project_id = 5 AND id IN (SELECT id FROM issues)", "any"),
        ("SELECT * FROM events WHERE project_id = 5 UNION SELECT * FROM issues", "any"),
        ("SELECT * FROM (SELECT * FROM events) s WHERE s.project_id = 5", "any"),
        ("WITH e AS (SELECT * FROM events) SELECT * FROM e WHERE project_id = 5", "any"),
        // What an inner query says does not hold the outer one.
        (
            "SELECT * FROM events e WHERE NOT EXISTS (SELECT FROM issues i WHERE i.project_id = e.project_id AND i.project_id = 5)",
            "any",
        ),
        (
            "SELECT * FROM events e, (SELECT * FROM issues i WHERE i.project_id = e.project_id) l WHERE e.project_id = 5",
            "any",
        ),
        (
            "SELECT * FROM events e WHERE e.project_id = 5 AND EXISTS (SELECT FROM plans e, issues i WHERE i.project_id = e.project_id)",
            "any",
        ),
        // An expression may hide a table, and be one within itself.
        ("WITH events AS (SELECT 1) SELECT * FROM events WHERE project_id = 5", "none"),
        ("WITH local_only AS (SELECT * FROM local_only) SELECT * FROM local_only, events WHERE project_id = 5", "none"),
        ("WITH x AS (DELETE FROM events WHERE project_id = 5 RETURNING *) SELECT * FROM x", "none"),
        ("TABLE events", "any"),
        ("SELECT * FROM plans UNION TABLE local_only", "none"),
    ]);
}

#[test]
fn writes_of_one_shard() {
    check(&[
        ("INSERT INTO events (project_id, x) VALUES (5, 'a')", "1:0 w"),
        ("INSERT INTO events AS e (x, project_id) VALUES (now(), $1) RETURNING *", "1:$1 w"),
        ("INSERT INTO events (project_id, x) VALUES (-5, 1) ON CONFLICT (id) DO UPDATE SET x = excluded.x", "1:-0 w"),
        ("INSERT INTO events (project_id) VALUES (5) ON CONFLICT DO NOTHING", "1:0 w"),
        ("UPDATE events SET x = 1 WHERE project_id = 5 RETURNING id", "1:1 w"),
        (
            "UPDATE public.events e SET x = i.x FROM issues i WHERE e.project_id = i.project_id AND e.project_id = $1",
            "1:$1 w",
        ),
        ("UPDATE events SET x = (SELECT max(id) FROM plans), y = now() WHERE project_id = 5", "1:0 w"),
        ("DELETE FROM events WHERE project_id = 5 AND id = 6", "1:0 w"),
        ("DELETE FROM events WHERE project_id IN (5)", "1:0 w !"),
        ("DELETE FROM events USING issues i WHERE events.project_id = i.project_id AND i.project_id = 5", "1:0 w"),
        ("DELETE FROM events WHERE project_id = $1 AND id IN (SELECT id FROM issues WHERE project_id = $1)", "1:$1 w"),
        ("INSERT INTO events VALUES (5, 'a')", "none"),
        // Its numbers are the coordinator's.
        ("INSERT INTO numbered (project_id) VALUES (5)", "none"),
        ("UPDATE numbered SET x = 1 WHERE project_id = 5", "1:1 w"),
        ("INSERT INTO events (x) VALUES (5)", "none"),
        ("INSERT INTO events (project_id) VALUES (5), (6)", "none"),
        ("INSERT INTO events (project_id, x) VALUES (5)", "none"),
        ("INSERT INTO events (project_id) VALUES (DEFAULT)", "none"),
        ("INSERT INTO events (project_id) VALUES (2 + 3)", "none"),
        ("INSERT INTO events (project_id) SELECT 5", "none"),
        ("INSERT INTO events (project_id) SELECT project_id FROM issues WHERE project_id = 5", "none"),
        ("INSERT INTO events (project_id, x) VALUES (5, (SELECT 1))", "none"),
        ("INSERT INTO events (project_id, x) VALUES (5, nextval('s'))", "none"),
        ("INSERT INTO events (project_id, x) VALUES (5, mine())", "none"),
        ("INSERT INTO events (project_id) VALUES (5) ON CONFLICT (id) DO UPDATE SET project_id = 6", "none"),
        ("INSERT INTO plans (id) VALUES (5)", "none"),
        ("INSERT INTO events DEFAULT VALUES", "none"),
        ("UPDATE events SET project_id = 6 WHERE project_id = 5", "none"),
        ("UPDATE events SET (x, project_id) = (1, 6) WHERE project_id = 5", "none"),
        ("UPDATE events SET x = mine() WHERE project_id = 5", "none"),
        ("UPDATE events SET x = 1", "none"),
        ("UPDATE events SET x = 1 WHERE project_id > 5", "none"),
        ("UPDATE events SET x = 1 FROM issues i WHERE events.project_id = 5 AND i.id = 6", "none"),
        ("UPDATE events SET x = (SELECT 1 FROM local_only) WHERE project_id = 5", "none"),
        ("UPDATE plans SET x = 1 FROM events e WHERE e.project_id = 5", "none"),
        (
            "UPDATE events SET x = 1 WHERE id IN (SELECT id FROM issues WHERE project_id = 5 FOR UPDATE) AND project_id = 5",
            "none",
        ),
        ("DELETE FROM events", "none"),
        ("DELETE FROM plans WHERE id = 5", "none"),
        ("DELETE FROM local_only WHERE project_id = 5", "none"),
        ("WITH x AS (SELECT 1) DELETE FROM events WHERE project_id = 5", "none"),
        ("MERGE INTO events e USING issues i ON e.project_id = 5 WHEN MATCHED THEN DELETE", "none"),
        ("TRUNCATE events", "none"),
        ("EXPLAIN ANALYZE DELETE FROM events WHERE project_id = 5", "none"),
    ]);
}

/// `moody.mood` is of a type of its own.
#[test]
fn types_of_ones_own_are_shown_by_the_coordinator() {
    check(&[
        ("SELECT x FROM moody WHERE project_id = 5", "1:0"),
        ("SELECT count(*) FROM moody WHERE project_id = 5", "1:0"),
        ("INSERT INTO moody (project_id, mood) VALUES (5, 'sad'::mood)", "1:0 w"),
        ("UPDATE moody SET mood = 'sad' WHERE project_id = 5 AND mood = 'happy' RETURNING x", "none"),
        ("UPDATE moody SET mood = 'sad' WHERE project_id = 5 AND mood = 'happy'", "1:1 w"),
        ("DELETE FROM moody WHERE project_id = 5 RETURNING x", "1:0 w"),
        ("DELETE FROM moody WHERE project_id = 5 RETURNING *", "none"),
        ("SELECT * FROM moody WHERE project_id = 5", "none"),
        ("SELECT mood FROM moody WHERE project_id = 5", "none"),
        ("SELECT m.\"mood\" FROM moody AS m WHERE m.project_id = 5", "none"),
        ("SELECT m.* FROM events AS e JOIN moody AS m USING (project_id) WHERE project_id = 5", "none"),
        ("SELECT b FROM moody AS m (a, b) WHERE a = 5", "none"),
        ("SELECT m FROM moody AS m WHERE m.project_id = 5", "none"),
        ("SELECT events FROM events WHERE project_id = 5", "none"),
        ("SELECT x::mood FROM events WHERE project_id = 5", "none"),
        ("SELECT x::mood[] FROM events WHERE project_id = 5", "none"),
        ("SELECT x::inet FROM events WHERE project_id = 5", "1:0"),
        ("SELECT x::public.inet FROM events WHERE project_id = 5", "none"),
    ]);
}
