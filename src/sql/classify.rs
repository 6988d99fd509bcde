//! The classifier: from a text to a decision.
//!
//! Hints are read with the comments; the scanner takes what its first words tell; what may be a read must satisfy
//! both the lexer's keyword bits and the parser's tree. Whatever is unknown goes to the primary (trap 2), and nothing
//! here can fail.

use super::calls;
use super::carriers::SETS_UNSEEN;
use super::consistency::Consistency;
use super::cursor::Cursor;
use super::ddl;
use super::decision::{Decision, Effects, Target};
use super::fingerprint::{Fingerprint, fingerprint};
use super::hint::Hint;
use super::keywords::KeywordBits;
use super::knowledge::Knowledge;
use super::lexer::{Kind, LexOptions, Token};
use super::normalize::normalize;
use super::path::{self, PathId};
use super::query;
use super::reason::Reason;
use super::scanner::{self, Scanned};
use super::shard::{self, ShardKeyId};
use super::split::{Splitter, StatementTokens};
use super::statements::Listed;
use super::touches::{Slots, Touches};
use super::verdict::Verdict;
use super::writes;

/// What a text says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    /// Where it may run, why, and what else it does.
    pub decision: Decision,
    /// How many statements it holds, empty ones not counted.
    pub statements: usize,
    /// The hint of its comments.
    pub hint: Option<Hint>,
    /// Its stable fingerprint, for logs.
    pub fingerprint: Fingerprint,
}

/// What one statement of a text says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementAnalysis {
    /// Where its tokens stand in the text.
    pub range: std::ops::Range<usize>,
    /// Where it may run, why, and what else it does. Hints of the text are applied.
    pub decision: Decision,
    /// The function, relation or word that decided, when there is one.
    pub culprit: Option<String>,
}

/// Judges a text: every statement of it, the worst wins, effects are united (trap 1).
pub fn analyze(sql: &[u8], opts: LexOptions, known: &Knowledge) -> Analysis {
    let judged = judge_text(sql, opts, known, |_| ());
    Analysis {
        decision: judged.decision(),
        statements: judged.statements,
        hint: judged.hint,
        fingerprint: fingerprint(sql, opts),
    }
}

/// As [`analyze`], and what each statement says by itself.
pub fn analyze_detailed(sql: &[u8], opts: LexOptions, known: &Knowledge) -> (Analysis, Vec<StatementAnalysis>) {
    let mut details = Vec::new();
    let judged = judge_text(sql, opts, known, |statement| details.push(statement));
    if let Some(hint) = judged.hint {
        for detail in &mut details {
            let mut verdict = Verdict {
                target: detail.decision.target,
                reason: detail.decision.reason,
                effects: detail.decision.effects,
                culprit: detail.culprit.take(),
                touches: detail.decision.touches.get().clone(),
            };
            obey(&mut verdict, hint);
            detail.decision = verdict.decision();
            detail.culprit = verdict.culprit;
        }
    }
    if let [only] = details.as_mut_slice() {
        only.decision.key = judged.key;
    }
    let analysis = Analysis {
        decision: judged.decision(),
        statements: judged.statements,
        hint: judged.hint,
        fingerprint: fingerprint(sql, opts),
    };
    (analysis, details)
}

/// Whether one of the statements of a text may change settings where the text does not tell which: by a function, say. Of all of them
/// together that is not to be told from a `SET` and a `SET LOCAL` of which each is read. What is only prepared runs later.
pub fn sets_unseen(sql: &[u8], opts: LexOptions, known: &Knowledge) -> bool {
    let mut found = false;
    judge_text(sql, opts, known, |statement| {
        let effects = statement.decision.effects;
        found |= effects.contains(SETS_UNSEEN) && !effects.contains(Effects::SQL_PREPARE);
    });
    found
}

