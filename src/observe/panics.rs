//! Panics: each is a bug of Trunkline's. It is counted, and logged under an id that the client is told, too.

use std::cell::Cell;
use std::fmt;

use super::Metrics;
use crate::wire::{ErrorNotice, SqlState};

thread_local! {
    static LAST: Cell<Option<PanicId>> = const { Cell::new(None) };
}

/// Names one panic, in the log and to the client whose session it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PanicId(u64);

impl fmt::Display for PanicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// From now on every panic of the process is counted and logged: where, what it said, and the way there.
pub fn report_to(metrics: Metrics) {
    std::panic::set_hook(Box::new(move |panic| {
        metrics.panicked();
        let id = PanicId(fastrand::u64(..));
        // Fails only while the thread ends: nobody asks for it then.
        let _ = LAST.try_with(|last| last.set(Some(id)));
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        let backtrace = std::backtrace::Backtrace::force_capture();
        tracing::error!(%id, place, message, %backtrace, "panic: this is a bug of Trunkline's");
    }));
}

/// The last word to the client whose work ended with the panic that was just caught on this thread: XX000 and the number that
/// stands in the log, too.
pub fn last_word() -> ErrorNotice {
    let id = LAST.take().map_or_else(|| "unknown".to_owned(), |id| id.to_string());
    ErrorNotice::fatal(SqlState::INTERNAL_ERROR, format!("internal error of the proxy, number {id}"))
        .hint("The proxy's log has more under this number. Connect again.")
}
