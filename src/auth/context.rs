//! What all logins of a process share: caches of derived keys, and the key behind stable fakes.

use std::io;
use std::sync::Arc;

use pgwire::api::auth::sasl::scram::ScramServerAuth;
use quick_cache::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::StoredSecret;
use super::failures::Failures;
use super::keys::{self, ITERATIONS, Key, SALT_LEN, ScramKeys, ScramVerifier};
use super::likeness::Likeness;
use crate::config::{Config, Secret};

/// So many iterations take some milliseconds.
const USUAL: u32 = 4 * ITERATIONS;

/// Most passwords whose keys are kept.
const DERIVED: usize = 4096;

/// Shared by all logins; one per process. Everything in it may be dropped without harm but for the cost of deriving
/// again, and for the salts of unknown users, which stay the same only as long as it lives.
pub struct AuthContext {
    /// Random. Makes salts for users that have none, and keys for the cache, so that no password is a cache key.
    secret: Key,
    derived: Cache<Key, Arc<ScramKeys>>,
    pub(super) failures: Failures,
    pub(super) likeness: Likeness,
    /// Derivations at once: more would only take each other's time.
    permits: Arc<Semaphore>,
    /// Of those of more than [`USUAL`] iterations, which nobody else waits for: a server may ask for as many as it likes.
    long: Arc<Semaphore>,
    /// pgwire's authenticators by channel-binding data; `None` = pgwire does not know the certificate's signature.
    pub(super) binders: Cache<Vec<u8>, Option<ScramServerAuth>>,
}

impl std::fmt::Debug for AuthContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthContext").field("derived", &self.derived.len()).finish_non_exhaustive()
    }
}

impl AuthContext {
    /// Makes an empty one.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new() -> io::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            secret: keys::random()?,
            derived: Cache::new(DERIVED),
            failures: Failures::default(),
            likeness: Likeness::default(),
            permits: Arc::new(Semaphore::new(threads)),
            long: Arc::new(Semaphore::new(threads.div_ceil(2))),
            binders: Cache::new(16),
        })
    }

    /// Learns what users that are configured look like, and what their passwords come to: who logs in for the first time waits no
    /// longer than somebody who does not exist (trap 76). The work is done on the runtime of the control plane, one password at a time.
    pub fn learn(self: &Arc<Self>, config: &Config, control: &Handle) {
        let mut passwords = Vec::new();
        for (name, user) in &config.users {
            let Some(secret) = user.secret.as_ref().map(StoredSecret::parse) else { continue };
            self.likeness.learn(&secret);
            if let StoredSecret::Plain(password) = secret {
                passwords.push((name.clone(), password));
            }
        }
        passwords.truncate(DERIVED);
        let context = self.clone();
        control.spawn(async move {
            for (user, password) in passwords {
                // Fails when the runtime ends.
                let _ = context.keys(&password, &context.salt(&user), ITERATIONS).await;
            }
        });
    }

    /// The salt of a user that has none stored: the same every time, whether the user exists or not (trap 77).
    pub(super) fn salt(&self, user: &str) -> Vec<u8> {
        self.stable("salt", user)[..SALT_LEN].to_vec()
    }

    /// A verifier that no password fits.
    pub(super) fn fake_verifier(&self, user: &str) -> ScramVerifier {
        ScramVerifier {
            salt: self.salt(user),
            iterations: self.likeness.iterations(),
            stored_key: self.stable("stored", user),
            server_key: self.stable("server", user),
        }
    }

    /// Whether a user that does not exist is asked by MD5, where the rule says so.
    pub(super) fn fakes_md5(&self, user: &str) -> bool {
        self.likeness.answers_md5(self.stable("kind", user)[0])
    }

    /// 32 bytes that depend on the purpose and the user only.
    pub(super) fn stable(&self, purpose: &str, user: &str) -> Key {
        keys::sign(&self.secret, format!("{purpose}\0{user}").as_bytes())
    }

    /// Keys of a password that we know to be right: derived once, then kept. Concurrent callers share one derivation.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub(super) async fn keys(&self, password: &Secret, salt: &[u8], iterations: u32) -> io::Result<Arc<ScramKeys>> {
        let id = self.id(password, salt, iterations);
        self.derived.get_or_insert_async(&id, self.derive(password, salt, iterations)).await
    }

    /// Keys of a password that a client claims. Not kept until [`Self::keep`], so that guesses push nothing out.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub(super) async fn claimed(&self, password: &Secret, salt: &[u8], iterations: u32) -> io::Result<Arc<ScramKeys>> {
        match self.derived.get(&self.id(password, salt, iterations)) {
            Some(keys) => Ok(keys),
            None => self.derive(password, salt, iterations).await,
        }
    }

    /// Keeps keys that a client proved to be right.
    pub(super) fn keep(&self, password: &Secret, keys: Arc<ScramKeys>) {
        self.derived.insert(self.id(password, &keys.salt, keys.iterations), keys);
    }

    fn id(&self, password: &Secret, salt: &[u8], iterations: u32) -> Key {
        let mut data = zeroize::Zeroizing::new(Vec::with_capacity(salt.len() + password.expose().len() + 16));
        data.extend(iterations.to_be_bytes());
        data.extend((salt.len() as u64).to_be_bytes());
        data.extend_from_slice(salt);
        data.extend_from_slice(password.expose().as_bytes());
        keys::sign(&self.secret, &data)
    }

    async fn derive(&self, password: &Secret, salt: &[u8], iterations: u32) -> io::Result<Arc<ScramKeys>> {
        let permits = if iterations > USUAL { &self.long } else { &self.permits };
        let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (password, salt) = (password.clone(), salt.to_vec());
        let deriving = tokio::task::spawn_blocking(move || {
            // The work goes on when nobody waits for it any more.
            let _permit = permit;
            Arc::new(ScramKeys::derive(password.expose(), &salt, iterations))
        });
        deriving.await.map_err(io::Error::other)
    }
}
