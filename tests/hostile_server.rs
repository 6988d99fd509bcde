//! Servers that answer with anything, behind the real program: what they break is their own connection and the session on it. Nobody gets
//! what was meant for somebody else, nothing panics, and memory stays small.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use support::frames::{Batch, Frame, summary};
use support::process::{Setup, Trunkline};
use support::raw::RawClient;

/// A statement has been executed, and the connection ends before its ReadyForQuery.
const BROKEN_OFF: &str = "an answer without its end";

/// How many answers are made up for the second test.
const MADE_UP: u64 = 400;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    Batch::new().raw(tag, body).bytes().to_vec()
}

fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

/// The answer to a query of one row with this text.
fn row(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [
        message(b'T', b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"),
        message(b'D', &[b"\0\x01", &length[..], text.as_bytes()].concat()),
        message(b'C', b"SELECT 1\0"),
    ]
    .concat()
}

fn answer(text: &str) -> Vec<u8> {
    [row(text), ready(b'I')].concat()
}

/// What is answered to `script N`; the connection is closed behind it.
fn scripts() -> Vec<(&'static str, Vec<u8>)> {
    let bad = |length: u32| [&b"D"[..], &length.to_be_bytes(), b"xx"].concat();
    vec![
        ("nothing", Vec::new()),
        ("a status that there is not", [row("x"), ready(b'X')].concat()),
        ("ReadyForQuery without a status", [row("x"), message(b'Z', b"")].concat()),
        ("ReadyForQuery with more", [row("x"), message(b'Z', b"IIII")].concat()),
        ("length 0", bad(0)),
        ("length 3", bad(3)),
        ("a giant length", bad(u32::MAX)),
        ("half a header", b"T\0\0".to_vec()),
        ("half a row", b"D\0\0\x01\0abc".to_vec()),
        ("a row without its description", [message(b'D', b"\0\0"), message(b'C', b"SELECT 1\0"), ready(b'I')].concat()),
        ("two answers", [answer("one"), answer("two")].concat()),
        ("ReadyForQuery twice", [answer("x"), ready(b'I')].concat()),
        ("a row behind the end", [answer("x"), message(b'D', b"\0\x01\0\0\0\x01z")].concat()),
        ("an error behind the end", [answer("x"), message(b'E', b"SERROR\0C42P01\0Mlate\0\0")].concat()),
        ("a block that nobody began", [row("x"), ready(b'T')].concat()),
        ("a failed block that nobody began", [row("x"), ready(b'E')].concat()),
        ("COPY that nobody asked for", [message(b'G', b"\0\0\0"), ready(b'I')].concat()),
        ("COPY both ways", [message(b'W', b"\0\0\0"), message(b'd', b"x")].concat()),
        ("CopyData alone", [message(b'd', b"x"), ready(b'I')].concat()),
        ("a login in the middle", [message(b'R', b"\0\0\0\x03"), ready(b'I')].concat()),
        ("another key", [message(b'K', b"\0\0\0\x01abcd"), answer("x")].concat()),
        ("a client's message", [message(b'Q', b"SELECT 1\0"), ready(b'I')].concat()),
        ("a type that there is not", [message(b'?', b""), message(0, b""), ready(b'I')].concat()),
        ("a parameter without an end", [message(b'S', b"TimeZone"), answer("x")].concat()),
        ("a parameter with odd bytes", [message(b'S', b"client_encoding\0\xff\xfe\0"), answer("x")].concat()),
        ("a notification without a name", [message(b'A', b"\0\0"), answer("x")].concat()),
        ("an error of nothing", [message(b'E', b""), ready(b'I')].concat()),
        ("an error without an end", [message(b'E', b"SERROR"), ready(b'I')].concat()),
        ("an error without a code", [message(b'E', b"SERROR\0Mno\0\0"), ready(b'I')].concat()),
        ("a tag of a command that is none", [message(b'C', b"\xff\xff"), ready(b'I')].concat()),
        ("ParseComplete to a Query", [message(b'1', b""), message(b'2', b""), answer("x")].concat()),
        ("a FATAL that goes on", [message(b'E', b"SFATAL\0C57P01\0Mgone\0\0"), answer("x")].concat()),
        (BROKEN_OFF, message(b'C', b"INSERT 0 1\0")),
        ("rows without end", message(b'D', &[0; 1000]).repeat(30_000)),
        ("notices without end", message(b'N', b"SNOTICE\0C00000\0Mhi\0\0").repeat(300_000)),
        (
            "parameters without end",
            (0..100_000).flat_map(|n| message(b'S', format!("x.p{n}\0v\0").as_bytes())).collect(),
        ),
        (
            "long parameters",
            (0..100).flat_map(|n| message(b'S', format!("x.p{n}\0{}\0", "v".repeat(30_000)).as_bytes())).collect(),
        ),
    ]
}

/// An answer with some bytes changed.
fn made_up(number: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(number);
    let mut bytes = [answer("x"), message(b'E', b"SERROR\0C42P01\0Mx\0\0"), answer("y")].concat();
    for _ in 0..rng.usize(1..6) {
        let at = rng.usize(0..bytes.len());
        match rng.u8(0..4) {
            0 => bytes[at] = rng.u8(..),
            1 => bytes[at] ^= 1 << rng.u8(0..8),
            2 => drop(bytes.drain(at..(at + rng.usize(1..9)).min(bytes.len()))),
            _ => bytes.insert(at, rng.u8(..)),
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// A server that lets everybody in and answers as the query says.
fn start_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // Who leaves in the middle has left.
            thread::spawn(move || drop(serve(client)));
        }
    });
    port
}

