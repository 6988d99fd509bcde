//! All clients: their cancel keys, what they are doing, and a way to wake each of them.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::{Duration, SystemTime};

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use quanta::Instant;
use subtle::ConstantTimeEq;
use tokio::sync::Notify;

use crate::backend::ServerInfo;
use crate::net::PeerAddr;
use crate::pool::{NodeLoad, Pool};
use crate::wire::startup::CancelKey;

use super::logins::{LoggingIn, Logins};

/// What a client is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ClientState {
    /// Linked to no server connection.
    Idle = 0,
    /// Linked to a server connection.
    Active = 1,
    /// Waits for a server connection.
    Waiting = 2,
}

/// A request to a session, as a bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Request {
    /// Give up the wait for a server connection (a CancelRequest came).
    CancelWait = 1,
    /// Close at the end of the transaction: the proxy is shutting down.
    Drain = 2,
    /// Close now: the shutdown's grace is over, or an administrator said so.
    Kill = 4,
    /// Read nothing more, neither from the client nor from the server (SUSPEND).
    Suspend = 8,
    /// Notifications have come, or what the session waited for to be answered.
    Notified = 16,
    /// The node that is to answer does not: look whether something else can be done.
    NodeDown = 32,
}

/// What others may know of a session, and how they reach it.
pub struct Client {
    /// Number within this process.
    pub id: u64,
    /// Process id and secret as told to the client; the secret is never shown.
    pub key: CancelKey,
    /// Who it is.
    pub identity: Identity,
    /// When it connected.
    pub connected: SystemTime,
    /// What `asked` counts from.
    born: Instant,
    /// Microseconds from `born` to its last request.
    asked: AtomicU64,
    /// Microseconds since the Unix epoch since when it waits; 0 = it does not.
    pub waiting_since: AtomicU64,
    /// How many statement names it holds.
    pub prepared: AtomicU32,
    state: AtomicU8,
    requests: AtomicU8,
    /// It does as [`Request::Suspend`] says.
    frozen: AtomicBool,
    pinned: Mutex<Option<Box<Pinned>>>,
    waker: Mutex<Option<Waker>>,
    pub(super) assignment: Mutex<Assignment>,
    pub(super) released: Notify,
    /// Whether cancel requests are being delivered ([`super::cancel`]).
    pub(super) delivery: AtomicU8,
    /// Cancel requests that were sent to server connections of its.
    pub(super) cancels_sent: AtomicU32,
}

/// The server connection that a cancel request of this client means at this moment (traps 63 and 64).
#[derive(Default)]
pub(super) struct Assignment {
    pub server: Option<(Arc<Pool>, Arc<ServerInfo>)>,
    /// Cancel requests on their way to it.
    pub in_flight: u32,
    /// The session's settings are being applied to it.
    pub applying: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({}, {}@{})", self.id, self.user, self.database)
    }
}

/// Who a client is, as it said when it logged in.
#[derive(Debug)]
pub struct Identity {
    /// User name.
    pub user: String,
    /// Database as the client named it.
    pub database: String,
    /// Peer's address and port.
    pub peer: (String, u16),
    /// Own address and port.
    pub local: (String, u16),
    /// TLS version and cipher, empty without.
    pub tls: String,
    /// `application_name` at login.
    pub application_name: String,
    /// `none`, `logical` or `physical`.
    pub replication: &'static str,
    /// It is a client of the console, which counts towards no limit but that of its user there.
    pub console: bool,
}

impl Deref for Client {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.identity
    }
}

/// Why a session keeps its server connection, for `SHOW PINS`.
#[derive(Debug, Clone)]
pub struct Pinned {
    /// Names of the reasons.
    pub reasons: String,
    /// Since when it is pinned.
    pub since: SystemTime,
    /// The statement that pinned it last, without literals.
    pub statement: String,
}