/// Judges a text for the decision cache, which has no use for the rest. A name without schema means the worst of that name in any.
pub fn decide(sql: &[u8], opts: LexOptions, known: &Knowledge) -> Decision {
    let decision = judge_text(sql, opts, known, |_| ()).decision();
    Decision { by_path: path::matters(sql, opts, known, decision), ..decision }
}

/// As [`decide`], of a text of which that says that it depends on the search path, for a session with this path; `None`: it is no read
/// then either.
pub fn decide_along(sql: &[u8], opts: LexOptions, known: &Knowledge, path: PathId) -> Option<Decision> {
    let decision = judge_text(sql, opts, &path::along(known, path)?, |_| ()).decision();
    (decision.target == Target::Replica).then_some(decision)
}

/// As [`analyze_detailed`], for a session with this path.
pub fn analyze_along(
    sql: &[u8],
    opts: LexOptions,
    known: &Knowledge,
    path: PathId,
) -> Option<(Analysis, Vec<StatementAnalysis>)> {
    Some(analyze_detailed(sql, opts, &path::along(known, path)?))
}

struct Judged {
    verdict: Verdict,
    statements: usize,
    hint: Option<Hint>,
    level: Option<Consistency>,
    key: ShardKeyId,
}

impl Judged {
    fn decision(&self) -> Decision {
        Decision { level: self.level, key: self.key, ..self.verdict.decision() }
    }
}

/// Of a string of more statements the further ones are not examined by the parser: it would keep the thread from everybody else.
const MOST_EXAMINED: usize = 1000;

fn judge_text(sql: &[u8], opts: LexOptions, known: &Knowledge, mut each: impl FnMut(StatementAnalysis)) -> Judged {
    let mut splitter = Splitter::new(sql, opts);
    let mut verdict = Verdict::anywhere(Reason::Empty, Effects::empty());
    let mut statement = StatementTokens::default();
    let mut statements = 0usize;
    let mut releases_only = true;
    let mut may_be_overruled = true;
    let mut key = ShardKeyId::NONE;
    while splitter.next(&mut statement) {
        statements += 1;
        statement.cut |= statements > MOST_EXAMINED;
        let mut one = judge_statement(splitter.text(), opts, &statement, known);
        if reads_prepared(splitter.text(), &statement.tokens) {
            one.effects |= Effects::READS_PREPARED;
        }
        judge_listed(splitter.text(), opts, &statement, known, &mut one);
        key = if statements == 1 {
            find_key(splitter.text(), opts, &statement, known, &mut one)
        } else {
            ShardKeyId::NONE
        };
        releases_only &= one.effects.contains(Effects::RELEASES_ONLY);
        may_be_overruled &= one.target != Target::Primary || overrulable(&one);
        if let (Some(first), Some(last)) = (statement.tokens.first(), statement.tokens.last()) {
            each(StatementAnalysis {
                range: first.start as usize..last.end as usize,
                decision: one.decision(),
                culprit: one.culprit.clone(),
            });
        }
        verdict.join(one);
    }
    verdict.effects.set(Effects::RELEASES_ONLY, statements > 0 && releases_only);
    verdict.effects.set(Effects::MULTI, statements > 1);
    let hint = splitter.hint;
    // What one statement alone must not, several must not.
    if let Some(hint) = hint.filter(|hint| *hint != Hint::Replica || may_be_overruled) {
        obey(&mut verdict, hint);
    }
    if !opts.safe_encoding && splitter.text().iter().any(|byte| *byte >= 0x80) {
        // Trap 19: what we took for a quote may be half a character. The effects stay as the best guess there is.
        verdict.target = Target::Primary;
        verdict.reason = Reason::Encoding;
        verdict.effects |= Effects::WRITES | Effects::LITERAL_MATTERS;
        verdict.effects -= Effects::RELEASES_ONLY | Effects::READ_ONLY | Effects::SET_TX_READ_ONLY;
        verdict.touches = Touches::everything();
        key = ShardKeyId::NONE;
    }
    if hint == Some(Hint::Primary) {
        key = ShardKeyId::NONE;
    }
    Judged { verdict, statements, hint, level: splitter.level, key }
}

