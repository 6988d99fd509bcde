//! From text to a [`Select`]: names looked up, types settled, everything else refused.

use sqlparser::ast::{
    self, BinaryOperator, DuplicateTreatment, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr,
    Ident, LimitClause, OrderByKind, OrderBySort, SelectItem, SetExpr, Statement, TableFactor, UnaryOperator,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::super::tables::{self, Table};
use super::super::value::{Kind, Value};
use super::compare::read;
use super::{Aggregate, Condition, Operator, Order, Output, Select, Term, unsupported};
use crate::config::nearest;
use crate::wire::{ErrorNotice, SqlState};

/// Most parameters that a statement may have.
const MAX_PARAMETERS: usize = 64;
/// Longest statement: trees are dropped recursively, and a worker's stack is everybody's.
const MAX_BYTES: usize = 16 * 1024;
/// Deepest condition. `a OR b OR c` is one in another in a third.
const MAX_DEPTH: usize = 128;

/// Reads a statement; `Ok(None)` = it asks for nothing that the console has: `SELECT 1`, or PostgreSQL's catalogs.
///
/// # Errors
/// What is wrong with it, or not possible.
pub fn parse(text: &str) -> Result<Option<Select>, ErrorNotice> {
    if text.len() > MAX_BYTES {
        return Err(too_complex(format!("the statement is longer than {MAX_BYTES} bytes")));
    }
    let statements = Parser::parse_sql(&PostgreSqlDialect {}, text).map_err(|error| {
        ErrorNotice::error(SqlState::SYNTAX_ERROR, error.to_string().replace("sql parser error", "syntax error"))
    })?;
    let Some(Statement::Query(query)) = statements.into_iter().next() else { return Ok(None) };
    let SetExpr::Select(select) = *query.body else { return Ok(None) };
    let Some(first) = select.from.first() else { return Ok(None) };
    let Some((table, alias)) = table(&first.relation)? else { return Ok(None) };
    for (there, what) in [
        (query.with.is_some(), "WITH"),
        (!query.locks.is_empty(), "FOR UPDATE"),
        (query.fetch.is_some(), "FETCH FIRST"),
        (select.from.len() > 1 || !first.joins.is_empty(), "a join"),
        (select.distinct.is_some(), "DISTINCT"),
        (select.into.is_some(), "INTO"),
        (!select.named_window.is_empty(), "WINDOW"),
    ] {
        if there {
            return Err(unsupported(what));
        }
    }
    let mut builder = Builder { table, alias, parameters: Vec::new(), grouped: false, depth: 0 };
    let filter = select.selection.as_ref().map(|filter| builder.condition(filter, false)).transpose()?;
    let group_by = match &select.group_by {
        GroupByExpr::Expressions(columns, modifiers) if modifiers.is_empty() => {
            columns.iter().map(|column| builder.column(column)).collect::<Result<Vec<_>, _>>()?
        }
        _ => return Err(unsupported("this form of GROUP BY")),
    };
    builder.grouped = !group_by.is_empty();
    let mut outputs = Vec::new();
    for item in &select.projection {
        builder.output(item, &mut outputs)?;
    }
    let having = select.having.as_ref().map(|having| builder.condition(having, true)).transpose()?;
    builder.grouped |= having.is_some();
    let order = builder.order(query.order_by.as_ref(), &outputs)?;
    let (limit, offset) = builder.limits(query.limit_clause.as_ref())?;
    let select = Select {
        table,
        outputs,
        filter,
        grouped: builder.grouped,
        group_by,
        having,
        order,
        limit,
        offset,
        parameters: builder.parameters.into_iter().map(|kind| kind.unwrap_or(Kind::Text)).collect(),
    };
    select.check_groups()?;
    Ok(Some(select))
}

/// The console's table, and what it is called in the statement.
fn table(relation: &TableFactor) -> Result<Option<(&'static Table, String)>, ErrorNotice> {
    let TableFactor::Table { name, alias, args: None, .. } = relation else { return Ok(None) };
    let [part] = name.0.as_slice() else { return Ok(None) };
    let Some(name) = part.as_ident().map(folded) else { return Ok(None) };
    let Some(table) = tables::ALL.iter().find(|table| table.name == name) else {
        if name.starts_with("pg_") {
            return Ok(None);
        }
        let hint = match nearest(&name, tables::ALL.iter().map(|table| table.name)) {
            Some(meant) => format!("Did you mean {meant}? SHOW HELP lists the tables."),
            None => "SHOW HELP lists the tables.".to_owned(),
        };
        let message = format!("relation \"{name}\" does not exist");
        return Err(ErrorNotice::error(SqlState::UNDEFINED_TABLE, message).hint(hint));
    };
    Ok(Some((table, alias.as_ref().map_or(name, |alias| folded(&alias.name)))))
}

/// A name as SQL reads it.
fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}

