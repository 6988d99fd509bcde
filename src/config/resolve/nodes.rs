//! The servers of a database, from any of the three ways to write them: URLs, connection strings, node tables.

use std::ops::Range;

use serde_spanned::Spanned;

use super::{Context, get, word};
use crate::config::conninfo::{self, Conninfo};
use crate::config::schema::value::items;
use crate::config::schema::{self, Opt};
use crate::config::{Discovery, HostPort, NodeRole, NodeSettings, Secret, defaults, environment};

/// Parameters of a URL that mean something to a client only.
const CLIENT_ONLY: &[&str] =
    &["application_name", "fallback_application_name", "gssencmode", "target_session_attrs", "channel_binding"];
/// Parameters of a URL that Trunkline takes over.
pub(super) const TAKEN: &[&str] = &["sslmode", "sslrootcert", "sslcert", "sslkey", "sslnegotiation", "connect_timeout"];

/// What a database's servers are, and what its URL says besides.
#[derive(Default)]
pub(super) struct Servers {
    /// The nodes, primary first.
    pub(super) nodes: Vec<NodeSettings>,
    /// The primary's URL and its place.
    pub(super) url: Option<(Conninfo, Range<usize>)>,
}

/// A node and where it is written.
struct Placed {
    node: NodeSettings,
    span: Range<usize>,
}

/// Reads the nodes of one database.
pub(super) fn servers(name: &Spanned<String>, raw: &schema::Database, cx: &mut Context<'_>) -> Servers {
    if !one_way_only(raw, cx) {
        // Which of the two ways is meant decides everything else.
        return Servers::default();
    }
    let mut placed: Vec<Placed> = Vec::new();
    let mut url = None;
    if let Some(text) = &raw.url {
        if let Some(info) = parse_url(text, cx) {
            placed.extend(node("primary".into(), NodeRole::Primary, &info, text.span(), cx));
            url = Some((info, text.span()));
        } else {
            // The mistake is noted; a stand-in keeps "no primary" from being noted too.
            placed.push(stand_in(NodeRole::Primary, text.span()));
        }
    }
    for (i, text) in items(&raw.replica_urls).enumerate() {
        let Some(info) = parse_url(&text, cx) else { continue };
        if let Some((primary, span)) = &url {
            same_login(primary, span, &info, &text.span(), cx);
        }
        placed.extend(node(format!("replica{}", i + 1), NodeRole::Replica, &info, text.span(), cx));
    }
    if let Some(text) = &raw.primary {
        match pairs(text, cx) {
            Some(info) => placed.extend(node("primary".into(), NodeRole::Primary, &info, text.span(), cx)),
            None => placed.push(stand_in(NodeRole::Primary, text.span())),
        }
    }
    for (i, text) in items(&raw.replicas).enumerate() {
        let Some(info) = pairs(&text, cx) else { continue };
        placed.extend(node(format!("replica{}", i + 1), NodeRole::Replica, &info, text.span(), cx));
    }
    let mut replicas = 0;
    for (index, table) in raw.nodes.iter().enumerate() {
        let path = format!("databases.{}.nodes.{index}", name.get_ref());
        placed.push(from_table(table, &path, index + 1, &mut replicas, cx));
    }
    check(name, raw, &placed, cx);
    placed.sort_by_key(|placed| placed.node.role != Some(NodeRole::Primary));
    Servers { nodes: placed.into_iter().map(|placed| placed.node).collect(), url }
}

fn one_way_only(raw: &schema::Database, cx: &mut Context<'_>) -> bool {
    let ways = [
        ("url", raw.url.as_ref().map(Spanned::span).or(raw.replica_urls.as_ref().map(Spanned::span))),
        ("primary", raw.primary.as_ref().map(Spanned::span).or(raw.replicas.as_ref().map(Spanned::span))),
        ("nodes", raw.nodes.first().map(Spanned::span)),
    ];
    let used: Vec<_> = ways.into_iter().filter_map(|(way, span)| Some((way, span?))).collect();
    if used.len() < 2 {
        return true;
    }
    let draft = cx.problems.error("the servers are written in two ways");
    for (way, span) in used {
        draft.at(span, format!("by {way}"));
    }
    draft.help("use url and replica_urls, or primary and replicas, or [[databases.NAME.nodes]]");
    false
}

