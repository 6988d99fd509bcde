//! Connecting, against servers of a few lines.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::super::testing::{Certificates, liveness_of};
use super::super::{ClientTlsContext, OpenSettings, Stream, TcpLiveness, open};
use super::{ConnectError, ConnectOptions, Encryption, HostFailure, connect};
use crate::config::{HostPort, SslMode};

fn host(host: &str, port: u16) -> HostPort {
    HostPort { host: host.to_owned(), port }
}

/// A port that nobody listens on.
async fn dead_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// Accepts one connection after the other and sends `answer` to each first packet.
async fn answering(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok(socket) = listener.accept().await {
            let mut stream = Stream::from(socket);
            if stream.read_exact(&mut [0; 8]).await.is_ok() {
                stream.write_all(answer).await.unwrap();
            }
            kept.push(stream);
        }
    });
    port
}

async fn reach(hosts: &[HostPort], tls: &ClientTlsContext, encryption: Encryption) -> Result<Stream, ConnectError> {
    let options = ConnectOptions::default();
    let connecting = connect(hosts, tls, encryption, &options);
    tokio::time::timeout(std::time::Duration::from_secs(10), connecting).await.expect("took over ten seconds")
}

#[tokio::test]
async fn tries_hosts_in_order() {
    let (dead, alive) = (dead_port().await, answering(b"").await);
    let tls = ClientTlsContext::disabled();
    let hosts = [host("127.0.0.1", dead), host("/nowhere", 5432), host("127.0.0.1", alive)];
    let stream = reach(&hosts, &tls, Encryption::Plain).await.unwrap();
    assert_eq!(stream.peer_addr_text(), format!("127.0.0.1:{alive}"));

    let error = reach(&hosts[..2], &tls, Encryption::Plain).await.unwrap_err();
    assert_eq!(error.hosts.len(), 2);
    let text = error.to_string();
    assert!(text.contains(&format!("127.0.0.1:{dead}: ")) && text.contains("/nowhere/.s.PGSQL.5432: "), "{text}");
    assert!(!error.is_local());
    assert_eq!(reach(&[], &tls, Encryption::Plain).await.unwrap_err().to_string(), "no host to connect to");
}

#[tokio::test]
async fn connects_to_unix_sockets_without_tls() {
    let dir = tempfile::tempdir().unwrap();
    let _listener = tokio::net::UnixListener::bind(dir.path().join(".s.PGSQL.7777")).unwrap();
    let certificates = Certificates::make();
    let tls = ClientTlsContext::load(&certificates.server_tls(SslMode::VerifyFull)).unwrap();
    let stream = reach(&[host(dir.path().to_str().unwrap(), 7777)], &tls, tls.plan().first()).await.unwrap();
    assert!(stream.is_unix() && !stream.is_tls());
}

#[tokio::test]
async fn a_server_without_tls() {
    let certificates = Certificates::make();
    let port = answering(b"N").await;
    let hosts = [host("127.0.0.1", port)];
    let context = |mode| ClientTlsContext::load(&certificates.server_tls(mode)).unwrap();
    let prefer = context(SslMode::Prefer);
    let stream = reach(&hosts, &prefer, prefer.plan().first()).await.unwrap();
    assert!(!stream.is_tls());
    assert_eq!(prefer.plan().retry(&stream), None, "it would be the same again");
    for mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        let tls = context(mode);
        let error = reach(&hosts, &tls, tls.plan().first()).await.unwrap_err();
        assert!(matches!(error.hosts[0].failure, HostFailure::NoTls), "{error}");
    }
}