/// Which shard of Citus a statement is about, where that is of use: not of what concerns its session.
fn find_key(
    text: &[u8],
    opts: LexOptions,
    statement: &StatementTokens,
    known: &Knowledge,
    verdict: &mut Verdict,
) -> ShardKeyId {
    let plain = verdict.target == Target::Replica || verdict.reason == Reason::Write;
    if !plain || binds_session(verdict.effects) {
        return ShardKeyId::NONE;
    }
    let Some(found) = shard::find(Cursor::new(text, &statement.tokens), statement, opts, known) else {
        return ShardKeyId::NONE;
    };
    if found.key.writes != (verdict.reason == Reason::Write) {
        return ShardKeyId::NONE;
    }
    if found.literal_matters {
        verdict.effects |= Effects::LITERAL_MATTERS;
    }
    ShardKeyId::of(found.key)
}

/// Applies a hint to a judgement.
fn obey(verdict: &mut Verdict, hint: Hint) {
    match hint {
        Hint::Primary => {
            if verdict.reason == Reason::Empty {
                return;
            }
            if verdict.target != Target::Primary {
                verdict.reason = Reason::HintPrimary;
            }
            verdict.target = Target::Primary;
            verdict.effects -= Effects::READ_ONLY | Effects::SET_TX_READ_ONLY;
            verdict.effects |= Effects::HINTED;
        }
        Hint::Replica => {
            if overrulable(verdict) {
                verdict.target = Target::Replica;
                verdict.reason = Reason::HintReplica;
                verdict.effects -= Effects::WRITES;
                verdict.effects |= Effects::HINTED;
                verdict.touches.writes = Slots::none();
            }
        }
    }
}

/// Whether a hint may say that the statement runs on a replica.
fn overrulable(verdict: &Verdict) -> bool {
    let is_open = is_a_guess(verdict.reason)
        || matches!(
            verdict.reason,
            Reason::ListedFunction | Reason::CatalogPending | Reason::Read | Reason::ListedRead
        );
    is_open && !binds_session(verdict.effects)
}

/// Whether somebody who knows the statement may say that it only reads: nothing certain speaks against it.
fn is_a_guess(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::UnknownFunction
            | Reason::VolatileFunction
            | Reason::NodeState
            | Reason::SettingRead
            | Reason::Explain
            | Reason::Unparsed
            | Reason::TooLong
    )
}

/// Whether effects concern the session or its transaction, which are where they are.
fn binds_session(effects: Effects) -> bool {
    let free =
        Effects::WRITES | Effects::MULTI | Effects::LITERAL_MATTERS | Effects::READS_PREPARED | Effects::TELLS_TIME;
    effects.intersects(Effects::all() - free)
}

/// Whether the view of the session's prepared statements, or the function behind it, is named.
fn reads_prepared(text: &[u8], tokens: &[Token]) -> bool {
    tokens.iter().any(|token| {
        let bytes = token.of(text);
        let name = bytes.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(bytes);
        matches!(name.len(), 21 | 22)
            && matches!(token.kind, Kind::Word | Kind::QuotedWord)
            && name.get(..21).is_some_and(|head| head.eq_ignore_ascii_case(b"pg_prepared_statement"))
            && matches!(name.get(21), None | Some(b's' | b'S'))
    })
}

