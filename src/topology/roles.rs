//! The roles of a cluster's nodes: found by asking, applied to everything that reads or writes.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::config::{HostPort, NodeRole, NodeSettings};
use crate::net::control;
use crate::pool::NodeLoad;

use super::cluster::Cluster;
use super::directory::control_settings;
use super::election::{ASKING, Candidate, Standing, elect};
use super::node::Node;
use super::patroni::{Leadership, Report, Reports, Told};

/// What the roles of a cluster's nodes were until now. It goes on through reloads.
#[derive(Debug, Default)]
pub(super) struct Era {
    epoch: watch::Sender<u64>,
    state: Mutex<State>,
    /// Replicas that are not configured.
    pub(super) discovered: Mutex<Vec<NodeSettings>>,
    /// Workers of Citus.
    pub(super) workers: Mutex<Vec<NodeSettings>>,
    /// What Patroni says, where it is watched.
    pub(super) patroni: Reports,
}

#[derive(Debug, Default)]
struct State {
    system: Option<u64>,
    /// The primary's name and timeline.
    primary: Option<(String, u32)>,
    /// The last that there was, whoever is it now.
    last: Option<(String, u32)>,
    /// Who takes writes, as the log says.
    announced: Option<String>,
    /// Why there is none.
    why: String,
    /// The node that stands down for a switchover.
    leaving: Option<Leaving>,
    /// Where the node is that `auth_query` asks.
    asked_for_users: Option<Vec<HostPort>>,
    /// Nodes that a reload has taken out and that may take writes still, and the timelines that they were on.
    gone: Vec<(Weak<NodeLoad>, u32)>,
}

/// A node that stands down for a switchover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// Its name.
    pub node: String,
    /// Nothing runs there any more, and the replica has everything: what is missing is the promotion.
    pub is_done: bool,
}

impl State {
    /// A node on this timeline takes writes. Whoever has a connection of his own to one that was taken out before, and is on an older one,
    /// would write what is lost. On the same one it may be the same server, by another name.
    fn depose_gone(&mut self, timeline: u32) {
        self.gone.retain(|(load, before)| {
            let Some(load) = load.upgrade() else { return false };
            let is_replaced = timeline > *before;
            if is_replaced {
                load.set_deposed(true);
            }
            !is_replaced
        });
    }
}

impl Era {
    /// The configuration names other servers than before: they may be another cluster's.
    pub(super) fn forget_system(&self) {
        self.state.lock().system = None;
    }

    /// The servers are reached in another way from now on: `auth_query` has not been told whom to ask, and workers were not looked for.
    pub(super) fn goes_another_way(&self) {
        self.state.lock().asked_for_users = None;
        self.workers.lock().clear();
    }
}

impl Cluster {
    /// Remembers the nodes that were there before and are not any more, as far as they may take writes.
    pub(super) fn remember_gone(&self, before: &Self) {
        let is_kept = |node: &Node| self.nodes.iter().any(|own| Arc::ptr_eq(&own.load, &node.load));
        let may_write = |node: &&Arc<Node>| !node.is_worker() && !node.facts().is_some_and(|facts| facts.in_recovery);
        let gone = before.nodes.iter().filter(may_write).filter(|node| !is_kept(node));
        let gone = gone.map(|node| (Arc::downgrade(&node.load), before.timeline_of(node).unwrap_or(0)));
        self.era.state.lock().gone.extend(gone);
    }

    /// Index of the node that takes writes; `None` while there is none that certainly does.
    pub fn primary(&self) -> Option<usize> {
        self.nodes.iter().position(|node| node.is_primary())
    }

    /// A number that is another one whenever another node takes writes, none does any more, or the primary is on another
    /// timeline: what was known of positions in the WAL is void then (trap 90).
    pub fn role_epoch(&self) -> u64 {
        *self.era.epoch.borrow()
    }

    /// [`Self::role_epoch`], to be waited for.
    pub fn roles(&self) -> watch::Receiver<u64> {
        self.era.epoch.subscribe()
    }

