//! The walk over a query's tree.

use std::borrow::Cow;
use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, FunctionArguments, Ident, ObjectName, ObjectNamePart, Query, Select, Statement, TableFactor, Visitor,
};

use super::super::decision::{Effects, Target};
use super::super::functions::{self, FunctionName};
use super::super::knowledge::{Catalog, Knowledge};
use super::super::reason::Reason;
use super::super::verdict::Verdict;

/// Collects the judgement of a tree: starts as a read, and each node can only make it worse.
pub(super) struct Judge<'a> {
    known: &'a Knowledge,
    verdict: Verdict,
    /// What is called is no matter.
    relations_only: bool,
    /// The common table expressions of each query around the place at hand.
    expressions: Vec<Vec<String>>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(known: &'a Knowledge) -> Self {
        Self { known, verdict: Verdict::replica(Reason::Read), relations_only: false, expressions: Vec::new() }
    }

    /// Judges by the relations that the tree names, and nothing else.
    pub(super) fn of_relations(known: &'a Knowledge) -> Self {
        Self { relations_only: true, ..Self::new(known) }
    }

    pub(super) fn verdict(self) -> Verdict {
        self.verdict
    }

    fn worsen(&mut self, verdict: Verdict) {
        self.verdict.join(verdict);
    }

    fn call(&mut self, name: &ObjectName, arguments: Option<usize>) {
        if self.relations_only {
            return;
        }
        let Some((schema, bare)) = split_name(name) else { return self.worsen(Verdict::unparsed()) };
        let function = FunctionName { schema: schema.as_deref(), name: &bare };
        let mut verdict = functions::judge_call(function, arguments, self.known);
        // Effects that arguments decide are known from the tokens.
        verdict.effects -= Effects::RELEASES_ONLY;
        if verdict.target != Target::Primary {
            verdict.effects &= Effects::TELLS_TIME;
        }
        self.worsen(verdict);
    }

    /// Whether a name without schema that the catalog does not know is that of a common table expression.
    fn is_expression(&self, schema: Option<&str>, name: &str) -> bool {
        let Catalog::Known(facts) = &self.known.catalog else { return false };
        schema.is_none()
            && self.expressions.iter().flatten().any(|expression| expression == name)
            && facts.relation(None, name, &self.known.functions).is_none()
    }
}

/// How many arguments a call has; `None` where the tree does not tell.
pub(in crate::sql) fn count(arguments: &FunctionArguments) -> Option<usize> {
    match arguments {
        FunctionArguments::None => Some(0),
        FunctionArguments::Subquery(_) => None,
        FunctionArguments::List(list) => list.duplicate_treatment.is_none().then_some(list.args.len()),
    }
}

/// An identifier in the server's spelling.
pub(in crate::sql) fn spelled(ident: &Ident) -> Cow<'_, str> {
    if ident.quote_style.is_none() && ident.value.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(ident.value.to_ascii_lowercase())
    } else {
        Cow::Borrowed(&ident.value)
    }
}

/// The schema and the name; a database before them is passed over.
pub(in crate::sql) fn split_name(name: &ObjectName) -> Option<(Option<Cow<'_, str>>, Cow<'_, str>)> {
    let mut parts = name.0.iter().rev().map(|part| match part {
        ObjectNamePart::Identifier(ident) => Some(spelled(ident)),
        ObjectNamePart::Function(_) => None,
    });
    let bare = parts.next()??;
    let schema = match parts.next() {
        None => None,
        Some(part) => Some(part?),
    };
    Some((schema, bare))
}

impl Visitor for Judge<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let with = query.with.iter().flat_map(|with| &with.cte_tables);
        self.expressions.push(with.map(|table| spelled(&table.alias.name).into_owned()).collect());
        if !query.locks.is_empty() {
            self.worsen(Verdict::primary(Reason::LockingClause, Effects::empty()));
        }
        // Syntax of other databases, whose meaning for PostgreSQL is an error or something else.
        if query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty()
        {
            self.worsen(Verdict::unparsed());
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.expressions.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        if select.into.is_some() {
            self.worsen(Verdict::primary(Reason::SelectInto, Effects::WRITES));
        }
        ControlFlow::Continue(())
    }

    /// A query holds a statement only where it changes data.
    fn pre_visit_statement(&mut self, _: &Statement) -> ControlFlow<()> {
        self.worsen(Verdict::primary(Reason::Write, Effects::WRITES));
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        match split_name(relation) {
            None => self.worsen(Verdict::unparsed()),
            Some((schema, name)) if self.is_expression(schema.as_deref(), &name) => {}
            Some((schema, name)) => self.worsen(super::judge_relation(schema.as_deref(), &name, self.known)),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                self.call(name, None)
            }
            TableFactor::Table { args: None, .. }
            | TableFactor::Derived { .. }
            | TableFactor::NestedJoin { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::JsonTable { .. }
            | TableFactor::XmlTable { .. } => {}
            _ => self.worsen(Verdict::unparsed()),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) => self.call(&function.name, count(&function.args)),
            Expr::MatchAgainst { .. } | Expr::Lambda(_) => self.worsen(Verdict::unparsed()),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
