//! Host-based authentication: which rule speaks for a connection.

use crate::config::{HbaKind, HbaRule, is_console};
use crate::net::PeerAddr;
use crate::sql::truth;
use crate::wire::startup::Startup;

/// What a rule looks at.
#[derive(Debug, Clone, Copy)]
pub struct Connection<'a> {
    /// Where the client is.
    pub peer: PeerAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The database asked for.
    pub database: &'a str,
    /// The user asked for.
    pub user: &'a str,
    /// Physical replication, which is tied to no database: only rules that say `replication` match.
    pub physical_replication: bool,
}

/// The first rule that matches; `None` = refused (28000).
pub fn first_match<'r>(rules: &'r [HbaRule], connection: &Connection<'_>) -> Option<&'r HbaRule> {
    rules.iter().find(|rule| matches(rule, connection))
}

/// Whether a startup asks for physical replication: `replication` is a true boolean. `replication=database` is
/// logical replication, and an ordinary connection to its database here.
pub fn is_physical_replication(startup: &Startup) -> bool {
    startup.get("replication").and_then(|value| truth(value.as_bytes())) == Some(true)
}

fn matches(rule: &HbaRule, connection: &Connection<'_>) -> bool {
    let kind = match (rule.kind, connection.peer) {
        (HbaKind::Any, _) => true,
        (HbaKind::Local, peer) => peer == PeerAddr::Unix,
        (_, PeerAddr::Unix) => false,
        (HbaKind::Host, _) => true,
        (HbaKind::HostSsl, _) => connection.tls,
        (HbaKind::HostNoSsl, _) => !connection.tls,
    };
    let database = if connection.physical_replication {
        rule.databases.iter().any(|name| name == "replication")
    } else {
        rule.databases.is_empty()
            || rule
                .databases
                .iter()
                .any(|name| name == "all" || (name != "replication" && is_same(name, connection.database)))
    };
    let user = rule.users.is_empty() || rule.users.iter().any(|name| name == connection.user);
    let address = match connection.peer {
        // An address says nothing about a Unix socket: `any` rules with addresses are about TCP.
        PeerAddr::Unix => rule.kind == HbaKind::Local || rule.addresses.is_empty(),
        PeerAddr::Tcp(addr) => {
            rule.addresses.is_empty() || rule.addresses.iter().any(|net| net.contains(&addr.ip().to_canonical()))
        }
    };
    kind && database && user && address
}

/// Whether a rule's database is the one asked for. The console is the same by either of its names: who keeps others off one of them
/// means the console.
fn is_same(of_rule: &str, asked: &str) -> bool {
    of_rule == asked || (is_console(of_rule) && is_console(asked))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::AuthMethod;
    use std::collections::BTreeMap;

    fn rule(kind: HbaKind, databases: &[&str], users: &[&str], addresses: &[&str]) -> HbaRule {
        HbaRule {
            kind,
            databases: databases.iter().map(|s| (*s).to_owned()).collect(),
            users: users.iter().map(|s| (*s).to_owned()).collect(),
            addresses: addresses.iter().map(|s| s.parse().unwrap()).collect(),
            method: AuthMethod::Trust,
            cert_map: BTreeMap::new(),
        }
    }

    fn from(addr: &str, tls: bool) -> Connection<'static> {
        let peer = if addr.is_empty() { PeerAddr::Unix } else { PeerAddr::tcp(addr.parse().unwrap()) };
        Connection { peer, tls, database: "app", user: "alice", physical_replication: false }
    }

    #[test]
    fn kinds() {
        let matched =
            |kind, connection: &Connection<'_>| first_match(&[rule(kind, &[], &[], &[])], connection).is_some();
        let (unix, plain, tls) = (from("", false), from("10.0.0.1:5", false), from("10.0.0.1:5", true));
        for (kind, expected) in [
            (HbaKind::Local, [true, false, false]),
            (HbaKind::Host, [false, true, true]),
            (HbaKind::HostSsl, [false, false, true]),
            (HbaKind::HostNoSsl, [false, true, false]),
            (HbaKind::Any, [true, true, true]),
        ] {
            assert_eq!([&unix, &plain, &tls].map(|c| matched(kind, c)), expected, "{kind:?}");
        }
    }

    #[test]
    fn first_match_wins() {
        let rules = [
            rule(HbaKind::Host, &[], &["bob"], &[]),
            rule(HbaKind::Host, &["app"], &[], &["10.0.0.0/8"]),
            rule(HbaKind::Any, &[], &[], &[]),
        ];
        let index = |c: &Connection<'_>| rules.iter().position(|r| std::ptr::eq(r, first_match(&rules, c).unwrap()));
        assert_eq!(index(&from("10.1.2.3:5", false)), Some(1));
        assert_eq!(index(&from("[::ffff:10.1.2.3]:5", false)), Some(1), "mapped addresses are IPv4");
        assert_eq!(index(&from("192.168.0.1:5", false)), Some(2));
        assert_eq!(index(&Connection { user: "bob", ..from("192.168.0.1:5", false) }), Some(0));
        assert!(first_match(&rules[..2], &from("192.168.0.1:5", false)).is_none());
    }

    #[test]
    fn replication_is_a_keyword() {
        let rules = [rule(HbaKind::Any, &["replication"], &[], &[])];
        let physical = Connection { physical_replication: true, ..from("", false) };
        assert!(first_match(&rules, &physical).is_some());
        assert!(first_match(&rules, &Connection { database: "replication", ..from("", false) }).is_none());
        assert!(first_match(&[rule(HbaKind::Any, &[], &[], &[])], &physical).is_none(), "`all` is not replication");
        let both = [rule(HbaKind::Any, &["all", "replication"], &[], &[])];
        assert!(first_match(&both, &physical).is_some() && first_match(&both, &from("", false)).is_some());
    }

    #[test]
    fn the_console_is_one_by_both_of_its_names() {
        let on = |database: &'static str| Connection { database, ..from("10.0.0.1:5", false) };
        for named in ["trunkline", "pgbouncer"] {
            let rules = [rule(HbaKind::Any, &[named], &[], &[])];
            assert!(first_match(&rules, &on("trunkline")).is_some() && first_match(&rules, &on("pgbouncer")).is_some());
            assert!(first_match(&rules, &on("app")).is_none());
        }
    }

    #[test]
    fn reads_the_replication_parameter() {
        let asks = |value: &str| {
            let parameters = vec![("replication".to_owned(), value.to_owned())];
            is_physical_replication(&Startup { minor: 0, parameters, protocol_options: Vec::new() })
        };
        assert_eq!(["true", "on", "1", "yes", "T", "tru", "Y"].map(asks), [true; 7]);
        assert_eq!(["database", "false", "off", "0", "", "o"].map(asks), [false; 6]);
    }
}
