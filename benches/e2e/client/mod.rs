//! A blocking client that costs as little as can be: what is measured is the proxy.

mod login;
mod stream;

use std::io::{Read, Write};
use std::ops::Range;
use std::sync::Arc;

use rustls::ClientConfig;
use trunkline::wire::frame::{FrameWalker, HEADER, LARGE_LIMIT, Step};

use super::support::frames::{Batch, Frame};
pub use login::Keys;
use stream::Stream;

/// Where to log in, and as whom.
#[derive(Debug)]
pub struct Target<'a> {
    /// On 127.0.0.1.
    pub port: u16,
    /// Name of the role.
    pub user: &'a str,
    /// Name of the database.
    pub database: &'a str,
    /// The role's password.
    pub keys: &'a Keys,
    /// The name that the certificate must have, and who is trusted; `None` = no TLS.
    pub tls: Option<(&'static str, Arc<ClientConfig>)>,
}

/// Something went wrong: in words.
pub type Failed = String;

/// A connection that is logged in.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    /// Bytes of the server that have been read; those in `unread` have not been looked at.
    buffer: Vec<u8>,
    unread: Range<usize>,
}

impl Client {
    /// Connects and logs in. The buffer, in bytes, is the most that one read gets; it grows for frames that are larger.
    ///
    /// # Errors
    /// No connection, or the login was refused.
    pub fn connect(target: &Target<'_>, buffer: usize) -> Result<Self, Failed> {
        let stream = Stream::connect(target).map_err(|error| format!("connecting: {error}"))?;
        let mut client = Self { stream, buffer: vec![0; buffer], unread: 0..0 };
        client.log_in(target)?;
        Ok(client)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).map_err(|error| format!("sending: {error}"))
    }

    /// Sends messages and reads up to the next ReadyForQuery: how many bytes came.
    ///
    /// # Errors
    /// What the server said, or the connection is gone.
    pub fn exchange(&mut self, messages: &Batch) -> Result<u64, Failed> {
        self.send(messages.bytes())?;
        self.until(b'Z')
    }

    /// Reads up to the end of the next frame of this type, or to ReadyForQuery: how many bytes came.
    ///
    /// # Errors
    /// What the server said, or the connection is gone, or ReadyForQuery came without that frame.
    pub fn until(&mut self, wanted: u8) -> Result<u64, Failed> {
        let (mut bytes, mut failed) = (0, None);
        loop {
            let (tag, body) = match self.frame() {
                Ok(frame) => frame,
                Err(error) => return Err(failed.unwrap_or(error)),
            };
            bytes += (HEADER + body.len()) as u64;
            match tag {
                b'E' => failed = Some(self.error(body)),
                b'Z' if failed.is_none() && wanted != b'Z' => return Err("ready too early".to_owned()),
                tag if tag == b'Z' || tag == wanted => return failed.map_or(Ok(bytes), Err),
                _ => {}
            }
        }
    }

    /// Says goodbye and closes.
    pub fn leave(mut self) {
        let _ = self.send(Batch::new().terminate().bytes());
    }

    /// The next frame: its type, and where in the buffer its body is until the next call.
    fn frame(&mut self) -> Result<(u8, Range<usize>), Failed> {
        loop {
            let start = self.unread.start;
            let mut walker = FrameWalker::new(&self.buffer[self.unread.clone()]);
            let missing = match walker.step(|_| LARGE_LIMIT).map_err(|error| error.to_string())? {
                Step::Whole(frame) => {
                    let end = start + frame.bytes.len();
                    let tag = frame.tag;
                    self.unread.start = end;
                    return Ok((tag, start + HEADER..end));
                }
                Step::Partial { frame_len, .. } => frame_len,
                Step::End => HEADER,
            };
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
            if self.buffer.len() < missing {
                self.buffer.resize(missing, 0);
            }
            match self.stream.read(&mut self.buffer[self.unread.end..]) {
                Ok(0) => return Err("the connection was closed".to_owned()),
                Ok(count) => self.unread.end += count,
                Err(error) => return Err(format!("receiving: {error}")),
            }
        }
    }

    /// The text of an ErrorResponse.
    fn error(&self, body: Range<usize>) -> Failed {
        format!("{:?}", Frame { tag: b'E', body: self.buffer[body].to_vec() })
    }
}
