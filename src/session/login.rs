//! From a startup packet to a session that may speak: authentication, settings, the greeting.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt;

use crate::auth::{self, AuthError};
use crate::backend::parameters::as_told;
use crate::backend::{self, Parameters, Settings};
use crate::config::PoolMode;
use crate::net::Stream;
use crate::observe::{Blame, fault, panics};
use crate::pool::{CheckOutError, Lease, WaiterSlot};
use crate::sql::{LexOptions, truth};
use crate::topology::UserPools;
use crate::wire::startup::{Startup, parse_options};
use crate::wire::{ErrorNotice, Severity, SqlState, TxStatus, build};

use super::Context;
use super::clients::{ClientLimits, Identity, Registered};
use super::logins::LoggingIn;
use super::own_settings::OwnSettings;
use super::posing;

/// Length of a cancel secret in protocol 3.2.
const LONG_SECRET: usize = 32;

/// A client that has logged in and been greeted.
pub struct Login {
    pub(super) ctx: Arc<Context>,
    pub(super) stream: Stream,
    pub(super) registered: Registered,
    pub(super) pools: Arc<UserPools>,
    /// The configuration's number before its pools were looked up: a session whose login met a reload follows it, too.
    pub(super) generation: usize,
    pub(super) settings: Arc<Settings>,
    /// The parameters that the client was told.
    pub(super) told: Arc<Parameters>,
    pub(super) lex: LexOptions,
    pub(super) own: OwnSettings,
    /// `logical` or `physical`: then the greeting is still to be sent.
    pub(super) replication: Option<&'static str>,
    pub(super) startup: Startup,
    pub(super) greeting: Vec<u8>,
}

/// A login that failed; the client was told.
#[derive(Debug)]
pub struct LoginRefused {
    /// What it was told; `None` when it had gone.
    pub notice: Option<ErrorNotice>,
}

/// What a startup packet asks for, apart from who.
struct Wishes {
    settings: Arc<Settings>,
    own: OwnSettings,
    replication: Option<&'static str>,
}

/// Logs a client in. The caller bounds the time.
///
/// # Errors
/// [`LoginRefused`]; the client was told why.
pub async fn log_in(
    ctx: Arc<Context>,
    mut stream: Stream,
    startup: Startup,
    logging_in: &LoggingIn,
) -> Result<Login, LoginRefused> {
    let generation = ctx.generation.load(Ordering::Acquire);
    // What a panic has left of the attempt is only given up.
    let attempt = AssertUnwindSafe(attempt(&ctx, &mut stream, &startup, logging_in)).catch_unwind().await;
    match attempt.unwrap_or_else(|_| Err(panics::last_word().into())) {
        Ok(done) => {
            let Done { registered, pools, wishes, greeting, told, lex } = done;
            if wishes.replication.is_none() && stream.write_all(&greeting).await.is_err() {
                return Err(LoginRefused { notice: None });
            }
            Ok(Login {
                ctx,
                generation,
                stream,
                registered,
                pools,
                settings: wishes.settings,
                told,
                lex,
                own: wishes.own,
                replication: wishes.replication,
                startup,
                greeting,
            })
        }
        Err(refusal) => {
            if let Some(notice) = &refusal.notice {
                let mut out = Vec::new();
                notice.encode(&mut out);
                // The client may have gone; there is nobody else to tell.
                let _ = stream.write_all(&out).await;
            }
            stream.shutdown();
            Err(refusal)
        }
    }
}

struct Done {
    registered: Registered,
    pools: Arc<UserPools>,
    wishes: Wishes,
    greeting: Vec<u8>,
    told: Arc<Parameters>,
    lex: LexOptions,
}

impl From<ErrorNotice> for LoginRefused {
    fn from(notice: ErrorNotice) -> Self {
        Self { notice: Some(notice) }
    }
}

