//! The clock of a statement, for metrics and the slow-query log.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quanta::Instant;

use crate::backend::Prepared;
use crate::config::NodeRole;
use crate::observe::{Parameter, SlowLog};
use crate::sql::{Decision, Effects, Fingerprint, Reason, ShardKeyId, Target, TouchId};
use crate::wire::SqlState;
use crate::wire::frontend::bind_parameters;

use super::machine::State;
use super::relay::Session;
use super::why::Sampled;

/// Bytes of a statement's text that are kept for the slow-query log.
pub(super) const KEPT_TEXT: usize = 16 * 1024;

/// One statement, or one segment of the extended protocol: from its arrival to its ReadyForQuery.
#[derive(Debug)]
pub(super) struct Timing {
    /// Statements slower than this are logged.
    pub threshold: Option<Duration>,
    running: bool,
    arrived: Instant,
    transaction: Option<Instant>,
    waited: Duration,
    first_byte: Option<Instant>,
    decision: Decision,
    text: Vec<u8>,
    prepared: Option<Arc<Prepared>>,
    parameters: Vec<Parameter>,
    rows: u64,
    bytes: u64,
    error: Option<SqlState>,
    /// It runs once more, for this cause.
    rerun: Option<&'static str>,
    /// Its next attempt has not begun: the clock goes on.
    between_attempts: bool,
    /// It is counted by its text, too.
    pub sampled: Option<Sampled>,
    /// Failures count for the circuit breaker of the database.
    pub breaks: bool,
    /// The statement under way, or about to be, runs as a trial.
    pub trial: Option<Fingerprint>,
    /// Cancel requests that had been sent to servers when it began.
    pub cancels: u32,
    /// It is not the only one until the next ReadyForQuery.
    several: bool,
}

impl Timing {
    pub fn new(threshold: Option<Duration>, breaks: bool) -> Self {
        let decision = Decision {
            by_path: false,
            key: ShardKeyId::NONE,
            target: Target::Primary,
            reason: Reason::Empty,
            effects: Effects::empty(),
            touches: TouchId::NOTHING,
            level: None,
        };
        Self {
            threshold,
            running: false,
            arrived: Instant::now(),
            transaction: None,
            waited: Duration::ZERO,
            first_byte: None,
            decision,
            text: Vec::new(),
            prepared: None,
            parameters: Vec::new(),
            rows: 0,
            bytes: 0,
            error: None,
            rerun: None,
            between_attempts: false,
            sampled: None,
            breaks,
            trial: None,
            cancels: 0,
            several: false,
        }
    }

    /// Something that needs a server arrived; the statement that follows started here.
    pub fn arrived(&mut self, at: Instant) {
        if !self.running && !self.between_attempts {
            self.arrived = at;
            self.waited = Duration::ZERO;
        }
    }

    /// How long the transaction under way has been so.
    pub fn transaction_age(&self) -> Duration {
        self.transaction.unwrap_or(self.arrived).elapsed()
    }

    /// The session waited for a server connection.
    pub fn waited(&mut self, waited: Duration) {
        self.waited += waited;
    }

    /// A statement goes out. Those of one pipeline count as one until its next ReadyForQuery.
    /// Returns whether it is the first of those.
    pub fn begin(&mut self, decision: Decision, sql: &[u8], prepared: Option<&Arc<Prepared>>) -> bool {
        if self.running {
            self.several = true;
            return false;
        }
        self.running = true;
        self.several = false;
        self.sampled = None;
        if !std::mem::take(&mut self.between_attempts) {
            self.rerun = None;
        }
        self.first_byte = None;
        self.decision = decision;
        self.rows = 0;
        self.bytes = 0;
        self.error = None;
        if self.threshold.is_some() || self.breaks {
            self.text.clear();
            self.text.extend_from_slice(&sql[..sql.len().min(KEPT_TEXT)]);
            self.prepared = prepared.cloned();
            self.parameters.clear();
        }
        true
    }

    /// Whether one is under way.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// What the statement under way does besides its result.
    pub fn effects(&self) -> Effects {
        self.decision.effects
    }

    /// The text of the statement under way, or that has just ended, when it was the only one.
    pub fn only_text(&self) -> Option<&[u8]> {
        let text = self.prepared.as_ref().map_or(&self.text[..], |prepared| &prepared.sql);
        (!self.several).then_some(text)
    }

