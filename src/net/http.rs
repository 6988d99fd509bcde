//! One GET over HTTP/1.1, for what other programs tell about servers: no redirects, a bounded answer, a connection for each.

use std::io;
use std::path::Path;
use std::sync::Arc;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::TlsError;
use super::tls::web_client;
use crate::config::HostPort;

/// Most bytes of an answer's head.
const MOST_HEAD: usize = 16 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Not connected, or no TLS.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came back is not HTTP.
    #[error("no HTTP answer: {0}")]
    Protocol(#[from] hyper::Error),
    /// Another status than 200.
    #[error("status {0}")]
    Status(StatusCode),
    /// The body is too long, or broke off.
    #[error("the answer could not be read: {0}")]
    Body(String),
}

/// Makes requests.
#[derive(Debug)]
pub struct HttpClient {
    tls: Arc<ClientConfig>,
}

impl HttpClient {
    /// `ca`: PEM roots for `https`; `None` = the Mozilla roots.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn new(ca: Option<&Path>) -> Result<Self, TlsError> {
        Ok(Self { tls: web_client(ca)? })
    }

    /// The body of `path`, of `most` bytes at most. The caller bounds the time.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn get(&self, https: bool, address: &HostPort, path: &str, most: usize) -> Result<Bytes, HttpError> {
        let socket = TcpStream::connect((address.host.as_str(), address.port)).await?;
        if !https {
            return get_over(socket, address, path, most).await;
        }
        let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, socket).await?;
        get_over(stream, address, path, most).await
    }
}

/// [`HttpClient::get`] on a connection that is there already.
///
/// # Errors
/// [`HttpError`].
pub async fn get_over<S>(stream: S, address: &HostPort, path: &str, most: usize) -> Result<Bytes, HttpError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(MOST_HEAD).handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header(HOST, address.to_string())
        .header(USER_AGENT, concat!("trunkline/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/json")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let mut answer = std::pin::pin!(async move {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(HttpError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), most).collect().await;
        Ok(body.map_err(|error| HttpError::Body(error.to_string()))?.to_bytes())
    });
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // It has ended: whatever it had to say is there.
        _ = connection => answer.await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::net::Stream;
    use crate::net::testing::Certificates;

    /// What a client gets of a server that says this to whatever it is asked.
    async fn answered(said: Vec<u8>) -> Result<Bytes, HttpError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = HostPort { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let n = socket.read(&mut request).await.unwrap();
            let _ = socket.write_all(&said).await;
            String::from_utf8(request[..n].to_vec()).unwrap()
        });
        let answer = HttpClient::new(None).unwrap().get(false, &address, "/cluster", 100).await;
        let request = server.await.unwrap().to_ascii_lowercase();
        assert!(request.starts_with("get /cluster http/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("host: {address}\r\n")), "{request}");
        answer
    }

    #[tokio::test]
    async fn what_is_an_answer_and_what_is_none() {
        let ok = |body: &str| format!("HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6\r\n\r\n{body}").into_bytes();
        assert_eq!(answered(ok("{}")).await.unwrap(), "{}");
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_vec();
        assert_eq!(answered(chunked).await.unwrap(), "{}");
        assert!(matches!(answered(ok(&"x".repeat(200))).await, Err(HttpError::Body(_))), "too long");
        let short = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}".to_vec();
        assert!(matches!(answered(short).await, Err(HttpError::Body(_))), "torn");
        let moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec();
        assert!(matches!(answered(moved).await, Err(HttpError::Status(StatusCode::FOUND))));
        assert!(matches!(answered(b"garbage\r\n\r\n".to_vec()).await, Err(HttpError::Protocol(_))));
        assert!(matches!(answered(Vec::new()).await, Err(HttpError::Protocol(_))));
        let endless = [b"HTTP/1.1 200 OK\r\nA: ".to_vec(), vec![b'a'; 100_000]].concat();
        assert!(matches!(answered(endless).await, Err(HttpError::Protocol(_))));
    }

    #[tokio::test]
    async fn https_is_verified_by_its_own_ca() {
        let certificates = Certificates::make();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = HostPort { host: "localhost".to_owned(), port: listener.local_addr().unwrap().port() };
        let accepting = certificates.accepting();
        let server = tokio::spawn(async move {
            loop {
                let socket = listener.accept().await.unwrap();
                let Ok(mut stream) = accepting.accept(Stream::from(socket), &[]).await else { continue };
                let mut request = vec![0; 1024];
                if stream.read_some(&mut request).await.is_ok_and(|n| n > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
                }
            }
        });
        let client = |ca: Option<&str>| HttpClient::new(ca.map(|name| certificates.path(name)).as_deref()).unwrap();
        assert_eq!(client(Some("ca.pem")).get(true, &address, "/", 100).await.unwrap(), "{}");
        for untrusted in [Some("other-ca.pem"), None] {
            assert!(matches!(client(untrusted).get(true, &address, "/", 100).await, Err(HttpError::Io(_))));
        }
        let elsewhere = HostPort { host: "127.0.0.1".to_owned(), ..address };
        assert!(client(Some("ca.pem")).get(true, &elsewhere, "/", 100).await.is_err(), "another name");
        server.abort();
    }
}
