//! A server connection that has logged in.

use std::collections::HashSet;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::SystemTime;

use foldhash::fast::FixedState;
use quanta::Instant;

use super::{Parameters, Registry, Settings};
use crate::net::{PeerAddr, Stream};
use crate::observe::Moment;
use crate::wire::backend;
use crate::wire::startup::CancelKey;

/// One logged-in server connection. Owned by the pool while idle and by a session's lease while in use.
///
/// Invariant of an idle one: the last ReadyForQuery said `I`, no reply is outstanding, no byte is half read.
#[derive(Debug)]
pub struct ServerConn {
    /// The socket.
    pub stream: Stream,
    /// What others may know of it without owning it.
    pub info: Arc<ServerInfo>,
    /// ParameterStatus values as the server last told them.
    pub parameters: Parameters,
    /// Session settings that are in force on it.
    pub settings: Arc<Settings>,
    /// Names of settings that clients have invented on it (`app.tenant`), by their hashes.
    invented: HashSet<u64>,
    /// Prepared statements that it has.
    pub prepared: Registry,
    /// What the client sent last, if it may have to be sent to another server. Kept here so that the buffer is used again.
    pub kept: Vec<u8>,
    /// The client that last ran a statement on it which may have used a sequence: `currval` answers for that one. 0 = none.
    pub sequences_of: u64,
    /// The client that last made temporary objects on it, or the first that may have: by a function. 0 = none: the server has no
    /// temporary schema yet, and once it has one no reset takes it away.
    pub temp_schema_of: u64,
    /// Temporary objects have been made on it.
    pub has_had_temp: bool,
    /// A client has set `temp_buffers` on it. The first temporary table fixes how many there are, whatever that is reset to.
    pub temp_buffers_set: bool,
    /// When it told last which search path its sessions have that set none.
    pub told_path: Option<Instant>,
    /// The same of the role.
    pub told_role: Option<Instant>,
    /// When it was opened.
    pub opened: Instant,
    /// By what its times are multiplied, 0.9 to 1: connections opened together do not all close together (trap 82).
    pub jitter: f64,
    /// What `connect_query` did to it is in force.
    pub greeted: bool,
    /// Since when it is idle; meaningful in the pool only.
    pub idle_since: Instant,
    /// Which turn of its home thread that was; `u64::MAX` = it came back on another thread.
    pub idle_turn: u64,
    /// The runtime on whose reactor its socket is registered.
    pub home: usize,
    /// The pool's epoch when it was opened: an older one than the pool's is closed at check-in.
    pub epoch: u64,
}

/// Most names of settings that clients may invent on one connection. The server forgets none of them, whatever is reset, and each new one
/// costs it more (up to PostgreSQL 15 it sorts all of them anew).
const MOST_INVENTED: usize = 2000;

impl ServerConn {
    /// It has just logged in.
    pub(super) fn new(stream: Stream, parameters: Parameters, cancel: CancelKey) -> Self {
        let now = Instant::now();
        Self {
            info: Arc::new(ServerInfo::new(&stream, cancel)),
            stream,
            parameters,
            settings: Settings::none(),
            invented: HashSet::new(),
            kept: Vec::new(),
            sequences_of: 0,
            temp_schema_of: 0,
            has_had_temp: false,
            temp_buffers_set: false,
            prepared: Registry::default(),
            opened: now,
            jitter: 1.0,
            greeted: true,
            idle_since: now,
            idle_turn: u64::MAX,
            home: 0,
            told_path: None,
            told_role: None,
            epoch: 0,
        }
    }

    /// It has these settings now instead of others. Where clients have invented many, nobody is to have it any more.
    pub fn change_settings(&mut self, settings: &Arc<Settings>) {
        let before = std::mem::replace(&mut self.settings, settings.clone());
        self.temp_buffers_set |= settings.get("temp_buffers").is_some();
        let names = before.iter().chain(settings.iter()).map(|(name, _)| name).filter(|name| name.contains('.'));
        self.invented.extend(names.map(|name| FixedState::default().hash_one(name)));
        if self.invented.len() > MOST_INVENTED {
            self.info.set_close_needed();
        }
    }

