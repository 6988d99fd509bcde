//! The sql room by itself: lexing, fingerprinting and judging statements of the ordinary kinds.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use trunkline::sql::{Knowledge, LexOptions, Lexer, decide, fingerprint, normalize};

/// Statements from short to long.
fn statements() -> Vec<(&'static str, String)> {
    let columns = (0..60).map(|n| format!("\"t0\".\"column_{n}\" AS \"t0_c{n}\"")).collect::<Vec<_>>().join(", ");
    vec![
        ("begin", "BEGIN".to_owned()),
        ("pgbench", "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;".to_owned()),
        ("update", "UPDATE pgbench_accounts SET abalance = abalance + -42 WHERE aid = 4711;".to_owned()),
        ("orm", format!("SELECT {columns} FROM \"users\" AS \"t0\" LEFT JOIN \"posts\" AS \"t1\" ON \"t1\".\"user_id\" = \"t0\".\"id\" WHERE \"t0\".\"email\" = $1 AND \"t0\".\"deleted_at\" IS NULL ORDER BY \"t0\".\"id\" LIMIT $2")),
        ("report", "WITH m AS (SELECT date_trunc('month', at) AS month, sum(total) AS total FROM orders WHERE at >= now() - interval '1 year' GROUP BY 1) SELECT month, total, lag(total) OVER (ORDER BY month) AS before, CASE WHEN total > 1000 THEN 'high' ELSE 'low' END FROM m ORDER BY month".to_owned()),
        ("in_list", format!("SELECT * FROM t WHERE id IN ({})", (0..500).map(|n| n.to_string()).collect::<Vec<_>>().join(", "))),
        ("insert_rows", format!("INSERT INTO t (a, b) VALUES {}", vec!["(1, 'some text')"; 200].join(", "))),
    ]
}

fn sql(c: &mut Criterion) {
    let (opts, lists) = (LexOptions::default(), Knowledge::default());
    for (name, sql) in statements() {
        let bytes = sql.as_bytes();
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("lex", |b| {
            b.iter(|| {
                let mut lexer = Lexer::new(black_box(bytes), opts);
                let mut count = 0usize;
                while lexer.next_token().is_some() {
                    count += 1;
                }
                count
            });
        });
        group.bench_function("fingerprint", |b| b.iter(|| fingerprint(black_box(bytes), opts)));
        group.bench_function("normalize", |b| b.iter(|| normalize(black_box(bytes), opts)));
        group.bench_function("decide", |b| b.iter(|| decide(black_box(bytes), opts, &lists)));
        group.finish();
    }
}

criterion_group!(benches, sql);
criterion_main!(benches);
