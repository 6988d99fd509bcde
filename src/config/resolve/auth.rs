//! Users, HBA rules and the administrators.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use ipnet::IpNet;
use serde_spanned::Spanned;

use super::database::over;
use super::{Context, get, pool, positive, secret, word};
use crate::config::schema::value::{List, items};
use crate::config::schema::words::Method;
use crate::config::schema::{self, Opt, RawConfig};
use crate::config::{
    Admin, AuthMethod, ClientTls, ClientTlsMode, Database, HbaKind, HbaRule, MAX_SCRAM_ITERATIONS, Secret, User,
    defaults, is_console, suggest,
};

/// Resolves one `[users.NAME]`.
pub(super) fn user(name: &str, raw: &schema::User, cx: &mut Context<'_>) -> User {
    let secret_value = secret(&raw.password, &raw.password_file, "password", cx);
    let place = raw.password.as_ref().map(Spanned::span).or_else(|| raw.password_file.as_ref().map(Spanned::span));
    if let (Some(secret), Some(place)) = (&secret_value, place) {
        check_hash(secret, place, cx);
    }
    User {
        name: name.to_owned(),
        secret: secret_value,
        server_user: get(&raw.server_user),
        server_password: secret(&raw.server_password, &raw.server_password_file, "server_password", cx),
        pool: pool::user_pool(raw, cx),
        slow_query: over(&raw.slow_query),
        consistency: raw.consistency.as_ref().map(|level| level.get_ref().0),
        max_clients: raw.max_clients.as_ref().map(|_| positive(&raw.max_clients, 1, cx)),
        max_server_connections: (raw.max_server_connections.as_ref())
            .map(|_| positive(&raw.max_server_connections, 1, cx)),
    }
}

/// Whether the secret is a SCRAM verifier or an md5 hash instead of a plain password.
pub(super) fn is_hashed(secret: &Secret) -> bool {
    is_md5(secret) || secret.expose().starts_with("SCRAM-SHA-256$")
}

fn is_md5(secret: &Secret) -> bool {
    let hex = secret.expose().strip_prefix("md5").unwrap_or_default();
    hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A SCRAM verifier must be whole: `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`.
fn check_hash(secret: &Secret, place: Range<usize>, cx: &mut Context<'_>) {
    use base64::Engine as _;
    let Some(rest) = secret.expose().strip_prefix("SCRAM-SHA-256$") else { return };
    let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).map(|bytes| bytes.len()).ok();
    let whole = (|| {
        let (head, keys) = rest.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let iterations: u32 = iterations.parse().ok()?;
        Some(
            (1..=MAX_SCRAM_ITERATIONS).contains(&iterations)
                && decode(salt)? > 0
                && decode(stored)? == 32
                && decode(server)? == 32,
        )
    })();
    if whole != Some(true) {
        cx.problems
            .error("this SCRAM verifier is not whole, or has too many iterations")
            .at(place, "not a verifier")
            .help("copy rolpassword from pg_authid as it is, in single quotes");
    }
}

/// The HBA rules; everybody by SCRAM when they are left out.
pub(super) fn hba(
    raw: &RawConfig,
    tls: &ClientTls,
    databases: &BTreeMap<String, Arc<Database>>,
    users: &BTreeMap<String, Arc<User>>,
    cx: &mut Context<'_>,
) -> Vec<HbaRule> {
    let known = Known { databases, users, tls, has_auth_query: databases.values().any(|d| d.auth_query.is_some()) };
    let Some(list) = &raw.hba else {
        // A mistake elsewhere may be all that keeps a password away.
        if !known.has_auth_query && !users.values().any(|user| user.secret.is_some()) && !cx.problems.has_errors() {
            cx.problems
                .error("nobody could log in: no user has a password")
                .help("add [users.NAME] with password = \"…\", a database with auth_query, or an [[hba]] rule with another method");
        }
        return vec![defaults::hba_rule()];
    };
    if list.get_ref().is_empty() && !cx.is_refused("hba") {
        cx.problems
            .error("an empty list of HBA rules")
            .at(list.span(), "nobody could log in")
            .help("add a rule, or leave hba out: then everybody may log in by SCRAM");
    }
    let rules = list.get_ref().iter().enumerate();
    let rules: Vec<HbaRule> = rules.map(|(i, rule)| hba_rule(i, rule, &known, cx)).collect();
    let verifies = |method: AuthMethod| matches!(method, AuthMethod::Md5 | AuthMethod::Password { .. });
    if rules.iter().any(|rule| rule.method == AuthMethod::ScramSha256) && !rules.iter().any(|r| verifies(r.method)) {
        for name in raw.users.keys() {
            let md5 = users.get(name.get_ref()).and_then(|user| user.secret.as_ref()).is_some_and(is_md5);
            if md5 {
                cx.problems
                    .warn(format!("user {} has an md5 hash, which SCRAM can't use", name.get_ref()))
                    .at(name.span(), "can't log in by a rule with scram-sha-256")
                    .help("give the plain password or a SCRAM verifier, or a rule with method = \"md5\"");
            }
        }
    }
    rules
}

