//! A client that logs in by SCRAM-SHA-256 and derives the password's keys once, not at every login: what is measured is the
//! proxy.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::OnceLock;
use std::time::Duration;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A password, and what it becomes with the one salt that the proxy uses for its user.
#[derive(Debug)]
pub struct Keys {
    password: String,
    salted: OnceLock<(String, [u8; 32])>,
}

impl Keys {
    /// The keys of this password.
    pub fn new(password: &str) -> Self {
        Self { password: password.to_owned(), salted: OnceLock::new() }
    }

    fn salted(&self, salt: &str, iterations: u32) -> &[u8; 32] {
        let (first, key) = self.salted.get_or_init(|| {
            let mut key = [0; 32];
            let rounds = iterations.try_into().unwrap();
            let bytes = STANDARD.decode(salt).unwrap();
            pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &bytes, self.password.as_bytes(), &mut key);
            (salt.to_owned(), key)
        });
        assert_eq!(first, salt, "a user's salt stays");
        key
    }
}

/// Connects and logs in.
pub fn connect(port: u16, user: &str, database: &str, keys: &Keys) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for text in ["user", user, "database", database, "application_name", "idle", ""] {
        body.extend(text.bytes().chain([0]));
    }
    let length = u32::try_from(body.len() + 4).unwrap();
    stream.write_all(&[&length.to_be_bytes()[..], &body].concat()).unwrap();
    assert_eq!(receive(&mut stream).0, b'R');
    let bare = format!("n=,r={:032x}", fastrand::u128(..));
    let first = format!("n,,{bare}");
    let mut initial = b"SCRAM-SHA-256\0".to_vec();
    initial.extend(u32::try_from(first.len()).unwrap().to_be_bytes());
    initial.extend(first.bytes());
    send(&mut stream, b'p', &initial);
    let (tag, challenge) = receive(&mut stream);
    assert_eq!(tag, b'R', "{}", String::from_utf8_lossy(&challenge));
    let server_first = std::str::from_utf8(&challenge[4..]).unwrap();
    let part = |key: &str| server_first.split(',').find_map(|part| part.strip_prefix(key)).unwrap();
    let salted = keys.salted(part("s="), part("i=").parse().unwrap());
    let without_proof = format!("c=biws,r={}", part("r="));
    let message = format!("{bare},{server_first},{without_proof}");
    let client_key = sign(salted, b"Client Key");
    let signature = sign(digest::digest(&digest::SHA256, &client_key).as_ref(), message.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
    send(&mut stream, b'p', format!("{without_proof},p={}", STANDARD.encode(proof)).as_bytes());
    until_ready(&mut stream);
    stream
}

/// Runs a query.
pub fn query(stream: &mut TcpStream) {
    send(stream, b'Q', b"SELECT 1\0");
    until_ready(stream);
}

fn sign(key: &[u8], data: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().to_vec()
}

fn send(stream: &mut TcpStream, tag: u8, body: &[u8]) {
    let length = u32::try_from(body.len() + 4).unwrap();
    stream.write_all(&[&[tag][..], &length.to_be_bytes(), body].concat()).unwrap();
}

fn receive(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut header = [0; 5];
    stream.read_exact(&mut header).unwrap();
    let [tag, length @ ..] = header;
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut body).unwrap();
    (tag, body)
}

fn until_ready(stream: &mut TcpStream) {
    loop {
        match receive(stream) {
            (b'Z', _) => return,
            (b'E', body) => panic!("{}", String::from_utf8_lossy(&body)),
            _ => {}
        }
    }
}
