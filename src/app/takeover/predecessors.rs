//! Processes that were taken over from and still serve their last clients.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Message, PROMPT, parse, send};
use crate::net::packets::Packets;
use crate::wire::startup::CancelKey;

/// The connections to them.
#[derive(Debug)]
pub struct Predecessors {
    links: Mutex<Vec<Arc<Link>>>,
    readers: Mutex<Vec<JoinHandle<()>>>,
    next: AtomicU64,
    /// How many have not ended.
    count: Arc<AtomicUsize>,
}

/// The connection to one of them.
#[derive(Debug)]
pub struct Link {
    packets: Packets,
    /// Cancel requests that it has not answered.
    pending: Mutex<HashMap<u64, oneshot::Sender<()>>>,
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.packets.as_fd()
    }
}

impl Predecessors {
    /// None yet. How many have not ended is told by `count`.
    pub fn counted_by(count: Arc<AtomicUsize>) -> Self {
        // Answers to a process that has handed its connections on must not be taken for answers to this one.
        let next = AtomicU64::new(fastrand::u64(..));
        Self { links: Mutex::default(), readers: Mutex::default(), next, count }
    }

    /// Adds connections and reads the answers, on the runtime of the calling task.
    pub fn follow(self: &Arc<Self>, links: impl IntoIterator<Item = Packets>) {
        for packets in links {
            let link = Arc::new(Link { packets, pending: Mutex::default() });
            self.links.lock().push(link.clone());
            self.count.fetch_add(1, Ordering::SeqCst);
            let all = self.clone();
            self.readers.lock().push(tokio::spawn(async move {
                link.read().await;
                all.count.fetch_sub(1, Ordering::SeqCst);
                all.links.lock().retain(|other| !Arc::ptr_eq(other, &link));
                tracing::info!("a process that was taken over from has ended");
            }));
        }
    }

    /// Those that have not ended.
    pub fn links(&self) -> Vec<Arc<Link>> {
        self.links.lock().clone()
    }

    /// Lets go of all: somebody else follows them now.
    pub fn leave(&self) {
        self.readers.lock().drain(..).for_each(|reader| reader.abort());
        for link in self.links.lock().drain(..) {
            // Its answers go elsewhere.
            link.pending.lock().clear();
        }
    }

    /// Passes a cancel request on to all, and waits until it has been delivered, for a bounded time.
    pub async fn cancel(&self, key: &CancelKey) {
        let deliveries = self.links().into_iter().map(|link| async move {
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            let (done, answered) = oneshot::channel();
            link.pending.lock().insert(id, done);
            let message = Message::Cancel { id, pid: key.pid, secret: key.secret.clone() };
            let delivery = async {
                if send(&link.packets, &message).await.is_ok() {
                    let _ = answered.await;
                }
            };
            if tokio::time::timeout(PROMPT, delivery).await.is_err() {
                tracing::warn!("a cancel request was not answered by the process that was taken over from");
            }
            link.pending.lock().remove(&id);
        });
        join_all(deliveries).await;
    }
}

impl Link {
    async fn read(&self) {
        while let Ok(Some(packet)) = self.packets.recv().await {
            if let Ok(Message::Done { id }) = parse(&packet) {
                // Nobody waits for it any more, if there is none.
                let waiting = self.pending.lock().remove(&id);
                waiting.map(|waiting| waiting.send(()));
            }
        }
        self.pending.lock().clear();
    }
}
