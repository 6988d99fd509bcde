//! Authenticating to a server.

use super::client::{md5_response, md5_secret};
use super::keys;
use super::scram_client::{Answered, Begun, Binding, Challenge};
use super::scram_server::{MECHANISM, MECHANISM_PLUS};
use super::{AuthContext, ServerAuthError, ServerCredential};
use crate::net::{PeerAddr, Stream};
use crate::wire::startup::PROTOCOL_3_0;
use crate::wire::{ErrorNotice, backend, build, split_cstr};

/// Largest length field of a message during a login: errors with long texts are the largest.
const MAX_MESSAGE: u32 = 65_536;
/// Most messages of a login: a server that chatters on is none.
const MAX_MESSAGES: u32 = 256;

/// What came before AuthenticationOk besides the exchange.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerGreeting {
    /// ParameterStatus, in order (trap 60). Usually empty: servers send theirs behind AuthenticationOk.
    pub parameters: Vec<(Vec<u8>, Vec<u8>)>,
    /// The minor version that the server steps down to (NegotiateProtocolVersion).
    pub negotiated_minor: Option<u16>,
}

/// Where a SCRAM exchange stands.
enum Scram {
    None,
    Begun(Begun),
    Answered(Answered),
    Verified,
}

/// Logs in: call it after StartupMessage was sent. It ends with AuthenticationOk and reads not one byte further.
/// A clear-text password is given over TLS, a Unix socket or the loopback only. The time-out is the caller's.
///
/// # Errors
/// [`ServerAuthError`]; close the connection.
pub async fn authenticate_server(
    stream: &mut Stream,
    user: &str,
    credential: &ServerCredential,
    context: &AuthContext,
) -> Result<ServerGreeting, ServerAuthError> {
    let mut greeting = ServerGreeting::default();
    let mut login = ServerExchange { stream, user, credential, context, scram: Scram::None };
    let mut body = Vec::new();
    for _ in 0..MAX_MESSAGES {
        match login.stream.read_frame(&mut body, MAX_MESSAGE).await? {
            b'R' => {
                let (code, data) =
                    body.split_first_chunk::<4>().ok_or(ServerAuthError::Malformed("authentication request"))?;
                if login.answer(u32::from_be_bytes(*code), data).await? {
                    return Ok(greeting);
                }
            }
            b'E' => return Err(ServerAuthError::Refused(ErrorNotice::decode(&body))),
            b'N' => tracing::debug!(notice = %ErrorNotice::decode(&body), "notice during login to a server"),
            b'S' => {
                let (name, value) =
                    backend::parameter_status(&body).ok_or(ServerAuthError::Malformed("ParameterStatus"))?;
                greeting.parameters.push((name.to_vec(), value.to_vec()));
            }
            b'v' => greeting.negotiated_minor = Some(negotiated_minor(&body)?),
            _ => return Err(ServerAuthError::Malformed("unexpected message type before AuthenticationOk")),
        }
    }
    Err(ServerAuthError::Malformed("too many messages"))
}

fn negotiated_minor(body: &[u8]) -> Result<u16, ServerAuthError> {
    const BAD: ServerAuthError = ServerAuthError::Malformed("NegotiateProtocolVersion");
    let version = body.split_first_chunk::<4>().map(|(version, _)| u32::from_be_bytes(*version)).ok_or(BAD)?;
    // Older servers send the minor alone, newer ones the whole version.
    let minor = if version >= PROTOCOL_3_0 { version - PROTOCOL_3_0 } else { version };
    u16::try_from(minor).map_err(|_| BAD)
}

struct ServerExchange<'a> {
    stream: &'a mut Stream,
    user: &'a str,
    credential: &'a ServerCredential,
    context: &'a AuthContext,
    scram: Scram,
}

