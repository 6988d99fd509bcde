//! What a statement's text says about where it may run: small `Copy` values, fit for caches.

use bitflags::bitflags;

/// Where a statement may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Target {
    /// A read: any node gives the right answer.
    Replica,
    /// Everything else, and everything unknown.
    Primary,
    /// Depends on nothing but the session: stays where the session is, or goes anywhere (`SELECT 1`-like
    /// statements are `Replica`; this is for an empty query, which needs no server data).
    Anywhere,
}

/// Why. Each has a short stable label (`as_str`) for metrics and logs, and a sentence (`explain`).
/// The classifier's author adds variants as needed; `u8` representation, no payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// A plain read.
    Read,
    /// Empty query, or only comments.
    Empty,
    /// Changes data.
    Write,
    /// Unknown to us: not parsable.
    Unparsed,
}

bitflags! {
    /// What else a statement does, for the session machine.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Effects: u32 {
        /// Opens a transaction block (`BEGIN`, `START TRANSACTION`).
        const BEGIN = 1;
        /// With `BEGIN`: the block says READ ONLY (and not SERIALIZABLE): it may run on a replica.
        const READ_ONLY = 1 << 1;
        /// With `BEGIN`: the block says READ WRITE.
        const READ_WRITE = 1 << 2;
        /// With `BEGIN` or `SET TRANSACTION`: isolation SERIALIZABLE (not possible on a standby).
        const SERIALIZABLE = 1 << 3;
        /// Ends a block: COMMIT, END, ROLLBACK, ABORT, PREPARE TRANSACTION.
        const TX_END = 1 << 4;
        /// `SET TRANSACTION` / `SET LOCAL`: lives until the end of the transaction.
        const SET_LOCAL = 1 << 5;
        /// Changes session state by SET, RESET, SET SESSION CHARACTERISTICS, SET ROLE, `set_config(…, false)`.
        const SET_SESSION = 1 << 6;
        /// SQL `PREPARE`, or `DEALLOCATE` of one name.
        const SQL_PREPARE = 1 << 7;
        /// SQL `EXECUTE`.
        const SQL_EXECUTE = 1 << 8;
        /// `LISTEN` / `UNLISTEN`.
        const LISTEN = 1 << 9;
        /// Makes a temporary table, view or sequence (also `SELECT INTO TEMP`, `pg_temp.` names).
        const TEMP_OBJECT = 1 << 10;
        /// `DECLARE … WITH HOLD`.
        const HOLD_CURSOR = 1 << 11;
        /// Takes a session-level advisory lock.
        const ADVISORY_LOCK = 1 << 12;
        /// Other state of the server session: setseed, currval/lastval, LOAD, large-object descriptors,
        /// exported snapshots.
        const SESSION_STATE = 1 << 13;
        /// `DISCARD ALL`.
        const DISCARD_ALL = 1 << 14;
        /// `DEALLOCATE ALL`, `DISCARD PLANS` excepted.
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
        /// Releases session state without making any (`pg_advisory_unlock_all`, `CLOSE ALL`, `UNLISTEN *`,
        /// `RESET ALL`, `DISCARD …`): no reason to pin.
        const RELEASES_ONLY = 1 << 21;
        /// `COPY … FROM STDIN` or `COPY … TO STDOUT`.
        const COPY = 1 << 22;
        /// `DECLARE`, `FETCH`, `MOVE`, `CLOSE` of a cursor.
        const CURSOR = 1 << 23;
        /// `SAVEPOINT`, `RELEASE`, `ROLLBACK TO`.
        const SAVEPOINT = 1 << 24;
        /// `SET TRANSACTION READ ONLY` as the whole statement (with `SET_LOCAL`).
        const SET_TX_READ_ONLY = 1 << 25;
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
}
