//! Statements, and where they name their shard.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::super::classify::{analyze_detailed, decide};
use super::super::super::decision::{Decision, Effects, Target};
use super::super::super::fingerprint::fingerprint;
use super::super::super::knowledge::{Catalog, Commands, Facts, Hazards};
use super::super::super::path::SearchPath;
use super::super::super::reason::Reason;
use super::super::super::touches::Slots;
use super::super::super::verdict::Verdict;
use super::super::{DistributedTable, Format, KeyAt, KeyType};
use super::*;

/// A catalog that knows relations by name, and one function.
#[derive(Debug, Default)]
struct Names {
    hazards: Hazards,
}

/// In `public`, all but one; `twice` is in another schema, too.
const RELATIONS: [&str; 10] =
    ["events", "issues", "docs", "things", "flags", "plans", "local_only", "odd", "coord", "twice"];

impl Facts for Names {
    fn function(&self, function: FunctionName<'_>, _: Option<usize>, _: &FunctionLists) -> Option<Verdict> {
        let read = || Verdict::replica(Reason::Read).reading(Slots::All);
        matches!(function.name, "mine" | "lower").then(read).filter(|_| function.schema != Some("pg_catalog"))
    }

    fn relation(&self, schema: Option<&str>, name: &str, _: &FunctionLists) -> Option<Verdict> {
        let found = RELATIONS.contains(&name) && schema.is_none_or(|schema| schema == "public")
            || (name == "carts" && schema.is_none_or(|schema| schema == "shop"));
        found.then(|| Verdict::replica(Reason::Read).reading(Slots::of([7])))
    }

    fn written(&self, _: Option<&str>, _: &str, _: Commands, _: &FunctionLists) -> Slots {
        Slots::of([7])
    }

    fn has_event_triggers(&self) -> bool {
        false
    }

    fn is_in_several_schemas(&self, name: &str) -> bool {
        name == "twice"
    }

    fn along(self: Arc<Self>, _: &'static SearchPath) -> Arc<dyn Facts> {
        self
    }

    fn hazards(&self) -> &Hazards {
        &self.hazards
    }
}

fn distribution() -> Distribution {
    let table = |schema: &str, name: &str, kind| DistributedTable { schema: schema.into(), name: name.into(), kind };
    let hash = |colocation, column: &str, key| TableKind::Hash { colocation, column: column.into(), key };
    Distribution::new([
        table("public", "events", hash(1, "project_id", Some(KeyType::Int))),
        table("public", "issues", hash(1, "project_id", Some(KeyType::Int))),
        table("shop", "carts", hash(1, "tenant", Some(KeyType::Int))),
        table("public", "docs", hash(2, "key", Some(KeyType::Text))),
        table("public", "things", hash(3, "id", Some(KeyType::Uuid))),
        table("public", "flags", hash(4, "is_set", Some(KeyType::Bool))),
        table("public", "odd", hash(5, "amount", None)),
        table("public", "twice", hash(1, "project_id", Some(KeyType::Int))),
        table("public", "plans", TableKind::Reference),
        table("public", "local_only", TableKind::Other),
    ])
}

fn known() -> Knowledge {
    Knowledge {
        catalog: Catalog::Known(Arc::new(Names::default())),
        distribution: Some(Arc::new(distribution())),
        ..Knowledge::default()
    }
}

fn decision(sql: &str) -> Decision {
    decide(sql.as_bytes(), LexOptions::default(), &known())
}

/// The key in few letters: `1:2` is the third literal and colocation 1, `-` a minus, `[]` an array, `$1` a parameter, `::` a cast, `w` a
/// write, `!` that it is of this text only.
fn told(decision: Decision) -> String {
    let Some(key) = decision.key.get() else { return "none".into() };
    let mut told = match key.source {
        KeySource::AnyNode => "any".to_owned(),
        KeySource::Owner { colocation, at, .. } => match at {
            KeyAt::Literal { nth, negative, array } => {
                let (minus, array) = (if negative { "-" } else { "" }, if array { "[]" } else { "" });
                format!("{colocation}:{minus}{nth}{array}")
            }
            KeyAt::Param { number, cast, array } => {
                let (cast, array) = (cast.map_or("", |_| "::"), if array { "[]" } else { "" });
                format!("{colocation}:${number}{cast}{array}")
            }
            KeyAt::Constant { hash } => format!("{colocation}:={hash}"),
        },
    };
    told.push_str(if key.writes { " w" } else { "" });
    told.push_str(if decision.effects.contains(Effects::LITERAL_MATTERS) { " !" } else { "" });
    told
}

#[track_caller]
fn check(rows: &[(&str, &str)]) {
    for (sql, expected) in rows {
        assert_eq!(told(decision(sql)), *expected, "{sql}");
    }
}

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

#[test]
fn without_a_distribution_or_a_catalog_nothing_is_told() {
    let sql = b"SELECT * FROM events WHERE project_id = 5";
    let opts = LexOptions::default();
    let none = |known: Knowledge| assert_eq!(told(decide(sql, opts, &known)), "none");
    none(Knowledge { distribution: None, ..known() });
    none(Knowledge { distribution: Some(Arc::default()), ..known() });
    none(Knowledge { catalog: Catalog::Absent, ..known() });
    none(Knowledge { catalog: Catalog::Pending(Arc::new(Names::default())), ..known() });
    let qualified = b"SELECT * FROM public.events WHERE project_id = 5";
    assert_eq!(told(decide(qualified, opts, &Knowledge { catalog: Catalog::Absent, ..known() })), "1:0");
    let unsafe_encoding = LexOptions { safe_encoding: false, ..opts };
    let text = "SELECT 'ä' FROM events WHERE project_id = 5";
    assert_eq!(told(decide(text.as_bytes(), unsafe_encoding, &known())), "none");
    let (analysis, details) = analyze_detailed(sql, opts, &known());
    assert_eq!((told(analysis.decision), told(details[0].decision)), ("1:0".into(), "1:0".into()));
}

