//! The front door: what happens to a connection before it is a session.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::config::{ClientTlsMode, is_console};
use crate::net::{Accepted, Acceptor, Listener, OpenSettings, Opened, PeerAddr, ServerTlsContext, open};
use crate::session::{self, Context, LoggingIn, LoginRefused, SentAway};
use crate::wire::SqlState;

use super::rt::Workers;
use super::takeover::Predecessors;

/// What the front door needs besides the sessions' context.
pub struct Front {
    /// What sessions share.
    pub ctx: Arc<Context>,
    /// TLS towards clients; `None` = there is none.
    pub tls: ArcSwapOption<ServerTlsContext>,
    /// The console.
    pub console: Arc<crate::admin::Console>,
    /// Processes that this one took over from, which still have clients.
    pub predecessors: Arc<Predecessors>,
}

/// Accepts connections and deals them to the workers, until the task is dropped.
pub async fn accept(listener: Arc<Listener>, front: Arc<Front>, workers: Arc<Workers>) {
    let acceptor = loop {
        match Acceptor::new(&listener) {
            Ok(acceptor) => break acceptor,
            Err(error) => {
                tracing::error!(%error, "clients can't be accepted at the moment");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    };
    loop {
        let accepted = acceptor.accept().await;
        front.ctx.metrics.accepted(match accepted.peer {
            PeerAddr::Tcp(_) => "tcp",
            PeerAddr::Unix => "unix",
        });
        // Counted from here on: nobody who has been accepted is forgotten by a process that ends.
        let (limit, within) = {
            let config = front.ctx.config.load();
            (config.client.max_logins.unwrap_or(config.max_clients), config.client.login_timeout)
        };
        let logging_in = front.ctx.clients.logging_in(accepted.peer, limit as usize, within);
        workers.deal(serve(front.clone(), accepted, logging_in));
    }
}

/// One connection, from its first byte to its end. What only the beginning needs is in a future of its own, which is gone when
/// the session begins: most sessions are idle most of the time, and this is the memory that they hold.
async fn serve(front: Arc<Front>, accepted: Accepted, logging_in: LoggingIn) {
    let way_in = Box::pin(async move {
        let (sent_away, metrics) = (logging_in.sent_away(), front.ctx.metrics.clone());
        tokio::select! {
            login = admit(front, accepted, logging_in) => login,
            why = sent_away => {
                metrics.refused(match why {
                    SentAway::TooMany => "max_logins",
                    SentAway::TooSlow => "login_timeout",
                });
                tracing::debug!(?why, "connection closed before it was logged in");
                None
            }
        }
    });
    if let Some(login) = way_in.await {
        session::serve(login).await;
    }
}

/// The way in: what kind of connection it is, and its login. `None` = it has been served, or refused.
async fn admit(front: Arc<Front>, accepted: Accepted, logging_in: LoggingIn) -> Option<Box<session::Login>> {
    let stream = accepted.into_stream().ok()?;
    let ctx = front.ctx.clone();
    let config = ctx.config.load_full();
    let tls = front.tls.load_full();
    let settings = OpenSettings {
        max_startup_bytes: config.client.max_startup_bytes,
        tls: tls.as_deref(),
        tls_required: config.client_tls.mode == ClientTlsMode::Require,
    };
    let (stream, startup) = match open(stream, &settings).await {
        Ok(Opened::Startup { stream, startup }) => (stream, startup),
        Ok(Opened::Cancel { mut stream, key }) => {
            if !session::cancel(&ctx.clients, &key).await {
                front.predecessors.cancel(&key).await;
            }
            stream.shutdown();
            return None;
        }
        Ok(Opened::Closed) => return None,
        Err(error) => {
            tracing::debug!(%error, "connection refused");
            let code = error.notice().map_or(SqlState::PROTOCOL_VIOLATION, |notice| notice.code);
            ctx.metrics.error(code, crate::observe::Blame::Client);
            ctx.metrics.refused("startup");
            return None;
        }
    };
    let named = startup.get("database").filter(|name| !name.is_empty());
    if is_console(named.or(startup.get("user")).unwrap_or_default()) {
        front.console.clone().serve(stream, startup, logging_in).await;
        return None;
    }
    logging_in.held_up(ctx.directory.gates.not_suspended()).await;
    match session::log_in(ctx.clone(), stream, startup, &logging_in).await {
        Ok(login) => Some(Box::new(login)),
        Err(LoginRefused { notice }) => {
            ctx.metrics.refused(if notice.is_some() { "login" } else { "client_gone" });
            None
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

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<F>(_: impl Fn(Arc<Front>, Accepted, LoggingIn) -> F) -> usize {
        size_of::<F>()
    }

    /// What an idle session's task holds beside the session itself.
    #[test]
    fn the_future_of_an_idle_session_is_small() {
        let size = size_of_future(serve);
        assert!(size <= 512, "{size}");
    }
}
