//! Nodes that nobody has configured: found in the primary's `pg_stat_replication`, or named by Patroni where that is watched.
//!
//! What is found there is only where to look. A node counts for something when it has been asked itself, as any other: an
//! archiver has nobody who answers, and the server of a logical subscriber is of another cluster.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::Pool;

use crate::config::{Discovery, HostPort, NodeSettings};
use crate::net::{ClientTlsContext, control, look_up};

use super::cluster::Cluster;
use super::directory::control_settings;
use super::node::Node;

/// A replica that the primary has not named for so long is taken out.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);
/// Longest time for one question.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who also streams, and serves nobody.
const NO_SERVERS: [&str; 2] = ["pg_basebackup", "pg_receivewal"];

const QUESTION: &str = "SELECT application_name, host(client_addr), \
    pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') \
    FROM (SELECT 1) AS one LEFT JOIN pg_catalog.pg_stat_replication ON state = 'streaming'";

/// Looks for the replicas of one database. Made once, and asked again and again.
#[derive(Default)]
pub struct Discoverer {
    /// The primary that was asked last.
    asked: Option<Asked>,
    /// What was found, and when it was last named.
    found: HashMap<String, (NodeSettings, Instant)>,
    complained: bool,
}

/// A primary, and how it is asked.
struct Asked {
    hosts: Vec<HostPort>,
    /// [`Node::moves`](super::node::Node::moves) when it was asked first: its name may lead to another server since.
    moves: u64,
    /// Another one after a reload that reaches it in another way, with another password, say.
    tls: Arc<ClientTlsContext>,
    pool: Pool,
}

impl Asked {
    fn is(&self, cluster: &Cluster, primary: &Node) -> bool {
        let is_same_way = Arc::ptr_eq(&self.tls, &cluster.tls);
        is_same_way && self.hosts == primary.settings.hosts && self.moves == primary.moves()
    }
}

