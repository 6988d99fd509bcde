//! Self-healing: a statement that fails on a replica, outside a transaction block and before the client has seen a byte of its
//! result, has changed nothing (a standby cannot). It runs once more, on the primary or on another replica, and the client hears of
//! the last attempt only.
//!
//! What the client sent is kept for that (in the server connection's own buffer, a copy of at most [`LIMIT`] bytes), and simply
//! taken once more, as if it had just been read. What a replica says before the result begins (ParseComplete, RowDescription,
//! notices) waits until the first row, completion or error; nearly always they come together.
//!
//! So does the first statement of a block that was begun with it ([`Deferred`](super::deferred::Deferred)), on the primary, too, when its
//! connection breaks before a byte of its result was told: without a COMMIT, nothing of it has been. The block begins anew with it.
//!
//! One Query, or one segment up to its Sync or Flush, can run once more. Of pipelines nothing is repeated, but what they teach is
//! remembered ([`crate::route::DecisionCache::remember_primary`]).

use crate::route::RerunCause;
use crate::sql::{Effects, LexOptions, normalize};
use crate::wire::frame::frontend_limit;
use crate::wire::{ErrorNotice, Frame, FrameWalker, SqlState, Step, TxStatus, build, frontend};

use super::clients::Request;
use super::expect::Expect;
use super::machine::{Link, State};
use super::placement::{Place, RouteChoice};
use super::relay::{Ending, Session};
use super::splice::Splice;

/// What is longer is not kept, and fails as it fails.
pub(super) const LIMIT: usize = 16 * 1024;

/// After so many attempts on replicas only the primary is left.
const MAX_ATTEMPTS: u32 = 3;

/// After so many a block is not begun anew: its statement may be what ends its server.
const MAX_BLOCK_ATTEMPTS: u32 = 2;

/// Effects of statements that can run once more. Whatever else a statement does, it does to the session or to a transaction.
const HARMLESS: Effects = Effects::MULTI
    .union(Effects::LITERAL_MATTERS)
    .union(Effects::HINTED)
    .union(Effects::COPY)
    .union(Effects::TELLS_TIME);

/// Those of statements on a replica, outside a block: there is none to be ended.
const REPEATABLE: Effects = HARMLESS.union(Effects::TX_END);

/// Those of the first statement of a block, whose transaction ends with its connection.
const REPEATABLE_WITH_BLOCK: Effects = HARMLESS.union(Effects::WRITES).union(Effects::CURSOR);

/// What is under way on a link, as far as running it once more goes.
#[derive(Debug)]
pub(super) struct Rerun {
    state: Repeat,
    /// The write that begins had nothing under way before it.
    fresh: bool,
    /// A block was begun in it.
    begins: bool,
    /// What can run once more is the first statement of a block.
    with_block: bool,
    /// Of the statements that have been sent since.
    effects: Effects,
    /// Something of the result has come.
    begun: bool,
    /// What came before it and is not told yet.
    held: Vec<u8>,
    /// [`Client::cancels_sent`](super::clients::Client::cancels_sent) when the write began.
    cancels_sent: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// It can't, for this reason.
    No(&'static str),
    /// It can.
    Can,
    /// It is going to: nothing more of this attempt is told.
    Due,
}

impl Default for Rerun {
    fn default() -> Self {
        Self {
            state: Repeat::No("idle"),
            fresh: false,
            begins: false,
            with_block: false,
            effects: Effects::empty(),
            begun: false,
            held: Vec::new(),
            cancels_sent: 0,
        }
    }
}

impl Rerun {
    /// Whether an error would not be told, as things stand.
    pub fn is_possible(&self) -> bool {
        self.state == Repeat::Can
    }

    /// Whether what is under way is going to run once more.
    pub fn is_due(&self) -> bool {
        self.state == Repeat::Due
    }

    /// A block goes out, which could begin once more.
    pub fn begin_block(&mut self) {
        self.begins = true;
    }

    /// A statement goes out.
    pub fn note(&mut self, effects: Effects) {
        self.effects |= effects;
    }

    /// A message came that is for the client.
    #[inline]
    pub fn came(&mut self, tag: u8) {
        match tag {
            // Notices of a block are told while it runs.
            b'N' if self.with_block => self.begun = true,
            b'1' | b'2' | b'3' | b't' | b'T' | b'n' | b'N' => {}
            // The client will not be told twice, so it is to be told now.
            b'S' => {
                self.state = Repeat::No("parameter");
                self.begun = true;
            }
            _ => self.begun = true,
        }
    }

