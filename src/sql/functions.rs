//! What calling a function means for routing.
//!
//! Three sources: the configuration's lists, a table of PostgreSQL's own functions with their volatility
//! (`functions/builtin.txt`, generated from `pg_proc`), and the lists below, which correct it where volatility is not
//! the question: volatile functions that a standby runs as well, and stable ones that answer for one server.

use std::sync::LazyLock;

use hashbrown::{HashMap, HashSet};

use super::decision::{Effects, Target};
use super::knowledge::Knowledge;
use super::reason::Reason;
use super::touches::Slots;
use super::verdict::Verdict;

#[cfg(test)]
mod tests;

/// The functions that the configuration names. Names are lower case, with or without their schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FunctionLists {
    read_only: HashSet<Box<str>>,
    primary: HashSet<Box<str>>,
}

impl FunctionLists {
    /// From `RoutingSettings::read_only_functions` and `RoutingSettings::primary_functions`. A name without schema
    /// stands for that name in any schema. A name with schema stands, in the list of reads, only for calls that name
    /// the schema too; in the primary's list also for calls without any, since `search_path` may lead there.
    pub fn new<R, P>(read_only: R, primary: P) -> Self
    where
        R: IntoIterator<Item: AsRef<str>>,
        P: IntoIterator<Item: AsRef<str>>,
    {
        let fold = |name: &str| -> Box<str> { name.trim().to_ascii_lowercase().into() };
        let mut lists = Self::default();
        lists.read_only.extend(read_only.into_iter().map(|name| fold(name.as_ref())));
        for name in primary {
            let name = fold(name.as_ref());
            if let Some((_, bare)) = name.split_once('.') {
                // Marked, so that it matches only calls without schema.
                lists.primary.insert(format!("?.{bare}").into());
            }
            lists.primary.insert(name);
        }
        lists
    }

    /// Whether the configuration says that calls of this function are reads.
    pub fn calls_harmless(&self, function: FunctionName<'_>) -> bool {
        Self::listed(&self.read_only, function)
    }

    /// Whether the configuration reserves this function for the primary.
    pub fn calls_primary(&self, function: FunctionName<'_>) -> bool {
        Self::listed(&self.primary, function)
    }

    fn listed(set: &HashSet<Box<str>>, name: FunctionName<'_>) -> bool {
        if set.is_empty() {
            return false;
        }
        set.contains(name.name)
            || match name.schema {
                Some(schema) => set.contains(format!("{schema}.{}", name.name).as_str()),
                None => set.contains(format!("?.{}", name.name).as_str()),
            }
    }
}

/// A function as a statement calls it, in the server's spelling (lower case unless quoted).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionName<'a> {
    /// The schema that the call names.
    pub schema: Option<&'a str>,
    /// The name.
    pub name: &'a str,
}

/// What a call means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// `None`: any node gives the right answer. Otherwise why it needs the primary.
    pub reason: Option<Reason>,
    /// What else it does. `set_config` has none here: that depends on its arguments.
    pub effects: Effects,
}

impl Call {
    const READ: Self = Self { reason: None, effects: Effects::empty() };

    const fn primary(reason: Reason, effects: Effects) -> Self {
        Self { reason: Some(reason), effects }
    }
}

/// What calling `function` means, as far as its name and the configuration tell. A function that nobody knows may write.
pub fn judge(function: FunctionName<'_>, lists: &FunctionLists) -> Call {
    if FunctionLists::listed(&lists.primary, function) {
        return Call::primary(Reason::ListedFunction, Effects::WRITES);
    }
    let builtin = builtin(function);
    if FunctionLists::listed(&lists.read_only, function) {
        // What it asks for itself is not known.
        let effects = builtin.map_or(Effects::TELLS_TIME, |call| call.effects) - Effects::WRITES;
        return Call { reason: None, effects };
    }
    builtin.unwrap_or(Call::primary(Reason::UnknownFunction, Effects::WRITES))
}

