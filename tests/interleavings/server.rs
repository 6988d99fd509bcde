//! A scripted server: it speaks the protocol as PostgreSQL does, at its own pace, and fails at random. It judges what it is sent when
//! it arrives, also while it is still busy with what came before.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout_at;

use super::QUERY_TIMEOUT;
use super::engine::{Engine, Portal};
use super::ledger::Ledger;
use super::statement::{Kind, Mark};
use super::support::frames::Batch;

const CANCEL: u32 = 80_877_102;

/// How others reach a connection.
#[derive(Debug, Default)]
struct Handle {
    conn: u32,
    /// The session whose work is under way.
    owner: Mutex<Option<u32>>,
    /// A statement is running that can be cancelled.
    running: Mutex<bool>,
    cancel: Notify,
}

/// One server, a primary or not.
#[derive(Debug)]
pub struct Server {
    node: &'static str,
    ledger: Arc<Ledger>,
    seed: u64,
    handles: Mutex<HashMap<Vec<u8>, Arc<Handle>>>,
}

/// Starts one in the present runtime and returns its port.
pub async fn start(node: &'static str, ledger: Arc<Ledger>, seed: u64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Arc::new(Server { node, ledger, seed, handles: Mutex::default() });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Whoever leaves in the middle has left.
            let server = server.clone();
            tokio::spawn(async move { drop(server.serve(stream).await) });
        }
    });
    port
}

impl Server {
    async fn serve(self: Arc<Self>, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let length = stream.read_u32().await?;
        let mut packet = vec![0; length as usize - 4];
        stream.read_exact(&mut packet).await?;
        let (code, rest) = packet.split_first_chunk::<4>().unwrap();
        match u32::from_be_bytes(*code) {
            CANCEL => {
                self.cancel(rest);
                Ok(())
            }
            // SSLRequest: a health check.
            code if code & 0xffff_0000 == 0x04d2_0000 => stream.write_all(b"N").await,
            _ => self.session(stream).await,
        }
    }

    /// A cancel request is judged: it must be for whoever has the connection now, and there must be a reason.
    fn cancel(&self, key: &[u8]) {
        let Some(handle) = self.handles.lock().unwrap().get(key).cloned() else { return };
        let owner = *handle.owner.lock().unwrap();
        let running = *handle.running.lock().unwrap();
        self.ledger.note(format!("s{} is cancelled, running: {running}, owner: {owner:?}", handle.conn));
        if let Some(session) = owner {
            let presence = self.ledger.presence(session);
            let is_late = presence.busy_since.is_some_and(|since| since.elapsed() >= QUERY_TIMEOUT.mul_f32(0.8));
            if !presence.asked_cancel && !presence.gone && !is_late {
                self.ledger.violation(format!("s{} was cancelled under c{session}, which did not ask", handle.conn));
            }
        }
        if running {
            self.ledger.count("cancelled");
            handle.cancel.notify_one();
        }
    }

    async fn session(self: Arc<Self>, mut stream: TcpStream) -> io::Result<()> {
        let conn = self.ledger.next_conn();
        let mut rng = Rng::with_seed(self.seed ^ (u64::from(conn) << 20));
        if !self.ledger.is_calm() {
            tokio::time::sleep(Duration::from_millis(rng.u64(0..15))).await;
            match rng.u8(0..60) {
                0 => return Ok(()),
                1 => return stream.write_all(&error("FATAL", "53300")).await,
                _ => {}
            }
        }
        let key = [&conn.to_be_bytes()[..], &rng.u32(..).to_be_bytes()].concat();
        let hot_standby = if self.node == "primary" { "off" } else { "on" };
        let parameters = [
            ("server_version", "16.4"),
            ("client_encoding", "UTF8"),
            ("standard_conforming_strings", "on"),
            ("in_hot_standby", hot_standby),
            ("TimeZone", "UTC"),
        ];
        let mut greeting = message(b'R', &[0; 4]);
        for (name, value) in parameters {
            greeting.extend(message(b'S', format!("{name}\0{value}\0").as_bytes()));
        }
        greeting.extend(message(b'K', &key));
        greeting.extend(message(b'Z', b"I"));
        let handle = Arc::new(Handle { conn, ..Handle::default() });
        self.handles.lock().unwrap().insert(key.clone(), handle.clone());
        stream.write_all(&greeting).await?;
        self.ledger.note(format!("s{conn} opened on {}", self.node));
        let engine = Engine::new(conn, self.node, self.ledger.clone());
        let mut work = Work {
            engine,
            handle,
            rng,
            stream,
            raw: Vec::new(),
            queue: VecDeque::new(),
            out: Vec::new(),
            is_skipping: false,
            in_segment: false,
            copy: None,
        };
        let ended = work.run().await;
        work.engine.lose();
        self.ledger.note(format!("s{conn} ended: {ended:?}"));
        self.handles.lock().unwrap().remove(&key);
        ended
    }
}