impl Select {
    fn check_groups(&self) -> Result<(), ErrorNotice> {
        let terms = self.outputs.iter().map(|output| &output.term).chain(self.order.iter().map(|order| &order.term));
        for term in terms.chain(self.having.iter().flat_map(Condition::terms)) {
            if let Term::Column(column) = term
                && self.grouped
                && !self.group_by.contains(column)
            {
                let name = self.table.columns[*column].name;
                let message =
                    format!("column \"{name}\" must appear in the GROUP BY clause or be used in an aggregate function");
                return Err(ErrorNotice::error(SqlState::GROUPING_ERROR, message));
            }
        }
        Ok(())
    }
}

impl Condition {
    fn terms(&self) -> Vec<&Term> {
        match self {
            Self::Constant(_) => Vec::new(),
            Self::And(a, b) | Self::Or(a, b) => [a.terms(), b.terms()].concat(),
            Self::Not(inner) => inner.terms(),
            Self::Compare(_, a, b) | Self::Like { term: a, pattern: b, .. } => vec![a, b],
            Self::In(term, list) => std::iter::once(term).chain(list).collect(),
            Self::IsNull(term) => vec![term],
        }
    }
}

struct Builder {
    table: &'static Table,
    alias: String,
    /// Types of the parameters, as far as they are known.
    parameters: Vec<Option<Kind>>,
    /// There is a GROUP BY or an aggregate.
    grouped: bool,
    /// How many conditions the one at hand is in.
    depth: usize,
}

type Built<T> = Result<T, ErrorNotice>;

impl Builder {
    fn output(&mut self, item: &SelectItem, outputs: &mut Vec<Output>) -> Built<()> {
        let (expr, name) = match item {
            SelectItem::Wildcard(_) => {
                outputs.extend(self.table.columns.iter().enumerate().map(|(index, column)| Output {
                    name: column.name.to_owned(),
                    kind: column.kind,
                    term: Term::Column(index),
                }));
                return Ok(());
            }
            SelectItem::UnnamedExpr(expr) => (expr, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(folded(alias))),
            _ => return Err(unsupported("this form of a select list")),
        };
        let (term, kind) = self.term(expr, true)?;
        let name = name.unwrap_or_else(|| match &term {
            Term::Column(column) => self.table.columns[*column].name.to_owned(),
            Term::CountRows => "count".to_owned(),
            Term::Aggregate { what, .. } => format!("{what:?}").to_ascii_lowercase(),
            Term::Constant(_) | Term::Parameter(_) => "?column?".to_owned(),
        });
        outputs.push(Output { name, kind: kind.unwrap_or(Kind::Text), term });
        Ok(())
    }

    fn order(&mut self, clause: Option<&ast::OrderBy>, outputs: &[Output]) -> Built<Vec<Order>> {
        let Some(clause) = clause else { return Ok(Vec::new()) };
        let OrderByKind::Expressions(keys) = &clause.kind else { return Err(unsupported("ORDER BY ALL")) };
        let key = |key: &ast::OrderByExpr| {
            let descending = match key.options.sort {
                None | Some(OrderBySort::Asc) => false,
                Some(OrderBySort::Desc) => true,
                Some(OrderBySort::Using(_)) => return Err(unsupported("USING")),
            };
            let term = self.order_term(&key.expr, outputs)?;
            Ok(Order { term, descending, nulls_first: key.options.nulls_first.unwrap_or(descending) })
        };
        keys.iter().map(key).collect()
    }

    /// A name of the result goes before one of the table; a number is a place in the result.
    fn order_term(&mut self, expr: &Expr, outputs: &[Output]) -> Built<Term> {
        if let Expr::Identifier(name) = expr
            && let Some(output) = outputs.iter().find(|output| output.name == folded(name))
        {
            return Ok(output.term.clone());
        }
        match self.term(expr, true)?.0 {
            Term::Constant(value) => {
                let place = super::compare::whole(&value).and_then(|place| usize::try_from(place).ok());
                let output = place.and_then(|place| outputs.get(place.checked_sub(1)?));
                let message = "ORDER BY position is not in select list";
                output
                    .map(|output| output.term.clone())
                    .ok_or_else(|| ErrorNotice::error(SqlState::INVALID_COLUMN_REFERENCE, message))
            }
            term => Ok(term),
        }
    }

