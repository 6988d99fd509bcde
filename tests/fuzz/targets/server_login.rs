//! What a server, or whoever answers in its place, may say before the first ReadyForQuery.

use std::cell::RefCell;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, Runtime};
use trunkline::auth::{AuthContext, ServerCredential};
use trunkline::backend::{ConnectSpec, OpenError, open};
use trunkline::config::{HostPort, Secret};
use trunkline::net::{ClientTlsContext, ConnectOptions};

/// In the script: wait for what the client says next.
const TURN: &[u8] = b"@@";
/// In the script: the nonce of the client, as far as it has told one.
const NONCE: &[u8] = b"@N";

/// The server's socket, the directory that it lives in, and where we log in to it.
struct Stage {
    listener: UnixListener,
    spec: ConnectSpec,
    _dir: tempfile::TempDir,
}

thread_local! {
    static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

/// Runs a future on this thread's runtime.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with_borrow_mut(|runtime| {
        let made = runtime.get_or_insert_with(|| match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => panic!("no runtime: {error}"),
        });
        made.block_on(future)
    })
}

/// The bytes are all that the server sends, in turns. It does not know the password.
pub fn server_login(data: &[u8]) {
    run(async {
        let stage = STAGE.with_borrow_mut(Option::take).unwrap_or_else(Stage::new);
        let serving = async {
            match stage.listener.accept().await {
                Ok((client, _)) => serve(client, data).await,
                Err(error) => panic!("nobody connects: {error}"),
            }
        };
        let options = ConnectOptions::default();
        // Let in, it leaves at once: the server waits for that.
        let logging_in = async { open(&stage.spec, &options).await.map(drop) };
        let opening = tokio::time::timeout(Duration::from_secs(10), logging_in);
        let (asked, opened) = futures::join!(serving, opening);
        match opened {
            Err(_) => panic!("the server has closed, and the login waits"),
            Ok(Ok(())) => assert!(!asked, "let in by a server that asked for a proof and never gave its own"),
            Ok(Err(error)) => {
                let _ = (error.to_string(), error.notice().cloned(), error.says_node_is_down());
                assert!(!matches!(error, OpenError::Timeout | OpenError::Connect(_)), "{error}");
            }
        }
        STAGE.set(Some(stage));
    });
}

/// Plays the script, then closes. Whether the client was brought to begin a SCRAM exchange.
async fn serve(mut client: UnixStream, script: &[u8]) -> bool {
    let mut heard = Vec::new();
    let mut asked = hear(&mut client, &mut heard).await;
    let mut rest = script;
    while !rest.is_empty() {
        let end = find(rest, TURN);
        let part = replace(&rest[..end.unwrap_or(rest.len())], NONCE, nonce(&heard));
        // It may have closed meanwhile; then it has said all that it will.
        if client.write_all(&part).await.is_err() {
            break;
        }
        rest = end.map_or(&[][..], |end| &rest[end + TURN.len()..]);
        if end.is_some() {
            heard.clear();
            asked |= hear(&mut client, &mut heard).await;
        }
    }
    let _ = client.shutdown().await;
    // A SCRAM answer may have been written after all that we waited for.
    let mut last = Vec::new();
    let _ = client.read_to_end(&mut last).await;
    asked || is_scram(&last)
}

/// Reads once what the client says, if it says anything soon. Whether that begins a SCRAM exchange.
async fn hear(client: &mut UnixStream, heard: &mut Vec<u8>) -> bool {
    let mut buf = [0; 2048];
    if let Ok(Ok(n)) = tokio::time::timeout(Duration::from_millis(2), client.read(&mut buf)).await {
        heard.extend_from_slice(&buf[..n]);
    }
    is_scram(heard)
}

fn is_scram(heard: &[u8]) -> bool {
    find(heard, b"SCRAM-SHA-256\0").is_some()
}

fn nonce(heard: &[u8]) -> &[u8] {
    find(heard, b",r=").map_or(&[], |at| &heard[at + 3..])
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn replace(text: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = find(rest, what) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(with);
        rest = &rest[at + what.len()..];
    }
    out.extend_from_slice(rest);
    out
}

impl Stage {
    fn new() -> Self {
        let made = || -> std::io::Result<Self> {
            let dir = tempfile::tempdir()?;
            let path: PathBuf = dir.path().join(".s.PGSQL.1");
            let spec = ConnectSpec {
                database: "app".to_owned(),
                node: "primary".to_owned(),
                hosts: vec![HostPort { host: dir.path().display().to_string(), port: 1 }],
                tls: ClientTlsContext::disabled(),
                dbname: "app".to_owned(),
                user: "app".to_owned(),
                credential: Arc::new(ArcSwap::from_pointee(ServerCredential::Plain(Secret::new("secret")))),
                auth: Arc::new(AuthContext::new()?),
            };
            Ok(Self { listener: UnixListener::bind(path)?, spec, _dir: dir })
        };
        made().unwrap_or_else(|error| panic!("no stage: {error}"))
    }
}
