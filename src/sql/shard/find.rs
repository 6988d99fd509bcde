//! Where a statement names its shard: the walk over its tree.

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use sqlparser::ast::{
    AssignmentTarget, Delete, Expr, FromTable, Insert, ObjectName, ObjectNamePart, OnConflictAction, OnInsert, Query,
    Select, SetExpr, Statement, TableFactor, TableObject, TableWithJoins, Update, UpdateTableFromKind, Visit, Visitor,
};

use super::super::cursor::Cursor;
use super::super::functions::{self, FunctionLists, FunctionName};
use super::super::knowledge::Knowledge;
use super::super::lexer::LexOptions;
use super::super::query::{self, Numbers, count, spelled, split_name};
use super::super::split::StatementTokens;
use super::conditions::Reader;
use super::constant::{constant, looks_up};
use super::level::{HashTable, Held, Level, Named, Values};
use super::own_types::OwnTypes;
use super::{DistributedTable, Distribution, KeySource, ShardKey, TableKind};

/// What was found in one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sql) struct Found {
    pub(in crate::sql) key: ShardKey,
    /// Texts of the same fingerprint may have another key.
    pub(in crate::sql) literal_matters: bool,
}

/// The key of a statement that is known to read only, or to be an INSERT, UPDATE or DELETE; `None` for one that nobody but the
/// coordinator is sure to understand. `cursor` holds the statement's tokens.
pub(in crate::sql) fn find(
    cursor: Cursor<'_>,
    statement: &StatementTokens,
    opts: LexOptions,
    known: &Knowledge,
) -> Option<Found> {
    let distribution = known.distribution.as_deref().filter(|distribution| !distribution.is_empty())?;
    let is = |words: &[&str]| words.iter().any(|word| cursor.is(word));
    let reads = is(&["select", "with", "values", "table"]) || cursor.is_sign("(");
    if !reads && (!is(&["insert", "update", "delete"]) || has_rows(cursor)) {
        return None;
    }
    let numbers = Numbers::of(cursor.text(), opts);
    query::look(cursor, statement, Some(&numbers), |tree| {
        let mut finder = Finder::new(known, distribution);
        if tree.visit(&mut finder).is_break() { None } else { finder.found() }
    })
    .ok()?
}

/// Whether several rows stand behind `VALUES`: nothing that is worth to be parsed.
fn has_rows(mut cursor: Cursor<'_>) -> bool {
    while !cursor.at_end() && !cursor.eat("values") {
        cursor.next();
    }
    cursor.parenthesised().is_some() && cursor.is_sign(",")
}

/// Ends the walk: no key.
const NONE: ControlFlow<()> = ControlFlow::Break(());
const GO_ON: ControlFlow<()> = ControlFlow::Continue(());

struct Finder<'a> {
    known: &'a Knowledge,
    distribution: &'a Distribution,
    /// The levels around the place at hand, the nearest last. An empty one hides those before it: see [`Self::pre_visit_table_factor`].
    levels: Vec<Level<'a>>,
    /// The common table expressions of each query around it.
    expressions: Vec<Vec<String>>,
    /// Within statements; the walk begins with one.
    statements: usize,
    writes: bool,
    /// It holds no query: an INSERT.
    plain: bool,
    /// It tells something of its rows.
    shows: bool,
    own: OwnTypes<'a>,
    /// The next relation is the name of a function.
    is_call: bool,
    relations: usize,
    /// Tables that are distributed by hash, as the walk meets them.
    met: usize,
    /// The same, as levels hold them: what stands where no level looks is not held to anything, and not understood.
    placed: usize,
    /// The colocation and the type of all these tables; `None` within: they differ, or the type is none of ours.
    tables: Option<Option<(u32, super::KeyType)>>,
    /// What all these tables are held to.
    values: Option<Values>,
}

impl<'a> Finder<'a> {
    fn new(known: &'a Knowledge, distribution: &'a Distribution) -> Self {
        Self {
            known,
            distribution,
            levels: Vec::new(),
            expressions: Vec::new(),
            statements: 0,
            writes: false,
            plain: false,
            shows: true,
            own: OwnTypes::default(),
            is_call: false,
            relations: 0,
            met: 0,
            placed: 0,
            tables: None,
            values: None,
        }
    }

    fn found(self) -> Option<Found> {
        if self.relations == 0 || self.met != self.placed || (self.shows && self.own.may_be_shown()) {
            return None;
        }
        let held = self.values.unwrap_or_default();
        if let (Some(Some((colocation, key))), Some(first)) = (self.tables, held.first()) {
            let source = KeySource::Owner { colocation, key, at: first.at };
            return Some(Found { key: ShardKey { source, writes: self.writes }, literal_matters: first.in_list });
        }
        let key = ShardKey { source: KeySource::AnyNode, writes: false };
        (!self.writes).then_some(Found { key, literal_matters: false })
    }

