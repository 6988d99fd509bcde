//! Before and during the login.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};

use crate::support::clusters::{APP, APP_PASSWORD};
use crate::support::frames::{Batch, Frame};
use crate::support::raw::RawClient;
use crate::support::world::{Plan, World};
use crate::{descriptors, resident, unharmed, until};

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    [&u32::try_from(8 + body.len()).unwrap().to_be_bytes()[..], &code.to_be_bytes(), body].concat()
}

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const PROTOCOL_3: u32 = 196_608;

/// What is said to these bytes before the connection is closed: the frames, without what is no frame.
fn answer(port: u16, bytes: &[u8]) -> Vec<Frame> {
    let mut client = RawClient::tcp(port);
    // It may be closed before everything is written.
    let _ = client.try_send(bytes);
    frames_until_closed(&mut client)
}

fn frames_until_closed(client: &mut RawClient) -> Vec<Frame> {
    let mut frames = Vec::new();
    loop {
        match client.try_recv() {
            Ok(frame) => frames.push(frame),
            Err(error) => {
                use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
                assert!(matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe), "{error}: {frames:?}");
                return frames;
            }
        }
    }
}

fn refused_with(frames: &[Frame], sqlstate: &str, what: &str) {
    let told: Vec<_> = frames.iter().filter(|frame| frame.tag == b'E').map(Frame::sqlstate).collect();
    assert_eq!(told, [sqlstate], "{what}: {frames:?}");
}

#[test]
fn trap_75_78_packets_that_cannot_be() {
    let world = Plan::default().start();
    let port = world.proxy.port();
    let mut bystander = world.client();
    let app = format!("user\0{APP}\0database\0{}\0", world.db.name);
    let params = |more: &str| packet(PROTOCOL_3, format!("{app}{more}\0").as_bytes());
    let long = "x".repeat(20_000);
    for (what, bytes, sqlstate) in [
        ("a giant length", vec![0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0], "08P01"),
        ("a negative length", vec![0xff; 8], "08P01"),
        ("length 0", vec![0; 8], "08P01"),
        ("length 7", vec![0, 0, 0, 7, 0, 3, 0], "08P01"),
        ("a packet over the limit", params(&format!("application_name\0{long}\0")), "08P01"),
        ("protocol 2", packet(2 << 16, b"x\0"), "0A000"),
        ("protocol 4", packet(4 << 16, b"user\0x\0\0"), "0A000"),
        ("no user", packet(PROTOCOL_3, b"database\0x\0\0"), "28000"),
        ("an empty packet", packet(PROTOCOL_3, b""), "08P01"),
        ("a name without a value", packet(PROTOCOL_3, b"user\0x\0database\0"), "08P01"),
        ("bytes behind the end", packet(PROTOCOL_3, b"user\0x\0\0rest"), "08P01"),
        ("no UTF-8", packet(PROTOCOL_3, b"user\0\xff\0\0"), "08P01"),
        ("SSLRequest with a body", packet(SSL_REQUEST, b"x"), "08P01"),
        ("a number that no protocol has", packet(80_877_199, b""), "0A000"),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "08P01"),
    ] {
        refused_with(&answer(port, &bytes), sqlstate, what);
    }
    unharmed(&world, &mut bystander);
}

/// Everything that a client sends before it is let in, in one piece: no byte of it is lost between login and session.
#[test]
fn what_comes_behind_a_startup_is_answered() {
    let tables = format!("[admin]\nadmin_users = [\"{APP}\"]\n[[hba]]\nusers = [\"{APP}\"]\nmethod = \"trust\"\n");
    let world = Plan { tables: &tables, ..Plan::default() }.start();
    for (database, sql) in [(world.db.name.as_str(), "SELECT 'hello'"), ("trunkline", "SHOW VERSION")] {
        for padding in [0, 1000, 3000, 100_000] {
            let mut client = RawClient::tcp(world.proxy.port());
            let mut bytes = packet(196_608, format!("user\0{APP}\0database\0{database}\0\0").as_bytes());
            let query = format!("{sql}{}\0", " ".repeat(padding));
            for _ in 0..2 {
                bytes.push(b'Q');
                bytes.extend(u32::try_from(query.len() + 4).unwrap().to_be_bytes());
                bytes.extend(query.as_bytes());
            }
            client.send_bytes(&bytes);
            let frames = client.recv_ready(3);
            let rows = frames.iter().filter(|frame| frame.tag == b'D').count();
            assert_eq!(rows, 2, "{database}, {padding}: {frames:?}");
        }
    }
}