/// What a call in a statement means, by all that is known; `arguments` as for [`Facts::function`](super::Facts::function). The
/// user's function of a built-in one's name may be the one that is called: the worse of both counts.
pub(super) fn judge_call(function: FunctionName<'_>, arguments: Option<usize>, known: &Knowledge) -> Verdict {
    let lists = &known.functions;
    let call = judge(function, lists);
    let listed = lists.calls_primary(function) || lists.calls_harmless(function);
    // Bad news are good enough when the schema has changed since.
    let certain = known.catalog.facts().is_some();
    let facts = known.catalog.last_facts().filter(|_| !listed);
    let unknown = call.reason == Some(Reason::UnknownFunction);
    let mut verdict = match facts.and_then(|facts| facts.function(function, arguments, lists)) {
        Some(verdict) if call.reason == Some(Reason::UnknownFunction) => {
            if certain || verdict.target == Target::Primary { verdict } else { verdict_of(function, call) }
        }
        Some(mut verdict) => {
            verdict.join(verdict_of(function, call));
            verdict
        }
        // Who knows what it reads.
        None if lists.calls_harmless(function) && builtin(function).is_none() => {
            verdict_of(function, call).reading(Slots::All)
        }
        None => verdict_of(function, call),
    };
    // Its text has not been read, which might say so.
    verdict.touches.doubts |= unknown && !certain;
    verdict
}

fn verdict_of(function: FunctionName<'_>, call: Call) -> Verdict {
    // Effects that arguments decide are known from the tokens.
    let effects = call.effects;
    let verdict = match call.reason {
        Some(reason) => {
            let schema = function.schema.map(|schema| format!("{schema}.")).unwrap_or_default();
            Verdict::primary(reason, effects).with_culprit(format!("function {schema}{}", function.name))
        }
        None => Verdict::new(Target::Replica, Reason::Read, effects),
    };
    match READS_ANY_TABLE.contains(&function.name) {
        true => verdict.reading(Slots::All),
        false => verdict,
    }
}

/// Built-in functions whose results change with the contents of the tables that their arguments name.
const READS_ANY_TABLE: [&str; 14] = [
    "cursor_to_xml",
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "pg_column_toast_chunk_id",
    "pg_database_size",
    "pg_indexes_size",
    "pg_relation_size",
    "pg_table_size",
    "pg_tablespace_size",
    "pg_total_relation_size",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
];

fn builtin(function: FunctionName<'_>) -> Option<Call> {
    match function.schema {
        None | Some("pg_catalog") => TABLE.get(function.name).copied(),
        // The helper functions of the standard's views.
        Some("information_schema") => Some(Call::READ),
        Some(_) => None,
    }
}

static TABLE: LazyLock<HashMap<&'static str, Call>> = LazyLock::new(|| {
    let mut table = HashMap::with_capacity(3000);
    for line in include_str!("functions/builtin.txt").lines() {
        let Some((name, volatility)) = line.split_once(' ').filter(|_| !line.starts_with('#')) else { continue };
        table.insert(name, class(name, volatility));
    }
    for (name, volatility) in LATER {
        table.entry(name).or_insert_with(|| class(name, volatility));
    }
    for name in SYNTAX {
        table.insert(name, Call::READ);
    }
    table
});

