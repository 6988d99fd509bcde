//! The classifier: from a text to a decision.
//!
//! Hints are read with the comments; the scanner takes what its first words tell; what may be a read must satisfy
//! both the lexer's keyword bits and the parser's tree. Whatever is unknown goes to the primary (trap 2), and nothing
//! here can fail.

use super::calls;
use super::consistency::Consistency;
use super::cursor::Cursor;
use super::decision::{Decision, Effects, Target};
use super::fingerprint::{Fingerprint, fingerprint};
use super::functions::FunctionLists;
use super::hint::Hint;
use super::keywords::KeywordBits;
use super::lexer::{Kind, LexOptions, Token};
use super::query;
use super::reason::Reason;
use super::scanner::{self, Scanned};
use super::split::{Splitter, StatementTokens};
use super::verdict::Verdict;

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
pub fn analyze(sql: &[u8], opts: LexOptions, lists: &FunctionLists) -> Analysis {
    let judged = judge_text(sql, opts, lists, |_| ());
    Analysis {
        decision: judged.decision(),
        statements: judged.statements,
        hint: judged.hint,
        fingerprint: fingerprint(sql, opts),
    }
}

/// As [`analyze`], and what each statement says by itself.
pub fn analyze_detailed(sql: &[u8], opts: LexOptions, lists: &FunctionLists) -> (Analysis, Vec<StatementAnalysis>) {
    let mut details = Vec::new();
    let judged = judge_text(sql, opts, lists, |statement| details.push(statement));
    if let Some(hint) = judged.hint {
        for detail in &mut details {
            let mut verdict = Verdict {
                target: detail.decision.target,
                reason: detail.decision.reason,
                effects: detail.decision.effects,
                culprit: detail.culprit.take(),
            };
            obey(&mut verdict, hint);
            detail.decision = verdict.decision();
            detail.culprit = verdict.culprit;
        }
    }
    let analysis = Analysis {
        decision: judged.decision(),
        statements: judged.statements,
        hint: judged.hint,
        fingerprint: fingerprint(sql, opts),
    };
    (analysis, details)
}

/// Judges a text for the decision cache, which has no use for the rest.
pub fn decide(sql: &[u8], opts: LexOptions, lists: &FunctionLists) -> Decision {
    judge_text(sql, opts, lists, |_| ()).decision()
}

struct Judged {
    verdict: Verdict,
    statements: usize,
    hint: Option<Hint>,
    level: Option<Consistency>,
}

impl Judged {
    fn decision(&self) -> Decision {
        Decision { level: self.level, ..self.verdict.decision() }
    }
}

fn judge_text(sql: &[u8], opts: LexOptions, lists: &FunctionLists, mut each: impl FnMut(StatementAnalysis)) -> Judged {
    let mut splitter = Splitter::new(sql, opts);
    let mut verdict = Verdict::anywhere(Reason::Empty, Effects::empty());
    let mut statement = StatementTokens::default();
    let mut statements = 0usize;
    let mut releases_only = true;
    while splitter.next(&mut statement) {
        statements += 1;
        let mut one = judge_statement(splitter.text(), opts, &statement, lists);
        if reads_prepared(splitter.text(), &statement.tokens) {
            one.effects |= Effects::READS_PREPARED;
        }
        releases_only &= one.effects.contains(Effects::RELEASES_ONLY);
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
    if let Some(hint) = hint {
        obey(&mut verdict, hint);
    }
    if !opts.safe_encoding && splitter.text().iter().any(|byte| *byte >= 0x80) {
        // Trap 19: what we took for a quote may be half a character. The effects stay as the best guess there is.
        verdict.target = Target::Primary;
        verdict.reason = Reason::Encoding;
        verdict.effects |= Effects::WRITES | Effects::LITERAL_MATTERS;
        verdict.effects -= Effects::RELEASES_ONLY | Effects::READ_ONLY | Effects::SET_TX_READ_ONLY;
    }
    Judged { verdict, statements, hint, level: splitter.level }
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
            let overridable = matches!(
                verdict.reason,
                Reason::UnknownFunction
                    | Reason::VolatileFunction
                    | Reason::ListedFunction
                    | Reason::NodeState
                    | Reason::SettingRead
                    | Reason::Explain
                    | Reason::Unparsed
                    | Reason::TooLong
                    | Reason::Read
            );
            let session = Effects::all()
                - (Effects::WRITES
                    | Effects::MULTI
                    | Effects::LITERAL_MATTERS
                    | Effects::READS_PREPARED
                    | Effects::TELLS_TIME);
            if overridable && !verdict.effects.intersects(session) {
                verdict.target = Target::Replica;
                verdict.reason = Reason::HintReplica;
                verdict.effects -= Effects::WRITES;
                verdict.effects |= Effects::HINTED;
            }
        }
    }
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

