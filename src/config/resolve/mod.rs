//! From the raw schema to the resolved model: every default filled in, every mistake noted.

mod auth;
mod database;
mod files;
mod nodes;
mod patroni;
mod pool;
mod server;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_spanned::Spanned;

pub(super) use files::is_world_readable;

use super::environment::{self, Environment};
use super::problem::Problems;
use super::schema::value::{Count, Dur, RawSecret, Word};
use super::schema::{self, Opt, RawConfig};
use super::{
    BreakerSettings, ClientSettings, Config, LogSettings, PoolSettings, RoutingSettings, Secret, ServerTls,
    SlowLogSettings, User, defaults,
};
use crate::sql::{Pattern, PatternMistake};

/// What the steps of the resolution share.
pub(super) struct Context<'a> {
    /// Where mistakes are noted.
    pub(super) problems: &'a mut Problems,
    /// For `${VAR}`.
    pub(super) env: &'a Environment,
    /// Relative paths start here.
    pub(super) dir: &'a Path,
    /// Paths of entries that the schema refused.
    pub(super) refused: &'a [String],
}

impl Context<'_> {
    /// Whether an entry at or below `path` was refused: what is missing there is no mistake of its own.
    fn is_refused(&self, path: &str) -> bool {
        self.refused
            .iter()
            .any(|refused| refused.strip_prefix(path).is_some_and(|r| r.is_empty() || r.starts_with('.')))
    }
}

/// Resolves the whole of it. The result is only to be used when `cx.problems` has no errors.
pub(super) fn resolve(raw: RawConfig, cx: &mut Context<'_>) -> Config {
    let listen = server::listen(&raw.general, cx);
    let takeover_socket = server::takeover_socket(&raw.general, &listen, cx);
    let client_tls = server::client_tls(&raw.tls, cx);
    let slow_query = dur(&raw.slow_log.slow_query, defaults::SLOW_QUERY);
    let client = client(&raw.client, cx);
    let base = PoolSettings {
        client_idle_timeout: client.idle_timeout,
        idle_transaction_timeout: client.idle_transaction_timeout,
        ..PoolSettings::default()
    };
    let shared = Shared {
        pool: pool::pool(&raw.pool, base, cx),
        routing: routing(&raw.routing, RoutingSettings::default(), cx),
        tls: files::server_tls(&raw.server_tls, ServerTls::default(), cx),
        slow_query,
    };
    let mut users = users(&raw.users, cx);
    if raw.databases.is_empty() && !cx.is_refused("databases") {
        cx.problems.error("no database is configured").help(
            "add [databases.NAME] with url = \"postgres://user:password@host:5432/dbname\", or start with --database-url",
        );
    }
    let mut databases = BTreeMap::new();
    for (name, database) in &raw.databases {
        let resolved = database::database(name, database, &shared, &mut users, cx);
        databases.insert(name.get_ref().clone(), Arc::new(resolved));
    }
    database::share_passwords(&mut databases, &users);
    let users: BTreeMap<String, Arc<User>> =
        users.into_iter().map(|(name, known)| (name, Arc::new(known.user))).collect();
    let hba = auth::hba(&raw, &client_tls, &databases, &users, cx);
    let admin = auth::admin(&raw.admin, &users, cx);
    Config {
        listen,
        takeover_socket,
        workers: server::workers(&raw.general, cx),
        batch_sends: get(&raw.general.batch_sends).unwrap_or(defaults::BATCH_SENDS),
        zone: get(&raw.general.zone).filter(|zone| !zone.is_empty()),
        max_clients: positive(&raw.general.max_clients, defaults::MAX_CLIENTS, cx),
        client,
        client_tls,
        hba,
        databases,
        users,
        admin,
        slow_log: slow_log(&raw.slow_log, cx),
        metrics: server::metrics(&raw.metrics, cx),
        log: log(&raw.log, cx),
    }
}

/// What a database inherits.
struct Shared {
    pool: PoolSettings,
    routing: RoutingSettings,
    tls: ServerTls,
    slow_query: Option<Duration>,
}

/// A user, and what URLs say of it: a section of its own is never overruled by a URL.
struct KnownUser {
    user: User,
    /// There is a `[users.NAME]`.
    has_section: bool,
    /// The password of the first URL that names the user, and its place.
    url_password: Option<(Secret, Range<usize>)>,
}

fn get<T: Clone>(value: &Opt<T>) -> Option<T> {
    value.as_ref().map(|v| v.get_ref().clone())
}

fn word<T: Copy>(value: &Opt<Word<T>>, default: T) -> T {
    value.as_ref().map_or(default, |v| v.get_ref().0)
}

fn dur(value: &Opt<Dur>, default: Option<Duration>) -> Option<Duration> {
    value.as_ref().map_or(default, |v| v.get_ref().0)
}

fn count(value: &Opt<Count>, default: u32) -> u32 {
    value.as_ref().map_or(default, |v| v.get_ref().0)
}