    /// Whether these bytes for the client wait. If not, what has waited goes before them; and if they are of a result, it is too late
    /// to run anything once more. `answered` = nothing more is to come.
    pub fn holds(&mut self, bytes: &[u8], answered: bool, to_client: &mut Vec<u8>) -> bool {
        if self.state == Repeat::Can {
            if !self.begun && !answered && self.held.len() + bytes.len() <= LIMIT {
                self.held.extend_from_slice(bytes);
                return true;
            }
            if !bytes.is_empty() || !self.held.is_empty() {
                self.state = Repeat::No("begun");
            }
        }
        if !self.held.is_empty() {
            to_client.append(&mut self.held);
        }
        false
    }
}

/// A statement that runs once more.
#[derive(Debug)]
pub(super) struct Again {
    cause: RerunCause,
    /// The error of the attempt before.
    code: SqlState,
    /// Its body, to be told if there is nowhere else to run; empty when the connection just broke.
    error: Vec<u8>,
    /// The statement that failed, when replicas are not to get it any more.
    culprit: Option<Vec<u8>>,
    /// Nodes that were lost meanwhile, as a bit set of their indices.
    tried: u64,
    attempts: u32,
}

impl Again {
    /// Where it is to run; `None` = where it belongs, but not on the nodes that were lost.
    fn place(&self) -> Option<Place> {
        (self.cause != RerunCause::Lost || self.attempts >= MAX_ATTEMPTS).then_some(Place::Primary)
    }
}

impl Link {
    /// A write begins; so many cancel requests have been sent to servers until now.
    pub(super) fn begin_write(&mut self, is_mid_frame: bool, cancels_sent: u32) {
        self.rerun.fresh = !is_mid_frame
            && !self.rerun.is_due()
            && self.replies.is_empty()
            && self.status == TxStatus::Idle
            && !self.segment_executed
            && self.carry.is_empty();
        if self.rerun.fresh {
            self.rerun.effects = Effects::empty();
            self.rerun.cancels_sent = cancels_sent;
        }
    }
}

impl Session {
    /// `taken` of the client's bytes have become a write: keeps them, if what they ask for could run once more.
    pub(super) fn keep_for_rerun(&mut self, taken: &[u8], is_sent: bool) {
        let whole = self.client_pass == 0;
        let stateless = self.pins.is_empty() && self.scripts.is_empty();
        let is_committing = self.sight.is_committing();
        let attempts = self.again.as_ref().map_or(0, |again| again.attempts);
        let State::Linked(link) = &mut self.state else { return };
        if taken.is_empty() || link.rerun.is_due() {
            return;
        }
        let with_block = std::mem::take(&mut link.rerun.begins);
        if link.primary && !with_block {
            if link.rerun.is_possible() {
                link.rerun.state = Repeat::No("pipelined");
            }
            return;
        }
        link.rerun.with_block = with_block;
        let repeatable = if with_block { REPEATABLE_WITH_BLOCK } else { REPEATABLE };
        link.lease.kept.clear();
        link.rerun.begun = false;
        let fresh = std::mem::take(&mut link.rerun.fresh) && is_sent;
        if fresh && whole && taken.len() <= LIMIT {
            link.lease.kept.extend_from_slice(taken);
        }
        let in_other_block = link.status.in_block() && !with_block;
        let why = if !fresh || !link.replies.can_repeat(taken, with_block) {
            "pipelined"
        } else if link.lease.kept.is_empty() {
            "too_long"
        } else if !stateless || !repeatable.contains(link.rerun.effects) || is_committing || in_other_block {
            "state"
        } else if with_block && attempts >= MAX_BLOCK_ATTEMPTS {
            "attempts"
        } else {
            link.rerun.state = Repeat::Can;
            return;
        };
        link.rerun.state = Repeat::No(why);
    }

