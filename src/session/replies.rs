//! What the server still owes, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::backend::{Prepared, Registry};
use crate::wire::{ErrorNotice, build};

use super::names::Names;
use super::pins::Pins;
use super::splice::Splice;
use super::tracked::Script;

/// A name of the client's, and what it stood for before.
pub(super) type NamedBefore = (Box<[u8]>, Option<Arc<Prepared>>);

/// One reply, or group of replies, that is still to come.
#[derive(Debug)]
pub(super) enum Expect {
    /// Our own Query that applies settings: all of it is dropped, up to its ReadyForQuery.
    Settings,
    /// Our own Query that asks whether these pins are still needed: all of it is dropped, up to its ReadyForQuery.
    Evidence(Pins),
    /// Parse, Bind and Execute of ours that begin the client's block: all of it is dropped, up to its CommandComplete.
    Begin,
    /// Messages of ours that make the block fail: the error and the ReadyForQuery are dropped.
    Spoiled,
    /// A Query or FunctionCall of the client's, up to its ReadyForQuery.
    Simple { script: Option<Box<Script>> },
    /// ParseComplete.
    Parse {
        statement: Arc<Prepared>,
        /// It stands as the unnamed statement on the server.
        unnamed: bool,
        /// The client's Parse (its name, empty = unnamed, and what the name stood for before), or one of ours.
        client: Option<NamedBefore>,
    },
    /// ParseComplete of a Parse that we track nothing of: `ours` is dropped.
    RawParse { ours: bool },
    /// ParseComplete that we make ourselves, when everything before it has come.
    MadeParse { name: Box<[u8]> },
    /// BindComplete.
    Bind,
    /// A message of ours that must fail, in the place of a Bind that we refuse: the client gets this error for it.
    Refused(Box<ErrorNotice>),
    /// ParameterDescription, then RowDescription or NoData.
    Describe,
    /// Rows, then CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute { script: Option<Box<Script>> },
    /// CloseComplete: `ours` is dropped.
    Close { ours: bool },
    /// CloseComplete of a Close of ours for a statement that had to make room, dropped.
    Evict { statement: Arc<Prepared> },
    /// CloseComplete that we make ourselves; the statement comes back if an error before it skips the Close.
    MadeClose { name: Box<[u8]>, statement: Option<Arc<Prepared>> },
    /// ReadyForQuery of a Sync: `ours` is dropped.
    Sync { ours: bool },
    /// The client has sent CopyDone or CopyFail; nothing comes for it.
    CopyEnd,
}

impl Expect {
    /// A message of ours, of which the client sees nothing.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Settings | Self::Evidence(_) | Self::Begin | Self::Spoiled)
    }
}

/// The queue of expected replies of one lease.
#[derive(Debug, Default)]
pub(super) struct Replies {
    queue: VecDeque<Expect>,
}

impl Replies {
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn push(&mut self, expect: Expect) {
        self.queue.push_back(expect);
    }

    pub fn head(&self) -> Option<&Expect> {
        self.queue.front()
    }

    /// What the statement changes that has just completed, if it is one that changes what the session keeps.
    pub fn script(&mut self) -> Option<&mut Script> {
        match self.queue.front_mut() {
            Some(Expect::Simple { script } | Expect::Execute { script }) => script.as_deref_mut(),
            _ => None,
        }
    }

    pub fn pop(&mut self) -> Option<Expect> {
        self.queue.pop_front()
    }

    /// Whether a ReadyForQuery is outstanding: the transaction status is not known before it comes.
    pub fn owes_ready(&self) -> bool {
        self.queue.iter().any(|expect| {
            matches!(
                expect,
                Expect::Settings | Expect::Evidence(_) | Expect::Spoiled | Expect::Simple { .. } | Expect::Sync { .. }
            )
        })
    }

    /// Whether nothing of the client's is outstanding: what we sent ourselves leaves the transaction status as it is known.
    pub fn all_ours(&self) -> bool {
        self.queue.iter().all(Expect::is_ours)
    }

    /// Whether anything is outstanding but what we ourselves have sent ahead.
    pub fn owes_answers(&self) -> bool {
        !self.queue.iter().all(|expect| expect.is_ours() || matches!(expect, Expect::Begin))
    }

    /// Whether nothing is to come from the server: all that is left is for us to make.
    pub fn all_made(&self) -> bool {
        self.queue
            .iter()
            .all(|expect| matches!(expect, Expect::MadeParse { .. } | Expect::MadeClose { .. } | Expect::CopyEnd))
    }

    /// Makes the replies at the head that are ours to make (trap 32: each in its place).
    pub fn make_leading(&mut self, splice: &mut Splice<'_>) {
        while let Some(Expect::MadeParse { .. } | Expect::MadeClose { .. } | Expect::CopyEnd) = self.queue.front() {
            match self.queue.pop_front() {
                Some(Expect::MadeParse { .. }) => build::bare(splice.insert(), b'1'),
                Some(Expect::MadeClose { .. }) => build::bare(splice.insert(), b'3'),
                _ => {}
            }
        }
    }

    /// An error came in an extended-protocol sequence: the server skips to the next Sync, so nothing comes for what stands
    /// before it, a Query included; what those messages would have changed is taken back (trap 33). Returns whether a Sync is on its way.
    pub fn fail_to_sync(&mut self, names: &mut Names, registry: &mut Registry) -> bool {
        while let Some(expect) = self.queue.front() {
            if matches!(expect, Expect::Sync { .. }) {
                return true;
            }
            match self.queue.pop_front() {
                Some(Expect::Parse { statement, unnamed, client }) => {
                    if unnamed {
                        registry.unnamed = None;
                    } else {
                        registry.forget(statement.id);
                    }
                    match client {
                        Some((name, previous)) if name.is_empty() => names.set_unnamed(previous),
                        Some((name, _)) => names.forget(&name),
                        None => {}
                    }
                }
                Some(Expect::MadeParse { name }) => names.forget(&name),
                Some(Expect::Evict { statement }) => registry.restore(statement),
                Some(Expect::MadeClose { name, statement: Some(statement) }) => names.restore(name, statement),
                _ => {}
            }
        }
        false
    }

    /// The server began COPY IN: it ignores Syncs until CopyDone or CopyFail (trap 48), so those sent already will not be
    /// answered. Returns whether the end of the data is on its way already.
    pub fn copy_in_began(&mut self) -> bool {
        let end = self.queue.iter().position(|expect| matches!(expect, Expect::CopyEnd));
        let until = end.map_or(self.queue.len(), |end| end + 1);
        let mut index = 0;
        self.queue.retain(|expect| {
            let within = index < until;
            index += 1;
            !(within && matches!(expect, Expect::Sync { .. } | Expect::CopyEnd))
        });
        end.is_some()
    }
}