#[tokio::test]
async fn trap_73_bytes_behind_the_answer_are_an_attack() {
    let certificates = Certificates::make();
    let tls = ClientTlsContext::load(&certificates.server_tls(SslMode::Prefer)).unwrap();
    for answer in [&b"SE\0\0\0\x04"[..], b"NR\0\0\0\x08\0\0\0\0", b"E\0\0\0\x04", b"x"] {
        let hosts = [host("127.0.0.1", answering(answer).await)];
        let error = reach(&hosts, &tls, Encryption::TlsOrPlain).await.unwrap_err();
        assert!(matches!(error.hosts[0].failure, HostFailure::Answer), "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn encrypts_by_request_and_directly() {
    let certificates = Arc::new(Certificates::make());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepting = certificates.accepting();
    tokio::spawn(async move {
        loop {
            let socket = listener.accept().await.unwrap();
            let accepting = accepting.clone();
            tokio::spawn(async move {
                let settings = OpenSettings { max_startup_bytes: 10_000, tls: Some(&accepting), tls_required: true };
                open(Stream::from(socket), &settings).await
            });
        }
    });
    for direct in [false, true] {
        let mut settings = certificates.server_tls(SslMode::VerifyFull);
        settings.direct = direct;
        let tls = ClientTlsContext::load(&settings).unwrap();
        let stream = reach(&[host("localhost", port)], &tls, tls.plan().first()).await.unwrap();
        assert!(stream.tls_info().unwrap().alpn);
        let error = reach(&[host("127.0.0.1", port)], &tls, tls.plan().first()).await.unwrap_err();
        assert!(error.to_string().contains("another host") && error.is_local(), "{error}");
    }
}

#[test]
fn plans_are_those_of_libpq() {
    use Encryption::*;
    let plan = |mode| {
        let mut plan = super::SslPlan::new(mode);
        let first = plan.first();
        (first, plan.retry_after(first != Plain, false))
    };
    assert_eq!(plan(SslMode::Disable), (Plain, None));
    assert_eq!(plan(SslMode::Allow), (Plain, Some(Tls)));
    assert_eq!(plan(SslMode::Prefer), (TlsOrPlain, Some(Plain)));
    assert_eq!(plan(SslMode::Require), (Tls, None));
    assert_eq!(plan(SslMode::VerifyFull), (Tls, None));
    let mut allow = super::SslPlan::new(SslMode::Allow);
    assert_eq!(allow.retry_after(false, true), None, "a Unix socket has no TLS");
}

#[tokio::test]
async fn finds_out_about_servers_that_are_gone_without_a_word() {
    let port = answering(b"").await;
    let seconds = |n| Some(std::time::Duration::from_secs(n));
    for liveness in [
        TcpLiveness::default(),
        TcpLiveness { keepalive: seconds(60), user_timeout: None },
        TcpLiveness { keepalive: seconds(8), user_timeout: seconds(30) },
    ] {
        let (hosts, tls) = ([host("127.0.0.1", port)], ClientTlsContext::disabled());
        let stream =
            connect(&hosts, &tls, Encryption::Plain, &ConnectOptions { liveness, patience: None }).await.unwrap();
        let (probed, set) = liveness_of(&stream);
        assert_eq!((probed, set.user_timeout), (liveness.keepalive.is_some(), liveness.user_timeout));
        assert!(liveness.keepalive.is_none_or(|idle| set.keepalive == Some(idle)), "{set:?}");
    }
}

#[tokio::test]
async fn a_host_that_swallows_everything_leaves_time_for_the_next() {
    use socket2::{Domain, SockAddr, Socket, Type};
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let (silent, mut waiting) = (socket(), Vec::new());
    silent.bind(&SockAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    silent.listen(0).unwrap();
    let address = silent.local_addr().unwrap();
    for _ in 0..4 {
        // Nobody accepts them: its queue is full, and what comes then is dropped.
        let client = socket();
        client.set_nonblocking(true).unwrap();
        let _ = client.connect(&address);
        waiting.push(client);
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = |port| HostPort { host: "127.0.0.1".to_owned(), port };
    let hosts = [host(address.as_socket().unwrap().port()), host(listener.local_addr().unwrap().port())];
    let options = ConnectOptions { patience: Some(Duration::from_secs(1)), ..ConnectOptions::default() };
    let tls = ClientTlsContext::disabled();
    let began = std::time::Instant::now();
    let stream = connect(&hosts, &tls, Encryption::Plain, &options).await.unwrap();
    assert_eq!(stream.peer(), crate::net::PeerAddr::Tcp(listener.local_addr().unwrap()));
    assert!(began.elapsed() > Duration::from_millis(400) && began.elapsed() < Duration::from_millis(900));
}