/// What the configuration says of the statement. It never makes a read of what is known to be none.
fn judge_listed(text: &[u8], opts: LexOptions, statement: &StatementTokens, known: &Knowledge, verdict: &mut Verdict) {
    let (Some(first), Some(last)) = (statement.tokens.first(), statement.tokens.last()) else { return };
    let normalized = || normalize(&text[first.start as usize..last.end as usize], opts);
    let may_read = is_a_guess(verdict.reason)
        && !binds_session(verdict.effects)
        && !verdict.touches.schema
        && statement.bits.is_empty()
        && !statement.bad;
    match known.statements.ask(normalized, may_read, verdict.target == Target::Replica) {
        None => {}
        Some(Listed::Primary(pattern)) => {
            let listed = Verdict::primary(Reason::ListedStatement, Effects::empty());
            verdict.join(listed.with_culprit(format!("`{pattern}`")));
        }
        Some(Listed::Read(pattern)) => {
            // Who knows what it reads, and whether it asks for the time.
            let listed = Verdict::new(Target::Replica, Reason::ListedRead, Effects::TELLS_TIME);
            *verdict = listed.with_culprit(format!("`{pattern}`")).reading(Slots::All);
            let relations = query::judge_relations(Cursor::new(text, &statement.tokens), statement, known);
            if !is_a_guess(relations.reason) {
                verdict.join(relations);
            }
        }
    }
}

fn judge_statement(text: &[u8], opts: LexOptions, statement: &StatementTokens, known: &Knowledge) -> Verdict {
    let cursor = Cursor::new(text, &statement.tokens).with_options(opts);
    let mut verdict = match scanner::scan(cursor, statement.bits) {
        Scanned::Done(verdict) if evaluates_nothing(verdict.reason) => verdict,
        Scanned::Done(verdict) => {
            // Functions inside writes take locks and change settings as well as anywhere.
            let called = calls::judge(text, cursor, known);
            let mut verdict = verdict;
            if !ddl::only_defines(cursor) {
                verdict.effects |= called.effects - Effects::RELEASES_ONLY;
            }
            if verdict.reason == Reason::Write {
                verdict.touches = writes::touches(cursor, known);
            } else if verdict.reason == Reason::Ddl
                && let Some(touches) = ddl::touches(cursor, known)
            {
                verdict.touches = touches;
            }
            verdict.touches = verdict.touches.union(&called.touches);
            verdict
        }
        Scanned::Query => judge_query(cursor, statement, known),
        Scanned::Explain => judge_explain(cursor, statement, opts, known),
        Scanned::Copy => judge_copy(cursor, statement, known),
        Scanned::Declare => judge_declare(cursor, statement, known),
    };
    if statement.bad {
        // The server will refuse it, and the whole text with it. But should it know a syntax that we don't …
        verdict.join(Verdict::unparsed());
        verdict.effects -= Effects::RELEASES_ONLY;
    }
    verdict
}

/// Whether a statement that is no query has no expression in it, by its reason: nothing hidden can be called by it.
fn evaluates_nothing(reason: Reason) -> bool {
    use Reason::{Notify, OwnSetting, ReadOnlyTx, Serializable, SessionState, SettingRead, TxControl};
    matches!(reason, Notify | OwnSetting | ReadOnlyTx | Serializable | SessionState | SettingRead | TxControl)
}

/// Judges a query: `cursor` holds its tokens, which are all or some of the statement's.
fn judge_query(cursor: Cursor<'_>, statement: &StatementTokens, known: &Knowledge) -> Verdict {
    let mut verdict = calls::judge(cursor.text(), cursor, known);
    let bits = statement.bits;
    if bits.contains(KeywordBits::WRITE) {
        let touches = writes::touches(cursor, known);
        verdict.join(Verdict::primary(Reason::Write, Effects::WRITES).touching(touches));
    }
    if bits.contains(KeywordBits::INTO) && (statement.cut || selects_into(cursor)) {
        let temporary = if bits.contains(KeywordBits::TEMP) { Effects::TEMP_OBJECT } else { Effects::empty() };
        let makes = Verdict::primary(Reason::SelectInto, Effects::WRITES | temporary);
        verdict.join(if temporary.is_empty() { makes.changing_schema() } else { makes });
    } else if bits.contains(KeywordBits::TEMP) {
        verdict.join(Verdict::primary(Reason::SessionState, Effects::empty()));
    }
    if bits.contains(KeywordBits::LOCK) {
        verdict.join(Verdict::primary(Reason::LockingClause, Effects::empty()));
    }
    // What is known to write needs no parser to say so; but what it reads it may, beside a `nextval`, say.
    let reads_are_known = bits.contains(KeywordBits::WRITE) || verdict.touches.reads == Slots::All;
    if !verdict.effects.contains(Effects::WRITES) || !reads_are_known {
        verdict.join(query::judge(cursor, statement, known));
        if verdict.effects.contains(Effects::WRITES) {
            verdict.effects -= Effects::RELEASES_ONLY;
        }
    }
    verdict
}

