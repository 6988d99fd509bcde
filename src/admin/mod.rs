//! The admin console: PgBouncer's `SHOW` tables and commands, and ours, over both query protocols.
//!
//! A client logs in as to any database ([`login`]), and then pgwire's handlers answer it ([`handler`]), over a loop of
//! our own that reads and checks every frame first ([`connection`], [`message`]). `command` understands the text,
//! `tables` has a file for each group of tables.

mod answer;
mod command;
mod connection;
mod handler;
mod help;
mod login;
mod message;
mod reload;
mod rights;
mod tables;
mod value;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::net::Stream;
use crate::session::Context;
use crate::wire::startup::Startup;

pub use reload::ReloadRequest;

/// The console behind the databases `trunkline` and `pgbouncer`.
pub struct Console {
    ctx: Arc<Context>,
    reloads: mpsc::Sender<ReloadRequest>,
}

/// The console's own name.
const NAME: &str = "trunkline";

/// Whether a database name means the console.
pub fn is_console(database: &str) -> bool {
    database == NAME || database == "pgbouncer"
}

impl Console {
    /// A console over what the sessions share; reloads are asked for through `reloads`.
    pub fn new(ctx: Arc<Context>, reloads: mpsc::Sender<ReloadRequest>) -> Self {
        Self { ctx, reloads }
    }

    /// Serves one client of the console, from its startup packet to its end; `limit` bounds the login.
    pub async fn serve(self: Arc<Self>, mut stream: Stream, startup: Startup, limit: Duration) {
        match tokio::time::timeout(limit, login::log_in(&self.ctx, &mut stream, &startup)).await {
            Ok(Some(registered)) => connection::serve(self, stream, registered).await,
            Ok(None) => stream.shutdown(),
            Err(_) => self.ctx.metrics.refused("login_timeout"),
        }
    }
}