async fn attempt(
    ctx: &Arc<Context>,
    stream: &mut Stream,
    startup: &Startup,
    logging_in: &LoggingIn,
) -> Result<Done, LoginRefused> {
    let config = ctx.config.load_full();
    let user = startup.get("user").unwrap_or_default();
    fault::point("login", user.as_bytes());
    let database = startup.get("database").filter(|name| !name.is_empty()).unwrap_or(user);
    let database = ctx.directory.name_meant(database);
    if ctx.draining.load(Ordering::Acquire) {
        return Err(refuse(
            ctx,
            ErrorNotice::fatal(SqlState::CANNOT_CONNECT_NOW, "the proxy is shutting down"),
            Blame::Proxy,
        ));
    }
    let physical = auth::hba::is_physical_replication(startup);
    let find = || match physical {
        true => ctx.directory.cluster_of_any(database),
        false => ctx.directory.cluster(database).ok(),
    };
    let cluster = find();
    let known = config.users.get(user);
    let login = auth::Login {
        startup,
        database,
        hba: &config.hba,
        user: known.map(|user| &**user),
        auth_query: cluster.as_ref().and_then(|cluster| cluster.auth_query.as_deref()),
    };
    let authenticated = match auth::authenticate_client(stream, &login, &ctx.directory.auth).await {
        Ok(authenticated) => authenticated,
        Err(error) => {
            let refused = auth_failed(ctx, &error);
            ctx.directory.auth.hold_back(stream.peer(), &error, config.client.failed_login_delay).await;
            return Err(refused);
        }
    };
    logging_in.proved();
    // Only who has proved who he is learns which databases there are. A reload may have come in between.
    let Some(cluster) = find() else { return Err(unknown_database(ctx, database)) };
    if ctx.directory.gates.find(database).is_some_and(|gate| gate.is_disabled()) {
        let message = format!("database does not allow connections: {database}");
        let notice = ErrorNotice::fatal(SqlState::CANNOT_CONNECT_NOW, message)
            .hint("An administrator has disabled it; ENABLE on the console lets clients in again.");
        return Err(refuse(ctx, notice, Blame::Config));
    }
    // Physical replication is tied to no database, whatever its startup says: that one need not exist on the server.
    let configured = &cluster.database;
    let database = match configured.name.as_str() {
        _ if !physical => database,
        "*" => "postgres",
        name => name,
    };
    let mut wishes = wishes(startup).map_err(|notice| refuse(ctx, notice, Blame::Client))?;
    let pool_settings = config.pool_settings(configured, user);
    if !pool_settings.connect_query.is_empty() {
        wishes.settings = wishes.settings.over(&backend::base_settings(&pool_settings.connect_query));
    }
    let application_name = wishes.settings.text("application_name").unwrap_or_default();
    if pool_settings.mode != PoolMode::Session && posing::is_reserved(application_name) {
        return Err(refuse(ctx, posing::refused(Severity::Fatal), Blame::Client));
    }
    let secret_len = if startup.minor >= 2 { LONG_SECRET } else { 4 };
    let identity = Identity {
        user: user.to_owned(),
        database: database.to_owned(),
        peer: stream.peer().parts(),
        local: stream.local_addr().map_or_else(Default::default, |addr| crate::net::PeerAddr::tcp(addr).parts()),
        tls: stream.tls_info().map(|tls| format!("{}/{}", tls.version, tls.cipher)).unwrap_or_default(),
        application_name: wishes.settings.text("application_name").unwrap_or_default().to_owned(),
        replication: wishes.replication.unwrap_or("none"),
        console: false,
    };
    let limits = ClientLimits {
        total: config.max_clients,
        of_database: configured.max_clients,
        of_user: known.and_then(|user| user.max_clients),
    };
    let registered =
        ctx.clients.register(identity, secret_len, limits).map_err(|limit| too_many_clients(ctx, limit))?;
    ctx.stand_still_if_suspended(&registered.client);
    let proven = &authenticated.server_credential;
    let server_login = auth::server_login(configured, known.map(|user| &**user), user, proven);
    let mut pools = cluster.user_pools(&config, database, user, server_login, &ctx.directory.auth, &ctx.metrics);
    let mut greeting = authenticated.greeting;
    let mut lex = LexOptions::default();
    let mut told = Arc::default();
    if wishes.replication.is_none() {
        let parameters = loop {
            let asked = logging_in.within_time(server_parameters(&pools, &wishes.settings)).await;
            match asked.unwrap_or_else(|| Err(took_too_long().into())) {
                Ok(parameters) => break parameters,
                Err(NoParameters::PoolClosed) => {
                    // A reload: the pools have successors, or the database is gone.
                    let cluster = ctx.directory.cluster(database).map_err(|_| unknown_database(ctx, database))?;
                    pools = cluster.pools_after(&pools, &ctx.config.load(), &ctx.directory.auth, &ctx.metrics);
                    tokio::task::yield_now().await;
                }
                Err(NoParameters::Because(notice)) => return Err(refuse(ctx, *notice, Blame::Server)),
            }
        };
        for (name, value) in parameters.iter() {
            lex.observe_parameter(name, value);
            build::parameter_status(&mut greeting, name, as_told(name, value));
        }
        told = parameters;
        build::backend_key_data(&mut greeting, &registered.client.key);
        build::ready_for_query(&mut greeting, TxStatus::Idle);
    }
    Ok(Done { registered, pools, wishes, greeting, told, lex })
}

