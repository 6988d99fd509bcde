//! One client: the session machine and its relay.
//!
//! A session is one task. It reads whole buffers from its client, walks the frames by their headers, and passes runs of
//! them on untouched; what it must know (statements, names, transaction status) it reads in passing. Read in this order:
//! [`login`], [`machine`] (the state), `inbound` (client to server), `outbound` (server to client), `relay` (the loop),
//! `acquire` (which connection).

mod acquire;
mod buffers;
mod cancel;
mod clients;
mod extended;
mod inbound;
mod login;
mod machine;
mod names;
mod outbound;
mod passthrough;
mod pins;
mod placement;
mod relay;
mod replies;
mod splice;
mod timing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::observe::{Metrics, SlowLog};
use crate::route::DecisionCache;
use crate::topology::Directory;

pub use cancel::cancel;
pub use clients::{Client, ClientState, Clients, NewClient, Registered, Request};
pub use login::{Login, LoginRefused, log_in};
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
    /// Decisions by statement.
    pub decisions: DecisionCache,
    /// A shutdown has begun.
    pub draining: AtomicBool,
    /// Grows by one with each reload that was applied.
    pub generation: AtomicUsize,
    /// Connections that are still logging in, so that they cannot outnumber the clients that may be served.
    pub logins: Semaphore,
}
