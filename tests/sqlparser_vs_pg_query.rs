//! Our verdict against PostgreSQL's own grammar (`pg_query`), over a corpus, generated statements and mutations of
//! both: never a replica where the server's tree says that something is written, locked, created or unknown — and
//! not the primary for everything either.

#![allow(clippy::unwrap_used)]

#[path = "sqlparser_vs_pg_query/generate.rs"]
mod generate;
#[path = "sqlparser_vs_pg_query/oracle.rs"]
mod oracle;
#[path = "sqlparser_vs_pg_query/relations.rs"]
mod relations;
#[path = "routing_table/rows.rs"]
#[allow(dead_code)]
mod rows;
#[path = "routing_table/rows_of_sessions.rs"]
#[allow(dead_code)]
mod rows_of_sessions;

use oracle::{Tree, tree};
use trunkline::sql::{Decision, Effects, Knowledge, LexOptions, Target, analyze};

const CORPUS: &str = include_str!("sqlparser_vs_pg_query/corpus.sql");

/// Statements of the corpus: separated by lines that hold only `--`.
fn corpus() -> Vec<String> {
    let own = CORPUS.split("\n--\n").map(|sql| sql.trim().to_owned());
    let tables = [
        rows::READS,
        rows::WRITES,
        rows::TRAPS_1_TO_10,
        rows_of_sessions::TRAPS_11_TO_21,
        rows_of_sessions::TRANSACTIONS,
        rows_of_sessions::SESSION,
    ];
    own.chain(tables.into_iter().flatten().map(|row| row.3.to_owned())).filter(|sql| !sql.contains('\0')).collect()
}

fn decide(sql: &str) -> Decision {
    analyze(sql.as_bytes(), LexOptions::default(), &Knowledge::default()).decision
}

#[derive(Default)]
struct Tally {
    parsed: usize,
    reads: usize,
    offloaded: usize,
    lost: Vec<String>,
    unsafe_ones: Vec<String>,
    effects: Vec<String>,
}

impl Tally {
    fn compare(&mut self, sql: &str) {
        let Some(tree) = tree(sql) else { return };
        self.parsed += 1;
        let decision = decide(sql);
        if decision.target != Target::Primary && !tree.allows(decision.target) {
            self.unsafe_ones.push(format!("{:?} because {}: {sql}", decision.target, tree.why()));
        }
        self.compare_effects(sql, &tree, decision);
        if tree.is_plain_read() {
            self.reads += 1;
            if decision.target == Target::Replica {
                self.offloaded += 1;
            } else {
                self.lost.push(format!("{} {sql}", decision.reason.as_str()));
            }
        }
    }

    fn compare_effects(&mut self, sql: &str, tree: &Tree, decision: Decision) {
        let effects = decision.effects;
        let pairs = [
            ("begin", tree.begins, effects.contains(Effects::BEGIN)),
            ("end", tree.ends, effects.contains(Effects::TX_END)),
            ("savepoint", tree.savepoints, effects.contains(Effects::SAVEPOINT)),
            ("several", tree.statements > 1, effects.contains(Effects::MULTI)),
            ("listen", tree.listens, effects.contains(Effects::LISTEN)),
            ("prepare", tree.prepares, effects.contains(Effects::SQL_PREPARE)),
            ("execute", tree.executes, effects.contains(Effects::SQL_EXECUTE)),
            ("hold", tree.holds, effects.contains(Effects::HOLD_CURSOR)),
            ("temporary", tree.temporary, effects.contains(Effects::TEMP_OBJECT)),
        ];
        for (what, theirs, ours) in pairs {
            // `INTO temp` may be a table of that name: to take it for a temporary one costs a pin.
            let harmless = what == "temporary" && ours;
            if theirs != ours && !harmless && decision.reason.as_str() != "unparsed" {
                self.effects.push(format!("{what}: the server {theirs}, we {ours}: {sql}"));
            }
        }
    }

