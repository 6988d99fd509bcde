//! What a text reads and writes, against PostgreSQL's own tree of it: no table and no function of a user's may be passed over.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;
use trunkline::sql::{
    Catalog, Commands, Effects, Facts, FunctionLists, FunctionName, Hazards, Knowledge, LexOptions, Reason, SLOTS,
    SearchPath, Slots, Target, Touches, Verdict, analyze, judge_function,
};

/// The tables and functions that a text names, by PostgreSQL's tree.
#[derive(Debug, Default)]
struct Named {
    /// Every relation but common table expressions.
    tables: BTreeSet<String>,
    /// Those that are changed.
    changed: BTreeSet<String>,
    functions: BTreeSet<String>,
    expressions: BTreeSet<String>,
}

/// A catalog of just these: tables in slots of their own, and STABLE functions that may read anything.
#[derive(Debug)]
struct Known {
    tables: Vec<String>,
    functions: Vec<String>,
    hazards: Hazards,
}

impl Known {
    fn slot(&self, name: &str) -> Option<u16> {
        let at = self.tables.iter().position(|table| table == name)?;
        Some(2 + u16::try_from(at).unwrap() % (SLOTS - 2))
    }
}

impl Facts for Known {
    fn function(&self, function: FunctionName<'_>, _: Option<usize>, _: &FunctionLists) -> Option<Verdict> {
        self.functions
            .iter()
            .any(|name| name == function.name)
            .then(|| Verdict::new(Target::Replica, Reason::Read, Effects::TELLS_TIME).reading(Slots::All))
    }

    fn relation(&self, _: Option<&str>, name: &str, _: &FunctionLists) -> Option<Verdict> {
        Some(Verdict::replica(Reason::Read).reading(Slots::of([self.slot(name)?])))
    }

    fn written(&self, _: Option<&str>, name: &str, _: Commands, _: &FunctionLists) -> Touches {
        Touches::new(Slots::none(), self.slot(name).map_or(Slots::All, |slot| Slots::of([slot])))
    }

    fn has_event_triggers(&self) -> bool {
        false
    }

    fn is_in_several_schemas(&self, _: &str) -> bool {
        false
    }

    fn along(self: Arc<Self>, _: &'static SearchPath) -> Arc<dyn Facts> {
        self
    }

    fn hazards(&self) -> &Hazards {
        &self.hazards
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn walk(named: &mut Named, value: &Value, key: &str) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(named, item, "")),
        Value::Object(fields) => {
            match key {
                "RangeVar" | "relation"
                    if value["relname"].is_string()
                        && !["pg_catalog", "information_schema"].contains(&text(value, "schemaname")) =>
                {
                    named.tables.insert(text(value, "relname").to_owned());
                }
                "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt" => {
                    named.changed.insert(text(&value["relation"], "relname").to_owned());
                }
                "CommonTableExpr" => {
                    named.expressions.insert(text(value, "ctename").to_owned());
                }
                "FuncCall" => {
                    let names = value["funcname"].as_array().into_iter().flatten();
                    let path: Vec<&str> = names.filter_map(|name| name["node"]["String"]["sval"].as_str()).collect();
                    if let [.., name] = path.as_slice() {
                        let schema = path.len().checked_sub(2).map(|at| path[at]);
                        let call = judge_function(FunctionName { schema, name }, &FunctionLists::default());
                        if call.reason == Some(Reason::UnknownFunction) {
                            named.functions.insert((*name).to_owned());
                        }
                    }
                }
                _ => {}
            }
            fields.iter().for_each(|(key, value)| walk(named, value, key));
        }
        _ => {}
    }
}

fn named(sql: &str) -> Option<Named> {
    let parsed = pg_query::parse(sql, pg_query::ParserOptions::default()).ok()?;
    let mut named = Named::default();
    for raw in &parsed.protobuf.stmts {
        let value = serde_json::to_value(raw.stmt.as_ref()?.node.as_ref()?).unwrap();
        let (kind, body) = value.as_object()?.iter().next()?;
        if kind == "CopyStmt" && body["is_from"] == true {
            // The server allows no query in it.
            named.changed.insert(text(&body["relation"], "relname").to_owned());
            continue;
        }
        walk(&mut named, body, kind);
    }
    // A name that is both may be the expression in one place and the table in another.
    let expressions = std::mem::take(&mut named.expressions);
    named.tables.retain(|name| !expressions.contains(name));
    Some(named)
}

/// What is passed over in a text, if anything.
pub fn passed_over(sql: &str) -> Option<String> {
    let named = named(sql)?;
    let known = Arc::new(Known {
        tables: named.tables.iter().cloned().collect(),
        functions: named.functions.iter().cloned().collect(),
        hazards: Hazards::default(),
    });
    let knowledge = Knowledge { catalog: Catalog::Known(known.clone()), ..Knowledge::default() };
    let decision = analyze(sql.as_bytes(), LexOptions::default(), &knowledge).decision;
    let touches = decision.touches.get();
    let has = |slots: &Slots, name: &str| match (slots, known.slot(name)) {
        (Slots::All, _) | (_, None) => true,
        (Slots::Some(slots), Some(slot)) => slots.contains(&slot),
    };
    let written = decision.effects.contains(Effects::WRITES);
    // What is only explained or prepared changes nothing.
    let runs = !["explain", "prepared_sql"].contains(&decision.reason.as_str());
    for name in named.changed.iter().filter(|_| runs) {
        if !written || !has(&touches.writes, name) {
            return Some(format!("{name} is changed ({}): {sql}", decision.reason.as_str()));
        }
    }
    if decision.target != Target::Replica && !(written && decision.reason == Reason::Write) {
        return None;
    }
    for name in &named.tables {
        let is_changed = named.changed.contains(name) && has(&touches.writes, name);
        if !is_changed && !has(&touches.reads, name) {
            return Some(format!("{name} is read ({}): {sql}", decision.reason.as_str()));
        }
    }
    if let Some(name) = named.functions.first()
        && touches.reads != Slots::All
    {
        return Some(format!("{name} is called ({}): {sql}", decision.reason.as_str()));
    }
    None
}
