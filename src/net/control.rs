//! Connections of the control plane: deadpool-postgres over our own [`connect`](super::connect).
//!
//! They carry health checks, LSNs, catalog reads and `auth_query`: never a client's statement.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use deadpool_postgres::{BuildError, Connect, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use super::{ClientTlsContext, ConnectOptions, Encryption, Stream, TcpLiveness, connect};
use crate::config::{HostPort, Secret};

/// Where and as whom the control plane connects.
#[derive(Debug, Clone)]
pub struct ControlSettings {
    /// Addresses tried in order.
    pub hosts: Vec<HostPort>,
    /// Database.
    pub dbname: String,
    /// User.
    pub user: String,
    /// Password; `None` when the server trusts us or takes our certificate.
    pub password: Option<Secret>,
    /// TLS towards the server.
    pub tls: Arc<ClientTlsContext>,
    /// Most connections.
    pub max_size: usize,
    /// Longest time to open one; also longest wait for one.
    pub connect_timeout: Duration,
    /// `application_name` on the server.
    pub application_name: String,
    /// Most bytes with which a server may answer what it is asked. tokio-postgres keeps what comes, asked for or not.
    pub max_answer: u64,
}

/// Most bytes that a server may say before it has let us in.
const MAX_LOGIN: u64 = 1 << 20;

/// Makes a pool. Nothing is connected yet. `search_path` is `pg_catalog` on every connection, so that no object of
/// a user can stand in for one of the system (trap 76).
///
/// # Errors
/// deadpool refuses the settings.
pub fn pool(settings: ControlSettings) -> Result<Pool, BuildError> {
    let mut config = tokio_postgres::Config::new();
    config
        .user(&settings.user)
        .dbname(&settings.dbname)
        .application_name(&settings.application_name)
        .options("-c search_path=pg_catalog -c client_encoding=UTF8 -c default_transaction_read_only=off");
    if let Some(password) = &settings.password {
        config.password(password.expose());
    }
    let limit = settings.connect_timeout;
    let connector = Connector { hosts: settings.hosts, tls: settings.tls, limit, max_answer: settings.max_answer };
    let manager = Manager::from_connect(config, connector, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    Pool::builder(manager)
        .max_size(settings.max_size)
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts { wait: Some(limit), create: Some(limit), recycle: Some(limit) })
        .build()
}

/// What an error is about: one of the server's says so only with its source.
pub fn in_full(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => error.to_string(),
        None => error.to_string(),
    }
}

struct Connector {
    hosts: Vec<HostPort>,
    tls: Arc<ClientTlsContext>,
    limit: Duration,
    max_answer: u64,
}

type Opened = Result<(tokio_postgres::Client, JoinHandle<()>), tokio_postgres::Error>;

impl Connect for Connector {
    fn connect(&self, config: &tokio_postgres::Config) -> Pin<Box<dyn Future<Output = Opened> + Send + '_>> {
        let config = config.clone();
        Box::pin(async move {
            let mut plan = self.tls.plan();
            let mut encryption = plan.first();
            loop {
                let (was_tls, was_unix, opened) = self.attempt(config.clone(), encryption).await;
                match opened {
                    Err(e) if is_startup_refusal(&e) => match plan.retry_after(was_tls, was_unix) {
                        Some(next) => encryption = next,
                        None => return Err(e),
                    },
                    done => return done,
                }
            }
        })
    }
}

