//! Logging in, with the password's keys derived once for each salt and not at every login.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::message::frontend;

use super::{Client, Failed, Target};

/// A password, and what it becomes with each salt that a server uses. Peers have a salt of their own each.
#[derive(Debug)]
pub struct Keys {
    password: String,
    salted: Mutex<HashMap<(String, u32), [u8; 32]>>,
}

impl Keys {
    /// The keys of this password.
    pub fn new(password: &str) -> Self {
        Self { password: password.to_owned(), salted: Mutex::default() }
    }

    fn salted(&self, salt: &str, iterations: u32) -> Result<[u8; 32], Failed> {
        let mut known = self.salted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known.get(&(salt.to_owned(), iterations)) {
            return Ok(*key);
        }
        let rounds = iterations.try_into().map_err(|_| "no iterations")?;
        let bytes = STANDARD.decode(salt).map_err(|error| format!("salt: {error}"))?;
        let mut key = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &bytes, self.password.as_bytes(), &mut key);
        known.insert((salt.to_owned(), iterations), key);
        Ok(key)
    }
}

impl Client {
    /// Sends the startup packet and answers whatever is asked, up to the first ReadyForQuery.
    pub(super) fn log_in(&mut self, target: &Target<'_>) -> Result<(), Failed> {
        let parameters = [("user", target.user), ("database", target.database), ("application_name", "bench")];
        self.say(|out| frontend::startup_message(parameters, out))?;
        let mut bare = String::new();
        loop {
            let (code, data) = self.asked()?;
            let password = &target.keys.password;
            match code {
                0 => return self.until(b'Z').map(drop),
                3 => self.say(|out| frontend::password_message(password.as_bytes(), out))?,
                5 => {
                    let salt = data.try_into().map_err(|_| "md5 without a salt")?;
                    let hash = md5_hash(target.user.as_bytes(), password.as_bytes(), salt);
                    self.say(|out| frontend::password_message(hash.as_bytes(), out))?;
                }
                10 => {
                    bare = format!("n=,r={:032x}", fastrand::u128(..));
                    let first = format!("n,,{bare}");
                    self.say(|out| frontend::sasl_initial_response("SCRAM-SHA-256", first.as_bytes(), out))?;
                }
                11 => {
                    let last = proof(target.keys, &bare, &String::from_utf8_lossy(&data))?;
                    self.say(|out| frontend::sasl_response(last.as_bytes(), out))?;
                }
                12 => {}
                other => return Err(format!("authentication request {other}")),
            }
        }
    }

    /// The next authentication request: its number and its data.
    fn asked(&mut self) -> Result<(i32, Vec<u8>), Failed> {
        loop {
            let (tag, body) = self.frame()?;
            match tag {
                b'R' => {
                    let (code, data) = self.buffer[body].split_first_chunk::<4>().ok_or("a short request")?;
                    return Ok((i32::from_be_bytes(*code), data.to_vec()));
                }
                b'E' => return Err(self.error(body)),
                _ => {}
            }
        }
    }

    fn say(&mut self, message: impl FnOnce(&mut BytesMut) -> std::io::Result<()>) -> Result<(), Failed> {
        let mut bytes = BytesMut::new();
        message(&mut bytes).map_err(|error| error.to_string())?;
        self.send(&bytes)
    }
}

/// The client's last message of SCRAM-SHA-256, without channel binding.
fn proof(keys: &Keys, bare: &str, challenge: &str) -> Result<String, Failed> {
    let part = |key: &str| challenge.split(',').find_map(|part| part.strip_prefix(key)).ok_or("an odd challenge");
    let iterations = part("i=")?.parse().map_err(|_| "an odd number of iterations")?;
    let salted = keys.salted(part("s=")?, iterations)?;
    let without_proof = format!("c=biws,r={}", part("r=")?);
    let client_key = sign(&salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, &client_key);
    let signature = sign(stored_key.as_ref(), format!("{bare},{challenge},{without_proof}").as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
    Ok(format!("{without_proof},p={}", STANDARD.encode(proof)))
}

fn sign(key: &[u8], data: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().to_vec()
}
