//! Reloading the configuration: whole, or not at all.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use crate::admin::Order;
use crate::config::{Config, Diff, Environment, Loaded, Origin, load};
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
    orders: mpsc::Sender<Order>,
    /// What the configuration in force was read from.
    origin: Origin,
    /// Settings that the console has changed since.
    changed: BTreeMap<&'static str, String>,
}

impl Reloader {
    /// A reloader of `file`, which `origin` was read from, and the queue of the console's orders.
    pub fn new(
        ctx: Arc<Context>,
        file: Option<PathBuf>,
        env: Environment,
        log: LogHandle,
        origin: Origin,
    ) -> (Self, mpsc::Receiver<Order>) {
        let (orders, queue) = mpsc::channel(16);
        (Self { ctx, file, env, log, orders, origin, changed: BTreeMap::new() }, queue)
    }

    /// Where orders go.
    pub fn orders(&self) -> mpsc::Sender<Order> {
        self.orders.clone()
    }

    /// Reads the file again and applies it whole, or says why not; then nothing has changed.
    ///
    /// # Errors
    /// All that is wrong with the file, ready to print.
    pub fn reload(&mut self, front: &Front) -> Result<(), String> {
        let outcome = self.try_reload(front);
        self.ctx.metrics.reloaded(outcome.is_ok());
        if let Err(error) = &outcome {
            tracing::error!(error, "reload refused; the old configuration stays in force");
        }
        outcome
    }

    /// Changes a setting until the next reload.
    ///
    /// # Errors
    /// Why its value does not fit, for people.
    pub fn set(&mut self, path: &'static str, value: String, front: &Front) -> Result<(), String> {
        let mut changed = self.changed.clone();
        changed.insert(path, value);
        let settings = changed.iter().map(|(path, value)| (*path, value.as_str()));
        let loaded = self.origin.load_with(settings, &self.env).map_err(|errors| {
            let problems = errors.problems().iter().filter(|problem| !problem.is_warning());
            problems.map(crate::config::Problem::without_place).collect::<Vec<_>>().join("; ")
        })?;
        self.apply(loaded, front)?;
        self.changed = changed;
        Ok(())
    }

    fn try_reload(&mut self, front: &Front) -> Result<(), String> {
        let Some(file) = &self.file else {
            return Err("the configuration came from the command line: there is no file to read again".to_owned());
        };
        let loaded = load(file, &self.env).map_err(|errors| errors.render(false))?;
        let origin = loaded.origin.clone();
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        self.apply(loaded, front)?;
        self.origin = origin;
        self.changed.clear();
        tracing::info!("configuration reloaded");
        Ok(())
    }

    fn apply(&self, loaded: Loaded, front: &Front) -> Result<(), String> {
        let new: Config = loaded.config;
        let old = self.ctx.config.load_full();
        let changes = Diff::between(&old, &new);
        let tls = ServerTlsContext::load(&new.client_tls).map_err(|error| error.to_string())?;
        let change_slow_log = self.ctx.slow_log.prepare(&new.slow_log).map_err(|error| error.to_string())?;
        // The last one that may refuse: the level was read with the file.
        self.ctx.directory.apply(&new).map_err(|error| error.to_string())?;
        self.log.reconfigure(&new.log).map_err(|error| error.to_string())?;
        change_slow_log();
        front.tls.store(tls);
        self.ctx.forget_decisions(&new);
        self.ctx.metrics.set_max_clients(new.max_clients);
        self.ctx.config.store(Arc::new(new));
        // Who has logged in meanwhile did so by the old one.
        let config = self.ctx.config.load();
        self.ctx.directory.clusters().values().for_each(|cluster| cluster.apply(&config));
        self.ctx.read_catalogs(&config);
        self.ctx.generation.fetch_add(1, Ordering::AcqRel);
        self.ctx.clients.all().iter().for_each(|client| client.nudge());
        for change in changes {
            tracing::info!(%change, "configuration changed");
        }
        Ok(())
    }
}
