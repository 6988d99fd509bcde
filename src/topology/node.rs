//! One PostgreSQL server as the cluster sees it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use quanta::Instant;

use crate::config::{NodeSettings, REPLICA_WEIGHT};
use crate::observe::NodeMetrics;
use crate::pool::{Cap, NodeLoad};

use super::citus::SecondaryUse;
use super::election::{Candidate, Standing};
use super::facts::Facts;

/// One PostgreSQL server: configured facts, load, and what was found out about it. What was found out, and its load, go on
/// when a reload changes its settings and not its place.
#[derive(Debug)]
pub struct Node {
    /// Configured facts.
    pub settings: NodeSettings,
    /// Load and health, shared with its pools.
    pub load: Arc<NodeLoad>,
    /// The limit on its server connections over all users, and how many there are.
    pub servers: Arc<Cap>,
    /// Its metrics.
    pub metrics: Arc<NodeMetrics>,
    found: Arc<Found>,
}

#[derive(Debug)]
struct Found {
    disabled: AtomicBool,
    reads_from_secondaries: AtomicBool,
    /// It takes statements on its shards: what every such statement asks, without a lock.
    is_worker: AtomicBool,
    is_secondary: AtomicBool,
    spared: AtomicBool,
    /// Its commits wait for synchronous standbys.
    commits_wait: AtomicBool,
    /// How often its name has led elsewhere than before.
    moves: AtomicU64,
    state: Mutex<State>,
}

impl Found {
    /// Nothing is known.
    fn new() -> Self {
        let state = State {
            facts: None,
            asked: false,
            standing: Standing::Unknown,
            checked: Checked::default(),
            secondary_use: SecondaryUse::default(),
            group: None,
            addresses: Vec::new(),
            moved: false,
            left: None,
        };
        Self {
            disabled: AtomicBool::new(false),
            spared: AtomicBool::new(false),
            commits_wait: AtomicBool::new(false),
            reads_from_secondaries: AtomicBool::new(false),
            is_worker: AtomicBool::new(false),
            is_secondary: AtomicBool::new(false),
            moves: AtomicU64::new(0),
            state: Mutex::new(state),
        }
    }
}

#[derive(Debug)]
struct State {
    facts: Option<Facts>,
    asked: bool,
    standing: Standing,
    checked: Checked,
    secondary_use: SecondaryUse,
    /// Of which node group of Citus it says that it is.
    group: Option<i32>,
    /// The addresses that its name had last.
    addresses: Vec<IpAddr>,
    /// They have changed since its health was checked.
    moved: bool,
    /// What it was before, until the server that has the name now has answered.
    left: Option<Left>,
}

/// A node before its name led elsewhere.
#[derive(Debug)]
struct Left {
    facts: Option<Facts>,
    addresses: Vec<IpAddr>,
}

impl Left {
    /// Whether the server that has the name now is another one than before, or has become another one: what is written to who had the name
    /// is not written to this one. Where servers do not say which they are, their addresses do.
    fn is_replaced_by(&self, facts: Option<Facts>, addresses: &[IpAddr]) -> bool {
        match (self.facts, facts) {
            (_, Some(now)) if now.in_recovery => true,
            (Some(before), Some(now)) if before.timeline > 0 && now.timeline > 0 => {
                before.timeline != now.timeline || before.system != now.system
            }
            _ => !self.addresses.iter().any(|address| addresses.contains(address)),
        }
    }
}

/// What the last health check found.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// When it ended.
    pub at: Option<SystemTime>,
    /// Its error, if it failed.
    pub error: Option<String>,
}

impl Node {
    /// A node of which nothing is known, and which counts as up until a check says otherwise.
    pub fn new(settings: NodeSettings, metrics: NodeMetrics) -> Arc<Self> {
        let load = Arc::<NodeLoad>::default();
        metrics.follow(&load.horizon);
        Arc::new(Self {
            settings,
            load,
            servers: Arc::default(),
            metrics: Arc::new(metrics),
            found: Arc::new(Found::new()),
        })
    }