fn read_packet(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    client.read_exact(&mut body)?;
    Ok(body)
}

fn serve(mut client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    // SSLRequest and a cancel request are answered by the end.
    let startup = read_packet(&mut client)?;
    if startup.len() <= 12 {
        return client.write_all(b"N");
    }
    let parameters = [("server_version", "15.4"), ("client_encoding", "UTF8"), ("standard_conforming_strings", "on")];
    let mut greeting = message(b'R', &[0; 4]);
    for (name, value) in parameters {
        greeting.extend(message(b'S', format!("{name}\0{value}\0").as_bytes()));
    }
    greeting.extend([message(b'K', b"\0\0\0\x07abcd"), ready(b'I')].concat());
    client.write_all(&greeting)?;
    loop {
        let mut tag = [0];
        client.read_exact(&mut tag)?;
        let body = read_packet(&mut client)?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let number = |what: &str| text.split(what).nth(1)?.split('\'').next()?.parse::<u64>().ok();
        match tag[0] {
            b'Q' => match (number("script "), number("made up ")) {
                (Some(script), _) => {
                    client.write_all(&scripts()[usize::try_from(script).unwrap()].1)?;
                    return Ok(());
                }
                (_, Some(number)) => {
                    client.write_all(&made_up(number))?;
                    return Ok(());
                }
                _ if text.contains("set_config") && text.contains("refused") => {
                    let error = message(b'E', b"SERROR\0C42501\0Mnot here\0\0");
                    client.write_all(&[error, message(b'E', b"SFATAL\0C57P01\0Mgone\0\0")].concat())?;
                    return Ok(());
                }
                _ if text.starts_with(';') => client.write_all(&[message(b'I', b""), ready(b'I')].concat())?,
                _ => client.write_all(&answer(text.trim_end_matches('\0')))?,
            },
            b'X' => return Ok(()),
            _ => client.write_all(&ready(b'I'))?,
        }
    }
}

fn before(server: u16) -> Trunkline {
    with_connections(2, server)
}

fn with_connections(size: u32, server: u16) -> Trunkline {
    Setup::config(format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n[metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n\
         [[hba]]\nmethod = \"trust\"\n[users.app]\npassword = \"x\"\n[server_tls]\nmode = \"disable\"\n\
         [databases.app]\nprimary = \"host=127.0.0.1 port={server}\"\n[databases.app.pool]\nsize = {size}\n"
    ))
    .start()
}

fn client(proxy: &Trunkline) -> RawClient {
    let mut client = RawClient::connect(proxy.port(), "app", "", "app");
    client.set_timeout(Duration::from_secs(20));
    client
}

/// Everything up to ReadyForQuery or the end.
fn heard(client: &mut RawClient) -> Vec<Frame> {
    let mut frames = Vec::new();
    loop {
        match client.try_recv() {
            Ok(frame) if frame.tag == b'Z' => return frames,
            Ok(frame) => frames.push(frame),
            Err(error) => {
                use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
                assert!(matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe), "{error}");
                return frames;
            }
        }
    }
}

#[test]
fn a_server_that_ends_behind_refused_settings_leaves_nobody_without_a_word() {
    let proxy = with_connections(1, start_server());
    for batch in [Batch::new().query("INSERT"), Batch::new().run("INSERT", &[]).sync()] {
        let (mut first, mut second) = (client(&proxy), client(&proxy));
        first.send(&Batch::new().query("SET app.x TO 'refused'"));
        heard(&mut first);
        // It takes the connection over, without that.
        second.send(&Batch::new().query("INSERT"));
        heard(&mut second);
        first.send(&batch);
        let told = heard(&mut first);
        assert!(told.iter().any(|frame| frame.tag == b'E' && frame.sqlstate().starts_with("08")), "{told:?}");
    }
    nothing_panicked(&proxy);
}