fn judge_statement(text: &[u8], opts: LexOptions, statement: &StatementTokens, lists: &FunctionLists) -> Verdict {
    let cursor = Cursor::new(text, &statement.tokens).with_options(opts);
    let mut verdict = match scanner::scan(cursor, statement.bits) {
        Scanned::Done(verdict) => {
            // Functions inside writes take locks and change settings as well as anywhere.
            let called = calls::judge(text, cursor, lists);
            let mut verdict = verdict;
            verdict.effects |= called.effects - Effects::RELEASES_ONLY;
            verdict
        }
        Scanned::Query => judge_query(cursor, statement, lists),
        Scanned::Explain => judge_explain(cursor, statement, opts, lists),
        Scanned::Copy => judge_copy(cursor, statement, lists),
        Scanned::Declare => judge_declare(cursor, statement, lists),
    };
    if statement.bad {
        // The server will refuse it, and the whole text with it. But should it know a syntax that we don't …
        verdict.join(Verdict::unparsed());
        verdict.effects -= Effects::RELEASES_ONLY;
    }
    verdict
}

/// Judges a query: `cursor` holds its tokens, which are all or some of the statement's.
fn judge_query(cursor: Cursor<'_>, statement: &StatementTokens, lists: &FunctionLists) -> Verdict {
    let mut verdict = calls::judge(cursor.text(), cursor, lists);
    let bits = statement.bits;
    if bits.contains(KeywordBits::WRITE) {
        verdict.join(Verdict::primary(Reason::Write, Effects::WRITES));
    }
    if bits.contains(KeywordBits::INTO) {
        let temporary = if bits.contains(KeywordBits::TEMP) { Effects::TEMP_OBJECT } else { Effects::empty() };
        verdict.join(Verdict::primary(Reason::SelectInto, Effects::WRITES | temporary));
    } else if bits.contains(KeywordBits::TEMP) {
        verdict.join(Verdict::primary(Reason::SessionState, Effects::empty()));
    }
    if bits.contains(KeywordBits::LOCK) {
        verdict.join(Verdict::primary(Reason::LockingClause, Effects::empty()));
    }
    // What is known to write needs no parser to say so.
    if !verdict.effects.contains(Effects::WRITES) {
        verdict.join(query::judge(cursor, statement, lists));
        if verdict.effects.contains(Effects::WRITES) {
            verdict.effects -= Effects::RELEASES_ONLY;
        }
    }
    verdict
}

/// Trap 8: `EXPLAIN ANALYZE` runs what it explains.
fn judge_explain(
    mut cursor: Cursor<'_>,
    statement: &StatementTokens,
    opts: LexOptions,
    lists: &FunctionLists,
) -> Verdict {
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
        Scanned::Query => judge_query(cursor, statement, lists),
        Scanned::Declare => judge_declare(cursor, statement, lists),
        Scanned::Done(verdict) if verdict.reason != Reason::Empty => {
            let called = calls::judge(cursor.text(), cursor.with_options(opts), lists);
            let mut verdict = verdict;
            verdict.effects |= called.effects;
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
fn judge_copy(mut cursor: Cursor<'_>, statement: &StatementTokens, lists: &FunctionLists) -> Verdict {
    cursor.eat("copy");
    let unparsed = || {
        let mut verdict = Verdict::unparsed();
        verdict.effects |= Effects::COPY;
        verdict
    };
    let (mut verdict, is_query) = if let Some(inside) = cursor.parenthesised() {
        let verdict = match scanner::scan(inside, statement.bits) {
            Scanned::Query => judge_query(inside, statement, lists),
            Scanned::Done(verdict) => {
                let mut verdict = verdict;
                verdict.effects |= calls::judge(inside.text(), inside, lists).effects - Effects::RELEASES_ONLY;
                verdict
            }
            _ => return unparsed(),
        };
        (verdict, true)
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
        let (schema, name) = (schema.map(|s| String::from_utf8_lossy(&s).into_owned()), String::from_utf8_lossy(&name));
        (query::judge_relation(schema.as_deref(), &name), false)
    };
    let to = cursor.eat("to");
    if !to && (is_query || !cursor.eat("from")) {
        return unparsed();
    }
    let through_us = cursor.is("stdin") || cursor.is("stdout");
    if !to {
        verdict = Verdict::primary(Reason::Write, Effects::WRITES);
        // The WHERE clause of COPY … FROM may call functions.
        verdict.effects |= calls::judge(cursor.text(), cursor, lists).effects - Effects::RELEASES_ONLY;
    } else if !through_us {
        verdict.join(Verdict::primary(Reason::Copy, Effects::empty()));
    }
    if through_us {
        verdict.effects |= Effects::COPY;
    }
    verdict
}

fn judge_declare(cursor: Cursor<'_>, statement: &StatementTokens, lists: &FunctionLists) -> Verdict {
    let Some(declared) = scanner::declare(cursor) else {
        let mut verdict = Verdict::unparsed();
        verdict.effects |= Effects::CURSOR;
        return verdict;
    };
    let mut verdict = judge_query(declared.query, statement, lists);
    verdict.effects |= Effects::CURSOR;
    verdict.effects -= Effects::RELEASES_ONLY;
    if declared.hold {
        // It outlives the transaction, and its session would have to stay on the replica.
        verdict.join(Verdict::primary(Reason::Cursor, Effects::HOLD_CURSOR));
    }
    verdict
}
