//! A cluster that takes another one's place: what is as before stays (trap 72).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::auth::AuthContext;
use crate::config::{Config, Database, HostPort, NodeSettings};
use crate::observe::Metrics;
use crate::pool::Pool;

use super::cluster::{Cluster, UserPools};
use super::node::Node;

/// What a successor needs to make what its predecessor has not.
pub(super) struct Makings<'a> {
    pub config: &'a Config,
    pub auth: &'a Arc<AuthContext>,
    pub metrics: &'a Metrics,
}

impl Cluster {
    /// The cluster that takes this one's place when the same database is reached in the same way: nodes that are there before
    /// and after keep their health, pools and connections, whatever else about them is new. With it come the pools of nodes
    /// that are gone, to be closed once sessions find the successor.
    pub(super) fn succeeded_by(
        &self,
        database: &Arc<Database>,
        nodes: &[NodeSettings],
        makings: &Makings<'_>,
    ) -> (Arc<Self>, Vec<Arc<Pool>>) {
        self.checks.lock().drain(..).for_each(|check| check.abort());
        let place = |settings: &NodeSettings| self.nodes.iter().position(|node| node.is_at(settings));
        let places: Vec<Option<usize>> = nodes.iter().map(place).collect();
        let kept = |settings: &NodeSettings, place: &Option<usize>| match place {
            Some(index) if self.nodes[*index].settings == *settings => self.nodes[*index].clone(),
            Some(index) => self.nodes[*index].with_settings(settings.clone()),
            None => Node::new(settings.clone(), makings.metrics.node(&database.name, &settings.name)),
        };
        let successor = Arc::new(Self {
            database: database.clone(),
            nodes: nodes.iter().zip(&places).map(|(settings, place)| kept(settings, place)).collect(),
            auth_query: self.auth_query.clone(),
            tls: self.tls.clone(),
            gates: self.gates.clone(),
            users: Mutex::default(),
            closed: AtomicBool::new(false),
            user_caps: self.user_caps.clone(),
            checks: Mutex::default(),
            lost: self.lost.clone(),
            can_be_asked: self.can_be_asked,
            near: near(nodes, makings.config.zone.as_deref()),
            era: self.era.clone(),
            freshness: self.freshness.clone(),
            citus: self.citus.clone(),
        });
        let gone = |index: &usize| !places.contains(&Some(*index));
        let mut closing = Vec::new();
        let mut users = self.users.lock();
        for (key, old) in users.drain() {
            let login = old.login.under(makings.config, database, &old.user);
            if login.user != old.login.user {
                // Sessions find others, which log in as the one who is named now.
                closing.extend(old.pools.iter().cloned());
                continue;
            }
            let make =
                successor.pool_maker(makings.config, &old.database, &old.user, &login, makings.auth, makings.metrics);
            let pools = successor.nodes.iter().zip(&places).map(|(node, place)| match place {
                Some(index) => old.pools[*index].clone(),
                None => make(node),
            });
            let new = UserPools {
                database: old.database.clone(),
                user: old.user.clone(),
                cluster: successor.clone(),
                login: old.login.clone(),
                pools: pools.collect(),
                stamps: old.stamps.clone(),
                settings: ArcSwap::from(old.settings()),
                greetings: old.greetings.clone(),
                accepted: old.accepted.clone(),
                keeps_sequences: AtomicBool::new(old.keeps_sequences.load(Ordering::Relaxed)),
                asks_channels: AtomicBool::new(old.asks_channels.load(Ordering::Relaxed)),
                defaults: old.defaults.clone(),
                default_path: old.default_path.clone(),
                server_defaults: old.server_defaults.clone(),
                unused: AtomicU32::new(0),
            };
            closing.extend((0..old.pools.len()).filter(gone).map(|index| old.pools[index].clone()));
            successor.users.lock().insert(key, Arc::new(new));
        }
        drop(users);
        successor.follow(self);
        successor.apply(makings.config);
        successor.find_roles();
        (successor, closing)
    }

    /// Takes the place of a cluster that reached the servers in another way, or of none: finds the roles by what is known already.
    pub(super) fn begin(&self, before: Option<&Self>) {
        if let Some(before) = before {
            self.follow(before);
            self.era.goes_another_way();
            // What is not known of the nodes again is not known of their freshness.
            if before.can_be_asked != self.can_be_asked {
                self.nodes.iter().for_each(|node| node.load.horizon.forget());
            }
        }
        self.limit_servers();
        self.find_roles();
    }

