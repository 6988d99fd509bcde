//! One client: the session machine and its relay.
//!
//! A session is one task. It reads whole buffers from its client, walks the frames by their headers, and passes runs of
//! them on untouched; what it must know (statements, names, transaction status) it reads in passing. Read in this order:
//! [`login`], [`machine`] (the state), `relay` (the loop), `transfer` (its bytes), `inbound` (client to server: `queries`, `extended`,
//! `binding`), `statements` (what is noted of each), `outbound` (server to client), `acquire` (which connection).

mod acquire;
mod binding;
mod block_end;
mod breaker;
mod buffers;
mod cancel;
mod clearing;
mod clients;
mod completion;
mod decisions;
mod deferred;
mod ending;
mod evidence;
mod expect;
mod extended;
mod freeze;
mod freshness;
mod gather;
mod heal;
mod inbound;
mod leaving;
mod local;
mod login;
mod logins;
mod machine;
mod names;
mod notify;
mod offload;
mod outbound;
mod own_names;
mod own_settings;
mod partial;
mod passthrough;
mod pins;
mod placement;
mod posing;
mod preparing;
mod prospect;
mod provide;
mod queries;
mod readings;
mod relay;
mod replies;
mod rerun;
mod search_path;
mod settling;
mod shards;
mod shown;
mod spare;
mod splice;
mod statements;
mod timeouts;
mod timing;
mod tracked;
mod transfer;
mod undo;
mod why;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use crate::config::Config;
use crate::observe::{Metrics, SlowLog};
use crate::topology::Directory;

pub use cancel::cancel;
pub use clients::{Client, ClientLimits, ClientState, Clients, Identity, Pinned, Registered, Request};
pub use decisions::Decisions;
pub use login::{Login, LoginRefused, log_in};
pub use logins::{LoggingIn, SentAway};
pub use notify::Hubs;
pub use relay::serve;

/// What all sessions share.
pub struct Context {
    /// The configuration in force.
    pub config: ArcSwap<Config>,
    /// Clusters and pools.
    pub directory: Directory,
    /// All clients.
    pub clients: Arc<Clients>,
    /// Metrics.
    pub metrics: Metrics,
    /// The slow-query log.
    pub slow_log: SlowLog,
    /// Decisions by statement, for each database.
    pub decisions: Decisions,
    /// Sessions that LISTEN, by database.
    pub hubs: Hubs,
    /// A shutdown has begun.
    pub draining: AtomicBool,
    /// Another process takes over, or has: what stands only here does not hold there.
    pub succeeded: AtomicBool,
    /// Processes that this one has taken over from and that have clients left: what is said here does not hold there.
    pub preceded: Arc<AtomicUsize>,
    /// Grows by one with each reload that was applied.
    pub generation: AtomicUsize,
}

impl Context {
    /// Whether another process serves the same databases: what its clients write nobody tells here.
    fn is_one_of_two(&self) -> bool {
        self.succeeded.load(Ordering::Relaxed) || self.preceded.load(Ordering::Relaxed) > 0
    }
}
