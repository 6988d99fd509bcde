//! Trunkline's own log: tracing to standard error, as text or JSON, with a level that a reload may change.
//!
//! A thread of its own writes it. Whoever reads it may stop doing so (a pipe nobody empties): then lines are lost, and counted, and
//! nobody else waits.

mod one_line;

use std::io::IsTerminal as _;
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

use super::{Metrics, beat};
use crate::config::{LogFormat, LogSettings};

/// Most lines that wait to be written. Names that strangers give themselves have some KiB at most.
const MOST_LINES: usize = 4096;

/// How long the program's end waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Why the log could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is no tracing filter.
    #[error(
        "log level {level:?} is neither error, warn, info, debug, trace nor a filter such as \"info,trunkline::pool=debug\": {source}"
    )]
    Level {
        /// What was asked for.
        level: String,
        /// Why it is none.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else in this process logs already.
    #[error("the log is already set up")]
    AlreadySet,
    /// The log has ended.
    #[error("the log has ended")]
    Gone,
}

/// Changes the level of the running log.
#[derive(Debug, Clone)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl LogHandle {
    /// Takes the level of changed settings. The format stays as it was at the start.
    ///
    /// # Errors
    /// The level is no filter; the old one stays.
    pub fn reconfigure(&self, settings: &LogSettings) -> Result<(), LogError> {
        let filter = parse_level(&settings.level)?;
        self.filter.reload(filter).map_err(|_| LogError::Gone)
    }
}

/// The log of the whole process. What was logged before it is dropped is written by then.
#[derive(Debug)]
pub struct Log {
    /// Changes its level.
    pub handle: LogHandle,
    lost: ErrorCounter,
    writer: Option<WorkerGuard>,
}

/// Sets up the log of the whole process, on standard error. To be called once.
///
/// # Errors
/// The level is no filter, or a log is set up already.
pub fn init(settings: &LogSettings) -> Result<Log, LogError> {
    let colour = settings.format == LogFormat::Text && std::io::stderr().is_terminal();
    let queue = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(MOST_LINES).thread_name("log");
    let (lines, writer) = queue.finish(std::io::stderr());
    let lost = lines.error_counter();
    let (subscriber, handle) = build(settings, lines, colour)?;
    subscriber.try_init().map_err(|_| LogError::AlreadySet)?;
    Ok(Log { handle, lost, writer: Some(writer) })
}

impl Log {
    /// Counts lines that are lost, and says so in the log, for as long as the program runs.
    pub fn watch(&self, metrics: Metrics) -> impl Future<Output = ()> + Send + use<> {
        let lost = self.lost.clone();
        async move {
            let mut tick = beat::every(Duration::from_secs(1));
            let mut told = 0;
            loop {
                tick.tick().await;
                let count = lost.dropped_lines();
                if count > told {
                    metrics.set_log_lines_lost(count);
                    tracing::warn!(lines = count - told, "lines of this log were lost: whoever reads it is too slow");
                    told = count;
                }
            }
        }
    }
}

impl Drop for Log {
    /// Lets the writer finish, unless its reader has stopped: then the end of the program is not to wait for it.
    fn drop(&mut self) {
        let (writer, (tell, told)) = (self.writer.take(), std::sync::mpsc::channel());
        let finish = std::thread::Builder::new().name("log-end".to_owned()).spawn(move || {
            drop(writer);
            let _ = tell.send(());
        });
        if finish.is_ok() {
            let _ = told.recv_timeout(LAST_LINES);
        }
    }
}

fn build<W>(
    settings: &LogSettings,
    writer: W,
    colour: bool,
) -> Result<(impl tracing::Subscriber + Send + Sync + use<W>, LogHandle), LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(parse_level(&settings.level)?);
    let layer = fmt::layer().with_ansi(colour);
    let layer = match settings.format {
        LogFormat::Text => layer.with_writer(one_line::Lines { inner: writer, colour }).boxed(),
        // JSON has escapes of its own.
        LogFormat::Json => {
            layer.with_writer(writer).json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(layer);
    Ok((subscriber, LogHandle { filter: handle }))
}

fn parse_level(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(level).map_err(|source| LogError::Level { level: level.into(), source })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    fn settings(format: LogFormat, level: &str) -> LogSettings {
        LogSettings { format, level: level.into() }
    }

    #[test]
    fn a_reload_changes_the_level_and_a_bad_level_changes_nothing() {
        let out = Buffer::default();
        let (subscriber, handle) = {
            let out = out.clone();
            build(&settings(LogFormat::Text, "warn"), move || out.clone(), false).unwrap()
        };
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("first");
            handle.reconfigure(&settings(LogFormat::Text, "info")).unwrap();
            tracing::info!("second");
            let error = handle.reconfigure(&settings(LogFormat::Text, "trunkline=loud")).unwrap_err();
            assert!(error.to_string().starts_with("log level \"trunkline=loud\""), "{error}");
            tracing::info!("third");
        });
        let text = out.text();
        assert!(!text.contains("first") && text.contains("second") && text.contains("third"), "{text}");
    }

    #[test]
    fn json_is_one_flat_object_per_line() {
        let out = Buffer::default();
        let (subscriber, _handle) = {
            let out = out.clone();
            build(&settings(LogFormat::Json, "info"), move || out.clone(), false).unwrap()
        };
        tracing::subscriber::with_default(subscriber, || tracing::info!(clients = 3, "a\nb"));
        let text = out.text();
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "a\nb");
        assert_eq!(line["clients"], 3);
        assert_eq!(line["level"], "INFO");
    }
}