fn check(name: &Spanned<String>, raw: &schema::Database, placed: &[Placed], cx: &mut Context<'_>) {
    let label = name.get_ref();
    let ways = ["url", "replica_urls", "primary", "replicas", "nodes", "read_only"];
    let refused = ways.iter().any(|key| cx.is_refused(&format!("databases.{label}.{key}")));
    let read_only = refused || raw.read_only.as_ref().is_some_and(|v| *v.get_ref());
    let primaries: Vec<&Placed> = placed.iter().filter(|p| p.node.role == Some(NodeRole::Primary)).collect();
    match (primaries.as_slice(), read_only) {
        ([], _) if placed.is_empty() && !refused => {
            cx.problems
                .error(format!("database {label} has no servers"))
                .at(name.span(), "no servers")
                .help("add url = \"postgres://…\", or primary = \"host=… port=…\"");
        }
        // One of these is to be found.
        ([], false) if placed.iter().any(|p| p.node.role.is_none()) => {}
        ([], false) => {
            cx.problems
                .error(format!("database {label} has no primary"))
                .at(name.span(), "only replicas")
                .help("give one node role = \"primary\" or leave the roles out, or say read_only = true");
        }
        ([one], true) if !refused => {
            let draft = cx.problems.error(format!("database {label} is read-only, but has a primary"));
            draft.at(one.span.clone(), "the primary");
            if let Some(flag) = &raw.read_only {
                draft.at(flag.span(), "read-only");
            }
            draft.help("remove one of the two");
        }
        ([first, second, ..], _) => {
            cx.problems
                .error(format!("database {label} has two primaries"))
                .at(second.span.clone(), "the second")
                .at(first.span.clone(), "the first")
                .help("several addresses of one server go into hosts = [\"a:5432\", \"b:5432\"]");
        }
        _ => {}
    }
    for (i, one) in placed.iter().enumerate() {
        // Two primaries are noted above.
        let both_primary =
            |other: &Placed| other.node.role == one.node.role && one.node.role == Some(NodeRole::Primary);
        let twin = |other: &&Placed| other.node.name == one.node.name && !both_primary(other);
        if let Some(first) = placed[..i].iter().find(twin) {
            cx.problems
                .error(format!("database {label} has two nodes with the name {}", one.node.name))
                .at(one.span.clone(), "the second")
                .at(first.span.clone(), "the first")
                .help("give each node its own name");
        }
        let shared = |other: &&Placed| one.node.hosts.iter().any(|host| other.node.hosts.contains(host));
        if let Some(first) = placed[..i].iter().find(shared) {
            cx.problems
                .warn(format!("database {label} has the same address in two nodes"))
                .at(one.span.clone(), "the second")
                .at(first.span.clone(), "the first");
        }
    }
}

/// Reads a URL and fills its `${VAR}`s; parameters that nobody heeds are warned of.
fn parse_url(text: &Spanned<String>, cx: &mut Context<'_>) -> Option<Conninfo> {
    let info = conninfo::parse_url(text.get_ref()).and_then(|info| fill(info, cx));
    let info = match info {
        Ok(info) => info,
        Err(why) => {
            cx.problems
                .error("this URL can't be used")
                .at(text.span(), why)
                .help("write postgres://user:password@host:5432/dbname");
            return None;
        }
    };
    for (key, _) in &info.params {
        if !TAKEN.contains(&key.as_str()) && !CLIENT_ONLY.contains(&key.as_str()) {
            cx.problems.warn(format!("the URL's parameter {key} is not used")).at(text.span(), "ignored here");
        }
    }
    Some(info)
}

/// Replaces `${VAR}` in each part, after the URL is taken apart: a variable needs no percent-encoding.
fn fill(mut info: Conninfo, cx: &Context<'_>) -> Result<Conninfo, String> {
    for part in [&mut info.user, &mut info.dbname].into_iter().flatten() {
        *part = environment::interpolate(part, cx.env)?.to_string();
    }
    for (host, _) in &mut info.hosts {
        *host = environment::interpolate(host, cx.env)?.to_string();
    }
    if let Some(password) = &mut info.password {
        *password = Secret::new(environment::interpolate(password.expose(), cx.env)?.as_str());
    }
    Ok(info)
}