    /// Whether it may refuse settings that a new connection takes: once temporary tables have been read, `temp_buffers` stays as it is.
    pub fn is_set_in_its_ways(&self, settings: &Settings) -> bool {
        self.temp_schema_of != 0 && settings.get("temp_buffers").is_some()
    }

    /// Notes what the server reports by a ParameterStatus, of which this is the body. None may be missed: the server does not repeat a
    /// value that it has reported.
    pub fn take_parameter_status(&mut self, body: &[u8]) {
        if let Some((name, value)) = backend::parameter_status(body) {
            self.set_parameter(name, value);
        }
    }

    /// The same of one that was read. Of a server that reports more than is kept nobody is to have the connection any more.
    pub fn set_parameter(&mut self, name: &[u8], value: &[u8]) {
        self.parameters.set(name, value);
        if self.parameters.are_too_many() {
            self.info.set_close_needed();
        }
    }
}

/// Facts about a server connection for `SHOW SERVERS`, readable at any time.
pub struct ServerInfo {
    /// Number within this process.
    pub id: u64,
    /// Process id and secret for cancelling; the secret is never shown.
    pub cancel: CancelKey,
    /// Peer's address as text, port apart (`unix` for a socket directory).
    pub addr: String,
    /// Peer's port.
    pub port: u16,
    /// Own address as text.
    pub local_addr: String,
    /// Own port.
    pub local_port: u16,
    /// TLS version and cipher, empty without TLS.
    pub tls: String,
    /// When it was opened.
    pub connected: SystemTime,
    /// [`ServerState`] as a number.
    state: AtomicU8,
    /// The client's id while it is linked to one, else 0.
    pub client: AtomicU64,
    /// [`Moment`] of its last check-out.
    requested: AtomicU64,
    /// Prepared statements that it has.
    pub prepared: AtomicU32,
    close_needed: AtomicBool,
}

/// What a server connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ServerState {
    /// In the pool.
    Idle = 0,
    /// Linked to a client.
    Active = 1,
    /// Being reset before it returns to the pool.
    Tested = 2,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl fmt::Debug for ServerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerInfo({}, pid {}, {}:{})", self.id, self.cancel.pid, self.addr, self.port)
    }
}

impl ServerInfo {
    /// Facts of a connection just opened over `stream`.
    pub fn new(stream: &Stream, cancel: CancelKey) -> Self {
        let (addr, port) = stream.peer().parts();
        let (local_addr, local_port) = stream.local_addr().map_or_else(Default::default, |a| PeerAddr::tcp(a).parts());
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            cancel,
            addr,
            port,
            local_addr,
            local_port,
            tls: stream.tls_info().map(|tls| format!("{}/{}", tls.version, tls.cipher)).unwrap_or_default(),
            connected: SystemTime::now(),
            state: AtomicU8::new(ServerState::Idle as u8),
            client: AtomicU64::new(0),
            requested: AtomicU64::new(0),
            prepared: AtomicU32::new(0),
            close_needed: AtomicBool::new(false),
        }
    }

    /// What it is doing.
    pub fn state(&self) -> ServerState {
        match self.state.load(Ordering::Relaxed) {
            1 => ServerState::Active,
            2 => ServerState::Tested,
            _ => ServerState::Idle,
        }
    }

    /// Whether it is to be closed as soon as nobody uses it any more.
    pub fn is_close_needed(&self) -> bool {
        self.close_needed.load(Ordering::Relaxed)
    }

    /// It is to be closed as soon as nobody uses it any more.
    pub fn set_close_needed(&self) {
        self.close_needed.store(true, Ordering::Relaxed);
    }

    /// When it was checked out last; when it was opened, if that has not happened yet.
    pub fn last_request(&self) -> SystemTime {
        match Moment::from_nanos(self.requested.load(Ordering::Relaxed)) {
            Moment::NEVER => self.connected,
            requested => requested.system_time(),
        }
    }

    /// It is checked out.
    pub fn note_request(&self, at: Moment) {
        self.requested.store(at.nanos(), Ordering::Relaxed);
    }

    /// Notes what it is doing, and for which client (0 = none).
    pub fn set_state(&self, state: ServerState, client: u64) {
        self.state.store(state as u8, Ordering::Relaxed);
        self.client.store(client, Ordering::Relaxed);
    }
}
