//! Restarting without a gap: a starting process takes the listening sockets over from the running one.
//!
//! Both talk through the socket of `general.takeover_socket`, in whole messages. The new one says [`Message::Hello`] and gets
//! [`Message::Offer`] with the sockets; when it is able to serve, it says [`Message::Ready`]. The old one stops accepting
//! ([`Message::Stopped`]; who connects now waits in the kernel's queue), the new one takes up what stands down for a switchover and starts
//! ([`Message::Serving`]), and only then does the old one begin to drain. Whatever goes wrong before leaves the old one serving.
//!
//! The connection stays for as long as the old process lives: cancel requests for its clients now arrive at the new one
//! ([`Message::Cancel`]). Who takes over from a process gets its connections to older ones, too.

mod offer;
mod predecessors;
mod receive;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::net::packets::{Packet, PacketListener, Packets};

pub use offer::{Offering, serve_cancels};
pub use predecessors::Predecessors;
pub use receive::Received;

/// Version of the messages. Processes that do not speak the same one do not take over from each other.
const VERSION: u32 = 2;
/// How long a process may take for its next message when it has nothing to do but to send it.
const PROMPT: Duration = Duration::from_secs(5);
/// How long a process may take between getting the sockets and being able to serve.
const PREPARATION: Duration = Duration::from_secs(60);
/// How long a starting process waits for its turn: another one may be taking over at this moment.
const TURN: Duration = Duration::from_secs(90);

/// Why a process could not take over.
#[derive(Debug, thiserror::Error)]
#[error("cannot take over by {path}: {why}", path = path.display())]
pub struct TakeoverError {
    /// The socket.
    path: PathBuf,
    /// For people.
    why: String,
}

/// What is said. No `Debug`: a cancel key is a secret.
#[derive(Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
enum Message {
    /// New to old: a process that wants to take over.
    Hello { version: u32 },
    /// Old to new: not possible.
    Refused { why: String },
    /// Old to new: what the sockets are that come along, in order.
    Offer { pid: u32, sockets: Vec<Passed> },
    /// New to old: everything is prepared.
    Ready,
    /// Old to new: accepts nobody any more. These nodes have stood down for a switchover, and nothing was promoted yet.
    Stopped { leaving: Vec<StandDown> },
    /// New to old: serves from now on. The last word of the takeover.
    Serving,
    /// New to old: somebody wants to cancel what the client with this key runs.
    Cancel { id: u64, pid: u32, secret: Vec<u8> },
    /// Old to new: that has been done, if there is such a client.
    Done { id: u64 },
}

/// A node that has stood down for a switchover: whoever takes over must not write there, either.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandDown {
    /// Its database.
    pub database: String,
    /// Its name.
    pub node: String,
}

/// What a socket is that is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Passed {
    /// Listens, for clients or for the metrics.
    Listener,
    /// The same, of the service manager.
    ForeignListener,
    /// Listens for processes that take over.
    Takeover,
    /// A connection to a process that was taken over from earlier and has not ended.
    Predecessor,
}

/// Listens for processes that take over from this one. Nobody else may live at this path ([`Received::ask`]).
///
/// # Errors
/// The system refuses.
pub fn listen(path: &Path) -> Result<PacketListener, TakeoverError> {
    PacketListener::bind(path).map_err(|error| TakeoverError { path: path.to_owned(), why: error.to_string() })
}

async fn send(link: &Packets, message: &Message) -> io::Result<()> {
    link.send(&serde_json::to_vec(message).map_err(io::Error::other)?, &[]).await
}

fn parse(packet: &Packet) -> io::Result<Message> {
    // What the parser would say might hold part of a message.
    serde_json::from_slice(&packet.bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a known message"))
}

/// The next message within this time.
async fn next(link: &Packets, limit: Duration) -> io::Result<(Message, Packet)> {
    let packet =
        tokio::time::timeout(limit, link.recv()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let packet = packet.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the other process has closed"))?;
    Ok((parse(&packet)?, packet))
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message out of turn")
}
