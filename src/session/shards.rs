//! Statements on tables that Citus distributes: those that name one shard go to the node that has it, where they cost a fraction of what
//! they cost through the coordinator; reads of several shards may go to any node.
//!
//! Only statements outside of blocks do (and whole blocks, for sessions that ask for it: `trunkline.shard_blocks`), of sessions that have
//! nothing of their own on which a result may depend: what is sent to the coordinator runs on workers with the workers' own settings, and
//! both ways must give the same. Whatever goes wrong on a worker, a read runs once more on the coordinator, and the map is read again.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Settings, Value};
use crate::config::{CitusReads, CitusSettings, OwnerRouting};
use crate::pool::Lease;
use crate::sql::{Decision, Effects, FIRST_USER_OID, Format, KeyAt, KeySource, ShardKey};
use crate::wire::frontend::{bind_parameters, declared_type, declared_types};
use crate::wire::{ErrorNotice, SqlState};

use super::machine::{Link, State};
use super::own_settings::Switch;
use super::pins::Pins;
use super::placement::{NOTIFICATIONS, Place, RouteChoice};
use super::relay::Session;

/// How long a worker that has refused the user's login, or could not be reached, is left alone: there is another way to its shards.
const REFUSED: Duration = Duration::from_secs(5);

/// What a statement concerns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Shard {
    /// The coordinator, as far as we know.
    #[default]
    Coordinator,
    /// Several shards, or a reference table: any node can answer.
    AnyNode,
    /// One shard, which this node group has.
    Of(u32),
}

impl Shard {
    /// What two statements concern that run together.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (one, other) if one == other => one,
            (Self::AnyNode, Self::Of(group)) | (Self::Of(group), Self::AnyNode) => Self::Of(group),
            _ => Self::Coordinator,
        }
    }

    /// Whether what concerns this may run on a worker of this group.
    fn may_run_at(self, group: u32) -> bool {
        match self {
            Self::Coordinator => false,
            Self::AnyNode => true,
            Self::Of(own) => own == group,
        }
    }
}

/// What a session knows of the shards that its statements concern.
#[derive(Debug, Default)]
pub(super) struct Shards {
    settings: CitusSettings,
    /// Of the statement or segment that is about to be judged.
    next: Option<Shard>,
    /// Of the one judged last.
    judged: Shard,
    /// The settings of the session of which the following tells.
    observed: Option<Arc<Settings>>,
    /// Results may depend on them.
    matters: bool,
}

impl Shards {
    pub fn new(settings: &CitusSettings) -> Self {
        Self { settings: settings.clone(), ..Self::default() }
    }

    /// Follows the configuration.
    pub fn follow(&mut self, settings: &CitusSettings) {
        self.settings.clone_from(settings);
    }

    /// The statement that was about to be judged has been.
    pub fn begin_judging(&mut self) -> Shard {
        self.judged = Shard::Coordinator;
        self.next.take().unwrap_or_default()
    }

    /// It may run where its shard is.
    pub fn settle(&mut self, shard: Shard) {
        self.judged = shard;
    }
}

impl Session {
    /// Notes which shard a simple Query concerns.
    #[inline]
    pub(super) fn note_shard_of_query(&mut self, decision: Decision, sql: &[u8]) {
        self.shards.next = self.usable_key(decision).map(|key| self.shard_of_query(key, sql));
    }

    fn shard_of_query(&self, key: &ShardKey, sql: &[u8]) -> Shard {
        match key.source {
            KeySource::AnyNode => Shard::AnyNode,
            KeySource::Owner { colocation, .. } => {
                self.owner(colocation, key.hash_in(sql, self.lex, self.encoding_is_servers()))
            }
        }
    }

    /// Notes that something comes of which nothing is known yet: a segment begins, or a message that is not looked into. Not all of
    /// that is judged, and what is not must not go where the statement before it went.
    pub(super) fn forget_shards(&mut self) {
        self.shards.next = None;
        self.shards.judged = Shard::Coordinator;
    }

