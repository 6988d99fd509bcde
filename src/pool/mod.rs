//! Pools of server connections: leases, waiters, limits.