    #[track_caller]
    fn assert(&self, name: &str, least_parsed: usize, least_offloaded: f64) {
        let share = self.offloaded as f64 / self.reads.max(1) as f64;
        let summary = format!(
            "{name}: {} parsed by PostgreSQL's grammar, {} reads, {} of them on a replica ({:.1} %)",
            self.parsed,
            self.reads,
            self.offloaded,
            share * 100.0
        );
        eprintln!("{summary}");
        // The shortest tell most.
        let mut lost: Vec<String> =
            self.lost.iter().map(|sql| sql.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        lost.sort_by_key(String::len);
        lost.dedup();
        for lost in lost.iter().take(25) {
            eprintln!("  lost: {lost}");
        }
        let list = |items: &[String]| items.iter().take(30).cloned().collect::<Vec<_>>().join("\n");
        assert!(self.unsafe_ones.is_empty(), "{} unsafe:\n{}", self.unsafe_ones.len(), list(&self.unsafe_ones));
        assert!(self.effects.is_empty(), "{} effects:\n{}", self.effects.len(), list(&self.effects));
        assert!(self.parsed >= least_parsed, "{summary}");
        assert!(share >= least_offloaded, "{summary}:\n{}", list(&self.lost));
    }
}

#[test]
fn corpus_agrees() {
    let mut tally = Tally::default();
    for sql in corpus() {
        tally.compare(&sql);
    }
    tally.assert("corpus", 800, 0.90);
}

#[test]
fn generated_statements_agree() {
    let mut tally = Tally::default();
    let mut generator = generate::Generator::new(0x7472_756e);
    for _ in 0..6000 {
        tally.compare(&generator.text());
    }
    tally.assert("generated", 3500, 0.93);
}

#[test]
fn mutated_statements_agree() {
    let corpus = corpus();
    let mut tally = Tally::default();
    let mut mutator = generate::Mutator::new(0x6c69_6e65, &corpus);
    for _ in 0..30_000 {
        tally.compare(&mutator.text());
    }
    tally.assert("mutated", 3000, 0.8);
}

/// Every place of the grammar in which a query or a call can stand, one a line: `{e}` an expression, `{q}` a query in parentheses, `{p}` an
/// expression of a few forms only.
const POSITIONS: &str = include_str!("sqlparser_vs_pg_query/positions.txt");

fn positions() -> Vec<String> {
    let fills = [
        ("(SELECT a FROM zz5)", "(SELECT a FROM zz6 WHERE b = 1)", "(SELECT 7 FROM zz7)"),
        ("uf(1)", "(SELECT uf(1) FROM zz6)", "(uf(7))"),
        ("(zz5.a + s.uf(zz5.a))", "(SELECT s.\"uf\"(1))", "(1 + uf(7))"),
        ("(SELECT max(b[(SELECT c FROM zz8)]) FROM zz5)", "(TABLE zz6)", "(SELECT uf(7))"),
        ("1", "(WITH q AS (SELECT * FROM zz6) SELECT a FROM q, LATERAL uf(q.b))", "7"),
    ];
    let all = POSITIONS.lines().filter(|line| !line.is_empty());
    let all = all.flat_map(|line| fills.map(|(e, q, p)| line.replace("{e}", e).replace("{q}", q).replace("{p}", p)));
    all.collect()
}

#[test]
fn no_table_and_no_function_is_passed_over() {
    let mut passed: Vec<String> = positions().iter().filter_map(|sql| relations::passed_over(sql)).collect();
    passed.extend(corpus().iter().filter_map(|sql| relations::passed_over(sql)));
    let mut generator = generate::Generator::new(0x7461_626c);
    passed.extend((0..6000).filter_map(|_| relations::passed_over(&generator.text())));
    let corpus: Vec<String> = positions().into_iter().chain(corpus()).collect();
    let mut mutator = generate::Mutator::new(0x7265_6164, &corpus);
    passed.extend((0..30_000).filter_map(|_| relations::passed_over(&mutator.text())));
    passed.sort_by_key(String::len);
    passed.dedup();
    assert!(passed.is_empty(), "{} of them:\n{}", passed.len(), passed[..passed.len().min(60)].join("\n"));
}

#[test]
fn the_oracle_sees_what_it_should() {
    for sql in [
        "WITH a AS (DELETE FROM t RETURNING 1) SELECT 1",
        "SELECT 1 INTO x",
        "SELECT * FROM t FOR KEY SHARE",
        "SELECT (SELECT f())",
        "SELECT sum(a) OVER (ORDER BY nextval('s')) FROM t",
        "COPY (INSERT INTO t VALUES (1) RETURNING 1) TO STDOUT",
        "SELECT 1; DELETE FROM t",
        "EXPLAIN ANALYZE DELETE FROM t",
        "SELECT * FROM pg_stat_activity",
        "BEGIN",
    ] {
        assert!(!tree(sql).unwrap().allows(Target::Replica), "{sql}");
    }
    for sql in ["SELECT 1", "BEGIN READ ONLY; SELECT 1; COMMIT", "COPY t TO STDOUT", "EXPLAIN ANALYZE SELECT 1"] {
        assert!(tree(sql).unwrap().allows(Target::Replica), "{sql}");
    }
}