fn class(name: &str, volatility: &str) -> Call {
    let none = Effects::empty();
    match name {
        "nextval" | "setval" => return Call::primary(Reason::Sequence, Effects::WRITES),
        "currval" | "lastval" => return Call::primary(Reason::Sequence, Effects::SEQUENCE_STATE),
        "setseed" => return Call::primary(Reason::SessionState, Effects::SESSION_STATE),
        "set_config" => return Call::primary(Reason::SessionState, Effects::LITERAL_MATTERS),
        "current_setting" => return Call::primary(Reason::SettingRead, none),
        "pg_notify" => return Call::primary(Reason::Notify, Effects::NOTIFIES),
        // It holds for its transaction, and on its server.
        "pg_export_snapshot" => return Call::primary(Reason::NodeState, Effects::SET_LOCAL),
        // Given up with the session.
        "pg_backup_start" => return Call::primary(Reason::SessionState, Effects::SESSION_STATE | Effects::WRITES),
        "pg_replication_origin_session_setup" => {
            return Call::primary(Reason::SessionState, Effects::SESSION_STATE);
        }
        "pg_listening_channels" => return Call::primary(Reason::NodeState, Effects::ASKS_CHANNELS),
        "loread" => return Call::primary(Reason::LargeObject, none),
        "lowrite" => return Call::primary(Reason::LargeObject, Effects::WRITES),
        _ => {}
    }
    if name.starts_with("pg_advisory_xact_lock") || name.starts_with("pg_try_advisory_xact_lock") {
        return Call::primary(Reason::AdvisoryLock, none);
    }
    if name.starts_with("pg_advisory_unlock") {
        return Call::primary(Reason::AdvisoryLock, Effects::UNLOCKS | Effects::RELEASES_ONLY);
    }
    if name.starts_with("pg_advisory_lock") || name.starts_with("pg_try_advisory_lock") {
        return Call::primary(Reason::AdvisoryLock, Effects::ADVISORY_LOCK);
    }
    if name.starts_with("lo_") {
        return Call::primary(Reason::LargeObject, Effects::WRITES);
    }
    let of_node = NODE_STATE_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || NODE_STATE.contains(&name);
    if of_node {
        return Call::primary(Reason::NodeState, none);
    }
    if volatility != "v" || SAFE_VOLATILE.contains(&name) {
        let effects = if CLOCKS.contains(&name) { Effects::TELLS_TIME } else { none };
        return Call { reason: None, effects };
    }
    Call::primary(Reason::VolatileFunction, Effects::WRITES)
}

/// Volatile, and yet the same on a standby: each of version 15 was run on one. (All functions without arguments that
/// are not volatile were compared between a primary and its standby too: those that differ are below.)
const SAFE_VOLATILE: [&str; 25] = [
    "clock_timestamp",
    "current_query",
    "gen_random_uuid",
    "pg_collation_actual_version",
    "pg_database_collation_actual_version",
    "pg_database_size",
    "pg_indexes_size",
    "pg_partition_ancestors",
    "pg_partition_tree",
    "pg_relation_size",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pg_table_size",
    "pg_tablespace_size",
    "pg_total_relation_size",
    "random",
    "timeofday",
    // PostgreSQL 16 and later
    "random_normal",
    "array_sample",
    "array_shuffle",
    "uuidv4",
    "uuidv7",
    // table sampling
    "bernoulli",
    "system",
];

/// Functions of PostgreSQL's own that ask a clock, or when the transaction began.
const CLOCKS: [&str; 7] =
    ["age", "clock_timestamp", "now", "statement_timestamp", "timeofday", "transaction_timestamp", "uuidv7"];

/// The same, written as a word with or without a parenthesis.
const CLOCK_WORDS: [&str; 5] = ["current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"];

/// Whether a word outside quotes stands for the time at which the transaction began.
pub(super) fn is_clock(word: &[u8]) -> bool {
    matches!(word.len(), 9..=17) && CLOCK_WORDS.iter().any(|clock| word.eq_ignore_ascii_case(clock.as_bytes()))
}

/// Names whose whole family answers for one server.
const NODE_STATE_PREFIXES: [&str; 18] = [
    "pg_stat_",
    "pg_last_wal_",
    "pg_last_xact_",
    "pg_last_committed_",
    "pg_current_",
    "pg_walfile_",
    "pg_control_",
    "pg_ls_",
    "pg_read_",
    "pg_get_wal_",
    "pg_get_replication_",
    "pg_replication_origin_",
    "pg_logical_slot_peek_",
    "txid_current",
    "inet_server_",
    "inet_client_",
    "pg_show_",
    "pg_available_",
];

/// Functions that answer for one server, one session or one process (trap 11), or run the text or the tables that
/// their arguments name.
const NODE_STATE: [&str; 49] = [
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "database_to_xmlschema",
    "pg_backend_pid",
    "pg_blocking_pids",
    "pg_client_encoding",
    "pg_conf_load_time",
    "pg_config",
    "pg_cursor",
    "pg_extension_update_paths",
    "pg_filenode_relation",
    "pg_get_backend_memory_contexts",
    "pg_get_multixact_members",
    "pg_get_shmem_allocations",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_is_in_recovery",
    "pg_is_other_temp_schema",
    "pg_is_wal_replay_paused",
    "pg_isolation_test_session_is_blocked",
    "pg_jit_available",
    "pg_lock_status",
    "pg_my_temp_schema",
    "pg_notification_queue_usage",
    "pg_postmaster_start_time",
    "pg_prepared_statement",
    "pg_prepared_xact",
    "pg_safe_snapshot_blocking_pids",
    "pg_sequence_last_value",
    "pg_settings_get_flags",
    "pg_tablespace_location",
    "pg_timezone_abbrevs",
    "pg_timezone_names",
    "pg_wal_summary_contents",
    "pg_available_wal_summaries",
    "pg_get_aios",
    "pg_get_dsm_registry_allocations",
    "pg_xact_commit_timestamp",
    "pg_xact_commit_timestamp_origin",
    "pg_xact_status",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "schema_to_xmlschema",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "txid_status",
    "version",
];