/// Whether an `INTO` is not that of `INSERT INTO` or `MERGE INTO`.
fn selects_into(mut cursor: Cursor<'_>) -> bool {
    while !cursor.at_end() {
        let of_write = cursor.is("insert") || cursor.is("merge");
        cursor.next();
        if of_write {
            cursor.eat("into");
        } else if cursor.is("into") {
            return true;
        }
    }
    false
}

/// Trap 8: `EXPLAIN ANALYZE` runs what it explains.
fn judge_explain(mut cursor: Cursor<'_>, statement: &StatementTokens, opts: LexOptions, known: &Knowledge) -> Verdict {
    cursor.eat("explain");
    let mut analyze = false;
    let mut effects = Effects::empty();
    if let Some(mut options) = explain_options(&mut cursor) {
        if options.eat("route") && options.at_end() {
            return Verdict::anywhere(Reason::ExplainRoute, Effects::empty());
        }
        while !options.at_end() {
            let is_analyze = options.is("analyze") || options.is("analyse");
            options.next();
            if is_analyze {
                analyze = true;
            }
            if !options.at_end() && !options.is_sign(",") {
                let value = options.next().map(|token| (token.kind, options.bytes(token)));
                let off = value.is_some_and(|(_, bytes)| {
                    bytes.eq_ignore_ascii_case(b"false") || bytes.eq_ignore_ascii_case(b"off") || bytes == b"0"
                });
                if is_analyze {
                    analyze = !off;
                }
                if value.is_some_and(|(kind, _)| matches!(kind, Kind::Number | Kind::Str)) {
                    effects |= Effects::LITERAL_MATTERS;
                }
            }
            options.eat_sign(",");
        }
    } else {
        while cursor.is("analyze") || cursor.is("analyse") || cursor.is("verbose") {
            analyze |= !cursor.is("verbose");
            cursor.next();
        }
    }
    let mut inner = match scanner::scan(cursor, statement.bits) {
        Scanned::Query => judge_query(cursor, statement, known),
        Scanned::Declare => judge_declare(cursor, statement, known),
        Scanned::Done(verdict) if verdict.reason != Reason::Empty => {
            let called = calls::judge(cursor.text(), cursor.with_options(opts), known);
            let mut verdict = verdict;
            verdict.effects |= called.effects;
            if verdict.reason == Reason::Write {
                verdict.touches = writes::touches(cursor, known);
            }
            verdict.touches = verdict.touches.union(&called.touches);
            verdict
        }
        _ => Verdict::unparsed(),
    };
    inner.effects |= effects;
    if analyze {
        return inner;
    }
    // Nothing runs, so nothing changes; the prepared statement that it names must be at hand all the same.
    inner.effects &= Effects::SQL_EXECUTE | Effects::LITERAL_MATTERS;
    inner.touches.writes = Slots::none();
    if inner.target != Target::Replica {
        inner.target = Target::Primary;
        if inner.reason != Reason::Unparsed {
            inner.reason = Reason::Explain;
        }
    }
    inner
}

/// The options in parentheses after `EXPLAIN`, if that is what the parenthesis is: `EXPLAIN (SELECT 1)` has none.
fn explain_options<'a>(cursor: &mut Cursor<'a>) -> Option<Cursor<'a>> {
    let mut ahead = *cursor;
    let inside = ahead.parenthesised()?;
    let query = inside.is_sign("(") || ["select", "with", "values", "table"].iter().any(|word| inside.is(word));
    if query {
        return None;
    }
    *cursor = ahead;
    Some(inside)
}

