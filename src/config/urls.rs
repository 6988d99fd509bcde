//! A configuration from the command line alone: `--database-url postgres://…` and a few flags.

use std::collections::BTreeMap;
use std::path::Path;

use serde_spanned::Spanned;

use super::environment::Environment;
use super::load::{self, Loaded};
use super::origin::Origin;
use super::problem::{Errors, Problems, Sources};
use super::schema::value::{Count, Dur, List, Word};
use super::schema::words::Method;
use super::schema::{Admin, Database, General, Hba, Metrics, Pool, RawConfig, SlowLog, User};
use super::{Config, conninfo, document, environment, redact};

/// What the command line says instead of a file.
#[derive(Clone, Default)]
pub struct UrlArgs {
    /// The primary's URL. Its user and password are also what clients log in with, and its database's name is
    /// the one that clients ask for.
    pub database_url: String,
    /// Replicas' URLs; what they leave out is as in the primary's.
    pub replica_urls: Vec<String>,
    /// `address:port`, or a directory for a Unix socket; empty = 127.0.0.1:6432.
    pub listen: Vec<String>,
    /// `address:port` of `/metrics`.
    pub metrics: Option<String>,
    /// Server connections per node.
    pub pool_size: Option<u32>,
    /// Threshold of the slow-query log, such as `200ms`; `0` = off.
    pub slow_query: Option<String>,
}

/// The URLs hold passwords: nothing is printed.
impl std::fmt::Debug for UrlArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UrlArgs").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// The command line as a text that problems can point at.
#[derive(Default)]
struct Line {
    text: String,
    masks: Vec<std::ops::Range<usize>>,
}

impl Line {
    fn add(&mut self, flag: &str, value: &str) -> Spanned<String> {
        self.text.push_str(flag);
        self.text.push(' ');
        let span = self.text.len()..self.text.len() + value.len();
        self.masks.extend(redact::passwords_in(value).into_iter().map(|r| r.start + span.start..r.end + span.start));
        self.text.push_str(value);
        self.text.push('\n');
        Spanned::new(span, value.to_owned())
    }
}

impl Config {
    /// The configuration that `args` describe; everything else is as the variables `TRUNKLINE__…` say, or has its default.
    ///
    /// A URL without a password takes `PGPASSWORD`, as libpq does. Without either, clients are let in without
    /// proof, from this machine only, and a warning says so.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn from_urls(args: &UrlArgs, env: &Environment) -> Result<Loaded, Errors> {
        Self::from_urls_with(args, env, &Overrides::default())
    }

    /// The same with single settings changed.
    pub(super) fn from_urls_with(args: &UrlArgs, env: &Environment, over: &Overrides) -> Result<Loaded, Errors> {
        let mut line = Line::default();
        let mut problems = Problems::default();
        let mut raw = RawConfig::default();
        let url = line.add("--database-url", args.database_url.trim());
        let info = conninfo::parse_url(url.get_ref()).unwrap_or_default();
        let user = info.user.clone();
        if user.is_none() && conninfo::parse_url(url.get_ref()).is_ok() {
            problems
                .error("the URL names no user")
                .at(url.span(), "clients log in with its user and password")
                .help("write postgres://user:password@host:5432/dbname");
        }
        let at = url.span();
        let password_given = info.password.is_some();
        let name = info.dbname.or_else(|| user.clone()).unwrap_or_else(|| "*".into());
        let name = environment::interpolate(&name, env).map(|name| name.to_string()).unwrap_or(name);
        let user = user.map(|user| environment::interpolate(&user, env).map(|u| u.to_string()).unwrap_or(user));
        let replicas: Vec<_> = args.replica_urls.iter().map(|u| line.add("--replica-url", u.trim())).collect();
        let mut database = Database { url: Some(url), ..Database::default() };
        if !replicas.is_empty() {
            database.replica_urls = Some(Spanned::new(at.clone(), List(replicas)));
        }
        if let Some(size) = args.pool_size {
            let size = Spanned::new(line.add("--pool-size", &size.to_string()).span(), Count(size));
            raw.pool = Pool { size: Some(size), ..Pool::default() };
        }
        raw.general = general(&args.listen, &mut line);
        if let Some(text) = &args.slow_query {
            let text = line.add("--slow-query", text);
            match text.get_ref().parse::<Dur>() {
                Ok(dur) => {
                    raw.slow_log = SlowLog { slow_query: Some(Spanned::new(text.span(), dur)), ..SlowLog::default() }
                }
                Err(why) => {
                    problems.error("not a duration").at(text.span(), why);
                }
            }
        }
        raw.metrics = Metrics { listen: args.metrics.as_ref().map(|addr| line.add("--metrics", addr)) };
        if let Some(user) = user {
            let admin = Spanned::new(at.clone(), user.clone());
            raw.admin = Admin { admin_users: Some(Spanned::new(at.clone(), List(vec![admin]))), stats_users: None };
            if !password_given {
                no_password(&user, &at, env, &mut raw, &mut problems);
            }
        }
        raw.databases.insert(Spanned::new(at, name), database);
        let mut sources = Sources::default();
        sources.push("command line", line.text);
        let document = document::read("", &env.with(over.variables()), &mut sources, &mut problems);
        let raw = over.join(raw, document.raw);
        let masks: Vec<_> = line.masks.into_iter().chain(document.masks).collect();
        load::finish(raw, problems, &sources, (&masks, &document.refused), Path::new("."), env, Origin::urls(args))
    }
}

