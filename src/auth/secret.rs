//! Secrets in the forms they are stored in, and what logs in to servers.

use std::fmt;
use std::sync::Arc;

use super::{ScramKeys, ScramVerifier};
use crate::config::{Database, Secret, User};

/// A user's secret as the configuration or `auth_query` has it.
#[derive(Debug, Clone, PartialEq)]
pub enum StoredSecret {
    /// The password itself.
    Plain(Secret),
    /// A SCRAM-SHA-256 verifier.
    Scram(ScramVerifier),
    /// `md5` and 32 hexadecimal digits: MD5 of password and user name.
    Md5(Secret),
}

impl StoredSecret {
    /// Tells the forms apart as PostgreSQL does (`get_password_type`): what is neither a verifier nor a hash is a
    /// password.
    pub fn parse(secret: &Secret) -> Self {
        let text = secret.expose();
        if let Some(verifier) = ScramVerifier::parse(text) {
            return Self::Scram(verifier);
        }
        let is_hash = text.strip_prefix("md5").is_some_and(|hex| {
            hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        });
        if is_hash { Self::Md5(secret.clone()) } else { Self::Plain(secret.clone()) }
    }

    /// Whether it is the text of a verifier that cannot be used. As a password it would let in whoever has read it.
    pub(super) fn is_broken_verifier(&self) -> bool {
        matches!(self, Self::Plain(text) if text.expose().starts_with("SCRAM-SHA-256$"))
    }

    /// What it is good for on a server. A verifier is good for nothing there.
    pub fn credential(&self) -> ServerCredential {
        match self {
            Self::Plain(secret) => ServerCredential::Plain(secret.clone()),
            Self::Md5(hash) => ServerCredential::Md5Hash(hash.clone()),
            Self::Scram(_) => ServerCredential::None,
        }
    }
}

/// What we log in to a server with.
#[derive(Clone, PartialEq)]
pub enum ServerCredential {
    /// Nothing: good for `trust`, `peer` and client certificates.
    None,
    /// A password: good for every method.
    Plain(Secret),
    /// MD5 of password and user name: good for `md5`.
    Md5Hash(Secret),
    /// Keys that a client's own SCRAM login yielded: good for SCRAM with the same verifier.
    ScramKeys(Arc<ScramKeys>),
}

impl ServerCredential {
    /// Whether there is nothing to log in with.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

impl fmt::Debug for ServerCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no password",
            Self::Plain(_) => "a password",
            Self::Md5Hash(_) => "an MD5 hash",
            Self::ScramKeys(_) => "SCRAM keys",
        })
    }
}

/// Who logs in to a database's servers.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerLogin {
    /// User on the server.
    pub user: String,
    /// How it proves that.
    pub credential: ServerCredential,
}

/// Who serves this client on the servers: the database's user before the user's own `server_user` before the client's
/// name. A password or key is never carried over to another name than the one it belongs to (trap 77). `proven` = what
/// the client's own login, or its configured secret, is good for.
pub fn server_login(database: &Database, user: Option<&User>, client: &str, proven: &ServerCredential) -> ServerLogin {
    let of = |secret: &Secret| StoredSecret::parse(secret).credential();
    let own = || {
        let configured = user.and_then(|user| user.server_password.as_ref()).map(of);
        configured.unwrap_or_else(|| proven.clone())
    };
    if let Some(name) = &database.server_user {
        let credential = match &database.server_password {
            Some(password) => of(password),
            None if name == client => own(),
            None => ServerCredential::None,
        };
        return ServerLogin { user: name.clone(), credential };
    }
    if let Some(name) = user.and_then(|user| user.server_user.as_ref()) {
        let credential = match user.and_then(|user| user.server_password.as_ref()) {
            Some(password) => of(password),
            None if name == client => proven.clone(),
            None => ServerCredential::None,
        };
        return ServerLogin { user: name.clone(), credential };
    }
    ServerLogin { user: client.to_owned(), credential: own() }
}
