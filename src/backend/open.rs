//! Opening a server connection: connect, TLS, startup, login, until the first ReadyForQuery.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Parameters, ServerConn, ServerInfo};
use crate::auth::{self, AuthContext, ServerAuthError, ServerCredential};
use crate::config::HostPort;
use crate::net::{self, ClientTlsContext, ConnectError, ConnectOptions, Encryption, Stream};
use crate::wire::startup::{CancelKey, PROTOCOL_3_0};
use crate::wire::{ErrorNotice, SqlState, backend, build};
use arc_swap::ArcSwap;

/// Longest startup packet that a server reads (PostgreSQL: `MAX_STARTUP_PACKET_LENGTH`). At a longer one it closes without a word, as a
/// server does that is going down.
const MAX_STARTUP_PACKET: usize = 10_000;

/// Largest message before the first ReadyForQuery that is accepted from a server.
const MAX_LOGIN_MESSAGE: u32 = 1 << 20;

/// All that is needed to open a server connection of one pool.
pub struct ConnectSpec {
    /// Database as clients name it, for labels.
    pub database: String,
    /// Node name, for labels.
    pub node: String,
    /// Addresses, tried in order.
    pub hosts: Vec<HostPort>,
    /// TLS towards the server.
    pub tls: Arc<ClientTlsContext>,
    /// Database name on the server.
    pub dbname: String,
    /// User on the server.
    pub user: String,
    /// How to prove it, as all pools of the same user do; replaced when a client's login or a reload yields a newer one.
    pub credential: Arc<ArcSwap<ServerCredential>>,
    /// Shared state of authentication.
    pub auth: Arc<AuthContext>,
}

impl fmt::Debug for ConnectSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectSpec({self})")
    }
}

impl fmt::Display for ConnectSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.database, self.user, self.node)
    }
}

