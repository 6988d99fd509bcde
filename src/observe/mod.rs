//! What operators see: metrics, the slow-query log, tracing, the HTTP endpoint.

pub mod metrics;

pub use metrics::{
    Blame, ClientState, CloseCause, DatabaseStats, Metrics, NodeMetrics, PoolGauges, PoolMetrics, SessionMetrics,
    StatCounts,
};
