//! Certificates, connected streams and a worker's thread for the tests of this room and of the rooms below it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use super::{ClientTlsContext, ServerTlsContext, Stream, TcpLiveness, batch, low_water};
use crate::config::{ClientTls, ClientTlsMode, ServerTls, SslMode};

/// A directory with an authority (`ca.pem`), another one (`other-ca.pem`), a server's certificate for `localhost`
/// (`server.pem`, `server.key`), one by common name only (`cn.pem`, `cn.key`), and a client's for `alice`
/// (`alice.pem`, `alice.key`).
pub(crate) struct Certificates {
    dir: TempDir,
}

impl Certificates {
    pub(crate) fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
        let authority = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
        };
        let (ca, other) = (authority("test authority"), authority("another authority"));
        write("ca.pem", ca.pem());
        write("other-ca.pem", other.pem());
        for (file, common_name, names) in [
            ("server", "server", vec!["localhost".to_owned()]),
            ("cn", "localhost", vec![]),
            ("alice", "alice", vec![]),
        ] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(names).unwrap();
            params.distinguished_name.push(DnType::CommonName, common_name);
            write(&format!("{file}.pem"), params.signed_by(&key, &ca).unwrap().pem());
            write(&format!("{file}.key"), key.serialize_pem());
        }
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn client_tls(&self) -> ClientTls {
        ClientTls {
            mode: ClientTlsMode::Allow,
            cert: Some(self.path("server.pem")),
            key: Some(self.path("server.key")),
            client_ca: Some(self.path("ca.pem")),
            require_client_cert: false,
        }
    }

    pub(crate) fn server_tls(&self, mode: SslMode) -> ServerTls {
        ServerTls { mode, ca: Some(self.path("ca.pem")), cert: None, key: None, direct: false }
    }

    pub(crate) fn accepting(&self) -> Arc<ServerTlsContext> {
        ServerTlsContext::load(&self.client_tls()).unwrap().unwrap()
    }
}

/// Two ends of a TCP connection.
pub(crate) async fn tcp_pair() -> (Stream, Stream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, accepted) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
    (Stream::from((client.unwrap(), address)), Stream::from(accepted.unwrap()))
}

/// Two ends of a Unix connection.
pub(crate) fn unix_pair() -> (Stream, Stream) {
    let (a, b) = tokio::net::UnixStream::pair().unwrap();
    (Stream::from(a), Stream::from(b))
}

/// Client's and server's end of an encrypted connection. `alice` = the client presents her certificate.
pub(crate) async fn tls_pair(certificates: &Certificates, alice: bool) -> (Stream, Stream) {
    let mut settings = certificates.server_tls(SslMode::VerifyFull);
    if alice {
        settings.cert = Some(certificates.path("alice.pem"));
        settings.key = Some(certificates.path("alice.key"));
    }
    let connecting: Arc<ClientTlsContext> = ClientTlsContext::load(&settings).unwrap();
    let accepting = certificates.accepting();
    let (client, server) = tcp_pair().await;
    let (client, server) = tokio::join!(connecting.connect(client, "localhost"), accepting.accept(server, &[]));
    (client.unwrap(), server.unwrap())
}

/// Whether a TCP connection is probed while it is idle, and what its socket says of that.
pub(crate) fn liveness_of(stream: &Stream) -> (bool, TcpLiveness) {
    let Stream::Plain(plain) = stream else { panic!("TLS") };
    let socket = socket2::SockRef::from(plain.socket());
    let user_timeout = socket.tcp_user_timeout().unwrap().filter(|time| !time.is_zero());
    let liveness = TcpLiveness { keepalive: Some(socket.tcp_keepalive_time().unwrap()), user_timeout };
    (socket.keepalive().unwrap(), liveness)
}

/// Runs on a worker's kind of runtime, on a thread of its own.
pub(crate) fn on_worker<T: Send + 'static>(work: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let worker = std::thread::spawn(move || {
        batch::start();
        low_water::start();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_park(batch::end_of_turn)
            .build()
            .unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), work()).await.unwrap() })
    });
    worker.join().unwrap()
}

/// A plain connection, and its other end.
pub(crate) fn connected() -> (Stream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let near = std::net::TcpStream::connect(address).unwrap();
    near.set_nonblocking(true).unwrap();
    (Stream::from((tokio::net::TcpStream::from_std(near).unwrap(), address)), listener.accept().unwrap().0)
}
