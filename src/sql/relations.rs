//! What reading a relation means for routing: most catalogs are the same on every node, some views are not.

use super::reason::Reason;

/// Why reading this relation needs the primary; `None` when it does not, as far as its name tells. Names are in the
/// server's spelling; `schema` is what the statement names.
pub fn judge(schema: Option<&str>, name: &str) -> Option<Reason> {
    match schema {
        Some("pg_temp") => return Some(Reason::SessionState),
        Some(schema) if schema.starts_with("pg_temp_") => return Some(Reason::SessionState),
        None | Some("pg_catalog") => {}
        // Extensions put their statistics wherever they are installed.
        Some(_) if name.starts_with("pg_stat_") => return Some(Reason::NodeState),
        Some(_) => return None,
    }
    let of_node = NODE_VIEWS.contains(&name) || NODE_VIEW_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    of_node.then_some(Reason::NodeState)
}

const NODE_VIEW_PREFIXES: [&str; 3] = ["pg_stat_", "pg_statio_", "pg_replication_"];

const NODE_VIEWS: [&str; 22] = [
    "pg_aios",
    "pg_available_extension_versions",
    "pg_available_extensions",
    "pg_backend_memory_contexts",
    "pg_buffercache",
    "pg_buffercache_summary",
    "pg_config",
    "pg_cursors",
    "pg_dsm_registry_allocations",
    "pg_file_settings",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_locks",
    "pg_prepared_statements",
    "pg_prepared_xacts",
    "pg_sequences",
    "pg_settings",
    "pg_shmem_allocations",
    "pg_shmem_allocations_numa",
    "pg_timezone_abbrevs",
    "pg_timezone_names",
    "pg_wait_events",
];
