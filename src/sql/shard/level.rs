//! One level of a statement: the tables of one FROM, by the names that they have there.

use std::ops::Range;

use smallvec::SmallVec;
use sqlparser::ast::Ident;

use super::super::query::spelled;
use super::{KeyAt, KeyType};

/// A value that a table is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) at: KeyAt,
    /// It stands in a list after `IN`, which fingerprints fold: it is the only one in this text.
    pub(super) in_list: bool,
}

/// The values that a table is held to: all of them are one, or there is no row.
pub(super) type Values = SmallVec<[Held; 2]>;

/// What the distribution says of a table.
#[derive(Debug, Clone)]
pub(super) struct HashTable<'a> {
    pub(super) schema: &'a str,
    pub(super) colocation: u32,
    pub(super) column: &'a str,
    pub(super) key: Option<KeyType>,
    pub(super) is_numbered: bool,
}

/// What a name in FROM stands for.
pub(super) enum Named<'a> {
    Hash(HashTable<'a>),
    /// A reference table.
    Reference,
    /// A common table expression.
    Expression,
}

/// A table that is distributed by hash, under the name that it has in its level.
#[derive(Debug)]
pub(super) struct Instance<'a> {
    pub(super) table: HashTable<'a>,
    pub(super) name: String,
    /// It has no alias, so that its schema may be said.
    pub(super) by_itself: bool,
    pub(super) values: Values,
}

/// The tables of one FROM.
#[derive(Debug, Default)]
pub(super) struct Level<'a> {
    pub(super) instances: Vec<Instance<'a>>,
    /// The names of what else stands in FROM.
    pub(super) others: Vec<String>,
    /// Columns of which `USING` makes one of two, and a table whose distribution column is among them.
    pub(super) merged: Vec<(String, Option<usize>)>,
    /// Has joins that are not inner ones.
    pub(super) outer: bool,
    /// Has columns that are made one without being named.
    pub(super) natural: bool,
    /// It can't be told: no table of it is held to anything.
    pub(super) unknown: bool,
    /// No level: names within don't mean what stands around.
    wall: bool,
}

impl Level<'_> {
    /// What hides the levels before it from those after it.
    pub(super) fn wall() -> Self {
        Self { wall: true, ..Self::default() }
    }

    /// Whether it is [`Self::wall`].
    pub(super) fn is_wall(&self) -> bool {
        self.wall
    }

    /// The table whose distribution column has this name. Another table of the level may have such a column, too: but then the server
    /// refuses the statement, unless the two are made one.
    pub(super) fn unqualified(&self, column: &str, within: Range<usize>) -> Option<usize> {
        if self.natural {
            return None;
        }
        let mut merged = self.merged.iter().filter(|(name, _)| name == column);
        if let Some((_, table)) = merged.next() {
            // All of them are equal where all joins are inner ones.
            return table.filter(|at| !self.outer && within.contains(at));
        }
        let mut found = within.filter(|at| self.instances[*at].table.column == column);
        found.next().filter(|_| found.next().is_none())
    }

    /// The table whose distribution column this is.
    pub(super) fn named(&self, parts: &[Ident]) -> Option<usize> {
        let (schema, table, column) = match parts {
            [table, column] => (None, spelled(table), spelled(column)),
            [schema, table, column] => (Some(spelled(schema)), spelled(table), spelled(column)),
            _ => return None,
        };
        let mut found = self.instances.iter().enumerate().filter(|(_, instance)| {
            instance.name == table
                && schema.as_deref().is_none_or(|schema| instance.by_itself && instance.table.schema == schema)
        });
        match (found.next(), found.next()) {
            (Some((at, instance)), None) if instance.table.column == column => Some(at),
            _ => None,
        }
    }

    /// Whether the table of this column is one of this level, as far as its name tells.
    pub(super) fn has(&self, parts: &[Ident]) -> bool {
        let Some(table) = parts.iter().rev().nth(1).map(spelled) else { return true };
        self.others.iter().any(|other| *other == table) || self.instances.iter().any(|one| one.name == table)
    }
}
