//! Getting a server connection, and getting it ready for this session.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use quanta::Instant;

use crate::backend::{self, OpenError, Value};
use crate::observe::Blame;
use crate::pool::{CheckOutError, Lease, Pool};
use crate::sql::Effects;
use crate::wire::{ErrorNotice, Severity, SqlState, build};

use super::breaker::breaks;
use super::buffers::{drain, fill};
use super::clients::Request;
use super::freshness::Choice;
use super::machine::State;
use super::placement::Place;
use super::relay::{Ending, Session};
use super::spare;

/// Pause before a node that could not be reached is tried again on behalf of a waiting client.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How a wait ended.
pub(super) enum Waited {
    Leased(Lease),
    Failed(CheckOutError),
    /// A connection to a replica that may have restarted since it was asked what it has.
    Unconfirmed,
    Cancelled,
    Killed,
    /// Its connection was closed: it leaves the line, and its statement never runs.
    ClientGone,
    /// The roles of the nodes may be others now.
    Again,
}

impl Session {
    /// Whether there was a reload that the session has not followed yet.
    pub(super) fn is_outdated(&self) -> bool {
        self.ctx.generation.load(Ordering::Acquire) != self.generation
    }

    /// Follows a reload: the session's database and user may have new pools, or be gone.
    pub(super) fn refresh(&mut self) -> Result<(), Ending> {
        if !self.is_outdated() {
            return Ok(());
        }
        self.generation = self.ctx.generation.load(Ordering::Acquire);
        let gone = |what: &str| {
            let notice =
                ErrorNotice::fatal(SqlState::ADMIN_SHUTDOWN, format!("{what} was removed from the configuration"));
            Ending::Told(Box::new(notice), Blame::Config)
        };
        let cluster = self.ctx.directory.cluster(&self.client.database).map_err(|_| gone("the database"))?;
        let config = self.ctx.config.load_full();
        self.pools = cluster.pools_after(&self.pools, &config, &self.ctx.directory.auth, &self.ctx.metrics);
        let database = &self.pools.cluster.database;
        self.pool_settings = self.pools.settings();
        self.max_prepared = self.pool_settings.max_prepared as usize;
        self.timing.threshold = config.slow_query(database, &self.client.user);
        self.timing.breaks = breaks(&database.routing.breaker);
        self.placement.follow(database);
        self.shards.follow(&database.citus);
        self.placement.own.consistency.default = config.consistency(database, &self.client.user);
        self.sight.follow(&self.pools.stamps, database);
        Ok(())
    }

