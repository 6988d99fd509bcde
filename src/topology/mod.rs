//! Clusters of nodes: roles, health, balance, and the pools of each (database, user).

mod balance;
mod citus;
mod cluster;
mod control;
mod default_path;
mod defaults;
mod directory;
mod discovery;
mod election;
mod facts;
mod freshness;
mod health;
mod moved;
mod node;
mod patroni;
mod probe;
mod roles;
mod succession;
mod switchover;

pub use citus::{Citus, CitusMap, CitusNode, Survey, Surveyor};
pub use cluster::{Cluster, PoolLogin, UserPools};
pub use control::ControlPools;
pub use default_path::{BELIEVED_FOR, DefaultPath};
pub use defaults::Defaults;
pub use directory::{Directory, UnknownDatabase};
pub use discovery::Discoverer;
pub use election::Standing;
pub use facts::Facts;
pub use freshness::{Freshness, Needs, Stamps};
pub use node::{Checked, Node};
pub use patroni::{
    Endpoint as PatroniEndpoint, Member as PatroniMember, Report as PatroniReport, View as PatroniView,
    place as place_members,
};
pub use roles::Leaving;
pub use switchover::Pursuit;