    /// When the statement under way arrived.
    pub fn arrival(&self) -> Instant {
        self.arrived
    }

    /// Whether a Bind that comes now starts a statement whose parameters the log wants.
    pub fn wants_parameters(&self, log: &SlowLog) -> bool {
        !self.running && self.threshold.is_some() && log.wants_parameters()
    }

    /// Keeps the start of the first parameters of the Bind that has just started a statement; `rest` is what follows its
    /// head, as far as it is here.
    pub fn keep_parameters(&mut self, rest: &[u8]) {
        let bound = bind_parameters(rest).into_iter().flatten().take(Parameter::MOST);
        self.parameters.extend(bound.map(|one| Parameter::capture_start(one.binary, one.value, one.len)));
    }

    /// Bytes came from the server, at this moment.
    pub fn received(&mut self, bytes: usize, now: Instant) {
        if self.running {
            self.bytes += bytes as u64;
            if self.first_byte.is_none() && self.threshold.is_some() {
                self.first_byte = Some(now);
            }
        }
    }

    /// What came so far answered settings of ours that went ahead of the statement: its first byte is still to come.
    pub fn not_yet(&mut self) {
        self.first_byte = None;
        self.bytes = 0;
    }

    pub fn completed(&mut self, rows: u64) {
        self.rows += rows;
    }

    /// Whether the statement under way has met an error.
    pub fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    pub fn failed(&mut self, code: SqlState) {
        self.error = Some(code);
    }

    /// What was under way runs once more: its time goes on, all else begins anew.
    pub fn again(&mut self, cause: &'static str) {
        self.running = false;
        self.between_attempts = true;
        self.rerun = Some(cause);
        self.error = None;
    }

    /// The error that the statement under way has met.
    pub fn error(&self) -> Option<SqlState> {
        self.error
    }

    /// Gives the text's memory back when it is more than a little.
    pub fn rest(&mut self) {
        if self.text.capacity() > 256 {
            self.text = Vec::new();
        }
        self.prepared = None;
        self.parameters = Vec::new();
    }
}

impl Session {
    /// A ReadyForQuery for the client: counts the statement, and logs it when it was slow.
    pub(super) fn statement_ended(&mut self, now: Instant, transaction_ended: bool) {
        let State::Linked(link) = &self.state else { return };
        let role = link.role();
        let node = link.node;
        let timing = &mut self.timing;
        timing.between_attempts = false;
        let began = *timing.transaction.get_or_insert(timing.arrived);
        if timing.running {
            timing.running = false;
            let took = now.duration_since(timing.arrived);
            self.metrics.statement(role, took);
            self.count_sampled(took);
            if self.timing.breaks {
                self.judge_for_breaker(self.timing.error);
            }
            let timing = &self.timing;
            if timing.threshold.is_some_and(|threshold| took >= threshold) {
                self.log_slow(node, role, took, now);
            }
        }
        if transaction_ended {
            self.timing.transaction = None;
            self.metrics.transaction(now.duration_since(began));
        }
        self.timing.arrived = now;
    }

    /// A block has ended that no server knew of.
    pub(super) fn block_ended(&mut self, now: Instant) {
        if let Some(began) = self.timing.transaction.take() {
            self.metrics.transaction(now.duration_since(began));
        }
    }

    #[cold]
    fn log_slow(&mut self, node: usize, role: NodeRole, took: Duration, now: Instant) {
        let timing = &mut self.timing;
        let first_byte = timing.first_byte.unwrap_or(now);
        let sql = timing.prepared.as_ref().map_or(&timing.text[..], |prepared| &prepared.sql);
        let statement = crate::observe::SlowStatement {
            at: SystemTime::now(),
            total: took,
            wait: timing.waited,
            first_byte: first_byte.duration_since(timing.arrived).saturating_sub(timing.waited),
            transfer: now.duration_since(first_byte),
            role,
            node: &self.pools.cluster.nodes[node].settings.name,
            reason: timing.decision.reason,
            sql,
            lex: self.lex,
            database: &self.client.database,
            user: &self.client.user,
            application_name: &self.client.application_name,
            client: &self.client.peer.0,
            rows: timing.rows,
            bytes: timing.bytes,
            sqlstate: timing.error,
            rerun: timing.rerun,
            parameters: &timing.parameters,
        };
        self.ctx.slow_log.log(&statement);
        self.metrics.slow();
    }
}
