//! What the conditions of one level say of the distribution columns of its tables.
//!
//! A table is *held* to a value when rows of it with another one do not matter for what the statement does. WHERE and the conditions of
//! inner joins hold any table below them, outer or not: a row that does not satisfy them is gone. The condition of an outer join holds
//! only the side that may be missing.

use std::ops::Range;

use sqlparser::ast::{
    BinaryOperator, Expr, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, TableAlias, TableFactor,
    TableWithJoins,
};

use super::super::query::spelled;
use super::constant::{constant, only_element};
use super::level::{Held, Instance, Level, Named, Values};
use super::{KeyAt, KeyType};

/// Most tables of a level that are looked at.
const MOST_TABLES: usize = 32;
/// Most values that one table is held to.
const MOST_VALUES: usize = 8;

/// A level while it is read.
#[derive(Default)]
pub(super) struct Reader<'a, 't> {
    level: Level<'a>,
    conditions: Vec<Condition<'t>>,
}

struct Condition<'t> {
    kind: Kind<'t>,
    /// The tables that its names may mean.
    within: Range<usize>,
    /// The tables that it may hold.
    holds: Range<usize>,
}

#[derive(Clone, Copy)]
enum Kind<'t> {
    Expr(&'t Expr),
    /// The distribution columns of two are equal.
    Same(usize, usize),
}

/// What one side of an equation is.
enum Side<'e> {
    /// The distribution column of a table of this level.
    Own(usize),
    /// That of a table around it, which is held to these.
    Outer(Values),
    Else(&'e Expr),
}

/// The tables of a part of FROM.
struct Part {
    tables: Range<usize>,
    /// Inner joins only.
    inner: bool,
    /// Its first relation is the first of these tables, and is there in each row.
    leads: bool,
}

impl<'a, 't> Reader<'a, 't> {
    /// Adds what stands in FROM. `find` says what a name stands for.
    pub(super) fn add(&mut self, from: &'t TableWithJoins, find: &mut dyn FnMut(&ObjectName) -> Option<Named<'a>>) {
        self.joined(from, find);
        self.level.unknown |= self.level.instances.len() > MOST_TABLES;
    }

    /// Adds the condition of WHERE.
    pub(super) fn filter(&mut self, selection: Option<&'t Expr>) {
        let all = 0..self.level.instances.len();
        let kind = selection.map(Kind::Expr);
        self.conditions.extend(kind.map(|kind| Condition { kind, within: all.clone(), holds: all }));
    }

    fn joined(&mut self, from: &'t TableWithJoins, find: &mut dyn FnMut(&ObjectName) -> Option<Named<'a>>) -> Part {
        let mut left = self.factor(&from.relation, find);
        for join in &from.joins {
            let right = self.factor(&join.relation, find);
            let both = left.tables.start..right.tables.end;
            use JoinOperator::{CrossJoin, FullOuter, Inner, Join, Left, LeftOuter, Right, RightOuter};
            let (constraint, holds, inner) = match &join.join_operator {
                Join(constraint) | Inner(constraint) | CrossJoin(constraint) => (constraint, both.clone(), true),
                Left(constraint) | LeftOuter(constraint) => (constraint, right.tables.clone(), false),
                Right(constraint) | RightOuter(constraint) => (constraint, left.tables.clone(), false),
                FullOuter(constraint) => (constraint, 0..0, false),
                _ => {
                    self.level.unknown = true;
                    break;
                }
            };
            self.level.outer |= !inner;
            match constraint {
                JoinConstraint::On(expr) => {
                    self.conditions.push(Condition { kind: Kind::Expr(expr), within: both.clone(), holds });
                }
                JoinConstraint::Using(columns) => self.using(columns, &left, &right, holds),
                JoinConstraint::Natural => self.level.natural = true,
                JoinConstraint::None => {}
            }
            let leads = left.leads && (inner || matches!(join.join_operator, Left(_) | LeftOuter(_)));
            left = Part { tables: both, inner: left.inner && right.inner && inner, leads };
        }
        left
    }

    /// `USING`: what the left side calls by this name is its first column of that name, as long as all its joins are inner ones, or the
    /// table stands first.
    fn using(&mut self, columns: &[ObjectName], left: &Part, right: &Part, holds: Range<usize>) {
        for column in columns {
            let [ObjectNamePart::Identifier(column)] = column.0.as_slice() else { continue };
            let column = spelled(column);
            let has = |at: &usize| self.level.instances[*at].table.column == column;
            let first =
                left.tables.clone().find(has).filter(|at| left.inner || (left.leads && *at == left.tables.start));
            let second = right.tables.clone().find(has).filter(|_| right.leads && right.tables.len() == 1);
            if let (Some(first), Some(second)) = (first, second) {
                let kind = Kind::Same(first, second);
                self.conditions.push(Condition { kind, within: 0..0, holds: holds.clone() });
            }
            self.level.merged.push((column.into_owned(), first.or(second)));
        }
    }

