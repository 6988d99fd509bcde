//! Which node a member is, where names have to be looked up for that.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::HostPort;
use crate::net::look_up;
use crate::topology::node::Node;

use super::view::{View, place};

/// For how long an answer of the name service is believed.
const BELIEVED_FOR: Duration = Duration::from_secs(30);
/// Longest time for one question to it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Names that were looked up.
#[derive(Default)]
pub(super) struct Addresses(HashMap<String, (Vec<IpAddr>, Instant)>);

impl Addresses {
    /// The member that each node is. Names are looked up only where hosts as they are written do not tell.
    pub async fn place(&mut self, view: &View, nodes: &[Arc<Node>]) -> Vec<Option<usize>> {
        let places: Vec<(&str, &[HostPort])> =
            nodes.iter().map(|node| (node.settings.name.as_str(), node.settings.hosts.as_slice())).collect();
        let found = place(&view.members, &places, |host| host.parse().into_iter().collect());
        let of_members = view.members.iter().enumerate().filter(|(index, _)| !found.contains(&Some(*index)));
        let of_members: Vec<&HostPort> = of_members.filter_map(|(_, member)| member.place.as_ref()).collect();
        if of_members.is_empty() || (found.iter().all(Option::is_some)) {
            return found;
        }
        let lost = places.iter().zip(&found).filter(|(_, member)| member.is_none());
        for host in lost.flat_map(|((_, hosts), _)| *hosts).chain(of_members) {
            self.look_up(host).await;
        }
        place(&view.members, &places, |host| self.of(host))
    }

    async fn look_up(&mut self, host: &HostPort) {
        let known = |(_, at): &(Vec<IpAddr>, Instant)| at.elapsed() < BELIEVED_FOR;
        if host.host.starts_with('/')
            || host.host.parse::<IpAddr>().is_ok()
            || self.0.get(&host.host).is_some_and(known)
        {
            return;
        }
        let found = tokio::time::timeout(PATIENCE, look_up(host)).await.ok().and_then(Result::ok);
        // A failed look-up takes nothing away that was known (trap 89).
        let addresses = found.map(|found| found.into_iter().map(|address| address.ip()).collect());
        let before = self.0.remove(&host.host).map(|(addresses, _)| addresses);
        self.0.insert(host.host.clone(), (addresses.or(before).unwrap_or_default(), Instant::now()));
    }

    fn of(&self, host: &str) -> Vec<IpAddr> {
        match host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.0.get(host).map(|(addresses, _)| addresses.clone()).unwrap_or_default(),
        }
    }
}