/// Functions that came after the version of the table.
const LATER: [(&str, &str); 64] = [
    // 16
    ("any_value", "i"),
    ("array_sample", "v"),
    ("array_shuffle", "v"),
    ("bit_length", "i"),
    ("date_add", "s"),
    ("date_subtract", "s"),
    ("erf", "i"),
    ("erfc", "i"),
    ("json_array", "s"),
    ("pg_input_error_info", "s"),
    ("pg_input_is_valid", "s"),
    ("pg_split_walfile_name", "s"),
    ("pg_stat_get_io", "v"),
    ("random_normal", "v"),
    ("system_user", "s"),
    ("json_agg_strict", "s"),
    ("json_object_agg_strict", "s"),
    ("json_object_agg_unique", "s"),
    ("json_object_agg_unique_strict", "s"),
    ("jsonb_agg_strict", "s"),
    ("jsonb_object_agg_strict", "i"),
    ("jsonb_object_agg_unique", "i"),
    ("jsonb_object_agg_unique_strict", "i"),
    // 17
    ("json_arrayagg", "s"),
    ("json_objectagg", "s"),
    ("json_query", "s"),
    ("json_value", "s"),
    ("json_exists", "s"),
    ("json_table", "s"),
    ("json_scalar", "i"),
    ("json_serialize", "s"),
    ("pg_basetype", "s"),
    ("pg_column_toast_chunk_id", "s"),
    ("pg_get_wal_summarizer_state", "v"),
    ("pg_sync_replication_slots", "v"),
    ("pg_available_wal_summaries", "v"),
    ("pg_wal_summary_contents", "v"),
    ("to_bin", "i"),
    ("to_oct", "i"),
    ("to_regtypemod", "s"),
    ("unicode_assigned", "i"),
    ("uuid_extract_timestamp", "i"),
    ("uuid_extract_version", "i"),
    ("xmltext", "i"),
    ("icu_unicode_version", "i"),
    ("jsonb_populate_record_valid", "s"),
    ("unicode_version", "i"),
    // 18
    ("bytea", "i"),
    ("array_reverse", "i"),
    ("array_sort", "i"),
    ("casefold", "i"),
    ("crc32", "i"),
    ("crc32c", "i"),
    ("gamma", "i"),
    ("lgamma", "i"),
    ("json_strip_nulls", "i"),
    ("has_largeobject_privilege", "s"),
    ("pg_get_acl", "s"),
    ("pg_get_aios", "v"),
    ("pg_get_loaded_modules", "v"),
    ("uuidv4", "v"),
    ("uuidv7", "v"),
    ("pg_get_process_memory_contexts", "v"),
    ("pg_get_dsm_registry_allocations", "v"),
];

/// What looks like a call to one parser or another and is syntax, or a value of the session that every connection
/// of it shares.
const SYNTAX: [&str; 49] = [
    "all",
    "any",
    "array",
    "cast",
    "coalesce",
    "collation",
    "cube",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "exists",
    "extract",
    "greatest",
    "grouping",
    "json",
    "json_array",
    "json_arrayagg",
    "json_object",
    "json_objectagg",
    "least",
    "localtime",
    "localtimestamp",
    "merge_action",
    "normalize",
    "nullif",
    "overlay",
    "position",
    "rollup",
    "row",
    "session_user",
    "some",
    "substring",
    "system_user",
    "treat",
    "trim",
    "unnest",
    "user",
    "values",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlparse",
    "xmlroot",
    "xmlserialize",
];
