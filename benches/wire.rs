//! The wire room by itself: walking frames, reading what clients send first, and making messages.

use std::hint::black_box;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use trunkline::wire::frame::{backend_limit, frontend_limit};
use trunkline::wire::{ErrorNotice, FrameWalker, SqlState, Step, TxStatus, build, frontend, startup};

/// What a server answers to a statement that returns this many rows of this many bytes.
fn answer(rows: usize, row_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let value = "x".repeat(row_bytes);
    build::text_columns(&mut out, &["abalance"]);
    for _ in 0..rows {
        build::text_row(&mut out, &[&value]);
    }
    build::command_complete(&mut out, &format!("SELECT {rows}"));
    build::ready_for_query(&mut out, TxStatus::Idle);
    out
}

/// Bind, Execute and Sync of a prepared statement with one parameter, as drivers send them.
fn execution() -> Vec<u8> {
    let mut out = Vec::new();
    build::message(&mut out, b'B', |body| body.extend_from_slice(b"\0P_0\0\0\0\0\x01\0\0\0\x044711\0\0"));
    build::message(&mut out, b'E', |body| body.extend_from_slice(b"\0\0\0\0\0"));
    build::sync(&mut out);
    out
}

/// Length limits by message type.
type Limit = fn(u8) -> u32;

fn walk(bytes: &[u8], limit: Limit) -> usize {
    let mut walker = FrameWalker::new(bytes);
    let mut frames = 0;
    while let Ok(Step::Whole(frame)) = walker.step(limit) {
        frames += usize::from(frame.tag);
    }
    frames
}

fn walking(c: &mut Criterion) {
    let streams: [(&str, Vec<u8>, Limit); 5] = [
        ("one_row", answer(1, 3), backend_limit),
        ("64k_of_small_rows", answer(4000, 4), backend_limit),
        ("64k_of_large_rows", answer(60, 1000), backend_limit),
        ("bind_execute_sync", execution(), frontend_limit),
        ("pipeline_of_100", execution().repeat(100), frontend_limit),
    ];
    let mut group = c.benchmark_group("walk");
    for (name, bytes, limit) in &streams {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(*name, |b| b.iter(|| walk(black_box(bytes), *limit)));
    }
    group.finish();
}

fn reading(c: &mut Criterion) {
    let parameters = [
        ("user", "app"),
        ("database", "app"),
        ("application_name", "a service with a long name"),
        ("client_encoding", "UTF8"),
        ("options", "-c statement_timeout=5000 -c search_path=app,public"),
    ];
    let mut opening = Vec::new();
    build::startup(&mut opening, 3 << 16, &parameters);
    let mut parse = Vec::new();
    build::parse(&mut parse, b"P_0", b"SELECT abalance FROM pgbench_accounts WHERE aid = $1", &[0, 1, 0, 0, 0, 23]);
    let execution = execution();
    let mut group = c.benchmark_group("read");
    group.bench_function("startup", |b| b.iter(|| startup::parse(black_box(&opening))));
    group.bench_function("startup_options", |b| b.iter(|| startup::parse_options(black_box(parameters[4].1))));
    group.bench_function("parse", |b| b.iter(|| frontend::parse(black_box(&parse[5..]))));
    group.bench_function("bind_head", |b| b.iter(|| frontend::bind_head(black_box(&execution[5..]))));
    group.finish();
}

fn making(c: &mut Criterion) {
    fn bench(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, make: impl Fn(&mut Vec<u8>)) {
        // As in a session: the buffer is there already.
        let mut out = Vec::with_capacity(4096);
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                make(&mut out);
                black_box(&out).len()
            });
        });
    }
    let mut group = c.benchmark_group("build");
    bench(&mut group, "ready_for_query", |out| build::ready_for_query(out, TxStatus::Idle));
    bench(&mut group, "parameter_status", |out| build::parameter_status(out, b"TimeZone", b"Europe/Vienna"));
    bench(&mut group, "parse", |out| {
        build::parse(out, b"trunkline_17", b"SELECT abalance FROM pgbench_accounts WHERE aid = $1", &[0, 0]);
    });
    bench(&mut group, "query", |out| build::query(out, b"SET application_name = 'app'"));
    let notice = ErrorNotice::error(SqlState::QUERY_CANCELED, "no server connection became free in time")
        .hint("More server connections, or fewer clients, would help.");
    bench(&mut group, "error", |out| notice.encode(out));
    group.finish();
}

criterion_group!(benches, walking, reading, making);
criterion_main!(benches);
