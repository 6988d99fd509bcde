//! The client's side of SCRAM-SHA-256, towards servers (RFC 5802, RFC 7677).
//!
//! `postgres_protocol::authentication::sasl` starts from the password and derives anew each time. Here the keys come
//! from outside: kept from an earlier login, or yielded by a client's own proof. The tests hold the two against each
//! other.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::keys::{ScramKeys, same, sha256, sign, xor};
use crate::config::MAX_SCRAM_ITERATIONS;

/// What the client says about channel binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Binding {
    /// `n`: cannot (no TLS, or a certificate without a single hash).
    Unable,
    /// `y`: could, but the server does not offer it.
    NotOffered,
    /// `p=tls-server-end-point`, with the data.
    EndPoint(Vec<u8>),
}

impl Binding {
    fn header(&self) -> &'static str {
        match self {
            Self::Unable => "n,,",
            Self::NotOffered => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    fn input(&self) -> String {
        let mut input = self.header().as_bytes().to_vec();
        if let Self::EndPoint(data) = self {
            input.extend_from_slice(data);
        }
        STANDARD.encode(input)
    }
}

/// Before server-first-message.
pub(super) struct Begun {
    binding: Binding,
    nonce: String,
    bare: String,
}

/// What server-first-message asks for.
#[derive(Debug)]
pub(super) struct Challenge {
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
    text: String,
    nonce: String,
}

/// Before server-final-message.
pub(super) struct Answered {
    signature: [u8; 32],
}

impl Begun {
    /// PostgreSQL takes the user from the startup packet and passes over the one here: libpq sends it empty.
    pub(super) fn new(binding: Binding, nonce: String) -> Self {
        let bare = format!("n=,r={nonce}");
        Self { binding, nonce, bare }
    }

    #[cfg(test)]
    pub(super) fn with_user(binding: Binding, user: &str, nonce: &str) -> Self {
        Self { binding, nonce: nonce.to_owned(), bare: format!("n={user},r={nonce}") }
    }

    /// client-first-message.
    pub(super) fn client_first(&self) -> String {
        format!("{}{}", self.binding.header(), self.bare)
    }

    /// Reads server-first-message. `None` when it is malformed, answers another nonce, or asks for more work than
    /// anyone should.
    pub(super) fn server_first(&self, message: &[u8]) -> Option<Challenge> {
        let text = std::str::from_utf8(message).ok()?;
        let mut parts = text.split(',');
        let nonce = parts.next()?.strip_prefix("r=")?;
        let salt = parts.next()?.strip_prefix("s=")?;
        let iterations = parts.next()?.strip_prefix("i=")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return None;
        }
        Some(Challenge {
            salt: STANDARD.decode(salt).ok()?,
            iterations: iterations.parse().ok().filter(|n| (1..=MAX_SCRAM_ITERATIONS).contains(n))?,
            nonce: nonce.to_owned(),
            text: text.to_owned(),
        })
    }

    /// client-final-message.
    pub(super) fn client_final(self, challenge: &Challenge, keys: &ScramKeys) -> (Answered, String) {
        let without_proof = format!("c={},r={}", self.binding.input(), challenge.nonce);
        let auth_message = format!("{},{},{without_proof}", self.bare, challenge.text);
        let stored_key = sha256(&keys.client_key);
        let proof = xor(&keys.client_key, &sign(&stored_key, auth_message.as_bytes()));
        let message = format!("{without_proof},p={}", STANDARD.encode(proof));
        (Answered { signature: sign(&keys.server_key, auth_message.as_bytes()) }, message)
    }
}

impl Answered {
    /// Whether server-final-message proves that the server knows the verifier.
    pub(super) fn verified_by(&self, message: &[u8]) -> bool {
        let signature = message.strip_prefix(b"v=").map(|rest| rest.split(|b| *b == b',').next().unwrap_or_default());
        signature.and_then(|text| STANDARD.decode(text).ok()).is_some_and(|given| same(&given, &self.signature))
    }
}
