//! Clusters of nodes: roles, health, balance, and the pools of each (database, user).

mod cluster;
mod defaults;
mod directory;
mod health;
mod node;

pub use cluster::{Cluster, UserPools};
pub use defaults::Defaults;
pub use directory::{Directory, UnknownDatabase};
pub use node::{Node, ObservedRole};
