//! What PostgreSQL's own parse tree says of a text.

use serde_json::Value;
use trunkline::sql::{FunctionLists, FunctionName, Target, judge_function};

/// The tree's answers.
#[derive(Debug, Default)]
pub struct Tree {
    pub statements: usize,
    pub begins: bool,
    pub ends: bool,
    pub savepoints: bool,
    pub listens: bool,
    pub prepares: bool,
    pub executes: bool,
    pub holds: bool,
    pub temporary: bool,
    /// All statements are plain queries.
    only_queries: bool,
    /// Why a replica can't have it.
    not_replica: Vec<String>,
    /// Why it can't go just anywhere.
    not_anywhere: Vec<String>,
}

impl Tree {
    pub fn allows(&self, target: Target) -> bool {
        match target {
            Target::Primary => true,
            Target::Replica => self.not_replica.is_empty(),
            Target::Anywhere => self.not_anywhere.is_empty(),
        }
    }

    pub fn is_plain_read(&self) -> bool {
        self.only_queries && self.statements > 0 && self.not_replica.is_empty()
    }

    pub fn why(&self) -> String {
        format!("{:?} {:?}", self.not_replica, self.not_anywhere)
    }

    fn refuse(&mut self, why: &str) {
        self.not_replica.push(why.to_owned());
        self.not_anywhere.push(why.to_owned());
    }
}

