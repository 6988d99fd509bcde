//! `EXPLAIN (ROUTE) …`, which Trunkline answers itself.

use super::lexer::{Kind, LexOptions, Lexer};

/// The text that is to be explained: everything behind `EXPLAIN (ROUTE)`.
pub fn explained_route(sql: &[u8], opts: LexOptions) -> Option<&[u8]> {
    let mut lexer = Lexer::new(sql, opts);
    let mut rest = 0;
    for wanted in ["explain", "(", "route", ")"] {
        let token = lexer.next_token()?;
        let text = sql.get(token.start as usize..token.end as usize)?;
        if !matches!(token.kind, Kind::Word | Kind::Punct) || !text.eq_ignore_ascii_case(wanted.as_bytes()) {
            return None;
        }
        rest = token.end as usize;
    }
    sql.get(rest..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Knowledge, Reason, Target, decide};

    #[test]
    fn is_found_whatever_stands_around_it() {
        let of = |sql: &'static str| explained_route(sql.as_bytes(), LexOptions::default());
        assert_eq!(of("EXPLAIN (ROUTE) SELECT 1"), Some(&b" SELECT 1"[..]));
        assert_eq!(of("/* x */ explain(route)UPDATE t SET a = 1"), Some(&b"UPDATE t SET a = 1"[..]));
        assert_eq!(of("EXPLAIN (ROUTE, ANALYZE) SELECT 1"), None);
        assert_eq!(of("EXPLAIN (ANALYZE) SELECT 1"), None);
        assert_eq!(of("EXPLAIN ('route') SELECT 1"), None);
        let decide = |sql: &str| decide(sql.as_bytes(), LexOptions::default(), &Knowledge::default());
        let decision = decide("EXPLAIN (ROUTE) DELETE FROM t");
        assert_eq!((decision.target, decision.reason), (Target::Anywhere, Reason::ExplainRoute));
        assert!(decision.effects.is_empty());
        // A server is to refuse what is no EXPLAIN (ROUTE) alone.
        assert_eq!(decide("EXPLAIN (ROUTE, ANALYZE) DELETE FROM t").target, Target::Primary);
    }
}
