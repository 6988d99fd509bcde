//! Which node a member is, where names have to be looked up for that.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use tokio::time::{Instant, timeout_at};

use crate::config::HostPort;
use crate::topology::node::Node;

use super::view::{Member, View, place};

/// For how long an answer of the name service is believed.
const BELIEVED_FOR: Duration = Duration::from_secs(30);
/// Longest time for all questions of one look to it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most questions to it at once.
const AT_ONCE: usize = 8;

/// Names that were looked up.
#[derive(Default)]
pub(super) struct Addresses(HashMap<String, (Vec<IpAddr>, Instant)>);

impl Addresses {
    /// The member that each node is. Names are looked up only where hosts as they are written do not tell.
    pub async fn place(&mut self, view: &View, nodes: &[Arc<Node>]) -> Vec<Option<usize>> {
        let places: Vec<(&str, &[HostPort])> =
            nodes.iter().map(|node| (node.settings.name.as_str(), node.settings.hosts.as_slice())).collect();
        self.place_by(&view.members, &places, look_up).await
    }

    /// `ask` asks the name service.
    async fn place_by<Ask, Answer>(
        &mut self,
        members: &[Member],
        nodes: &[(&str, &[HostPort])],
        ask: Ask,
    ) -> Vec<Option<usize>>
    where
        Ask: Fn(HostPort) -> Answer,
        Answer: Future<Output = io::Result<Vec<SocketAddr>>>,
    {
        let found = place(members, nodes, |host| host.parse().into_iter().collect());
        let of_members = members.iter().enumerate().filter(|(index, _)| !found.contains(&Some(*index)));
        let of_members: Vec<&HostPort> = of_members.filter_map(|(_, member)| member.place.as_ref()).collect();
        if of_members.is_empty() || (found.iter().all(Option::is_some)) {
            return found;
        }
        let lost = nodes.iter().zip(&found).filter(|(_, member)| member.is_none());
        let hosts: BTreeMap<&str, &HostPort> = lost
            .flat_map(|((_, hosts), _)| *hosts)
            .chain(of_members)
            .map(|host| (host.host.as_str(), host))
            .filter(|(name, _)| !name.starts_with('/') && name.parse::<IpAddr>().is_err())
            .collect();
        // Names that nobody tells any more are forgotten: it may be others every time.
        self.0.retain(|name, _| hosts.contains_key(name.as_str()));
        self.look_up(hosts.into_values(), ask).await;
        place(members, nodes, |host| self.of(host))
    }

    /// Looks up, a few at once, what is not known or was known long ago. However many there are and however slow the name service
    /// is: what Patroni says binds only as long as it is asked again in time.
    async fn look_up<'a, Ask, Answer>(&mut self, hosts: impl Iterator<Item = &'a HostPort>, ask: Ask)
    where
        Ask: Fn(HostPort) -> Answer,
        Answer: Future<Output = io::Result<Vec<SocketAddr>>>,
    {
        let known = |host: &&HostPort| self.0.get(&host.host).is_some_and(|(_, at)| at.elapsed() < BELIEVED_FOR);
        let due: Vec<HostPort> = hosts.filter(|host| !known(host)).cloned().collect();
        let deadline = Instant::now() + PATIENCE;
        let mut asked = stream::iter(due)
            .map(|host| {
                let answer = ask(host.clone());
                async move { (host.host, timeout_at(deadline, answer).await.ok().and_then(Result::ok)) }
            })
            .buffer_unordered(AT_ONCE);
        while let Some((name, found)) = asked.next().await {
            // A failed look-up takes nothing away that was known (trap 89).
            let addresses = found.map(|found| found.into_iter().map(|address| address.ip()).collect());
            let before = self.0.remove(&name).map(|(addresses, _)| addresses);
            self.0.insert(name, (addresses.or(before).unwrap_or_default(), Instant::now()));
        }
    }

    fn of(&self, host: &str) -> Vec<IpAddr> {
        match host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.0.get(host).map(|(addresses, _)| addresses.clone()).unwrap_or_default(),
        }
    }
}

async fn look_up(host: HostPort) -> io::Result<Vec<SocketAddr>> {
    crate::net::look_up(&host).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(host: &str) -> Member {
        let place = HostPort { host: host.to_owned(), port: 5432 };
        Member { name: host.to_owned(), role: "replica".to_owned(), place: Some(place), timeline: 1, spared: false }
    }

    #[tokio::test]
    async fn names_are_looked_up_within_one_second_however_many_there_are() {
        let members: Vec<Member> = (0..64).map(|n| member(&format!("db{n}"))).collect();
        let hosts = [HostPort { host: "elsewhere".to_owned(), port: 5432 }];
        let mut addresses = Addresses::default();
        let began = Instant::now();
        let found = addresses.place_by(&members, &[("node", &hosts)], |_| std::future::pending()).await;
        assert_eq!(found, [None]);
        assert!(began.elapsed() < 2 * PATIENCE, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn what_was_found_is_believed_and_names_of_the_past_are_forgotten() {
        let hosts = [HostPort { host: "node.example".to_owned(), port: 5432 }];
        let nodes: [(&str, &[HostPort]); 1] = [("node", &hosts)];
        let mut addresses = Addresses::default();
        for n in 0..100 {
            let members = [member(&format!("db{n}"))];
            let same = |host: HostPort| async move { Ok(vec![SocketAddr::from(([10, 0, 0, 1], host.port))]) };
            assert_eq!(addresses.place_by(&members, &nodes, same).await, [Some(0)]);
            let fails = |_| async { Err(io::Error::other("it is not asked again")) };
            assert_eq!(addresses.place_by(&members, &nodes, fails).await, [Some(0)]);
            assert_eq!(addresses.0.len(), 2);
        }
    }
}
