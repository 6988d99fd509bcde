//! What a session's reads must see, and whether a node has that (design §5).
//!
//! A write is stamped when its transaction has ended, before its client learns of that. A read asks for the stamps of what it
//! reads; what it has read is remembered, so that its session never goes back in time.

use std::sync::Arc;
use std::time::Duration;

use quanta::Instant;
use smallvec::SmallVec;

use crate::config::Database;
use crate::observe::{Moment, ReadOutcome};
use crate::pool::Lease;
use crate::sql::{Consistency, Decision, Effects, Slots, TouchId, Touches};
use crate::topology::{Needs, Stamps, UserPools};
use crate::wire::TxStatus;

use super::acquire::Waited;
use super::machine::State;
use super::own_settings::OwnValue;
use super::placement::Place;
use super::prospect::Behind;
use super::relay::Session;

/// How long only what its session has read keeps a read off the replicas before it waits for one.
const DIVERTED: Duration = Duration::from_millis(50);
/// Longest wait until a new connection's server is known to be the one that was sampled.
const CONFIRMATION: Duration = Duration::from_millis(100);
/// Waiting reads say again so often that they wait.
const REMINDER: Duration = Duration::from_millis(20);
/// How often it is looked whether the primary shows what a replica has shown.
const COMMIT_POLL: Duration = Duration::from_millis(1);
/// More different texts that write in one transaction are taken for writes to every table.
const MAX_WRITING: usize = 8;

impl OwnValue for Consistency {
    const VALUES: &'static str = "eventual, session, table, strong";

    fn parse(text: &str) -> Option<Self> {
        Self::parse(text.as_bytes())
    }

    fn as_str(self) -> &'static str {
        Self::as_str(self)
    }
}

/// What a session has written and read, as far as its reads must know.
#[derive(Debug)]
pub(super) struct Sight {
    stamps: Arc<Stamps>,
    max_lag: Option<Duration>,
    wait: Option<Duration>,
    /// When a write of its own ended last.
    last_write: Moment,
    /// The same of writes of which no table tells.
    last_hidden: Moment,
    /// On which node it has read last, and when that ended.
    seen: Option<(u64, Moment)>,
    /// What is being written, by texts. Kept until nothing is under way and no block is open.
    writing: SmallVec<[TouchId; 4]>,
    /// The number of the rules by which it was judged what that touches.
    rules: u64,
    /// When the session was told a notification last: what it tells of has been committed.
    last_told: Moment,
    /// A notification is being sent, which is delivered with the commit. Kept as long as `writing`.
    notifying: bool,
    /// When that which may commit it was sent.
    committing: Option<Moment>,
    /// Something was sent that may commit, and not all of its answer has come: who loses the connection now can't rely on what it has heard.
    unanswered: bool,
    /// The end of a block was sent, and what followed it in the same pipeline runs outside one.
    past_end: bool,
    /// What is under way shows something that its own writes do not change.
    reads: bool,
    /// As `seen` and `reads`, without the reads that only a what-if mode keeps on the primary.
    seen_if_split: Option<(u64, Moment)>,
    reads_if_split: bool,
    /// What stood against the replicas, if the link at hand was got on the primary for that.
    pub missed: Option<Behind>,
    /// Since when only `seen` keeps its reads off the replicas.
    diverted: Option<Moment>,
    /// What the read needs that wants a connection, and at what level.
    pub needs: Needs,
    level: Consistency,
    /// No primary can be reached, and it may run on whatever replica there is.
    takes_any: bool,
    /// What became of it is counted.
    counted: bool,
}

/// Whether a statement shows more than the tables that it writes. What it writes is stamped, and no later read will see less of it.
fn shows(touches: &Touches, writes: bool) -> bool {
    match (&touches.reads, &touches.writes) {
        _ if touches.reads.is_none() => false,
        _ if !writes => true,
        (_, Slots::All) => false,
        (Slots::All, _) => true,
        (Slots::Some(reads), Slots::Some(writes)) => !reads.iter().all(|slot| writes.binary_search(slot).is_ok()),
    }
}