impl Discoverer {
    /// The replicas besides the configured nodes; `None` when nobody can tell at the moment: then all stays as it is.
    pub async fn look(&mut self, cluster: &Arc<Cluster>) -> Option<Vec<NodeSettings>> {
        let Some(settings) = &cluster.database.discovery else {
            self.found.clear();
            return Some(Vec::new());
        };
        if cluster.database.patroni.is_some() {
            let found = members(cluster, settings)?;
            return Some(self.found_now(found, None));
        }
        let primary = &cluster.nodes[cluster.primary()?];
        if !self.asked.as_ref().is_some_and(|asked| asked.is(cluster, primary)) {
            let (hosts, moves) = (primary.settings.hosts.clone(), primary.moves());
            let pool = control::pool(control_settings(&cluster.database, primary, &cluster.tls)?).ok()?;
            self.asked = Some(Asked { hosts, moves, tls: cluster.tls.clone(), pool });
        }
        let Asked { pool, .. } = self.asked.as_ref()?;
        let named = match tokio::time::timeout(PATIENCE, ask(pool)).await {
            Ok(Ok((named, true))) => named,
            Ok(Ok((_, false))) => {
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(
                        database = cluster.database.name,
                        "discover_replicas: the control user may not see pg_stat_replication; GRANT pg_monitor TO it"
                    );
                }
                return None;
            }
            Ok(Err(error)) => {
                tracing::debug!(
                    database = cluster.database.name,
                    error,
                    "discover_replicas: the primary does not tell"
                );
                return None;
            }
            Err(_) => {
                // Its connection may never answer again.
                self.asked = None;
                return None;
            }
        };
        let configured = configured(cluster).await;
        let own = primary.settings.hosts.first()?;
        let mut found = Vec::new();
        for (name, address) in named {
            let Some(node) = node(&name, address.as_deref(), settings, own) else { continue };
            let is_configured = configured.iter().any(|(known, places)| {
                *known == node.name || node.hosts.first().is_some_and(|place| places.contains(place))
            });
            if !is_configured {
                found.push(node);
            }
        }
        // The primary does not name itself.
        Some(self.found_now(found, Some(&primary.settings.name)))
    }

    /// Adds what was found, and takes out what was not named for long; not the one to be kept.
    fn found_now(&mut self, found: Vec<NodeSettings>, kept: Option<&String>) -> Vec<NodeSettings> {
        let now = Instant::now();
        self.found.extend(found.into_iter().map(|node| (node.name.clone(), (node, now))));
        self.found.retain(|name, (_, seen)| now - *seen < FORGOTTEN_AFTER || Some(name) == kept);
        let mut all: Vec<NodeSettings> = self.found.values().map(|(node, _)| node.clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

/// The members that Patroni names and nobody has configured; `None` while it does not answer.
fn members(cluster: &Cluster, settings: &Discovery) -> Option<Vec<NodeSettings>> {
    let configured: Vec<&str> = cluster.database.nodes.iter().map(|node| node.name.as_str()).collect();
    let strangers = cluster.era.patroni.strangers(&configured)?;
    // A name that a configured node has is that node's.
    let strangers = strangers.into_iter().filter(|(name, _)| !configured.contains(&name.as_str()));
    let node = |(name, place)| NodeSettings {
        name,
        role: None,
        hosts: vec![place],
        weight: settings.weight,
        zone: None,
        group: 0,
    };
    Some(strangers.map(node).collect())
}

type Named = Vec<(String, Option<String>)>;

/// Who streams from the primary, and whether we may know.
async fn ask(pool: &Pool) -> Result<(Named, bool), String> {
    let client = pool.get().await.map_err(|error| error.to_string())?;
    let rows = client.query(QUESTION, &[]).await.map_err(|error| error.to_string())?;
    let mut named = Vec::new();
    let mut allowed = false;
    for row in rows {
        let name: Option<String> = row.try_get(0).map_err(|error| error.to_string())?;
        let address = row.try_get(1).map_err(|error| error.to_string())?;
        allowed = row.try_get(2).map_err(|error| error.to_string())?;
        named.extend(name.map(|name| (name, address)));
    }
    Ok((named, allowed))
}

/// The node that a standby of this name at this address is; `None` when it is none.
fn node(name: &str, address: Option<&str>, settings: &Discovery, primary: &HostPort) -> Option<NodeSettings> {
    if NO_SERVERS.contains(&name) {
        return None;
    }
    let own = settings.ports.get(name).copied();
    // By a Unix socket: on the primary's machine.
    let host = address.unwrap_or(&primary.host).to_owned();
    let port = own.or(settings.port).unwrap_or(primary.port);
    // "walreceiver" is what all are called that nobody has named.
    let name = if name.is_empty() || name == "walreceiver" { format!("{host}:{port}") } else { name.to_owned() };
    let hosts = vec![HostPort { host, port }];
    Some(NodeSettings { name, role: None, hosts, weight: settings.weight, zone: None, group: 0 })
}

/// Names of the configured nodes, and their places as addresses.
async fn configured(cluster: &Cluster) -> Vec<(&str, Vec<HostPort>)> {
    let mut all = Vec::new();
    for node in &cluster.database.nodes {
        let mut places = node.hosts.clone();
        for host in node.hosts.iter().filter(|host| host.host.parse::<IpAddr>().is_err() && !host.host.starts_with('/'))
        {
            let found = tokio::time::timeout(PATIENCE, look_up(host)).await;
            let found = found.ok().and_then(Result::ok).unwrap_or_default();
            places.extend(found.iter().map(|at| HostPort { host: at.ip().to_string(), port: host.port }));
        }
        all.push((node.name.as_str(), places));
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn where_a_standby_is_looked_for() {
        let primary = HostPort { host: "10.0.0.1".to_owned(), port: 5432 };
        let plain = Discovery { port: None, ports: Default::default(), weight: Some(3) };
        let mapped = Discovery { port: Some(6000), ports: [("b".to_owned(), 5433)].into(), weight: None };
        let place = |name, address, settings| {
            node(name, address, settings, &primary)
                .map(|node| (node.name.clone(), node.hosts[0].to_string(), node.weight))
        };
        let is = |name: &str, place: &str, weight| Some((name.to_owned(), place.to_owned(), weight));
        assert_eq!(place("a", Some("10.0.0.2"), &plain), is("a", "10.0.0.2:5432", Some(3)));
        assert_eq!(place("a", Some("10.0.0.2"), &mapped), is("a", "10.0.0.2:6000", None));
        assert_eq!(place("b", Some("10.0.0.2"), &mapped), is("b", "10.0.0.2:5433", None));
        assert_eq!(place("walreceiver", Some("10.0.0.2"), &plain), is("10.0.0.2:5432", "10.0.0.2:5432", Some(3)));
        assert_eq!(place("c", None, &mapped), is("c", "10.0.0.1:6000", None));
        assert_eq!(place("pg_receivewal", Some("10.0.0.2"), &plain), None);
    }
}