/// Trap 9.
fn judge_copy(mut cursor: Cursor<'_>, statement: &StatementTokens, known: &Knowledge) -> Verdict {
    cursor.eat("copy");
    let unparsed = || {
        let mut verdict = Verdict::unparsed();
        verdict.effects |= Effects::COPY;
        verdict
    };
    let (mut verdict, relation) = if let Some(inside) = cursor.parenthesised() {
        let verdict = match scanner::scan(inside, statement.bits) {
            Scanned::Query => judge_query(inside, statement, known),
            Scanned::Done(verdict) => {
                let mut verdict = verdict;
                let called = calls::judge(inside.text(), inside, known);
                verdict.effects |= called.effects - Effects::RELEASES_ONLY;
                if verdict.reason == Reason::Write {
                    verdict.touches = writes::touches(inside, known);
                }
                verdict.touches = verdict.touches.union(&called.touches);
                verdict
            }
            _ => return unparsed(),
        };
        (verdict, None)
    } else {
        cursor.eat("binary");
        let Some(mut name) = cursor.identifier() else { return unparsed() };
        let mut schema = None;
        while cursor.eat_sign(".") {
            schema = Some(name);
            let Some(part) = cursor.identifier() else { return unparsed() };
            name = part;
        }
        cursor.parenthesised();
        let owned = |name: std::borrow::Cow<'_, [u8]>| String::from_utf8_lossy(&name).into_owned();
        let (schema, name) = (schema.map(owned), owned(name));
        (query::judge_relation(schema.as_deref(), &name, known), Some((schema, name)))
    };
    let to = cursor.eat("to");
    if !to && (relation.is_none() || !cursor.eat("from")) {
        return unparsed();
    }
    let through_us = cursor.is("stdin") || cursor.is("stdout");
    if let (false, Some((schema, name))) = (to, relation) {
        // The WHERE clause of COPY … FROM may call functions.
        let called = calls::judge(cursor.text(), cursor, known);
        let touches = writes::copied(schema.as_deref(), &name, cursor, known).union(&called.touches);
        verdict = Verdict::primary(Reason::Write, Effects::WRITES).touching(touches);
        verdict.effects |= called.effects - Effects::RELEASES_ONLY;
    } else if !through_us {
        verdict.join(Verdict::primary(Reason::Copy, Effects::empty()));
    }
    if through_us {
        verdict.effects |= Effects::COPY;
    }
    verdict
}

fn judge_declare(cursor: Cursor<'_>, statement: &StatementTokens, known: &Knowledge) -> Verdict {
    let Some(declared) = scanner::declare(cursor) else {
        let mut verdict = Verdict::unparsed();
        verdict.effects |= Effects::CURSOR;
        return verdict;
    };
    let mut verdict = judge_query(declared.query, statement, known);
    verdict.effects |= Effects::CURSOR;
    verdict.effects -= Effects::RELEASES_ONLY;
    if declared.hold {
        // It outlives the transaction, and its session would have to stay on the replica.
        verdict.join(Verdict::primary(Reason::Cursor, Effects::HOLD_CURSOR));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a long string leaves behind in its session is seen to its end.
    #[test]
    fn a_string_of_very_many_statements() {
        let of = |sql: &str| analyze(sql.as_bytes(), LexOptions::default(), &Knowledge::default()).decision;
        let few = of(&"SELECT 1;".repeat(MOST_EXAMINED));
        assert_eq!((few.target, few.reason), (Target::Replica, Reason::Read));
        let many = of(&("SELECT 1;".repeat(100_000) + "SET a.b = 'c'; SELECT pg_advisory_lock(1)"));
        assert_eq!(many.target, Target::Primary);
        assert!(many.effects.contains(Effects::SET_SESSION | Effects::ADVISORY_LOCK | Effects::MULTI));
    }
}
