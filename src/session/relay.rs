//! The loop of a session: waits for its client and its server, moves bytes, and calls for what cannot be done at once.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as Cx, Poll, Waker};

use futures::FutureExt;
use quanta::Instant;
use tokio::time::Sleep;

use crate::backend::{Parameters, Prepared};
use crate::config::{PoolMode, PoolSettings};
use crate::net::Stream;
use crate::observe::{Blame, SessionMetrics, panics};
use crate::pool::WaiterSlot;
use crate::route::DecisionCache;
use crate::sql::LexOptions;
use crate::topology::UserPools;
use crate::wire::ErrorNotice;

use super::breaker::breaks;
use super::clients::{Client, Registered, Request};
use super::deferred::Deferred;
use super::evidence::Evidence;
use super::freshness::Sight;
use super::login::Login;
use super::machine::State;
use super::names::Names;
use super::notify::Notifying;
use super::partial::Unseen;
use super::pins::Pins;
use super::placement::{Place, Placement};
use super::rerun::Again;
use super::shards::Shards;
use super::timing::Timing;
use super::tracked::{Script, Tracked};
use super::{Context, buffers, passthrough, spare};

/// How often a client is read of in one turn, 64 KiB each time: small messages that are answered at once are thousands, and a client that sends
/// them without a pause would keep the thread for itself.
const MOST_READS: u32 = 4;

/// One client's session, from its login to its end.
pub struct Session {
    pub(super) ctx: Arc<Context>,
    pub(super) client: Arc<Client>,
    _registered: Registered,
    pub(super) stream: Stream,
    pub(super) pools: Arc<UserPools>,
    pub(super) pool_settings: Arc<PoolSettings>,
    /// What the session keeps for whatever server connection it gets.
    pub(super) tracked: Tracked,
    /// What portals change when they are executed, by their names.
    pub(super) scripts: Vec<(Box<[u8]>, Box<Script>)>,
    /// Portals of statements about settings for us alone, by their names, with the formats of their results.
    pub(super) own_portals: Vec<(Box<[u8]>, Arc<Prepared>, u16)>,
    /// The parameters that the client was told.
    pub(super) told: Arc<Parameters>,
    pub(super) lex: LexOptions,
    pub(super) decisions: Arc<DecisionCache>,
    pub(super) names: Names,
    pub(super) placement: Placement,
    pub(super) pins: Pins,
    /// Those of them that the console and the metrics know.
    pub(super) shown_pins: Pins,
    /// Those that were written to the log once.
    pub(super) logged_pins: Pins,
    /// The block that no server knows of yet.
    pub(super) deferred: Deferred,
    /// Whether they are still needed.
    pub(super) evidence: Evidence,
    pub(super) notify: Notifying,
    /// Those that came with the present transaction, and go when it is rolled back.
    pub(super) fresh_pins: Pins,
    /// Pins that the statement under way ends if it succeeds.
    pub(super) releasing: Pins,
    pub(super) metrics: SessionMetrics,
    pub(super) timing: Timing,
    pub(super) state: State,
    pub(super) slot: Arc<WaiterSlot>,
    /// How others wake the session, as the registry of clients has it.
    waker: Waker,
    /// Bytes of the client's that are read and not yet taken.
    pub(super) inbox: Vec<u8>,
    /// The inbox begins with a message of so many bytes, which is of no use before all of it is here; 0 = nothing is known.
    pub(super) awaits: usize,
    /// The inbox cannot go on before the server has answered.
    pub(super) stalled: bool,
    /// It has: the inbox is to be looked at again, whether or not more comes from the client.
    pub(super) resumed: bool,
    /// Bytes for the client that its socket would not take yet, or that we made.
    pub(super) to_client: Vec<u8>,
    /// Bytes of the client's current frame that are still to pass unseen.
    pub(super) client_pass: usize,
    pub(super) pass_is_dropped: bool,
    /// A Query is under way, or was since the connection was last at rest, that is too long to be looked into.
    pub(super) unseen: Option<Box<Unseen>>,
    /// An error voided the client's messages up to its next Sync.
    pub(super) skip_to_sync: bool,
    /// The segment at hand was judged and is on the right node.
    pub(super) segment_cleared: bool,
    /// The statement that wants a connection asks for what the session last got from a sequence.
    pub(super) wants_sequences: bool,
    /// The statement that wants a connection sets `temp_buffers`.
    pub(super) sets_temp_buffers: bool,
    /// The statement that wants a connection changes nothing but the session's settings.
    pub(super) only_sets: bool,
    /// The session has run something that may have used a sequence.
    pub(super) used_sequences: bool,
    /// What it has written and read.
    pub(super) sight: Sight,
    /// Which shards its statements concern, of a database that Citus distributes.
    pub(super) shards: Shards,
    /// A statement that may change the schema is under way in this transaction.
    pub(super) changes_schema: bool,
    /// One that may do so unseen.
    pub(super) doubts_schema: bool,
    /// Session pooling: the lease is kept until the client leaves.
    pub(super) keeps_lease: bool,
    pub(super) statement_mode: bool,
    pub(super) max_prepared: usize,
    pub(super) max_inspect: usize,
    pub(super) generation: usize,
    pub(super) timer: Option<Pin<Box<Sleep>>>,
    /// The clock, as it was read when bytes last came from either side.
    pub(super) now: Instant,
    /// When the present state began, for time-outs.
    pub(super) since: Instant,
    pub(super) query_cancelled: bool,
    /// The statement under way runs once more.
    pub(super) again: Option<Box<Again>>,
    /// While bytes of the server's are taken: whether what the client has been sent ends within a message.
    pub(super) taking_within: Option<bool>,
}

