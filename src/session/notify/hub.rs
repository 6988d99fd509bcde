//! Who listens on what: the sessions of one database that share one listening server connection.
//!
//! A hub counts round trips on that connection. What must be in force, or must have been seen, before a client is answered gets the
//! number of a round trip that began after it was asked for: before its ReadyForQuery the server tells all notifications that it knew
//! of when it began.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::observe::ListenerMetrics;
use crate::pool::home;
use crate::session::Context;
use crate::session::clients::{Client, Request};
use crate::topology::UserPools;
use crate::wire::backend;
use crate::wire::frame::HEADER;

use super::channels::{Changes, Channel, write_command};
use super::listener;
use super::mailbox::{Mailbox, Notification};

/// All hubs. There is none for a database in which nobody listens.
#[derive(Debug, Default)]
pub struct Hubs(Mutex<HashMap<Key, Arc<Hub>>>);

/// What sessions must have in common to share a connection: the server tells names and payloads in the client's encoding.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Database as clients name it.
    pub database: Box<str>,
    /// `client_encoding` as the server reports it.
    pub encoding: Box<[u8]>,
}

/// The listening sessions of one database.
pub(in crate::session) struct Hub {
    pub(super) key: Key,
    state: Mutex<State>,
    /// There is something to do on the connection.
    pub(super) work: Notify,
    pub(super) metrics: ListenerMetrics,
}

#[derive(Default)]
struct State {
    channels: HashMap<Channel, Vec<Subscriber>, RandomState>,
    members: HashMap<u64, Member>,
    /// Channels that the first session listens on, or that the last one has left, since the last round trip began.
    changed: HashSet<Channel, RandomState>,
    /// Process ids of servers, and the clients on whose behalf they may notify at this moment.
    senders: HashMap<u32, u32>,
    /// Number of the last round trip that was asked for.
    asked: u64,
    /// Number of the last one that has ended.
    done: u64,
    connected: bool,
    /// How often the connection was lost.
    losses: u64,
    /// Sessions to wake at the end of a round trip.
    waiting: Vec<(u64, Arc<Client>)>,
    trouble: Option<String>,
}

struct Member {
    mailbox: Arc<Mailbox>,
    pools: Arc<UserPools>,
    channels: HashSet<Channel, RandomState>,
}

struct Subscriber {
    mailbox: Arc<Mailbox>,
    /// What came before the end of this round trip is not for it.
    since: u64,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hub({})", self.key.database)
    }
}

/// A round trip that somebody waits for.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    hub: Arc<Hub>,
    number: u64,
    /// Of no use once the connection is lost.
    losses: Option<u64>,
}

impl Ticket {
    /// Whether it has ended, or is not to be waited for any more.
    pub fn is_over(&self) -> bool {
        let state = self.hub.state.lock();
        state.done >= self.number || self.losses.is_some_and(|losses| losses != state.losses)
    }

    /// Why it has not ended yet.
    pub fn trouble(&self) -> Option<String> {
        self.hub.state.lock().trouble.clone()
    }
}

/// A session's place in a hub; dropping it ends all its listening.
pub(super) struct Membership {
    ctx: Arc<Context>,
    pub hub: Arc<Hub>,
    pub mailbox: Arc<Mailbox>,
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Membership({:?}, {:?})", self.hub, self.mailbox)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut hubs = self.ctx.hubs.0.lock();
        if self.hub.leave(self.mailbox.client().id) {
            hubs.remove(&self.hub.key);
        }
    }
}