    /// What a name in FROM stands for; `None`: what only the coordinator has.
    fn named(&self, name: &ObjectName) -> Option<Named<'a>> {
        if name.0.len() > 2 {
            return None;
        }
        let (schema, bare) = split_name(name)?;
        if schema.is_none() && self.expressions.iter().flatten().any(|expression| *expression == *bare) {
            // Within itself it may be a table, which then has to be known for none.
            let facts = self.known.catalog.facts()?;
            return facts.relation(None, &bare, &self.known.functions).is_none().then_some(Named::Expression);
        }
        let table = self.table(name)?;
        match &table.kind {
            TableKind::Hash { colocation, column, key } => Some(Named::Hash(HashTable {
                schema: &table.schema,
                colocation: *colocation,
                column,
                key: *key,
                is_numbered: table.is_numbered,
            })),
            TableKind::Reference => Some(Named::Reference),
            TableKind::Other => None,
        }
    }

    fn table(&self, name: &ObjectName) -> Option<&'a DistributedTable> {
        let (schema, bare) = split_name(name)?;
        self.distribution.find(schema.as_deref(), &bare, &self.known.catalog)
    }

    /// Counts in a table and what it is held to.
    fn place(&mut self, table: &HashTable<'_>, values: &[Held]) {
        self.placed += 1;
        let this = table.key.map(|key| (table.colocation, key));
        self.tables = Some(self.tables.map_or(this, |others| others.filter(|others| Some(*others) == this)));
        match &mut self.values {
            None => self.values = Some(values.into()),
            Some(common) => {
                common.retain(|held| values.iter().any(|value| value.at == held.at));
                for held in common {
                    held.in_list |= values.iter().any(|value| value.at == held.at && value.in_list);
                }
            }
        }
    }

    fn enter(&mut self, reader: Reader<'a, '_>) {
        let level = reader.finish(self.visible());
        for instance in &level.instances {
            self.place(&instance.table, &instance.values);
        }
        self.levels.push(level);
    }

    /// The levels whose names can be meant here.
    fn visible(&self) -> &[Level<'a>] {
        let hidden = self.levels.iter().rposition(Level::is_wall).map_or(0, |wall| wall + 1);
        &self.levels[hidden..]
    }

    fn read<'t>(
        &self,
        from: impl IntoIterator<Item = &'t TableWithJoins>,
        selection: Option<&'t Expr>,
    ) -> Reader<'a, 't> {
        let mut reader = Reader::default();
        for item in from {
            reader.add(item, &mut |name| self.named(name));
        }
        reader.filter(selection);
        reader
    }

    fn insert(&mut self, insert: &Insert) -> Option<()> {
        let TableObject::TableName(name) = &insert.table else { return None };
        let Some(Named::Hash(table)) = self.named(name) else { return None };
        if table.is_numbered {
            return None;
        }
        let SetExpr::Values(values) = &*insert.source.as_ref()?.body else { return None };
        let [row] = values.rows.as_slice() else { return None };
        if row.content.len() != insert.columns.len() {
            return None;
        }
        let is_key = |column: &ObjectName| match column.0.as_slice() {
            [ObjectNamePart::Identifier(column)] => spelled(column) == table.column,
            _ => false,
        };
        let at = constant(&row.content[insert.columns.iter().position(is_key)?], table.key?)?;
        match &insert.on {
            None => {}
            Some(OnInsert::OnConflict(conflict)) => {
                if let OnConflictAction::DoUpdate(update) = &conflict.action
                    && update.assignments.iter().any(|assignment| sets(&assignment.target, table.column))
                {
                    return None;
                }
            }
            Some(_) => return None,
        }
        self.plain = true;
        self.place(&table, &[Held { at, in_list: false }]);
        Some(())
    }

    fn update(&mut self, update: &Update) -> Option<()> {
        let from = match &update.from {
            None => &[][..],
            Some(UpdateTableFromKind::AfterSet(from)) => from,
            Some(UpdateTableFromKind::BeforeSet(_)) => return None,
        };
        let target = self.target(&update.table)?;
        if update.assignments.iter().any(|assignment| sets(&assignment.target, target.column)) {
            return None;
        }
        let tables = std::iter::once(&update.table).chain(from);
        self.enter(self.read(tables, update.selection.as_ref()));
        Some(())
    }

    fn delete(&mut self, delete: &Delete) -> Option<()> {
        let FromTable::WithFromKeyword(targets) = &delete.from else { return None };
        let [target] = targets.as_slice() else { return None };
        self.target(target)?;
        let tables = std::iter::once(target).chain(delete.using.iter().flatten());
        self.enter(self.read(tables, delete.selection.as_ref()));
        Some(())
    }

    /// The table that is changed.
    fn target(&self, target: &TableWithJoins) -> Option<HashTable<'a>> {
        let TableFactor::Table { name, args: None, .. } = &target.relation else { return None };
        match self.named(name)? {
            Named::Hash(table) if target.joins.is_empty() => Some(table),
            _ => None,
        }
    }

    /// Whether every node answers a call alike: PostgreSQL's own functions that read nothing but their arguments.
    fn is_harmless(&self, name: &ObjectName, arguments: Option<usize>) -> bool {
        let Some((schema, bare)) = split_name(name) else { return false };
        let function = FunctionName { schema: schema.as_deref(), name: &bare };
        let own = functions::judge(function, &FunctionLists::default());
        let of_node = ["pg_", "has_", "to_reg"].iter().any(|start| bare.starts_with(start))
            || bare.ends_with("_description")
            || bare.ends_with("to_xml");
        let theirs =
            self.known.catalog.facts().and_then(|facts| facts.function(function, arguments, &self.known.functions));
        own.reason.is_none() && !of_node && theirs.is_none() && !self.known.functions.calls_primary(function)
    }
}

