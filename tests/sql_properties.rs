//! Whatever the bytes: nothing panics, and what the caches take for granted holds.

use proptest::prelude::*;
use trunkline::route::DecisionCache;
use trunkline::sql::{
    Effects, Knowledge, LexOptions, Lexer, Target, analyze, decide, fingerprint, fingerprint_seeded, normalize,
    own_setting, setting_change, sql_tags,
};

/// Pieces of SQL, so that random texts get somewhere.
const PIECES: &[&str] = &[
    "SELECT",
    "select",
    "1",
    "2",
    "'x'",
    "'y'",
    "E'\\''",
    "$$z$$",
    "a",
    "A",
    "b",
    "f()",
    "now()",
    "lower(a)",
    "FROM",
    "t",
    "WHERE",
    "=",
    "<",
    "-",
    "--",
    "\n",
    "/*",
    "*/",
    "/* c */",
    "/* trunkline: primary */",
    "/* trunkline: replica */",
    ";",
    "(",
    ")",
    ",",
    "IN",
    "IN (1,2)",
    "IN ($1)",
    "INSERT INTO t",
    "UPDATE",
    "FOR UPDATE",
    "BEGIN",
    "READ ONLY",
    "COMMIT",
    "SET",
    "LOCAL",
    "x",
    "TO",
    "trunkline.route",
    "set_config('a','b',true)",
    "EXPLAIN",
    "ANALYZE",
    "(ANALYZE 0)",
    "COPY",
    "TO STDOUT",
    "'",
    "\"",
    "\\",
    "$a$",
    "$1",
    "\0",
    "é",
    "\u{80}",
    "::int",
    ".",
    "*",
    "WITH a AS (",
    "TABLE",
    "VALUES",
    "DECLARE c CURSOR FOR",
    "CREATE TEMP TABLE",
    "FUNCTION",
    "ATOMIC",
    "END",
    "CASE",
    "nextval('s')",
    "[",
    "]",
    "UNION",
];

fn sql() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::collection::vec((prop::sample::select(PIECES), prop::bool::ANY), 0..24).prop_map(|pieces| {
        let mut text = Vec::new();
        for (piece, space) in pieces {
            text.extend_from_slice(piece.as_bytes());
            if space {
                text.push(b' ');
            }
        }
        text
    });
    prop_oneof![4 => pieces, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

fn options() -> impl Strategy<Value = LexOptions> {
    (any::<bool>(), prop::bool::weighted(0.8)).prop_map(|(standard_conforming_strings, safe_encoding)| LexOptions {
        standard_conforming_strings,
        safe_encoding,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn nothing_panics(sql in sql(), opts in options()) {
        analyze(&sql, opts, &Knowledge::default());
        normalize(&sql, opts);
        sql_tags(&sql, opts);
        own_setting(&sql, opts);
        setting_change(&sql, opts);
    }

    #[test]
    fn tokens_cover_the_text_in_order(sql in sql(), opts in options()) {
        let mut lexer = Lexer::new(&sql, opts);
        let mut end = 0;
        while let Some(token) = lexer.next_raw() {
            prop_assert!(token.start >= end && token.end > token.start && token.end as usize <= sql.len());
            let between = &sql[end as usize..token.start as usize];
            prop_assert!(between.iter().all(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)));
            end = token.end;
        }
    }

    #[test]
    fn cached_decisions_are_those_of_the_analysis(first in sql(), second in sql(), opts in options()) {
        let (cache, lists) = (DecisionCache::new(Knowledge::default()), Knowledge::default());
        for text in [&first, &second, &first] {
            prop_assert_eq!(cache.decide(text, opts), decide(text, opts, &lists));
        }
    }

    #[test]
    fn equal_fingerprints_mean_equal_decisions(pieces in prop::collection::vec(prop::sample::select(PIECES), 1..12), opts in options()) {
        let lists = Knowledge::default();
        let first = pieces.join(" ");
        let second: Vec<&str> = pieces
            .iter()
            .map(|piece| match *piece {
                "1" => "42",
                "'x'" => "E'other'",
                "$$z$$" => "E'\\\\'",
                "IN (1,2)" => "in (3)",
                "/* c */" => "",
                "SELECT" => "select",
                "A" => "a",
                other => other,
            })
            .collect();
        let second = second.join(" ");
        let key = |text: &str| fingerprint_seeded(text.as_bytes(), opts, [1, 2]);
        if key(&first) == key(&second) {
            let (one, two) = (decide(first.as_bytes(), opts, &lists), decide(second.as_bytes(), opts, &lists));
            prop_assert!(
                one == two || (one.effects & two.effects).contains(Effects::LITERAL_MATTERS),
                "{first:?} {one:?}\n{second:?} {two:?}"
            );
        }
    }

    #[test]
    fn normalized_texts_hold_no_literal_and_agree_with_the_fingerprint(first in sql(), second in sql()) {
        let opts = LexOptions::default();
        let (one, two) = (normalize(&first, opts), normalize(&second, opts));
        if fingerprint(&first, opts) == fingerprint(&second, opts) && !one.contains(['…', '\u{fffd}']) {
            prop_assert_eq!(one, two);
        }
    }

    #[test]
    fn a_statement_that_writes_never_leaves_the_primary(
        before in prop::collection::vec(prop::sample::select(WHOLE), 0..8),
        after in prop::collection::vec(prop::sample::select(WHOLE), 0..8),
    ) {
        let text = format!("{}; DELETE FROM t; {}", before.join(" "), after.join(" "));
        let decision = decide(text.as_bytes(), LexOptions::default(), &Knowledge::default());
        prop_assert_eq!(decision.target, Target::Primary, "{}", text);
        prop_assert!(decision.effects.contains(Effects::WRITES), "{}", text);
    }
}

/// Pieces that leave nothing open in which what follows them could hide.
const WHOLE: &[&str] = &[
    "SELECT 1",
    "'x'",
    "E'\\\\'",
    "E'\\''",
    "SELECT '\\'",
    "$$z'$$",
    "$a$ $$ $a$",
    "\"a;b\"",
    "FROM t",
    "/* c */",
    "/* /* */ ; */",
    "-- c\n",
    "--c\r",
    "BEGIN READ ONLY",
    "COMMIT",
    "EXPLAIN",
    "(1)",
    "f()",
    ";",
    "a$b",
    "U&'\\'",
    "@ -",
    "COPY t TO STDOUT",
    "1.5",
    "/* trunkline: replica */",
    "'a'\n'b'",
    "EXPLAIN (ANALYZE off)",
    "DECLARE c CURSOR FOR SELECT 1",
    "/**/",
    "é",
    "::",
];
