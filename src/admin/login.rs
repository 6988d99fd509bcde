//! Logging in to the console.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use crate::auth;
use crate::net::{PeerAddr, Stream};
use crate::observe::{Blame, fault, panics};
use crate::session::{ClientLimits, Context, Identity, LoggingIn, Registered};
use crate::wire::startup::Startup;
use crate::wire::{ErrorNotice, SqlState, TxStatus, build};

use super::NAME;
use super::rights::Rights;

/// What PgBouncer reports to a client of its console. `server_version` begins with a version and not with a name, as
/// drivers read a number from it.
const PARAMETERS: &[(&str, &str)] = &[
    ("server_version", concat!(env!("CARGO_PKG_VERSION"), "/bouncer")),
    ("client_encoding", "UTF8"),
    ("server_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("TimeZone", "GMT"),
    ("standard_conforming_strings", "on"),
    ("is_superuser", "on"),
];

/// Most sessions of one user. Whoever may use the console is named in the configuration, so that this bounds them altogether.
const MOST_SESSIONS: u32 = 32;

/// Length of a cancel secret in protocol 3.2.
const LONG_SECRET: usize = 32;

/// Lets a user in by the rules that hold for every database, if it is an administrator or may look. `None` = refused; the
/// client was told, and it was counted.
pub async fn log_in(
    ctx: &Context,
    stream: &mut Stream,
    startup: &Startup,
    logging_in: &LoggingIn,
) -> Option<Registered> {
    // What a panic has left of the attempt is only given up.
    let attempt = AssertUnwindSafe(attempt(ctx, stream, startup, logging_in)).catch_unwind().await;
    match attempt.unwrap_or_else(|_| Err(Some(panics::last_word()))) {
        Ok((registered, greeting)) => stream.write_all(&greeting).await.ok().map(|()| registered),
        Err(None) => {
            ctx.metrics.refused("client_gone");
            None
        }
        Err(Some(notice)) => {
            ctx.metrics.refused("login");
            ctx.metrics.error(notice.code, Blame::Client);
            let mut out = Vec::new();
            notice.encode(&mut out);
            // The client may have gone; there is nobody else to tell.
            let _ = stream.write_all(&out).await;
            None
        }
    }
}

async fn attempt(
    ctx: &Context,
    stream: &mut Stream,
    startup: &Startup,
    logging_in: &LoggingIn,
) -> Result<(Registered, Vec<u8>), Option<ErrorNotice>> {
    let config = ctx.config.load_full();
    let user = startup.get("user").unwrap_or_default();
    fault::point("login", user.as_bytes());
    let database = startup.get("database").filter(|name| !name.is_empty()).unwrap_or(NAME);
    let login = auth::Login {
        startup,
        database,
        hba: &config.hba,
        user: config.users.get(user).map(|user| &**user),
        auth_query: None,
    };
    let authenticated = match auth::authenticate_client(stream, &login, &ctx.directory.auth).await {
        Ok(authenticated) => authenticated,
        Err(error) => {
            tracing::info!(%error, "login to the console refused");
            if let auth::AuthError::Failed { method, .. } = error {
                ctx.metrics.auth_failed(method);
            }
            ctx.directory.auth.hold_back(stream.peer(), &error, config.client.failed_login_delay).await;
            return Err(error.notice());
        }
    };
    // Nobody who comes behind takes its place any more.
    logging_in.proved();
    // Only who has proved who he is learns that he is not wanted.
    if Rights::of(user, &config.admin) == Rights::Nothing {
        tracing::info!(user, "login to the console refused: not allowed");
        let message = format!("user \"{user}\" is not allowed to use the console");
        let notice = ErrorNotice::fatal(SqlState::INVALID_AUTHORIZATION, message)
            .hint("Name the user in admin_users or stats_users of the section [admin].");
        return Err(Some(notice));
    }
    let secret_len = if startup.minor >= 2 { LONG_SECRET } else { 4 };
    let identity = Identity {
        user: user.to_owned(),
        database: database.to_owned(),
        peer: stream.peer().parts(),
        local: stream.local_addr().map_or_else(Default::default, |addr| PeerAddr::tcp(addr).parts()),
        tls: stream.tls_info().map(|tls| format!("{}/{}", tls.version, tls.cipher)).unwrap_or_default(),
        application_name: startup.get("application_name").unwrap_or_default().to_owned(),
        replication: "none",
        console: true,
    };
    // The console is there when everything is full, too, and one user's sessions keep no other user out.
    let limits = ClientLimits { total: u32::MAX, of_database: None, of_user: Some(MOST_SESSIONS) };
    let registered = ctx.clients.register(identity, secret_len, limits).map_err(|limit| {
        tracing::info!(user, limit, "login to the console refused: too many sessions");
        ErrorNotice::fatal(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
            .detail(format!("The limit reached is {limit}: {MOST_SESSIONS}."))
            .hint("Close sessions that are not needed; KILL_CLIENT ends those that SHOW CLIENTS lists.")
    })?;
    let mut greeting = authenticated.greeting;
    for (name, value) in PARAMETERS {
        build::parameter_status(&mut greeting, name.as_bytes(), value.as_bytes());
    }
    build::backend_key_data(&mut greeting, &registered.client.key);
    build::ready_for_query(&mut greeting, TxStatus::Idle);
    Ok((registered, greeting))
}
