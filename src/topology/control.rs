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
    pools: HashMap<usize, Opened>,
}

/// A pool, and [`Node::moves`](super::node::Node::moves) before it was made.
type Opened = (deadpool_postgres::Pool, u64);

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
        let moves = cluster.nodes[at].moves();
        if let Some((pool, _)) = self.pools.get(&at).filter(|(_, before)| *before == moves) {
            return Some(pool.clone());
        }
        let mut settings = control_settings(&cluster.database, &cluster.nodes[at], &cluster.tls)?;
        settings.dbname = dbname.to_owned();
        settings.max_size = 1;
        settings.max_answer = MAX_CATALOG;
        settings.application_name = "trunkline catalog".to_owned();
        let pool = control::pool(settings).ok()?;
        self.pools.insert(at, (pool.clone(), moves));
        Some(pool)
    }

    /// Closes the connections.
    pub fn let_go(&mut self) {
        self.pools.clear();
        self.of = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::IpAddr;

    use tokio::runtime::Handle;

    use super::*;
    use crate::auth::AuthContext;
    use crate::config::{Config, Environment, UrlArgs};
    use crate::observe::Metrics;
    use crate::topology::Directory;

    #[tokio::test]
    async fn a_name_that_leads_elsewhere_is_followed() {
        let database_url = "postgres://app:secret@127.0.0.1:1/app".to_owned();
        let args = UrlArgs { database_url, ..UrlArgs::default() };
        let config = Config::from_urls(&args, &Environment::default()).unwrap().config;
        let auth = Arc::new(AuthContext::new().unwrap());
        let directory = Directory::new(&config, Handle::current(), Metrics::new(), auth).unwrap();
        let cluster = directory.cluster("app").unwrap();
        let mut pools = ControlPools::default();
        let mut has_changed = |before: &deadpool_postgres::Pool| {
            let now = pools.pool(&cluster, "app").unwrap();
            (!std::ptr::eq(now.manager(), before.manager()), now)
        };
        let (_, first) = has_changed(
            &control::pool(control_settings(&cluster.database, &cluster.nodes[0], &cluster.tls).unwrap()).unwrap(),
        );
        let address = |last| [IpAddr::from([10, 0, 0, last])];
        assert!(!cluster.nodes[0].moved_to(&address(1)), "it is known for the first time");
        assert!(!has_changed(&first).0);
        assert!(cluster.nodes[0].moved_to(&address(2)));
        let (is_new, second) = has_changed(&first);
        assert!(is_new && !has_changed(&second).0);
    }
}
