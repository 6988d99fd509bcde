//! Replication connections: a server connection of their own on the primary, every byte passed as it is.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::copy_bidirectional_with_sizes;

use crate::backend;
use crate::observe::Blame;
use crate::wire::{ErrorNotice, Severity, SqlState, TxStatus, build};

use super::clients::Request;
use super::login::Login;

const BUFFER: usize = 64 * 1024;

/// Opens a connection to the primary with all of the client's startup parameters, passes the server's greeting on with a
/// cancel key of ours, and then every byte in both directions until one side closes.
///
/// A shutdown waits for it as for a transaction, since it may be a base backup; then both sides are closed.
pub(super) async fn serve(login: Login) {
    let Login { ctx, mut stream, registered, pools, startup, mut greeting, .. } = login;
    let Some(primary) = pools.cluster.primary() else {
        let notice =
            ErrorNotice::fatal(SqlState::CANNOT_CONNECT_NOW, "no primary is available for a replication connection")
                .detail(pools.cluster.why_no_primary());
        ctx.metrics.error(notice.code, Blame::Proxy);
        notice.encode(&mut greeting);
        let _ = stream.write_all(&greeting).await;
        return stream.shutdown();
    };
    let pool = &pools.pools[primary];
    let extra: Vec<(&str, &str)> = startup
        .parameters
        .iter()
        .filter(|(name, _)| name != "user" && name != "database")
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let limit = pool.settings().connect_timeout.unwrap_or(Duration::from_secs(60));
    let mut conn =
        match tokio::time::timeout(limit, backend::open_with(&pool.spec, &pool.connect_options(), &extra)).await {
            Ok(Ok(conn)) => conn,
            failed => {
                let error = failed.ok().and_then(Result::err).unwrap_or(backend::OpenError::Timeout);
                let notice = ErrorNotice { severity: Severity::Fatal, ..backend::open_failure(&error) };
                ctx.metrics.error(notice.code, Blame::Server);
                notice.encode(&mut greeting);
                let _ = stream.write_all(&greeting).await;
                return stream.shutdown();
            }
        };
    for (name, value) in conn.parameters.iter() {
        build::parameter_status(&mut greeting, name, value);
    }
    build::backend_key_data(&mut greeting, &registered.client.key);
    build::ready_for_query(&mut greeting, TxStatus::Idle);
    // Nobody has cancelled anything: the client does not know its key yet.
    let _ = registered.client.assign(pool, &conn.info, false);
    if stream.write_all(&greeting).await.is_ok() {
        // Either side's end ends both; what it was is in the server's log. After a kill, perhaps in the middle of a message,
        // nothing can be said any more (trap 70).
        let mut copy = pin!(copy_bidirectional_with_sizes(&mut stream, &mut conn.stream, BUFFER, BUFFER));
        let client = &registered.client;
        poll_fn(|cx| {
            client.set_waker(cx.waker());
            if client.requested(Request::Kill) {
                return Poll::Ready(());
            }
            let suspended = client.requested(Request::Suspend);
            client.set_frozen(suspended);
            if suspended { Poll::Pending } else { copy.as_mut().poll(cx).map(drop) }
        })
        .await;
    }
    stream.shutdown();
    conn.stream.shutdown();
}