fn refuse(ctx: &Context, notice: ErrorNotice, blame: Blame) -> LoginRefused {
    ctx.metrics.error(notice.code, blame);
    notice.into()
}

fn unknown_database(ctx: &Context, database: &str) -> LoginRefused {
    let notice = ErrorNotice::fatal(SqlState::UNKNOWN_DATABASE, format!("database \"{database}\" does not exist"))
        .hint("It is not among the databases of the proxy's configuration.");
    refuse(ctx, notice, Blame::Client)
}

/// Why no server told its parameters.
enum NoParameters {
    /// A reload closed the pools.
    PoolClosed,
    /// Anything else, for the client.
    Because(Box<ErrorNotice>),
}

impl From<ErrorNotice> for NoParameters {
    fn from(notice: ErrorNotice) -> Self {
        Self::Because(Box::new(ErrorNotice { severity: Severity::Fatal, ..notice }))
    }
}

/// For a client that has had to wait for a server until its time was over.
fn took_too_long() -> ErrorNotice {
    ErrorNotice::error(SqlState::CANNOT_CONNECT_NOW, "no server connection was ready within login_timeout")
        .hint("The database is paused, or its servers are busy or do not answer: see SHOW POOLS on the admin console.")
}

fn auth_failed(ctx: &Context, error: &AuthError) -> LoginRefused {
    let notice = error.notice();
    if let Some(notice) = &notice {
        tracing::info!(%error, "login refused");
        ctx.metrics.error(notice.code, Blame::Client);
    }
    if let AuthError::Failed { method, .. } = error {
        ctx.metrics.auth_failed(*method);
    }
    LoginRefused { notice }
}

fn too_many_clients(ctx: &Context, limit: &str) -> LoginRefused {
    let notice = ErrorNotice::fatal(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
        .detail(format!("The limit reached is {limit}."))
        .hint("Close connections that are not needed, or raise the limit in the proxy's configuration.");
    refuse(ctx, notice, Blame::Client)
}

fn wishes(startup: &Startup) -> Result<Wishes, ErrorNotice> {
    let mut entries = Vec::new();
    let mut own = OwnSettings::default();
    let mut add = |name: &str, value: &str| -> Result<(), ErrorNotice> {
        match name.to_ascii_lowercase().strip_prefix("trunkline.") {
            None => entries.push((name.to_owned(), value.to_owned())),
            Some(name) => own.start_with(name, value)?,
        }
        Ok(())
    };
    let mut replication = None;
    for (name, value) in &startup.parameters {
        match name.as_str() {
            "user" | "database" => {}
            "replication" => replication = replication_kind(value)?,
            "options" => {
                let options = parse_options(value).map_err(|word| {
                    ErrorNotice::fatal(
                        SqlState::SYNTAX_ERROR,
                        format!("invalid command-line argument for server process: {word}"),
                    )
                    .hint("Only settings are understood in options: -c name=value or --name=value.")
                })?;
                for (name, value) in &options {
                    add(name, value)?;
                }
            }
            name => add(name, value)?,
        }
    }
    Ok(Wishes { settings: Settings::intern(entries), own, replication })
}

/// `replication` as PostgreSQL reads it: `database`, or a boolean.
fn replication_kind(value: &str) -> Result<Option<&'static str>, ErrorNotice> {
    match truth(value.as_bytes()) {
        _ if value == "database" => Ok(Some("logical")),
        Some(true) => Ok(Some("physical")),
        Some(false) => Ok(None),
        None => Err(ErrorNotice::fatal(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("invalid value for parameter \"replication\": \"{value}\""),
        )
        .hint("Valid values are: \"false\", 0, \"true\", 1, \"database\".")),
    }
}