impl Visitor for Finder<'_> {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        self.statements += 1;
        if self.statements > 1 {
            return NONE;
        }
        let understood = match statement {
            Statement::Query(_) => return GO_ON,
            Statement::Insert(insert) => self.insert(insert),
            Statement::Update(update) => self.update(update),
            Statement::Delete(delete) => self.delete(delete),
            _ => None,
        };
        self.writes = true;
        self.shows = self.own.returns(statement);
        if understood.is_some() { GO_ON } else { NONE }
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if !query.locks.is_empty() || !is_plain(&query.body) {
            return NONE;
        }
        let with = query.with.iter().flat_map(|with| &with.cte_tables);
        self.expressions.push(with.map(|table| spelled(&table.alias.name).into_owned()).collect());
        GO_ON
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.expressions.pop();
        GO_ON
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        if self.plain || select.into.is_some() {
            return NONE;
        }
        self.own.project(&select.projection);
        self.enter(self.read(&select.from, select.selection.as_ref()));
        GO_ON
    }

    fn post_visit_select(&mut self, _: &Select) -> ControlFlow<()> {
        self.levels.pop();
        GO_ON
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        if std::mem::take(&mut self.is_call) {
            return GO_ON;
        }
        match self.named(name) {
            None => return NONE,
            Some(Named::Hash(_)) => self.met += 1,
            Some(Named::Expression) => return GO_ON,
            Some(Named::Reference) => {}
        }
        if let Some(table) = self.table(name) {
            self.own.met(table);
        }
        self.relations += 1;
        GO_ON
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        self.own.name(factor);
        match factor {
            TableFactor::Table { name, args: Some(_), .. } => {
                self.is_call = true;
                if !self.is_harmless(name, None) {
                    return NONE;
                }
            }
            TableFactor::Function { name, .. } if !self.is_harmless(name, None) => return NONE,
            // What stands beside it in FROM does not mean anything within.
            TableFactor::Derived { lateral: false, .. } => self.levels.push(Level::wall()),
            _ => {}
        }
        GO_ON
    }

    fn post_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if matches!(factor, TableFactor::Derived { lateral: false, .. }) {
            self.levels.pop();
        }
        GO_ON
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.own.mention(expr);
        let is_harmless = match expr {
            Expr::Function(function) => self.is_harmless(&function.name, count(&function.args)),
            Expr::Cast { data_type, .. } => !looks_up(data_type),
            Expr::TypedString(typed) => !looks_up(&typed.data_type),
            Expr::MatchAgainst { .. } | Expr::Lambda(_) => false,
            _ => true,
        };
        if is_harmless { GO_ON } else { NONE }
    }
}

/// Whether an assignment changes this column, or may.
fn sets(target: &AssignmentTarget, column: &str) -> bool {
    match target {
        AssignmentTarget::ColumnName(name) => match name.0.first() {
            Some(ObjectNamePart::Identifier(first)) => spelled(first) == column,
            _ => true,
        },
        AssignmentTarget::Tuple(columns) => columns.iter().any(|name| match name.0.first() {
            Some(ObjectNamePart::Identifier(first)) => spelled(first) == column,
            _ => true,
        }),
    }
}

/// Whether the parts of a query are SELECTs and lists of values.
fn is_plain(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => true,
        SetExpr::SetOperation { left, right, .. } => is_plain(left) && is_plain(right),
        _ => false,
    }
}
