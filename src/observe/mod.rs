//! What operators see: metrics, the slow-query log, tracing, the HTTP endpoint.

pub mod fault;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod panics;
pub mod routes;
pub mod slow_log;

pub use http::{DatabaseReadiness, HttpServer, Readiness, ReadinessSource};
pub use logging::LogHandle;
pub use metrics::{
    Blame, ClientState, CloseCause, DatabaseStats, ListenerMetrics, Metrics, NodeMetrics, PoolGauges, PoolMetrics,
    Process, RerunCounts, SessionMetrics, StatCounts,
};
pub use routes::{Route, RouteKey, RouteStats, Tally};
pub use slow_log::{Parameter, SlowLog, SlowLogError, SlowStatement};