/// What rules may refer to.
struct Known<'a> {
    databases: &'a BTreeMap<String, Arc<Database>>,
    users: &'a BTreeMap<String, Arc<User>>,
    tls: &'a ClientTls,
    has_auth_query: bool,
}

fn hba_rule(index: usize, place: &Spanned<schema::Hba>, known: &Known<'_>, cx: &mut Context<'_>) -> HbaRule {
    let raw = place.get_ref();
    let kind = word(&raw.r#type, HbaKind::Any);
    for (list, what) in [(&raw.databases, "databases"), (&raw.users, "users"), (&raw.addresses, "addresses")] {
        for_somebody(list, what, cx);
    }
    let (databases, users) = (names(&raw.databases), names(&raw.users));
    let cert_map: BTreeMap<String, String> =
        raw.cert_map.iter().flatten().map(|(cn, user)| (cn.clone(), user.get_ref().clone())).collect();
    let Some(method_place) = &raw.method else {
        if !cx.is_refused(&format!("hba.{index}.method")) {
            cx.problems
                .error("an HBA rule needs a method")
                .at(place.span(), "method is missing")
                .help("method = \"scram-sha-256\", or md5, password, cert, trust, reject");
        }
        return HbaRule { method: AuthMethod::Reject, ..defaults::hba_rule() };
    };
    let chosen = method_place.get_ref().0;
    let method = match chosen {
        Method::Scram => AuthMethod::ScramSha256,
        Method::Md5 => AuthMethod::Md5,
        Method::Password => AuthMethod::Password { plain_ok: get(&raw.allow_plaintext).unwrap_or(false) },
        Method::Cert => AuthMethod::Cert,
        Method::Trust => AuthMethod::Trust,
        Method::Reject => AuthMethod::Reject,
    };
    let rule = HbaRule {
        kind,
        databases: databases.iter().map(|name| name.get_ref().clone()).collect(),
        users: users.iter().map(|name| name.get_ref().clone()).collect(),
        addresses: addresses(raw, kind, cx),
        method,
        cert_map,
    };
    check_fit(raw, &rule, chosen, method_place.span(), known, cx);
    check_names(&databases, &users, &rule, known, cx);
    rule
}

/// A list that is left out means all: one with nothing in it must not.
fn for_somebody(list: &Opt<List>, what: &str, cx: &mut Context<'_>) {
    let Some(list) = list else { return };
    let blank = list.get_ref().0.iter().find(|item| item.get_ref().trim().is_empty());
    if blank.is_some() || list.get_ref().0.is_empty() {
        cx.problems
            .error(format!("an HBA rule for no {what}"))
            .at(
                blank.map(Spanned::span).filter(|span| !span.is_empty()).unwrap_or(list.span()),
                "nothing is named here",
            )
            .help(format!("name some, or leave {what} out: then the rule holds for all"));
    }
}

/// The names in a list; none = all. Replication is meant by its own name only.
fn names(list: &Opt<List>) -> Vec<Spanned<String>> {
    let mut names: Vec<_> = items(list).collect();
    if names.iter().any(|name| name.get_ref() == "all") {
        let with_replication = names.iter().any(|name| name.get_ref() == "replication");
        names.retain(|name| with_replication && ["all", "replication"].contains(&name.get_ref().as_str()));
    }
    names
}

fn addresses(raw: &schema::Hba, kind: HbaKind, cx: &mut Context<'_>) -> Vec<IpNet> {
    if let (HbaKind::Local, Some(list)) = (kind, &raw.addresses) {
        cx.problems
            .error("a rule for Unix sockets has no addresses")
            .at(list.span(), "not with type local")
            .help("remove addresses, or use type = \"host\"");
        return Vec::new();
    }
    let mut networks = Vec::new();
    for item in items(&raw.addresses) {
        let text = item.get_ref().as_str();
        if text == "all" {
            return Vec::new();
        }
        match text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
            Ok(network) => networks.push(network.trunc()),
            Err(_) => {
                cx.problems
                    .error("not a network")
                    .at(item.span(), "must be in CIDR notation")
                    .help("write \"10.0.0.0/8\", \"192.168.1.7\" or \"fd00::/8\"; host names are not looked up");
            }
        }
    }
    networks
}

