//! The thread that renders and writes the lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, TryRecvError};

use super::SlowLogCounters;
use super::line::{self, LineOptions};
use super::record::StatementRecord;
use super::sink::Sink;

/// Lines are written when so many bytes of them are at hand, or the queue is empty.
const BATCH: usize = 64 * 1024;

/// What the writer is told.
#[derive(Debug)]
pub enum Message {
    /// A statement.
    Record(Box<StatementRecord>),
    /// Something else.
    Control(Control),
}

/// A change for the writer, in its order among the records.
#[derive(Debug)]
pub enum Control {
    /// Open the file anew.
    Reopen,
    /// New settings.
    Settings(Sink, LineOptions),
    /// Write what is queued and end.
    Stop,
}

/// Owns the destination.
#[derive(Debug)]
pub struct Writer {
    sink: Sink,
    options: LineOptions,
    receiver: Receiver<Message>,
    depth: Arc<AtomicUsize>,
    counters: Arc<SlowLogCounters>,
    batch: Vec<u8>,
    lines: u64,
    failing: bool,
}

impl Writer {
    /// A writer that takes messages from `receiver` and counts `depth` down by each record that it took.
    pub fn new(
        sink: Sink,
        options: LineOptions,
        receiver: Receiver<Message>,
        depth: Arc<AtomicUsize>,
        counters: Arc<SlowLogCounters>,
    ) -> Self {
        Self { sink, options, receiver, depth, counters, batch: Vec::new(), lines: 0, failing: false }
    }

    /// Writes until it is told to stop or every sender is gone.
    pub fn run(mut self) {
        loop {
            let message = match self.receiver.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Empty) => {
                    self.flush();
                    match self.receiver.recv() {
                        Ok(message) => message,
                        Err(_) => return,
                    }
                }
                Err(TryRecvError::Disconnected) => {
                    self.flush();
                    return;
                }
            };
            match message {
                Message::Record(record) => {
                    self.depth.fetch_sub(1, Relaxed);
                    line::render(&mut self.batch, &record, self.options);
                    self.lines += 1;
                    if self.batch.len() >= BATCH {
                        self.flush();
                    }
                }
                Message::Control(Control::Reopen) => {
                    self.flush();
                    self.reopen();
                }
                Message::Control(Control::Settings(sink, options)) => {
                    self.flush();
                    (self.sink, self.options, self.failing) = (sink, options, false);
                }
                Message::Control(Control::Stop) => {
                    self.flush();
                    return;
                }
            }
        }
    }

    fn reopen(&mut self) {
        match self.sink.reopen() {
            Ok(sink) => (self.sink, self.failing) = (sink, false),
            Err(error) => tracing::error!(%error, "the slow-query log goes on with the file that it had"),
        }
    }

    /// Writes the batch. A full disk loses its lines, which is counted, and is reported once.
    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        match self.sink.write(&self.batch) {
            Ok(()) => {
                self.counters.written.fetch_add(self.lines, Relaxed);
                self.failing = false;
            }
            Err(error) => {
                self.counters.write_errors.fetch_add(self.lines, Relaxed);
                if !self.failing {
                    tracing::error!(%error, "can't write the slow-query log; lines are lost until it works again");
                    self.failing = true;
                }
            }
        }
        self.batch.clear();
        self.batch.shrink_to(2 * BATCH);
        self.lines = 0;
    }
}
