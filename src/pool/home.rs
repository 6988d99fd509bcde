//! Worker runtimes by number, so that a connection can be opened on one of them from anywhere.

use std::cell::Cell;
use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;

static HOMES: OnceLock<Vec<Handle>> = OnceLock::new();
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(usize::MAX) };
    static TURN: Cell<u64> = const { Cell::new(0) };
}

/// Tells the worker runtimes, once, before any pool is used. Later calls change nothing.
pub fn set_all(handles: Vec<Handle>) {
    let _ = HOMES.set(handles);
}

/// Tells that this thread is worker `number`.
pub fn set_current(number: usize) {
    CURRENT.set(number);
}

/// This thread's number; a thread that is no worker has a number that no connection has.
pub fn current() -> usize {
    CURRENT.get()
}

/// This thread's runtime has just been told what came in on its connections.
pub fn turned() {
    TURN.set(TURN.get() + 1);
}

/// How often it has been told.
pub fn turn() -> u64 {
    TURN.get()
}

/// Runs a task on this thread's runtime if it is a worker, else on the workers in turn.
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    let homes = HOMES.get().map_or(&[][..], Vec::as_slice);
    let number =
        if current() < homes.len() { current() } else { NEXT.fetch_add(1, Ordering::Relaxed) % homes.len().max(1) };
    match homes.get(number) {
        Some(handle) => drop(handle.spawn(task)),
        None => drop(tokio::spawn(task)),
    }
}
