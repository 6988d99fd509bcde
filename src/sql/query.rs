//! The parser's opinion of a query: a read, or why not.

mod rebuild;
mod visit;

use std::panic::{AssertUnwindSafe, catch_unwind};

use sqlparser::ast::{Statement, Visit};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::decision::Effects;
use super::knowledge::{Catalog, Knowledge};
use super::reason::Reason;
use super::relations;
use super::split::StatementTokens;
use super::touches::{CATALOGS_SLOT, Slots};
use super::verdict::Verdict;

pub(super) use rebuild::Numbers;
pub(super) use visit::{count, spelled, split_name};

/// Longest text, literals removed, that is parsed.
const MAX_PARSE_BYTES: usize = 128 * 1024;
/// Deepest nesting of parentheses that is parsed: sqlparser tries a parenthesis as this and as that.
const MAX_DEPTH: u32 = 24;
/// Most tokens that can make a tree deeper: a tree is dropped recursively.
const MAX_JOINTS: u32 = 2000;
/// What sqlparser may recurse.
const RECURSION: usize = 128;

/// Parses the query of these tokens and judges its tree. `statement` is the statement that they are of.
pub(super) fn judge(cursor: Cursor<'_>, statement: &StatementTokens, known: &Knowledge) -> Verdict {
    judge_with(visit::Judge::new(known), cursor, statement)
}

/// What the relations alone say that a query names, whatever it calls; a read, if it can't be parsed.
pub(super) fn judge_relations(cursor: Cursor<'_>, statement: &StatementTokens, known: &Knowledge) -> Verdict {
    let verdict = judge_with(visit::Judge::of_relations(known), cursor, statement);
    if matches!(verdict.reason, Reason::Unparsed | Reason::TooLong) { Verdict::replica(Reason::Read) } else { verdict }
}

fn judge_with(mut judge: visit::Judge<'_>, cursor: Cursor<'_>, statement: &StatementTokens) -> Verdict {
    let judged = look(cursor, statement, None, |tree| {
        if let Statement::Query(query) = tree {
            let _ = query.visit(&mut judge);
        }
        judge.verdict()
    });
    judged.unwrap_or_else(|reason| Verdict::primary(reason, Effects::WRITES))
}

/// Parses the statement of these tokens and has a look at its tree. `Err`: why that can't be done. With `numbers` each literal of the
/// tree is its place among those of the text.
pub(super) fn look<T>(
    cursor: Cursor<'_>,
    statement: &StatementTokens,
    numbers: Option<&Numbers>,
    look: impl FnOnce(&Statement) -> T,
) -> Result<T, Reason> {
    if statement.bad {
        return Err(Reason::Unparsed);
    }
    if statement.cut || statement.depth > MAX_DEPTH || statement.joints > MAX_JOINTS {
        return Err(Reason::TooLong);
    }
    let sql = rebuild::rebuild(cursor, numbers).ok_or(Reason::Unparsed)?;
    if sql.len() > MAX_PARSE_BYTES {
        return Err(Reason::TooLong);
    }
    let changes = ["insert", "update", "delete"].iter().any(|word| cursor.is(word));
    // The parser has never panicked on what was tried; a client must not be the one to find the text that it does.
    let looked = catch_unwind(AssertUnwindSafe(|| parse(&sql, changes).map(|tree| look(&tree))));
    looked.ok().flatten().ok_or(Reason::Unparsed)
}

fn parse(sql: &str, changes: bool) -> Option<Statement> {
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect).with_recursion_limit(RECURSION).try_with_sql(sql).ok()?;
    let tree = if changes { parser.parse_statement().ok()? } else { Statement::Query(parser.parse_query().ok()?) };
    (parser.peek_token().token == Token::EOF).then_some(tree)
}

/// Judges reading one relation.
pub(super) fn judge_relation(schema: Option<&str>, name: &str, known: &Knowledge) -> Verdict {
    let mut verdict = match relations::judge(schema, name) {
        None => Verdict::replica(Reason::Read),
        Some(reason) => Verdict::primary(reason, Effects::empty()).with_culprit(format!("relation {name}")),
    };
    let found = match &known.catalog {
        Catalog::Known(facts) => facts.relation(schema, name, &known.functions),
        Catalog::Absent => None,
        Catalog::Pending(_) => Some(Verdict::primary(Reason::CatalogPending, Effects::empty()).reading(Slots::All)),
    };
    match found {
        Some(found) => verdict.join(found),
        // Of PostgreSQL's own, or made a moment ago.
        None if matches!(schema, Some("pg_catalog" | "information_schema")) => {
            verdict.touches.reads = Slots::of([CATALOGS_SLOT]);
        }
        None => verdict.touches.reads = Slots::All,
    }
    verdict
}