/// Why the loop stopped moving bytes.
pub(super) enum Event {
    /// A server connection is needed.
    Acquire(Place),
    /// The lease is at rest, but cancel requests are still on their way to it.
    AwaitCancels,
    /// The session ends.
    End(Ending),
}

/// How a session ends.
pub(super) enum Ending {
    /// The client said goodbye.
    Goodbye,
    /// The client is gone.
    ClientGone,
    /// With a last word to the client.
    Told(Box<ErrorNotice>, Blame),
    /// By a bug of ours: nothing of its state is to be relied on.
    Panicked(Box<ErrorNotice>),
}

/// Serves a client that has logged in, until its session ends.
pub async fn serve(login: Box<Login>) {
    if login.replication.is_some() {
        return Box::pin(passthrough::serve(*login)).await;
    }
    Session::new(*login).run().await;
}

impl Session {
    fn new(login: Login) -> Box<Self> {
        let Login { ctx, stream, registered, pools, generation, settings, told, lex, mut own, .. } = login;
        let config = ctx.config.load();
        let database = &pools.cluster.database;
        let pool_settings = pools.settings();
        own.consistency.default = config.consistency(database, &pools.user);
        let sight = Sight::new(&pools);
        let shards = Shards::new(&database.citus);
        let metrics = ctx.metrics.session(&pools.database, &pools.user);
        let now = Instant::now();
        Box::new(Self {
            client: registered.client.clone(),
            _registered: registered,
            stream,
            placement: Placement::new(database, pool_settings.mode, &settings, own),
            keeps_lease: pool_settings.mode == PoolMode::Session,
            statement_mode: pool_settings.mode == PoolMode::Statement,
            max_prepared: pool_settings.max_prepared as usize,
            max_inspect: config.client.max_inspect_bytes as usize,
            timing: Timing::new(config.slow_query(database, &pools.user), breaks(&database.routing.breaker)),
            generation,
            decisions: ctx.decisions(database, &pools.database),
            pool_settings,
            pools,
            tracked: Tracked::new(settings),
            scripts: Vec::new(),
            own_portals: Vec::new(),
            told,
            lex,
            names: Names::default(),
            pins: Pins::empty(),
            shown_pins: Pins::empty(),
            logged_pins: Pins::empty(),
            deferred: Deferred::default(),
            evidence: Evidence::default(),
            notify: Notifying::default(),
            fresh_pins: Pins::empty(),
            releasing: Pins::empty(),
            metrics,
            state: State::Idle,
            slot: Arc::default(),
            waker: Waker::noop().clone(),
            inbox: Vec::new(),
            awaits: 0,
            stalled: false,
            resumed: false,
            to_client: Vec::new(),
            client_pass: 0,
            pass_is_dropped: false,
            unseen: None,
            skip_to_sync: false,
            segment_cleared: false,
            wants_sequences: false,
            sets_temp_buffers: false,
            only_sets: false,
            used_sequences: false,
            sight,
            shards,
            timer: None,
            now,
            since: now,
            query_cancelled: false,
            again: None,
            changes_schema: false,
            doubts_schema: false,
            taking_within: None,
            ctx,
        })
    }

    /// The future of an idle session is small: what is done rarely is in boxes of its own.
    async fn run(mut self: Box<Self>) {
        // The future is given up with the panic; what it has left of the session is only closed.
        let ending = AssertUnwindSafe(self.pump()).catch_unwind().await.unwrap_or_else(|_| panicked());
        if self.changes_schema {
            // It may have ended well, unheard.
            self.decisions.schema_changed();
        }
        if self.doubts_schema {
            self.decisions.distrust_catalog();
        }
        Box::pin(self.end(ending)).await;
    }

    /// Moves bytes until the session ends.
    async fn pump(&mut self) -> Ending {
        loop {
            match poll_fn(|cx| self.poll_io(cx)).await {
                Event::Acquire(place) => {
                    if let Err(ending) = Box::pin(self.acquire(place)).await {
                        return ending;
                    }
                    // With the connection, or with the error told, the inbox goes on.
                    self.resumed = true;
                }
                Event::AwaitCancels => {
                    if let Err(ending) = Box::pin(self.await_cancels()).await {
                        return ending;
                    }
                }
                Event::End(ending) => return ending,
            }
        }
    }

