//! How a Citus database is used. Whether a database is one is found out.

use std::time::Duration;

/// Settings of a Citus database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CitusSettings {
    /// Where reads go that concern more than one shard.
    pub reads: CitusReads,
    /// Which statements go to the node that has their shard.
    pub owner_routing: OwnerRouting,
    /// Time between two looks whether nodes or shards are elsewhere.
    pub interval: Duration,
}

impl Default for CitusSettings {
    fn default() -> Self {
        Self { reads: CitusReads::Coordinator, owner_routing: OwnerRouting::Reads, interval: Duration::from_secs(5) }
    }
}

impl CitusSettings {
    /// Whether statements may run on workers at all.
    pub fn uses_workers(&self) -> bool {
        self.reads == CitusReads::AnyNode || self.owner_routing != OwnerRouting::Off
    }
}

/// Where reads of Citus tables go that no single shard answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum CitusReads {
    /// To the coordinator.
    #[default]
    Coordinator,
    /// To any node that knows the metadata.
    AnyNode,
}

impl CitusReads {
    /// As the configuration names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::AnyNode => "any_node",
        }
    }
}

/// Which statements go straight to the node that has the shard that they name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OwnerRouting {
    /// None.
    Off,
    /// Reads.
    #[default]
    Reads,
    /// Reads, and INSERT, UPDATE and DELETE.
    All,
}

impl OwnerRouting {
    /// As the configuration names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Reads => "reads",
            Self::All => "all",
        }
    }
}