    fn factor(&mut self, factor: &'t TableFactor, find: &mut dyn FnMut(&ObjectName) -> Option<Named<'a>>) -> Part {
        let start = self.level.instances.len();
        let alias = match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let Some(ObjectNamePart::Identifier(bare)) = name.0.last() else {
                    self.level.unknown = true;
                    return Part { tables: start..start, inner: true, leads: false };
                };
                let called = spelled(alias.as_ref().map_or(bare, |alias| &alias.name)).into_owned();
                match find(name) {
                    Some(Named::Hash(table)) => {
                        // Columns that are named anew may have each other's names.
                        self.level.unknown |= alias.as_ref().is_some_and(|alias| !alias.columns.is_empty());
                        let by_itself = alias.is_none();
                        self.level.instances.push(Instance { table, name: called, by_itself, values: Values::new() });
                        return Part { tables: start..start + 1, inner: true, leads: true };
                    }
                    Some(Named::Reference | Named::Expression) => self.level.others.push(called),
                    None => self.level.unknown = true,
                }
                return Part { tables: start..start, inner: true, leads: false };
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => return self.joined(table_with_joins, find),
            TableFactor::Derived { alias, .. } | TableFactor::UNNEST { alias, .. } => alias,
            TableFactor::Table { name, alias, .. } | TableFactor::Function { name, alias, .. } => {
                if let (None, Some(ObjectNamePart::Identifier(bare))) = (alias, name.0.last()) {
                    self.level.others.push(spelled(bare).into_owned());
                }
                alias
            }
            _ => {
                self.level.unknown = true;
                &None
            }
        };
        self.level.others.extend(alias.as_ref().map(|TableAlias { name, .. }| spelled(name).into_owned()));
        Part { tables: start..start, inner: true, leads: false }
    }

    /// Finds what the tables are held to; `around` are the levels around this one, the nearest last.
    pub(super) fn finish(mut self, around: &[Level<'_>]) -> Level<'a> {
        let conditions = std::mem::take(&mut self.conditions);
        if self.level.unknown {
            return self.level;
        }
        let mut same = Vec::new();
        for condition in &conditions {
            match condition.kind {
                Kind::Same(one, other) => same.push((one, other, condition.holds.clone())),
                Kind::Expr(expr) => self.read(expr, condition, around, &mut same),
            }
        }
        // What is equal to a table that is held is held as well. Each round but the last adds something.
        let mut changed = true;
        while std::mem::take(&mut changed) {
            for (one, other, holds) in &same {
                changed |= holds.contains(one) && self.learn(*one, &self.level.instances[*other].values.clone());
                changed |= holds.contains(other) && self.learn(*other, &self.level.instances[*one].values.clone());
            }
        }
        self.level
    }

    fn learn(&mut self, at: usize, values: &[Held]) -> bool {
        let known = &mut self.level.instances[at].values;
        let before = known.len();
        for value in values {
            if known.len() < MOST_VALUES && !known.contains(value) {
                known.push(*value);
            }
        }
        known.len() > before
    }

    /// Reads the parts of a condition that all must hold.
    fn read(
        &mut self,
        expr: &Expr,
        condition: &Condition<'_>,
        around: &[Level<'_>],
        same: &mut Vec<(usize, usize, Range<usize>)>,
    ) {
        match expr {
            Expr::Nested(inner) => self.read(inner, condition, around, same),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                self.read(left, condition, around, same);
                self.read(right, condition, around, same);
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => match (&**left, &**right) {
                (Expr::Tuple(left), Expr::Tuple(right)) if left.len() == right.len() => {
                    for (left, right) in left.iter().zip(right) {
                        self.equate(left, right, condition, around, same);
                    }
                }
                (left, right) => self.equate(left, right, condition, around, same),
            },
            Expr::InList { expr, list, negated: false } => {
                if let ([only], Side::Own(at)) = (list.as_slice(), self.side(expr, condition, around)) {
                    self.compare(at, |key| constant(only, key), true, condition);
                }
            }
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => {
                if let Side::Own(at) = self.side(left, condition, around) {
                    self.compare(at, |key| only_element(right, key), false, condition);
                }
            }
            _ => {}
        }
    }

    fn equate(
        &mut self,
        left: &Expr,
        right: &Expr,
        condition: &Condition<'_>,
        around: &[Level<'_>],
        same: &mut Vec<(usize, usize, Range<usize>)>,
    ) {
        match (self.side(left, condition, around), self.side(right, condition, around)) {
            (Side::Own(one), Side::Own(other)) => same.push((one, other, condition.holds.clone())),
            (Side::Own(at), Side::Outer(values)) | (Side::Outer(values), Side::Own(at))
                if condition.holds.contains(&at) =>
            {
                self.learn(at, &values);
            }
            (Side::Own(at), Side::Else(expr)) | (Side::Else(expr), Side::Own(at)) => {
                self.compare(at, |key| constant(expr, key), false, condition);
            }
            _ => {}
        }
    }

    fn compare(
        &mut self,
        at: usize,
        with: impl FnOnce(KeyType) -> Option<KeyAt>,
        in_list: bool,
        condition: &Condition<'_>,
    ) {
        let found = self.level.instances[at].table.key.and_then(with);
        if let (Some(place), true) = (found, condition.holds.contains(&at)) {
            self.learn(at, &[Held { at: place, in_list }]);
        }
    }

    fn side<'e>(&self, expr: &'e Expr, condition: &Condition<'_>, around: &[Level<'_>]) -> Side<'e> {
        let within = condition.within.clone();
        match expr {
            Expr::Nested(inner) => self.side(inner, condition, around),
            Expr::Identifier(column) => {
                let column = spelled(column);
                self.level.unqualified(&column, within).map_or(Side::Else(expr), Side::Own)
            }
            Expr::CompoundIdentifier(parts) => {
                if let Some(at) = self.level.named(parts) {
                    return if within.contains(&at) { Side::Own(at) } else { Side::Else(expr) };
                }
                if self.level.has(parts) {
                    return Side::Else(expr);
                }
                for level in around.iter().rev() {
                    if let Some(at) = level.named(parts) {
                        return Side::Outer(level.instances[at].values.clone());
                    }
                    if level.unknown || level.has(parts) {
                        break;
                    }
                }
                Side::Else(expr)
            }
            _ => Side::Else(expr),
        }
    }
}
