//! Clusters of nodes: roles, health, balance.
