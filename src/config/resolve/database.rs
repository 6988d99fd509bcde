//! One database: its servers, its logins, and what it overrides.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde_spanned::Spanned;

use super::nodes::{self, Servers};
use super::patroni::patroni;
use super::{Context, KnownUser, Shared, dur, files, get, needed, pool, positive, routing, secret, word};
use crate::config::conninfo::Conninfo;
use crate::config::schema::value::{Dur, parse_word};
use crate::config::schema::{self, Opt};
use crate::config::{CitusSettings, Database, NodeRole, Secret, SslMode, User, UserPool, is_console};

/// Resolves one `[databases.NAME]`. A URL's user that has no section becomes a known user.
pub(super) fn database(
    name: &Spanned<String>,
    raw: &schema::Database,
    shared: &Shared,
    users: &mut BTreeMap<String, KnownUser>,
    cx: &mut Context<'_>,
) -> Database {
    let label = name.get_ref();
    if label.is_empty() || is_console(label) {
        let why = if label.is_empty() { "empty" } else { "this name is the admin console's" };
        cx.problems.error("a database can't have this name").at(name.span(), why);
    }
    let Servers { nodes, url } = nodes::servers(name, raw, cx);
    let mut tls = shared.tls.clone();
    let mut pool_base = shared.pool.clone();
    let mut dbname = get(&raw.dbname).filter(|name| !name.is_empty());
    let mut login = None;
    if let Some((info, span)) = &url {
        let at = Spanned::new(span.clone(), ());
        url_tls(info, &at, &mut tls, cx);
        if let Some(seconds) = info.param("connect_timeout") {
            match seconds.parse::<u64>() {
                Ok(n) => pool_base.connect_timeout = (n > 0).then(|| Duration::from_secs(n)),
                Err(_) => {
                    cx.problems.error("not a connect_timeout").at(span.clone(), "a URL has it in whole seconds");
                }
            }
        }
        // libpq: the database is named after the user when the URL doesn't say.
        dbname = dbname.or_else(|| info.dbname.clone()).or_else(|| info.user.clone());
        login = info.user.clone().map(|user| (user, info.password.clone()));
        if let Some((user, password)) = &login {
            know(user, password.as_ref(), span.clone(), users, cx);
        }
    } else if dbname.is_none() && label != "*" {
        dbname = Some(label.clone());
    }
    let server_password = secret(&raw.server_password, &raw.server_password_file, "server_password", cx);
    let server_user = get(&raw.server_user);
    let control_password = secret(&raw.control_password, &raw.control_password_file, "control_password", cx);
    let control_user = get(&raw.control_user);
    needs(&raw.server_password, &raw.server_password_file, server_user.is_some(), "server_user", cx);
    needs(&raw.control_password, &raw.control_password_file, control_user.is_some(), "control_user", cx);
    let from_url = |user: &Option<String>| {
        login.as_ref().filter(|(name, _)| Some(name) == user.as_ref()).and_then(|(_, password)| password.clone())
    };
    let server_password = server_password.or_else(|| from_url(&server_user));
    let (control_user, control_password) = match (control_user, login.clone(), server_user.clone()) {
        (Some(user), _, _) => {
            let own = if Some(&user) == server_user.as_ref() { server_password.clone() } else { None };
            let password = control_password.or(own).or_else(|| from_url(&Some(user.clone())));
            (Some(user), password)
        }
        (None, Some((user, password)), _) => (Some(user), password),
        (None, None, Some(user)) => (Some(user), server_password.clone()),
        (None, None, None) => (None, None),
    };
    let auth_query = auth_query(&raw.auth_query, control_user.is_some(), cx);
    let unread_url = raw.url.is_some() && url.is_none();
    if control_user.is_none() && !unread_url {
        cx.problems
            .warn(format!("database {label} has no control_user"))
            .at(
                name.span(),
                "health checks can't log in, and what functions do can't be read: yours stay on the primary",
            )
            .help("add control_user and control_password: any role that may log in, such as a member of pg_monitor");
    }
    let routing = routing(&raw.routing, shared.routing.clone(), cx);
    let discovers = raw.discover_replicas.as_ref().is_some_and(|wanted| *wanted.get_ref());
    let patroni = patroni(raw, cx);
    let unknown = (discovers || nodes.iter().any(|node| node.role.is_none())) && patroni.is_none();
    if unknown && control_user.is_none() && !unread_url {
        cx.problems
            .error(format!("the roles of the nodes of database {label} can't be found"))
            .at(name.span(), "a node without a role, and no control_user to ask with")
            .help("add control_user and control_password, or patroni, or give each node its role");
    }
    let replicas = nodes.iter().filter(|node| node.role != Some(NodeRole::Primary));
    let weights: Vec<Option<u32>> = replicas.map(|node| node.weight).collect();
    if routing.split_reads && !weights.is_empty() && weights.iter().all(|weight| *weight == Some(0)) {
        cx.problems
            .warn(format!("database {label} has replicas, but none takes reads"))
            .at(name.span(), "every replica has weight 0");
    }
    pool_base.client_idle_timeout = dur(&raw.client_idle_timeout, pool_base.client_idle_timeout);
    pool_base.idle_transaction_timeout = dur(&raw.idle_transaction_timeout, pool_base.idle_transaction_timeout);
    let pool = pool::pool(&raw.pool, pool_base, cx);
    pool::within_cap(&raw.max_server_connections, &pool, &raw.pool, cx);
    Database {
        name: label.clone(),
        dbname,
        nodes,
        discovery: nodes::discovery(raw, cx),
        patroni,
        read_only: get(&raw.read_only).unwrap_or(false),
        server_user,
        server_password,
        control_user,
        control_password,
        auth_query,
        tls: files::server_tls(&raw.tls, tls, cx),
        pool,
        slow_query: dur(&raw.slow_query, shared.slow_query),
        routing,
        citus: citus(&raw.citus, cx),
        max_clients: raw.max_clients.as_ref().map(|_| positive(&raw.max_clients, 1, cx)),
        max_server_connections: (raw.max_server_connections.as_ref())
            .map(|_| positive(&raw.max_server_connections, 1, cx)),
    }
}

