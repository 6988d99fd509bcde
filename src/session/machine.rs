//! The state of a session, and the only function that changes it.

use std::io;
use std::sync::Arc;
use std::task::{Context as Cx, Poll};

use crate::config::NodeRole;
use crate::observe::ClientState as MetricState;
use crate::pool::Lease;
use crate::wire::{SqlState, TxStatus, build};

use super::clients::ClientState;
use super::expect::Expect;
use super::names::{Named, Names};
use super::pins::Pins;
use super::relay::Session;
use super::replies::Replies;
use super::rerun::Rerun;
use super::tracked::Script;

/// A server connection on loan, and what is under way on it.
#[derive(Debug)]
pub(super) struct Link {
    pub lease: Lease,
    /// Index of its node in the cluster.
    pub node: usize,
    /// Whether that node takes writes.
    pub primary: bool,
    /// The node group of Citus of which that node is the primary, if it is a worker.
    pub worker: Option<u32>,
    /// The client's block goes on without it (`block_end`): it goes back at once.
    pub left: bool,
    /// It was got for what comes next: nothing of the client's has been sent on it.
    pub chosen: bool,
    /// The node's incarnation when the connection was got. What is read here was there in this one: by the time that an answer is
    /// looked at, the node may have restarted and be known as another.
    pub incarnation: u64,
    /// What the server still owes.
    pub replies: Replies,
    /// Transaction status by the last ReadyForQuery.
    pub status: TxStatus,
    /// Extended-protocol messages were sent that no Sync has ended yet.
    pub segment_open: bool,
    /// An Execute is among them: what ran cannot be moved to another node.
    pub segment_executed: bool,
    /// The server reads COPY data.
    pub copy_in: bool,
    /// Bytes for the server that its socket would not take yet.
    pub backlog: Vec<u8>,
    /// The beginning of a frame of the server's that has not come whole.
    pub carry: Vec<u8>,
    /// What is carried is to be looked at, whether or not more comes.
    pub unread: bool,
    /// Bytes of the current frame of the server's that are still to come.
    pub pass: usize,
    /// They are for nobody, as the beginning of it was.
    pub pass_is_dropped: bool,
    /// Cancel requests wait until it is known whether settings must be sent, and if so, until they are in force.
    pub applying: bool,
    /// The session's settings have been sent, and nothing else is before the server has taken them.
    pub awaits_settings: bool,
    /// The error with which the server refused the session's settings: the connection must not be used, and nothing more of it is told.
    pub settings_refused: Option<Box<[u8]>>,
    /// What may commit something had been sent when the server refused them.
    pub refused_with_commit: bool,
    /// The server said FATAL: its end of the connection is about to close.
    pub dying: bool,
    /// A statement is under way that changes what the session knows of its connection (`RESET`, `DEALLOCATE ALL`,
    /// `DISCARD ALL`): what follows it waits for its end.
    pub barrier: bool,
    /// Syncs sent while the server read COPY data. It ignores them, unless the COPY has failed before it reads them.
    pub copy_syncs: usize,
    /// A statement has been answered, or has failed, since the last ReadyForQuery.
    pub said: bool,
    /// Why the connection is not used again: nobody knows how many Syncs are answered after a COPY that failed, or no reset takes
    /// back what was done on it.
    pub retired: Option<&'static str>,
    /// Statements completed since the last ReadyForQuery.
    pub completed: u32,
    /// A transaction has ended since then, as its tag says: by a rollback?
    pub ended_by_tag: Option<bool>,
    /// The error with which the server refused to begin the block that the client was told has begun.
    pub begin_refused: Option<SqlState>,
    /// An error came since the last ReadyForQuery.
    pub failed: bool,
    /// A statement is under way, or was since the connection was last at rest, that may set something, unseen or for its transaction:
    /// what the session keeps of its settings may not be what is in force.
    pub may_set: bool,
    /// What it runs was judged by a search path that this connection may not have: a segment is judged once more.
    pub unsure: bool,
    /// A statement is under way that changes the session's channels: what follows waits until that is in force.
    pub fence: bool,
    /// It may listen on channels: `UNLISTEN *` before it goes to anybody else.
    pub listens: bool,
    /// What has run may have given up statements that others have prepared on it, unseen.
    pub lost_names: bool,
    /// It does not listen on all channels that the session listens on.
    pub deaf: bool,
    /// A Bind or Describe of a statement is among the messages of the open segment.
    pub segment_bound: bool,
    /// On a replica: a statement is bound that ends the block, and something was executed since.
    pub end_bound: bool,
    pub end_executed: bool,
    /// The write under way began with nothing else under way.
    pub replayable: bool,
    /// It binds a shared statement of which the client does not rely on the columns.
    pub shared_bound: bool,
    /// How many replies were awaited when a Flush of ours went out.
    pub flushed: u64,
    /// The shared statement of this number has other columns on this connection than clients know.
    pub changed: Option<u64>,
    /// Whether what is under way could run once more on another node.
    pub rerun: Rerun,
    /// What the server said of messages of ours before a Query: to be told when the Query fails for it.
    pub own_failure: Option<Vec<u8>>,
    /// Names were put within the client's open sequence, ahead of a Query that is still to come: their failure is that Query's.
    pub names_ahead: bool,
}

