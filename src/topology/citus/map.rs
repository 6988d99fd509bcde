//! Which node has which shard.

use std::collections::HashMap;
use std::sync::Arc;

use crate::sql::Distribution;

/// What the coordinator's catalogs say of its cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CitusMap {
    /// `citus_version()`, or nothing where it does not tell.
    pub version: String,
    /// Its nodes, by group and id.
    pub nodes: Vec<CitusNode>,
    /// How its tables are distributed.
    pub tables: Arc<Distribution>,
    /// By colocation: who has what range of hashes, ascending.
    pub(super) shards: HashMap<u32, Box<[ShardRange]>>,
}

/// A row of `pg_dist_node`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CitusNode {
    /// `nodeid`.
    pub id: i32,
    /// `groupid`; 0 = the coordinator's.
    pub group: u32,
    /// `nodename`.
    pub host: String,
    /// `nodeport`.
    pub port: u16,
    /// `noderole` is `primary`.
    pub is_primary: bool,
    /// `noderole` is `secondary`.
    pub is_secondary: bool,
    /// `nodecluster`.
    pub cluster: String,
    /// `isactive`.
    pub is_active: bool,
    /// `hasmetadata` and `metadatasynced`: it can answer queries on distributed tables.
    pub is_synced: bool,
}

/// Who has the hashes from `least` to `greatest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ShardRange {
    pub least: i32,
    pub greatest: i32,
    pub group: u32,
}

impl CitusNode {
    /// Whether statements may be sent to it directly: the primary of a worker group that knows what the coordinator knows, or a standby,
    /// which knows what its primary does.
    pub fn is_usable(&self) -> bool {
        let knows = self.is_primary && self.is_synced || self.is_secondary;
        self.group != 0 && knows && self.is_active
    }

    /// Whether it is a standby in the cluster of this name.
    pub fn is_secondary_of(&self, cluster: &str) -> bool {
        self.is_secondary && self.cluster == cluster
    }
}

impl CitusMap {
    /// The group that has the shard of this hash. Ranges are searched, not divided: after a split they are uneven.
    pub fn owner(&self, colocation: u32, hash: i32) -> Option<u32> {
        let ranges = self.shards.get(&colocation)?;
        let at = ranges.partition_point(|range| range.greatest < hash);
        ranges.get(at).filter(|range| range.least <= hash).map(|range| range.group)
    }

    /// How many shards of hash distributed tables a group has, those of tables of one colocation counted once.
    pub fn shards_of(&self, group: u32) -> usize {
        self.shards.values().flatten().filter(|range| range.group == group).count()
    }
}

/// Ranges in the order in which they are searched. With several placements of a shard, any of them will do: the first.
pub(super) fn ordered(mut ranges: Vec<ShardRange>) -> Box<[ShardRange]> {
    ranges.sort_unstable();
    ranges.dedup_by_key(|range| (range.least, range.greatest));
    ranges.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ranges: &[(i32, i32, u32)]) -> CitusMap {
        let ranges = ranges.iter().map(|(least, greatest, group)| ShardRange {
            least: *least,
            greatest: *greatest,
            group: *group,
        });
        CitusMap { shards: [(1, ordered(ranges.collect()))].into(), ..CitusMap::default() }
    }

    #[test]
    fn ranges_are_searched_however_uneven() {
        let map = map(&[(11, i32::MAX, 4), (i32::MIN, -1, 1), (10, 10, 3), (0, 9, 2), (0, 9, 5)]);
        let owner = |hash| map.owner(1, hash);
        assert_eq!([i32::MIN, -1, 0, 9, 10, 11, i32::MAX].map(owner), [1, 1, 2, 2, 3, 4, 4].map(Some));
        assert_eq!(map.owner(2, 5), None, "another colocation");
        assert_eq!((map.shards_of(2), map.shards_of(5)), (1, 0));
    }

    #[test]
    fn a_gap_belongs_to_nobody() {
        let map = map(&[(0, 9, 1), (20, 29, 2)]);
        assert_eq!([-1, 10, 19, 30].map(|hash| map.owner(1, hash)), [None; 4]);
        assert_eq!(map.owner(1, 20), Some(2));
    }
}
