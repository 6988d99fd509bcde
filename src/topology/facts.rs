//! What a node says of itself when it is asked.

/// What a node says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
    /// Of a primary: the timeline that it writes. Of a standby: the newest that it knows of, which may be one behind for a while
    /// after a promotion elsewhere (its control file says so only after a restart point, unless the control user may read
    /// `pg_stat_wal_receiver`). 0 = not known.
    pub timeline: u32,
    /// The cluster's system identifier; `None` where it is not told.
    pub system: Option<u64>,
    /// `server_version_num`; 0 = not known.
    pub version: u32,
}

/// How a server is asked: by the first of these that it answers. Each asks for less than the one before.
pub(super) const QUESTIONS: [&str; 3] = [QUESTION, WITHOUT_CONTROL_FILE, SHORT_QUESTION];

/// `pg_is_in_recovery()` is evaluated once: it must not change within the question.
const QUESTION: &str = "SELECT r, pg_catalog.current_setting('server_version_num')::int4, \
    CASE WHEN NOT r THEN pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()) END, \
    (SELECT system_identifier FROM pg_catalog.pg_control_system()), \
    CASE WHEN r THEN GREATEST((SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()), \
        (SELECT min_recovery_end_timeline FROM pg_catalog.pg_control_recovery()), \
        (SELECT max(received_tli) FROM pg_catalog.pg_stat_wal_receiver)) END::int4, \
    pg_catalog.current_setting('citus.use_secondary_nodes', true), pg_catalog.current_setting('citus.cluster_name', true), \
    pg_catalog.current_setting('synchronous_standby_names') <> '' \
    FROM (SELECT pg_catalog.pg_is_in_recovery() AS r OFFSET 0) AS state";

/// For servers that keep the control file's functions to themselves: no system identifier, and of a standby no timeline but the one that it
/// is being sent, if we may know.
const WITHOUT_CONTROL_FILE: &str = "SELECT r, pg_catalog.current_setting('server_version_num')::int4, \
    CASE WHEN NOT r THEN pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()) END, NULL::int8, \
    CASE WHEN r THEN (SELECT max(received_tli) FROM pg_catalog.pg_stat_wal_receiver) END::int4, \
    pg_catalog.current_setting('citus.use_secondary_nodes', true), pg_catalog.current_setting('citus.cluster_name', true), \
    pg_catalog.current_setting('synchronous_standby_names') <> '' \
    FROM (SELECT pg_catalog.pg_is_in_recovery() AS r OFFSET 0) AS state";

/// For those that do not tell of their WAL either: no timeline at all.
const SHORT_QUESTION: &str = "SELECT r, pg_catalog.current_setting('server_version_num')::int4, NULL::text, NULL::int8, NULL::int4, \
    pg_catalog.current_setting('citus.use_secondary_nodes', true), pg_catalog.current_setting('citus.cluster_name', true), \
    pg_catalog.current_setting('synchronous_standby_names') <> '' \
    FROM (SELECT pg_catalog.pg_is_in_recovery() AS r OFFSET 0) AS state";

/// The timeline in a WAL file's name, which begins with it as eight hexadecimal digits.
pub(super) fn timeline_of(file: &str) -> Option<u32> {
    u32::from_str_radix(file.get(..8)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeline_of_a_wal_file() {
        assert_eq!(timeline_of("0000001A000000010000002B"), Some(26));
        assert_eq!(timeline_of(""), None);
        assert_eq!(timeline_of("history."), None);
    }
}
