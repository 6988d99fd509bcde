//! Authenticating a client.

use std::borrow::Cow;
use std::sync::Arc;

use md5::{Digest, Md5};

use super::hba::{self, Connection};
use super::keys::{ITERATIONS, ScramKeys, ScramVerifier, random, same};
use super::query::Found;
use super::scram_server::{Exchange, Outcome};
use super::{AuthContext, AuthError, AuthQuery, ServerCredential, StoredSecret};
use crate::config::{AuthMethod, HbaRule, Secret, User, is_console};
use crate::net::{PeerAddr, Stream};
use crate::wire::startup::Startup;
use crate::wire::{build, split_cstr};

/// Largest length field of a SASL message, and of a password (PostgreSQL: `PG_MAX_SASL_MESSAGE_LENGTH`,
/// `PG_MAX_AUTH_TOKEN_LENGTH`).
const MAX_SASL: u32 = 1024;
const MAX_PASSWORD: u32 = 65_535;

/// Room for what a client is told in a login, with the parameters of its server.
const GREETING: usize = 640;

/// Who wants in, and by what rules.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// The startup packet.
    pub startup: &'a Startup,
    /// The database asked for, defaulted to the user's name.
    pub database: &'a str,
    /// The rules; the first match decides.
    pub hba: &'a [HbaRule],
    /// The user, when configured here.
    pub user: Option<&'a User>,
    /// Where other users are looked up.
    pub auth_query: Option<&'a AuthQuery>,
}

/// A client that proved who it is.
#[derive(Debug, Clone)]
pub struct Authenticated {
    /// Its name.
    pub user: String,
    /// How it proved that.
    pub method: AuthMethod,
    /// What the proof, or its configured secret, is good for on a server; see [`server_login`](super::server_login).
    pub server_credential: ServerCredential,
    /// The end of the exchange, not sent yet: SASLFinal if any, and AuthenticationOk. Send it before ParameterStatus, in
    /// the same write.
    pub greeting: Vec<u8>,
}

/// Runs the exchange that the rules demand. NegotiateProtocolVersion goes first when it is due, once (trap 74). What comes
/// behind the last message of the exchange is what the connection gives next.
///
/// # Errors
/// [`AuthError`]; nothing was sent about it: send [`AuthError::notice`] and close.
pub async fn authenticate_client(
    stream: &mut Stream,
    login: &Login<'_>,
    context: &AuthContext,
) -> Result<Authenticated, AuthError> {
    let user = login.startup.get("user").unwrap_or_default();
    let mut exchange = Talk { stream, out: Vec::with_capacity(GREETING), body: Vec::new() };
    if login.startup.needs_negotiation() {
        let minor = login.startup.minor.min(2);
        build::negotiate_protocol_version(&mut exchange.out, minor, &login.startup.protocol_options);
    }
    let connection = Connection {
        peer: exchange.stream.peer(),
        tls: exchange.stream.is_tls(),
        database: login.database,
        user,
        // The console has nothing to replicate, whatever its client says: rules for replication open no way into it.
        physical_replication: !is_console(login.database) && hba::is_physical_replication(login.startup),
    };
    let result = match hba::first_match(login.hba, &connection) {
        None => Err(AuthError::NoHbaEntry(describe(&connection))),
        Some(rule) => exchange.run(user, rule, login, context, &connection).await,
    };
    if result.is_err() && !exchange.out.is_empty() {
        // Refused without an exchange: the version still has to be negotiated before the ErrorResponse.
        let out = std::mem::take(&mut exchange.out);
        let _ = exchange.stream.write_all(&out).await;
    }
    let (method, server_credential) = result?;
    build::authentication_ok(&mut exchange.out);
    Ok(Authenticated { user: user.to_owned(), method, server_credential, greeting: exchange.out })
}

