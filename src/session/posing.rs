//! Names by which Citus knows its own connections: whoever calls itself so (`application_name`, at the start or later) sees shards as tables,
//! and distributed tables are refused to it. Nodes of Citus that come by a pooler need a connection to themselves, so only in
//! session pooling is anybody called so.

use memchr::memmem;

use crate::sql::{Change, Effects, SettingValue, changes};
use crate::wire::{ErrorNotice, Severity, SqlState};

use super::relay::Session;

const RESERVED: [&str; 3] = ["citus_internal gpid=", "citus_rebalancer gpid=", "citus_run_command gpid="];

/// Whether it is one of those names.
pub(super) fn is_reserved(application_name: &str) -> bool {
    RESERVED.iter().any(|own| application_name.starts_with(own))
}

/// What a client is told that takes one.
pub(super) fn refused(severity: Severity) -> ErrorNotice {
    let notice = ErrorNotice::error(
        SqlState::INVALID_PARAMETER_VALUE,
        "this application_name is reserved for connections between Citus nodes",
    );
    ErrorNotice { severity, ..notice }.hint("Use another application_name; nodes of Citus need pool mode session.")
}

impl Session {
    /// Refuses a statement that would take such a name.
    pub(super) fn refuse_posing(&self, effects: Effects, sql: &[u8]) -> Option<ErrorNotice> {
        if !effects.intersects(Effects::SET_SESSION | Effects::SET_LOCAL) || self.keeps_lease {
            return None;
        }
        // What no text of such a change can do without.
        memmem::find(sql, b"citus_")?;
        let takes = changes(sql, self.lex, &|_| None).iter().any(|change| match &change.change {
            Change::Set { name, value: SettingValue::List(values) } => {
                name == "application_name" && values.iter().any(|value| is_reserved(value))
            }
            Change::Set { name, value: SettingValue::Flat(value) } => name == "application_name" && is_reserved(value),
            _ => false,
        });
        takes.then(|| refused(Severity::Error))
    }
}
