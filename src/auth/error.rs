//! Why a login failed, for the log and for the peer.

use std::io;

use super::{AuthQueryError, ServerCredential};
use crate::config::AuthMethod;
use crate::wire::{ErrorNotice, SqlState};

/// Why a client was not let in. The text is for the log; [`Self::notice`] is what the client may know.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The connection broke.
    #[error("connection lost during authentication: {0}")]
    Io(io::Error),
    /// The client closed, or sent Terminate. Usual: psql leaves when it is asked for a password that it must ask for.
    #[error("client left during authentication")]
    ClientLeft,
    /// A message that does not belong there.
    #[error("expected a password message, got message type {0:#04x}")]
    Unexpected(u8),
    /// A message that cannot be.
    #[error("{0}")]
    Malformed(&'static str),
    /// Channel binding was attacked, or the client is confused.
    #[error("SCRAM channel binding: {0}")]
    ChannelBinding(&'static str),
    /// No rule speaks for the connection.
    #[error("no HBA entry for {0}")]
    NoHbaEntry(String),
    /// The rule says `reject`.
    #[error("HBA entry rejects connection for {0}")]
    Rejected(String),
    /// The rule says `password`, and the connection is not encrypted.
    #[error("clear-text password refused without TLS for user \"{0}\"")]
    PlainText(String),
    /// The proof was wrong, or there is nobody to prove to be. `reason` is for the log only.
    #[error("{} authentication failed for user \"{user}\": {reason}", method_name(*.method))]
    Failed {
        /// The user.
        user: String,
        /// The method.
        method: AuthMethod,
        /// What exactly was wrong.
        reason: &'static str,
    },
    /// The user's secret could not be looked up.
    #[error("auth_query for user \"{user}\": {source}")]
    LookUp {
        /// The user.
        user: String,
        /// Why not.
        source: AuthQueryError,
    },
}

fn method_name(method: AuthMethod) -> &'static str {
    match method {
        AuthMethod::Cert => "certificate",
        AuthMethod::Trust => "trust",
        AuthMethod::Reject => "reject",
        _ => "password",
    }
}

impl From<io::Error> for AuthError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                Self::ClientLeft
            }
            io::ErrorKind::InvalidData => Self::Malformed("invalid length of a password message"),
            _ => Self::Io(error),
        }
    }
}

impl AuthError {
    /// The FATAL that the client gets; `None` when it is gone. Who does not exist and who gave a wrong password get
    /// the same words.
    pub fn notice(&self) -> Option<ErrorNotice> {
        Some(match self {
            Self::Io(_) | Self::ClientLeft => return None,
            Self::Unexpected(_) | Self::Malformed(_) => {
                ErrorNotice::fatal(SqlState::PROTOCOL_VIOLATION, self.to_string())
            }
            Self::ChannelBinding(_) => ErrorNotice::fatal(SqlState::INVALID_AUTHORIZATION, self.to_string()),
            Self::NoHbaEntry(_) | Self::Rejected(_) => {
                ErrorNotice::fatal(SqlState::INVALID_AUTHORIZATION, self.to_string())
            }
            Self::PlainText(_) => ErrorNotice::fatal(SqlState::INVALID_AUTHORIZATION, self.to_string())
                .hint("Use sslmode=require or stronger, so that the password is not readable on the network."),
            Self::Failed { user, method, .. } => {
                let code = match method {
                    AuthMethod::Cert => SqlState::INVALID_AUTHORIZATION,
                    _ => SqlState::INVALID_PASSWORD,
                };
                ErrorNotice::fatal(code, format!("{} authentication failed for user \"{user}\"", method_name(*method)))
            }
            Self::LookUp { .. } => ErrorNotice::fatal(
                SqlState::CANNOT_CONNECT_NOW,
                "the user cannot be looked up because no server answers the authentication query",
            )
            .hint("Try again; if it lasts, Trunkline's log says why."),
        })
    }
}

/// Why a login to a server failed.
#[derive(Debug, thiserror::Error)]
pub enum ServerAuthError {
    /// The connection broke.
    #[error("connection lost during login to the server: {0}")]
    Io(io::Error),
    /// The server closed without a word.
    #[error("the server closed the connection during login")]
    Closed,
    /// The server said no.
    #[error("the server refused the login: {0}")]
    Refused(ErrorNotice),
    /// The server asks for a proof that we cannot give.
    #[error("the server asks for {asked}, but {have:?} is all there is for user \"{user}\": configure server_password")]
    CannotAnswer {
        /// What the server wants.
        asked: &'static str,
        /// What we have.
        have: ServerCredential,
        /// The user.
        user: String,
    },
    /// The server stores another verifier than the one that the client was checked against.
    #[error(
        "the SCRAM verifier of user \"{0}\" on the server is not the one known here: copy it from pg_authid, or use auth_query"
    )]
    OtherVerifier(String),
    /// The server wants a clear-text password on a network without TLS.
    #[error("the server asks for a clear-text password without TLS: refused; set sslmode, or use SCRAM on the server")]
    PlainText,
    /// The server wants GSSAPI, SSPI or something unknown.
    #[error("the server asks for authentication type {0}, which Trunkline does not have")]
    Unsupported(u32),
    /// The server does not know the password itself: someone else answers in its place.
    #[error("the server did not prove that it knows the password of user \"{0}\": possibly an impostor")]
    NotVerified(String),
    /// A message that cannot be.
    #[error("malformed message during login to the server: {0}")]
    Malformed(&'static str),
}

impl From<io::Error> for ServerAuthError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            io::ErrorKind::InvalidData => Self::Malformed("impossible length"),
            _ => Self::Io(error),
        }
    }
}

impl ServerAuthError {
    /// Whether the server has no rule for this kind of connection (28000), so that [`SslPlan`](crate::net::SslPlan) may
    /// know another.
    pub fn is_startup_refusal(&self) -> bool {
        matches!(self, Self::Refused(notice) if notice.code == SqlState::INVALID_AUTHORIZATION)
    }

    /// Whether the connection was lost, rather than an answer given.
    pub fn is_network(&self) -> bool {
        matches!(self, Self::Io(_) | Self::Closed)
    }
}
