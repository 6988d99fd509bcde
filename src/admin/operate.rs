//! The commands that change something, carried out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::action::{Action, NodeName};
use super::handler::Handler;
use super::is_console;
use super::settings;
use super::tables::View;
use super::wish::{Order, Wish};
use crate::pool::{Gate, Service};
use crate::session::{Client, ClientState, Request};
use crate::topology::Cluster;
use crate::wire::{ErrorNotice, SqlState};

/// Time between two looks at what a command waits for.
pub(super) const LOOK: Duration = Duration::from_millis(10);
/// Longest time that dropping clients may take: a client that does not read is waited for for a moment.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// PgBouncer's `suspend_timeout`: whom nothing can be written to for so long is dropped.
const SUSPEND_LIMIT: Duration = Duration::from_secs(10);

/// What a command that waits found when it looked.
pub(super) enum Look {
    /// It is done.
    Done,
    /// Not yet.
    Wait,
    /// Somebody else has undone it, by this command.
    Undone(&'static str),
}

impl Handler {
    /// Carries a command out; the user's rights have been checked.
    ///
    /// # Errors
    /// What to tell the client.
    pub(super) async fn act(&self, action: &Action) -> Result<(), ErrorNotice> {
        tracing::info!(user = self.user, command = action.tag(), ?action, "console command");
        self.client.clear(Request::CancelWait);
        match action {
            Action::Pause(None) => self.pause_all().await,
            Action::Pause(Some(name)) => self.pause(name).await,
            Action::Resume(None) => self.resume_all(),
            Action::Resume(Some(name)) => {
                let gate = self.gate("resume", name)?;
                if self.console.resume(Some(name), || gate.resume()) {
                    Ok(())
                } else {
                    Err(state(format!("database {name} is not paused")))
                }
            }
            Action::Disable(name) => {
                self.gate("disable", name)?.set_disabled(true);
                Ok(())
            }
            Action::Enable(name) => {
                self.gate("enable", name)?.set_disabled(false);
                Ok(())
            }
            Action::DisableNode(name) => {
                let (cluster, node) = self.node(name)?;
                cluster.disable_node(node);
                Ok(())
            }
            Action::EnableNode(name) => {
                let (cluster, node) = self.node(name)?;
                if cluster.is_leaving(&name.node) {
                    self.must_be_last()?;
                }
                cluster.enable_node(node);
                Ok(())
            }
            Action::Switchover { database, replica } => self.switchover(database, replica.as_deref()).await,
            Action::Reconnect(name) => {
                self.gates("reconnect", name.as_deref())?.iter().for_each(|gate| gate.reconnect());
                Ok(())
            }
            Action::Kill(name) => self.kill(name.as_deref()).await,
            Action::ForgetLearned(name) => self.forget_learned(name.as_deref()),
            Action::ForgetRoutes => {
                self.console.ctx.metrics.route_stats().values().for_each(|stats| stats.reset());
                Ok(())
            }
            Action::ForgetBreakers => {
                let caches = self.console.ctx.all_decisions();
                let refused: usize = caches.iter().map(|(_, cache)| cache.breaker().reset()).sum();
                tracing::info!(refused, "statements that had failed too often may run again");
                Ok(())
            }
            Action::KillClient(id) => self.kill_client(*id).await,
            Action::Suspend => self.suspend().await,
            Action::WaitClose(name) => {
                self.must_be_alone()?;
                let gates = self.gates("wait in", name.as_deref())?;
                let done = || if gates.iter().all(|gate| gate.to_be_closed() == 0) { Look::Done } else { Look::Wait };
                self.wait(done).await
            }
            Action::Shutdown(when) => self
                .order(Wish::Shutdown(*when))
                .await?
                .map_err(|why| ErrorNotice::error(SqlState::CANNOT_CONNECT_NOW, why)),
            Action::Reload => self.order(Wish::Reload).await?.map_err(|reason| {
                ErrorNotice::error(SqlState::CONFIG_FILE_ERROR, "RELOAD failed, see logs").detail(reason)
            }),
            Action::Set { key, value } => self.set(key, value).await,
        }
    }

