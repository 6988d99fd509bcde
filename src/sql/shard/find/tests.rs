//! Statements, and where they name their shard.

mod rows;

use std::sync::Arc;

use proptest::prelude::*;

use super::super::{DistributedTable, Format, KeyAt, KeyType};
use super::*;
use crate::sql::classify::{analyze_detailed, decide};
use crate::sql::decision::{Decision, Effects, Target};
use crate::sql::fingerprint::fingerprint;
use crate::sql::knowledge::{Catalog, Commands, Facts, Hazards};
use crate::sql::path::SearchPath;
use crate::sql::reason::Reason;
use crate::sql::touches::{Slots, Touches};
use crate::sql::verdict::Verdict;

/// A catalog that knows relations by name, and one function.
#[derive(Debug, Default)]
struct Names {
    hazards: Hazards,
}

/// In `public`, all but one; `twice` is in another schema, too.
const RELATIONS: [&str; 11] =
    ["events", "issues", "docs", "things", "flags", "plans", "local_only", "odd", "coord", "twice", "moody"];

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

    fn written(&self, _: Option<&str>, _: &str, _: Commands, _: &FunctionLists) -> Touches {
        Touches::new(Slots::none(), Slots::of([7]))
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
    let table = |schema: &str, name: &str, kind| DistributedTable {
        schema: schema.into(),
        name: name.into(),
        is_numbered: name == "numbered",
        own_types: if name == "moody" { [Box::from("mood")].into() } else { Box::default() },
        kind,
    };
    let hash = |colocation, column: &str, key| TableKind::Hash { colocation, column: column.into(), key };
    Distribution::new([
        table("public", "events", hash(1, "project_id", Some(KeyType::Int))),
        table("public", "issues", hash(1, "project_id", Some(KeyType::Int))),
        table("shop", "carts", hash(1, "tenant", Some(KeyType::Int))),
        table("public", "docs", hash(2, "key", Some(KeyType::Text))),
        table("public", "things", hash(3, "id", Some(KeyType::Uuid))),
        table("public", "flags", hash(4, "is_set", Some(KeyType::Bool))),
        table("public", "odd", hash(5, "amount", None)),
        table("public", "numbered", hash(1, "project_id", Some(KeyType::Int))),
        table("public", "twice", hash(1, "project_id", Some(KeyType::Int))),
        table("public", "moody", hash(1, "project_id", Some(KeyType::Int))),
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
