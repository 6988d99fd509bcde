//! Control connections to whichever node is the primary, in a database that a client may have named.

use std::collections::HashMap;
use std::sync::Arc;

use crate::net::control;

use super::cluster::Cluster;
use super::directory::control_settings;

/// Most bytes of a catalog, or of a map of shards: hundreds of thousands of objects.
const MAX_CATALOG: u64 = 256 << 20;

/// The pools of control connections to the nodes of one cluster, by the nodes' places in it.
#[derive(Default)]
pub struct ControlPools {
    of: Option<Arc<Cluster>>,
    pools: HashMap<usize, deadpool_postgres::Pool>,
}

impl ControlPools {
    /// The pool for the primary of the cluster, or for a replica while there is none that is up. `None` when no user is configured
    /// for it, or no node.
    pub fn pool(&mut self, cluster: &Arc<Cluster>, dbname: &str) -> Option<deadpool_postgres::Pool> {
        if !self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, cluster)) {
            // A reload has brought another one: its nodes may be others.
            *self = Self { of: Some(cluster.clone()), pools: HashMap::new() };
        }
        let up = |index: &usize| !cluster.nodes[*index].is_worker() && cluster.nodes[*index].load.is_up();
        let at = cluster.primary().filter(up).or_else(|| (0..cluster.nodes.len()).find(up)).or(cluster.primary())?;
        if let Some(pool) = self.pools.get(&at) {
            return Some(pool.clone());
        }
        let mut settings = control_settings(&cluster.database, &cluster.nodes[at], &cluster.tls)?;
        settings.dbname = dbname.to_owned();
        settings.max_size = 1;
        settings.max_answer = MAX_CATALOG;
        settings.application_name = "trunkline catalog".to_owned();
        let pool = control::pool(settings).ok()?;
        self.pools.insert(at, pool.clone());
        Some(pool)
    }

    /// Closes the connections.
    pub fn let_go(&mut self) {
        self.pools.clear();
        self.of = None;
    }
}
