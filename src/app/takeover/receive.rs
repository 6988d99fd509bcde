//! The new process's side: getting the sockets.

use std::io;
use std::path::{Path, PathBuf};

use super::{Message, PROMPT, Passed, StandDown, TURN, TakeoverError, VERSION, next, send, unexpected};
use crate::net::Inherited;
use crate::net::packets::{PacketListener, Packets};

/// What a running process has offered. Dropped before [`Received::serve`], that one goes on.
#[derive(Debug)]
pub struct Received {
    path: PathBuf,
    link: Packets,
    pid: u32,
    listeners: Inherited,
    /// The takeover socket itself.
    takeover: PacketListener,
    older: Vec<Packets>,
}

impl Received {
    /// Asks the process that listens at this path for its sockets; `None` = there is none.
    ///
    /// # Errors
    /// There is one and it does not give them.
    pub async fn ask(path: &Path) -> Result<Option<Self>, TakeoverError> {
        let failed = |error: io::Error| TakeoverError { path: path.to_owned(), why: error.to_string() };
        let Some(link) = Packets::connect(path).map_err(failed)? else { return Ok(None) };
        match Self::negotiate(path, link).await {
            Ok(received) => {
                tracing::info!(pid = received.pid, "taking over");
                Ok(Some(received))
            }
            // It ended before it was this process's turn.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                ) =>
            {
                tracing::warn!("the process to take over from has ended meanwhile");
                Ok(None)
            }
            Err(error) => Err(failed(error)),
        }
    }

    async fn negotiate(path: &Path, link: Packets) -> io::Result<Self> {
        send(&link, &Message::Hello { version: VERSION }).await?;
        let (pid, kinds, packet) = match next(&link, TURN).await? {
            (Message::Offer { pid, sockets }, packet) if sockets.len() == packet.sockets.len() => {
                (pid, sockets, packet)
            }
            (Message::Refused { why }, _) => return Err(io::Error::other(why)),
            _ => return Err(unexpected()),
        };
        let (mut listeners, mut takeover, mut older) = (Inherited::default(), None, Vec::new());
        for (kind, socket) in kinds.into_iter().zip(packet.sockets) {
            match kind {
                Passed::Listener | Passed::ForeignListener => {
                    if !listeners.add(socket, kind == Passed::ForeignListener) {
                        return Err(io::Error::other("a socket that does not listen for streams"));
                    }
                }
                Passed::Takeover => takeover = Some(PacketListener::adopt(socket)?),
                Passed::Predecessor => older.push(Packets::new(socket)?),
            }
        }
        let takeover = takeover.ok_or_else(unexpected)?;
        Ok(Self { path: path.to_owned(), link, pid, listeners, takeover, older })
    }

    /// Tells the running process that this one is able to serve, waits until that one has stopped accepting, takes up what
    /// stands down for a switchover (`take_up`; what it returns is why this cannot be), and tells the service manager
    /// (`announce`) and that one that this one serves now. The connections are to the processes that have
    /// clients left; the listener is for who takes over next.
    ///
    /// # Errors
    /// The other process is gone, or does not answer in time: it goes on, if it can.
    pub async fn serve(
        self,
        take_up: impl FnOnce(Vec<StandDown>) -> Result<(), String>,
        announce: impl AsyncFnOnce(),
    ) -> Result<(PacketListener, Vec<Packets>), TakeoverError> {
        self.agree(take_up, announce)
            .await
            .map_err(|error| TakeoverError { path: self.path, why: error.to_string() })?;
        tracing::info!(pid = self.pid, "taken over");
        let mut links = self.older;
        links.push(self.link);
        Ok((self.takeover, links))
    }

    async fn agree(
        &self,
        take_up: impl FnOnce(Vec<StandDown>) -> Result<(), String>,
        announce: impl AsyncFnOnce(),
    ) -> io::Result<()> {
        send(&self.link, &Message::Ready).await?;
        let leaving = match next(&self.link, PROMPT).await?.0 {
            Message::Stopped { leaving } => leaving,
            Message::Refused { why } => return Err(io::Error::other(why)),
            _ => return Err(unexpected()),
        };
        take_up(leaving).map_err(io::Error::other)?;
        announce().await;
        send(&self.link, &Message::Serving).await
    }

    /// Its listening sockets; what is not used of them is to be closed once this process serves.
    pub fn take_listeners(&mut self) -> Inherited {
        std::mem::take(&mut self.listeners)
    }
}
