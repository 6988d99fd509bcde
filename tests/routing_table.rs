//! Where statements go, and why: hundreds of them, with the expected target and reason.
//!
//! Rows are named by the trap that they stand for (`facts` of the project number them); a row without a trap is
//! ordinary traffic. The target is `R`eplica, `P`rimary or `A`nywhere.

use trunkline::sql::{Effects, FunctionLists, Knowledge, LexOptions, Target, analyze};

#[path = "routing_table/effects.rs"]
mod effects;
#[path = "routing_table/frameworks.rs"]
mod frameworks;
#[path = "routing_table/introspection.rs"]
mod introspection;
#[path = "routing_table/rows.rs"]
mod rows;
#[path = "routing_table/rows_of_sessions.rs"]
mod rows_of_sessions;

fn check(rows: &[(&str, char, &str, &str)]) {
    let lists = Knowledge::default();
    let mut wrong = Vec::new();
    for (trap, target, reason, sql) in rows {
        let decision = analyze(sql.as_bytes(), LexOptions::default(), &lists).decision;
        let got = match decision.target {
            Target::Replica => 'R',
            Target::Primary => 'P',
            Target::Anywhere => 'A',
        };
        if got != *target || decision.reason.as_str() != *reason {
            wrong.push(format!(
                "{trap}: expected {target} {reason}, got {got} {} {:?}\n    {sql}",
                decision.reason.as_str(),
                decision.effects
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn ordinary_reads() {
    check(rows::READS);
}

#[test]
fn ordinary_writes() {
    check(rows::WRITES);
}

#[test]
fn traps_1_to_10() {
    check(rows::TRAPS_1_TO_10);
}

#[test]
fn traps_11_to_21() {
    check(rows_of_sessions::TRAPS_11_TO_21);
}

#[test]
fn transactions_traps_22_to_28() {
    check(rows_of_sessions::TRANSACTIONS);
}

#[test]
fn session_and_cursors() {
    check(rows_of_sessions::SESSION);
}

#[test]
fn hints() {
    check(rows_of_sessions::HINTS);
}

#[test]
fn introspection_by_frameworks() {
    check(introspection::INTROSPECTION);
}

#[test]
fn statements_of_frameworks() {
    check(frameworks::STATEMENTS);
}

#[test]
fn the_table_is_large() {
    let all = [
        rows::READS,
        rows::WRITES,
        rows::TRAPS_1_TO_10,
        rows_of_sessions::TRAPS_11_TO_21,
        rows_of_sessions::TRANSACTIONS,
        rows_of_sessions::SESSION,
        rows_of_sessions::HINTS,
        introspection::INTROSPECTION,
        frameworks::STATEMENTS,
    ];
    let count: usize = all.iter().map(|rows| rows.len()).sum();
    assert!(count >= 400, "{count} rows");
}

#[test]
fn trap_19_options_change_what_a_text_is() {
    let lists = Knowledge::default();
    let off = LexOptions { standard_conforming_strings: false, ..LexOptions::default() };
    let unsafe_encoding = LexOptions { safe_encoding: false, ..LexOptions::default() };
    let of = |sql: &[u8], opts| analyze(sql, opts, &lists);

    let sql = br"SELECT '\'; DELETE FROM t; --'";
    assert_eq!(of(sql, LexOptions::default()).statements, 2);
    assert_eq!(of(sql, LexOptions::default()).decision.target, Target::Primary);
    assert_eq!(of(sql, off).statements, 1);
    assert_eq!(of(sql, off).decision.target, Target::Replica);

    let sql = br"SELECT '\\'; DELETE FROM t; --'";
    assert_eq!(of(sql, off).statements, 2);

    // In SJIS 0x95 0x5C is one character; taken for a backslash it would hide the quote.
    let sjis = b"SELECT '\x95\x5c' FROM t";
    assert_eq!(of(sjis, unsafe_encoding).decision.target, Target::Primary);
    assert_eq!(of(sjis, unsafe_encoding).decision.reason.as_str(), "encoding");
    assert_eq!(of(b"SELECT 'x' FROM t", unsafe_encoding).decision.target, Target::Replica);

    // Latin-1 and EUC texts are not UTF-8, and that is no reason to refuse them.
    assert_eq!(of(b"SELECT '\xe9t\xe9', \xe9 FROM t\xe9", LexOptions::default()).decision.target, Target::Replica);
    assert_eq!(of(b"SELECT f\xe9(1)", LexOptions::default()).decision.reason.as_str(), "unknown_function");

    // A NUL ends the text.
    assert_eq!(of(b"SELECT 1\0; DELETE FROM t", LexOptions::default()).statements, 1);
}

#[test]
fn configured_functions() {
    let lists =
        Knowledge::from(FunctionLists::new(["price", "app.total", "pg_catalog.nextval"], ["public.audit", "lower"]));
    let of = |sql: &str| {
        let decision = analyze(sql.as_bytes(), LexOptions::default(), &lists).decision;
        (decision.target, decision.reason.as_str())
    };
    assert_eq!(of("SELECT price(1)"), (Target::Replica, "read"));
    assert_eq!(of("SELECT shop.price(1)"), (Target::Replica, "read"));
    assert_eq!(of("SELECT \"Price\"(1)"), (Target::Primary, "unknown_function"));
    assert_eq!(of("SELECT app.total()"), (Target::Replica, "read"));
    assert_eq!(of("SELECT total()"), (Target::Primary, "unknown_function"));
    assert_eq!(of("SELECT other.total()"), (Target::Primary, "unknown_function"));
    assert_eq!(of("SELECT audit()"), (Target::Primary, "listed_function"));
    assert_eq!(of("SELECT public.audit()"), (Target::Primary, "listed_function"));
    assert_eq!(of("SELECT other.audit()"), (Target::Primary, "unknown_function"));
    assert_eq!(of("SELECT lower('x')"), (Target::Primary, "listed_function"));
    assert_eq!(of("SELECT upper('x')"), (Target::Replica, "read"));
}

#[test]
fn trap_20_empty_texts() {
    for sql in ["", " ", ";", " ; ;; ", "-- nothing", "/* nothing */", "\n/* a */ ; -- b\n"] {
        let analysis = analyze(sql.as_bytes(), LexOptions::default(), &Knowledge::default());
        assert_eq!(analysis.decision.target, Target::Anywhere, "{sql:?}");
        assert_eq!(analysis.decision.reason.as_str(), "empty", "{sql:?}");
        assert_eq!(analysis.decision.effects, Effects::empty(), "{sql:?}");
        assert_eq!(analysis.statements, 0, "{sql:?}");
    }
}

#[test]
fn nothing_is_too_large_or_too_deep() {
    let lists = Knowledge::default();
    let texts = [
        format!("SELECT {}1", "1+".repeat(200_000)),
        format!("SELECT * FROM t WHERE {}", vec!["a = 1"; 50_000].join(" OR ")),
        format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("SELECT {}1{}", "(".repeat(24), ")".repeat(24)),
        format!("SELECT * FROM {}t{}", "(".repeat(24), ")".repeat(24)),
        format!("SELECT * FROM {}(SELECT 1) x{}", "(".repeat(20), ")".repeat(20)),
        format!("SELECT {}1{}", "f(".repeat(24), ")".repeat(24)),
        format!("SELECT {}1{}", "CASE WHEN ".repeat(1000), " THEN 1 END".repeat(1000)),
        format!("SELECT {} 1", "NOT ".repeat(1900)),
        format!("SELECT {} 1", "- ".repeat(1900)),
        format!("SELECT 1{}", "::int".repeat(1900)),
        format!("SELECT a{}", "[1]".repeat(600)),
        format!("SELECT a{}", ".a".repeat(10_000)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(900)),
        format!("SELECT * FROM t{}", " JOIN t ON true".repeat(1900)),
        format!("SELECT {}", vec!["a"; 100_000].join(",")),
        "SELECT 1;".repeat(10_000),
        "/*".repeat(100_000),
        format!("WITH {} SELECT 1", (0..900).map(|n| format!("a{n} AS (SELECT 1)")).collect::<Vec<_>>().join(",")),
    ];
    for sql in &texts {
        let start = std::time::Instant::now();
        analyze(sql.as_bytes(), LexOptions::default(), &lists);
        let took = start.elapsed();
        assert!(took.as_millis() < 1500, "{took:?} for {}…", &sql[..60]);
    }
}