    /// A server sent this error. Returns whether it is no longer the client's concern, because the statement runs once more.
    pub(super) fn rerun(&mut self, body: &[u8], is_fatal: bool, out: &mut Splice<'_>) -> bool {
        let code = ErrorNotice::sqlstate_of(body);
        let routine = ErrorNotice::field_of(body, b'R').unwrap_or_default();
        self.doubt_map(code);
        let State::Linked(link) = &self.state else { return false };
        let Some(cause) = cause_of(code, routine, is_fatal).filter(|_| !link.primary) else { return false };
        let wants_replica =
            self.placement.own.route.get() == RouteChoice::Replica || link.rerun.effects.contains(Effects::HINTED);
        let is_of_node = matches!(cause, RerunCause::Lost | RerunCause::Conflict);
        let refused = match link.rerun.state {
            Repeat::No(_) if link.status.in_block() => Some("in_block"),
            Repeat::Can if link.rerun.with_block && !is_fatal => Some("in_block"),
            Repeat::No(why) => Some(why),
            // Whoever asks for a replica gets what a replica says.
            _ if wants_replica && !is_of_node => Some("wants_replica"),
            // Most of these errors are the client's own: not worth waiting for a primary.
            _ if matches!(cause, RerunCause::Lag | RerunCause::Internal) && !self.primary_is_up() => Some("no_primary"),
            _ => None,
        };
        if let Some(why) = refused {
            // Most errors about names are the client's own.
            if cause != RerunCause::Lag {
                self.metrics.not_rerun(cause.as_str(), why);
            }
            let learns = is_certain(code, routine)
                && !wants_replica
                && !self.placement.is_read_only()
                && matches!(self.link(), Some(link) if !link.status.in_block());
            if learns && let Some(culprit) = self.culprit() {
                self.learn(&culprit, cause);
            }
            return false;
        }
        let culprit = if cause.is_of_the_statement() { self.culprit() } else { None };
        self.plan_rerun(cause, code, ErrorNotice::whole(body), culprit);
        out.discard();
        let Self { state: State::Linked(link), names, .. } = self else { return false };
        let in_segment = !matches!(link.replies.head(), Some(Expect::Simple { .. }) | None);
        if !is_fatal && in_segment && !link.replies.fail_to_sync(names, &mut link.lease.prepared) {
            // The segment's own Sync is not on its way.
            link.close_segment();
            link.replies.push(Expect::Sync { ours: true });
            build::sync(&mut link.backlog);
        }
        true
    }

    /// The server ends the connection with this error before it has begun a block. Returns whether the block begins anew elsewhere.
    pub(super) fn begins_anew(&mut self, error: &[u8]) -> bool {
        let State::Linked(link) = &mut self.state else { return false };
        let anew = link.rerun.is_possible() && link.rerun.with_block;
        if anew {
            link.dying = true;
            self.plan_rerun(RerunCause::Lost, ErrorNotice::sqlstate_of(error), Vec::new(), None);
        }
        anew
    }

    /// The link's connection is gone, or about to be. What could run once more does so elsewhere.
    ///
    /// # Errors
    /// Nothing could: the session ends.
    pub(super) fn leave_lost(&mut self) -> Result<(), Ending> {
        match &self.state {
            State::Linked(link) if self.is_link_unused() => {
                link.lease.pool().load.probe.notify_one();
                self.leave_unused();
                return Ok(());
            }
            State::Linked(link) if link.rerun.is_due() => {}
            State::Linked(link) if link.rerun.is_possible() => {
                self.plan_rerun(RerunCause::Lost, SqlState::CONNECTION_FAILURE, Vec::new(), None);
            }
            State::Linked(link) => {
                if let Repeat::No(why) = link.rerun.state
                    && !link.primary
                    && !link.replies.is_empty()
                    && !link.dying
                {
                    self.metrics.not_rerun(RerunCause::Lost.as_str(), why);
                }
                return Err(self.server_gone());
            }
            _ => return Err(self.server_gone()),
        }
        self.take_back();
        if let State::Linked(link) = self.transition(State::Idle) {
            link.lease.pool().load.probe.notify_one();
            // The drop closes the connection.
        }
        Ok(())
    }

    /// A message that answers an attempt of which nothing is told.
    pub(super) fn swallow(&mut self, tag: u8, body: &[u8]) {
        let State::Linked(link) = &mut self.state else { return };
        match tag {
            // It is about to be left: how much of what was sent on it has it answered?
            b'Z' if link.settings_refused.is_some() => {
                while link.replies.pop().is_some_and(|expect| !expect.is_ready()) {}
            }
            // It is left as it is.
            b'Z' if link.dying => {}
            b'Z' => {
                link.status = body.first().copied().and_then(TxStatus::from_byte).unwrap_or(TxStatus::Failed);
                while link.replies.pop().is_some() {}
                link.completed = 0;
                link.failed = false;
                if link.status != TxStatus::Idle {
                    link.retired = Some("a transaction block after a statement that runs once more");
                }
                self.take_back();
            }
            b'E' => link.dying |= ErrorNotice::decode(body).is_fatal(),
            // Told when the connection is used next.
            b'S' => link.lease.take_parameter_status(body),
            b'A' => self.take_notification(body),
            _ => {}
        }
    }

