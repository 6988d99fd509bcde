//! The one server connection of a hub: opened with the first session that listens, opened anew when it is lost, closed with the last.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::backend::{self, ServerConn};
use crate::session::Context;
use crate::topology::Node;
use crate::wire::frame::backend_limit;
use crate::wire::{ErrorNotice, FrameWalker, Step, build};

use super::hub::{Hub, Next};

/// Pause before the connection is opened anew; doubled with each failure, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How often is looked whether the connection is still to the right server.
const TICK: Duration = Duration::from_secs(1);
/// Silence after which the server is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(20);
/// Longest time that it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves a hub until nobody listens any more.
pub(super) async fn run(hub: Arc<Hub>, ctx: Weak<Context>) {
    let mut pause = FIRST_PAUSE;
    let mut attempt = 0;
    let mut told = String::new();
    while !hub.is_abandoned() {
        let ended = match connect(&hub, &ctx, attempt).await {
            Ok(listener) => {
                if !std::mem::take(&mut told).is_empty() {
                    tracing::info!(database = &*hub.key.database, "listener connection is back");
                }
                listener.serve(&mut pause).await
            }
            Err(why) => Err(why),
        };
        let Err(why) = ended else { return };
        if hub.is_abandoned() {
            return;
        }
        attempt += 1;
        hub.metrics.lost();
        if why != told {
            tracing::warn!(
                database = &*hub.key.database,
                error = why,
                "no listener connection: notifications that are sent until it is back do not reach the clients that listen"
            );
            told.clone_from(&why);
        }
        hub.lost(&why);
        let end = Instant::now() + pause.mul_f64(fastrand::f64().mul_add(0.5, 0.75));
        while !hub.is_abandoned() && timeout(end - Instant::now(), hub.work.notified()).await.is_ok() {}
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A connection of a hub.
struct Listener {
    hub: Arc<Hub>,
    ctx: Weak<Context>,
    conn: ServerConn,
    /// The server. Its load is the same for as long as a reload keeps it.
    node: Arc<Node>,
    /// [`Node::moves`] before the connection was opened.
    moves: u64,
    /// What is listened on, once the round trip under way has ended.
    listened: HashSet<super::channels::Channel, RandomState>,
    /// Number of the round trip under way, and since when.
    round: Option<(u64, Instant)>,
    /// Bytes of a frame that has not come whole.
    carry: Vec<u8>,
}

async fn connect(hub: &Arc<Hub>, weak: &Weak<Context>, attempt: usize) -> Result<Listener, String> {
    let ctx = weak.upgrade().ok_or("the proxy is shutting down")?;
    let pools = hub.pools(attempt).ok_or("nobody listens")?;
    let cluster = ctx.directory.cluster(&hub.key.database).map_err(|unknown| unknown.to_string())?;
    // After a reload the session's pools may have successors that it does not know of while it sleeps.
    let pools = cluster.pools_after(&pools, &ctx.config.load(), &ctx.directory.auth, &ctx.metrics);
    let node = cluster.primary().ok_or("no node is known to be the primary")?;
    let (node, pool) = (cluster.nodes[node].clone(), &pools.pools[node]);
    let moves = node.moves();
    let encoding = String::from_utf8_lossy(&hub.key.encoding);
    let extra = [("application_name", "trunkline listener"), ("client_encoding", &*encoding)];
    let limit = pool.settings().connect_timeout.unwrap_or(PATIENCE);
    drop(ctx);
    let conn = match timeout(limit, backend::open_with(&pool.spec, &pool.connect_options(), &extra)).await {
        Ok(opened) => opened.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("no answer within {limit:?}")),
    };
    tracing::debug!(pool = %pool.spec, pid = conn.info.cancel.pid, "listener connection opened");
    hub.connected();
    Ok(Listener {
        hub: hub.clone(),
        ctx: weak.clone(),
        conn,
        node,
        moves,
        listened: HashSet::default(),
        round: None,
        carry: Vec::new(),
    })
}

impl Listener {
    /// Listens until nobody wants it any more, or, as an error, until the connection is of no use.
    async fn serve(mut self, pause: &mut Duration) -> Result<(), String> {
        let mut chunk = vec![0; 16 * 1024];
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            if self.round.is_none() && !self.next_round().await? {
                return Ok(());
            }
            tokio::select! {
                read = self.conn.stream.read_some(&mut chunk) => match read {
                    Ok(0) => return Err("the server closed the connection".to_owned()),
                    Ok(n) => {
                        heard = Instant::now();
                        self.take(&chunk[..n], pause)?;
                    }
                    Err(error) => return Err(error.to_string()),
                },
                () = self.hub.work.notified(), if self.round.is_none() => {}
                _ = tick.tick() => {
                    self.check_place()?;
                    match self.round {
                        Some((_, since)) if since.elapsed() > PATIENCE => {
                            return Err(format!("no answer within {PATIENCE:?}"));
                        }
                        None if heard.elapsed() > SILENCE => self.hub.probe(),
                        _ => {}
                    }
                }
            }
        }
    }

    /// Begins a round trip if one is wanted. `false`: the connection was closed, as nobody listens any more.
    async fn next_round(&mut self) -> Result<bool, String> {
        let mut message = Vec::new();
        let goes_on = match self.hub.next(&mut self.listened) {
            Next::Nothing => return Ok(true),
            Next::Round(number, sql) => {
                self.round = Some((number, Instant::now()));
                build::query(&mut message, &sql);
                true
            }
            Next::End => {
                build::terminate(&mut message);
                false
            }
        };
        match timeout(PATIENCE, self.conn.stream.write_all(&message)).await {
            Ok(Ok(())) => Ok(goes_on),
            _ if !goes_on => Ok(false),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("nothing could be sent within {PATIENCE:?}")),
        }
    }

    fn take(&mut self, data: &[u8], pause: &mut Duration) -> Result<(), String> {
        self.carry.extend_from_slice(data);
        let mut walker = FrameWalker::new(&self.carry);
        while let Step::Whole(frame) = walker.step(backend_limit).map_err(|bad| bad.to_string())? {
            match frame.tag {
                b'A' => self.hub.deliver(frame.bytes),
                // A LISTEN that the server refuses, or the end of the connection.
                b'E' => return Err(ErrorNotice::decode(frame.body()).to_string()),
                b'Z' => {
                    let (number, _) = self.round.take().ok_or("an answer that was not asked for")?;
                    self.hub.ended(number);
                    *pause = FIRST_PAUSE;
                }
                _ => {}
            }
        }
        let done = walker.position();
        self.carry.drain(..done);
        Ok(())
    }

    /// After a reload, or when another node is the primary, another server is to be listened to.
    fn check_place(&self) -> Result<(), String> {
        let Some(ctx) = self.ctx.upgrade() else { return Err("the proxy is shutting down".to_owned()) };
        let now = ctx.directory.cluster(&self.hub.key.database).map_err(|unknown| unknown.to_string())?;
        if self.node.moves() != self.moves {
            return Err("the server's name leads elsewhere".to_owned());
        }
        if now.nodes.iter().any(|node| node.is_primary() && Arc::ptr_eq(&node.load, &self.node.load)) {
            return Ok(());
        }
        Err("the configuration, or the role of the server, has changed".to_owned())
    }
}
