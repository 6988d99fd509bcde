//! Opening, by the traps' numbers.

use std::time::Duration;

use super::super::testing::{Certificates, tcp_pair, unix_pair};
use super::super::{ClientTlsContext, ServerTlsContext};
use super::{OpenError, OpenSettings, Opened, open};
use crate::config::SslMode;
use crate::wire::startup::{CancelKey, PROTOCOL_3_0};
use crate::wire::{ErrorNotice, SqlState, build};

const SSL: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
const GSS: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 48];

fn startup_packet() -> Vec<u8> {
    let mut packet = Vec::new();
    build::startup(&mut packet, PROTOCOL_3_0, &[("user", "alice"), ("database", "app")]);
    packet
}

fn settings(tls: Option<&ServerTlsContext>) -> OpenSettings<'_> {
    OpenSettings { max_startup_bytes: 10_000, tls, tls_required: false }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), Box::pin(future)).await.expect("took over ten seconds")
}

/// Sends `bytes` as they are: what came of it, and what the client got.
async fn send(bytes: &[u8], settings: &OpenSettings<'_>) -> (Result<Opened, OpenError>, Vec<u8>) {
    let (mut client, server) = tcp_pair().await;
    client.write_all(bytes).await.unwrap();
    client.shutdown();
    let opened = soon(open(server, settings)).await;
    let opened = match opened {
        // Closed, so that the client reads to the end.
        Ok(Opened::Startup { stream, startup }) => {
            drop(stream);
            Ok(Opened::Startup { stream: unix_pair().0, startup })
        }
        other => other,
    };
    let mut got = Vec::new();
    let mut buf = [0; 1000];
    while let Ok(n @ 1..) = soon(client.read_some(&mut buf)).await {
        got.extend_from_slice(&buf[..n]);
    }
    (opened, got)
}

fn notice(got: &[u8]) -> ErrorNotice {
    assert_eq!(got.first(), Some(&b'E'), "{got:?}");
    ErrorNotice::decode(&got[5..])
}

#[tokio::test]
async fn trap_75_a_packet_in_single_bytes() {
    let (mut client, server) = tcp_pair().await;
    let sending = async {
        for byte in [GSS, SSL, &startup_packet()].concat() {
            client.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        // Sent early: it stays for the session.
        client.write_all(b"Q").await.unwrap();
        let mut answers = [0; 2];
        client.read_exact(&mut answers).await.unwrap();
        answers
    };
    let none = settings(None);
    let (answers, opened) = soon(async { tokio::join!(sending, open(server, &none)) }).await;
    assert_eq!(&answers, b"NN");
    let Opened::Startup { mut stream, startup } = opened.unwrap() else { panic!() };
    assert_eq!((startup.get("user"), startup.get("database")), (Some("alice"), Some("app")));
    let mut next = [0];
    soon(stream.read_exact(&mut next)).await.unwrap();
    assert_eq!(&next, b"Q", "not one byte behind the packet was read");
}

#[tokio::test]
async fn trap_75_lengths_beyond_the_limit() {
    for packet in [&[0, 0, 0, 7][..], &[0, 0, 39, 17, 0, 3, 0, 0], &[255, 255, 255, 255]] {
        let (opened, got) = send(packet, &settings(None)).await;
        assert!(matches!(opened, Err(OpenError::Packet(_))), "{opened:?}");
        assert_eq!(notice(&got).code, SqlState::PROTOCOL_VIOLATION);
    }
    let (opened, got) = send(&startup_packet()[..9], &settings(None)).await;
    assert!(matches!(opened, Err(OpenError::Io(_))), "cut in the middle");
    assert!(got.is_empty());
    assert!(matches!(send(b"", &settings(None)).await.0, Ok(Opened::Closed)));
}

#[tokio::test]
async fn trap_73_each_encryption_request_once() {
    for requests in [[SSL, SSL], [GSS, GSS]] {
        let (opened, got) = send(&requests.concat(), &settings(None)).await;
        assert!(matches!(opened, Err(OpenError::RepeatedRequest)), "{opened:?}");
        assert_eq!((got[0], notice(&got[1..]).code), (b'N', SqlState::PROTOCOL_VIOLATION));
    }
}

#[tokio::test]
async fn trap_73_nothing_unencrypted_behind_ssl_request() {
    let certificates = Certificates::make();
    let accepting = certificates.accepting();
    let (opened, got) = send(&[SSL, &startup_packet()].concat(), &settings(Some(&accepting))).await;
    assert!(matches!(opened, Err(OpenError::DataAfterSslRequest)), "{opened:?}");
    let notice = notice(&got);
    assert_eq!(
        (notice.code, &*notice.message),
        (SqlState::PROTOCOL_VIOLATION, "received unencrypted data after SSL request")
    );

    // Behind the answer it is no handshake either.
    let (mut client, server) = tcp_pair().await;
    let settings = settings(Some(&accepting));
    let clear = async {
        client.write_all(SSL).await.unwrap();
        let mut answer = [0];
        client.read_exact(&mut answer).await.unwrap();
        client.write_all(&startup_packet()).await.unwrap();
        answer[0]
    };
    let (answer, opened) = soon(async { tokio::join!(clear, open(server, &settings)) }).await;
    assert_eq!(answer, b'S');
    assert!(matches!(opened, Err(OpenError::Handshake(_))), "{opened:?}");
}

/// Opens over TLS: `direct`, or after SSLRequest.
async fn open_tls(certificates: &Certificates, direct: bool, packet: &[u8]) -> (Result<Opened, OpenError>, Vec<u8>) {
    let accepting = certificates.accepting();
    let settings = OpenSettings { tls_required: true, ..settings(Some(&accepting)) };
    let context = ClientTlsContext::load(&certificates.server_tls(SslMode::VerifyFull)).unwrap();
    let (mut client, server) = tcp_pair().await;
    let connecting = async {
        if !direct {
            client.write_all(SSL).await.unwrap();
            let mut answer = [0];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"S");
        }
        let mut client = context.connect(client, "localhost").await.unwrap();
        client.write_all(packet).await.unwrap();
        let mut got = vec![0; 200];
        let n = tokio::time::timeout(Duration::from_millis(200), client.read_some(&mut got)).await;
        got.truncate(n.unwrap_or(Ok(0)).unwrap_or(0));
        (client, got)
    };
    let ((_client, got), opened) = soon(async { tokio::join!(connecting, open(server, &settings)) }).await;
    (opened, got)
}

