//! Our errors and notices as pgwire's.

use pgwire::error::{ErrorInfo, PgWireError};

use crate::wire::{ErrorNotice, Severity};

/// An error for pgwire's handlers to return.
pub fn error(notice: ErrorNotice) -> PgWireError {
    PgWireError::UserError(Box::new(info(notice)))
}

/// All fields of an error or notice.
pub fn info(notice: ErrorNotice) -> ErrorInfo {
    let severity = match notice.severity {
        Severity::Fatal | Severity::Panic => "FATAL",
        Severity::Notice => "NOTICE",
        Severity::Warning => "WARNING",
        Severity::Error => "ERROR",
    };
    // A NUL would end the field early.
    let clean = |text: std::borrow::Cow<'static, str>| text.replace('\0', "");
    let mut info = ErrorInfo::new(severity.to_owned(), notice.code.as_str().to_owned(), clean(notice.message));
    info.severity_nonlocalized = Some(severity.to_owned());
    info.detail = notice.detail.map(clean);
    info.hint = notice.hint.map(clean);
    info
}