impl Link {
    /// A link on which nothing has been sent; `replies` are empty.
    pub fn new(lease: Lease, node: usize, primary: bool, replies: Replies) -> Self {
        Self {
            incarnation: lease.pool().load.horizon.incarnation(),
            lease,
            node,
            primary,
            worker: None,
            left: false,
            chosen: true,
            replies,
            status: TxStatus::Idle,
            segment_open: false,
            segment_executed: false,
            copy_in: false,
            backlog: Vec::new(),
            carry: Vec::new(),
            unread: false,
            pass: 0,
            pass_is_dropped: false,
            applying: false,
            awaits_settings: false,
            settings_refused: None,
            refused_with_commit: false,
            dying: false,
            barrier: false,
            copy_syncs: 0,
            said: false,
            retired: None,
            completed: 0,
            ended_by_tag: None,
            begin_refused: None,
            failed: false,
            may_set: false,
            unsure: false,
            fence: false,
            listens: false,
            lost_names: false,
            deaf: false,
            segment_bound: false,
            end_bound: false,
            end_executed: false,
            replayable: false,
            shared_bound: false,
            flushed: 0,
            changed: None,
            rerun: Rerun::default(),
            own_failure: None,
            names_ahead: false,
        }
    }

    /// What the node is, for what is counted.
    pub fn role(&self) -> NodeRole {
        match self.worker {
            Some(_) => NodeRole::Worker,
            None if self.primary => NodeRole::Primary,
            None => NodeRole::Replica,
        }
    }

