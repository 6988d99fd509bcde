//! The keyword scanner: what a statement is, by its first words.
//!
//! It comes before the parser, for two reasons. sqlparser does not know much of PostgreSQL's transaction, session
//! and cursor control; and all of that, like every plain write, is told by its first words in nanoseconds. Only what
//! may be a read goes on to the parser.

mod cursors;
mod session;
mod transaction;

use super::bodies;
use super::cursor::{Cursor, identifier};
use super::ddl;
use super::decision::Effects;
use super::keywords::KeywordBits;
use super::lexer::Kind;
use super::reason::Reason;
use super::statement_names::creates_by_execute;
use super::touches::{CATALOGS_SLOT, Slots, Touches};
use super::verdict::Verdict;

/// What the first words say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scanned {
    /// All there is to know.
    Done(Verdict),
    /// A query (`SELECT`, `WITH`, `VALUES`, `TABLE`, or one in parentheses): to be parsed.
    Query,
    /// `EXPLAIN`: to be judged by what it explains.
    Explain,
    /// `COPY`.
    Copy,
    /// `DECLARE`: by its query.
    Declare,
}

/// Judges a statement by its first words. `bits` are those of the whole statement.
pub(super) fn scan(cursor: Cursor<'_>, bits: KeywordBits) -> Scanned {
    let Some(first) = cursor.peek() else {
        return Scanned::Done(Verdict::anywhere(Reason::Empty, Effects::empty()));
    };
    if cursor.is_sign("(") {
        return Scanned::Query;
    }
    let mut word = [0u8; 12];
    let bytes = cursor.bytes(first);
    let Some(lower) = word.get_mut(..bytes.len()) else { return Scanned::Done(unknown()) };
    lower.copy_from_slice(bytes);
    lower.make_ascii_lowercase();
    let mut rest = cursor;
    rest.next();
    let writes = |reason| Verdict::primary(reason, Effects::WRITES);
    let verdict = match &*lower {
        b"select" | b"with" | b"values" | b"table" => return Scanned::Query,
        b"explain" => return Scanned::Explain,
        b"copy" => return Scanned::Copy,
        b"declare" => return Scanned::Declare,
        b"insert" | b"update" | b"delete" | b"merge" | b"truncate" => writes(Reason::Write),
        b"create" | b"alter" | b"drop" | b"comment" | b"grant" | b"revoke" | b"reassign" | b"security" | b"import"
        | b"refresh" => {
            let mut verdict = writes(Reason::Ddl);
            if !matches!(&*lower, b"comment" | b"grant" | b"revoke" | b"security" | b"refresh")
                && !creates_temporary(rest)
            {
                verdict = verdict.changing_schema();
            }
            verdict.touches.shared = ddl::is_shared(cursor);
            if &*lower == b"create" {
                verdict.effects |= loads_library(rest);
                if bits.contains(KeywordBits::TEMP) {
                    verdict.effects |= Effects::TEMP_OBJECT;
                }
            }
            if &*lower == b"create" && creates_by_execute(cursor.text(), cursor.rest()) {
                verdict.effects |= Effects::SQL_EXECUTE;
            }
            verdict
        }
        b"begin" | b"start" => transaction::begin(rest, &*lower == b"start"),
        b"commit" | b"end" | b"rollback" | b"abort" => transaction::end(rest, lower),
        b"savepoint" | b"release" => Verdict::anywhere(Reason::TxControl, Effects::SAVEPOINT),
        b"set" => session::set(rest),
        b"reset" => session::reset(rest),
        b"show" => session::show(rest),
        b"discard" => session::discard(rest),
        b"prepare" => session::prepare(rest),
        b"execute" => {
            Verdict::primary(Reason::PreparedSql, Effects::SQL_EXECUTE | Effects::WRITES | Effects::LITERAL_MATTERS)
        }
        b"deallocate" => session::deallocate(rest),
        b"listen" => Verdict::primary(Reason::Notify, Effects::LISTEN),
        b"unlisten" => Verdict::primary(Reason::Notify, Effects::LISTEN | Effects::RELEASES_ONLY),
        b"notify" => Verdict::primary(Reason::Notify, Effects::NOTIFIES),
        b"load" => Verdict::primary(Reason::SessionState, Effects::SESSION_STATE),
        b"fetch" | b"move" => Verdict::anywhere(Reason::Cursor, Effects::CURSOR),
        b"close" => Verdict::anywhere(Reason::Cursor, Effects::CURSOR | Effects::RELEASES_ONLY),
        b"call" => writes(Reason::Procedure),
        b"do" => {
            let mut verdict = writes(Reason::Procedure).changing_schema();
            verdict.effects |= Effects::LITERAL_MATTERS;
            for body in rest.rest().iter().filter(|token| token.kind == Kind::Str) {
                verdict.effects |= bodies::leaves(rest.bytes(*body));
            }
            verdict
        }
        b"lock" => Verdict::primary(Reason::LockTable, Effects::empty()),
        b"vacuum" | b"analyze" | b"analyse" | b"cluster" | b"reindex" | b"checkpoint" => {
            // The planner's figures, which are in the catalogs.
            let touches = Touches::new(Slots::none(), Slots::of([CATALOGS_SLOT]));
            writes(Reason::Maintenance).touching(touches)
        }
        _ => unknown(),
    };
    Scanned::Done(verdict)
}

/// A command of an extension or of a later version.
fn unknown() -> Verdict {
    Verdict::unparsed().changing_schema()
}

/// Whether `TEMP` follows `CREATE`, and so all of it is the session's own.
fn creates_temporary(mut rest: Cursor<'_>) -> bool {
    rest.eat_all(&["or", "replace"]);
    let _ = rest.eat("local") || rest.eat("global");
    rest.is("temp") || rest.is("temporary")
}

/// `CREATE FUNCTION … LANGUAGE C` loads the library into the server process, for good, as `LOAD` does; what its functions keep there
/// is the session's.
fn loads_library(mut rest: Cursor<'_>) -> Effects {
    rest.eat_all(&["or", "replace"]);
    if !rest.eat("function") && !rest.eat("procedure") {
        return Effects::empty();
    }
    while rest.next().is_some() {
        if !rest.eat("language") {
            continue;
        }
        match rest.peek() {
            Some(name) if name.kind == Kind::Str => {
                let is_c = rest.string(name).is_some_and(|name| name.eq_ignore_ascii_case("c"));
                let effects = if is_c { Effects::SESSION_STATE } else { Effects::empty() };
                return effects | Effects::LITERAL_MATTERS;
            }
            Some(name) if identifier(rest.text(), name).is_some_and(|name| &*name == b"c") => {
                return Effects::SESSION_STATE;
            }
            _ => {}
        }
    }
    Effects::empty()
}

pub(super) use cursors::declare;
pub(super) use session::{set_target, strip_set_scope};
pub use transaction::Isolation;
pub(super) use transaction::Modes;