    /// Why no node takes writes, for people.
    pub fn why_no_primary(&self) -> String {
        let state = self.era.state.lock();
        if state.why.is_empty() {
            "the node that should take writes says that it is a standby".to_owned()
        } else {
            state.why.clone()
        }
    }

    /// Takes a node out of service: no new statement runs there, idle connections are closed, those in use when they come
    /// back. `false` = it was out of service already.
    pub fn disable_node(&self, index: usize) -> bool {
        let node = &self.nodes[index];
        let news = node.set_disabled(true);
        // Before those are told who have something to do with it.
        node.load.set_draining(true);
        self.find_roles();
        for user in self.all_pools() {
            user.pools[index].drain();
        }
        news
    }

    /// Puts a node back into service, after a look at it. `false` = it was in service.
    pub fn enable_node(&self, index: usize) -> bool {
        let node = &self.nodes[index];
        let news = node.set_disabled(false);
        self.era.state.lock().leaving.take_if(|leaving| leaving.node == node.settings.name);
        node.load.set_draining(false);
        node.load.probe.notify_one();
        self.find_roles();
        news
    }

    /// What an administrator has taken out of service stays so when a reload has its name lead elsewhere.
    pub(super) fn follow_orders(&self, before: &Self) {
        for node in &self.nodes {
            let is_disabled = |other: &&Arc<Node>| other.settings.name == node.settings.name && other.is_disabled();
            if before.nodes.iter().any(|other| is_disabled(&other)) {
                node.set_disabled(true);
                node.load.set_draining(true);
            }
        }
    }

    /// A pause of the database is about to end. Its nodes have not been asked for their roles meanwhile, and whoever pauses a database may
    /// do so for the sake of a promotion: nobody takes anything before those that are up have said again what they are.
    pub fn doubt_roles(&self) {
        if !self.is_paused() || !self.can_be_asked {
            return;
        }
        self.nodes.iter().filter(|node| node.load.is_up()).for_each(|node| node.doubt_facts());
        self.find_roles();
    }

    /// What Patroni says of a node, where it is watched.
    pub(super) fn told_of(&self, node: &Node) -> Option<Told> {
        self.database.patroni.as_ref().and_then(|_| self.era.patroni.told(&node.settings.name))
    }

    fn leadership(&self) -> Leadership {
        self.database.patroni.as_ref().map_or(Leadership::Open, |_| self.era.patroni.leadership())
    }

    /// The role of a node in Patroni's word; `None` where it says nothing of it.
    pub fn patroni_role(&self, node: &Node) -> Option<String> {
        self.told_of(node).map(|told| told.role)
    }

    /// The timeline of a node, by its own word or Patroni's; `None` = not known.
    pub fn timeline_of(&self, node: &Node) -> Option<u32> {
        let told = || self.told_of(node).map(|told| told.timeline);
        node.facts().map(|facts| facts.timeline).or_else(told).filter(|timeline| *timeline > 0)
    }

    /// What is known of Patroni; `None` = it is not watched.
    pub fn patroni(&self) -> Option<Report> {
        self.database.patroni.as_ref().map(|_| self.era.patroni.report())
    }

    /// The node is about to be taken out of service for a switchover.
    pub(super) fn note_leaving(&self, name: &str) {
        self.era.state.lock().leaving = Some(Leaving { node: name.to_owned(), is_done: false });
    }

    /// The replica may be promoted.
    pub fn note_stood_down(&self) {
        if let Some(leaving) = &mut self.era.state.lock().leaving {
            leaving.is_done = true;
        }
    }

    /// The node that stands down for a switchover that is under way, or waits for the promotion.
    pub fn leaving(&self) -> Option<Leaving> {
        self.era.state.lock().leaving.clone()
    }

    /// Whether that is the node of this name.
    pub fn is_leaving(&self, node: &str) -> bool {
        self.era.state.lock().leaving.as_ref().is_some_and(|leaving| leaving.node == node)
    }

