//! `SHOW HELP`.

use std::fmt::Write as _;

use super::action::HELP;
use super::tables;
use crate::wire::{ErrorNotice, Severity, SqlState};

/// The hint of every error about a command.
pub const HINT: &str = "SHOW HELP lists the commands.";

/// The commands, as the NOTICE that PgBouncer sends.
pub fn notice() -> ErrorNotice {
    let mut detail = String::from("\n");
    for table in tables::ALL {
        let _ = writeln!(detail, "\tSHOW {:<27} {}", table.name.to_ascii_uppercase(), table.help);
    }
    detail.push_str("\tSHOW ROUTE '<sql>' [database]    where a statement would go, and why\n");
    for (command, help) in HELP {
        let _ = writeln!(detail, "\t{command:<32} {help}");
    }
    ErrorNotice { severity: Severity::Notice, ..ErrorNotice::error(SqlState::SUCCESS, "Console usage") }.detail(detail)
}