/// A count that must not be 0.
fn positive(value: &Opt<Count>, default: u32, cx: &mut Context<'_>) -> u32 {
    let Some(value) = value else { return default };
    if value.get_ref().0 == 0 {
        cx.problems
            .error("must be at least 1")
            .at(value.span(), "0 would refuse everybody")
            .help("leave the key out for its default");
        return default;
    }
    value.get_ref().0
}

/// A time that can't be switched off.
fn needed(value: &Opt<Dur>, default: Duration, cx: &mut Context<'_>) -> Duration {
    match value {
        None => default,
        Some(value) => value.get_ref().0.unwrap_or_else(|| {
            cx.problems.error("this can't be off").at(value.span(), "needs a time").help("write for example \"2s\"");
            default
        }),
    }
}

fn client(raw: &schema::Client, cx: &mut Context<'_>) -> ClientSettings {
    let default = ClientSettings::default();
    let max_logins = raw.max_logins.as_ref().map(|_| positive(&raw.max_logins, 1, cx));
    let mut size = |value: &Opt<schema::value::Size>, default: u32, least: u32, most: u32| {
        let Some(value) = value else { return default };
        match u32::try_from(value.get_ref().0) {
            Ok(n) if (least..=most).contains(&n) => n,
            _ => {
                let range = format!("must be from {least} to {most} bytes");
                cx.problems.error("size out of range").at(value.span(), range);
                default
            }
        }
    };
    ClientSettings {
        // PostgreSQL itself takes startup packets up to 10,000 bytes.
        max_startup_bytes: size(&raw.max_startup_packet, default.max_startup_bytes, 512, 1 << 20),
        max_inspect_bytes: size(&raw.max_inspect, default.max_inspect_bytes, 1024, 1 << 30),
        login_timeout: dur(&raw.login_timeout, default.login_timeout),
        max_logins,
        failed_login_delay: dur(&raw.failed_login_delay, default.failed_login_delay),
        idle_timeout: dur(&raw.idle_timeout, default.idle_timeout),
        idle_transaction_timeout: dur(&raw.idle_transaction_timeout, default.idle_transaction_timeout),
        pinned_idle_timeout: dur(&raw.pinned_idle_timeout, default.pinned_idle_timeout),
        drain_timeout: dur(&raw.drain_timeout, default.drain_timeout),
        keepalive: dur(&raw.keepalive, default.keepalive),
        tcp_user_timeout: dur(&raw.tcp_user_timeout, default.tcp_user_timeout),
    }
}

fn routing(raw: &schema::Routing, base: RoutingSettings, cx: &mut Context<'_>) -> RoutingSettings {
    let mut functions = |list: &Opt<schema::value::List>, base: Vec<String>| {
        if list.is_none() {
            return base;
        }
        let mut names = Vec::new();
        for item in schema::value::items(list) {
            let name = item.get_ref().trim();
            if name.is_empty() || name.contains(['(', ')', ' ', ';']) || name.split('.').count() > 2 {
                cx.problems
                    .error("not a function's name")
                    .at(item.span(), "only the name, with its schema if needed")
                    .help("write \"my_function\" or \"my_schema.my_function\", without arguments");
            } else {
                names.push(name.to_lowercase());
            }
        }
        names
    };
    let read_only_functions = functions(&raw.read_only_functions, base.read_only_functions);
    let primary_functions = functions(&raw.primary_functions, base.primary_functions);
    // When neither list stands here, the mistake is noted where they do.
    let here = raw.read_only_functions.is_some() || raw.primary_functions.is_some();
    let both = primary_functions.iter().find(|name| read_only_functions.contains(name));
    if let (Some(both), true) = (both, here) {
        let draft = cx.problems.error(format!("function {both} is both read-only and bound to the primary"));
        for list in [&raw.read_only_functions, &raw.primary_functions].into_iter().flatten() {
            draft.at(list.span(), "named here");
        }
        draft.help("name it in one of the two lists");
    }
    let primary_statements = statements(&raw.primary_statements, base.primary_statements, Pattern::new, cx);
    let read_only_statements = statements(&raw.read_only_statements, base.read_only_statements, Pattern::of_reads, cx);
    let here = [&raw.read_only_statements, &raw.primary_statements];
    let both = primary_statements.iter().find(|pattern| read_only_statements.contains(pattern));
    if let (Some(both), true) = (both, here.iter().any(|list| list.is_some())) {
        let draft = cx.problems.error(format!("statement `{both}` is both read-only and bound to the primary"));
        for list in here.into_iter().flatten() {
            draft.at(list.span(), "named here");
        }
        draft.help("name it in one of the two lists");
    }
    RoutingSettings {
        split_reads: get(&raw.split_reads).unwrap_or(base.split_reads),
        what_if: get(&raw.what_if).unwrap_or(base.what_if),
        transaction_reads: word(&raw.transaction_reads, base.transaction_reads),
        consistency: word(&raw.consistency, base.consistency),
        max_lag: dur(&raw.max_lag, base.max_lag),
        freshness_wait: dur(&raw.freshness_wait, base.freshness_wait),
        health_interval: needed(&raw.health_interval, base.health_interval, cx),
        health_timeout: needed(&raw.health_timeout, base.health_timeout, cx),
        dns_interval: dur(&raw.dns_interval, base.dns_interval),
        read_only_functions,
        primary_functions,
        primary_statements,
        read_only_statements,
        catalog_interval: dur(&raw.catalog_interval, base.catalog_interval),
        breaker: BreakerSettings {
            failures: count(&raw.breaker_failures, base.breaker.failures),
            window: needed(&raw.breaker_window, base.breaker.window, cx),
            pause: needed(&raw.breaker_pause, base.breaker.pause, cx),
        },
    }
}

