//! `SELECT … FROM <table of SHOW> …`: a small part of SQL over the tables that `SHOW` shows.
//!
//! [`parse`] reads the statement with sqlparser into a [`Select`], whose columns and types are known then; [`run`] looks at
//! the table's rows. Whatever else SQL has is refused by name.

mod compare;
mod parse;
mod run;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

use super::tables::Table;
use super::value::{Kind, Value};
use crate::wire::{ErrorNotice, SqlState};

pub use compare::parameter;
pub use parse::parse;
pub use run::run;

/// A statement that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    table: &'static Table,
    outputs: Vec<Output>,
    filter: Option<Condition>,
    /// There is a GROUP BY or an aggregate: what comes out is a row for each group.
    grouped: bool,
    group_by: Vec<usize>,
    having: Option<Condition>,
    order: Vec<Order>,
    limit: Option<Term>,
    offset: Option<Term>,
    /// Types of its parameters.
    parameters: Vec<Kind>,
}

/// A column of the result.
#[derive(Debug, Clone, PartialEq)]
struct Output {
    name: String,
    kind: Kind,
    term: Term,
}

/// A sort key.
#[derive(Debug, Clone, PartialEq)]
struct Order {
    term: Term,
    descending: bool,
    nulls_first: bool,
}

/// Something that has a value.
#[derive(Debug, Clone, PartialEq)]
enum Term {
    /// A column of the table.
    Column(usize),
    Constant(Value),
    /// A parameter, from 0.
    Parameter(usize),
    /// `count(*)`
    CountRows,
    Aggregate {
        what: Aggregate,
        column: usize,
        distinct: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aggregate {
    Count,
    Sum,
    Min,
    Max,
    Avg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Something that is true, false or unknown.
#[derive(Debug, Clone, PartialEq)]
enum Condition {
    Constant(Option<bool>),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
    Compare(Operator, Term, Term),
    In(Term, Vec<Term>),
    Like { term: Term, pattern: Term, any_case: bool },
    IsNull(Term),
}

impl Select {
    /// Names and types of what comes out.
    pub fn columns(&self) -> Vec<(&str, Kind)> {
        self.outputs.iter().map(|output| (output.name.as_str(), output.kind)).collect()
    }

    /// Types of its parameters.
    pub fn parameters(&self) -> &[Kind] {
        &self.parameters
    }
}

/// The error for what SQL has and the console has not.
fn unsupported(what: &str) -> ErrorNotice {
    ErrorNotice::error(SqlState::FEATURE_NOT_SUPPORTED, format!("{what} is not possible on the console")).hint(
        "One table, columns, count, sum, min, max, avg; WHERE with comparisons, IN, BETWEEN, LIKE, IS NULL, AND, OR, NOT; \
         GROUP BY, HAVING, ORDER BY, LIMIT, OFFSET.",
    )
}
