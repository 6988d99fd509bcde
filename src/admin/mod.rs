//! The admin console.

mod reload;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::net::Stream;
use crate::session::Context;
use crate::wire::startup::Startup;
use crate::wire::{ErrorNotice, SqlState};

pub use reload::ReloadRequest;

/// The console behind the databases `trunkline` and `pgbouncer`.
pub struct Console {
    ctx: Arc<Context>,
    reloads: mpsc::Sender<ReloadRequest>,
}

/// Whether a database name means the console.
pub fn is_console(database: &str) -> bool {
    database == "trunkline" || database == "pgbouncer"
}

impl Console {
    /// A console over what the sessions share; reloads are asked for through `reloads`.
    pub fn new(ctx: Arc<Context>, reloads: mpsc::Sender<ReloadRequest>) -> Self {
        Self { ctx, reloads }
    }

    /// Serves one client of the console, from its startup packet to its end; `limit` bounds the login.
    pub async fn serve(self: Arc<Self>, mut stream: Stream, _startup: Startup, _limit: Duration) {
        let _ = (&self.ctx, &self.reloads);
        let mut out = Vec::new();
        ErrorNotice::fatal(SqlState::FEATURE_NOT_SUPPORTED, "the console is not there yet").encode(&mut out);
        let _ = stream.write_all(&out).await;
        stream.shutdown();
    }
}
