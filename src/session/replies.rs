//! What the server still owes, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::backend::{OwnName, Prepared, Registry};
use crate::sql::Change;
use crate::wire::{ErrorNotice, build};

use super::names::{Named, Names};
use super::splice::Splice;
use super::tracked::Script;

/// A name of the client's, and what it stood for before.
pub(super) type NamedBefore = (Box<[u8]>, Option<Arc<Named>>);

/// One reply, or group of replies, that is still to come.
#[derive(Debug)]
pub(super) enum Expect {
    /// Our own Query that applies settings: all of it is dropped, up to its ReadyForQuery.
    Settings,
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
    /// ParseComplete of a Parse of the client's that went out as it was. The name, if it is one that was free.
    RawParse { client: Option<Box<[u8]>> },
    /// ParseComplete that we make ourselves, when everything before it has come.
    MadeParse { name: Box<[u8]> },
    /// BindComplete.
    Bind {
        /// The shared statement that is bound.
        statement: Option<Arc<Prepared>>,
        /// The client knows its columns and does not ask for them again.
        relies: bool,
    },
    /// A message of ours that must fail, in the place of a Bind that we refuse: the client gets this error for it.
    Refused(Box<ErrorNotice>),
    /// ParameterDescription, then RowDescription or NoData, of this shared statement or of a portal of it.
    Describe {
        of: Option<Arc<Prepared>>,
        /// The parameters were told already.
        begun: bool,
    },
    /// The same for ourselves, to see whether the columns are still those that clients know.
    Verify { statement: Arc<Prepared> },
    /// Rows, then CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute { script: Option<Box<Script>> },
    /// CloseComplete: `ours` is dropped.
    Close { ours: bool },
    /// CloseComplete of a Close of ours for a statement of ours that nobody is to use any more, dropped.
    CloseStray { name: Box<[u8]> },
    /// CloseComplete of a Close of ours for a client's name that means something else to this client, dropped.
    TakeAway { name: Box<[u8]>, own: OwnName },
    /// ParseComplete of a Parse of ours under the client's own name, dropped.
    OwnParse { name: Box<[u8]> },
    /// BindComplete of a Bind of ours, dropped.
    OwnBind,
    /// CommandComplete of a `PREPARE` of ours, dropped.
    OwnExecute { name: Box<[u8]> },
    /// ReadyForQuery behind messages of ours before a Query, dropped. Their error is told in place of the Query's.
    OwnSync,
    /// CloseComplete of a Close of ours for a statement that had to make room, dropped.
    Evict { statement: Arc<Prepared> },
    /// CloseComplete that we make ourselves; the statement comes back if an error before it skips the Close.
    MadeClose { name: Box<[u8]>, statement: Option<Arc<Named>> },
    /// ReadyForQuery of a Sync: `ours` is dropped.
    Sync { ours: bool },
    /// The client has sent CopyDone or CopyFail; nothing comes for it.
    CopyEnd,
}

impl Expect {
    /// Whether it is a ReadyForQuery, or ends with one.
    fn is_ready(&self) -> bool {
        matches!(self, Self::Settings | Self::Simple { .. } | Self::Sync { .. } | Self::OwnSync)
    }

    /// Whether nothing comes from the server for it.
    fn is_made(&self) -> bool {
        matches!(self, Self::MadeParse { .. } | Self::MadeClose { .. } | Self::CopyEnd)
    }
}

/// The queue of expected replies of one lease.
#[derive(Debug, Default)]
pub(super) struct Replies {
    queue: VecDeque<Expect>,
    pushed: u64,
}

impl Replies {
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn push(&mut self, expect: Expect) {
        self.pushed += 1;
        self.queue.push_back(expect);
    }