    /// Finds the roles anew and applies them. Another primary ends a switchover: who stood down for it is in service again, as
    /// whatever it is then. To be called whenever something is known that was not known before.
    pub(super) fn find_roles(&self) {
        let mut state = self.era.state.lock();
        // Workers of Citus are clusters of their own.
        let members: Vec<usize> = (0..self.nodes.len()).filter(|index| !self.nodes[*index].is_worker()).collect();
        let told: Vec<Option<Told>> = members.iter().map(|index| self.told_of(&self.nodes[*index])).collect();
        let leadership = self.leadership();
        let candidates: Vec<Candidate<'_>> = members
            .iter()
            .zip(&told)
            .map(|(index, told)| {
                let node = &self.nodes[*index];
                let is_configured = self.database.nodes.iter().any(|one| one.name == node.settings.name);
                let one = Candidate { is_configured, told: told.as_ref(), ..node.candidate(self.can_be_asked) };
                let has_led = state.last.as_ref().is_some_and(|(name, at)| *name == one.name && *at == one.timeline());
                Candidate { has_led, ..one }
            })
            .collect();
        let mut verdict = elect(&candidates, state.system, &leadership);
        if self.database.read_only {
            // Whatever it says of itself, it is not written to.
            let claims = verdict.standings.iter_mut().filter(|standing| **standing == Standing::Primary);
            claims.for_each(|standing| *standing = Standing::Replica);
            "the database is read-only".clone_into(&mut verdict.why);
        }
        state.system = verdict.system.filter(|system| *system != 0).or(state.system);
        let elected = verdict.standings.iter().position(|standing| *standing == Standing::Primary);
        let now = elected.map(|at| {
            let timeline = candidates[at].timeline();
            (candidates[at].name.to_owned(), timeline)
        });
        let primary = elected.map(|at| members[at]);
        drop(candidates);
        // Taken from one before it is given to another: in between, writes wait.
        for (index, node) in self.nodes.iter().enumerate().filter(|(index, _)| Some(*index) != primary) {
            if node.load.set_primary(false) {
                self.all_pools().iter().for_each(|user| user.pools[index].turn_away());
            }
        }
        let workers = (0..self.nodes.len()).filter(|index| self.nodes[*index].is_worker());
        let standings = members.into_iter().zip(verdict.standings);
        for (index, standing) in
            standings.chain(workers.map(|index| (index, self.standing_of_worker(&self.nodes[index]))))
        {
            let node = &self.nodes[index];
            let standing = match standing {
                Standing::Replica => self.standing_of_standby(node).unwrap_or(Standing::Replica),
                standing => standing,
            };
            let is_standby = node.facts().is_some_and(|facts| facts.in_recovery);
            let is_refused = matches!(standing, Standing::Refused(_));
            let is_replaced = primary.is_some() && !node.is_worker();
            node.load.set_deposed(Some(index) != primary && (is_replaced || is_standby || is_refused));
            if self.stand(node, standing) && is_refused {
                self.all_pools().iter().for_each(|user| user.pools[index].drain());
            }
        }
        if let (None, Some(Leaving { node, .. })) = (primary, &state.leaving) {
            verdict.why = format!(
                "{node} stands down for a switchover, and nothing was promoted yet (ENABLE NODE on the console gives it up)"
            );
        }
        let is_news = state.primary != now;
        let why_is_news = state.why != verdict.why;
        state.why = verdict.why;
        if why_is_news && !state.why.is_empty() && state.why != ASKING && !self.database.read_only {
            tracing::warn!(database = self.database.name, why = state.why, "no node takes writes: they wait");
        }
        if let Some(index) = primary {
            self.nodes[index].load.set_primary(true);
        }
        self.announce(&mut state, now.as_ref());
        for (node, told) in self.nodes.iter().zip(&told) {
            node.spare(told.as_ref().is_some_and(|told| told.spared));
        }
        self.share_reads();
        self.ask_for_users(&mut state, primary);
        let left = primary
            .and_then(|primary| state.leaving.take_if(|leaving| leaving.node != self.nodes[primary].settings.name));
        if now.is_some() {
            state.last.clone_from(&now);
        }
        state.depose_gone(now.as_ref().map_or(0, |(_, timeline)| *timeline));
        state.primary = now;
        drop(state);
        if is_news {
            self.era.epoch.send_modify(|epoch| *epoch += 1);
            self.fit_pools();
            self.lost.notify_one();
            self.era.patroni.wake.notify_one();
        }
        if let Some(index) = left.and_then(|left| self.nodes.iter().position(|node| node.settings.name == left.node)) {
            self.enable_node(index);
        }
    }