/// A client of its own gets its own answers. One of them may meet a connection of which the server has not yet said that it is closed.
fn goes_on(proxy: &Trunkline, what: &str) {
    // Shown when the test fails.
    eprintln!("after {what}");
    let mut lost = 0;
    let mut other = client(proxy);
    let mut number = 0;
    while number < 3 {
        let sql = format!("INSERT {number} {what}");
        other.send(&Batch::new().query(&sql));
        let mut got = heard(&mut other);
        // What a connection reports of itself is told to whoever gets it next.
        got.retain(|frame| frame.tag != b'S');
        if got.first().is_some_and(|frame| frame.tag == b'E' && ["08006", "08007"].contains(&frame.sqlstate().as_str()))
            && lost < 4
        {
            lost += 1;
            other = client(proxy);
            continue;
        }
        let expected = format!("RowDescription DataRow({sql}) CommandComplete(SELECT 1)");
        assert_eq!(summary(&got), expected, "after {what}");
        number += 1;
    }
}

fn resident(proxy: &Trunkline) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn nothing_panicked(proxy: &Trunkline) {
    let metrics = proxy.http("/metrics").1;
    let panics = metrics.lines().find_map(|line| line.strip_prefix("trunkline_panics_total ")).unwrap_or("0");
    assert_eq!(panics, "0");
}

#[test]
fn answers_that_no_server_gives() {
    let proxy = before(start_server());
    goes_on(&proxy, "nothing");
    let before = resident(&proxy);
    for (number, (what, _)) in scripts().iter().enumerate() {
        let mut victim = client(&proxy);
        victim.send(&Batch::new().query(&format!("INSERT 'script {number}'")));
        heard(&mut victim);
        goes_on(&proxy, what);
    }
    let held = resident(&proxy).saturating_sub(before);
    assert!(held < 60 * 1024, "{held} KiB");
    nothing_panicked(&proxy);
}

#[test]
fn answers_with_wrong_bytes() {
    let proxy = before(start_server());
    for number in 0..MADE_UP {
        let mut victim = client(&proxy);
        victim.send(&Batch::new().query(&format!("INSERT 'made up {number}'")));
        heard(&mut victim);
        if number % 8 == 7 {
            goes_on(&proxy, &format!("number {number}"));
        }
    }
    nothing_panicked(&proxy);
}

/// Who has heard that a write is done, and then that the connection is lost, must not take it for undone.
#[test]
fn a_write_whose_answer_breaks_off_has_an_unknown_end() {
    let proxy = before(start_server());
    let script = scripts().iter().position(|(name, _)| *name == BROKEN_OFF).unwrap();
    for several in [false, true] {
        let mut client = client(&proxy);
        let sql = format!("INSERT INTO t VALUES ('script {script}')");
        let batch = if several { Batch::new().query(&format!("{sql}; {sql}")) } else { Batch::new().query(&sql) };
        client.send(&batch);
        let frames = heard(&mut client);
        assert_eq!(frames.last().map(Frame::sqlstate).as_deref(), Some("08007"), "{frames:?}");
    }
}

/// The control plane logs in, too, and that need not come to an end.
#[test]
fn a_login_without_end_fills_no_memory() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || drop(flood(client)));
        }
    });
    let proxy = Setup::config(format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\n[users.app]\npassword = \"x\"\n[server_tls]\nmode = \"disable\"\n\
         [databases.app]\nurl = \"postgres://app:x@127.0.0.1:{port}/app\"\n"
    ))
    .start();
    thread::sleep(Duration::from_secs(5));
    let held = resident(&proxy);
    assert!(held < 150 * 1024, "{held} KiB");
}

/// So many parameters of a length that no PostgreSQL has: they are not kept, and nobody gets the connection.
#[test]
fn long_parameters_fill_no_memory() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            thread::spawn(move || {
                let report = |n: u32| message(b'S', format!("p{n}\0{}\0", "v".repeat(1_000_000)).as_bytes());
                read_packet(&mut client)?;
                client.write_all(&message(b'R', &[0; 4]))?;
                (0..200).try_for_each(|n| client.write_all(&report(n)))?;
                client.write_all(&[message(b'K', b"\0\0\0\x01abcd"), ready(b'I')].concat())?;
                client.read_exact(&mut [0; 1000])
            });
        }
    });
    let mut proxy = before(port);
    let mut client = RawClient::tcp(proxy.port());
    assert!(client.login("", &[("user", "app"), ("database", "app")]).is_err());
    proxy.wait_for_log(&["cannot open a server connection", "too many parameters"]);
    let held = resident(&proxy);
    assert!(held < 150 * 1024, "{held} KiB");
}

/// Lets a client in, and reports one parameter after the other.
fn flood(mut client: TcpStream) -> io::Result<()> {
    read_packet(&mut client)?;
    client.write_all(&message(b'R', &[0; 4]))?;
    for number in 0_u64.. {
        let reports = (0..1000).map(|n| message(b'S', format!("p{number}.{n}\0{}\0", "v".repeat(500)).as_bytes()));
        client.write_all(&reports.collect::<Vec<_>>().concat())?;
    }
    Ok(())
}