/// A longer list has the fingerprint of the short one: what was found in that must not be shared.
#[test]
fn lists_of_one_are_told_from_longer_ones() {
    let opts = LexOptions::default();
    let of = |list: &str| format!("SELECT * FROM events WHERE project_id IN ({list})");
    let one = fingerprint(of("5").as_bytes(), opts);
    for (list, expected) in [
        ("5", "1:0 !"),
        (" /* 6, */ 5 -- 7\n ", "1:0 !"),
        ("5,6", "any"),
        ("5, '6'", "any"),
        ("5,6,7,8,9", "any"),
        ("5, $1", "any"),
        ("$1, 5", "any"),
    ] {
        let sql = of(list);
        assert_eq!(told(decision(&sql)), expected, "{sql}");
        if !list.contains('$') {
            assert_eq!(fingerprint(sql.as_bytes(), opts), one, "{sql}");
        }
    }
    // What stands behind a folded list is counted as fingerprints count it.
    let sql = "SELECT * FROM events WHERE x IN (1, 2, 3) AND project_id = 7";
    assert_eq!(told(decision(sql)), "1:1");
    let key = decision(sql).key.get().unwrap();
    let hash = |value: i64| KeyType::Int.hash_of(&value.to_be_bytes(), Format::Binary, false);
    assert_eq!(key.hash_in(sql.as_bytes(), opts, false), hash(7));
    let other = "SELECT * FROM events WHERE x IN (4) AND project_id = '8'";
    assert_eq!(key.hash_in(other.as_bytes(), opts, false), hash(8));
}

#[test]
fn what_a_column_may_cut_is_not_certain() {
    let key = *decision("INSERT INTO docs (key) VALUES ('a')").key.get().unwrap();
    let opts = LexOptions::default();
    assert!(key.hash_in(b"INSERT INTO docs (key) VALUES ('b')", opts, true).is_some());
    assert_eq!(key.hash_in(b"INSERT INTO docs (key) VALUES ('b ')", opts, true), None);
    let read = *decision("SELECT * FROM docs WHERE key = 'a'").key.get().unwrap();
    assert!(read.hash_in(b"SELECT * FROM docs WHERE key = 'b '", opts, true).is_some());
}

/// Texts to which a value is given, and the same with a parameter.
const SHAPES: [(&str, &str); 6] = [
    (
        "SELECT 'a', 2 FROM events WHERE id IN (1, 2) AND project_id = @ AND x = 4",
        "SELECT 'a', 2 FROM events WHERE id IN (1, 2) AND project_id = $1 AND x = 4",
    ),
    ("DELETE FROM events WHERE project_id IN (@)", "DELETE FROM events WHERE project_id IN ($1)"),
    (
        "INSERT INTO events (x, project_id) VALUES ('it''s', @)",
        "INSERT INTO events (x, project_id) VALUES ('it''s', $1)",
    ),
    (
        "UPDATE events SET x = $$7$$ WHERE (id, project_id) = (8, @)",
        "UPDATE events SET x = $$7$$ WHERE (id, project_id) = (8, $1)",
    ),
    (
        "SELECT * FROM events e JOIN issues i USING (project_id) WHERE e.project_id = @ LIMIT 3",
        "SELECT * FROM events e JOIN issues i USING (project_id) WHERE e.project_id = $1 LIMIT 3",
    ),
    ("SELECT * FROM events WHERE project_id = ANY(ARRAY[@])", "SELECT * FROM events WHERE project_id = ANY(ARRAY[$1])"),
];

proptest! {
    /// A value names the same shard, however it is given, and whatever the text was in which its place was found.
    #[test]
    fn literals_and_parameters_agree(value: i64, other: i64, shape in 0..SHAPES.len(), quoted: bool) {
        let opts = LexOptions::default();
        let (with_literal, with_parameter) = SHAPES[shape];
        let written = |value: i64| if quoted { format!("'{value}'") } else { value.to_string() };
        let sql = with_literal.replace('@', &written(value));
        let key = *decision(&sql).key.get().unwrap();
        let by_parameter = *decision(with_parameter).key.get().unwrap();
        let expected = by_parameter.hash_of_parameter(20, Format::Binary, Some(&value.to_be_bytes()), false);
        prop_assert!(expected.is_some());
        prop_assert_eq!(by_parameter.hash_of_parameter(0, Format::Text, Some(value.to_string().as_bytes()), false), expected);
        prop_assert_eq!(key.hash_in(sql.as_bytes(), opts, false), expected);
        if quoted || (value < 0) == (other < 0) {
            let another = with_literal.replace('@', &written(other));
            prop_assert_eq!(fingerprint(another.as_bytes(), opts), fingerprint(sql.as_bytes(), opts));
            let hash = by_parameter.hash_of_parameter(20, Format::Binary, Some(&other.to_be_bytes()), false);
            prop_assert_eq!(key.hash_in(another.as_bytes(), opts, false), hash);
        }
    }

    /// Nothing that is appended or cut off makes the walk fail, and only reads are any node's.
    #[test]
    fn no_text_is_too_odd(shape in 0..SHAPES.len(), at in 0usize..80, put in "[ -~]{0,12}") {
        let mut sql = SHAPES[shape].0.replace('@', "5");
        sql.insert_str(at.min(sql.len()), &put);
        let decision = decision(&sql);
        if let Some(key) = decision.key.get() {
            prop_assert_eq!(key.writes, decision.target == Target::Primary, "{}", sql);
            prop_assert!(!key.writes || key.source != KeySource::AnyNode);
        }
    }
}
