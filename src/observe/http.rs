//! The HTTP endpoint: `/metrics`, `/healthz` (this program is alive), `/readyz` (a primary is reachable).
//!
//! Small and hard to hold up: a bounded number of connections, one request each, a time-out for the
//! request's head and one for the whole.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, JoinSet, spawn_blocking};

use super::metrics::Metrics;

/// Connections served at once. One more, and the oldest is given up: who means it has been answered long before, and who only holds
/// connections keeps nobody from asking whether this program is alive.
const MOST_CONNECTIONS: usize = 32;
/// From accept until the request's head is complete.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// From accept until the answer is sent.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests that are being served may go on when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether clients should be sent here, and why: the JSON body of `/readyz`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Trunkline is stopping: a load balancer should take it out.
    pub draining: bool,
    /// Every configured database.
    pub databases: Vec<DatabaseReadiness>,
}

/// Part of [`Readiness`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatabaseReadiness {
    /// Name.
    pub database: String,
    /// Its primary answers health checks.
    pub primary: bool,
    /// Replicas that answer health checks.
    pub replicas_up: usize,
    /// Replicas configured.
    pub replicas: usize,
}

impl Readiness {
    /// Not draining, and the primary of at least one database is reachable. Of several databases one
    /// is enough: taking Trunkline out because one is down would take the others down too.
    pub fn is_ready(&self) -> bool {
        !self.draining && (self.databases.is_empty() || self.databases.iter().any(|database| database.primary))
    }
}

/// Tells the present readiness; called for each request of `/readyz`, so it must not block.
pub type ReadinessSource = Arc<dyn Fn() -> Readiness + Send + Sync>;

/// The HTTP endpoint, listening.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
}

impl HttpServer {
    /// Listens.
    ///
    /// # Errors
    /// The address can't be listened on.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await? })
    }

    /// Uses a socket that listens already and does not block.
    ///
    /// # Errors
    /// The runtime cannot take it.
    pub fn adopt(listener: std::net::TcpListener) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::from_std(listener)? })
    }

    /// One more handle of the listening socket.
    ///
    /// # Errors
    /// The operating system gives none.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        self.listener.as_fd().try_clone_to_owned()
    }

    /// The address listened on; tells the port when 0 was asked for.
    ///
    /// # Errors
    /// The operating system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is ready; then lets running requests end, at most two seconds.
    pub async fn serve(self, metrics: Metrics, readiness: ReadinessSource, stop: impl Future<Output = ()>) {
        let mut connections = JoinSet::new();
        let mut by_age = VecDeque::new();
        let page = Page { metrics, turn: Arc::default() };
        let mut stop = std::pin::pin!(stop);
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    by_age.retain(|one: &AbortHandle| !one.is_finished());
                    if by_age.len() >= MOST_CONNECTIONS
                        && let Some(oldest) = by_age.pop_front()
                    {
                        oldest.abort();
                    }
                    by_age.push_back(connections.spawn(connection(stream, page.clone(), readiness.clone())));
                }
                Err(error) => {
                    // out of file descriptors, most likely: not a reason to stop or to spin
                    tracing::warn!(%error, "can't accept a connection for the metrics");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
        drop(self.listener);
        let _ = tokio::time::timeout(STOP_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
    }
}

/// The page of `/metrics`.
#[derive(Debug, Clone)]
struct Page {
    metrics: Metrics,
    /// Whose turn it is to have it made.
    turn: Arc<Mutex<()>>,
}

impl Page {
    /// Makes its text: milliseconds of work with many databases and users. One at a time, and on a thread of its own: nobody who asks
    /// again and again keeps health checks waiting. `None` = it failed.
    async fn render(&self) -> Option<String> {
        let turn = self.turn.clone().lock_owned().await;
        let metrics = self.metrics.clone();
        let making = spawn_blocking(move || {
            let text = metrics.render();
            // Not before, whoever has given up meanwhile.
            drop(turn);
            text
        });
        making.await.ok()
    }
}

async fn connection(stream: TcpStream, page: Page, readiness: ReadinessSource) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (page, readiness) = (page.clone(), readiness.clone());
        async move { Ok::<_, Infallible>(answer(&request, &page, &readiness).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(TOTAL_TIMEOUT, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a request for the metrics failed"),
        Err(_) => tracing::debug!("a request for the metrics took too long"),
    }
}

async fn answer(request: &Request<Incoming>, page: &Page, readiness: &ReadinessSource) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    let path = request.uri().path();
    if !matches!(path, "/metrics" | "/healthz" | "/readyz") {
        return respond(StatusCode::NOT_FOUND, TEXT, "try /metrics, /healthz or /readyz\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET or HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => match page.render().await {
            Some(text) => respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text),
            None => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, "not now\n"),
        },
        "/healthz" => respond(StatusCode::OK, TEXT, "alive\n"),
        _ => ready(&readiness()),
    }
}

fn ready(readiness: &Readiness) -> Response<Full<Bytes>> {
    #[derive(Serialize)]
    struct Body<'a> {
        ready: bool,
        #[serde(flatten)]
        readiness: &'a Readiness,
    }
    let ready = readiness.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // a struct of names and numbers always serializes
    let body = serde_json::to_string(&Body { ready, readiness }).unwrap_or_default();
    respond(status, "application/json", body)
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