impl Client {
    pub(super) fn new(id: u64, pid: u32, identity: Identity, secret_len: usize) -> Self {
        let mut secret = vec![0; secret_len];
        // The system's generator does not fail for so few bytes; if it ever did, a weaker source is better than none.
        if rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty()).is_err() {
            fastrand::Rng::new().fill(&mut secret);
        }
        Self {
            id,
            key: CancelKey { pid, secret },
            identity,
            connected: SystemTime::now(),
            born: Instant::now(),
            asked: AtomicU64::new(0),
            waiting_since: AtomicU64::new(0),
            prepared: AtomicU32::new(0),
            state: AtomicU8::new(0),
            requests: AtomicU8::new(0),
            frozen: AtomicBool::new(false),
            pinned: Mutex::default(),
            waker: Mutex::default(),
            assignment: Mutex::default(),
            released: Notify::new(),
            delivery: AtomicU8::default(),
            cancels_sent: AtomicU32::new(0),
        }
    }

    /// What it is doing.
    pub fn state(&self) -> ClientState {
        match self.state.load(Ordering::Relaxed) {
            1 => ClientState::Active,
            2 => ClientState::Waiting,
            _ => ClientState::Idle,
        }
    }

    pub(super) fn set_state(&self, state: ClientState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// Its last request came at this moment.
    pub fn note_request(&self, at: Instant) {
        let since = at.saturating_duration_since(self.born);
        self.asked.store(u64::try_from(since.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When its last request came; when it connected, if none has come.
    pub fn last_request(&self) -> SystemTime {
        match self.asked.load(Ordering::Relaxed) {
            0 => self.connected,
            asked => {
                let ago = self.born.elapsed().saturating_sub(Duration::from_micros(asked));
                SystemTime::now().checked_sub(ago).unwrap_or(self.connected)
            }
        }
    }

    /// Why it keeps its server connection, when it does.
    pub fn pinned(&self) -> Option<Pinned> {
        self.pinned.lock().as_deref().cloned()
    }

    /// Changes what [`Client::pinned`] tells.
    pub(super) fn set_pinned(&self, change: impl FnOnce(&mut Option<Box<Pinned>>)) {
        change(&mut self.pinned.lock());
    }

    /// Whether nothing is read of it, and nothing is left to be written, since it was asked to suspend.
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Acquire)
    }

    pub(super) fn set_frozen(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::Release);
    }

    /// Takes [`Request::Suspend`] back.
    pub fn wake_up(&self) {
        self.clear(Request::Suspend);
        self.nudge();
    }

    /// Wakes the session: the configuration has changed, and time-outs may be others than it waits for.
    pub fn nudge(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    /// Asks something of the session and wakes it.
    pub fn request(&self, request: Request) {
        self.requests.fetch_or(request as u8, Ordering::AcqRel);
        self.nudge();
    }

    /// Whether something was asked of it that it has not answered.
    pub fn requested(&self, request: Request) -> bool {
        self.requests.load(Ordering::Acquire) & request as u8 != 0
    }

    pub(super) fn any_request(&self) -> bool {
        self.requests.load(Ordering::Relaxed) != 0
    }

    /// Takes a request back, or notes that it was answered.
    pub fn clear(&self, request: Request) {
        self.requests.fetch_and(!(request as u8), Ordering::AcqRel);
    }

    /// The session's task tells how it is woken.
    pub fn set_waker(&self, waker: &Waker) {
        let mut slot = self.waker.lock();
        if !slot.as_ref().is_some_and(|old| old.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    /// The server connection that it is linked to, when it is active.
    pub fn server(&self) -> Option<Arc<ServerInfo>> {
        self.assignment.lock().server.as_ref().map(|(_, server)| server.clone())
    }

    /// Whether it is linked to a node that does not answer, that must not be written to, or that stands down: whether it has written there,
    /// it knows.
    fn waits_for_lost_node(&self) -> bool {
        let is_lost = |load: &NodeLoad| !load.is_up() || load.is_deposed() || load.is_draining();
        let waits = |pool: &Pool, server: &ServerInfo| is_lost(&pool.load) || pool.load.is_replaced_at(&server.addr);
        self.state() == ClientState::Active
            && self.assignment.lock().server.as_ref().is_some_and(|(pool, server)| waits(pool, server))
    }

    /// Cancel requests on their way to its server connection, and whether that connection waits for them to be let go.
    pub fn cancels(&self) -> (u32, bool) {
        let assignment = self.assignment.lock();
        (assignment.in_flight, assignment.in_flight > 0 && assignment.server.is_none())
    }

    /// From now on a cancel request means this server connection, as soon as it is not `applying` the session's settings. `false`
    /// when the wait for it has been cancelled: it must not be used then.
    #[must_use]
    pub(super) fn assign(&self, pool: &Arc<Pool>, server: &Arc<ServerInfo>, applying: bool) -> bool {
        let mut assignment = self.assignment.lock();
        if self.requested(Request::CancelWait) {
            return false;
        }
        assignment.server = Some((pool.clone(), server.clone()));
        assignment.applying = applying;
        true
    }

    /// How many cancel requests have been sent to server connections of its.
    pub(super) fn cancels_sent(&self) -> u32 {
        self.cancels_sent.load(Ordering::Relaxed)
    }

    /// From now on a cancel request means none. `false` while one is on its way: the connection must not be given to
    /// anybody else yet, see [`Client::cancels_delivered`].
    pub(super) fn unassign(&self) -> bool {
        let mut assignment = self.assignment.lock();
        assignment.server = None;
        if std::mem::take(&mut assignment.applying) {
            self.released.notify_waiters();
        }
        assignment.in_flight == 0
    }

    /// Whether the session's settings are being applied to its server connection: a cancel request waits for their end, since it is
    /// not meant for them.
    pub(super) fn set_applying(&self, applying: bool) {
        let before = std::mem::replace(&mut self.assignment.lock().applying, applying);
        if before && !applying {
            self.released.notify_waiters();
        }
    }

    /// Waits until every cancel request that was on its way has been delivered.
    pub(super) async fn cancels_delivered(&self) {
        loop {
            let released = self.released.notified();
            if self.assignment.lock().in_flight == 0 {
                return;
            }
            released.await;
        }
    }
}

/// All clients that have logged in.
#[derive(Debug, Default)]
pub struct Clients {
    registry: Mutex<Registry>,
    next: AtomicU64,
    /// Those of them that are no console's.
    sessions: AtomicUsize,
    logins: Arc<Logins>,
}

#[derive(Debug, Default)]
struct Registry {
    by_pid: HashMap<u32, Arc<Client>, RandomState>,
    /// How many there are of each database, as clients name it, and of each user.
    of_database: HashMap<String, u32, RandomState>,
    of_user: HashMap<String, u32, RandomState>,
    /// The same of the console's.
    of_console: HashMap<String, u32, RandomState>,
}

/// How many clients there may be.
#[derive(Debug, Clone, Copy)]
pub struct ClientLimits {
    /// Altogether.
    pub total: u32,
    /// Of the client's database.
    pub of_database: Option<u32>,
    /// Of the client's user.
    pub of_user: Option<u32>,
}

impl Registry {
    /// The limit that one more client of this kind would exceed.
    fn full(&self, new: &Identity, sessions: usize, limits: ClientLimits) -> Option<&'static str> {
        let reached =
            |limit: Option<u32>, count: Option<&u32>| limit.is_some_and(|limit| count.is_some_and(|n| *n >= limit));
        if new.console {
            return reached(limits.of_user, self.of_console.get(&new.user))
                .then_some("that of one user's sessions on the console");
        }
        if sessions >= limits.total as usize {
            Some("max_clients")
        } else if reached(limits.of_database, self.of_database.get(&new.database)) {
            Some("max_clients of the database")
        } else if reached(limits.of_user, self.of_user.get(&new.user)) {
            Some("max_clients of the user")
        } else {
            None
        }
    }

    /// Counts one more of this kind, or one less.
    fn count(&mut self, one: &Identity, more: bool) {
        if one.console {
            return count(&mut self.of_console, &one.user, more);
        }
        count(&mut self.of_database, &one.database, more);
        count(&mut self.of_user, &one.user, more);
    }
}

/// Counts one more, or one less; a name without clients takes no room.
fn count(counts: &mut HashMap<String, u32, RandomState>, name: &str, more: bool) {
    match counts.get_mut(name) {
        Some(n) if more => *n += 1,
        Some(n) if *n > 1 => *n -= 1,
        Some(_) => drop(counts.remove(name)),
        None if more => drop(counts.insert(name.to_owned(), 1)),
        None => {}
    }
}

impl Clients {
    /// Registers a client; dropping the guard removes it.
    ///
    /// # Errors
    /// The name of the limit that is reached.
    pub fn register(
        self: &Arc<Self>,
        identity: Identity,
        secret_len: usize,
        limits: ClientLimits,
    ) -> Result<Registered, &'static str> {
        let mut registry = self.registry.lock();
        if let Some(limit) = registry.full(&identity, self.sessions(), limits) {
            return Err(limit);
        }
        registry.count(&identity, true);
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let by_pid = &mut registry.by_pid;
        // Like a process id: positive, and not guessable as "the next one".
        let pid = loop {
            let pid = fastrand::u32(1..=i32::MAX as u32);
            if !by_pid.contains_key(&pid) {
                break pid;
            }
        };
        let client = Arc::new(Client::new(id, pid, identity, secret_len));
        by_pid.insert(pid, client.clone());
        self.sessions.fetch_add(usize::from(!client.console), Ordering::Relaxed);
        Ok(Registered { clients: self.clone(), client })
    }

    /// The client with this key; the secret is compared in constant time.
    pub fn find(&self, key: &CancelKey) -> Option<Arc<Client>> {
        let client = self.registry.lock().by_pid.get(&key.pid).cloned()?;
        bool::from(client.key.secret.as_slice().ct_eq(&key.secret)).then_some(client)
    }

    /// All clients, by id.
    pub fn all(&self) -> Vec<Arc<Client>> {
        let mut all: Vec<_> = self.registry.lock().by_pid.values().cloned().collect();
        all.sort_by_key(|client| client.id);
        all
    }

    /// Tells those who wait for a node that does not answer, or is the primary no more.
    pub fn tell_of_lost_nodes(&self) {
        let all = self.all();
        all.iter().filter(|one| one.waits_for_lost_node()).for_each(|one| one.request(Request::NodeDown));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.registry.lock().by_pid.len()
    }

    /// How many there are, those of the console left out.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Counts a client that is connected and has not logged in, until the guard is dropped: see [`Logins::begin`].
    pub fn logging_in(&self, peer: PeerAddr, limit: usize, within: Option<Duration>) -> LoggingIn {
        self.logins.begin(peer, limit, within)
    }

    /// Sends away whoever takes too long to log in.
    pub fn look_at_logins(&self) {
        self.logins.look_at_time(std::time::Instant::now());
    }

    /// How many clients are connected and have not logged in.
    pub fn logging_in_now(&self) -> usize {
        self.logins.count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A client's registration.
#[derive(Debug)]
pub struct Registered {
    clients: Arc<Clients>,
    /// The client.
    pub client: Arc<Client>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut registry = self.clients.registry.lock();
        registry.by_pid.remove(&self.client.key.pid);
        registry.count(&self.client, false);
        drop(registry);
        self.clients.sessions.fetch_sub(usize::from(!self.client.console), Ordering::Relaxed);
    }
}