    /// Moves bytes until nothing moves, or until something is needed that takes waiting for.
    fn poll_io(&mut self, cx: &mut Cx<'_>) -> Poll<Event> {
        if !self.waker.will_wake(cx.waker()) {
            self.waker.clone_from(cx.waker());
            self.client.set_waker(cx.waker());
        }
        // Nothing more comes of the client before its socket wakes the session.
        let mut client_waits = false;
        let mut reads = 0;
        loop {
            if self.client.any_request()
                && let Some(ending) = self.poll_requests()
            {
                return Poll::Ready(Event::End(ending));
            }
            if self.client.requested(Request::Suspend) || self.client.is_frozen() {
                match self.freeze(cx) {
                    Ok(true) => return Poll::Pending,
                    Ok(false) => {}
                    Err(ending) => return Poll::Ready(Event::End(ending)),
                }
            }
            self.show_pins();
            let mut moved = false;
            match self.poll_backlogs(cx) {
                Ok(progress) => moved |= progress,
                Err(ending) => return Poll::Ready(Event::End(ending)),
            }
            match self.poll_server(cx).and_then(|progress| Ok(progress | self.poll_notifications()?)) {
                Ok(progress) => moved |= progress,
                Err(ending) => return Poll::Ready(Event::End(ending)),
            }
            match self.poll_inbox(cx) {
                Ok(progress) => moved |= progress,
                Err(event) => return Poll::Ready(event),
            }
            self.show_pins();
            moved |= self.ask_for_evidence(cx) | self.tidy(cx);
            if self.may_release() {
                // Given to the next client before anything else is read of this one.
                if !self.release() {
                    return Poll::Ready(Event::AwaitCancels);
                }
                moved = true;
            }
            if !client_waits {
                if reads == MOST_READS {
                    return give_others_their_turn(cx);
                }
                match self.poll_client(cx) {
                    Ok(Poll::Ready(progress)) => {
                        moved |= progress;
                        reads += u32::from(progress);
                    }
                    Ok(Poll::Pending) => client_waits = true,
                    Err(event) => return Poll::Ready(event),
                }
            }
            if !moved || (client_waits && self.rests()) {
                return match self.poll_timer(cx) {
                    Some(ending) => Poll::Ready(Event::End(self.or_unknown(ending))),
                    None => Poll::Pending,
                };
            }
        }
    }

    /// Whether nothing is left to be done or told: without a server connection nothing moves before somebody wakes the session.
    #[inline]
    fn rests(&self) -> bool {
        matches!(self.state, State::Idle)
            && !self.resumed
            && self.to_client.is_empty()
            && !self.stream.wants_flush()
            && self.notify.is_unconcerned()
    }

    /// Returns the lease. `false` while cancel requests are on their way to it.
    fn release(&mut self) -> bool {
        if !self.client.unassign() {
            return false;
        }
        if let State::Linked(mut link) = self.transition(State::Idle) {
            if let Some(reason) = link.retired {
                // The drop closes it.
                tracing::debug!(client = self.client.id, reason, "server connection closed");
            } else {
                link.lease.give_back(self.now);
                spare::keep(link);
            }
        }
        self.resume();
        self.segment_cleared = false;
        self.scripts.clear();
        self.own_portals.clear();
        self.names.bound = None;
        self.timing.rest();
        self.since = self.now;
        true
    }

    /// Waits until no cancel request is on its way to the lease any more. The client is heard meanwhile: what it cancels now is what it
    /// has sent since, if anything.
    async fn await_cancels(&mut self) -> Result<(), Ending> {
        let client = self.client.clone();
        let mut delivered = pin!(client.cancels_delivered());
        let gone = poll_fn(|cx| {
            match buffers::fill(&mut self.stream, &mut self.inbox, cx) {
                Ok(n) => self.metrics.client_received(n),
                Err(()) => return Poll::Ready(true),
            }
            if self.inbox.is_empty() {
                client.clear(Request::CancelWait);
            }
            delivered.as_mut().poll(cx).map(|()| false)
        });
        if gone.await {
            return Err(Ending::ClientGone);
        }
        // Before anything goes out on it: a request that comes from now on would not find it.
        if self.may_release() {
            self.release();
        }
        self.resumed |= !self.inbox.is_empty();
        Ok(())
    }

    /// The server has answered: what stood waiting for that goes on.
    pub(super) fn resume(&mut self) {
        self.resumed |= std::mem::take(&mut self.stalled);
    }
}

/// The session goes on when the thread has looked after the others, and after what has come for them.
fn give_others_their_turn(cx: &mut Cx<'_>) -> Poll<Event> {
    // It is pending, and wakes the session.
    let _ = pin!(tokio::task::yield_now()).as_mut().poll(cx);
    Poll::Pending
}

/// The end of a session in which a panic was caught.
fn panicked() -> Ending {
    let notice = panics::last_word().detail("Whether the statement that was under way has been executed is not known.");
    Ending::Panicked(Box::new(notice))
}