impl Membership {
    /// The session listens on other channels from now on. Returns what to wait for when there are new ones.
    pub fn change(&self, changes: Changes) -> Option<Ticket> {
        let Changes { mut added, mut removed } = changes;
        let mut guard = self.hub.state.lock();
        let state = &mut *guard;
        let member = state.members.get_mut(&self.mailbox.client().id)?;
        removed.retain(|channel| member.channels.remove(channel));
        added.retain(|channel| member.channels.insert(channel.clone()));
        if !removed.is_empty() {
            self.mailbox.keep(|channel| member.channels.contains(channel));
        }
        for channel in &removed {
            state.unsubscribe(channel, &self.mailbox);
        }
        let ticket = (!added.is_empty()).then(|| {
            let number = state.ask(self.mailbox.client());
            for channel in added {
                let subscribers = state.channels.entry(channel.clone()).or_default();
                if subscribers.is_empty() {
                    state.changed.insert(channel);
                }
                subscribers.push(Subscriber { mailbox: self.mailbox.clone(), since: number });
            }
            Ticket { hub: self.hub.clone(), number, losses: None }
        });
        self.hub.metrics.set(state.members.len(), state.channels.len());
        drop(guard);
        self.hub.work.notify_one();
        ticket
    }
}

impl Hubs {
    /// Makes a session a member of the hub for its database and encoding. The hub's task is started with its first member.
    pub(super) fn join(ctx: &Arc<Context>, key: Key, mailbox: Arc<Mailbox>, pools: Arc<UserPools>) -> Membership {
        let mut hubs = ctx.hubs.0.lock();
        let hub = hubs.entry(key).or_insert_with_key(|key| {
            let metrics = ctx.metrics.listener(&key.database);
            let hub = Hub { key: key.clone(), state: Mutex::default(), work: Notify::new(), metrics };
            let hub = Arc::new(hub);
            home::spawn(listener::run(hub.clone(), Arc::downgrade(ctx)));
            hub
        });
        let member = Member { mailbox: mailbox.clone(), pools, channels: HashSet::default() };
        hub.state.lock().members.insert(mailbox.client().id, member);
        Membership { ctx: ctx.clone(), hub: hub.clone(), mailbox }
    }

    /// The hubs of a database: none when nobody listens.
    pub(super) fn of(&self, database: &str) -> Vec<Arc<Hub>> {
        self.0.lock().values().filter(|hub| &*hub.key.database == database).cloned().collect()
    }
}

/// What is to be said next on the connection.
pub(super) enum Next {
    /// Nothing.
    Nothing,
    /// A round trip with this number and this text.
    Round(u64, Vec<u8>),
    /// Goodbye: nobody listens any more.
    End,
}

impl Hub {
    /// The member goes; `true` when it was the last one.
    fn leave(&self, id: u64) -> bool {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if let Some(member) = state.members.remove(&id) {
            for channel in &member.channels {
                state.unsubscribe(channel, &member.mailbox);
            }
        }
        let is_last = state.members.is_empty();
        if is_last {
            state.disconnected();
        }
        self.metrics.set(state.members.len(), state.channels.len());
        drop(guard);
        self.work.notify_one();
        is_last
    }

    /// A statement goes to this server that may notify on behalf of this client: its notifications carry the client's process id.
    pub(super) fn note_sender(&self, server: u32, client: u32) {
        self.state.lock().senders.insert(server, client);
    }

    /// All that it notified has been seen.
    pub(super) fn forget_sender(&self, server: u32, client: u32) {
        let senders = &mut self.state.lock().senders;
        if senders.get(&server) == Some(&client) {
            senders.remove(&server);
        }
    }

    /// The process id to tell for a server's.
    pub(super) fn sender(&self, server: u32) -> u32 {
        self.state.lock().senders.get(&server).copied().unwrap_or(server)
    }

    /// Asks for a round trip after which all is seen that is committed now. `None` while there is no connection: what is notified
    /// meanwhile is lost.
    pub(super) fn catch_up(self: &Arc<Self>, client: &Arc<Client>) -> Option<Ticket> {
        let mut state = self.state.lock();
        if !state.connected {
            return None;
        }
        let ticket = Ticket { hub: self.clone(), number: state.ask(client), losses: Some(state.losses) };
        drop(state);
        self.work.notify_one();
        Some(ticket)
    }

    /// Asks for a round trip that shows whether the connection is alive.
    pub(super) fn probe(&self) {
        self.state.lock().asked += 1;
    }

