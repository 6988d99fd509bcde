//! A [`Select`] over the rows of its table.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::iter::once;

use super::super::tables::View;
use super::super::value::{Rows, Value};
use super::compare::{compare, float, is_like, whole};
use super::{Aggregate, Condition, Operator, Order, Select, Term};
use crate::wire::{ErrorNotice, SqlState};

type Row = Vec<Value>;

/// What terms are looked up in.
struct Scope<'a> {
    /// The rows of a group, or one row.
    rows: &'a [&'a Row],
    parameters: &'a [Value],
}

/// The result.
///
/// # Errors
/// A LIMIT or OFFSET that is none.
pub fn run(select: &Select, view: &View<'_>, parameters: &[Value]) -> Result<Rows, ErrorNotice> {
    over(select, &(select.table.rows)(view), parameters)
}

/// The result over these rows of the table.
pub(super) fn over(select: &Select, table: &Rows, parameters: &[Value]) -> Result<Rows, ErrorNotice> {
    let limit = count("LIMIT", select.limit.as_ref(), parameters)?.unwrap_or(usize::MAX);
    let offset = count("OFFSET", select.offset.as_ref(), parameters)?.unwrap_or(0);
    let mut rows: Vec<&Row> = table.iter().collect();
    if let Some(filter) = &select.filter {
        rows.retain(|row| filter.holds(&Scope { rows: &[row], parameters }) == Some(true));
    }
    let mut groups: Vec<Vec<&Row>> = Vec::new();
    if !select.grouped {
        groups = rows.into_iter().map(|row| vec![row]).collect();
    } else if select.group_by.is_empty() {
        groups.push(rows);
    } else {
        let mut places: HashMap<String, usize> = HashMap::new();
        for row in rows {
            let place = *places.entry(key(select.group_by.iter().map(|column| &row[*column]))).or_insert(groups.len());
            match groups.get_mut(place) {
                Some(group) => group.push(row),
                None => groups.push(vec![row]),
            }
        }
    }
    if let Some(having) = &select.having {
        groups.retain(|rows| having.holds(&Scope { rows, parameters }) == Some(true));
    }
    let mut keyed: Vec<(Row, Row)> = groups
        .iter()
        .map(|rows| {
            let scope = Scope { rows, parameters };
            let keys = select.order.iter().map(|order| order.term.value(&scope)).collect();
            (keys, select.outputs.iter().map(|output| output.term.value(&scope)).collect())
        })
        .collect();
    keyed.sort_by(|(a, _), (b, _)| {
        let keys = select.order.iter().zip(a.iter().zip(b));
        keys.map(|(order, (a, b))| order.compare(a, b)).find(|found| found.is_ne()).unwrap_or(Ordering::Equal)
    });
    Ok(keyed.into_iter().map(|(_, row)| row).skip(offset).take(limit).collect())
}

/// Equal for equal values.
fn key<'v>(values: impl Iterator<Item = &'v Value>) -> String {
    format!("{:?}", values.collect::<Vec<_>>())
}

fn count(clause: &str, term: Option<&Term>, parameters: &[Value]) -> Result<Option<usize>, ErrorNotice> {
    let Some(term) = term else { return Ok(None) };
    match term.value(&Scope { rows: &[], parameters }) {
        Value::Null => Ok(None),
        value => match whole(&value).map(usize::try_from) {
            Some(Ok(count)) => Ok(Some(count)),
            _ => Err(ErrorNotice::error(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("{clause} must be a number that is not negative"),
            )),
        },
    }
}

impl Order {
    fn compare(&self, a: &Value, b: &Value) -> Ordering {
        match (a == &Value::Null, b == &Value::Null) {
            (true, true) => Ordering::Equal,
            (true, false) if self.nulls_first => Ordering::Less,
            (false, true) if !self.nulls_first => Ordering::Less,
            (true, false) | (false, true) => Ordering::Greater,
            (false, false) => {
                let found = compare(a, b).unwrap_or(Ordering::Equal);
                if self.descending { found.reverse() } else { found }
            }
        }
    }
}

impl Term {
    fn value(&self, scope: &Scope<'_>) -> Value {
        match self {
            Self::Column(column) => scope.rows.first().map_or(Value::Null, |row| row[*column].clone()),
            Self::Constant(value) => value.clone(),
            Self::Parameter(number) => scope.parameters.get(*number).cloned().unwrap_or(Value::Null),
            Self::CountRows => big(scope.rows.len()),
            Self::Aggregate { what, column, distinct } => {
                let mut seen = HashSet::new();
                let values = scope.rows.iter().map(|row| &row[*column]).filter(|value| **value != Value::Null);
                let values: Vec<_> = values.filter(|value| !distinct || seen.insert(key(once(*value)))).collect();
                what.of(&values)
            }
        }
    }
}

fn big(count: usize) -> Value {
    Value::Big(i64::try_from(count).unwrap_or(i64::MAX))
}

impl Aggregate {
    fn of(self, values: &[&Value]) -> Value {
        let order = |a: &&&Value, b: &&&Value| compare(a, b).unwrap_or(Ordering::Equal);
        let sum = || values.iter().filter_map(|value| whole(value)).sum::<i128>();
        match self {
            Self::Count => big(values.len()),
            _ if values.is_empty() => Value::Null,
            Self::Min => values.iter().min_by(order).map_or(Value::Null, |value| (**value).clone()),
            Self::Max => values.iter().max_by(order).map_or(Value::Null, |value| (**value).clone()),
            Self::Avg => {
                Value::Float(values.iter().filter_map(|value| float(value)).sum::<f64>() / values.len() as f64)
            }
            Self::Sum if matches!(values.first(), Some(Value::Numeric(_))) => {
                Value::Numeric(u64::try_from(sum()).unwrap_or(u64::MAX))
            }
            Self::Sum => Value::Big(i64::try_from(sum()).unwrap_or(i64::MAX)),
        }
    }
}

impl Operator {
    fn holds(self, found: Ordering) -> bool {
        match self {
            Self::Equal => found.is_eq(),
            Self::NotEqual => found.is_ne(),
            Self::Less => found.is_lt(),
            Self::LessOrEqual => found.is_le(),
            Self::Greater => found.is_gt(),
            Self::GreaterOrEqual => found.is_ge(),
        }
    }
}

impl Condition {
    /// Whether it is so; `None` = unknown, as SQL has it when something is NULL.
    fn holds(&self, scope: &Scope<'_>) -> Option<bool> {
        match self {
            Self::Constant(value) => *value,
            Self::And(a, b) => match (a.holds(scope), b.holds(scope)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Or(a, b) => match (a.holds(scope), b.holds(scope)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Self::Not(inner) => inner.holds(scope).map(|holds| !holds),
            Self::Compare(operator, a, b) => {
                compare(&a.value(scope), &b.value(scope)).map(|found| operator.holds(found))
            }
            Self::In(term, list) => {
                let value = term.value(scope);
                let mut unknown = false;
                for other in list {
                    match compare(&value, &other.value(scope)) {
                        Some(found) if found.is_eq() => return Some(true),
                        found => unknown |= found.is_none(),
                    }
                }
                (!unknown).then_some(false)
            }
            Self::Like { term, pattern, any_case } => match (term.value(scope), pattern.value(scope)) {
                (Value::Text(text), Value::Text(pattern)) => Some(is_like(&text, &pattern, *any_case)),
                _ => None,
            },
            Self::IsNull(term) => Some(term.value(scope) == Value::Null),
        }
    }
}