    /// What holds of the nodes of the cluster before for those that have their names; and whether the servers may be another cluster's, since
    /// none of those that are configured is where one was.
    fn follow(&self, before: &Self) {
        self.follow_orders(before);
        self.remember_gone(before);
        let places: Vec<&HostPort> = before.nodes.iter().flat_map(|node| &node.settings.hosts).collect();
        let is_known = |settings: &NodeSettings| settings.hosts.iter().any(|host| places.contains(&host));
        if !self.database.nodes.iter().any(is_known) {
            self.era.forget_system();
        }
    }

    /// A node that is reached in another way from now on, by a cluster whose nodes can be asked or not: what was known of it holds, as far as
    /// it can be asked again, and who has a connection to it goes on to hear what becomes of it. `None` = there is none at this place.
    pub(super) fn node_again(&self, settings: &NodeSettings, can_be_asked: bool) -> Option<Arc<Node>> {
        let node = self.nodes.iter().find(|node| node.is_at(settings))?;
        Some(match can_be_asked == self.can_be_asked {
            true => node.with_settings(settings.clone()),
            false => node.unknown(settings.clone()),
        })
    }
}

impl Cluster {
    /// The nodes of a database: the configured ones, and replicas and workers that were found, as long as it looks for any.
    /// Nobody looks after workers of a database that is read-only, and they take writes.
    pub(super) fn nodes_of(&self, database: &Database) -> Vec<NodeSettings> {
        let mut nodes = self.members_of(database);
        if database.citus.uses_workers() && !database.read_only {
            nodes.extend(self.era.workers.lock().iter().cloned());
        }
        nodes
    }

    /// The same without workers.
    pub(super) fn members_of(&self, database: &Database) -> Vec<NodeSettings> {
        let mut nodes = database.nodes.clone();
        if database.discovery.is_some() {
            let found = self.era.discovered.lock();
            let is_new = |node: &&NodeSettings| !database.nodes.iter().any(|known| known.name == node.name);
            nodes.extend(found.iter().filter(is_new).cloned());
        }
        nodes
    }

    /// Whether the same nodes are near under a new configuration.
    pub(super) fn is_near_as(&self, config: &Config) -> bool {
        self.near == near(&self.database.nodes, config.zone.as_deref())
    }
}

/// The nodes in this zone, as a bit set; all, when no zone is given or none of them is in it.
pub(super) fn near(nodes: &[NodeSettings], zone: Option<&str>) -> u64 {
    let Some(zone) = zone else { return u64::MAX };
    nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| node.zone.as_deref() == Some(zone))
        .fold(0, |near, (index, _)| near | 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::runtime::Handle;

    use super::*;
    use crate::auth::{ServerCredential, ServerLogin};
    use crate::config::{Environment, UrlArgs};
    use crate::pool::CheckOutError;
    use crate::topology::Directory;

    fn config(port: u16) -> Config {
        let database_url = format!("postgres://app:secret@127.0.0.1:{port}/app");
        Config::from_urls(&UrlArgs { database_url, ..UrlArgs::default() }, &Environment::default()).unwrap().config
    }

    #[tokio::test]
    async fn pools_of_a_login_that_met_the_end_of_its_cluster_are_closed() {
        let (metrics, auth) = (Metrics::new(), Arc::new(AuthContext::new().unwrap()));
        let directory = Directory::new(&config(1), Handle::current(), metrics.clone(), auth.clone()).unwrap();
        let gone = directory.cluster("app").unwrap();
        directory.apply(&config(2)).unwrap();
        let login = ServerLogin { user: "app".to_owned(), credential: ServerCredential::None };
        let made = gone.user_pools(&config(1), "app", "app", login, &auth, &metrics);
        let waited = made.pools[0].check_out(&Arc::default()).await;
        assert!(matches!(waited, Err(CheckOutError::Closed)), "{waited:?}");
        assert!(gone.all_pools().is_empty(), "nobody would let go of them");
        let pools = directory.cluster("app").unwrap().pools_after(&made, &config(2), &auth, &metrics);
        assert_eq!(pools.pools[0].spec.hosts[0].port, 2);
    }
}
