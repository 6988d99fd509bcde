//! The front door: what happens to a connection before it is a session.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::config::ClientTlsMode;
use crate::net::{Accepted, Listener, OpenSettings, Opened, PeerAddr, ServerTlsContext, open};
use crate::session::{self, Context, LoginRefused};
use crate::wire::{ErrorNotice, SqlState};

use super::rt::Workers;

/// What the front door needs besides the sessions' context.
pub struct Front {
    /// What sessions share.
    pub ctx: Arc<Context>,
    /// TLS towards clients; `None` = there is none.
    pub tls: ArcSwapOption<ServerTlsContext>,
    /// The console.
    pub console: Arc<crate::admin::Console>,
}

/// Accepts connections and deals them to the workers, until the task is dropped.
pub async fn accept(listener: Listener, front: Arc<Front>, workers: Arc<Workers>) {
    loop {
        let accepted = listener.accept().await;
        front.ctx.metrics.accepted(match accepted.peer {
            PeerAddr::Tcp(_) => "tcp",
            PeerAddr::Unix => "unix",
        });
        workers.deal(serve(front.clone(), accepted));
    }
}

async fn serve(front: Arc<Front>, accepted: Accepted) {
    let Ok(stream) = accepted.into_stream() else { return };
    let ctx = front.ctx.clone();
    let logging_in = ctx.clients.logging_in();
    let config = ctx.config.load_full();
    let tls = front.tls.load_full();
    let settings = OpenSettings {
        max_startup_bytes: config.client.max_startup_bytes,
        tls: tls.as_deref(),
        tls_required: config.client_tls.mode == ClientTlsMode::Require,
    };
    let limit = config.client.login_timeout.unwrap_or(Duration::MAX);
    let began = tokio::time::Instant::now();
    let (stream, startup) = match tokio::time::timeout(limit, open(stream, &settings)).await {
        Ok(Ok(Opened::Startup { stream, startup })) => (stream, startup),
        Ok(Ok(Opened::Cancel { mut stream, key })) => {
            session::cancel(&ctx.clients, &key).await;
            return stream.shutdown();
        }
        Ok(Ok(Opened::Closed)) => return,
        Ok(Err(error)) => {
            tracing::debug!(%error, "connection refused");
            let code = error.notice().map_or(SqlState::PROTOCOL_VIOLATION, |notice| notice.code);
            ctx.metrics.error(code, crate::observe::Blame::Client);
            return ctx.metrics.refused("startup");
        }
        Err(_) => return ctx.metrics.refused("login_timeout"),
    };
    let database = startup.get("database").or(startup.get("user")).unwrap_or_default();
    if crate::admin::is_console(database) {
        drop(logging_in);
        return front.console.clone().serve(stream, startup, limit).await;
    }
    let remaining = limit.saturating_sub(began.elapsed());
    ctx.directory.gates.not_suspended().await;
    let login = tokio::time::timeout(remaining, session::log_in(ctx.clone(), stream, startup)).await;
    drop(logging_in);
    match login {
        Ok(Ok(login)) => session::serve(login).await,
        Ok(Err(LoginRefused { notice })) => {
            ctx.metrics.refused(if notice.is_some() { "login" } else { "client_gone" });
        }
        Err(_) => {
            let notice = ErrorNotice::fatal(SqlState::PROTOCOL_VIOLATION, "login timed out");
            tracing::debug!(%notice, "connection refused");
            ctx.metrics.refused("login_timeout");
        }
    }
}

/// Tells every session that the program is ending; `now` = without waiting for transactions.
pub fn close_sessions(ctx: &Context, now: bool) {
    ctx.draining.store(true, Ordering::Release);
    for client in ctx.clients.all() {
        client.request(if now { session::Request::Kill } else { session::Request::Drain });
    }
}