#[test]
fn messages_in_the_wrong_order() {
    let world = Plan::default().start();
    let port = world.proxy.port();
    let mut bystander = world.client();
    let started = |client: &mut RawClient| {
        client.startup(&[("user", APP), ("database", &world.db.name)]);
        assert_eq!(client.recv().tag, b'R');
    };
    let batch = Batch::new;
    for (what, bytes) in [
        ("a statement before the password", batch().query("SELECT 1")),
        ("Sync before the password", batch().sync()),
        ("a second startup", Batch::new().bytes_of(&packet(PROTOCOL_3, b"user\0x\0\0"))),
        ("SSLRequest within the login", Batch::new().bytes_of(&packet(SSL_REQUEST, b""))),
        ("a giant password", batch().bytes_of(b"p\x7f\xff\xff\xff")),
        ("a password without an end", batch().raw(b'p', b"SCRAM-SHA-256")),
        ("SCRAM with a length that lies", batch().raw(b'p', b"SCRAM-SHA-256\0\x7f\xff\xff\xffn,,n=,r=x")),
        ("a mechanism that was not offered", batch().raw(b'p', b"GS2-KRB5\0\0\0\0\x01x")),
        ("a proof before the nonce", batch().raw(b'p', b"SCRAM-SHA-256\0\0\0\0\x0bc=biws,r=x,")),
    ] {
        let mut client = RawClient::tcp(port);
        started(&mut client);
        client.send(&bytes);
        let frames = frames_until_closed(&mut client);
        let code = frames.last().unwrap_or_else(|| panic!("{what}")).sqlstate();
        assert!(["08P01", "28000"].contains(&code.as_str()), "{what}: {frames:?}");
    }
    // Terminate needs no answer.
    let mut client = RawClient::tcp(port);
    started(&mut client);
    client.send(&batch().terminate());
    assert!(frames_until_closed(&mut client).is_empty());
    // A statement that comes along with the startup, before anybody has proved anything, never runs.
    let mut client = RawClient::tcp(port);
    let early = packet(PROTOCOL_3, format!("user\0{APP}\0database\0{}\0\0", world.db.name).as_bytes());
    client.send_bytes(&[&early[..], batch().query("CREATE TABLE never (n int)").bytes()].concat());
    refused_with(&frames_until_closed(&mut client), "08P01", "a statement with the startup");
    assert_eq!(world.db.run("SELECT count(*) FROM pg_class WHERE relname = 'never'"), "0");
    unharmed(&world, &mut bystander);
}

/// A proxy with TLS, and the file of its certificate.
fn with_tls(general: &str) -> World {
    let dir = tempfile::tempdir().unwrap().keep();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("crt.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    let files = format!("cert = \"{0}/crt.pem\"\nkey = \"{0}/key.pem\"", dir.display());
    let world = Plan { general: &format!("{general}\n[tls]\nmode = \"allow\"\n{files}"), ..Plan::default() }.start();
    std::fs::remove_dir_all(&dir).unwrap();
    world
}

