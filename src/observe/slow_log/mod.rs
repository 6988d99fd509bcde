//! The slow-query log: one line for each statement that took longer than its threshold.
//!
//! It is never on a query's way. A session that sees a slow statement calls [`SlowLog::log`], which checks the rate of
//! the fingerprint, copies what the line needs and puts it on a bounded queue, or counts a drop. A thread of its own
//! removes literals, renders and writes.

mod limit;
mod line;
mod parameter;
mod record;
mod sink;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use parking_lot::Mutex;

use super::metrics::{Metrics, SlowLogCounters};
use crate::config::SlowLogSettings;
use crate::sql::fingerprint;

pub use parameter::Parameter;
pub use record::{KEPT_TEXT, SlowStatement};

use limit::RateLimit;
use record::StatementRecord;
use sink::Sink;
use writer::{Control, Message, Writer};

/// Why the slow-query log could not be started or changed.
#[derive(Debug, thiserror::Error)]
pub enum SlowLogError {
    /// The file can't be opened for appending.
    #[error("can't open the slow-query log {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The writer's thread can't be started.
    #[error("can't start the thread of the slow-query log: {0}")]
    Thread(std::io::Error),
}

/// The slow-query log. Cheap to clone. When the last clone is dropped, what is queued is still written.
#[derive(Debug, Clone)]
pub struct SlowLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sender: Sender<Message>,
    /// Records that wait for the writer.
    depth: Arc<AtomicUsize>,
    capacity: AtomicUsize,
    parameters: AtomicBool,
    limit: RateLimit,
    counters: Arc<SlowLogCounters>,
    /// Says that the writer has ended.
    done: Mutex<Receiver<()>>,
}

impl SlowLog {
    /// Opens the file and starts the writer's thread. What is written and dropped is counted in `metrics`.
    ///
    /// # Errors
    /// The file can't be opened, or the thread can't be started.
    pub fn start(settings: &SlowLogSettings, metrics: &Metrics) -> Result<Self, SlowLogError> {
        let sink = Sink::open(settings.file.as_deref())?;
        let (sender, receiver) = mpsc::channel();
        let (finished, done) = mpsc::channel();
        let depth = Arc::new(AtomicUsize::new(0));
        let counters = metrics.slow_log();
        let writer = Writer::new(sink, settings.into(), receiver, depth.clone(), counters.clone());
        std::thread::Builder::new()
            .name("slow-log".into())
            .spawn(move || {
                writer.run();
                // nobody may be waiting
                let _ = finished.send(());
            })
            .map_err(SlowLogError::Thread)?;
        Ok(Self {
            shared: Arc::new(Shared {
                sender,
                depth,
                capacity: AtomicUsize::new(settings.queue),
                parameters: AtomicBool::new(settings.parameters),
                limit: RateLimit::new(settings.per_fingerprint_per_second),
                counters,
                done: Mutex::new(done),
            }),
        })
    }

    /// Logs a slow statement, unless its fingerprint has been logged often enough this second or the
    /// queue is full: then a drop is counted and nothing is copied. Never blocks.
    pub fn log(&self, statement: &SlowStatement<'_>) {
        let shared = &*self.shared;
        let fingerprint = fingerprint(record::kept(statement.sql), statement.lex);
        if !shared.limit.admit(fingerprint.0) {
            shared.counters.rate_limited.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // the place is taken before the copy is made, so that the queue never exceeds its capacity
        if shared.depth.fetch_add(1, Ordering::Relaxed) >= shared.capacity.load(Ordering::Relaxed) {
            shared.depth.fetch_sub(1, Ordering::Relaxed);
            shared.counters.queue_full.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let record = Box::new(StatementRecord::new(statement, fingerprint));
        if shared.sender.send(Message::Record(record)).is_err() {
            shared.depth.fetch_sub(1, Ordering::Relaxed);
            shared.counters.write_errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether lines hold parameters: else a session need not capture them.
    pub fn wants_parameters(&self) -> bool {
        self.shared.parameters.load(Ordering::Relaxed)
    }

    /// Opens the file anew, after it was renamed. When that fails, the writer goes on with the old one
    /// and says so in Trunkline's own log.
    pub fn reopen(&self) {
        self.control(Control::Reopen);
    }

    /// Prepares for changed settings. What is returned makes them hold for what is recorded from then on, and does not fail.
    ///
    /// # Errors
    /// The new file can't be opened.
    pub fn prepare(&self, settings: &SlowLogSettings) -> Result<impl FnOnce() + use<>, SlowLogError> {
        let sink = Sink::open(settings.file.as_deref())?;
        let (log, settings) = (self.clone(), settings.clone());
        Ok(move || {
            log.shared.capacity.store(settings.queue, Ordering::Relaxed);
            log.shared.parameters.store(settings.parameters, Ordering::Relaxed);
            log.shared.limit.set(settings.per_fingerprint_per_second);
            log.control(Control::Settings(sink, (&settings).into()));
        })
    }

    /// Writes what is queued and ends the writer; waits for that at most `limit`. Records that come
    /// later are counted as write errors.
    pub fn shutdown(&self, limit: Duration) {
        self.control(Control::Stop);
        // a time-out means that the disk hangs: there is nothing left to do about it
        let _ = self.shared.done.lock().recv_timeout(limit);
    }

    fn control(&self, control: Control) {
        // fails only when the writer has ended
        let _ = self.shared.sender.send(Message::Control(control));
    }
}
