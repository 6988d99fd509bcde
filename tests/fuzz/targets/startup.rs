//! What a client opens with.

use std::time::Duration;

use trunkline::auth::hba::is_physical_replication;
use trunkline::backend::Settings;
use trunkline::net::{OpenError, OpenSettings, Opened, Stream, open};
use trunkline::sql::{Kind, LexOptions, Lexer};
use trunkline::wire::frame::{HEADER, backend_limit};
use trunkline::wire::startup::{self, Opening, Startup, packet_len};
use trunkline::wire::{FrameWalker, Step};

/// Largest packet, as PostgreSQL has it.
const MAX_PACKET: u32 = 10_000;

/// The bytes are all that the client sends.
pub fn startup(data: &[u8]) {
    if let Ok(Some(len)) = packet_len(data, MAX_PACKET) {
        assert!((8..=MAX_PACKET as usize).contains(&len));
        if let Some(packet) = data.get(..len)
            && let Ok(Opening::Startup(startup)) = startup::parse(packet)
        {
            follow(&startup);
        }
    }
    super::server_login::run(opened(data));
}

/// What a session would do with the packet.
fn follow(startup: &Startup) {
    assert!(startup.get("user").is_some_and(|user| !user.is_empty()));
    let _ = (startup.needs_negotiation(), is_physical_replication(startup));
    let mut settings = Vec::new();
    for (name, value) in &startup.parameters {
        match name.as_str() {
            "options" => settings.extend(startup::parse_options(value).unwrap_or_default()),
            _ => settings.push((name.clone(), value.clone())),
        }
    }
    for in_block in [false, true] {
        say_only_settings(settings.clone(), in_block);
    }
}

/// Whatever the settings are called and hold, the server is told settings and nothing else (trap 55).
fn say_only_settings(settings: Vec<(String, String)>, in_block: bool) {
    let (settings, none) = (Settings::intern(settings), Settings::none());
    let mut out = Vec::new();
    let queries =
        settings.write_difference(&none, in_block, &mut out) + none.write_difference(&settings, in_block, &mut out);
    let mut walker = FrameWalker::new(&out);
    let mut seen = 0;
    while let Ok(Step::Whole(frame)) = walker.step(backend_limit) {
        seen += 1;
        let Some(sql) = frame.bytes[HEADER..].strip_suffix(b"\0") else { panic!("a Query without its end") };
        assert!(!sql.contains(&0), "a NUL ends the text early");
        // It must not matter how the server reads backslashes.
        for standard_conforming_strings in [true, false] {
            let opts = LexOptions { standard_conforming_strings, safe_encoding: true };
            only_settings(sql, opts);
        }
    }
    assert_eq!((seen, walker.rest()), (queries, &[][..]));
}

fn only_settings(sql: &[u8], opts: LexOptions) {
    let mut lexer = Lexer::new(sql, opts);
    let mut first = true;
    while let Some(token) = lexer.next_raw() {
        let text = token.of(sql);
        match token.kind {
            Kind::Word if first => assert!([&b"SET"[..], b"RESET", b"SELECT"].contains(&text), "{text:?}"),
            Kind::Word => {
                let known: [&[u8]; 6] = [b"TO", b"pg_catalog", b"set_config", b"false", b"client_encoding", b"true"];
                assert!(known.contains(&text), "{} in {}", text.escape_ascii(), sql.escape_ascii());
            }
            Kind::QuotedWord | Kind::Str | Kind::Punct | Kind::Semicolon => {}
            // A name that no server takes: `a.` and the like.
            Kind::Bad if text == b"\"\"" => {}
            other => panic!("{other:?} in {}", sql.escape_ascii()),
        }
        first = token.kind == Kind::Semicolon;
    }
}

/// The same bytes on a connection: it is opened or closed at once, and not a byte behind the packet is lost.
async fn opened(data: &[u8]) {
    use tokio::io::AsyncWriteExt;
    let Ok((mut client, server)) = tokio::net::UnixStream::pair() else { return };
    // More than a socket's buffer is not written before somebody reads.
    let data = &data[..data.len().min(32 * 1024)];
    if client.write_all(data).await.is_err() || client.shutdown().await.is_err() {
        return;
    }
    let settings = OpenSettings { max_startup_bytes: MAX_PACKET, tls: None, tls_required: false };
    let outcome = tokio::time::timeout(Duration::from_secs(5), open(Stream::from(server), &settings)).await;
    match outcome {
        Err(_) => panic!("the client has closed, and the opening waits"),
        Ok(Ok(Opened::Startup { mut stream, startup })) => {
            let (mut rest, mut left) = (vec![0; data.len() + 1], 0);
            while let Ok(more @ 1..) = stream.read_some(&mut rest[left..]).await {
                left += more;
            }
            assert!(data.ends_with(&rest[..left]));
            let before = &data[..data.len() - left];
            assert!(before.ends_with(b"\0"), "the packet ends where the session begins");
            assert!(!startup.parameters.is_empty());
        }
        Ok(Ok(Opened::Cancel { key, .. })) => assert!((4..=startup::MAX_CANCEL_KEY).contains(&key.secret.len())),
        Ok(Ok(Opened::Closed)) => assert!(data.is_empty()),
        Ok(Err(OpenError::Handshake(_) | OpenError::TlsRequired)) => panic!("there is no TLS here"),
        Ok(Err(_)) => {}
    }
}