/// Something else is written. Too many different writes count as one to every table of the database, and one stands for all that
/// databases share.
fn note_write(writing: &mut SmallVec<[TouchId; 4]>, touches: TouchId) {
    if writing.contains(&touches) {
        return;
    }
    writing.push(touches);
    if writing.len() > MAX_WRITING {
        let shared = writing.iter().find(|touches| touches.get().shared).copied();
        writing.clear();
        writing.push(TouchId::EVERYTHING);
        writing.extend(shared);
    }
}

impl Sight {
    pub fn new(pools: &UserPools) -> Self {
        let routing = &pools.cluster.database.routing;
        Self {
            stamps: pools.stamps.clone(),
            max_lag: routing.max_lag,
            wait: routing.freshness_wait,
            last_write: Moment::NEVER,
            last_hidden: Moment::NEVER,
            seen: None,
            writing: SmallVec::new(),
            rules: 0,
            last_told: Moment::NEVER,
            notifying: false,
            committing: None,
            unanswered: false,
            past_end: false,
            reads: false,
            seen_if_split: None,
            reads_if_split: false,
            missed: None,
            diverted: None,
            needs: Needs::default(),
            level: Consistency::default(),
            takes_any: false,
            counted: false,
        }
    }

    /// Follows a reload.
    pub fn follow(&mut self, stamps: &Arc<Stamps>, database: &Database) {
        self.commit_ended();
        self.stamps = stamps.clone();
        self.max_lag = database.routing.max_lag;
        self.wait = database.routing.freshness_wait;
    }

    /// A statement goes out. `elsewhere` = it is on the primary only because of a what-if mode; `commits` = what is being written or
    /// notified may be committed by it.
    pub fn begin(&mut self, decision: Decision, elsewhere: bool, commits: bool) {
        let writes = decision.effects.contains(Effects::WRITES);
        let reads = shows(decision.touches.get(), writes);
        self.reads |= reads;
        self.reads_if_split |= reads && !elsewhere;
        if writes {
            note_write(&mut self.writing, decision.touches);
        }
        self.notifying |= decision.effects.contains(Effects::NOTIFIES);
        let commits = commits || self.past_end;
        self.past_end |= decision.effects.intersects(Effects::TX_END);
        self.unanswered |= commits && (self.is_writing() || self.notifying);
        if commits && self.is_writing() && self.committing.is_none() {
            let now = Moment::now();
            self.stamps.commit_sent(now);
            self.committing = Some(now);
        }
    }

    /// Texts are judged by these rules now. What was judged by others and is not over may write any table.
    pub fn judged_by(&mut self, rules: u64) {
        if self.rules != rules && self.is_writing() && !self.writing.contains(&TouchId::EVERYTHING) {
            self.writing.push(TouchId::EVERYTHING);
        }
        self.rules = rules;
    }

    /// A notification has been told: what it tells of is to be seen from now on.
    pub fn told(&mut self) {
        self.last_told = Moment::now();
    }

    fn commit_ended(&mut self) {
        if let Some(sent) = self.committing.take() {
            self.stamps.commit_ended(sent);
        }
    }