#[tokio::test]
async fn opens_over_tls_both_ways() {
    let certificates = Certificates::make();
    for direct in [false, true] {
        let (opened, _) = open_tls(&certificates, direct, &startup_packet()).await;
        let Opened::Startup { stream, startup } = opened.unwrap() else { panic!() };
        assert!(stream.is_tls() && !stream.is_unix());
        assert_eq!(startup.get("user"), Some("alice"));
        // An encryption request inside the encryption.
        let (opened, got) = open_tls(&certificates, direct, SSL).await;
        assert!(matches!(opened, Err(OpenError::RepeatedRequest)), "{opened:?}");
        assert_eq!(notice(&got).code, SqlState::PROTOCOL_VIOLATION);
    }
}

#[tokio::test]
async fn trap_65_cancel_over_tls() {
    let certificates = Certificates::make();
    let sent = CancelKey { pid: 7, secret: vec![1; 32] };
    let mut packet = Vec::new();
    build::cancel_request(&mut packet, &sent);
    for direct in [false, true] {
        let (opened, got) = open_tls(&certificates, direct, &packet).await;
        let Opened::Cancel { key, .. } = opened.unwrap() else { panic!() };
        assert_eq!((key, got.len()), (sent.clone(), 0));
    }
}

#[tokio::test]
async fn trap_73_direct_tls_needs_alpn() {
    let certificates = Certificates::make();
    let accepting = certificates.accepting();
    let settings = settings(Some(&accepting));
    let mut roots = rustls::RootCertStore::empty();
    let ca = std::fs::read(certificates.path("ca.pem")).unwrap();
    roots.add(rustls_pki_types::pem::PemObject::from_pem_slice(&ca).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let (client, server) = tcp_pair().await;
    let Ok(crate::net::socket::Socket::Tcp(client, _)) = client.into_socket() else { panic!() };
    let connecting = connector.connect("localhost".try_into().unwrap(), client);
    let (client, opened) = soon(async { tokio::join!(connecting, open(server, &settings)) }).await;
    assert!(client.is_ok());
    assert!(matches!(opened, Err(OpenError::Alpn)), "{opened:?}");
}

#[tokio::test]
async fn direct_tls_without_tls_is_closed() {
    let (opened, got) = send(&[0x16, 3, 1, 0, 5, 1], &settings(None)).await;
    assert!(matches!(opened, Err(OpenError::NoTls)));
    assert!(got.is_empty(), "a TLS client could not read an ErrorResponse");
}

#[tokio::test]
async fn tls_required_refuses_plain_tcp_but_not_unix() {
    let certificates = Certificates::make();
    let accepting = certificates.accepting();
    let settings = OpenSettings { tls_required: true, ..settings(Some(&accepting)) };
    let (opened, got) = send(&startup_packet(), &settings).await;
    assert!(matches!(opened, Err(OpenError::TlsRequired)));
    assert_eq!(notice(&got).code, SqlState::INVALID_AUTHORIZATION);

    let (mut client, server) = unix_pair();
    client.write_all(&[SSL, &startup_packet()].concat()).await.unwrap();
    let opened = soon(open(server, &settings)).await;
    assert!(matches!(opened, Ok(Opened::Startup { .. })), "{opened:?}");
}

#[tokio::test]
async fn other_versions_and_layouts_are_told() {
    let mut old = startup_packet();
    old[5] = 2;
    assert_eq!(notice(&send(&old, &settings(None)).await.1).code, SqlState::FEATURE_NOT_SUPPORTED);
    let mut nobody = Vec::new();
    build::startup(&mut nobody, PROTOCOL_3_0, &[("database", "app")]);
    assert_eq!(notice(&send(&nobody, &settings(None)).await.1).code, SqlState::INVALID_AUTHORIZATION);
}
