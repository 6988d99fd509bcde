//! Threads and runtimes: the only file that knows how many there are and how sockets are dealt to them.
//!
//! N worker threads, each with a current-thread tokio runtime; a session stays on the one that it was dealt to. The thread
//! that starts them runs the control plane: accepting, health checks, housekeeping, signals, HTTP.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::net::batch;
use crate::pool::home;

/// The worker threads.
pub struct Workers {
    workers: Vec<Worker>,
}

struct Worker {
    handle: Handle,
    sessions: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` workers (at least one). `batch_sends` = their small writes go out together ([`batch`]).
    ///
    /// # Errors
    /// The system gives no thread or no event queue.
    pub fn start(count: usize, batch_sends: bool) -> io::Result<Self> {
        let mut workers = Vec::new();
        for number in 0..count.max(1) {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .on_thread_park(batch::end_of_turn)
                .on_thread_unpark(home::turned)
                .build()?;
            let handle = runtime.handle().clone();
            let (stop, stopped) = oneshot::channel::<()>();
            let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                home::set_current(number);
                if batch_sends && !batch::start() {
                    tracing::debug!(
                        worker = number,
                        "the kernel gives no ring for batches: small writes are sent one by one"
                    );
                }
                // The sender is dropped at the latest when the program ends.
                let _ = runtime.block_on(stopped);
            })?;
            workers.push(Worker { handle, sessions: Arc::default(), stop: Some(stop), thread: Some(thread) });
        }
        home::set_all(workers.iter().map(|worker| worker.handle.clone()).collect());
        Ok(Self { workers })
    }

    /// Runs a session on the worker that has the fewest.
    pub fn deal(&self, session: impl Future<Output = ()> + Send + 'static) {
        let Some(worker) = self.workers.iter().min_by_key(|worker| worker.sessions.load(Ordering::Relaxed)) else {
            return;
        };
        let counted = Counted::new(worker.sessions.clone());
        worker.handle.spawn(async move {
            session.await;
            drop(counted);
        });
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            drop(worker.stop.take());
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                // A worker that panicked has said so already.
                let _ = thread.join();
            }
        }
    }
}

/// Counts a session for as long as it lives, also when it panics.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs the control plane on this thread until it ends.
///
/// # Errors
/// The system gives no event queue.
pub fn control<T>(main: impl Future<Output = T>) -> io::Result<T> {
    Ok(Builder::new_current_thread().enable_all().build()?.block_on(main))
}
