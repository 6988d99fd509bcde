//! Reading what begins, shapes and ends a transaction block, as far as it can be answered before a server has seen it.

use super::cursor::Cursor;
use super::lexer::{Kind, LexOptions};
use super::scanner::Modes;
use super::split::{Splitter, StatementTokens};

#[cfg(test)]
mod tests;

/// A statement about the transaction block itself that every server accepts at that point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockControl {
    /// `BEGIN` or `START TRANSACTION` with known modes.
    Begin {
        /// What the server says when it is done.
        tag: &'static str,
        /// What the modes say.
        modes: BlockModes,
    },
    /// `SET TRANSACTION` with known modes.
    Modes(BlockModes),
    /// `SET LOCAL` of a time-out to a value that is certainly valid.
    Timeout,
    /// `COMMIT` or `END`, without `AND CHAIN`.
    Commit,
    /// `ROLLBACK` or `ABORT`, without `AND CHAIN`.
    Rollback,
}

/// What transaction modes say about where the block may run; `None` = nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockModes {
    /// READ ONLY or READ WRITE.
    pub read_only: Option<bool>,
    /// SERIALIZABLE or another isolation level.
    pub serializable: Option<bool>,
}

/// Reads a text of exactly one such statement.
pub fn block_control(sql: &[u8], opts: LexOptions) -> Option<BlockControl> {
    let mut splitter = Splitter::new(sql, opts);
    let (mut tokens, mut more) = (StatementTokens::default(), StatementTokens::default());
    if !splitter.next(&mut tokens) || splitter.next(&mut more) || tokens.bad || tokens.cut {
        return None;
    }
    let mut cursor = Cursor::new(splitter.text(), &tokens.tokens).with_options(opts);
    if cursor.eat("begin") {
        eat_noise(&mut cursor);
        return Some(BlockControl::Begin { tag: "BEGIN", modes: modes(cursor, true)? });
    }
    if cursor.eat_all(&["start", "transaction"]) {
        return Some(BlockControl::Begin { tag: "START TRANSACTION", modes: modes(cursor, true)? });
    }
    if cursor.eat("set") {
        if cursor.eat_all(&["transaction"]) {
            return Some(BlockControl::Modes(modes(cursor, false)?));
        }
        return (cursor.eat("local") && is_timeout(cursor)).then_some(BlockControl::Timeout);
    }
    let end = if cursor.eat("commit") || cursor.eat("end") {
        BlockControl::Commit
    } else if cursor.eat("rollback") || cursor.eat("abort") {
        BlockControl::Rollback
    } else {
        return None;
    };
    eat_noise(&mut cursor);
    cursor.eat_all(&["and", "no", "chain"]);
    cursor.at_end().then_some(end)
}

fn eat_noise(cursor: &mut Cursor<'_>) {
    if !cursor.eat("work") {
        cursor.eat("transaction");
    }
}

/// The modes up to the end; `BEGIN` needs none, `SET TRANSACTION` at least one.
fn modes(cursor: Cursor<'_>, may_be_none: bool) -> Option<BlockModes> {
    if cursor.at_end() && !may_be_none {
        return None;
    }
    // A comma first, last or twice is a syntax error, for the server to say.
    let rest = cursor.rest();
    let comma = |at: usize| rest.get(at).is_some_and(|token| token.of(cursor.text()) == b",");
    if comma(0) || (!rest.is_empty() && comma(rest.len() - 1)) || (0..rest.len()).any(|at| comma(at) && comma(at + 1)) {
        return None;
    }
    let modes = Modes::read(cursor);
    (!modes.unknown).then_some(BlockModes { read_only: modes.read_only, serializable: modes.serializable })
}

/// `name TO|= value`, of a time-out and a value between 0 and 2^31 - 1 milliseconds.
fn is_timeout(mut cursor: Cursor<'_>) -> bool {
    const NAMES: [&str; 3] = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"];
    if !NAMES.iter().any(|name| cursor.eat(name)) || !(cursor.eat("to") || cursor.eat_sign("=")) {
        return false;
    }
    let Some(token) = cursor.next().filter(|_| cursor.at_end()) else { return false };
    let text = match token.kind {
        Kind::Number => String::from_utf8_lossy(cursor.bytes(token)).into_owned(),
        Kind::Str => cursor.string(token).unwrap_or_default(),
        _ => return false,
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let Ok(number) = text[..digits].parse::<u64>() else { return false };
    let unit = match &text[digits..] {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return false,
    };
    // A leading zero would make it octal.
    (digits == 1 || !text.starts_with('0')) && number.saturating_mul(unit) <= i32::MAX as u64
}
