//! Why a statement goes where it goes.

/// The reason of a [`Decision`](super::Decision). Ordered by how much it tells: of several statements that need the
/// primary, the greatest reason is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// Empty query, or only comments.
    Empty,
    /// `SET`, `RESET` or `SHOW` of a `trunkline.…` setting.
    OwnSetting,
    /// `EXPLAIN (ROUTE)`.
    ExplainRoute,
    /// Transaction control that binds the session to no node by itself, or a block that may write.
    TxControl,
    /// A transaction block that is declared READ ONLY.
    ReadOnlyTx,
    /// Cursor control.
    Cursor,
    /// A plain read.
    Read,
    /// The configuration says that it only reads.
    ListedRead,
    /// A hint in a comment asks for a replica.
    HintReplica,
    /// The schema was changed a moment ago, and has not been read again.
    CatalogPending,
    /// `SHOW`: answers must come from where the session's settings are.
    SettingRead,
    /// Makes or uses state of the server session.
    SessionState,
    /// SQL-level `PREPARE`, `EXECUTE` or `DEALLOCATE`.
    PreparedSql,
    /// `LISTEN`, `UNLISTEN`, `NOTIFY`.
    Notify,
    /// Asks about the server itself: process, WAL, activity, files, settings.
    NodeState,
    /// `EXPLAIN` of a statement that would run on the primary.
    Explain,
    /// A hint in a comment asks for the primary.
    HintPrimary,
    /// Non-ASCII text in a client encoding that can't be cut by bytes.
    Encoding,
    /// Too long or too deeply nested to be parsed on a worker.
    TooLong,
    /// Not understood by the parser.
    Unparsed,
    /// Calls a function that is not PostgreSQL's own.
    UnknownFunction,
    /// Calls a volatile function that is not known to be harmless.
    VolatileFunction,
    /// Calls a function that the configuration reserves for the primary.
    ListedFunction,
    /// Isolation level SERIALIZABLE, which a standby can't run.
    Serializable,
    /// Uses a sequence function.
    Sequence,
    /// Takes or releases an advisory lock.
    AdvisoryLock,
    /// Works on large objects.
    LargeObject,
    /// Reads a relation that a standby can't: an unlogged table, or a foreign one.
    Relation,
    /// The configuration reserves the statement for the primary.
    ListedStatement,
    /// `SELECT … FOR UPDATE` and the like.
    LockingClause,
    /// `LOCK TABLE`.
    LockTable,
    /// `COPY` from or to a file or program of the server.
    Copy,
    /// `VACUUM`, `ANALYZE`, `CLUSTER`, `REINDEX`, `CHECKPOINT`.
    Maintenance,
    /// `CALL`, `DO`.
    Procedure,
    /// Two-phase commit.
    TwoPhase,
    /// Changes the schema or privileges.
    Ddl,
    /// `SELECT … INTO`.
    SelectInto,
    /// Changes data.
    Write,
    /// A standby refused this statement before.
    Learned,
}

impl Reason {
    /// All reasons, in order.
    pub const ALL: [Self; 39] = [
        Self::Empty,
        Self::OwnSetting,
        Self::ExplainRoute,
        Self::TxControl,
        Self::ReadOnlyTx,
        Self::Cursor,
        Self::Read,
        Self::ListedRead,
        Self::HintReplica,
        Self::CatalogPending,
        Self::SettingRead,
        Self::SessionState,
        Self::PreparedSql,
        Self::Notify,
        Self::NodeState,
        Self::Explain,
        Self::HintPrimary,
        Self::Encoding,
        Self::TooLong,
        Self::Unparsed,
        Self::UnknownFunction,
        Self::VolatileFunction,
        Self::ListedFunction,
        Self::Serializable,
        Self::Sequence,
        Self::AdvisoryLock,
        Self::LargeObject,
        Self::Relation,
        Self::ListedStatement,
        Self::LockingClause,
        Self::LockTable,
        Self::Copy,
        Self::Maintenance,
        Self::Procedure,
        Self::TwoPhase,
        Self::Ddl,
        Self::SelectInto,
        Self::Write,
        Self::Learned,
    ];