    /// How many replies have been awaited.
    pub fn pushed(&self) -> u64 {
        self.pushed
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

    /// A ParameterDescription came. Whether it is the client's, who is told once.
    pub fn tell_parameters(&mut self) -> bool {
        match self.queue.front_mut() {
            Some(Expect::Describe { begun, .. }) => !std::mem::replace(begun, true),
            Some(Expect::Verify { .. }) => false,
            _ => true,
        }
    }

    pub fn pop(&mut self) -> Option<Expect> {
        self.queue.pop_front()
    }

    /// Whether a ReadyForQuery is outstanding: the transaction status is not known before it comes.
    pub fn owes_ready(&self) -> bool {
        self.queue.iter().any(Expect::is_ready)
    }

    /// Whether something under way may change what this name of the client's stands for.
    pub fn changes_name(&self, name: &[u8]) -> bool {
        self.queue.iter().any(|expect| match expect {
            Expect::Simple { script: Some(script) } | Expect::Execute { script: Some(script) } => {
                script.all().any(|change| match change {
                    Change::Prepare { name: changed, .. } | Change::Deallocate(changed) => **changed == *name,
                    Change::DeallocateAll | Change::DiscardAll => true,
                    _ => false,
                })
            }
            _ => false,
        })
    }

    /// Whether a Parse or Close of this name is under way, which an error before it may make void.
    pub fn prepares_name(&self, name: &[u8]) -> bool {
        self.queue.iter().any(|expect| match expect {
            Expect::Parse { client: Some((of, _)), .. }
            | Expect::MadeParse { name: of }
            | Expect::MadeClose { name: of, .. }
            | Expect::RawParse { client: Some(of) } => **of == *name,
            _ => false,
        })
    }

    /// Whether it is not known yet if this statement's columns are what they were.
    pub fn verifies(&self, id: u64) -> bool {
        self.queue.iter().any(|expect| matches!(expect, Expect::Verify { statement } if statement.id == id))
    }

    /// Whether the next ReadyForQuery is one that ends messages of ours before a Query.
    pub fn is_before_own_sync(&self) -> bool {
        matches!(self.queue.iter().find(|expect| expect.is_ready()), Some(Expect::OwnSync))
    }

    /// Whether all that is owed belongs to one segment of the client's that a Sync of its has ended.
    pub fn is_one_segment(&self) -> bool {
        matches!(self.queue.back(), Some(Expect::Sync { ours: false }))
            && self.queue.iter().filter(|expect| expect.is_ready() && !matches!(expect, Expect::Settings)).count() == 1
    }

    /// Whether a ReadyForQuery of another statement than one that applies settings is outstanding.
    pub fn owes_client(&self) -> bool {
        self.queue.iter().any(|expect| expect.is_ready() && !matches!(expect, Expect::Settings))
    }

    /// How many of the replies owed answer a message that was sent.
    pub fn sent(&self) -> usize {
        self.queue.iter().filter(|expect| !expect.is_made()).count()
    }

    /// Adds what is owed once more; the statement `old` is `new` now.
    pub fn append(&mut self, mut owed: Self, old: &Prepared, new: &Arc<Prepared>) {
        for expect in &mut owed.queue {
            if let Expect::Bind { statement: Some(statement), .. } | Expect::Describe { of: Some(statement), .. } =
                expect
                && statement.id == old.id
            {
                *statement = new.clone();
            }
        }
        self.pushed += owed.queue.len() as u64;
        self.queue.append(&mut owed.queue);
    }

    /// Whether nothing is to come from the server: all that is left is for us to make.
    pub fn all_made(&self) -> bool {
        self.queue.iter().all(Expect::is_made)
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
        let (mut restored, mut taken) = (Vec::new(), Vec::new());
        while let Some(expect) = self.queue.front() {
            if matches!(expect, Expect::Sync { .. } | Expect::OwnSync) {
                return true;
            }
            match self.queue.pop_front() {
                Some(Expect::Parse { statement, unnamed, client }) => {
                    if unnamed {
                        registry.unnamed = None;
                    } else if !restored.contains(&statement.id) {
                        registry.forget(statement.id);
                    }
                    match client {
                        Some((name, previous)) if name.is_empty() => names.set_unnamed(previous),
                        Some((name, _)) => drop(names.remove(&name)),
                        None => {}
                    }
                }
                Some(Expect::RawParse { client: Some(name) } | Expect::MadeParse { name }) => drop(names.remove(&name)),
                Some(Expect::Evict { statement }) => {
                    restored.push(statement.id);
                    registry.restore(statement);
                }
                Some(Expect::Verify { statement }) => registry.discard(&statement),
                Some(Expect::CloseStray { name }) => registry.strays.push(name),
                Some(Expect::TakeAway { name, own }) => {
                    taken.push(name.clone());
                    registry.restore_own(name, own);
                }
                Some(Expect::OwnParse { name }) if !taken.contains(&name) => drop(registry.remove_own(&name)),
                Some(Expect::OwnExecute { name }) => {
                    registry.helper = true;
                    if !taken.contains(&name) {
                        registry.remove_own(&name);
                    }
                }
                Some(Expect::MadeClose { name, statement: Some(named) }) => names.set(&name, named),
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
