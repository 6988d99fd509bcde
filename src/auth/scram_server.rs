//! The server's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, towards clients.
//!
//! pgwire's `ScramServerAuth` reads and answers the messages. Around it stands what it leaves open: that mechanism
//! and gs2 flag belong together, the channel binding's own error, a second check of the proof in constant time, and
//! ClientKey for the pass-through, which it computes and drops.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pgwire::api::auth::sasl::scram::{ScramSecret, ScramServerAuth, ScramServerAuthWaitingForClientFinal};
use pgwire::error::PgWireError;

use super::keys::{ScramKeys, ScramVerifier, same, sign, xor};
use super::{AuthContext, AuthError};
use crate::net::TlsInfo;

/// Without channel binding.
pub(super) const MECHANISM: &str = "SCRAM-SHA-256";
/// With channel binding.
pub(super) const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";
const BINDING_FLAG: &str = "p=tls-server-end-point";

/// One exchange, before the client's first message.
pub(super) struct Exchange<'a> {
    authenticator: ScramServerAuth,
    verifier: &'a ScramVerifier,
    /// Channel-binding data; `Some` = PLUS is offered.
    binding: Option<&'a [u8]>,
}

/// One exchange, before the client's final message.
pub(super) struct Challenged<'a> {
    waiting: ScramServerAuthWaitingForClientFinal,
    verifier: &'a ScramVerifier,
    /// gs2 header and channel-binding data, as the client must repeat them.
    binding_input: Vec<u8>,
    /// client-first-message-bare "," server-first-message.
    messages: String,
}

/// How an exchange ended.
pub(super) enum Outcome {
    /// The client knows the password: the keys that it used, and server-final-message.
    Proven(ScramKeys, String),
    /// The proof is wrong.
    Wrong,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(context: &AuthContext, tls: Option<&'a TlsInfo>, verifier: &'a ScramVerifier) -> Self {
        let bound = tls.and_then(|tls| {
            let binding = tls.server_end_point.as_deref()?;
            let der = tls.server_certificate.as_ref()?;
            let authenticator = context.binders.get(binding).unwrap_or_else(|| {
                let authenticator = bound_authenticator(der);
                context.binders.insert(binding.to_vec(), authenticator.clone());
                authenticator
            });
            Some((authenticator?, binding))
        });
        match bound {
            Some((authenticator, binding)) => Self { authenticator, verifier, binding: Some(binding) },
            None => Self { authenticator: ScramServerAuth::new(), verifier, binding: None },
        }
    }

    /// What is offered, the best first.
    pub(super) fn mechanisms(&self) -> &'static [&'static str] {
        if self.binding.is_some() { &[MECHANISM_PLUS, MECHANISM] } else { &[MECHANISM] }
    }

    /// Takes client-first-message: what goes on, and server-first-message.
    pub(super) fn client_first(self, mechanism: &str, message: &[u8]) -> Result<(Challenged<'a>, String), AuthError> {
        let plus = match mechanism {
            MECHANISM => false,
            MECHANISM_PLUS if self.binding.is_some() => true,
            _ => return Err(AuthError::Malformed("client selected an invalid SASL authentication mechanism")),
        };
        let text = std::str::from_utf8(message).map_err(|_| MALFORMED)?;
        let mut parts = text.splitn(3, ',');
        let (Some(flag), Some(authzid), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(MALFORMED);
        };
        match (flag, plus) {
            (BINDING_FLAG, true) | ("n", false) => {}
            ("y", false) if self.binding.is_none() => {}
            ("y", false) => {
                return Err(AuthError::ChannelBinding(
                    "the client supports it but thinks the server does not; this server does",
                ));
            }
            ("n" | "y", true) => {
                return Err(AuthError::Malformed("SCRAM-SHA-256-PLUS selected without channel-binding data"));
            }
            (flag, false) if flag.starts_with("p=") => {
                return Err(AuthError::Malformed("SCRAM-SHA-256 selected with channel-binding data"));
            }
            (flag, true) if flag.starts_with("p=") => {
                return Err(AuthError::Malformed("unsupported SCRAM channel-binding type"));
            }
            _ => return Err(MALFORMED),
        }
        let mut binding_input = format!("{flag},{authzid},").into_bytes();
        if plus {
            binding_input.extend_from_slice(self.binding.unwrap_or_default());
        }
        let secret = ScramSecret::Verifier {
            salt: self.verifier.salt.clone(),
            iterations: self.verifier.iterations as usize,
            stored_key: self.verifier.stored_key.to_vec(),
            server_key: self.verifier.server_key.to_vec(),
        };
        let (server_first, waiting) =
            self.authenticator.on_client_first_message_with_secret(message, secret).map_err(|_| MALFORMED)?;
        let messages = format!("{bare},{server_first}");
        Ok((Challenged { waiting, verifier: self.verifier, binding_input, messages }, server_first))
    }
}

impl Challenged<'_> {
    /// Takes client-final-message.
    pub(super) fn client_final(self, message: &[u8]) -> Result<Outcome, AuthError> {
        let text = std::str::from_utf8(message).map_err(|_| MALFORMED)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(MALFORMED)?;
        let proof: [u8; 32] = STANDARD.decode(proof).ok().and_then(|p| p.try_into().ok()).ok_or(MALFORMED)?;
        let binding = without_proof.strip_prefix("c=").and_then(|rest| rest.split(',').next()).ok_or(MALFORMED)?;
        if !same(&STANDARD.decode(binding).map_err(|_| MALFORMED)?, &self.binding_input) {
            return Err(AuthError::ChannelBinding("the client is bound to another TLS connection"));
        }
        let server_final = match self.waiting.on_client_final_message(message) {
            Ok(server_final) => server_final,
            Err(PgWireError::InvalidPassword(_)) => return Ok(Outcome::Wrong),
            Err(_) => return Err(MALFORMED),
        };
        let auth_message = format!("{},{without_proof}", self.messages);
        let client_key = xor(&proof, &sign(&self.verifier.stored_key, auth_message.as_bytes()));
        if !self.verifier.accepts(&client_key) {
            return Ok(Outcome::Wrong);
        }
        let keys = ScramKeys {
            client_key,
            server_key: self.verifier.server_key,
            salt: self.verifier.salt.clone(),
            iterations: self.verifier.iterations,
        };
        Ok(Outcome::Proven(keys, server_final))
    }
}

const MALFORMED: AuthError = AuthError::Malformed("malformed SCRAM message");

/// pgwire takes the certificate as PEM. It knows fewer signatures than TLS does: without one, no PLUS is offered.
fn bound_authenticator(der: &[u8]) -> Option<ScramServerAuth> {
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der));
    let mut authenticator = ScramServerAuth::new();
    authenticator.configure_certificate(pem.as_bytes()).ok()?;
    Some(authenticator)
}
