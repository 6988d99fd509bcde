//! What operators see: metrics, the slow-query log, tracing, the HTTP endpoint.