/// What a server reports to a session with these settings. Asked of a server once per (database, user, settings); that a server
/// accepts them is known by it, too.
async fn server_parameters(pools: &UserPools, settings: &Arc<Settings>) -> Result<Arc<Parameters>, NoParameters> {
    if let Some(known) = pools.greeting(settings) {
        return Ok(known);
    }
    let lease = loop {
        let mut lease = any_server(pools).await?;
        if lease.settings.is_empty() && lease.pool().load.is_primary() {
            pools.server_defaults.store(Arc::new(lease.parameters.clone()));
        }
        if Arc::ptr_eq(&lease.settings, settings) {
            break lease;
        }
        match backend::apply_settings(&mut lease, settings).await {
            Ok(None) => break lease,
            Ok(Some(_)) if lease.is_set_in_its_ways(settings) => {
                // Closed: another one will take them, or has the last word.
            }
            // The connection is as it was, or is closed as it comes back.
            Ok(Some(refusal)) => {
                lease.check_in();
                return Err(refusal.into());
            }
            Err(_) => return Err(super::ending::server_lost().into()),
        }
    };
    let parameters = Arc::new(lease.parameters.clone());
    lease.check_in();
    pools.remember_greeting(settings, parameters.clone());
    Ok(parameters)
}

/// A connection to the primary, or to any other node while there is no primary: reads go on without it.
async fn any_server(pools: &UserPools) -> Result<Lease, NoParameters> {
    let cluster = &pools.cluster;
    let fit = |node: &usize| cluster.refusal_of(&cluster.nodes[*node]).is_none();
    let mut order: Vec<usize> = (0..cluster.nodes.len()).filter(fit).collect();
    order.sort_by_key(|&node| (!cluster.nodes[node].load.is_up(), !cluster.nodes[node].is_primary()));
    let slot = Arc::new(WaiterSlot::default());
    let mut failure = None;
    for &node in &order {
        match pools.pools[node].check_out_unless_full(&slot).await {
            Ok(lease) => return Ok(lease),
            Err(error) => {
                failure.get_or_insert(no_lease(error)?);
            }
        }
    }
    match (failure, order.first()) {
        (Some(failure), Some(&first)) if failure.code == SqlState::TOO_MANY_CONNECTIONS => {
            pools.pools[first].check_out(&slot).await.or_else(|error| Err(no_lease(error)?.into()))
        }
        (failure, _) => {
            let none = || ErrorNotice::error(SqlState::CANNOT_CONNECT_NOW, "no server is available for this database");
            Err(failure.unwrap_or_else(none).into())
        }
    }
}

/// Why there is no connection to a node, for the client.
///
/// # Errors
/// The pool was closed, and has a successor.
fn no_lease(error: CheckOutError) -> Result<ErrorNotice, NoParameters> {
    match error {
        CheckOutError::Closed => Err(NoParameters::PoolClosed),
        CheckOutError::Open(error) => Ok(backend::open_failure(&error)),
        CheckOutError::Timeout => Ok(ErrorNotice::error(SqlState::CANNOT_CONNECT_NOW, error.to_string())),
    }
}
