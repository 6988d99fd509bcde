//! The old process's side: giving its sockets away.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};

use super::{Message, PREPARATION, PROMPT, Passed, Predecessors, StandDown, VERSION, next, parse, send, unexpected};
use crate::app::doors::Doors;
use crate::app::front::Front;
use crate::net::packets::{PacketListener, Packets};
use crate::session::{self, Clients};
use crate::wire::startup::CancelKey;

/// Most cancel requests on their way at once; more of them wait.
const MOST_CANCELS: usize = 256;

/// A successor that serves: the connection to it.
#[derive(Debug)]
pub struct Handed(Packets);

/// Waits for a successor, and removes the socket's file unless there has been one.
#[derive(Debug)]
pub struct Offering {
    task: Option<JoinHandle<Handed>>,
    path: Option<PathBuf>,
}

impl Offering {
    /// Nobody can take over.
    pub fn none() -> Self {
        Self { task: None, path: None }
    }

    /// Starts to wait for a successor.
    pub fn start(listener: PacketListener, path: &Path, doors: Arc<Mutex<Doors>>, front: Arc<Front>) -> Self {
        let task = tokio::spawn(wait(listener, doors, front));
        Self { task: Some(task), path: Some(path.to_owned()) }
    }

    /// Waits until a successor serves. Cancel-safe.
    pub async fn handed(&mut self) -> Handed {
        if let Some(task) = &mut self.task
            && let Ok(handed) = task.await
        {
            (self.task, self.path) = (None, None);
            return handed;
        }
        // Polled no more; a task that panicked has said so.
        self.task = None;
        std::future::pending().await
    }
}

impl Drop for Offering {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        if let Some(path) = &self.path {
            // Gone already is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn wait(listener: PacketListener, doors: Arc<Mutex<Doors>>, front: Arc<Front>) -> Handed {
    loop {
        // One after the other: who comes meanwhile waits in the socket's queue, which the successor inherits.
        let link = match listener.accept().await {
            Ok(link) => link,
            Err(error) => {
                tracing::warn!(%error, "a connection to the takeover socket was refused");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        match hand_over(&link, &listener, &doors, &front).await {
            Ok(()) => return Handed(link),
            Err(error) => {
                front.ctx.succeeded.store(false, Ordering::SeqCst);
                doors.lock().await.open();
                tracing::warn!(%error, "a process did not take over; this one goes on");
            }
        }
    }
}

async fn hand_over(link: &Packets, listener: &PacketListener, doors: &Mutex<Doors>, front: &Front) -> io::Result<()> {
    let Message::Hello { version } = next(link, PROMPT).await?.0 else { return Err(unexpected()) };
    if version != VERSION {
        let why = format!("the running process speaks version {VERSION} of the takeover, not {version}");
        return Err(refuse(link, why).await);
    }
    stand_downs(link, front).await?;
    offer(link, listener, doors, &front.predecessors).await?;
    let Message::Ready = next(link, PREPARATION).await?.0 else { return Err(unexpected()) };
    // From now on none begins or is given up here.
    front.ctx.succeeded.store(true, Ordering::SeqCst);
    let leaving = stand_downs(link, front).await?;
    doors.lock().await.shut().await;
    send(link, &Message::Stopped { leaving }).await?;
    let Message::Serving = next(link, PROMPT).await?.0 else { return Err(unexpected()) };
    // Their files are the successor's from now on.
    doors.lock().await.give_up();
    Ok(())
}

/// Tells why not, and returns it.
async fn refuse(link: &Packets, why: String) -> io::Error {
    match send(link, &Message::Refused { why: why.clone() }).await {
        Ok(()) => io::Error::other(why),
        Err(error) => error,
    }
}

/// The nodes that stand down until a replica is promoted: a successor that did not know of them would write there, and lose that.
///
/// # Errors
/// For one of them that is still waited for: who waits would be sent away with this process's clients, and it would be given up here alone.
async fn stand_downs(link: &Packets, front: &Front) -> io::Result<Vec<StandDown>> {
    let clusters = front.ctx.directory.clusters();
    let all = clusters.values().filter_map(|cluster| Some((cluster.database.name.clone(), cluster.leaving()?)));
    let (done, under_way): (Vec<_>, Vec<_>) = all.partition(|(_, leaving)| leaving.is_done);
    drop(clusters);
    match under_way.first() {
        None => Ok(done.into_iter().map(|(database, leaving)| StandDown { database, node: leaving.node }).collect()),
        Some((database, leaving)) => {
            let node = &leaving.node;
            let why = format!("a switchover of database {database} is under way, for which {node} stands down");
            Err(refuse(link, why).await)
        }
    }
}

async fn offer(
    link: &Packets,
    listener: &PacketListener,
    doors: &Mutex<Doors>,
    predecessors: &Predecessors,
) -> io::Result<()> {
    let doors = doors.lock().await;
    let older = predecessors.links();
    let mut sockets: Vec<(Passed, BorrowedFd<'_>)> = vec![(Passed::Takeover, listener.as_fd())];
    for (socket, foreign) in doors.sockets() {
        sockets.push((if foreign { Passed::ForeignListener } else { Passed::Listener }, socket));
    }
    sockets.extend(older.iter().map(|link| (Passed::Predecessor, link.as_fd())));
    let (kinds, sockets): (Vec<Passed>, Vec<BorrowedFd<'_>>) = sockets.into_iter().unzip();
    let message = Message::Offer { pid: std::process::id(), sockets: kinds };
    let bytes = serde_json::to_vec(&message).map_err(io::Error::other)?;
    tokio::time::timeout(PROMPT, link.send(&bytes, &sockets)).await?
}

/// Serves cancel requests that the successor passes on, until it closes or this process ends.
pub async fn serve_cancels(successor: Handed, clients: Arc<Clients>) {
    let link = Arc::new(successor.0);
    let mut cancels = JoinSet::new();
    while let Ok(Some(packet)) = link.recv().await {
        while cancels.try_join_next().is_some() {}
        if cancels.len() >= MOST_CANCELS {
            cancels.join_next().await;
        }
        let Ok(Message::Cancel { id, pid, secret }) = parse(&packet) else {
            tracing::warn!("the successor sent something that is no cancel request");
            continue;
        };
        let (link, clients) = (link.clone(), clients.clone());
        cancels.spawn(async move {
            session::cancel(&clients, &CancelKey { pid, secret }).await;
            // Nobody waits for it any more, then.
            let _ = send(&link, &Message::Done { id }).await;
        });
    }
}
