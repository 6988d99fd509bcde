//! What Patroni says: `GET /cluster`, as its versions 1.6 to 4 answer it.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::HostPort;

/// Members beyond that are passed over: a database has fewer nodes.
const MOST_MEMBERS: usize = 64;
/// Characters of a name, a role or an error that are kept.
const MOST_CHARS: usize = 128;

/// The cluster as one member tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its members.
    pub members: Vec<Member>,
    /// Maintenance: Patroni changes nothing, whatever happens, and people may.
    pub paused: bool,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, also its `application_name`.
    pub name: String,
    /// What it is, in Patroni's word.
    pub role: String,
    /// Where its PostgreSQL is; not told of one that has never run.
    pub place: Option<HostPort>,
    /// Its timeline; 0 = not told.
    pub timeline: u32,
    /// It takes no reads (tag `noloadbalance`).
    pub spared: bool,
}

impl Member {
    /// Whether it holds the leader's lock, and is no leader of a standby cluster. One that is being promoted may not take writes yet.
    pub fn leads(&self) -> bool {
        matches!(self.role.as_str(), "leader" | "master" | "primary" | "promoted")
    }

    /// Whether it takes writes, as far as Patroni knows.
    pub fn takes_writes(&self) -> bool {
        self.leads() && self.role != "promoted"
    }
}

#[derive(Deserialize)]
struct RawView {
    members: Vec<RawMember>,
    #[serde(default)]
    pause: Value,
}

#[derive(Deserialize)]
struct RawMember {
    name: String,
    role: String,
    #[serde(default)]
    host: Value,
    #[serde(default)]
    port: Value,
    #[serde(default)]
    timeline: Value,
    #[serde(default)]
    tags: Map<String, Value>,
}

impl View {
    /// Reads an answer. What is not needed may be missing or of another kind.
    ///
    /// # Errors
    /// It is none; the text is a short one, whatever it was.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let raw: RawView = serde_json::from_slice(body)
            .map_err(|error| format!("not what Patroni answers: {}", cut(error.to_string())))?;
        let members = raw.members.into_iter().take(MOST_MEMBERS).map(RawMember::member).collect();
        Ok(Self { members, paused: is_set(&raw.pause) })
    }

    /// The member that leads. Two at once are none.
    pub fn leader(&self) -> Option<&Member> {
        let mut leading = self.members.iter().filter(|member| member.leads());
        leading.next().filter(|_| leading.next().is_none())
    }
}

impl RawMember {
    fn member(self) -> Member {
        let port = number(&self.port).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        let host = self.host.as_str().filter(|host| !host.is_empty() && host.len() <= 255);
        let place = host.map(|host| HostPort { host: host.to_owned(), port: port.unwrap_or(5432) });
        Member {
            name: cut(self.name),
            role: cut(self.role).to_ascii_lowercase(),
            place,
            timeline: number(&self.timeline).and_then(|timeline| u32::try_from(timeline).ok()).unwrap_or(0),
            spared: self.tags.get("noloadbalance").is_some_and(is_set),
        }
    }
}

fn cut(text: String) -> String {
    if text.len() <= MOST_CHARS { text } else { text.chars().take(MOST_CHARS).collect() }
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// As Patroni reads a tag: by what it says, or says for a YAML that put it in quotes.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Bool(set) => *set,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => matches!(text.to_ascii_lowercase().as_str(), "true" | "on" | "yes" | "1"),
        _ => false,
    }
}

