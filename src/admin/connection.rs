//! The loop of one console client, and the client as pgwire's handlers see it.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use futures::{FutureExt, Sink};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler, send_ready_for_query};
use pgwire::api::store::PortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore, DefaultClient, PgWireConnectionState, SessionExtensions};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::response::{CommandComplete, TransactionStatus};
use pgwire::messages::startup::SecretKey;
use pgwire::messages::{PgWireBackendMessage, ProtocolVersion};
use quanta::Instant;
use rustls_pki_types::CertificateDer;

use super::command::{Command, DEALLOCATE_ALL, DISCARD_ALL};
use super::handler::Handler;
use super::message::{self, Message};
use super::store::Store;
use super::{Console, answer};
use crate::net::{PeerAddr, Stream};
use crate::observe::{fault, panics};
use crate::pool::Service;
use crate::session::{Registered, Request};
use crate::wire::{ErrorNotice, FrameWalker, SqlState, Step};

/// Serves a client that has logged in, until it leaves or the program ends.
pub async fn serve(console: Arc<Console>, mut stream: Stream, registered: Registered) {
    let handler = Handler::new(console.clone(), registered.client.clone());
    let mut client = ConsoleClient::new(&stream);
    let mut buf: Vec<u8> = Vec::new();
    // An Err is a client that has gone; what a panic has left of the conversation is only given up.
    let talk = AssertUnwindSafe(talk(&handler, &mut client, &mut stream, &registered, &mut buf)).catch_unwind().await;
    if talk.is_err() {
        let mut out = Vec::new();
        panics::last_word().encode(&mut out);
        let _ = stream.write_all(&out).await;
    }
    stream.shutdown();
    let last = !console.ctx.clients.all().iter().any(|other| other.console && other.id != registered.client.id);
    if last && console.ctx.directory.gates.service() == Service::Suspended {
        tracing::warn!("the last administrator has gone while everything was suspended: resuming");
        console.resume_service();
    }
}

async fn talk(
    handler: &Handler,
    client: &mut ConsoleClient,
    stream: &mut Stream,
    registered: &Registered,
    buf: &mut Vec<u8>,
) -> std::io::Result<()> {
    // What comes while a command waits.
    let mut ahead = Vec::new();
    loop {
        let mut walker = FrameWalker::new(buf);
        let ended = loop {
            match walker.step(message::limit) {
                Ok(Step::Whole(frame)) => match message::read(frame) {
                    Ok(Message::Terminate) => break true,
                    Ok(message) => {
                        let ended = tokio::select! {
                            biased;
                            outcome = client.dispatch(handler, message) => outcome.is_err(),
                            () = gone(stream, &mut ahead) => return Ok(()),
                        };
                        if ended {
                            break true;
                        }
                    }
                    Err(notice) if client.is_skipping() && !notice.is_fatal() => {}
                    Err(notice) => {
                        let fatal = notice.is_fatal();
                        if client.fail(answer::error(notice), frame.tag == b'Q').await.is_err() || fatal {
                            break true;
                        }
                    }
                },
                Ok(Step::Partial { .. } | Step::End) => break false,
                Err(bad) => {
                    let notice = ErrorNotice::fatal(SqlState::PROTOCOL_VIOLATION, bad.to_string());
                    let _ = client.fail(answer::error(notice), false).await;
                    break true;
                }
            }
            // Answers to a long pipeline go out as they come.
            if client.out.len() > KEPT {
                send(stream, registered, &client.out).await?;
                client.empty();
            }
        };
        let walked = walker.position();
        buf.drain(..walked);
        buf.shrink_to(KEPT);
        send(stream, registered, &client.out).await?;
        client.empty();
        if ended {
            return Ok(());
        }
        if !ahead.is_empty() {
            buf.append(&mut ahead);
            continue;
        }
        if !wait(stream, registered).await? {
            let notice =
                ErrorNotice::fatal(SqlState::ADMIN_SHUTDOWN, "terminating connection: the proxy is shutting down");
            let mut out = Vec::new();
            notice.encode(&mut out);
            return stream.write_all(&out).await;
        }
        let start = buf.len();
        buf.resize(start + 8192, 0);
        let got = match stream.try_read(&mut buf[start..]) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
            got => got?,
        };
        buf.truncate(start + got);
        registered.client.note_request(Instant::now());
    }
}

/// Most memory that a client keeps which asks for nothing.
const KEPT: usize = 1 << 16;