/// A user that a URL brings: clients log in with what the URL says. When the user has a section, that section
/// says what clients must know, and the URL still says what the servers want.
fn know(
    name: &str,
    password: Option<&Secret>,
    span: Range<usize>,
    users: &mut BTreeMap<String, KnownUser>,
    cx: &mut Context<'_>,
) {
    let known = users.entry(name.to_owned()).or_insert_with(|| KnownUser {
        user: User {
            name: name.to_owned(),
            secret: None,
            server_user: None,
            server_password: None,
            pool: UserPool::default(),
            slow_query: None,
            consistency: None,
            max_clients: None,
            max_server_connections: None,
        },
        has_section: false,
        url_password: None,
    });
    let Some(password) = password else { return };
    let settled = known.user.server_user.is_some() || (known.has_section && known.user.server_password.is_some());
    if settled && known.url_password.is_none() {
        return;
    }
    match &known.url_password {
        Some((first, place)) if first != password => {
            cx.problems
                .error(format!("user {name} has two passwords"))
                .at(span, "this one")
                .at(place.clone(), "and this one")
                .help(format!("say which one holds: [users.{name}] with password and server_password"));
        }
        Some(_) => {}
        None => {
            known.url_password = Some((password.clone(), span));
            let slot = if known.has_section { &mut known.user.server_password } else { &mut known.user.secret };
            *slot = Some(password.clone());
        }
    }
}

/// A password belongs to a user.
fn needs<T>(plain: &Opt<T>, file: &Opt<String>, has_user: bool, user: &str, cx: &mut Context<'_>) {
    let span = plain.as_ref().map(Spanned::span).or_else(|| file.as_ref().map(Spanned::span));
    if let (Some(span), false) = (span, has_user) {
        cx.problems.error(format!("a password without {user}")).at(span, "whose is it?").help(format!("add {user}"));
    }
}

