//! Streams and TLS contexts.

use std::io;
use std::time::Duration;

use super::testing::{Certificates, tcp_pair, tls_pair, unix_pair};
use super::{ClientTlsContext, IdleCheck, ServerTlsContext, Stream, TlsError};
use crate::config::SslMode;

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), Box::pin(future)).await.expect("took over ten seconds")
}

async fn all_kinds() -> Vec<(&'static str, Stream, Stream)> {
    let (a, b) = tcp_pair().await;
    let (c, d) = unix_pair();
    let (e, f) = tls_pair(&Certificates::make(), false).await;
    vec![("tcp", a, b), ("unix", c, d), ("tls", e, f)]
}

#[tokio::test]
async fn moves_much_more_than_any_buffer_both_ways_at_once() {
    for (kind, mut a, mut b) in all_kinds().await {
        let data: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        // Each end sends and receives in one task, as a relay does: readiness of both directions in one select.
        async fn pump(stream: &mut Stream, data: &[u8]) -> Vec<u8> {
            let (mut sent, mut got, mut buf) = (0, Vec::new(), vec![0; 10_000]);
            while sent < data.len() || got.len() < data.len() || stream.wants_flush() {
                match stream.try_read(&mut buf) {
                    Ok(n) if n > 0 => {
                        got.extend_from_slice(&buf[..n]);
                        continue;
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    other => panic!("{other:?}"),
                }
                if sent < data.len() {
                    match stream.try_write(&data[sent..]) {
                        Ok(n) => {
                            sent += n;
                            continue;
                        }
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                        Err(e) => panic!("{e}"),
                    }
                } else if !stream.try_flush().unwrap() {
                    stream.writable().await.unwrap();
                    continue;
                }
                let more = sent < data.len();
                std::future::poll_fn(|cx| {
                    let readable = got.len() < data.len() && stream.poll_readable(cx).is_ready();
                    if readable || (more && stream.poll_writable(cx).is_ready()) {
                        std::task::Poll::Ready(())
                    } else {
                        std::task::Poll::Pending
                    }
                })
                .await;
            }
            got
        }
        let (x, y) = soon(async { tokio::join!(pump(&mut a, &data), pump(&mut b, &data)) }).await;
        assert!(x == data && y == data, "{kind}");
    }
}

#[tokio::test]
async fn says_readable_at_once_while_plaintext_waits() {
    for (kind, mut a, mut b) in all_kinds().await {
        a.write_all(b"hello").await.unwrap();
        let mut two = [0; 2];
        soon(b.read_exact(&mut two)).await.unwrap();
        soon(b.readable()).await.unwrap();
        let mut rest = [0; 9];
        assert_eq!(b.try_read(&mut rest).unwrap(), 3, "{kind}");
        assert_eq!(b.try_read(&mut rest).unwrap_err().kind(), io::ErrorKind::WouldBlock, "{kind}");
    }
}

#[tokio::test]
async fn trap_71_notices_a_close_while_idle() {
    for (kind, mut a, mut b) in all_kinds().await {
        assert_eq!(b.idle_check(), IdleCheck::Quiet, "{kind}");
        a.write_all(b"x").await.unwrap();
        // On loopback the byte is there when write returns.
        assert_eq!(b.idle_check(), IdleCheck::HasData, "{kind}");
        assert_eq!(b.idle_check(), IdleCheck::HasData, "{kind}: nothing was taken");
        let mut byte = [0];
        soon(b.read_exact(&mut byte)).await.unwrap();
        assert_eq!((b.idle_check(), byte), (IdleCheck::Quiet, *b"x"), "{kind}");
        // The client's end too, where session tickets wait behind the handshake.
        assert_eq!(a.idle_check(), IdleCheck::Quiet, "{kind}");
        a.shutdown();
        drop(a);
        assert_eq!(b.idle_check(), IdleCheck::Closed, "{kind}");
        assert_eq!(soon(b.read_some(&mut byte)).await.unwrap(), 0, "{kind}");
    }
}

#[tokio::test]
async fn a_dropped_tls_connection_reads_as_closed() {
    let (a, mut b) = tls_pair(&Certificates::make(), false).await;
    drop(a);
    let read = soon(b.read_some(&mut [0; 8])).await;
    assert!(matches!(read, Ok(0)) || read.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn reads_exactly_one_frame() {
    for (kind, mut a, mut b) in all_kinds().await {
        a.write_all(b"p\0\0\0\x06hiX\0\0\0\x04").await.unwrap();
        let mut body = Vec::new();
        assert_eq!(soon(b.read_frame(&mut body, 100)).await.unwrap(), b'p', "{kind}");
        assert_eq!(body, b"hi", "{kind}");
        // What came along has been read ahead, or waits in the system.
        soon(b.readable()).await.unwrap();
        assert_eq!((b.is_quiet(), b.idle_check()), (false, IdleCheck::HasData), "{kind}");
        assert_eq!(soon(b.read_frame(&mut body, 100)).await.unwrap(), b'X', "{kind}");
        assert!(body.is_empty());
        assert_eq!(b.idle_check(), IdleCheck::Quiet, "{kind}");
        a.write_all(b"p\0\0\0\x04and so on").await.unwrap();
        assert_eq!(soon(b.read_frame(&mut body, 100)).await.unwrap(), b'p', "{kind}");
        let mut rest = [0; 3];
        assert_eq!(soon(b.read_some(&mut rest)).await.unwrap(), 3, "{kind}");
        soon(b.read_exact(&mut rest)).await.unwrap();
        assert_eq!(&rest, b" so", "{kind}");
        let mut rest = [0; 4096];
        let n = soon(std::future::poll_fn(|cx| b.poll_read_into(cx, &mut rest))).await.unwrap();
        assert_eq!(&rest[..n], b" on", "{kind}");
        for bad in [b"p\0\0\0\x03", b"p\0\x01\0\0"] {
            a.write_all(bad).await.unwrap();
            let error = soon(b.read_frame(&mut body, 65_535)).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{kind}, traps 75 and 78");
        }
    }
}

#[tokio::test]
async fn tells_what_the_handshake_agreed_on() {
    let (client, server) = tls_pair(&Certificates::make(), true).await;
    let (ours, theirs) = (client.tls_info().unwrap(), server.tls_info().unwrap());
    assert_eq!((ours.version, theirs.version), ("TLSv1.3", "TLSv1.3"));
    assert!(ours.alpn && theirs.alpn);
    assert!(ours.cipher.starts_with("TLS_"), "{}", ours.cipher);
    assert!(ours.server_end_point.is_some());
    assert_eq!(ours.server_end_point, theirs.server_end_point, "both ends bind to the same certificate");
    assert_eq!(theirs.client_cn.as_deref(), Some("alice"));
    assert_eq!(ours.client_cn, None);
}

#[tokio::test]
async fn a_stream_moves_to_another_runtime() {
    let (mut a, mut b) = tls_pair(&Certificates::make(), false).await;
    let other = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut buf = [0; 4];
            b.read_exact(&mut buf).await.unwrap();
            b.write_all(&buf).await.unwrap();
        });
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    a.write_all(b"ping").await.unwrap();
    let mut buf = [0; 4];
    soon(a.read_exact(&mut buf)).await.unwrap();
    assert_eq!(&buf, b"ping");
    other.join().unwrap();
}

/// What a handshake says, with the client in `mode`, by this host name, trusting this file, and this server certificate.
async fn handshake(mode: SslMode, host: &str, ca: Option<&str>, certificate: &str) -> Result<(), String> {
    let certificates = Certificates::make();
    let mut settings = certificates.server_tls(mode);
    settings.ca = ca.map(|name| certificates.path(name));
    let mut serving = certificates.client_tls();
    serving.cert = Some(certificates.path(&format!("{certificate}.pem")));
    serving.key = Some(certificates.path(&format!("{certificate}.key")));
    let context = ClientTlsContext::load(&settings).unwrap();
    let accepting = ServerTlsContext::load(&serving).unwrap().unwrap();
    let (client, server) = tcp_pair().await;
    let (client, _server) =
        soon(async { tokio::join!(context.connect(client, host), accepting.accept(server, &[])) }).await;
    client.map(drop).map_err(|e| e.to_string())
}

#[tokio::test]
async fn sslmodes_verify_what_libpq_verifies() {
    use SslMode::*;
    for (mode, host, ca, certificate, accepted) in [
        (Prefer, "localhost", None, "server", true),
        (Require, "elsewhere", None, "server", true),
        (Require, "elsewhere", Some("ca.pem"), "server", true),
        (Require, "localhost", Some("other-ca.pem"), "server", false),
        (VerifyCa, "elsewhere", Some("ca.pem"), "server", true),
        (VerifyCa, "localhost", Some("other-ca.pem"), "server", false),
        (VerifyCa, "localhost", None, "server", false),
        // The file may hold the server's certificate itself.
        (VerifyCa, "elsewhere", Some("server.pem"), "server", true),
        (VerifyFull, "localhost", Some("server.pem"), "server", true),
        (VerifyFull, "elsewhere", Some("server.pem"), "server", false),
        (VerifyFull, "localhost", Some("ca.pem"), "server", true),
        (VerifyFull, "elsewhere", Some("ca.pem"), "server", false),
        (VerifyFull, "127.0.0.1", Some("ca.pem"), "server", false),
        (VerifyFull, "LOCALHOST", Some("ca.pem"), "cn", true),
        (VerifyFull, "elsewhere", Some("ca.pem"), "cn", false),
    ] {
        let result = handshake(mode, host, ca, certificate).await;
        assert_eq!(result.is_ok(), accepted, "{mode:?} {host} {ca:?} {certificate}: {result:?}");
    }
}

#[tokio::test]
async fn client_certificates_are_verified() {
    let certificates = Certificates::make();
    let mut serving = certificates.client_tls();
    serving.require_client_cert = true;
    let connect = |cert: Option<&str>, serving: crate::config::ClientTls| {
        let mut settings = certificates.server_tls(SslMode::Require);
        settings.cert = cert.map(|name| certificates.path(&format!("{name}.pem")));
        settings.key = cert.map(|name| certificates.path(&format!("{name}.key")));
        let context = ClientTlsContext::load(&settings).unwrap();
        let accepting = ServerTlsContext::load(&serving).unwrap().unwrap();
        async move {
            let (client, server) = tcp_pair().await;
            let (_client, server) = tokio::join!(context.connect(client, "localhost"), accepting.accept(server, &[]));
            server.map(|stream| stream.tls_info().unwrap().client_cn.clone())
        }
    };
    assert_eq!(soon(connect(Some("alice"), serving.clone())).await.unwrap().as_deref(), Some("alice"));
    assert!(soon(connect(None, serving.clone())).await.is_err(), "a certificate is required");
    serving.client_ca = Some(certificates.path("other-ca.pem"));
    assert!(soon(connect(Some("alice"), serving)).await.is_err(), "another authority signed it");
}

#[test]
fn errors_of_contexts_name_the_file_and_the_fix() {
    let certificates = Certificates::make();
    let load = |change: &dyn Fn(&mut crate::config::ClientTls)| {
        let mut settings = certificates.client_tls();
        change(&mut settings);
        ServerTlsContext::load(&settings).map(|_| ()).unwrap_err().to_string()
    };
    let missing = load(&|s| s.cert = Some("/nowhere/x.pem".into()));
    assert!(missing.contains("/nowhere/x.pem") && missing.contains("check the path"), "{missing}");
    let no_key = load(&|s| s.key = s.cert.clone());
    assert!(no_key.contains("server.pem") && no_key.contains("no private key"), "{no_key}");
    let mixed = load(&|s| s.key = Some(certificates.path("alice.key")));
    assert!(mixed.contains("alice.key") && mixed.contains("does not belong"), "{mixed}");
    let empty = load(&|s| s.cert = s.key.clone());
    assert!(empty.contains("no certificate in it"), "{empty}");
    let locked = certificates.path("locked.key");
    std::fs::write(&locked, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
        .unwrap();
    let locked = load(&|s| s.key = Some(locked.clone()));
    assert!(locked.contains("passphrase"), "{locked}");

    let mut prefer = certificates.server_tls(SslMode::Prefer);
    prefer.direct = true;
    assert!(matches!(ClientTlsContext::load(&prefer), Err(TlsError::Incomplete(_))));
    let mut half = certificates.server_tls(SslMode::Require);
    half.cert = Some(certificates.path("alice.pem"));
    assert!(matches!(ClientTlsContext::load(&half), Err(TlsError::Incomplete(_))));
}

/// A session's task is as large as its largest phase: these are the phases of this room and of `auth`.
#[tokio::test]
async fn futures_of_the_login_are_small() {
    let (_client, server) = unix_pair();
    let settings = super::OpenSettings { max_startup_bytes: 10_000, tls: None, tls_required: false };
    let opening = super::open(server, &settings);
    assert!(size_of_val(&opening) < 2_500, "{}", size_of_val(&opening));
    drop(opening);
    let (mut client, _server) = unix_pair();
    let mut buf = [0; 8];
    assert!(size_of_val(&client.read_some(&mut buf)) < 100);
}

#[tokio::test]
async fn who_always_finds_something_to_read_still_lets_others_have_their_turn() {
    for (kind, mut a, mut b) in all_kinds().await {
        // As much as the connection takes, in small pieces: none of the reads has to wait.
        let mut sent = 0;
        while sent < 60_000 {
            match a.try_write(&[7; 20]) {
                Ok(n) => sent += n,
                Err(_) => break,
            }
        }
        assert!(sent > 5000, "{kind}: {sent}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let others = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let turns = others.clone();
        let other = tokio::spawn(async move {
            loop {
                turns.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let reader = tokio::spawn(async move {
            let mut got = 0;
            while got < sent {
                let mut piece = [0; 20];
                got += std::future::poll_fn(|cx| b.poll_read_into(cx, &mut piece)).await.unwrap();
            }
            others.load(std::sync::atomic::Ordering::Relaxed)
        });
        let turns = soon(reader).await.unwrap();
        assert!(turns >= sent / 20 / 200, "{kind}: {turns} for {} reads", sent / 20);
        other.abort();
        drop(a);
    }
}

#[test]
fn files_that_hold_something_else_are_noticed() {
    let certificates = Certificates::make();
    let settings = certificates.server_tls(SslMode::Prefer);
    let context = ClientTlsContext::load(&settings).unwrap();
    assert!(context.is_up_to_date(&settings));
    std::fs::copy(certificates.path("other-ca.pem"), certificates.path("ca.pem")).unwrap();
    assert!(!context.is_up_to_date(&settings));
    std::fs::remove_file(certificates.path("ca.pem")).unwrap();
    assert!(!context.is_up_to_date(&settings));
    assert!(ClientTlsContext::disabled().is_up_to_date(&settings));
}
