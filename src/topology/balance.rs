//! Which replica a read goes to: near ones first, by weight, away from those that are busy or slow.

use std::sync::Arc;

use super::cluster::Cluster;
use super::election::Standing;
use super::freshness::Needs;
use super::node::Node;

/// A node that takes this much longer to answer than the quickest one counts as slow …
const SLOW: u64 = 2;
/// … unless the difference is less than this, in microseconds: that is noise.
const NOISE_US: u64 = 5000;
/// By how much a slow node's share is divided, at most.
const MAX_PENALTY: u64 = 16;

/// Reads go to another zone while the near replica at hand has at least so many statements under way for each unit of its weight …
const SPILL_FROM: u64 = 8;
/// … and this many times the load of the one far away.
const SPILL_FACTOR: u64 = 4;

/// What a unit of weight is in a node's share.
const UNIT: u64 = 1000;

impl Cluster {
    /// Of the replicas that can be given a read, save those in the bit set `tried`, the one whose data is the freshest.
    pub fn freshest(&self, tried: u64) -> Option<usize> {
        let fit =
            |(index, node): &(usize, &Arc<Node>)| tried & bit(*index) == 0 && is_usable(node) && !node.is_primary();
        let all = self.nodes.iter().enumerate().filter(fit);
        all.max_by_key(|(_, node)| node.load.horizon.get()).map(|(index, _)| index)
    }

    /// Picks a node for a read: of two random candidates the one with fewer statements under way for its share. Candidates
    /// are the usable nodes that have what the read needs, save those in the bit set `tried`; those of our own zone, unless there is none, or they are
    /// much busier than the others.
    pub fn pick_reader(&self, tried: u64, needs: &Needs) -> Option<usize> {
        self.pick_reader_if(tried, |node| node.is_primary() || self.has_all(node, needs))
    }

    /// As [`Self::pick_reader`], of the nodes for which `fits` holds.
    pub fn pick_reader_if(&self, tried: u64, fits: impl Fn(&Node) -> bool) -> Option<usize> {
        let fit = |index: usize| tried & bit(index) == 0 && is_usable(&self.nodes[index]) && fits(&self.nodes[index]);
        let Some(near) = self.pick_of_two(|index| self.near & bit(index) != 0 && fit(index)) else {
            return self.pick_of_two(fit);
        };
        let load = score(&self.nodes[near]);
        if load < SPILL_FROM * UNIT || self.near == u64::MAX {
            return Some(near);
        }
        let far = self.pick_of_two(|index| self.near & bit(index) == 0 && fit(index));
        Some(far.filter(|far| score(&self.nodes[*far]) * SPILL_FACTOR <= load).unwrap_or(near))
    }

    fn pick_of_two(&self, fit: impl Fn(usize) -> bool) -> Option<usize> {
        let share = |index: usize| if fit(index) { u64::from(self.nodes[index].load.share()) } else { 0 };
        let total: u64 = (0..self.nodes.len()).map(share).sum();
        if total == 0 {
            return None;
        }
        let draw = || {
            let mut ticket = fastrand::u64(..total);
            (0..self.nodes.len()).find(|index| {
                let share = share(*index);
                let hit = ticket < share;
                ticket = ticket.saturating_sub(share);
                hit
            })
        };
        // What a check changes meanwhile may leave a ticket without its node.
        let (a, b) = (draw(), draw());
        match (a, b) {
            (Some(a), Some(b)) if score(&self.nodes[b]) < score(&self.nodes[a]) => Some(b),
            (a, b) => a.or(b),
        }
    }

    /// Computes the nodes' shares of reads from their roles, weights and latencies.
    pub(super) fn share_reads(&self) {
        let reads = |node: &Node| {
            !node.is_disabled() && matches!(node.standing(), Standing::Primary | Standing::Replica) && node.weight() > 0
        };
        let latency =
            |node: &Node| node.load.latency().map(|latency| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        let best =
            self.nodes.iter().filter(|node| reads(node) && node.load.is_up()).filter_map(|node| latency(node)).min();
        for node in &self.nodes {
            let share = if reads(node) { share(node.weight(), latency(node), best) } else { 0 };
            node.load.set_share(share);
        }
    }
}

fn bit(index: usize) -> u64 {
    1 << (index % 64)
}

/// Whether a node may be given a read at all: it is up, in service, a member of the cluster, and has a weight.
fn is_usable(node: &Node) -> bool {
    node.load.share() > 0 && node.load.is_up()
}

/// Statements under way for a unit of weight, this one included, in thousandths. That a node is slow is in its share already.
fn score(node: &Node) -> u64 {
    (u64::from(node.load.outstanding()) + 1) * UNIT / u64::from(node.weight()).max(1)
}

/// The share of a node with this weight: less when it is much slower than the quickest.
fn share(weight: u32, latency: Option<u64>, best: Option<u64>) -> u32 {
    let full = u64::from(weight) * UNIT;
    let share = match (latency, best) {
        (Some(own), Some(best)) if own > best.saturating_mul(SLOW) && own - best > NOISE_US => {
            full * best.max(1) / own.min(best.max(1).saturating_mul(MAX_PENALTY))
        }
        _ => full,
    };
    u32::try_from(share.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_node_gets_less_and_noise_counts_for_nothing() {
        assert_eq!(share(2, None, None), 2000);
        assert_eq!(share(1, Some(300), Some(300)), 1000);
        assert_eq!(share(1, Some(5000), Some(300)), 1000, "a few milliseconds are noise");
        assert_eq!(share(1, Some(9000), Some(3000)), 333, "three times slower: a third");
        assert_eq!(share(1, Some(5000), Some(3000)), 1000);
        assert_eq!(
            share(1, Some(1_000_000), Some(1000)),
            1000 / 16,
            "some must be asked, or nobody learns that it is well again"
        );
        assert_eq!(share(u32::MAX, None, None), u32::MAX);
    }
}
