//! What operators see: metrics, the slow-query log, tracing, the HTTP endpoint.

pub mod beat;
pub mod fault;
mod horizon;
pub mod http;
pub mod logging;
pub mod metrics;
mod moment;
pub mod panics;
pub mod routes;
pub mod slow_log;
mod sparing;

pub use horizon::Horizon;
pub use http::{DatabaseReadiness, HttpServer, Readiness, ReadinessSource};
pub use logging::LogHandle;
pub use metrics::{
    Blame, CatalogMetrics, CitusMetrics, ClientState, CloseCause, DatabaseStats, ListenerMetrics, Metrics, NodeMetrics,
    PatroniMetrics, PoolGauges, PoolMetrics, Process, ReadOutcome, RerunCounts, SessionMetrics, StatCounts,
};
pub use moment::Moment;
pub use routes::{Route, RouteKey, RouteStats, Tally};
pub use slow_log::{Parameter, SlowLog, SlowLogError, SlowStatement};
pub use sparing::Sparing;
