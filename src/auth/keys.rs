//! SCRAM-SHA-256's keys (RFC 5802, RFC 7677), and the verifier that servers store.

use std::fmt;

use aws_lc_rs::{digest, hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::config::MAX_SCRAM_ITERATIONS;

/// Iterations of verifiers that we make ourselves: PostgreSQL's default.
pub(super) const ITERATIONS: u32 = 4096;
/// Bytes of a salt that we make.
pub(super) const SALT_LEN: usize = 16;

/// One SHA-256 output.
pub(super) type Key = [u8; 32];

/// What a password becomes with one salt and iteration count: enough to log in to a server that stores the verifier
/// with the same salt, and to know that server by its signature. As good as the password there: wiped when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ScramKeys {
    pub(super) client_key: Key,
    pub(super) server_key: Key,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
}

impl ScramKeys {
    /// Derives the keys: `iterations` rounds of HMAC, milliseconds of work. Not for a worker thread.
    pub(super) fn derive(password: &str, salt: &[u8], iterations: u32) -> Self {
        // pgwire's function normalises by SASLprep as PostgreSQL does; it panics on 0 iterations.
        let iterations = iterations.max(1);
        let mut salted = pgwire::api::auth::sasl::scram::gen_salted_password(password, salt, iterations as usize);
        let (client_key, server_key) = (sign(&salted, b"Client Key"), sign(&salted, b"Server Key"));
        salted.zeroize();
        Self { client_key, server_key, salt: salt.to_vec(), iterations }
    }

    /// The verifier that a server would store.
    pub fn verifier(&self) -> ScramVerifier {
        ScramVerifier {
            salt: self.salt.clone(),
            iterations: self.iterations,
            stored_key: sha256(&self.client_key),
            server_key: self.server_key,
        }
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramKeys(…)")
    }
}

/// A stored verifier. It lets us check a client, but not log in.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ScramVerifier {
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
}

impl ScramVerifier {
    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, as `pg_authid` has it.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
        let iterations = iterations.parse().ok().filter(|n| (1..=MAX_SCRAM_ITERATIONS).contains(n))?;
        let salt = STANDARD.decode(salt).ok().filter(|salt: &Vec<u8>| !salt.is_empty())?;
        Some(Self { salt, iterations, stored_key: key(stored_key)?, server_key: key(server_key)? })
    }

    /// Whether the keys come from the verifier's password. In constant time.
    pub(super) fn accepts(&self, client_key: &Key) -> bool {
        same(&sha256(client_key), &self.stored_key)
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramVerifier(…)")
    }
}

/// HMAC-SHA-256.
pub(super) fn sign(key: &[u8], data: &[u8]) -> Key {
    array(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref())
}

/// SHA-256.
pub(super) fn sha256(data: &[u8]) -> Key {
    array(digest::digest(&digest::SHA256, data).as_ref())
}

fn array(bytes: &[u8]) -> Key {
    let mut key = [0; 32];
    key.copy_from_slice(&bytes[..32]);
    key
}

pub(super) fn xor(a: &Key, b: &Key) -> Key {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// Compares in a time that tells nothing but the lengths.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// Random bytes of the system.
pub(super) fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| std::io::Error::other("the system gave no random bytes"))?;
    Ok(bytes)
}

/// A nonce: printable, without a comma.
pub(super) fn nonce() -> std::io::Result<String> {
    random::<18>().map(|bytes| STANDARD.encode(bytes))
}
