//! Functions of extensions whose declared volatility is not what matters here. A user's own function of such a name is not meant: the
//! catalog says which function an extension owns.

use super::read::Function;
use crate::sql::Effects;

/// Functions of one extension.
type Listed = [(&'static str, &'static [&'static str])];

/// Volatile, and yet any node runs them as well: they make things up, or are volatile by mistake.
const HARMLESS: &Listed = &[
    (
        "citus",
        &[
            "citus_relation_size",
            "citus_shard_sizes",
            "citus_table_size",
            "citus_total_relation_size",
            "column_name_to_column",
            "column_to_column_name",
            "distributed_tables_colocated",
            "get_colocated_shard_array",
            "get_colocated_table_array",
            "get_nodeid_for_groupid",
            "get_shard_id_for_distribution_column",
            "worker_hash",
        ],
    ),
    ("pgcrypto", &["gen_random_bytes", "gen_random_uuid", "gen_salt", "pgp_pub_encrypt", "pgp_sym_encrypt"]),
    ("tablefunc", &["normal_rand"]),
    (
        "timescaledb",
        &[
            "approximate_row_count",
            "chunks_detailed_size",
            "generate_uuidv7",
            "has_invalidation_trigger",
            "hypertable_approximate_detailed_size",
            "hypertable_approximate_size",
            "hypertable_detailed_size",
            "hypertable_index_size",
            "hypertable_size",
            "show_tablespaces",
            "to_uuidv7",
        ],
    ),
    ("tsm_system_rows", &["system_rows"]),
    ("uuid-ossp", &["uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4"]),
];

/// The same of those that look at nothing but their arguments; and at how far an aggregate goes, which changes with its table.
const PURE: &Listed = &[("timescaledb", &["cagg_watermark", "interpolate", "locf", "time_bucket_gapfill"])];

/// Triggers that change nothing but what their extension notes for itself, and reads on the primary alone.
const QUIET_TRIGGERS: &Listed = &[("timescaledb", &["continuous_agg_invalidation_trigger", "insert_blocker"])];

/// They change nothing, but answer for the server that they run on, or by its role: the primary's answer is the one that is meant.
const OF_NODE: &Listed = &[(
    "citus",
    &[
        "citus_backend_gpid",
        "citus_blocking_pids",
        "citus_get_active_worker_nodes",
        // On a standby it depends on whether there are other standbys that it may ask.
        "citus_is_coordinator",
        "citus_is_primary_node",
        "citus_local_disk_space_stats",
        "citus_locks",
        "citus_remote_connection_stats",
        "citus_stat_activity",
        "citus_stat_counters",
        "citus_stat_statements",
        "citus_stat_tenants",
        "citus_stat_tenants_local",
        "dump_global_wait_edges",
        "dump_local_wait_edges",
        "get_all_active_transactions",
        "get_current_transaction_id",
        "get_global_active_transactions",
        "master_get_active_worker_nodes",
    ],
)];

/// They change something, whatever they are declared as.
const WRITES: &Listed = &[("citus", &["citus_internal_adjust_local_clock_to_remote", "master_run_on_worker"])];

/// They change a setting of their session, as `SET` does.
const SETS: &Listed = &[("pg_trgm", &["set_limit"])];

/// They make something in their server process of which nothing else tells, and which no reset takes back.
const KEEPS: &Listed = &[("dblink", &["dblink_connect", "dblink_connect_u"]), ("hypopg", &["hypopg_create_index"])];

/// What a function of an extension leaves behind in the session.
pub(super) fn leaves(extension: Option<&str>, name: &str) -> Effects {
    let mut effects = Effects::empty();
    effects.set(Effects::UNKNOWN_SETTING, is_named(SETS, extension, name));
    effects.set(Effects::SESSION_STATE, is_named(KEEPS, extension, name));
    effects
}

/// How volatile a function is, by itself.
pub(super) fn volatility(function: &Function) -> u8 {
    if is_in(WRITES, function) {
        b'v'
    } else if is_in(PURE, function) {
        b'i'
    } else if is_in(HARMLESS, function) {
        b's'
    } else {
        function.volatility
    }
}

/// Whether a function reads what the primary alone tells.
pub(super) fn is_of_node(function: &Function) -> bool {
    is_in(OF_NODE, function)
}

/// Whether a table may be changed by a trigger with this function, of this extension.
pub(super) fn has_a_say(trigger: &str, extension: Option<&str>) -> bool {
    !is_named(QUIET_TRIGGERS, extension, trigger)
}

fn is_in(lists: &Listed, function: &Function) -> bool {
    is_named(lists, function.extension.as_deref(), &function.name)
}

fn is_named(lists: &Listed, extension: Option<&str>, name: &str) -> bool {
    let of_extension = |extension| lists.iter().find(|(name, _)| *name == extension);
    extension.and_then(of_extension).is_some_and(|(_, names)| names.contains(&name))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::snapshot::Snapshot;
    use super::*;
    use crate::sql::{Effects, Facts, FunctionLists, FunctionName, Reason, Target};

    fn function(oid: u32, schema: u32, name: &str, volatility: u8, extension: Option<&str>) -> Function {
        Function {
            oid,
            schema,
            name: name.into(),
            volatility,
            aggregate: false,
            least: 0,
            most: None,
            of_row: false,
            arguments: None,
            extension: extension.map(Into::into),
            calls: Box::default(),
            leaves: Effects::empty(),
            defines: false,
            reads_foreign: false,
        }
    }

    /// Where a call goes, why, and whether it may write.
    fn call(snapshot: &Snapshot, schema: Option<&str>, name: &str) -> (Target, Reason, bool) {
        let verdict = snapshot.function(FunctionName { schema, name }, None, &FunctionLists::default()).unwrap();
        (verdict.target, verdict.reason, verdict.effects.contains(Effects::WRITES))
    }

    #[test]
    fn an_extensions_function_counts_for_what_it_does() {
        let functions = vec![
            function(20_000, 1, "locf", b'v', Some("timescaledb")),
            function(20_001, 1, "time_bucket_gapfill", b'v', Some("timescaledb")),
            function(20_002, 1, "compress_chunk", b'v', Some("timescaledb")),
            function(20_003, 2, "worker_hash", b'v', Some("citus")),
            function(20_004, 2, "citus_backend_gpid", b'v', Some("citus")),
            function(20_005, 2, "citus_add_node", b'v', Some("citus")),
            function(20_006, 2, "master_run_on_worker", b's', Some("citus")),
            function(20_007, 3, "locf", b'v', None),
            function(20_008, 3, "worker_hash", b'v', Some("timescaledb")),
            function(20_009, 3, "time_bucket_gapfill", b's', None),
        ];
        let mut by_name: HashMap<Box<str>, Vec<u32>> = HashMap::new();
        for (at, function) in functions.iter().enumerate() {
            by_name.entry(function.name.clone()).or_default().push(u32::try_from(at).unwrap());
        }
        let schemas = [(1, "public"), (2, "pg_catalog"), (3, "mine")];
        let snapshot = Snapshot {
            schemas: schemas.map(|(oid, name)| (oid, name.into())).into(),
            functions,
            functions_by_name: by_name,
            ..Snapshot::default()
        };
        let read = (Target::Replica, Reason::Read, false);
        let write = (Target::Primary, Reason::VolatileFunction, true);
        for (schema, name, expected) in [
            (Some("public"), "locf", read),
            (None, "time_bucket_gapfill", read),
            (None, "compress_chunk", write),
            (Some("pg_catalog"), "worker_hash", read),
            (None, "citus_backend_gpid", (Target::Primary, Reason::NodeState, false)),
            (None, "citus_add_node", write),
            (None, "master_run_on_worker", write),
            // A user's own, or another extension's; and without schema it may be that one.
            (Some("mine"), "locf", write),
            (None, "locf", write),
            (Some("mine"), "worker_hash", write),
        ] {
            assert_eq!(call(&snapshot, schema, name), expected, "{schema:?} {name}");
        }
        assert_eq!(leaves(Some("pg_trgm"), "set_limit"), Effects::UNKNOWN_SETTING);
        assert_eq!(leaves(Some("dblink"), "dblink_connect"), Effects::SESSION_STATE);
        assert_eq!(leaves(None, "set_limit"), Effects::empty(), "a user's own says what it does by its text");
        let lists = FunctionLists::new(["citus_backend_gpid"], [""; 0]);
        let gpid = FunctionName { schema: None, name: "citus_backend_gpid" };
        assert_eq!(snapshot.function(gpid, None, &lists).unwrap().target, Target::Replica);
    }
}
