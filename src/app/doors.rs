//! Where clients come in, and who asks for the metrics: the listening sockets, opened and shut together.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::net::{Inherited, ListenOptions, Listener, TcpLiveness};
use crate::observe::{HttpServer, ReadinessSource};

use super::front::{self, Front};
use super::rt::Workers;
use super::run::RunError;

/// The listening sockets.
pub struct Doors {
    front: Arc<Front>,
    workers: Arc<Workers>,
    listeners: Vec<Arc<Listener>>,
    acceptors: Vec<JoinHandle<()>>,
    http: Option<HttpServer>,
    http_socket: Option<OwnedFd>,
    readiness: ReadinessSource,
    stop_http: watch::Sender<bool>,
}

impl Doors {
    /// Takes the sockets that the configuration names from those that are there, and binds the others. Nobody is accepted yet.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub async fn new(
        config: &Config,
        inherited: &mut Inherited,
        front: Arc<Front>,
        workers: Arc<Workers>,
        readiness: ReadinessSource,
    ) -> Result<Self, RunError> {
        let client = &config.client;
        let liveness = TcpLiveness { keepalive: client.keepalive, user_timeout: client.tcp_user_timeout };
        let options = ListenOptions { liveness, ..ListenOptions::default() };
        let mut listeners = Vec::new();
        for address in &config.listen {
            listeners.push(Arc::new(inherited.take_or_bind(address, &options)?));
            tracing::info!(?address, "listening");
        }
        let http = match config.metrics {
            Some(address) => {
                let server = match inherited.take_tcp(address) {
                    Some(socket) => HttpServer::adopt(socket),
                    None => HttpServer::bind(address).await,
                };
                Some(server.map_err(|error| RunError::Http(address, error))?)
            }
            None => None,
        };
        let http_socket = http.as_ref().map(HttpServer::socket).transpose()?;
        let stop_http = watch::channel(false).0;
        Ok(Self { front, workers, listeners, acceptors: Vec::new(), http, http_socket, readiness, stop_http })
    }

    /// Accepts from now on, if it has not yet. The files of Unix sockets are this process's.
    pub fn open(&mut self) {
        if !self.acceptors.is_empty() {
            return;
        }
        for listener in &self.listeners {
            listener.keep_file(false);
            let accept = front::accept(listener.clone(), self.front.clone(), self.workers.clone());
            self.acceptors.push(self.workers.at_the_door(accept));
        }
        if let Some(http) = self.http.take() {
            let mut stopped = self.stop_http.subscribe();
            let stop = async move { drop(stopped.wait_for(|stop| *stop).await) };
            tokio::spawn(http.serve(self.front.ctx.metrics.clone(), self.readiness.clone(), stop));
        }
    }

    /// Accepts no client any more. Whoever connects waits; `open` goes on.
    pub async fn shut(&mut self) {
        for acceptor in self.acceptors.drain(..) {
            acceptor.abort();
            // It has been aborted: that is what it says.
            let _ = acceptor.await;
        }
    }

    /// All sockets, and whether they are the service manager's.
    pub fn sockets(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let http = self.http_socket.iter().map(|socket| (socket.as_fd(), false));
        self.listeners.iter().map(|listener| (listener.as_fd(), listener.is_foreign())).chain(http)
    }

    /// Another process listens on the same sockets: their files stay, and the metrics are asked for there.
    pub fn give_up(&mut self) {
        for listener in self.listeners.drain(..) {
            listener.keep_file(true);
        }
        self.stop_metrics();
    }

    /// Closes the sockets that clients come by.
    pub async fn close(&mut self) {
        self.shut().await;
        self.listeners.clear();
    }

    /// Ends the serving of metrics.
    pub fn stop_metrics(&mut self) {
        self.http_socket = None;
        // Nobody is there to be told when there are none.
        let _ = self.stop_http.send(true);
    }
}