    /// What is under way on the link, or was to be sent on it, is to run elsewhere.
    pub(super) fn plan_rerun(&mut self, cause: RerunCause, code: SqlState, error: Vec<u8>, culprit: Option<Vec<u8>>) {
        let before = self.again.take();
        let (tried, attempts) = before.map_or((0, 0), |before| (before.tried, before.attempts));
        let State::Linked(link) = &mut self.state else { return };
        let tried = if cause == RerunCause::Lost { tried | 1 << (link.node % 64) } else { tried };
        link.rerun.state = Repeat::Due;
        link.rerun.held.clear();
        self.metrics.rerun(cause.as_str());
        tracing::debug!(client = self.client.id, cause = cause.as_str(), %code, "a statement runs once more");
        self.again = Some(Box::new(Again { cause, code, error, culprit, tried, attempts: attempts + 1 }));
    }

    /// What was kept is to be taken as if it had just come. A cancel request that has gone to the connection that is left, and all
    /// that come from now on, mean what is taken back.
    pub(super) fn take_back(&mut self) {
        let cause = self.again.as_ref().map_or("", |again| again.cause.as_str());
        self.client.unassign();
        if let State::Linked(link) = &self.state
            && link.rerun.cancels_sent != self.client.cancels_sent()
        {
            self.client.request(Request::CancelWait);
        }
        let Self { state: State::Linked(link), names, inbox, awaits, deferred, .. } = self else { return };
        if link.rerun.with_block {
            deferred.begin_anew();
        }
        link.rerun = Rerun::default();
        link.close_segment();
        // What it has closed stands again, to be used before that once more.
        link.replies.undo(names, &mut link.lease.prepared);
        for frame in frames(&link.lease.kept) {
            if frame.tag == b'P'
                && let Some(parse) = frontend::parse(frame.body())
                && !parse.name.is_empty()
            {
                // Free before: a Parse of a name that is taken is not kept.
                names.remove(parse.name);
            }
        }
        names.bound = None;
        inbox.splice(0..0, link.lease.kept.iter().copied());
        *awaits = 0;
        link.lease.kept.clear();
        self.resumed = true;
        self.segment_cleared = false;
        self.skip_to_sync = false;
        self.timing.again(cause);
    }

    /// Where the statement that runs once more has to run; `None` = there is none, or it may run where it belongs.
    pub(super) fn place_again(&self) -> Option<Place> {
        self.again.as_ref().and_then(|again| again.place())
    }

    /// Nodes that were lost under the statement that runs once more, as a bit set.
    pub(super) fn nodes_tried(&self) -> u64 {
        self.again.as_ref().map_or(0, |again| again.tried)
    }

    /// The statement has been answered: what its failure has taught is remembered.
    pub(super) fn rerun_ended(&mut self) {
        let Some(again) = self.again.take() else { return };
        if let Some(culprit) = &again.culprit
            && self.timing.error() != Some(again.code)
        {
            self.learn(culprit, again.cause);
        }
    }

    /// There is nowhere to run it once more. The error of the attempt before, if it is to be told instead.
    pub(super) fn rerun_failed(&mut self) -> Option<Vec<u8>> {
        let again = self.again.take()?;
        self.metrics.not_rerun(again.cause.as_str(), "no_server");
        (!again.error.is_empty() && again.cause != RerunCause::Lost).then_some(again.error)
    }

    fn learn(&self, statement: &[u8], cause: RerunCause) {
        self.decisions.remember_primary(statement, self.lex, cause);
        // What is known of the schema said that a replica would do.
        self.decisions.doubt_catalog();
        tracing::info!(
            database = self.client.database,
            cause = cause.as_str(),
            statement = shown(statement, self.lex),
            "a replica refused this statement: it is kept on the primary (SHOW LEARNED)"
        );
    }

    fn primary_is_up(&self) -> bool {
        let cluster = &self.pools.cluster;
        cluster.primary().is_some_and(|primary| cluster.nodes[primary].load.is_up())
    }

