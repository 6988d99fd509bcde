//! What the server owes for one message.

use std::sync::Arc;

use crate::backend::{OwnName, Prepared};
use crate::wire::ErrorNotice;

use super::block_end::OwnEnd;
use super::names::Named;
use super::pins::Pins;
use super::tracked::Script;

/// A name of the client's, and what it stood for before.
pub(super) type NamedBefore = (Box<[u8]>, Option<Arc<Named>>);

/// One reply, or group of replies, that is still to come.
#[derive(Debug)]
pub(super) enum Expect {
    /// Our own Query that applies settings: all of it is dropped, up to its ReadyForQuery.
    Settings,
    /// Our own Query that takes away what the client has left on the connection, which has nothing else to do: all of it is dropped, up
    /// to its ReadyForQuery.
    Tidy,
    /// Our own Query that asks whether these pins are still needed: all of it is dropped, up to its ReadyForQuery.
    Evidence(Pins),
    /// Our own Query that asks how transactions begin that do not say it: all of it is dropped, up to its ReadyForQuery.
    Defaults,
    /// Our own Query that asks for the connection's search path: all of it is dropped, up to its ReadyForQuery.
    Path,
    /// Our own Query that ends the client's block: all of it is dropped, up to its ReadyForQuery.
    OwnEnd(OwnEnd),
    /// Parse, Bind and Execute of ours that begin the client's block: all of it is dropped, up to its CommandComplete.
    Begin,
    /// Messages of ours that make the block fail: the error and the ReadyForQuery are dropped.
    Spoiled,
    /// A Query or FunctionCall of the client's, up to its ReadyForQuery.
    Simple {
        script: Option<Box<Script>>,
        /// The unnamed statement that a Query has ended, if an error before it in its segment can still void it.
        unnamed: Option<Arc<Named>>,
        /// It is the beginning of the client's text: the rest is taken when it has succeeded, and that is answered to the client.
        goes_on: bool,
    },
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
        /// When the client gave it the name by which it is bound: of several names of one statement this tells which.
        since: u64,
    },
    /// A message of ours that must fail, in the place of a Bind that we refuse: the client gets this error for it.
    Refused(Box<ErrorNotice>),
    /// ParameterDescription, then RowDescription or NoData, of this shared statement or of a portal of it.
    Describe {
        of: Option<Arc<Prepared>>,
        /// As of a Bind.
        since: u64,
        /// The parameters were told already.
        begun: bool,
    },
    /// The same for ourselves, to see whether the columns are still those that clients know.
    Verify { statement: Arc<Prepared> },
    /// Rows, then CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute { script: Option<Box<Script>> },
    /// CloseComplete: `ours` is dropped.
    Close { ours: bool },
    /// CloseComplete of the client's Close of the unnamed statement; what that was before.
    CloseUnnamed { before: Option<Arc<Named>> },
    /// CloseComplete of a Close of ours for a statement of ours that nobody is to use any more, dropped.
    CloseStray { name: Box<[u8]> },
    /// CloseComplete of a Close of ours for a client's name that means something else to this client, dropped.
    TakeAway { name: Box<[u8]>, own: OwnName },
    /// ParseComplete of a Parse of ours under the client's own name, dropped.
    OwnParse { name: Box<[u8]> },
    /// BindComplete of a Bind of ours, dropped.
    OwnBind,
    /// Rows and CommandComplete of a statement of ours within a segment, dropped. The client's name that it prepares.
    OwnExecute { prepares: Option<Box<[u8]>> },
    /// ReadyForQuery behind messages of ours before a Query, dropped. Their error is told in place of the Query's.
    OwnSync,
    /// CloseComplete of a Close of ours for a statement that had to make room, dropped.
    Evict { statement: Arc<Prepared> },
    /// CloseComplete that we make ourselves; the statement comes back if an error before it skips the Close.
    MadeClose { name: Box<[u8]>, statement: Option<Arc<Named>> },
    /// ReadyForQuery of a Sync: `ours` is dropped.
    Sync { ours: bool },
    /// A notice that we make ourselves, before what comes next.
    Notice(Box<ErrorNotice>),
    /// The client has sent CopyDone or CopyFail; nothing comes for it.
    CopyEnd,
}

impl Expect {
    /// Messages of ours of which all is dropped, up to a ReadyForQuery.
    fn is_own_query(&self) -> bool {
        matches!(
            self,
            Self::Settings
                | Self::Tidy
                | Self::Evidence(_)
                | Self::Defaults
                | Self::Path
                | Self::OwnEnd(_)
                | Self::Spoiled
                | Self::OwnSync
        )
    }

    /// A message of ours, of which the client sees nothing.
    pub fn is_ours(&self) -> bool {
        self.is_own_query()
            || matches!(self, Self::Begin | Self::TakeAway { .. } | Self::OwnParse { .. } | Self::OwnBind)
            || matches!(self, Self::OwnExecute { .. } | Self::CloseStray { .. })
    }

    /// Whether it is a ReadyForQuery, or ends with one.
    pub fn is_ready(&self) -> bool {
        self.is_own_query() || matches!(self, Self::Simple { .. } | Self::Sync { .. })
    }

    /// Whether an error before it would decide what a name stands for, the client's or ours.
    pub fn unsettles(&self) -> bool {
        match self {
            Self::Simple { unnamed, .. } => unnamed.is_some(),
            Self::OwnExecute { prepares } => prepares.is_some(),
            Self::Parse { .. } | Self::RawParse { .. } | Self::MadeParse { .. } | Self::OwnParse { .. } => true,
            Self::CloseUnnamed { .. } | Self::MadeClose { .. } | Self::CloseStray { .. } => true,
            Self::TakeAway { .. } | Self::Evict { .. } => true,
            _ => false,
        }
    }

    /// Whether a cancel request waits for its end: it is not what is to be cancelled.
    pub fn is_spared(&self) -> bool {
        matches!(self, Self::Settings | Self::Tidy)
    }

    /// Whether something else of the server's answer comes before a ReadyForQuery.
    pub fn says_before_ready(&self) -> bool {
        !matches!(self, Self::Sync { .. } | Self::OwnSync | Self::CopyEnd | Self::Notice(_)) && !self.is_made()
    }

    pub fn has_script(&self) -> bool {
        matches!(self, Self::Simple { script: Some(_), .. } | Self::Execute { script: Some(_) })
    }

    /// Whether it is of the client's, and ends the unnamed statement, be it with another one.
    pub fn ends_unnamed(&self) -> bool {
        match self {
            Self::Parse { client: Some((name, _)), .. } | Self::RawParse { client: Some(name) } => name.is_empty(),
            Self::Simple { .. } | Self::CloseUnnamed { .. } => true,
            _ => false,
        }
    }

    /// The shared statement that it is about, and when the client gave it the name that the message says.
    pub fn named(&self) -> Option<(&Arc<Prepared>, u64)> {
        match self {
            Self::Bind { statement, since, .. } => Some((statement.as_ref()?, *since)),
            Self::Describe { of, since, .. } => Some((of.as_ref()?, *since)),
            _ => None,
        }
    }

    /// Whether nothing comes from the server for it.
    pub fn is_made(&self) -> bool {
        matches!(self, Self::MadeParse { .. } | Self::MadeClose { .. } | Self::Notice(_) | Self::CopyEnd)
    }
}
