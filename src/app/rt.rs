//! Threads and runtimes: the only file that knows how many there are and how sockets are dealt to them.
//!
//! N worker threads, each with a current-thread tokio runtime; a session stays on the one that it was dealt to. The thread that starts
//! them runs the control plane: accepting, health checks, housekeeping, signals, HTTP. A worker that is the only one accepts by itself,
//! so that a login wakes no other thread; where there are several, none of them is needed for a client to reach another one.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task;

use crate::net::{batch, low_water};
use crate::pool::home;

/// Shortest time over which it is measured how busy the workers are.
const MEASURED_OVER: Duration = Duration::from_millis(100);
/// A worker that is busy for so much more of its time than another one gets no session that the other could have.
const MUCH_BUSIER: f64 = 0.25;
/// So many sessions more than another worker, and a quarter, one may have because it is less busy: idle sessions may all wake at once.
const MORE_SESSIONS: usize = 16;

/// The worker threads.
pub struct Workers {
    workers: Vec<Worker>,
    busy: Mutex<Busy>,
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
                low_water::start();
                // The sender is dropped at the latest when the program ends.
                let _ = runtime.block_on(stopped);
            })?;
            workers.push(Worker { handle, sessions: Arc::default(), stop: Some(stop), thread: Some(thread) });
        }
        home::set_all(workers.iter().map(|worker| worker.handle.clone()).collect());
        let busy = Busy {
            since: Instant::now(),
            totals: vec![Duration::ZERO; workers.len()],
            shares: vec![0.0; workers.len()],
        };
        Ok(Self { workers, busy: Mutex::new(busy) })
    }

    /// Runs what accepts clients and deals them. To be called on the control plane.
    pub fn at_the_door(&self, accepting: impl Future<Output = ()> + Send + 'static) -> task::JoinHandle<()> {
        match &*self.workers {
            [only] => only.handle.spawn(accepting),
            _ => task::spawn(accepting),
        }
    }

    /// Runs a session on the worker with the fewest of those that are not much busier than others: most sessions are idle most of
    /// the time, and those that are not stay where they are.
    pub fn deal(&self, session: impl Future<Output = ()> + Send + 'static) {
        let Some(worker) = choose(&self.loads()).and_then(|number| self.workers.get(number)) else { return };
        let counted = Counted::new(worker.sessions.clone());
        worker.handle.spawn(async move {
            session.await;
            drop(counted);
        });
    }

    fn loads(&self) -> Vec<Load> {
        let mut busy = self.busy.lock();
        busy.measure(Instant::now(), || {
            // The runtime counts this anyway, as often as it looks for events.
            self.workers.iter().map(|worker| worker.handle.metrics().worker_total_busy_duration(0)).collect()
        });
        let loads = self.workers.iter().zip(&busy.shares);
        loads.map(|(worker, busy)| Load { sessions: worker.sessions.load(Ordering::Relaxed), busy: *busy }).collect()
    }
}

/// How much of their time workers have been busy of late.
#[derive(Debug)]
struct Busy {
    since: Instant,
    /// Of each worker, until then.
    totals: Vec<Duration>,
    /// Of each worker, in the time before that: 0 to 1.
    shares: Vec<f64>,
}

impl Busy {
    /// Looks at the workers' totals again, if that is not too soon.
    fn measure(&mut self, now: Instant, totals: impl FnOnce() -> Vec<Duration>) {
        let passed = now.duration_since(self.since);
        if passed < MEASURED_OVER {
            return;
        }
        let totals = totals();
        let used = totals.iter().zip(&self.totals).map(|(now, before)| now.saturating_sub(*before));
        self.shares = used.map(|used| used.div_duration_f64(passed).min(1.0)).collect();
        self.totals = totals;
        self.since = now;
    }
}

/// What a worker has to do.
#[derive(Debug, Clone, Copy)]
struct Load {
    sessions: usize,
    /// For how much of its time it is busy: 0 to 1.
    busy: f64,
}

/// The worker that gets the next session.
fn choose(loads: &[Load]) -> Option<usize> {
    let fewest = loads.iter().map(|load| load.sessions).min()?;
    let most = fewest + fewest / 4 + MORE_SESSIONS;
    let may = || loads.iter().enumerate().filter(|(_, load)| load.sessions <= most);
    let least_busy = may().map(|(_, load)| load.busy).fold(f64::INFINITY, f64::min);
    let fit = may().filter(|(_, load)| load.busy <= least_busy + MUCH_BUSIER);
    fit.min_by_key(|(_, load)| load.sessions).map(|(number, _)| number)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(loads: &[(usize, f64)]) -> Option<usize> {
        let loads: Vec<_> = loads.iter().map(|&(sessions, busy)| Load { sessions, busy }).collect();
        choose(&loads)
    }

    #[test]
    fn the_fewest_sessions_of_workers_that_are_about_as_busy() {
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&[(3, 0.0), (2, 0.0), (2, 0.0)]), Some(1));
        assert_eq!(chosen(&[(3, 0.5), (2, 0.7)]), Some(1));
        assert_eq!(chosen(&[(3, 1.0), (2, 1.0)]), Some(1));
    }

    #[test]
    fn a_worker_that_is_much_busier_gets_none() {
        assert_eq!(chosen(&[(2, 0.9), (10, 0.1)]), Some(1));
        assert_eq!(chosen(&[(2, 0.9), (10, 0.1), (9, 0.3)]), Some(2));
    }

    #[test]
    fn idle_sessions_do_not_pile_up_where_nothing_happens() {
        assert_eq!(chosen(&[(2, 0.9), (18, 0.0)]), Some(1));
        assert_eq!(chosen(&[(2, 0.9), (19, 0.0)]), Some(0));
        assert_eq!(chosen(&[(1000, 0.9), (1266, 0.0)]), Some(1));
        assert_eq!(chosen(&[(1000, 0.9), (1267, 0.0)]), Some(0));
    }

    #[test]
    fn shares_are_of_the_time_since_the_last_look() {
        let ms = Duration::from_millis;
        let start = Instant::now();
        let mut busy = Busy { since: start, totals: vec![ms(10), ms(0)], shares: vec![0.0, 0.0] };
        busy.measure(start + ms(99), || unreachable!());
        busy.measure(start + ms(200), || vec![ms(110), ms(500)]);
        assert_eq!(busy.shares, [0.5, 1.0]);
        busy.measure(start + ms(400), || vec![ms(110), ms(550)]);
        assert_eq!(busy.shares, [0.0, 0.25]);
    }

    #[test]
    fn sessions_avoid_a_thread_that_works() {
        let workers = Workers::start(2, true).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let name = || std::thread::current().name().map(str::to_owned);
        let (ends, end) = oneshot::channel::<()>();
        // One that works, and one that does nothing.
        workers.deal(async move {
            while !ends.is_closed() {
                tokio::task::yield_now().await;
            }
        });
        workers.deal(std::future::pending());
        // By the number of sessions the first one would have each that follows. How soon it is seen to be busy is up to the machine.
        let avoided = (0..100).any(|_| {
            std::thread::sleep(2 * MEASURED_OVER);
            let tell = tell.clone();
            workers.deal(async move {
                let _ = tell.send(name());
            });
            told.recv().unwrap().as_deref() == Some("worker-1")
        });
        assert!(avoided);
        drop(end);
    }
}