impl ServerExchange<'_> {
    /// Answers one authentication request: whether it was the last.
    async fn answer(&mut self, code: u32, data: &[u8]) -> Result<bool, ServerAuthError> {
        match code {
            0 => match self.scram {
                // A server that was asked for its own proof has to give it.
                Scram::Begun(_) | Scram::Answered(_) => return Err(self.not_verified()),
                Scram::None | Scram::Verified => return Ok(true),
            },
            3 => self.clear_text().await?,
            5 => self.md5(data).await?,
            10 => self.sasl(data).await?,
            11 => self.sasl_continue(data).await?,
            12 => match std::mem::replace(&mut self.scram, Scram::None) {
                Scram::Answered(answered) if answered.verified_by(data) => self.scram = Scram::Verified,
                Scram::Answered(_) => return Err(self.not_verified()),
                _ => return Err(ServerAuthError::Malformed("SASL messages out of order")),
            },
            other => return Err(ServerAuthError::Unsupported(other)),
        }
        Ok(false)
    }

    fn not_verified(&self) -> ServerAuthError {
        ServerAuthError::NotVerified(self.user.to_owned())
    }

    fn cannot_answer(&self, asked: &'static str) -> ServerAuthError {
        ServerAuthError::CannotAnswer { asked, have: self.credential.clone(), user: self.user.to_owned() }
    }

    async fn clear_text(&mut self) -> Result<(), ServerAuthError> {
        let ServerCredential::Plain(password) = self.credential else {
            return Err(self.cannot_answer("a clear-text password"));
        };
        let private = self.stream.is_tls()
            || match self.stream.peer() {
                PeerAddr::Unix => true,
                PeerAddr::Tcp(addr) => addr.ip().is_loopback(),
            };
        if !private {
            return Err(ServerAuthError::PlainText);
        }
        self.send_string(password.expose()).await
    }

    async fn md5(&mut self, data: &[u8]) -> Result<(), ServerAuthError> {
        let salt: &[u8; 4] = data.try_into().map_err(|_| ServerAuthError::Malformed("AuthenticationMD5Password"))?;
        let response = match self.credential {
            ServerCredential::Plain(password) => md5_response(&md5_secret(password.expose(), self.user), salt),
            ServerCredential::Md5Hash(hash) => md5_response(hash, salt),
            _ => return Err(self.cannot_answer("an MD5 password")),
        };
        self.send_string(&response).await
    }

    async fn sasl(&mut self, data: &[u8]) -> Result<(), ServerAuthError> {
        if !matches!(self.credential, ServerCredential::Plain(_) | ServerCredential::ScramKeys(_)) {
            return Err(self.cannot_answer("SCRAM-SHA-256"));
        }
        if !matches!(self.scram, Scram::None) {
            return Err(ServerAuthError::Malformed("SASL messages out of order"));
        }
        let (mut plain, mut plus, mut rest) = (false, false, data);
        loop {
            match split_cstr(rest).ok_or(ServerAuthError::Malformed("AuthenticationSASL"))? {
                ([], _) => break,
                (name, tail) => {
                    plain |= name == MECHANISM.as_bytes();
                    plus |= name == MECHANISM_PLUS.as_bytes();
                    rest = tail;
                }
            }
        }
        let end_point = self.stream.tls_info().and_then(|tls| tls.server_end_point.clone());
        let (mechanism, binding) = match end_point {
            Some(data) if plus => (MECHANISM_PLUS, Binding::EndPoint(data)),
            Some(_) if plain => (MECHANISM, Binding::NotOffered),
            None if plain => (MECHANISM, Binding::Unable),
            _ => return Err(self.cannot_answer("a SASL mechanism other than SCRAM-SHA-256")),
        };
        let begun = Begun::new(binding, keys::nonce()?);
        let first = begun.client_first();
        self.scram = Scram::Begun(begun);
        let mut out = Vec::new();
        build::message(&mut out, b'p', |out| {
            out.extend_from_slice(mechanism.as_bytes());
            out.push(0);
            out.extend(u32::try_from(first.len()).unwrap_or_default().to_be_bytes());
            out.extend_from_slice(first.as_bytes());
        });
        Ok(self.stream.write_all(&out).await?)
    }

    async fn sasl_continue(&mut self, data: &[u8]) -> Result<(), ServerAuthError> {
        let Scram::Begun(begun) = std::mem::replace(&mut self.scram, Scram::None) else {
            return Err(ServerAuthError::Malformed("SASL messages out of order"));
        };
        let challenge = begun.server_first(data).ok_or(ServerAuthError::Malformed("SCRAM server-first-message"))?;
        let Challenge { salt, iterations, .. } = &challenge;
        let (answered, message) = match self.credential {
            ServerCredential::Plain(password) => {
                begun.client_final(&challenge, &*self.context.keys(password, salt, *iterations).await?)
            }
            ServerCredential::ScramKeys(keys) if keys.salt == *salt && keys.iterations == *iterations => {
                begun.client_final(&challenge, keys)
            }
            ServerCredential::ScramKeys(_) => return Err(ServerAuthError::OtherVerifier(self.user.to_owned())),
            _ => return Err(self.cannot_answer("SCRAM-SHA-256")),
        };
        self.scram = Scram::Answered(answered);
        let mut out = Vec::new();
        build::message(&mut out, b'p', |out| out.extend_from_slice(message.as_bytes()));
        Ok(self.stream.write_all(&out).await?)
    }

    /// Sends a PasswordMessage. The buffer is wiped.
    async fn send_string(&mut self, text: &str) -> Result<(), ServerAuthError> {
        let mut out = zeroize::Zeroizing::new(Vec::with_capacity(text.len() + 6));
        build::message(&mut out, b'p', |out| {
            out.extend_from_slice(text.as_bytes());
            out.push(0);
        });
        Ok(self.stream.write_all(&out).await?)
    }
}