    /// Whether something is being written.
    pub fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }

    /// Whether something was sent that may commit what is being written or notified, and its ReadyForQuery has not come.
    pub fn is_committing(&self) -> bool {
        self.unanswered
    }

    /// What is being written may be visible from now on.
    pub fn stamp(&mut self, now: Moment) {
        for touches in &self.writing {
            let Touches { writes, shared, .. } = touches.get();
            if writes.is_none() {
                self.last_hidden = now;
            }
            if *shared {
                Stamps::wrote_shared(now);
            }
            self.stamps.wrote(writes, now);
        }
        self.last_write = now;
    }

    /// What is being written has been committed, or never will be.
    pub fn settle(&mut self) {
        if self.is_writing() {
            self.stamp(Moment::now());
        }
        self.unanswered = false;
        self.commit_ended();
    }

    /// A transaction has been committed. `more` = what is under way behind it may commit something, too.
    pub fn committed(&mut self, more: bool) {
        self.stamp(Moment::now());
        if !more {
            self.commit_ended();
        }
    }

    /// A ReadyForQuery came from a node that was in this incarnation before the statement was sent. `ended` = a transaction has ended since the last one; `quiet` = nothing
    /// more is under way.
    pub fn ready(&mut self, now: Moment, incarnation: u64, status: TxStatus, ended: bool, quiet: bool) {
        if self.reads {
            self.seen = Some((incarnation, now));
            self.reads = !quiet;
        }
        if self.reads_if_split {
            self.seen_if_split = Some((incarnation, now));
            self.reads_if_split = !quiet;
        }
        if self.is_writing() && (ended || status != TxStatus::InTransaction) {
            self.stamp(now);
            // What a later statement writes that is under way is stamped again at its own end.
            if quiet && status == TxStatus::Idle {
                self.writing.clear();
            }
        }
        if quiet {
            self.notifying &= status != TxStatus::Idle;
            self.past_end = false;
            self.unanswered = false;
            self.commit_ended();
        }
    }

    /// What a read of these tables needs that arrived at an instant. `if_split` = what it would need if reads were split.
    pub fn needs_of(&self, level: Consistency, reads: TouchId, arrived: Moment, if_split: bool) -> Needs {
        let seen = if if_split { self.seen_if_split } else { self.seen };
        match level {
            Consistency::Eventual => {
                let needed = self.max_lag.map_or(Moment::NEVER, |lag| Moment::now().before(lag));
                Needs { needed, seen: None, on_timeline: false }
            }
            Consistency::Session => Needs { needed: self.last_write.max(self.last_told), seen, on_timeline: true },
            Consistency::Table => {
                let needed = self.stamps.last_write(&reads.get().reads).max(self.last_hidden).max(self.last_told);
                Needs { needed, seen, on_timeline: true }
            }
            Consistency::Strong => Needs { needed: arrived, seen: None, on_timeline: true },
        }
    }

    /// How long a read waits at most for a replica that will have what it needs in a moment; `None` = not at all.
    pub fn wait(&self) -> Option<Duration> {
        self.wait
    }

    fn judge(&mut self, level: Consistency, reads: TouchId, arrived: Moment) {
        self.level = level;
        self.counted = false;
        self.missed = None;
        self.needs = self.needs_of(level, reads, arrived, false);
        if crate::observe::fault::is_asked_for("freshness", "blind") {
            self.needs = Needs::default();
        }
    }
}

impl Drop for Sight {
    fn drop(&mut self) {
        self.commit_ended();
    }
}

/// A node for a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// This one.
    Node(usize),
    /// A replica may be fresh enough soon.
    Wait,
    /// The primary, once it shows what a replica has shown to the session.
    Overtaken,
    /// There is none.
    Nowhere,
}

impl Session {
    /// Judges what the read needs for which a place was found.
    pub(super) fn judge_needs(&mut self) {
        let is_behind = matches!(&self.state, State::Linked(link) if link.replies.owes_client());
        // The clock of a statement behind another one begins when that has ended.
        let arrived = Moment::of(if is_behind { self.now } else { self.timing.arrival() });
        let (mut level, mut reads) = (self.placement.level(), self.placement.reads);
        if level == Consistency::Table && self.ctx.is_one_of_two() {
            level = Consistency::Strong;
        }
        if self.decisions.distrusts_catalog() && !reads.get().reads.is_none() {
            reads = TouchId::EVERYTHING;
        }
        self.sight.judge(level, reads, arrived);
        if self.only_sets {
            // Nothing is read.
            self.sight.needs = Needs::default();
        }
    }

    /// Whether a read may follow on the link at hand, which is on a replica. One that was just got has been chosen for it; what comes
    /// behind something else is judged, whether or not that has been answered meanwhile.
    pub(super) fn suits_link(&mut self) -> bool {
        match &self.state {
            State::Linked(link) if link.primary || link.chosen => return true,
            State::Linked(link) if link.worker.is_some_and(|group| !self.suits_worker(group)) => return false,
            State::Linked(_) => self.judge_needs(),
            _ => return true,
        }
        let State::Linked(link) = &self.state else { return true };
        let cluster = &self.pools.cluster;
        let node = &cluster.nodes[link.node];
        node.is_worker_primary() || cluster.has_all(node, &self.sight.needs)
    }