/// A message of the protocol.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    Batch::new().raw(tag, body).bytes().to_vec()
}

fn error(severity: &str, code: &str) -> Vec<u8> {
    message(b'E', format!("S{severity}\0V{severity}\0C{code}\0Mscripted\0\0").as_bytes())
}

/// A COPY that reads.
struct Copying {
    rows: usize,
    simple: bool,
}

/// A server connection at work.
struct Work {
    engine: Engine,
    handle: Arc<Handle>,
    rng: Rng,
    stream: TcpStream,
    /// What has arrived and is no whole message yet.
    raw: Vec<u8>,
    /// Messages that have arrived.
    queue: VecDeque<(u8, Vec<u8>)>,
    /// What is still to be written.
    out: Vec<u8>,
    /// An error came: nothing counts up to the next Sync.
    is_skipping: bool,
    in_segment: bool,
    copy: Option<Copying>,
}

/// The connection is closed on purpose.
fn closed(why: &'static str) -> io::Error {
    io::Error::other(why)
}

impl Work {
    fn ledger(&self) -> &Ledger {
        &self.engine.ledger
    }

    fn put(&mut self, tag: u8, body: &[u8]) {
        self.out.extend(message(tag, body));
    }

    /// Splits what has arrived into messages and judges them.
    fn arrived(&mut self) {
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
    fn judge(&self, tag: u8, body: &[u8]) {
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
    async fn pause(&mut self, time: Duration) {
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

    async fn next(&mut self) -> io::Result<(u8, Vec<u8>)> {
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
    async fn flush(&mut self) -> io::Result<()> {
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

    async fn run(&mut self) -> io::Result<()> {
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
    async fn ready(&mut self, implicit: bool) -> io::Result<()> {
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
    fn rest(&mut self) {
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
    fn draw(&mut self, below: u32) -> u32 {
        if self.ledger().is_calm() { u32::MAX } else { self.rng.u32(0..below) }
    }

    async fn query(&mut self, body: &[u8]) -> io::Result<()> {
        self.engine.portals.remove("");
        self.engine.statements.remove("");
        let text = String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(body)).into_owned();
        self.in_segment = false;
        let texts: Vec<_> = text.split(';').filter(|each| !each.trim().is_empty()).collect();
        if texts.is_empty() {
            self.put(b'I', b"");
        }
        for each in texts {
            let mut portal = Portal::new(each, b"");
            if portal.kind.returns() {
                self.describe(portal.kind);
            }
            match self.execute(&mut portal, 0).await? {
                Ok(()) if portal.kind == Kind::CopyIn => {
                    self.copy = Some(Copying { rows: 0, simple: true });
                    return self.flush().await;
                }
                Ok(()) => {}
                Err(code) => {
                    self.out.extend(error("ERROR", code));
                    break;
                }
            }
        }
        self.ready(true).await
    }

    fn describe(&mut self, kind: Kind) {
        if kind.returns() {
            self.put(b'T', b"\0\x01echo\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
        } else {
            self.put(b'n', b"");
        }
    }

    /// A message of the extended protocol but Sync and Flush.
    async fn extended(&mut self, tag: u8, body: &[u8]) -> io::Result<Result<(), &'static str>> {
        let mut strings = body.splitn(3, |byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned());
        let (first, second) = (strings.next().unwrap_or_default(), strings.next().unwrap_or_default());
        match tag {
            b'P' => {
                if self.engine.status == b'E' && !matches!(Kind::of(&second), Kind::Commit | Kind::Rollback) {
                    return Ok(self.refuse("25P02"));
                }
                if !first.is_empty() && self.engine.statements.contains_key(&first) {
                    return Ok(self.refuse("42P05"));
                }
                self.engine.statements.insert(first, second);
                self.put(b'1', b"");
            }
            b'B' => {
                let Some(text) = self.engine.statements.get(&second) else { return Ok(self.refuse("26000")) };
                let parameters = &body[first.len() + second.len() + 2..];
                let portal = Portal::new(text, parameters);
                if self.engine.status == b'E' && !matches!(portal.kind, Kind::Commit | Kind::Rollback) {
                    return Ok(self.refuse("25P02"));
                }
                self.engine.portals.insert(first, portal);
                self.put(b'2', b"");
            }
            b'D' => {
                let name = &first[1..];
                let kind = match first.as_bytes()[0] {
                    b'S' => match self.engine.statements.get(name) {
                        Some(text) => {
                            let (kind, parameters) = (Kind::of(text), text.contains("$1"));
                            self.put(b't', if parameters { b"\0\x01\0\0\0\x19" } else { b"\0\0" });
                            kind
                        }
                        None => return Ok(self.refuse("26000")),
                    },
                    _ => match self.engine.portals.get(name) {
                        Some(portal) => portal.kind,
                        None => return Ok(self.refuse("34000")),
                    },
                };
                self.describe(kind);
            }
            b'E' => {
                let rows = body.last_chunk::<4>().map_or(0, |count| u32::from_be_bytes(*count)) as usize;
                let Some(mut portal) = self.engine.portals.remove(&first) else { return Ok(self.refuse("34000")) };
                let outcome = self.execute(&mut portal, rows).await?;
                if outcome.is_ok() && portal.kind == Kind::CopyIn {
                    self.copy = Some(Copying { rows: 0, simple: false });
                } else {
                    self.engine.portals.insert(first, portal);
                }
                return Ok(outcome);
            }
            b'C' => {
                let name = &first[1..];
                match first.as_bytes()[0] {
                    b'S' => drop(self.engine.statements.remove(name)),
                    _ => drop(self.engine.portals.remove(name)),
                }
                self.put(b'3', b"");
            }
            _ => return Ok(self.refuse("08P01")),
        }
        Ok(Ok(()))
    }

    fn refuse(&mut self, code: &'static str) -> Result<(), &'static str> {
        self.engine.fail();
        Err(code)
    }

    /// Executes a portal, with all that may happen meanwhile.
    async fn execute(&mut self, portal: &mut Portal, max: usize) -> io::Result<Result<(), &'static str>> {
        if portal.rows.is_none() {
            if let Some(code) = self.linger(portal).await? {
                if portal.kind == Kind::Commit && self.engine.status == b'T' {
                    self.engine.fail_commit();
                    return Ok(Err(code));
                }
                self.engine.refuse(portal);
                return Ok(Err(code));
            }
            let (tag, before) = (portal.kind, self.engine.status);
            match self.engine.run(portal) {
                Ok(rows) => portal.rows = Some(rows),
                Err(code) => return Ok(self.refuse(code)),
            }
            if tag == Kind::Commit && before == b'T' && self.draw(40) == 0 {
                self.ledger().count("commit unheard");
                return Err(closed("closed after a COMMIT"));
            }
            match (tag, before) {
                // What was a COMMIT has rolled back.
                (Kind::Commit, b'E') => portal.kind = Kind::Rollback,
                (Kind::CopyIn, _) => {
                    self.put(b'G', b"\0\0\x01\0\0");
                    return Ok(Ok(()));
                }
                (Kind::CopyOut, _) => {
                    let row = portal.rows.as_ref().unwrap()[0].clone();
                    self.put(b'H', b"\0\0\x01\0\0");
                    self.put(b'd', row.as_bytes());
                    self.put(b'c', b"");
                }
                (Kind::Empty, _) => {
                    self.put(b'I', b"");
                    return Ok(Ok(()));
                }
                _ => {}
            }
        }
        let rows = portal.rows.clone().unwrap_or_default();
        let rest = if portal.kind.returns() { &rows[portal.told..] } else { &[] };
        let count = if max == 0 { rest.len() } else { max.min(rest.len()) };
        for row in &rest[..count] {
            let length = u32::try_from(row.len()).unwrap().to_be_bytes();
            self.put(b'D', &[b"\0\x01", &length[..], row.as_bytes()].concat());
        }
        portal.told += count;
        if max > 0 && count == max {
            self.put(b's', b"");
        } else {
            let count = if portal.kind == Kind::CopyOut { 1 } else { count };
            self.put(b'C', format!("{}\0", portal.kind.tag(count)).as_bytes());
        }
        Ok(Ok(()))
    }

    /// What may happen before a statement is executed: time passes, it is cancelled, it fails, the server goes away.
    async fn linger(&mut self, portal: &Portal) -> io::Result<Option<&'static str>> {
        match self.draw(60) {
            0 => self.put(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mscripted\0\0"),
            1 => {
                let value = self.rng.u8(0..3);
                self.put(b'S', format!("x.weather\0{value}\0").as_bytes());
            }
            _ => {}
        }
        let time = match self.draw(50) {
            0 => self.rng.u64(100..700),
            1..5 => self.rng.u64(5..30),
            5..25 => self.rng.u64(0..3),
            _ => 0,
        };
        if time > 0 && portal.kind != Kind::Rollback {
            *self.handle.running.lock().unwrap() = true;
            let handle = self.handle.clone();
            // One that came too late for the statement before.
            let _ = handle.cancel.notified().now_or_never();
            let until = Instant::now() + Duration::from_millis(time);
            let mut cancelled = false;
            while let left = until.saturating_duration_since(Instant::now())
                && !left.is_zero()
                && !cancelled
            {
                // A server that hangs is one that cannot be cancelled, either.
                tokio::select! {
                    () = handle.cancel.notified() => cancelled = true,
                    () = self.pause(left) => {}
                }
            }
            *self.handle.running.lock().unwrap() = false;
            if cancelled {
                return Ok(Some("57014"));
            }
        }
        if portal.mark.is_none() {
            return Ok(None);
        }
        Ok(match self.draw(if portal.kind == Kind::Begin { 600 } else { 250 }) {
            0..4 => Some(self.rng.choice(["22012", "40001", "53100"]).unwrap()),
            4 => {
                self.out.extend(error("FATAL", "57P01"));
                self.flush().await?;
                return Err(closed("said goodbye"));
            }
            5 => {
                self.flush().await?;
                return Err(closed("closed before a statement"));
            }
            _ => None,
        })
    }

    /// Data of a COPY, or its end. Those that come when there is none any more are ignored.
    async fn copy_message(&mut self, tag: u8) -> io::Result<()> {
        let Some(mut copy) = self.copy.take() else {
            self.rest();
            return Ok(());
        };
        let error_at = self.draw(100) == 0;
        match tag {
            b'd' if !error_at => {
                copy.rows += 1;
                self.copy = Some(copy);
                return Ok(());
            }
            b'c' if !error_at => {
                self.put(b'C', format!("{}\0", Kind::CopyIn.tag(copy.rows)).as_bytes());
            }
            _ => {
                self.engine.fail();
                self.out.extend(error("ERROR", if tag == b'f' { "57014" } else { "22P04" }));
                self.is_skipping = !copy.simple;
            }
        }
        if copy.simple { self.ready(true).await } else { Ok(()) }
    }
}