    /// The same server with other settings.
    pub(super) fn with_settings(&self, settings: NodeSettings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            load: self.load.clone(),
            servers: self.servers.clone(),
            metrics: self.metrics.clone(),
            found: self.found.clone(),
        })
    }

    /// The same server with other settings, of which nothing is known: what it has said cannot be asked again, or was not.
    pub(super) fn unknown(&self, settings: NodeSettings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            load: self.load.clone(),
            servers: self.servers.clone(),
            metrics: self.metrics.clone(),
            found: Arc::new(Found::new()),
        })
    }

    /// Whether another configured node is the same server, reached in the same way.
    pub(super) fn is_at(&self, settings: &NodeSettings) -> bool {
        self.settings.name == settings.name && self.settings.hosts == settings.hosts
    }

    /// Whether it is of a worker group of a Citus cluster.
    pub fn is_worker(&self) -> bool {
        self.settings.group != 0
    }

    /// Whether the coordinator has it as the primary of a worker group.
    pub fn is_worker_primary(&self) -> bool {
        self.is_worker() && !self.is_secondary()
    }

    /// Whether it is the primary of a worker group and can be given statements.
    pub fn is_usable_worker(&self) -> bool {
        self.load.is_up() && self.found.is_worker.load(Ordering::Acquire)
    }

    /// Whether it is a standby of a worker group and can be given reads.
    pub fn is_usable_secondary(&self) -> bool {
        self.load.is_up() && self.found.is_secondary.load(Ordering::Acquire)
    }

    /// From where it reads distributed tables, as it said last.
    pub(super) fn secondary_use(&self) -> SecondaryUse {
        self.found.state.lock().secondary_use.clone()
    }

    /// Whether it reads distributed tables from standbys. No lock: every read on a replica asks.
    pub(super) fn reads_from_secondaries(&self) -> bool {
        self.found.reads_from_secondaries.load(Ordering::Acquire)
    }

    /// Whether a replica may show a commit for long before this primary does: it waits for synchronous standbys first.
    pub fn commits_wait(&self) -> bool {
        self.found.commits_wait.load(Ordering::Relaxed)
    }

    pub(super) fn set_commits_wait(&self, wait: bool) {
        self.found.commits_wait.store(wait, Ordering::Relaxed);
    }

    pub(super) fn set_secondary_use(&self, uses: SecondaryUse) {
        let from_secondaries = matches!(uses, SecondaryUse::Always(_));
        self.found.reads_from_secondaries.store(from_secondaries, Ordering::Release);
        self.found.state.lock().secondary_use = uses;
    }

    /// Of which node group it said last that it is; `None`: of none.
    pub(super) fn told_group(&self) -> Option<u32> {
        self.found.state.lock().group.and_then(|group| u32::try_from(group).ok())
    }

    pub(super) fn set_group(&self, group: Option<i32>) {
        self.found.state.lock().group = group;
    }

    /// Whether it takes the cluster's writes.
    pub fn is_primary(&self) -> bool {
        self.load.is_primary()
    }

    /// What it said of itself last, however long ago; `None` = it has not been asked with success, or cannot be (the
    /// configuration has no user to ask with).
    pub fn facts(&self) -> Option<Facts> {
        self.found.state.lock().facts
    }

    /// What it is for.
    pub fn standing(&self) -> Standing {
        self.found.state.lock().standing.clone()
    }

    /// Whether an administrator has taken it out of service.
    pub fn is_disabled(&self) -> bool {
        self.found.disabled.load(Ordering::Acquire)
    }

    /// Takes it out of service, or back; returns whether that is news.
    pub(super) fn set_disabled(&self, disabled: bool) -> bool {
        self.found.disabled.swap(disabled, Ordering::AcqRel) != disabled
    }

    /// What the last check found.
    pub fn checked(&self) -> Checked {
        self.found.state.lock().checked.clone()
    }

    pub(super) fn set_checked(&self, checked: Checked) {
        self.found.state.lock().checked = checked;
    }

    /// Notes what it says of itself, asked at `at`.
    pub(super) fn take_facts(&self, facts: Facts, at: Instant) {
        self.load.set_recovery(facts.in_recovery, at);
        let mut state = self.found.state.lock();
        state.asked = true;
        state.facts = Some(facts);
    }

    /// What it has said of itself may be long over: it counts for nothing until it was asked again, with or without success.
    pub(super) fn doubt_facts(&self) {
        self.found.state.lock().asked = false;
    }

    /// Notes that it was asked, without success.
    pub(super) fn asked_in_vain(&self) {
        self.found.state.lock().asked = true;
    }

    /// Notes the addresses that its name has now. Returns whether it had others before.
    pub(super) fn moved_to(&self, addresses: &[IpAddr]) -> bool {
        let mut state = self.found.state.lock();
        let before = std::mem::replace(&mut state.addresses, addresses.to_vec());
        let moved = !before.is_empty() && before != addresses;
        if moved {
            let facts = state.facts;
            state.left.get_or_insert(Left { facts, addresses: before });
            self.load.add_places(addresses);
        }
        state.moved |= moved;
        self.found.moves.fetch_add(u64::from(moved), Ordering::AcqRel);
        moved
    }

    /// Another number whenever its name has led elsewhere: whoever has a connection of his own from before that is to give it up, for
    /// the server that had the name may still answer.
    pub fn moves(&self) -> u64 {
        self.found.moves.load(Ordering::Acquire)
    }

    /// Whether its name leads elsewhere since this was asked last.
    pub(super) fn has_moved(&self) -> bool {
        std::mem::take(&mut self.found.state.lock().moved)
    }

    /// The server that has its name has answered. Returns whether it was found that this is another one than had it before: connections to
    /// that one are told by [`NodeLoad::is_replaced_at`].
    pub(super) fn has_been_replaced(&self, facts: Option<Facts>) -> bool {
        let mut state = self.found.state.lock();
        if state.moved {
            // Again, since it was asked.
            return false;
        }
        let replaced = state.left.take().is_some_and(|left| left.is_replaced_by(facts, &state.addresses));
        if replaced {
            self.load.set_places(state.addresses.clone());
        }
        replaced
    }

    pub(super) fn candidate(&self, can_be_asked: bool) -> Candidate<'_> {
        let state = self.found.state.lock();
        Candidate {
            name: &self.settings.name,
            is_configured: true,
            declared: self.settings.role,
            disabled: self.is_disabled(),
            can_be_asked,
            asked: state.asked,
            facts: state.facts,
            told: None,
            incumbent: self.is_primary(),
            has_led: false,
        }
    }

    /// Notes what it is for from now on. Returns what it was for until now, if that was something else.
    pub(super) fn stand(&self, standing: Standing) -> Option<Standing> {
        let mut state = self.found.state.lock();
        self.found.is_worker.store(standing == Standing::Worker, Ordering::Release);
        self.found.is_secondary.store(standing == Standing::Secondary, Ordering::Release);
        let before = std::mem::replace(&mut state.standing, standing);
        (before != state.standing).then_some(before)
    }

    /// Notes whether it takes no reads, as somebody else says (Patroni's tag `noloadbalance`).
    pub(super) fn spare(&self, spared: bool) {
        self.found.spared.store(spared, Ordering::Release);
    }

    /// Its weight among the readers, as it stands now: what is configured, else 1 for a replica and 0 for the primary; 0 when it is to
    /// be spared.
    pub fn weight(&self) -> u32 {
        if self.found.spared.load(Ordering::Acquire) {
            return 0;
        }
        self.settings.weight.unwrap_or(if self.is_primary() { 0 } else { REPLICA_WEIGHT })
    }
}