    /// The node for a place: for a read a replica that has what it needs and was not tried yet, else the primary. While no primary
    /// can be reached, only `eventual` reads run on whatever replica there is; and all, as long as there never was a primary.
    pub(super) fn choose(&mut self, place: Place, tried: u64, may_wait: bool) -> Choice {
        let choice = match self.choose_worker(place, tried) {
            Some(worker) => Choice::Node(worker),
            None => self.choose_by_needs(place, tried, may_wait),
        };
        let cluster = &self.pools.cluster;
        match choice {
            Choice::Node(node)
                if (cluster.primary() == Some(node) || cluster.nodes[node].is_worker_primary())
                    && self.is_overtaken() =>
            {
                Choice::Overtaken
            }
            choice => choice,
        }
    }

    fn choose_by_needs(&mut self, place: Place, tried: u64, may_wait: bool) -> Choice {
        let cluster = &self.pools.cluster;
        let or_nowhere = |node: Option<usize>| node.map_or(Choice::Nowhere, Choice::Node);
        if place == Place::Primary {
            return or_nowhere(cluster.primary());
        }
        let level = self.sight.level;
        let sight = &mut self.sight;
        sight.takes_any = false;
        if let Some(node) = cluster.pick_reader(tried, &sight.needs) {
            if !cluster.nodes[node].is_primary() {
                sight.diverted = None;
                if !may_wait {
                    self.metrics.read(level, ReadOutcome::Waited);
                }
            }
            return Choice::Node(node);
        }
        let Some(freshest) = cluster.freshest(tried) else { return or_nowhere(cluster.primary()) };
        let now = Moment::now();
        cluster.demand_freshness(now);
        let primary = cluster.primary();
        if !primary.is_some_and(|primary| cluster.nodes[primary].load.is_up())
            && (level == Consistency::Eventual || !cluster.freshness.has_had_primary())
        {
            sight.takes_any = true;
            self.metrics.read(level, ReadOutcome::Stale);
            return Choice::Node(freshest);
        }
        let only_seen = cluster.pick_reader(tried, &sight.needs.of_level()).is_some();
        let worth_it = match level {
            Consistency::Strong => true,
            _ if only_seen => sight.diverted.get_or_insert(now).until(now) >= DIVERTED,
            _ => false,
        };
        if worth_it && may_wait && sight.wait.is_some() {
            return Choice::Wait;
        }
        if worth_it {
            // Not again at once.
            sight.diverted = None;
        }
        if primary.is_some() && !std::mem::replace(&mut sight.counted, true) {
            let outcome = match () {
                () if !may_wait => ReadOutcome::GaveUp,
                () if only_seen => ReadOutcome::Diverted,
                () => ReadOutcome::Behind,
            };
            self.metrics.read(level, outcome);
        }
        sight.missed = Some(Behind::of(cluster, freshest, level, only_seen, now));
        or_nowhere(primary)
    }

    /// Whether the primary may show less than the session has seen on a replica.
    fn is_overtaken(&self) -> bool {
        let Some((incarnation, shown)) = self.sight.seen else { return false };
        let cluster = &self.pools.cluster;
        let primary = || cluster.primary().map(|at| &cluster.nodes[at]);
        let on_primary = || primary().is_some_and(|node| node.load.horizon.incarnation() == incarnation);
        // Without synchronous standbys the primary shows a commit before anybody who has read it on a replica can have sent a write.
        let writes_blindly = || self.placement.writes && primary().is_some_and(|node| node.commits_wait());
        (self.placement.only_shows || writes_blindly())
            && self.placement.level() != Consistency::Eventual
            && !on_primary()
            && self.sight.stamps.is_ahead(shown, Moment::now())
    }

    /// Waits until it does not. What is under way for long is no commit, so this ends soon.
    pub(super) async fn wait_for_commits(&mut self, began: Instant) -> Result<(), Waited> {
        let Some((_, shown)) = self.sight.seen else { return Ok(()) };
        let stamps = self.sight.stamps.clone();
        let wait = async {
            while stamps.is_ahead(shown, Moment::now()) {
                tokio::time::sleep(COMMIT_POLL).await;
            }
        };
        self.beside_client(began, || false, wait).await
    }