/// PostgreSQL's words for a connection.
fn describe(connection: &Connection<'_>) -> String {
    let Connection { user, database, .. } = connection;
    let host = match connection.peer {
        PeerAddr::Tcp(addr) => addr.ip().to_string(),
        PeerAddr::Unix => "[local]".to_owned(),
    };
    let encryption = if connection.tls { "SSL encryption" } else { "no encryption" };
    if connection.physical_replication {
        format!("replication connection from host \"{host}\", user \"{user}\", {encryption}")
    } else {
        format!("host \"{host}\", user \"{user}\", database \"{database}\", {encryption}")
    }
}

/// The connection during the exchange, with what is to be sent next.
struct Talk<'a> {
    stream: &'a mut Stream,
    out: Vec<u8>,
    body: Vec<u8>,
}

/// A user's secret, or what stands for it.
struct Known<'a> {
    secret: Option<Cow<'a, StoredSecret>>,
    expired: bool,
}

impl Talk<'_> {
    async fn run(
        &mut self,
        user: &str,
        rule: &HbaRule,
        login: &Login<'_>,
        context: &AuthContext,
        connection: &Connection<'_>,
    ) -> Result<(AuthMethod, ServerCredential), AuthError> {
        let failed = |reason| AuthError::Failed { user: user.to_owned(), method: rule.method, reason };
        match rule.method {
            AuthMethod::Reject => return Err(AuthError::Rejected(describe(connection))),
            AuthMethod::Trust => return Ok((rule.method, configured_credential(login))),
            AuthMethod::Cert => {
                let name = self.stream.tls_info().and_then(|tls| tls.client_cn.as_deref());
                let name = name.ok_or_else(|| failed("no verified client certificate with a common name"))?;
                let allowed = match rule.cert_map.get(name) {
                    Some(mapped) => mapped == user,
                    None => rule.cert_map.is_empty() && name == user,
                };
                return if allowed {
                    Ok((rule.method, configured_credential(login)))
                } else {
                    Err(failed("the certificate's common name is not the user's, nor mapped to it"))
                };
            }
            AuthMethod::Password { plain_ok } if !plain_ok && !self.stream.is_tls() && !self.stream.is_unix() => {
                return Err(AuthError::PlainText(user.to_owned()));
            }
            AuthMethod::Password { .. } | AuthMethod::Md5 | AuthMethod::ScramSha256 => {}
        }

        let known = look_up(user, login, connection.peer).await?;
        if let Some(secret) = &known.secret {
            context.likeness.learn(secret);
        }
        let proven = match (rule.method, known.secret.as_deref()) {
            (AuthMethod::Password { .. }, secret) => self.password(user, secret, context).await?,
            // A verifier cannot answer an MD5 challenge: SCRAM, as PostgreSQL does.
            (AuthMethod::Md5, secret @ Some(StoredSecret::Plain(_) | StoredSecret::Md5(_))) => {
                self.md5(user, secret, context).await?
            }
            (AuthMethod::Md5, None) if context.fakes_md5(user) => self.md5(user, None, context).await?,
            (_, secret) => self.scram(user, secret, context).await?,
        };
        match (proven, known.secret) {
            (Ok(_), Some(_)) if known.expired => Err(failed("the password is past its VALID UNTIL")),
            (Ok(credential), Some(_)) => Ok((rule.method, credential)),
            (Err(reason), secret) => {
                if let Some(query) = login.auth_query {
                    query.forget(user);
                }
                Err(failed(if secret.is_none() { "no such user, or it has no secret" } else { reason }))
            }
            (Ok(_), None) => Err(failed("no such user, or it has no secret")),
        }
    }

    /// SCRAM-SHA-256, or -PLUS when the client chooses it.
    async fn scram(
        &mut self,
        user: &str,
        secret: Option<&StoredSecret>,
        context: &AuthContext,
    ) -> Result<Result<ServerCredential, &'static str>, AuthError> {
        let verifier = match secret {
            Some(StoredSecret::Scram(verifier)) => verifier.clone(),
            Some(StoredSecret::Plain(password)) => {
                context.keys(password, &context.salt(user), ITERATIONS).await?.verifier()
            }
            // Nobody, or an MD5 hash, which SCRAM cannot use: the whole exchange against a fake (trap 76).
            Some(StoredSecret::Md5(_)) | None => context.fake_verifier(user),
        };
        let tls = self.stream.tls_info().cloned();
        let exchange = Exchange::new(context, tls.as_ref(), &verifier);
        build::message(&mut self.out, b'R', |out| {
            out.extend(10u32.to_be_bytes());
            for mechanism in exchange.mechanisms() {
                out.extend_from_slice(mechanism.as_bytes());
                out.push(0);
            }
            out.push(0);
        });
        self.ask(MAX_SASL).await?;
        let body = std::mem::take(&mut self.body);
        let (mechanism, client_first) = sasl_initial(&body)?;
        let challenged = match client_first {
            Some(message) => exchange.client_first(mechanism, message)?,
            None => {
                // A mechanism without data: an empty challenge asks for it.
                self.sasl(11, b"");
                self.ask(MAX_SASL).await?;
                exchange.client_first(mechanism, &self.body)?
            }
        };
        let (challenged, server_first) = challenged;
        self.sasl(11, server_first.as_bytes());
        self.ask(MAX_SASL).await?;
        match challenged.client_final(&self.body)? {
            Outcome::Wrong => Ok(Err(match secret {
                Some(StoredSecret::Md5(_)) => "the rule asks for SCRAM, but the user's secret is an MD5 hash",
                _ => "wrong password",
            })),
            Outcome::Proven(keys, server_final) => {
                self.sasl(12, server_final.as_bytes());
                Ok(Ok(match secret {
                    Some(StoredSecret::Plain(password)) => ServerCredential::Plain(password.clone()),
                    _ => ServerCredential::ScramKeys(Arc::new(keys)),
                }))
            }
        }
    }

    async fn md5(
        &mut self,
        user: &str,
        secret: Option<&StoredSecret>,
        context: &AuthContext,
    ) -> Result<Result<ServerCredential, &'static str>, AuthError> {
        let salt: [u8; 4] = random()?;
        build::message(&mut self.out, b'R', |out| {
            out.extend(5u32.to_be_bytes());
            out.extend(salt);
        });
        self.ask(MAX_PASSWORD).await?;
        let given = password_message(&self.body)?;
        let stored = match secret {
            Some(StoredSecret::Md5(hash)) => hash.clone(),
            Some(StoredSecret::Plain(password)) => md5_secret(password.expose(), user),
            _ => Secret::new(format!("md5{}", hex(&context.stable("md5", user)[..16]))),
        };
        let expected = md5_response(&stored, &salt);
        let right = same(expected.as_bytes(), given);
        Ok(match secret {
            Some(secret) if right => Ok(secret.credential()),
            _ => Err("wrong password"),
        })
    }

    async fn password(
        &mut self,
        user: &str,
        secret: Option<&StoredSecret>,
        context: &AuthContext,
    ) -> Result<Result<ServerCredential, &'static str>, AuthError> {
        build::message(&mut self.out, b'R', |out| out.extend(3u32.to_be_bytes()));
        self.ask(MAX_PASSWORD).await?;
        let given = std::str::from_utf8(password_message(&self.body)?).map(Secret::new);
        let Ok(given) = given else { return Ok(Err("the password is not UTF-8")) };
        zeroize::Zeroize::zeroize(&mut self.body);
        if given.expose().is_empty() {
            return Ok(Err("empty password"));
        }
        if let Some(StoredSecret::Md5(hash)) = secret {
            // It takes as long as with any other secret, and with none.
            context.claimed(&given, &context.salt(user), context.likeness.iterations()).await?;
            let right = same(md5_secret(given.expose(), user).expose().as_bytes(), hash.expose().as_bytes());
            return Ok(if right { Ok(ServerCredential::Plain(given)) } else { Err("wrong password") });
        }
        // One way for all others, so that it takes the same time whether the user exists or not.
        let verifier: ScramVerifier = match secret {
            Some(StoredSecret::Scram(verifier)) => verifier.clone(),
            Some(StoredSecret::Plain(password)) => {
                context.keys(password, &context.salt(user), ITERATIONS).await?.verifier()
            }
            _ => context.fake_verifier(user),
        };
        let keys: Arc<ScramKeys> = context.claimed(&given, &verifier.salt, verifier.iterations).await?;
        if !verifier.accepts(&keys.client_key) {
            return Ok(Err("wrong password"));
        }
        context.keep(&given, keys);
        Ok(Ok(ServerCredential::Plain(given)))
    }

    /// Appends a SASL message of ours.
    fn sasl(&mut self, code: u32, data: &[u8]) {
        build::message(&mut self.out, b'R', |out| {
            out.extend(code.to_be_bytes());
            out.extend_from_slice(data);
        });
    }

    /// Sends what is prepared and reads the client's answer into `body`: one password message.
    async fn ask(&mut self, limit: u32) -> Result<(), AuthError> {
        self.stream.write_all(&self.out).await?;
        self.out.clear();
        match self.stream.read_frame(&mut self.body, limit).await? {
            b'p' => Ok(()),
            b'X' => Err(AuthError::ClientLeft),
            other => Err(AuthError::Unexpected(other)),
        }
    }
}