    /// Stable label for metrics, logs and tests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::OwnSetting => "own_setting",
            Self::ExplainRoute => "explain_route",
            Self::TxControl => "tx_control",
            Self::ReadOnlyTx => "read_only_tx",
            Self::Cursor => "cursor",
            Self::Read => "read",
            Self::ListedRead => "listed_read",
            Self::HintReplica => "hint_replica",
            Self::CatalogPending => "catalog_pending",
            Self::SettingRead => "setting_read",
            Self::SessionState => "session_state",
            Self::PreparedSql => "prepared_sql",
            Self::Notify => "notify",
            Self::NodeState => "node_state",
            Self::Explain => "explain",
            Self::HintPrimary => "hint_primary",
            Self::Encoding => "encoding",
            Self::TooLong => "too_long",
            Self::Unparsed => "unparsed",
            Self::UnknownFunction => "unknown_function",
            Self::VolatileFunction => "volatile_function",
            Self::ListedFunction => "listed_function",
            Self::Serializable => "serializable",
            Self::Sequence => "sequence",
            Self::AdvisoryLock => "advisory_lock",
            Self::LargeObject => "large_object",
            Self::Relation => "relation",
            Self::ListedStatement => "listed_statement",
            Self::LockingClause => "locking_clause",
            Self::LockTable => "lock_table",
            Self::Copy => "copy",
            Self::Maintenance => "maintenance",
            Self::Procedure => "procedure",
            Self::TwoPhase => "two_phase",
            Self::Ddl => "ddl",
            Self::SelectInto => "select_into",
            Self::Write => "write",
            Self::Learned => "learned",
        }
    }

    /// The rest of a sentence that begins with the statement: "… because " this.
    pub const fn explain(self) -> &'static str {
        match self {
            Self::Empty => "there is no statement in it",
            Self::OwnSetting => "the setting belongs to Trunkline itself",
            Self::ExplainRoute => "Trunkline itself answers it",
            Self::TxControl => "it controls the transaction; a block that may write begins on the primary",
            Self::ReadOnlyTx => "the transaction is declared READ ONLY, so nothing in it can write",
            Self::Cursor => "it works on a cursor, which lives where the session opened it",
            Self::Read => "it only reads, and every function in it is known to be harmless",
            Self::ListedRead => "`read_only_statements` lists it",
            Self::HintReplica => "a comment in it asks for a replica",
            Self::CatalogPending => "the schema has just been changed, and its new state is being read",
            Self::SettingRead => "it reads settings, which may differ from node to node",
            Self::SessionState => "it changes or uses state of the session, which is kept on the primary",
            Self::PreparedSql => "it uses a statement prepared in SQL, whose text isn't in this string",
            Self::Notify => "notifications exist on the primary only",
            Self::NodeState => {
                "it asks for the state of one server (process, WAL, activity, configuration), and a replica would answer differently"
            }
            Self::Explain => "it explains a statement that would itself run on the primary",
            Self::HintPrimary => "a comment in it asks for the primary",
            Self::Encoding => {
                "the client encoding allows ASCII bytes inside other characters, so the text can't be cut safely"
            }
            Self::TooLong => "it is too long or too deeply nested to be examined",
            Self::Unparsed => "its syntax is not known to Trunkline's parser",
            Self::UnknownFunction => "it calls a function that isn't PostgreSQL's own and may write",
            Self::VolatileFunction => "it calls a function that may have side effects",
            Self::ListedFunction => "it calls a function that `primary_functions` lists",
            Self::Serializable => "a standby can't run SERIALIZABLE transactions",
            Self::Sequence => "it uses a sequence, which only the primary can advance",
            Self::AdvisoryLock => "advisory locks must be taken on one node for everybody",
            Self::LargeObject => "it works on large objects",
            Self::Relation => "it reads a relation that a standby can't answer for",
            Self::ListedStatement => "`primary_statements` lists it",
            Self::LockingClause => "it locks the rows that it reads",
            Self::LockTable => "it locks a table",
            Self::Copy => "it copies from or to a file or program on the server",
            Self::Maintenance => "it is a maintenance command",
            Self::Procedure => "it runs a procedure or a code block, which may write",
            Self::TwoPhase => "two-phase commit happens on the primary",
            Self::Ddl => "it changes the schema or privileges",
            Self::SelectInto => "it creates a table",
            Self::Write => "it changes data",
            Self::Learned => "a standby refused this statement before, so it is kept on the primary",
        }
    }
}
