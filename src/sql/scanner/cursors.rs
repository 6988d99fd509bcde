//! `DECLARE … CURSOR`.

use super::super::cursor::Cursor;

/// A cursor's declaration.
#[derive(Debug, Clone, Copy)]
pub(in crate::sql) struct Declared<'a> {
    /// `WITH HOLD`: it outlives its transaction.
    pub(in crate::sql) hold: bool,
    /// What follows `FOR`.
    pub(in crate::sql) query: Cursor<'a>,
}

/// Reads `DECLARE name [options] CURSOR [WITH|WITHOUT HOLD] FOR query`; `None` when it is something else.
pub(in crate::sql) fn declare(mut cursor: Cursor<'_>) -> Option<Declared<'_>> {
    if !cursor.eat("declare") {
        return None;
    }
    cursor.identifier()?;
    let options = ["binary", "asensitive", "insensitive", "no", "scroll"];
    while options.iter().any(|option| cursor.eat(option)) {}
    if !cursor.eat("cursor") {
        return None;
    }
    let hold = cursor.eat_all(&["with", "hold"]);
    if !hold {
        cursor.eat_all(&["without", "hold"]);
    }
    cursor.eat("for").then_some(Declared { hold, query: cursor })
}
