//! The admin console: PgBouncer's `SHOW` tables and commands, and ours, over both query protocols.
//!
//! A client logs in as to any database ([`login`]), and then pgwire's handlers answer it ([`handler`]), over a loop of
//! our own that reads and checks every frame first ([`connection`], [`message`]). `command` understands the text,
//! `tables` has a file for each group of tables.

mod action;
mod answer;
mod command;
mod connection;
mod handler;
mod help;
mod login;
mod message;
mod operate;
mod rights;
mod select;
mod settings;
mod store;
mod switchover;
mod tables;
mod value;
mod wish;

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::config::{CONSOLE as NAME, is_console};
use crate::net::Stream;
use crate::pool::Service;
use crate::session::{self, Context};
use crate::wire::startup::Startup;

pub use wish::{Order, Shutdown, Wish};

/// The console behind the databases `trunkline` and `pgbouncer`.
pub struct Console {
    ctx: Arc<Context>,
    orders: mpsc::Sender<Order>,
}

impl Console {
    /// A console over what the sessions share; what only the program can do is asked for through `orders`.
    pub fn new(ctx: Arc<Context>, orders: mpsc::Sender<Order>) -> Self {
        Self { ctx, orders }
    }

    /// Ends PAUSE or SUSPEND of all databases.
    fn resume_service(&self) {
        self.resume(None, || self.ctx.directory.gates.set_service(Service::Active));
        self.ctx.clients.all().iter().for_each(|client| client.wake_up());
    }

    /// Ends a pause of one database or of all by `go_on`: what was known of their nodes' roles counts for nothing any more, and they
    /// are asked at once.
    fn resume<T>(&self, name: Option<&str>, go_on: impl FnOnce() -> T) -> T {
        let clusters = self.ctx.directory.clusters();
        let wanted = clusters.iter().filter(|(database, _)| name.is_none_or(|name| name == database.as_str()));
        wanted.for_each(|(_, cluster)| cluster.doubt_roles());
        let outcome = go_on();
        self.look_after_nodes(name);
        outcome
    }

    /// The health checks of the nodes look at once whether the database is paused.
    fn look_after_nodes(&self, name: Option<&str>) {
        let clusters = self.ctx.directory.clusters();
        let wanted = clusters.iter().filter(|(database, _)| name.is_none_or(|name| name == database.as_str()));
        wanted.flat_map(|(_, cluster)| &cluster.nodes).for_each(|node| node.load.probe.notify_one());
    }

    /// Serves one client of the console, from its startup packet to its end.
    pub async fn serve(self: Arc<Self>, mut stream: Stream, startup: Startup, logging_in: session::LoggingIn) {
        let login = login::log_in(&self.ctx, &mut stream, &startup, &logging_in).await;
        drop(logging_in);
        match login {
            Some(registered) => connection::serve(self, stream, registered).await,
            None => stream.shutdown(),
        }
    }
}