    fn limits(&mut self, clause: Option<&LimitClause>) -> Built<(Option<Term>, Option<Term>)> {
        let Some(clause) = clause else { return Ok((None, None)) };
        let LimitClause::LimitOffset { limit, offset, limit_by } = clause else {
            return Err(unsupported("this form of LIMIT"));
        };
        if !limit_by.is_empty() {
            return Err(unsupported("LIMIT BY"));
        }
        let offset = offset.as_ref().map(|offset| &offset.value);
        let mut number = |expr: &Expr| match self.term(expr, false)? {
            (Term::Column(_), _) => Err(unsupported("a column in LIMIT or OFFSET")),
            (term, _) => self.settle(term, Some(Kind::Big)),
        };
        Ok((limit.as_ref().map(&mut number).transpose()?, offset.map(number).transpose()?))
    }

    fn condition(&mut self, expr: &Expr, grouped: bool) -> Built<Condition> {
        if self.depth == MAX_DEPTH {
            return Err(too_complex(format!("more than {MAX_DEPTH} conditions in one another")));
        }
        self.depth += 1;
        let condition = self.condition_at_hand(expr, grouped);
        self.depth -= 1;
        condition
    }

    fn condition_at_hand(&mut self, expr: &Expr, grouped: bool) -> Built<Condition> {
        let not = |negated: bool, condition| if negated { Condition::Not(Box::new(condition)) } else { condition };
        Ok(match expr {
            Expr::Nested(inner) => self.condition(inner, grouped)?,
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => Condition::Not(Box::new(self.condition(expr, grouped)?)),
            Expr::BinaryOp { left, op: op @ (BinaryOperator::And | BinaryOperator::Or), right } => {
                let (left, right) = (self.condition(left, grouped)?, self.condition(right, grouped)?);
                let make = if *op == BinaryOperator::And { Condition::And } else { Condition::Or };
                make(Box::new(left), Box::new(right))
            }
            Expr::BinaryOp { left, op, right } => {
                let operator = match op {
                    BinaryOperator::Eq => Operator::Equal,
                    BinaryOperator::NotEq => Operator::NotEqual,
                    BinaryOperator::Lt => Operator::Less,
                    BinaryOperator::LtEq => Operator::LessOrEqual,
                    BinaryOperator::Gt => Operator::Greater,
                    BinaryOperator::GtEq => Operator::GreaterOrEqual,
                    other => return Err(unsupported(&format!("the operator {other}"))),
                };
                let (left, right) = self.pair(left, right, grouped)?;
                Condition::Compare(operator, left, right)
            }
            Expr::Between { expr, negated, low, high } => {
                let (term, low) = self.pair(expr, low, grouped)?;
                let (same, high) = self.pair(expr, high, grouped)?;
                let low = Condition::Compare(Operator::GreaterOrEqual, term, low);
                let high = Condition::Compare(Operator::LessOrEqual, same, high);
                not(*negated, Condition::And(Box::new(low), Box::new(high)))
            }
            Expr::InList { expr, list, negated } => {
                let pairs: Vec<_> = list.iter().map(|one| self.pair(expr, one, grouped)).collect::<Built<_>>()?;
                let term = pairs.first().map_or(Term::Constant(Value::Null), |pair| pair.0.clone());
                not(*negated, Condition::In(term, pairs.into_iter().map(|pair| pair.1).collect()))
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char: None } => {
                not(*negated, self.like(expr, pattern, false, grouped)?)
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char: None } => {
                not(*negated, self.like(expr, pattern, true, grouped)?)
            }
            Expr::IsNull(expr) => Condition::IsNull(self.term(expr, grouped)?.0),
            Expr::IsNotNull(expr) => Condition::Not(Box::new(Condition::IsNull(self.term(expr, grouped)?.0))),
            Expr::Value(value) => match &value.value {
                ast::Value::Boolean(value) => Condition::Constant(Some(*value)),
                ast::Value::Null => Condition::Constant(None),
                _ => return Err(unsupported("a value in place of a condition")),
            },
            other => return Err(unsupported(&format!("{} in a condition", shape(other)))),
        })
    }

