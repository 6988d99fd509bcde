//! Reading what begins, shapes and ends a transaction block, as far as it can be answered before a server has seen it.

use super::changes::point_name;
use super::cursor::Cursor;
use super::lexer::{Kind, LexOptions};
use super::scanner::{Isolation, Modes};
use super::split::{Splitter, StatementTokens};

#[cfg(test)]
mod tests;

/// A statement about the transaction block itself that every server accepts at that point.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    Timeout {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// `SAVEPOINT` of this name.
    Savepoint(Box<[u8]>),
    /// `RELEASE` of this savepoint.
    Release(Box<[u8]>),
    /// `ROLLBACK TO` this savepoint.
    RollbackTo(Box<[u8]>),
    /// `COMMIT` or `END`, `ROLLBACK` or `ABORT`.
    End {
        /// It is one of the latter.
        rolls_back: bool,
        /// `AND CHAIN`: another block of the same modes begins at once.
        chain: bool,
    },
}

/// What transaction modes say about where the block may run; `None` = nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockModes {
    /// READ ONLY or READ WRITE.
    pub read_only: Option<bool>,
    /// The isolation level.
    pub isolation: Option<Isolation>,
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
        return if cursor.eat("local") { timeout(cursor) } else { None };
    }
    if cursor.eat("savepoint") {
        return point(cursor).map(BlockControl::Savepoint);
    }
    if cursor.eat("release") {
        return point(after_noise(cursor)).map(BlockControl::Release);
    }
    let BlockEnd { rolls_back, chain, .. } = match end(&mut cursor)? {
        Ended::Block(end) => end,
        Ended::ToPoint => return point(after_noise(cursor)).map(BlockControl::RollbackTo),
    };
    cursor.at_end().then_some(BlockControl::End { rolls_back, chain })
}

/// The end of a block with which a text begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockEnd {
    /// `ROLLBACK` or `ABORT`.
    pub rolls_back: bool,
    /// `AND CHAIN`: another block of the same modes begins at once.
    pub chain: bool,
    /// More statements follow in the text.
    pub more: bool,
}

/// Reads the end of a block, if that is the first statement of a text.
pub fn leading_end(sql: &[u8], opts: LexOptions) -> Option<BlockEnd> {
    let mut splitter = Splitter::new(sql, opts);
    let (mut tokens, mut others) = (StatementTokens::default(), StatementTokens::default());
    let is_read = splitter.next(&mut tokens) && (opts.safe_encoding || splitter.text().is_ascii());
    let more = splitter.next(&mut others);
    let mut cursor = Cursor::new(splitter.text(), &tokens.tokens).with_options(opts);
    // A text that the server refuses ends nothing.
    if !is_read || tokens.bad || tokens.cut || others.bad {
        return None;
    }
    match end(&mut cursor)? {
        Ended::Block(end) if cursor.at_end() => Some(BlockEnd { more, ..end }),
        _ => None,
    }
}

/// Where in a text the statement stands that ends the block, if others come before it, and more comes with it: statements behind it, or
/// another block.
pub fn inner_end(sql: &[u8], opts: LexOptions) -> Option<usize> {
    let mut splitter = Splitter::new(sql, opts);
    let mut tokens = StatementTokens::default();
    let (mut found, mut before, mut more) = (None, false, false);
    while splitter.next(&mut tokens) {
        // A text that the server refuses ends nothing.
        if tokens.bad {
            return None;
        }
        let mut cursor = Cursor::new(splitter.text(), &tokens.tokens).with_options(opts);
        more |= found.is_some();
        match end(&mut cursor) {
            Some(Ended::Block(end)) if found.is_none() && cursor.at_end() => {
                if !before {
                    return None;
                }
                found = Some(tokens.tokens.first()?.start as usize);
                more |= end.chain;
            }
            _ => before = true,
        }
    }
    found.filter(|_| more && (opts.safe_encoding || splitter.text().is_ascii()))
}

enum Ended {
    Block(BlockEnd),
    /// `ROLLBACK TO`: the name follows.
    ToPoint,
}

fn end(cursor: &mut Cursor<'_>) -> Option<Ended> {
    let rolls_back = cursor.eat("rollback") || cursor.eat("abort");
    if !rolls_back && !cursor.eat("commit") && !cursor.eat("end") {
        return None;
    }
    eat_noise(cursor);
    if rolls_back && cursor.eat("to") {
        return Some(Ended::ToPoint);
    }
    let chain = cursor.eat_all(&["and", "chain"]);
    if !chain {
        cursor.eat_all(&["and", "no", "chain"]);
    }
    Some(Ended::Block(BlockEnd { rolls_back, chain, more: false }))
}

/// Whether a text is one `ROLLBACK` or `ABORT` of a whole transaction and nothing else, be it `AND CHAIN`: whatever becomes of it, nothing
/// is committed by it.
pub fn is_rollback(sql: &[u8], opts: LexOptions) -> bool {
    let mut splitter = Splitter::new(sql, opts);
    let (mut tokens, mut more) = (StatementTokens::default(), StatementTokens::default());
    let is_one = splitter.next(&mut tokens) && !splitter.next(&mut more) && !tokens.bad && !tokens.cut;
    let is_read = opts.safe_encoding || splitter.text().is_ascii();
    let mut cursor = Cursor::new(splitter.text(), &tokens.tokens).with_options(opts);
    if !is_one || !is_read || !(cursor.eat("rollback") || cursor.eat("abort")) {
        return false;
    }
    eat_noise(&mut cursor);
    !cursor.is("to") && !cursor.is("prepared")
}

fn eat_noise(cursor: &mut Cursor<'_>) {
    if !cursor.eat("work") {
        cursor.eat("transaction");
    }
}

/// Passes over SAVEPOINT, which is a name when nothing follows it.
fn after_noise(mut cursor: Cursor<'_>) -> Cursor<'_> {
    if cursor.is("savepoint") && cursor.rest().len() > 1 {
        cursor.next();
    }
    cursor
}

/// The name of a savepoint, with which the statement ends. One that the server would cut, or that another encoding may spell
/// otherwise, is for the server to read.
fn point(mut cursor: Cursor<'_>) -> Option<Box<[u8]>> {
    let name = point_name(cursor)?;
    let is_whole = cursor.next().is_some_and(|token| cursor.bytes(token).len() < 64);
    (cursor.at_end() && name.is_ascii() && is_whole && !name.is_empty()).then_some(name)
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
    (!modes.unknown).then_some(BlockModes { read_only: modes.read_only, isolation: modes.isolation })
}

/// `name TO|= value`, of a time-out and a value between 0 and 2^31 - 1 milliseconds.
fn timeout(mut cursor: Cursor<'_>) -> Option<BlockControl> {
    const NAMES: [&str; 3] = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"];
    let name = NAMES.into_iter().find(|name| cursor.eat(name))?;
    if !(cursor.eat("to") || cursor.eat_sign("=")) {
        return None;
    }
    let token = cursor.next().filter(|_| cursor.at_end())?;
    let value = match token.kind {
        Kind::Number => String::from_utf8_lossy(cursor.bytes(token)).into_owned(),
        Kind::Str => cursor.string(token).unwrap_or_default(),
        _ => return None,
    };
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let number = value[..digits].parse::<u64>().ok()?;
    let unit = match &value[digits..] {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    // A leading zero would make it octal.
    let is_valid = (digits == 1 || !value.starts_with('0')) && number.saturating_mul(unit) <= i32::MAX as u64;
    is_valid.then_some(BlockControl::Timeout { name, value })
}