impl Connector {
    async fn attempt(&self, mut config: tokio_postgres::Config, encryption: Encryption) -> (bool, bool, Opened) {
        let liveness = TcpLiveness { keepalive: Some(Duration::from_secs(30)), user_timeout: None };
        let options = ConnectOptions { liveness, patience: Some(self.limit.mul_f64(0.8)) };
        let connecting = connect(&self.hosts, &self.tls, encryption, &options);
        let stream = match tokio::time::timeout(self.limit, connecting).await {
            Ok(connected) => connected.map_err(io::Error::other),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let allowance = Arc::new(Allowance { max_answer: AtomicU64::new(0), left: AtomicU64::new(MAX_LOGIN) });
        // tokio-postgres has no public error of its own for "not connected": the first write reports it.
        let stream = match stream {
            Ok(stream) => ControlStream::Open(Box::new(stream), allowance.clone()),
            Err(e) => ControlStream::Failed(Some(e)),
        };
        let (was_tls, was_unix) = match &stream {
            ControlStream::Open(stream, _) => (stream.is_tls(), stream.is_unix()),
            ControlStream::Failed(_) => (false, true),
        };
        if was_tls {
            // Encrypted already: "direct" makes tokio-postgres take the stream as it is, with its channel binding.
            config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
        } else {
            config.ssl_mode(SslMode::Disable);
        }
        let opened = config.connect_raw(stream, AlreadyTls).await.map(|(client, connection)| {
            allowance.let_in(self.max_answer);
            let task = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a control connection ended");
                }
            });
            (client, task)
        });
        (was_tls, was_unix, opened)
    }
}

fn is_startup_refusal(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

/// Passes an encrypted stream on.
struct AlreadyTls;

impl TlsConnect<ControlStream> for AlreadyTls {
    type Stream = ControlStream;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<ControlStream>>;

    fn connect(self, stream: ControlStream) -> Self::Future {
        std::future::ready(Ok(stream))
    }
}

/// How much a server may still say: a server that goes on without end is left.
#[derive(Debug)]
struct Allowance {
    /// 0 = in the login.
    max_answer: AtomicU64,
    left: AtomicU64,
}

impl Allowance {
    /// The login has ended.
    fn let_in(&self, max_answer: u64) {
        self.max_answer.store(max_answer, Ordering::Relaxed);
        self.asked();
    }

    /// Something is asked: the answer may be as long as any. Not in the login, where each answer leads to a question.
    fn asked(&self) {
        match self.max_answer.load(Ordering::Relaxed) {
            0 => {}
            most => self.left.store(most, Ordering::Relaxed),
        }
    }

    fn take(&self, bytes: usize) -> io::Result<()> {
        let left = self.left.load(Ordering::Relaxed).checked_sub(bytes as u64);
        let left = left.ok_or_else(|| io::Error::other("the server says more than it can have been asked for"))?;
        self.left.store(left, Ordering::Relaxed);
        Ok(())
    }
}

/// A [`Stream`] with the faces that tokio-postgres wants.
enum ControlStream {
    Open(Box<Stream>, Arc<Allowance>),
    Failed(Option<io::Error>),
}

impl ControlStream {
    fn open(&mut self) -> io::Result<&mut Stream> {
        match self {
            Self::Open(stream, _) => Ok(stream),
            Self::Failed(error) => Err(error.take().unwrap_or_else(|| io::ErrorKind::NotConnected.into())),
        }
    }
}

impl TlsStream for ControlStream {
    fn channel_binding(&self) -> ChannelBinding {
        let Self::Open(stream, _) = self else { return ChannelBinding::none() };
        match stream.tls_info().and_then(|info| info.server_end_point.clone()) {
            Some(hash) => ChannelBinding::tls_server_end_point(hash),
            None => ChannelBinding::none(),
        }
    }
}

impl AsyncRead for ControlStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let stream = self.open()?;
            match stream.try_read(buf.initialize_unfilled()) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(stream.poll_readable(cx))?,
                done => {
                    let n = done?;
                    if let Self::Open(_, allowance) = &*self {
                        allowance.take(n)?;
                    }
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for ControlStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Self::Open(_, allowance) = &*self {
            allowance.asked();
        }
        let stream = self.open()?;
        loop {
            match stream.try_write(buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(stream.poll_writable(cx))?,
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.open()?;
        while !stream.try_flush()? {
            ready!(stream.poll_writable(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        if let Self::Open(stream, _) = &mut *self {
            stream.shutdown();
        }
        Poll::Ready(Ok(()))
    }
}