fn auth_query(query: &Opt<String>, has_control: bool, cx: &mut Context<'_>) -> Option<String> {
    let query = query.as_ref()?;
    if query.get_ref().trim().is_empty() {
        return None;
    }
    if !has_control {
        cx.problems
            .error("auth_query needs a login of its own")
            .at(query.span(), "who runs it?")
            .help("add control_user and control_password");
    }
    if !query.get_ref().contains("$1") {
        cx.problems.error("auth_query doesn't ask for a user").at(query.span(), "$1 is missing").help(
            "for example: SELECT rolname, rolpassword, rolvaliduntil FROM pg_authid WHERE rolname = $1 AND rolcanlogin",
        );
    }
    Some(query.get_ref().clone())
}

fn citus(raw: &schema::Citus, cx: &mut Context<'_>) -> CitusSettings {
    let default = CitusSettings::default();
    CitusSettings {
        reads: word(&raw.reads, default.reads),
        owner_routing: word(&raw.owner_routing, default.owner_routing),
        interval: needed(&raw.interval, default.interval, cx),
    }
}

/// The TLS parameters of a URL.
fn url_tls(info: &Conninfo, at: &Spanned<()>, tls: &mut crate::config::ServerTls, cx: &mut Context<'_>) {
    if let Some(mode) = info.param("sslmode") {
        match parse_word::<SslMode>(mode) {
            Ok(mode) => tls.mode = mode,
            Err(why) => {
                cx.problems.error("the URL's sslmode is unknown").at(at.span(), format!("sslmode {why}"));
            }
        }
    }
    let file = |key: &str, what, cx: &mut Context<'_>| {
        let path = info.param(key)?;
        files::pem(&Some(Spanned::new(at.span(), path.to_owned())), what, cx)
    };
    match info.param("sslrootcert") {
        // libpq: the public CAs, and nothing weaker than verify-full.
        Some("system") => (tls.ca, tls.mode) = (None, SslMode::VerifyFull),
        _ => tls.ca = file("sslrootcert", files::Pem::Certificate, cx).or(tls.ca.take()),
    }
    tls.cert = file("sslcert", files::Pem::Certificate, cx).or(tls.cert.take());
    tls.key = file("sslkey", files::Pem::Key, cx).or(tls.key.take());
    match info.param("sslnegotiation") {
        None | Some("postgres") => {}
        Some("direct") => tls.direct = true,
        Some(_) => {
            cx.problems.error("the URL's sslnegotiation is unknown").at(at.span(), "must be postgres or direct");
        }
    }
    if tls.mode == SslMode::VerifyCa && tls.ca.is_none() && info.param("sslrootcert").is_none() {
        cx.problems
            .error("verify-ca needs to know the CA")
            .at(at.span(), "no sslrootcert is given")
            .help("add sslrootcert=…, or use verify-full, which can rely on the public CAs");
    }
    let weak = matches!(tls.mode, SslMode::Disable | SslMode::Allow | SslMode::Prefer);
    if info.param("sslnegotiation") == Some("direct") && weak {
        cx.problems
            .error("direct TLS leaves no way back to plain text")
            .at(at.span(), "needs sslmode require, verify-ca or verify-full");
    }
}

/// A login of a database without a password of its own takes that of the user of the same name, when it is plain.
pub(super) fn share_passwords(databases: &mut BTreeMap<String, Arc<Database>>, users: &BTreeMap<String, KnownUser>) {
    let plain = |name: &Option<String>| {
        let user = &users.get(name.as_ref()?)?.user;
        let own = user.server_password.clone().filter(|_| user.server_user.is_none());
        own.or_else(|| user.secret.clone().filter(|secret| !super::auth::is_hashed(secret)))
    };
    for database in databases.values_mut() {
        let database = Arc::make_mut(database);
        database.server_password = database.server_password.take().or_else(|| plain(&database.server_user));
        database.control_password = database.control_password.take().or_else(|| plain(&database.control_user));
    }
}

/// Reads an override that may say "off".
pub(super) fn over(value: &Opt<Dur>) -> Option<Option<Duration>> {
    value.as_ref().map(|value| value.get_ref().0)
}
