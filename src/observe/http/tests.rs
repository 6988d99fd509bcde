//! The endpoint over real sockets.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

async fn start(readiness: Readiness) -> Running {
    let server = HttpServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = server.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let metrics = Metrics::new();
    drop(metrics.session("shop", "ann"));
    let source: ReadinessSource = Arc::new(move || readiness.clone());
    let task = tokio::spawn(server.serve(metrics, source, async {
        let _ = stopped.await;
    }));
    Running { address, stop: Some(stop), task }
}

/// Sends `request` and reads until the server closes: (status line and headers, body).
async fn talk(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

async fn get(address: SocketAddr, path: &str) -> (String, String) {
    talk(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
}

fn database(name: &str, primary: bool) -> DatabaseReadiness {
    DatabaseReadiness { database: name.into(), primary, replicas_up: 1, replicas: 2 }
}

#[tokio::test]
async fn metrics_health_and_what_is_not_there() {
    let server = start(Readiness::default()).await;
    let (head, body) = get(server.address, "/metrics").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("trunkline_client_logins_total{database=\"shop\",user=\"ann\"} 1"), "{body}");
    let (head, body) = get(server.address, "/healthz").await;
    assert!(head.starts_with("http/1.1 200") && body == "alive\n");
    let (head, _) = get(server.address, "/").await;
    assert!(head.starts_with("http/1.1 404"), "{head}");
    let (head, _) = talk(server.address, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi").await;
    assert!(head.starts_with("http/1.1 405") && head.contains("allow: get, head"), "{head}");
    let (head, body) = talk(server.address, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(head.starts_with("http/1.1 200") && body.is_empty(), "{head}");
    let (head, _) = talk(server.address, "nonsense\r\n\r\n").await;
    assert!(head.starts_with("http/1.1 400"), "{head}");
}

/// The control plane has other things to do than to make the text of many metrics again and again.
#[tokio::test]
async fn who_asks_for_metrics_without_end_holds_nobody_up() {
    let server = HttpServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = server.local_addr().unwrap();
    let metrics = Metrics::new();
    let sessions: Vec<_> = (0..200).map(|n| metrics.session("shop", &format!("user{n}"))).collect();
    let began = std::time::Instant::now();
    let length = metrics.render().len();
    let took = began.elapsed();
    let source: ReadinessSource = Arc::new(Readiness::default);
    let serving = tokio::spawn(server.serve(metrics, source, std::future::pending()));
    let asking: Vec<_> = (0..16).map(|_| tokio::spawn(get(address, "/metrics"))).collect();
    let mut longest = Duration::ZERO;
    while !asking.iter().all(JoinHandle::is_finished) {
        let before = std::time::Instant::now();
        tokio::time::sleep(Duration::from_millis(1)).await;
        longest = longest.max(before.elapsed());
    }
    for answer in asking {
        let (head, body) = answer.await.unwrap();
        assert!(head.starts_with("http/1.1 200") && body.len() > length / 2, "{head}");
    }
    assert!(longest < took.max(Duration::from_millis(50)) * 3, "{longest:?}, where one takes {took:?}");
    serving.abort();
    drop(sessions);
}

#[tokio::test]
async fn readiness_with_detail() {
    for (readiness, status) in [
        (Readiness { draining: false, databases: vec![database("a", true), database("b", false)] }, 200),
        (Readiness { draining: false, databases: vec![database("b", false)] }, 503),
        (Readiness { draining: true, databases: vec![database("a", true)] }, 503),
    ] {
        let server = start(readiness.clone()).await;
        let (head, body) = get(server.address, "/readyz").await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["ready"], status == 200);
        assert_eq!(body["databases"][0]["database"], readiness.databases[0].database.as_str());
        assert_eq!(body["databases"][0]["replicas"], 2);
    }
}

#[tokio::test]
async fn clients_that_say_nothing_hold_nobody_up() {
    let server = start(Readiness::default()).await;
    let mut silent = Vec::new();
    for _ in 0..MOST_CONNECTIONS * 10 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let started = std::time::Instant::now();
    let (head, _) = get(server.address, "/healthz").await;
    assert!(head.starts_with("http/1.1 200"));
    let waited = started.elapsed();
    assert!(waited < HEAD_TIMEOUT / 2, "{waited:?}");
    // Those who came last are still there.
    let mut last = silent.pop().unwrap();
    last.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    last.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn stops_and_frees_the_port() {
    let mut server = start(Readiness::default()).await;
    server.stop.take().unwrap().send(()).unwrap();
    tokio::time::timeout(STOP_TIMEOUT * 2, &mut server.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