/// Parses a text as the server would; `None` when the server would refuse it.
pub fn tree(sql: &str) -> Option<Tree> {
    let parsed = pg_query::parse(sql, pg_query::ParserOptions::default()).ok()?;
    let mut tree = Tree { only_queries: true, ..Tree::default() };
    for raw in &parsed.protobuf.stmts {
        let value = serde_json::to_value(raw.stmt.as_ref()?.node.as_ref()?).unwrap();
        let (kind, body) = value.as_object()?.iter().next()?;
        tree.statements += 1;
        tree.only_queries &= kind == "SelectStmt";
        statement(&mut tree, kind, body);
    }
    Some(tree)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The value of an enumeration's field, by the number that PostgreSQL's protobuf gives it.
fn number(value: &Value, key: &str) -> i64 {
    value[key].as_i64().unwrap_or_default()
}

fn statement(tree: &mut Tree, kind: &str, body: &Value) {
    use pg_query::protobuf::{TransactionStmtKind as Tx, VariableSetKind};
    match kind {
        "SelectStmt" => {
            tree.not_anywhere.push("a query".into());
            walk(tree, body, "");
        }
        "ExplainStmt" => {
            tree.not_anywhere.push("EXPLAIN".into());
            let (kind, inner) = body["query"]["node"].as_object().unwrap().iter().next().unwrap();
            let (begins, temporary) = (tree.begins, tree.temporary);
            statement(tree, kind, inner);
            if !explain_analyzes(body) {
                (tree.begins, tree.temporary) = (begins, temporary);
                tree.holds = false;
            }
        }
        "CopyStmt" => {
            tree.not_anywhere.push("COPY".into());
            if body["is_from"].as_bool().unwrap() {
                tree.refuse("COPY FROM");
            }
            if body["is_program"].as_bool().unwrap() || !text(body, "filename").is_empty() {
                tree.refuse("COPY with a file");
            }
            walk(tree, body, "");
        }
        "DeclareCursorStmt" => {
            tree.not_anywhere.push("DECLARE".into());
            // CURSOR_OPT_HOLD
            if number(body, "options") & 0x20 != 0 {
                tree.refuse("WITH HOLD");
                tree.holds = true;
            }
            walk(tree, body, "");
        }
        "TransactionStmt" => match Tx::try_from(number(body, "kind") as i32).unwrap() {
            Tx::TransStmtBegin | Tx::TransStmtStart => {
                tree.begins = true;
                tree.not_anywhere.push("BEGIN".into());
                let modes = modes(body);
                if modes.0 != Some(true) || modes.1 {
                    tree.refuse("BEGIN of a block that may write");
                }
            }
            Tx::TransStmtSavepoint | Tx::TransStmtRelease | Tx::TransStmtRollbackTo => tree.savepoints = true,
            Tx::TransStmtCommit | Tx::TransStmtRollback => tree.ends = true,
            Tx::TransStmtPrepare => {
                tree.ends = true;
                tree.refuse("two-phase commit");
            }
            _ => tree.refuse("two-phase commit"),
        },
        "FetchStmt" | "ClosePortalStmt" => {}
        "VariableSetStmt" => {
            let name = text(body, "name");
            let own = name.starts_with("trunkline.");
            let kind = VariableSetKind::try_from(number(body, "kind") as i32).unwrap();
            let (read_only, serializable) = modes(body);
            let transaction = kind == VariableSetKind::VarSetMulti && name == "TRANSACTION";
            if !(own || transaction && read_only != Some(false) && !serializable || name.starts_with("transaction_")) {
                tree.refuse("SET");
            }
        }
        "VariableShowStmt" => {
            if !text(body, "name").starts_with("trunkline.") {
                tree.refuse("SHOW");
            }
        }
        other => {
            tree.refuse(other);
            tree.listens |= matches!(other, "ListenStmt" | "UnlistenStmt");
            tree.executes |= other == "ExecuteStmt" || !body["query"]["node"]["ExecuteStmt"].is_null();
            // DEALLOCATE ALL has its own bit.
            tree.prepares |= other == "PrepareStmt" || other == "DeallocateStmt" && !body["isall"].as_bool().unwrap();
            let created = ["CreateStmt", "CreateTableAsStmt", "ViewStmt", "CreateSeqStmt"].contains(&other);
            if created {
                for relation in [&body["relation"], &body["into"]["rel"], &body["view"], &body["sequence"]] {
                    tree.temporary |=
                        text(relation, "relpersistence") == "t" || text(relation, "schemaname") == "pg_temp";
                }
            }
        }
    }
}

/// READ ONLY or READ WRITE, and SERIALIZABLE, of a list of transaction modes; the last of each counts.
fn modes(body: &Value) -> (Option<bool>, bool) {
    let (mut read_only, mut serializable) = (None, false);
    let key = if body["options"].is_array() { "options" } else { "args" };
    for option in body[key].as_array().into_iter().flatten() {
        let element = &option["node"]["DefElem"];
        let constant = &element["arg"]["node"]["AConst"]["val"];
        match text(element, "defname") {
            "transaction_read_only" => read_only = Some(constant["Ival"]["ival"].as_i64() == Some(1)),
            "transaction_isolation" => serializable = constant["Sval"]["sval"].as_str() == Some("serializable"),
            _ => {}
        }
    }
    (read_only, serializable)
}

fn explain_analyzes(body: &Value) -> bool {
    let mut analyzes = false;
    for option in body["options"].as_array().into_iter().flatten() {
        let element = &option["node"]["DefElem"];
        if text(element, "defname") == "analyze" {
            let arg = &element["arg"]["node"];
            let off = arg["String"]["sval"].as_str().is_some_and(|v| ["false", "off"].contains(&v))
                || arg["Integer"]["ival"].as_i64() == Some(0) && arg["Integer"].is_object();
            analyzes = !off;
        }
    }
    analyzes
}

/// Walks everything below a node, whatever it is.
fn walk(tree: &mut Tree, value: &Value, key: &str) {
    match value {
        Value::Array(items) => {
            if key == "locking_clause" && !items.is_empty() {
                tree.refuse("locking clause");
            }
            items.iter().for_each(|item| walk(tree, item, ""));
        }
        Value::Object(fields) => {
            match key {
                "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt" => tree.refuse(key),
                "into_clause" => {
                    tree.refuse("SELECT INTO");
                    let relation = &value["rel"];
                    tree.temporary |=
                        text(relation, "relpersistence") == "t" || text(relation, "schemaname") == "pg_temp";
                }
                "FuncCall" => call(tree, value),
                "RangeVar" | "relation" => relation(tree, value),
                "AExpr" => operator(tree, value),
                _ => {}
            }
            for (key, value) in fields {
                walk(tree, value, key);
            }
        }
        _ => {}
    }
}

fn names(list: &Value) -> Vec<&str> {
    let strings = list.as_array().into_iter().flatten();
    strings.filter_map(|name| name["node"]["String"]["sval"].as_str()).collect()
}

fn call(tree: &mut Tree, value: &Value) {
    let path = names(&value["funcname"]);
    let (schema, name) = match path.as_slice() {
        [name] => (None, *name),
        [.., schema, name] => (Some(*schema), *name),
        [] => return tree.refuse("a call without a name"),
    };
    if judge_function(FunctionName { schema, name }, &FunctionLists::default()).reason.is_some() {
        tree.refuse(&format!("function {name}"));
    }
}

fn operator(tree: &mut Tree, value: &Value) {
    if let [schema, _] = names(&value["name"]).as_slice()
        && *schema != "pg_catalog"
    {
        tree.refuse("operator of another schema");
    }
}

fn relation(tree: &mut Tree, value: &Value) {
    let (schema, name) = (text(value, "schemaname"), text(value, "relname"));
    let own = schema.is_empty() || schema == "pg_catalog";
    let of_node = [
        "pg_locks",
        "pg_settings",
        "pg_cursors",
        "pg_prepared_xacts",
        "pg_prepared_statements",
        "pg_replication_slots",
    ];
    if name.starts_with("pg_stat_") || own && (name.starts_with("pg_statio_") || of_node.contains(&name)) {
        tree.refuse(&format!("relation {name}"));
    }
    if schema == "pg_temp" {
        tree.refuse("temporary relation");
    }
}
