//! How a read stands with the replicas, as it is told to people and counted in a what-if mode. Asks what
//! [`Session::choose`] asks, and changes nothing.

use std::time::Duration;

use crate::observe::Moment;
use crate::sql::{Consistency, Decision};
use crate::topology::{Cluster, Needs};

use super::relay::Session;

/// Where a read would run that came at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prospect {
    /// No replica takes reads.
    NoReplica,
    /// On a replica: one has what it needs.
    Fresh,
    /// On a replica, once one has what it needs, unless that takes longer than this.
    Soon(Duration),
    /// On the primary: no replica has what it needs.
    Behind(Behind),
}

/// Why no replica gets a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Behind {
    level: Consistency,
    /// All that is missing is what the session has read.
    only_seen: bool,
    /// The replica whose data is the freshest, by its index.
    freshest: usize,
    /// How old that may be; `None` = not known.
    lag: Option<Duration>,
}

impl Behind {
    /// At this moment, with this replica as the freshest.
    pub fn of(cluster: &Cluster, freshest: usize, level: Consistency, only_seen: bool, now: Moment) -> Self {
        let horizon = cluster.nodes[freshest].load.horizon.get();
        Self { level, only_seen, freshest, lag: (horizon != Moment::NEVER).then(|| horizon.until(now)) }
    }

    /// The rest of a sentence that says why it runs on the primary.
    pub fn sentence(self, cluster: &Cluster) -> String {
        let lacks = match self.level {
            _ if self.only_seen => "no replica has what the session has read already",
            Consistency::Eventual => "no replica is within max_lag",
            Consistency::Session => "no replica has the session's last write yet",
            Consistency::Table => "no replica has the last write to what it reads yet",
            Consistency::Strong => "no replica has all that was committed before it came",
        };
        let freshest = &cluster.nodes[self.freshest].settings.name;
        let lag = lag(self.lag);
        format!("{lacks} (consistency {}; freshest {freshest}: {lag})", self.level.as_str())
    }
}

impl Session {
    /// What a read needs at this moment.
    pub(super) fn needs_of(&self, decision: Decision, arrived: Moment) -> (Consistency, Needs) {
        let (level, reads) = self.placement.needs_of(decision);
        (level, self.sight.needs_of(level, reads, arrived, self.placement.what_if()))
    }

    /// How a read that came at an instant stands.
    pub(super) fn prospect(&self, decision: Decision, arrived: Moment) -> Prospect {
        let cluster = &self.pools.cluster;
        let tried = self.nodes_tried();
        let Some(freshest) = cluster.freshest(tried) else { return Prospect::NoReplica };
        let (level, needs) = self.needs_of(decision, arrived);
        let has = |needs: &Needs| {
            cluster.pick_reader_if(tried, |node| !node.is_primary() && cluster.has_all(node, needs)).is_some()
        };
        if has(&needs) {
            return Prospect::Fresh;
        }
        match self.sight.wait() {
            Some(limit) if level == Consistency::Strong => Prospect::Soon(limit),
            _ => Prospect::Behind(Behind::of(cluster, freshest, level, has(&needs.of_level()), Moment::now())),
        }
    }

    /// What a read needs and what the replicas have, in lines.
    pub(super) fn tell_freshness(&self, decision: Decision, arrived: Moment, lines: &mut Vec<String>) {
        let cluster = &self.pools.cluster;
        let (level, needs) = self.needs_of(decision, arrived);
        for node in cluster.nodes.iter().filter(|node| !node.is_primary() && !node.is_worker()) {
            let state = match (node.load.is_up(), cluster.has_all(node, &needs)) {
                (false, _) => "down",
                (true, true) => "takes reads",
                (true, false) => "lacks what it must see",
            };
            let (name, lag) = (&node.settings.name, lag(node.load.horizon.staleness()));
            lines.push(format!("  node {name}: {state}, {lag}, {} in use", node.load.outstanding()));
        }
        let now = Moment::now();
        let oldest = needs.needed.max(needs.seen.map_or(Moment::NEVER, |(_, end)| end));
        let must = match level {
            Consistency::Strong => "it must see all that was committed before it came".to_owned(),
            _ if oldest == Moment::NEVER => "it needs nothing that a replica may lack".to_owned(),
            _ => format!("it must see what was committed up to {} ago", short(oldest.until(now))),
        };
        lines.push(format!("  consistency {}: {must}", level.as_str()));
    }

    /// How far behind a replica is, in words.
    pub(super) fn lag_of(&self, node: usize) -> String {
        lag(self.pools.cluster.nodes[node].load.horizon.staleness())
    }
}

fn lag(lag: Option<Duration>) -> String {
    match lag {
        Some(lag) => format!("at most {} behind", short(lag)),
        None => "how far behind is not known".to_owned(),
    }
}

fn short(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..10_000 => format!("{ms} ms"),
        ms => format!("{} s", ms / 1000),
    }
}
