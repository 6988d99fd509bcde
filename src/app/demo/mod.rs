//! `trunkline demo`: a throw-away primary with streaming replicas, and Trunkline before them.

mod binaries;
pub mod cluster;
mod error;
mod guard;
mod node;
mod ports;
mod seed;

pub use binaries::PgBinaries;
pub use cluster::{Cluster, ClusterInfo, ClusterOptions};
pub use error::ClusterError;
pub use guard::Lifetime;
pub use node::{Node, StopMode};
pub use ports::PortLease;