/// A list of patterns of statements.
fn statements(
    list: &Opt<schema::value::List>,
    base: Vec<String>,
    read: impl Fn(&str) -> Result<Pattern, PatternMistake>,
    cx: &mut Context<'_>,
) -> Vec<String> {
    if list.is_none() {
        return base;
    }
    let mut patterns = Vec::new();
    for item in schema::value::items(list) {
        match read(item.get_ref()) {
            Ok(_) => patterns.push(item.get_ref().trim().to_owned()),
            Err(mistake) => {
                cx.problems.error("not a pattern of statements").at(item.span(), mistake.label).help(mistake.help);
            }
        }
    }
    patterns
}

fn slow_log(raw: &schema::SlowLog, cx: &mut Context<'_>) -> SlowLogSettings {
    let default = SlowLogSettings::default();
    SlowLogSettings {
        format: word(&raw.format, default.format),
        file: raw.file.as_ref().and_then(|file| files::log_file(file, cx)),
        raw_text: get(&raw.raw_text).unwrap_or(default.raw_text),
        parameters: get(&raw.parameters).unwrap_or(default.parameters),
        per_fingerprint_per_second: count(&raw.per_fingerprint_per_second, default.per_fingerprint_per_second),
        queue: positive(&raw.queue, u32::try_from(default.queue).unwrap_or(u32::MAX), cx) as usize,
    }
}

fn log(raw: &schema::Log, cx: &mut Context<'_>) -> LogSettings {
    let default = LogSettings::default();
    if let Some(level) = raw.level.as_ref().filter(|level| level.get_ref().trim().is_empty()) {
        cx.problems.error("an empty log level").at(level.span(), "says nothing").help("leave the key out for \"info\"");
    } else if let Some(level) = &raw.level
        && let Err(error) = tracing_subscriber::EnvFilter::builder().parse(level.get_ref())
    {
        cx.problems
            .error("not a log level")
            .at(level.span(), error.to_string())
            .help("error, warn, info, debug or trace, or a filter such as \"info,trunkline::pool=debug\"");
    }
    LogSettings { format: word(&raw.format, default.format), level: get(&raw.level).unwrap_or(default.level) }
}

fn users(raw: &BTreeMap<Spanned<String>, schema::User>, cx: &mut Context<'_>) -> BTreeMap<String, KnownUser> {
    let mut users = BTreeMap::new();
    for (name, raw) in raw {
        if name.get_ref().is_empty() {
            cx.problems.error("a user needs a name").at(name.span(), "empty");
        }
        let user = auth::user(name.get_ref(), raw, cx);
        users.insert(name.get_ref().clone(), KnownUser { user, has_section: true, url_password: None });
    }
    users
}

/// A secret from its plain form (with `${VAR}`) or its file; both at once is a mistake.
fn secret(plain: &Opt<RawSecret>, file: &Opt<String>, key: &str, cx: &mut Context<'_>) -> Option<Secret> {
    if let (Some(plain), Some(file)) = (plain, file) {
        cx.problems
            .error(format!("both {key} and {key}_file are given"))
            .at(plain.span(), "here")
            .at(file.span(), "and here")
            .help("keep one of them");
    }
    if let Some(file) = file {
        return files::secret_file(file, cx);
    }
    let plain = plain.as_ref()?;
    match environment::interpolate(plain.get_ref().0.expose(), cx.env) {
        Ok(text) if text.is_empty() => {
            cx.problems.error(format!("{key} is empty")).at(plain.span(), "no secret here").help("leave the key out");
            None
        }
        Ok(text) if text.contains('\0') => {
            cx.problems.error(format!("{key} holds a NUL character")).at(plain.span(), "PostgreSQL can't take it");
            None
        }
        Ok(text) => Some(Secret::new(text.as_str())),
        Err(message) => {
            cx.problems
                .error(message)
                .at(plain.span(), "used here")
                .help("set the variable; a literal ${ is written $${");
            None
        }
    }
}
