//! Authenticating clients, and authenticating to servers.
//!
//! Each message of a login is read as exactly one length-checked frame. The server's side of SCRAM is pgwire's
//! state machine ([`scram_server`]); the client's side is ours ([`scram_client`]), since a login from the keys of
//! a pass-through, and keys that are kept over logins, need it.

mod client;
mod context;
mod error;
mod failures;
pub mod hba;
mod keys;
mod likeness;
mod query;
mod scram_client;
mod scram_server;
mod secret;
mod server;
mod turns;

pub use client::{Authenticated, Login, authenticate_client};
pub use context::AuthContext;
pub use error::{AuthError, ServerAuthError};
pub use keys::{ScramKeys, ScramVerifier};
pub use query::{AuthQuery, AuthQueryError};
pub use secret::{ServerCredential, ServerLogin, StoredSecret, server_login};
pub use server::{ServerGreeting, authenticate_server};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
