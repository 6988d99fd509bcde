//! A client that sends and reads exactly the frames that a test says. Blocking, with a time-out on
//! every read.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::frames::{Batch, Frame, tags};

/// The default time-out of a read.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The code of a CancelRequest packet.
const CANCEL: i32 = 80_877_102;
/// The code of an SSLRequest packet.
const SSL: i32 = 80_877_103;

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A connection as a client, before or after the login.
#[derive(Debug)]
pub struct RawClient {
    stream: Stream,
    /// What the server said during the login: parameters, in order.
    pub parameters: Vec<(String, String)>,
    /// Body of BackendKeyData: process id, then the secret key.
    pub key: Vec<u8>,
}

impl RawClient {
    /// Connects over TCP and sends nothing yet.
    pub fn tcp(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(Stream::Tcp(stream))
    }

    /// Connects to the Unix socket of this port in a directory and sends nothing yet.
    pub fn unix(dir: &Path, port: u16) -> Self {
        let path = dir.join(format!(".s.PGSQL.{port}"));
        Self::over(Stream::Unix(UnixStream::connect(path).unwrap()))
    }

    /// Connects over TLS: asks by SSLRequest, or starts at once when `direct`.
    ///
    /// # Errors
    /// The server answers `N`, or the handshake fails.
    pub fn tls(port: u16, name: &str, config: Arc<ClientConfig>, direct: bool) -> io::Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        if !direct {
            stream.write_all(&[8_i32.to_be_bytes(), SSL.to_be_bytes()].concat())?;
            let mut answer = [0];
            stream.read_exact(&mut answer)?;
            if answer != *b"S" {
                return Err(io::Error::other(format!("SSLRequest answered {answer:?}")));
            }
        }
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut tls = StreamOwned::new(connection, stream);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        Ok(Self::over(Stream::Tls(Box::new(tls))))
    }

    fn over(stream: Stream) -> Self {
        let mut client = Self { stream, parameters: Vec::new(), key: Vec::new() };
        client.set_timeout(PATIENCE);
        client
    }

    /// Connects over TCP and logs in.
    pub fn connect(port: u16, user: &str, password: &str, database: &str) -> Self {
        Self::connect_with(port, password, &[("user", user), ("database", database)])
    }

    /// Connects over TCP and logs in with these startup parameters.
    pub fn connect_with(port: u16, password: &str, parameters: &[(&str, &str)]) -> Self {
        let mut client = Self::tcp(port);
        client.login(password, parameters).unwrap_or_else(|frame| panic!("login failed: {frame:?}"));
        client
    }

    /// Sends the startup packet and logs in by whatever the server asks for.
    ///
    /// # Errors
    /// The server's ErrorResponse.
    pub fn login(&mut self, password: &str, parameters: &[(&str, &str)]) -> Result<(), Frame> {
        self.startup(parameters);
        let user = parameters.iter().find(|(key, _)| *key == "user").map_or("", |pair| pair.1);
        self.authenticate(user, password)?;
        loop {
            let frame = self.recv();
            match frame.tag {
                b'S' => {
                    let mut pair = frame.strings().into_iter();
                    self.parameters.push((pair.next().unwrap(), pair.next().unwrap_or_default()));
                }
                b'K' => self.key = frame.body,
                b'Z' => return Ok(()),
                b'E' => return Err(frame),
                _ => {}
            }
        }
    }

    /// Sends a protocol 3.0 startup packet.
    pub fn startup(&mut self, parameters: &[(&str, &str)]) {
        let mut bytes = BytesMut::new();
        frontend::startup_message(parameters.iter().copied(), &mut bytes).unwrap();
        self.send_bytes(&bytes);
    }

    /// Answers the server's authentication requests until AuthenticationOk.
    ///
    /// # Errors
    /// The server's ErrorResponse.
    pub fn authenticate(&mut self, user: &str, password: &str) -> Result<(), Frame> {
        let mut scram = None;
        loop {
            let frame = self.recv();
            match frame.tag {
                b'R' => {}
                b'E' => return Err(frame),
                b'N' | b'v' => continue,
                _ => panic!("in the middle of a login: {frame:?}"),
            }
            let (code, data) = frame.body.split_first_chunk::<4>().unwrap();
            let mut reply = BytesMut::new();
            match i32::from_be_bytes(*code) {
                0 => return Ok(()),
                3 => frontend::password_message(password.as_bytes(), &mut reply).unwrap(),
                5 => {
                    let salt = data[..4].try_into().unwrap();
                    let hash = md5_hash(user.as_bytes(), password.as_bytes(), salt);
                    frontend::password_message(hash.as_bytes(), &mut reply).unwrap();
                }
                10 => {
                    let binding = sasl::ChannelBinding::unsupported();
                    let exchange = sasl::ScramSha256::new(password.as_bytes(), binding);
                    let first = exchange.message();
                    frontend::sasl_initial_response("SCRAM-SHA-256", first, &mut reply).unwrap();
                    scram = Some(exchange);
                }
                11 => {
                    let exchange = scram.as_mut().unwrap();
                    exchange.update(data).unwrap();
                    frontend::sasl_response(exchange.message(), &mut reply).unwrap();
                }
                12 => scram.as_mut().unwrap().finish(data).unwrap(),
                other => panic!("authentication request {other}"),
            }
            if !reply.is_empty() {
                self.send_bytes(&reply);
            }
        }
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is gone, or nothing could be written within the time-out.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Sends messages in one write.
    pub fn send(&mut self, batch: &Batch) {
        self.send_bytes(batch.bytes());
    }

    /// Reads one frame.
    pub fn recv(&mut self) -> Frame {
        self.try_recv().unwrap_or_else(|error| panic!("no frame: {error}"))
    }

    /// Reads one frame.
    ///
    /// # Errors
    /// `UnexpectedEof` when the server closed, `WouldBlock` or `TimedOut` after the time-out.
    pub fn try_recv(&mut self) -> io::Result<Frame> {
        let mut header = [0; 5];
        self.read_exact(&mut header)?;
        let [tag, length @ ..] = header;
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
        self.read_exact(&mut body)?;
        Ok(Frame { tag, body })
    }

    /// Reads frames until `count` ReadyForQuery have come; they are the last of each part.
    pub fn recv_ready(&mut self, count: usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut left = count;
        while left > 0 {
            let frame = match self.try_recv() {
                Ok(frame) => frame,
                Err(error) => panic!("{error} after {frames:?}"),
            };
            left -= usize::from(frame.tag == b'Z');
            frames.push(frame);
        }
        frames
    }

    /// Reads so many frames.
    pub fn recv_frames(&mut self, count: usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        while frames.len() < count {
            match self.try_recv() {
                Ok(frame) => frames.push(frame),
                Err(error) => panic!("{error} after {frames:?}"),
            }
        }
        frames
    }

    /// Sends messages and reads up to the next ReadyForQuery.
    pub fn exchange(&mut self, batch: &Batch) -> Vec<Frame> {
        self.send(batch);
        self.recv_ready(1)
    }

    /// Runs a simple query and returns its rows; panics on an error.
    pub fn rows(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        let frames = self.exchange(&Batch::new().query(sql));
        assert!(!tags(&frames).contains('E'), "{sql}: {frames:?}");
        frames.iter().filter(|frame| frame.tag == b'D').map(Frame::columns).collect()
    }

    /// Runs a simple query that returns one value.
    pub fn value(&mut self, sql: &str) -> String {
        let mut rows = self.rows(sql);
        assert_eq!(rows.len(), 1, "{sql}");
        rows.remove(0).remove(0).unwrap_or_else(|| "NULL".to_owned())
    }

    /// Runs a simple query that fails, and returns its SQLSTATE.
    pub fn failure(&mut self, sql: &str) -> String {
        let frames = self.exchange(&Batch::new().query(sql));
        match frames.iter().find(|frame| frame.tag == b'E') {
            Some(frame) => frame.sqlstate(),
            None => panic!("{sql} did not fail: {frames:?}"),
        }
    }

    /// Whether the server closes the connection (whatever it sends before) within the time-out.
    pub fn is_closed(&mut self) -> bool {
        loop {
            match self.try_recv() {
                Ok(_) => {}
                Err(error) => {
                    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
                    return matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe);
                }
            }
        }
    }

    /// Whether nothing arrives for so long.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        self.set_timeout(time);
        let mut byte = [0];
        let heard = match &self.stream {
            Stream::Tcp(stream) => stream.peek(&mut byte).map(drop),
            _ => self.read_exact(&mut byte),
        };
        let silent = match heard {
            Ok(()) => false,
            Err(error) => {
                matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
            }
        };
        self.set_timeout(PATIENCE);
        silent
    }

    /// The value of a parameter that the server reported at login.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self.parameters.iter().rev();
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Sends a CancelRequest with this client's key over a new TCP connection and waits until the
    /// server has closed that.
    pub fn cancel(&self, port: u16) {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let length = i32::try_from(self.key.len() + 8).unwrap();
        let head = [length.to_be_bytes(), CANCEL.to_be_bytes()].concat();
        stream.write_all(&[&head, self.key.as_slice()].concat()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "a cancel request is never answered: {rest:?}");
    }

    /// A second handle of the socket, to write while this one reads; plain TCP only.
    pub fn writer(&self) -> TcpStream {
        match &self.stream {
            Stream::Tcp(stream) => stream.try_clone().unwrap(),
            other => panic!("no plain TCP: {other:?}"),
        }
    }

    /// Closes the connection at once, with no Terminate.
    pub fn vanish(self) {
        match self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both).unwrap(),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both).unwrap(),
            Stream::Tls(stream) => stream.sock.shutdown(Shutdown::Both).unwrap(),
        }
    }

    /// Closes a TCP connection by a reset, in which what the server has not read yet is lost.
    pub fn reset(self) {
        match &self.stream {
            Stream::Tcp(stream) => socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap(),
            other => panic!("no plain TCP: {other:?}"),
        }
    }

    /// Changes the time-out of reads and writes.
    pub fn set_timeout(&mut self, time: Duration) {
        let time = Some(time);
        match &self.stream {
            Stream::Unix(stream) => stream.set_read_timeout(time).and_then(|()| stream.set_write_timeout(time)),
            Stream::Tcp(stream) => stream.set_read_timeout(time).and_then(|()| stream.set_write_timeout(time)),
            Stream::Tls(tls) => tls.sock.set_read_timeout(time).and_then(|()| tls.sock.set_write_timeout(time)),
        }
        .unwrap();
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.read_exact(buf),
            Stream::Unix(stream) => stream.read_exact(buf),
            Stream::Tls(stream) => stream.read_exact(buf),
        }
    }
}
