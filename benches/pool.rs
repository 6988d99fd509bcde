//! The pool room: a check-out and check-in of an idle connection, alone and with other threads at it, and the
//! hand-over of a connection to a client that waits for it. On connections to a real server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use criterion::{Criterion, criterion_group, criterion_main};
use quanta::Instant;
use tokio::runtime::{Builder, Runtime};
use trunkline::auth::{AuthContext, ServerCredential, ServerLogin};
use trunkline::config::{Config, Environment, Loaded, Secret, UrlArgs};
use trunkline::observe::Metrics;
use trunkline::pool::{Lease, Pool, WaiterSlot};
use trunkline::topology::Directory;

use support::clusters::{self, APP, APP_PASSWORD, TestDb};

/// A pool of this size on the primary, with all its connections open.
fn pool(db: &TestDb, runtime: &Runtime, size: u32) -> Arc<Pool> {
    let urls =
        UrlArgs { database_url: db.url(db.cluster().primary_port()), pool_size: Some(size), ..UrlArgs::default() };
    let Loaded { config, .. } = Config::from_urls(&urls, &Environment::default()).unwrap();
    let metrics = Metrics::new();
    let auth = Arc::new(AuthContext::new().unwrap());
    let _entered = runtime.enter();
    let directory = Directory::new(&config, runtime.handle().clone(), metrics.clone(), auth.clone()).unwrap();
    let cluster = directory.cluster(&db.name).unwrap();
    let login = ServerLogin { user: APP.into(), credential: ServerCredential::Plain(Secret::new(APP_PASSWORD)) };
    let pools = cluster.user_pools(&config, &db.name, APP, login, &auth, &metrics);
    let pool = pools.pools[0].clone();
    let opened: Vec<Lease> = (0..size).map(|_| runtime.block_on(pool.check_out(&Arc::default())).unwrap()).collect();
    opened.into_iter().for_each(Lease::check_in);
    pool
}

fn benches(c: &mut Criterion) {
    let cluster = clusters::own();
    let db = TestDb::new(cluster.info());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();

    let one = pool(&db, &runtime, 1);
    c.bench_function("check_out_check_in", |b| b.iter(|| one.try_check_out(Instant::now()).unwrap().check_in()));

    let shared = pool(&db, &runtime, 8);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if let Some(lease) = shared.try_check_out(Instant::now()) {
                    lease.check_in();
                }
            }
        });
        c.bench_function("check_out_check_in_contended", |b| {
            b.iter(|| shared.try_check_out(Instant::now()).unwrap().check_in())
        });
        stop.store(true, Ordering::Relaxed);
    });

    // Joining the line, the hand-over, and taking what was handed over; with the time-out that a default pool has.
    let slot = Arc::<WaiterSlot>::default();
    let mut held = Some(one.try_check_out(Instant::now()).unwrap());
    let mut cx = Context::from_waker(Waker::noop());
    c.bench_function("hand_over_to_waiter", |b| {
        b.iter(|| {
            let mut waiting = pin!(one.check_out(&slot));
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
            held.take().unwrap().check_in();
            match waiting.as_mut().poll(&mut cx) {
                Poll::Ready(lease) => held = Some(lease.unwrap()),
                Poll::Pending => panic!("the connection went elsewhere"),
            }
        });
    });
}

criterion_group!(pool_benches, benches);
criterion_main!(pool_benches);