/// Reads a connection string. It names a server and nothing else.
fn pairs(text: &Spanned<String>, cx: &mut Context<'_>) -> Option<Conninfo> {
    if text.get_ref().trim().is_empty() {
        // To libpq it would be the server on this machine.
        cx.problems
            .error("an empty connection string")
            .at(text.span(), "no server is named here")
            .help("write \"host=db1.example port=5432\", or leave the key out");
        return None;
    }
    if text.get_ref().contains("://") {
        cx.problems
            .error("a URL where a connection string belongs")
            .at(text.span(), "this is a URL")
            .help("use url = \"postgres://…\" and replica_urls = [\"postgres://…\"]");
        return None;
    }
    let info = match conninfo::parse_pairs(text.get_ref()).and_then(|info| fill(info, cx)) {
        Ok(info) => info,
        Err(why) => {
            cx.problems
                .error("this connection string can't be used")
                .at(text.span(), why)
                .help("write \"host=db1.example port=5432\"");
            return None;
        }
    };
    let login =
        [("user", info.user.is_some()), ("password", info.password.is_some()), ("dbname", info.dbname.is_some())];
    for (key, _) in login.into_iter().filter(|(_, given)| *given) {
        let ours = if key == "dbname" { "dbname" } else { "server_user and server_password" };
        cx.problems
            .error(format!("{key} does not belong to one server"))
            .at(text.span(), format!("holds {key}"))
            .help(format!("all servers of a database share it: write {ours} beside"));
    }
    for (key, _) in &info.params {
        if !["weight", "name", "zone"].contains(&key.as_str()) {
            // It may be half a password with a space in it.
            let named = if info.password.is_none() { format!("unknown key \"{key}\"") } else { "unknown key".into() };
            cx.problems
                .error(format!("{named} in the connection string"))
                .at(text.span(), "here")
                .help("known here: host, hostaddr, port, name, weight, zone");
        }
    }
    Some(info)
}

fn node(name: String, role: NodeRole, info: &Conninfo, span: Range<usize>, cx: &mut Context<'_>) -> Option<Placed> {
    let mut hosts: Vec<HostPort> = info
        .hosts
        .iter()
        .map(|(host, port)| HostPort {
            host: if host.is_empty() { "localhost".into() } else { host.clone() },
            port: port.unwrap_or(defaults::SERVER_PORT),
        })
        .collect();
    if hosts.is_empty() {
        hosts.push(HostPort { host: "localhost".into(), port: defaults::SERVER_PORT });
    }
    let weight = match info.param("weight").map(str::parse::<u32>) {
        None => None,
        Some(Ok(weight)) => Some(weight),
        Some(Err(_)) => {
            cx.problems.error("not a weight").at(span.clone(), "weight must be a whole number");
            return None;
        }
    };
    let name = info.param("name").map_or(name, str::to_owned);
    let zone = info.param("zone").map(str::to_owned).filter(|zone| !zone.is_empty());
    Some(Placed { node: NodeSettings { name, role: Some(role), hosts, weight, zone, group: 0 }, span })
}

fn stand_in(role: NodeRole, span: Range<usize>) -> Placed {
    let (name, hosts) = ("primary".into(), Vec::new());
    let node = NodeSettings { name, role: Some(role), hosts, weight: None, zone: None, group: 0 };
    Placed { node, span }
}

/// The node of a table. `number` is its place in the file, from 1; `replicas` counts those declared so.
fn from_table(
    table: &Spanned<schema::Node>,
    path: &str,
    number: usize,
    replicas: &mut usize,
    cx: &mut Context<'_>,
) -> Placed {
    let raw = table.get_ref();
    // A role that was refused is a mistake already.
    let role = word(&raw.role, cx.is_refused(&format!("{path}.role")).then_some(NodeRole::Replica));
    let port = port(&raw.port, cx);
    let mut hosts: Vec<HostPort> = Vec::new();
    if let Some(host) = &raw.host {
        hosts.extend(host_port(host, port, cx));
    }
    for host in items(&raw.hosts) {
        hosts.extend(host_port(&host, port, cx));
    }
    if raw.host.is_none() && raw.hosts.as_ref().is_none_or(|hosts| hosts.get_ref().0.is_empty()) && !cx.is_refused(path)
    {
        let place = raw.hosts.as_ref().map_or(table.span(), Spanned::span);
        cx.problems.error("a node needs a host").at(place, "host is missing").help("host = \"db1.example\"");
    }
    let default = match role {
        None => format!("node{number}"),
        Some(NodeRole::Primary) => "primary".to_owned(),
        Some(NodeRole::Replica | NodeRole::Worker) => {
            *replicas += 1;
            format!("replica{replicas}")
        }
    };
    let node = NodeSettings {
        name: get(&raw.name).unwrap_or(default),
        role,
        hosts,
        weight: raw.weight.as_ref().map(|weight| weight.get_ref().0),
        zone: get(&raw.zone).filter(|zone| !zone.is_empty()),
        group: 0,
    };
    if node.name.is_empty() {
        cx.problems.error("a node's name is empty").at(table.span(), "name it, or leave the key out");
    }
    let span = raw.role.as_ref().map_or(table.span(), Spanned::span);
    Placed { node, span: raw.name.as_ref().map_or(span, Spanned::span) }
}