    /// Waits until a replica has what the read needs, for `freshness_wait` at most.
    pub(super) async fn wait_for_replica(&mut self, tried: u64, began: Instant) -> Result<(), Waited> {
        let limit = self.sight.wait.unwrap_or_default();
        let (cluster, needs) = (self.pools.cluster.clone(), self.sight.needs);
        self.wait_for_freshness(limit, began, || cluster.pick_reader(tried, &needs).is_some()).await.map(drop)
    }

    /// Whether a connection's server is known to be the one that was sampled (a replica that restarts may have lost what it had). Of
    /// one that was just opened that is not known yet. Since the node was chosen it may have restarted and been sampled again, so what
    /// it has is compared once more.
    pub(super) fn is_confirmed(&self, node: usize, lease: &Lease) -> bool {
        let cluster = &self.pools.cluster;
        let node = &cluster.nodes[node];
        let needs = &self.sight.needs;
        let load = &lease.pool().load;
        load.is_primary()
            || node.is_worker_primary()
            || self.sight.takes_any
            || (needs.needed == Moment::NEVER && needs.seen.is_none())
            || (load.horizon.covers_connection(Moment::of(lease.opened)) && cluster.has_all(node, needs))
    }

    /// Waits until that is known. `false` = it was not to be known, or what was known is void.
    pub(super) async fn confirm(&mut self, node: usize, lease: &Lease, began: Instant) -> Result<bool, Waited> {
        let cluster = self.pools.cluster.clone();
        let (load, opened) = (lease.pool().load.clone(), Moment::of(lease.opened));
        let needs = self.sight.needs;
        let known = || load.horizon.covers_connection(opened);
        Ok(self.wait_for_freshness(CONFIRMATION, began, known).await? && cluster.has_all(&cluster.nodes[node], &needs))
    }

    async fn wait_for_freshness(
        &mut self,
        limit: Duration,
        began: Instant,
        mut is_met: impl FnMut() -> bool,
    ) -> Result<bool, Waited> {
        let cluster = self.pools.cluster.clone();
        let limit = self.pool_settings.wait_timeout.map_or(limit, |longest| limit.min(longest));
        let wait = async {
            let mut advances = cluster.freshness.advances();
            loop {
                if is_met() {
                    return;
                }
                cluster.demand_freshness(Moment::now());
                let _ = tokio::time::timeout(REMINDER, advances.changed()).await;
            }
        };
        Ok(self.beside_client(began, || false, tokio::time::timeout(limit, wait)).await?.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touches(reads: Slots, writes: Slots) -> Touches {
        Touches::new(reads, writes)
    }

    #[test]
    fn what_databases_share_outlives_many_writes() {
        let table = |slot: u16| TouchId::of(&touches(Slots::none(), Slots::of([slot])));
        let role = TouchId::of(&Touches { shared: true, ..touches(Slots::none(), Slots::of([600])) });
        let is_shared = |writing: &SmallVec<[TouchId; 4]>| writing.iter().any(|touches| touches.get().shared);
        for place in [0, 7, 8, 9, 39] {
            let mut writing = SmallVec::new();
            for slot in 0..40 {
                note_write(&mut writing, if slot == place { role } else { table(slot) });
                assert!(writing.len() <= MAX_WRITING);
                assert_eq!(is_shared(&writing), slot >= place, "{place} {slot}");
            }
            assert!(writing.contains(&TouchId::EVERYTHING));
        }
    }

    #[test]
    fn what_a_write_shows_of_its_own_tables_is_stamped_anyway() {
        let slots = |slots: &[u16]| Slots::of(slots.iter().copied());
        assert!(!shows(&Touches::everything(), true));
        assert!(shows(&Touches::everything(), false));
        assert!(!shows(&touches(slots(&[1]), slots(&[1, 2])), true));
        assert!(shows(&touches(slots(&[1, 3]), slots(&[1, 2])), true));
        assert!(shows(&touches(Slots::All, slots(&[1])), true));
        assert!(!shows(&touches(slots(&[1]), Slots::All), true));
        assert!(!shows(&touches(Slots::none(), Slots::none()), false));
        assert!(shows(&touches(slots(&[1]), Slots::none()), true));
    }
}