    /// Takes a connection that is free at once.
    pub(super) fn try_acquire(&mut self, place: Place) -> bool {
        self.judge_needs();
        let Choice::Node(node) = self.choose(place, self.nodes_tried(), true) else { return false };
        let pool = &self.pools.pools[node];
        if self.wants_sequences {
            if let Some(lease) = pool.try_check_out_sequences_of(self.client.id) {
                return self.attach(lease, node, Duration::ZERO);
            }
            if self.used_sequences && !self.pools.keeps_sequences.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    database = self.client.database,
                    user = self.client.user,
                    "currval or lastval was asked for after the server connection had gone to another client: from now on, \
                     sessions of this user keep their connection once they write (INSERT … RETURNING needs neither)"
                );
            }
        }
        let Some(mut lease) = self.pools.pools[node].try_check_out(self.now) else { return false };
        if place == Place::Reader && !self.is_confirmed(node, &lease) {
            lease.check_in();
            return false;
        }
        if !self.can_use(&lease)
            || !self.is_as_coordinator(node, &lease)
            || (place == Place::Primary && !self.takes_writes(node, &mut lease))
        {
            // Not for this session: closed.
            return false;
        }
        self.attach(lease, node, Duration::ZERO)
    }

    /// Whether the session would find the server as a new one: with temporary objects first in its `search_path`, it matters whether
    /// the server has a schema for them. One that another client has left there cannot be taken away. Nor can `temp_buffers` be set where
    /// they have been used, or what another client had set when it used them.
    fn can_use(&self, lease: &Lease) -> bool {
        let is_own = lease.temp_schema_of == self.client.id;
        if lease.has_had_temp && (self.sets_temp_buffers || (lease.temp_buffers_set && !is_own)) {
            return false;
        }
        let is_temp_first = |value: &Value| match value {
            Value::Text(text) => text.split(',').next().is_some_and(|name| name.trim().trim_matches('"') == "pg_temp"),
            Value::List(names) => names.first().is_some_and(|name| name == "pg_temp"),
        };
        [0, self.client.id].contains(&lease.temp_schema_of)
            || !self.tracked.settings().get("search_path").is_some_and(is_temp_first)
    }

    /// A statement that may want a connection: whether it sets `temp_buffers`.
    pub(super) fn note_temp_buffers(&mut self, effects: Effects, text: &[u8]) {
        self.sets_temp_buffers |= sets_temp_buffers(effects, text);
    }

    /// Whether the connection is to a node that takes what is written there.
    fn takes_writes(&self, node: usize, lease: &mut Lease) -> bool {
        match self.pools.cluster.nodes[node].is_worker_primary() {
            true => lease.parameters.in_hot_standby() != Some(true),
            false => takes_writes(lease),
        }
    }

    /// Whether there is a primary, and it is up.
    pub(super) fn has_primary(&self) -> bool {
        let cluster = &self.pools.cluster;
        cluster.primary().is_some_and(|at| cluster.nodes[at].load.is_up())
    }

    /// Links the session to the connection; not if it was cancelled before (`false`).
    fn attach(&mut self, lease: Lease, node: usize, waited: Duration) -> bool {
        // Before anybody can cancel, what that would strike is known.
        let applying = self.deferred.is_open()
            || self.wants_sequences
            || self.notify.asks
            || !Arc::ptr_eq(&lease.settings, self.tracked.settings());
        if !self.client.assign(lease.pool(), &lease.info, applying) {
            lease.check_in();
            return false;
        }
        let primary = lease.pool().load.is_primary();
        lease.link(self.client.id, self.now);
        self.client.prepared.store(u32::try_from(self.names.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.timing.waited(waited);
        // A segment that was gathered runs here as a whole.
        self.segment_cleared = true;
        self.query_cancelled = false;
        let deaf = self.tracked.listens();
        let is_beside = !self.deferred.is_open() || self.deferred.offloads;
        let unsure = !primary && is_beside && self.pools.default_path.is_wanted();
        let mut link = spare::place(lease, node, primary);
        (link.deaf, link.applying, link.unsure) = (deaf, applying, unsure);
        self.note_worker(&mut link);
        self.metrics.assigned(link.role(), waited);
        self.transition(State::Linked(link));
        true
    }

    /// Waits for a connection. When none can be had the client learns why, and the session goes on.
    pub(super) async fn acquire(&mut self, place: Place) -> Result<(), Ending> {
        self.transition(State::Waiting);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.client.waiting_since.store(u64::try_from(since.as_micros()).unwrap_or(0), Ordering::Relaxed);
        let outcome = self.wait_for_lease(place).await;
        self.client.waiting_since.store(0, Ordering::Relaxed);
        let refusal = match outcome {
            Ok((lease, node, waited)) => match self.attach(lease, node, waited) {
                true => return Ok(()),
                false => self.cancelled(),
            },
            Err(ending) => ending?,
        };
        self.transition(State::Idle);
        self.refuse_waiting(refusal);
        Ok(())
    }

    async fn wait_for_lease(&mut self, place: Place) -> Result<(Lease, usize, Duration), Result<ErrorNotice, Ending>> {
        let began = Instant::now();
        let mut tried = self.nodes_tried();
        let mut may_wait = true;
        loop {
            self.refresh().map_err(Err)?;
            // The primary may be found to be down while the statement waits for it.
            let place = if self.only_sets && !self.has_primary() { Place::Reader } else { place };
            let choice = self.choose(place, tried, may_wait);
            let node = match choice {
                Choice::Node(node) => Some(node),
                Choice::Nowhere => None,
                Choice::Wait | Choice::Overtaken => {
                    let waited = match choice {
                        Choice::Overtaken => self.wait_for_commits(began).await,
                        _ => {
                            may_wait = false;
                            self.wait_for_replica(tried, began).await
                        }
                    };
                    match waited {
                        Ok(()) => continue,
                        Err(Waited::Cancelled) => return Err(Ok(self.cancelled())),
                        Err(Waited::Killed) => return Err(Err(Ending::killed())),
                        Err(_) => return Err(Err(Ending::ClientGone)),
                    }
                }
            };
            if node.is_none() {
                tried = self.nodes_tried();
                if let Some(refusal) = self.no_node(place, began) {
                    return Err(Ok(refusal));
                }
            }
            match (self.wait_at(node, place, began).await, node) {
                (Waited::Leased(mut lease), Some(node)) => {
                    if place == Place::Primary && !self.takes_writes(node, &mut lease) {
                        // It has been demoted, and that will be known in a moment.
                        drop(lease);
                        if let Some(refusal) = self.no_node(place, began) {
                            return Err(Ok(refusal));
                        }
                        tokio::time::sleep(RETRY_PAUSE).await;
                    } else if self.can_use(&lease) && self.is_as_coordinator(node, &lease) {
                        return Ok((lease, node, began.elapsed()));
                    }
                }
                (Waited::Again | Waited::Leased(_), _) => {}
                // Its server may not be the one that was fresh enough.
                (Waited::Unconfirmed, node) => tried |= node.map_or(0, |node| 1 << (node % 64)),
                (Waited::Cancelled, _) => return Err(Ok(self.cancelled())),
                (Waited::Killed, _) => return Err(Err(Ending::killed())),
                (Waited::ClientGone, _) => return Err(Err(Ending::ClientGone)),
                (Waited::Failed(CheckOutError::Closed), _) => tokio::time::sleep(Duration::from_millis(1)).await,
                (Waited::Failed(CheckOutError::Timeout), _) => return Err(Ok(self.wait_timed_out())),
                (Waited::Failed(CheckOutError::Open(error)), node) => {
                    if !self.may_try_again(place, node, &mut tried, &error, began) {
                        return Err(Ok(backend::open_failure(&error)));
                    }
                    if node.is_some() && self.pools.cluster.primary() == node {
                        // Whoever failed before it may be back by now.
                        tried = self.nodes_tried();
                        tokio::time::sleep(RETRY_PAUSE).await;
                    }
                }
            }
        }
    }

    /// Why a statement that no node takes at the moment does not go on waiting for one (trap 85).
    fn no_node(&self, place: Place, began: Instant) -> Option<ErrorNotice> {
        let cluster = &self.pools.cluster;
        if cluster.database.read_only && place == Place::Primary {
            let notice =
                ErrorNotice::error(SqlState::READ_ONLY_TRANSACTION, "cannot write: this database is read-only here");
            return Some(notice.hint("It is configured with read_only = true: only reads are possible."));
        }
        if self.may_wait_on(began) {
            return None;
        }
        let what = if place == Place::Primary { "no primary" } else { "no node" };
        let notice =
            ErrorNotice::error(SqlState::CANNOT_CONNECT_NOW, format!("{what} is available for this statement"));
        Some(
            notice
                .detail(cluster.why_no_primary())
                .hint("Reads go on as long as a replica is there; see SHOW NODES on the admin console."),
        )
    }

    /// A failure to open: a read goes to another node, and whatever was for a worker to the coordinator; a write waits for its primary
    /// until the time for waiting is over.
    fn may_try_again(
        &self,
        place: Place,
        node: Option<usize>,
        tried: &mut u64,
        error: &OpenError,
        began: Instant,
    ) -> bool {
        let is_primary = node.is_some() && self.pools.cluster.primary() == node;
        *tried |= node.map_or(0, |node| 1 << (node % 64));
        let is_worker = node.is_some_and(|node| self.pools.cluster.nodes[node].is_worker());
        if is_worker || (place == Place::Reader && !is_primary) {
            return true;
        }
        error.says_node_is_down() && self.may_wait_on(began)
    }

    /// Whether a statement that came then may still wait for a node. A pause is no lack of nodes.
    fn may_wait_on(&self, began: Instant) -> bool {
        let gate = self.ctx.directory.gates.find(&self.client.database);
        let waited = gate.map_or(began, |gate| gate.without_pauses(began)).elapsed();
        self.pool_settings.wait_timeout.is_none_or(|limit| waited < limit)
    }

    /// Waits for a connection to the node, or until there may be a node at all.
    async fn wait_at(&mut self, node: Option<usize>, place: Place, began: Instant) -> Waited {
        let pool = node.map(|node| self.pools.pools[node].clone());
        let (slot, cluster) = (self.slot.clone(), self.pools.cluster.clone());
        let is_worker = node.is_some_and(|node| cluster.nodes[node].is_worker_primary());
        let leased = async {
            match &pool {
                Some(pool) => match pool.check_out(&slot).await {
                    Ok(lease) => Waited::Leased(lease),
                    Err(error) => Waited::Failed(error),
                },
                // A node that comes back changes no role: look now and then.
                None => {
                    let _ = tokio::time::timeout(RETRY_PAUSE, cluster.roles().changed()).await;
                    Waited::Again
                }
            }
        };
        // Who stands in line for a primary that is none any more was sent away, unless he came a moment later.
        let takes_writes = move |pool: &Arc<Pool>| pool.load.is_primary() || is_worker;
        let is_void = || place == Place::Primary && pool.as_ref().is_some_and(|pool| !takes_writes(pool));
        let (lease, node) = match (self.beside_client(began, is_void, leased).await, node) {
            (Ok(Waited::Leased(lease)), Some(node)) if place == Place::Reader && !self.is_confirmed(node, &lease) => {
                (lease, node)
            }
            (Ok(waited) | Err(waited), _) => return waited,
        };
        match self.confirm(node, &lease, began).await {
            Ok(true) => Waited::Leased(lease),
            unconfirmed => {
                lease.check_in();
                unconfirmed.map_or_else(|waited| waited, |_| Waited::Unconfirmed)
            }
        }
    }

    /// Waits for something on behalf of the client, who may cancel, be killed or leave meanwhile; what it was sent before goes on
    /// its way. Ends with [`Waited::Again`] when `is_void` says so.
    pub(super) async fn beside_client<T>(
        &mut self,
        began: Instant,
        is_void: impl Fn() -> bool,
        what: impl Future<Output = T>,
    ) -> Result<T, Waited> {
        let client = self.client.clone();
        // Told once, however many times the wait begins anew.
        let notify = self.pool_settings.wait_notify.and_then(|after| after.checked_sub(began.elapsed()));
        let mut notify = notify.map(|after| Box::pin(tokio::time::sleep(after)));
        let (stream, to_client, inbox) = (&mut self.stream, &mut self.to_client, &mut self.inbox);
        let metrics = &mut self.metrics;
        let asked = poll_fn(|cx| {
            if let Some(timer) = &mut notify
                && timer.as_mut().poll(cx).is_ready()
            {
                notify = None;
                still_waiting(began.elapsed()).encode(to_client);
            }
            // Answers to what came before must not wait, too.
            while !to_client.is_empty() {
                match drain(stream, to_client, cx) {
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Waited::ClientGone),
                    Poll::Pending => break,
                }
            }
            if stream.wants_flush()
                && let Poll::Ready(Err(_)) = stream.poll_push(cx)
            {
                return Poll::Ready(Waited::ClientGone);
            }
            match fill(stream, inbox, cx) {
                Ok(n) => metrics.client_received(n),
                Err(()) => return Poll::Ready(Waited::ClientGone),
            }
            client.set_waker(cx.waker());
            if is_void() {
                return Poll::Ready(Waited::Again);
            }
            if client.requested(Request::Kill) {
                return Poll::Ready(Waited::Killed);
            }
            if client.requested(Request::CancelWait) {
                return Poll::Ready(Waited::Cancelled);
            }
            Poll::Pending
        });
        tokio::select! {
            biased;
            done = what => Ok(done),
            waited = asked => Err(waited),
        }
    }

    /// The client has cancelled what it waits for; whatever became of an attempt before.
    fn cancelled(&mut self) -> ErrorNotice {
        self.client.clear(Request::CancelWait);
        self.again = None;
        ErrorNotice::error(SqlState::QUERY_CANCELED, "canceling statement due to user request")
    }

    fn wait_timed_out(&self) -> ErrorNotice {
        let limit = self.pool_settings.wait_timeout.unwrap_or_default();
        ErrorNotice::error(
            SqlState::QUERY_CANCELED,
            format!("no server connection came free within {limit:?} (wait_timeout)"),
        )
        .hint("Raise pool size or wait_timeout, or look for long transactions with SHOW CLIENTS on the admin console.")
    }

    /// The statement that waited fails: a Query at once, a segment of the extended protocol up to its Sync.
    fn refuse_waiting(&mut self, notice: ErrorNotice) {
        let blame = if notice.code == SqlState::QUERY_CANCELED { Blame::Proxy } else { Blame::Network };
        match self.rerun_failed() {
            Some(error) => {
                self.metrics.error(ErrorNotice::sqlstate_of(&error), Blame::Server);
                build::message(&mut self.to_client, b'E', |out| out.extend_from_slice(&error));
            }
            None => {
                self.metrics.error(notice.code, blame);
                notice.encode(&mut self.to_client);
            }
        }
        self.deferred.fail();
        self.drop_refused();
    }
}