    /// Pools of some member, another one at each `attempt`: whoever may log in listens for all.
    pub(super) fn pools(&self, attempt: usize) -> Option<Arc<UserPools>> {
        let state = self.state.lock();
        let count = state.members.len();
        state.members.values().nth(attempt.checked_rem(count)?).map(|member| member.pools.clone())
    }

    /// Whether nobody is left.
    pub(super) fn is_abandoned(&self) -> bool {
        self.state.lock().members.is_empty()
    }

    /// There is a new connection, on which nothing is listened on.
    pub(super) fn connected(&self) {
        let mut state = self.state.lock();
        state.connected = true;
        state.changed = state.channels.keys().cloned().collect();
        // At least one round trip: it tells those who wait.
        state.asked += 1;
    }

    /// There is no connection.
    pub(super) fn lost(&self, why: &str) {
        let mut state = self.state.lock();
        state.trouble = Some(why.to_owned());
        state.disconnected();
    }

    /// What to say on the connection, on which `listened` is listened on.
    pub(super) fn next(&self, listened: &mut HashSet<Channel, RandomState>) -> Next {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.members.is_empty() {
            return Next::End;
        }
        if state.asked <= state.done && state.changed.is_empty() {
            return Next::Nothing;
        }
        let mut sql = Vec::new();
        for channel in state.changed.drain() {
            let (is_wanted, is_there) = (state.channels.contains_key(&channel), listened.contains(&channel));
            if is_wanted && !is_there {
                write_command(&mut sql, "LISTEN", &channel);
                listened.insert(channel);
            } else if is_there && !is_wanted {
                write_command(&mut sql, "UNLISTEN", &channel);
                listened.remove(&channel);
            }
        }
        Next::Round(state.asked, sql)
    }

    /// A round trip has ended.
    pub(super) fn ended(&self, number: u64) {
        let mut state = self.state.lock();
        state.done = number;
        state.trouble = None;
        state.waiting.retain(|(wanted, client)| {
            let waits = *wanted > number;
            if !waits {
                client.request(Request::Notified);
            }
            waits
        });
    }

    /// A notification has come: all who listen on its channel get it.
    pub(super) fn deliver(&self, frame: &[u8]) {
        let Some((pid, channel)) = backend::notification(&frame[HEADER..]) else { return };
        let state = self.state.lock();
        let Some(subscribers) = state.channels.get(channel) else { return };
        let frame = with_sender(frame, state.senders.get(&pid).copied().unwrap_or(pid));
        for subscriber in subscribers.iter().filter(|subscriber| subscriber.since <= state.done) {
            subscriber.mailbox.push(frame.clone());
            self.metrics.notified();
        }
    }
}

/// A NotificationResponse with this process id.
pub(super) fn with_sender(frame: &[u8], pid: u32) -> Notification {
    let mut frame: Notification = frame.into();
    if let Some(bytes) = Arc::get_mut(&mut frame).and_then(|bytes| bytes.get_mut(HEADER..HEADER + 4)) {
        bytes.copy_from_slice(&pid.to_be_bytes());
    }
    frame
}

impl State {
    /// The number of a round trip that begins after this; the client is woken at its end.
    fn ask(&mut self, client: &Arc<Client>) -> u64 {
        self.asked += 1;
        self.waiting.push((self.asked, client.clone()));
        self.asked
    }

    /// What is notified from now on is not heard, so nobody need wait for it.
    fn disconnected(&mut self) {
        self.losses += 1;
        self.connected = false;
        self.waiting.iter().for_each(|(_, client)| client.request(Request::Notified));
    }

    fn unsubscribe(&mut self, channel: &Channel, mailbox: &Arc<Mailbox>) {
        let Some(subscribers) = self.channels.get_mut(channel) else { return };
        subscribers.retain(|subscriber| !Arc::ptr_eq(&subscriber.mailbox, mailbox));
        if subscribers.is_empty() {
            self.channels.remove(channel);
            self.changed.insert(channel.clone());
        }
    }
}