/// How replicas are found that are not configured.
pub(super) fn discovery(raw: &schema::Database, cx: &mut Context<'_>) -> Option<Discovery> {
    let wanted = raw.discover_replicas.as_ref().is_some_and(|wanted| *wanted.get_ref());
    let keys = [
        raw.discover_port.as_ref().map(Spanned::span),
        raw.discover_ports.as_ref().and_then(|ports| ports.values().next()).map(Spanned::span),
        raw.discover_weight.as_ref().map(Spanned::span),
    ];
    if let (false, Some(span)) = (wanted, keys.into_iter().flatten().next()) {
        cx.problems.warn("replicas are not looked for").at(span, "not used").help("add discover_replicas = true");
    }
    let ports = raw.discover_ports.iter().flatten().map(|(name, at)| (name.clone(), one_port(at, cx))).collect();
    let port = raw.discover_port.as_ref().map(|at| one_port(at, cx));
    let weight = raw.discover_weight.as_ref().map(|weight| weight.get_ref().0);
    wanted.then_some(Discovery { port, ports, weight })
}

fn port(port: &Opt<i64>, cx: &mut Context<'_>) -> u16 {
    port.as_ref().map_or(defaults::SERVER_PORT, |port| one_port(port, cx))
}

fn one_port(port: &Spanned<i64>, cx: &mut Context<'_>) -> u16 {
    match u16::try_from(*port.get_ref()) {
        Ok(n) if n != 0 => n,
        _ => {
            cx.problems.error("port out of range").at(port.span(), "must be from 1 to 65535");
            defaults::SERVER_PORT
        }
    }
}

/// `host`, `host:port`, `[v6]:port`, or a socket directory.
fn host_port(text: &Spanned<String>, port: u16, cx: &mut Context<'_>) -> Option<HostPort> {
    let whole = text.get_ref().as_str();
    let (host, own_port) = match whole.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, tail)) => (host, tail.strip_prefix(':')),
        None if whole.starts_with('/') || whole.matches(':').count() > 1 => (whole, None),
        None => whole.rsplit_once(':').map_or((whole, None), |(host, port)| (host, Some(port))),
    };
    let port = match own_port.map(str::parse::<u16>) {
        None => Some(port),
        Some(Ok(0) | Err(_)) => None,
        Some(Ok(port)) => Some(port),
    };
    if let (Some(port), false) = (port, host.is_empty() || !conninfo::may_be_host(host)) {
        return Some(HostPort { host: host.to_owned(), port });
    }
    cx.problems
        .error("not a host")
        .at(text.span(), "must be a name, an address, or a socket directory, with a port from 1 to 65535")
        .help("host = \"db1.example\", or hosts = [\"db1.example:5432\", \"db2.example:5433\"]");
    None
}

/// All nodes of a database are logged in to in the same way.
fn same_login(primary: &Conninfo, at: &Range<usize>, replica: &Conninfo, span: &Range<usize>, cx: &mut Context<'_>) {
    let differs = |key: &str| replica.param(key).is_some() && replica.param(key) != primary.param(key);
    let checks = [
        ("user", replica.user.is_some() && replica.user != primary.user),
        ("password", replica.password.is_some() && replica.password != primary.password),
        ("database name", replica.dbname.is_some() && replica.dbname != primary.dbname),
        ("TLS setting", TAKEN.iter().any(|key| key.starts_with("ssl") && differs(key))),
    ];
    for (what, _) in checks.into_iter().filter(|(_, wrong)| *wrong) {
        cx.problems
            .error(format!("the replica's {what} is not the primary's"))
            .at(span.clone(), format!("another {what}"))
            .at(at.clone(), "the primary")
            .help("all nodes of a database share their login; a replica's URL may leave it out");
    }
}
