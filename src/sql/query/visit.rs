//! The walk over a query's tree.

use std::borrow::Cow;
use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Ident, ObjectName, ObjectNamePart, Query, Select, Statement, TableFactor, Visitor};

use super::super::decision::Effects;
use super::super::functions::{self, FunctionLists, FunctionName};
use super::super::reason::Reason;
use super::super::verdict::Verdict;

/// Collects the judgement of a tree: starts as a read, and each node can only make it worse.
pub(super) struct Judge<'a> {
    lists: &'a FunctionLists,
    verdict: Verdict,
}

impl<'a> Judge<'a> {
    pub(super) fn new(lists: &'a FunctionLists) -> Self {
        Self { lists, verdict: Verdict::replica(Reason::Read) }
    }

    pub(super) fn verdict(self) -> Verdict {
        self.verdict
    }

    fn worsen(&mut self, verdict: Verdict) {
        self.verdict.join(verdict);
    }

    fn call(&mut self, name: &ObjectName) {
        let Some((schema, bare)) = split_name(name) else { return self.worsen(Verdict::unparsed()) };
        let call = functions::judge(FunctionName { schema: schema.as_deref(), name: &bare }, self.lists);
        if let Some(reason) = call.reason {
            // Effects that arguments decide are known from the tokens.
            let effects = call.effects - Effects::RELEASES_ONLY;
            let culprit = match schema {
                Some(schema) => format!("function {schema}.{bare}"),
                None => format!("function {bare}"),
            };
            self.worsen(Verdict::primary(reason, effects).with_culprit(culprit));
        } else {
            self.verdict.effects |= call.effects & Effects::TELLS_TIME;
        }
    }
}

/// An identifier in the server's spelling.
fn spelled(ident: &Ident) -> Cow<'_, str> {
    if ident.quote_style.is_none() && ident.value.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(ident.value.to_ascii_lowercase())
    } else {
        Cow::Borrowed(&ident.value)
    }
}

/// The schema and the name; a database before them is passed over.
fn split_name(name: &ObjectName) -> Option<(Option<Cow<'_, str>>, Cow<'_, str>)> {
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
            Some((schema, name)) => self.worsen(super::judge_relation(schema.as_deref(), &name)),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => self.call(name),
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
            Expr::Function(function) => self.call(&function.name),
            Expr::MatchAgainst { .. } | Expr::Lambda(_) => self.worsen(Verdict::unparsed()),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