    /// The text of the statement that has just failed.
    fn culprit(&self) -> Option<Vec<u8>> {
        let State::Linked(link) = &self.state else { return None };
        let (tag, from_end) = link.replies.place_of_head()?;
        let frames: Vec<_> = frames(&link.lease.kept).collect();
        let (at, frame) = frames.iter().enumerate().rev().filter(|(_, frame)| frame.tag == tag).nth(from_end)?;
        let before = &frames[..at];
        let name = match tag {
            b'Q' => return frontend::query(frame.body()).map(<[u8]>::to_vec),
            b'B' => frontend::bind_head(frame.body())?.statement,
            _ => {
                let (portal, _) = frontend::execute(frame.body())?;
                let binds = before.iter().rev().filter(|frame| frame.tag == b'B');
                binds
                    .filter_map(|frame| frontend::bind_head(frame.body()))
                    .find(|head| head.portal == portal)?
                    .statement
            }
        };
        let parses = before.iter().rev().filter(|frame| frame.tag == b'P');
        let parsed = parses.filter_map(|frame| frontend::parse(frame.body())).find(|parse| parse.name == name);
        match parsed {
            Some(parse) => Some(parse.sql.to_vec()),
            None => self.names.get(name)?.shared().map(|statement| statement.sql.to_vec()),
        }
    }
}

fn frames(bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    let mut walker = FrameWalker::new(bytes);
    std::iter::from_fn(move || match walker.step(frontend_limit) {
        Ok(Step::Whole(frame)) => Some(frame),
        _ => None,
    })
}

fn shown(statement: &[u8], lex: LexOptions) -> String {
    let mut text = normalize(statement, lex);
    text.truncate(text.floor_char_boundary(300));
    text
}

/// What an error of a standby's says about running the statement elsewhere. Texts may be in any language: codes count, and the names
/// of the server's routines (of PostgreSQL's source: `postgres.c`, `plancat.c`, `utility.c`, `lock.c`, `standby.c`).
pub(super) fn cause_of(code: SqlState, routine: &[u8], is_fatal: bool) -> Option<RerunCause> {
    Some(match (code.as_str(), code.class()) {
        ("40001" | "40P01" | "57P04", _) => RerunCause::Conflict,
        _ if is_fatal => RerunCause::Lost,
        ("25006", _) => RerunCause::ReadOnly,
        // An outdated plan (`heal`).
        ("0A000", _) if routine == b"RevalidateCachedQuery" => return None,
        ("0A000" | "55000", _) => RerunCause::Recovery,
        (_, "XX") => RerunCause::Internal,
        // A syntax error, and a name that is taken, do not depend on the node.
        ("42601" | "42P05", _) => return None,
        ("3F000", _) | (_, "42") => RerunCause::Lag,
        _ => return None,
    })
}

/// Whether the error alone tells that the statement will not run on any standby.
fn is_certain(code: SqlState, routine: &[u8]) -> bool {
    code == SqlState::READ_ONLY_TRANSACTION
        || (code == SqlState::FEATURE_NOT_SUPPORTED && routine == b"get_relation_info")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn causes() {
        let cause =
            |code: &[u8; 5], routine: &[u8], fatal| cause_of(SqlState::from_bytes(code).unwrap(), routine, fatal);
        assert_eq!(cause(b"25006", b"", false), Some(RerunCause::ReadOnly));
        assert_eq!(cause(b"0A000", b"get_relation_info", false), Some(RerunCause::Recovery));
        assert_eq!(cause(b"0A000", b"RevalidateCachedQuery", false), None);
        assert_eq!(cause(b"40001", b"ProcessInterrupts", true), Some(RerunCause::Conflict));
        assert_eq!(cause(b"57P01", b"", true), Some(RerunCause::Lost));
        assert_eq!(cause(b"42P01", b"", false), Some(RerunCause::Lag));
        assert_eq!(cause(b"42501", b"", false), Some(RerunCause::Lag));
        for code in [b"42601", b"42P05", b"57014", b"22012", b"26000", b"53100"] {
            assert_eq!(cause(code, b"", false), None);
        }
    }

    #[test]
    fn what_comes_before_a_result_waits() {
        let mut rerun = Rerun { state: Repeat::Can, ..Rerun::default() };
        let mut told = Vec::new();
        rerun.came(b'1');
        assert!(rerun.holds(b"1", false, &mut told));
        rerun.came(b'D');
        assert!(!rerun.holds(b"D", false, &mut told));
        assert_eq!((told.as_slice(), rerun.state), (&b"1"[..], Repeat::No("begun")));
    }

    #[test]
    fn a_description_that_was_asked_for_with_a_flush_does_not_wait() {
        let mut rerun = Rerun { state: Repeat::Can, ..Rerun::default() };
        let mut told = Vec::new();
        rerun.came(b'T');
        assert!(!rerun.holds(b"tT", true, &mut told));
        assert_eq!(rerun.state, Repeat::No("begun"));
    }
}
