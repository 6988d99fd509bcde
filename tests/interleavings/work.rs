//! A server connection at work: what arrives is judged, what is answered goes out in pieces, and at any of these points it may break.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use super::engine::Engine;
use super::ledger::Ledger;
use super::server::{Handle, error, message};
use super::statement::Mark;

/// A COPY that reads.
pub struct Copying {
    pub rows: usize,
    pub simple: bool,
}

/// A server connection at work.
pub struct Work {
    pub engine: Engine,
    pub handle: Arc<Handle>,
    pub rng: Rng,
    pub stream: TcpStream,
    /// What has arrived and is no whole message yet.
    pub raw: Vec<u8>,
    /// Messages that have arrived.
    pub queue: VecDeque<(u8, Vec<u8>)>,
    /// What is still to be written.
    pub out: Vec<u8>,
    /// An error came: nothing counts up to the next Sync.
    pub is_skipping: bool,
    pub in_segment: bool,
    pub copy: Option<Copying>,
}

/// The connection is closed on purpose.
pub fn closed(why: &'static str) -> io::Error {
    io::Error::other(why)
}

impl Work {
    pub fn ledger(&self) -> &Ledger {
        &self.engine.ledger
    }

    pub fn put(&mut self, tag: u8, body: &[u8]) {
        self.out.extend(message(tag, body));
    }

    /// Splits what has arrived into messages and judges them.
    pub fn arrived(&mut self) {
        while let [tag, a, b, c, d, ..] = self.raw[..] {
            let end = 1 + u32::from_be_bytes([a, b, c, d]) as usize;
            if self.raw.len() < end {
                return;
            }
            let body = self.raw[5..end].to_vec();
            self.raw.drain(..end);
            self.judge(tag, &body);
            self.queue.push_back((tag, body));
        }
    }

    /// Whoever has begun something here has the connection until it is over.
    pub fn judge(&self, tag: u8, body: &[u8]) {
        let conn = self.engine.conn;
        let shown: String =
            String::from_utf8_lossy(body).chars().map(|c| if c < ' ' { '.' } else { c }).take(90).collect();
        self.ledger().note(format!("s{conn} <- {} {shown}", char::from(tag)));
        for mark in Mark::all_in(body) {
            let mut owner = self.handle.owner.lock().unwrap();
            let before = *owner.get_or_insert(mark.session);
            drop(owner);
            if before != mark.session && self.engine.refused_settings {
                self.ledger().violation(format!("s{conn} was sent {mark}, and has refused the settings of c{before}"));
            } else if before != mark.session {
                let status = char::from(self.engine.status);
                self.ledger().violation(format!("s{conn} was sent {mark} while c{before} has it (status {status})"));
            }
        }
    }

    /// Reads what comes until then.
    pub async fn pause(&mut self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        let mut buffer = [0; 4096];
        loop {
            match timeout_at(until, self.stream.read(&mut buffer)).await {
                Ok(Ok(read)) if read > 0 => {
                    self.raw.extend_from_slice(&buffer[..read]);
                    self.arrived();
                }
                // A server that is busy does not notice that nobody listens any more.
                Ok(_) => return tokio::time::sleep_until(until).await,
                Err(_) => return,
            }
        }
    }

    pub async fn next(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = self.queue.pop_front() {
                return Ok(message);
            }
            let read = self.stream.read(&mut buffer).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.raw.extend_from_slice(&buffer[..read]);
            self.arrived();
        }
    }

    /// Writes what is to be written, in pieces.
    pub async fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.out);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let whole = self.ledger().is_calm() || self.rng.u8(0..3) > 0;
            let (piece, tail) = rest.split_at(if whole { rest.len() } else { self.rng.usize(1..=rest.len()) });
            self.stream.write_all(piece).await?;
            rest = tail;
            if !rest.is_empty() {
                let time = Duration::from_micros(self.rng.u64(0..3000));
                self.pause(time).await;
            }
        }
        Ok(())
    }

    pub async fn run(&mut self) -> io::Result<()> {
        loop {
            if self.queue.is_empty() && !self.ledger().is_calm() && self.rng.u16(0..1500) == 0 {
                self.ledger().count("closed idle");
                return Err(closed("closed between messages"));
            }
            let (tag, body) = self.next().await?;
            match tag {
                b'X' => return Ok(()),
                b'Q' if self.copy.is_none() && !self.is_skipping => self.query(&body).await?,
                b'd' | b'c' | b'f' => self.copy_message(tag).await?,
                b'H' => self.flush().await?,
                // In the middle of a COPY it is ignored.
                b'S' if self.copy.is_none() => {
                    self.is_skipping = false;
                    self.in_segment = false;
                    self.ready(true).await?;
                }
                b'S' => {}
                _ if self.copy.is_some() => {
                    let conn = self.engine.conn;
                    self.ledger().violation(format!("s{conn} was sent {} within a COPY", char::from(tag)));
                    return Err(closed("protocol"));
                }
                _ if self.is_skipping => {}
                _ => {
                    self.in_segment = true;
                    if let Err(code) = self.extended(tag, &body).await? {
                        self.out.extend(error("ERROR", code));
                        self.is_skipping = true;
                    }
                    if self.rng.u8(0..3) == 0 {
                        self.flush().await?;
                    }
                }
            }
        }
    }

    /// The end of a Query or segment: what no block holds is committed, and that is told; or something happens instead.
    pub async fn ready(&mut self, implicit: bool) -> io::Result<()> {
        if implicit && self.engine.status == b'I' && self.engine.has_pending() {
            match self.draw(120) {
                0 => return Err(closed("closed before the commit")),
                1 => {
                    self.engine.end_implicit();
                    self.ledger().count("commit unheard");
                    return Err(closed("closed after the commit"));
                }
                _ => {}
            }
        }
        self.engine.end_implicit();
        let status = self.engine.status;
        self.put(b'Z', &[status]);
        match self.draw(400) {
            0 => {
                self.out.truncate(self.rng.usize(0..self.out.len()));
                self.flush().await?;
                return Err(closed("closed within an answer"));
            }
            1 => {
                self.flush().await?;
                return Err(closed("closed after an answer"));
            }
            _ => {}
        }
        self.flush().await?;
        self.rest();
        Ok(())
    }

    /// Everything is answered: the connection is nobody's. What comes behind a COPY that was refused is ignored, as a Flush of nothing is.
    pub fn rest(&mut self) {
        let ignored = if self.in_segment { &b"dcf"[..] } else { b"dcfH" };
        while self.copy.is_none() && self.queue.front().is_some_and(|(tag, _)| ignored.contains(tag)) {
            self.queue.pop_front();
        }
        let is_open = self.in_segment || self.copy.is_some() || self.engine.status != b'I';
        let is_done = !is_open && self.queue.is_empty() && self.raw.is_empty();
        if is_done && !self.engine.refused_settings {
            *self.handle.owner.lock().unwrap() = None;
        }
    }

    /// A number below this; a high one when nothing odd is to happen any more.
    pub fn draw(&mut self, below: u32) -> u32 {
        if self.ledger().is_calm() { u32::MAX } else { self.rng.u32(0..below) }
    }
}
