//! The decision cache: a text seen before, a statement seen before with other literals, and one never seen.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use trunkline::route::DecisionCache;
use trunkline::sql::{Knowledge, LexOptions};

fn route(c: &mut Criterion) {
    let opts = LexOptions::default();
    let cache = DecisionCache::new(Knowledge::default());
    let short = b"SELECT abalance FROM pgbench_accounts WHERE aid = 4711;";
    let long = format!("SELECT {} FROM t WHERE id = $1", vec!["some_column_name"; 100].join(", "));
    c.bench_function("text_hit/short", |b| b.iter(|| cache.decide(black_box(short), opts)));
    c.bench_function("text_hit/long", |b| b.iter(|| cache.decide(black_box(long.as_bytes()), opts)));
    let mut id = 0u64;
    c.bench_function("fingerprint_hit/short", |b| {
        b.iter_batched(
            || {
                id += 1;
                format!("SELECT abalance FROM pgbench_accounts WHERE aid = {id};")
            },
            |sql| cache.decide(black_box(sql.as_bytes()), opts),
            BatchSize::SmallInput,
        );
    });
    c.bench_function("miss/short", |b| {
        b.iter_batched(
            || {
                id += 1;
                format!("SELECT c{id} FROM pgbench_accounts WHERE aid = 1;")
            },
            |sql| cache.decide(black_box(sql.as_bytes()), opts),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, route);
criterion_main!(benches);
