//! Whether a statement may show values of types that are not PostgreSQL's own.
//!
//! Nodes number such types each for itself, and a result names them by number: a driver that has learned the coordinator's would not
//! know a worker's, or take it for another type. So a statement that may show one is the coordinator's.

use sqlparser::ast::{Expr, SelectItem, Statement, TableAlias, TableFactor};

use super::super::query::spelled;
use super::constant::is_built_in;
use super::{DistributedTable, TableKind};

/// What a statement names, as far as types go.
#[derive(Default)]
pub(super) struct OwnTypes<'a> {
    /// Columns of such types, of all tables that the walk has met.
    columns: Vec<&'a str>,
    /// The distribution columns of these tables.
    keys: Vec<&'a str>,
    /// What tables are called: a whole row is of its table's type.
    tables: Vec<String>,
    /// The columns that expressions name.
    mentioned: Vec<String>,
    /// Columns are shown without being named, or have other names.
    unnamed: bool,
    /// Something is cast to such a type.
    cast: bool,
}

impl<'a> OwnTypes<'a> {
    pub(super) fn met(&mut self, table: &'a DistributedTable) {
        self.columns.extend(table.own_types.iter().map(|column| &**column));
        if let TableKind::Hash { column, .. } = &table.kind {
            self.keys.push(column);
        }
    }

    /// Something that stands in FROM.
    pub(super) fn name(&mut self, factor: &TableFactor) {
        let TableFactor::Table { name, alias, .. } = factor else { return };
        self.unnamed |= alias.as_ref().is_some_and(|alias| !alias.columns.is_empty());
        let bare = name.0.last().and_then(|part| part.as_ident());
        let called = alias.as_ref().map(|TableAlias { name, .. }| name).or(bare);
        self.tables.extend(called.map(|name| spelled(name).into_owned()));
    }

    pub(super) fn project(&mut self, items: &[SelectItem]) {
        let is_wild = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
        self.unnamed |= items.iter().any(is_wild);
    }

    /// Whether a statement that writes shows something.
    pub(super) fn returns(&mut self, statement: &Statement) -> bool {
        let items = match statement {
            Statement::Insert(insert) => &insert.returning,
            Statement::Update(update) => &update.returning,
            Statement::Delete(delete) => &delete.returning,
            _ => return true,
        };
        items.iter().for_each(|items| self.project(items));
        items.is_some()
    }

    pub(super) fn mention(&mut self, expr: &Expr) {
        match expr {
            Expr::Identifier(column) => self.mentioned.push(spelled(column).into_owned()),
            Expr::CompoundIdentifier(parts) => {
                self.mentioned.extend(parts.last().map(|column| spelled(column).into_owned()));
            }
            Expr::Cast { data_type, .. } => self.cast |= !is_built_in(data_type),
            Expr::TypedString(typed) => self.cast |= !is_built_in(&typed.data_type),
            _ => {}
        }
    }

    pub(super) fn may_be_shown(&self) -> bool {
        let is_own = |name: &String| self.columns.contains(&name.as_str());
        let is_row = |name: &String| self.tables.contains(name) && !self.keys.contains(&name.as_str());
        self.cast
            || (self.unnamed && !self.columns.is_empty())
            || self.mentioned.iter().any(|name| is_own(name) || is_row(name))
    }
}
