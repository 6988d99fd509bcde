//! Replication connections: a server connection of their own on the primary, every byte passed as it is.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context as Cx, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::timeout;

use crate::backend::{self, OpenError, ServerConn, ServerInfo};
use crate::net::Stream;
use crate::observe::Blame;
use crate::pool::{Passing, Pool};
use crate::topology::{Node, UserPools};
use crate::wire::{ErrorNotice, Severity, SqlState, TxStatus, build};

use super::clients::{Client, ClientState, Request};
use super::login::Login;

const BUFFER: usize = 64 * 1024;

/// Longest time for each step of the end of a connection on which something may have been written.
const STEP: Duration = Duration::from_secs(5);

/// Opens a connection to the primary with all of the client's startup parameters, passes the server's greeting on with a
/// cancel key of ours, and then every byte in both directions until one side closes, or the node is not the one any more.
///
/// A shutdown waits for it as for a transaction, since it may be a base backup; then both sides are closed.
pub(super) async fn serve(login: Login) {
    let Login { ctx, mut stream, registered, pools, startup, mut greeting, replication, .. } = login;
    let extra: Vec<(&str, &str)> = startup
        .parameters
        .iter()
        .filter(|(name, _)| name != "user" && name != "database")
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let opened = match Line::choose(&pools, replication == Some("logical")) {
        Ok(line) => line.open(&pools, &extra).await.map(|conn| (line, conn)),
        Err(notice) => Err((notice, Blame::Proxy)),
    };
    let (line, mut conn) = match opened {
        Ok(opened) => opened,
        Err((notice, blame)) => {
            ctx.metrics.error(notice.code, blame);
            notice.encode(&mut greeting);
            let _ = stream.write_all(&greeting).await;
            return stream.shutdown();
        }
    };
    let (client, pool) = (&registered.client, &pools.pools[line.index]);
    for (name, value) in conn.parameters.iter() {
        build::parameter_status(&mut greeting, name, value);
    }
    build::backend_key_data(&mut greeting, &client.key);
    build::ready_for_query(&mut greeting, TxStatus::Idle);
    // Nobody has cancelled anything: the client does not know its key yet.
    let _ = client.assign(pool, &conn.info, false);
    client.set_state(ClientState::Active);
    if stream.write_all(&greeting).await.is_ok() {
        // What the end of a side was is in the server's log. After a kill, perhaps in the middle of a message, nothing can be said
        // any more (trap 70).
        let cut = {
            let server = conn.info.clone();
            let mut passing = pin!(pass_both(&mut stream, &mut conn.stream));
            poll_fn(|cx| poll_passing(cx, client, line.is_over(&pools, &server), passing.as_mut())).await
        };
        stream.shutdown();
        client.unassign();
        client.clone().cancels_delivered().await;
        if cut {
            return line.cut(pool, conn).await;
        }
    }
    stream.shutdown();
    conn.stream.shutdown();
}

/// Passes every byte on, in both directions. Either side's end ends both: the other one has some time to end in peace, and is not
/// waited for, as it may hang. Whether the server has not ended.
async fn pass_both(client: &mut Stream, server: &mut Stream) -> bool {
    let ((from_client, to_client), (from_server, to_server)) = (split(client), split(server));
    let mut there = pin!(pass(from_client, to_server));
    let mut back = pin!(pass(from_server, to_client));
    tokio::select! {
        () = &mut back => {
            let _ = timeout(STEP, there).await;
            false
        }
        () = &mut there => timeout(STEP, back).await.is_err(),
    }
}

/// Passes on what comes until there is nothing more, or nobody to take it. A reset is an end, too.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut buffer = vec![0; BUFFER];
    while let count @ 1.. = from.read(&mut buffer).await.unwrap_or(0) {
        if to.write_all(&buffer[..count]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// Ready when both sides have ended (`false`), or the server's is to be (`true`).
fn poll_passing(
    cx: &mut Cx<'_>,
    client: &Client,
    is_over: bool,
    passing: Pin<&mut impl Future<Output = bool>>,
) -> Poll<bool> {
    client.set_waker(cx.waker());
    client.clear(Request::NodeDown);
    if client.requested(Request::Kill) || is_over {
        return Poll::Ready(true);
    }
    let suspended = client.requested(Request::Suspend);
    client.set_frozen(suspended);
    if suspended { Poll::Pending } else { passing.poll(cx) }
}

/// A connection past the pools.
struct Line {
    /// The node's place in the cluster.
    index: usize,
    /// Counts it at its node, if statements can be sent on it that write. Logical replication can; of physical replication a
    /// server takes none.
    writes: Option<Passing>,
}

impl Line {
    fn choose(pools: &UserPools, is_logical: bool) -> Result<Self, ErrorNotice> {
        let cluster = &pools.cluster;
        // Counted first, then looked at once more: whoever stands down meanwhile waits for it, or it sees that.
        let counted = cluster.primary().map(|index| {
            let writes = is_logical.then(|| cluster.nodes[index].load.pass());
            Self { index, writes }
        });
        counted.filter(|line| cluster.nodes[line.index].is_primary()).ok_or_else(|| {
            let message = "no primary is available for a replication connection";
            ErrorNotice::fatal(SqlState::CANNOT_CONNECT_NOW, message).detail(cluster.why_no_primary())
        })
    }

    async fn open(&self, pools: &UserPools, extra: &[(&str, &str)]) -> Result<ServerConn, (ErrorNotice, Blame)> {
        let pool = &pools.pools[self.index];
        let limit = pool.settings().connect_timeout.unwrap_or(Duration::from_secs(60));
        let options = pool.connect_options();
        let opening = backend::open_with(&pool.spec, &options, extra);
        let opened = timeout(limit, opening).await.unwrap_or(Err(OpenError::Timeout));
        opened.map_err(|error| {
            (ErrorNotice { severity: Severity::Fatal, ..backend::open_failure(&error) }, Blame::Server)
        })
    }

    /// Whether its node is not to be used any more: another one is the primary, or it stands down for one and this could write.
    fn is_over(&self, pools: &UserPools, server: &ServerInfo) -> bool {
        let node: &Node = &pools.cluster.nodes[self.index];
        let stands_down = || node.load.is_draining() && pools.cluster.is_leaving(&node.settings.name);
        let is_replaced = node.load.is_deposed() || node.load.is_replaced_at(&server.addr);
        is_replaced || (self.writes.is_some() && stands_down())
    }

    /// Ends it in the middle of whatever is under way. It counts until the server has ended it, too, as far as that can be waited for.
    async fn cut(self, pool: &Pool, mut conn: ServerConn) {
        if self.writes.is_none() {
            return conn.stream.shutdown();
        }
        let _ = timeout(STEP, backend::cancel(&pool.spec, &conn.info)).await;
        conn.stream.shutdown();
        let mut rest = vec![0; 4096];
        let goodbye = async { while matches!(conn.stream.read_some(&mut rest).await, Ok(n) if n > 0) {} };
        let _ = timeout(STEP, goodbye).await;
    }
}