/// Single settings, as variables, that go before what the command line says; the variables of the environment come behind it.
#[derive(Default)]
pub(super) struct Overrides(pub(super) Environment);

impl Overrides {
    fn variables(&self) -> impl Iterator<Item = (String, String)> {
        self.0.overrides().map(|(name, value)| (name.to_owned(), value.to_owned()))
    }

    /// What the command line says, and what all variables say of the rest.
    fn join(&self, line: RawConfig, mut raw: RawConfig) -> RawConfig {
        let General { listen, unix_socket_dir, .. } = line.general;
        raw.general.unix_socket_dir = unix_socket_dir.or(raw.general.unix_socket_dir);
        raw.general.listen = listen.or(raw.general.listen);
        raw.metrics.listen = line.metrics.listen.or(raw.metrics.listen);
        if self.0.get("TRUNKLINE__POOL__SIZE").is_none() {
            raw.pool.size = line.pool.size.or(raw.pool.size);
        }
        if self.0.get("TRUNKLINE__SLOW_LOG__SLOW_QUERY").is_none() {
            raw.slow_log.slow_query = line.slow_log.slow_query.or(raw.slow_log.slow_query);
        }
        // Not said by a flag, only concluded from the URL.
        raw.admin.admin_users = raw.admin.admin_users.or(line.admin.admin_users);
        raw.hba = raw.hba.or(line.hba);
        for (name, user) in line.users {
            let known = take(&mut raw.users, name.get_ref()).unwrap_or_default();
            raw.users.insert(name, User { password: user.password.or(known.password), ..known });
        }
        for (name, database) in line.databases {
            let known = take(&mut raw.databases, name.get_ref()).unwrap_or_default();
            let replica_urls = database.replica_urls.or(known.replica_urls);
            raw.databases.insert(name, Database { url: database.url, replica_urls, ..known });
        }
        raw
    }
}

/// The entry of this name: variables have lost the case of theirs.
fn take<T>(table: &mut BTreeMap<Spanned<String>, T>, name: &str) -> Option<T> {
    let key = table.keys().find(|key| key.get_ref().eq_ignore_ascii_case(name))?.clone();
    table.remove(&key)
}

fn general(listen: &[String], line: &mut Line) -> General {
    let mut general = General::default();
    let mut tcp = Vec::new();
    for address in listen {
        let address = line.add("--listen", address);
        if address.get_ref().starts_with('/') {
            general.unix_socket_dir = Some(address);
        } else {
            tcp.push(address);
        }
    }
    if !listen.is_empty() {
        let span = tcp.first().map_or(0..0, Spanned::span);
        general.listen = Some(Spanned::new(span, List(tcp)));
    }
    general
}

/// Without a password in the URL: libpq's variable, or trust for this machine.
fn no_password(
    user: &str,
    at: &std::ops::Range<usize>,
    env: &Environment,
    raw: &mut RawConfig,
    problems: &mut Problems,
) {
    let place = Spanned::new(at.clone(), user.to_owned());
    if let Some(password) = env.get("PGPASSWORD").filter(|password| !password.is_empty()) {
        let secret = super::schema::value::RawSecret(super::Secret::new(password.replace("${", "$${")));
        let known = User { password: Some(Spanned::new(at.clone(), secret)), ..Default::default() };
        raw.users.insert(place, known);
        return;
    }
    problems
        .warn("the URL has no password: clients of this machine are let in without proof, others are refused")
        .at(at.clone(), "no password")
        .help("put the password into the URL, or into the variable PGPASSWORD");
    let list = |names: &[&str]| {
        let names = names.iter().map(|name| Spanned::new(at.clone(), (*name).to_owned())).collect();
        Some(Spanned::new(at.clone(), List(names)))
    };
    let trust = |kind, addresses| {
        let rule = Hba {
            r#type: Some(Spanned::new(at.clone(), Word(kind))),
            users: list(&[user]),
            addresses,
            method: Some(Spanned::new(at.clone(), Word(Method::Trust))),
            ..Hba::default()
        };
        Spanned::new(at.clone(), rule)
    };
    let rules = vec![trust(super::HbaKind::Local, None), trust(super::HbaKind::Host, list(&["127.0.0.0/8", "::1"]))];
    raw.hba = Some(Spanned::new(at.clone(), rules));
}
