//! Names that lead elsewhere than before: connections to an address that a node's name does not have any more are closed.
//!
//! Each new connection looks its name up anyway; this is for those that are open, when a failover is done by a change in the
//! name service.

use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::config::HostPort;
use crate::net;
use crate::pool::is_elsewhere;

use super::cluster::Cluster;

/// Longest time for one look-up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks the names of a cluster's nodes up again and again; at once for the first time, as what is connected to from now on is compared
/// with that.
pub(super) async fn watch(cluster: Weak<Cluster>, interval: Duration) {
    loop {
        let Some(now) = cluster.upgrade() else { return };
        for (index, node) in now.nodes.iter().enumerate() {
            if let Some(found) = addresses(&node.settings.hosts, look_up).await {
                retire(&now, index, &found);
            }
        }
        drop(now);
        tokio::time::sleep(interval).await;
    }
}

fn retire(cluster: &Arc<Cluster>, index: usize, found: &[IpAddr]) {
    let node = &cluster.nodes[index];
    let mut retired = 0;
    for user in cluster.all_pools() {
        retired += user.pools[index].retire(|info| is_elsewhere(&info.addr, found));
    }
    if retired > 0 {
        // Of those that were being opened meanwhile some may be known to go to a server that was replaced.
        cluster.lost.notify_one();
    }
    if node.moved_to(found) {
        // Who checks its health is to ask the server that has the name now.
        node.load.probe.notify_one();
        if let Some(auth_query) = &cluster.auth_query {
            auth_query.let_go();
        }
        tracing::info!(node = node.settings.name, addresses = ?found, retired, "the node's name leads elsewhere");
    }
}

async fn look_up(host: HostPort) -> Result<Vec<IpAddr>, ()> {
    match tokio::time::timeout(PATIENCE, net::look_up(&host)).await {
        Ok(Ok(found)) => Ok(found.into_iter().map(|address| address.ip()).collect()),
        _ => Err(()),
    }
}

/// The addresses that the names have now, sorted. `None` when there is no name among them, or one was not found: a failed
/// look-up tells nothing about a server (trap 89).
async fn addresses<F>(hosts: &[HostPort], look_up: impl Fn(HostPort) -> F) -> Option<Vec<IpAddr>>
where
    F: Future<Output = Result<Vec<IpAddr>, ()>>,
{
    let is_name = |host: &HostPort| !host.host.starts_with('/') && host.host.parse::<IpAddr>().is_err();
    if !hosts.iter().any(is_name) {
        return None;
    }
    let mut all = Vec::new();
    for host in hosts {
        match host.host.parse() {
            Ok(address) => all.push(address),
            Err(_) if is_name(host) => all.extend(look_up(host.clone()).await.ok()?),
            Err(_) => {}
        }
    }
    all.sort_unstable();
    all.dedup();
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::runtime::Handle;

    use super::*;
    use crate::auth::AuthContext;
    use crate::config::{Config, Environment, UrlArgs};
    use crate::observe::Metrics;
    use crate::topology::Directory;

    fn host(name: &str) -> HostPort {
        HostPort { host: name.to_owned(), port: 5432 }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_failed_look_up_tells_nothing_trap_89() {
        let names = async |host: HostPort| match host.host.as_str() {
            "db" => Ok(vec![ip("10.0.0.2"), ip("10.0.0.1")]),
            "gone" => Ok(Vec::new()),
            _ => Err(()),
        };
        let of =
            async |hosts: &[&str]| addresses(&hosts.iter().map(|name| host(name)).collect::<Vec<_>>(), names).await;
        assert_eq!(of(&["db", "10.0.0.9", "/run"]).await.unwrap(), [ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.9")]);
        assert_eq!(of(&["db", "broken"]).await, None);
        assert_eq!(of(&["gone"]).await, None, "an empty answer is no answer");
        assert_eq!(of(&["10.0.0.9", "/run"]).await, None, "nothing to look up");
    }

    #[tokio::test]
    async fn where_names_lead_is_known_before_the_first_interval_is_over() {
        let database_url = "postgres://app:secret@localhost:1/app".to_owned();
        let args = UrlArgs { database_url, ..UrlArgs::default() };
        let mut config = Config::from_urls(&args, &Environment::default()).unwrap().config;
        for database in config.databases.values_mut() {
            Arc::make_mut(database).routing.dns_interval = Some(Duration::from_secs(3600));
        }
        let auth = Arc::new(AuthContext::new().unwrap());
        let directory = Directory::new(&config, Handle::current(), Metrics::new(), auth).unwrap();
        let node = directory.cluster("app").unwrap().nodes[0].clone();
        // Elsewhere than where it led when it was connected to first.
        let elsewhere = async {
            while !node.moved_to(&[ip("10.0.0.1")]) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), elsewhere).await.unwrap();
    }
}
