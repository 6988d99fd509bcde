//! What a statement's text says about where it may run: small `Copy` values, fit for caches.

use bitflags::bitflags;

use super::consistency::Consistency;
pub use super::reason::Reason;
use super::shard::ShardKeyId;
use super::touches::TouchId;

/// Where a statement may run. Ordered: in a string of several statements the greatest wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Target {
    /// Needs no server data, or concerns only the transaction or cursor that the session has open: an empty query,
    /// `COMMIT`, `ROLLBACK`, `SAVEPOINT`, `FETCH`, `SET TRANSACTION READ ONLY`, `SET trunkline.…`. Stays where the
    /// session is; goes anywhere when the session is nowhere.
    Anywhere,
    /// A read: any node gives the right answer.
    Replica,
    /// Everything else, and everything unknown.
    Primary,
}

impl Target {
    /// Stable name for logs, labels and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anywhere => "anywhere",
            Self::Replica => "replica",
            Self::Primary => "primary",
        }
    }
}

bitflags! {
    /// What else a statement does, for the session machine.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Effects: u32 {
        /// Opens a transaction block (`BEGIN`, `START TRANSACTION`).
        const BEGIN = 1;
        /// With `BEGIN`: the block says READ ONLY (and not SERIALIZABLE): it may run on a replica. Absent when a hint
        /// asks for the primary.
        const READ_ONLY = 1 << 1;
        /// With `BEGIN`: the block says READ WRITE.
        const READ_WRITE = 1 << 2;
        /// With `BEGIN` or `SET TRANSACTION`: isolation SERIALIZABLE (not possible on a standby).
        const SERIALIZABLE = 1 << 3;
        /// Ends a block: COMMIT, END, ROLLBACK, ABORT, PREPARE TRANSACTION. With `AND CHAIN` a new block begins at once
        /// (ReadyForQuery tells); COMMIT/ROLLBACK PREPARED don't end one.
        const TX_END = 1 << 4;
        /// `SET TRANSACTION`, `SET LOCAL`, `SET CONSTRAINTS`, `SET transaction_… = …`, `set_config(…, true)`: lives until
        /// the end of the transaction.
        const SET_LOCAL = 1 << 5;
        /// Changes session state by SET, RESET, SET SESSION CHARACTERISTICS, SET ROLE, `set_config(…, false)`.
        /// A `set_config` whose third argument is no constant has this and `SET_LOCAL`.
        const SET_SESSION = 1 << 6;
        /// As of a `set_config` whose third argument is no constant: settings may change in a way that the text does not tell.
        const UNKNOWN_SETTING = Self::SET_SESSION.bits() | Self::SET_LOCAL.bits();
        /// SQL `PREPARE`, or `DEALLOCATE` of one name (then with `RELEASES_ONLY`).
        const SQL_PREPARE = 1 << 7;
        /// SQL `EXECUTE`.
        const SQL_EXECUTE = 1 << 8;
        /// `LISTEN`, or `UNLISTEN` (then with `RELEASES_ONLY`).
        const LISTEN = 1 << 9;
        /// Makes a temporary table, view or sequence (also `SELECT INTO TEMP`, `pg_temp.` names).
        const TEMP_OBJECT = 1 << 10;
        /// `DECLARE … WITH HOLD`.
        const HOLD_CURSOR = 1 << 11;
        /// Takes a session-level advisory lock.
        const ADVISORY_LOCK = 1 << 12;
        /// Other state of the server session: setseed, LOAD. Not what dies with the transaction
        /// (large-object descriptors, exported snapshots): ReadyForQuery keeps the connection for these.
        const SESSION_STATE = 1 << 13;
        /// `DISCARD ALL`.
        const DISCARD_ALL = 1 << 14;
        /// `DEALLOCATE ALL`, and `DISCARD ALL`; `DISCARD PLANS` excepted. Also of a function or `DO` that may say so.
        const DEALLOCATE_ALL = 1 << 15;
        /// More than one statement in the string.
        const MULTI = 1 << 16;
        /// `SET [LOCAL|SESSION] trunkline.… = …`, `RESET trunkline.…` or `SHOW trunkline.…`: for us alone.
        const OWN_SETTING = 1 << 17;
        /// May change data (a read-after-write window starts).
        const WRITES = 1 << 18;
        /// Its result depends on literals, so the decision must not be shared by fingerprint.
        const LITERAL_MATTERS = 1 << 19;
        /// Decided by a hint in a comment.
        const HINTED = 1 << 20;
        /// Every statement of the string releases session state and none makes any (`pg_advisory_unlock…`, `CLOSE`,
        /// `UNLISTEN`, `RESET`, `DEALLOCATE`, `DISCARD`): no reason to pin, whatever other bits say. The one bit that is
        /// not a union but holds for all statements.
        const RELEASES_ONLY = 1 << 21;
        /// `COPY … FROM STDIN` or `COPY … TO STDOUT`.
        const COPY = 1 << 22;
        /// `DECLARE`, `FETCH`, `MOVE`, `CLOSE` of a cursor.
        const CURSOR = 1 << 23;
        /// `SAVEPOINT`, `RELEASE`, `ROLLBACK TO`.
        const SAVEPOINT = 1 << 24;
        /// `SET TRANSACTION` or `SET transaction_read_only` that says READ ONLY and not SERIALIZABLE (with `SET_LOCAL`).
        /// Absent when a hint asks for the primary.
        const SET_TX_READ_ONLY = 1 << 25;
        /// Asks what its session last got from a sequence: `currval`, `lastval`.
        const SEQUENCE_STATE = 1 << 26;
        /// Gives up session-level advisory locks, whatever else it does.
        const UNLOCKS = 1 << 27;
        /// Sends a notification: `NOTIFY`, `pg_notify`.
        const NOTIFIES = 1 << 28;
        /// Asks for the channels of its session: `pg_listening_channels`.
        const ASKS_CHANNELS = 1 << 29;
        /// Reads `pg_prepared_statements`: what it sees there must be the session's own statements.
        const READS_PREPARED = 1 << 30;
        /// Its result may depend on a clock, or on when its transaction began: `now()`, `CURRENT_DATE`, and every function of
        /// which nobody knows what it asks for. Not seen: `'now'` and the like within constants.
        const TELLS_TIME = 1 << 31;
    }
}

/// What the text of one query string (one or more statements) says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Where it may run: the worst of its statements.
    pub target: Target,
    /// Why: the reason of that worst statement.
    pub reason: Reason,
    /// What else it does: the union over its statements.
    pub effects: Effects,
    /// The tables that it reads and writes.
    pub touches: TouchId,
    /// What its reads must see, when a hint says so.
    pub level: Option<Consistency>,
    /// It is so because a name without schema is taken for the worst of that name in any schema: who knows the session's search path
    /// may know better ([`super::decide_along`]).
    pub by_path: bool,
    /// Which shard of Citus it is about.
    pub key: ShardKeyId,
}

impl Decision {
    /// What a text that we can't judge gets: the primary, and it may have written.
    pub const fn unknown(reason: Reason) -> Self {
        Self {
            target: Target::Primary,
            reason,
            effects: Effects::WRITES,
            touches: TouchId::EVERYTHING,
            level: None,
            by_path: false,
            key: ShardKeyId::NONE,
        }
    }
}

// Decisions are copied into caches and sessions by the million.
const _: () = assert!(size_of::<Decision>() <= 12);
