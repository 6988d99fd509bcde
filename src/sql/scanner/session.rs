//! `SET`, `RESET`, `SHOW`, `DISCARD`, SQL-level `PREPARE` and `DEALLOCATE`.

use std::borrow::Cow;

use super::super::cursor::Cursor;
use super::super::decision::Effects;
use super::super::lexer::Kind;
use super::super::reason::Reason;
use super::super::verdict::Verdict;
use super::transaction;

/// Passes over `LOCAL` or `SESSION` after `SET`; tells whether it was `LOCAL`. `SESSION` in `SESSION AUTHORIZATION`
/// and `SESSION CHARACTERISTICS` is no scope.
pub(in crate::sql) fn strip_set_scope(cursor: &mut Cursor<'_>) -> bool {
    if cursor.is("local") && !assigns(*cursor) {
        cursor.next();
        return true;
    }
    if cursor.is("session")
        && !cursor.is_at(1, "authorization")
        && !cursor.is_at(1, "characteristics")
        && !assigns(*cursor)
    {
        cursor.next();
    }
    false
}

/// Whether the next word is itself what is being assigned to.
fn assigns(mut cursor: Cursor<'_>) -> bool {
    cursor.next();
    cursor.is("to") || cursor.is_sign("=") || cursor.is_sign(".")
}

/// Reads `name [. name]… TO|=`: the dotted name, the cursor behind it. `None` when it is no assignment.
pub(in crate::sql) fn set_target<'a>(cursor: &mut Cursor<'a>) -> Option<Cow<'a, [u8]>> {
    let mut ahead = *cursor;
    let name = dotted(&mut ahead)?;
    if !ahead.eat("to") && !ahead.eat_sign("=") {
        return None;
    }
    *cursor = ahead;
    Some(name)
}

fn dotted<'a>(cursor: &mut Cursor<'a>) -> Option<Cow<'a, [u8]>> {
    let mut name = cursor.identifier()?;
    while cursor.eat_sign(".") {
        let part = cursor.identifier()?;
        let whole = name.to_mut();
        whole.push(b'.');
        whole.extend_from_slice(&part);
    }
    Some(name)
}

fn is_own(name: &[u8]) -> bool {
    name.len() > 10 && name[..10].eq_ignore_ascii_case(b"trunkline.")
}

const SETS_SESSION: Effects = Effects::SET_SESSION.union(Effects::LITERAL_MATTERS);
const SETS_LOCAL: Effects = Effects::SET_LOCAL.union(Effects::LITERAL_MATTERS);

pub(super) fn set(mut cursor: Cursor<'_>) -> Verdict {
    if cursor.eat("constraints") {
        return Verdict::primary(Reason::TxControl, Effects::SET_LOCAL);
    }
    let local = strip_set_scope(&mut cursor);
    let effects = if local { SETS_LOCAL } else { SETS_SESSION };
    if cursor.is("transaction") && !assigns(cursor) {
        cursor.next();
        return transaction::set_transaction(cursor);
    }
    let session = Verdict::primary(Reason::SessionState, effects);
    if cursor.eat_all(&["session", "characteristics"]) {
        return session;
    }
    let Some(name) = set_target(&mut cursor) else {
        // TIME ZONE, ROLE, SESSION AUTHORIZATION, NAMES, SCHEMA, XML OPTION, …: session settings in other words.
        return if cursor.is("seed") { seed(effects) } else { session };
    };
    match &*name.to_ascii_lowercase() {
        b"seed" => seed(effects),
        name @ (b"transaction_read_only" | b"transaction_isolation" | b"transaction_deferrable") => {
            transaction::set_variable(name, cursor)
        }
        name if is_own(name) => Verdict::anywhere(Reason::OwnSetting, Effects::OWN_SETTING | Effects::LITERAL_MATTERS),
        _ => session,
    }
}

/// `SET seed` is `setseed()`: the state of the random generator can't be replayed.
fn seed(effects: Effects) -> Verdict {
    Verdict::primary(Reason::SessionState, effects | Effects::SESSION_STATE)
}

pub(super) fn reset(mut cursor: Cursor<'_>) -> Verdict {
    if dotted(&mut cursor).is_some_and(|name| is_own(&name)) {
        return Verdict::anywhere(Reason::OwnSetting, Effects::OWN_SETTING);
    }
    Verdict::primary(Reason::SessionState, Effects::SET_SESSION | Effects::RELEASES_ONLY)
}

pub(super) fn show(mut cursor: Cursor<'_>) -> Verdict {
    if dotted(&mut cursor).is_some_and(|name| is_own(&name)) {
        return Verdict::anywhere(Reason::OwnSetting, Effects::OWN_SETTING);
    }
    Verdict::primary(Reason::SettingRead, Effects::empty())
}

pub(super) fn discard(cursor: Cursor<'_>) -> Verdict {
    let mut effects = Effects::RELEASES_ONLY;
    if cursor.is("all") {
        effects |= Effects::DISCARD_ALL | Effects::DEALLOCATE_ALL;
    }
    Verdict::primary(Reason::SessionState, effects)
}

pub(super) fn prepare(mut cursor: Cursor<'_>) -> Verdict {
    // `PREPARE transaction AS …` would be a statement of that name.
    if cursor.eat("transaction") && cursor.peek().is_some_and(|token| token.kind == Kind::Str) {
        return Verdict::primary(Reason::TwoPhase, Effects::TX_END | Effects::WRITES);
    }
    Verdict::primary(Reason::PreparedSql, Effects::SQL_PREPARE)
}

pub(super) fn deallocate(mut cursor: Cursor<'_>) -> Verdict {
    if cursor.is("prepare") && cursor.rest().len() > 1 {
        cursor.next();
    }
    let which = if cursor.is("all") { Effects::DEALLOCATE_ALL } else { Effects::SQL_PREPARE };
    Verdict::primary(Reason::PreparedSql, which | Effects::RELEASES_ONLY)
}