    /// Tells the log who takes writes, when that is news. As long as nodes are being asked whether they still are what they were (after a
    /// pause, say) nothing has been lost.
    fn announce(&self, state: &mut State, primary: Option<&(String, u32)>) {
        let name = primary.map(|(name, _)| name);
        if state.announced.as_ref() == name || (name.is_none() && state.why == ASKING) {
            return;
        }
        if let Some(before) = &state.announced {
            tracing::warn!(database = self.database.name, node = before, "node takes no writes any more");
        }
        if let Some((node, timeline)) = primary {
            tracing::info!(database = self.database.name, node, timeline, "node takes writes");
        }
        state.announced = name.cloned();
    }

    /// Notes what a node is for. Returns whether that is news.
    fn stand(&self, node: &Node, standing: Standing) -> bool {
        let found = match &standing {
            Standing::Primary => Some(NodeRole::Primary),
            Standing::Replica | Standing::Secondary => Some(NodeRole::Replica),
            Standing::Worker => Some(NodeRole::Worker),
            Standing::Unknown | Standing::Refused(_) => None,
        };
        node.metrics.set_role(found, matches!(standing, Standing::Refused(_)), node.is_disabled());
        let Some(before) = node.stand(standing) else { return false };
        let (database, name) = (&self.database.name, &node.settings.name);
        match (node.standing(), node.settings.role) {
            (Standing::Refused(why), _) => {
                tracing::error!(database, node = name, why, "node is refused: nothing is sent there")
            }
            (_, Some(declared)) if found.is_some_and(|found| found != declared) => {
                tracing::warn!(database, node = name, configured = ?declared, found = ?found, "node has another role than configured");
            }
            (now, _) if before != Standing::Unknown => {
                tracing::info!(database, node = name, ?before, ?now, "node has changed")
            }
            _ => {}
        }
        true
    }

    /// `auth_query` asks the primary; while there is none that is up, whoever answers.
    fn ask_for_users(&self, state: &mut State, primary: Option<usize>) {
        let Some(auth_query) = &self.auth_query else { return };
        let is_up = |index: &usize| self.nodes[*index].load.is_up();
        let reader = || (0..self.nodes.len()).filter(is_up).find(|index| self.nodes[*index].load.share() > 0);
        let Some(index) = primary.filter(is_up).or_else(reader).or(primary) else { return };
        let node = &self.nodes[index];
        if state.asked_for_users.as_ref() == Some(&node.settings.hosts) {
            return;
        }
        if let Some(pool) = control_settings(&self.database, node, &self.tls).and_then(|s| control::pool(s).ok()) {
            auth_query.ask_at(pool);
            state.asked_for_users = Some(node.settings.hosts.clone());
        }
    }

    /// Why the node takes nothing, when it is refused or out of service.
    pub fn refusal_of(&self, node: &Arc<Node>) -> Option<String> {
        match node.standing() {
            Standing::Refused(why) => Some(why),
            _ if self.is_leaving(&node.settings.name) => Some("stands down for a switchover".to_owned()),
            _ if node.is_disabled() => Some("disabled on the console".to_owned()),
            _ => None,
        }
    }
}