/// Why a server connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No address could be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The login failed.
    #[error(transparent)]
    Login(#[from] ServerAuthError),
    /// The server refused the session with this error.
    #[error("{0}")]
    Refused(ErrorNotice),
    /// It took longer than `connect_timeout`.
    #[error("no answer within the connect time-out")]
    Timeout,
    /// It was under way for long when the node was found to be down.
    #[error("no answer, and the node is down or was")]
    GivenUp,
    /// The server reports more parameters than any PostgreSQL does, or longer ones.
    #[error("the server reports too many parameters")]
    Parameters,
    /// The server sent something that the protocol does not allow here.
    #[error("unexpected message {0:#04x} from the server during startup")]
    Protocol(u8),
    /// The connection broke.
    #[error("connection lost during startup: {0}")]
    Io(#[from] io::Error),
}

impl OpenError {
    /// The server's own error, when there is one: it goes to the client as it is (trap 68).
    pub fn notice(&self) -> Option<&ErrorNotice> {
        match self {
            Self::Refused(notice) | Self::Login(ServerAuthError::Refused(notice)) => Some(notice),
            _ => None,
        }
    }

    /// Whether the server would let us in if it had not so many connections: more of them may be free any moment.
    pub fn says_server_is_full(&self) -> bool {
        self.notice().is_some_and(|notice| notice.code == SqlState::TOO_MANY_CONNECTIONS)
    }

    /// Whether this says that the node as a whole is unreachable (design §7): our own socket errors and 57P01–57P03;
    /// never an error response of a healthy server, nor a full server.
    pub fn says_node_is_down(&self) -> bool {
        match self.notice() {
            Some(notice) => notice.code.says_server_unavailable(),
            None => match self {
                Self::Connect(error) => !error.is_local(),
                Self::Login(error) => error.is_network(),
                Self::Io(_) | Self::Timeout | Self::GivenUp => true,
                _ => false,
            },
        }
    }
}

/// Opens a connection without settings of its own.
///
/// # Errors
/// [`OpenError`]. The caller bounds the time.
pub async fn open(spec: &ConnectSpec, options: &ConnectOptions) -> Result<ServerConn, OpenError> {
    open_with(spec, options, &[]).await
}

/// Opens a connection with additional startup parameters (`replication` sessions bring all of the client's).
///
/// # Errors
/// [`OpenError`]. The caller bounds the time.
pub async fn open_with(
    spec: &ConnectSpec,
    options: &ConnectOptions,
    extra: &[(&str, &str)],
) -> Result<ServerConn, OpenError> {
    let mut plan = spec.tls.plan();
    let mut encryption = plan.first();
    loop {
        let mut stream = net::connect(&spec.hosts, &spec.tls, encryption, options).await?;
        let refusal = match log_in(spec, &mut stream, extra).await {
            Ok(login) => return Ok(login.into_conn(stream)),
            Err(error) => error,
        };
        let startup_refused = match &refusal {
            OpenError::Login(error) => error.is_startup_refusal(),
            _ => false,
        };
        match plan.retry(&stream) {
            Some(other) if startup_refused => encryption = other,
            _ => return Err(refusal),
        }
    }
}

/// Sends a CancelRequest for a connection and waits until the server has closed the connection, which it does after signalling:
/// only then may the cancelled connection be given to somebody else (trap 63).
///
/// # Errors
/// The connection could not be made. The caller bounds the time.
pub async fn cancel(spec: &ConnectSpec, server: &ServerInfo) -> Result<(), OpenError> {
    let mut stream = connect_to_same(spec, server).await?;
    let mut packet = Vec::with_capacity(16);
    build::cancel_request(&mut packet, &server.cancel);
    stream.write_all(&packet).await?;
    let mut end = [0; 16];
    while matches!(stream.read_some(&mut end).await, Ok(n) if n > 0) {}
    Ok(())
}

/// A connection to the server that this one goes to: by its address, since the name may lead elsewhere by now, and of several hosts
/// another one may answer.
async fn connect_to_same(spec: &ConnectSpec, server: &ServerInfo) -> Result<Stream, ConnectError> {
    let encryption: Encryption = spec.tls.plan().first();
    let is_it = |host: &&HostPort| host.port == server.port && host.host == server.addr;
    let is_name = |host: &&HostPort| host.port == server.port && host.host.parse::<IpAddr>().is_err();
    let host = spec.hosts.iter().find(is_it).or_else(|| spec.hosts.iter().find(is_name));
    if let (Ok(ip), Some(host)) = (server.addr.parse::<IpAddr>(), host)
        && let Ok(stream) = net::connect_to(SocketAddr::new(ip, server.port), &host.host, &spec.tls, encryption).await
    {
        return Ok(stream);
    }
    net::connect(&spec.hosts, &spec.tls, encryption, &ConnectOptions::default()).await
}

struct LoggedIn {
    parameters: Parameters,
    cancel: CancelKey,
}

impl LoggedIn {
    fn into_conn(self, stream: Stream) -> ServerConn {
        ServerConn::new(stream, self.parameters, self.cancel)
    }
}

async fn log_in(spec: &ConnectSpec, stream: &mut Stream, extra: &[(&str, &str)]) -> Result<LoggedIn, OpenError> {
    let mut packet = Vec::with_capacity(256);
    let mut parameters = vec![("user", spec.user.as_str()), ("database", spec.dbname.as_str())];
    parameters.extend_from_slice(extra);
    build::startup(&mut packet, PROTOCOL_3_0, &parameters);
    if packet.len() > MAX_STARTUP_PACKET {
        let notice = ErrorNotice::error(SqlState::PROTOCOL_VIOLATION, "invalid length of startup packet");
        return Err(OpenError::Refused(notice.detail("The names are longer than a server reads them.")));
    }
    stream.write_all(&packet).await?;
    let credential = spec.credential.load_full();
    let greeting = auth::authenticate_server(stream, &spec.user, &credential, &spec.auth).await?;
    let mut login = LoggedIn { parameters: Parameters::default(), cancel: CancelKey { pid: 0, secret: Vec::new() } };
    for (name, value) in &greeting.parameters {
        login.parameters.set(name, value);
    }
    let mut body = Vec::new();
    loop {
        if login.parameters.are_too_many() {
            return Err(OpenError::Parameters);
        }
        match stream.read_frame(&mut body, MAX_LOGIN_MESSAGE).await? {
            b'S' => {
                if let Some((name, value)) = backend::parameter_status(&body) {
                    login.parameters.set(name, value);
                }
            }
            b'K' => login.cancel = backend::key_data(&body).ok_or(OpenError::Protocol(b'K'))?,
            b'E' => return Err(OpenError::Refused(ErrorNotice::decode(&body))),
            // Notices and notifications may come at any time, also now (trap 60).
            b'N' | b'A' => {}
            b'Z' => return Ok(login),
            tag => return Err(OpenError::Protocol(tag)),
        }
    }
}

/// The error for a client whose pool could not open a connection: the server's own words when it said something.
pub fn open_failure(error: &OpenError) -> ErrorNotice {
    match error.notice() {
        Some(notice) => ErrorNotice { severity: crate::wire::Severity::Error, ..notice.clone() },
        None => ErrorNotice::error(SqlState::CANNOT_CONNECT_NOW, "no server is reachable for this statement")
            .detail(error.to_string())
            .hint("The proxy retries on its own; see its log and SHOW NODES on the admin console."),
    }
}