    fn forget_learned(&self, name: Option<&str>) -> Result<(), ErrorNotice> {
        let ctx = &self.console.ctx;
        let only = match name {
            None => None,
            Some(name) => {
                Some(ctx.config.load().database(name).map(|database| database.name.clone()).ok_or_else(|| {
                    ErrorNotice::error(SqlState::UNKNOWN_DATABASE, format!("database \"{name}\" does not exist"))
                        .hint("SHOW DATABASES lists them.")
                })?)
            }
        };
        let decisions = ctx.all_decisions();
        let wanted = decisions.iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name));
        let forgotten: usize = wanted.map(|(_, cache)| cache.forget_learned()).sum();
        tracing::info!(forgotten, "what replicas have refused was forgotten");
        Ok(())
    }

    async fn pause_all(&self) -> Result<(), ErrorNotice> {
        self.must_be_active()?;
        self.must_be_alone()?;
        let gates = &self.console.ctx.directory.gates;
        // Those that nobody has used yet have their health checks.
        self.gates("pause", None)?;
        gates.set_service(Service::Paused);
        self.console.look_after_nodes(None);
        let waited = self.wait(|| {
            if gates.service() != Service::Paused {
                Look::Undone("RESUME")
            } else if gates.all().iter().all(|gate| gate.connections() == 0) {
                Look::Done
            } else {
                Look::Wait
            }
        });
        let waited = waited.await;
        if waited.as_ref().is_err_and(|error| error.code == SqlState::QUERY_CANCELED) {
            self.console.resume(None, || gates.set_service(Service::Active));
        }
        waited
    }

    async fn pause(&self, name: &str) -> Result<(), ErrorNotice> {
        self.must_be_active()?;
        self.must_be_alone()?;
        let gate = self.gate("pause", name)?;
        let was_running = gate.pause();
        self.console.look_after_nodes(Some(name));
        let waited = self.wait(|| match (gate.is_paused(), gate.connections()) {
            (false, _) => Look::Undone("RESUME"),
            (true, 0) => Look::Done,
            (true, _) => Look::Wait,
        });
        let waited = waited.await;
        if was_running && waited.as_ref().is_err_and(|error| error.code == SqlState::QUERY_CANCELED) {
            self.console.resume(Some(name), || gate.resume());
        }
        waited
    }

    fn must_be_active(&self) -> Result<(), ErrorNotice> {
        match self.console.ctx.directory.gates.service() {
            Service::Active => Ok(()),
            Service::Paused | Service::Suspended => Err(state("already suspended/paused")),
        }
    }

    /// What holds for all clients and servers must be said to the process that new ones come to.
    ///
    /// # Errors
    /// Another one has taken over.
    fn must_be_last(&self) -> Result<(), ErrorNotice> {
        if self.console.ctx.succeeded.load(Ordering::SeqCst) {
            return Err(state("another process has taken over, whose clients would go on")
                .hint("Say it to that one: a new connection reaches it."));
        }
        Ok(())
    }

    /// What concerns all clients, or waits until nothing runs any more, can be said only where they are known.
    ///
    /// # Errors
    /// Another process serves clients of its own, whatever is said here: one that has taken over, or was taken over from.
    pub(super) fn must_be_alone(&self) -> Result<(), ErrorNotice> {
        self.must_be_last()?;
        if self.console.ctx.preceded.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        Err(state("a process that was taken over from has clients left, which would go on")
            .hint("It ends when the last of them has left, after drain_timeout, or soon after SIGTERM."))
    }

    fn resume_all(&self) -> Result<(), ErrorNotice> {
        let gates = &self.console.ctx.directory.gates;
        if gates.service() != Service::Active {
            self.console.resume_service();
            return Ok(());
        }
        // After KILL every database is paused by itself.
        let resumed = self.console.resume(None, || gates.all().iter().filter(|gate| gate.resume()).count());
        if resumed == 0 { Err(state("pooler is not paused/suspended")) } else { Ok(()) }
    }

    async fn kill(&self, name: Option<&str>) -> Result<(), ErrorNotice> {
        self.must_be_active()?;
        self.must_be_alone()?;
        let gates = self.gates("kill", name)?;
        let clients = || {
            let wanted = |client: &Arc<Client>| !client.console && name.is_none_or(|name| client.database == name);
            self.console.ctx.clients.all().into_iter().filter(wanted).collect::<Vec<_>>()
        };
        for gate in &gates {
            gate.pause();
            gate.reconnect();
        }
        self.console.look_after_nodes(name);
        let doomed = clients();
        doomed.iter().for_each(|client| client.request(Request::Kill));
        let last = doomed.iter().map(|client| client.id).max().unwrap_or(0);
        let gone = || {
            let left = clients().iter().any(|client| client.id <= last);
            !left && gates.iter().all(|gate| gate.connections() == 0)
        };
        self.wait_for(KILL_LIMIT, gone).await
    }

    async fn kill_client(&self, id: u64) -> Result<(), ErrorNotice> {
        let find = || self.console.ctx.clients.all().into_iter().find(|client| client.id == id);
        let client = find().ok_or_else(|| {
            ErrorNotice::error(SqlState::UNDEFINED_OBJECT, "client not found")
                .hint("KILL_CLIENT takes the number in the column id of SHOW CLIENTS.")
        })?;
        client.request(Request::Kill);
        if id == self.client.id {
            return Ok(());
        }
        self.wait_for(KILL_LIMIT, || find().is_none()).await
    }

    async fn suspend(&self) -> Result<(), ErrorNotice> {
        self.must_be_active()?;
        self.must_be_alone()?;
        let gates = &self.console.ctx.directory.gates;
        if gates.any_paused() {
            return Err(state("cannot suspend with paused databases"));
        }
        gates.set_service(Service::Suspended);
        let deadline = Instant::now() + SUSPEND_LIMIT;
        let waited = self.wait(|| {
            if gates.service() != Service::Suspended {
                return Look::Undone("RESUME");
            }
            let mut moving = self.console.ctx.clients.all();
            // Who waits for a server connection has nothing under way.
            moving.retain(|client| !client.console && !client.is_frozen() && client.state() != ClientState::Waiting);
            for client in &moving {
                client.request(if Instant::now() < deadline { Request::Suspend } else { Request::Kill });
            }
            if moving.is_empty() { Look::Done } else { Look::Wait }
        });
        let waited = waited.await;
        if waited.as_ref().is_err_and(|error| error.code == SqlState::QUERY_CANCELED) {
            self.console.resume_service();
        }
        waited
    }

    async fn set(&self, name: &str, value: &str) -> Result<(), ErrorNotice> {
        let Some(key) = settings::find(name) else {
            let shown = super::tables::config_has(&View::new(&self.console.ctx), name);
            return Err(settings::unknown(name, shown));
        };
        let wish = Wish::Set { path: key.path, value: key.in_file(value) };
        let outcome = self.order(wish).await?;
        outcome.map_err(|why| settings::failed(SqlState::INVALID_PARAMETER_VALUE, why))
    }

    async fn order(&self, wish: Wish) -> Result<Result<(), String>, ErrorNotice> {
        let (order, outcome) = Order::new(wish);
        let closing = || ErrorNotice::error(SqlState::CANNOT_CONNECT_NOW, "the proxy is shutting down");
        self.console.orders.send(order).await.map_err(|_| closing())?;
        outcome.await.map_err(|_| closing())
    }

    /// A cluster, and the place of one of its nodes.
    pub(super) fn node(&self, name: &NodeName) -> Result<(Arc<Cluster>, usize), ErrorNotice> {
        let clusters = self.console.ctx.directory.clusters();
        let cluster = clusters.get(&name.database).ok_or_else(|| {
            ErrorNotice::error(SqlState::UNKNOWN_DATABASE, format!("no such database: {}", name.database))
        })?;
        let node = cluster.nodes.iter().position(|node| node.settings.name == name.node).ok_or_else(|| {
            let message = format!("database {} has no node {}", name.database, name.node);
            ErrorNotice::error(SqlState::UNDEFINED_OBJECT, message)
        });
        node.map(|node| (cluster.clone(), node)).map_err(|error| error.hint("SHOW NODES lists them."))
    }

    /// The gate of a database that clients can name.
    fn gate(&self, verb: &str, name: &str) -> Result<Arc<Gate>, ErrorNotice> {
        if is_console(name) {
            return Err(state(format!("cannot {verb} admin db: {name}")));
        }
        let directory = &self.console.ctx.directory;
        match directory.cluster(name) {
            Ok(_) if name != "*" => Ok(directory.gates.of(name)),
            _ => Err(ErrorNotice::error(SqlState::UNKNOWN_DATABASE, format!("no such database: {name}"))
                .hint("SHOW DATABASES lists them.")),
        }
    }

    /// The gate of one database, or those of all that are configured or in use.
    fn gates(&self, verb: &str, name: Option<&str>) -> Result<Vec<Arc<Gate>>, ErrorNotice> {
        if let Some(name) = name {
            return Ok(vec![self.gate(verb, name)?]);
        }
        let directory = &self.console.ctx.directory;
        for database in directory.clusters().keys().filter(|name| *name != "*") {
            directory.gates.of(database);
        }
        Ok(directory.gates.all())
    }

    /// Looks again and again until it is done, or somebody ends the waiting.
    pub(super) async fn wait(&self, mut look: impl FnMut() -> Look) -> Result<(), ErrorNotice> {
        loop {
            match look() {
                Look::Done => return Ok(()),
                Look::Undone(by) => {
                    return Err(ErrorNotice::error(
                        SqlState::QUERY_CANCELED,
                        format!("canceling command: {by} was issued"),
                    ));
                }
                Look::Wait => {}
            }
            if self.client.requested(Request::CancelWait) {
                self.client.clear(Request::CancelWait);
                let message = "canceling statement due to user request";
                return Err(ErrorNotice::error(SqlState::QUERY_CANCELED, message));
            }
            if self.client.requested(Request::Kill) || self.client.requested(Request::Drain) {
                let message = "terminating connection due to administrator command";
                return Err(ErrorNotice::fatal(SqlState::ADMIN_SHUTDOWN, message));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until it is so, or the time is over.
    async fn wait_for(&self, limit: Duration, mut done: impl FnMut() -> bool) -> Result<(), ErrorNotice> {
        let deadline = Instant::now() + limit;
        self.wait(|| if done() || Instant::now() >= deadline { Look::Done } else { Look::Wait }).await
    }
}

pub(super) fn state(message: impl Into<std::borrow::Cow<'static, str>>) -> ErrorNotice {
    ErrorNotice::error(SqlState::NOT_IN_PREREQUISITE_STATE, message)
}