    /// Notes which shard a Bind of the segment concerns, of a statement with this text and these types (as in Parse); `rest` is what
    /// follows its head.
    pub(super) fn note_shard_of_bind(&mut self, decision: Decision, text: &[u8], types: &[u8], rest: &[u8]) {
        let key = self.usable_key(decision);
        let shard = key.map_or(Shard::Coordinator, |key| self.shard_of_bind(key, text, types, rest));
        self.shards.next = Some(self.shards.next.map_or(shard, |before| before.with(shard)));
    }

    fn shard_of_bind(&self, key: &ShardKey, text: &[u8], types: &[u8], rest: &[u8]) -> Shard {
        // Each node gives users' types numbers of its own.
        if declared_types(types).any(|oid| oid >= FIRST_USER_OID) {
            return Shard::Coordinator;
        }
        let KeySource::Owner { colocation, at: KeyAt::Param { number, .. }, .. } = key.source else {
            return self.shard_of_query(key, text);
        };
        let index = usize::from(number).saturating_sub(1);
        let declared = declared_type(types, index);
        let bound = bind_parameters(rest).and_then(|mut values| values.nth(index));
        let hash = bound.and_then(|bound| {
            let format = if bound.binary { Format::Binary } else { Format::Text };
            key.hash_of_parameter(declared, format, bound.whole(), self.encoding_is_servers())
        });
        self.owner(colocation, hash)
    }

    fn owner(&self, colocation: u32, hash: Option<i32>) -> Shard {
        let settings = &self.shards.settings;
        if settings.owner_routing == OwnerRouting::Off {
            return Shard::AnyNode;
        }
        let group = hash.and_then(|hash| self.pools.cluster.citus.owner(colocation, hash));
        group.filter(|group| *group != 0).map_or(Shard::Coordinator, Shard::Of)
    }

