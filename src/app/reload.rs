//! Reloading the configuration: whole, or not at all.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use crate::admin::ReloadRequest;
use crate::config::{Config, Diff, Environment, load};
use crate::net::ServerTlsContext;
use crate::observe::LogHandle;
use crate::session::Context;

use super::front::Front;

/// Reads the configuration again and applies it.
pub struct Reloader {
    ctx: Arc<Context>,
    file: Option<PathBuf>,
    env: Environment,
    log: LogHandle,
    requests: mpsc::Sender<ReloadRequest>,
}

impl Reloader {
    /// A reloader of `file`, and the queue of requests for it.
    pub fn new(
        ctx: Arc<Context>,
        file: Option<PathBuf>,
        env: Environment,
        log: LogHandle,
    ) -> (Self, mpsc::Receiver<ReloadRequest>) {
        let (requests, queue) = mpsc::channel(16);
        (Self { ctx, file, env, log, requests }, queue)
    }

    /// Where requests go.
    pub fn requests(&self) -> mpsc::Sender<ReloadRequest> {
        self.requests.clone()
    }

    /// Reads the file again and applies it whole, or says why not; then nothing has changed.
    ///
    /// # Errors
    /// All that is wrong with the file, ready to print.
    pub fn reload(&self, front: &Front) -> Result<(), String> {
        let outcome = self.try_reload(front);
        self.ctx.metrics.reloaded(outcome.is_ok());
        if let Err(error) = &outcome {
            tracing::error!(error, "reload refused; the old configuration stays in force");
        }
        outcome
    }

    fn try_reload(&self, front: &Front) -> Result<(), String> {
        let Some(file) = &self.file else {
            return Err("the configuration came from the command line: there is no file to read again".to_owned());
        };
        let loaded = load(file, &self.env).map_err(|errors| errors.render(false))?;
        let new: Config = loaded.config;
        let old = self.ctx.config.load_full();
        let changes = Diff::between(&old, &new);
        let tls = ServerTlsContext::load(&new.client_tls).map_err(|error| error.to_string())?;
        self.log.reconfigure(&new.log).map_err(|error| error.to_string())?;
        self.ctx.slow_log.reconfigure(&new.slow_log).map_err(|error| error.to_string())?;
        self.ctx.directory.apply(&new).map_err(|error| error.to_string())?;
        front.tls.store(tls);
        self.ctx.forget_decisions(&new);
        self.ctx.metrics.set_max_clients(new.max_clients);
        self.ctx.config.store(Arc::new(new));
        self.ctx.generation.fetch_add(1, Ordering::AcqRel);
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        for change in changes {
            tracing::info!(%change, "configuration changed");
        }
        tracing::info!("configuration reloaded");
        Ok(())
    }
}
