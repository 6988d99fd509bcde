//! A scripted server: it speaks the protocol as PostgreSQL does, at its own pace, and fails at random. It judges what it is sent when
//! it arrives, also while it is still busy with what came before.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::QUERY_TIMEOUT;
use super::engine::Engine;
use super::ledger::Ledger;
use super::support::frames::Batch;
use super::work::Work;

const CANCEL: u32 = 80_877_102;

/// How others reach a connection.
#[derive(Debug, Default)]
pub struct Handle {
    pub conn: u32,
    /// The session whose work is under way.
    pub owner: Mutex<Option<u32>>,
    /// A statement is running that can be cancelled.
    pub running: Mutex<bool>,
    /// It has refused a session's settings: Trunkline itself may cancel what it sent behind them and runs elsewhere.
    pub is_left: AtomicBool,
    pub cancel: Notify,
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
            let is_left = handle.is_left.load(Ordering::Relaxed);
            if !presence.asked_cancel && !presence.gone && !is_late && !is_left {
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

/// An error, or the last word of a connection.
pub fn error(severity: &str, code: &str) -> Vec<u8> {
    message(b'E', format!("S{severity}\0V{severity}\0C{code}\0Mscripted\0\0").as_bytes())
}