    fn like(&mut self, expr: &Expr, pattern: &Expr, any_case: bool, grouped: bool) -> Built<Condition> {
        let (term, kind) = self.term(expr, grouped)?;
        if kind.is_some_and(|kind| kind != Kind::Text) {
            return Err(no_operator("LIKE", kind, Some(Kind::Text)));
        }
        let pattern = self.term(pattern, grouped)?.0;
        let (term, pattern) = (self.settle(term, Some(Kind::Text))?, self.settle(pattern, Some(Kind::Text))?);
        Ok(Condition::Like { term, pattern, any_case })
    }

    /// Two sides of a comparison: what has no type of its own gets that of the other side.
    fn pair(&mut self, left: &Expr, right: &Expr, grouped: bool) -> Built<(Term, Term)> {
        let (left, left_kind) = self.term(left, grouped)?;
        let (right, right_kind) = self.term(right, grouped)?;
        let left = self.settle(left, right_kind)?;
        let right = self.settle(right, left_kind)?;
        if let (Some(a), Some(b)) = (left_kind, right_kind)
            && (a == Kind::Text) != (b == Kind::Text)
        {
            return Err(no_operator("comparison", left_kind, right_kind));
        }
        Ok((left, right))
    }

    /// A constant text or a parameter becomes one of this type.
    fn settle(&mut self, term: Term, kind: Option<Kind>) -> Built<Term> {
        let kind = kind.unwrap_or(Kind::Text);
        match &term {
            Term::Constant(Value::Text(text)) => Ok(Term::Constant(read(text, kind)?)),
            Term::Parameter(number) => {
                if let Some(slot) = self.parameters.get_mut(*number) {
                    // PostgreSQL has no parameters of type numeric that drivers would fill from whole numbers.
                    slot.get_or_insert(if kind == Kind::Numeric { Kind::Big } else { kind });
                }
                Ok(term)
            }
            _ => Ok(term),
        }
    }