    /// The key of a statement, where this session uses it.
    #[inline]
    fn usable_key(&mut self, decision: Decision) -> Option<&'static ShardKey> {
        let key = decision.key.get()?;
        let settings = &self.shards.settings;
        let of_block = self.deferred.is_open();
        let writes = key.writes || (of_block && self.deferred.read_only() != Some(true));
        let allowed = match key.source {
            KeySource::AnyNode => settings.reads == CitusReads::AnyNode && !of_block,
            KeySource::Owner { .. } if writes => settings.owner_routing == OwnerRouting::All,
            KeySource::Owner { .. } => settings.uses_workers(),
        };
        let free = allowed
            && !self.keeps_lease
            && self.pins.is_empty()
            && (!of_block || self.placement.own.shard_blocks.get() == Switch::On)
            && !self.placement.what_if()
            && !self.placement.is_serializable()
            && !decision.effects.contains(Effects::HINTED)
            && self.placement.own.route.get() == RouteChoice::Auto;
        (free && !self.has_settings_that_matter()).then_some(key)
    }

    /// Whether the session has settings on which results may depend.
    fn has_settings_that_matter(&mut self) -> bool {
        let settings = self.tracked.settings();
        if !self.shards.observed.as_ref().is_some_and(|observed| Arc::ptr_eq(observed, settings)) {
            let told = self.pools.server_defaults.load();
            let is_default = |name: &str, value: &Value| {
                let default = told.iter().find(|(key, _)| key.eq_ignore_ascii_case(name.as_bytes()));
                value
                    .text()
                    .zip(default)
                    .is_some_and(|(value, (_, default))| default.eq_ignore_ascii_case(value.as_bytes()))
            };
            self.shards.matters = settings.iter().any(|(name, value)| matters(name, value) && !is_default(name, value));
            // As long as no server has told its defaults, the question stays open.
            self.shards.observed = told.iter().next().map(|_| settings.clone());
        }
        self.shards.matters
    }

    fn encoding_is_servers(&self) -> bool {
        self.told.get(b"client_encoding") == self.told.get(b"server_encoding")
    }

    /// The node of a worker group for what was judged last, save those in the bit set `tried`; `None`: it runs where it would without
    /// Citus. A read of one shard goes to a standby that has what it needs, if there is one.
    pub(super) fn choose_worker(&self, place: Place, tried: u64) -> Option<usize> {
        let cluster = &self.pools.cluster;
        let nodes = &cluster.nodes;
        let refuses = |index: usize| self.pools.pools[index].has_failed_within(REFUSED, self.now);
        let all = || (0..nodes.len()).filter(|index| tried & 1 << (index % 64) == 0 && !refuses(*index));
        let of = |group: u32| all().filter(move |index| nodes[*index].settings.group == group);
        match self.shards.judged {
            Shard::Coordinator => None,
            Shard::Of(group) => {
                let is_fresh = |index: &usize| {
                    nodes[*index].is_usable_secondary() && cluster.has_all(&nodes[*index], &self.sight.needs)
                };
                let reads = place == Place::Reader && self.placement.splits_reads();
                let standby = if reads { self.idlest(of(group).filter(is_fresh)) } else { None };
                standby.or_else(|| of(group).find(|index| nodes[*index].is_usable_worker()))
            }
            Shard::AnyNode => {
                let workers = all().filter(|index| nodes[*index].is_usable_worker());
                let primary = cluster.primary().filter(|primary| nodes[*primary].load.is_up());
                let chosen = self.idlest(primary.into_iter().chain(workers))?;
                nodes[chosen].is_worker().then_some(chosen)
            }
        }
    }

    /// Of these nodes one of those with the fewest statements under way.
    fn idlest(&self, nodes: impl Iterator<Item = usize>) -> Option<usize> {
        let load = |index: usize| self.pools.cluster.nodes[index].load.outstanding();
        let mut count = 0;
        nodes.fold(None, |best, index| match best {
            Some(best) if load(best) < load(index) => Some(best),
            Some(best) if load(best) == load(index) => {
                // Each of those that are equal gets its turn.
                count += 1;
                Some(if fastrand::u32(0..=count) == 0 { index } else { best })
            }
            _ => {
                count = 0;
                Some(index)
            }
        })
    }

    /// Whether what was judged last concerns one shard alone.
    pub(super) fn concerns_one_shard(&self) -> bool {
        matches!(self.shards.judged, Shard::Of(_))
    }

    /// Refuses in a block on a worker what would be made there and nowhere else.
    pub(super) fn refuse_at_worker(&mut self, decision: Decision) -> Option<ErrorNotice> {
        let in_block = matches!(&self.state, State::Linked(link) if link.worker.is_some() && link.status.in_block());
        if !in_block {
            return None;
        }
        let concerns_node = decision.touches.get().schema
            || decision.effects.intersects(NOTIFICATIONS)
            || !Pins::of(decision.effects).is_empty();
        if !concerns_node {
            return None;
        }
        let notice = ErrorNotice::error(
            SqlState::FEATURE_NOT_SUPPORTED,
            "this is not possible in a transaction that runs on the node of its shard",
        );
        Some(
            notice.hint("SET trunkline.shard_blocks = off before the transaction, so that it runs on the coordinator."),
        )
    }

    /// Whether what was judged last may follow on a link to a worker.
    pub(super) fn suits_worker(&self, group: u32) -> bool {
        self.shards.judged.may_run_at(group)
    }

    /// Whether the connection, if it is to a worker, has the defaults on which results depend as the coordinator has them. If it has not,
    /// the worker is left alone for a while.
    pub(super) fn is_as_coordinator(&self, node: usize, lease: &Lease) -> bool {
        if !self.pools.cluster.nodes[node].is_worker() || !lease.settings.is_empty() {
            return true;
        }
        let told = self.pools.server_defaults.load();
        let is_as_told = |name: &&[u8]| told.get(name).is_none_or(|value| lease.parameters.get(name) == Some(value));
        let is_alike = DEFAULTS.iter().all(is_as_told);
        if !is_alike {
            self.pools.pools[node]
                .complain("this worker's defaults (TimeZone, DateStyle, ...) are not the coordinator's");
        }
        is_alike
    }

    /// Whether the link at hand was got for the write that was judged last, on the node of its shard: who has waited in line for it
    /// must not give it back.
    pub(super) fn is_at_chosen_worker(&self) -> bool {
        let State::Linked(link) = &self.state else { return false };
        link.chosen
            && self.pools.cluster.nodes[link.node].is_worker_primary()
            && link.worker.is_some_and(|group| self.suits_worker(group))
    }

    /// Notes whether a link is to a worker. What is read there is as fresh as on the coordinator, so it counts as read there.
    pub(super) fn note_worker(&self, link: &mut Link) {
        let cluster = &self.pools.cluster;
        let group = cluster.nodes[link.node].settings.group;
        if group != 0 {
            link.worker = Some(group);
            if let (true, Some(primary)) = (cluster.nodes[link.node].is_worker_primary(), cluster.primary()) {
                link.incarnation = cluster.nodes[primary].load.horizon.incarnation();
            }
        } else if link.primary && link.lease.settings.is_empty() && cluster.citus.is_known() {
            self.pools.server_defaults.store(Arc::new(link.lease.parameters.clone()));
        }
    }

    /// Counts a statement that goes out, if it could have been one for a worker.
    pub(super) fn count_shard(&self, decision: Decision) {
        let (Some(key), State::Linked(link)) = (decision.key.get(), &self.state) else { return };
        let metrics = self.pools.cluster.citus.metrics();
        match (link.worker, &key.source) {
            (None, _) => metrics.at_coordinator(),
            (Some(_), KeySource::AnyNode) => metrics.at_any_node(),
            (Some(_), KeySource::Owner { .. }) => metrics.at_owner(),
        }
    }

    /// An error that a coordinator tells of a node that it cannot reach, or a worker of what it does not have: what is known of nodes and
    /// shards may be old.
    pub(super) fn doubt_map(&self, code: SqlState) {
        if matches!((code.as_str(), code.class()), ("08006" | "08001" | "42P01", _) | (_, "XX")) {
            self.pools.cluster.citus.doubt(self.ctx.directory.surveys());
        }
    }
}