#[test]
fn trap_73_bytes_before_tls() {
    let world = with_tls("");
    let port = world.proxy.port();
    let mut bystander = world.client();
    let startup = packet(PROTOCOL_3, format!("user\0{APP}\0database\0{}\0\0", world.db.name).as_bytes());
    let ssl = packet(SSL_REQUEST, b"");
    // In one segment with the request: nobody encrypted it, so nobody may take it for encrypted (CVE-2021-23214).
    for rest in [&startup[..], b"Q\0\0\0\x0dSELECT 1\0", b"\x16\x03\x01", b"x"] {
        refused_with(&answer(port, &[&ssl, rest].concat()), "08P01", "bytes behind SSLRequest");
    }
    refused_with(&answer_after(port, &packet(GSS_REQUEST, b""), b"N", &packet(GSS_REQUEST, b"")), "08P01", "GSS twice");
    // Plain text where a handshake is due: closed, with at most an alert of TLS.
    let mut client = RawClient::tcp(port);
    client.send_bytes(&ssl);
    let mut socket = client.writer();
    let mut said = [0];
    std::io::Read::read_exact(&mut socket, &mut said).unwrap();
    assert_eq!(&said, b"S");
    client.send_bytes(&startup);
    let rest = read_rest(&mut socket);
    assert!(rest.is_empty() || rest[0] == 0x15, "{rest:?}");
    unharmed(&world, &mut bystander);
}

/// Sends, expects these bytes, sends again: the frames after that.
fn answer_after(port: u16, first: &[u8], expected: &[u8], second: &[u8]) -> Vec<Frame> {
    let mut client = RawClient::tcp(port);
    client.send_bytes(first);
    let mut said = vec![0; expected.len()];
    std::io::Read::read_exact(&mut client.writer(), &mut said).unwrap();
    assert_eq!(said, expected);
    client.send_bytes(second);
    frames_until_closed(&mut client)
}

fn read_rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = std::io::Read::read_to_end(socket, &mut rest);
    rest
}

/// A ClientHello of this version with one cipher that every version has, and nothing that tells of newer ones.
fn client_hello(version: [u8; 2]) -> Vec<u8> {
    let mut hello = vec![version[0], version[1]];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    let mut handshake = vec![1, 0, 0, u8::try_from(hello.len()).unwrap()];
    handshake.extend(hello);
    let mut record = vec![0x16, 3, 1, 0, u8::try_from(handshake.len()).unwrap()];
    record.extend(handshake);
    record
}

#[test]
fn no_tls_before_1_2() {
    let world = with_tls("");
    for (version, name) in [([3, 0], "SSL 3"), ([3, 1], "TLS 1.0"), ([3, 2], "TLS 1.1")] {
        let client = RawClient::tcp(world.proxy.port());
        let mut socket = client.writer();
        socket.write_all(&packet(SSL_REQUEST, b"")).unwrap();
        let mut said = [0];
        std::io::Read::read_exact(&mut socket, &mut said).unwrap();
        socket.write_all(&client_hello(version)).unwrap();
        let rest = read_rest(&mut socket);
        // A fatal alert and no ServerHello.
        assert!(rest.first() == Some(&0x15) && rest.get(5) == Some(&2), "{name}: {rest:?}");
    }
}

#[test]
fn lengths_that_are_promised_and_not_sent_take_no_memory() {
    let world = Plan { general: "[client]\nlogin_timeout = \"3s\"", ..Plan::default() }.start();
    let port = world.proxy.port();
    let mut bystander = world.client();
    bystander.value("SELECT 1");
    let (before, open) = (resident(&world), descriptors(&world));
    // The largest packet that is taken, of which one byte less than the head comes; then passwords of 64 KiB.
    let mut clients: Vec<RawClient> = (0..150)
        .map(|number| {
            let mut client = RawClient::tcp(port);
            client.send_bytes(&10_000_u32.to_be_bytes());
            client.send_bytes(&PROTOCOL_3.to_be_bytes()[..number % 4]);
            client
        })
        .collect();
    let held = resident(&world).saturating_sub(before);
    assert!(held < 20 * 1024, "{held} KiB for 150 unfinished startups");
    unharmed(&world, &mut bystander);
    // They are let go when their time is over.
    for client in &mut clients {
        client.set_timeout(Duration::from_secs(10));
        assert!(client.is_closed());
    }
    until("descriptors come back", || descriptors(&world) <= open + 4);
    until("they are counted", || {
        world.counter("trunkline_client_connections_refused_total", &["login_timeout"]) >= 150.0
    });
    let mut late = RawClient::tcp(port);
    assert!(late.login(APP_PASSWORD, &[("user", APP), ("database", &world.db.name)]).is_ok());
}