    /// Reads of the server. Zero bytes that are no error: what is carried is to be looked at.
    pub fn read_into(&mut self, cx: &mut Cx<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if std::mem::take(&mut self.unread) {
            return Poll::Ready(Ok(0));
        }
        match self.lease.stream.poll_read_into(cx, buffer) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            read => read,
        }
    }

    /// Whether nothing may follow before the server has taken the session's settings.
    pub fn awaits_its_settings(&self) -> bool {
        self.awaits_settings && !self.replies.is_empty()
    }

    /// Whether what follows waits for the end of what is under way, unless it is part of it. A server that refuses to begin a block
    /// skips no more than what comes before the next Sync: what comes behind that would run outside the block.
    pub fn is_fenced(&self) -> bool {
        let waits = self.barrier || self.fence || self.replies.owes_begin() || self.replies.owes_own_sync();
        waits && !self.segment_open && !self.replies.is_empty()
    }

    /// A Sync goes out, or what has the effect of one.
    pub fn close_segment(&mut self) {
        self.chosen = false;
        self.segment_open = false;
        self.segment_executed = false;
        self.segment_bound = false;
        self.names_ahead = false;
    }

    /// Whether the block may be over on a replica, while the sequence goes on in which its end was executed.
    pub fn is_past_end(&self) -> bool {
        self.end_executed && self.segment_open
    }

    /// Whether a sequence of the client's is open on the primary, outside a block: what it has written is not committed before its
    /// Sync or Query, and a Sync of ours would commit it.
    pub fn is_in_sequence(&self) -> bool {
        let in_block = self.status.in_block() && !self.replies.owes_ready();
        self.primary && self.segment_open && !in_block
    }

    /// Whether rows that come now answer a statement of ours.
    pub fn drops_rows(&self) -> bool {
        self.replies.head().is_some_and(Expect::is_ours)
    }

    /// An error came in a sequence of extended-protocol messages: what was sent up to the next Sync is void. Where none is on its way the
    /// server waits for one, also behind a Query, which it skips with the rest (trap 42). Returns whether what the client sends next is
    /// void, too.
    pub fn void_sequence(&mut self, names: &mut Names) -> bool {
        self.segment_open |= !self.replies.fail_to_sync(names, &mut self.lease.prepared);
        !self.replies.is_at_clients_sync()
    }

    /// A Query or FunctionCall goes out, which ends what extended-protocol messages have begun as a Sync does.
    pub fn ends_segment(&mut self, script: Option<Box<Script>>, unnamed: Option<Arc<Named>>) {
        let cuts_short = self.segment_open;
        let unnamed = unnamed.filter(|_| cuts_short);
        self.close_segment();
        self.replies.push(Expect::Simple { script, unnamed, goes_on: false });
        if cuts_short {
            self.replies.cuts_short();
        }
    }

    /// Whether only a transaction block is open: the server waits for its next statement.
    pub fn rests_in_block(&self) -> bool {
        self.status.in_block() && self.is_quiet()
    }

    /// Whether nothing is under way: no reply outstanding, no frame half read or half sent, no open segment, no
    /// transaction. Only then may the lease return (design §3).
    pub fn at_rest(&self) -> bool {
        self.status == TxStatus::Idle && self.is_quiet()
    }

    /// Whether neither side owes the other anything, a transaction block apart.
    fn is_quiet(&self) -> bool {
        self.replies.is_empty()
            && self.backlog.is_empty()
            && self.carry.is_empty()
            && self.pass == 0
            && !self.segment_open
            && !self.copy_in
            && self.settings_refused.is_none()
            && !self.dying
    }
}

/// What a session is doing. Assigned only in [`Session::transition`].
#[derive(Debug)]
pub(super) enum State {
    /// No server connection; between transactions.
    Idle,
    /// Wants a server connection and has none yet.
    Waiting,
    /// Has a server connection: for a statement, a transaction, or because it is pinned.
    Linked(Box<Link>),
    /// No more is read from the client.
    Closing,
}

impl Session {
    /// Changes the state, and tells all who count it. Returns the state before.
    pub(super) fn transition(&mut self, to: State) -> State {
        let (client, metric) = match &to {
            State::Idle | State::Closing => (ClientState::Idle, MetricState::Idle),
            State::Waiting => (ClientState::Waiting, MetricState::Waiting),
            State::Linked(_) => (ClientState::Active, MetricState::Active),
        };
        self.client.set_state(client);
        self.metrics.set_state(metric);
        std::mem::replace(&mut self.state, to)
    }

    /// The link, when there is one.
    pub(super) fn link(&mut self) -> Option<&mut Link> {
        match &mut self.state {
            State::Linked(link) => Some(link),
            _ => None,
        }
    }

    /// Transaction status as the client sees it.
    pub(super) fn status(&self) -> TxStatus {
        match &self.state {
            State::Linked(link) if !self.deferred.is_open() => link.status,
            _ => self.deferred.status(),
        }
    }

    /// Ends an answer of our own.
    pub(super) fn answer_ready(&mut self) {
        self.again = None;
        let status = self.status();
        if status == TxStatus::Idle {
            // Too much for it is dealt with when it is polled next.
            let _ = self.tell_notifications(usize::MAX);
        }
        build::ready_for_query(&mut self.to_client, status);
    }

    /// Whether the lease may go back now.
    pub(super) fn may_release(&self) -> bool {
        match &self.state {
            State::Linked(link) => {
                link.at_rest()
                    && (!self.resumed || self.notify.is_holding() || link.left)
                    && self.client_pass == 0
                    && self.pins == Pins::empty()
                    && !self.keeps_lease
                    && !self.notify.keeps_link()
            }
            _ => false,
        }
    }
}