/// What the configured secret is good for on a server, for methods that yield nothing.
fn configured_credential(login: &Login<'_>) -> ServerCredential {
    let secret = login.user.and_then(|user| user.secret.as_ref());
    secret.map_or(ServerCredential::None, |secret| StoredSecret::parse(secret).credential())
}

/// The configuration first; `auth_query` for users that it does not know, or has no secret of.
async fn look_up<'a>(user: &str, login: &Login<'a>, peer: PeerAddr) -> Result<Known<'a>, AuthError> {
    if let Some(secret) = login.user.and_then(|user| user.secret.as_ref()) {
        return Ok(Known { secret: Some(Cow::Owned(StoredSecret::parse(secret))), expired: false });
    }
    let Some(query) = login.auth_query else { return Ok(Known { secret: None, expired: false }) };
    let found =
        query.look_up(user, peer).await.map_err(|source| AuthError::LookUp { user: user.to_owned(), source })?;
    let Found { secret, expired } = Found::clone(&found);
    Ok(Known { secret: secret.map(Cow::Owned), expired })
}

/// Reads SASLInitialResponse: mechanism, and data unless its length is -1.
fn sasl_initial(body: &[u8]) -> Result<(&str, Option<&[u8]>), AuthError> {
    const BAD: AuthError = AuthError::Malformed("malformed SASL message");
    let (mechanism, rest) = split_cstr(body).ok_or(BAD)?;
    let mechanism = std::str::from_utf8(mechanism).map_err(|_| BAD)?;
    let (len, data) = rest.split_first_chunk::<4>().ok_or(BAD)?;
    match i32::from_be_bytes(*len) {
        -1 if data.is_empty() => Ok((mechanism, None)),
        len if usize::try_from(len).is_ok_and(|len| len == data.len()) => Ok((mechanism, Some(data))),
        _ => Err(BAD),
    }
}

/// Reads PasswordMessage: one string and nothing behind it.
fn password_message(body: &[u8]) -> Result<&[u8], AuthError> {
    match split_cstr(body) {
        Some((password, [])) => Ok(password),
        _ => Err(AuthError::Malformed("invalid password packet size")),
    }
}

/// `md5` and MD5 of password and user, as `pg_authid` has it.
pub(super) fn md5_secret(password: &str, user: &str) -> Secret {
    let digest = Md5::new().chain_update(password.as_bytes()).chain_update(user.as_bytes()).finalize();
    Secret::new(format!("md5{}", hex(&digest)))
}

/// The answer to an MD5 challenge, from what `pg_authid` has.
pub(super) fn md5_response(secret: &Secret, salt: &[u8; 4]) -> String {
    let stored = secret.expose().strip_prefix("md5").unwrap_or_default();
    let digest = Md5::new().chain_update(stored.as_bytes()).chain_update(salt).finalize();
    format!("md5{}", hex(&digest))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(nibble.into(), 16).unwrap_or_default());
        }
        text
    })
}