/// What servers tell of their defaults on which results depend.
const DEFAULTS: [&[u8]; 6] = [
    b"DateStyle",
    b"IntervalStyle",
    b"TimeZone",
    b"default_transaction_read_only",
    b"server_encoding",
    b"standard_conforming_strings",
];

/// Settings that are applied on every node in the same way, or on which no result depends.
const HARMLESS: [&str; 12] = [
    "application_name",
    "client_connection_check_interval",
    "client_encoding",
    "client_min_messages",
    "deadlock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "search_path",
    "statement_timeout",
    "synchronous_commit",
    "transaction_timeout",
];

/// Whether results may depend on a setting with this value. Numbers are told in full with any `extra_float_digits` above 0.
fn matters(name: &str, value: &Value) -> bool {
    match name {
        "extra_float_digits" => {
            value.text().and_then(|digits| digits.parse().ok()).is_none_or(|digits: i32| digits <= 0)
        }
        _ => !HARMLESS.contains(&name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_together_runs_where_all_of_it_may() {
        use Shard::{AnyNode, Coordinator, Of};
        assert_eq!(Of(1).with(Of(1)), Of(1));
        assert_eq!(Of(1).with(Of(2)), Coordinator);
        assert_eq!(Of(1).with(AnyNode), Of(1));
        assert_eq!(AnyNode.with(Of(2)), Of(2));
        assert_eq!(AnyNode.with(AnyNode), AnyNode);
        assert_eq!(Coordinator.with(AnyNode), Coordinator);
        assert_eq!(Of(1).with(Coordinator), Coordinator);
    }

    #[test]
    fn settings_on_which_results_may_depend() {
        let value = |text: &str| Value::Text(text.to_owned());
        for name in HARMLESS {
            assert!(!matters(name, &value("x")), "{name}");
        }
        assert!(!matters("extra_float_digits", &value("3")));
        for (name, text) in
            [("extra_float_digits", "0"), ("timezone", "UTC"), ("datestyle", "ISO"), ("app.tenant", "5")]
        {
            assert!(matters(name, &value(text)), "{name}");
        }
    }
}
