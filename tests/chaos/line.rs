//! A client's connection that may break at any moment: nothing here panics because of what comes, or does not.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use crate::support::clusters::APP;
use crate::support::frames::{Batch, Frame};

/// Whoever hears nothing for so long counts as forgotten: longer than `wait_timeout` and every fault together.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A connection as [`APP`] to the database `app`, without a password.
pub struct Line {
    stream: BufReader<TcpStream>,
    port: u16,
    /// Body of BackendKeyData.
    key: Vec<u8>,
}

/// What came until the last ReadyForQuery that was waited for, or until the connection was lost.
pub struct Answer {
    pub frames: Vec<Frame>,
    /// Why no more came.
    pub lost: Option<io::ErrorKind>,
}

impl Answer {
    /// The first error.
    pub fn error(&self) -> Option<&Frame> {
        self.frames.iter().find(|frame| frame.tag == b'E')
    }

    /// Why it is not a success: the SQLSTATE, or what became of the connection.
    pub fn failure(&self) -> Option<String> {
        match (self.error(), self.lost) {
            (Some(frame), _) => Some(frame.sqlstate()),
            (None, Some(kind)) => Some(format!("{kind:?}")),
            (None, None) => None,
        }
    }

    /// Whether the connection can't be used any more.
    pub fn is_last(&self) -> bool {
        self.lost.is_some()
    }

    /// Whether nothing was heard for too long.
    pub fn is_hang(&self) -> bool {
        matches!(self.lost, Some(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }

    /// Whether a statement ended with this tag.
    pub fn completed(&self, tag: &str) -> bool {
        self.frames.iter().any(|frame| frame.tag == b'C' && frame.strings()[0] == tag)
    }

    /// The rows.
    pub fn rows(&self) -> impl Iterator<Item = Vec<String>> {
        let rows = self.frames.iter().filter(|frame| frame.tag == b'D');
        rows.map(|row| row.columns().into_iter().map(Option::unwrap_or_default).collect())
    }
}

impl Line {
    /// Connects and logs in.
    pub fn open(port: u16, name: &str, level: &str) -> Result<Self, Answer> {
        let gone = |error: &io::Error| Answer { frames: Vec::new(), lost: Some(error.kind()) };
        let connect = || {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let mut bytes = BytesMut::new();
            let options = format!("-c app.who={name} -c trunkline.consistency={level}");
            let parameters =
                [("user", APP), ("database", "app"), ("application_name", name), ("options", options.as_str())];
            frontend::startup_message(parameters, &mut bytes)?;
            let mut line = Self { stream: BufReader::new(stream), port, key: Vec::new() };
            line.stream.get_mut().write_all(&bytes)?;
            Ok(line)
        };
        let mut line = connect().map_err(|error: io::Error| gone(&error))?;
        let answer = line.answer(1);
        if answer.failure().is_some() {
            return Err(answer);
        }
        line.key =
            answer.frames.into_iter().find(|frame| frame.tag == b'K').map(|frame| frame.body).unwrap_or_default();
        Ok(line)
    }

    /// Sends messages and reads until they are answered.
    pub fn exchange(&mut self, batch: &Batch) -> Answer {
        // What the server said last may be there, though nothing can be sent any more.
        let _ = self.stream.get_mut().write_all(batch.bytes());
        self.answer(batch.readies())
    }

    /// Sends messages, has them cancelled after a while, and reads until they are answered.
    pub fn exchange_and_cancel(&mut self, batch: &Batch, after: Duration) -> Answer {
        let _ = self.stream.get_mut().write_all(batch.bytes());
        std::thread::sleep(after);
        let _ = self.cancel();
        self.answer(batch.readies())
    }

    /// A CancelRequest; returns when it has been dealt with.
    fn cancel(&self) -> io::Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let length = u32::try_from(self.key.len() + 8).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), &self.key].concat())?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }

    /// Sends messages and is gone.
    pub fn vanish(mut self, batch: &Batch) {
        let _ = self.stream.get_mut().write_all(batch.bytes());
    }

    /// Runs a Query.
    pub fn query(&mut self, sql: &str) -> Answer {
        self.exchange(&Batch::new().query(sql))
    }

    /// Says goodbye.
    pub fn close(mut self) {
        let _ = self.stream.get_mut().write_all(Batch::new().terminate().bytes());
    }

    fn answer(&mut self, readies: usize) -> Answer {
        let mut answer = Answer { frames: Vec::new(), lost: None };
        let mut left = readies;
        while left > 0 {
            match self.frame() {
                Ok(frame) => {
                    left -= usize::from(frame.tag == b'Z');
                    answer.frames.push(frame);
                }
                Err(error) => {
                    answer.lost = Some(error.kind());
                    break;
                }
            }
        }
        answer
    }

    fn frame(&mut self) -> io::Result<Frame> {
        let mut header = [0; 5];
        self.stream.read_exact(&mut header)?;
        let [tag, length @ ..] = header;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(0);
        if !(4..1 << 24).contains(&length) || !tag.is_ascii_alphanumeric() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no frame of the protocol"));
        }
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body)?;
        Ok(Frame { tag, body })
    }
}
