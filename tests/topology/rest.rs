//! A stand-in for Patroni's REST API: it says what the test wants, in the real shape.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use trunkline::app::demo::Cluster;

/// What it does with a request.
#[derive(Debug, Clone)]
pub enum Manner {
    /// Answers 200 with this body.
    Says(String),
    /// Answers with this, whatever that is.
    Sends(Vec<u8>),
    /// Takes the request and never answers.
    Hangs,
    /// Closes the connection.
    Closes,
}

/// One endpoint.
pub struct Rest {
    port: u16,
    manner: Arc<Mutex<Manner>>,
    asked: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Rest {
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (manner, asked, ends) =
            (Arc::new(Mutex::new(manner)), Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (how, count, end) = (manner.clone(), asked.clone(), ends.clone());
        let thread = thread::spawn(move || {
            let mut held = Vec::new();
            for socket in listener.incoming().map_while(Result::ok) {
                if end.load(Ordering::Acquire) {
                    return;
                }
                count.fetch_add(1, Ordering::AcqRel);
                let manner = how.lock().clone();
                held.extend(serve(socket, manner));
            }
        });
        Self { port, manner, asked, ends, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn behaves(&self, manner: Manner) {
        *self.manner.lock() = manner;
    }

    pub fn says(&self, body: String) {
        self.behaves(Manner::Says(body));
    }

    /// Waits until it has been asked so many times more.
    pub fn is_asked(&self, times: usize) {
        let wanted = self.asked.load(Ordering::Acquire) + times;
        super::fixture::until("Patroni is asked", || self.asked.load(Ordering::Acquire) >= wanted);
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Returns a connection that is to be held.
fn serve(mut socket: TcpStream, manner: Manner) -> Option<TcpStream> {
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut request = [0; 1024];
    let n = socket.read(&mut request).unwrap_or(0);
    let request = String::from_utf8_lossy(&request[..n]).into_owned();
    assert!(n == 0 || request.starts_with("GET /cluster HTTP/1.1\r\n"), "{request}");
    let bytes = match manner {
        // As Python's http.server answers.
        Manner::Says(body) => format!(
            "HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6 Python/3.11\r\nContent-Type: application/json\r\n\r\n{body}"
        )
        .into_bytes(),
        Manner::Sends(bytes) => bytes,
        Manner::Hangs => return Some(socket),
        Manner::Closes => return None,
    };
    // Whoever has read enough of it closes.
    let _ = socket.write_all(&bytes);
    None
}

/// One member as `/cluster` tells of it.
#[derive(Debug, Clone)]
pub struct Member {
    pub name: String,
    pub role: &'static str,
    pub port: u16,
    pub timeline: u32,
    pub tags: &'static str,
}

/// All nodes of a cluster as members on a timeline, of whom this one leads.
pub fn members(cluster: &Cluster, leader: Option<usize>, timeline: u32) -> Vec<Member> {
    let member = |(index, node): (usize, &trunkline::app::demo::Node)| Member {
        name: format!("pg-{index}"),
        role: if Some(index) == leader { "leader" } else { "replica" },
        port: node.port(),
        timeline,
        tags: "{}",
    };
    cluster.nodes().iter().enumerate().map(member).collect()
}

/// The whole answer.
pub fn answer(members: &[Member], more: &str) -> String {
    let member = |one: &Member| {
        let state = if one.role == "leader" { "running" } else { "streaming" };
        let lag = if one.role == "leader" {
            ""
        } else {
            r#", "receive_lag": 0, "receive_lsn": "0/3000060", "lag": "unknown""#
        };
        format!(
            r#"{{"name": "{}", "role": "{}", "state": "{state}", "api_url": "http://127.0.0.1:8008/patroni", "host": "127.0.0.1",
                "port": {}, "timeline": {}, "tags": {}{lag}}}"#,
            one.name, one.role, one.port, one.timeline, one.tags
        )
    };
    format!(r#"{{"members": [{}], "scope": "demo"{more}}}"#, members.iter().map(member).collect::<Vec<_>>().join(", "))
}

/// What is said when this node leads on this timeline.
pub fn led_by(cluster: &Cluster, leader: usize, timeline: u32) -> String {
    answer(&members(cluster, Some(leader), timeline), "")
}