/// How long a client that is to go may take to read what it has asked for.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Sends it all. A client that does not read keeps neither an administrator waiting who wants to be rid of it, nor the program's end.
async fn send(stream: &mut Stream, registered: &Registered, bytes: &[u8]) -> std::io::Result<()> {
    let client = &registered.client;
    let is_to_go = poll_fn(|cx| {
        client.set_waker(cx.waker());
        let asked = client.requested(Request::Drain) || client.requested(Request::Kill);
        if asked { Poll::Ready(()) } else { Poll::Pending }
    });
    let too_long = async {
        is_to_go.await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::select! {
        biased;
        sent = stream.write_all(bytes) => sent,
        () = too_long => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

/// Most bytes that are read while a command waits.
const MAX_AHEAD: usize = 1 << 16;

/// Waits until the client has closed its end. What it sends meanwhile is kept for later.
async fn gone(stream: &mut Stream, ahead: &mut Vec<u8>) {
    loop {
        if ahead.len() >= MAX_AHEAD {
            return std::future::pending().await;
        }
        if poll_fn(|cx| stream.poll_readable(cx)).await.is_err() {
            return;
        }
        let start = ahead.len();
        ahead.resize(start + 4096, 0);
        let got = stream.try_read(&mut ahead[start..]);
        ahead.truncate(start + got.as_ref().copied().unwrap_or(0));
        match got {
            Ok(0) => return,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}

/// Waits until the client has sent something; `false` = the program is ending.
async fn wait(stream: &mut Stream, registered: &Registered) -> std::io::Result<bool> {
    let client = &registered.client;
    poll_fn(|cx| {
        client.set_waker(cx.waker());
        if client.requested(Request::Drain) || client.requested(Request::Kill) {
            return Poll::Ready(Ok(false));
        }
        stream.poll_readable(cx).map_ok(|()| true)
    })
    .await
}

/// A client as pgwire's handlers see it: what they send is kept in `out` until the loop sends it.
struct ConsoleClient {
    inner: DefaultClient<Command>,
    store: Store,
    out: BytesMut,
}

impl ConsoleClient {
    fn new(stream: &Stream) -> Self {
        let address = match stream.peer() {
            PeerAddr::Tcp(address) => address,
            PeerAddr::Unix => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        };
        let mut inner = DefaultClient::new(address, stream.is_tls());
        inner.set_state(PgWireConnectionState::ReadyForQuery);
        Self { inner, store: Store::default(), out: BytesMut::new() }
    }

    /// What there was to tell has been sent.
    fn empty(&mut self) {
        if self.out.capacity() > KEPT {
            self.out = BytesMut::new();
        }
        self.out.clear();
    }

    /// Whether everything up to the next Sync is passed over.
    fn is_skipping(&self) -> bool {
        matches!(self.state(), PgWireConnectionState::AwaitingSync)
    }

    /// Hands a message to the handlers. An error among extended-protocol messages skips all up to the next Sync.
    ///
    /// # Errors
    /// The connection must end; the client was told.
    async fn dispatch(&mut self, handler: &Handler, message: Message) -> PgWireResult<()> {
        if matches!(message, Message::Sync(_)) && self.transaction_status() == TransactionStatus::Idle {
            // Portals last as long as a transaction, pgwire's as long as they are not closed.
            self.store.clear_portals();
        }
        if self.is_skipping() {
            if let Message::Sync(sync) = message {
                self.set_state(PgWireConnectionState::ReadyForQuery);
                return handler.on_sync(self, sync).await;
            }
            return Ok(());
        }
        let simple = matches!(message, Message::Query(_) | Message::FunctionCall);
        let outcome = match message {
            Message::Query(query) => {
                fault::point("console", query.query.as_bytes());
                handler.on_query(self, query).await
            }
            Message::Parse(parse) => match self.store.admit_statement(parse.name.as_deref(), parse.query.len()) {
                Ok(()) => handler.on_parse(self, parse).await,
                Err(full) => Err(answer::error(full)),
            },
            Message::Bind(bind) => {
                let size = bind.parameters.iter().flatten().map(bytes::Bytes::len).sum();
                match self.store.admit_portal(bind.portal_name.as_deref(), size) {
                    Ok(()) => handler.on_bind(self, bind).await,
                    Err(full) => Err(answer::error(full)),
                }
            }
            Message::Describe(describe) => handler.on_describe(self, describe).await,
            Message::Execute(execute) => handler.on_execute(self, execute).await,
            Message::Close(close) => handler.on_close(self, close).await,
            Message::Flush(flush) => handler.on_flush(self, flush).await,
            Message::Sync(sync) => handler.on_sync(self, sync).await,
            Message::FunctionCall => Err(answer::error(ErrorNotice::error(
                SqlState::FEATURE_NOT_SUPPORTED,
                "function calls are not possible on the console",
            ))),
            Message::Ignored | Message::Terminate => Ok(()),
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => self.fail(error, simple).await,
        }
    }

    /// Sends an error; ReadyForQuery follows at once after a simple query, else at the next Sync.
    ///
    /// # Errors
    /// The error was fatal.
    async fn fail(&mut self, error: PgWireError, simple: bool) -> PgWireResult<()> {
        let error = match error {
            PgWireError::PortalNotFound(name) => {
                let message = format!("portal \"{}\" does not exist", plain(&name));
                answer::error(ErrorNotice::error(SqlState::INVALID_CURSOR_NAME, message))
            }
            PgWireError::StatementNotFound(name) => {
                let message = format!("prepared statement \"{}\" does not exist", plain(&name));
                answer::error(ErrorNotice::error(SqlState::INVALID_STATEMENT_NAME, message))
            }
            other => other,
        };
        let fatal = error.is_fatal();
        let mut info = ErrorInfo::from(error);
        info.severity_nonlocalized = Some(info.severity.clone());
        PgWireBackendMessage::ErrorResponse(info.into()).encode(&mut self.out)?;
        if fatal {
            return Err(PgWireError::IoError(std::io::ErrorKind::ConnectionAborted.into()));
        }
        let status = self.transaction_status().to_error_state();
        self.set_transaction_status(status);
        if simple {
            self.set_state(PgWireConnectionState::ReadyForQuery);
            send_ready_for_query(self, status).await?;
        } else {
            self.set_state(PgWireConnectionState::AwaitingSync);
        }
        Ok(())
    }
}

/// pgwire has a name of its own for what has none.
fn plain(name: &str) -> &str {
    if name == pgwire::api::DEFAULT_NAME { "" } else { name }
}

impl Sink<PgWireBackendMessage> for ConsoleClient {
    type Error = PgWireError;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<PgWireResult<()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, message: PgWireBackendMessage) -> PgWireResult<()> {
        match message {
            // pgwire's handlers cannot empty the store.
            PgWireBackendMessage::CommandComplete(done) if [DEALLOCATE_ALL, DISCARD_ALL].contains(&&*done.tag) => {
                self.store = Store::default();
                PgWireBackendMessage::CommandComplete(done).encode(&mut self.out)
            }
            // pgwire adds the number of rows; PgBouncer's tag has none.
            PgWireBackendMessage::CommandComplete(done) if done.tag.starts_with("SHOW ") => {
                PgWireBackendMessage::CommandComplete(CommandComplete::new("SHOW".to_owned())).encode(&mut self.out)
            }
            message => message.encode(&mut self.out),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<PgWireResult<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<PgWireResult<()>> {
        Poll::Ready(Ok(()))
    }
}

impl ClientPortalStore for ConsoleClient {
    type PortalStore = Store;

    fn portal_store(&self) -> &Store {
        &self.store
    }
}

impl ClientInfo for ConsoleClient {
    fn socket_addr(&self) -> SocketAddr {
        self.inner.socket_addr()
    }

    fn is_secure(&self) -> bool {
        self.inner.is_secure()
    }

    fn protocol_version(&self) -> ProtocolVersion {
        self.inner.protocol_version()
    }

    fn set_protocol_version(&mut self, version: ProtocolVersion) {
        self.inner.set_protocol_version(version);
    }

    fn pid_and_secret_key(&self) -> (i32, SecretKey) {
        self.inner.pid_and_secret_key()
    }

    fn set_pid_and_secret_key(&mut self, pid: i32, secret_key: SecretKey) {
        self.inner.set_pid_and_secret_key(pid, secret_key);
    }

    fn state(&self) -> PgWireConnectionState {
        self.inner.state()
    }

    fn set_state(&mut self, state: PgWireConnectionState) {
        self.inner.set_state(state);
    }

    fn transaction_status(&self) -> TransactionStatus {
        self.inner.transaction_status()
    }

    fn set_transaction_status(&mut self, status: TransactionStatus) {
        self.inner.set_transaction_status(status);
    }

    fn metadata(&self) -> &HashMap<String, String> {
        self.inner.metadata()
    }

    fn metadata_mut(&mut self) -> &mut HashMap<String, String> {
        self.inner.metadata_mut()
    }

    fn session_extensions(&self) -> &SessionExtensions {
        self.inner.session_extensions()
    }

    fn sni_server_name(&self) -> Option<&str> {
        self.inner.sni_server_name()
    }

    fn client_certificates<'a>(&self) -> Option<&[CertificateDer<'a>]> {
        None
    }
}