/// Which member each node is, by the nodes' order: the one at its host and port, else the one at an address of its hosts', else the
/// one of its name. `addresses` looks a name up.
pub fn place(
    members: &[Member],
    nodes: &[(&str, &[HostPort])],
    addresses: impl Fn(&str) -> Vec<IpAddr>,
) -> Vec<Option<usize>> {
    let mut found: Vec<Option<usize>> = vec![None; nodes.len()];
    let same_host = |a: &HostPort, b: &HostPort| a.host.eq_ignore_ascii_case(&b.host);
    let same_address = |a: &HostPort, b: &HostPort| {
        let theirs = addresses(&b.host);
        addresses(&a.host).iter().any(|address| theirs.contains(address))
    };
    let at = |hosts: &[HostPort], member: &Member, same: &dyn Fn(&HostPort, &HostPort) -> bool| {
        let there = |place: &HostPort| hosts.iter().any(|host| host.port == place.port && same(host, place));
        member.place.as_ref().is_some_and(there)
    };
    type Match<'a> = &'a dyn Fn(&str, &[HostPort], &Member) -> bool;
    let ways: [Match<'_>; 3] = [
        &|_, hosts, member| at(hosts, member, &same_host),
        &|_, hosts, member| at(hosts, member, &same_address),
        &|name, _, member| name == member.name,
    ];
    for matches in ways {
        for (node, (name, hosts)) in nodes.iter().enumerate() {
            if found[node].is_none() {
                let free = |member: &usize| !found.contains(&Some(*member));
                found[node] = (0..members.len()).filter(free).find(|member| matches(name, hosts, &members[*member]));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn host(host: &str, port: u16) -> HostPort {
        HostPort { host: host.to_owned(), port }
    }

    #[test]
    fn answers_of_several_versions() {
        // Version 1.6.
        let old = br#"{"members": [
            {"name": "a", "host": "10.0.0.1", "port": 5432, "role": "leader", "state": "running",
             "api_url": "http://10.0.0.1:8008/patroni", "timeline": 3},
            {"name": "b", "host": "10.0.0.2", "port": 5432, "role": "replica", "state": "running",
             "api_url": "http://10.0.0.2:8008/patroni", "timeline": 3, "lag": 0, "tags": {"noloadbalance": true}}]}"#;
        let view = View::read(old).unwrap();
        assert!(!view.paused && view.leader().unwrap().name == "a" && view.leader().unwrap().timeline == 3);
        assert!(view.members[1].spared && !view.members[0].spared);
        assert_eq!(view.members[1].place, Some(host("10.0.0.2", 5432)));
        // Version 4, in maintenance, without a leader; one member has not said where it is.
        let new = br#"{"members": [
            {"name": "a", "role": "sync_standby", "state": "streaming", "api_url": "https://a:8008/patroni", "host": "a", "port": 5433,
             "timeline": 4, "lag": "unknown", "receive_lag": "unknown", "receive_lsn": "unknown", "tags": {"noloadbalance": "off", "nofailover": true}},
            {"name": "b", "role": "replica", "state": "stopped", "api_url": "https://b:8008/patroni", "pending_restart": true}],
            "pause": true, "scope": "demo", "scheduled_switchover": {"at": "2026-01-01T00:00:00+00:00", "from": "a"}}"#;
        let view = View::read(new).unwrap();
        assert!(view.paused && view.leader().is_none());
        assert!(!view.members[0].spared && view.members[1].place.is_none() && view.members[1].timeline == 0);
    }

    #[test]
    fn who_leads_and_who_does_not() {
        let roles = |roles: &[&str]| {
            let members = roles.iter().map(|role| format!(r#"{{"name": "{role}", "role": "{role}"}}"#));
            View::read(format!(r#"{{"members": [{}]}}"#, members.collect::<Vec<_>>().join(",")).as_bytes()).unwrap()
        };
        assert_eq!(roles(&["replica", "leader"]).leader().unwrap().name, "leader");
        let promoted = roles(&["quorum_standby", "promoted"]);
        assert!(promoted.leader().is_some_and(|member| !member.takes_writes()), "it is still in recovery");
        assert_eq!(roles(&["standby_leader", "replica"]).leader(), None, "nothing is written to a standby cluster");
        assert_eq!(roles(&["leader", "leader"]).leader(), None);
        assert_eq!(roles(&[]).leader(), None);
    }

    #[test]
    fn what_is_no_answer() {
        for garbage in
            ["", "null", "{}", "[]", r#"{"members": {}}"#, r#"{"members": [{}]}"#, r#"{"members": [{"name": 1}]}"#]
        {
            assert!(View::read(garbage.as_bytes()).is_err(), "{garbage}");
        }
        // What is wrong stands in the error, and that in the log.
        let long = format!(r#"{{"members": "{}"}}"#, "é".repeat(100_000));
        let error = View::read(long.as_bytes()).unwrap_err();
        assert!(error.starts_with("not what Patroni answers: ") && error.len() < 1000, "{}", error.len());
        let odd = br#"{"members": [{"name": "a", "role": "LEADER", "host": 5, "port": "x", "timeline": -1, "tags": {}}], "pause": null}"#;
        let view = View::read(odd).unwrap();
        assert!(view.leader().is_some() && view.members[0].place.is_none() && view.members[0].timeline == 0);
        let many = format!(r#"{{"members": [{}]}}"#, vec![r#"{"name": "n", "role": "replica"}"#; 1000].join(","));
        assert_eq!(View::read(many.as_bytes()).unwrap().members.len(), MOST_MEMBERS);
    }

    #[test]
    fn nodes_are_found_by_place_then_address_then_name() {
        let member = |name: &str, place: Option<HostPort>| Member {
            name: name.to_owned(),
            role: "replica".to_owned(),
            place,
            timeline: 1,
            spared: false,
        };
        let members = [
            member("one", Some(host("10.0.0.1", 5432))),
            member("two", Some(host("10.0.0.1", 5433))),
            member("three", Some(host("10.0.0.3", 5432))),
            member("four", None),
        ];
        let hosts = [
            [host("DB3", 5432)],
            [host("10.0.0.1", 5433)],
            [host("elsewhere", 5432)],
            [host("/run/postgresql", 5432)],
            [host("10.0.0.1", 5432)],
        ];
        let names = ["x", "y", "four", "one", "z"];
        let nodes: Vec<(&str, &[HostPort])> =
            names.iter().zip(&hosts).map(|(name, hosts)| (*name, &hosts[..])).collect();
        let look_up = |name: &str| match name {
            "DB3" | "10.0.0.3" => vec!["10.0.0.3".parse().unwrap()],
            _ => name.parse().into_iter().collect(),
        };
        // The node "one" is not the member "one": that is at another node's place.
        assert_eq!(place(&members, &nodes, look_up), [Some(2), Some(1), Some(3), None, Some(0)]);
    }
}