/// Whether a statement sets `temp_buffers`, as far as its words tell.
pub(super) fn sets_temp_buffers(effects: Effects, text: &[u8]) -> bool {
    const NAME: &[u8] = b"temp_buffers";
    effects.intersects(Effects::SET_SESSION | Effects::SET_LOCAL)
        && text.windows(NAME.len()).any(|part| part.eq_ignore_ascii_case(NAME))
}

/// Whether the connection is to the node that takes writes, as far as anybody knows.
fn takes_writes(lease: &mut Lease) -> bool {
    let opened = lease.opened;
    let load = &lease.pool().load;
    if !load.is_primary() {
        return false;
    }
    if lease.parameters.in_hot_standby() != Some(true) {
        return true;
    }
    // What it said when it was opened is over if it was found to be no standby later on.
    if load.is_primary_since(opened) {
        lease.parameters.set(b"in_hot_standby", b"off");
        return true;
    }
    load.probe.notify_one();
    false
}

/// What a client is told that waits for long.
fn still_waiting(waited: Duration) -> ErrorNotice {
    ErrorNotice {
        severity: Severity::Notice,
        ..ErrorNotice::error(SqlState::SUCCESS, "all server connections are busy: still waiting for one")
    }
    .detail(format!("The statement has waited for {:.1} s.", waited.as_secs_f64()))
}