/// Whether type, method and options fit one another and TLS.
fn check_fit(
    raw: &schema::Hba,
    rule: &HbaRule,
    chosen: Method,
    method: Range<usize>,
    known: &Known<'_>,
    cx: &mut Context<'_>,
) {
    let tls_off = known.tls.mode == ClientTlsMode::Disable;
    if let (HbaKind::HostSsl, true, Some(kind)) = (rule.kind, tls_off, &raw.r#type) {
        cx.problems
            .error("this rule never matches: TLS is off")
            .at(kind.span(), "needs TLS")
            .help("set mode, cert and key in [tls], or use type = \"host\"");
    }
    if chosen == Method::Cert {
        if known.tls.client_ca.is_none() {
            cx.problems
                .error("method cert needs a CA for client certificates")
                .at(method.clone(), "client_ca is missing in [tls]")
                .help("add client_ca = \"…/clients-ca.crt\" to [tls]");
        }
        if matches!(rule.kind, HbaKind::Local | HbaKind::HostNoSsl) {
            cx.problems
                .error("method cert needs TLS")
                .at(method.clone(), "there is no certificate on this kind of connection")
                .help("use type = \"hostssl\"");
        }
    }
    let needs_tls = rule.method == AuthMethod::Password { plain_ok: false };
    if needs_tls && rule.kind != HbaKind::Local && (tls_off || rule.kind == HbaKind::HostNoSsl) {
        cx.problems
            .error("method password would send passwords in clear text, so every client would be refused")
            .at(method.clone(), "needs TLS")
            .help("use scram-sha-256, or say allow_plaintext = true");
    }
    if let (Some(flag), false) = (&raw.allow_plaintext, chosen == Method::Password) {
        cx.problems.error("allow_plaintext belongs to method password").at(flag.span(), "no meaning here");
    }
    if let (Some(map), false) = (raw.cert_map.as_ref().and_then(|m| m.values().next()), chosen == Method::Cert) {
        cx.problems.error("cert_map belongs to method cert").at(map.span(), "no meaning here");
    }
    if chosen == Method::Trust
        && matches!(rule.kind, HbaKind::Host | HbaKind::HostNoSsl | HbaKind::HostSsl | HbaKind::Any)
    {
        let loopback = |net: &IpNet| net.addr().is_loopback() && net.broadcast().is_loopback();
        if rule.addresses.is_empty() || !rule.addresses.iter().all(loopback) {
            cx.problems
                .warn("method trust lets in whoever can reach Trunkline")
                .at(method, "no proof is asked for")
                .help("limit it: type = \"local\", or addresses = [\"127.0.0.1\", \"::1\"]");
        }
    }
}

/// Whether the names in a rule exist, and whether its users have what its method asks for.
fn check_names(
    databases: &[Spanned<String>],
    users: &[Spanned<String>],
    rule: &HbaRule,
    known: &Known<'_>,
    cx: &mut Context<'_>,
) {
    for name in databases {
        let text = name.get_ref().as_str();
        let special = ["all", "replication"].contains(&text) || is_console(text) || known.databases.contains_key("*");
        if !special && !known.databases.contains_key(text) {
            let near = suggest::nearest(text, known.databases.keys().map(String::as_str));
            let help = near.map_or("add [databases.NAME] for it".into(), |near| format!("did you mean \"{near}\"?"));
            cx.problems.error(format!("database {text} is not configured")).at(name.span(), "unknown").help(help);
        }
    }
    let asks = matches!(rule.method, AuthMethod::ScramSha256 | AuthMethod::Md5 | AuthMethod::Password { .. });
    if !asks || known.has_auth_query {
        return;
    }
    for name in users {
        let text = name.get_ref().as_str();
        match known.users.get(text) {
            None => unknown_user(name, known.users, cx),
            Some(user) if user.secret.is_none() => {
                cx.problems
                    .error(format!("user {text} has no password"))
                    .at(name.span(), "this rule asks for one")
                    .help(format!("add password or password_file to [users.{text}], or an auth_query to the database"));
            }
            Some(_) => {}
        }
    }
    if users.is_empty() && !known.users.values().any(|user| user.secret.is_some()) && !cx.problems.has_errors() {
        cx.problems
            .error("an HBA rule asks for a password, but no user has one")
            .help("add [users.NAME] with password = \"…\", or an auth_query to the database");
    }
}

fn unknown_user(name: &Spanned<String>, users: &BTreeMap<String, Arc<User>>, cx: &mut Context<'_>) {
    let text = name.get_ref();
    let help = match suggest::nearest(text, users.keys().map(String::as_str)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("add [users.{text}] with password = \"…\""),
    };
    cx.problems.error(format!("user {text} is not configured")).at(name.span(), "unknown").help(help);
}

/// `[admin]`: the console has no database to ask, so its users must be in the configuration.
pub(super) fn admin(raw: &schema::Admin, users: &BTreeMap<String, Arc<User>>, cx: &mut Context<'_>) -> Admin {
    let mut list = |list: &_| -> Vec<String> {
        let names: Vec<Spanned<String>> = items(list).collect();
        names.iter().filter(|name| !users.contains_key(name.get_ref())).for_each(|name| unknown_user(name, users, cx));
        names.into_iter().map(Spanned::into_inner).collect()
    };
    Admin { admin_users: list(&raw.admin_users), stats_users: list(&raw.stats_users) }
}
