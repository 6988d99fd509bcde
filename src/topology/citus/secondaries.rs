//! Standbys in a Citus cluster.
//!
//! A coordinator's standby reads distributed tables from the primaries of the workers, unless it is told to read them from standbys
//! (`citus.use_secondary_nodes = 'always'`, in its configuration); a worker's standby that is not told so reads its own shards from itself and
//! others from primaries, and contradicts itself. So those are used that are told so, and are registered as nodes of one named
//! cluster with a standby for every group. A read through such a standby of the coordinator sees what all of them have.

use std::sync::Arc;

use super::super::cluster::Cluster;
use super::super::election::Standing;
use super::super::freshness::Needs;
use super::super::node::Node;
use super::map::CitusMap;
use crate::config::NodeRole;
use crate::observe::Moment;

/// What a server says of Citus when it is asked for its health.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SecondaryUse {
    /// Citus is not loaded.
    #[default]
    NoCitus,
    /// It reads from primaries.
    Never,
    /// It reads from the standbys of this cluster.
    Always(Arc<str>),
}

impl SecondaryUse {
    /// By the values of `citus.use_secondary_nodes` and `citus.cluster_name`.
    pub(in crate::topology) fn of(value: Option<&str>, cluster: Option<&str>) -> Self {
        match value {
            None => Self::NoCitus,
            Some("always") => Self::Always(cluster.unwrap_or("default").into()),
            Some(_) => Self::Never,
        }
    }
}

impl CitusMap {
    /// Whether each group of workers has a standby in the cluster of this name.
    fn has_secondaries(&self, cluster: &str) -> bool {
        let mut workers = self.nodes.iter().filter(|node| node.is_primary && node.group != 0);
        let has = |group: u32| {
            self.nodes.iter().any(|node| node.group == group && node.is_secondary_of(cluster) && node.is_active)
        };
        workers.all(|worker| has(worker.group))
    }
}

const ADVICE: &str = "set citus.use_secondary_nodes = 'always' and citus.cluster_name in its postgresql.conf, restart it, and register \
    one standby for each node in that cluster with citus_add_secondary_node()";

impl Cluster {
    /// What a standby of the coordinator is for in a Citus cluster; `None`: what it would be for without Citus.
    pub(in crate::topology) fn standing_of_standby(&self, node: &Node) -> Option<Standing> {
        let uses = node.secondary_use();
        if self.database.read_only {
            // All of its nodes are, and nobody asks how fresh they are.
            return None;
        }
        if !self.can_be_surveyed() {
            // Distributed tables are read from primaries, if there are any; of standbys of workers nothing is known.
            let reason = "reads from a Citus cluster's standbys, of which nothing is known: name the database in the configuration";
            return matches!(uses, SecondaryUse::Always(_)).then(|| Standing::Refused(reason.to_owned()));
        }
        let Some(map) = self.citus.map() else {
            // It may turn out to be one.
            return (uses != SecondaryUse::NoCitus && !self.citus.is_surveyed()).then_some(Standing::Unknown);
        };
        match uses {
            SecondaryUse::Always(cluster) if map.has_secondaries(&cluster) => None,
            SecondaryUse::Always(cluster) => Some(Standing::Refused(format!(
                "not every worker has a standby in the Citus cluster \"{cluster}\": register them with citus_add_secondary_node()"
            ))),
            _ => {
                Some(Standing::Refused(format!("is a Citus coordinator's standby that reads from primaries: {ADVICE}")))
            }
        }
    }

    /// What a node of a worker group is for, by what it says of itself.
    pub(in crate::topology) fn standing_of_worker(&self, node: &Node) -> Standing {
        let Some(facts) = node.facts().filter(|_| !node.is_disabled()) else { return Standing::Unknown };
        let told = node.told_group();
        if told != Some(node.settings.group) {
            let told = told.map_or_else(|| "not of any".to_owned(), |group| format!("of group {group}"));
            return Standing::Refused(format!(
                "is not the node that the coordinator means by this address: it says that it is {told}, and should be of group {}",
                node.settings.group
            ));
        }
        match (node.is_secondary(), facts.in_recovery, node.secondary_use()) {
            (false, false, _) => Standing::Worker,
            (false, true, _) => {
                Standing::Refused("is a standby, but the coordinator has it as a worker's primary".to_owned())
            }
            (true, false, _) => {
                Standing::Refused("is no standby, but the coordinator has it as one (citus_update_node())".to_owned())
            }
            (true, true, SecondaryUse::Always(_)) => Standing::Secondary,
            (true, true, _) => {
                Standing::Refused(format!("is a worker's standby that reads other shards from primaries: {ADVICE}"))
            }
        }
    }

    /// The primary of a node group.
    pub fn primary_of(&self, group: u32) -> Option<usize> {
        match group {
            0 => self.primary(),
            group => self.nodes.iter().position(|node| node.settings.group == group && node.is_usable_worker()),
        }
    }

    /// A read asks for more than is known of standbys: samplers hurry.
    pub fn demand_freshness(&self, now: Moment) {
        self.freshness.demand(now);
        self.citus.demand_freshness(now);
    }

    /// Whether a node has all that a read needs: a standby of a coordinator, together with those from which it reads.
    pub fn has_all(&self, node: &Node, needs: &Needs) -> bool {
        if !needs.met_by(&node.load) {
            return false;
        }
        if !node.reads_from_secondaries() || node.is_worker() || node.is_primary() {
            return true;
        }
        let SecondaryUse::Always(cluster) = node.secondary_use() else { return true };
        let Some(map) = self.citus.map() else { return true };
        // What was seen through it was seen on them.
        let seen_there = needs.seen.is_some_and(|(incarnation, _)| incarnation == node.load.horizon.incarnation());
        let needs = if seen_there { needs.of_level() } else { *needs };
        let is_behind = |place: &super::CitusNode| {
            place.is_secondary_of(&cluster)
                && place.is_active
                && !self.nodes.iter().any(|node| node.is_at_place(place) && needs.met_by(&node.load))
        };
        !map.nodes.iter().filter(|node| node.group != 0).any(is_behind)
    }
}

impl Node {
    /// Whether the coordinator has it as a standby of a worker.
    pub fn is_secondary(&self) -> bool {
        self.is_worker() && self.settings.role == Some(NodeRole::Replica)
    }

    fn is_at_place(&self, place: &super::CitusNode) -> bool {
        self.settings.group == place.group
            && self.settings.hosts.iter().any(|at| at.host == place.host && at.port == place.port)
    }
}