    /// A term and its type; `None` = it takes that of what it is compared with.
    fn term(&mut self, expr: &Expr, aggregates: bool) -> Built<(Term, Option<Kind>)> {
        match expr {
            Expr::Nested(inner) => self.term(inner, aggregates),
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
                let column = self.column(expr)?;
                Ok((Term::Column(column), Some(self.table.columns[column].kind)))
            }
            Expr::Value(value) => self.constant(&value.value),
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match self.term(expr, aggregates)? {
                (Term::Constant(Value::Big(number)), kind) => Ok((Term::Constant(Value::Big(-number)), kind)),
                (Term::Constant(Value::Float(number)), kind) => Ok((Term::Constant(Value::Float(-number)), kind)),
                _ => Err(unsupported("arithmetic")),
            },
            // `user` is a word of SQL.
            Expr::Function(function) if matches!(function.args, FunctionArguments::None) => {
                let [part] = function.name.0.as_slice() else { return Err(unsupported("a function")) };
                let ident = part.as_ident().ok_or_else(|| unsupported("a function"))?;
                let column = self.find(&folded(ident))?;
                Ok((Term::Column(column), Some(self.table.columns[column].kind)))
            }
            Expr::Function(function) if aggregates => self.aggregate(function),
            Expr::Function(_) => Err(unsupported("an aggregate in WHERE or LIMIT")),
            other => Err(unsupported(shape(other))),
        }
    }

    fn constant(&mut self, value: &ast::Value) -> Built<(Term, Option<Kind>)> {
        let too_many = || ErrorNotice::error(SqlState::SYNTAX_ERROR, "there is no such parameter");
        Ok(match value {
            ast::Value::Number(text, _) => {
                let value = read(text, Kind::Numeric)?;
                let kind = match value {
                    Value::Float(_) => Kind::Float,
                    Value::Numeric(_) => Kind::Numeric,
                    _ => Kind::Big,
                };
                (Term::Constant(value), Some(kind))
            }
            ast::Value::SingleQuotedString(text) => (Term::Constant(text.as_str().into()), None),
            ast::Value::DollarQuotedString(text) => (Term::Constant(text.value.as_str().into()), None),
            ast::Value::Null => (Term::Constant(Value::Null), None),
            ast::Value::Placeholder(text) => {
                let number: usize = text.strip_prefix('$').and_then(|n| n.parse().ok()).ok_or_else(too_many)?;
                if number == 0 || number > MAX_PARAMETERS {
                    return Err(too_many());
                }
                if self.parameters.len() < number {
                    self.parameters.resize(number, None);
                }
                (Term::Parameter(number - 1), self.parameters[number - 1])
            }
            _ => return Err(unsupported("this kind of a constant")),
        })
    }

    fn aggregate(&mut self, function: &ast::Function) -> Built<(Term, Option<Kind>)> {
        let name = function.name.to_string().to_ascii_lowercase();
        let FunctionArguments::List(list) = &function.args else { return Err(unsupported("this form of a function")) };
        if function.over.is_some() || function.filter.is_some() || !function.within_group.is_empty() {
            return Err(unsupported("OVER or FILTER"));
        }
        if !list.clauses.is_empty() {
            return Err(unsupported("ORDER BY in an aggregate"));
        }
        let what = match name.trim_start_matches("pg_catalog.") {
            "count" => Aggregate::Count,
            "sum" => Aggregate::Sum,
            "min" => Aggregate::Min,
            "max" => Aggregate::Max,
            "avg" => Aggregate::Avg,
            _ => return Err(unsupported(&format!("the function {name}"))),
        };
        self.grouped = true;
        let [FunctionArg::Unnamed(argument)] = list.args.as_slice() else {
            return Err(unsupported(&format!("{name} of anything but one column")));
        };
        let column = match argument {
            FunctionArgExpr::Wildcard if what == Aggregate::Count => return Ok((Term::CountRows, Some(Kind::Big))),
            FunctionArgExpr::Expr(expr) => match self.term(expr, false)? {
                (Term::Column(column), _) => column,
                (Term::Constant(value), _) if what == Aggregate::Count && value != Value::Null => {
                    return Ok((Term::CountRows, Some(Kind::Big)));
                }
                _ => return Err(unsupported(&format!("{name} of anything but a column"))),
            },
            _ => return Err(unsupported(&format!("{name} of anything but a column"))),
        };
        let of = self.table.columns[column].kind;
        let kind = match (what, of) {
            (Aggregate::Sum | Aggregate::Avg, Kind::Text) => return Err(no_operator(&name, Some(of), None)),
            (Aggregate::Count, _) => Kind::Big,
            (Aggregate::Avg, _) => Kind::Float,
            (Aggregate::Sum, Kind::Int) => Kind::Big,
            (_, kind) => kind,
        };
        let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
        Ok((Term::Aggregate { what, column, distinct }, Some(kind)))
    }

    fn column(&self, expr: &Expr) -> Built<usize> {
        match expr {
            Expr::Identifier(name) => self.find(&folded(name)),
            Expr::CompoundIdentifier(names) => match names.as_slice() {
                [table, name] if folded(table) == self.alias => self.find(&folded(name)),
                [table, ..] => Err(ErrorNotice::error(
                    SqlState::UNDEFINED_TABLE,
                    format!("missing FROM-clause entry for table \"{}\"", folded(table)),
                )),
                [] => Err(unsupported("a name of no parts")),
            },
            // `user` again.
            Expr::Function(function) if matches!(function.args, FunctionArguments::None) => {
                self.find(&function.name.to_string().to_ascii_lowercase())
            }
            other => Err(unsupported(&format!("{} in GROUP BY", shape(other)))),
        }
    }

    fn find(&self, name: &str) -> Built<usize> {
        let columns = self.table.columns;
        columns.iter().position(|column| column.name == name).ok_or_else(|| {
            let message = format!("column \"{name}\" does not exist");
            let error = ErrorNotice::error(SqlState::UNDEFINED_COLUMN, message);
            match nearest(name, columns.iter().map(|column| column.name)) {
                Some(meant) => error.hint(format!("Did you mean {meant}?")),
                None => error.hint(format!("SHOW {} has all columns.", self.table.name.to_ascii_uppercase())),
            }
        })
    }
}

fn too_complex(message: String) -> ErrorNotice {
    ErrorNotice::error(SqlState::STATEMENT_TOO_COMPLEX, message)
}

fn no_operator(what: &str, left: Option<Kind>, right: Option<Kind>) -> ErrorNotice {
    let name = |kind: Kind| kind.datatype().0.name().to_owned();
    let kinds: Vec<_> = [left, right].into_iter().flatten().map(name).collect();
    ErrorNotice::error(SqlState::UNDEFINED_FUNCTION, format!("{what} does not exist for {}", kinds.join(" and ")))
}

/// What an expression is called in an error.
fn shape(expr: &Expr) -> &'static str {
    match expr {
        Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => "a subquery",
        Expr::Case { .. } => "CASE",
        Expr::Cast { .. } => "a cast",
        Expr::BinaryOp { .. } | Expr::UnaryOp { .. } => "an operator",
        Expr::Function(_) => "a function",
        _ => "this expression",
    }
}
